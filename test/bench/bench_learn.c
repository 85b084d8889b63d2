/*
 * Steps of fine-tuning on a real model: tokens per second of wall and of CPU time, and memory.
 *
 * usage: bench_learn [threads [sequences [length [steps [rank]]]]]     the model: SLM_BENCH_MODEL, else SmolLM2-135M of the cache
 *
 * All positions are told (head and loss at each), all projections adapted: what torch and peft were measured with (golden/training,
 * anchor.json).
 */
#include <sys/resource.h>
#include <time.h>

#include "engine/learn/learn.h"
#include "model_test.h"

static double seconds_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

static uint32_t argument(int argc, char **argv, int i, uint32_t otherwise)
{
    return argc > i ? (uint32_t) strtoul(argv[i], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
    uint32_t threads = argument(argc, argv, 1, 2), sequences = argument(argc, argv, 2, 8), length = argument(argc, argv, 3, 64);
    uint32_t steps = argument(argc, argv, 4, 4), n = sequences * length;
    slm_learn_shape shape = {.rank = argument(argc, argv, 5, 8), .targets = 0x7f, .alpha = 16, .seed = 1};
    char path[1024];
    slm_learn t;
    slm_error err = {0};
    struct rusage usage;
    if (!test_model_path("SLM_BENCH_MODEL", "SmolLM2-135M-Instruct.Q4_1.gguf", path, sizeof path))
        test_die(path, "is not there");
    slm_model *model = test_import(path, NULL);
    if (model == NULL || slm_learn_open(model, &shape, false, (int) threads, NULL, &t, &err) != SLM_OK ||
        slm_learn_room(&t, n, length, true, &err) != SLM_OK)
        test_die(path, err.message);
    int32_t *ids = test_alloc(n * sizeof *ids), *target = test_alloc(n * sizeof *target);
    uint32_t *out = test_alloc(n * sizeof *out), *first = test_alloc((sequences + 1) * sizeof *first);
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = (int32_t) ((i * 7919u + i / length * 31u) % (model->hp.n_vocab - 1));
        out[i] = i;
        target[i] = (int32_t) ((i * 7907u + 5) % (model->hp.n_vocab - 1));
    }
    for (uint32_t i = 0; i <= sequences; i++)
        first[i] = i * length;
    slm_learn_batch b =
        {.n = n, .n_sequences = sequences, .longest = length, .ids = ids, .first = first, .n_out = n, .out = out, .target = target};
    for (uint32_t s = 0; s <= steps; s++) { /* the first one warms up */
        double loss = 0, wall = seconds_of(CLOCK_MONOTONIC), cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
        if (slm_learn_pass(&t, &b, 1.0 / n, &loss, &err) != SLM_OK)
            test_die("pass", err.message);
        slm_learn_step(&t, 1e-3, 0.01, 1);
        wall = seconds_of(CLOCK_MONOTONIC) - wall;
        cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu;
        if (s > 0)
            printf("loss %.4f: %.3f s, %.1f tokens/s; CPU %.3f s, %.1f tokens per CPU second\n", loss / n, wall, n / wall, cpu, n / cpu);
    }
    getrusage(RUSAGE_SELF, &usage);
    printf("%s, %u threads, %s gradients: %.0f MiB for activations, %.0f MiB resident at most, image included\n", slm_isa(), threads,
           t.bf16 ? "bfloat16" : "float", (double) t.arena_bytes / 1048576, (double) usage.ru_maxrss / 1024);
    slm_learn_free(&t);
    slm_model_close(model);
    return 0;
}
