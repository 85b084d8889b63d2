/*
 * Grammars over the tokens of a tokenizer (decode/grammar.c): walks at random through what is allowed end in texts of the form, whatever is
 * not allowed is refused, forced runs are what the tokenizer would write, and a turn's leading space does not count.
 */
#include "engine/base/rng.h"
#include "engine/decode/grammar.h"
#include "slm_test.h"
#include "vocab_small.h"

static slm_constraint *compile(slm_tokenizer *tok, slm_grammar_kind kind, const char *text)
{
    slm_constraint *c = NULL;
    slm_error err = {0};

    CHECK(slm_grammar_constraint(tok, (uint32_t) slm_tokenizer_size(tok) + 7, kind, text, strlen(text), &c, &err) == SLM_OK, "%s: %s",
          text, err.message);
    return c;
}

/* The i-th of the tokens that are allowed, modulo their number; *n: how many there are. */
static int32_t nth(const slm_allowed *a, uint32_t n_vocab, uint64_t i, uint32_t *n)
{
    int32_t found = -1;

    *n = a->n_ids;
    if (a->ids != NULL)
        return a->ids[i % a->n_ids];
    for (uint32_t id = 0; id < n_vocab; id++)
        *n += a->mask[id / 64] >> id % 64 & 1;
    i %= *n;
    for (uint32_t id = 0, k = 0; id < n_vocab && found < 0; id++)
        if ((a->mask[id / 64] >> id % 64 & 1) != 0 && k++ == i)
            found = (int32_t) id;
    return found;
}

static bool among(const slm_allowed *a, int32_t id)
{
    if (a->ids == NULL)
        return (a->mask[id / 64] >> id % 64 & 1) != 0;
    for (uint32_t i = 0; i < a->n_ids; i++)
        if (a->ids[i] == id)
            return true;
    return false;
}

/* Is every token refused that is not allowed, and no other? A state that refuses is as before. */
static int wrong_refusals(slm_constraint *c, void *state)
{
    slm_allowed a, again;
    uint8_t in[1024] = {0};
    slm_error err;
    int wrong = c->ops->allowed(c, state, &a, &err) != SLM_OK;

    for (int32_t id = 0; id < (int32_t) c->n_vocab; id++)
        in[id] = among(&a, id);
    for (int32_t id = 0; id < (int32_t) c->n_vocab; id++) {
        void *fork = slm_constraint_fork(c, state);

        wrong += (c->ops->advance(c, fork, id, &err) == SLM_OK) != in[id];
        wrong += c->ops->advance(c, fork, (int32_t) c->n_vocab, &err) != SLM_INVALID;
        slm_constraint_end(c, fork);
    }
    wrong += c->ops->allowed(c, state, &again, &err) != SLM_OK;
    for (int32_t id = 0; id < (int32_t) c->n_vocab; id++)
        wrong += among(&again, id) != in[id];
    return wrong;
}

/* Writes a text at random; forced runs are taken as they come where `forces`. *n_forced: tokens so taken. */
static bool write_text(slm_tokenizer *tok, slm_constraint *c, uint64_t seed, bool skip, bool forces, char *out, size_t room, int *n_forced)
{
    void *state = NULL;
    slm_error err = {0};
    size_t length = 0;
    bool ok = slm_constraint_begin(c, skip, &state, &err) == SLM_OK;

    out[0] = '\0';
    for (uint64_t step = 0; ok && !c->ops->done(c, state) && step < 200; step++) {
        int32_t ids[16];
        uint32_t n = forces ? c->ops->forced(c, state, ids, 16) : 0, choices;
        slm_allowed a;

        ok = c->ops->allowed(c, state, &a, &err) == SLM_OK && (n == 0 || among(&a, ids[0]));
        *n_forced += (int) n;
        if (ok && n == 0) {
            ids[n++] = nth(&a, c->n_vocab, slm_rng_at(seed, step), &choices);
            ok = choices > 0;
        }
        for (uint32_t i = 0; i < n && ok; i++) {
            slm_bytes piece = slm_tokenizer_piece(tok, ids[i], false);
            size_t from = skip && step == 0 && i == 0 && piece.length > 0 && piece.data[0] == ' ';

            if (piece.length - from + length < room && piece.length > 0) {
                memcpy(out + length, piece.data + from, piece.length - from);
                length += piece.length - from;
                out[length] = '\0';
            }
            ok = c->ops->advance(c, state, ids[i], &err) == SLM_OK;
        }
    }
    ok = ok && c->ops->done(c, state);
    slm_constraint_end(c, state);
    return ok;
}

static bool is_record(const char *t)
{
    size_t n;

    if (strncmp(t, "{\"hello\":\"", 10) != 0)
        return false;
    n = strspn(t += 10, "0123456789");
    if (n < 1 || n > 3 || strncmp(t += n, "\",\"world\":", 10) != 0)
        return false;
    t += 10;
    return strcmp(t, "true}") == 0 || strcmp(t, "false}") == 0;
}

static const char schema[] = "{\"type\":\"object\",\"properties\":{\"hello\":{\"type\":\"string\",\"pattern\":\"^[0-9]{1,3}$\"},"
                             "\"world\":{\"type\":\"boolean\"}},\"required\":[\"hello\",\"world\"],\"additionalProperties\":false}";

static void walk(slm_tokenizer *tok, bool skip)
{
    slm_constraint *c = compile(tok, SLM_GRAMMAR_JSON_SCHEMA, schema), *e = compile(tok, SLM_GRAMMAR_REGEX, "[0-9]{1,2}|aa+");
    void *state = NULL;
    slm_error err;
    char text[400], plain[400];
    int n_forced = 0, none = 0;
    int32_t one = 0;

    for (uint64_t seed = 0; seed < 100; seed++) {
        CHECK(write_text(tok, c, seed, skip, seed % 2 == 0, text, sizeof text, seed % 2 == 0 ? &n_forced : &none) && is_record(text),
              "%s", text);
        CHECK(write_text(tok, e, seed, skip, true, plain, sizeof plain, &none) && strspn(plain, "0123456789a") == strlen(plain) &&
                  strlen(plain) > 0,
              "%s", plain);
    }
    CHECK(n_forced > 50 * 5, "%d tokens of the keys are forced", n_forced);
    CHECK(slm_constraint_begin(c, skip, &state, &err) == SLM_OK && wrong_refusals(c, state) == 0, "what is refused at the beginning");
    slm_constraint_end(c, state);
    CHECK(slm_constraint_begin(e, skip, &state, &err) == SLM_OK && wrong_refusals(e, state) == 0, "what is refused at the beginning");
    while (slm_tokenizer_piece(tok, one, false).length != 1 || slm_tokenizer_piece(tok, one, false).data[0] != '1')
        one++;
    CHECK(e->ops->advance(e, state, one, &err) == SLM_OK && wrong_refusals(e, state) == 0,
          "what is refused where the text may end");
    slm_constraint_end(e, state);
    slm_constraint_drop(c);
    slm_constraint_drop(e);
}

static void test_bpe(void)
{
    static small_vocab s;
    void *blob, *state = NULL;
    slm_tokenizer *tok;
    slm_constraint *c;
    slm_error err = {0};
    int32_t ids[8];
    uint32_t n;

    small_bpe(&s, "gpt-2", NULL);
    tok = small_open(&s.v, "chatml", &blob);
    walk(tok, false);
    c = compile(tok, SLM_GRAMMAR_REGEX, "hello world!");
    CHECK(slm_constraint_begin(c, false, &state, &err) == SLM_OK && (n = c->ops->forced(c, state, ids, 8)) == 3 &&
              ids[0] == slm_tokenizer_find(tok, "hello", 5),
          "a single text is forced as it is encoded");
    slm_constraint_end(c, state);
    slm_constraint_drop(c);
    c = compile(tok, SLM_GRAMMAR_REGEX, "hell(o| no)");
    CHECK(slm_constraint_begin(c, false, &state, &err) == SLM_OK && c->ops->forced(c, state, ids, 8) == 0,
          "what the text behind it would make longer is not forced");
    slm_constraint_end(c, state);
    slm_constraint_drop(c);
    CHECK(slm_grammar_constraint(tok, 300, SLM_GRAMMAR_JSON_SCHEMA, "{\"type\":3}", 10, &c, &err) == SLM_INVALID, "a bad schema");
    slm_tokenizer_free(tok);
    free(blob);
}

static void test_spm(void)
{
    static small_vocab s;
    void *blob, *state = NULL;
    slm_tokenizer *tok;
    slm_constraint *c;
    slm_error err = {0};
    int32_t spaced;

    small_spm(&s, 1);
    tok = small_open(&s.v, "llama2", &blob);
    walk(tok, true);
    c = compile(tok, SLM_GRAMMAR_REGEX, "hello");
    spaced = slm_tokenizer_find(tok, "\xe2\x96\x81hello", 8);
    CHECK(slm_constraint_begin(c, true, &state, &err) == SLM_OK && (spaced < 0 || c->ops->advance(c, state, spaced, &err) == SLM_OK),
          "a word with its space begins the answer");
    slm_constraint_end(c, state);
    slm_constraint_drop(c);
    slm_tokenizer_free(tok);
    free(blob);
}

int main(void)
{
    test_bpe();
    test_spm();
    TEST_MAIN_END("test_grammar_tokens");
}
