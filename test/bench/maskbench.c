/*
 * MaskBench: real JSON schemas with valid and invalid instances, decoded token by token under the grammar of each.
 *
 *   maskbench FILE.jsonl [--vocab NAME] [--every N] [--from K] [--best-of N] [--verbose] [--suite]
 *
 * A schema passes when every valid instance (compact JSON, keys and numbers as given) is accepted token by token and may end, and every
 * invalid one is refused at some token or at its end.  Prints a table by source, one by reason of refusal, and times: the mask before every
 * token, and compiling with the first mask, in CPU time.  --best-of: each schema so many times from anew, of each time the smallest, for a
 * machine that others use takes some ms now and then.  --suite reads the JSON Schema Test Suite instead (several tests a line, by file):
 * a table by keyword of schemas that are right, refused by name, or silently wrong.  There a value counts as accepted when it is in some
 * spelling: numbers plain (1 for 1.0), up to five keys of the outermost object in any order; what the grammar writes is one of them.
 *
 * The vocabulary is one of the reference values (golden_vocab.h; default llama-bpe, Llama 3's 128,256 tokens).
 */
#include <time.h>

#include "engine/grammar/grammar.h"
#include "engine/grammar/json.h"
#include "golden_vocab.h"

enum { MAX_GROUPS = 200 };

typedef struct group {
    char name[160];
    int schemas, passed, refused, invalid_accepted, valid_refused;
} group;

static struct {
    slm_tokenizer *tok;
    slm_token_vocab *vocab;
    slm_token_text *texts;
    bool verbose, suite;
    group sources[MAX_GROUPS], reasons[MAX_GROUPS];
    int n_sources, n_reasons;
    double *mask_us, *compile_us;
    size_t n_mask, mask_capacity, n_compile, compile_capacity, again_mask, again_compile; /* again_: where a repeated time belongs */
    int best_of;
    bool again;
    int invalid_instances_accepted, valid_instances_refused, valid_instances, invalid_instances;
} bench;

static double cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double) t.tv_sec * 1e6 + (double) t.tv_nsec / 1e3;
}

static void record(double **list, size_t *n, size_t *capacity, double value)
{
    if (*n == *capacity) {
        *capacity = *capacity == 0 ? 4096 : *capacity * 2;
        *list = realloc(*list, *capacity * sizeof **list);
        if (*list == NULL)
            exit(1);
    }
    (*list)[(*n)++] = value;
}

static void record_mask(double us)
{
    if (!bench.again)
        record(&bench.mask_us, &bench.n_mask, &bench.mask_capacity, us);
    else if (bench.again_mask < bench.n_mask && us < bench.mask_us[bench.again_mask++])
        bench.mask_us[bench.again_mask - 1] = us;
}

static void record_compile(double us)
{
    if (!bench.again)
        record(&bench.compile_us, &bench.n_compile, &bench.compile_capacity, us);
    else if (bench.again_compile < bench.n_compile && us < bench.compile_us[bench.again_compile])
        bench.compile_us[bench.again_compile] = us;
}

static group *group_of(group *list, int *n, const char *name)
{
    for (int i = 0; i < *n; i++)
        if (strcmp(list[i].name, name) == 0)
            return &list[i];
    if (*n == MAX_GROUPS)
        return &list[MAX_GROUPS - 1];
    snprintf(list[*n].name, sizeof list[*n].name, "%s", name);
    return &list[(*n)++];
}

static int open_vocab(const char *name)
{
    void *blob = NULL;
    size_t bytes = 0, total = 0;
    slm_error err = {0};
    uint32_t n;
    char *copy;
    if (golden_vocab(name, NULL, &blob, &bytes, &err) != SLM_OK || slm_tokenizer_open(blob, bytes, &bench.tok, &err) != SLM_OK)
        return fprintf(stderr, "%s: %s\n", name, err.message), 1;
    n = (uint32_t) slm_tokenizer_size(bench.tok);
    for (uint32_t i = 0; i < n; i++)
        total += slm_tokenizer_piece(bench.tok, (int32_t) i, false).length;
    bench.texts = calloc(n, sizeof *bench.texts);
    copy = malloc(total + 1);
    if (bench.texts == NULL || copy == NULL)
        return 1;
    for (uint32_t i = 0; i < n; i++) {
        slm_bytes piece = slm_tokenizer_piece(bench.tok, (int32_t) i, false);
        memcpy(copy, piece.data, piece.length);
        bench.texts[i] = (slm_token_text) {copy, (uint32_t) piece.length};
        copy += piece.length;
    }
    double before = cpu_us();
    if (slm_token_vocab_build(bench.texts, n, &bench.vocab, &err) != SLM_OK)
        return fprintf(stderr, "%s\n", err.message), 1;
    printf("vocabulary %s: %u tokens, %u nodes, %u of them not plain, built in %.0f ms\n", name, n, bench.vocab->n_all,
           bench.vocab->n_other, (cpu_us() - before) / 1e3);
    return 0;
}

/* Is the text accepted token by token, and may it end there? */
static bool accepts(slm_grammar *g, const char *text, size_t n, const char **why)
{
    slm_ids tokens = {0};
    slm_error err = {0};
    uint32_t state;
    bool fits = slm_tokenizer_encode(bench.tok, text, n, false, false, NULL, &tokens, &err) == SLM_OK &&
                slm_grammar_start(g, &state, &err) == SLM_OK;
    *why = "cannot be read";
    for (size_t i = 0; fits && i < tokens.n; i++) {
        const int32_t *ids;
        const uint64_t *bits;
        uint32_t n_ids, id = (uint32_t) tokens.ids[i];
        double before = cpu_us();
        slm_status status = slm_grammar_mask(g, state, &ids, &n_ids, &bits, &err);
        before = cpu_us() - before;
        record_mask(before);
        if (bench.verbose && before > 1000)
            printf("SLOW MASK %.0f us at token %zu of %.*s\n", before, i, (int) (n < 200 ? n : 200), text);
        if (status != SLM_OK) {
            printf("ERROR %s\n", err.message);
            fits = false;
            break;
        }
        *why = "token refused";
        fits = bits != NULL && (bits[id / 64] >> id % 64 & 1);
        for (uint32_t k = 0; bits == NULL && k < n_ids && !fits; k++)
            fits = ids[k] == tokens.ids[i];
        status = slm_grammar_advance(g, state, bench.texts[id].data, bench.texts[id].length, &state, &err);
        if (fits != (status == SLM_OK)) {
            printf("ERROR mask and automaton disagree at token %zu of %.*s: %s\n", i, (int) (n < 300 ? n : 300), text, err.message);
            fits = false;
        }
        if (!fits && bench.verbose) {
            size_t at = 0;
            for (size_t k = 0; k <= i; k++)
                at += bench.texts[tokens.ids[k]].length;
            printf("    at %zu: ...%.*s\n", at, (int) (at < 60 ? at : 60), text + (at < 60 ? 0 : at - 60));
        }
    }
    if (fits && !slm_grammar_accepts(g, state)) {
        *why = "may not end";
        fits = false;
    }
    free(tokens.ids);
    return fits;
}

/* Numbers of a value as the grammar writes them: without a fraction of zeros, without an exponent. */
static void write_plainly(slm_budget *b, slm_json *v)
{
    const char *dot, *e;
    char *plain;
    if (v->type == JSON_ARRAY_ || v->type == JSON_OBJECT_)
        for (slm_json *c = v->first; c != NULL; c = c->next)
            write_plainly(b, c);
    if (v->type != JSON_NUMBER_)
        return;
    dot = memchr(v->text, '.', v->n);
    e = memchr(v->text, 'e', v->n);
    if (dot != NULL && e == NULL && strspn(dot + 1, "0") >= (size_t) (v->text + v->n - dot - 1))
        v->n = (uint32_t) (dot - v->text);
    if (e != NULL && dot == NULL && e[1] != '-' && atoi(e + 1) < 400) {
        uint32_t digits = (uint32_t) (e - v->text), zeros = (uint32_t) atoi(e + 1);
        plain = slm_budget_alloc(b, digits + zeros + 1);
        memcpy(plain, v->text, digits);
        memset(plain + digits, '0', zeros);
        v->text = plain;
        v->n = digits + zeros;
    }
}

/* Is the object accepted with its last members, from the at-th on, in some order? */
static bool accepts_in_some_order(slm_grammar *g, slm_budget *b, slm_json *object, slm_json **members, uint32_t at)
{
    char *text = NULL;
    uint32_t length = 0, capacity = 0;
    const char *why;
    bool good = false;
    if (at == object->n) {
        for (uint32_t i = 0; i < object->n; i++)
            members[i]->next = i + 1 < object->n ? members[i + 1] : NULL;
        object->first = members[0];
        slm_json_write(b, object, &text, &length, &capacity);
        good = accepts(g, text, length, &why);
        free(text);
        return good;
    }
    for (uint32_t i = at; i < object->n && !good; i++) {
        slm_json *one = members[i];
        members[i] = members[at];
        members[at] = one;
        good = accepts_in_some_order(g, b, object, members, at + 1);
        members[at] = members[i];
        members[i] = one;
    }
    return good;
}

static bool accepts_otherwise(slm_grammar *g, slm_budget *b, slm_json *value)
{
    slm_json *members[5], *one = value->first;
    char *text = NULL;
    uint32_t length = 0, capacity = 0;
    const char *why;
    bool good;
    write_plainly(b, value);
    if (value->type == JSON_OBJECT_ && value->n > 1 && value->n <= 5) {
        for (uint32_t i = 0; i < value->n; i++, one = one->next)
            members[i] = one;
        return accepts_in_some_order(g, b, value, members, 0);
    }
    slm_json_write(b, value, &text, &length, &capacity);
    good = accepts(g, text, length, &why);
    free(text);
    return good;
}

/* A reason without what differs from schema to schema. */
static const char *short_reason(const slm_error *err)
{
    static char out[160];
    size_t n = strcspn(err->message, "\0");
    const char *quote = strstr(err->message, " in the pattern \"");
    if (quote != NULL)
        n = (size_t) (quote - err->message);
    if (strstr(err->message, "\"$ref\"") != NULL)
        return "$ref leads out of the schema or to nothing";
    snprintf(out, sizeof out, "%.*s", (int) (n > 150 ? 150 : n), err->message);
    return out;
}

static slm_grammar *compile(const char *name, const char *text, size_t n, group *source)
{
    slm_grammar *g = NULL;
    slm_error err = {0};
    const int32_t *ids;
    const uint64_t *bits;
    uint32_t state, n_ids;
    double before = cpu_us(), took;
    slm_status status = slm_grammar_compile(bench.vocab, SLM_GRAMMAR_JSON_SCHEMA, text, n, &g, &err);
    if (status == SLM_OK && (status = slm_grammar_start(g, &state, &err)) == SLM_OK)
        status = slm_grammar_mask(g, state, &ids, &n_ids, &bits, &err);
    took = cpu_us() - before;
    if (status != SLM_OK) {
        source->refused++;
        group_of(bench.reasons, &bench.n_reasons, short_reason(&err))->refused++;
        if (bench.verbose)
            printf("REFUSED %s: %s (%.0f us, %zu bytes)\n", name, err.message, took, n);
        slm_grammar_free(g);
        return NULL;
    }
    record_compile(took);
    if (bench.verbose && took > 10000)
        printf("SLOW %s: %.0f us for %zu bytes\n", name, took, n);
    return g;
}

/* The masks of a schema once more, for their times alone. */
static void repeat(const slm_json *schema, const slm_json *tests, size_t first_mask, size_t first_compile)
{
    slm_budget b = {.max_bytes = SIZE_MAX / 2, .max_steps = UINT64_MAX / 2};
    char *text = NULL;
    uint32_t length = 0, capacity = 0;
    group nothing = {0};
    const char *why;
    slm_grammar *g;
    bench.again_mask = first_mask;
    bench.again_compile = first_compile;
    slm_json_write(&b, schema, &text, &length, &capacity);
    g = compile("", text, length, &nothing);
    for (const slm_json *t = g == NULL ? NULL : tests->first; t != NULL; t = t->next) {
        length = 0;
        slm_json_write(&b, slm_json_member(t, "data"), &text, &length, &capacity);
        accepts(g, text, length, &why);
    }
    slm_grammar_free(g);
    free(text);
    slm_budget_release(&b);
}

static void run_line(const char *line, size_t n)
{
    size_t first_mask = bench.n_mask, first_compile = bench.n_compile;
    slm_budget b = {.max_bytes = SIZE_MAX / 2, .max_steps = UINT64_MAX / 2};
    slm_json *row = slm_json_read(&b, line, n), *schema, *tests, *label;
    char name[160] = "", source_name[160] = "", *text = NULL;
    uint32_t length = 0, capacity = 0;
    bool right = true, some_invalid = false, some_refused = false;
    if (row == NULL) {
        group_of(bench.reasons, &bench.n_reasons, "the line itself cannot be read")->refused++;
        slm_budget_release(&b);
        return;
    }
    schema = slm_json_member(row, "schema");
    tests = slm_json_member(row, "tests");
    label = slm_json_member(row, bench.suite ? "file" : "name");
    snprintf(name, sizeof name, "%.*s", (int) label->n, label->text);
    snprintf(source_name, sizeof source_name, "%.*s", bench.suite ? (int) label->n : (int) strcspn(name, "-"), name);
    if (!bench.suite && strrchr(source_name, '_') != NULL && strchr(name, '-') == NULL)
        *strrchr(source_name, '_') = 0;
    if (bench.suite)
        snprintf(name, sizeof name, "%s: %.100s", source_name, slm_json_member(row, "description")->text);
    group *source = group_of(bench.sources, &bench.n_sources, source_name);
    source->schemas++;
    slm_json_write(&b, schema, &text, &length, &capacity);
    slm_grammar *g = compile(name, text, length, source);
    for (const slm_json *t = g == NULL ? NULL : tests->first; t != NULL; t = t->next) {
        const char *why;
        bool valid = slm_json_member(t, "valid")->type == JSON_TRUE_, good;
        length = 0;
        slm_json_write(&b, slm_json_member(t, "data"), &text, &length, &capacity);
        good = accepts(g, text, length, &why) || (bench.suite && accepts_otherwise(g, &b, slm_json_member(t, "data")));
        *(valid ? &bench.valid_instances : &bench.invalid_instances) += 1;
        bench.invalid_instances_accepted += good && !valid;
        bench.valid_instances_refused += valid && !good;
        some_invalid = some_invalid || (good && !valid);
        some_refused = some_refused || (valid && !good);
        right = right && good == valid;
        if (bench.verbose && good != valid)
            printf("%s %s (%s): %.*s\n", valid ? "VALID REFUSED" : "INVALID ACCEPTED", name, why, (int) (length < 1500 ? length : 1500),
                   text);
    }
    if (g != NULL) {
        source->passed += right;
        source->invalid_accepted += some_invalid;
        source->valid_refused += some_refused;
    }
    slm_grammar_free(g);
    bench.again = true;
    for (int i = 1; g != NULL && i < bench.best_of; i++)
        repeat(schema, tests, first_mask, first_compile);
    bench.again = false;
    free(text);
    slm_budget_release(&b);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

static int by_count(const void *a, const void *b)
{
    return ((const group *) b)->refused - ((const group *) a)->refused;
}

static void print_times(const char *what, double *list, size_t n)
{
    double sum = 0;
    if (n == 0)
        return;
    qsort(list, n, sizeof *list, by_value);
    for (size_t i = 0; i < n; i++)
        sum += list[i];
    printf("%s us: avg %.1f p50 %.1f p90 %.1f p99 %.1f p99.9 %.1f max %.0f (%zu)\n", what, sum / (double) n, list[n / 2], list[n * 9 / 10],
           list[n * 99 / 100], list[n * 999 / 1000], list[n - 1], n);
}

static void print_tables(void)
{
    group sum = {"all", 0, 0, 0, 0, 0};
    printf("| source | schemas | passed | %% | refused | invalid accepted | valid refused |\n|---|---|---|---|---|---|---|\n");
    for (int i = 0; i <= bench.n_sources; i++) {
        const group *g = i == bench.n_sources ? &sum : &bench.sources[i];
        printf("| %s | %d | %d | %.1f | %d | %d | %d |\n", g->name, g->schemas, g->passed,
               100.0 * g->passed / (g->schemas > 0 ? g->schemas : 1), g->refused, g->invalid_accepted, g->valid_refused);
        if (i == bench.n_sources)
            break;
        sum.schemas += g->schemas;
        sum.passed += g->passed;
        sum.refused += g->refused;
        sum.invalid_accepted += g->invalid_accepted;
        sum.valid_refused += g->valid_refused;
    }
    printf("%d of %d invalid instances accepted, %d of %d valid ones refused\n", bench.invalid_instances_accepted, bench.invalid_instances,
           bench.valid_instances_refused, bench.valid_instances);
    qsort(bench.reasons, (size_t) bench.n_reasons, sizeof *bench.reasons, by_count);
    printf("| refused | because |\n|---|---|\n");
    for (int i = 0; i < bench.n_reasons; i++)
        printf("| %d | %s |\n", bench.reasons[i].refused, bench.reasons[i].name);
    print_times("mask", bench.mask_us, bench.n_mask);
    print_times("compile and first mask", bench.compile_us, bench.n_compile);
}

int main(int argc, char **argv)
{
    const char *vocab = "llama-bpe";
    long every = 1, from = 0, at = 0;
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    FILE *f;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--vocab") == 0 && i + 1 < argc)
            vocab = argv[++i];
        else if (strcmp(argv[i], "--every") == 0 && i + 1 < argc)
            every = strtol(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--from") == 0 && i + 1 < argc)
            from = strtol(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--best-of") == 0 && i + 1 < argc)
            bench.best_of = atoi(argv[++i]);
        else if (strcmp(argv[i], "--verbose") == 0)
            bench.verbose = true;
        else if (strcmp(argv[i], "--suite") == 0)
            bench.suite = true;
    }
    f = argc > 1 ? strcmp(argv[1], "-") == 0 ? stdin : fopen(argv[1], "r") : NULL;
    if (f == NULL || every < 1)
        return fprintf(stderr, "usage: maskbench FILE.jsonl [--vocab NAME] [--every N] [--from K] [--best-of N] [--verbose] [--suite]\n"),
               2;
    if (open_vocab(vocab) != 0)
        return 1;
    for (; (n = getline(&line, &capacity, f)) > 0; at++)
        if (at % every == from % every)
            run_line(line, (size_t) n);
    print_tables();
    return bench.invalid_instances_accepted > 0;
}
