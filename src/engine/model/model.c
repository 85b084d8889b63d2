/*
 * Opening a packed image as a model: the weights of each role where the forward pass looks for them.
 *
 * The image has been validated by slm_image_open (sections, sizes, checksum of everything but the weights).  Here every weight that the
 * family needs must be there, and each one that is there must have the shape that the hyper-parameters demand: the forward pass
 * relies on it and checks nothing.  The order of a pass is in forward.c and encoder.c.
 *
 * References are counted without atomics: a model belongs to one thread at a time, like its sessions.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/arch/family.h"
#include "engine/model/run.h"

typedef struct loader {
    slm_model *model;
    const slm_family *family;
    slm_error *err;
} loader;

static slm_status missing(const loader *in, slm_tensor_role role, uint32_t layer)
{
    return slm_fail(in->err, SLM_FORMAT, "the model image has no usable tensor %s of layer %u", slm_role_get(role)->name, layer);
}

/* A matrix of the demanded shape; absent is fine unless the family needs it. */
static slm_status take_matrix(const loader *in, slm_tensor_role role, uint32_t layer, slm_weight *out)
{
    uint32_t rows, cols;
    slm_model *m = in->model;
    memset(out, 0, sizeof *out);
    if (!slm_image_matrix(m->image, role, layer, out)) {
        memset(out, 0, sizeof *out);
        return slm_family_need(in->family, role, true) == SLM_NEED_ALWAYS ? missing(in, role, layer) : SLM_OK;
    }
    slm_role_shape(&m->hp, role, layer, &rows, &cols);
    if (out->data == NULL || out->rows != rows || out->cols != cols || slm_type_get(out->type) == NULL)
        return missing(in, role, layer);
    return SLM_OK;
}

static slm_status take_vector(const loader *in, slm_tensor_role role, uint32_t layer, const float **out)
{
    uint32_t rows, cols;
    slm_role_shape(&in->model->hp, role, layer, &rows, &cols);
    *out = slm_image_vector(in->model->image, role, layer, rows);
    if (*out == NULL && slm_family_need(in->family, role, true) == SLM_NEED_ALWAYS)
        return missing(in, role, layer);
    return SLM_OK;
}

/* What Qwen 3.5's layers have besides: small products stay floats. */
static slm_status check_delta_layer(const loader *in, uint32_t i)
{
    const slm_hparams *hp = &in->model->hp;
    const slm_layer *l = &in->model->layers[i];
    bool delta = hp->delta_values > 0 && slm_layer_convolves(hp, i), gated = hp->attn_gate && !slm_layer_convolves(hp, i);
    if (gated != (l->attn_gate.data != NULL))
        return missing(in, SLM_TENSOR_ATTN_GATE, i);
    if (delta && (l->delta_gate.data == NULL || l->delta_decay.data == NULL || l->delta_share.data == NULL ||
                  l->delta_decay_log == NULL || l->delta_decay_bias == NULL || l->delta_norm == NULL ||
                  !slm_type_get(l->delta_decay.type)->is_float || !slm_type_get(l->delta_share.type)->is_float))
        return missing(in, SLM_TENSOR_DELTA_GATE, i);
    return SLM_OK;
}

static slm_status take_layer(const loader *in, uint32_t i)
{
    slm_layer *l = &in->model->layers[i];
    bool after = in->model->hp.norm_after_sum != 0;
    if (i > 0 && in->model->hp.shared_layers) {
        *l = in->model->layers[0];
        return SLM_OK;
    }
    const struct { slm_tensor_role role; slm_weight *out; } matrices[] = {
        {SLM_TENSOR_ATTN_Q, &l->q},        {SLM_TENSOR_ATTN_K, &l->k},      {SLM_TENSOR_ATTN_V, &l->v},       {SLM_TENSOR_ATTN_OUT, &l->o},
        {SLM_TENSOR_FFN_GATE, &l->gate},   {SLM_TENSOR_FFN_UP, &l->up},     {SLM_TENSOR_FFN_DOWN, &l->down},
        {SLM_TENSOR_REL_KEY, &l->rel_key}, {SLM_TENSOR_REL_QUERY, &l->rel_query},
        {SLM_TENSOR_CONV_IN, &l->conv_in}, {SLM_TENSOR_CONV_OUT, &l->o},
        {SLM_TENSOR_ATTN_GATE, &l->attn_gate}, {SLM_TENSOR_DELTA_GATE, &l->delta_gate},
        {SLM_TENSOR_DELTA_DECAY, &l->delta_decay}, {SLM_TENSOR_DELTA_SHARE, &l->delta_share},
        {SLM_TENSOR_LAYER_EMBD_GATE, &l->embd_gate}, {SLM_TENSOR_LAYER_EMBD_OUT, &l->embd_out},
        {SLM_TENSOR_ROUTER, &l->router},   {SLM_TENSOR_EXPERT_GATE, &l->expert_gate},
        {SLM_TENSOR_EXPERT_UP, &l->expert_up}, {SLM_TENSOR_EXPERT_DOWN, &l->expert_down},
    };
    const struct { slm_tensor_role role; const float **out; } vectors[] = {
        {SLM_TENSOR_ATTN_NORM, &l->attn_norm},           {SLM_TENSOR_FFN_NORM, &l->ffn_norm},
        {SLM_TENSOR_ATTN_Q_BIAS, &l->q_bias},            {SLM_TENSOR_ATTN_K_BIAS, &l->k_bias},
        {SLM_TENSOR_ATTN_V_BIAS, &l->v_bias},            {SLM_TENSOR_ATTN_OUT_BIAS, &l->o_bias},
        {SLM_TENSOR_ATTN_Q_NORM, &l->q_norm},            {SLM_TENSOR_ATTN_K_NORM, &l->k_norm},
        {SLM_TENSOR_CONV_KERNEL, &l->conv_kernel},
        {SLM_TENSOR_FFN_UP_BIAS, &l->up_bias},           {SLM_TENSOR_FFN_DOWN_BIAS, &l->down_bias},
        {after ? SLM_TENSOR_ATTN_OUT_NORM : SLM_TENSOR_ATTN_POST_NORM, &l->attn_post_norm},
        {after ? SLM_TENSOR_LAYER_OUT_NORM : SLM_TENSOR_FFN_POST_NORM, &l->ffn_post_norm},
        {SLM_TENSOR_ATTN_IN_SCALE, &l->attn_in_scale},   {SLM_TENSOR_FFN_IN_SCALE, &l->ffn_in_scale},
        {after ? SLM_TENSOR_ATTN_OUT_NORM_BIAS : SLM_TENSOR_ATTN_NORM_BIAS, &l->attn_norm_bias},
        {after ? SLM_TENSOR_LAYER_OUT_NORM_BIAS : SLM_TENSOR_FFN_NORM_BIAS, &l->ffn_norm_bias},
        {SLM_TENSOR_DELTA_DECAY_LOG, &l->delta_decay_log}, {SLM_TENSOR_DELTA_DECAY_BIAS, &l->delta_decay_bias},
        {SLM_TENSOR_DELTA_NORM, &l->delta_norm},
        {SLM_TENSOR_LAYER_EMBD_POST_NORM, &l->embd_post_norm}, {SLM_TENSOR_LAYER_SCALE, &l->out_scale},
    };
    for (size_t k = 0; k < sizeof matrices / sizeof *matrices; k++)
        if (slm_role_in_layer(&in->model->hp, matrices[k].role, i))
            SLM_TRY(take_matrix(in, matrices[k].role, i, matrices[k].out));
    for (size_t k = 0; k < sizeof vectors / sizeof *vectors; k++)
        if (slm_role_in_layer(&in->model->hp, vectors[k].role, i))
            SLM_TRY(take_vector(in, vectors[k].role, i, vectors[k].out));

    bool experts = slm_role_in_layer(&in->model->hp, SLM_TENSOR_ROUTER, i);
    bool convolves = slm_layer_convolves(&in->model->hp, i);
    bool keyless = i >= slm_layers_with_keys(&in->model->hp);
    const slm_weight *first = convolves ? &l->conv_in : &l->q;
    const slm_weight *needed[] = {first, convolves || keyless ? first : &l->k, convolves || keyless ? first : &l->v, &l->o,
                                  experts ? &l->expert_up : &l->up, experts ? &l->expert_down : &l->down};
    for (size_t k = 0; k < sizeof needed / sizeof *needed; k++)
        if (needed[k]->data == NULL)
            return slm_fail(in->err, SLM_FORMAT, "layer %u of the model image lacks a matrix", i);
    if (i == 0 && in->model->hp.skip_first_norm)
        l->attn_norm = NULL;
    if (in->model->hp.parallel && l->ffn_norm == NULL) { /* one norm for both (Phi) */
        l->ffn_norm = l->attn_norm;
        l->ffn_norm_bias = l->attn_norm_bias;
    }
    SLM_TRY(check_delta_layer(in, i));
    if ((in->model->hp.n_embd_layer > 0) != (l->embd_gate.data != NULL && l->embd_out.data != NULL && l->embd_post_norm != NULL))
        return missing(in, SLM_TENSOR_LAYER_EMBD_GATE, i);
    if (experts && (l->router.data == NULL || l->expert_gate.data == NULL || !slm_type_get(l->router.type)->is_float))
        return missing(in, SLM_TENSOR_ROUTER, i);
    l->relu = slm_layer_decides(&in->model->hp, i);
    if (!experts && !l->relu && slm_activation_gated(in->model->hp.activation) && l->gate.data == NULL)
        return missing(in, SLM_TENSOR_FFN_GATE, i);
    if (in->model->hp.relative_span > 0)
        for (int k = 0; k < 2; k++) {
            const slm_weight *w = k == 0 ? &l->rel_key : &l->rel_query;
            if (w->data == NULL || !slm_type_get(w->type)->is_float)
                return missing(in, k == 0 ? SLM_TENSOR_REL_KEY : SLM_TENSOR_REL_QUERY, i);
        }
    return SLM_OK;
}

/* What the forward pass of this kind of model reads without asking. */
static slm_status check_layer(const loader *in, uint32_t i)
{
    const slm_layer *l = &in->model->layers[i], *first = in->model->layers;
    const slm_hparams *hp = &in->model->hp;
    bool ok = (l->attn_post_norm != NULL) == (first->attn_post_norm != NULL);
    if (hp->norm_after_sum)
        ok = ok && l->attn_post_norm != NULL && l->ffn_post_norm != NULL;
    else if (hp->post_norm_only)
        ok = ok && l->attn_post_norm != NULL && l->ffn_post_norm != NULL && l->attn_norm == NULL && l->ffn_norm == NULL;
    else
        ok = ok && (l->attn_norm != NULL || (i == 0 && hp->skip_first_norm)) && l->ffn_norm != NULL &&
            (l->attn_post_norm != NULL) == (l->ffn_post_norm != NULL);
    bool scaled = l->attn_in_scale != NULL;
    if (scaled != (l->ffn_in_scale != NULL) || scaled != (first->attn_in_scale != NULL))
        return slm_fail(in->err, SLM_FORMAT, "layer %u of the model image lacks a scale", i);
    if (scaled && (slm_type_get(l->q.type)->is_float || slm_type_get(l->k.type)->is_float || slm_type_get(l->v.type)->is_float ||
                   slm_type_get(l->up.type)->is_float))
        return slm_fail(in->err, SLM_FORMAT, "layer %u of the model image scales the input of matrices that are not quantized", i);
    bool keyless = i >= slm_layers_with_keys(hp);
    ok = ok && (l->q_norm != NULL) == (l->k_norm != NULL || (keyless && first->k_norm != NULL)) &&
        (hp->conv_length > 0 || (l->q_norm != NULL) == (first->q_norm != NULL)) &&
        slm_layer_convolves(hp, i) == (l->conv_kernel != NULL);
    if (!ok)
        return slm_fail(in->err, SLM_FORMAT, "layer %u of the model image lacks a norm, or has one too many", i);
    return SLM_OK;
}

/* Quantized products need whole blocks of 32 activations. */
static slm_status note_type(const loader *in, const slm_weight *w, uint32_t layer)
{
    if (w->data == NULL)
        return SLM_OK;
    bool is_float = slm_type_get(w->type)->is_float;
    in->model->floats |= is_float;
    in->model->quantized |= !is_float;
    if (!is_float && w->cols % 32 != 0)
        return slm_fail(in->err, SLM_FORMAT, "a quantized matrix of layer %u has %u columns, no multiple of 32", layer, w->cols);
    return SLM_OK;
}

static slm_status note_types(const loader *in, uint32_t i)
{
    const slm_layer *l = &in->model->layers[i];
    const slm_weight *all[] = {&l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down, &l->expert_gate, &l->expert_up, &l->expert_down,
                               &l->conv_in, &l->attn_gate, &l->delta_gate, &l->embd_gate, &l->embd_out};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        SLM_TRY(note_type(in, all[k], i));
    return SLM_OK;
}

static slm_status take_layers(const loader *in)
{
    slm_model *m = in->model;
    for (uint32_t i = 0; i < m->hp.n_layers; i++) {
        SLM_TRY(take_layer(in, i));
        SLM_TRY(check_layer(in, i));
        SLM_TRY(note_types(in, i));
    }
    SLM_TRY(note_type(in, &m->layer_embd_proj, 0));
    if (m->quantized && m->hp.n_embd % 32 != 0)
        return slm_fail(in->err, SLM_FORMAT, "a quantized model of width %u, no multiple of 32", m->hp.n_embd);
    m->qk_norm_rows = m->layers[0].q_norm != NULL && m->hp.qk_norm_whole != 0;
    return SLM_OK;
}

/* The modules behind the pooling. */
static slm_status take_behind(const loader *in)
{
    slm_model *m = in->model;
    for (uint32_t i = 0; i < m->hp.n_dense; i++) {
        SLM_TRY(take_matrix(in, (slm_tensor_role) (SLM_TENSOR_DENSE_0 + 2 * i), 0, &m->dense[i]));
        SLM_TRY(take_vector(in, (slm_tensor_role) (SLM_TENSOR_DENSE_0_BIAS + 2 * i), 0, &m->dense_bias[i]));
        if (m->dense[i].data == NULL)
            return missing(in, (slm_tensor_role) (SLM_TENSOR_DENSE_0 + 2 * i), 0);
    }
    if (m->hp.after_norm_dim == 0)
        return SLM_OK;
    SLM_TRY(take_vector(in, SLM_TENSOR_AFTER_NORM, 0, &m->after_norm));
    SLM_TRY(take_vector(in, SLM_TENSOR_AFTER_NORM_BIAS, 0, &m->after_norm_bias));
    return m->after_norm != NULL && m->after_norm_bias != NULL ? SLM_OK : missing(in, SLM_TENSOR_AFTER_NORM, 0);
}

/* A head that reads labels: its matrices are floats, as an import leaves them. */
static slm_status take_joint(const loader *in)
{
    slm_model *m = in->model;
    for (uint32_t i = 0; i < SLM_JOINT_ROLES; i++) {
        slm_tensor_role role = (slm_tensor_role) (SLM_JOINT_FIRST + i);
        if (!slm_joint_reads(&m->hp, role))
            continue;
        bool matrix = slm_role_get(role)->cols != D_NONE;
        SLM_TRY(matrix ? take_matrix(in, role, 0, &m->joint[i]) : take_vector(in, role, 0, &m->joint_vectors[i]));
        if (m->joint[i].data == NULL && m->joint_vectors[i] == NULL)
            return missing(in, role, 0);
        if (m->joint[i].data != NULL && !slm_type_get(m->joint[i].type)->is_float)
            return slm_fail(in->err, SLM_FORMAT, "the head that reads labels is quantized");
    }
    return SLM_OK;
}

/* The products of a head that finds spans. */
static slm_status take_spans(const loader *in)
{
    slm_model *m = in->model;
    for (unsigned role = SLM_TENSOR_SPAN_PROJ; slm_role_of_spans((slm_tensor_role) role); role += 2) {
        slm_affine *of = &m->spans[(role - SLM_TENSOR_SPAN_PROJ) / 2];
        if (!slm_role_in_layer(&m->hp, (slm_tensor_role) role, 0))
            continue;
        SLM_TRY(take_matrix(in, (slm_tensor_role) role, 0, &of->w));
        SLM_TRY(take_vector(in, (slm_tensor_role) (role + 1), 0, &of->bias));
        if (of->w.data == NULL || of->bias == NULL)
            return missing(in, (slm_tensor_role) role, 0);
        if (!slm_type_get(of->w.type)->is_float && of->w.cols % 32 != 0)
            return missing(in, (slm_tensor_role) role, 0);
    }
    return SLM_OK;
}

/* Biases of attention as rows by distance: out of MPNet's table, or slopes. */
static slm_status take_relative(const loader *in)
{
    slm_model *m = in->model;
    slm_weight table;
    uint32_t buckets = m->hp.relative_buckets, heads = m->hp.n_heads;
    if (buckets == 0 && !m->hp.alibi)
        return SLM_OK;
    m->relative = malloc(heads * slm_relative_stride(m->hp.n_context) * sizeof *m->relative);
    if (m->relative == NULL)
        return slm_fail(in->err, SLM_NOMEM, "out of memory");
    if (m->hp.alibi) {
        slm_alibi_fill(heads, m->hp.n_context, m->relative);
        return SLM_OK;
    }
    SLM_TRY(take_matrix(in, SLM_TENSOR_REL_BIAS, 0, &table));
    if (table.data == NULL)
        return missing(in, SLM_TENSOR_REL_BIAS, 0);
    float *rows = malloc((size_t) buckets * (heads + 64) * sizeof *rows);
    if (rows == NULL)
        return slm_fail(in->err, SLM_NOMEM, "out of memory");
    for (uint32_t i = 0; i < buckets; i++)
        slm_kernels_get()->unpack_row(&table, i, rows + (size_t) i * (heads + 64));
    slm_relative_fill(rows, heads + 64, buckets, heads, m->hp.n_context, m->relative);
    free(rows);
    return SLM_OK;
}

static slm_status take_globals(const loader *in)
{
    slm_model *m = in->model;
    SLM_TRY(take_matrix(in, SLM_TENSOR_TOKEN_EMBD, 0, &m->token_embd));
    SLM_TRY(take_matrix(in, SLM_TENSOR_OUTPUT, 0, &m->head));
    SLM_TRY(take_matrix(in, SLM_TENSOR_POSITION_EMBD, 0, &m->position_embd));
    if (slm_role_in_layer(&m->hp, SLM_TENSOR_TYPE_EMBD, 0))
        SLM_TRY(take_matrix(in, SLM_TENSOR_TYPE_EMBD, 0, &m->type_embd));
    SLM_TRY(take_matrix(in, SLM_TENSOR_CLS_DENSE, 0, &m->cls_dense));
    SLM_TRY(take_matrix(in, SLM_TENSOR_EMBD_PROJ, 0, &m->embd_proj));
    SLM_TRY(take_matrix(in, SLM_TENSOR_LAYER_EMBD, 0, &m->layer_embd));
    SLM_TRY(take_matrix(in, SLM_TENSOR_LAYER_EMBD_PROJ, 0, &m->layer_embd_proj));
    SLM_TRY(take_vector(in, SLM_TENSOR_LAYER_EMBD_NORM, 0, &m->layer_embd_norm));
    SLM_TRY(take_vector(in, SLM_TENSOR_EMBD_PROJ_BIAS, 0, &m->embd_proj_bias));
    SLM_TRY(take_matrix(in, SLM_TENSOR_CLS_OUT, 0, &m->cls_out));
    SLM_TRY(take_vector(in, SLM_TENSOR_OUTPUT_NORM, 0, &m->output_norm));
    SLM_TRY(take_vector(in, SLM_TENSOR_OUTPUT_NORM_BIAS, 0, &m->output_norm_bias));
    SLM_TRY(take_vector(in, SLM_TENSOR_OUTPUT_BIAS, 0, &m->head_bias));
    SLM_TRY(take_vector(in, SLM_TENSOR_EMBD_NORM, 0, &m->embd_norm));
    SLM_TRY(take_vector(in, SLM_TENSOR_EMBD_NORM_BIAS, 0, &m->embd_norm_bias));
    SLM_TRY(take_vector(in, SLM_TENSOR_CLS_DENSE_BIAS, 0, &m->cls_dense_bias));
    SLM_TRY(take_vector(in, SLM_TENSOR_CLS_OUT_BIAS, 0, &m->cls_out_bias));
    SLM_TRY(take_vector(in, SLM_TENSOR_CLS_NORM, 0, &m->cls_norm));
    SLM_TRY(take_vector(in, SLM_TENSOR_CLS_NORM_BIAS, 0, &m->cls_norm_bias));
    SLM_TRY(take_behind(in));
    SLM_TRY(take_joint(in));
    SLM_TRY(take_spans(in));

    if (m->token_embd.data == NULL)
        return missing(in, SLM_TENSOR_TOKEN_EMBD, 0);
    if ((m->hp.n_lookup > 0) != (m->embd_proj.data != NULL))
        return missing(in, SLM_TENSOR_EMBD_PROJ, 0);
    bool own = m->layer_embd_proj.data != NULL && m->layer_embd_norm != NULL && (m->layer_embd.data != NULL) == (m->hp.causal != 0);
    if (m->hp.n_embd_layer > 0 ? !own : m->layer_embd.data != NULL || m->layer_embd_proj.data != NULL)
        return missing(in, SLM_TENSOR_LAYER_EMBD, 0);
    if (m->hp.causal) {
        if (m->output_norm == NULL)
            return missing(in, SLM_TENSOR_OUTPUT_NORM, 0);
        if (m->head.data == NULL)
            m->head = m->token_embd;
        if (!slm_type_get(m->head.type)->is_float && m->hp.n_embd % 32 != 0)
            return slm_fail(in->err, SLM_FORMAT, "a quantized output head of width %u, no multiple of 32", m->hp.n_embd);
        return SLM_OK;
    }
    if (m->hp.pooling == SLM_POOL_RANK && m->hp.joint != SLM_JOINT_GLICLASS && m->cls_out.data == NULL)
        return missing(in, SLM_TENSOR_CLS_OUT, 0);
    return SLM_OK;
}

static slm_status open_parts(slm_model *m, slm_error *err)
{
    loader in = {.model = m, .family = slm_family_by_name(m->hp.family), .err = err};
    size_t bytes;
    if (in.family == NULL)
        return slm_fail(err, SLM_UNSUPPORTED, "the model image is of an unknown family \"%s\"", m->hp.family);
    SLM_TRY(slm_hparams_check(&m->hp, err));
    m->layers = calloc(slm_layer_slots(&m->hp), sizeof *m->layers);
    m->rope_freq = slm_rope_frequencies(&m->hp);
    m->ones = calloc(m->hp.head_dim, sizeof *m->ones);
    m->zeros = calloc(m->hp.n_embd > m->hp.after_norm_dim ? m->hp.n_embd : m->hp.after_norm_dim, sizeof *m->zeros);
    if (m->layers == NULL || m->rope_freq == NULL || m->zeros == NULL || m->ones == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (uint32_t i = 0; i < m->hp.head_dim; i++)
        m->ones[i] = 1;
    SLM_TRY(take_globals(&in));
    SLM_TRY(take_layers(&in));
    SLM_TRY(take_relative(&in));
    if (m->hp.relative_span > 0 && (m->places = slm_distance_places(&m->hp)) == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    const void *blob = slm_image_tokenizer(m->image, &bytes);
    if (bytes > 0)
        SLM_TRY(slm_tokenizer_open(blob, bytes, &m->tokenizer, err));
    if (m->tokenizer != NULL && slm_tokenizer_size(m->tokenizer) > m->hp.n_vocab)
        return slm_fail(err, SLM_FORMAT, "the tokenizer has %zu tokens, the model %u", slm_tokenizer_size(m->tokenizer), m->hp.n_vocab);
    return SLM_OK;
}

slm_status slm_model_open(const char *image_path, slm_model **out, slm_error *err)
{
    slm_model *m = calloc(1, sizeof *m);
    if (m == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    m->references = 1;
    slm_status status = slm_image_open(image_path, &m->image, err);
    if (status == SLM_OK) {
        m->hp = *slm_image_hparams(m->image);
        status = open_parts(m, err);
    }
    if (status != SLM_OK) {
        slm_model_close(m);
        return status;
    }
    *out = m;
    return SLM_OK;
}

void slm_model_close(slm_model *model)
{
    if (model == NULL || --model->references > 0)
        return;
    slm_tokenizer_free(model->tokenizer);
    slm_image_close(model->image);
    free(model->layers);
    free(model->rope_freq);
    free(model->relative);
    free(model->places);
    free(model->zeros);
    free(model->ones);
    free(model);
}

const slm_model_info *slm_model_get_info(const slm_model *model)
{
    return slm_image_info(model->image);
}

slm_status slm_model_prewarm(slm_model *model, slm_progress_fn progress, void *progress_arg, const volatile int *stop, slm_error *err)
{
    return slm_image_prewarm(model->image, progress, progress_arg, stop, err);
}

uint64_t slm_model_huge_bytes(const slm_model *model)
{
    return slm_image_huge_bytes(model->image);
}

slm_status slm_model_check(const slm_model *model, slm_error *err)
{
    return slm_image_check(model->image, err);
}

bool slm_model_damaged(const slm_model *model)
{
    return slm_image_check(model->image, NULL) != SLM_OK;
}

uint64_t slm_model_resident_bytes(const slm_model *model)
{
    return slm_image_resident_bytes(model->image);
}
