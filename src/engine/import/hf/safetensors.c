/*
 * The safetensors reader: header validation, shards, look-up by name.
 *
 * Invariant: after slm_safetensors_open every tensor's byte range lies inside its file as it was at open, equals its shape times its
 * type's size, and names are unique over all shards.  Data is read later, by pread.
 */
#include "engine/import/hf/safetensors.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/import/hf/json.h"

static const struct {
    const char *name;
    uint8_t bytes;
    slm_st_type type;
} dtypes[] = {
    {"F32", 4, SLM_ST_F32},   {"F16", 2, SLM_ST_F16},   {"BF16", 2, SLM_ST_BF16}, {"F64", 8, SLM_ST_OTHER}, {"I64", 8, SLM_ST_OTHER},
    {"I32", 4, SLM_ST_OTHER}, {"I16", 2, SLM_ST_OTHER}, {"I8", 1, SLM_ST_OTHER},  {"U64", 8, SLM_ST_OTHER}, {"U32", 4, SLM_ST_OTHER},
    {"U16", 2, SLM_ST_OTHER}, {"U8", 1, SLM_ST_OTHER},  {"BOOL", 1, SLM_ST_OTHER}, {"F8_E4M3", 1, SLM_ST_OTHER},
    {"F8_E5M2", 1, SLM_ST_OTHER},
};

static slm_status read_offsets(const char *name, const char *file, json_t *entry, uint64_t data_bytes, slm_st_tensor *t, slm_error *err)
{
    json_t *offsets = json_object_get(entry, "data_offsets");
    json_t *b = json_array_get(offsets, 0), *e = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(b) || !json_is_integer(e))
        return slm_fail(err, SLM_FORMAT, "tensor \"%s\" in \"%s\" has no data_offsets [begin, end]", name, file);
    json_int_t begin = json_integer_value(b), end = json_integer_value(e);
    if (begin < 0 || end < begin || (uint64_t) end > data_bytes)
        return slm_fail(err, SLM_FORMAT, "tensor \"%s\" lies outside of file \"%s\"", name, file);
    t->begin = (uint64_t) begin;
    t->end = (uint64_t) end;
    return SLM_OK;
}

/* One entry of the header; begin and end are relative to the data. */
static slm_status read_entry(const char *name, const char *file, json_t *entry, uint64_t data_bytes, slm_st_tensor *t, slm_error *err)
{
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    json_t *shape = json_object_get(entry, "shape");
    uint64_t bytes = 0;
    if (dtype == NULL || !json_is_array(shape) || json_array_size(shape) > SLM_ST_MAX_DIMS)
        return slm_fail(err, SLM_FORMAT, "tensor \"%s\" in \"%s\" lacks a dtype or a shape of at most %d dimensions", name, file,
                        SLM_ST_MAX_DIMS);
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (strcmp(dtypes[i].name, dtype) == 0) {
            bytes = dtypes[i].bytes;
            t->type = dtypes[i].type;
            t->dtype = dtypes[i].name;
        }
    if (bytes == 0)
        return slm_fail(err, SLM_UNSUPPORTED, "tensor \"%s\" in \"%s\" has the unknown type \"%.40s\"", name, file, dtype);
    t->n_dims = (uint32_t) json_array_size(shape);
    for (uint32_t d = 0; d < t->n_dims; d++) {
        json_t *dim = json_array_get(shape, d);
        json_int_t v = json_integer_value(dim);
        if (!json_is_integer(dim) || v < 0 || __builtin_mul_overflow(bytes, (uint64_t) v, &bytes))
            return slm_fail(err, SLM_FORMAT, "tensor \"%s\" in \"%s\" has an impossible shape", name, file);
        t->dims[d] = (uint64_t) v;
    }
    SLM_TRY(read_offsets(name, file, entry, data_bytes, t, err));
    if (t->end - t->begin != bytes)
        return slm_fail(err, SLM_FORMAT, "tensor \"%s\" in \"%s\" has %llu bytes where its shape needs %llu", name, file,
                        (unsigned long long) (t->end - t->begin), (unsigned long long) bytes);
    return SLM_OK;
}

static int by_offset(const void *a, const void *b)
{
    const slm_st_tensor *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const slm_st_tensor *) a)->name, ((const slm_st_tensor *) b)->name);
}

/* Ranges sorted by offset must tile the data exactly. */
static slm_status check_tiling(slm_st_tensor *t, size_t n, uint64_t data_bytes, const char *file, slm_error *err)
{
    uint64_t at = 0;
    if (n > 0)
        qsort(t, n, sizeof *t, by_offset);
    for (size_t i = 0; i < n; i++) {
        if (t[i].begin != at)
            return slm_fail(err, SLM_FORMAT, "tensor \"%s\" in \"%s\" begins at byte %llu, not %llu: a gap or an overlap", t[i].name,
                            file, (unsigned long long) t[i].begin, (unsigned long long) at);
        at = t[i].end;
    }
    if (at != data_bytes) {
        slm_fail(err, SLM_FORMAT, "file \"%s\" has %llu bytes of data where its header needs %llu", file, (unsigned long long) data_bytes,
                 (unsigned long long) at);
        return slm_hint(err, "The file is truncated or damaged: fetch it again.");
    }
    return SLM_OK;
}

slm_status slm_safetensors_parse(slm_safetensors *st, const char *text, size_t length, uint64_t file_bytes, uint32_t file,
                                 const char *file_name, slm_error *err)
{
    json_t *root = NULL;
    size_t first = st->n_tensors;
    uint64_t data_begin = 8 + (uint64_t) length;
    if (file_bytes < data_begin)
        return slm_fail(err, SLM_FORMAT, "file \"%s\" is truncated", file_name);
    if (length == 0 || text[0] != '{')
        return slm_fail(err, SLM_FORMAT, "file \"%s\" is not a safetensors file: its header is no JSON object", file_name);
    SLM_TRY(slm_hf_parse(text, length, file_name, &root, err));
    slm_status status = SLM_OK;
    size_t room = st->n_tensors + json_object_size(root);
    if (room > SLM_ST_MAX_TENSORS)
        status = slm_fail(err, SLM_FORMAT, "file \"%s\" holds more than %u tensors", file_name, SLM_ST_MAX_TENSORS);
    if (status == SLM_OK) {
        slm_st_tensor *grown = realloc(st->tensors, (room + 1) * sizeof *grown);
        if (grown == NULL)
            status = slm_fail(err, SLM_NOMEM, "out of memory reading \"%s\"", file_name);
        else
            st->tensors = grown;
    }
    for (void *it = json_object_iter(root); it != NULL && status == SLM_OK; it = json_object_iter_next(root, it)) {
        const char *name = json_object_iter_key(it);
        slm_st_tensor t = {.file = file};
        if (strcmp(name, "__metadata__") == 0)
            continue;
        status = read_entry(name, file_name, json_object_iter_value(it), file_bytes - data_begin, &t, err);
        if (status == SLM_OK && (t.name = strdup(name)) == NULL)
            status = slm_fail(err, SLM_NOMEM, "out of memory reading \"%s\"", file_name);
        if (status == SLM_OK)
            st->tensors[st->n_tensors++] = t;
    }
    json_decref(root);
    if (status == SLM_OK)
        status = check_tiling(st->tensors + first, st->n_tensors - first, file_bytes - data_begin, file_name, err);
    for (size_t i = first; i < st->n_tensors; i++) {
        st->tensors[i].begin += data_begin;
        st->tensors[i].end += data_begin;
    }
    return status;
}

static slm_status open_one(int dir, const char *name, slm_safetensors *st, slm_error *err)
{
    uint8_t word[8];
    uint64_t bytes = 0, length = 0;
    char *text = NULL;
    uint32_t file = st->n_files;
    SLM_TRY(slm_hf_open_file(dir, name, false, &st->fds[file], &bytes, err));
    st->bytes += bytes;
    st->n_files++; /* from here on slm_safetensors_close owns the descriptor */
    if ((st->file_names[file] = strdup(name)) == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    SLM_TRY(slm_hf_pread(st->fds[file], name, 0, word, 8, err));
    for (int i = 7; i >= 0; i--)
        length = length << 8 | word[i];
    if (length > SLM_ST_MAX_HEADER || length > bytes - 8) {
        slm_fail(err, SLM_FORMAT, "file \"%s\" is not a safetensors file: its header would be %llu bytes long", name,
                 (unsigned long long) length);
        return slm_hint(err, "A header has at most 16 MB and must lie inside the file, which has %llu bytes.", (unsigned long long) bytes);
    }
    if ((text = malloc((size_t) length + 1)) == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory reading \"%s\"", name);
    slm_status status = slm_hf_pread(st->fds[file], name, 8, text, (size_t) length, err);
    if (status == SLM_OK)
        status = slm_safetensors_parse(st, text, (size_t) length, bytes, file, name, err);
    free(text);
    return status;
}

/* Shards may only be plain files of the same directory. */
static bool good_shard_name(const char *name)
{
    size_t n = strlen(name);
    return n > 12 && n < 200 && strchr(name, '/') == NULL && strcmp(name + n - 12, ".safetensors") == 0;
}

static slm_status open_shard(int dir, const char *name, slm_safetensors *st, slm_error *err)
{
    if (name == NULL || !good_shard_name(name))
        return slm_fail(err, SLM_FORMAT, "\"model.safetensors.index.json\" names a file that is not a .safetensors file of the directory");
    for (uint32_t i = 0; i < st->n_files; i++)
        if (strcmp(st->file_names[i], name) == 0)
            return SLM_OK;
    if (st->n_files == SLM_ST_MAX_FILES)
        return slm_fail(err, SLM_FORMAT, "\"model.safetensors.index.json\" names more than %u files", SLM_ST_MAX_FILES);
    return open_one(dir, name, st, err);
}

static slm_status sort_names(slm_safetensors *st, slm_error *err)
{
    if (st->n_tensors > 0)
        qsort(st->tensors, st->n_tensors, sizeof *st->tensors, by_name);
    for (size_t i = 1; i < st->n_tensors; i++)
        if (strcmp(st->tensors[i - 1].name, st->tensors[i].name) == 0)
            return slm_fail(err, SLM_FORMAT, "tensor \"%s\" occurs in more than one shard", st->tensors[i].name);
    return SLM_OK;
}

static slm_status open_index(int dir, json_t *index, slm_safetensors *st, slm_error *err)
{
    json_t *map = json_object_get(index, "weight_map");
    const char *name;
    json_t *file;
    if (!json_is_object(map) || json_object_size(map) == 0)
        return slm_fail(err, SLM_FORMAT, "\"model.safetensors.index.json\" has no weight_map");
    json_object_foreach(map, name, file)
        SLM_TRY(open_shard(dir, json_string_value(file), st, err));
    SLM_TRY(sort_names(st, err));
    json_object_foreach(map, name, file)
    {
        const slm_st_tensor *t = slm_safetensors_find(st, name);
        if (t == NULL || strcmp(st->file_names[t->file], json_string_value(file)) != 0)
            return slm_fail(err, SLM_FORMAT, "tensor \"%s\" is missing in shard \"%s\"", name, json_string_value(file));
    }
    return SLM_OK;
}

slm_status slm_safetensors_open(int dir, slm_safetensors *out, slm_error *err)
{
    slm_safetensors st = {0};
    json_t *index = NULL;
    int probe = -1;
    uint64_t bytes = 0;
    slm_status status = SLM_OK;
    st.fds = malloc(SLM_ST_MAX_FILES * sizeof *st.fds);
    st.file_names = calloc(SLM_ST_MAX_FILES, sizeof *st.file_names);
    if (st.fds == NULL || st.file_names == NULL)
        status = slm_fail(err, SLM_NOMEM, "out of memory");
    if (status == SLM_OK)
        status = slm_hf_open_file(dir, "model.safetensors", true, &probe, &bytes, err);
    if (status == SLM_OK && probe >= 0) {
        close(probe);
        status = open_one(dir, "model.safetensors", &st, err);
        if (status == SLM_OK)
            status = sort_names(&st, err);
    } else if (status == SLM_OK) {
        status = slm_hf_load(dir, "model.safetensors.index.json", SLM_ST_MAX_HEADER / 2, true, &index, err);
        if (status == SLM_OK && index == NULL) {
            slm_fail(err, SLM_FORMAT, "the model directory holds no model.safetensors and no model.safetensors.index.json");
            status = slm_hint(err, "Save the model with save_pretrained(..., safe_serialization=True); pickled .bin files are never read.");
        } else if (status == SLM_OK) {
            status = open_index(dir, index, &st, err);
        }
        json_decref(index);
    }
    if (status != SLM_OK) {
        slm_safetensors_close(&st);
        return status;
    }
    *out = st;
    return SLM_OK;
}

slm_status slm_safetensors_open_file(int dir, const char *name, slm_safetensors *out, slm_error *err)
{
    slm_safetensors st = {.fds = malloc(SLM_ST_MAX_FILES * sizeof *st.fds), .file_names = calloc(SLM_ST_MAX_FILES, sizeof *st.file_names)};
    slm_status status = st.fds == NULL || st.file_names == NULL ? slm_fail(err, SLM_NOMEM, "out of memory") : SLM_OK;
    if (status == SLM_OK)
        status = open_one(dir, name, &st, err);
    if (status == SLM_OK)
        status = sort_names(&st, err);
    if (status != SLM_OK) {
        slm_safetensors_close(&st);
        return status;
    }
    *out = st;
    return SLM_OK;
}

slm_status slm_safetensors_add(int dir, const char *name, const char *prefix, slm_safetensors *st, slm_error *err)
{
    size_t first = st->n_tensors;
    if (st->n_files == SLM_ST_MAX_FILES)
        return slm_fail(err, SLM_FORMAT, "the model has more than %u files of weights", SLM_ST_MAX_FILES);
    SLM_TRY(open_one(dir, name, st, err));
    for (size_t i = first; i < st->n_tensors; i++) {
        char *full = NULL;
        if (asprintf(&full, "%s%s", prefix, st->tensors[i].name) < 0)
            return slm_fail(err, SLM_NOMEM, "out of memory");
        free(st->tensors[i].name);
        st->tensors[i].name = full;
    }
    return sort_names(st, err);
}

void slm_safetensors_close(slm_safetensors *st)
{
    for (size_t i = 0; i < st->n_tensors; i++)
        free(st->tensors[i].name);
    for (uint32_t i = 0; i < st->n_files; i++) {
        close(st->fds[i]);
        free(st->file_names[i]);
    }
    free(st->tensors);
    free(st->fds);
    free(st->file_names);
    *st = (slm_safetensors){0};
}

const slm_st_tensor *slm_safetensors_find(const slm_safetensors *st, const char *name)
{
    slm_st_tensor key = {.name = (char *) name};
    return st->n_tensors == 0 ? NULL : bsearch(&key, st->tensors, st->n_tensors, sizeof key, by_name);
}
