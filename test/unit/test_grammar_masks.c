/*
 * A mask allows exactly the tokens whose bytes can be read, whatever shortcut it was made by: every mask on random walks is compared with
 * reading every token of the vocabulary, and with the mask of a grammar that has computed nothing else.
 */
#include <string.h>

#include "engine/base/rng.h"
#include "engine/grammar/grammar.h"
#include "slm_test.h"

enum { TOKENS = 3000, WALKS = 3, LONGEST = 60 };

static uint64_t drawn;
static char arena[TOKENS * 64];
static slm_token_text texts[TOKENS];

static uint32_t draw(uint32_t n)
{
    return (uint32_t) (slm_rng_at(17, drawn++) % n);
}

/* Every byte, and random rows of what texts and JSON are made of: halves of characters too. */
static slm_token_vocab *make_vocab(void)
{
    static const char *const parts[] = {"a", "b", "the", " ", " a", "  ", "@", ".", "x.", "0", "12", "-", ":", "\"", "\",\"", "\":", "},{",
                                        "[", "]", "{", "}", ",", "\\", "\\n", "\\u00", "\xc3\xa9", "\xc3", "\xa9", "\xe2\x82\xac",
                                        "\xe2\x82",
                                        "\xac", "\xf0\x9f\x98\x80", "\xc2\xa0", "true", "null", "maker", "operator", "\t", "\x7f", "/"};
    slm_token_vocab *v = NULL;
    slm_error err = {0};
    size_t at = 0;
    for (uint32_t i = 0; i < TOKENS; i++) {
        size_t begin = at;
        uint32_t n = i < 256 ? 0 : 1 + draw(i % 40 == 0 ? 12 : 4);
        if (i < 256)
            arena[at++] = (char) i;
        for (uint32_t k = 0; k < n; k++) {
            const char *part = parts[draw(sizeof parts / sizeof *parts)];
            if (at - begin + strlen(part) < 60) {
                memcpy(arena + at, part, strlen(part));
                at += strlen(part);
            }
        }
        texts[i] = (slm_token_text) {arena + begin, (uint32_t) (at - begin)};
    }
    CHECK(slm_token_vocab_build(texts, TOKENS, &v, &err) == SLM_OK, "%s", err.message);
    return v;
}

static bool allows(const int32_t *ids, uint32_t n, const uint64_t *bits, uint32_t id)
{
    for (uint32_t i = 0; bits == NULL && i < n; i++)
        if (ids[i] == (int32_t) id)
            return true;
    return bits != NULL && (bits[id / 64] >> id % 64 & 1);
}

/* How many tokens of a mask are wrong; picks one of it. */
static int wrong_tokens(slm_grammar *g, uint32_t state, bool narrow, uint64_t *kept, uint32_t *picked)
{
    const int32_t *ids;
    const uint64_t *bits;
    uint32_t n, to, fitting = 0;
    int wrong = 0;
    slm_error err = {0};
    *picked = TOKENS;
    if (slm_grammar_mask(g, state, &ids, &n, &bits, &err) != SLM_OK) {
        CHECK(false, "%s", err.message);
        return -1;
    }
    CHECK((ids != NULL) != (bits != NULL) && (ids != NULL || n == 0), "%u ids beside a mask of bits", n);
    memset(kept, 0, (TOKENS + 63) / 64 * sizeof *kept);
    for (uint32_t i = 0; i < TOKENS; i++)
        kept[i / 64] |= (uint64_t) allows(ids, n, bits, i) << i % 64;
    for (uint32_t i = 0; i < TOKENS; i++) {
        bool fits = slm_grammar_advance(g, state, texts[i].data, texts[i].length, &to, &err) == SLM_OK;
        bool allowed = kept[i / 64] >> i % 64 & 1;
        if (fits != allowed && !(narrow && fits) && wrong++ == 0)
            printf("token %u \"%.*s\" %s\n", i, (int) texts[i].length, texts[i].data, fits ? "is missing" : "is too much");
        if (allowed && draw(++fitting) == 0)
            *picked = i;
    }
    return wrong;
}

/* narrow: a token that ends two texts that must differ is never allowed. */
static void walk(const slm_token_vocab *v, slm_grammar_kind kind, const char *text, bool narrow)
{
    slm_grammar *g = NULL, *fresh = NULL;
    slm_error err = {0};
    CHECK(slm_grammar_compile(v, kind, text, strlen(text), &g, &err) == SLM_OK, "%s: %s", text, err.message);
    for (int w = 0; g != NULL && w < WALKS; w++) {
        uint32_t state = 0, again = 0, picked = 0;
        uint64_t kept[(TOKENS + 63) / 64], other[(TOKENS + 63) / 64];
        char said[LONGEST * 64];
        size_t n = 0;
        int wrong = 0;
        bool good = slm_grammar_start(g, &state, &err) == SLM_OK;
        for (int i = 0; good && i < LONGEST && wrong == 0; i++) {
            wrong = wrong_tokens(g, state, narrow, kept, &picked);
            if (i % 8 == 3 && wrong == 0) { /* the same mask, whatever has been computed before */
                good = slm_grammar_compile(v, kind, text, strlen(text), &fresh, &err) == SLM_OK &&
                       slm_grammar_start(fresh, &again, &err) == SLM_OK &&
                       (n == 0 || slm_grammar_advance(fresh, again, said, n, &again, &err) == SLM_OK);
                CHECK(good && wrong_tokens(fresh, again, narrow, other, &again) == 0 && memcmp(kept, other, sizeof kept) == 0,
                      "%s: another mask behind \"%.*s\"", text, (int) n, said);
                slm_grammar_free(fresh);
                fresh = NULL;
            }
            if (picked == TOKENS)
                break;
            memcpy(said + n, texts[picked].data, texts[picked].length);
            n += texts[picked].length;
            good = slm_grammar_advance(g, state, texts[picked].data, texts[picked].length, &state, &err) == SLM_OK;
        }
        CHECK(good && wrong == 0, "%s: %d tokens are wrong behind \"%.*s\" %s", text, wrong, (int) n, said, err.message);
    }
    slm_grammar_free(g);
}

int main(void)
{
    static const char *const schemas[] = {
        "{\"type\":\"string\"}",
        "{\"type\":\"string\",\"pattern\":\".+@.+\"}",
        "{\"type\":\"string\",\"format\":\"email\"}",
        "{\"type\":\"string\",\"maxLength\":9}",
        "{\"type\":\"string\",\"minLength\":40}",
        "{\"type\":\"string\",\"pattern\":\"^[^:]+:[^:]+$\"}",
        "{\"type\":\"string\",\"pattern\":\"^(?:\\\\S+\\\\s+){0,9}\\\\S+$\",\"maxLength\":60}",
        "{\"type\":\"string\",\"pattern\":\"^(?:\\\\S+\\\\s+){0,99}\\\\S+$\",\"maxLength\":130}",
        "{\"type\":\"string\",\"pattern\":\"^x*(the|ab{50})$\",\"maxLength\":120}",
        "{\"type\":\"string\",\"oneOf\":[{\"pattern\":\"maker\"},{\"pattern\":\"operator\"},{\"pattern\":\"the\"}]}",
        "{\"type\":\"string\",\"pattern\":\"^[^]{0,6}the a$\"}",
        "{\"type\":\"string\",\"pattern\":\"^.{0,12}$\"}",
        "{\"type\":\"string\",\"pattern\":\"^(.{1,3}){0,4}$\"}",
        "{\"type\":\"object\",\"patternProperties\":{\"^[^]{0,5}$\":true,\"^[a-z ]{6,}$\":true},\"additionalProperties\":false}",
        "{\"not\":{\"enum\":[\"a\",\"the\",1]}}",
        "{\"type\":\"array\",\"uniqueItems\":true,\"items\":{\"type\":[\"string\",\"number\",\"boolean\"]}}",
        "{\"type\":\"array\",\"items\":{\"enum\":[\"a\",\"b\",\"\\u00e9\",12]},\"uniqueItems\":true}",
        "{\"type\":\"object\",\"minProperties\":2,\"additionalProperties\":{\"type\":[\"string\",\"integer\"]}}",
        "{\"oneOf\":[{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"}},\"required\":[\"a\"]},"
        "{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"contains\":{\"const\":\"the\"}}]}",
        "{\"anyOf\":[{\"properties\":{\"a\":{\"$ref\":\"#\"},\"b\":{\"type\":\"string\"}}},{\"properties\":{\"a\":{\"$ref\":\"#\"}}},"
        "{\"required\":[\"the\"]},{\"items\":{\"$ref\":\"#\"}}]}",
    };
    slm_token_vocab *v = make_vocab();
    for (size_t i = 0; v != NULL && i < sizeof schemas / sizeof *schemas; i++)
        walk(v, SLM_GRAMMAR_JSON_SCHEMA, schemas[i],
             strstr(schemas[i], "uniqueItems") != NULL || strstr(schemas[i], "minProp") != NULL);
    if (v != NULL) {
        walk(v, SLM_GRAMMAR_REGEX, "(the |a |b)*\\.", false);
        walk(v, SLM_GRAMMAR_REGEX, "[^@]*@[^@]*", false);
        walk(v, SLM_GRAMMAR_REGEX, "[^]{0,90}", false);
        walk(v, SLM_GRAMMAR_REGEX, "[^]{2,7}(the|a b)+[^]{5}", false);
        walk(v, SLM_GRAMMAR_GBNF, "root ::= [^\\x00]{0,5} list\nlist ::= \"the\" list | \"a\"\n", false);
        walk(v, SLM_GRAMMAR_GBNF, "root ::= \"a\" list \"b\"\nlist ::= [^,\"]+ (\",\" [^,\"]+)* | \"{\" list \"}\"\n", false);
    }
    slm_token_vocab_free(v);
    TEST_MAIN_END("test_grammar_masks");
}
