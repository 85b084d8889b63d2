/* GBNF grammars: what they derive, recursion, and what is refused by name. */
#include "grammar_accept.h"

#define JSON_GBNF \
    "root ::= object\nvalue ::= object | array | string | number | (\"true\" | \"false\" | \"null\")\n" \
    "object ::= \"{\" ( string \":\" value (\",\" string \":\" value)* )? \"}\"\narray ::= \"[\" ( value (\",\" value)* )? \"]\"\n" \
    "string ::= \"\\\"\" ( [^\"\\\\\\x7F\\x00-\\x1F] | \"\\\\\" ([\"\\\\bfnrt] | \"u\" [0-9a-fA-F]{4}) )* \"\\\"\"\n" \
    "number ::= (\"-\"? ([0-9] | [1-9] [0-9]{0,15})) (\".\" [0-9]+)?\n"

static const grammar_case cases[] = {
    {"root ::= \"a\" | \"bc\" [0-9]+ # a comment\n", {"a", "bc12"}, {"", "bc", "abc"}},
    {"root ::=\n  \"x\" y |\n  \"z\"\ny ::= (\"1\" |\n \"2\") \"\\n\"", {"x1\n", "z"}, {"x3\n", "x1"}},
    {"root ::= \"(\" root \")\" | \"\"", {"", "()", "((()))"}, {"(", "())", ")("}},
    {"root ::= item{2,3} end?\nitem ::= \"a\" | \"[\" item \"]\"\nend ::= \".\"", {"aa", "a[a]a.", "[[a]]a"}, {"a", "aaaa", "a[a"}},
    {"root ::= (\"a\" root \"b\")* \"c\"", {"c", "acbc", "aacbcbc"}, {"acb", "abc"}},
    {"root ::= \"\\x41\\u00e9\\\"\\\\\" .", {"A\xC3\xA9\"\\x", "A\xC3\xA9\"\\\xE2\x82\xAC"}, {"A\xC3\xA9\"\\"}},
    {"root ::= \"]^[-\" [^a-c]", {"]^[-d"}, {"]^[-a", "]"}},
    {JSON_GBNF, {"{}", "{\"a\":[1,{\"b\":null}]}", "{\"x\":\"\\u00e9\\n\"}"}, {"[]", "{\"a\":}", "{\"a\":1,}", "{\"a\":\"\n\"}"}},
};

static const grammar_refusal refusals[] = {
    {"root ::= root \"a\" | \"b\"", SLM_UNSUPPORTED, "left recursion in the grammar: root"},
    {"root ::= a \"x\"\na ::= \"\" b \"y\" | \"z\"\nb ::= \"\"? a", SLM_UNSUPPORTED, "left recursion"},
    {"root ::= (\"(\" root \")\" | \"\")*", SLM_UNSUPPORTED, "may be empty"},
    {"root ::= nothing", SLM_INVALID, "no rule \"nothing\""},
    {"a ::= \"b\"", SLM_INVALID, "no rule \"root\""},
    {"root ::= \"a\"\nroot ::= \"b\"", SLM_INVALID, "twice"},
    {"root ::= \"a", SLM_INVALID, "literal"},
    {"root ::= (\"a\"", SLM_INVALID, "group"},
    {"root ::= \"a\")", SLM_INVALID, "bracket"},
    {"root = \"a\"", SLM_INVALID, "::="},
    {"root ::= \"a\" root", SLM_INVALID, "derives no text"},
    {"root ::= [z-a]", SLM_INVALID, "range"},
    {"root ::= \"a\"{5,2}", SLM_INVALID, "counts"},
    {"root ::= (\"a\" root \"b\"){400} | \"c\"", SLM_LIMIT, "repeats"},
    {"", SLM_INVALID, "root"},
};

int main(void)
{
    grammar_run(SLM_GRAMMAR_GBNF, cases, sizeof cases / sizeof *cases);
    grammar_run_refusals(SLM_GRAMMAR_GBNF, refusals, sizeof refusals / sizeof *refusals);
    TEST_MAIN_END("grammar_gbnf");
}
