/*
 * static: a vector for each token and nothing else; a text's is their mean (Model2Vec, sentence-transformers' StaticEmbedding).
 *
 * There is no layer, no position and no control token.  Weights of tokens, tables shared by several of them and tokens that do not
 * count are worked into the table at import (hf/static.h).  The widths of layers are those of one that nothing has.
 * Source: the model2vec package.
 */
#include "engine/arch/family.h"

static const slm_tensor_role required[] = {SLM_TENSOR_TOKEN_EMBD, SLM_TENSOR_ROLES};
static const slm_role_name hf_names[] = {{SLM_TENSOR_TOKEN_EMBD, "embeddings"}, {SLM_TENSOR_ROLES, NULL}};

static slm_status read_static(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    (void) meta;
    (void) err;
    hp->norm_eps = 1e-12f;
    hp->causal = hp->tied_head = 0;
    hp->n_rot = 0;
    return SLM_OK;
}

const slm_family slm_family_static = {.name = "static", .hf_only = true, .required = required, .own_norms = true, .no_layers = true,
                                      .hf_names = hf_names, .read = read_static};
