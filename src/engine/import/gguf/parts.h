/*
 * A model in one GGUF file, or split over several as llama-gguf-split and converters write them:
 *
 *   NAME-00001-of-00003.gguf   all keys; split.no 0, split.count 3, split.tensors.count; some of the tensors
 *   NAME-00002-of-00003.gguf   the three split keys alone (and its alignment); other tensors
 *
 * The first is opened, the others are looked for beside it: their names come from its own, never from what stands inside a file.  A part
 * that is missing, too many or says otherwise than the first, and a tensor that is in two parts, are refused by name.
 */
#ifndef SLM_GGUF_PARTS_H
#define SLM_GGUF_PARTS_H

#include "engine/import/gguf/gguf.h"

#define SLM_GGUF_MAX_PARTS 128

typedef struct slm_gguf_placed {
    const slm_gguf_tensor *tensor;
    uint32_t part;
} slm_gguf_placed;

typedef struct slm_gguf_parts {
    slm_gguf *part[SLM_GGUF_MAX_PARTS]; /* the first has the keys */
    uint32_t n;
    slm_gguf_placed *tensors;           /* [n_tensors] of all parts, by name */
    size_t n_tensors;
    uint64_t bytes;                     /* of all files */
} slm_gguf_parts;

/* On failure there is nothing to close. */
slm_status slm_gguf_parts_open(const char *path, slm_gguf_parts *out, slm_error *err);
void slm_gguf_parts_close(slm_gguf_parts *p);
/* NULL: there is none. */
const slm_gguf_placed *slm_gguf_parts_find(const slm_gguf_parts *p, const char *name);

#endif
