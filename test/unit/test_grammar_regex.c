/* Regular expressions as grammars: what they accept, and what is refused by name. */
#include "grammar_accept.h"

static const grammar_case cases[] = {
    {"abc", {"abc"}, {"", "ab", "abcd", "xabc"}},
    {"a|bc|", {"a", "bc", ""}, {"b", "abc"}},
    {"(?:ab)+c?", {"ab", "ababc"}, {"", "abcab"}},
    {"[a-c]{2,4}", {"ab", "abca"}, {"a", "abcab", "ad"}},
    {"x{3}", {"xxx"}, {"xx", "xxxx"}},
    {"x{2,}", {"xx", "xxxxxxx"}, {"x"}},
    {"(a{1,3}){2}", {"aa", "aaaaaa"}, {"a", "aaaaaaa"}},
    {"\\d{4}-\\d\\d", {"2026-11"}, {"2026-1", "a026-11"}},
    {"[^a]", {"b", "\xC3\xA9", "\xF0\x9F\x98\x80"}, {"a", "bb", "\xC3", "\xC3\x28", "\xED\xA0\x80", "\xC0\x80"}},
    {"[\\u00e0-\\u00ff]+", {"\xC3\xA9\xC3\xA0"}, {"e", "\xC3\x80"}},
    {"\\u{1F600}|\\ud83d\\ude01", {"\xF0\x9F\x98\x80", "\xF0\x9F\x98\x81"}, {"\xF0\x9F\x98\x82"}},
    {"^a$|^b", {"a", "b"}, {"", "ab"}},
    {"a^b|c$d|e", {"e"}, {"ab", "cd", "a^b"}},
    {"(?=.*\\d)[a-z\\d]{3}", {"a1b", "123"}, {"abc", "a1", "a1bc"}},
    {"(?!foo)[a-z]+", {"fo", "bar", "fob"}, {"foo", "foobar"}},
    {"a(?!b).", {"ac", "a1"}, {"ab", "a"}},
    {"(?:(?!x)[a-z]){0,3}", {"", "abc"}, {"axb"}},
    {"(?<year>\\d+)", {"12"}, {""}},
    {"\\w+\\s\\W", {"a_1 !"}, {"a b"}},
    {"\\p{Lu}\\p{L}*", {"\xC3\x89t\xC3\xA9", "Abc"}, {"abc", "A1"}},
    {"[\\]\\-a]", {"]", "-", "a"}, {"b", "\\"}},
    {"a{,3}", {"a{,3}"}, {"aaa"}},
    {"\\x41\\t\\/", {"A\t/"}, {"A\t"}},
};

static const grammar_refusal refusals[] = {
    {"(a)\\1", SLM_UNSUPPORTED, "back-reference"},
    {"(?<=a)b", SLM_UNSUPPORTED, "lookbehind"},
    {"\\bfoo", SLM_UNSUPPORTED, "word boundary"},
    {"(?i)foo", SLM_UNSUPPORTED, "flag"},
    {"a++", SLM_UNSUPPORTED, "possessive"},
    {"(?:(?=a)a)*", SLM_UNSUPPORTED, "assertion"},
    {"(a", SLM_INVALID, "group"},
    {"a)", SLM_INVALID, "bracket"},
    {"[a", SLM_INVALID, "class"},
    {"*a", SLM_INVALID, "nothing"},
    {"a{3,2}", SLM_INVALID, "wrong way round"},
    {"a{1000000}", SLM_LIMIT, "100,000"},
    {"\\", SLM_INVALID, "backslash"},
    {"[b-a]", SLM_INVALID, "range"},
    {"a^b", SLM_INVALID, "no text matches"},
    {"\\p{Greek}", SLM_UNSUPPORTED, "property"},
    {"(?!a)a", SLM_INVALID, "no text matches"},
};

static void test_forced(void)
{
    slm_grammar *g = NULL;
    slm_error err = {0};
    uint32_t state;
    char out[16];
    CHECK(slm_grammar_compile(NULL, SLM_GRAMMAR_REGEX, "abc(d|e)f", 9, &g, &err) == SLM_OK, "%s", err.message);
    CHECK(slm_grammar_start(g, &state, &err) == SLM_OK, "%s", err.message);
    CHECK(slm_grammar_forced(g, state, out, sizeof out) == 3 && memcmp(out, "abc", 3) == 0, "forced up to the choice");
    CHECK(slm_grammar_forced(g, state, out, 2) == 2, "as far as there is room");
    CHECK(slm_grammar_advance(g, state, "abcd", 4, &state, &err) == SLM_OK, "%s", err.message);
    CHECK(slm_grammar_forced(g, state, out, sizeof out) == 1 && out[0] == 'f' && !slm_grammar_is_done(g, state), "the last byte");
    CHECK(slm_grammar_advance(g, state, "f", 1, &state, &err) == SLM_OK && slm_grammar_is_done(g, state), "done");
    CHECK(slm_grammar_forced(g, state, out, sizeof out) == 0, "nothing behind the end");
    CHECK(slm_grammar_advance(g, state, "f", 1, &state, &err) == SLM_INVALID, "nor allowed");
    slm_grammar_free(g);
}

int main(void)
{
    grammar_run(SLM_GRAMMAR_REGEX, cases, sizeof cases / sizeof *cases);
    grammar_run_refusals(SLM_GRAMMAR_REGEX, refusals, sizeof refusals / sizeof *refusals);
    test_forced();
    TEST_MAIN_END("grammar_regex");
}
