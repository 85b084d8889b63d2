/*
 * The image of a LoRA adapter (arXiv 2106.09685): one file, mapped read-only and shared like a model's.
 *
 *   | header | entries: (target, layer, rank, rows, cols, scale, places) | panels of A and B, each 64-byte aligned | prompt |
 *
 * Opening takes nothing for granted: the checksum of the whole file, sizes, every entry's shape against the model that it is opened for,
 * every place inside the file.
 */
#ifndef SLM_IMAGE_ADAPTER_IMAGE_H
#define SLM_IMAGE_ADAPTER_IMAGE_H

#include "engine/arch/family.h"
#include "engine/base/map.h"

#define SLM_ADAPTER_MAX_RANK 1024

/* The projections that can be adapted, with the roles of their weights; and the tables of embeddings of models that read whole texts. */
typedef enum slm_target {
    SLM_TARGET_Q = 0, SLM_TARGET_K, SLM_TARGET_V, SLM_TARGET_O, SLM_TARGET_GATE, SLM_TARGET_UP, SLM_TARGET_DOWN, SLM_TARGETS,
    SLM_TARGET_TOKEN = SLM_TARGETS, SLM_TARGET_TYPE, SLM_ALL_TARGETS
} slm_target;
enum { SLM_TABLES = SLM_ALL_TARGETS - SLM_TARGETS };

slm_tensor_role slm_target_role(slm_target target);

typedef struct slm_adapter_pair {
    slm_weight a, b; /* [rank, cols], [rows, rank], of a table [rows, rank], [cols, rank]; data NULL = this one is not adapted */
    float scale;
} slm_adapter_pair;

struct slm_adapter {
    slm_adapter_info info;
    slm_map file;
    const void *map; /* its bytes */
    size_t bytes;
    int references;
    uint64_t serial;          /* of this opening, unique in the process: the key of cached prefixes */
    slm_hparams shape;        /* the model's that it was opened for */
    uint32_t max_rank;
    slm_adapter_pair (*layers)[SLM_TARGETS]; /* [n_layers] */
    slm_adapter_pair tables[SLM_TABLES];     /* of tokens, of their types */
};

/* FORMAT once a page of its image was missing. */
slm_status slm_adapter_check(const slm_adapter *adapter, slm_error *err);
/* Can rows of a model of this shape use the adapter? */
bool slm_adapter_fits(const slm_adapter *adapter, const slm_hparams *hp);

/* Maps an adapter's image and checks it, and its fit to a model. INVALID when it does not fit. */
slm_status slm_adapter_map(const char *path, const slm_hparams *base, slm_adapter **out, slm_error *err);

/* ---- building ---- */

/* One pair as floats, on its way to a file. */
typedef struct slm_adapter_part {
    slm_target target;
    uint32_t layer, rank, rows, cols;
    float scale;
    float *a, *b; /* shapes as in slm_adapter_pair; malloc'ed */
} slm_adapter_part;

/* Rows of A and B, and columns of A, of a pair for a weight [rows, cols]; B has rank columns. */
typedef struct slm_pair_shape {
    uint32_t a_rows, a_cols, b_rows;
} slm_pair_shape;
slm_pair_shape slm_adapter_shape(slm_target target, uint32_t rank, uint32_t rows, uint32_t cols);

typedef struct slm_adapter_writer slm_adapter_writer;
/* Creates the file, which must not exist, with room for n_parts; of info name and prompt count. */
slm_status slm_adapter_create(const char *path, const slm_hparams *base, uint32_t n_parts, const slm_adapter_info *info,
                              slm_adapter_writer **out, slm_error *err);
slm_status slm_adapter_write(slm_adapter_writer *w, const slm_adapter_part *part, slm_error *err);
/* Completes and flushes the file, or removes it when failed is not SLM_OK; *info (may be NULL) is what the file says. */
slm_status slm_adapter_finish(slm_adapter_writer *w, slm_status failed, slm_adapter_info *info, slm_error *err);

#endif
