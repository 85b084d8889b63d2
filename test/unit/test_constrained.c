/*
 * Answers under a constraint: on the tiny model of bytes, with a constraint of this file's own that allows
 *
 *   {"n":[0-9]{1,4},"w":"[a-z]{0,10}"}     and then the end of the turn
 *
 * and says so as ids or as a mask, with forced runs or without any.  Whatever the way, answers must be the same, complete, and of the form.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/decode/trie.h"
#include "engine/model/model.h"
#include "slm_test.h"
#include "tiny_model.h"

#define END 258

static slm_model *model;

/* ---- the constraint */

typedef struct form {
    slm_constraint base;
    bool as_mask, forces;
    int fails_at; /* place at which allowed() fails, -1 = never */
    int states;   /* that live */
    int32_t ids[TINY_VOCAB];
    uint64_t mask[(TINY_VOCAB + 63) / 64];
} form;

/* Places: the literals letter by letter, 'D' digits, 'L' letters, 'E' the end. */
static const char pattern[] = "{\"n\":D,\"w\":\"L\"}E";

typedef struct place {
    uint32_t at, count;
} place;

/* What may come at a place, ascending; returns how many. */
static uint32_t choices(const place *p, int32_t *ids)
{
    char at = pattern[p->at];
    uint32_t n = 0;

    if (at == 'D' || at == 'L') {
        if (at == 'L')
            ids[n++] = '"';
        if (at == 'D' && p->count > 0)
            ids[n++] = ',';
        for (int c = at == 'D' ? '0' : 'a'; p->count < (at == 'D' ? 4 : 10) && c <= (at == 'D' ? '9' : 'z'); c++)
            ids[n++] = c;
    } else if (at != '\0') {
        ids[n++] = at == 'E' ? END : at;
    }
    return n;
}

static bool move(place *p, int32_t id)
{
    int32_t ids[TINY_VOCAB];
    uint32_t n = choices(p, ids), i = 0;

    while (i < n && ids[i] != id)
        i++;
    if (i == n)
        return false;
    if ((pattern[p->at] == 'D' && id != ',') || (pattern[p->at] == 'L' && id != '"'))
        p->count++;
    else
        *p = (place){p->at + (pattern[p->at] == 'D' || pattern[p->at] == 'L' ? 2 : 1), 0};
    return true;
}

static slm_status start(slm_constraint *c, void *state, bool skip_space, slm_error *err)
{
    (void) skip_space;
    (void) err;
    ((form *) c)->states++;
    *(place *) state = (place){0};
    return SLM_OK;
}

static slm_status allowed(slm_constraint *c, const void *state, slm_allowed *out, slm_error *err)
{
    form *f = (form *) c;
    uint32_t n = choices(state, f->ids);

    if ((int) ((const place *) state)->at == f->fails_at)
        return slm_fail(err, SLM_LIMIT, "this far and no further");
    memset(f->mask, 0, sizeof f->mask);
    for (uint32_t i = 0; i < n; i++)
        f->mask[f->ids[i] / 64] |= UINT64_C(1) << f->ids[i] % 64;
    *out = f->as_mask ? (slm_allowed){.mask = f->mask} : (slm_allowed){.ids = f->ids, .n_ids = n};
    return SLM_OK;
}

static uint32_t forced(slm_constraint *c, const void *state, int32_t *ids, uint32_t max)
{
    place p = *(const place *) state;
    int32_t all[TINY_VOCAB];
    uint32_t n = 0;

    while (((form *) c)->forces && n < max && choices(&p, all) == 1 && move(&p, all[0]))
        ids[n++] = all[0];
    return n;
}

static slm_status advance(slm_constraint *c, void *state, int32_t id, slm_error *err)
{
    (void) c;
    return move(state, id) ? SLM_OK : slm_fail(err, SLM_INVALID, "token %d is not allowed", id);
}

static bool done(const slm_constraint *c, const void *state)
{
    (void) c;
    return pattern[((const place *) state)->at] == '\0';
}

static bool copy(slm_constraint *c, void *to, const void *from)
{
    ((form *) c)->states++;
    memcpy(to, from, sizeof(place));
    return true;
}

static void clear(slm_constraint *c, void *state)
{
    (void) state;
    ((form *) c)->states--;
}

static void destroy(slm_constraint *c)
{
    CHECK(((form *) c)->states == 0, "%d states are left", ((form *) c)->states);
    free(c);
}

static const slm_constraint_ops form_ops = {"form", start, allowed, forced, advance, NULL, done, copy, clear, destroy};

static form *form_new(bool as_mask, bool forces)
{
    form *f = calloc(1, sizeof *f);

    f->base = (slm_constraint){&form_ops, sizeof(place), TINY_VOCAB, model->tokenizer, 1, NULL, NULL};
    f->as_mask = as_mask;
    f->forces = forces;
    f->fails_at = -1;
    return f;
}

/* Is a text of the form, as a whole or as the beginning that it was cut to? */
static bool fits(const char *text, bool whole)
{
    place p = {0};

    for (; *text != '\0'; text++)
        if (!move(&p, (unsigned char) *text))
            return false;
    return !whole || pattern[p.at] == 'E';
}

/* ---- sessions */

typedef struct way {
    uint32_t batch, sequences;
    int threads;
    size_t kv_kib;
    bool as_mask, forces, speculate, together;
} way;

static slm_session *open_session(const way *w)
{
    slm_limits limits = {w->kv_kib << 10, w->batch, w->sequences, w->threads, NULL, SLM_KV_F16};
    slm_session *s = NULL;
    slm_error err = {0};

    CHECK(slm_session_new(model, &limits, &s, &err) == SLM_OK, "%s", err.message);
    return s;
}

static void drain(slm_session *s)
{
    CHECK(tiny_drain(s), "a step failed");
}

#define N 24

/* Request i: with a long text or a short one, greedy or not, some of them free. */
static slm_status submit(slm_session *s, slm_constraint *c, int i, float temperature, bool speculate, uint64_t *id, slm_error *err)
{
    char text[200];
    slm_segment segment = {SLM_ROLE_USER, 0, text, 0};
    slm_request r = {.mode = SLM_MODE_GENERATE,
                     .chat = true,
                     .segments = &segment,
                     .n_segments = 1,
                     .max_tokens = i % 6 == 5 ? 9 : 40,
                     .sampling = {temperature, i % 3 ? 0 : 20, i % 2 ? 1 : 0.9f, 0, i % 5 ? 1 : 1.3f, (uint64_t) i},
                     .speculate = speculate,
                     .constraint = i % 4 == 3 ? NULL : c};

    segment.length = (size_t) sprintf(text, "%d {\"n\":12,\"w\":\"ab\"} and {\"n\":7,\"w\":\"\"} %.*s", i, i * 3,
                                      "of a text that is longer for some than for others, as texts are");
    return slm_submit(s, &r, id, err);
}

static void answers(const way *w, float temperature, char **out)
{
    form *f = form_new(w->as_mask, w->forces);
    slm_session *s = open_session(w);
    uint64_t ids[N];
    const slm_result *r;
    slm_error err = {0};

    for (int i = 0; i < N; i++) {
        CHECK(submit(s, &f->base, i, temperature, w->speculate, &ids[i], &err) == SLM_OK, "%s", err.message);
        if (!w->together)
            drain(s);
    }
    slm_constraint_free(&f->base); /* requests hold it */
    drain(s);
    while ((r = slm_poll(s)) != NULL) {
        int i = 0;

        while (ids[i] != r->id)
            i++;
        CHECK(r->status == SLM_OK, "%s", r->error.message);
        CHECK(i % 4 == 3 || fits(r->text, r->finish == SLM_FINISH_STOP), "answer %d: %s", i, r->text);
        CHECK(i % 4 == 3 || i % 6 == 5 || r->finish == SLM_FINISH_STOP, "answer %d is not complete: %s", i, r->text);
        CHECK(r->usage.output_tokens == r->n_tokens && r->n_tokens <= (i % 6 == 5 ? 9 : 40), "%zu tokens", r->n_tokens);
        out[i] = strdup(r->text);
        slm_release(s, r->id);
    }
    slm_session_free(s);
}

/* The same answers one by one, together, in small batches, with ids and masks, forced or sampled, with guesses and without. */
static void test_ways(void)
{
    static const way ways[] = {{0, 0, 1, 4096, true, true, false, false}, {0, 0, 2, 4096, false, true, false, true},
                               {16, 5, 1, 4096, false, true, false, true}, {7, 3, 2, 4096, true, true, true, true},
                               {0, 0, 1, 4096, false, false, false, true}, {0, 2, 1, 4096, true, false, true, true},
                               {0, 1, 1, 4096, false, true, true, false},  {0, 0, 1, 96, false, true, true, true}};

    for (int t = 0; t < 2; t++) {
        char *want[N], *got[N];
        int different = 0, distinct = 0;

        answers(&(way){0, 0, 1, 4096, false, true, false, false}, 1.5f * (float) t, want);
        for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
            answers(&ways[i], 1.5f * (float) t, got);
            for (int k = 0; k < N; k++) {
                different += strcmp(want[k], got[k]) != 0;
                if (strcmp(want[k], got[k]) != 0)
                    fprintf(stderr, "way %zu, answer %d: %s, not %s\n", i, k, got[k], want[k]);
                free(got[k]);
            }
            CHECK(different == 0, "way %zu, temperature %g: %d answers differ", i, 1.5 * t, different);
        }
        for (int k = 1; k < N; k++)
            distinct += strcmp(want[k], want[k - 1]) != 0;
        CHECK(t == 0 || distinct > N / 2, "only %d answers differ from each other", distinct);
        for (int k = 0; k < N; k++)
            free(want[k]);
    }
}

/* ---- what is forced, cut, or nothing to compute */

static const way plain = {0, 0, 1, 4096, false, true, false, true};

static const slm_result *ask_once(slm_session *s, slm_request *r, slm_error *err)
{
    static const slm_segment segment = {SLM_ROLE_USER, 0, "Say something.", 14};
    uint64_t id;

    r->mode = SLM_MODE_GENERATE;
    r->chat = true;
    r->segments = &segment;
    r->n_segments = 1;
    if (slm_submit(s, r, &id, err) != SLM_OK)
        return NULL;
    drain(s);
    return slm_poll(s);
}

static void test_limits(void)
{
    form *f = form_new(false, true);
    slm_session *s = open_session(&plain);
    const char *stops[] = {",\"w", "\"n"};
    slm_session_stats before, after;
    slm_error err = {0};
    const slm_result *r;

    slm_session_get_stats(s, &before);
    r = ask_once(s, &(slm_request){.max_tokens = 3, .constraint = &f->base}, &err);
    CHECK(r != NULL && r->finish == SLM_FINISH_LENGTH && strcmp(r->text, "{\"n") == 0, "cut in the first forced run");
    r = ask_once(s, &(slm_request){.max_tokens = 30, .constraint = &f->base, .stops = &stops[1], .n_stops = 1}, &err);
    CHECK(r != NULL && r->finish == SLM_FINISH_STOP && strcmp(r->text, "{") == 0, "stopped in the first forced run");
    slm_session_get_stats(s, &after);
    CHECK(after.usage.steps == before.usage.steps && after.positions == before.positions, "nothing was computed for that");
    r = ask_once(s, &(slm_request){.max_tokens = 30, .constraint = &f->base, .stops = stops, .n_stops = 1}, &err);
    CHECK(r != NULL && r->finish == SLM_FINISH_STOP && fits(r->text, false) && strchr(r->text, ',') == NULL && strlen(r->text) > 5,
          "stopped in a later forced run: %s", r == NULL ? err.message : r->text);
    r = ask_once(s, &(slm_request){.max_tokens = 30, .constraint = &f->base}, &err);
    slm_session_get_stats(s, &before);
    /* 5 + 6 + 2 bytes and the end are forced and not sampled: those behind the last choice are not even fed */
    CHECK(r != NULL && r->finish == SLM_FINISH_STOP && before.positions - after.positions < 2 * (r->usage.prompt_tokens + r->n_tokens),
          "positions");
    CHECK(r != NULL && fits(r->text, true), "%s", r == NULL ? err.message : r->text);
    slm_session_free(s);
    slm_constraint_free(&f->base);
}

static void test_labels(void)
{
    static const int32_t yes[] = {'y', 'e', 's', END}, yellow[] = {'y', 'e', 'l', END}, no[] = {'n', 'o', END};
    const slm_token_span spans[] = {{yes, 4}, {yellow, 4}, {no, 3}};
    slm_session *s = open_session(&plain);
    slm_session_stats before, after;
    slm_error err = {0};
    int seen[3] = {0};

    for (uint32_t n = 1; n <= 3; n += 2) {
        slm_trie *trie = NULL;
        slm_constraint *c = NULL;
        uint32_t same[2];

        CHECK(slm_trie_build(spans, n, &trie, same, &err) == SLM_OK, "%s", err.message);
        CHECK(slm_labels_constraint(trie, TINY_VOCAB, model->tokenizer, &c, &err) == SLM_OK, "%s", err.message);
        slm_session_get_stats(s, &before);
        for (uint64_t seed = 0; seed < 20; seed++) {
            const slm_result *r = ask_once(s, &(slm_request){.max_tokens = 30, .constraint = c, .sampling = {10, 0, 1, 0, 1, seed}}, &err);
            bool one = r != NULL && r->finish == SLM_FINISH_STOP;

            CHECK(one && (strcmp(r->text, "yes") == 0 || (n == 3 && (strcmp(r->text, "yel") == 0 || strcmp(r->text, "no") == 0))), "%s",
                  r == NULL ? err.message : r->text);
            if (one)
                seen[r->text[0] == 'n' ? 2 : r->text[2] == 'l']++;
        }
        slm_session_get_stats(s, &after);
        CHECK((n == 1) == (after.positions == before.positions), "a single label needs no model");
        CHECK(n == 1 || (seen[0] > 20 && seen[1] > 0 && seen[2] > 0), "each of the labels comes: %d %d %d", seen[0], seen[1], seen[2]);
        slm_constraint_free(c);
    }
    slm_session_free(s);
}

/* ---- what goes wrong */

static void test_failures(void)
{
    form *bad = form_new(false, true), *good = form_new(false, true), *other = form_new(false, true);
    slm_session *s = open_session(&plain);
    slm_error err = {0};
    uint64_t ids[3];
    const slm_result *r;
    int failed = 0;

    bad->fails_at = 12; /* at the letters */
    for (int i = 0; i < 3; i++)
        CHECK(submit(s, i == 1 ? &bad->base : &good->base, i, 0, false, &ids[i], &err) == SLM_OK, "%s", err.message);
    drain(s);
    while ((r = slm_poll(s)) != NULL) {
        failed += r->status == SLM_LIMIT && r->id == ids[1] && strcmp(r->error.message, "this far and no further") == 0;
        CHECK(r->id == ids[1] || (r->status == SLM_OK && fits(r->text, true)), "its neighbours have their answers");
    }
    CHECK(failed == 1, "the request whose constraint fails has the error");
    other->base.vocabulary = other;
    CHECK(ask_once(s, &(slm_request){.max_tokens = 3, .constraint = &other->base}, &err) == NULL && err.status == SLM_INVALID &&
              strstr(err.message, "another model") != NULL,
          "a constraint of another model is refused: %s", err.message);
    submit(s, &good->base, 0, 0, false, &ids[0], &err); /* dropped while it runs */
    slm_step(s, NULL, &err);
    slm_release(s, ids[0]);
    submit(s, &good->base, 0, 0, false, &ids[0], &err);
    slm_session_reset(s);
    CHECK(good->states == 0 && good->base.references == 1, "%d states, %u references", good->states, good->base.references);
    slm_session_free(s);
    slm_constraint_free(&bad->base);
    slm_constraint_free(&good->base);
    slm_constraint_free(&other->base);
    slm_constraint_free(NULL);
}

static void test_stream(void)
{
    form *f = form_new(true, true);
    slm_session *s = open_session(&plain);
    const slm_segment segment = {SLM_ROLE_USER, 0, "Say something.", 14};
    slm_request r = {.segments = &segment, .n_segments = 1, .max_tokens = 40, .constraint = &f->base, .stream = true};
    char text[200] = "";
    const char *piece;
    size_t length, active = 1;
    slm_error err = {0};
    uint64_t id;

    CHECK(slm_submit(s, &r, &id, &err) == SLM_OK, "%s", err.message);
    while (active > 0) {
        while (slm_next_piece(s, id, &piece, &length))
            strncat(text, piece, length);
        CHECK(slm_step(s, &active, &err) == SLM_OK, "%s", err.message);
    }
    while (slm_next_piece(s, id, &piece, &length))
        strncat(text, piece, length);
    CHECK(fits(text, true) && strcmp(slm_poll(s)->text, text) == 0, "%s", text);
    slm_session_free(s);
    slm_constraint_free(&f->base);
}

int main(void)
{
    model = tiny_model("Q8_0");
    if (model == NULL)
        return 1;
    test_ways();
    test_limits();
    test_labels();
    test_failures();
    test_stream();
    slm_model_close(model);
    TEST_MAIN_END("test_constrained");
}
