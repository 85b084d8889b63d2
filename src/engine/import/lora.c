/*
 * A LoRA adapter, from a GGUF file or a PEFT directory, to the adapter's image (image/adapter_image.h).
 *
 *   GGUF   general.type = adapter, adapter.type = lora, adapter.lora.alpha; tensors NAME.lora_a [rank, cols], NAME.lora_b [rows, rank]
 *   PEFT   adapter_config.json (r, lora_alpha, use_rslora), adapter_model.safetensors: base_model.model.MODULE.lora_A.weight,
 *          ...lora_B.weight; tables of embeddings lora_embedding_A [rank, rows], lora_embedding_B [cols, rank]
 *   task   a name behind the path of a model's own directory: hf/tasks.h
 *
 * Sources: the GGUF specification and llama.cpp's convert_lora_to_gguf; the PEFT library's LoraConfig.  Everything is hostile (DESIGN
 * D12): names are asked for by role, every tensor of the file must have been asked for, shapes must be those of the base model, values
 * finite.  Fused projections are split by rows, as the base's are.  Query and key rows are brought into the order of the base: GGUF
 * interleaves them in some families.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/utf8.h"
#include "engine/import/gguf/gguf.h"
#include "engine/import/hf/json.h"
#include "engine/import/hf/tasks.h"
#include "engine/import/import.h"
#include "engine/arch/family.h"

#define CONFIG "adapter_config.json"
#define WEIGHTS "adapter_model.safetensors"
#define MAX_CONFIG (1u << 20)
#define MAX_ALPHA 1e6

/* A matrix of the source, wherever it lies. */
typedef struct matrix {
    uint32_t rows, cols; /* once turned, where it is stored the other way round */
    bool turned;
    slm_type type;
    uint32_t part;       /* the tensor holds several */
    const slm_gguf_tensor *gguf;
    const slm_st_tensor *st;
} matrix;

/* A and B of one weight of the base, by the role that it has in the base's own source (fused or not). */
typedef struct found_pair {
    slm_tensor_role role;
    uint32_t layer;
    matrix a, b;
} found_pair;

typedef struct lora_source {
    const slm_hparams *base;
    const slm_family *family;
    slm_gguf *gguf;       /* or */
    slm_safetensors st;
    bool is_task;
    slm_hf_task task;     /* then */
    float alpha;
    uint32_t rank;        /* that every pair must have; 0 = any */
    bool rslora;          /* scale is alpha / sqrt(rank) */
    slm_adapter_info info;
    found_pair *pairs;    /* [n_pairs] */
    uint32_t n_pairs, n_parts;
} lora_source;

static void source_close(lora_source *s)
{
    slm_gguf_close(s->gguf);
    slm_safetensors_close(&s->st);
    free(s->pairs);
}

/* ------------------------------------------------------------------ GGUF */

/* A string of the metadata; empty when there is none. */
static void gguf_text(const slm_gguf *g, const char *key, char *out, size_t size)
{
    const slm_gguf_value *v = slm_gguf_find(g, key);
    char *text = NULL;
    out[0] = '\0';
    if (v == NULL || slm_gguf_string(g, v, &text, NULL) != SLM_OK)
        return;
    snprintf(out, size, "%s", text);
    slm_clean_text(out);
    free(text);
}

/* What the converter of jina-embeddings-v3 writes beside a task's adapter. */
static slm_status take_prompt(lora_source *s, slm_error *err)
{
    const slm_gguf_value *v = slm_gguf_find(s->gguf, "adapter.lora.prompt_prefix");
    char *text = NULL;
    if (v == NULL)
        return SLM_OK;
    SLM_TRY(slm_gguf_string(s->gguf, v, &text, err));
    size_t bytes = strlen(text);
    bool good = bytes < sizeof s->info.prompt && slm_utf8_check(text, bytes, err) == SLM_OK;
    if (good)
        memcpy(s->info.prompt, text, bytes);
    free(text);
    return good ? SLM_OK
                : slm_fail(err, SLM_UNSUPPORTED, "adapter.lora.prompt_prefix is no text of less than %zu bytes", sizeof s->info.prompt);
}

static slm_status open_gguf(lora_source *s, const char *path, slm_error *err)
{
    char type[32], kind[32], architecture[64];
    double alpha;
    SLM_TRY(slm_gguf_open(path, &s->gguf, err));
    gguf_text(s->gguf, "general.type", type, sizeof type);
    gguf_text(s->gguf, "adapter.type", kind, sizeof kind);
    gguf_text(s->gguf, "general.architecture", architecture, sizeof architecture);
    gguf_text(s->gguf, "general.name", s->info.name, sizeof s->info.name);
    if (strcmp(type, "adapter") != 0) {
        slm_fail(err, SLM_INVALID, "the file holds a \"%s\", not an adapter", type[0] ? type : "model");
        return slm_hint(err, "Models are loaded with slm_load_model.");
    }
    if (strcmp(kind, "lora") != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "adapters of type \"%s\" are not supported, only lora", kind);
    if (strcmp(architecture, s->base->family) != 0)
        return slm_fail(err, SLM_INVALID, "the adapter is for models of the family \"%s\", the model is of the family %s", architecture,
                        s->base->family);
    const slm_gguf_value *v = slm_gguf_find(s->gguf, "adapter.lora.alpha");
    if (v == NULL || v->is_array || !slm_gguf_number(s->gguf, v, 0, &alpha) || !(fabs(alpha) <= MAX_ALPHA))
        return slm_fail(err, SLM_FORMAT, "adapter.lora.alpha is missing or out of range");
    s->alpha = (float) alpha;
    return take_prompt(s, err);
}

/* ------------------------------------------------------------------ PEFT */

/* Some ways to begin take a part of the base's weights away, which A and B then hold: such an adapter belongs to that changed base.  These
 * do not; any other name, also one that is not known yet, is refused. */
static slm_status refuse_beginning(slm_hf_json config, slm_error *err)
{
    static const char *const keep[] = {"gaussian", "eva", "orthogonal", "mica"};
    const char *way = slm_hf_string(config, "init_lora_weights"); /* NULL: true or false, or not there */
    for (size_t i = 0; way != NULL && i < sizeof keep / sizeof *keep; i++)
        if (strcmp(way, keep[i]) == 0)
            way = NULL;
    if (way == NULL)
        return SLM_OK;
    slm_fail(err, SLM_UNSUPPORTED, "init_lora_weights in \"%s\" changes the weights of the base model", CONFIG);
    return slm_hint(err, "Save it for the unchanged model: save_pretrained(..., path_initial_model_for_weight_conversion=...).");
}

/* Settings of PEFT that change what the matrices mean: refused rather than ignored. */
static slm_status refuse_settings(slm_hf_json config, slm_error *err)
{
    static const char *const off[] = {"use_dora", "fan_in_fan_out", "lora_bias", "use_qalora"};
    static const char *const empty[] = {"alpha_pattern",     "modules_to_save",         "layer_replication", "trainable_token_indices",
                                        "target_parameters", "alora_invocation_tokens", "arrow_config",      "kasa_config",
                                        "monteclora_config", "use_bdlora"};
    const char *kind = slm_hf_string(config, "peft_type"), *bias = slm_hf_string(config, "bias");
    if (kind == NULL || strcmp(kind, "LORA") != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "peft_type in \"%s\" is not LORA", CONFIG);
    if (bias != NULL && strcmp(bias, "none") != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "bias in \"%s\" is not none", CONFIG);
    for (size_t i = 0; i < sizeof off / sizeof *off; i++) {
        bool on = false;
        SLM_TRY(slm_hf_bool(config, off[i], &on, err));
        if (on)
            return slm_fail(err, SLM_UNSUPPORTED, "%s in \"%s\" is not supported", off[i], CONFIG);
    }
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) {
        const json_t *value = json_object_get(config.object, empty[i]);
        if (slm_hf_has(config, empty[i]) && json_object_size(value) + json_array_size(value) + (json_is_string(value) ? 1 : 0) > 0)
            return slm_fail(err, SLM_UNSUPPORTED, "%s in \"%s\" is not supported", empty[i], CONFIG);
    }
    return refuse_beginning(config, err);
}

static slm_status read_config(lora_source *s, slm_hf_json config, slm_error *err)
{
    uint32_t rank = 0;
    s->alpha = 0;
    SLM_TRY(refuse_settings(config, err));
    SLM_TRY(slm_hf_u32(config, "r", 1, SLM_ADAPTER_MAX_RANK, &rank, err));
    SLM_TRY(slm_hf_f32(config, "lora_alpha", -MAX_ALPHA, MAX_ALPHA, &s->alpha, err));
    SLM_TRY(slm_hf_bool(config, "use_rslora", &s->rslora, err));
    if (rank == 0 || !slm_hf_has(config, "lora_alpha"))
        return slm_fail(err, SLM_FORMAT, "r or lora_alpha is missing in \"%s\"", CONFIG);
    s->rank = json_object_size(slm_hf_member(config, "rank_pattern").object) > 0 ? 0 : rank;
    return SLM_OK;
}

static slm_status open_peft(lora_source *s, const char *path, slm_error *err)
{
    json_t *config = NULL;
    char hint[400];
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return slm_fail_os(err, errno, "cannot open directory \"%s\"", path);
    slm_status status = slm_hf_load(dir, CONFIG, MAX_CONFIG, false, &config, err);
    if (status != SLM_OK && slm_hf_tasks_named(dir, hint, sizeof hint))
        slm_hint(err, "%s", hint);
    if (status == SLM_OK)
        status = read_config(s, (slm_hf_json){json_is_object(config) ? config : NULL, CONFIG}, err);
    if (status == SLM_OK)
        status = slm_safetensors_open_file(dir, WEIGHTS, &s->st, err);
    json_decref(config);
    close(dir);
    return status;
}

/* ------------------------------------------------------------------ tasks */

const char *slm_adapter_task(const char *path)
{
    char config[1100];
    struct stat st;
    const char *slash = strrchr(path, '/');
    if (slash == NULL || slash == path || slash[1] == '\0' || stat(path, &st) == 0 || errno != ENOENT)
        return NULL;
    int n = snprintf(config, sizeof config, "%.*s/config.json", (int) (slash - path), path);
    return n > 0 && (size_t) n < sizeof config && stat(config, &st) == 0 && S_ISREG(st.st_mode) ? slash + 1 : NULL;
}

static slm_status open_task(lora_source *s, const char *path, const char *task, slm_error *err)
{
    char parent[1100];
    snprintf(parent, sizeof parent, "%.*s", (int) (task - 1 - path), path);
    int dir = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return slm_fail_os(err, errno, "cannot open directory \"%s\"", parent);
    slm_status status = slm_hf_task_open(dir, task, &s->task, &s->st, err);
    close(dir);
    s->is_task = true;
    s->alpha = s->task.alpha;
    s->rank = s->task.rank;
    snprintf(s->info.name, sizeof s->info.name, "%s", task);
    memcpy(s->info.prompt, s->task.prompt, sizeof s->info.prompt);
    return status;
}

/* ------------------------------------------------------------------ finding the pairs */

static bool is_table(slm_tensor_role role)
{
    return role == SLM_TENSOR_TOKEN_EMBD || role == SLM_TENSOR_TYPE_EMBD;
}

/* The shape of a matrix, the last two of the tensor's dimensions; one that is too large has none. */
static void take_shape(matrix *m, uint64_t rows, uint64_t cols, bool good, bool turned)
{
    good = good && rows <= UINT32_MAX && cols <= UINT32_MAX;
    m->turned = turned;
    m->rows = good ? (uint32_t) (turned ? cols : rows) : 0;
    m->cols = good ? (uint32_t) (turned ? rows : cols) : 0;
}

/* In GGUF the pair of types lies as that of a projection, that of tokens as it is used. */
static bool find_in_gguf(const lora_source *s, slm_tensor_role role, const char *weight, bool b, matrix *out)
{
    char name[256];
    bool types = role == SLM_TENSOR_TYPE_EMBD;
    snprintf(name, sizeof name, "%s.lora_%c", weight, b != types ? 'b' : 'a');
    const slm_gguf_tensor *t = out->gguf = slm_gguf_find_tensor(s->gguf, name);
    if (t == NULL)
        return false;
    take_shape(out, t->dims[1], t->dims[0], t->n_dims == 2, types && b);
    out->type = t->type;
    return true;
}

static bool find_in_directory(const lora_source *s, slm_tensor_role role, const char *weight, bool b, matrix *out)
{
    static const slm_type types[] = {SLM_TYPE_COUNT, SLM_TYPE_F32, SLM_TYPE_F16, SLM_TYPE_BF16};
    char name[256];
    const char *end = is_table(role) ? "lora_embedding_" : "lora_", *last = is_table(role) ? "" : ".weight";
    snprintf(name, sizeof name, "base_model.model.%.*s.%s%c%s", (int) (strlen(weight) - strlen(".weight")), weight, end, b ? 'B' : 'A',
             last);
    const slm_st_tensor *t = s->is_task ? slm_hf_task_half(&s->st, &s->task, weight, b ? 'B' : 'A') : slm_safetensors_find(&s->st, name);
    if (t == NULL)
        return false;
    out->st = t;
    out->type = types[t->type];
    out->part = s->task.index;
    uint32_t n = t->n_dims;
    bool good = n == (s->is_task ? 3 : 2) && t->type != SLM_ST_OTHER;
    take_shape(out, good ? t->dims[n - 2] : 0, good ? t->dims[n - 1] : 0, good, is_table(role) && b == s->is_task);
    return true;
}

/* One half of a pair by the name of the weight that it changes. */
static bool find_half(const lora_source *s, slm_tensor_role role, const char *weight, bool b, matrix *out)
{
    memset(out, 0, sizeof *out);
    return s->gguf != NULL ? find_in_gguf(s, role, weight, b, out) : find_in_directory(s, role, weight, b, out);
}

static slm_target target_of(slm_tensor_role role)
{
    slm_target target = 0;
    while (target < SLM_ALL_TARGETS && slm_target_role(target) != role)
        target++;
    return target; /* SLM_ALL_TARGETS: a fused one */
}

static slm_status check_pair(const lora_source *s, const found_pair *p, const char *weight, slm_error *err)
{
    uint32_t rows, cols, rank = p->b.cols;
    slm_role_shape(s->base, p->role, p->layer, &rows, &cols);
    slm_pair_shape shape = is_table(p->role) ? slm_adapter_shape(target_of(p->role), rank, rows, cols)
                                             : slm_adapter_shape(SLM_TARGET_Q, rank, rows, cols);
    uint32_t other = is_table(p->role) ? p->a.cols : p->a.rows;
    if (rank == 0 || rank > SLM_ADAPTER_MAX_RANK || other != rank || (s->rank != 0 && rank != s->rank))
        return slm_fail(err, SLM_FORMAT, "the adapter of %s has the ranks %u and %u", weight, other, rank);
    if (p->a.rows == shape.a_rows && p->a.cols == shape.a_cols && p->b.rows == shape.b_rows)
        return SLM_OK;
    uint32_t has_rows = is_table(p->role) ? p->a.rows : p->b.rows, has_cols = is_table(p->role) ? p->b.rows : p->a.cols;
    slm_fail(err, SLM_INVALID, "the adapter of %s is for a matrix of %u x %u, the model's is %u x %u", weight, has_rows, has_cols, rows,
             cols);
    return slm_hint(err, "An adapter belongs to models of the shape that it was trained on.");
}

static const char *tensor_name(const lora_source *s, size_t i)
{
    return s->gguf != NULL ? slm_gguf_tensor_at(s->gguf, i)->name : s->st.tensors[i].name;
}

/* Is this tensor none that an adapter could need: of a task's, the model's own; of others, what nothing reads? */
static bool no_adapter(const lora_source *s, const char *name)
{
    return (s->is_task && !slm_hf_of_tasks(name)) || (s->gguf == NULL && !s->base->causal && strstr(name, "pooler.dense.") != NULL);
}

/* Every tensor of the file belongs to a pair. */
static slm_status check_leftovers(const lora_source *s, slm_error *err)
{
    size_t n = s->gguf != NULL ? slm_gguf_n_tensors(s->gguf) : s->st.n_tensors;
    if (n == 2 * (size_t) s->n_pairs)
        return SLM_OK;
    for (size_t i = 0; i < n; i++) {
        const void *t = s->gguf != NULL ? (const void *) slm_gguf_tensor_at(s->gguf, i) : &s->st.tensors[i];
        bool used = false;
        for (uint32_t p = 0; p < s->n_pairs && !used; p++) {
            const found_pair *pair = &s->pairs[p];
            used = t == pair->a.gguf || t == pair->b.gguf || t == pair->a.st || t == pair->b.st;
        }
        if (!used && !no_adapter(s, tensor_name(s, i))) {
            slm_fail(err, SLM_UNSUPPORTED, "the adapter holds the tensor %s, which cannot be used", tensor_name(s, i));
            return slm_hint(err,
                    "The projections of attention and feed-forward can be adapted, and of models that read whole texts the tables of "
                    "embeddings; not output head, norms or biases.");
        }
    }
    return SLM_OK;
}

/* The name of a weight in the source: PEFT has those of the modules, which may be others than those of the files. */
static void weight_name(const lora_source *s, bool modules, slm_tensor_role role, uint32_t layer, char *out, size_t size)
{
    slm_family named = *s->family;
    named.hf_names = modules ? named.peft_names : named.hf_names;
    slm_family_tensor_name(&named, role, s->gguf == NULL, layer, out, size);
}

static slm_status find_pairs(lora_source *s, slm_error *err)
{
    static const slm_tensor_role roles[] = {SLM_TENSOR_ATTN_Q,   SLM_TENSOR_ATTN_K, SLM_TENSOR_ATTN_V,      SLM_TENSOR_ATTN_QKV,
            SLM_TENSOR_ATTN_OUT,
                                            SLM_TENSOR_FFN_GATE, SLM_TENSOR_FFN_UP, SLM_TENSOR_FFN_GATE_UP, SLM_TENSOR_FFN_DOWN,
                                            SLM_TENSOR_TOKEN_EMBD, SLM_TENSOR_TYPE_EMBD};
    enum { N_ROLES = sizeof roles / sizeof *roles };
    bool modules = s->gguf == NULL && !s->is_task && s->family->peft_names != NULL; /* none of which is fused */
    char weight[192];
    s->pairs = calloc((size_t) s->base->n_layers * N_ROLES, sizeof *s->pairs);
    if (s->pairs == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (uint32_t i = 0; i < s->base->n_layers * N_ROLES; i++) {
        found_pair p = {.role = roles[i % N_ROLES], .layer = i / N_ROLES};
        if (slm_family_need(s->family, p.role, modules) == SLM_NEED_NEVER || (is_table(p.role) && (s->base->causal || p.layer > 0)))
            continue;
        weight_name(s, modules, p.role, p.layer, weight, sizeof weight);
        bool a = find_half(s, p.role, weight, false, &p.a), b = find_half(s, p.role, weight, true, &p.b);
        if (a != b)
            return slm_fail(err, SLM_FORMAT, "the adapter of %s has only one of its two matrices", weight);
        if (!a)
            continue;
        SLM_TRY(check_pair(s, &p, weight, err));
        s->pairs[s->n_pairs++] = p;
        s->n_parts += p.role == SLM_TENSOR_ATTN_QKV ? 3 : p.role == SLM_TENSOR_FFN_GATE_UP ? 2 : 1;
    }
    SLM_TRY(check_leftovers(s, err));
    return s->n_pairs > 0 ? SLM_OK : slm_fail(err, SLM_FORMAT, "the adapter holds no matrices");
}

/* ------------------------------------------------------------------ reading and writing */

static slm_status read_bytes(const lora_source *s, const matrix *m, void *out, size_t bytes, slm_error *err)
{
    if (m->gguf != NULL)
        return slm_gguf_read_tensor(s->gguf, m->gguf, 0, out, bytes, err);
    return slm_hf_pread(s->st.fds[m->st->file], s->st.file_names[m->st->file], m->st->begin + (uint64_t) m->part * bytes, out, bytes, err);
}

/* x, stored as [cols, rows], as [rows, cols]. */
static slm_status turn_matrix(const matrix *m, float **x, slm_error *err)
{
    float *turned = malloc((size_t) m->rows * m->cols * sizeof *turned);
    if (turned == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (size_t r = 0; r < m->rows; r++)
        for (size_t c = 0; c < m->cols; c++)
            turned[r * m->cols + c] = (*x)[c * m->rows + r];
    free(*x);
    *x = turned;
    return SLM_OK;
}

/* All of a matrix as finite floats, malloc'ed: [rows, cols]. */
static slm_status read_matrix(const lora_source *s, const matrix *m, float **out, slm_error *err)
{
    const slm_type_info *type = slm_type_get(m->type);
    size_t n = (size_t) m->rows * m->cols;
    if (type == NULL || (m->turned ? m->rows : m->cols) % type->block_weights != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "a matrix of the adapter has a type that cannot be read");
    void *bytes = malloc(n / type->block_weights * type->block_bytes);
    float *x = malloc(n * sizeof *x);
    slm_status status = bytes == NULL || x == NULL ? slm_fail(err, SLM_NOMEM, "out of memory") : SLM_OK;
    if (status == SLM_OK)
        status = read_bytes(s, m, bytes, n / type->block_weights * type->block_bytes, err);
    if (status == SLM_OK)
        slm_dequantize(m->type, bytes, x, n);
    for (size_t i = 0; status == SLM_OK && i < n; i++)
        if (!isfinite(x[i]))
            status = slm_fail(err, SLM_FORMAT, "a weight of the adapter is not finite");
    if (status == SLM_OK && m->turned)
        status = turn_matrix(m, &x, err);
    free(bytes);
    if (status != SLM_OK) {
        free(x);
        return status;
    }
    *out = x;
    return SLM_OK;
}

/* Rows of b [heads * head_dim, rank] from pairs of neighbours to split halves (to_split) or back, head by head. */
slm_status slm_lora_turn_rows(float *b, uint32_t rows, uint32_t rank, uint32_t head_dim, bool to_split, slm_error *err)
{
    float *head = malloc((size_t) head_dim * rank * sizeof *head);
    if (head == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (uint32_t row = 0; row + head_dim <= rows; row += head_dim) {
        memcpy(head, b + (size_t) row * rank, (size_t) head_dim * rank * sizeof *head);
        for (uint32_t i = 0; i < head_dim; i++) {
            uint32_t split = i % 2 * (head_dim / 2) + i / 2; /* where neighbour i belongs */
            uint32_t from = to_split ? i : split, to = to_split ? split : i;
            memcpy(b + (size_t) (row + to) * rank, head + (size_t) from * rank, rank * sizeof *b);
        }
    }
    free(head);
    return SLM_OK;
}

static slm_status write_part(const lora_source *s, slm_adapter_writer *w, const found_pair *p, slm_target target, float *a, float *b,
                             slm_error *err)
{
    const slm_hparams *hp = s->base;
    slm_adapter_part part = {.target = target, .layer = p->layer, .rank = p->b.cols, .a = a, .b = b};
    bool interleaved = s->gguf != NULL && s->family->permuted;
    slm_role_shape(hp, slm_target_role(target), p->layer, &part.rows, &part.cols);
    if ((target == SLM_TARGET_Q || target == SLM_TARGET_K) && interleaved != (hp->rope_interleaved != 0))
        SLM_TRY(slm_lora_turn_rows(b, part.rows, part.rank, hp->head_dim, interleaved, err));
    part.scale = s->alpha / (s->rslora ? sqrtf((float) part.rank) : (float) part.rank);
    if (s->gguf != NULL && s->alpha == 0)
        part.scale = 1; /* as llama.cpp has it */
    return slm_adapter_write(w, &part, err);
}

static slm_status write_pair(const lora_source *s, slm_adapter_writer *w, const found_pair *p, slm_error *err)
{
    static const slm_target qkv[] = {SLM_TARGET_Q, SLM_TARGET_K, SLM_TARGET_V}, gate_up[] = {SLM_TARGET_GATE, SLM_TARGET_UP};
    float *a = NULL, *b = NULL;
    uint32_t row = 0, rows, cols;
    slm_target single = target_of(p->role);
    const slm_target *targets = p->role == SLM_TENSOR_ATTN_QKV ? qkv : p->role == SLM_TENSOR_FFN_GATE_UP ? gate_up : &single;
    int n = p->role == SLM_TENSOR_ATTN_QKV ? 3 : p->role == SLM_TENSOR_FFN_GATE_UP ? 2 : 1;
    slm_status status = read_matrix(s, &p->a, &a, err);
    if (status == SLM_OK)
        status = read_matrix(s, &p->b, &b, err);
    for (int i = 0; status == SLM_OK && i < n; i++) {
        status = write_part(s, w, p, targets[i], a, b + (size_t) row * p->b.cols, err);
        slm_role_shape(s->base, slm_target_role(targets[i]), p->layer, &rows, &cols);
        row += rows;
    }
    free(a);
    free(b);
    return status;
}

static slm_status write_image(const lora_source *s, const char *path, const volatile int *stop, slm_adapter_info *info, slm_error *err)
{
    slm_adapter_writer *w = NULL;
    slm_status status = SLM_OK;
    SLM_TRY(slm_adapter_create(path, s->base, s->n_parts, &s->info, &w, err));
    for (uint32_t i = 0; status == SLM_OK && i < s->n_pairs; i++) {
        if (stop != NULL && *stop)
            status = slm_fail(err, SLM_CANCELLED, "cancelled");
        else
            status = write_pair(s, w, &s->pairs[i], err);
    }
    return slm_adapter_finish(w, status, info, err);
}

/* *s is to be closed, whatever is returned. */
static slm_status open_lora(lora_source *s, const char *path, const slm_hparams *base, slm_error *err)
{
    struct stat st;
    *s = (lora_source){.base = base, .family = slm_family_by_name(base->family)};
    if (s->family == NULL)
        return slm_fail(err, SLM_UNSUPPORTED, "adapters for models of the family %s are not supported", base->family);
    if (base->n_decide > 0)
        return slm_fail(err, SLM_UNSUPPORTED, "adapters for decision models are not supported");
    const char *task = slm_adapter_task(path);
    if (task == NULL && stat(path, &st) != 0)
        return slm_fail_os(err, errno, "cannot open \"%s\"", path);
    SLM_TRY(task != NULL ? open_task(s, path, task, err) : S_ISDIR(st.st_mode) ? open_peft(s, path, err) : open_gguf(s, path, err));
    return find_pairs(s, err);
}

slm_status slm_lora_import(const char *source_path, const slm_hparams *base, const char *image_path, const slm_seal *seal,
                              const volatile int *stop, slm_adapter_info *info, slm_error *err)
{
    lora_source s;
    SLM_TRY(slm_seal_begin(seal, err));
    slm_status status = open_lora(&s, source_path, base, err);
    if (status == SLM_OK)
        status = write_image(&s, image_path, stop, info, err);
    source_close(&s);
    slm_status end = slm_seal_end(status, err);
    if (status == SLM_OK && end != SLM_OK)
        unlink(image_path);
    return end;
}

slm_status slm_lora_look(const char *source_path, const slm_hparams *base, uint64_t *bytes, slm_error *err)
{
    lora_source s;
    slm_status status = open_lora(&s, source_path, base, err);
    if (status == SLM_OK)
        *bytes = s.gguf != NULL ? slm_gguf_bytes(s.gguf) : s.st.bytes;
    source_close(&s);
    return status;
}
