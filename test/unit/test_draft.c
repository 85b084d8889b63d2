/* Guesses from earlier text: what they continue, and how their size follows success. */
#include "engine/decode/draft.h"
#include "slm_test.h"

static void test_find(void)
{
    static const int32_t ids[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4}, no[] = {1, 2, 3, 4, 9, 3, 4};
    slm_draft d = {0};
    uint32_t n;

    CHECK(slm_draft_find(&d, ids, 12, 10, &n) == 4 && n == 3, "what followed 2 3 4: %u tokens", n);
    CHECK(slm_draft_find(&d, ids, 12, 2, &n) == 4 && n == 2, "no more than wanted: %u", n);
    CHECK(slm_draft_find(&d, no, 7, 10, &n) == 7 && n == 0, "two tokens are no reason to begin");
    slm_draft_learn(&d, 3, 3);
    CHECK(slm_draft_find(&d, no, 7, 10, &n) == 4 && n == 3, "but enough while guesses hold: %u", n);
    CHECK(slm_draft_find(&d, ids, 1, 10, &n) == 1 && n == 0, "a single token");
}

static void test_learning(void)
{
    static const int32_t ids[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3};
    slm_draft d = {0};
    uint32_t n, waited = 0, first;

    slm_draft_find(&d, ids, 12, 10, &n);
    first = n;
    slm_draft_learn(&d, first, first);
    CHECK(slm_draft_find(&d, ids, 12, 10, &n) == 3 && n == 6, "doubled: %u", n);
    slm_draft_learn(&d, 6, 0);
    while (slm_draft_find(&d, ids, 12, 10, &n), n == 0)
        waited++;
    CHECK(waited == 16, "a failed guess pauses for %u tokens", waited);
    CHECK(n == first, "and begins small again: %u", n);
    slm_draft_learn(&d, first, 0);
    for (waited = 0; slm_draft_find(&d, ids, 12, 10, &n), n == 0;)
        waited++;
    CHECK(waited == 32, "then for %u", waited);
    slm_draft_learn(&d, first, 1);
    CHECK(slm_draft_find(&d, ids, 12, 10, &n) == 3, "a guess that held in part goes on");
}

int main(void)
{
    test_find();
    test_learning();
    TEST_MAIN_END("test_draft");
}
