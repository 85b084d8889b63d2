/*
 * Safetensors files: a header of JSON that places named tensors in the bytes behind it.
 *
 *   | u64 header length, little-endian | JSON: {"name": {"dtype", "shape", "data_offsets": [begin, end]}, ...} | data |
 *
 * Format: https://github.com/huggingface/safetensors.  What its own validator demands is demanded here before anything is believed:
 * a bounded header, unique keys, known dtypes, shape products without overflow equal to the byte range, ranges contiguous from
 * 0 without gap or overlap, and the file exactly as long as they say.
 */
#ifndef SLM_HF_SAFETENSORS_H
#define SLM_HF_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

#define SLM_ST_MAX_HEADER 16000000u /* the format allows 100 MB; SLM_ST_MAX_TENSORS entries need a half of this */
#define SLM_ST_MAX_TENSORS 40000u /* mixtures have one an expert */
#define SLM_ST_MAX_FILES 512u
#define SLM_ST_MAX_DIMS 8

typedef enum slm_st_type { SLM_ST_OTHER = 0, SLM_ST_F32 = 1, SLM_ST_F16 = 2, SLM_ST_BF16 = 3 } slm_st_type;

typedef struct slm_st_tensor {
    char *name;
    slm_st_type type; /* OTHER: a buffer of integers and the like, never a weight */
    const char *dtype; /* as the format calls it: "F32", "I64", ... */
    uint32_t n_dims, file;
    uint64_t dims[SLM_ST_MAX_DIMS];
    uint64_t begin, end; /* in the file, header included */
} slm_st_tensor;

typedef struct slm_safetensors {
    slm_st_tensor *tensors; /* [n_tensors], by name */
    size_t n_tensors;
    int *fds;               /* [n_files] */
    char **file_names;      /* [n_files] */
    uint32_t n_files;
    uint64_t bytes;         /* of all files: their headers account for each */
} slm_safetensors;

/* Opens model.safetensors of the directory, or the shards that model.safetensors.index.json lists. */
slm_status slm_safetensors_open(int dir, slm_safetensors *out, slm_error *err);
/* Opens this one file of the directory. */
slm_status slm_safetensors_open_file(int dir, const char *name, slm_safetensors *out, slm_error *err);
/* Adds a file's tensors under names with a prefix. On failure *st is to be closed. */
slm_status slm_safetensors_add(int dir, const char *name, const char *prefix, slm_safetensors *st, slm_error *err);
void slm_safetensors_close(slm_safetensors *st);
const slm_st_tensor *slm_safetensors_find(const slm_safetensors *st, const char *name);

/* The header alone, for the fuzzer: checks text [length] against a file of file_bytes. Tensors are appended with this file number. */
slm_status slm_safetensors_parse(slm_safetensors *st, const char *text, size_t length, uint64_t file_bytes, uint32_t file,
                                 const char *file_name, slm_error *err);

#endif
