/*
 * The table of a static model: which row each token has, by what it is multiplied, and which token does not count.
 *
 * Invariant: mapping and weights have an entry for each token, every entry of mapping is a row of the table, and the table's bytes lie
 * inside its file as they were at open.
 */
#include "engine/import/hf/static.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/math.h"
#include "engine/import/hf/json.h"
#include "engine/import/hf/sentence.h"
#include "engine/import/hf/vocab.h"

#define MAX_TOKENS ((1u << 21) - 1)
#define MAX_WIDTH 65536u
#define MAX_LENGTH 32768u    /* where the source knows no limit */
#define DEFAULT_LENGTH 512u  /* model2vec's */

struct slm_hf_static {
    char folder[208];
    slm_st_tensor table;  /* [n_rows, width] */
    uint32_t n_rows, width, n_tokens;
    uint32_t *mapping;    /* [n_tokens]; NULL: token i has row i */
    float *weights;       /* [n_tokens]; NULL: all 1 */
    float *rows;          /* [n_rows, width] the table, where mapping leads anywhere in it; NULL: it is read as it is asked for */
    json_int_t unknown;   /* the token that does not count; -1: all do */
};

void slm_hf_static_free(slm_hf_static *s)
{
    if (s == NULL)
        return;
    free(s->mapping);
    free(s->weights);
    free(s->rows);
    free(s);
}

uint32_t slm_hf_static_rows(const slm_hf_static *s)
{
    return s->n_tokens + 1;
}

uint32_t slm_hf_static_width(const slm_hf_static *s)
{
    return s->width;
}

bool slm_hf_static_drops(const slm_hf_static *s)
{
    return s->unknown >= 0;
}

const char *slm_hf_static_folder(const slm_hf_static *s)
{
    return s->folder;
}

/* ---- which it is ---- */

static bool of_model2vec(const json_t *config)
{
    const char *type = json_string_value(json_object_get(config, "model_type"));
    return type != NULL && strcmp(type, "model2vec") == 0;
}

bool slm_hf_static_is(const json_t *config, const json_t *modules)
{
    const char *type = json_string_value(json_object_get(json_array_get(modules, 0), "type"));
    const char *kind = type != NULL ? strrchr(type, '.') : NULL;
    return config != NULL ? of_model2vec(config) : kind != NULL && strcmp(kind, ".StaticEmbedding") == 0;
}

/* The folder of the first module. */
static slm_status take_folder(slm_hf_static *s, const json_t *modules, slm_error *err)
{
    const char *path = slm_hf_module_folder(json_array_get(modules, 0));
    if (path == NULL)
        return slm_fail(err, SLM_FORMAT, "\"modules.json\" has a module without type or with a path outside of the directory");
    size_t n = strlen(path);
    if (n > 0 && strcmp(path, ".") != 0)
        snprintf(s->folder, sizeof s->folder, "%s%s", path, path[n - 1] == '/' ? "" : "/");
    return SLM_OK;
}

/* ---- numbers ---- */

static uint32_t bytes_of(const char *dtype)
{
    static const struct {
        const char *name;
        uint32_t bytes;
    } known[] = {{"F32", 4}, {"F16", 2}, {"BF16", 2}, {"F64", 8}, {"I8", 1}, {"I32", 4}, {"I64", 8}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(known[i].name, dtype) == 0)
            return known[i].bytes;
    return 0;
}

static double number_of(const char *dtype, const void *p)
{
    union {
        double f64;
        float f32;
        int64_t i64;
        int32_t i32;
        uint16_t half;
        int8_t i8;
    } v = {0};
    memcpy(&v, p, bytes_of(dtype));
    if (dtype[0] == 'I')
        return dtype[1] == '8' ? v.i8 : dtype[1] == '3' ? v.i32 : (double) v.i64;
    if (dtype[0] == 'B')
        return (double) slm_bf16_to_f32(v.half);
    return dtype[1] == '6' ? v.f64 : dtype[1] == '3' ? (double) v.f32 : (double) slm_f16_to_f32(v.half);
}

/* Numbers [first, first + n) of a tensor. */
static slm_status read_numbers(const slm_safetensors *st, const slm_st_tensor *t, uint64_t first, size_t n, double *out, slm_error *err)
{
    unsigned char piece[4096];
    const char *file = st->file_names[t->file];
    uint32_t size = bytes_of(t->dtype);
    for (size_t at = 0, k; at < n; at += k) {
        k = n - at < sizeof piece / size ? n - at : sizeof piece / size;
        SLM_TRY(slm_hf_pread(st->fds[t->file], file, t->begin + (first + at) * size, piece, k * size, err));
        for (size_t i = 0; i < k; i++) {
            out[at + i] = number_of(t->dtype, piece + i * size);
            if (!isfinite(out[at + i]))
                return slm_fail(err, SLM_FORMAT, "file \"%s\" holds a weight that is not a finite number", file);
        }
    }
    return SLM_OK;
}

/* ---- the tensors ---- */

static slm_status bad_shape(const slm_safetensors *st, const slm_st_tensor *t, slm_error *err)
{
    return slm_fail(err, SLM_FORMAT, "tensor \"%s\" in \"%s\" has a shape or type (%s) that a model of this type cannot have", t->name,
                    st->file_names[t->file], t->dtype);
}

/* All of a tensor with one number for each token, malloc'ed; NULL where there is none. */
static slm_status take_list(const slm_safetensors *st, const slm_st_tensor *t, uint32_t n_tokens, double **out, slm_error *err)
{
    if (t == NULL)
        return SLM_OK;
    if (t->n_dims != 1 || t->dims[0] != n_tokens || bytes_of(t->dtype) == 0)
        return bad_shape(st, t, err);
    *out = malloc(n_tokens * sizeof **out);
    return *out != NULL ? read_numbers(st, t, 0, n_tokens, *out, err) : slm_fail(err, SLM_NOMEM, "out of memory");
}

static slm_status take_mapping(slm_hf_static *s, const slm_safetensors *st, const slm_st_tensor *t, const double *numbers, slm_error *err)
{
    if (t->dtype[0] != 'I')
        return bad_shape(st, t, err);
    s->mapping = malloc(s->n_tokens * sizeof *s->mapping);
    if (s->mapping == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (uint32_t i = 0; i < s->n_tokens; i++) {
        if (!(numbers[i] >= 0 && numbers[i] < s->n_rows))
            return slm_fail(err, SLM_FORMAT, "\"mapping\" in \"%s\" leads token %u to row %.0f of %u", st->file_names[t->file], i,
                            numbers[i], s->n_rows);
        s->mapping[i] = (uint32_t) numbers[i];
    }
    return SLM_OK;
}

/* Row `row` of the table, times `weight`. */
static slm_status read_row(const slm_hf_static *s, const slm_safetensors *st, uint64_t row, double weight, float *out, slm_error *err)
{
    double piece[256];
    for (uint32_t at = 0, k; at < s->width; at += k) {
        k = s->width - at < 256 ? s->width - at : 256;
        SLM_TRY(read_numbers(st, &s->table, row * s->width + at, k, piece, err));
        for (uint32_t i = 0; i < k; i++) {
            out[at + i] = (float) (piece[i] * weight);
            if (!isfinite(out[at + i]))
                return slm_fail(err, SLM_FORMAT, "a weighted vector of \"%s\" is not finite", st->file_names[s->table.file]);
        }
    }
    return SLM_OK;
}

static slm_status take_table(slm_hf_static *s, const slm_safetensors *st, bool model2vec, slm_error *err)
{
    const slm_st_tensor *table = slm_safetensors_find(st, "embeddings"), *mapping = slm_safetensors_find(st, "mapping");
    const slm_st_tensor *weights = slm_safetensors_find(st, "weights");
    bool plain = !model2vec && slm_safetensors_find(st, "embedding.weight") != NULL;
    if (plain)
        table = slm_safetensors_find(st, "embedding.weight");
    if (table == NULL)
        return slm_fail(err, SLM_FORMAT, "the model lacks the tensor embeddings");
    for (size_t i = 0; i < st->n_tensors; i++)
        if (&st->tensors[i] != table && (plain || (&st->tensors[i] != mapping && &st->tensors[i] != weights)))
            return slm_fail(err, SLM_UNSUPPORTED, "tensor \"%s\" in \"%s\" is not known in models of the family static",
                            st->tensors[i].name, st->file_names[st->tensors[i].file]);
    if (table->n_dims != 2 || table->dims[0] < 1 || table->dims[0] > MAX_TOKENS || table->dims[1] < 1 || table->dims[1] > MAX_WIDTH ||
        bytes_of(table->dtype) == 0 || (mapping != NULL && (mapping->n_dims != 1 || mapping->dims[0] < 1 || mapping->dims[0] > MAX_TOKENS)))
        return bad_shape(st, table, err);
    s->table = *table;
    s->n_rows = (uint32_t) table->dims[0];
    s->width = (uint32_t) table->dims[1];
    s->n_tokens = mapping != NULL ? (uint32_t) mapping->dims[0] : s->n_rows;

    double *rows = NULL, *factors = NULL;
    slm_status status = take_list(st, mapping, s->n_tokens, &rows, err);
    if (status == SLM_OK && rows != NULL)
        status = take_mapping(s, st, mapping, rows, err);
    if (status == SLM_OK)
        status = take_list(st, weights, s->n_tokens, &factors, err);
    if (status == SLM_OK && factors != NULL && (s->weights = malloc(s->n_tokens * sizeof *s->weights)) == NULL)
        status = slm_fail(err, SLM_NOMEM, "out of memory");
    for (uint32_t i = 0; status == SLM_OK && factors != NULL && i < s->n_tokens; i++)
        s->weights[i] = (float) factors[i];
    if (status == SLM_OK && s->mapping != NULL && (s->rows = malloc((size_t) s->n_rows * s->width * sizeof *s->rows)) == NULL)
        status = slm_fail(err, SLM_NOMEM, "out of memory");
    for (uint32_t i = 0; status == SLM_OK && s->rows != NULL && i < s->n_rows; i++)
        status = read_row(s, st, i, 1, s->rows + (size_t) i * s->width, err);
    free(rows);
    free(factors);
    return status;
}

/* ---- what the tokenizer says ---- */

/* The unknown token of its model, -1 where it has none. */
static json_int_t unknown_of(const json_t *tokenizer)
{
    json_t *model = json_object_get(tokenizer, "model"), *added = json_object_get(tokenizer, "added_tokens");
    const char *name = json_string_value(json_object_get(model, "unk_token"));
    json_t *id = name != NULL ? json_object_get(json_object_get(model, "vocab"), name) : json_object_get(model, "unk_id");
    for (size_t i = 0; name != NULL && i < json_array_size(added); i++) {
        const char *content = json_string_value(json_object_get(json_array_get(added, i), "content"));
        if (content != NULL && strcmp(content, name) == 0)
            id = json_object_get(json_array_get(added, i), "id");
    }
    return json_is_integer(id) ? json_integer_value(id) : -1;
}

/* How many tokens of a text are read: model2vec says it in its configuration, sentence-transformers in the tokenizer. */
static slm_status length_of(const json_t *config, const json_t *tokenizer, bool model2vec, uint32_t *length, slm_error *err)
{
    slm_hf_json said = {model2vec ? (json_t *) config : json_object_get(tokenizer, "truncation"),
                        model2vec ? "config.json" : "tokenizer.json"};
    const char *direction = slm_hf_string(said, "direction");
    bool unsaid = model2vec && json_object_get(config, "max_length") == NULL;
    *length = unsaid ? DEFAULT_LENGTH : 1u << 24;
    if (!model2vec && direction != NULL && strcmp(direction, "Right") != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "\"direction\" of \"truncation\" in \"tokenizer.json\" is \"%.40s\", which is not supported",
                        direction);
    SLM_TRY(slm_hf_u32(said, "max_length", 1, 1u << 24, length, err));
    *length = *length < MAX_LENGTH ? *length : MAX_LENGTH;
    return SLM_OK;
}

static slm_status put(json_t *config, const char *key, uint32_t value, slm_error *err)
{
    return json_object_set_new(config, key, json_integer(value)) == 0 ? SLM_OK : slm_fail(err, SLM_NOMEM, "out of memory");
}

static slm_status open_parts(slm_hf_static *s, int dir, const json_t *modules, json_t **config, slm_safetensors *st, slm_error *err)
{
    char file[300];
    json_t *tokenizer = NULL;
    bool model2vec = *config != NULL;
    uint32_t length = 0;
    if (!model2vec) {
        SLM_TRY(take_folder(s, modules, err));
        *config = json_pack("{s:s}", "model_type", "model2vec");
    }
    if (*config == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    snprintf(file, sizeof file, "%smodel.safetensors", s->folder);
    SLM_TRY(slm_safetensors_open_file(dir, file, st, err));
    SLM_TRY(take_table(s, st, model2vec, err));
    SLM_TRY(slm_hf_tokenizer_load(dir, s->folder, false, &tokenizer, err));
    s->unknown = model2vec ? unknown_of(tokenizer) : -1;
    slm_status status = length_of(*config, tokenizer, model2vec, &length, err);
    json_decref(tokenizer);
    SLM_TRY(status);
    SLM_TRY(put(*config, "vocab_size", s->n_tokens + 1, err));
    SLM_TRY(put(*config, "hidden_size", s->width, err));
    return put(*config, "max_length", length, err);
}

slm_status slm_hf_static_open(int dir, const json_t *modules, json_t **config, slm_safetensors *st, slm_hf_static **out, slm_error *err)
{
    slm_hf_static *s = calloc(1, sizeof *s);
    slm_status status = s != NULL ? open_parts(s, dir, modules, config, st, err) : slm_fail(err, SLM_NOMEM, "out of memory");
    if (status != SLM_OK) {
        slm_hf_static_free(s);
        return status;
    }
    *out = s;
    return SLM_OK;
}

slm_status slm_hf_static_read(const slm_hf_static *s, const slm_safetensors *st, uint32_t first, uint32_t n, float *out, slm_error *err)
{
    for (uint32_t i = first; i < first + n; i++, out += s->width) {
        if ((json_int_t) i == s->unknown || i == s->n_tokens) {
            memset(out, 0, s->width * sizeof *out);
            continue;
        }
        uint32_t row = s->mapping != NULL ? s->mapping[i] : i;
        float weight = s->weights != NULL ? s->weights[i] : 1.0f;
        if (s->rows == NULL)
            SLM_TRY(read_row(s, st, row, (double) weight, out, err));
        for (uint32_t c = 0; s->rows != NULL && c < s->width; c++)
            out[c] = s->rows[(size_t) row * s->width + c] * weight;
    }
    return SLM_OK;
}
