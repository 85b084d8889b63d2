/*
 * The forward pass on one model: prefill of 128 and 512 tokens, decoding of one sequence, and of 4 and 16 together, on 1 and 2 threads.
 *
 *   bench_forward MODEL.gguf|IMAGE.slm [--csv] [--threads N] [--runs N] [--only prefill,decode,batch] [--prompt N]
 *                 [--sequences N] [--context N] [--kv f16|q8] [--cpu] [--ahead BYTES] [--huge try|on|off]
 *
 * --prompt: prefill of N tokens only.  --sequences: batches of N only.  --context: tokens before those that are decoded.
 * --cpu: one thread only, timed by its CPU clock: what the machine would do without its other load.
 *
 * Every figure is the best of several runs, for the machine may be shared.  The peaks are measured in the same run: int8 multiply-adds by a
 * loop of vpdpbusd (AVX-512 VNNI only; 0 elsewhere), memory by plain reads of 256 MiB on huge pages, the best of 1 to 8 streams a thread.
 * Shares: prefill and batches by the multiply-adds of all matrices (the output head once a prompt) over the int8 peak, decoding by the
 * bytes of all matrices over the memory bandwidth.
 */
#include <sys/mman.h>

#include "bench.h"

#define MEMORY_BYTES ((size_t) 256 << 20)
#define STEPS 4 /* timed together */
#define WINDOWS 4 /* of so many steps a run */
#define MOST_SEQUENCES 64

typedef struct bench {
    slm_model *model;
    slm_workspace *ws;
    float *logits;
    size_t stride;
    bench_cost cost;
    int runs;
    bool csv;
    const char *only; /* these kinds of figures, or NULL */
    uint32_t prompt;  /* tokens, 0 = both lengths */
    uint32_t sequences; /* decoding together, 0 = both numbers */
    uint32_t context;   /* before what is decoded */
    slm_kv_type kv_type;
} bench;

/* ---- the memory's peak ---- */

typedef uint64_t line_part __attribute__((vector_size(16)));
typedef struct reading {
    const char *memory;
    int streams; /* of each thread, read a line from each in turn */
} reading;

static void memory_region(void *arg, slm_team *team, int thread, int n_threads)
{
    const reading *r = arg;
    size_t part = MEMORY_BYTES / (size_t) (n_threads * r->streams) & ~(size_t) 63;
    const char *from = r->memory + part * (size_t) (r->streams * thread);
    line_part s[4] = {{0}};
    (void) team;
    for (size_t i = 0; i < part; i += 64)
        for (int stream = 0; stream < r->streams; stream++)
            for (int k = 0; k < 4; k++)
                s[k] ^= *(const line_part *) (const void *) (from + part * (size_t) stream + i + 16 * (size_t) k);
    s[0] ^= s[1] ^ s[2] ^ s[3];
    volatile uint64_t sink = s[0][0] ^ s[0][1];
    (void) sink;
}

/* Bytes/s of a plain read: the best of one and several streams a thread, on huge pages where they can be had. */
static double peak_memory(int n_threads)
{
    double best = 0;
    size_t room = MEMORY_BYTES + ((size_t) 2 << 20);
    char *memory = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return 0;
    reading r = {.memory = (char *) (((uintptr_t) memory + ((size_t) 2 << 20) - 1) & ~(uintptr_t) (((size_t) 2 << 20) - 1))};
    (void) madvise(memory, room, MADV_HUGEPAGE);
    memset(memory, 1, room);
    for (r.streams = 1; r.streams <= 8; r.streams *= 2)
        for (int i = 0; i < 4; i++) {
            double t = now();
            slm_parallel(n_threads, memory_region, &r);
            t = now() - t;
            if ((double) MEMORY_BYTES / t > best)
                best = (double) MEMORY_BYTES / t;
        }
    munmap(memory, room);
    return best;
}

/* ---- the model ---- */

static int32_t some_token(const bench *b, uint32_t i)
{
    return (int32_t) (i * 2654435761u % b->model->hp.n_vocab);
}

/* Best seconds of a prompt of n tokens with the logits of its last. */
static double prefill(bench *b, uint32_t n, int n_threads)
{
    double best = 1e30;
    int32_t *ids = test_alloc(n * sizeof *ids);
    test_batch t = test_batch_new(n);
    t.b.kv_type = b->kv_type;
    for (uint32_t i = 0; i < n; i++)
        ids[i] = some_token(b, i);
    for (int i = 0; i < b->runs; i++) {
        test_sequence s = test_sequence_new(b->model, n);
        test_batch_clear(&t);
        test_batch_add(&t, &s, ids, n, n, 1);
        double time = now();
        test_run(b->model, b->ws, &t, n_threads, b->logits);
        time = now() - time;
        if (time < best)
            best = time;
        test_sequence_free(&s);
    }
    test_batch_free(&t);
    free(ids);
    return best;
}

/* Best seconds per step of n sequences that have a prompt of `context` tokens and decode greedily. */
static double decode(bench *b, uint32_t n, uint32_t context, int n_threads)
{
    double best = 1e30;
    uint32_t steps = STEPS * WINDOWS * (uint32_t) b->runs;
    test_sequence *s = test_alloc(n * sizeof *s);
    int32_t *ids = test_alloc((n > context ? n : context) * sizeof *ids);
    test_batch t = test_batch_new(n > context ? n : context);
    t.b.kv_type = b->kv_type;
    for (uint32_t i = 0; i < n; i++) {
        s[i] = test_sequence_new(b->model, context + steps);
        for (uint32_t k = 0; k < context; k++)
            ids[k] = some_token(b, k + i);
        test_batch_clear(&t);
        test_batch_add(&t, &s[i], ids, context, context, 0);
        test_run(b->model, b->ws, &t, n_threads, NULL);
    }
    for (uint32_t i = 0; i < n; i++)
        ids[i] = some_token(b, i);
    for (int window = 0; window < WINDOWS * b->runs; window++) {
        double time = now();
        for (int step = 0; step < STEPS; step++) {
            test_batch_clear(&t);
            for (uint32_t i = 0; i < n; i++)
                test_batch_add(&t, &s[i], ids + i, 1, context + steps, 1);
            test_run(b->model, b->ws, &t, n_threads, b->logits);
            for (uint32_t i = 0; i < n; i++)
                ids[i] = (int32_t) slm_kernels_get()->argmax(b->logits + i * b->stride, b->model->hp.n_vocab);
        }
        time = (now() - time) / STEPS;
        if (time < best)
            best = time;
    }
    for (uint32_t i = 0; i < n; i++)
        test_sequence_free(&s[i]);
    test_batch_free(&t);
    free(s);
    free(ids);
    return best;
}

static void report(const bench *b, const char *what, uint32_t n, int n_threads, double tokens_per_second, double share, const char *of)
{
    const slm_model_info *info = slm_model_get_info(b->model);
    if (b->csv)
        printf("%s,%s,%s,%u,%d,%.1f,%.3f,%s\n", info->name, info->quantization, what, n, n_threads, tokens_per_second, share, of);
    else
        printf("%-8s %4u  %d thread%s %9.1f tokens/s  %5.1f %% of %s\n", what, n, n_threads, n_threads == 1 ? " " : "s", tokens_per_second,
               100 * share, of);
    fflush(stdout);
}

static bool wanted(const bench *b, const char *kind)
{
    return b->only == NULL || strstr(b->only, kind) != NULL;
}

static void bench_threads(bench *b, int n_threads)
{
    double int8 = peak_int8(n_threads), memory = peak_memory(n_threads);
    fprintf(b->csv ? stderr : stdout, "%d thread%s: int8 peak %.0f GMAC/s, memory %.1f GB/s\n", n_threads, n_threads == 1 ? "" : "s",
            int8 * 1e-9, memory * 1e-9);
    for (uint32_t n = b->prompt ? b->prompt : 128; n <= (b->prompt ? b->prompt : 512) && wanted(b, "prefill"); n *= 4) {
        double t = prefill(b, n, n_threads);
        report(b, "prefill", n, n_threads, n / t, int8 > 0 ? (n * b->cost.layer_macs + b->cost.head_macs) / t / int8 : 0, "int8 peak");
    }
    if (wanted(b, "decode")) {
        double t = decode(b, 1, b->context, n_threads);
        report(b, "decode", 1, n_threads, 1 / t, b->cost.bytes / t / memory, "memory bandwidth");
    }
    for (uint32_t n = b->sequences ? b->sequences : 4; n <= (b->sequences ? b->sequences : 16) && wanted(b, "batch"); n *= 4) {
        double t = decode(b, n, b->context, n_threads);
        report(b, "decode", n, n_threads, n / t, int8 > 0 ? n * (b->cost.layer_macs + b->cost.head_macs) / t / int8 : 0, "int8 peak");
    }
}

int main(int argc, char **argv)
{
    bench b = {.runs = 6, .context = 64};
    int only = 0;
    const char *path = NULL;
    slm_error err = {0};
    slm_tuning tuning = {0};
    bool tuned = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--csv") == 0)
            b.csv = true;
        else if (strcmp(argv[i], "--cpu") == 0)
            clock_used = CLOCK_THREAD_CPUTIME_ID, only = 1;
        else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
            only = atoi(argv[++i]);
        else if (strcmp(argv[i], "--runs") == 0 && i + 1 < argc)
            b.runs = atoi(argv[++i]);
        else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc)
            b.only = argv[++i];
        else if (strcmp(argv[i], "--ahead") == 0 && i + 1 < argc)
            tuned = sscanf(argv[++i], "%u", &tuning.ahead) == 1;
        else if (strcmp(argv[i], "--huge") == 0 && i + 1 < argc)
            path = slm_set_huge_pages(argv[++i], &err) == SLM_OK ? path : NULL;
        else if (strcmp(argv[i], "--prompt") == 0 && i + 1 < argc)
            b.prompt = (uint32_t) strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--sequences") == 0 && i + 1 < argc)
            b.sequences = (uint32_t) strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--context") == 0 && i + 1 < argc)
            b.context = (uint32_t) strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--kv") == 0 && i + 1 < argc)
            b.kv_type = strcmp(argv[++i], "q8") == 0 ? SLM_KV_Q8 : SLM_KV_F16;
        else
            path = argv[i];
    }
    if (path == NULL || b.runs < 1 || b.prompt > 4096 || b.sequences > MOST_SEQUENCES || b.context < 1 || b.context > 8000) {
        fprintf(stderr, "usage: bench_forward MODEL.gguf|IMAGE.slm [--csv] [--threads N] [--runs N] [--only prefill,decode,batch] "
                        "[--prompt N] [--sequences N] [--context N] [--kv f16|q8] [--cpu] [--ahead BYTES] [--huge try|on|off]\n");
        return 2;
    }
    if (!tuned && slm_tune(&tuning, &err) != SLM_OK)
        return 1;
    slm_tuning_set(&tuning);
    b.model = open_any(path);
    if (b.model == NULL || slm_model_prewarm(b.model, NULL, NULL, NULL, &err) != SLM_OK)
        return 1;
    b.ws = slm_workspace_new();
    b.stride = test_logit_stride(b.model);
    b.logits = test_alloc(MOST_SEQUENCES * b.stride * sizeof(float));
    b.cost = count_model(b.model);
    if (b.csv)
        printf("model,quantization,what,n,threads,tokens_per_second,share,of\n");
    else
        printf("%s %s, isa %s, best of %d runs\n", slm_model_get_info(b.model)->name, slm_model_get_info(b.model)->quantization,
               slm_kernels_get()->isa, b.runs);
    fprintf(b.csv ? stderr : stdout, "weights: fetched %u bytes ahead%s, %.0f of %.0f MB in huge pages\n", tuning.ahead,
            tuned ? " (as told)" : "", (double) slm_model_huge_bytes(b.model) * 1e-6,
            (double) slm_model_get_info(b.model)->image_bytes * 1e-6);
    if (only > 0)
        bench_threads(&b, only);
    for (int n = 1; only == 0 && n <= 2; n++)
        bench_threads(&b, n);
    free(b.logits);
    slm_workspace_free(b.ws);
    slm_model_close(b.model);
    slm_threads_release();
    return 0;
}
