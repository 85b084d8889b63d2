/*
 * A SentencePiece model file: its pieces, and those of its settings that decide how texts are read.
 *
 * The file is one message, ModelProto of sentencepiece_model.proto (https://github.com/google/sentencepiece); a setting that is not there
 * has the default of that definition.
 */
#ifndef SLM_HF_SPM_H
#define SLM_HF_SPM_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

enum { SLM_SPM_NORMAL = 1, SLM_SPM_UNKNOWN = 2, SLM_SPM_CONTROL = 3, SLM_SPM_USER_DEFINED = 4, SLM_SPM_UNUSED = 5, SLM_SPM_BYTE = 6 };
enum { SLM_SPM_UNIGRAM = 1, SLM_SPM_BPE = 2 };

typedef struct slm_spm_piece {
    float score;  /* finite */
    int32_t type; /* SLM_SPM_NORMAL ... */
} slm_spm_piece;

typedef struct slm_spm {
    json_t *texts;         /* [n], strings; none is empty, none is there twice */
    json_t *index;         /* text -> place */
    slm_spm_piece *pieces; /* [n] */
    size_t n;
    int64_t model_type, unk_id, bos_id, eos_id;
    char unk[256], bos[256], eos[256]; /* their texts */
    bool byte_fallback, dummy_prefix, remove_extra, escape;
    char *map; /* precompiled map of characters [map_bytes], or NULL */
    size_t map_bytes;
} slm_spm;

/* Zeroed by the caller; to be freed on failure too.  FORMAT, LIMIT, NOMEM. */
slm_status slm_spm_load(int dir, const char *file, slm_spm *out, slm_error *err);
void slm_spm_free(slm_spm *spm);
/* The text of a piece. */
const char *slm_spm_text(const slm_spm *spm, size_t i);

#endif
