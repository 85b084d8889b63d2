/*
 * slm_cli: the engine from the command line, for development and for measuring.
 *
 *   slm_cli import   SOURCE IMAGE [TYPE]
 *   slm_cli generate MODEL [options] PROMPT...
 *   slm_cli labels   MODEL [options] FILE.csv LABEL...     the first column is the text
 *   slm_cli logprobs MODEL [options] TEXT...
 *   slm_cli embed    MODEL [options] TEXT...
 *
 * MODEL is an image or a source, which is imported to a temporary image first.  Options: -n tokens, -j threads, -m sequences at a time,
 * -B batch positions, -k KV cache in MiB, -r repeat each prompt, -t temperature, -s seed, -i instruction set, -p prior text, -y system
 * text, -f file of prompts, one per line, -b best label only, -g guess tokens from the prompt, -x raw text, -q figures only; the answer
 * follows -J a JSON schema, -R a regular expression or -G a GBNF grammar.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/slm.h"

typedef struct options {
    uint32_t max_tokens, sequences, batch, repeat;
    int threads;
    size_t kv_mib;
    slm_sampling sampling;
    const char *isa, *prior, *system, *file;
    const char *grammar; /* of kind; NULL: answers are free */
    slm_constraint_kind kind;
    slm_constraint *constraint;
    bool best_only, guess, raw, quiet;
} options;

static void die(const char *what, const slm_error *err)
{
    fprintf(stderr, "slm_cli: %s: %s\n", what, err->message);
    if (err->hint[0] != '\0')
        fprintf(stderr, "hint: %s\n", err->hint);
    exit(1);
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

static int parse_options(int argc, char **argv, options *o)
{
    int c;

    *o = (options){.max_tokens = 64, .kv_mib = 512, .repeat = 1, .sampling = {.top_p = 1, .repeat_penalty = 1}};
    while ((c = getopt(argc, argv, "n:j:m:B:k:r:t:s:i:p:y:f:J:R:G:bgxq")) != -1) {
        switch (c) {
        case 'n': o->max_tokens = (uint32_t) strtoul(optarg, NULL, 10); break;
        case 'j': o->threads = atoi(optarg); break;
        case 'm': o->sequences = (uint32_t) strtoul(optarg, NULL, 10); break;
        case 'B': o->batch = (uint32_t) strtoul(optarg, NULL, 10); break;
        case 'k': o->kv_mib = strtoul(optarg, NULL, 10); break;
        case 'r': o->repeat = (uint32_t) strtoul(optarg, NULL, 10); break;
        case 't': o->sampling.temperature = strtof(optarg, NULL); break;
        case 's': o->sampling.seed = strtoull(optarg, NULL, 10); break;
        case 'i': o->isa = optarg; break;
        case 'p': o->prior = optarg; break;
        case 'y': o->system = optarg; break;
        case 'f': o->file = optarg; break;
        case 'J': o->grammar = optarg, o->kind = SLM_CONSTRAINT_JSON_SCHEMA; break;
        case 'R': o->grammar = optarg, o->kind = SLM_CONSTRAINT_REGEX; break;
        case 'G': o->grammar = optarg, o->kind = SLM_CONSTRAINT_GBNF; break;
        case 'b': o->best_only = true; break;
        case 'g': o->guess = true; break;
        case 'x': o->raw = true; break;
        case 'q': o->quiet = true; break;
        default: exit(2);
        }
    }
    return optind;
}

/* ---- models */

/* A number of /proc/self/status in MiB; 0 where there is none. */
static double status_mib(const char *key)
{
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    double kib = 0;

    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, key, strlen(key)) == 0)
            kib = strtod(line + strlen(key), NULL);
    if (f != NULL)
        fclose(f);
    return kib / 1024;
}

static void import(const char *source, const char *image, const char *type)
{
    slm_import_options wanted = {.quantization = type};
    slm_model_info info;
    slm_error err = {0};
    double start = now();

    if (slm_import(source, image, &wanted, NULL, NULL, NULL, &info, &err) != SLM_OK)
        die(source, &err);
    fprintf(stderr, "imported %s: %s %s, %.1f MB, %.0f ms, at most %.0f MiB of memory\n", info.name, info.family, info.quantization,
            (double) info.image_bytes / 1e6, (now() - start) * 1e3, status_mib("VmHWM:") - status_mib("RssFile:"));
}

static slm_model *open_model(const char *path)
{
    slm_model *model;
    slm_error err = {0};
    char image[64];
    double start = now();

    if (slm_model_open(path, &model, &err) == SLM_OK) {
        fprintf(stderr, "opened in %.1f ms\n", (now() - start) * 1e3);
        return model;
    }
    snprintf(image, sizeof image, "/tmp/slm_cli_%d.img", (int) getpid());
    import(path, image, NULL);
    if (slm_model_open(image, &model, &err) != SLM_OK)
        die(image, &err);
    unlink(image);
    return model;
}

static slm_session *open_session(slm_model *model, const options *o)
{
    slm_limits limits = {.kv_cache_bytes = o->kv_mib << 20, .max_batch_tokens = o->batch, .max_sequences = o->sequences,
                         .n_threads = o->threads};
    slm_session *session = NULL;
    slm_error err = {0};

    if (o->isa != NULL && slm_set_isa(o->isa, &err) != SLM_OK)
        die(o->isa, &err);
    if (slm_session_new(model, &limits, &session, &err) != SLM_OK)
        die("session", &err);
    return session;
}

static void compile(slm_model *model, options *o)
{
    slm_error err = {0};
    double start = now();

    if (slm_constraint_compile(model, o->kind, o->grammar, strlen(o->grammar), &o->constraint, &err) != SLM_OK)
        die("grammar", &err);
    fprintf(stderr, "compiled in %.1f ms\n", (now() - start) * 1e3);
}

/* ---- requests */

static uint64_t submit(slm_session *session, const options *o, slm_mode mode, const char *text, char **labels, size_t n_labels)
{
    slm_segment segments[2];
    slm_request r = {.mode = mode, .chat = !o->raw && mode != SLM_MODE_LOGPROBS && mode != SLM_MODE_EMBED, .segments = segments,
                     .sampling = o->sampling, .max_tokens = o->max_tokens, .labels = (const char *const *) labels, .n_labels = n_labels,
                     .prior_text = o->prior, .best_only = o->best_only, .speculate = o->guess, .constraint = o->constraint};
    uint64_t id;
    slm_error err = {0};

    if (o->system != NULL)
        segments[r.n_segments++] = (slm_segment){SLM_ROLE_SYSTEM, SLM_SEG_PREFIX, o->system, strlen(o->system)};
    segments[r.n_segments++] = (slm_segment){SLM_ROLE_USER, mode == SLM_MODE_LOGPROBS ? SLM_SEG_SCORED : 0, text, strlen(text)};
    if (slm_submit(session, &r, &id, &err) != SLM_OK)
        die("submit", &err);
    return id;
}

static void print_result(const slm_result *r, slm_mode mode, char **labels)
{
    if (r->status != SLM_OK)
        die("request", &r->error);
    if (mode == SLM_MODE_GENERATE)
        printf("%llu: %s\n", (unsigned long long) r->id, r->text);
    else if (mode == SLM_MODE_LABELS)
        printf("%llu: %s %.4f\n", (unsigned long long) r->id, labels[r->best], exp((double) r->scores[r->best]));
    else
        for (size_t i = 0; i < r->n_scores; i++)
            printf("%g%c", (double) r->scores[i], i + 1 < r->n_scores ? ' ' : '\n');
}

static void run(slm_session *session, const options *o, slm_mode mode, char **labels, size_t n_requests, double start)
{
    size_t active = 1;
    slm_error err = {0};
    const slm_result *r;
    slm_session_stats stats;
    double seconds, prefill, decode;
    uint64_t computed;

    while (active > 0) {
        if (slm_step(session, &active, &err) != SLM_OK)
            die("step", &err);
        while ((r = slm_poll(session)) != NULL) {
            if (!o->quiet)
                print_result(r, mode, labels);
            slm_release(session, r->id);
        }
    }
    seconds = now() - start;
    slm_session_get_stats(session, &stats);
    computed = stats.usage.prompt_tokens - stats.usage.reused_tokens;
    prefill = 1e-9 * (double) stats.usage.prefill_ns;
    decode = 1e-9 * (double) stats.usage.decode_ns;
    fprintf(stderr,
            "%zu requests in %.3f s: %.1f/s; %llu prompt tokens (%.0f/s), %llu reused, %llu output (%.0f/s), %llu positions, %llu steps; "
            "prefill %.3f s, decode %.3f s; %s\n",
            n_requests, seconds, (double) n_requests / seconds, (unsigned long long) computed,
            (double) computed / prefill, (unsigned long long) stats.usage.reused_tokens, (unsigned long long) stats.usage.output_tokens,
            (double) stats.usage.output_tokens / decode, (unsigned long long) stats.positions, (unsigned long long) stats.usage.steps,
            prefill, decode, slm_isa());
}

/* ---- input files */

/* First field of a CSV record (quotes doubled inside quotes), or a whole line; NULL at the end. In place. */
static char *next_text(FILE *f, bool csv)
{
    static char *line;
    static size_t room;
    ssize_t n = getline(&line, &room, f);
    char *out = line, *p = line;

    if (n < 0)
        return NULL;
    if (!csv || *p != '"') {
        line[strcspn(line, csv ? ",\r\n" : "\r\n")] = '\0';
        return line;
    }
    for (p++; *p != '\0'; p++) {
        if (*p == '"' && *++p != '"')
            break;
        *out++ = *p;
    }
    *out = '\0';
    return line;
}

static size_t submit_file(slm_session *session, const options *o, slm_mode mode, const char *path, bool csv, char **labels, size_t n_labels)
{
    FILE *f = fopen(path, "r");
    size_t n = 0;
    char *text;

    if (f == NULL) {
        fprintf(stderr, "slm_cli: %s: %s\n", path, strerror(errno));
        exit(1);
    }
    if (csv)
        next_text(f, true); /* heading */
    while ((text = next_text(f, csv)) != NULL) {
        submit(session, o, mode, text, labels, n_labels);
        n++;
    }
    fclose(f);
    return n;
}

int main(int argc, char **argv)
{
    static const char *const modes[] = {"generate", "labels", "logprobs", "embed"};
    options o;
    slm_mode mode = SLM_MODE_GENERATE;
    slm_model *model;
    slm_session *session;
    size_t n = 0;
    double start;
    int first;

    if (argc >= 4 && strcmp(argv[1], "import") == 0) {
        import(argv[2], argv[3], argc > 4 ? argv[4] : NULL);
        return 0;
    }
    if (argc < 3) {
        fprintf(stderr, "usage: slm_cli import|generate|labels|logprobs|embed ...; see the head of test/tools/slm_cli.c\n");
        return 2;
    }
    while (strcmp(modes[mode], argv[1]) != 0)
        if (++mode > SLM_MODE_EMBED)
            return 2;
    first = parse_options(argc - 2, argv + 2, &o) + 2;
    model = open_model(argv[2]);
    session = open_session(model, &o);
    if (o.grammar != NULL)
        compile(model, &o);
    start = now();
    if (mode == SLM_MODE_LABELS && first < argc) {
        n = submit_file(session, &o, mode, argv[first], true, argv + first + 1, (size_t) (argc - first - 1));
    } else {
        if (o.file != NULL)
            n = submit_file(session, &o, mode, o.file, false, NULL, 0);
        for (int i = first; i < argc; i++)
            for (uint32_t k = 0; k < o.repeat; k++, n++)
                submit(session, &o, mode, argv[i], NULL, 0);
    }
    run(session, &o, mode, argv + first + 1, n, start);
    slm_session_free(session);
    slm_constraint_free(o.constraint);
    slm_model_close(model);
    slm_threads_release();
    return 0;
}
