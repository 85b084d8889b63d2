/*
 * A label trie as a constraint: the answer is one of the labels (trie.h).
 *
 *   state   at = stage, fed of its path   ─►   a child is chosen   ─►   ...   ─►   at = -1 - label, fed of its tail   ─►   done
 *
 * Tokens are those of the labels as they were encoded, so another way to write the same text is not allowed: it would be a label with
 * another probability (DESIGN D10).  A leading space is part of the tokens already; start() has nothing to skip.
 */
#include <stdlib.h>

#include "engine/decode/trie.h"

typedef struct labels {
    slm_constraint base;
    slm_trie *trie;
} labels;

typedef struct place {
    int32_t at;   /* >= 0: stage; < 0: label -1 - at */
    uint32_t fed; /* tokens of the stage's path or the label's tail */
} place;

static const slm_trie *trie_of(const slm_constraint *c)
{
    return ((const labels *) c)->trie;
}

/* What is forced at a place: *n tokens. */
static const int32_t *forced_run(const slm_trie *t, const place *p, uint32_t *n)
{
    uint32_t label = (uint32_t) (-1 - p->at);

    if (p->at < 0) {
        *n = t->tail_begin[label + 1] - t->tail_begin[label] - p->fed;
        return t->tails + t->tail_begin[label] + p->fed;
    }
    *n = t->stages[p->at].path_length - p->fed;
    return t->path + t->stages[p->at].path_begin + p->fed;
}

static slm_status start(slm_constraint *c, void *state, bool skip_space, slm_error *err)
{
    (void) skip_space;
    (void) err;
    *(place *) state = (place){.at = trie_of(c)->n_stages > 0 ? 0 : -1};
    return SLM_OK;
}

static slm_status allowed(slm_constraint *c, const void *state, slm_allowed *out, slm_error *err)
{
    const slm_trie *t = trie_of(c);
    const place *p = state;
    uint32_t n;
    const int32_t *run = forced_run(t, p, &n);

    if (n > 0)
        *out = (slm_allowed){.ids = run, .n_ids = 1};
    else if (p->at >= 0)
        *out = (slm_allowed){.ids = t->child_ids + t->stages[p->at].child_begin, .n_ids = t->stages[p->at].n_children};
    else
        return slm_fail(err, SLM_INVALID, "the label is complete");
    return SLM_OK;
}

static uint32_t forced(slm_constraint *c, const void *state, int32_t *ids, uint32_t max)
{
    uint32_t n;
    const int32_t *run = forced_run(trie_of(c), state, &n);

    n = n < max ? n : max;
    for (uint32_t i = 0; i < n; i++)
        ids[i] = run[i];
    return n;
}

static slm_status advance(slm_constraint *c, void *state, int32_t id, slm_error *err)
{
    const slm_trie *t = trie_of(c);
    place *p = state;
    uint32_t n;
    const int32_t *run = forced_run(t, p, &n);

    if (n > 0 && run[0] == id) {
        p->fed++;
        return SLM_OK;
    }
    if (n == 0 && p->at >= 0) {
        const slm_trie_stage *stage = &t->stages[p->at];

        for (uint32_t i = stage->child_begin; i < stage->child_begin + stage->n_children; i++)
            if (t->child_ids[i] == id) {
                /* the path of a stage below begins with the child that leads to it */
                *p = (place){.at = t->child_to[i], .fed = t->child_to[i] >= 0};
                return SLM_OK;
            }
    }
    return slm_fail(err, SLM_INVALID, "token %d is not allowed here", id);
}

static bool done(const slm_constraint *c, const void *state)
{
    uint32_t n;

    forced_run(trie_of(c), state, &n);
    return n == 0 && ((const place *) state)->at < 0;
}

static void destroy(slm_constraint *c)
{
    slm_trie_free(((labels *) c)->trie);
    free(c);
}

static const slm_constraint_ops ops = {
    .name = "labels", .start = start, .allowed = allowed, .forced = forced, .advance = advance, .done = done, .destroy = destroy};

slm_status slm_labels_constraint(slm_trie *trie, uint32_t n_vocab, const void *vocabulary, slm_constraint **out, slm_error *err)
{
    labels *l = calloc(1, sizeof *l);

    if (l == NULL) {
        slm_trie_free(trie);
        return slm_fail(err, SLM_NOMEM, "out of memory for labels");
    }
    l->base = (slm_constraint){
        .ops = &ops, .state_bytes = sizeof(place), .n_vocab = n_vocab, .vocabulary = vocabulary, .references = 1};
    l->trie = trie;
    *out = &l->base;
    return SLM_OK;
}
