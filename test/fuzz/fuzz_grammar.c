/*
 * Fuzz target of constraint grammars: hostile schemas, patterns and GBNF, and walks through what is compiled.
 *
 *   byte 0: kind (mod 3) and how the walk chooses; the rest is the grammar's text
 *
 * Besides not crashing and ending soon: refusals carry a message; whatever is compiled has a way on from every state that is reached, what
 * is forced fits, the tokens of a mask are those that the automaton takes, and equal ways lead to equal states.  A broken promise traps.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "engine/grammar/grammar.h"

#define PROMISE(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: broken promise: %s\n", __FILE__, __LINE__, #condition); \
            __builtin_trap(); \
        } \
    } while (0)

enum { STEPS = 40, N_TOKENS = 256 + 24 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* All bytes, and some words that cross borders of lexemes. */
static const slm_token_vocab *vocab(void)
{
    static const char *const words[24] = {"{\"", "\":", "\",\"", "\"}", "},{", "[[", "]]", "],", "true", "null", "0.", "12", "abc",
                                          "a\"", "\\n", "\\u00", "\xC3\xA9", "\xE2\x82", "}}", "[]", "{}", "1,", ",\"", "\":\""};
    static char bytes[256];
    static slm_token_vocab *made;
    slm_token_text texts[N_TOKENS];
    slm_error err = {0};
    if (made != NULL)
        return made;
    for (int i = 0; i < 256; i++) {
        bytes[i] = (char) i;
        texts[i] = (slm_token_text) {&bytes[i], 1};
    }
    for (int i = 0; i < 24; i++)
        texts[256 + i] = (slm_token_text) {words[i], (uint32_t) strlen(words[i])};
    PROMISE(slm_token_vocab_build(texts, N_TOKENS, &made, &err) == SLM_OK);
    return made;
}

/* Every single byte that the mask allows fits, and every other does not; returns one that does, -1 for none. */
static int check_mask(slm_grammar *g, uint32_t state, unsigned choose)
{
    const int32_t *ids;
    const uint64_t *bits;
    uint32_t n, n_bytes = 0, to;
    uint8_t fits[256];
    slm_error err = {0};
    slm_status status = slm_grammar_mask(g, state, &ids, &n, &bits, &err);
    if (status != SLM_OK) {
        PROMISE(status == SLM_LIMIT && err.message[0] != 0);
        return -2;
    }
    for (unsigned c = 0; c < 256; c++) {
        char byte = (char) c;
        bool in = bits != NULL && (bits[c / 64] >> c % 64 & 1);
        for (uint32_t i = 0; bits == NULL && i < n; i++)
            in = in || ids[i] == (int32_t) c;
        status = slm_grammar_advance(g, state, &byte, 1, &to, &err);
        if (status != SLM_OK && status != SLM_INVALID)
            return -2;
        PROMISE(in == (status == SLM_OK));
        if (in)
            fits[n_bytes++] = (uint8_t) c;
    }
    return n_bytes == 0 ? -1 : fits[choose % n_bytes];
}

static void check_forced(slm_grammar *g, uint32_t state)
{
    char forced[64];
    uint32_t n = slm_grammar_forced(g, state, forced, sizeof forced), to;
    slm_error err = {0};
    if (n > 0)
        PROMISE(slm_grammar_advance(g, state, forced, n, &to, &err) != SLM_INVALID);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const slm_grammar_kind kinds[] = {SLM_GRAMMAR_JSON_SCHEMA, SLM_GRAMMAR_REGEX, SLM_GRAMMAR_GBNF};
    slm_grammar *g = NULL;
    slm_error err = {0};
    uint32_t state, again;
    char text[STEPS];
    size_t n = 0;
    unsigned choose;
    if (size < 1)
        return 0;
    choose = data[0] / 3;
    if (slm_grammar_compile(vocab(), kinds[data[0] % 3], (const char *) data + 1, size - 1, &g, &err) != SLM_OK) {
        PROMISE(err.message[0] != 0 && err.status != SLM_INTERNAL);
        return 0;
    }
    PROMISE(slm_grammar_start(g, &state, &err) == SLM_OK);
    while (n < STEPS) {
        int byte = check_mask(g, state, choose);
        if (byte < 0) {
            PROMISE(byte == -2 || slm_grammar_accepts(g, state));
            break;
        }
        check_forced(g, state);
        text[n++] = (char) byte;
        slm_status status = slm_grammar_advance(g, state, &text[n - 1], 1, &state, &err);
        PROMISE(status == SLM_OK || status == SLM_LIMIT);
        if (status != SLM_OK)
            break;
        choose = choose * 7 + 3 + (unsigned) n;
    }
    if (slm_grammar_start(g, &again, &err) == SLM_OK && slm_grammar_advance(g, again, text, n, &again, &err) == SLM_OK)
        PROMISE(again == state);
    slm_grammar_free(g);
    return 0;
}
