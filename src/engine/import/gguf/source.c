/*
 * A GGUF file as a source of weights: metadata to hyper-parameters by the family, tensors by name, vocabulary to a tokenizer
 * blob.
 *
 * Every tensor of the file must have a role: a bias that the forward pass does not know would otherwise be dropped in silence.
 * Exceptions are RoPE factors, which become hyper-parameters, and a head in a file whose family ties it.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/import/gguf/gguf.h"
#include "engine/import/gguf/parts.h"

typedef struct gguf_source {
    slm_source base; /* first: a slm_source pointer is one of these */
    slm_gguf_parts parts;
    slm_gguf *gguf;  /* the first part, which has the keys */
    char architecture[64];
    float factors[SLM_MAX_ROT / 2], factors_long[SLM_MAX_ROT / 2];
    uint32_t n_factors, n_factors_long;
} gguf_source;

/* ------------------------------------------------------------------ metadata for the family */

/* "architecture.key", or key itself when it has a prefix of its own. */
static const slm_gguf_value *find_key(const gguf_source *s, const char *key)
{
    char full[192];
    if (strncmp(key, "tokenizer.", 10) == 0 || strncmp(key, "general.", 8) == 0)
        return slm_gguf_find(s->gguf, key);
    snprintf(full, sizeof full, "%s.%s", s->architecture, key);
    return slm_gguf_find(s->gguf, full);
}

static bool meta_number(void *arg, const char *key, uint32_t index, double *out)
{
    const gguf_source *s = arg;
    const slm_gguf_value *v = find_key(s, key);
    if (v == NULL || (v->is_array && index >= v->n))
        return false;
    if (!slm_gguf_number(s->gguf, v, v->is_array ? index : 0, out))
        *out = NAN; /* there, but no number: the range check refuses it */
    return true;
}

static bool meta_string(void *arg, const char *key, char *out, size_t size)
{
    const gguf_source *s = arg;
    const slm_gguf_value *v = find_key(s, key);
    char *text = NULL;
    if (v == NULL || slm_gguf_string(s->gguf, v, &text, NULL) != SLM_OK)
        return false;
    snprintf(out, size, "%s", text);
    slm_clean_text(out);
    free(text);
    return true;
}

static slm_status read_factors(gguf_source *s, const char *name, float *out, uint32_t *n, slm_error *err)
{
    const slm_gguf_placed *placed = slm_gguf_parts_find(&s->parts, name);
    if (placed == NULL)
        return SLM_OK;
    const slm_gguf_tensor *t = placed->tensor;
    if (t->type != SLM_TYPE_F32 || t->dims[1] != 1 || t->dims[2] != 1 || t->dims[3] != 1 || t->dims[0] > SLM_MAX_ROT / 2)
        return slm_fail(err, SLM_FORMAT, "tensor %s has the wrong shape or type", name);
    SLM_TRY(slm_gguf_read_tensor(s->parts.part[placed->part], t, 0, out, (size_t) t->bytes, err));
    *n = (uint32_t) t->dims[0];
    return SLM_OK;
}

/* Parameters of RoPE's scaling that are read (model/family.c); another one belongs to a kind of scaling that is not done here. */
static slm_status check_rope_keys(const gguf_source *s, slm_error *err)
{
    static const char *const known[] = {"type", "factor", "attn_factor", "original_context_length", "finetuned"};
    char prefix[96];
    int n = snprintf(prefix, sizeof prefix, "%s.rope.scaling.", s->architecture);
    for (size_t i = 0; i < slm_gguf_n_values(s->gguf); i++) {
        const char *key = slm_gguf_value_at(s->gguf, i)->key;
        bool good = strncmp(key, prefix, (size_t) n) != 0;
        for (size_t k = 0; !good && k < sizeof known / sizeof known[0]; k++)
            good = strcmp(key + n, known[k]) == 0 && (k > 0 || slm_gguf_value_at(s->gguf, i)->type == SLM_GGUF_STRING);
        if (!good)
            return slm_fail(err, SLM_UNSUPPORTED, "RoPE scaling with %s is not supported", key);
    }
    return SLM_OK;
}

/* What is read of a decision head (arch/decide.c); another key says of it what is not done here. */
static slm_status check_decision_keys(const gguf_source *s, slm_error *err)
{
    static const char *const known[] = {"type", "block_count", "max_head_tokens"};
    static const char *const kinds[] = {"choice", "score", "noul"}, *const sizes[] = {"", ".2", ".3_5", ".6_10", ".11"};
    char prefix[96], name[64];
    int n = snprintf(prefix, sizeof prefix, "%s.decision.", s->architecture);
    for (size_t i = 0; i < slm_gguf_n_values(s->gguf); i++) {
        const char *key = slm_gguf_value_at(s->gguf, i)->key;
        bool good = strncmp(key, prefix, (size_t) n) != 0;
        for (size_t k = 0; !good && k < sizeof known / sizeof known[0]; k++)
            good = strcmp(key + n, known[k]) == 0 && (k > 0 || slm_gguf_value_at(s->gguf, i)->type == SLM_GGUF_STRING);
        for (size_t k = 0; !good && k < 15; k++) {
            snprintf(name, sizeof name, "temperature.%s%s", kinds[k % 3], sizes[k / 3]);
            good = strcmp(key + n, name) == 0;
        }
        if (!good)
            return slm_fail(err, SLM_UNSUPPORTED, "a decision head with %s is not supported", key);
    }
    return SLM_OK;
}

static slm_status read_hparams(gguf_source *s, slm_error *err)
{
    const slm_gguf_placed *embd = slm_gguf_parts_find(&s->parts, "token_embd.weight");
    if (embd == NULL)
        return slm_fail(err, SLM_FORMAT, "the model lacks the tensor token_embd.weight");
    SLM_TRY(check_rope_keys(s, err));
    SLM_TRY(check_decision_keys(s, err));
    SLM_TRY(read_factors(s, "rope_freqs.weight", s->factors, &s->n_factors, err));
    if (s->n_factors == 0)
        SLM_TRY(read_factors(s, "rope_factors_short.weight", s->factors, &s->n_factors, err));
    SLM_TRY(read_factors(s, "rope_factors_long.weight", s->factors_long, &s->n_factors_long, err));
    slm_meta meta = {.architecture = s->architecture, .gguf = true, .n_vocab = (uint32_t) embd->tensor->dims[1],
                     .has_output = slm_gguf_parts_find(&s->parts, "output.weight") != NULL,
                     .factors = s->n_factors ? s->factors : NULL, .n_factors = s->n_factors,
                     .factors_long = s->n_factors_long ? s->factors_long : NULL, .n_factors_long = s->n_factors_long,
                     .number = meta_number, .string = meta_string, .arg = s};
    return slm_family_read(&meta, &s->base.hparams, err);
}

/* ------------------------------------------------------------------ tensors */

static bool find_tensor(void *arg, slm_tensor_role role, const char *name, slm_found *out)
{
    const slm_gguf_placed *placed = slm_gguf_parts_find(&((gguf_source *) arg)->parts, name);
    if (placed == NULL)
        return false;
    const slm_gguf_tensor *t = placed->tensor;
    bool vector = t->n_dims == 1;
    *out = (slm_found){.rows = vector ? t->dims[0] : t->dims[1], .cols = vector ? 0 : t->dims[0], .type = t->type, .offset = t->offset};
    if (t->n_dims == 3 && slm_role_of_experts(role)) {
        out->rows = t->dims[1] * t->dims[2]; /* experts, one below the other */
        return true;
    }
    if (vector && role == SLM_TENSOR_CLS_OUT) { /* a matrix of one row: its writers leave the 1 out */
        out->rows = 1;
        out->cols = t->dims[0];
    }
    if (t->n_dims == 2 && role == SLM_TENSOR_CONV_KERNEL) { /* columns one behind the other */
        out->rows = t->dims[0] * t->dims[1];
        out->cols = 0;
    }
    if (t->dims[2] != 1 || t->dims[3] != 1)
        out->rows = out->cols = 0; /* no model has such a shape: refused by name */
    return true;
}

static bool is_rope(const char *name)
{
    return strcmp(name, "rope_freqs.weight") == 0 || strcmp(name, "rope_factors_short.weight") == 0 ||
           strcmp(name, "rope_factors_long.weight") == 0;
}

static void bound_name(const gguf_source *s, const slm_source_tensor *t, char *out, size_t size)
{
    const slm_family *family = slm_family_by_name(s->base.hparams.family);
    slm_family_tensor_name(family, t->role, false, slm_family_name_layer(family, t->role, t->layer), out, size);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *) a, *(char *const *) b);
}

/* Refuses a file with tensors that no role claims.  All names that were bound, sorted, are walked beside the file's. */
static slm_status check_leftovers(const gguf_source *s, slm_error *err)
{
    size_t n = s->base.n_tensors, at = 0;
    char(*names)[SLM_GGUF_MAX_NAME + 1] = calloc(n + 1, sizeof *names);
    char **sorted = calloc(n + 1, sizeof *sorted);
    slm_status status = names == NULL || sorted == NULL ? slm_fail(err, SLM_NOMEM, "out of memory") : SLM_OK;
    for (size_t i = 0; status == SLM_OK && i < n; i++) {
        bound_name(s, &s->base.tensors[i], names[i], sizeof *names);
        sorted[i] = names[i];
    }
    if (status == SLM_OK)
        qsort(sorted, n, sizeof *sorted, by_text);
    for (size_t i = 0; status == SLM_OK && i < s->parts.n_tensors; i++) {
        const char *name = s->parts.tensors[i].tensor->name;
        bool bound = false;
        for (; at < n && strcmp(sorted[at], name) == 0; at++) /* by two roles, maybe */
            bound = true;
        if (!bound && !is_rope(name) && !slm_family_unread(&s->base.hparams, false, name))
            status = slm_fail(err, SLM_UNSUPPORTED, "the file holds the tensor %s, which a %s model does not have", name,
                              s->base.hparams.family);
    }
    free(sorted);
    free(names);
    return status;
}

static void read_rows(slm_source *source, const slm_source_tensor *t, uint32_t row, uint32_t n_rows, void *out, slm_status *status,
                      slm_error *err)
{
    char name[SLM_GGUF_MAX_NAME + 1];
    gguf_source *s = (gguf_source *) source;
    const slm_type_info *type = slm_type_get(t->type);
    bound_name(s, t, name, sizeof name);
    const slm_gguf_placed *g = slm_gguf_parts_find(&s->parts, name);
    uint64_t per_row = (uint64_t) (t->cols ? t->cols : 1) / (t->cols ? type->block_weights : 1) * type->block_bytes;
    if (g == NULL)
        *status = slm_fail(err, SLM_INTERNAL, "no tensor %s", name);
    else
        *status = slm_gguf_read_tensor(s->parts.part[g->part], g->tensor, row * per_row, out, (size_t) (n_rows * per_row), err);
}

static void close_source(slm_source *source)
{
    gguf_source *s = (gguf_source *) source;
    if (s == NULL)
        return;
    slm_gguf_parts_close(&s->parts);
    free(s->base.tensors);
    free(s->base.tokenizer);
    free(s);
}

/* Everything but the vocabulary and the weights. */
static slm_status fill_head(gguf_source *s, const char *path, slm_error *err)
{
    SLM_TRY(slm_gguf_parts_open(path, &s->parts, err));
    s->gguf = s->parts.part[0];
    if (!meta_string(s, "general.architecture", s->architecture, sizeof s->architecture))
        return slm_fail(err, SLM_FORMAT, "the file has no general.architecture");
    char type[32] = "model";
    (void) meta_string(s, "general.type", type, sizeof type);
    if (strcmp(type, "model") != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "the file holds a \"%s\", not a model", type);
    SLM_TRY(read_hparams(s, err));
    SLM_TRY(slm_family_bind(&s->base.hparams, false, find_tensor, s, &s->base.tensors, &s->base.n_tensors, err));
    SLM_TRY(check_leftovers(s, err));
    (void) meta_string(s, "general.name", s->base.info.name, sizeof s->base.info.name);
    (void) meta_string(s, "general.license", s->base.info.licence, sizeof s->base.info.licence);
    snprintf(s->base.info.recognized, sizeof s->base.info.recognized, "GGUF, general.architecture %s", s->architecture);
    return SLM_OK;
}

static slm_status fill_source(gguf_source *s, const char *path, const slm_import_options *options, const volatile int *stop,
                              slm_error *err)
{
    SLM_TRY(fill_head(s, path, err));
    return slm_gguf_tokenizer(s->gguf, options, s->base.hparams.n_vocab, stop, &s->base.tokenizer, &s->base.tokenizer_bytes, err);
}

slm_status slm_gguf_look(const char *path, uint64_t *bytes, slm_error *err)
{
    gguf_source *s = calloc(1, sizeof *s);
    if (s == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    slm_status status = fill_head(s, path, err);
    if (status == SLM_OK)
        *bytes = s->parts.bytes;
    close_source(&s->base);
    return status;
}

slm_status slm_gguf_source(const char *path, const slm_import_options *options, const volatile int *stop, slm_source **out,
                           slm_error *err)
{
    gguf_source *s = calloc(1, sizeof *s);
    if (s == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    s->base.read_rows = read_rows;
    s->base.close = close_source;
    slm_status status = fill_source(s, path, options, stop, err);
    if (status != SLM_OK) {
        close_source(&s->base);
        return status;
    }
    *out = &s->base;
    return SLM_OK;
}
