/*
 * Packing, opening and using a classifier.
 *
 * Opening treats the blob as hostile: magic, version, length and checksum, then every count, offset, bucket and float.  Prediction is a
 * matrix product in the compiler's vector extension: labels are lanes, sums run over the inputs in order with separate multiply and
 * add, so a row has the same bits in any batch and on any machine; no BLAS, no libm but sqrt.
 */
#include "engine/train/classifier.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "engine/base/utf8.h"
#include "engine/train/lanes.h"

#define VERSION 1
#define MAX_LABELS 10000
#define MAX_DIMS 65536
#define ORDER_MARK 0x01020304u

typedef struct header {
    char magic[8];
    uint32_t version, order_mark;
    uint32_t n_labels, n_dims, n_ngrams, ngram_bits;
    float temperature;
    uint32_t label_bytes; /* padded to 4 */
    uint64_t total_bytes, checksum;
    uint8_t reserved[8];
} header;
_Static_assert(sizeof(header) == 64, "the header is 64 bytes");

static const char magic[8] = "slm_clf";

struct slm_classifier {
    uint32_t n_labels, n_dims, stride;
    float inverse_temperature;
    char *label_text;         /* NUL-terminated names */
    const char **labels;      /* [n_labels] */
    float *w;                 /* [stride / 16] panels of [n_dims][16] */
    float *bias;              /* [stride] */
    slm_ngram_space space;    /* n = 0 without n-grams */
    float *s;                 /* [space.n, stride] */
};

/* Bytes of each section; false when they do not fit. */
static bool sections(const header *h, uint64_t sizes[7], uint64_t *total)
{
    uint64_t at = sizeof *h;
    sizes[0] = 4 * ((uint64_t) h->n_labels + 1);
    sizes[1] = h->label_bytes;
    sizes[2] = 4 * (uint64_t) h->n_labels * h->n_dims;
    sizes[3] = 4 * (uint64_t) h->n_labels;
    sizes[4] = 4 * (uint64_t) h->n_ngrams;
    sizes[5] = 8 * (uint64_t) h->n_ngrams;
    sizes[6] = (uint64_t) h->n_ngrams * h->n_labels;
    for (int i = 0; i < 7; i++)
        if (__builtin_add_overflow(at, sizes[i], &at))
            return false;
    *total = at;
    return at <= SIZE_MAX;
}

/* Of the header without its checksum, and of all that follows. */
static uint64_t checksum_of(const header *h, const void *rest, size_t n)
{
    header plain = *h;
    plain.checksum = 0;
    return XXH3_64bits_withSeed(rest, n, XXH3_64bits(&plain, sizeof plain));
}

/* ---- packing ---- */

/* One n-gram's weights as int8 with a common scale. */
static float pack_lanes(const float *s, uint32_t n, int8_t *out)
{
    float largest = 0;
    for (uint32_t i = 0; i < n; i++)
        largest = fabsf(s[i]) > largest ? fabsf(s[i]) : largest;
    float inverse = largest > 0 ? 127.0f / largest : 0;
    for (uint32_t i = 0; i < n; i++)
        out[i] = (int8_t) lrintf(s[i] * inverse);
    return largest / 127.0f;
}

static char *put(char *at, const void *data, size_t n)
{
    if (n > 0)
        memcpy(at, data, n);
    return at + n;
}

static void fill(const slm_classifier_parts *parts, const header *h, char *at)
{
    uint32_t offset = 0;
    char *text = at + 4 * ((size_t) parts->n_labels + 1);
    for (uint32_t i = 0; i < parts->n_labels; i++) {
        uint32_t n = (uint32_t) strlen(parts->label_names[i]);
        at = put(at, &offset, 4);
        memcpy(text + offset, parts->label_names[i], n);
        offset += n;
    }
    at = put(at, &offset, 4);
    at += h->label_bytes;
    size_t n_inputs = (size_t) parts->n_dims + 1;
    for (uint32_t i = 0; i < parts->n_labels; i++)
        at = put(at, parts->w + i * n_inputs, 4 * (size_t) parts->n_dims);
    for (uint32_t i = 0; i < parts->n_labels; i++)
        at = put(at, parts->w + i * n_inputs + parts->n_dims, 4);
    if (h->n_ngrams == 0)
        return;
    at = put(at, parts->space->buckets, 4 * (size_t) h->n_ngrams);
    at = put(at, parts->space->rarity, 4 * (size_t) h->n_ngrams);
    char *lanes = at + 4 * (size_t) h->n_ngrams;
    for (uint32_t i = 0; i < h->n_ngrams; i++) {
        float scale = pack_lanes(parts->s + (size_t) i * parts->stride, parts->n_labels, (int8_t *) lanes + (size_t) i * parts->n_labels);
        at = put(at, &scale, 4);
    }
}

slm_status slm_classifier_pack(const slm_classifier_parts *parts, void **blob, size_t *bytes, slm_error *err)
{
    header h = {.version = VERSION, .order_mark = ORDER_MARK, .n_labels = parts->n_labels, .n_dims = parts->n_dims,
                .temperature = parts->temperature};
    uint64_t sizes[7], names = 0;
    memcpy(h.magic, magic, sizeof magic);
    if (parts->space != NULL) {
        h.n_ngrams = parts->space->n;
        h.ngram_bits = parts->space->bits;
    }
    for (uint32_t i = 0; i < parts->n_labels; i++)
        names += strlen(parts->label_names[i]);
    if (names > UINT32_MAX / 2)
        return slm_fail(err, SLM_LIMIT, "the label names are too long");
    h.label_bytes = ((uint32_t) names + 3) & ~3u;
    if (!sections(&h, sizes, &h.total_bytes))
        return slm_fail(err, SLM_LIMIT, "the classifier is too large");
    char *out = calloc(1, (size_t) h.total_bytes);
    if (out == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    fill(parts, &h, out + sizeof h);
    h.checksum = checksum_of(&h, out + sizeof h, (size_t) h.total_bytes - sizeof h);
    memcpy(out, &h, sizeof h);
    *blob = out;
    *bytes = (size_t) h.total_bytes;
    return SLM_OK;
}

void slm_classifier_set_temperature(void *blob, float temperature)
{
    header h;
    memcpy(&h, blob, sizeof h);
    h.temperature = temperature;
    h.checksum = checksum_of(&h, (char *) blob + sizeof h, (size_t) h.total_bytes - sizeof h);
    memcpy(blob, &h, sizeof h);
}

/* ---- opening ---- */

static slm_status damaged(slm_error *err, const char *what)
{
    slm_fail(err, SLM_FORMAT, "the classifier is damaged: %s", what);
    return slm_hint(err, "Train it again, or restore an earlier version.");
}

static slm_status check_header(const header *h, const void *blob, size_t bytes, slm_error *err)
{
    uint64_t sizes[7], total;
    if (memcmp(h->magic, magic, sizeof magic) != 0)
        return damaged(err, "it does not begin as a classifier does");
    if (h->order_mark != ORDER_MARK || h->version != VERSION)
        return slm_fail(err, SLM_UNSUPPORTED, "the classifier was made by another version or on a machine of another byte order");
    if (h->n_labels < 2 || h->n_labels > MAX_LABELS || h->n_dims < 1 || h->n_dims > MAX_DIMS || h->n_ngrams > 1u << SLM_NGRAM_MAX_BITS ||
        h->label_bytes % 4 != 0)
        return damaged(err, "a count is out of range");
    if (h->n_ngrams > 0 && (h->ngram_bits < SLM_NGRAM_MIN_BITS || h->ngram_bits > SLM_NGRAM_MAX_BITS || h->n_ngrams > 1u << h->ngram_bits))
        return damaged(err, "its n-grams are out of range");
    if (!sections(h, sizes, &total) || total != bytes || h->total_bytes != total)
        return damaged(err, "its length is wrong");
    if (!(h->temperature >= 1e-3f && h->temperature <= 1e3f))
        return damaged(err, "its temperature is out of range");
    if (checksum_of(h, (const char *) blob + sizeof *h, bytes - sizeof *h) != h->checksum)
        return damaged(err, "the checksum is wrong");
    return SLM_OK;
}

static slm_status take_labels(slm_classifier *c, const header *h, const char *at, slm_error *err)
{
    const char *text = at + 4 * ((size_t) h->n_labels + 1);
    uint32_t begin, end;
    c->label_text = malloc((size_t) h->label_bytes + h->n_labels);
    c->labels = malloc(h->n_labels * sizeof *c->labels);
    if (c->label_text == NULL || c->labels == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    char *to = c->label_text;
    for (uint32_t i = 0; i < h->n_labels; i++) {
        memcpy(&begin, at + 4 * (size_t) i, 4);
        memcpy(&end, at + 4 * (size_t) i + 4, 4);
        if (begin >= end || end > h->label_bytes || (i == 0 && begin != 0) || memchr(text + begin, 0, end - begin) != NULL ||
            slm_utf8_valid_prefix(text + begin, end - begin) != end - begin)
            return damaged(err, "a label's name is broken");
        c->labels[i] = to;
        memcpy(to, text + begin, end - begin);
        to += end - begin;
        *to++ = '\0';
    }
    return SLM_OK;
}

static bool finite_floats(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

/* W into panels of 16 labels, so that a vector lane is a label. */
static slm_status take_dense(slm_classifier *c, const char *at, slm_error *err)
{
    size_t n = (size_t) c->stride * c->n_dims;
    float row[256];
    c->w = aligned_alloc(64, n * sizeof *c->w);
    c->bias = aligned_alloc(64, c->stride * sizeof *c->bias);
    if (c->w == NULL || c->bias == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    memset(c->w, 0, n * sizeof *c->w);
    memset(c->bias, 0, c->stride * sizeof *c->bias);
    for (uint32_t l = 0; l < c->n_labels; l++)
        for (uint32_t d = 0; d < c->n_dims; d += 256) {
            uint32_t piece = c->n_dims - d < 256 ? c->n_dims - d : 256;
            memcpy(row, at + 4 * ((size_t) l * c->n_dims + d), piece * sizeof *row);
            if (!finite_floats(row, piece))
                return damaged(err, "a weight is not finite");
            float *panel = c->w + (size_t) (l / 16) * c->n_dims * 16 + l % 16;
            for (uint32_t i = 0; i < piece; i++)
                panel[(size_t) (d + i) * 16] = row[i];
        }
    memcpy(c->bias, at + 4 * (size_t) c->n_labels * c->n_dims, c->n_labels * sizeof *c->bias);
    return finite_floats(c->bias, c->n_labels) ? SLM_OK : damaged(err, "a weight is not finite");
}

static slm_status take_ngrams(slm_classifier *c, const header *h, const char *at, slm_error *err)
{
    size_t n = h->n_ngrams;
    if (n == 0)
        return SLM_OK;
    c->space.bits = h->ngram_bits;
    c->space.buckets = malloc(n * sizeof *c->space.buckets);
    c->space.rarity = malloc(n * sizeof *c->space.rarity);
    c->s = aligned_alloc(64, n * c->stride * sizeof *c->s);
    if (c->space.buckets == NULL || c->space.rarity == NULL || c->s == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    memcpy(c->space.buckets, at, 4 * n);
    memcpy(c->space.rarity, at + 4 * n, 4 * n);
    for (size_t i = 0; i < n; i++)
        if (c->space.buckets[i] >> h->ngram_bits != 0 || (i > 0 && c->space.buckets[i] <= c->space.buckets[i - 1]))
            return damaged(err, "its n-grams are out of order");
    if (!finite_floats(c->space.rarity, n))
        return damaged(err, "a weight is not finite");
    const char *scales = at + 8 * n;
    const int8_t *lanes = (const int8_t *) (at + 12 * n);
    for (size_t i = 0; i < n; i++) {
        float scale, *to = c->s + i * c->stride;
        memcpy(&scale, scales + 4 * i, 4);
        if (!isfinite(scale))
            return damaged(err, "a weight is not finite");
        for (uint32_t l = 0; l < c->stride; l++)
            to[l] = l < c->n_labels ? scale * (float) lanes[i * c->n_labels + l] : 0.0f;
    }
    c->space.n = h->n_ngrams;
    return slm_ngram_index(&c->space, err);
}

slm_status slm_classifier_open(const void *blob, size_t bytes, slm_classifier **out, slm_error *err)
{
    header h;
    uint64_t sizes[7], total;
    if (bytes < sizeof h)
        return damaged(err, "it is truncated");
    memcpy(&h, blob, sizeof h);
    SLM_TRY(check_header(&h, blob, bytes, err));
    slm_classifier *c = calloc(1, sizeof *c);
    if (c == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    (void) sections(&h, sizes, &total);
    c->n_labels = h.n_labels;
    c->n_dims = h.n_dims;
    c->stride = (h.n_labels + 15) / 16 * 16;
    c->inverse_temperature = 1.0f / h.temperature;
    const char *at = (const char *) blob + sizeof h;
    slm_status status = take_labels(c, &h, at, err);
    at += sizes[0] + sizes[1];
    if (status == SLM_OK)
        status = take_dense(c, at, err);
    at += sizes[2] + sizes[3];
    if (status == SLM_OK)
        status = take_ngrams(c, &h, at, err);
    if (status != SLM_OK) {
        slm_classifier_free(c);
        return status;
    }
    *out = c;
    return SLM_OK;
}

void slm_classifier_free(slm_classifier *c)
{
    if (c == NULL)
        return;
    free(c->label_text);
    free(c->labels);
    free(c->w);
    free(c->bias);
    free(c->s);
    slm_ngram_space_free(&c->space);
    free(c);
}

uint32_t slm_classifier_n_labels(const slm_classifier *c)
{
    return c->n_labels;
}

const char *slm_classifier_label(const slm_classifier *c, uint32_t i)
{
    return i < c->n_labels ? c->labels[i] : NULL;
}

uint32_t slm_classifier_n_dims(const slm_classifier *c)
{
    return c->n_dims;
}

bool slm_classifier_needs_text(const slm_classifier *c)
{
    return c->space.n > 0;
}

/* ---- prediction ---- */

/* Scores of two rows (the second may be the first again) for one panel of 16 labels. */
static void two_rows(const float *w, const float *bias, uint32_t n, const float *x0, const float *x1, float *z0, float *z1)
{
    slm_f4 a0 = slm_f4_load(bias), a1 = slm_f4_load(bias + 4), a2 = slm_f4_load(bias + 8), a3 = slm_f4_load(bias + 12);
    slm_f4 b0 = a0, b1 = a1, b2 = a2, b3 = a3;
    for (uint32_t i = 0; i < n; i++, w += 16) {
        slm_f4 w0 = slm_f4_load(w), w1 = slm_f4_load(w + 4), w2 = slm_f4_load(w + 8), w3 = slm_f4_load(w + 12);
        slm_f4 u = slm_f4_all(x0[i]), v = slm_f4_all(x1[i]);
        a0 += w0 * u;
        a1 += w1 * u;
        a2 += w2 * u;
        a3 += w3 * u;
        b0 += w0 * v;
        b1 += w1 * v;
        b2 += w2 * v;
        b3 += w3 * v;
    }
    slm_f4_store(z0, a0);
    slm_f4_store(z0 + 4, a1);
    slm_f4_store(z0 + 8, a2);
    slm_f4_store(z0 + 12, a3);
    slm_f4_store(z1, b0);
    slm_f4_store(z1 + 4, b1);
    slm_f4_store(z1 + 8, b2);
    slm_f4_store(z1 + 12, b3);
}

/* Scratch of one call. */
typedef struct work {
    float *z;          /* [2, stride] */
    slm_ngram_bag bag;
    uint32_t *feature; /* grown with bag */
    float *value;
    uint32_t capacity;
} work;

static slm_status add_text(const slm_classifier *c, work *k, const char *text, size_t length, float *z, slm_error *err)
{
    SLM_TRY(slm_ngram_count(&k->bag, text, length, c->space.bits, err));
    if (k->bag.n > k->capacity) {
        uint32_t capacity = k->bag.capacity;
        uint32_t *feature = realloc(k->feature, capacity * sizeof *feature);
        if (feature != NULL)
            k->feature = feature;
        float *value = realloc(k->value, capacity * sizeof *value);
        if (value != NULL)
            k->value = value;
        if (feature == NULL || value == NULL)
            return slm_fail(err, SLM_NOMEM, "out of memory");
        k->capacity = capacity;
    }
    uint32_t n = slm_ngram_features(&c->space, &k->bag, k->feature, k->value);
    for (uint32_t i = 0; i < n; i++) {
        const float *s = c->s + (size_t) k->feature[i] * c->stride;
        slm_f4 v = slm_f4_all(k->value[i]);
        for (uint32_t l = 0; l < c->stride; l += 4)
            slm_f4_store(z + l, slm_f4_load(z + l) + v * slm_f4_load(s + l));
    }
    return SLM_OK;
}

/* Weights and embedding are finite; what they give may not be. */
static slm_status finish_row(const slm_classifier *c, float *z, bool scores, float *out, slm_error *err)
{
    float largest, sum;
    for (uint32_t l = 0; l < c->stride; l += 4)
        slm_f4_store(z + l, slm_f4_load(z + l) * slm_f4_all(c->inverse_temperature));
    if (!finite_floats(z, c->n_labels))
        return slm_fail(err, SLM_INVALID, "the scores of an embedding are too large: its numbers, or the classifier's, are out of range");
    if (!scores)
        slm_softmax_lanes(z, c->n_labels, c->stride, &largest, &sum);
    memcpy(out, z, c->n_labels * sizeof *out);
    return SLM_OK;
}

static slm_status predict_pair(const slm_classifier *c, work *k, const float *x, const char *const *texts, const size_t *lengths, size_t n,
                               bool scores, float *out, slm_error *err)
{
    const float *second = n > 1 ? x + c->n_dims : x;
    for (uint32_t p = 0; p < c->stride / 16; p++)
        two_rows(c->w + (size_t) p * c->n_dims * 16, c->bias + p * 16, c->n_dims, x, second, k->z + p * 16, k->z + c->stride + p * 16);
    for (size_t r = 0; r < n; r++) {
        float *z = k->z + r * c->stride;
        if (c->space.n > 0)
            SLM_TRY(add_text(c, k, texts[r], lengths[r], z, err));
        SLM_TRY(finish_row(c, z, scores, out + r * c->n_labels, err));
    }
    return SLM_OK;
}

static slm_status predict(const slm_classifier *c, const float *embeddings, const char *const *texts, const size_t *text_lengths, size_t n,
                          bool scores, float *out, slm_error *err)
{
    work k = {0};
    slm_status status = SLM_OK;
    if (c->space.n > 0 && (texts == NULL || text_lengths == NULL))
        return slm_fail(err, SLM_INVALID, "this classifier was trained with n-grams and needs the text beside its embedding");
    for (size_t r = 0; r < n; r++) {
        if (!finite_floats(embeddings + r * c->n_dims, c->n_dims)) {
            slm_fail(err, SLM_INVALID, "embedding %zu holds a value that is not finite", r + 1);
            slm_blame(err, SLM_CAUSE_BAD_TEXT);
            return SLM_INVALID;
        }
        if (c->space.n > 0 && texts[r] == NULL)
            return slm_fail(err, SLM_INVALID, "text %zu is missing", r + 1);
    }
    k.z = aligned_alloc(64, 2 * (size_t) c->stride * sizeof *k.z);
    if (k.z == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (size_t r = 0; r < n && status == SLM_OK; r += 2)
        status = predict_pair(c, &k, embeddings + r * c->n_dims, texts != NULL ? texts + r : NULL,
                              text_lengths != NULL ? text_lengths + r : NULL, n - r > 1 ? 2 : 1, scores, out + r * c->n_labels, err);
    free(k.z);
    free(k.feature);
    free(k.value);
    slm_ngram_bag_free(&k.bag);
    return status;
}

slm_status slm_classifier_predict(const slm_classifier *c, const float *embeddings, const char *const *texts, const size_t *text_lengths,
                                  size_t n, float *probabilities, slm_error *err)
{
    return predict(c, embeddings, texts, text_lengths, n, false, probabilities, err);
}

slm_status slm_classifier_score(const slm_classifier *c, const float *embedding, const char *text, size_t text_length, float *scores,
                                slm_error *err)
{
    bool with_text = c->space.n > 0;
    return predict(c, embedding, with_text ? &text : NULL, with_text ? &text_length : NULL, 1, true, scores, err);
}

slm_status slm_classifier_softmax(const slm_classifier *c, float *scores, slm_error *err)
{
    float largest, sum, *z = aligned_alloc(64, (size_t) c->stride * sizeof *z);
    if (z == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    memcpy(z, scores, c->n_labels * sizeof *z);
    slm_softmax_lanes(z, c->n_labels, c->stride, &largest, &sum);
    memcpy(scores, z, c->n_labels * sizeof *z);
    free(z);
    return SLM_OK;
}
