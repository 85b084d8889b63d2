/*
 * Whatever a grammar of 64 kB asks, compiling it ends within 10 ms and 16 MiB: with a machine, or with a message.
 *
 * Each is compiled in a process of its own, whose CPU time and largest memory the system tells.  Times are checked at four times the bound,
 * for machines differ and this one may be shared; build/test/unit/test_grammar_bounds --verbose prints them.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/grammar/grammar.h"
#include "slm_test.h"

enum { BYTES = 64 << 10, MOST_MS = 40, MOST_KB = 20 << 10 /* 16 MiB, and what a process needs beside them */ };

/* begin, part as often as it fits (or `times`), end as often as part where it closes something. %: the part's number */
typedef struct hostile {
    const char *name;
    slm_grammar_kind kind;
    const char *begin, *part, *middle, *close, *end;
    int times;
} hostile;

#define SCHEMA SLM_GRAMMAR_JSON_SCHEMA
static const hostile all[] = {
    {"counts of counts", SCHEMA, "{\"type\":\"string\",\"pattern\":\"", "(", "a", "{1,1000}){1,1000}", "\"}", 2},
    {"ten counts of counts", SCHEMA, "{\"type\":\"string\",\"pattern\":\"", "(", "a", "b?){1,99}", "\"}", 10},
    {"groups in groups", SCHEMA, "{\"type\":\"string\",\"pattern\":\"", "(", "a", ")", "\"}", 0},
    {"groups in groups, repeated", SCHEMA, "{\"type\":\"string\",\"pattern\":\"", "(", "a", "+)*", "\"}", 0},
    {"letters of all scripts", SCHEMA, "{\"type\":\"string\",\"pattern\":\"", "\\\\p{L}\\\\p{Nd}?", "", "", "\"}", 0},
    {"lookaheads", SCHEMA, "{\"type\":\"string\",\"pattern\":\"^", "(?=.*a%)", "", "", ".*$\"}", 0},
    {"patterns that must all be there", SCHEMA, "{\"type\":\"string\",\"allOf\":[true", ",{\"pattern\":\"a.{%}b\"}", "", "", "]}", 0},
    {"patterns of which one is there", SCHEMA, "{\"type\":\"string\",\"oneOf\":[false", ",{\"pattern\":\"x%\"}", "", "", "]}", 0},
    {"choices of all", SCHEMA, "{\"allOf\":[true", ",{\"anyOf\":[{\"required\":[\"a%\"]},{\"required\":[\"b%\"]}]}", "", "", "]}", 0},
    {"choices of 500", SCHEMA, "{\"allOf\":[true", ",{\"anyOf\":[{\"minimum\":%},{\"maxLength\":%}]}", "", "", "]}", 500},
    {"one of properties", SCHEMA, "{\"oneOf\":[false", ",{\"properties\":{\"a%\":{\"type\":\"integer\"}}}", "", "", "]}", 0},
    {"references in a row", SCHEMA, "{\"$ref\":\"#/$defs/d0\",\"$defs\":{\"x\":{}", ",\"d%\":{\"items\":{\"$ref\":\"#/$defs/d+\"}}", "", "",
     "}}", 0},
    {"references to themselves", SCHEMA, "{\"$ref\":\"#/$defs/d0\",\"$defs\":{\"x\":{}", ",\"d%\":{\"$ref\":\"#/$defs/d%\"}", "",
     "", "}}", 0},
    {"references to all", SCHEMA, "{\"anyOf\":[false", ",{\"$ref\":\"#\"},{\"items\":{\"$ref\":\"#\"}}", "", "", "]}", 0},
    {"a reference that never ends", SCHEMA, "{\"type\":\"object\",\"required\":[\"a\"],\"properties\":{\"a\":{\"$ref\":\"#\"}}}",
     "", "", "",
     "", 1},
    {"items in items", SCHEMA, "", "{\"items\":", "true", "}", "", 0},
    {"not not", SCHEMA, "", "{\"not\":", "{\"required\":[\"a\"]}", "}", "", 0},
    {"if in if", SCHEMA, "", "{\"if\":{\"required\":[\"a%\"]},\"then\":{\"required\":[\"b%\"]},\"else\":", "true", "}", "", 0},
    {"a list of texts", SCHEMA, "{\"enum\":[0", ",\"a very long text that begins as others do %\"", "", "", "]}", 0},
    {"a list of short texts", SCHEMA, "{\"enum\":[0", ",\"%x\"", "", "", "]}", 0},
    {"a list of objects", SCHEMA, "{\"enum\":[0", ",{\"a%\":[%,{}]}", "", "", "]}", 0},
    {"different texts of a list", SCHEMA, "{\"type\":\"array\",\"uniqueItems\":true,\"minItems\":500,\"items\":{\"enum\":[0",
     ",\"%\"", "", "",
     "]}}", 0},
    {"patterns of keys", SCHEMA, "{\"type\":\"object\",\"patternProperties\":{\"x\":true", ",\"a.*%.*b\":{\"type\":\"integer\"}",
     "", "", "}}",
     0},
    {"patterns of keys, 60", SCHEMA, "{\"type\":\"object\",\"patternProperties\":{\"x\":true", ",\"^(a|b)*c%\":{\"minimum\":%}",
     "", "", "}}",
     60},
    {"keys", SCHEMA, "{\"type\":\"object\",\"properties\":{\"x\":{}", ",\"a%\":{\"type\":\"string\"}", "", "", "}}", 0},
    {"keys that depend on others", SCHEMA, "{\"type\":\"object\",\"dependentRequired\":{\"x\":[]", ",\"a%\":[\"a+\"]", "", "", "}}", 0},
    {"schemas that depend on keys", SCHEMA, "{\"type\":\"object\",\"dependentSchemas\":{\"x\":{}",
     ",\"a%\":{\"required\":[\"b%\"]}", "", "",
     "}}", 0},
    {"a long number", SCHEMA, "{\"type\":\"number\",\"minimum\":1", "7", "", "", "}", 0},
    {"divisors", SCHEMA, "{\"type\":\"integer\",\"allOf\":[true", ",{\"multipleOf\":1%7}", "", "", "]}", 0},
    {"no divisors", SCHEMA, "{\"type\":\"number\",\"not\":{\"anyOf\":[false", ",{\"multipleOf\":0.1%7}", "", "", "]}}", 0},
    {"many keys at least", SCHEMA,
     "{\"type\":\"object\",\"minProperties\":1000000,\"propertyNames\":{\"pattern\":\"^[a-z]{1,3}$\"}}", "", "",
     "", "", 1},
    {"many items", SCHEMA, "{\"type\":\"array\",\"contains\":{\"const\":1},\"minContains\":999999,\"maxItems\":1000000}", "", "",
     "", "", 1},
    {"brackets", SCHEMA, "", "[", "", "", "", 0},
    {"a pattern of its own", SLM_GRAMMAR_REGEX, "", "(", "a|b", "{0,9}c?)*", "", 0},
    {"alternatives", SLM_GRAMMAR_REGEX, "a", "|(a|b)*a(a|b){%}", "", "", "", 0},
    {"rules in a row", SLM_GRAMMAR_GBNF, "root ::= r0\n", "r% ::= r+ | \"a%\" r+\n", "", "", "r ::= \"x\"\n", 0},
    {"counts of a rule", SLM_GRAMMAR_GBNF, "root ::= (\"a\" root \"b\"){0,256}", " (\"c\" root){0,256}", "", "", "\n", 0},
    {"choices of a rule", SLM_GRAMMAR_GBNF, "root ::= \"x\"", " | (\"a\" | root \"b\")* \"c%\"", "", "", "\n", 0},
};

static char *put(char *at, const char *part, int i)
{
    for (; *part != '\0'; part++)
        if (*part == '%')
            at += sprintf(at, "%d", i);
        else if (*part == '+' && part[1] != ')') /* the next one's number; in patterns what it is */
            at += sprintf(at, "%d", i + 1);
        else
            *at++ = *part;
    return at;
}

/* The text of one, of BYTES at most; malloc'ed. */
static char *text_of(const hostile *h)
{
    size_t fixed = strlen(h->begin) + strlen(h->middle) + strlen(h->end), each = strlen(h->part) + strlen(h->close) + 12;
    int n = h->times > 0 ? h->times : (int) ((BYTES - fixed) / each);
    char *text = malloc(BYTES + 2 * each), *at = text;
    if (text == NULL)
        exit(2);
    at = strcpy(at, h->begin) + strlen(h->begin);
    for (int i = 0; i < n; i++)
        at = put(at, h->part, i);
    at = strcpy(at, h->middle) + strlen(h->middle);
    for (int i = 0; i < n; i++)
        at = strcpy(at, h->close) + strlen(h->close);
    strcpy(at, h->end);
    return text;
}

/* In a process of its own: 0 compiled, 1 refused with a message, 2 anything else. */
static void compile(const hostile *h, const char *text)
{
    slm_grammar *g = NULL;
    slm_error err = {0};
    uint32_t state;
    slm_status status = slm_grammar_compile(NULL, h->kind, text, strlen(text), &g, &err);
    bool said = err.message[0] != '\0' && status != SLM_INTERNAL;
    if (status == SLM_OK)
        status = slm_grammar_start(g, &state, &err);
    slm_grammar_free(g);
    _exit(status == SLM_OK ? 0 : said ? 1 : 2);
}

static void run(const hostile *h, bool verbose)
{
    char *text = text_of(h);
    struct rusage usage = {0};
    double best = 1e9;
    int status = 0;
    CHECK(strlen(text) <= BYTES, "%s: %zu bytes", h->name, strlen(text));
    for (int i = 0; i < 3 && best > MOST_MS / 4.0; i++) {
        pid_t pid = fork();
        double ms;
        if (pid == 0)
            compile(h, text);
        CHECK(pid > 0 && wait4(pid, &status, 0, &usage) == pid, "%s: no process", h->name);
        ms = (double) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e3 +
             (double) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e3;
        best = ms < best ? ms : best;
    }
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) < 2, "%s: status %x", h->name, (unsigned) status);
#ifndef SLM_SANITIZE
    CHECK(best <= MOST_MS, "%s: %.1f ms for %zu bytes", h->name, best, strlen(text));
    CHECK(usage.ru_maxrss <= MOST_KB, "%s: %ld kB for %zu bytes", h->name, usage.ru_maxrss, strlen(text));
#endif
    if (verbose)
        printf("%-36s %6zu bytes %6.1f ms %6ld kB %s\n", h->name, strlen(text), best, usage.ru_maxrss,
               WEXITSTATUS(status) == 0 ? "compiled" : "refused");
    free(text);
}

int main(int argc, char **argv)
{
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        run(&all[i], argc > 1 && strcmp(argv[1], "--verbose") == 0);
    TEST_MAIN_END("test_grammar_bounds");
}
