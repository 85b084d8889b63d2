/*
 * Random texts of grammars, for validators that know nothing of this engine.
 *
 *   grammar_walk N SEED < SCHEMAS.jsonl      one line {"schema": ..., ...} or a bare schema each
 *
 * Prints for every schema one line: {"line":L,"refused":"why"} or {"line":L,"texts":[...]}, N values that a walk under the grammar has
 * found byte by byte, each byte chosen at random among those that fit (the closing ones more often the longer the text is).  A walk that
 * cannot go on is a broken promise and ends the program with status 3.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/rng.h"
#include "engine/grammar/grammar.h"
#include "engine/grammar/json.h"

enum { MAX_TEXT = 4000, LONG = 60 };

static uint64_t drawn, seed;

static uint32_t draw(uint32_t n)
{
    return (uint32_t) (slm_rng_at(seed, drawn++) % n);
}

/* How much a byte is wanted: letters and digits, and what ends things when the text is long. */
static uint32_t weight(unsigned char c, size_t length)
{
    if (strchr("\"]}", c) != NULL && c != 0)
        return length > LONG ? 5000 : 60;
    if (c == ',' || c == '\\' || c >= 128)
        return length > LONG ? 1 : 12;
    return length > 4 * LONG ? 1 : 10;
}

/* One text; its length, or -1 when the walk is stuck, -2 when it takes too long. */
static int walk(slm_grammar *g, char *out)
{
    uint32_t state, next[256], total;
    slm_error err = {0};
    size_t n = 0;
    if (slm_grammar_start(g, &state, &err) != SLM_OK)
        return -1;
    for (; n < MAX_TEXT; n++) {
        unsigned char bytes[256];
        uint32_t n_bytes = 0, at;
        if (slm_grammar_accepts(g, state) && (slm_grammar_is_done(g, state) || draw(n > LONG ? 1 : 3) == 0))
            return (int) n;
        total = 0;
        for (unsigned c = 0; c < 256; c++) {
            char byte = (char) c;
            if (slm_grammar_advance(g, state, &byte, 1, &next[n_bytes], &err) == SLM_OK) {
                bytes[n_bytes++] = (unsigned char) c;
                total += weight((unsigned char) c, n);
            } else if (err.status != SLM_INVALID) {
                fprintf(stderr, "%s\n", err.message);
                return -2;
            }
        }
        if (n_bytes == 0)
            return slm_grammar_accepts(g, state) ? (int) n : -1;
        at = draw(total);
        total = 0;
        for (uint32_t i = 0; i < n_bytes; i++) {
            total += weight(bytes[i], n);
            if (at < total) {
                out[n] = (char) bytes[i];
                state = next[i];
                break;
            }
        }
    }
    return -2;
}

static int run_line(long number, const char *line, size_t n, long count)
{
    slm_budget b = {.max_bytes = SIZE_MAX / 2, .max_steps = UINT64_MAX / 2};
    slm_json *row = slm_json_read(&b, line, n), *schema = row == NULL ? NULL : slm_json_member(row, "schema");
    char *text = NULL, value[MAX_TEXT];
    uint32_t length = 0, capacity = 0;
    slm_grammar *g = NULL;
    slm_error err = {0};
    int status = 0;
    if (row == NULL || !slm_json_write(&b, schema != NULL ? schema : row, &text, &length, &capacity)) {
        printf("{\"line\":%ld,\"refused\":\"no JSON\"}\n", number);
    } else if (slm_grammar_compile(NULL, SLM_GRAMMAR_JSON_SCHEMA, text, length, &g, &err) != SLM_OK) {
        char *quoted = NULL;
        uint32_t n_quoted = 0, room = 0;
        slm_json_escape(&b, err.message, strlen(err.message), &quoted, &n_quoted, &room);
        printf("{\"line\":%ld,\"refused\":\"%.*s\"}\n", number, (int) n_quoted, quoted);
        free(quoted);
    } else {
        bool first = true;
        printf("{\"line\":%ld,\"texts\":[", number);
        for (long i = 0; i < count && status == 0; i++) {
            int got = walk(g, value);
            if (got == -1)
                status = 3;
            if (got >= 0) {
                printf("%s%.*s", first ? "" : ",", got, value);
                first = false;
            }
        }
        printf("]}\n");
        if (status != 0)
            fprintf(stderr, "line %ld: the walk is stuck\n", number);
    }
    slm_grammar_free(g);
    free(text);
    slm_budget_release(&b);
    return status;
}

int main(int argc, char **argv)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    long number = 0, count = argc > 1 ? strtol(argv[1], NULL, 10) : 0;
    int status = 0;
    if (argc != 3 || count < 1)
        return fprintf(stderr, "usage: grammar_walk N SEED < SCHEMAS.jsonl\n"), 2;
    seed = strtoull(argv[2], NULL, 10);
    while ((n = getline(&line, &capacity, stdin)) > 0) {
        int one = run_line(number++, line, (size_t) n, count);
        status = one > status ? one : status;
    }
    free(line);
    return status;
}
