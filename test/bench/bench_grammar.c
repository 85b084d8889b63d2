/*
 * What decoding under a constraint costs and saves: through a session, one sequence, one thread.
 *
 *   bench_grammar [MODEL.gguf|IMAGE.slm] [--csv] [--labels] [--wall] [--runs N]
 *                                         without a model: SmolLM2-135M-Instruct Q4_1 of the model cache
 *
 * sampled: tokens of a text that is free and of the same text under a grammar that leaves nearly all tokens (a regular expression of any
 * characters; a string of a JSON object), each token sampled; and, since a machine that is shared does not show a percent, what the grammar
 * adds by itself: all that a session asks of it for the tokens of that text, and choosing from a mask instead of from all, beside the time
 * of a free token.  forced: a JSON object of ten keys and short values beside as many tokens of
 * free text.  choices: one of eight digits behind the other, beside as many tokens with the whole head; --labels: only that.
 *
 * Times are of the thread's CPU clock (--wall: of the wall's), without the prompt, the best of several runs in turn, for the machine may
 * be shared.  cold: the grammar is new, its masks are computed on the way; warm: it has been used before, as by the rows of a table.
 */
#include <time.h>

#include "engine/decode/constraint.h"
#include "engine/decode/sampler.h"
#include "model_test.h"

#define MODEL "SmolLM2-135M-Instruct.Q4_1.gguf"
#define PROMPT "The harbour was quiet that morning. A list of what was seen there:"

static const char any_text[] = "[^\\x00-\\x08]{0,4000}";
static const char string_schema[] = "{\"type\": \"object\", \"properties\": {\"text\": {\"type\": \"string\"}}, \"required\": [\"text\"],"
                                    " \"additionalProperties\": false}";
static const char pattern_schema[] = "{\"type\": \"object\", \"properties\": {\"text\": {\"type\": \"string\", \"minLength\": 300,"
                                     " \"maxLength\": 5000}}, \"required\": [\"text\"], \"additionalProperties\": false}";
static const char keys_schema[] =
    "{\"type\": \"object\", \"additionalProperties\": false, \"required\": [\"customer_identifier\", \"is_returning_customer\","
    " \"preferred_language\", \"shipping_method\", \"number_of_parcels\", \"contains_batteries\", \"insurance_requested\","
    " \"delivery_priority\", \"payment_status\", \"warehouse_location\"], \"properties\": {"
    "\"customer_identifier\": {\"type\": \"integer\", \"minimum\": 1000, \"maximum\": 9999},"
    "\"is_returning_customer\": {\"type\": \"boolean\"}, \"preferred_language\": {\"enum\": [\"English\", \"German\", \"French\"]},"
    "\"shipping_method\": {\"enum\": [\"standard\", \"express\", \"pickup\"]}, \"number_of_parcels\": {\"type\": \"integer\","
    " \"minimum\": 1, \"maximum\": 20}, \"contains_batteries\": {\"type\": \"boolean\"}, \"insurance_requested\": {\"type\": \"boolean\"},"
    "\"delivery_priority\": {\"enum\": [\"low\", \"normal\", \"high\", \"urgent\"]}, \"payment_status\": {\"enum\": [\"open\", \"paid\"]},"
    "\"warehouse_location\": {\"enum\": [\"Hamburg\", \"Rotterdam\", \"Antwerp\"]}}}";
/* digits are tokens of one character, so each of them is a choice among eight */
static const char choices[] = "[0-7]{64}";

static struct {
    slm_model *model;
    slm_session *session;
    clockid_t clock;
    bool csv;
    int runs;
} bench = {.clock = CLOCK_THREAD_CPUTIME_ID, .runs = 5};

typedef struct answer {
    double seconds; /* behind the prompt */
    uint32_t tokens;
    char *text;
    int32_t *ids; /* [tokens] */
} answer;

static double now(void)
{
    struct timespec t;
    clock_gettime(bench.clock, &t);
    return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

static slm_constraint *compile(slm_constraint_kind kind, const char *text)
{
    slm_constraint *c = NULL;
    slm_error err = {0};

    if (slm_constraint_compile(bench.model, kind, text, strlen(text), &c, &err) != SLM_OK)
        test_die("grammar", err.message);
    return c;
}

/* One answer of at most `most` tokens; *known may hold the fastest one so far. */
static void generate(slm_constraint *c, uint32_t most, float temperature, answer *known)
{
    slm_segment segment = {.role = SLM_ROLE_USER, .text = PROMPT, .length = strlen(PROMPT)};
    slm_request r = {.mode = SLM_MODE_GENERATE, .segments = &segment, .n_segments = 1, .max_tokens = most, .constraint = c};
    const slm_result *result;
    slm_error err = {0};
    uint64_t id;
    size_t active = 1;
    double begin;

    r.sampling = (slm_sampling){.temperature = temperature, .seed = 11};
    if (slm_submit(bench.session, &r, &id, &err) != SLM_OK || slm_step(bench.session, &active, &err) != SLM_OK)
        test_die("prompt", err.message);
    begin = now();
    while (active > 0)
        if (slm_step(bench.session, &active, &err) != SLM_OK)
            test_die("step", err.message);
    begin = now() - begin;
    result = slm_poll(bench.session);
    if (result == NULL || result->status != SLM_OK)
        test_die("answer", result == NULL ? "none" : result->error.message);
    if (known->text == NULL || begin / (double) result->n_tokens < known->seconds / known->tokens) {
        free(known->text);
        free(known->ids);
        *known = (answer){begin, (uint32_t) result->n_tokens, strdup(result->text), test_alloc(result->n_tokens * sizeof *known->ids)};
        memcpy(known->ids, result->tokens, result->n_tokens * sizeof *known->ids);
    }
    slm_release(bench.session, id);
}

static void report(const char *what, const answer *a, double ratio)
{
    double us = 1e6 * a->seconds / a->tokens;

    if (bench.csv)
        printf("\"%s\",%u,%.1f,%.3f\n", what, a->tokens, us, ratio);
    else
        printf("%-58s %4u tokens %9.1f us each, %6.3f x\n    %.100s\n", what, a->tokens, us, ratio, a->text);
    fflush(stdout);
}

/* Seconds for a choice among all tokens, or those of a mask. */
static double choose(slm_sampler *s, const slm_sampling *p, float *logits, const uint64_t *mask)
{
    uint32_t n = bench.model->hp.n_vocab;
    double begin;

    for (uint32_t i = 0; i < n; i++) /* as a model's: a few that matter */
        logits[i] = (float) (i * 2654435761u >> 16) / 4096 - 20 * (i % 97 != 0);
    begin = now();
    if (mask != NULL)
        slm_sampler_pick_masked(s, p, mask, logits, NULL, 0, 1);
    else
        slm_sampler_pick(s, p, logits, NULL, 0, 1);
    return now() - begin;
}

/* What a grammar adds to the tokens of an answer that it allowed, by itself: seconds for all of them. */
static double cost_alone(slm_constraint *c, const answer *a, float temperature)
{
    size_t words = (bench.model->hp.n_vocab + 63) / 64;
    slm_sampling p = {.temperature = temperature, .seed = 11};
    slm_sampler *s = slm_sampler_new(bench.model->hp.n_vocab);
    float *logits = test_alloc(bench.model->hp.n_vocab * sizeof *logits);
    uint64_t *copy = test_alloc(words * sizeof *copy);
    double seconds = 0, begin;
    slm_error err = {0};
    void *state;

    if (s == NULL || slm_constraint_begin(c, false, &state, &err) != SLM_OK)
        test_die("constraint", err.message);
    for (uint32_t i = 0; i < a->tokens; i++) {
        slm_allowed allowed = {0};
        int32_t forced[32];

        begin = now();
        if (c->ops->allowed(c, state, &allowed, &err) != SLM_OK)
            test_die("allowed", err.message);
        if (allowed.mask != NULL)
            memcpy(copy, allowed.mask, words * sizeof *copy);
        seconds += now() - begin;
        if (allowed.mask != NULL)
            seconds += choose(s, &p, logits, copy) - choose(s, &p, logits, NULL);
        begin = now();
        if (c->ops->advance(c, state, a->ids[i], &err) != SLM_OK)
            test_die("advance", err.message);
        if (!c->ops->done(c, state))
            c->ops->forced(c, state, forced, 32);
        seconds += now() - begin;
    }
    slm_constraint_end(c, state);
    slm_sampler_free(s);
    free(logits);
    free(copy);
    return seconds;
}

/* Free text beside the same under grammars that leave nearly all of it, in turn. */
static void bench_sampled(float temperature)
{
    static const struct {
        const char *what;
        slm_constraint_kind kind;
        const char *text;
    } grammars[] = {{"any characters", SLM_CONSTRAINT_REGEX, any_text},
                    {"a string of an object", SLM_CONSTRAINT_JSON_SCHEMA, string_schema},
                    {"a string of 300 to 5000 characters", SLM_CONSTRAINT_JSON_SCHEMA, pattern_schema}};
    enum { N = sizeof grammars / sizeof grammars[0] };
    answer best = {0}, cold[N] = {{0}}, warm[N] = {{0}};
    double alone[N];
    char what[100];

    for (int run = 0; run < bench.runs; run++) {
        generate(NULL, 128, temperature, &best);
        for (uint32_t i = 0; i < N; i++) {
            slm_constraint *c = compile(grammars[i].kind, grammars[i].text);

            generate(c, 128, temperature, &cold[i]);
            generate(c, 128, temperature, &warm[i]);
            slm_constraint_free(c);
            c = compile(grammars[i].kind, grammars[i].text);
            double seconds = cost_alone(c, &warm[i], temperature);
            alone[i] = run == 0 || seconds < alone[i] ? seconds : alone[i];
            slm_constraint_free(c);
        }
    }
    snprintf(what, sizeof what, "sampled at %g: free", (double) temperature);
    report(what, &best, 1);
    for (uint32_t i = 0; i < N; i++) {
        double us = best.seconds / best.tokens;

        snprintf(what, sizeof what, "sampled at %g: %s, cold", (double) temperature, grammars[i].what);
        report(what, &cold[i], cold[i].seconds / cold[i].tokens / us);
        snprintf(what, sizeof what, "sampled at %g: %s, warm", (double) temperature, grammars[i].what);
        report(what, &warm[i], warm[i].seconds / warm[i].tokens / us);
        snprintf(what, sizeof what, "sampled at %g: %s, what a new grammar adds by itself", (double) temperature, grammars[i].what);
        report(what, &(answer){alone[i], warm[i].tokens, warm[i].text, warm[i].ids}, alone[i] / warm[i].tokens / us);
    }
}

/* An answer under a grammar beside as much free text: how many times as fast? */
static void bench_faster(const char *name, slm_constraint_kind kind, const char *text)
{
    answer free_text = {0}, cold = {0}, warm = {0};
    char what[100];

    for (int run = 0; run < bench.runs; run++) {
        slm_constraint *c = compile(kind, text);

        generate(c, 512, 0, &cold);
        generate(c, 512, 0, &warm);
        generate(NULL, warm.tokens, 0, &free_text);
        slm_constraint_free(c);
    }
    snprintf(what, sizeof what, "%s: as much free text", name);
    report(what, &free_text, 1);
    snprintf(what, sizeof what, "%s, cold: times as fast", name);
    report(what, &cold, free_text.seconds / free_text.tokens / (cold.seconds / cold.tokens));
    snprintf(what, sizeof what, "%s, warm: times as fast", name);
    report(what, &warm, free_text.seconds / free_text.tokens / (warm.seconds / warm.tokens));
}

int main(int argc, char **argv)
{
    slm_limits limits = {.kv_cache_bytes = (size_t) 256 << 20, .n_threads = 1};
    const char *file = NULL;
    bool only_labels = false;
    char path[2048];
    slm_error err = {0};

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--csv") == 0)
            bench.csv = true;
        else if (strcmp(argv[i], "--labels") == 0)
            only_labels = true;
        else if (strcmp(argv[i], "--wall") == 0)
            bench.clock = CLOCK_MONOTONIC;
        else if (strcmp(argv[i], "--runs") == 0 && i + 1 < argc)
            bench.runs = atoi(argv[++i]);
        else
            file = argv[i];
    }
    if (file == NULL) {
        if (!test_model_path("SLM_TEST_MODEL", MODEL, path, sizeof path))
            test_die(path, "no such model");
        file = path;
    }
    if (strlen(file) > 4 && strcmp(file + strlen(file) - 4, ".slm") == 0) {
        if (slm_model_open(file, &bench.model, &err) != SLM_OK)
            test_die(file, err.message);
    } else {
        bench.model = test_import(file, NULL);
    }
    if (bench.model == NULL || slm_session_new(bench.model, &limits, &bench.session, &err) != SLM_OK)
        test_die(file, err.message);
    if (bench.csv)
        printf("what,tokens,us a token,ratio\n");
    if (!only_labels) {
        bench_sampled(0);
        bench_sampled(1);
        bench_faster("JSON with forced keys", SLM_CONSTRAINT_JSON_SCHEMA, keys_schema);
    }
    bench_faster("one of eight, 64 times", SLM_CONSTRAINT_REGEX, choices);
    slm_session_free(bench.session);
    slm_model_close(bench.model);
    return 0;
}
