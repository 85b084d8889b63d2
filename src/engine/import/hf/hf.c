/*
 * The source behind a Hugging Face directory: configuration, tensors by role, tokenizer, and rows read on demand.
 *
 * Invariant: the tensors that slm_family_bind took were found in a validated safetensors header, so a row's byte range lies inside its file
 * as it was at open; a file cut short since then is an error of read_rows.  Vectors are handed out as F32 whatever their type,
 * with one added where the family stores norms minus one.  Weights that are not finite are refused as they are read.
 */
#include "engine/import/hf/hf.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/math.h"
#include "engine/import/hf/fused.h"
#include "engine/import/hf/gliclass.h"
#include "engine/import/hf/gliner.h"
#include "engine/import/hf/keys.h"
#include "engine/import/hf/relative.h"
#include "engine/import/hf/safetensors.h"
#include "engine/import/hf/sentence.h"
#include "engine/import/hf/smooth.h"
#include "engine/import/hf/static.h"
#include "engine/import/hf/tasks.h"
#include "engine/import/hf/vocab.h"
#include "engine/arch/family.h"
#include "engine/kernels/kernels.h"
#include "engine/text/tokenizer.h"

typedef struct hf_source {
    slm_source base; /* first: slm_source * is hf_source * */
    slm_safetensors st;
    slm_hf_config config;
    json_t *config_json, *gliner; /* gliner: of such a directory, else NULL */
    bool *used;        /* [st.n_tensors] bound to a role */
    const slm_family *family;
    float *scales;      /* [n_layers][2][n_embd] of smooth.h, NULL without */
    float *inverse;     /* 1 / scales: what activations are multiplied by */
    slm_hf_relative *relative; /* DeBERTa's tables; NULL without */
    slm_hf_static *table; /* a model that is a table of vectors; NULL: it has layers */
} hf_source;

static void close_source(slm_source *base)
{
    hf_source *s = (hf_source *) base;
    if (s == NULL)
        return;
    slm_safetensors_close(&s->st);
    json_decref(s->config_json);
    json_decref(s->gliner);
    free(s->used);
    free(s->scales);
    free(s->inverse);
    slm_hf_relative_free(s->relative);
    slm_hf_static_free(s->table);
    free(base->tokenizer);
    free(base->tensors);
    free(s);
}

/* ---- tensors by name ---- */

static slm_type type_of(slm_st_type type)
{
    return type == SLM_ST_F32 ? SLM_TYPE_F32 : type == SLM_ST_F16 ? SLM_TYPE_F16 : type == SLM_ST_BF16 ? SLM_TYPE_BF16 : SLM_TYPE_COUNT;
}

/* By its name, with or without what stands before it when a head or pictures belong to the model. */
static const slm_st_tensor *look_up_plain(const hf_source *s, const char *name)
{
    char full[224]; /* what stands before a name has up to 22 bytes */
    snprintf(full, sizeof full, "%s%s", s->config.prefix, name);
    const slm_st_tensor *t = slm_safetensors_find(&s->st, full);
    if (t == NULL)
        t = slm_safetensors_find(&s->st, name);
    if (t == NULL && strncmp(name, "model.", 6) == 0) /* as classes without a head save them */
        t = slm_safetensors_find(&s->st, name + 6);
    if (t == NULL && s->config.nested) {
        snprintf(full, sizeof full, "language_model.%s", name);
        t = slm_safetensors_find(&s->st, full);
        const char *bare = strncmp(name, "model.", 6) == 0 ? name + 6 : name;
        snprintf(full, sizeof full, "model.language_model.%s", bare);
        t = t != NULL ? t : slm_safetensors_find(&s->st, full);
        t = t != NULL ? t : slm_safetensors_find(&s->st, full + 6); /* as a class without a head saves them */
    }
    return t;
}

/* What adapters for tasks stand beside has another name then. */
static const slm_st_tensor *look_up(const hf_source *s, const char *name)
{
    char original[256];
    const slm_st_tensor *t = look_up_plain(s, name);
    size_t n = strlen(name), end = strlen(".weight");
    if (t != NULL || !s->config.kind->tasks || n < end || strcmp(name + n - end, ".weight") != 0)
        return t;
    snprintf(original, sizeof original, "%.*s.parametrizations.weight.original", (int) (n - end), name);
    return look_up_plain(s, original);
}

/* Where the matrix of one expert lies: in a tensor of its own, where the name counts experts by %u, or in one for all, behind its part
 * [first row] where the name ends with #part (gate and up in one).  NULL: nowhere, or not of rows x cols. */
static const slm_st_tensor *expert_tensor(const hf_source *s, const char *name, uint32_t expert, uint64_t rows, uint64_t cols,
                                          uint64_t *first_row)
{
    char own[192];
    const char *mark = strstr(name, "%u"), *part = strchr(name, '#');
    if (mark != NULL) {
        snprintf(own, sizeof own, "%.*s%u%s", (int) (mark - name), name, expert, mark + 2);
        const slm_st_tensor *t = look_up(s, own);
        *first_row = 0;
        return t != NULL && t->n_dims == 2 && t->dims[0] == rows && t->dims[1] == cols ? t : NULL;
    }
    uint64_t parts = part != NULL ? 2 : 1, at = part != NULL && part[1] == '1' ? 1 : 0;
    snprintf(own, sizeof own, "%.*s", (int) (part != NULL ? part - name : (ptrdiff_t) strlen(name)), name);
    const slm_st_tensor *t = look_up(s, own);
    *first_row = (expert * parts + at) * rows;
    return t != NULL && t->n_dims == 3 && t->dims[0] == s->base.hparams.n_experts && t->dims[1] == parts * rows && t->dims[2] == cols
        ? t : NULL;
}

/* All experts' matrices of a role as one. */
static bool find_experts(hf_source *s, slm_tensor_role role, const char *name, slm_found *out)
{
    const slm_hparams *hp = &s->base.hparams;
    uint64_t first_row;
    uint32_t rows, cols;
    slm_role_shape(hp, role, 0, &rows, &cols);
    for (uint32_t e = 0; e < hp->n_experts; e++) {
        const slm_st_tensor *t = expert_tensor(s, name, e, rows / hp->n_experts, cols, &first_row);
        if (t == NULL || (e > 0 && type_of(t->type) != out->type))
            return false;
        s->used[t - s->st.tensors] = true;
        *out = (slm_found) {.rows = rows, .cols = cols, .type = type_of(t->type), .offset = t->begin, .file = t->file};
    }
    return true;
}

/* A tensor as its file has it. */
static const slm_st_tensor *find_any(hf_source *s, const char *name, slm_found *out)
{
    const slm_st_tensor *t = look_up(s, name);
    if (t == NULL)
        return NULL;
    s->used[t - s->st.tensors] = true;
    *out = (slm_found){.rows = t->n_dims > 0 ? t->dims[0] : 0, .cols = t->n_dims == 2 ? t->dims[1] : 0, .type = type_of(t->type),
                       .offset = t->begin, .file = t->file};
    if (t->n_dims > 2 || (t->n_dims == 2 && t->dims[1] == 0))
        out->rows = 0; /* no role has such a shape */
    return t;
}

/* Is it kept as [in, out]? */
static bool turned(const hf_source *s, slm_tensor_role role, const slm_st_tensor *t)
{
    return s->family->hf_transposed && slm_role_get(role)->per_layer && t->n_dims == 2;
}

static bool find_tensor(void *arg, slm_tensor_role role, const char *name, slm_found *out)
{
    hf_source *s = arg;
    char bare[192];
    if (slm_role_of_experts(role))
        return find_experts(s, role, name, out);
    if (s->table != NULL && role == SLM_TENSOR_TOKEN_EMBD) {
        *out = (slm_found) {.rows = slm_hf_static_rows(s->table), .cols = slm_hf_static_width(s->table), .type = SLM_TYPE_F32};
        return true;
    }
    slm_hf_part part = slm_hf_part_of(name, bare, sizeof bare);
    const slm_st_tensor *t = find_any(s, bare, out);
    if (t == NULL)
        return false;
    if (turned(s, role, t)) {
        out->rows = t->dims[1];
        out->cols = t->dims[0];
    }
    if (out->rows % part.parts != 0)
        return false;
    out->rows /= part.parts;
    if (role == SLM_TENSOR_JOINT_SCALE && t->n_dims == 0)
        out->rows = 1; /* a number */
    if (role == SLM_TENSOR_CONV_KERNEL && t->n_dims == 3 && t->dims[1] == 1 && t->dims[2] == s->base.hparams.conv_length)
        out->rows = t->dims[0] * t->dims[2]; /* column by column */
    if (role == SLM_TENSOR_POSITION_EMBD) {
        double limit = slm_hf_config_number(&s->config, "context_length", 0); /* sentence-transformers may allow fewer positions */
        uint64_t skip = s->config.position_offset, all = out->rows;
        out->offset += out->rows > skip ? skip * out->cols * (t->type == SLM_ST_F32 ? 4 : 2) : 0;
        out->rows = out->rows > skip ? out->rows - skip : 0;
        if ((double) out->rows > limit && all == s->config.n_positions)
            out->rows = (uint64_t) limit;
    }
    return true;
}

/* Of the parts that see pictures and hear. */
static bool of_pictures(const hf_source *s, const char *name)
{
    name += strncmp(name, "model.", 6) == 0 ? 6 : 0;
    return s->config.nested && (strncmp(name, "vision_tower.", 13) == 0 || strncmp(name, "multi_modal_projector.", 22) == 0 ||
                                strncmp(name, "embed_vision.", 13) == 0 || strncmp(name, "visual.", 7) == 0 ||
                                strncmp(name, "audio_tower.", 12) == 0 || strncmp(name, "embed_audio.", 12) == 0);
}

/* What old versions save beside the weights: angles, and the triangle of attention. */
static bool is_constant(const slm_st_tensor *t)
{
    static const char *const ends[] = {"rotary_emb.inv_freq", ".attn.masked_bias", ".attention.masked_bias", ".attn.bias",
                                       ".attention.bias"};
    size_t n = strlen(t->name);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (n >= strlen(ends[i]) && strcmp(t->name + n - strlen(ends[i]), ends[i]) == 0)
            return i < 3 || t->n_dims == 4;
    return false;
}

/* A weight of a layer that no role took (a bias that the configuration does not announce, an adapter) would change the answers. */
static slm_status check_unused(const hf_source *s, slm_error *err)
{
    for (size_t i = 0; i < s->st.n_tensors; i++) {
        const slm_st_tensor *t = &s->st.tensors[i];
        bool in_layer = strstr(t->name, "layers.") != NULL || strstr(t->name, "encoder.layer.") != NULL ||
                        strstr(t->name, "transformer.layer.") != NULL || strncmp(t->name, "transformer.h.", 14) == 0 ||
                        strncmp(t->name, "slm.", 4) == 0 ||
                        (s->gliner != NULL && strncmp(t->name, s->config.prefix, strlen(s->config.prefix)) != 0);
        bool read = s->used[i] || of_pictures(s, t->name) || strncmp(t->name, "mtp.", 4) == 0 || is_constant(t) ||
                    slm_family_unread(&s->base.hparams, true, t->name) || (s->config.kind->tasks && slm_hf_of_tasks(t->name));
        if (!read && in_layer && t->type != SLM_ST_OTHER) {
            slm_fail(err, SLM_UNSUPPORTED, "tensor \"%s\" in \"%s\" is not known in models of the family %s", t->name,
                     s->st.file_names[t->file], s->config.meta.architecture);
            return slm_hint(err, "Adapters must be merged into the model before it is saved (merge_and_unload).");
        }
    }
    return SLM_OK;
}

static slm_status bind_tensors(hf_source *s, slm_error *err)
{
    bool head = slm_safetensors_find(&s->st, "lm_head.weight") != NULL || slm_safetensors_find(&s->st, "embed_out.weight") != NULL;
    const slm_family *family = slm_family_by_name(s->config.meta.architecture);
    s->used = calloc(s->st.n_tensors + 1, sizeof *s->used);
    if (s->used == NULL || family == NULL)
        return slm_fail(err, family == NULL ? SLM_UNSUPPORTED : SLM_NOMEM, "out of memory");
    s->family = family;
    s->config.meta.has_output = head || !s->config.tied; /* one that is there counts, whatever is said of it */
    SLM_TRY(slm_family_read(&s->config.meta, &s->base.hparams, err));
    SLM_TRY(slm_family_bind(&s->base.hparams, true, find_tensor, s, &s->base.tensors, &s->base.n_tensors, err));
    for (size_t i = 0; i < s->base.n_tensors; i++) /* vectors are converted here */
        if (s->base.tensors[i].cols == 0)
            s->base.tensors[i].type = SLM_TYPE_F32;
    return check_unused(s, err);
}

/* ---- rows ---- */

static uint32_t type_bytes(slm_st_type type)
{
    return type == SLM_ST_F32 ? 4 : 2;
}

/* Exponent of all ones: infinity or NaN. */
static bool all_finite(const void *data, size_t n, slm_st_type type)
{
    const uint32_t *w = data;
    const uint16_t *h = data;
    const uint16_t mask = type == SLM_ST_F16 ? 0x7C00 : 0x7F80;
    unsigned bad = 0;
    for (size_t i = 0; i < n && type == SLM_ST_F32; i++)
        bad |= (w[i] & 0x7F800000u) == 0x7F800000u;
    for (size_t i = 0; i < n && type != SLM_ST_F32; i++)
        bad |= (h[i] & mask) == mask;
    return bad == 0;
}

static slm_st_type source_type(const hf_source *s, const slm_source_tensor *tensor)
{
    for (size_t i = 0; i < s->st.n_tensors; i++)
        if (s->st.tensors[i].begin == tensor->offset && s->st.tensors[i].file == tensor->file && s->used[i])
            return s->st.tensors[i].type;
    return tensor->type == SLM_TYPE_F16 ? SLM_ST_F16 : tensor->type == SLM_TYPE_BF16 ? SLM_ST_BF16 : SLM_ST_F32;
}

/* n weights at an offset of a file, as floats. */
static slm_status read_floats(hf_source *s, uint32_t shard, slm_st_type type, uint64_t begin, uint32_t n, float *out, slm_error *err)
{
    const char *file = s->st.file_names[shard];
    uint32_t size = type_bytes(type);
    uint16_t half[256];
    for (uint32_t at = 0; at < n;) {
        uint32_t piece = n - at < 256 ? n - at : 256;
        void *to = type == SLM_ST_F32 ? (void *) (out + at) : (void *) half;
        SLM_TRY(slm_hf_pread(s->st.fds[shard], file, begin + (uint64_t) at * size, to, (size_t) piece * size, err));
        if (!all_finite(to, piece, type))
            return slm_fail(err, SLM_FORMAT, "file \"%s\" holds a weight that is not a finite number", file);
        for (uint32_t i = 0; i < piece && type != SLM_ST_F32; i++)
            out[at + i] = type == SLM_ST_F16 ? slm_f16_to_f32(half[i]) : slm_bf16_to_f32(half[i]);
        at += piece;
    }
    return SLM_OK;
}

/* Where a role's rows lie in its tensor. */
static slm_hf_part part_of(const hf_source *s, const slm_source_tensor *tensor)
{
    char name[160], bare[160];
    slm_family_tensor_name(s->family, tensor->role, true, tensor->layer, name, sizeof name);
    return slm_hf_part_of(name, bare, sizeof bare);
}

/* In families whose norms are kept minus one: is this vector one of them? */
static bool less_one(slm_tensor_role role)
{
    return role != SLM_TENSOR_CONV_KERNEL && !(role >= SLM_TENSOR_DELTA_GATE && role <= SLM_TENSOR_DELTA_NORM);
}

static slm_status read_vector(hf_source *s, const slm_source_tensor *tensor, uint32_t first, uint32_t n, float *out, slm_error *err)
{
    slm_st_type type = source_type(s, tensor);
    if (tensor->role == SLM_TENSOR_ATTN_IN_SCALE || tensor->role == SLM_TENSOR_FFN_IN_SCALE) {
        bool feed = tensor->role == SLM_TENSOR_FFN_IN_SCALE;
        memcpy(out, s->inverse + (2 * (size_t) tensor->layer + feed) * s->base.hparams.n_embd + first, n * sizeof *out);
        return SLM_OK;
    }
    slm_hf_part part = part_of(s, tensor);
    for (uint32_t at = 0, run; at < n; at += run) {
        uint64_t from = slm_hf_part_row(part, tensor->rows, s->base.hparams.head_dim, first + at, &run);
        run = run < n - at ? run : n - at;
        SLM_TRY(read_floats(s, tensor->file, type, tensor->offset + from * type_bytes(type), run, out + at, err));
    }
    for (uint32_t i = 0; i < n && s->family->hf_norm_plus_one && less_one(tensor->role); i++)
        out[i] += 1.0f;
    return SLM_OK;
}

/* The column scales of a matrix, NULL when it has none. */
static const float *scales_of(const hf_source *s, slm_tensor_role role, uint32_t layer)
{
    bool attention = role == SLM_TENSOR_ATTN_Q || role == SLM_TENSOR_ATTN_K || role == SLM_TENSOR_ATTN_V;
    if (s->scales == NULL || (!attention && role != SLM_TENSOR_FFN_UP))
        return NULL;
    return s->scales + (2 * (size_t) layer + !attention) * s->base.hparams.n_embd;
}

/* Rows as floats, their columns scaled. */
static slm_status read_scaled(hf_source *s, const slm_source_tensor *tensor, uint32_t row, uint32_t n_rows, const float *scales, float *out,
                              slm_error *err)
{
    slm_st_type type = source_type(s, tensor);
    for (uint32_t r = 0; r < n_rows; r++) {
        float *to = out + (size_t) r * tensor->cols;
        uint64_t at = tensor->offset + (uint64_t) (row + r) * tensor->cols * type_bytes(type);
        SLM_TRY(read_floats(s, tensor->file, type, at, tensor->cols, to, err));
        for (uint32_t c = 0; c < tensor->cols; c++)
            to[c] *= scales[c];
    }
    return SLM_OK;
}

/* Rows of experts, which may lie apart. */
static slm_status read_experts(hf_source *s, const slm_source_tensor *tensor, uint32_t row, uint32_t n_rows, void *out, slm_error *err)
{
    char name[160];
    uint32_t each = tensor->rows / s->base.hparams.n_experts;
    slm_family_tensor_name(s->family, tensor->role, true, tensor->layer, name, sizeof name);
    for (uint32_t n; n_rows > 0; row += n, n_rows -= n) {
        uint64_t first_row;
        uint32_t within = row % each;
        const slm_st_tensor *t = expert_tensor(s, name, row / each, each, tensor->cols, &first_row);
        if (t == NULL)
            return slm_fail(err, SLM_INTERNAL, "no tensor for \"%s\"", name);
        n = each - within < n_rows ? each - within : n_rows;
        uint64_t row_bytes = (uint64_t) tensor->cols * type_bytes(t->type);
        SLM_TRY(slm_hf_pread(s->st.fds[t->file], s->st.file_names[t->file], t->begin + (first_row + within) * row_bytes, out,
                             (size_t) (n * row_bytes), err));
        if (!all_finite(out, (size_t) n * tensor->cols, t->type))
            return slm_fail(err, SLM_FORMAT, "file \"%s\" holds a weight that is not a finite number", s->st.file_names[t->file]);
        out = (char *) out + n * row_bytes;
    }
    return SLM_OK;
}

/* Rows of a matrix that is kept as [in, out]: a piece of each of the file's rows. */
static slm_status read_turned(hf_source *s, const slm_source_tensor *tensor, slm_hf_part part, uint32_t row, uint32_t n_rows, void *out,
                              slm_error *err)
{
    uint32_t size = tensor->type == SLM_TYPE_F32 ? 4 : 2, together;
    uint64_t width = (uint64_t) tensor->rows * part.parts, first = slm_hf_part_row(part, tensor->rows, 0, row, &together);
    char *piece = malloc((size_t) n_rows * size);
    if (piece == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    slm_status status = SLM_OK;
    for (uint32_t c = 0; status == SLM_OK && c < tensor->cols; c++) {
        status = slm_hf_pread(s->st.fds[tensor->file], s->st.file_names[tensor->file], tensor->offset + (c * width + first) * size, piece,
                              (size_t) n_rows * size, err);
        for (uint32_t r = 0; status == SLM_OK && r < n_rows; r++)
            memcpy((char *) out + ((size_t) r * tensor->cols + c) * size, piece + (size_t) r * size, size);
    }
    free(piece);
    return status;
}

static slm_status read_matrix(hf_source *s, const slm_source_tensor *tensor, uint32_t row, uint32_t n_rows, void *out, slm_error *err)
{
    slm_st_type type = tensor->type == SLM_TYPE_F16 ? SLM_ST_F16 : tensor->type == SLM_TYPE_BF16 ? SLM_ST_BF16 : SLM_ST_F32;
    const float *scales = scales_of(s, tensor->role, tensor->layer);
    if (scales != NULL)
        return read_scaled(s, tensor, row, n_rows, scales, out, err);
    const char *file = s->st.file_names[tensor->file];
    slm_hf_part part = part_of(s, tensor);
    uint64_t row_bytes = (uint64_t) tensor->cols * type_bytes(type);
    if (s->family->hf_transposed && slm_role_get(tensor->role)->per_layer) {
        SLM_TRY(read_turned(s, tensor, part, row, n_rows, out, err));
    } else {
        for (uint32_t at = 0, run; at < n_rows; at += run) {
            uint64_t from = slm_hf_part_row(part, tensor->rows, s->base.hparams.head_dim, row + at, &run);
            run = run < n_rows - at ? run : n_rows - at;
            SLM_TRY(slm_hf_pread(s->st.fds[tensor->file], file, tensor->offset + from * row_bytes, (char *) out + at * row_bytes,
                                 (size_t) (run * row_bytes), err));
        }
    }
    if (!all_finite(out, (size_t) n_rows * tensor->cols, type))
        return slm_fail(err, SLM_FORMAT, "file \"%s\" holds a weight that is not a finite number", file);
    return SLM_OK;
}

static void read_rows(slm_source *base, const slm_source_tensor *tensor, uint32_t row, uint32_t n_rows, void *out, slm_status *status,
                      slm_error *err)
{
    hf_source *s = (hf_source *) base;
    if (row > tensor->rows || n_rows > tensor->rows - row)
        *status = slm_fail(err, SLM_INTERNAL, "rows %u..%u of a tensor of %u", row, row + n_rows, tensor->rows);
    else if (tensor->role == SLM_TENSOR_REL_KEY || tensor->role == SLM_TENSOR_REL_QUERY)
        *status = slm_hf_relative_read(s->relative, tensor, row, n_rows, out, err);
    else if (s->table != NULL && tensor->role == SLM_TENSOR_TOKEN_EMBD)
        *status = slm_hf_static_read(s->table, &s->st, row, n_rows, out, err);
    else if (slm_role_of_experts(tensor->role))
        *status = read_experts(s, tensor, row, n_rows, out, err);
    else if (tensor->cols == 0)
        *status = read_vector(s, tensor, row, n_rows, out, err);
    else
        *status = read_matrix(s, tensor, row, n_rows, out, err);
}

/* ---- DeBERTa's distances ---- */

/* A tensor that no role takes, as floats [rows * cols], malloc'ed; cols 0: a vector. */
static slm_status read_apart(hf_source *s, const char *name, uint32_t rows, uint32_t cols, float **out, slm_error *err)
{
    slm_found found;
    size_t n = (size_t) rows * (cols > 0 ? cols : 1);
    if (find_any(s, name, &found) == NULL)
        return slm_fail(err, SLM_FORMAT, "the model lacks the tensor %s", name);
    if (found.rows != rows || found.cols != cols || (unsigned) found.type >= SLM_TYPE_COUNT)
        return slm_fail(err, SLM_FORMAT, "tensor %s has the shape %llu x %llu, the model demands %u x %u", name,
                        (unsigned long long) found.rows, (unsigned long long) found.cols, rows, cols);
    slm_st_type type = found.type == SLM_TYPE_F16 ? SLM_ST_F16 : found.type == SLM_TYPE_BF16 ? SLM_ST_BF16 : SLM_ST_F32;
    *out = malloc(n * sizeof **out);
    if (*out == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (uint32_t r = 0; r < (cols > 0 ? rows : 1); r++)
        SLM_TRY(read_floats(s, found.file, type, found.offset + (uint64_t) r * cols * type_bytes(type), cols > 0 ? cols : rows,
                            *out + (size_t) r * cols, err));
    return SLM_OK;
}

/* The table of distances, normed. */
static slm_status take_distances(hf_source *s, slm_error *err)
{
    const slm_hparams *hp = &s->base.hparams;
    float *table = NULL, *w = NULL, *b = NULL;
    if (hp->relative_span == 0)
        return SLM_OK;
    slm_status status = read_apart(s, "encoder.rel_embeddings.weight", 2 * hp->relative_span, hp->n_embd, &table, err);
    if (status == SLM_OK)
        status = read_apart(s, "encoder.LayerNorm.weight", hp->n_embd, 0, &w, err);
    if (status == SLM_OK)
        status = read_apart(s, "encoder.LayerNorm.bias", hp->n_embd, 0, &b, err);
    for (uint32_t i = 0; status == SLM_OK && i < 2 * hp->relative_span; i++)
        slm_kernels_get()->layer_norm(table + (size_t) i * hp->n_embd, w, b, table + (size_t) i * hp->n_embd, hp->n_embd, hp->norm_eps);
    free(w);
    free(b);
    if (status == SLM_OK)
        status = slm_hf_relative_new(&s->base, table, &s->relative, err);
    if (status != SLM_OK)
        free(table);
    return status;
}

/* ---- name and licence ---- */

/* The name that the source gives itself, or none: an image is shared by all that load the same files, from whatever directory. */
static void take_name(hf_source *s)
{
    const char *name = slm_hf_string(s->config.json, "_name_or_path");
    const char *slash = name != NULL ? strrchr(name, '/') : NULL;
    snprintf(s->base.info.name, sizeof s->base.info.name, "%.127s", slash != NULL ? slash + 1 : name != NULL ? name : "");
}

/* A value of the front matter: one on its line, or a list on the lines that follow ("- en"), with commas between. */
static void take_field(const char *text, const char *end, const char *key, char *out, size_t size)
{
    const char *at = strstr(text, key);
    size_t n = 0;
    if (at == NULL || (end != NULL && at >= end))
        return;
    for (at += strlen(key); n + 1 < size;) {
        at += strspn(at, " \t\"'-[");
        size_t length = strcspn(at, " \t\r\n\"',]");
        if (length > 0)
            n += (size_t) snprintf(out + n, size - n, "%s%.*s", n > 0 ? ", " : "", (int) length, at);
        at += length + strspn(at + length, " \t\r\"',]");
        if (strncmp(at, "\n-", 2) == 0 && strncmp(at, "\n---", 4) != 0)
            at++;
        else if (*at == '\n' || *at == '\0')
            break;
    }
}

/* License and languages in the front matter of README.md; a missing or odd file only leaves them unknown. */
static void take_card(hf_source *s, int dir)
{
    char *text = NULL;
    size_t length;
    slm_error ignored;
    if (slm_hf_read_text(dir, "README.md", 4u << 20, true, &text, &length, &ignored) != SLM_OK || text == NULL)
        return;
    const char *end = strstr(text + (length > 3 ? 3 : 0), "\n---");
    if (strncmp(text, "---", 3) == 0) {
        take_field(text, end, "\nlicense:", s->base.info.licence, sizeof s->base.info.licence);
        take_field(text, end, "\nlanguage:", s->base.info.languages, sizeof s->base.info.languages);
    }
    free(text);
}

/* Finds the scales of an encoder's activations, and adds them to the tensors. The matrices that they go into are floats from here on. */
static slm_status smooth_encoder(hf_source *s, const volatile int *stop, slm_error *err)
{
    slm_tokenizer *tok = NULL;
    slm_source *b = &s->base;
    size_t floats = 2 * (size_t) b->hparams.n_layers * b->hparams.n_embd, n = b->n_tensors;
    SLM_TRY(slm_tokenizer_open(b->tokenizer, b->tokenizer_bytes, &tok, err));
    int32_t cls = slm_tokenizer_find(tok, "[CLS]", 5), sep = slm_tokenizer_find(tok, "[SEP]", 5);
    if (cls < 0 || sep < 0) {
        cls = slm_tokenizer_find(tok, "<s>", 3);
        sep = slm_tokenizer_find(tok, "</s>", 4);
    }
    slm_tokenizer_free(tok);
    SLM_TRY(slm_hf_smooth(b, cls, sep, stop, &s->scales, err));
    slm_source_tensor *grown = realloc(b->tensors, (n + 2 * (size_t) b->hparams.n_layers) * sizeof *grown);
    b->tensors = grown != NULL ? grown : b->tensors;
    s->inverse = malloc(floats * sizeof *s->inverse);
    if (grown == NULL || s->inverse == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (size_t i = 0; i < floats; i++)
        s->inverse[i] = 1.0f / s->scales[i];
    for (size_t i = 0; i < n; i++)
        if (scales_of(s, b->tensors[i].role, b->tensors[i].layer) != NULL)
            b->tensors[i].type = SLM_TYPE_F32;
    for (uint32_t i = 0; i < 2 * b->hparams.n_layers; i++)
        b->tensors[b->n_tensors++] = (slm_source_tensor){.role = i % 2 == 0 ? SLM_TENSOR_ATTN_IN_SCALE : SLM_TENSOR_FFN_IN_SCALE,
                                                         .layer = i / 2, .rows = b->hparams.n_embd, .type = SLM_TYPE_F32};
    return SLM_OK;
}

static bool will_quantize(const slm_import_options *options)
{
    int type = options->quantization != NULL ? slm_type_by_name(options->quantization) : -1; /* unknown names are refused later */
    return type >= 0 && slm_type_get((uint32_t) type) != NULL && !slm_type_get((uint32_t) type)->is_float;
}

/* Weights of the modules behind the pooling, each in a file of its own. */
static slm_status open_modules(hf_source *s, int dir, slm_error *err)
{
    char file[300], prefix[32];
    uint32_t own = slm_hf_config_number(&s->config, "embedding_length_out", 0) > 0; /* a projection before them, in the model's file */
    for (uint32_t i = 0; i < s->config.n_dense; i++) {
        snprintf(file, sizeof file, "%s/model.safetensors", s->config.dense_paths[i]);
        snprintf(prefix, sizeof prefix, "slm.dense.%u.", i + own);
        SLM_TRY(slm_safetensors_add(dir, file, prefix, &s->st, err));
        snprintf(prefix, sizeof prefix, "slm.dense.%u.linear.bias", i + own);
        if ((slm_safetensors_find(&s->st, prefix) != NULL) != s->config.dense_biased[i])
            return slm_fail(err, SLM_FORMAT, "file \"%s\" %s a bias, otherwise than its config.json says", file,
                            s->config.dense_biased[i] ? "lacks" : "has");
    }
    if (s->config.norm_path[0] == '\0')
        return SLM_OK;
    snprintf(file, sizeof file, "%s/model.safetensors", s->config.norm_path);
    return slm_safetensors_add(dir, file, "slm.norm.", &s->st, err);
}

/* The reference would put an adapter that stands beside the weights onto them. */
static slm_status refuse_adapter(int dir, slm_error *err)
{
    int fd;
    uint64_t bytes;
    SLM_TRY(slm_hf_open_file(dir, "adapter_config.json", true, &fd, &bytes, err));
    if (fd < 0)
        return SLM_OK;
    close(fd);
    slm_fail(err, SLM_UNSUPPORTED, "the model directory holds \"adapter_config.json\" beside the model");
    return slm_hint(err, "Merge the adapter into the model (merge_and_unload), or move it to a directory of its own and name that to "
                         "slm_load_adapter.");
}

/* Everything but the vocabulary and the weights, of a directory of the gliner library. */
static slm_status open_gliner(hf_source *s, int dir, slm_error *err)
{
    slm_hf_json layers;
    SLM_TRY(slm_hf_gliner_layers(s->gliner, &layers, err));
    s->config_json = json_incref(layers.object);
    SLM_TRY(slm_hf_config_read(layers, false, &s->config, err));
    SLM_TRY(slm_hf_sentence_read(dir, NULL, &s->config, &s->base.info, err));
    SLM_TRY(slm_hf_gliner_take(dir, s->gliner, &s->config, err));
    return slm_safetensors_open(dir, &s->st, err);
}

/* Everything but the vocabulary and the weights; modules: of modules.json, or NULL. */
static slm_status open_described(hf_source *s, int dir, json_t *modules, slm_error *err)
{
    SLM_TRY(slm_hf_sentence_check(modules, err));
    SLM_TRY(refuse_adapter(dir, err));
    SLM_TRY(slm_hf_gliner_load(dir, &s->gliner, err));
    if (s->gliner != NULL)
        return open_gliner(s, dir, err);
    SLM_TRY(slm_hf_load(dir, "config.json", 4u << 20, slm_hf_static_is(NULL, modules), &s->config_json, err));
    if (slm_hf_static_is(s->config_json, modules))
        SLM_TRY(slm_hf_static_open(dir, modules, &s->config_json, &s->st, &s->table, err));
    SLM_TRY(slm_hf_config_read((slm_hf_json){s->config_json, "config.json"}, modules != NULL, &s->config, err));
    SLM_TRY(slm_hf_sentence_read(dir, modules, &s->config, &s->base.info, err));
    if (s->table == NULL)
        SLM_TRY(slm_safetensors_open(dir, &s->st, err));
    else if (slm_hf_static_drops(s->table) && (s->config.n_dense > 0 || s->config.norm_path[0] != '\0')) /* a mean that is no sum */
        return slm_fail(err, SLM_UNSUPPORTED, "\"modules.json\" has modules behind a table whose unknown token does not count, which is "
                                              "not supported");
    return open_modules(s, dir, err);
}

static slm_status open_head(hf_source *s, int dir, slm_error *err)
{
    json_t *modules = NULL;
    SLM_TRY(slm_hf_load(dir, "modules.json", 1u << 20, true, &modules, err));
    slm_status status = open_described(s, dir, modules, err);
    json_decref(modules);
    SLM_TRY(status);
    return bind_tensors(s, err);
}

static void warn(const slm_import_options *options, const char *message, const char *hint)
{
    slm_warnings *w = options->warnings;
    if (w != NULL && w->n < SLM_MAX_WARNINGS) {
        slm_fail(&w->warnings[w->n], SLM_UNSUPPORTED, "%s", message);
        slm_hint(&w->warnings[w->n], "%s", hint);
    }
    if (w != NULL)
        w->n++;
}

static slm_status open_source(hf_source *s, int dir, const slm_import_options *options, const volatile int *stop, slm_error *err)
{
    SLM_TRY(open_head(s, dir, err));
    slm_hf_reading reading = {s->config.lowers, s->table != NULL, s->table != NULL ? slm_hf_static_folder(s->table) : ""};
    SLM_TRY(slm_hf_vocab_build(dir, s->config_json, &s->base.hparams, reading, options, stop, &s->base.tokenizer,
                               &s->base.tokenizer_bytes, err));
    SLM_TRY(slm_hf_gliclass_marks(&s->config, s->base.tokenizer, s->base.tokenizer_bytes, &s->base.hparams, err));
    slm_model_info *info = &s->base.info;
    snprintf(info->family, sizeof info->family, "%s", s->base.hparams.family);
    info->can_generate = s->base.hparams.causal;
    bool head = s->base.hparams.pooling == SLM_POOL_RANK && !s->base.hparams.tags;
    info->can_joint = s->base.hparams.joint != SLM_JOINT_NONE;
    info->can_tag = s->base.hparams.tags != 0 && !info->can_joint;
    info->can_rerank = head && s->base.hparams.n_labels == 1;
    info->can_classify = head && !info->can_rerank;
    info->can_find = s->base.hparams.spans != SLM_SPANS_NONE;
    info->can_embed = slm_hparams_embeds(&s->base.hparams);
    info->head_kind = s->config.head_kind;
    memcpy(info->labels, s->config.labels, sizeof info->labels);
    if (s->config.other_similarity)
        warn(options, "the model compares vectors otherwise than by their cosine",
             "Here vectors have length 1, so that their cosine is what compares them; ranks may differ from those of "
             "sentence-transformers.");
    if (s->config.nested)
        warn(options, "the model reads texts only here", "What it has for pictures was left out.");
    char hint[400];
    if (s->config.kind->tasks && slm_hf_tasks_named(dir, hint, sizeof hint))
        warn(options, "the model reads texts as it did before it learned its tasks, until an adapter is named", hint);
    if (info->can_joint)
        snprintf(info->recognized, sizeof info->recognized, "directory, model_type GLiClass, encoder %.40s", s->config.kind->model_type);
    else
        snprintf(info->recognized, sizeof info->recognized, "directory, model_type %.40s, architecture %.60s%s",
                 s->config.kind->model_type, s->gliner != NULL ? "GLiNER" : slm_hf_architecture(&s->config),
                 s->config.modules ? ", modules.json" : "");
    take_name(s);
    take_card(s, dir);
    s->base.read_rows = read_rows;
    s->base.close = close_source;
    SLM_TRY(take_distances(s, err));
    return slm_hf_can_smooth(&s->base.hparams) && will_quantize(options) ? smooth_encoder(s, stop, err) : SLM_OK;
}

slm_status slm_hf_look(const char *path, uint64_t *bytes, slm_error *err)
{
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return slm_fail_os(err, errno, "could not open directory \"%s\"", path);
    hf_source *s = calloc(1, sizeof *s);
    slm_status status = s == NULL ? slm_fail(err, SLM_NOMEM, "out of memory") : open_head(s, dir, err);
    close(dir);
    if (status == SLM_OK)
        *bytes = s->st.bytes;
    close_source(s != NULL ? &s->base : NULL);
    return status;
}

slm_status slm_hf_open(const char *path, const slm_import_options *options, const volatile int *stop, slm_source **out, slm_error *err)
{
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return slm_fail_os(err, errno, "could not open directory \"%s\"", path);
    hf_source *s = calloc(1, sizeof *s);
    slm_status status = s == NULL ? slm_fail(err, SLM_NOMEM, "out of memory") : open_source(s, dir, options, stop, err);
    close(dir);
    if (status != SLM_OK) {
        close_source(s != NULL ? &s->base : NULL);
        return status;
    }
    *out = &s->base;
    return SLM_OK;
}
