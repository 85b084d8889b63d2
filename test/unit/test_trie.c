/* The label trie: stages, forced paths, children, and what a random set of labels must satisfy. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/rng.h"
#include "engine/decode/trie.h"
#include "slm_test.h"

/* Follows a label through the trie; returns the label that is reached, or -1. */
static int walk(const slm_trie *t, const int32_t *ids, uint32_t n)
{
    uint32_t stage = 0, at = 0;

    for (;;) {
        const slm_trie_stage *s = &t->stages[stage];
        uint32_t child = 0;

        if (at + s->path_length >= n || memcmp(t->path + s->path_begin, ids + at, s->path_length * sizeof *ids) != 0)
            return -1;
        at += s->path_length;
        while (child < s->n_children && t->child_ids[s->child_begin + child] != ids[at])
            child++;
        if (child == s->n_children)
            return -1;
        if (t->child_to[s->child_begin + child] < 0)
            return -1 - t->child_to[s->child_begin + child];
        stage = (uint32_t) t->child_to[s->child_begin + child];
        if (t->stages[stage].parent_child != s->child_begin + child)
            return -1;
    }
}

/* Writes a label under the constraint: forced runs as they come, else the label's own token. Returns the number of choices, or -1. */
static int write_label(slm_constraint *c, const int32_t *ids, uint32_t n)
{
    void *state = NULL, *fork;
    slm_error err;
    uint32_t at = 0, k;
    int choices = 0;

    if (slm_constraint_begin(c, false, &state, &err) != SLM_OK)
        return -1;
    while (at < n && choices >= 0) {
        int32_t run[16];
        slm_allowed allowed;
        bool found = false;

        if (c->ops->done(c, state))
            break;
        k = c->ops->forced(c, state, run, 16);
        if (c->ops->allowed(c, state, &allowed, &err) != SLM_OK || (k > 0) != (allowed.n_ids == 1) || at + k > n ||
            memcmp(run, ids + at, k * sizeof *run) != 0) {
            choices = -1;
            break;
        }
        for (uint32_t i = 0; i < allowed.n_ids; i++)
            found = found || allowed.ids[i] == ids[at];
        fork = slm_constraint_fork(c, state); /* another way that goes wrong changes nothing here */
        if (!found || fork == NULL || c->ops->advance(c, fork, 12345, &err) != SLM_INVALID ||
            c->ops->advance(c, fork, allowed.ids[allowed.n_ids - 1], &err) != SLM_OK)
            choices = -1;
        slm_constraint_end(c, fork);
        if (k == 0) {
            k = 1;
            choices++;
        }
        for (uint32_t i = 0; i < k && choices >= 0; i++)
            if (c->ops->advance(c, state, ids[at++], &err) != SLM_OK)
                choices = -1;
    }
    if (at != n || !c->ops->done(c, state))
        choices = -1;
    slm_constraint_end(c, state);
    return choices;
}

static void test_example(void)
{
    /* 9 = end of turn */
    static const int32_t a[] = {1, 2, 9}, b[] = {1, 3, 4, 9}, e[] = {5, 9}, d[] = {1, 2, 7, 9};
    static const int32_t wrong[] = {1, 7, 9}, expected[] = {3, 2, 1, 3};
    slm_token_span spans[] = {{a, 3}, {b, 4}, {e, 2}, {d, 4}};
    slm_trie *t = NULL;
    slm_constraint *c = NULL;
    uint32_t same[2];
    slm_error err;

    CHECK(slm_trie_build(spans, 4, &t, same, &err) == SLM_OK, "%s", err.message);
    CHECK(t->n_stages == 3 && t->depth == 3, "%u stages, depth %u", t->n_stages, t->depth);
    CHECK(t->stages[0].n_children == 2 && t->stages[0].path_length == 0, "first stage");
    CHECK(t->stages[1].path_length == 1 && t->path[t->stages[1].path_begin] == 1, "path of the second stage");
    CHECK(t->max_feed == 2, "max_feed %u", t->max_feed);
    for (int i = 0; i < 4; i++)
        CHECK(walk(t, spans[i].ids, spans[i].n) == i, "label %d", i);
    CHECK(slm_labels_constraint(t, 100, NULL, &c, &err) == SLM_OK, "%s", err.message);
    for (int i = 0; i < 4; i++) {
        int choices = write_label(c, spans[i].ids, spans[i].n);

        CHECK(choices == expected[i], "label %d: %d choices", i, choices);
    }
    CHECK(write_label(c, wrong, 3) == -1, "another sequence of tokens is refused");
    slm_constraint_drop(slm_constraint_share(c));
    slm_constraint_drop(c);
    CHECK(slm_trie_build(spans, 1, &t, same, &err) == SLM_OK && t->n_stages == 0, "one label needs no decision");
    CHECK(slm_labels_constraint(t, 100, NULL, &c, &err) == SLM_OK && write_label(c, a, 3) == 0, "a single label is forced as a whole");
    slm_constraint_drop(c);
    spans[3] = spans[1];
    CHECK(slm_trie_build(spans, 4, &t, same, &err) == SLM_INVALID && same[0] == 1 && same[1] == 3, "equal labels are refused");
}

static void test_common_beginning(void)
{
    static const int32_t a[] = {7, 8, 1, 9}, b[] = {7, 8, 2, 9};
    slm_token_span spans[] = {{a, 4}, {b, 4}};
    slm_trie *t = NULL;
    uint32_t same[2];
    slm_error err;

    CHECK(slm_trie_build(spans, 2, &t, same, &err) == SLM_OK, "%s", err.message);
    CHECK(t->n_stages == 1 && t->stages[0].path_length == 2 && t->max_feed == 0, "a common beginning belongs to the first stage");
    slm_trie_free(t);
}

static void test_random(void)
{
    enum { N = 3000 };
    static int32_t ids[N][8];
    static slm_token_span spans[N];
    slm_trie *t = NULL;
    slm_constraint *c = NULL;
    uint32_t same[2], leaves = 0;
    slm_error err;
    int wrong = 0;

    for (uint32_t i = 0; i < N; i++) {
        uint32_t n = 1 + slm_rng_at(1, i) % 3;

        for (uint32_t k = 0; k < n; k++)
            ids[i][k] = (int32_t) (slm_rng_at(2, i * 8 + k) % 5);
        ids[i][n] = 100 + (int32_t) i / 5; /* keeps them distinct, and sometimes almost equal */
        ids[i][n + 1] = (int32_t) (i % 5);
        ids[i][n + 2] = 99;
        spans[i] = (slm_token_span){ids[i], n + 3};
    }
    CHECK(slm_trie_build(spans, N, &t, same, &err) == SLM_OK, "%s", err.message);
    for (uint32_t i = 0; i < N; i++)
        wrong += walk(t, spans[i].ids, spans[i].n) != (int) i;
    CHECK(wrong == 0, "%d labels are not found", wrong);
    for (uint32_t s = 0; s < t->n_stages; s++) {
        const slm_trie_stage *stage = &t->stages[s];

        wrong += stage->n_children < 2 || (s > 0 && stage->parent >= s);
        for (uint32_t k = 0; k < stage->n_children; k++) {
            leaves += t->child_to[stage->child_begin + k] < 0;
            wrong += k > 0 && t->child_ids[stage->child_begin + k - 1] >= t->child_ids[stage->child_begin + k];
        }
    }
    CHECK(wrong == 0 && leaves == N, "%d stages are wrong, %u leaves", wrong, leaves);
    CHECK(slm_labels_constraint(t, 1000, NULL, &c, &err) == SLM_OK, "%s", err.message);
    for (uint32_t i = 0; i < N; i++)
        wrong += write_label(c, spans[i].ids, spans[i].n) < 1;
    CHECK(wrong == 0, "%d labels cannot be written", wrong);
    slm_constraint_drop(c);
}

int main(void)
{
    test_example();
    test_common_beginning();
    test_random();
    TEST_MAIN_END("test_trie");
}
