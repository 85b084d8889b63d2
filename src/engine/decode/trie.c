/*
 * Builds the label trie from sorted token sequences; see trie.h.
 *
 * Sorted, the labels below a node are a range, and what is forced is the common beginning of the first and the last of the range.  The
 * stages are made breadth first; a stage's range and depth are kept beside it until its children exist.
 */
#include "engine/decode/trie.h"

#include <stdlib.h>
#include <string.h>

typedef struct range {
    uint32_t begin, end; /* sorted labels below the stage */
    uint32_t depth;      /* tokens from the root to the stage's decision */
    uint32_t level;      /* stages above */
    uint32_t feed;       /* path tokens above and of the stage, the first stage's left out */
} range;

typedef struct builder {
    const slm_token_span *labels;
    uint32_t *order; /* [n] label numbers in order of their tokens */
    range *ranges;   /* [n] one per stage: fewer stages than labels */
    uint32_t *decided; /* [n] tokens of each label up to its last decision */
    slm_trie *trie;
    size_t path_room;
} builder;

static int compare_spans(const void *a, const void *b, void *labels)
{
    const slm_token_span *x = (const slm_token_span *) labels + *(const uint32_t *) a;
    const slm_token_span *y = (const slm_token_span *) labels + *(const uint32_t *) b;
    uint32_t n = x->n < y->n ? x->n : y->n;

    for (uint32_t i = 0; i < n; i++)
        if (x->ids[i] != y->ids[i])
            return x->ids[i] < y->ids[i] ? -1 : 1;
    if (x->n != y->n)
        return x->n < y->n ? -1 : 1;
    return *(const uint32_t *) a < *(const uint32_t *) b ? -1 : 1;
}

static const slm_token_span *span_at(const builder *b, uint32_t i)
{
    return &b->labels[b->order[i]];
}

/* Length of the common beginning of the sorted labels begin..end-1, which agree on the first `from` tokens. */
static uint32_t common_depth(const builder *b, uint32_t begin, uint32_t end, uint32_t from)
{
    const slm_token_span *first = span_at(b, begin), *last = span_at(b, end - 1);

    while (from < first->n && from < last->n && first->ids[from] == last->ids[from])
        from++;
    return from;
}

/* Adds the stage of a range whose path begins at token `from`; its children come later. */
static slm_status add_stage(builder *b, uint32_t begin, uint32_t end, uint32_t from, uint32_t parent, uint32_t parent_child, slm_error *err)
{
    slm_trie *t = b->trie;
    uint32_t depth = common_depth(b, begin, end, from), length = depth - from, index = t->n_stages;
    range r = {begin, end, depth, 0, 0};

    if (parent != UINT32_MAX) {
        r.level = b->ranges[parent].level + 1;
        r.feed = b->ranges[parent].feed + length;
    }
    if (t->n_path + (size_t) length > b->path_room) {
        size_t room = (t->n_path + (size_t) length) * 2;
        int32_t *path = room > UINT32_MAX ? NULL : realloc(t->path, room * sizeof *path);

        if (path == NULL)
            return slm_fail(err, SLM_NOMEM, "out of memory for labels");
        t->path = path;
        b->path_room = room;
    }
    if (length > 0)
        memcpy(t->path + t->n_path, span_at(b, begin)->ids + from, length * sizeof *t->path);
    t->stages[index] = (slm_trie_stage){.parent = parent, .parent_child = parent_child, .path_begin = t->n_path, .path_length = length};
    b->ranges[index] = r;
    t->n_path += length;
    t->n_stages++;
    t->depth = r.level + 1 > t->depth ? r.level + 1 : t->depth;
    t->max_feed = r.feed > t->max_feed ? r.feed : t->max_feed;
    return SLM_OK;
}

/* Makes the children of a stage: one for each different token at its depth. */
static slm_status split_stage(builder *b, uint32_t stage, slm_error *err)
{
    slm_trie *t = b->trie;
    range r = b->ranges[stage];

    t->stages[stage].child_begin = t->n_children;
    for (uint32_t i = r.begin, next; i < r.end; i = next) {
        int32_t id = span_at(b, i)->ids[r.depth];
        uint32_t child = t->n_children++;

        for (next = i + 1; next < r.end && span_at(b, next)->ids[r.depth] == id;)
            next++;
        t->child_ids[child] = id;
        t->stages[stage].n_children++;
        if (next - i == 1) {
            t->child_to[child] = -1 - (int32_t) b->order[i];
            b->decided[b->order[i]] = r.depth + 1;
            continue;
        }
        t->child_to[child] = (int32_t) t->n_stages;
        SLM_TRY(add_stage(b, i, next, r.depth, stage, child, err));
    }
    return SLM_OK;
}

static slm_status check_distinct(const builder *b, uint32_t n, uint32_t same[2], slm_error *err)
{
    for (uint32_t i = 1; i < n; i++) {
        const slm_token_span *x = span_at(b, i - 1), *y = span_at(b, i);

        if (common_depth(b, i - 1, i + 1, 0) == (x->n < y->n ? x->n : y->n)) {
            same[0] = b->order[i - 1] < b->order[i] ? b->order[i - 1] : b->order[i];
            same[1] = b->order[i - 1] < b->order[i] ? b->order[i] : b->order[i - 1];
            return slm_fail(err, SLM_INVALID, "labels %u and %u are the same to this model", same[0] + 1, same[1] + 1);
        }
    }
    return SLM_OK;
}

/* Copies what follows the last decision of each label. */
static slm_status add_tails(builder *b, uint32_t n, slm_error *err)
{
    slm_trie *t = b->trie;
    size_t total = 0;

    for (uint32_t i = 0; i < n; i++)
        total += b->labels[i].n - b->decided[i];
    t->tails = malloc((total + 1) * sizeof *t->tails);
    if (t->tails == NULL || total > UINT32_MAX)
        return slm_fail(err, SLM_NOMEM, "out of memory for labels");
    total = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t length = b->labels[i].n - b->decided[i];

        t->tail_begin[i] = (uint32_t) total;
        if (length > 0)
            memcpy(t->tails + total, b->labels[i].ids + b->decided[i], length * sizeof *t->tails);
        total += length;
    }
    t->tail_begin[n] = (uint32_t) total;
    return SLM_OK;
}

static slm_status build(builder *b, uint32_t n, uint32_t same[2], slm_error *err)
{
    slm_trie *t = b->trie;

    t->stages = calloc(n, sizeof *t->stages);
    t->child_ids = malloc(2 * (size_t) n * sizeof *t->child_ids);
    t->child_to = malloc(2 * (size_t) n * sizeof *t->child_to);
    b->order = malloc(n * sizeof *b->order);
    t->tail_begin = malloc(((size_t) n + 1) * sizeof *t->tail_begin);
    b->ranges = malloc(n * sizeof *b->ranges);
    b->decided = calloc(n, sizeof *b->decided);
    if (t->stages == NULL || t->child_ids == NULL || t->child_to == NULL || t->tail_begin == NULL || b->order == NULL ||
        b->ranges == NULL || b->decided == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for labels");
    for (uint32_t i = 0; i < n; i++)
        b->order[i] = i;
    qsort_r(b->order, n, sizeof *b->order, compare_spans, (void *) (uintptr_t) b->labels);
    SLM_TRY(check_distinct(b, n, same, err));
    if (n > 1)
        SLM_TRY(add_stage(b, 0, n, 0, UINT32_MAX, 0, err));
    for (uint32_t i = 0; i < t->n_stages; i++)
        SLM_TRY(split_stage(b, i, err));
    return add_tails(b, n, err);
}

slm_status slm_trie_build(const slm_token_span *labels, uint32_t n, slm_trie **out, uint32_t same[2], slm_error *err)
{
    builder b = {.labels = labels};
    slm_status status;

    b.trie = calloc(1, sizeof *b.trie);
    if (b.trie == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for labels");
    b.trie->n_labels = n;
    status = build(&b, n, same, err);
    free(b.order);
    free(b.ranges);
    free(b.decided);
    if (status != SLM_OK)
        slm_trie_free(b.trie);
    else
        *out = b.trie;
    return status;
}

void slm_trie_free(slm_trie *trie)
{
    if (trie == NULL)
        return;
    free(trie->stages);
    free(trie->path);
    free(trie->child_ids);
    free(trie->child_to);
    free(trie->tails);
    free(trie->tail_begin);
    free(trie);
}
