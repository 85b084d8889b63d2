/*
 * One layer's products at a time: tensors are read in the order of the layers, so each is computed once.
 *
 * Sums run over the width in order, in float: out[o] += x[k] * w[o][k] with the matrix turned round, which the compiler makes lanes of.
 */
#include "engine/import/hf/relative.h"

#include <stdlib.h>
#include <string.h>

#include "engine/arch/family.h"
#include "engine/kernels/formats.h"

struct slm_hf_relative {
    slm_source *source;
    float *table;            /* [2 span, n_embd] */
    float *turned;           /* [n_embd, n_embd] the layer's matrix, a column a row */
    float *products;         /* [2 span, n_embd] */
    const slm_source_tensor *made; /* of which tensor products is */
};

void slm_hf_relative_free(slm_hf_relative *r)
{
    if (r == NULL)
        return;
    free(r->table);
    free(r->turned);
    free(r->products);
    free(r);
}

slm_status slm_hf_relative_new(slm_source *source, float *table, slm_hf_relative **out, slm_error *err)
{
    const slm_hparams *hp = &source->hparams;
    uint32_t rows, cols, layers = hp->n_layers;
    slm_hf_relative *r = calloc(1, sizeof *r);
    slm_source_tensor *grown = realloc(source->tensors, (source->n_tensors + 2 * (size_t) layers) * sizeof *grown);
    source->tensors = grown != NULL ? grown : source->tensors;
    float *turned = malloc((size_t) hp->n_embd * hp->n_embd * sizeof *turned);
    float *products = malloc(2 * (size_t) hp->relative_span * hp->n_embd * sizeof *products);
    if (r == NULL || grown == NULL || turned == NULL || products == NULL) {
        free(turned);
        free(products);
        free(r);
        return slm_fail(err, SLM_NOMEM, "out of memory");
    }
    *r = (slm_hf_relative){.source = source, .table = table, .turned = turned, .products = products};
    slm_role_shape(hp, SLM_TENSOR_REL_KEY, 0, &rows, &cols);
    for (uint32_t i = 0; i < 2 * layers; i++)
        source->tensors[source->n_tensors++] = (slm_source_tensor){.role = i % 2 == 0 ? SLM_TENSOR_REL_KEY : SLM_TENSOR_REL_QUERY,
                                                                   .layer = i / 2, .rows = rows, .cols = cols, .type = SLM_TYPE_F32};
    *out = r;
    return SLM_OK;
}

static const slm_source_tensor *find(const slm_source *source, slm_tensor_role role, uint32_t layer)
{
    for (size_t i = 0; i < source->n_tensors; i++)
        if (source->tensors[i].role == role && source->tensors[i].layer == layer)
            return &source->tensors[i];
    return NULL;
}

/* Reads the projection and turns it round. */
static slm_status read_projection(slm_hf_relative *r, const slm_source_tensor *t, float *bias, slm_error *err)
{
    uint32_t n = r->source->hparams.n_embd;
    const slm_source_tensor *b = find(r->source, t->role == SLM_TENSOR_ATTN_K ? SLM_TENSOR_ATTN_K_BIAS : SLM_TENSOR_ATTN_Q_BIAS, t->layer);
    slm_status status = b != NULL ? SLM_OK : slm_fail(err, SLM_INTERNAL, "a projection without bias");
    unsigned char *raw = malloc((size_t) n * 4);
    float *row = malloc((size_t) n * sizeof *row);
    if (raw == NULL || row == NULL)
        status = slm_fail(err, SLM_NOMEM, "out of memory");
    for (uint32_t o = 0; status == SLM_OK && o < n; o++) {
        r->source->read_rows(r->source, t, o, 1, raw, &status, err);
        if (status == SLM_OK)
            slm_dequantize(t->type, raw, row, n);
        for (uint32_t k = 0; status == SLM_OK && k < n; k++)
            r->turned[(size_t) k * n + o] = row[k];
    }
    if (status == SLM_OK)
        r->source->read_rows(r->source, b, 0, n, bias, &status, err);
    free(raw);
    free(row);
    return status;
}

static slm_status make(slm_hf_relative *r, const slm_source_tensor *tensor, slm_error *err)
{
    uint32_t n = r->source->hparams.n_embd;
    const slm_source_tensor *t = find(r->source, tensor->role == SLM_TENSOR_REL_KEY ? SLM_TENSOR_ATTN_K : SLM_TENSOR_ATTN_Q, tensor->layer);
    float *bias = malloc((size_t) n * sizeof *bias);
    slm_status status = t == NULL || bias == NULL ? slm_fail(err, SLM_NOMEM, "out of memory") : read_projection(r, t, bias, err);
    for (uint32_t d = 0; status == SLM_OK && d < 2 * r->source->hparams.relative_span; d++) {
        float *restrict out = r->products + (size_t) d * n;
        const float *x = r->table + (size_t) d * n;
        memset(out, 0, n * sizeof *out);
        for (uint32_t k = 0; k < n; k++) {
            const float *restrict w = r->turned + (size_t) k * n;
            for (uint32_t o = 0; o < n; o++)
                out[o] += x[k] * w[o];
        }
        for (uint32_t o = 0; o < n; o++)
            out[o] += bias[o];
    }
    free(bias);
    r->made = status == SLM_OK ? tensor : NULL;
    return status;
}

slm_status slm_hf_relative_read(slm_hf_relative *r, const slm_source_tensor *tensor, uint32_t row, uint32_t n_rows, float *out,
                                slm_error *err)
{
    const slm_hparams *hp = &r->source->hparams;
    uint32_t per_head = slm_relative_rows(hp);
    if (r->made != tensor)
        SLM_TRY(make(r, tensor, err));
    for (uint32_t i = 0; i < n_rows; i++, out += hp->head_dim) {
        uint32_t head = (row + i) / per_head, distance = (row + i) % per_head;
        if (distance < 2 * hp->relative_span)
            memcpy(out, r->products + (size_t) distance * hp->n_embd + head * hp->head_dim, hp->head_dim * sizeof *out);
        else
            memset(out, 0, hp->head_dim * sizeof *out); /* padding of the last panel */
    }
    return SLM_OK;
}
