/*
 * Encoders and their heads: texts or pairs a second on 1 and 2 threads, and the share of the int8 peak measured in the same run.
 *
 *   bench_encoders [MODEL ...] [--csv] [--threads N] [--runs N] [--out FILE]
 *
 * MODEL: a directory, or an image by its name .slm.  Without any: all-MiniLM-L6-v2 of the model cache and every directory in
 * $SLM_BENCH_ENCODERS (encoder_shapes.py makes some).  --out: what the last model gave, [texts, outputs] floats of this machine.
 *
 * Texts: every eighth of Banking77's 3,080 messages to test (banking77_test.csv in $SLM_TEST_DATA; Casanueva et al. 2020, CC BY 4.0), in
 * their order.  A reranker gets 128 pairs of 12 and 84 words that follow each other there, some 16 and 100 tokens.  Tokenizer included, as
 * SQL asks: 64 requests and 512 tokens at a time.  The share counts the multiply-adds of the layers' matrices, not attention's.
 */
#include <dirent.h>
#include <sys/stat.h>

#include "bench.h"
#include "csv.h"

#define EVERY 8
#define MAX_TEXTS 4096
#define N_PAIRS 128
#define QUERY_WORDS 12
#define PAIR_WORDS 96
#define AT_ONCE 64
#define MAX_MODELS 32

typedef struct sample {
    size_t n, n_texts; /* n_texts in each: 2 of a pair */
    const char *texts[MAX_TEXTS][2];
} sample;

typedef struct bench {
    sample messages, pairs;
    int runs, threads; /* threads 0: 1 and then 2 */
    const char *out;
} bench;

static void must(slm_status status, const slm_error *err)
{
    if (status != SLM_OK)
        test_die("bench_encoders", err->message);
}

/* ---- the texts ---- */

/* The first field of each line of a CSV file; false: it cannot be read. */
static bool load_messages(const char *folder, const char **messages, size_t *n)
{
    char path[4096];
    size_t room = 4 << 20;
    snprintf(path, sizeof path, "%s/banking77_test.csv", folder);
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return false;
    char *at = test_alloc(room + 1), *value;
    at[fread(at, 1, room, f)] = '\0';
    fclose(f);
    while (field(&at, &value)) /* the head line */
        continue;
    for (*n = 0; *at != '\0' && *n < MAX_TEXTS;) {
        bool more = field(&at, &value);
        messages[(*n)++] = value;
        while (more)
            more = field(&at, &(char *) {NULL});
    }
    return *n > 0;
}

/* The next `words` words of *at with single blanks between them; *at moves behind them. NULL: there are no more. */
static const char *next_words(char **at, size_t words)
{
    static const char blanks[] = " \t\r\n";
    size_t n = 0;
    char *out = test_alloc(strlen(*at) + 1);
    for (size_t i = 0; i < words; i++) {
        *at += strspn(*at, blanks);
        size_t length = strcspn(*at, blanks);
        if (length == 0)
            return NULL;
        if (i > 0)
            out[n++] = ' ';
        memcpy(out + n, *at, length);
        n += length;
        *at += length;
    }
    return out;
}

static bool load_texts(bench *b, const char *folder)
{
    static const char *messages[MAX_TEXTS];
    size_t n, length = 0;
    if (!load_messages(folder, messages, &n))
        return false;
    b->messages.n_texts = 1;
    for (size_t i = 0; i < n; i++) {
        length += strlen(messages[i]) + 1;
        if (i % EVERY == 0)
            b->messages.texts[b->messages.n++][0] = messages[i];
    }
    char *all = test_alloc(length + 1), *at = all;
    for (size_t i = 0; i < n; i++)
        at += sprintf(at, "%s ", messages[i]);
    b->pairs.n_texts = 2;
    for (at = all; b->pairs.n < N_PAIRS; b->pairs.n++) {
        const char **pair = b->pairs.texts[b->pairs.n];
        if ((pair[0] = next_words(&at, QUERY_WORDS)) == NULL || (pair[1] = next_words(&at, PAIR_WORDS - QUERY_WORDS)) == NULL)
            break;
    }
    free(all);
    return true;
}

/* ---- a model ---- */

/* Computes all of them; returns their tokens. out: [n, width] or NULL. */
static double compute(slm_session *session, const sample *s, float *out, size_t width)
{
    slm_error err;
    uint64_t ids[AT_ONCE];
    double tokens = 0;
    for (size_t at = 0; at < s->n; at += AT_ONCE) {
        size_t count = s->n - at < AT_ONCE ? s->n - at : AT_ONCE, active = 1;
        for (size_t i = 0; i < count; i++) {
            slm_segment segments[2] = {{.role = SLM_ROLE_USER}, {.role = SLM_ROLE_USER}};
            for (size_t k = 0; k < s->n_texts; k++) {
                segments[k].text = s->texts[at + i][k];
                segments[k].length = strlen(segments[k].text);
            }
            slm_request request = {.mode = SLM_MODE_EMBED, .truncate = true, .segments = segments, .n_segments = s->n_texts};
            must(slm_submit(session, &request, &ids[i], &err), &err);
        }
        while (active > 0)
            must(slm_step(session, &active, &err), &err);
        for (const slm_result *r; (r = slm_poll(session)) != NULL; slm_release(session, r->id)) {
            must(r->status, &r->error);
            tokens += (double) (r->usage.prompt_tokens - r->usage.reused_tokens);
            for (size_t i = 0; i < count; i++)
                if (out != NULL && ids[i] == r->id && r->n_scores == width)
                    memcpy(out + (at + i) * width, r->scores, width * sizeof *out);
        }
    }
    return tokens;
}

static void keep(const bench *b, const float *out, size_t n)
{
    FILE *f = fopen(b->out, "wb");
    if (f == NULL || fwrite(out, sizeof *out, n, f) != n || fclose(f) != 0)
        test_die(b->out, "cannot be written");
}

static void bench_model(const bench *b, const char *path)
{
    slm_error err = {0};
    slm_session *session;
    slm_model *model = open_any(path);
    if (model == NULL || slm_model_prewarm(model, NULL, NULL, NULL, &err) != SLM_OK)
        test_die(path, err.message);
    const slm_model_info *info = slm_model_get_info(model);
    const sample *s = info->can_rerank ? &b->pairs : &b->messages;
    const char *name = strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path;
    size_t width = info->can_classify || info->can_rerank ? info->n_labels : info->n_embd;
    float *out = b->out != NULL ? test_alloc(s->n * width * sizeof *out) : NULL;
    double macs = count_model(model).layer_macs;
    for (int threads = b->threads > 0 ? b->threads : 1; threads <= (b->threads > 0 ? b->threads : 2); threads++) {
        slm_limits limits = {.kv_cache_bytes = 1 << 24, .max_batch_tokens = 512, .n_threads = threads};
        double best = 1e30, tokens = 0, peak = peak_int8(threads);
        must(slm_session_new(model, &limits, &session, &err), &err);
        for (int run = 0; run < b->runs; run++) {
            double begin = now();
            tokens = compute(session, s, out, width);
            best = now() - begin < best ? now() - begin : best;
        }
        slm_session_free(session);
        double after = peak_int8(threads); /* others may have come or gone */
        peak = after > peak ? after : peak;
        printf("%.*s,%u x %u,%s,%s,%.1f,%d,%.1f,%.0f %%\n", (int) strcspn(name, "."), name, info->n_layers, model->hp.n_embd,
               info->quantization, info->can_rerank ? "pairs" : info->can_classify ? "labels" : "texts", tokens / (double) s->n,
               threads, (double) s->n / best, peak > 0 ? 100 * tokens * macs / best / peak : 0);
        fflush(stdout);
    }
    if (out != NULL)
        keep(b, out, s->n * width);
    free(out);
    slm_model_close(model);
}

/* The model of the cache and the directories of $SLM_BENCH_ENCODERS, by name. */
static void bench_all(const bench *b)
{
    char path[4096];
    struct dirent **entries;
    struct stat st;
    const char *folder = getenv("SLM_BENCH_ENCODERS");
    if (test_model_path("SLM_EMBED_MODEL", "all-MiniLM-L6-v2", path, sizeof path))
        bench_model(b, path);
    int n = folder != NULL && *folder != '\0' ? scandir(folder, &entries, NULL, alphasort) : 0;
    if (n <= 0)
        fprintf(stderr, "bench_encoders: SLM_BENCH_ENCODERS names no folder with other models\n");
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s/config.json", folder, entries[i]->d_name);
        if (stat(path, &st) == 0) {
            snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
            bench_model(b, path);
        }
        free(entries[i]);
    }
    if (n > 0)
        free(entries);
}

int main(int argc, char **argv)
{
    static bench b = {.runs = 3};
    const char *data = getenv("SLM_TEST_DATA"), *models[MAX_MODELS];
    int n_models = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
            b.threads = atoi(argv[++i]);
        else if (strcmp(argv[i], "--runs") == 0 && i + 1 < argc)
            b.runs = atoi(argv[++i]);
        else if (strcmp(argv[i], "--out") == 0 && i + 1 < argc)
            b.out = argv[++i];
        else if (strcmp(argv[i], "--csv") != 0 && n_models < MAX_MODELS)
            models[n_models++] = argv[i];
    }
    printf("model,layers x width,type,what,tokens each,threads,a second,of the int8 peak\n");
    if (b.runs < 1 || !load_texts(&b, data != NULL ? data : "")) {
        fprintf(stderr, "bench_encoders skipped: SLM_TEST_DATA names no folder with banking77_test.csv\n");
        return 0;
    }
    for (int i = 0; i < n_models; i++)
        bench_model(&b, models[i]);
    if (n_models == 0)
        bench_all(&b);
    slm_threads_release();
    return 0;
}
