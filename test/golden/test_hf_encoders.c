/*
 * Every directory of golden/encoders and golden/families2 as it is saved: models that read whole texts give the reference's vectors and
 * logits
 * in float and near enough in Q8_0, the same bits alone and in any batch on any number of threads; every other directory is refused by the
 * name of its type.  Where a directory has the keys of transformers 4 too (config_published.json), or those of a model that sees pictures
 * (config_nested.json), they make the same model.
 */
#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "hf_dir.h"
#include "model_test.h"
#include "slm_test.h"

#define MAX_CASES 64

/* What must load; of others nothing but decoders may. */
static const char *const served[] = {
    "bert-cls-dense", "bert-cls-mean",   "bert-lasttoken", "bert-max",         "bert-sqrtlen",  "bert-weightedmean", "distilbert-mean",
    "mpnet-mean",     "modernbert-mean", "nomic-bert",     "roberta-mean",     "xlm-roberta-e5", "qwen3-embedding",  "embeddinggemma",
    "seq-bert-3",     "seq-bert-multi",  "seq-bert-pair",  "seq-distilbert-2", "seq-roberta-4", "seq-xlmr-rerank",   "seq-modernbert-mean",
    "seq-modernbert-cls", "seq-llama-3", "modernbert-nli", "eurobert",         "mmbert",         "deberta-nli",
    "seq-albert-3",   "seq-electra-3", "gte",              "gte-mixed",         "seq-gte-rerank", "jina-v2",
    "jina-v3",        "jina-v3-hf",    "embeddinggemma2",
};

typedef struct fixture {
    const char *name;
    slm_model *model;
    slm_workspace *ws;
    uint32_t n, width;
    uint32_t lengths[MAX_CASES];
    int32_t *ids[MAX_CASES], *types[MAX_CASES];
    const json_t *want[MAX_CASES];
} fixture;

static bool is_served(const char *name)
{
    for (size_t i = 0; i < sizeof served / sizeof served[0]; i++)
        if (strcmp(served[i], name) == 0)
            return true;
    return false;
}

/* Those of test_taggers. */
static bool is_tagger(const char *name)
{
    return strncmp(name, "tok-", 4) == 0;
}

/* Those of test_hf_decoders. */
static bool is_decoder(const char *name)
{
    static const char *const names[] = {"smollm3-window", "qwen2-yarn", "ministral", "olmo3", "exaone4", "granite4", "llama-dynamic",
        "qwen3_moe", "olmoe", "granitemoe", "lfm2", "ministral3", "stablelm", "phi", "gpt_neox", "gpt2", "qwen3_5", "gemma4"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

/* Loads the texts' ids and what they must give: an embedding, logits, or the mean of a bare encoder. */
static void take_cases(fixture *f, const json_t *golden)
{
    const json_t *cases = json_object_get(golden, "cases");
    for (size_t i = 0; i < json_array_size(cases) && f->n < MAX_CASES; i++) {
        const json_t *c = json_array_get(cases, i), *want = json_object_get(c, "embedding");
        if (want == NULL)
            want = json_object_get(c, "mean");
        if (want == NULL)
            want = json_object_get(c, "logits");
        if (want == NULL || json_is_array(json_array_get(want, 0)) || json_array_size(json_object_get(c, "ids")) == 0)
            continue;
        f->want[f->n] = want;
        f->ids[f->n] = test_ids(json_object_get(c, "ids"), &f->lengths[f->n]);
        if (json_array_size(json_object_get(c, "type_ids")) == f->lengths[f->n])
            f->types[f->n] = test_ids(json_object_get(c, "type_ids"), &f->lengths[f->n]);
        f->n++;
    }
}

/* The cases first, first + step, ... [n, width], malloc'ed. */
static float *encode(const fixture *f, uint32_t first, uint32_t step, uint32_t n, int n_threads)
{
    uint32_t lengths[MAX_CASES], at = 0;
    bool typed = f->model->hp.n_token_types > 1;
    int32_t *tokens = test_alloc(MAX_CASES * 1024 * sizeof *tokens), *types = test_alloc(MAX_CASES * 1024 * sizeof *types);
    slm_error err = {0};
    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = (first + i * step) % f->n;
        lengths[i] = f->lengths[k];
        memcpy(tokens + at, f->ids[k], f->lengths[k] * sizeof *tokens);
        if (typed && f->types[k] != NULL)
            memcpy(types + at, f->types[k], f->lengths[k] * sizeof *types);
        at += f->lengths[k];
    }
    slm_encode_batch batch = {.n_sequences = n, .lengths = lengths, .tokens = tokens, .types = typed ? types : NULL};
    float *vectors, *copy = test_alloc(n * f->width * sizeof *copy);
    if (slm_encode(f->model, f->ws, &batch, n_threads, NULL, &vectors, &err) != SLM_OK)
        test_die(f->name, err.message);
    memcpy(copy, vectors, n * f->width * sizeof *copy);
    free(tokens);
    free(types);
    return copy;
}

static void check_bits(const fixture *f, float *const single[], const char *type)
{
    static const char *const isas[] = {"ref", "auto"};
    for (int i = 0; i < 2; i++) {
        slm_error err;
        slm_kernels_select(isas[i], &err);
        for (uint32_t step = 1; step < f->n && step < (i == 0 ? 2 : 6); step += 2) {
            bool equal = true;
            float *all = encode(f, step, step, f->n, 1 + (int) (step / 2));
            for (uint32_t k = 0; k < f->n; k++)
                equal = equal && memcmp(all + k * f->width, single[(step + k * step) % f->n], f->width * sizeof *all) == 0;
            CHECK(equal, "%s as %s: other bits in a batch of step %u with %s", f->name, type, step, isas[i]);
            free(all);
        }
    }
}

static void check_model(fixture *f, const char *type, bool embeds, double *mean)
{
    bool exact = strcmp(type, "F32") == 0;
    float *single[MAX_CASES];
    double sum = 0, worst = 1, furthest = 0;
    for (uint32_t i = 0; i < f->n; i++) {
        double dot = 0, a = 0, b = 0, off = 0;
        single[i] = encode(f, i, 1, 1, 1);
        CHECK(json_array_size(f->want[i]) == f->width, "%s: %zu values, not %u", f->name, json_array_size(f->want[i]), f->width);
        for (uint32_t k = 0; k < f->width && k < json_array_size(f->want[i]); k++) {
            double x = json_number_value(json_array_get(f->want[i], k)), y = (double) single[i][k];
            dot += x * y;
            a += x * x;
            b += y * y;
            off = fabs(x - y) > off ? fabs(x - y) : off;
        }
        double cosine = dot / sqrt(a * b);
        worst = cosine < worst ? cosine : worst;
        furthest = off > furthest ? off : furthest;
        sum += embeds ? cosine : off;
        if (embeds)
            CHECK(cosine >= (exact ? 0.99999 : 0.99), "%s as %s, text %u: cosine %.7f", f->name, type, i, cosine);
        else
            CHECK(off <= (exact ? 0.03 : 1.6), /* keys and values are F16: 0.001 to 0.027 of logits that spread by some units */
                  "%s as %s, text %u: a logit is %.5f away", f->name, type, i, off);
    }
    *mean = f->n > 0 ? sum / f->n : 0;
    printf("%s as %s: %u texts, %s %.6f, on average %.6f\n", f->name, type, f->n, embeds ? "smallest cosine" : "largest distance",
           embeds ? worst : furthest, *mean);
    check_bits(f, single, type);
    for (uint32_t i = 0; i < f->n; i++)
        free(single[i]);
}

static slm_status import(const char *dir, const char *type, slm_model **out, slm_model_info *info, slm_error *err)
{
    char image[1024];
    slm_import_options options = {.quantization = type};
    snprintf(image, sizeof image, "/tmp/slm_encoders_%d.slm", (int) getpid());
    unlink(image);
    slm_status status = slm_import(dir, image, &options, NULL, NULL, NULL, info, err);
    if (status == SLM_OK && out != NULL)
        status = slm_model_open(image, out, err);
    unlink(image);
    return status;
}

/* A directory, or the GGUF file in it that holds the same model. */
static void check_served(const char *dir, const char *name, const json_t *golden, double *cosines, unsigned *n_cosines)
{
    static const char *const types[] = {"F32", "Q8_0"};
    char gguf[1200];
    snprintf(gguf, sizeof gguf, "%s/model.gguf", dir);
    for (int i = 0; i < (access(gguf, R_OK) == 0 ? 4 : 2); i++) {
        fixture f = {.name = name};
        slm_model_info info;
        slm_error err = {0};
        double mean;
        slm_status status = import(i < 2 ? dir : gguf, types[i % 2], &f.model, &info, &err);
        CHECK(status == SLM_OK, "%s as %s: %s (%s)", name, types[i % 2], err.message, err.hint);
        if (status != SLM_OK)
            return;
        f.ws = slm_workspace_new();
        f.width = slm_hparams_outputs(&f.model->hp);
        take_cases(&f, golden);
        bool embeds = f.model->hp.pooling != SLM_POOL_RANK;
        if (f.n > 0)
            check_model(&f, types[i % 2], embeds, &mean);
        if (embeds && i == 1 && f.n > 0) {
            *cosines += mean;
            ++*n_cosines;
        }
        CHECK(embeds == info.can_embed && (embeds || info.n_labels == f.width), "%s: what it can do", name);
        for (uint32_t k = 0; k < f.n; k++) {
            free(f.ids[k]);
            free(f.types[k]);
        }
        slm_workspace_free(f.ws);
        slm_model_close(f.model);
    }
}

/* A decoder in a GGUF file with another pooling_type: with none it answers, by the first row it embeds; one that ranks is refused. */
static void check_purpose(unsigned char pooling)
{
    static const char key[] = "qwen3.pooling_type";
    char path[1200], copy[] = "/tmp/slm_purpose_XXXXXX";
    slm_model_info info = {0};
    slm_error err = {0};
    struct stat st = {0};
    snprintf(path, sizeof path, "%s/encoders/qwen3-embedding/model.gguf", golden_root());
    int from = open(path, O_RDONLY | O_CLOEXEC), fd = mkstemp(copy);
    CHECK(fstat(from, &st) == 0 && sendfile(fd, from, NULL, (size_t) st.st_size) == st.st_size, "%s", path);
    char *gguf = mmap(NULL, (size_t) st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *at = gguf != MAP_FAILED ? memmem(gguf, (size_t) st.st_size, key, sizeof key - 1) : NULL;
    CHECK(at != NULL, "%s: no %s", path, key);
    if (at != NULL) {
        at[sizeof key - 1 + 4] = (char) pooling; /* behind the type of the value */
        slm_status status = import(copy, "F32", NULL, &info, &err);
        if (pooling == 4)
            CHECK(status == SLM_UNSUPPORTED && strstr(err.message, "rank") != NULL && err.hint[0] != 0, "pooling_type 4: %s", err.message);
        else
            CHECK(status == SLM_OK && info.can_embed == (pooling != 0) && info.can_generate == (pooling == 0), "pooling_type %d: %s",
                  pooling, err.message);
    }
    if (gguf != MAP_FAILED)
        munmap(gguf, (size_t) st.st_size);
    unlink(copy);
    close(fd);
    close(from);
}

/* Another file in place of config.json: the same model. */
static void check_published(const char *dir, const char *name, const char *file)
{
    char path[1200], copy[64], command[2500];
    slm_model_info info;
    slm_error err = {0};
    slm_model *a = NULL, *b = NULL;
    snprintf(path, sizeof path, "%s/%s", dir, file);
    if (access(path, R_OK) != 0 || !hf_make_dir(copy, sizeof copy))
        return;
    snprintf(command, sizeof command, "cp -r '%s/.' %s && cp '%s' %s/config.json", dir, copy, path, copy);
    CHECK(system(command) == 0, "%s", command);
    slm_status status = import(copy, "F32", &a, &info, &err);
    CHECK(status == SLM_OK && import(dir, "F32", &b, &info, &err) == SLM_OK, "%s, %s: %s (%s)", name, file, err.message, err.hint);
    if (a != NULL && b != NULL)
        CHECK(memcmp(&a->hp, &b->hp, sizeof a->hp) == 0, "%s: %s makes another model", name, file);
    slm_model_close(a);
    slm_model_close(b);
    snprintf(command, sizeof command, "rm -r %s", copy);
    CHECK(system(command) == 0, "%s", command);
}

static void check_dir(const char *folder, const char *name, double *cosines, unsigned *n_cosines, unsigned *n_served)
{
    char dir[1024], path[1100];
    snprintf(dir, sizeof dir, "%s/%s/%s", golden_root(), folder, name);
    snprintf(path, sizeof path, "%s/golden.json", dir);
    json_t *golden = json_load_file(path, 0, NULL);
    slm_model_info info;
    slm_error err = {0};
    if (golden == NULL)
        return;
    if (is_served(name)) {
        ++*n_served;
        check_served(dir, name, golden, cosines, n_cosines);
        check_published(dir, name, "config_published.json");
    } else {
        slm_status status = import(dir, "F32", NULL, &info, &err);
        if (status == SLM_OK) {
            CHECK((is_decoder(name) && info.can_generate) || (is_tagger(name) && info.can_tag),
                  "%s loads, but nobody has checked it", name);
            check_published(dir, name, "config_published.json");
            check_published(dir, name, "config_nested.json");
        } else {
            CHECK(status == SLM_UNSUPPORTED && strchr(err.message, '"') != NULL, "%s: %s", name, err.message);
            printf("%s: refused: %s\n", name, err.message);
        }
    }
    json_decref(golden);
}

int main(void)
{
    static const char *const folders[] = {"encoders", "families2"};
    double cosines = 0;
    unsigned n_cosines = 0, n_served = 0;
    for (int i = 0; i < 2; i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", golden_root(), folders[i]);
        DIR *d = opendir(path);
        for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;)
            if (e->d_name[0] != '.')
                check_dir(folders[i], e->d_name, &cosines, &n_cosines, &n_served);
        if (d != NULL)
            closedir(d);
    }
    CHECK(n_served == sizeof served / sizeof served[0], "%u directories", n_served);
    CHECK(n_cosines > 10 && cosines / n_cosines >= 0.997, "Q8_0: %.6f on average", cosines / n_cosines);
    for (unsigned char i = 0; i <= 4; i += 2)
        check_purpose(i);
    slm_threads_release();
    TEST_MAIN_END("hf_encoders");
}
