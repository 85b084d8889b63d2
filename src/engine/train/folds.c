/*
 * Folds of a cross-validation.
 *
 *   rows ──equal ones together──► groups ──by label, shuffled, in turn──► [fold 0 | fold 1 | ... | lonely | beyond the cap]
 *
 * A fold is judged by a classifier that has not seen its rows.  Equal texts, and texts that the model takes for equal, have equal
 * embeddings; they form one group, which goes to one fold whatever labels its rows have, or the judge would know the answers.
 * A label with a single group is lonely: held out it would be unknown, so its rows are learned from for all folds and judge nothing.
 * Where lonely labels hold more than LONELY_SHARE of the rows, or fewer than two others are left, a figure would say nothing of the
 * classifier, and there are no folds.
 */
#include "engine/train/folds.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define LONELY_SHARE 0.1
#define NONE UINT32_MAX

typedef struct hashed_row {
    uint64_t hash;
    uint32_t row;
} hashed_row;

typedef struct dealing {
    const slm_train_set *set;
    slm_train_watch *watch;
    uint64_t random;
    hashed_row *hashed;   /* [n_rows] by hash, then row: a group's rows stand together */
    uint32_t *leader;     /* [n_rows] first row of its group */
    uint32_t *next;       /* [n_rows] next row of its group, NONE after the last */
    uint32_t *groups;     /* [n_labels] groups with a row of the label */
    uint32_t *seen;       /* [n_labels] scratch: last group that was counted */
    size_t *begin;        /* [n_labels + 1] places in leaders */
    uint32_t *leaders;    /* [n_distinct] by label, shuffled */
    uint8_t *fold;        /* [n_rows] */
} dealing;

static void free_dealing(dealing *d)
{
    free(d->hashed);
    free(d->leader);
    free(d->next);
    free(d->groups);
    free(d->seen);
    free(d->begin);
    free(d->leaders);
    free(d->fold);
}

static slm_status allocate(dealing *d, slm_folds *out, slm_error *err)
{
    size_t n = d->set->n_rows, labels = d->set->n_labels;
    d->hashed = malloc(n * sizeof *d->hashed);
    d->leader = malloc(n * sizeof *d->leader);
    d->next = malloc(n * sizeof *d->next);
    d->groups = calloc(labels, sizeof *d->groups);
    d->seen = malloc(labels * sizeof *d->seen);
    d->begin = calloc(labels + 1, sizeof *d->begin);
    d->leaders = malloc(n * sizeof *d->leaders);
    d->fold = malloc(n);
    out->order = malloc(n * sizeof *out->order);
    if (d->hashed == NULL || d->leader == NULL || d->next == NULL || d->groups == NULL || d->seen == NULL || d->begin == NULL ||
        d->leaders == NULL || d->fold == NULL || out->order == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    return SLM_OK;
}

static int by_hash(const void *a, const void *b)
{
    const hashed_row *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

/* Groups of equal embeddings, and how many of them each label is in. */
static slm_status find_groups(dealing *d, slm_folds *out, slm_error *err)
{
    const slm_train_set *set = d->set;
    size_t n = set->n_rows;
    for (size_t r = 0; r < n; r++) {
        d->hashed[r] = (hashed_row){XXH3_64bits(set->embeddings + r * set->n_dims, set->n_dims * sizeof(float)), (uint32_t) r};
        if (r % 4096 == 0 && slm_watch_stopped(d->watch))
            return slm_fail(err, SLM_CANCELLED, "cancelled");
    }
    qsort(d->hashed, n, sizeof *d->hashed, by_hash);
    memset(d->seen, 0xff, set->n_labels * sizeof *d->seen);
    out->n_distinct = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t row = d->hashed[i].row;
        bool first = i == 0 || d->hashed[i].hash != d->hashed[i - 1].hash;
        d->leader[row] = first ? row : d->leader[d->hashed[i - 1].row];
        d->next[row] = NONE;
        if (!first)
            d->next[d->hashed[i - 1].row] = row;
        out->n_distinct += first;
        if (d->seen[set->labels[row]] != d->leader[row]) {
            d->seen[set->labels[row]] = d->leader[row];
            d->groups[set->labels[row]]++;
        }
    }
    return SLM_OK;
}

/* Can the labels be measured at all? */
static bool worth_measuring(const dealing *d, slm_folds *out)
{
    size_t lonely_rows = 0;
    out->n_lonely = 0;
    for (uint32_t l = 0; l < d->set->n_labels; l++)
        out->n_lonely += d->groups[l] < 2;
    for (size_t r = 0; r < d->set->n_rows; r++)
        lonely_rows += d->groups[d->set->labels[r]] < 2;
    return out->n_distinct >= 4 && d->set->n_labels - out->n_lonely >= 2 && (double) lonely_rows <= LONELY_SHARE * (double) d->set->n_rows;
}

static uint64_t next_random(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return z ^ z >> 31;
}

/* Leaders by their label, shuffled within it. */
static void group_by_label(dealing *d)
{
    const slm_train_set *set = d->set;
    size_t *begin = d->begin;
    for (size_t r = 0; r < set->n_rows; r++)
        if (d->leader[r] == r)
            begin[set->labels[r] + 1]++;
    for (uint32_t l = 0; l < set->n_labels; l++)
        begin[l + 1] += begin[l];
    size_t total = begin[set->n_labels];
    for (size_t r = set->n_rows; r-- > 0;)
        if (d->leader[r] == r)
            d->leaders[--begin[set->labels[r] + 1]] = (uint32_t) r;
    for (uint32_t l = 0; l < set->n_labels; l++) /* begin[l + 1] is now the begin of l */
        begin[l] = begin[l + 1];
    begin[set->n_labels] = total;
    for (uint32_t l = 0; l < set->n_labels; l++)
        for (size_t n = begin[l + 1] - begin[l]; n > 1; n--) {
            size_t a = begin[l] + n - 1, b = begin[l] + (size_t) (next_random(&d->random) % n);
            uint32_t kept = d->leaders[a];
            d->leaders[a] = d->leaders[b];
            d->leaders[b] = kept;
        }
}

/* Rows of a group; 0 when one of them must not be held out. */
static size_t group_size(const dealing *d, uint32_t leader)
{
    size_t size = 0;
    for (uint32_t r = leader; r != NONE; r = d->next[r], size++)
        if (d->groups[d->set->labels[r]] < 2)
            return 0;
    return size;
}

static void put_group(dealing *d, uint32_t leader, uint32_t fold)
{
    for (uint32_t r = leader; r != NONE; r = d->next[r])
        d->fold[r] = (uint8_t) fold;
}

/* The groups of each label to the fold that has the fewest of its rows, in turn among equals, going on where the label before ended. */
static void deal(dealing *d, uint32_t n_folds, size_t cap)
{
    const slm_train_set *set = d->set;
    uint32_t turn = 0;
    for (uint32_t l = 0; l < set->n_labels; l++) {
        size_t rows[SLM_MAX_FOLDS] = {0}, count = 0, dealt = 0;
        for (size_t i = d->begin[l]; i < d->begin[l + 1]; i++)
            count += group_size(d, d->leaders[i]);
        size_t share = set->n_rows <= cap ? count : (size_t) ceil((double) count * (double) cap / (double) set->n_rows);
        for (size_t i = d->begin[l]; i < d->begin[l + 1]; i++) {
            size_t size = group_size(d, d->leaders[i]);
            uint32_t best = turn;
            if (size == 0 || dealt >= share) {
                put_group(d, d->leaders[i], size == 0 ? n_folds : n_folds + 1);
                continue;
            }
            for (uint32_t k = 0; k < n_folds; k++)
                best = rows[(turn + k) % n_folds] < rows[best] ? (turn + k) % n_folds : best;
            put_group(d, d->leaders[i], best);
            rows[best] += size;
            dealt += size;
            turn = (best + 1) % n_folds;
        }
    }
}

/* Rows by their fold, or by n, n + 1. */
static void put_in_order(const uint8_t *fold, size_t n, slm_folds *out)
{
    size_t at = 0;
    for (uint32_t k = 0; k <= out->n + 1; k++) {
        out->begin[k] = at;
        for (size_t r = 0; r < n; r++)
            if ((fold[r] == SLM_SEEN_BY_ALL ? out->n : fold[r]) == k)
                out->order[at++] = (uint32_t) r;
    }
}

slm_status slm_deal_folds(const slm_train_set *set, uint32_t n, size_t cap, uint64_t seed, slm_train_watch *watch, slm_folds *out,
                          slm_error *err)
{
    dealing d = {.set = set, .watch = watch, .random = seed};
    *out = (slm_folds){.n = n};
    slm_status status = allocate(&d, out, err);
    if (status == SLM_OK && n > 1)
        status = find_groups(&d, out, err);
    if (status == SLM_OK && n > 1) {
        if (out->n_distinct < 2 * (size_t) n)
            out->n = 2;
        if (!worth_measuring(&d, out))
            out->n = 1;
    }
    if (status == SLM_OK && out->n > 1) {
        group_by_label(&d);
        deal(&d, out->n, cap);
        put_in_order(d.fold, set->n_rows, out);
    } else if (status == SLM_OK) {
        for (size_t r = 0; r < set->n_rows; r++)
            out->order[r] = (uint32_t) r;
        out->begin[0] = 0;
        out->begin[1] = out->begin[2] = set->n_rows;
    }
    free_dealing(&d);
    return status;
}

slm_status slm_take_folds(const slm_train_set *set, slm_folds *out, slm_error *err)
{
    *out = (slm_folds){.n = set->n_folds, .order = malloc(set->n_rows * sizeof *out->order)};
    if (out->order == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    put_in_order(set->fold_of_row, set->n_rows, out);
    return SLM_OK;
}

void slm_folds_free(slm_folds *folds)
{
    free(folds->order);
    folds->order = NULL;
}
