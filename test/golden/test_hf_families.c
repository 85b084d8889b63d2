/*
 * Each tiny model of golden/families written as a Hugging Face directory and imported from there: the same hyper-parameters as from GGUF
 * and the reference's logits.
 *
 * The writer undoes what the GGUF converter did: rows of query and key of the llama family go back to split halves, Gemma's norms lose
 * their one, hyper-parameters become a config.json in the words of the family's configuration class.
 */
#include <stdarg.h>

#include "engine/import/gguf/gguf.h"
#include "engine/arch/family.h"
#include "hf_dir.h"
#include "model_test.h"
#include "slm_test.h"

#define TOLERANCE 0.02

static const struct {
    const char *name, *model_type, *more; /* of config.json beyond the common part */
    const char *outer;                    /* the text part of a model of this type, which sees pictures too; NULL: it stands alone */
} models[] = {
    {"llama", "llama", "", NULL},
    {"llama-3.2", "llama", "", NULL},
    {"mistral", "mistral", "", NULL},
    {"phi3", "phi3", "", NULL},
    {"phi4-mini", "phi3", "", NULL},
    {"gemma", "gemma", "\"hidden_act\":\"gelu\",", NULL},
    {"gemma2", "gemma2", "\"hidden_activation\":\"gelu_pytorch_tanh\",", NULL},
    {"gemma3", "gemma3_text", "\"hidden_activation\":\"gelu_pytorch_tanh\",", NULL},
    {"gemma3", "gemma3_text", "\"hidden_activation\":\"gelu_pytorch_tanh\",", "gemma3"},
    {"qwen2", "qwen2", "\"use_sliding_window\":false,\"sliding_window\":16,", NULL},
    {"qwen3", "qwen3", "", NULL},
    {"smollm3", "smollm3", "", NULL},
    {"granite", "granite", "", NULL},
    {"olmo2", "olmo2", "", NULL},
};

/* ---- the writer ---- */

static slm_source *source; /* the GGUF file */

static void append(char *text, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void append(char *text, size_t size, const char *format, ...)
{
    size_t n = strlen(text);
    va_list args;
    va_start(args, format);
    vsnprintf(text + n, size - n, format, args);
    va_end(args);
}

static void append_factors(char *text, size_t size, const char *key, const float *factors, uint32_t n)
{
    append(text, size, "\"%s\":[", key);
    for (uint32_t i = 0; i < n; i++)
        append(text, size, "%s%.9g", i ? "," : "", (double) factors[i]);
    append(text, size, "],");
}

static void write_layer_patterns(char *text, size_t size, const slm_hparams *hp, const char *type)
{
    if (hp->window > 0)
        append(text, size, "\"sliding_window\":%u,", hp->window);
    if (strcmp(type, "gemma3_text") == 0) {
        append(text, size, "\"layer_types\":[");
        for (uint32_t i = 0; i < hp->n_layers; i++)
            append(text, size, "%s\"%s\"", i ? "," : "",
                   hp->window_pattern > 1 && (i + 1) % hp->window_pattern == 0 ? "full_attention" : "sliding_attention");
        append(text, size, "],\"rope_local_base_freq\":%.9g,", (double) hp->rope_base_local);
    }
    if (hp->nope_pattern > 0) {
        append(text, size, "\"no_rope_layers\":[");
        for (uint32_t i = 0; i < hp->n_layers; i++)
            append(text, size, "%s%d", i ? "," : "", (i + 1) % hp->nope_pattern != 0);
        append(text, size, "],");
    }
}

/* model: of the list above, by place. */
static void write_config(const char *dir, size_t model)
{
    static char text[65536];
    const slm_hparams *hp = &source->hparams;
    const char *type = models[model].model_type, *more = models[model].more;
    text[0] = '\0';
    if (models[model].outer != NULL)
        append(text, sizeof text, "{\"architectures\":[\"XForConditionalGeneration\"],\"model_type\":\"%s\","
                                  "\"mm_tokens_per_image\":256,\"vision_config\":{\"hidden_size\":1152},\"text_config\":",
               models[model].outer);
    append(text, sizeof text, "{\"architectures\":[\"XForCausalLM\"],\"model_type\":\"%s\",\"vocab_size\":%u,\"hidden_size\":%u,", type,
           hp->n_vocab, hp->n_embd);
    append(text, sizeof text, "\"num_hidden_layers\":%u,\"num_attention_heads\":%u,\"num_key_value_heads\":%u,\"head_dim\":%u,",
           hp->n_layers, hp->n_heads, hp->n_kv_heads, hp->head_dim);
    append(text, sizeof text, "\"intermediate_size\":%u,\"max_position_embeddings\":%u,\"rms_norm_eps\":%.9g,\"rope_theta\":%.9g,",
           hp->n_ff, hp->n_context, (double) hp->norm_eps, (double) hp->rope_base);
    if (hp->n_rot != hp->head_dim)
        append(text, sizeof text, "\"partial_rotary_factor\":%.9g,", (double) hp->n_rot / hp->head_dim);
    write_layer_patterns(text, sizeof text, hp, type);
    if (strncmp(type, "gemma", 5) == 0 && strcmp(type, "gemma") != 0) {
        append(text, sizeof text, "\"query_pre_attn_scalar\":%.9g,", (double) (1 / (hp->attn_scale * hp->attn_scale)));
        append(text, sizeof text, hp->attn_softcap > 0 ? "\"attn_logit_softcapping\":%.9g," : "\"attn_logit_softcapping\":null,",
               (double) hp->attn_softcap);
        append(text, sizeof text, hp->final_softcap > 0 ? "\"final_logit_softcapping\":%.9g," : "\"final_logit_softcapping\":null,",
               (double) hp->final_softcap);
    }
    if (strcmp(type, "granite") == 0)
        append(text, sizeof text,
               "\"embedding_multiplier\":%.9g,\"residual_multiplier\":%.9g,\"attention_multiplier\":%.9g,\"logits_scaling\":%.9g,",
               (double) hp->embed_scale, (double) hp->residual_scale, (double) hp->attn_scale, (double) (1 / hp->logit_scale));
    if (hp->has_rope_factors == 1) /* Llama 3: the parameters that gave these divisors; the hyper-parameters are compared */
        append(text, sizeof text,
               "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":%.9g,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
               "\"original_max_position_embeddings\":%u},",
               (double) hp->rope_factors_short[hp->n_rot / 2 - 1], 64u);
    if (hp->has_rope_factors == 2) {
        append(text, sizeof text, "\"original_max_position_embeddings\":%u,\"rope_scaling\":{", hp->n_ctx_original);
        append_factors(text, sizeof text, "short_factor", hp->rope_factors_short, hp->n_rot / 2);
        append_factors(text, sizeof text, "long_factor", hp->rope_factors_long, hp->n_rot / 2);
        append(text, sizeof text, "\"type\":\"longrope\"},");
    }
    append(text, sizeof text, "%s\"tie_word_embeddings\":%s}%s", more, hp->tied_head ? "true" : "false", models[model].outer ? "}" : "");
    hf_text(dir, "config.json", text);
}

/* Any tokenizer does: the models have no vocabulary. */
static void write_tokenizer(const char *dir)
{
    static char text[65536];
    text[0] = '\0';
    append(text, sizeof text, "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"
                              "\"model\":{\"type\":\"BPE\",\"vocab\":{");
    for (int i = 0; i < 94; i++)
        append(text, sizeof text, "%s\"%s%c\":%d", i ? "," : "", i + 33 == '"' || i + 33 == '\\' ? "\\" : "", 33 + i, i);
    append(text, sizeof text, "},\"merges\":[]}}");
    hf_text(dir, "tokenizer.json", text);
}

/* Where row r of the Hugging Face tensor is in the GGUF file. */
static uint32_t gguf_row(const slm_source_tensor *t, uint32_t r)
{
    const slm_hparams *hp = &source->hparams;
    uint32_t half = hp->head_dim / 2, within = r % hp->head_dim;
    if (!hp->rope_interleaved || (t->role != SLM_TENSOR_ATTN_Q && t->role != SLM_TENSOR_ATTN_K && t->role != SLM_TENSOR_ATTN_Q_BIAS &&
                                  t->role != SLM_TENSOR_ATTN_K_BIAS))
        return r;
    return r - within + 2 * (within % half) + within / half;
}

static void write_tensors(const char *dir, bool inside)
{
    const slm_family *family = slm_family_by_name(source->hparams.family);
    static char header[1 << 16];
    slm_status status = SLM_OK;
    slm_error err;
    size_t offset = 0, room = 64 << 20;
    uint8_t *data = malloc(room);
    strcpy(header, "{");
    for (size_t i = 0; i < source->n_tensors; i++) {
        const slm_source_tensor *t = &source->tensors[i];
        const slm_type_info *type = slm_type_get(t->type);
        size_t row_bytes = (t->cols ? t->cols : 1) * (size_t) type->block_bytes, bytes = t->rows * row_bytes;
        char name[160];
        slm_family_tensor_name(family, t->role, true, t->layer, name, sizeof name);
        append(header, sizeof header, "%s\"%s%s\":{\"dtype\":\"%s\",\"shape\":[%u", i ? "," : "", inside ? "language_model." : "", name,
               type->name, t->rows);
        if (t->cols > 0)
            append(header, sizeof header, ",%u", t->cols);
        append(header, sizeof header, "],\"data_offsets\":[%zu,%zu]}", offset, offset + bytes);
        CHECK(type->is_float && offset + bytes <= room, "%s fits", name);
        for (uint32_t r = 0; r < t->rows && offset + bytes <= room; r++)
            source->read_rows(source, t, gguf_row(t, r), 1, data + offset + r * row_bytes, &status, &err);
        CHECK(status == SLM_OK, "%s: %s", name, err.message);
        for (uint32_t r = 0; family->hf_norm_plus_one && t->cols == 0 && r < t->rows; r++)
            ((float *) (data + offset))[r] -= 1;
        offset += bytes;
    }
    for (int i = 0; inside && i < 2; i++) /* of what sees pictures: not read */
        append(header, sizeof header, ",\"%s.layers.0.weight\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[%zu,%zu]}",
               i == 0 ? "vision_tower.vision_model.encoder" : "multi_modal_projector", offset + 16 * (size_t) i,
               offset + 16 * (size_t) i + 16);
    if (inside)
        memset(data + offset, 0, 32);
    offset += inside ? 32 : 0;
    append(header, sizeof header, "}");
    size_t length = strlen(header);
    uint8_t *file = malloc(8 + length + offset);
    for (int i = 0; i < 8; i++)
        file[i] = (uint8_t) (length >> (8 * i));
    memcpy(file + 8, header, length);
    memcpy(file + 8 + length, data, offset);
    hf_write(dir, "model.safetensors", file, 8 + length + offset);
    free(file);
    free(data);
}

/* ---- the comparison ---- */

static bool near(double a, double b)
{
    double d = a - b, size = a < 0 ? -a : a;
    return (d < 0 ? -d : d) <= 1e-5 * size + 1e-9;
}

static void compare_hparams(const char *name, const slm_hparams *a, const slm_hparams *b)
{
    CHECK(strcmp(a->family, b->family) == 0 && a->n_vocab == b->n_vocab, "%s: family and vocabulary", name);
    CHECK(a->n_rot == b->n_rot && a->head_dim == b->head_dim, "%s: heads", name);
    CHECK(b->rope_interleaved == 0 && a->tied_head == b->tied_head && a->activation == b->activation, "%s: kinds", name);
    CHECK(a->window == b->window && (a->window == 0 || a->window_pattern == b->window_pattern) && a->nope_pattern == b->nope_pattern,
          "%s: window %u/%u, %u/%u; nope %u, %u", name, a->window, a->window_pattern, b->window, b->window_pattern, a->nope_pattern,
          b->nope_pattern);
    CHECK(near(a->attn_scale, b->attn_scale) && near(a->embed_scale, b->embed_scale) && near(a->residual_scale, b->residual_scale) &&
              near(a->logit_scale, b->logit_scale),
          "%s: scales", name);
    CHECK(near(a->rope_base, b->rope_base) && near(a->rope_base_local, b->rope_base_local) && near(a->rope_scale, b->rope_scale) &&
              near(a->rope_attn_factor, b->rope_attn_factor),
          "%s: RoPE %g %g", name, (double) a->rope_attn_factor, (double) b->rope_attn_factor);
    CHECK(a->attn_softcap == b->attn_softcap && a->final_softcap == b->final_softcap && a->norm_eps == b->norm_eps, "%s: caps", name);
    for (uint32_t i = 0; i < a->n_rot / 2 && a->has_rope_factors > 0; i++)
        CHECK(near(a->rope_factors_short[i], b->rope_factors_short[i]) &&
                  (a->has_rope_factors < 2 || near(a->rope_factors_long[i], b->rope_factors_long[i])),
              "%s: factor %u is %g, should be %g", name, i, (double) b->rope_factors_short[i], (double) a->rope_factors_short[i]);
}

static void compare_logits(const char *name, const slm_model *model, const json_t *reference, const char *part, uint32_t n_tokens,
                           const int32_t *ids)
{
    size_t stride = test_logit_stride(model);
    const json_t *run = json_object_get(reference, part), *positions = json_object_get(run, "positions");
    float *logits = test_alloc(n_tokens * stride * sizeof *logits);
    slm_workspace *ws = slm_workspace_new();
    test_sequence s = test_sequence_new(model, n_tokens);
    test_batch t = test_batch_new(n_tokens);
    double worst = 0;
    test_batch_add(&t, &s, ids, n_tokens, n_tokens, 2);
    test_run(model, ws, &t, 2, logits);
    for (size_t i = 0; i < json_array_size(positions); i++) {
        const json_t *row = json_array_get(json_object_get(run, "logits"), i);
        const float *ours = logits + (size_t) json_integer_value(json_array_get(positions, i)) * stride;
        for (size_t k = 0; k < json_array_size(row); k++) {
            double diff = json_number_value(json_array_get(row, k)) - (double) ours[k];
            diff = diff < 0 ? -diff : diff;
            worst = diff > worst || diff != diff ? diff : worst;
        }
        CHECK(json_array_size(row) == model->hp.n_vocab, "%s %s: %zu logits", name, part, json_array_size(row));
    }
    CHECK(worst <= TOLERANCE, "%s %s: largest difference %.4f", name, part, worst);
    test_batch_free(&t);
    test_sequence_free(&s);
    slm_workspace_free(ws);
    free(logits);
}

static void check_model(size_t m)
{
    char path[1024], dir[64];
    const char *name = models[m].name;
    slm_error err;
    snprintf(path, sizeof path, "families/%s.json", name);
    json_t *reference = test_json(path);
    snprintf(path, sizeof path, "%s/families/%s.gguf", golden_root(), name);
    slm_import_options options = {.quantization = NULL};
    slm_status status = slm_gguf_source(path, &options, NULL, &source, &err);
    CHECK(status == SLM_OK && reference != NULL && hf_make_dir(dir, sizeof dir), "%s: %s", name, err.message);
    if (status != SLM_OK || reference == NULL)
        return;
    write_config(dir, m);
    write_tokenizer(dir);
    write_tensors(dir, models[m].outer != NULL);
    slm_model *model = test_import(dir, "F16");
    CHECK(model != NULL, "%s does not load from its directory", name);
    if (model != NULL) {
        uint32_t n;
        int32_t *ids = test_ids(json_object_get(reference, "ids"), &n);
        compare_hparams(name, &source->hparams, &model->hp);
        compare_logits(name, model, reference, "full", n, ids);
        compare_logits(name, model, reference, "short", 32, ids);
        free(ids);
    }
    slm_model_close(model);
    source->close(source);
    json_decref(reference);
    hf_remove_dir(dir);
}

int main(void)
{
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++)
        check_model(m);
    slm_threads_release();
    TEST_MAIN_END("hf_families");
}
