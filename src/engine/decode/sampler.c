/*
 * Greedy and random choice of the next token; see sampler.h for the order of the filters.
 *
 * Candidates more than e^-24 below the best are dropped at once (all of them together weigh less than 1e-5 in any vocabulary
 * that exists).  The others form a heap by (logit descending, id ascending); top-k and top-p pop only what they keep.
 */
#include "engine/decode/sampler.h"

#include <math.h>
#include <stdlib.h>

#include "engine/base/math.h"
#include "engine/base/rng.h"
#include "engine/kernels/kernels.h"

#define NEGLIGIBLE (-24.0)

typedef struct candidate {
    float logit;
    int32_t id;
    double weight; /* exp((logit - best) / temperature), the best has 1 */
} candidate;

struct slm_sampler {
    uint32_t n_vocab;
    candidate *heap;   /* [n_vocab] */
    candidate *chosen; /* [n_vocab] in falling order */
};

static slm_status out_of_range(const char *name, double value, const char *range, slm_error *err)
{
    return slm_fail(err, SLM_INVALID, "%s is %g, but must be %s", name, value, range);
}

slm_status slm_sampling_check(const slm_sampling *s, slm_error *err)
{
    if (!(s->temperature >= 0.0f && s->temperature <= 10.0f))
        return out_of_range("temperature", (double) s->temperature, "between 0 and 10", err);
    if (!(s->repeat_penalty >= 0.0f && s->repeat_penalty <= 10.0f))
        return out_of_range("repeat_penalty", (double) s->repeat_penalty, "between 0 and 10", err);
    if (s->temperature == 0.0f)
        return SLM_OK;
    if (s->top_k < 0)
        return out_of_range("top_k", (double) s->top_k, "0 (off) or more", err);
    if (!(s->top_p >= 0.0f && s->top_p <= 1.0f))
        return out_of_range("top_p", (double) s->top_p, "between 0 and 1", err);
    if (!(s->min_p >= 0.0f && s->min_p < 1.0f))
        return out_of_range("min_p", (double) s->min_p, "between 0 and 1", err);
    return SLM_OK;
}

slm_sampler *slm_sampler_new(uint32_t n_vocab)
{
    slm_sampler *s = calloc(1, sizeof *s);

    if (s == NULL)
        return NULL;
    s->n_vocab = n_vocab;
    s->heap = malloc(((size_t) n_vocab + 1) * sizeof *s->heap);
    s->chosen = malloc(((size_t) n_vocab + 1) * sizeof *s->chosen);
    if (s->heap == NULL || s->chosen == NULL) {
        slm_sampler_free(s);
        return NULL;
    }
    return s;
}

void slm_sampler_free(slm_sampler *s)
{
    if (s == NULL)
        return;
    free(s->heap);
    free(s->chosen);
    free(s);
}

/* Logits of some tokens: ids [n] ascending; NULL: of all tokens below n. */
typedef struct row {
    float *logits; /* [n] */
    const int32_t *ids;
    uint32_t n;
} row;

static int32_t id_at(const row *r, uint32_t i)
{
    return r->ids != NULL ? r->ids[i] : (int32_t) i;
}

/* Where the logit of a token is; NULL: not in the row. */
static float *logit_of(const row *r, int32_t id)
{
    uint32_t low = 0, high = r->n;

    if (r->ids == NULL)
        return id >= 0 && (uint32_t) id < r->n ? &r->logits[id] : NULL;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (r->ids[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < r->n && r->ids[low] == id ? &r->logits[low] : NULL;
}

/* Divides positive logits of recent tokens and multiplies negative ones (Keskar et al., CTRL, 2019), each token once. */
static void penalize(const row *r, float penalty, const int32_t *recent, size_t n_recent)
{
    size_t begin = n_recent > SLM_REPEAT_WINDOW ? n_recent - SLM_REPEAT_WINDOW : 0;

    for (size_t i = begin; i < n_recent; i++) {
        float *logit;
        size_t j = begin;

        while (recent[j] != recent[i])
            j++;
        logit = j == i ? logit_of(r, recent[i]) : NULL;
        if (logit != NULL)
            *logit = *logit > 0 ? *logit / penalty : *logit * penalty;
    }
}

static bool before(const candidate *a, const candidate *b)
{
    return a->logit > b->logit || (a->logit == b->logit && a->id < b->id);
}

static void sift_down(candidate *heap, size_t n, size_t i)
{
    candidate moving = heap[i];

    for (;;) {
        size_t child = 2 * i + 1;

        if (child >= n)
            break;
        if (child + 1 < n && before(&heap[child + 1], &heap[child]))
            child++;
        if (!before(&heap[child], &moving))
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = moving;
}

/* Pops the best of heap [*n]. */
static candidate pop(candidate *heap, size_t *n)
{
    candidate best = heap[0];

    heap[0] = heap[--*n];
    if (*n > 0)
        sift_down(heap, *n, 0);
    return best;
}

/* Fills the heap array (not yet in heap order) and returns its length; *total is the sum of weights in order of id. */
static size_t collect(slm_sampler *s, const slm_sampling *p, const row *r, double *total)
{
    double best = (double) r->logits[slm_kernels_get()->argmax(r->logits, r->n)];
    double inverse = 1.0 / (double) p->temperature;
    size_t n = 0;

    *total = 0;
    for (uint32_t i = 0; i < r->n; i++) {
        double x = ((double) r->logits[i] - best) * inverse;

        if (x >= NEGLIGIBLE) {
            s->heap[n] = (candidate){r->logits[i], id_at(r, i), slm_exp(x)};
            *total += s->heap[n++].weight;
        }
    }
    return n;
}

/* Keeps the top-k, then of these the smallest set that holds top_p of the weight, then those above min_p of the best. */
static size_t filter(slm_sampler *s, const slm_sampling *p, size_t n, double total)
{
    size_t k = p->top_k > 0 && (size_t) p->top_k < n ? (size_t) p->top_k : n, kept = 0;
    double sum = 0, share = p->top_p > 0 && p->top_p < 1 ? (double) p->top_p : 2.0;

    for (size_t i = n / 2; i-- > 0;)
        sift_down(s->heap, n, i);
    if (p->top_k > 0) {
        total = 0;
        for (size_t i = 0; i < k; i++) {
            s->chosen[i] = pop(s->heap, &n);
            total += s->chosen[i].weight;
        }
    }
    while (kept < k && sum < share * total) {
        if (p->top_k <= 0)
            s->chosen[kept] = pop(s->heap, &n);
        if (s->chosen[kept].weight < (double) p->min_p && kept > 0)
            break;
        sum += s->chosen[kept++].weight;
    }
    return kept;
}

static int32_t pick(slm_sampler *s, const slm_sampling *p, const row *r, const int32_t *recent, size_t n_recent, uint64_t counter)
{
    bool narrow = p->top_k > 0 || (p->top_p > 0 && p->top_p < 1) || p->min_p > 0;
    const candidate *pool;
    size_t n;
    double total, point;

    if (p->repeat_penalty != 1.0f && p->repeat_penalty > 0)
        penalize(r, p->repeat_penalty, recent, n_recent);
    if (p->temperature == 0.0f)
        return id_at(r, slm_kernels_get()->argmax(r->logits, r->n));
    n = collect(s, p, r, &total);
    if (n == 0) /* only when logits are not numbers */
        return id_at(r, slm_kernels_get()->argmax(r->logits, r->n));
    pool = s->heap;
    if (narrow) {
        n = filter(s, p, n, total);
        pool = s->chosen;
        total = 0;
        for (size_t i = 0; i < n; i++)
            total += pool[i].weight;
    }
    point = slm_rng_uniform(p->seed, counter) * total;
    for (size_t i = 0; i + 1 < n; i++) {
        point -= pool[i].weight;
        if (point < 0)
            return pool[i].id;
    }
    return pool[n - 1].id;
}

int32_t slm_sampler_pick(slm_sampler *s, const slm_sampling *p, float *logits, const int32_t *recent, size_t n_recent, uint64_t counter)
{
    row all = {.logits = logits, .n = s->n_vocab};

    return pick(s, p, &all, recent, n_recent, counter);
}

int32_t slm_sampler_pick_some(slm_sampler *s, const slm_sampling *p, const int32_t *ids, float *logits, uint32_t n, const int32_t *recent,
                              size_t n_recent, uint64_t counter)
{
    row some = {.logits = logits, .ids = ids, .n = n};

    return pick(s, p, &some, recent, n_recent, counter);
}

int32_t slm_sampler_pick_masked(slm_sampler *s, const slm_sampling *p, const uint64_t *mask, float *logits, const int32_t *recent,
                                size_t n_recent, uint64_t counter)
{
    int32_t first = -1, id;

    for (uint32_t begin = 0; begin < s->n_vocab; begin += 64) {
        uint64_t bits = mask[begin / 64];
        uint32_t n = s->n_vocab - begin < 64 ? s->n_vocab - begin : 64;

        if (bits != 0 && first < 0)
            first = (int32_t) begin + __builtin_ctzll(bits);
        for (uint32_t i = 0; i < n && bits != UINT64_MAX; i++)
            if ((bits >> i & 1) == 0)
                logits[begin + i] = -INFINITY;
    }
    id = slm_sampler_pick(s, p, logits, recent, n_recent, counter);
    return (mask[id / 64] >> (id % 64) & 1) != 0 ? id : first; /* logits that are not numbers forbid nothing */
}
