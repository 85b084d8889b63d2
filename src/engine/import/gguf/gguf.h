/*
 * GGUF version 2 and 3: reader and validator.  The file is hostile until proven otherwise (DESIGN D12).
 *
 *   | "GGUF" version n_tensors n_kv | key type value ... | name dims type offset ... | padding | tensor data |
 *
 * slm_gguf_open walks the whole header once through a small buffer and keeps only an index: keys with the offset of their
 * value, and tensors.  Nothing is allocated by a number from the file that has not been bounded first; strings and arrays stay
 * in the file until they are asked for.  What it guarantees: counts and lengths within the bounds below; keys and tensor names
 * unique; dimensions' product and every offset + size free of overflow; each tensor aligned, inside the file, disjoint from the
 * others; types known. A refusal takes at most 100 ms and 8 MiB. Source: the GGUF specification (ggml-org/ggml, docs/gguf.md).
 */
#ifndef SLM_GGUF_GGUF_H
#define SLM_GGUF_GGUF_H

#include "engine/image/image.h"
#include "engine/arch/family.h"

#define SLM_GGUF_MAX_KEYS 4096
#define SLM_GGUF_MAX_TENSORS 8192
#define SLM_GGUF_MAX_STRING (1u << 20)         /* bytes of one string */
#define SLM_GGUF_MAX_ARRAY (1u << 21)          /* entries of one array */
#define SLM_GGUF_MAX_ENTRIES (1u << 22)        /* entries of all arrays together */
#define SLM_GGUF_MAX_HEADER (96u << 20)        /* bytes before the tensor data */
#define SLM_GGUF_MAX_REST (16u << 20)          /* bytes behind the header that belong to no tensor, paddings not counted */
#define SLM_GGUF_MAX_NAME 128                  /* bytes of a key or tensor name */

typedef enum slm_gguf_type {
    SLM_GGUF_U8 = 0, SLM_GGUF_I8 = 1, SLM_GGUF_U16 = 2, SLM_GGUF_I16 = 3, SLM_GGUF_U32 = 4, SLM_GGUF_I32 = 5, SLM_GGUF_F32 = 6,
    SLM_GGUF_BOOL = 7, SLM_GGUF_STRING = 8, SLM_GGUF_ARRAY = 9, SLM_GGUF_U64 = 10, SLM_GGUF_I64 = 11, SLM_GGUF_F64 = 12
} slm_gguf_type;

/* A key and where its value lies. */
typedef struct slm_gguf_value {
    const char *key;
    slm_gguf_type type;    /* of the value, or of the entries of an array */
    bool is_array;
    uint64_t offset;       /* of the first byte of the value (strings: of the text; arrays: of the first entry) */
    uint64_t bytes;        /* that the value takes in the file */
    uint32_t n;            /* entries; 1 for a scalar */
} slm_gguf_value;

typedef struct slm_gguf_tensor {
    const char *name;
    uint32_t n_dims;
    uint64_t dims[4];      /* fastest first: [cols, rows, 1, 1] */
    slm_type type;
    uint64_t offset;       /* absolute, in the file */
    uint64_t bytes;
} slm_gguf_tensor;

typedef struct slm_gguf slm_gguf;

slm_status slm_gguf_open(const char *path, slm_gguf **out, slm_error *err);
/* A part of a split model (parts.h); sealed: its name for the seal, as base/seal.h has files' names. */
slm_status slm_gguf_open_part(const char *path, const char *sealed, slm_gguf **out, slm_error *err);
void slm_gguf_close(slm_gguf *g);
uint32_t slm_gguf_version(const slm_gguf *g);
uint64_t slm_gguf_bytes(const slm_gguf *g); /* of the file */

size_t slm_gguf_n_values(const slm_gguf *g);
const slm_gguf_value *slm_gguf_value_at(const slm_gguf *g, size_t i); /* in order of the key */
const slm_gguf_value *slm_gguf_find(const slm_gguf *g, const char *key);
size_t slm_gguf_n_tensors(const slm_gguf *g);
const slm_gguf_tensor *slm_gguf_tensor_at(const slm_gguf *g, size_t i); /* in order of the name */
const slm_gguf_tensor *slm_gguf_find_tensor(const slm_gguf *g, const char *name);

/* Entry `index` as a number; false when the value is no number or index >= n. */
bool slm_gguf_number(const slm_gguf *g, const slm_gguf_value *value, uint32_t index, double *out);
/* A scalar string, malloc'ed and NUL-terminated; a NUL inside is FORMAT. */
slm_status slm_gguf_string(const slm_gguf *g, const slm_gguf_value *value, char **out, slm_error *err);
/* The bytes of the value in the file into buffer[value->bytes]. */
slm_status slm_gguf_read_value(const slm_gguf *g, const slm_gguf_value *value, void *buffer, slm_error *err);
/* The bytes [begin, begin + bytes) of a tensor. */
slm_status slm_gguf_read_tensor(const slm_gguf *g, const slm_gguf_tensor *tensor, uint64_t begin, void *buffer, size_t bytes,
                                slm_error *err);

/* ---- what is built on it ---- */

/* The tokenizer's blob from the file's vocabulary; *bytes = 0 and *blob = NULL when the file has none. n_vocab: the number of
 * tokens that is demanded, 0 = any.  Of the options (may be NULL): chat_format forces one by name, NULL recognizes it from the
 * file's template (which is never executed); pre; warnings. */
slm_status slm_gguf_tokenizer(const slm_gguf *g, const slm_import_options *options, uint32_t n_vocab, const volatile int *stop,
                              void **blob, size_t *bytes, slm_error *err);

/* A model's weights, hyper-parameters and tokenizer from a GGUF file. stop may be NULL. Close with (*out)->close(*out). */
/* The head alone; *bytes as slm_source_look. */
slm_status slm_gguf_look(const char *path, uint64_t *bytes, slm_error *err);
slm_status slm_gguf_source(const char *path, const slm_import_options *options, const volatile int *stop, slm_source **out,
                           slm_error *err);

#endif
