/*
 * LoRA adapters on the tiny models of golden/families and on test/data/tiny.gguf.
 *
 * A generated adapter of all projections gives the logits of a model into which it was merged, within 0.05, from a GGUF file and, to
 * the bit
 * the same, from a PEFT directory.  Rows with two adapters and without one in a single batch have the bits that each has alone, for
 * any cut
 * and any number of threads.  And a session keeps prefixes and priors of adapters apart.
 */
#include <dirent.h>

#include "adapter_maker.h"
#include "engine/model/adapter.h"
#include "model_test.h"
#include "slm_test.h"

#define TOLERANCE 0.05
#define N 40

static char folder[64] = "/tmp/slm_adapter_XXXXXX";

typedef struct fixture {
    const char *name;
    slm_gguf *gguf;
    slm_model *model;
    slm_workspace *ws;
    size_t stride;
    int32_t ids[N];
} fixture;

static const char *in_folder(const char *name)
{
    static char path[4][256];
    static int next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", folder, name);
    return p;
}

static slm_adapter *import(const slm_model *base, const char *source, slm_status *status, slm_error *err)
{
    const char *image = in_folder("adapter.img");
    slm_adapter *adapter = NULL;
    slm_adapter_info info;
    *status = slm_adapter_import(source, base, image, NULL, NULL, &info, err);
    if (*status == SLM_OK)
        *status = slm_adapter_open(image, base, &adapter, err);
    CHECK(*status == SLM_OK || access(image, F_OK) != 0, "a refused adapter leaves a file");
    unlink(image);
    return adapter;
}

static slm_adapter *must_import(const fixture *f, const char *source)
{
    slm_status status;
    slm_error err = {0};
    slm_adapter *adapter = import(f->model, source, &status, &err);
    CHECK(adapter != NULL, "%s: %s", f->name, err.message);
    return adapter;
}

/* Logits of the first n tokens with an adapter (NULL: none), in batches of cut: [n, stride]. */
static float *logits_of(const fixture *f, const slm_model *model, slm_adapter *adapter, uint32_t n, uint32_t cut, int n_threads)
{
    const slm_adapter *adapters[N];
    float *logits = test_alloc(n * f->stride * sizeof *logits);
    test_sequence s = test_sequence_new(model, n);
    test_batch t = test_batch_new(cut);
    for (uint32_t i = 0; i < N; i++)
        adapters[i] = adapter;
    t.b.adapters = adapter == NULL ? NULL : adapters;
    for (uint32_t at = 0; at < n; at += cut) {
        test_batch_clear(&t);
        test_batch_add(&t, &s, f->ids + at, n - at < cut ? n - at : cut, n, 2);
        test_run(model, f->ws, &t, n_threads, logits + at * f->stride);
    }
    test_batch_free(&t);
    test_sequence_free(&s);
    return logits;
}

/* The same of three sequences side by side, each with its adapter; wanted: 2 all rows, 1 the last of each (then only those are filled). */
static void together(const fixture *f, slm_adapter *const adapter[3], uint32_t cut, int n_threads, int wanted, float *out[3])
{
    const slm_adapter *adapters[3 * N];
    float *logits = test_alloc(3 * N * f->stride * sizeof *logits);
    test_sequence s[3];
    test_batch t = test_batch_new(3 * N);
    t.b.adapters = adapters;
    for (int k = 0; k < 3; k++) {
        s[k] = test_sequence_new(f->model, N);
        out[k] = test_alloc(N * f->stride * sizeof **out);
    }
    for (uint32_t at = 0; at < N; at += cut) {
        uint32_t n = N - at < cut ? N - at : cut, row = 0;
        test_batch_clear(&t);
        for (int k = 0; k < 3; k++) {
            for (uint32_t i = 0; i < n; i++)
                adapters[t.b.n + i] = adapter[k];
            test_batch_add(&t, &s[k], f->ids + at, n, N, wanted);
        }
        test_run(f->model, f->ws, &t, n_threads, logits);
        for (int k = 0; k < 3; k++)
            for (uint32_t i = wanted == 2 ? 0 : n - 1; i < n; i++, row++)
                memcpy(out[k] + (at + i) * f->stride, logits + row * f->stride, f->stride * sizeof *logits);
    }
    for (int k = 0; k < 3; k++)
        test_sequence_free(&s[k]);
    test_batch_free(&t);
    free(logits);
}

static double largest_difference(const fixture *f, const float *a, const float *b)
{
    double most = 0;
    for (size_t i = 0; i < N; i++)
        for (size_t c = 0; c < f->model->hp.n_vocab; c++) {
            double d = fabs((double) a[i * f->stride + c] - (double) b[i * f->stride + c]);
            most = d <= most ? most : d;
        }
    return most;
}

static bool same_bits(const fixture *f, const float *a, const float *b, uint32_t from, uint32_t step)
{
    bool same = true;
    for (uint32_t i = from; i < N; i += step)
        same = same && memcmp(a + i * f->stride, b + i * f->stride, f->model->hp.n_vocab * sizeof *a) == 0;
    return same;
}

static void check_merged(const fixture *f, slm_adapter *adapter, const adapter_recipe *recipe)
{
    CHECK(make_merged(f->gguf, recipe, in_folder("merged.gguf")) == 0, "cannot write");
    slm_model *merged = test_import(in_folder("merged.gguf"), NULL);
    CHECK(merged != NULL, "%s: the merged model does not load", f->name);
    if (merged == NULL)
        return;
    float *plain = logits_of(f, f->model, NULL, N, N, 1), *adapted = logits_of(f, f->model, adapter, N, N, 2);
    float *reference = logits_of(f, merged, NULL, N, N, 1);
    double off = largest_difference(f, adapted, reference), effect = largest_difference(f, plain, reference);
    printf("%-12s adapted - merged %.4f, adapted - plain %.3f\n", f->name, off, effect);
    CHECK(off <= TOLERANCE, "%s: %.4f from the merged model", f->name, off);
    CHECK(effect >= 10 * TOLERANCE, "%s: the adapter changes only %.4f", f->name, effect);
    free(plain);
    free(adapted);
    free(reference);
    slm_model_close(merged);
}

static void check_peft(const fixture *f, slm_adapter *adapter, const adapter_recipe *recipe)
{
    mkdir(in_folder("peft"), 0700);
    CHECK(make_peft_adapter(f->gguf, &f->model->hp, recipe, in_folder("peft"), "") == 0, "cannot write");
    slm_adapter *peft = must_import(f, in_folder("peft"));
    if (peft == NULL)
        return;
    CHECK(peft->info.n_parameters == adapter->info.n_parameters && peft->info.n_matrices == adapter->info.n_matrices, "%s: counts",
            f->name);
    float *a = logits_of(f, f->model, adapter, N, N, 1), *b = logits_of(f, f->model, peft, N, N, 1);
    CHECK(same_bits(f, a, b, 0, 1), "%s: PEFT and GGUF differ by %g", f->name, largest_difference(f, a, b));
    free(a);
    free(b);
    slm_adapter_close(peft);
}

static void check_mixed(const fixture *f, slm_adapter *one, slm_adapter *two)
{
    slm_adapter *const orders[2][3] = {{one, NULL, two}, {NULL, two, two}};
    static const uint32_t cuts[] = {1, 7, N};
    for (int o = 0; o < 2; o++)
        for (size_t c = 0; c < 3; c++)
            for (int wanted = 1; wanted <= 2; wanted++) {
                float *mixed[3];
                together(f, orders[o], cuts[c], 1 + (int) c % 2, wanted, mixed);
                for (int k = 0; k < 3; k++) {
                    float *alone = logits_of(f, f->model, orders[o][k], N, c == 1 ? N : 3, 2);
                    CHECK(same_bits(f, mixed[k], alone, wanted == 2 ? 0 : N - 1, 1),
                            "%s: order %d, cut %u, sequence %d, wanted %d: other bits", f->name,
                          o, cuts[c], k, wanted);
                    free(alone);
                    free(mixed[k]);
                }
            }
}

/* Every instruction set of this machine: the same bits. */
static void check_isas(const fixture *f, slm_adapter *adapter)
{
    slm_error err;
    float *first = NULL;
    for (int i = 0; slm_isa_available(i) != NULL; i++) {
        CHECK(slm_set_isa(slm_isa_available(i), &err) == SLM_OK, "isa");
        float *now = logits_of(f, f->model, adapter, N, 5, 2);
        if (first != NULL)
            CHECK(same_bits(f, first, now, 0, 1), "%s: %s has other bits", f->name, slm_isa());
        free(first);
        first = now;
    }
    free(first);
    (void) slm_set_isa("auto", &err);
}

static void check_refused(const fixture *f, const char *source, slm_status wanted, const char *what)
{
    slm_status status;
    slm_error err = {0};
    slm_adapter *adapter = import(f->model, source, &status, &err);
    CHECK(adapter == NULL && status == wanted, "%s: status %d (%s)", what, (int) status, err.message);
    slm_adapter_close(adapter);
}

/* Configurations and files that must be refused; every cut and many flipped bytes of a good file must not bring anything down. */
static void check_hostile(const fixture *f, const adapter_recipe *recipe)
{
    static const char *const settings[] = {", \"use_dora\": true", ", \"bias\": \"all\"", ", \"modules_to_save\": [\"lm_head\"]",
                                           ", \"alpha_pattern\": {\"q_proj\": 3}", ", \"fan_in_fan_out\": true",
                                           ", \"init_lora_weights\": \"pissa_niter_4\"", ", \"init_lora_weights\": \"olora\"",
                                           ", \"alora_invocation_tokens\": [1, 2]", ", \"target_parameters\": [\"experts\"]"};
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        make_peft_adapter(f->gguf, &f->model->hp, recipe, in_folder("peft"), settings[i]);
        check_refused(f, in_folder("peft"), SLM_UNSUPPORTED, settings[i]);
    }
    make_peft_adapter(f->gguf, &f->model->hp, recipe, in_folder("peft"), ", \"r\": 4");
    check_refused(f, in_folder("peft"), SLM_FORMAT, "a key twice");
    check_refused(f, in_folder("merged.gguf"), SLM_INVALID, "a model");
    check_refused(f, in_folder("none"), SLM_IO, "no file");
    make_gguf_adapter(f->gguf, "bert", recipe, in_folder("bad.gguf"));
    check_refused(f, in_folder("bad.gguf"), SLM_INVALID, "another family");

    adapter_recipe wide = *recipe;
    wide.rank = SLM_ADAPTER_MAX_RANK + 1;
    wide.only = "blk.0.attn_k";
    make_gguf_adapter(f->gguf, f->model->hp.family, &wide, in_folder("bad.gguf"));
    check_refused(f, in_folder("bad.gguf"), SLM_FORMAT, "a rank that is too large");
    wide.rank = 2;
    wide.size = INFINITY;
    make_gguf_adapter(f->gguf, f->model->hp.family, &wide, in_folder("bad.gguf"));
    check_refused(f, in_folder("bad.gguf"), SLM_FORMAT, "infinite weights");
    wide.size = NAN;
    make_gguf_adapter(f->gguf, f->model->hp.family, &wide, in_folder("bad.gguf"));
    check_refused(f, in_folder("bad.gguf"), SLM_FORMAT, "weights that are no numbers");

    make_peft_adapter(f->gguf, &f->model->hp, recipe, in_folder("peft"), "");
    unlink(in_folder("peft/adapter_model.safetensors"));
    check_refused(f, in_folder("peft"), SLM_IO, "a directory without weights");
    make_peft_adapter(f->gguf, &f->model->hp, recipe, in_folder("peft"), "");
    unlink(in_folder("peft/adapter_config.json"));
    check_refused(f, in_folder("peft"), SLM_IO, "a directory without its configuration");
}

static void check_damage(const fixture *f, const adapter_recipe *recipe)
{
    adapter_recipe small = *recipe;
    small.only = "blk.0.attn_k";
    make_gguf_adapter(f->gguf, f->model->hp.family, &small, in_folder("whole.gguf"));
    FILE *file = fopen(in_folder("whole.gguf"), "rb");
    static unsigned char bytes[1 << 18];
    size_t n = file == NULL ? 0 : fread(bytes, 1, sizeof bytes, file);
    if (file != NULL)
        fclose(file);
    CHECK(n > 500 && n < sizeof bytes, "no file");
    for (uint32_t i = 0; i < 400; i++) {
        bool cut = i % 4 == 0;
        size_t at = (size_t) (slm_rng_uniform(7, i) * (double) (cut ? n : n < 700 ? n : 700));
        gw w = {0};
        slm_status status;
        gw_raw(&w, bytes, cut ? at : n);
        if (!cut)
            w.bytes[at] ^= (unsigned char) (1u << i % 8);
        gw_save(&w, in_folder("bad.gguf"));
        gw_free(&w);
        slm_adapter *adapter = import(f->model, in_folder("bad.gguf"), &status, NULL);
        CHECK(!cut || adapter == NULL, "a file cut at %zu of %zu loads", at, n);
        slm_adapter_close(adapter);
    }
}

/* The image itself: any flipped byte is refused. */
static void check_image(const fixture *f)
{
    slm_error err;
    slm_adapter *adapter = NULL;
    const char *image = in_folder("adapter.img");
    CHECK(slm_adapter_import(in_folder("whole.gguf"), f->model, image, NULL, NULL, NULL, &err) == SLM_OK, "import");
    FILE *file = fopen(image, "r+b");
    fseek(file, 0, SEEK_END);
    long n = ftell(file);
    for (int i = 0; i < 200; i++) {
        long at = (long) (slm_rng_uniform(9, (uint64_t) i) * (double) n);
        unsigned char byte;
        if (at >= 20 && at < 24)
            continue; /* reserved */
        fseek(file, at, SEEK_SET);
        byte = (unsigned char) fgetc(file);
        fseek(file, at, SEEK_SET);
        fputc(byte ^ 0x41, file);
        fflush(file);
        slm_status status = slm_adapter_open(image, f->model, &adapter, &err);
        CHECK(status != SLM_OK || at < 1024, "byte %ld of %ld is not noticed", at, n);
        slm_adapter_close(status == SLM_OK ? adapter : NULL);
        fseek(file, at, SEEK_SET);
        fputc(byte, file);
        fflush(file);
    }
    fclose(file);
    CHECK(slm_adapter_open(image, f->model, &adapter, &err) == SLM_OK, "the image is not as it was");
    slm_adapter_close(adapter);
    unlink(image);
}

/* Log probabilities of two labels after a shared prefix (prior: less those after that text) in a session; n_reused: prompt tokens
 * taken from its cache. */
static void ask_labels(slm_session *session, slm_adapter *adapter, const char *prior, float scores[2], uint32_t *n_reused)
{
    static const char *const labels[] = {"yes it is", "no"};
    slm_segment segments[2] = {{.role = SLM_ROLE_USER, .flags = SLM_SEG_PREFIX, .text = "is this text about weather, or is it not: ",
            .length = 42},
                               {.role = SLM_ROLE_USER, .flags = SLM_SEG_JOIN, .text = "rain", .length = 4}};
    slm_request request = {.mode = SLM_MODE_LABELS, .adapter = adapter, .segments = segments, .n_segments = 2, .labels = labels,
            .n_labels = 2,
                           .prior_text = prior};
    slm_error err = {0};
    uint64_t id;
    const slm_result *result = NULL;
    slm_status status = slm_submit(session, &request, &id, &err);
    for (int i = 0; status == SLM_OK && (result = slm_poll(session)) == NULL && i < 100; i++)
        status = slm_step(session, NULL, &err);
    CHECK(result != NULL && result->status == SLM_OK && result->n_scores == 2, "labels: %s", err.message);
    if (result == NULL)
        return;
    memcpy(scores, result->scores, 2 * sizeof *scores);
    *n_reused = result->usage.reused_tokens;
    slm_release(session, id);
}

static slm_session *new_session(const fixture *f)
{
    slm_limits limits = {.kv_cache_bytes = 8 << 20, .max_batch_tokens = 64, .max_sequences = 4, .n_threads = 1};
    slm_session *session = NULL;
    slm_error err = {0};
    CHECK(slm_session_new(f->model, &limits, &session, &err) == SLM_OK, "session: %s", err.message);
    return session;
}

/* One session asked with adapters in turns says what fresh sessions say, also from its caches, and after an adapter was closed and
 * opened again. */
static void check_session(const fixture *f, slm_adapter *one, slm_adapter *two, const char *prior)
{
    slm_adapter *const adapters[3] = {NULL, one, two};
    float alone[3][2], scores[2];
    uint32_t reused;
    for (int k = 0; k < 3; k++) {
        slm_session *fresh = new_session(f);
        ask_labels(fresh, adapters[k], prior, alone[k], &reused);
        CHECK(reused == 0 || prior != NULL, "a fresh session reuses %u tokens", reused);
        slm_session_free(fresh);
    }
    CHECK(memcmp(alone[0], alone[1], sizeof alone[0]) != 0 && memcmp(alone[1], alone[2], sizeof alone[0]) != 0,
            "the adapters make no difference");
    slm_session *session = new_session(f);
    for (int round = 0; round < 2; round++)
        for (int k = 0; k < 3; k++) {
            ask_labels(session, adapters[k], prior, scores, &reused);
            CHECK(memcmp(scores, alone[k], sizeof scores) == 0, "round %d, adapter %d: %g instead of %g", round, k, (double) scores[0],
                    (double) alone[k][0]);
            CHECK((reused > 0) == (round == 1 || prior != NULL), "round %d, adapter %d: %u tokens reused", round, k, reused);
        }
    slm_adapter *again = must_import(f, in_folder("b.gguf"));
    ask_labels(session, again, prior, scores, &reused);
    CHECK(memcmp(scores, alone[2], sizeof scores) == 0 && (reused == 0 || prior != NULL),
            "another opening of an adapter shares its prefix");
    slm_adapter_close(again);
    slm_session_free(session);
}

/* Adapters of a model of another shape are refused by submit. */
static void check_other_model(const fixture *f, slm_adapter *adapter)
{
    slm_session *session;
    slm_hparams shape = adapter->shape;
    slm_segment segment = {.role = SLM_ROLE_USER, .text = "a", .length = 1};
    slm_request request = {.adapter = adapter, .segments = &segment, .n_segments = 1, .max_tokens = 1, .sampling = {.top_p = 1,
            .repeat_penalty = 1}};
    slm_error err;
    uint64_t id;
    session = new_session(f);
    adapter->shape.n_ff += 32;
    CHECK(slm_submit(session, &request, &id, &err) == SLM_INVALID, "another model's adapter is taken");
    adapter->shape = shape;
    slm_session_free(session);
}

static bool open_fixture(fixture *f, const char *name, const char *path)
{
    slm_error err;
    *f = (fixture){.name = name};
    if (access(path, R_OK) != 0 || slm_gguf_open(path, &f->gguf, &err) != SLM_OK)
        return false;
    f->model = test_import(path, NULL);
    CHECK(f->model != NULL, "%s does not load", path);
    if (f->model == NULL)
        return false;
    f->ws = slm_workspace_new();
    f->stride = test_logit_stride(f->model);
    for (uint32_t i = 0; i < N; i++)
        f->ids[i] = (int32_t) ((i * 37 + i * i * 11 + 5) % (f->model->hp.n_vocab - 1));
    return true;
}

static void close_fixture(fixture *f)
{
    slm_gguf_close(f->gguf);
    slm_workspace_free(f->ws);
    slm_model_close(f->model);
}

static void check_family(const char *name, const char *path, bool exact)
{
    fixture f;
    adapter_recipe first = {.seed = 1, .rank = 8, .alpha = 16, .size = 0.05f}, second = {.seed = 2, .rank = 5, .alpha = 5, .size = 0.1f};
    if (strcmp(name, "granite") == 0) /* divides its logits by 8 and takes 0.22 of each block */
        first.size = second.size = 2.0f;
    if (!open_fixture(&f, name, path)) {
        slm_gguf_close(f.gguf);
        CHECK(false, "%s: %s does not open", name, path);
        return;
    }
    CHECK(make_gguf_adapter(f.gguf, f.model->hp.family, &first, in_folder("a.gguf")) == 0 &&
          make_gguf_adapter(f.gguf, f.model->hp.family, &second, in_folder("b.gguf")) == 0, "cannot write");
    slm_adapter *one = must_import(&f, in_folder("a.gguf")), *two = must_import(&f, in_folder("b.gguf"));
    if (one != NULL && two != NULL) {
        if (exact)
            check_merged(&f, one, &first);
        check_peft(&f, one, &first);
        check_mixed(&f, one, two);
        check_isas(&f, one);
    }
    if (!exact && one != NULL && two != NULL) {
        check_session(&f, one, two, NULL);
        check_session(&f, one, two, "none"); /* the prior's own job leads the prefix */
        check_other_model(&f, one);
        CHECK(make_merged(f.gguf, &first, in_folder("merged.gguf")) == 0, "cannot write");
        check_hostile(&f, &first);
        check_damage(&f, &first);
        check_image(&f);
    }
    slm_adapter_close(one);
    slm_adapter_close(two);
    close_fixture(&f);
}

static void remove_folder(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    CHECK(system(command) == 0, "cannot remove %s", folder);
}

int main(void)
{
    static const char *const families[] = {"llama", "phi3", "gemma2", "gemma3", "qwen2", "qwen3", "smollm3", "granite", "olmo2", NULL};
    char path[2048];
    CHECK(mkdtemp(folder) != NULL, "no folder");
    check_family("tiny", "test/data/tiny.gguf", false);
    for (int i = 0; families[i] != NULL; i++) {
        snprintf(path, sizeof path, "%s/families/%s.gguf", golden_root(), families[i]);
        check_family(families[i], path, true);
    }
    remove_folder();
    slm_threads_release();
    TEST_MAIN_END("adapter");
}
