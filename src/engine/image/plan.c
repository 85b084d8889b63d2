/*
 * Parts of an image and their types; and the scan for scales that are no numbers.
 *
 * Fall-backs follow the convention that users of GGUF files know: where a width is no multiple of 256, Q4_K becomes Q5_0, Q5_K
 * Q5_1, Q6_K Q8_0; where it is no multiple of 32, F16.  The output head (or the embedding that serves as one) is kept at 6 bits
 * or more.
 */
#include "engine/image/plan.h"

#include <stdlib.h>
#include <string.h>

uint64_t slm_row_bytes(slm_type type, uint32_t cols)
{
    const slm_type_info *info = slm_type_get(type);
    return (uint64_t) cols / info->block_weights * info->block_bytes;
}

static bool words_finite(const unsigned char *p, size_t n, size_t stride, uint16_t exponent)
{
    unsigned bad = 0;
    for (size_t i = 0; i < n; i++, p += stride) {
        uint16_t w;
        memcpy(&w, p, 2);
        bad |= (w & exponent) == exponent;
    }
    return bad == 0;
}

bool slm_blocks_finite(slm_type type, const void *blocks, size_t n_weights)
{
    const unsigned char *p = blocks;
    const slm_type_info *info = slm_type_get(type);
    size_t n = n_weights / info->block_weights;
    const int16_t *places = info->f16_scales;
    if (type == SLM_TYPE_F32) /* the upper half of a float has all of its exponent */
        return words_finite(p + 2, n, 4, 0x7F80);
    if (type == SLM_TYPE_F16 || type == SLM_TYPE_BF16)
        return words_finite(p, n, 2, type == SLM_TYPE_F16 ? 0x7C00 : 0x7F80);
    if (type == SLM_TYPE_MXFP4) {
        for (size_t i = 0; i < n; i++)
            if (p[i * info->block_bytes] == 255)
                return false;
        return true;
    }
    return (places[0] < 0 || words_finite(p + places[0], n, info->block_bytes, 0x7C00)) &&
           (places[1] < 0 || words_finite(p + places[1], n, info->block_bytes, 0x7C00));
}

/* ------------------------------------------------------------------ types */

static bool below_six_bits(slm_type type)
{
    const slm_type_info *info = slm_type_get(type);
    return !info->is_float && (double) info->block_bytes * 8 / info->block_weights < 6.5;
}

static slm_type fit_width(slm_type type, uint32_t cols)
{
    if (slm_type_get(type)->block_weights == 256 && cols % 256 != 0) {
        switch (type) {
        case SLM_TYPE_Q5_K: type = SLM_TYPE_Q5_1; break;
        case SLM_TYPE_Q6_K: type = SLM_TYPE_Q8_0; break;
        case SLM_TYPE_Q4_K: type = SLM_TYPE_Q5_0; break;
        default: type = SLM_TYPE_Q4_0; break;
        }
    }
    return cols % slm_type_get(type)->block_weights != 0 ? SLM_TYPE_F16 : type;
}

static slm_type choose_type(const slm_hparams *hp, const slm_source_tensor *t, int wanted)
{
    if (t->cols == 0)
        return SLM_TYPE_F32;
    if (wanted < 0 || !slm_type_get(t->type)->is_float)
        return t->type;
    if (slm_role_of_joint(t->role))
        return t->type;
    switch (t->role) {
    case SLM_TENSOR_REL_KEY: case SLM_TENSOR_REL_QUERY:
        return wanted == SLM_TYPE_F32 ? SLM_TYPE_F32 : SLM_TYPE_F16; /* products in float */
    case SLM_TENSOR_POSITION_EMBD: case SLM_TENSOR_TYPE_EMBD: case SLM_TENSOR_CLS_DENSE: case SLM_TENSOR_CLS_OUT: case SLM_TENSOR_REL_BIAS:
    case SLM_TENSOR_EMBD_PROJ: case SLM_TENSOR_ROUTER: case SLM_TENSOR_DELTA_DECAY: case SLM_TENSOR_DELTA_SHARE:
    case SLM_TENSOR_DENSE_0: case SLM_TENSOR_DENSE_1: case SLM_TENSOR_DENSE_2:
    case SLM_TENSOR_SPAN_PROJ: case SLM_TENSOR_LSTM_IN: case SLM_TENSOR_LSTM_STATE: case SLM_TENSOR_LSTM_BACK_IN:
    case SLM_TENSOR_LSTM_BACK_STATE:
        return t->type; /* small, and read as they are */
    default: break;
    }
    bool head = t->role == SLM_TENSOR_OUTPUT || (t->role == SLM_TENSOR_TOKEN_EMBD && hp->causal && hp->tied_head);
    slm_type type = (slm_type) wanted;
    return fit_width(head && below_six_bits(type) ? SLM_TYPE_Q6_K : type, t->cols);
}

/* The type of a name that the quantizer can make. */
static slm_status parse_quantization(const char *name, int *type, slm_error *err)
{
    *type = -1;
    if (name == NULL)
        return SLM_OK;
    int found = slm_type_by_name(name);
    if (found < 0 || !slm_type_get((uint32_t) found)->made) {
        slm_fail(err, SLM_INVALID, found < 0 ? "unknown quantization \"%.40s\"" : "quantization to %.40s is not supported", name);
        return slm_hint(err, "Known are %s.", slm_types_made());
    }
    *type = found;
    return SLM_OK;
}

/* ------------------------------------------------------------------ parts */

static size_t split(const slm_hparams *hp, const slm_source_tensor *t, slm_part out[3])
{
    static const slm_tensor_role qkv[2][3] = {{SLM_TENSOR_ATTN_Q, SLM_TENSOR_ATTN_K, SLM_TENSOR_ATTN_V},
                                              {SLM_TENSOR_ATTN_Q_BIAS, SLM_TENSOR_ATTN_K_BIAS, SLM_TENSOR_ATTN_V_BIAS}};
    static const slm_tensor_role gate_up[2] = {SLM_TENSOR_FFN_GATE, SLM_TENSOR_FFN_UP};
    uint32_t q = hp->n_heads * hp->head_dim, kv = slm_layer_kv_heads(hp, t->layer) * hp->head_dim, row = 0;
    const uint32_t qkv_rows[3] = {q, kv, kv};
    bool bias = t->role == SLM_TENSOR_ATTN_QKV_BIAS;
    size_t n = t->role == SLM_TENSOR_ATTN_QKV || bias ? 3 : t->role == SLM_TENSOR_FFN_GATE_UP ? 2 : 1;
    for (size_t i = 0; i < n; i++) {
        out[i] = (slm_part){.source = t, .first_row = row, .role = n == 3 ? qkv[bias][i] : n == 2 ? gate_up[i] : t->role, .layer = t->layer,
                            .rows = n == 3 ? qkv_rows[i] : n == 2 ? hp->n_ff : t->rows, .cols = t->cols};
        row += out[i].rows;
    }
    return n;
}

static slm_status place(slm_part *part, uint64_t *at, slm_error *err)
{
    part->offset = *at;
    if (part->cols == 0)
        part->bytes = ((uint64_t) part->rows * 4 + 63) & ~(uint64_t) 63;
    else if (__builtin_mul_overflow((uint64_t) slm_panel_bytes(part->type, part->cols), ((uint64_t) part->rows + 15) / 16, &part->bytes) ||
             part->bytes == 0)
        return slm_fail(err, SLM_FORMAT, "a tensor of %u x %u does not fit its type", part->rows, part->cols);
    if (__builtin_add_overflow(*at, part->bytes, at) || *at > INT64_MAX)
        return slm_fail(err, SLM_FORMAT, "the model is too large");
    return SLM_OK;
}

slm_status slm_image_plan(const slm_source *source, const char *quantization, uint64_t weights_offset, slm_part **parts, size_t *n_parts,
                          uint64_t *end, slm_error *err)
{
    int wanted;
    uint64_t at = weights_offset;
    SLM_TRY(parse_quantization(quantization, &wanted, err));
    slm_part *list = calloc(3 * source->n_tensors + 1, sizeof *list);
    size_t n = 0;
    slm_status status = list == NULL ? slm_fail(err, SLM_NOMEM, "out of memory") : SLM_OK;
    for (size_t i = 0; status == SLM_OK && i < source->n_tensors; i++) {
        const slm_source_tensor *t = &source->tensors[i];
        size_t k = split(&source->hparams, t, list + n);
        for (size_t j = 0; status == SLM_OK && j < k; j++) {
            list[n + j].type = choose_type(&source->hparams, t, wanted);
            status = place(&list[n + j], &at, err);
        }
        n += k;
    }
    if (status != SLM_OK) {
        free(list);
        return status;
    }
    *parts = list;
    *n_parts = n;
    *end = at;
    return SLM_OK;
}
