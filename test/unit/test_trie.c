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

static void test_example(void)
{
    /* 9 = end of turn */
    static const int32_t a[] = {1, 2, 9}, b[] = {1, 3, 4, 9}, c[] = {5, 9}, d[] = {1, 2, 7, 9};
    slm_token_span spans[] = {{a, 3}, {b, 4}, {c, 2}, {d, 4}};
    slm_trie *t = NULL;
    uint32_t same[2];
    slm_error err;

    CHECK(slm_trie_build(spans, 4, &t, same, &err) == SLM_OK, "%s", err.message);
    CHECK(t->n_stages == 3 && t->depth == 3, "%u stages, depth %u", t->n_stages, t->depth);
    CHECK(t->stages[0].n_children == 2 && t->stages[0].path_length == 0, "first stage");
    CHECK(t->stages[1].path_length == 1 && t->path[t->stages[1].path_begin] == 1, "path of the second stage");
    CHECK(t->max_feed == 2, "max_feed %u", t->max_feed);
    for (int i = 0; i < 4; i++)
        CHECK(walk(t, spans[i].ids, spans[i].n) == i, "label %d", i);
    slm_trie_free(t);
    CHECK(slm_trie_build(spans, 1, &t, same, &err) == SLM_OK && t->n_stages == 0, "one label needs no decision");
    slm_trie_free(t);
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
        for (uint32_t c = 0; c < stage->n_children; c++) {
            leaves += t->child_to[stage->child_begin + c] < 0;
            wrong += c > 0 && t->child_ids[stage->child_begin + c - 1] >= t->child_ids[stage->child_begin + c];
        }
    }
    CHECK(wrong == 0 && leaves == N, "%d stages are wrong, %u leaves", wrong, leaves);
    slm_trie_free(t);
}

int main(void)
{
    test_example();
    test_common_beginning();
    test_random();
    TEST_MAIN_END("test_trie");
}
