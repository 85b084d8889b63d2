/*
 * The reader and validator of GGUF files: one walk over the header through a window of 128 KiB (see gguf.h for the guarantees).
 *
 * Order of the checks: a number is compared with its bound before it is multiplied, allocated by or skipped over; every sum and
 * product goes through __builtin_*_overflow.  The header's size, the number of array entries and the lengths of names are
 * bounded in all, so that the walk ends in some ten milliseconds whatever the file says.
 */
#include "engine/import/gguf/gguf.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/file.h"
#include "engine/base/seal.h"

#define WINDOW_BYTES (128 * 1024)

/* Strings one after the other, each NUL-terminated; they move while the buffer grows. */
typedef struct name_buffer {
    char *text;
    size_t used, capacity;
} name_buffer;

struct slm_gguf {
    int fd;
    char sealed[24];            /* its name for the seal: what follows the name of the source */
    uint64_t size;              /* of the file when it was opened */
    uint32_t version;
    slm_gguf_value *values;     /* [n_values], sorted by key */
    size_t n_values;
    slm_gguf_tensor *tensors;   /* [n_tensors], sorted by name */
    size_t n_tensors;
    name_buffer keys, names;    /* of the values, of the tensors */
    /* while the header is walked: a window of the file */
    unsigned char *window;
    uint64_t window_begin, window_end, pos;
    uint64_t n_entries;         /* of all arrays so far */
};

/* ------------------------------------------------------------------ walking */

/* Makes [pos, pos + bytes) readable in the window and returns it; bytes <= WINDOW_BYTES. */
static slm_status look(slm_gguf *g, size_t bytes, const unsigned char **out, slm_error *err)
{
    uint64_t end;
    if (__builtin_add_overflow(g->pos, (uint64_t) bytes, &end) || end > g->size)
        return slm_fail(err, SLM_FORMAT, "the file is truncated: it ends inside its header");
    if (end > SLM_GGUF_MAX_HEADER)
        return slm_fail(err, SLM_FORMAT, "the file's header is larger than %u MiB", SLM_GGUF_MAX_HEADER >> 20);
    if (g->pos < g->window_begin || end > g->window_end) {
        uint64_t left = g->size - g->pos;
        size_t want = left < WINDOW_BYTES ? (size_t) left : WINDOW_BYTES;
        g->window_begin = g->window_end = 0;
        SLM_TRY(slm_seal_read(g->fd, g->sealed, g->window, want, g->pos, "the header", err));
        g->window_begin = g->pos;
        g->window_end = g->pos + want;
    }
    *out = g->window + (g->pos - g->window_begin);
    return SLM_OK;
}

static slm_status take(slm_gguf *g, void *out, size_t bytes, slm_error *err)
{
    const unsigned char *p = NULL;
    SLM_TRY(look(g, bytes, &p, err));
    memcpy(out, p, bytes);
    g->pos += bytes;
    return SLM_OK;
}

static slm_status take_u32(slm_gguf *g, uint32_t *out, slm_error *err)
{
    return take(g, out, 4, err);
}

static slm_status take_u64(slm_gguf *g, uint64_t *out, slm_error *err)
{
    return take(g, out, 8, err);
}

/* Passes over `bytes`, which must lie inside the file and the header's bound. */
static slm_status skip(slm_gguf *g, uint64_t bytes, slm_error *err)
{
    uint64_t end;
    if (__builtin_add_overflow(g->pos, bytes, &end) || end > g->size)
        return slm_fail(err, SLM_FORMAT, "the file is truncated: it ends inside its header");
    if (end > SLM_GGUF_MAX_HEADER)
        return slm_fail(err, SLM_FORMAT, "the file's header is larger than %u MiB", SLM_GGUF_MAX_HEADER >> 20);
    g->pos = end;
    return SLM_OK;
}

/* A name into the buffer; *at is its place there. */
static slm_status take_name(slm_gguf *g, name_buffer *to, const char *what, size_t *at, slm_error *err)
{
    uint64_t length;
    SLM_TRY(take_u64(g, &length, err));
    if (length == 0 || length > SLM_GGUF_MAX_NAME)
        return slm_fail(err, SLM_FORMAT, "a %s of %llu bytes (1 to %d are allowed)", what, (unsigned long long) length, SLM_GGUF_MAX_NAME);
    if (to->capacity - to->used < length + 1) {
        size_t capacity = to->capacity * 2 + 4096;
        char *grown = realloc(to->text, capacity);
        if (grown == NULL)
            return slm_fail(err, SLM_NOMEM, "out of memory");
        to->text = grown;
        to->capacity = capacity;
    }
    char *name = to->text + to->used;
    SLM_TRY(take(g, name, (size_t) length, err));
    name[length] = '\0';
    for (size_t i = 0; i < length; i++)
        if ((unsigned char) name[i] < 0x21 || (unsigned char) name[i] > 0x7E)
            return slm_fail(err, SLM_FORMAT, "a %s holds bytes other than printable ASCII", what);
    *at = to->used;
    to->used += (size_t) length + 1;
    return SLM_OK;
}

static uint32_t scalar_bytes(uint32_t type)
{
    static const uint8_t bytes[13] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < 13 ? bytes[type] : 0;
}

/* ------------------------------------------------------------------ metadata */

static slm_status walk_string(slm_gguf *g, uint64_t *length, slm_error *err)
{
    SLM_TRY(take_u64(g, length, err));
    if (*length > SLM_GGUF_MAX_STRING)
        return slm_fail(err, SLM_FORMAT, "a string of %llu bytes (at most %u are allowed)", (unsigned long long) *length,
                        SLM_GGUF_MAX_STRING);
    return skip(g, *length, err);
}

static slm_status walk_bools(slm_gguf *g, uint64_t n, slm_error *err)
{
    const unsigned char *p = NULL;
    for (uint64_t i = 0; i < n; i++, g->pos++) {
        SLM_TRY(look(g, 1, &p, err));
        if (*p > 1)
            return slm_fail(err, SLM_FORMAT, "a boolean holds %u", *p);
    }
    return SLM_OK;
}

static slm_status walk_array(slm_gguf *g, slm_gguf_value *v, slm_error *err)
{
    uint32_t type;
    uint64_t n, bytes, length;
    SLM_TRY(take_u32(g, &type, err));
    SLM_TRY(take_u64(g, &n, err));
    if (type == SLM_GGUF_ARRAY)
        return slm_fail(err, SLM_FORMAT, "an array of arrays is not allowed");
    if (type != SLM_GGUF_STRING && scalar_bytes(type) == 0)
        return slm_fail(err, SLM_FORMAT, "an array of the unknown type %u", type);
    if (n > SLM_GGUF_MAX_ARRAY || (g->n_entries += n) > SLM_GGUF_MAX_ENTRIES)
        return slm_fail(err, SLM_FORMAT, "an array of %llu entries (at most %u are allowed, %u in all)", (unsigned long long) n,
                        SLM_GGUF_MAX_ARRAY, SLM_GGUF_MAX_ENTRIES);
    v->is_array = true;
    v->type = (slm_gguf_type) type;
    v->n = (uint32_t) n;
    v->offset = g->pos;
    if (type == SLM_GGUF_BOOL)
        return walk_bools(g, n, err);
    if (type != SLM_GGUF_STRING) {
        if (__builtin_mul_overflow(n, (uint64_t) scalar_bytes(type), &bytes))
            return slm_fail(err, SLM_FORMAT, "an array is too large");
        return skip(g, bytes, err);
    }
    for (uint64_t i = 0; i < n; i++)
        SLM_TRY(walk_string(g, &length, err));
    return SLM_OK;
}

static slm_status walk_value(slm_gguf *g, slm_gguf_value *v, slm_error *err)
{
    uint32_t type;
    uint64_t length;
    slm_status status;
    SLM_TRY(take_u32(g, &type, err));
    v->type = (slm_gguf_type) type;
    v->is_array = false;
    v->n = 1;
    v->offset = g->pos;
    if (type == SLM_GGUF_ARRAY) {
        status = walk_array(g, v, err);
    } else if (type == SLM_GGUF_STRING) {
        status = walk_string(g, &length, err);
        v->offset += 8;
    } else if (type == SLM_GGUF_BOOL) {
        status = walk_bools(g, 1, err);
    } else if (scalar_bytes(type) != 0) {
        status = skip(g, scalar_bytes(type), err);
    } else {
        return slm_fail(err, SLM_FORMAT, "a value of the unknown type %u", type);
    }
    v->bytes = status == SLM_OK ? g->pos - v->offset : 0;
    return status;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const slm_gguf_value *) a)->key, ((const slm_gguf_value *) b)->key);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const slm_gguf_tensor *) a)->name, ((const slm_gguf_tensor *) b)->name);
}

static int by_offset(const void *a, const void *b)
{
    uint64_t x = ((const slm_gguf_tensor *) a)->offset, y = ((const slm_gguf_tensor *) b)->offset;
    return x < y ? -1 : x > y;
}

static slm_status read_values(slm_gguf *g, size_t *places, slm_error *err)
{
    for (size_t i = 0; i < g->n_values; i++) {
        SLM_TRY(take_name(g, &g->keys, "key", &places[i], err));
        slm_status status = walk_value(g, &g->values[i], err);
        if (status == SLM_FORMAT)
            slm_hint(err, "The metadata key at fault is \"%s\".", g->keys.text + places[i]);
        if (status != SLM_OK)
            return status;
    }
    for (size_t i = 0; i < g->n_values; i++)
        g->values[i].key = g->keys.text + places[i];
    return SLM_OK;
}

static slm_status sort_values(slm_gguf *g, slm_error *err)
{
    qsort(g->values, g->n_values, sizeof *g->values, by_key);
    for (size_t i = 1; i < g->n_values; i++)
        if (strcmp(g->values[i - 1].key, g->values[i].key) == 0)
            return slm_fail(err, SLM_FORMAT, "the key \"%s\" appears twice", g->values[i].key);
    return SLM_OK;
}

/* ------------------------------------------------------------------ tensors */

/* Names of GGUF's types that are not served here, for the message. */
static const char *type_name(uint32_t type)
{
    static const struct { uint32_t type; const char *name; } known[] = {
        {9, "Q8_1"}, {15, "Q8_K"}, {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"}, {21, "IQ3_S"}, {22, "IQ2_S"},
        {24, "I8"}, {25, "I16"}, {26, "I32"}, {27, "I64"}, {28, "F64"}, {29, "IQ1_M"}, {40, "NVFP4"}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i].type == type)
            return known[i].name;
    return NULL;
}

static slm_status check_type(const char *name, uint32_t type, const slm_type_info **info, slm_error *err)
{
    *info = slm_type_get(type);
    if (*info != NULL)
        return SLM_OK;
    if (type_name(type) != NULL) {
        slm_fail(err, SLM_UNSUPPORTED, "tensor %s has the type %s, which is not supported", name, type_name(type));
        return slm_hint(err, "Use a file of type Q4_K_M, Q8_0, Q4_0, Q5_K_M, Q6_K, IQ4_XS or F16.");
    }
    return slm_fail(err, SLM_FORMAT, "tensor %s has the unknown type %u", name, type);
}

static slm_status read_dims(slm_gguf *g, const char *name, slm_gguf_tensor *t, uint64_t *n_weights, slm_error *err)
{
    SLM_TRY(take_u32(g, &t->n_dims, err));
    if (t->n_dims < 1 || t->n_dims > 4)
        return slm_fail(err, SLM_FORMAT, "tensor %s has %u dimensions", name, t->n_dims);
    *n_weights = 1;
    for (uint32_t d = 0; d < 4; d++) {
        t->dims[d] = 1;
        if (d < t->n_dims)
            SLM_TRY(take_u64(g, &t->dims[d], err));
        if (t->dims[d] < 1 || t->dims[d] > UINT32_MAX || __builtin_mul_overflow(*n_weights, t->dims[d], n_weights) ||
            *n_weights > INT64_MAX / 64)
            return slm_fail(err, SLM_FORMAT, "tensor %s has impossible dimensions", name);
    }
    return SLM_OK;
}

/* Offsets are relative to the data until place_tensors. */
static slm_status read_tensor(slm_gguf *g, slm_gguf_tensor *t, size_t *place, slm_error *err)
{
    const slm_type_info *info = NULL;
    uint32_t type;
    uint64_t n_weights = 0;
    SLM_TRY(take_name(g, &g->names, "tensor name", place, err));
    const char *name = g->names.text + *place;
    SLM_TRY(read_dims(g, name, t, &n_weights, err));
    SLM_TRY(take_u32(g, &type, err));
    SLM_TRY(check_type(name, type, &info, err));
    t->type = (slm_type) type;
    if (t->dims[0] % info->block_weights != 0)
        return slm_fail(err, SLM_FORMAT, "tensor %s: rows of %llu weights do not divide into blocks of %u (%s)", name,
                        (unsigned long long) t->dims[0], info->block_weights, info->name);
    if (__builtin_mul_overflow(n_weights / info->block_weights, (uint64_t) info->block_bytes, &t->bytes))
        return slm_fail(err, SLM_FORMAT, "tensor %s has impossible dimensions", name);
    return take_u64(g, &t->offset, err);
}

static slm_status alignment_of(const slm_gguf *g, uint64_t *alignment, slm_error *err)
{
    const slm_gguf_value *v = slm_gguf_find(g, "general.alignment");
    double number;
    *alignment = 32;
    if (v == NULL)
        return SLM_OK;
    if (v->is_array || v->type != SLM_GGUF_U32 || !slm_gguf_number(g, v, 0, &number))
        return slm_fail(err, SLM_FORMAT, "general.alignment is no 32-bit number");
    uint32_t a = (uint32_t) number;
    if (a < 8 || a > 4096 || (a & (a - 1)) != 0)
        return slm_fail(err, SLM_FORMAT, "general.alignment is %u; a power of two from 8 to 4096 is demanded", a);
    *alignment = a;
    return SLM_OK;
}

/* Absolute offsets; aligned, inside the file, disjoint. */
static slm_status place_tensors(slm_gguf *g, slm_error *err)
{
    uint64_t alignment, end = 0, used = 0;
    SLM_TRY(alignment_of(g, &alignment, err));
    uint64_t data = (g->pos + alignment - 1) & ~(alignment - 1); /* pos is bounded by the header's size: no overflow */
    for (size_t i = 0; i < g->n_tensors; i++) {
        slm_gguf_tensor *t = &g->tensors[i];
        if (t->offset % alignment != 0)
            return slm_fail(err, SLM_FORMAT, "tensor %s is not aligned to %llu bytes", t->name, (unsigned long long) alignment);
        uint64_t stop;
        if (__builtin_add_overflow(t->offset, data, &t->offset) || __builtin_add_overflow(t->offset, t->bytes, &stop) || stop > g->size)
            return slm_fail(err, SLM_FORMAT, "the file is truncated: tensor %s lies beyond its end", t->name);
    }
    qsort(g->tensors, g->n_tensors, sizeof *g->tensors, by_offset);
    for (size_t i = 0; i < g->n_tensors; i++) {
        if (g->tensors[i].offset < end)
            return slm_fail(err, SLM_FORMAT, "tensors %s and %s overlap", g->tensors[i - 1].name, g->tensors[i].name);
        end = g->tensors[i].offset + g->tensors[i].bytes;
        used += g->tensors[i].bytes;
    }
    if (g->size > data && g->size - data - used > g->n_tensors * alignment + SLM_GGUF_MAX_REST)
        return slm_fail(err, SLM_FORMAT, "%llu bytes of the file belong to no tensor", (unsigned long long) (g->size - data - used));
    qsort(g->tensors, g->n_tensors, sizeof *g->tensors, by_name);
    for (size_t i = 1; i < g->n_tensors; i++)
        if (strcmp(g->tensors[i - 1].name, g->tensors[i].name) == 0)
            return slm_fail(err, SLM_FORMAT, "the tensor \"%s\" appears twice", g->tensors[i].name);
    return SLM_OK;
}

/* ------------------------------------------------------------------ open */

static slm_status read_counts(slm_gguf *g, slm_error *err)
{
    char magic[4];
    uint64_t n_tensors, n_values;
    if (g->size < 24)
        return slm_fail(err, SLM_FORMAT, "the file is too short to be a GGUF model");
    SLM_TRY(take(g, magic, 4, err)); /* which slm_gguf_open has seen */
    SLM_TRY(take_u32(g, &g->version, err));
    if (__builtin_bswap32(g->version) == 2 || __builtin_bswap32(g->version) == 3)
        return slm_fail(err, SLM_UNSUPPORTED, "big-endian GGUF files are not supported");
    if (g->version < 2 || g->version > 3)
        return slm_fail(err, SLM_UNSUPPORTED, "GGUF version %u is not supported (2 and 3 are)", g->version);
    SLM_TRY(take_u64(g, &n_tensors, err));
    SLM_TRY(take_u64(g, &n_values, err));
    if (n_values > SLM_GGUF_MAX_KEYS)
        return slm_fail(err, SLM_FORMAT, "%llu metadata keys (at most %d are allowed)", (unsigned long long) n_values, SLM_GGUF_MAX_KEYS);
    if (n_tensors > SLM_GGUF_MAX_TENSORS)
        return slm_fail(err, SLM_FORMAT, "%llu tensors (at most %d are allowed)", (unsigned long long) n_tensors, SLM_GGUF_MAX_TENSORS);
    g->n_values = (size_t) n_values;
    g->n_tensors = (size_t) n_tensors;
    return SLM_OK;
}

static bool is_gguf(const slm_gguf *g)
{
    char magic[4];
    return slm_file_read(g->fd, magic, sizeof magic, 0, "it", NULL) == SLM_OK && memcmp(magic, "GGUF", 4) == 0;
}

static bool ends_with(const char *path, const char *suffix)
{
    size_t n = strlen(path), m = strlen(suffix);
    return n > m && strcasecmp(path + n - m, suffix) == 0;
}

/* The words for a file that does not begin as a GGUF model: what it is instead, and what to name. */
static slm_status no_gguf(const slm_gguf *g, const char *path, slm_error *err)
{
    static const char *const parts[] = {".safetensors", ".safetensors.index.json", ".json", ".jinja", "vocab.txt"};
    static const char *const pickles[] = {".bin", ".pt", ".pth", ".ckpt", ".pkl"};
    static const char *const others[][2] = {{".onnx", "ONNX"}, {".tflite", "TensorFlow Lite"}, {".h5", "Keras"}, {".pb", "TensorFlow"},
                                            {".msgpack", "Flax"}, {".mlmodel", "Core ML"}, {".ggml", "the format before GGUF"}};
    const char *slash = strrchr(path, '/');
    int directory = slash == NULL || slash == path ? 1 : (int) (slash - path);
    char head[16] = "";
    if (slm_file_is_pointer(g->fd))
        return slm_file_pointer_error(slash != NULL ? slash + 1 : path, err);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (ends_with(path, parts[i])) {
            slm_fail(err, SLM_FORMAT, "the file is one of several of a model's directory");
            return slm_hint(err, "Name the directory: \"%.*s\".", directory, slash == NULL ? "." : path);
        }
    for (size_t i = 0; i < sizeof pickles / sizeof pickles[0]; i++)
        if (ends_with(path, pickles[i])) {
            slm_fail(err, SLM_UNSUPPORTED, "the file may be a pickled PyTorch model, which is never read");
            return slm_hint(err, "Save the model with save_pretrained(..., safe_serialization=True) and name that directory, or use a GGUF "
                                 "file.");
        }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (ends_with(path, others[i][0])) {
            slm_fail(err, SLM_UNSUPPORTED, "models in %s are not read", others[i][1]);
            return slm_hint(err, "Name a GGUF file of the model, or the directory with its config.json and model.safetensors.");
        }
    if (g->size < 24)
        return slm_fail(err, SLM_FORMAT, "the file is too short to be a GGUF model");
    slm_fail(err, SLM_FORMAT, "the file is no GGUF model");
    if (g->size >= sizeof head && slm_file_read(g->fd, head, sizeof head - 1, 0, "it", NULL) == SLM_OK && strchr(head, '<') != NULL)
        return slm_hint(err, "A web page was saved in its place: use the download link of the file, not that of the page that shows it.");
    return slm_hint(err, "A model file begins with the letters GGUF.");
}

static slm_status read_tensors(slm_gguf *g, size_t *places, slm_error *err)
{
    for (size_t i = 0; i < g->n_tensors; i++)
        SLM_TRY(read_tensor(g, &g->tensors[i], &places[i], err));
    for (size_t i = 0; i < g->n_tensors; i++)
        g->tensors[i].name = g->names.text + places[i];
    return place_tensors(g, err);
}

static slm_status read_header(slm_gguf *g, slm_error *err)
{
    slm_status status = SLM_OK;
    SLM_TRY(read_counts(g, err));
    size_t most = g->n_values > g->n_tensors ? g->n_values : g->n_tensors;
    size_t *places = calloc(most + 1, sizeof *places);
    g->values = calloc(g->n_values + 1, sizeof *g->values);
    g->tensors = calloc(g->n_tensors + 1, sizeof *g->tensors);
    if (g->values == NULL || g->tensors == NULL || places == NULL)
        status = slm_fail(err, SLM_NOMEM, "out of memory");
    if (status == SLM_OK)
        status = read_values(g, places, err);
    if (status == SLM_OK)
        status = sort_values(g, err);
    if (status == SLM_OK)
        status = read_tensors(g, places, err);
    free(places);
    return status;
}

slm_status slm_gguf_open(const char *path, slm_gguf **out, slm_error *err)
{
    return slm_gguf_open_part(path, "", out, err);
}

slm_status slm_gguf_open_part(const char *path, const char *sealed, slm_gguf **out, slm_error *err)
{
    slm_gguf *g = calloc(1, sizeof *g);
    if (g == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    g->fd = -1;
    snprintf(g->sealed, sizeof g->sealed, "%s", sealed);
    g->window = malloc(WINDOW_BYTES);
    slm_status status = g->window == NULL ? slm_fail(err, SLM_NOMEM, "out of memory") : slm_file_open(path, &g->fd, &g->size, err);
    if (status == SLM_OK)
        status = slm_seal_opened(sealed, true, g->size, err);
    if (status == SLM_OK && !is_gguf(g))
        status = no_gguf(g, path, err);
    else if (status == SLM_OK)
        status = read_header(g, err);
    free(g->window);
    g->window = NULL;
    if (status != SLM_OK) {
        slm_gguf_close(g);
        return status;
    }
    *out = g;
    return SLM_OK;
}

void slm_gguf_close(slm_gguf *g)
{
    if (g == NULL)
        return;
    slm_file_close(g->fd);
    free(g->values);
    free(g->tensors);
    free(g->keys.text);
    free(g->names.text);
    free(g);
}

/* ------------------------------------------------------------------ questions */

uint32_t slm_gguf_version(const slm_gguf *g)
{
    return g->version;
}

uint64_t slm_gguf_bytes(const slm_gguf *g)
{
    return g->size;
}

size_t slm_gguf_n_values(const slm_gguf *g)
{
    return g->n_values;
}

const slm_gguf_value *slm_gguf_value_at(const slm_gguf *g, size_t i)
{
    return i < g->n_values ? &g->values[i] : NULL;
}

const slm_gguf_value *slm_gguf_find(const slm_gguf *g, const char *key)
{
    slm_gguf_value wanted = {.key = key};
    return bsearch(&wanted, g->values, g->n_values, sizeof *g->values, by_key);
}

size_t slm_gguf_n_tensors(const slm_gguf *g)
{
    return g->n_tensors;
}

const slm_gguf_tensor *slm_gguf_tensor_at(const slm_gguf *g, size_t i)
{
    return i < g->n_tensors ? &g->tensors[i] : NULL;
}

const slm_gguf_tensor *slm_gguf_find_tensor(const slm_gguf *g, const char *name)
{
    slm_gguf_tensor wanted = {.name = name};
    return bsearch(&wanted, g->tensors, g->n_tensors, sizeof *g->tensors, by_name);
}

bool slm_gguf_number(const slm_gguf *g, const slm_gguf_value *v, uint32_t index, double *out)
{
    union {
        uint8_t u8; int8_t i8; uint16_t u16; int16_t i16; uint32_t u32; int32_t i32; float f32; uint64_t u64; int64_t i64; double f64;
    } x = {.u64 = 0};
    uint32_t bytes = scalar_bytes(v->type);
    if (bytes == 0 || index >= v->n ||
        slm_seal_read(g->fd, g->sealed, &x, bytes, v->offset + (uint64_t) index * bytes, "the metadata", NULL) != SLM_OK)
        return false;
    switch (v->type) {
    case SLM_GGUF_U8: case SLM_GGUF_BOOL: *out = x.u8; break;
    case SLM_GGUF_I8: *out = x.i8; break;
    case SLM_GGUF_U16: *out = x.u16; break;
    case SLM_GGUF_I16: *out = x.i16; break;
    case SLM_GGUF_U32: *out = x.u32; break;
    case SLM_GGUF_I32: *out = x.i32; break;
    case SLM_GGUF_F32: *out = (double) x.f32; break;
    case SLM_GGUF_U64: *out = (double) x.u64; break;
    case SLM_GGUF_I64: *out = (double) x.i64; break;
    case SLM_GGUF_F64: *out = x.f64; break;
    default: return false;
    }
    return true;
}

slm_status slm_gguf_string(const slm_gguf *g, const slm_gguf_value *v, char **out, slm_error *err)
{
    if (v->is_array || v->type != SLM_GGUF_STRING)
        return slm_fail(err, SLM_FORMAT, "%s is no string", v->key);
    size_t length = (size_t) v->bytes; /* walk_string: at most SLM_GGUF_MAX_STRING */
    char *text = malloc(length + 1);
    if (text == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    slm_status status = slm_seal_read(g->fd, g->sealed, text, length, v->offset, "the metadata", err);
    if (status == SLM_OK && memchr(text, 0, length) != NULL)
        status = slm_fail(err, SLM_FORMAT, "%s holds a NUL byte", v->key);
    if (status != SLM_OK) {
        free(text);
        return status;
    }
    text[length] = '\0';
    *out = text;
    return SLM_OK;
}

slm_status slm_gguf_read_value(const slm_gguf *g, const slm_gguf_value *v, void *buffer, slm_error *err)
{
    return slm_seal_read(g->fd, g->sealed, buffer, (size_t) v->bytes, v->offset, "the metadata", err);
}

slm_status slm_gguf_read_tensor(const slm_gguf *g, const slm_gguf_tensor *t, uint64_t begin, void *buffer, size_t bytes, slm_error *err)
{
    uint64_t end;
    if (__builtin_add_overflow(begin, (uint64_t) bytes, &end) || end > t->bytes)
        return slm_fail(err, SLM_INTERNAL, "a read beyond tensor %s", t->name);
    return slm_seal_read(g->fd, g->sealed, buffer, bytes, t->offset + begin, t->name, err);
}
