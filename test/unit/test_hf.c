/*
 * Hugging Face directories: a tiny BERT and a tiny Llama open with the right shapes and numbers, and whatever is missing, wrong or
 * hostile in one is refused with words that name it.
 */
#include <math.h>
#include <sys/types.h>

#include "engine/base/utf8.h"
#include "engine/import/hf/hf.h"
#include "engine/import/hf/json.h"
#include "engine/slm.h"
#include "engine/text/tokenizer.h"
#include "hf_dir.h"
#include "slm_test.h"

static const slm_import_options floats = {.quantization = "F32"}, quantized = {.quantization = "Q8_0"};

static const slm_source_tensor *tensor_of(const slm_source *s, slm_tensor_role role, uint32_t layer)
{
    for (size_t i = 0; i < s->n_tensors; i++)
        if (s->tensors[i].role == role && s->tensors[i].layer == layer)
            return &s->tensors[i];
    return NULL;
}

/* Rows of a tensor are the weights that the directory's writer put there, plus `plus`. */
static void check_rows(slm_source *s, slm_tensor_role role, uint32_t layer, const char *name, float plus)
{
    const slm_source_tensor *t = tensor_of(s, role, layer);
    float rows[96 * 96];
    slm_status status = SLM_OK;
    slm_error err;
    CHECK(t != NULL, "%s is not there", name);
    if (t == NULL)
        return;
    uint32_t cols = t->cols ? t->cols : 1, first = t->rows / 2, n = t->rows - first, wrong = 0;
    s->read_rows(s, t, first, n, rows, &status, &err);
    CHECK(status == SLM_OK, "%s: %s", name, err.message);
    const uint16_t *half = (const uint16_t *) rows;
    for (size_t i = 0; i < (size_t) n * cols; i++) {
        float want = hf_weight(name, first * cols + i) + plus;
        if (t->type == SLM_TYPE_F32)
            wrong += rows[i] != want;
        else
            wrong += half[i] != hf_half(want, t->type == SLM_TYPE_BF16);
    }
    CHECK(wrong == 0, "%s: %u weights differ", name, wrong);
    s->read_rows(s, t, t->rows, 1, rows, &status, &err);
    CHECK(status == SLM_INTERNAL, "%s: a row beyond the last", name);
}

static slm_source *must_open(const char *dir, const slm_import_options *options)
{
    slm_source *s = NULL;
    slm_error err;
    slm_status status = slm_hf_open(dir, options, NULL, &s, &err);
    CHECK(status == SLM_OK, "%s (%s)", err.message, err.hint);
    return status == SLM_OK ? s : NULL;
}

/* Opening fails with this status, and the message or hint has the word. */
static void must_fail(const char *dir, slm_status want, const char *word)
{
    slm_source *s = NULL;
    slm_error err = {0};
    slm_status status = slm_hf_open(dir, &floats, NULL, &s, &err);
    CHECK(status == want, "status %d, not %d for \"%s\": %s", (int) status, (int) want, word, err.message);
    CHECK(strstr(err.message, word) != NULL || strstr(err.hint, word) != NULL, "\"%s\" (%s) lacks \"%s\"", err.message, err.hint, word);
    if (status == SLM_OK)
        s->close(s);
}

/* ---- BERT ---- */

static void check_bert(const char *dir)
{
    hf_bert(dir);
    hf_text(dir, "README.md", "---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\nlicense: none\n");
    slm_source *s = must_open(dir, &floats);
    if (s == NULL)
        return;
    const slm_hparams *hp = &s->hparams;
    CHECK(strcmp(hp->family, "bert") == 0 && hp->n_layers == 2 && hp->n_heads == 2 && hp->head_dim == 32, "family and heads");
    CHECK(hp->n_ff == 96 && hp->n_vocab == 32 && hp->n_context == 16, "sizes");
    CHECK(hp->pooling == SLM_POOL_MEAN && hp->embed_normalize && !hp->causal && hp->norm_eps == 1e-12f, "what it is");
    CHECK(s->info.can_embed && !s->info.can_generate && !s->info.can_rerank && strcmp(s->info.licence, "apache-2.0") == 0, "info");
    check_rows(s, SLM_TENSOR_TOKEN_EMBD, 0, "embeddings.word_embeddings.weight", 0);
    check_rows(s, SLM_TENSOR_ATTN_K, 1, "encoder.layer.1.attention.self.key.weight", 0);
    check_rows(s, SLM_TENSOR_FFN_DOWN, 0, "encoder.layer.0.output.dense.weight", 0);
    check_rows(s, SLM_TENSOR_LAYER_OUT_NORM_BIAS, 1, "encoder.layer.1.output.LayerNorm.bias", 0);
    CHECK(tensor_of(s, SLM_TENSOR_CLS_DENSE, 0) == NULL && tensor_of(s, SLM_TENSOR_ATTN_IN_SCALE, 0) == NULL, "tensors that are not there");
    slm_tokenizer *tok;
    slm_error err;
    slm_ids ids = {0};
    CHECK(slm_tokenizer_open(s->tokenizer, s->tokenizer_bytes, &tok, &err) == SLM_OK, "%s", err.message);
    CHECK(slm_tokenizer_encode(tok, "The cats, sating", 16, false, true, NULL, &ids, &err) == SLM_OK, "%s", err.message);
    const int32_t want[] = {5, 6, 10, 23, 7, 11};
    CHECK(ids.n == 6 && memcmp(ids.ids, want, sizeof want) == 0, "%zu ids", ids.n);
    free(ids.ids);
    slm_tokenizer_free(tok);
    s->close(s);
}

/* What a card says is shown as UTF-8, whatever its bytes are and wherever the room for them ends. */
static void check_card(const char *dir)
{
    char card[400] = "---\nlicense: \xFF\xC3-1\nlanguage:\n- en\n- ", image[1200];
    slm_model_info info;
    slm_model *model = NULL;
    slm_error err = {0};
    for (int i = 0; i < 70; i++)
        strcat(card, "\xC3\xA9");
    hf_bert(dir);
    hf_text(dir, "README.md", card);
    snprintf(image, sizeof image, "%s/card.img", dir);
    CHECK(slm_import(dir, image, &floats, NULL, NULL, NULL, &info, &err) == SLM_OK && slm_model_open(image, &model, &err) == SLM_OK, "%s",
          err.message);
    const slm_model_info *infos[] = {&info, model != NULL ? slm_model_get_info(model) : &info};
    for (int i = 0; i < 2; i++) {
        const char *languages = infos[i]->languages;
        CHECK(strcmp(infos[i]->licence, "\?\?-1") == 0, "licence %s", infos[i]->licence);
        CHECK(strlen(languages) == sizeof info.languages - 1 && strncmp(languages, "en, \xC3\xA9", 6) == 0 &&
                  slm_utf8_check(languages, strlen(languages), &err) == SLM_OK, "languages %s", languages);
    }
    slm_model_close(model);
    unlink(image);
    hf_text(dir, "README.md", "");
}

/* Scaled matrices times inverse scales give the weights back. */
static void check_smoothing(const char *dir)
{
    slm_source *s = must_open(dir, &quantized);
    slm_status status = SLM_OK;
    slm_error err;
    float scale[64], rows[96 * 64];
    volatile int stop = 1;
    if (s == NULL)
        return;
    for (uint32_t layer = 0; layer < 2; layer++) {
        char name[100];
        uint32_t wrong = 0, ones = 0;
        const slm_source_tensor *t = tensor_of(s, SLM_TENSOR_FFN_IN_SCALE, layer), *up = tensor_of(s, SLM_TENSOR_FFN_UP, layer);
        snprintf(name, sizeof name, "encoder.layer.%u.intermediate.dense.weight", layer);
        CHECK(t != NULL && up != NULL && t->rows == 64 && up->type == SLM_TYPE_F32, "layer %u has no scale", layer);
        if (t == NULL || up == NULL)
            continue;
        s->read_rows(s, t, 0, 64, scale, &status, &err);
        s->read_rows(s, up, 0, 96, rows, &status, &err);
        for (size_t i = 0; i < 96 * 64; i++)
            wrong += fabsf(rows[i] * scale[i % 64] - hf_weight(name, i)) > 1e-6f;
        for (size_t i = 0; i < 64; i++)
            ones += scale[i] == 1;
        CHECK(status == SLM_OK && wrong == 0 && ones < 60, "layer %u: %u weights differ, %u scales are 1", layer, wrong, ones);
    }
    s->close(s);
    CHECK(slm_hf_open(dir, &quantized, &stop, &s, &err) == SLM_CANCELLED, "stop is not seen");
}

static void check_sentence(const char *dir)
{
    char path[300];
    hf_text(dir, "modules.json", "[{\"type\":\"sentence_transformers.models.Transformer\",\"path\":\"\"},"
                                 "{\"type\":\"sentence_transformers.models.Pooling\",\"path\":\"1_Pooling\"},"
                                 "{\"type\":\"sentence_transformers.models.Normalize\",\"path\":\"2_Normalize\"}]");
    must_fail(dir, SLM_IO, "1_Pooling/config.json");
    snprintf(path, sizeof path, "%s/1_Pooling", dir);
    CHECK(mkdir(path, 0700) == 0, "mkdir");
    hf_text(dir, "1_Pooling/config.json", "{\"pooling_mode_cls_token\":true,\"pooling_mode_mean_tokens\":false}");
    hf_text(dir, "sentence_bert_config.json", "{\"max_seq_length\":12}");
    hf_text(dir, "config_sentence_transformers.json", "{\"prompts\":{\"query\":\"query: \",\"passage\":\"passage: \"}}");
    slm_source *s = must_open(dir, &floats);
    if (s != NULL) {
        CHECK(s->hparams.pooling == SLM_POOL_CLS && s->hparams.n_context == 12, "pooling and length");
        CHECK(strcmp(s->info.query_prompt, "query: ") == 0 && strcmp(s->info.document_prompt, "passage: ") == 0, "prompts");
        const slm_source_tensor *t = tensor_of(s, SLM_TENSOR_POSITION_EMBD, 0);
        CHECK(t != NULL && t->rows == 12, "positions");
        s->close(s);
    }
    hf_text(dir, "1_Pooling/config.json", "{\"pooling_mode_cls_token\":true,\"include_prompt\":false}");
    must_fail(dir, SLM_UNSUPPORTED, "include_prompt");
    hf_text(dir, "1_Pooling/config.json", "{\"pooling_mode_cls_token\":true}");
    hf_text(dir, "config_sentence_transformers.json", "{\"truncate_dim\":70000}");
    must_fail(dir, SLM_FORMAT, "truncate_dim");
    hf_text(dir, "config_sentence_transformers.json", "{\"prompts\":{\"a\":\"A: \"},\"default_prompt_name\":\"b\"}");
    must_fail(dir, SLM_FORMAT, "default_prompt_name");
    hf_text(dir, "config_sentence_transformers.json", "{\"query_instruction\":\"\"}");
    must_fail(dir, SLM_UNSUPPORTED, "query_instruction");
    hf_text(dir, "config_sentence_transformers.json", "{\"prompts\":{\"a\":\"A: \"},\"default_prompt_name\":\"a\"}");
    s = must_open(dir, &floats);
    if (s != NULL) {
        CHECK(strcmp(s->info.query_prompt, "A: ") == 0 && strcmp(s->info.document_prompt, "A: ") == 0, "the default prompt");
        s->close(s);
    }
    hf_text(dir, "sentence_bert_config.json", "{\"max_seq_length\":12,\"do_lower_case\":true,\"layers\":3}");
    must_fail(dir, SLM_UNSUPPORTED, "\"layers\"");
    hf_text(dir, "sentence_bert_config.json", "{\"max_seq_length\":12}");
    hf_text(dir, "1_Pooling/config.json", "{\"pooling_mode_mean_tokens\":1}");
    must_fail(dir, SLM_FORMAT, "pooling_mode_mean_tokens");
    hf_text(dir, "modules.json", "[{\"type\":\"sentence_transformers.models.Dense\",\"path\":\"2_Dense\"}]");
    must_fail(dir, SLM_UNSUPPORTED, "Dense");
    hf_text(dir, "modules.json", "[{\"type\":\"x.Pooling\",\"path\":\"../../etc\"}]");
    must_fail(dir, SLM_FORMAT, "outside");
    hf_delete(dir, "modules.json");
    hf_delete(dir, "sentence_bert_config.json");
    hf_delete(dir, "config_sentence_transformers.json");
}

/* The pooling module's file in every form that versions 2 to 6 write. */
static void check_pooling(const char *dir)
{
    static const struct {
        const char *file;
        slm_status status;
        const char *word; /* of the refusal */
        slm_pooling pooling;
    } cases[] = {
        {"{\"embedding_dimension\":64,\"pooling_mode\":\"mean\",\"include_prompt\":true}", SLM_OK, "", SLM_POOL_MEAN},
        {"{\"embedding_dimension\":64,\"pooling_mode\":\"cls\"}", SLM_OK, "", SLM_POOL_CLS},
        {"{\"pooling_mode\":[\"cls\"]}", SLM_OK, "", SLM_POOL_CLS},
        {"{\"pooling_mode\":\"cls\",\"pooling_mode_mean_tokens\":true}", SLM_OK, "", SLM_POOL_CLS},
        {"{\"word_embedding_dimension\":64}", SLM_OK, "", SLM_POOL_MEAN},
        {"{\"pooling_mode_cls_token\":false,\"pooling_mode_mean_tokens\":true,\"pooling_mode_max_tokens\":false,"
         "\"pooling_mode_mean_sqrt_len_tokens\":false,\"pooling_mode_weightedmean_tokens\":false,\"pooling_mode_lasttoken\":false}",
         SLM_OK, "", SLM_POOL_MEAN},
        {"{\"pooling_mode\":\"max\"}", SLM_OK, "", SLM_POOL_MAX},
        {"{\"pooling_mode\":\"weightedmean\"}", SLM_OK, "", SLM_POOL_WEIGHTED},
        {"{\"pooling_mode\":\"lasttoken\"}", SLM_OK, "", SLM_POOL_LAST},
        {"{\"pooling_mode\":[\"mean\",\"max\"]}", SLM_OK, "", SLM_POOL_MEAN}, /* the list's order is the vectors' */
        {"{\"pooling_mode_mean_tokens\":true,\"pooling_mode_max_tokens\":true}", SLM_OK, "", SLM_POOL_MAX}, /* that of flags is fixed */
        {"{\"pooling_mode\":[\"mean\",\"mean\"]}", SLM_UNSUPPORTED, "twice", 0},
        {"{\"pooling_mode\":\"median\"}", SLM_UNSUPPORTED, "median", 0},
        {"{\"pooling_mode\":\"mean\",\"embedding_dimension\":63}", SLM_FORMAT, "63", 0},
        {"{\"pooling_mode\":3}", SLM_FORMAT, "pooling_mode", 0},
        {"{\"pooling_mode_weightedmean_tokens\":true}", SLM_OK, "", SLM_POOL_WEIGHTED},
        {"{\"pooling_mode_lasttoken\":true}", SLM_OK, "", SLM_POOL_LAST},
        {"{\"pooling_mode_mean_sqrt_len_tokens\":true}", SLM_OK, "", SLM_POOL_SQRT},
        {"{\"pooling_mode_mean_tokens\":true,\"pooling_mode_weightedmean_tokens\":true}", SLM_OK, "", SLM_POOL_MEAN},
        {"{\"pooling_mode_of_tomorrow\":true}", SLM_UNSUPPORTED, "pooling_mode_of_tomorrow", 0},
    };
    hf_text(dir, "modules.json", "[{\"type\":\"sentence_transformers.base.modules.transformer.Transformer\",\"path\":\"\"},"
                                 "{\"type\":\"sentence_transformers.sentence_transformer.modules.pooling.Pooling\",\"path\":\"1_Pooling\"},"
                                 "{\"type\":\"sentence_transformers.models.Dropout\",\"path\":\"2_Dropout\"}]");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hf_text(dir, "1_Pooling/config.json", cases[i].file);
        if (cases[i].status != SLM_OK) {
            must_fail(dir, cases[i].status, cases[i].word);
            continue;
        }
        slm_source *s = must_open(dir, &floats);
        CHECK(s != NULL && s->hparams.pooling == cases[i].pooling, "%s", cases[i].file);
        if (s != NULL)
            s->close(s);
    }
    hf_delete(dir, "modules.json");
}

static void write_modules(const char *dir)
{
    hf_text(dir, "modules.json", "[{\"type\":\"sentence_transformers.models.Transformer\",\"path\":\"\"},"
                                 "{\"type\":\"sentence_transformers.models.Pooling\",\"path\":\"1_Pooling\"}]");
    hf_text(dir, "1_Pooling/config.json", "{\"pooling_mode\":\"cls\"}");
}

/* Without modules.json the reference does not look for what stands beside it. */
static void check_without_modules(const char *dir)
{
    hf_text(dir, "config_sentence_transformers.json", "{\"prompts\":{\"query\":\"query: \"},\"truncate_dim\":70000}");
    hf_text(dir, "sentence_bert_config.json", "{\"max_seq_length\":12,\"mystery\":1}");
    slm_source *s = must_open(dir, &floats);
    CHECK(s != NULL && s->hparams.n_context == 16 && s->info.query_prompt[0] == '\0' && s->hparams.pooling == SLM_POOL_MEAN,
          "files beside no modules.json");
    if (s != NULL)
        s->close(s);
    hf_delete(dir, "config_sentence_transformers.json");
    hf_delete(dir, "sentence_bert_config.json");
}

/* modules.json itself. */
static void check_modules(const char *dir)
{
#define FIRST "{\"type\":\"sentence_transformers.models.Transformer\",\"path\":\"\",\"name\":\"0\"}"
#define POOLING(name, path) "{\"type\":\"sentence_transformers.models.Pooling\",\"path\":\"" path "\",\"name\":\"" name "\"}"
    static const struct {
        const char *file;
        slm_status status;
        const char *word;
    } cases[] = {
        {"{}", SLM_FORMAT, "no list of 1 to 32 modules"},
        {"[]", SLM_FORMAT, "no list of 1 to 32 modules"},
        {"[" FIRST "," POOLING("1", "") "]", SLM_FORMAT, "without a folder"},
        {"[" FIRST "," POOLING("0", "1_Pooling") "]", SLM_FORMAT, "of the same name"},
        {"[" POOLING("1", "1_Pooling") "," FIRST "]", SLM_UNSUPPORTED, "\"Pooling\" in \"modules.json\" is not supported at its place"},
        {"[" FIRST "," FIRST "]", SLM_UNSUPPORTED, "\"Transformer\" in \"modules.json\" is not supported at its place"},
        {"[{\"type\":\"custom_st.Transformer\",\"path\":\"\"}]", SLM_UNSUPPORTED, "custom_st.Transformer"},
        {"[{\"type\":\"sentence_transformers.models.Transformer\",\"path\":\"0_Transformer\"}]", SLM_UNSUPPORTED, "0_Transformer"},
        {"[7]", SLM_FORMAT, "without type"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hf_text(dir, "modules.json", cases[i].file);
        must_fail(dir, cases[i].status, cases[i].word);
    }
    hf_delete(dir, "modules.json");
}

/* How long a text may be: the reference's rule, wherever a version keeps the number. */
static void check_length(const char *dir)
{
    static const char sbert[] = "sentence_bert_config.json", tokenizer[] = "tokenizer_config.json";
    static const struct {
        const char *sentence, *tokenizer; /* contents, NULL: no such file */
        uint32_t context; /* 0: refused */
    } cases[] = {
        {NULL, NULL, 16},
        {NULL, "{\"model_max_length\":8}", 8},
        {"{\"transformer_task\":\"feature-extraction\"}", "{\"model_max_length\":8}", 8},
        {"{\"max_seq_length\":null}", "{\"model_max_length\":8}", 8},
        {"{\"max_seq_length\":12}", "{\"model_max_length\":8}", 12},
        {"{\"max_seq_length\":12}", "{\"model_max_length\":512}", 12},
        {"{\"max_seq_length\":512}", "{\"model_max_length\":8}", 16},
        {"{\"processing_kwargs\":{\"text\":{\"max_length\":9}}}", "{\"model_max_length\":12}", 9},
        {NULL, "{\"model_max_length\":1000000000000000019884624838656}", 16},
        {NULL, "{\"model_max_length\":1e30}", 16},
        {NULL, "{\"model_max_length\":9223372036854775808,\"max_len\":4}", 16},
        {NULL, "{\"model_max_length\":8.0}", 8},
        {NULL, "{\"max_len\":8}", 8},
        {NULL, "{\"model_max_length\":0}", 0},
        {NULL, "{\"model_max_length\":-1}", 0},
        {NULL, "{\"model_max_length\":-1000000000000000019884624838656}", 0},
        {NULL, "{\"model_max_length\":\"512\"}", 0},
        {NULL, "{\"model_max_length\":8.5}", 0},
        {"{\"max_seq_length\":1}", NULL, 0},
    };
    write_modules(dir);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hf_delete(dir, sbert);
        hf_delete(dir, tokenizer);
        if (cases[i].sentence != NULL)
            hf_text(dir, sbert, cases[i].sentence);
        if (cases[i].tokenizer != NULL)
            hf_text(dir, tokenizer, cases[i].tokenizer);
        if (cases[i].context == 0) {
            must_fail(dir, SLM_FORMAT, "no length in tokens");
            continue;
        }
        slm_source *s = must_open(dir, &floats);
        CHECK(s != NULL && s->hparams.n_context == cases[i].context, "case %zu: %u positions", i, s != NULL ? s->hparams.n_context : 0);
        if (s != NULL)
            s->close(s);
    }
    hf_text(dir, sbert, "{\"document_length\":220}");
    must_fail(dir, SLM_UNSUPPORTED, "several vectors");
    hf_delete(dir, sbert);
    hf_text(dir, "sentence_xlm-roberta_config.json", "{\"max_seq_length\":10}");
    hf_delete(dir, tokenizer);
    slm_source *s = must_open(dir, &floats);
    CHECK(s != NULL && s->hparams.n_context == 10, "the other names of the file");
    if (s != NULL)
        s->close(s);
    hf_delete(dir, "sentence_xlm-roberta_config.json");
    hf_delete(dir, "modules.json");
}

/* ---- JSON ---- */

/* Numbers that fit stay exact, those that do not become reals; what is no JSON is called so, and what is valid never. */
static void check_json(void)
{
    static const struct {
        const char *text;
        double value; /* of "a", NAN: refused */
        const char *word;
    } cases[] = {
        {"{\"a\": 9223372036854775807}", 9223372036854775807.0, ""},
        {"{\"a\": -9223372036854775808}", -9223372036854775808.0, ""},
        {"{\"a\": 9223372036854775808}", 9223372036854775808.0, ""},
        {"{\"a\": -9223372036854775809}", -9223372036854775808.0, ""},
        {"{\"a\":1000000000000000019884624838656}", 1e30, ""},
        {"{\"b\": \"\\\"99999999999999999999\\\\\", \"a\":-1000000000000000019884624838656, \"c\": [1e999, -1e999, 1E-999]}", -1e30, ""},
        {"{\"a\": 1e400}", 1e308, ""},
        {"{\"a\": -1e400}", -1e308, ""},
        {"\xEF\xBB\xBF{\"a\": 3}", 3, ""},
        {"{\"a\": NaN}", NAN, "NaN is no number"},
        {"{\n\n\"a\": -Infinity}", NAN, "line 3: Infinity"},
        {"{\"a\": 1, \"a\": 2}", NAN, "gives a key twice"},
        {"{\"a\": 99999999999999999999, }", NAN, "not valid JSON"},
        {"{\"a\": 01}", NAN, "not valid JSON"},
        {"{\"b\": \"\\u0000\", \"a\": 1}", NAN, "NUL"},
        {"{\"a\"", NAN, "not valid JSON"},
        {"{\"a\": \"\\", NAN, "not valid JSON"},
        {"", NAN, "not valid JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *root = NULL;
        slm_error err = {0};
        slm_status status = slm_hf_parse(cases[i].text, strlen(cases[i].text), "x.json", &root, &err);
        double got = json_number_value(json_object_get(root, "a"));
        if (isnan(cases[i].value))
            CHECK(status != SLM_OK && strstr(err.message, cases[i].word) != NULL, "%s: %s", cases[i].text, err.message);
        else
            CHECK(status == SLM_OK && fabs(got - cases[i].value) <= 1e-11 * fabs(cases[i].value), "%s: %g, %s", cases[i].text, got,
                  err.message);
        json_decref(root);
    }
    /* a number of many digits beside one that must stay exact, in text without a NUL behind it */
    char *text = malloc(1000);
    size_t n = (size_t) sprintf(text, "{\"exact\":9007199254740993,\"big\":-");
    memset(text + n, '7', 999 - n);
    text[999] = '}';
    json_t *root = NULL;
    slm_error err = {0};
    slm_status status = slm_hf_parse(text, 1000, "x.json", &root, &err);
    CHECK(status == SLM_OK && json_integer_value(json_object_get(root, "exact")) == 9007199254740993 &&
              json_real_value(json_object_get(root, "big")) == -1e308,
          "%s", err.message);
    json_decref(root);
    free(text);
}

/* A cross-encoder: names with a prefix, a pooler and a classifier of one row. */
static void check_cross_encoder(const char *dir)
{
    hf_model m;
    hf_bert_tensors(&m, "bert.", "F16");
    hf_add(&m, "bert.pooler.dense.weight", "F16", 64, 64);
    hf_add(&m, "bert.pooler.dense.bias", "F16", 64, 0);
    hf_add(&m, "classifier.weight", "F16", 1, 64);
    hf_add(&m, "classifier.bias", "F16", 1, 0);
    hf_safetensors(dir, "model.safetensors", &m, 0, m.n);
    char config[1024];
    snprintf(config, sizeof config, "{\"architectures\":[\"BertForSequenceClassification\"],\"id2label\":{\"0\":\"LABEL_0\"},%s",
             strstr(HF_BERT_CONFIG, "\"model_type\""));
    hf_text(dir, "config.json", config);
    slm_source *s = must_open(dir, &floats);
    if (s != NULL) {
        CHECK(s->hparams.pooling == SLM_POOL_RANK && s->info.can_rerank && !s->info.can_embed, "a cross-encoder");
        check_rows(s, SLM_TENSOR_CLS_DENSE, 0, "bert.pooler.dense.weight", 0);
        check_rows(s, SLM_TENSOR_CLS_OUT_BIAS, 0, "classifier.bias", 0);
        check_rows(s, SLM_TENSOR_ATTN_OUT_NORM, 0, "bert.encoder.layer.0.attention.output.LayerNorm.weight", 0);
        s->close(s);
    }
    m.tensors[m.n - 2].rows = 3;
    hf_safetensors(dir, "model.safetensors", &m, 0, m.n);
    must_fail(dir, SLM_FORMAT, "classifier.weight");
    hf_bert(dir);
}

/* ---- configuration ---- */

static void replace(const char *text, const char *from, const char *to, char *out, size_t size)
{
    const char *at = strstr(text, from);
    CHECK(at != NULL, "%s is not in the configuration", from);
    snprintf(out, size, "%.*s%s%s", at != NULL ? (int) (at - text) : 0, text, to, at != NULL ? at + strlen(from) : "");
}

static void check_configs(const char *dir)
{
    static const struct {
        const char *from, *to;
        slm_status status;
        const char *word;
    } bad[] = {
        {"\"hidden_size\":64", "\"hidden_size\":NaN", SLM_FORMAT, "config.json"},
        {"\"hidden_size\":64", "\"hidden_size\":64,\"hidden_size\":64", SLM_FORMAT, "config.json"},
        {"\"hidden_size\":64", "\"hidden_size\":\"64\"", SLM_FORMAT, "hidden_size"},
        {"\"hidden_size\":64", "\"hidden_size\":null", SLM_FORMAT, "hidden_size"},
        {"\"hidden_size\":64", "\"hidden_size\":0", SLM_FORMAT, "embedding_length"},
        {"\"hidden_size\":64", "\"hidden_size\":64.5", SLM_FORMAT, "embedding_length"},
        {"\"hidden_size\":64", "\"hidden_size\":1e300", SLM_FORMAT, "embedding_length"},
        {"\"hidden_size\":64", "\"hidden_size\":128", SLM_FORMAT, "shape"},
        {"\"num_hidden_layers\":2", "\"num_hidden_layers\":3", SLM_FORMAT, "encoder.layer.2"},
        {"\"num_hidden_layers\":2", "\"num_hidden_layers\":1", SLM_UNSUPPORTED, "encoder.layer.1"},
        {"\"num_hidden_layers\":2", "\"num_hidden_layers\":100000", SLM_FORMAT, "num_hidden_layers"},
        {"\"num_attention_heads\":2", "\"num_attention_heads\":0", SLM_FORMAT, "head_count"},
        {"\"num_attention_heads\":2", "\"num_attention_heads\":-2", SLM_FORMAT, "head_count"},
        {"\"vocab_size\":32", "\"vocab_size\":31", SLM_FORMAT, "word_embeddings"},
        {"\"vocab_size\":32", "\"vocab_size\":4294967296", SLM_FORMAT, "vocab_size"},
        {"\"max_position_embeddings\":16", "\"max_position_embeddings\":17", SLM_FORMAT, "position_embeddings"},
        {"\"type_vocab_size\":2", "\"type_vocab_size\":3", SLM_FORMAT, "token_type"},
        {"\"layer_norm_eps\":1e-12", "\"layer_norm_eps\":2", SLM_FORMAT, "epsilon"},
        {"\"hidden_act\":\"gelu\"", "\"hidden_act\":\"relu\"", SLM_UNSUPPORTED, "relu"},
        {"\"position_embedding_type\":\"absolute\"", "\"position_embedding_type\":\"relative_key\"", SLM_UNSUPPORTED, "relative_key"},
        {"\"model_type\":\"bert\"", "\"model_type\":\"t5\"", SLM_UNSUPPORTED, "t5"},
        {"\"model_type\":\"bert\"", "\"model\":1", SLM_FORMAT, "model_type"},
        {"\"model_type\":\"bert\"", "\"model_type\":\"bert\",\"quantization_config\":{}", SLM_UNSUPPORTED, "quantized"},
        {HF_BERT_CONFIG, "[]", SLM_FORMAT, "model_type"},
        {HF_BERT_CONFIG, "", SLM_FORMAT, "config.json"},
    };
    char config[2048];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        replace(HF_BERT_CONFIG, bad[i].from, bad[i].to, config, sizeof config);
        hf_text(dir, "config.json", config);
        must_fail(dir, bad[i].status, bad[i].word);
    }
    /* two names of one number */
    hf_text(dir, "config.json", "{\"model_type\":\"nomic_bert\",\"vocab_size\":32,\"hidden_size\":64,"
                                "\"num_hidden_layers\":2,\"n_layer\":3}");
    must_fail(dir, SLM_FORMAT, "\"num_hidden_layers\" and \"n_layer\"");
    hf_delete(dir, "config.json");
    must_fail(dir, SLM_IO, "config.json");
    hf_bert(dir);
}

/* ---- files ---- */

static void check_files(const char *dir)
{
    char path[300], other[300];
    hf_model m;
    hf_delete(dir, "vocab.txt");
    must_fail(dir, SLM_FORMAT, "tokenizer.json");
    hf_text(dir, "tokenizer.json", "{\"model\":{\"type\":\"WordLevel\",\"vocab\":{}}}");
    must_fail(dir, SLM_UNSUPPORTED, "WordLevel");
    hf_delete(dir, "tokenizer.json");
    hf_text(dir, "vocab.txt", "[PAD]\nthe\n");
    must_fail(dir, SLM_FORMAT, "[CLS]");
    hf_bert(dir);
    hf_delete(dir, "model.safetensors");
    must_fail(dir, SLM_FORMAT, "model.safetensors");
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    CHECK(mkfifo(path, 0600) == 0, "mkfifo");
    must_fail(dir, SLM_FORMAT, "regular");
    unlink(path);
    hf_write(dir, "model.safetensors", "\1\2\3", 3);
    must_fail(dir, SLM_FORMAT, "truncated");
    hf_write(dir, "model.safetensors", "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10);
    must_fail(dir, SLM_FORMAT, "header");
    /* two shards and their index; then an index that lies */
    hf_delete(dir, "model.safetensors");
    hf_bert_tensors(&m, "", "BF16");
    hf_safetensors(dir, "model-00001-of-00002.safetensors", &m, 0, 9);
    hf_safetensors(dir, "model-00002-of-00002.safetensors", &m, 9, m.n);
    static char index[16384];
    size_t n = (size_t) sprintf(index, "{\"metadata\":{},\"weight_map\":{");
    for (size_t i = 0; i < m.n; i++)
        n += (size_t) sprintf(index + n, "%s\"%s\":\"model-0000%d-of-00002.safetensors\"", i ? "," : "", m.tensors[i].name, i < 9 ? 1 : 2);
    strcpy(index + n, "}}");
    hf_text(dir, "model.safetensors.index.json", index);
    slm_source *s = must_open(dir, &floats);
    if (s != NULL) {
        check_rows(s, SLM_TENSOR_ATTN_Q, 0, "encoder.layer.0.attention.self.query.weight", 0);
        check_rows(s, SLM_TENSOR_FFN_UP, 1, "encoder.layer.1.intermediate.dense.weight", 0);
        s->close(s);
    }
    hf_safetensors(dir, "model-00002-of-00002.safetensors", &m, 8, m.n);
    must_fail(dir, SLM_FORMAT, "more than one shard");
    hf_safetensors(dir, "model-00002-of-00002.safetensors", &m, 10, m.n);
    must_fail(dir, SLM_FORMAT, "missing in shard");
    hf_text(dir, "model.safetensors.index.json", "{\"weight_map\":{\"a\":\"../../etc/passwd.safetensors\"}}");
    must_fail(dir, SLM_FORMAT, "index.json");
    hf_text(dir, "model.safetensors.index.json", "{\"weight_map\":{\"a\":\"gone.safetensors\"}}");
    must_fail(dir, SLM_IO, "gone.safetensors");
    hf_delete(dir, "model.safetensors.index.json");
    /* links are fine, as in the cache of the hub */
    hf_bert(dir);
    snprintf(other, sizeof other, "%s/blob", dir);
    CHECK(rename(path, other) == 0 && symlink("blob", path) == 0, "symlink");
    s = must_open(dir, &floats);
    if (s != NULL)
        s->close(s);
    unlink(path);
    hf_bert(dir);
    must_fail("/nonexistent/model", SLM_IO, "/nonexistent/model");
}

/* A file cut after it was opened, and weights that are not finite: errors of reading. */
static void check_reading(const char *dir)
{
    char path[300];
    slm_source *s = must_open(dir, &floats);
    slm_status status = SLM_OK;
    slm_error err;
    float rows[64 * 64];
    if (s == NULL)
        return;
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    FILE *f = fopen(path, "r+b");
    const slm_source_tensor *t = tensor_of(s, SLM_TENSOR_ATTN_Q, 0);
    float bad = NAN;
    CHECK(f != NULL && fseek(f, (long) t->offset + 4 * 70, SEEK_SET) == 0 && fwrite(&bad, 4, 1, f) == 1 && fflush(f) == 0, "poke");
    s->read_rows(s, t, 0, 1, rows, &status, &err);
    CHECK(status == SLM_OK, "the row before");
    s->read_rows(s, t, 1, 1, rows, &status, &err);
    CHECK(status == SLM_FORMAT && strstr(err.message, "finite") != NULL, "NaN: %s", err.message);
    CHECK(ftruncate(fileno(f), 20000) == 0, "truncate");
    s->read_rows(s, tensor_of(s, SLM_TENSOR_FFN_DOWN, 1), 0, 2, rows, &status, &err);
    CHECK(status == SLM_FORMAT && strstr(err.message, "truncated") != NULL, "a cut file: %s", err.message);
    fclose(f);
    s->close(s);
    must_fail(dir, SLM_FORMAT, "model.safetensors");
    hf_bert(dir);
}

/* ---- Llama and its relatives ---- */

/* Byte-level BPE over the 256 byte characters would need 256 tokens; 40 do for ASCII letters. pairs: merges as arrays. */
static void llama_tokenizer(const char *dir, bool pairs)
{
    static char text[8192];
    size_t n = 0;
    n += (size_t) sprintf(text + n, "{\"added_tokens\":[{\"id\":36,\"content\":\"<|end|>\",\"special\":true},"
                                    "{\"id\":37,\"content\":\"<tag>\",\"special\":false}],\"normalizer\":null,"
                                    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true},"
                                    "\"model\":{\"type\":\"BPE\",\"vocab\":{");
    for (int i = 0; i < 26; i++)
        n += (size_t) sprintf(text + n, "%s\"%c\":%d", i ? "," : "", 'a' + i, i);
    n += (size_t) sprintf(text + n, ",\"\u0120\":26,\"th\":27,\"the\":28,\"\u0120the\":29,\"\u0120t\":30,\"he\":31,\".\":32},\"merges\":[");
    n += (size_t) sprintf(text + n, pairs ? "[\"t\",\"h\"],[\"th\",\"e\"],[\"\u0120\",\"the\"]" : "\"t h\",\"th e\",\"\u0120 the\"");
    sprintf(text + n, "]}}");
    hf_text(dir, "tokenizer.json", text);
    hf_text(dir, "tokenizer_config.json", "{\"eos_token\":\"<|end|>\",\"bos_token\":null}");
}

static void llama(const char *dir, const char *config, hf_model *m)
{
    hf_text(dir, "config.json", config);
    llama_tokenizer(dir, false);
    hf_safetensors(dir, "model.safetensors", m, 0, m->n);
}

static void check_llama(const char *dir)
{
    hf_model m;
    for (int variant = 0; variant < 2; variant++) {
        hf_llama_tensors(&m, variant ? "BF16" : "F16");
        llama(dir, HF_LLAMA_CONFIG, &m);
        llama_tokenizer(dir, variant);
        slm_source *s = must_open(dir, &quantized);
        if (s == NULL)
            return;
        const slm_hparams *hp = &s->hparams;
        CHECK(hp->causal && hp->n_kv_heads == 2 && hp->head_dim == 16 && hp->n_rot == 16 && !hp->rope_interleaved && hp->tied_head &&
                  s->info.can_generate && hp->norm_eps == 1e-5f,
              "what it is");
        check_rows(s, SLM_TENSOR_ATTN_K, 1, "model.layers.1.self_attn.k_proj.weight", 0);
        check_rows(s, SLM_TENSOR_OUTPUT_NORM, 0, "model.norm.weight", 0);
        slm_tokenizer *tok;
        slm_error err;
        slm_ids ids = {0};
        CHECK(slm_tokenizer_open(s->tokenizer, s->tokenizer_bytes, &tok, &err) == SLM_OK, "%s", err.message);
        CHECK(slm_tokenizer_encode(tok, "the cat the.", 12, false, true, NULL, &ids, &err) == SLM_OK, "%s", err.message);
        const int32_t want[] = {28, 26, 2, 0, 19, 29, 32};
        CHECK(ids.n == 7 && memcmp(ids.ids, want, sizeof want) == 0, "%zu ids", ids.n);
        CHECK(slm_tokenizer_eos(tok) == 36 && slm_tokenizer_type(tok, 36) == SLM_TOKEN_CONTROL, "the end token");
        CHECK(slm_tokenizer_type(tok, 39) == SLM_TOKEN_UNUSED, "an id without token");
        free(ids.ids);
        slm_tokenizer_free(tok);
        s->close(s);
    }
}

/* A window that the file does not name is that which the configuration class assumes; null is none. */
static void check_windows(const char *dir)
{
    static const struct {
        const char *keys;
        uint32_t window;
    } cases[] = {
        {"\"model_type\":\"llama\"", 0},
        {"\"model_type\":\"mistral\"", 4096},
        {"\"model_type\":\"mistral\",\"sliding_window\":null", 0},
        {"\"model_type\":\"mistral\",\"sliding_window\":16", 16},
    };
    hf_model m;
    char config[2048], longer[2048];
    hf_llama_tensors(&m, "F16");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        replace(HF_LLAMA_CONFIG, "\"max_position_embeddings\":128", "\"max_position_embeddings\":8192", longer, sizeof longer);
        replace(longer, "\"model_type\":\"llama\"", cases[i].keys, config, sizeof config);
        llama(dir, config, &m);
        slm_source *s = must_open(dir, &floats);
        if (s == NULL)
            continue;
        CHECK(s->hparams.window == cases[i].window, "%s: a window of %u", cases[i].keys, s->hparams.window);
        s->close(s);
    }
}

/* Tokens that end an answer: generation_config.json, a number or a list, else config.json; the tokenizer's own beside them. */
static void check_ends(const char *dir)
{
    static const struct {
        const char *generation, *config; /* values, NULL: no such key */
        int32_t ends[4]; /* ends with -1 */
        const char *word; /* of a refusal */
    } cases[] = {
        {NULL, NULL, {36, -1}, NULL},
        {"3", NULL, {36, 3, -1}, NULL},
        {"[3, 0, 36]", "7", {36, 3, 0, -1}, NULL},
        {"null", "7", {36, 7, -1}, NULL},
        {NULL, "[4, 5]", {36, 4, 5, -1}, NULL},
        {"[-1, 40, 2]", NULL, {36, 2, -1}, NULL},
        {"99999999999999999999", NULL, {-1}, "eos_token_id"},
        {"\"<|end|>\"", NULL, {-1}, "eos_token_id"},
        {"[1, [2]]", NULL, {-1}, "eos_token_id"},
        {"[0,1,2,3,4,5,6,7,8]", NULL, {-1}, "more than 8"},
    };
    hf_model m;
    char config[2048], text[200];
    slm_error err = {0};
    hf_llama_tensors(&m, "F16");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(text, sizeof text, "\"model_type\":\"llama\",\"eos_token_id\":%s", cases[i].config != NULL ? cases[i].config : "null");
        replace(HF_LLAMA_CONFIG, "\"model_type\":\"llama\"", text, config, sizeof config);
        llama(dir, config, &m);
        hf_delete(dir, "generation_config.json");
        snprintf(text, sizeof text, "{\"eos_token_id\":%s}", cases[i].generation != NULL ? cases[i].generation : "null");
        if (cases[i].generation != NULL)
            hf_text(dir, "generation_config.json", text);
        if (cases[i].word != NULL) {
            must_fail(dir, strstr(cases[i].word, "more") != NULL ? SLM_UNSUPPORTED : SLM_FORMAT, cases[i].word);
            continue;
        }
        slm_source *s = must_open(dir, &floats);
        slm_tokenizer *tok = NULL;
        if (s == NULL || slm_tokenizer_open(s->tokenizer, s->tokenizer_bytes, &tok, &err) != SLM_OK)
            continue;
        for (int32_t id = 0; id < 40; id++) {
            bool want = false;
            for (int k = 0; cases[i].ends[k] >= 0; k++)
                want = want || cases[i].ends[k] == id;
            CHECK(slm_tokenizer_is_end(tok, id) == want, "case %zu: token %d", i, id);
        }
        slm_tokenizer_free(tok);
        s->close(s);
    }
    hf_delete(dir, "generation_config.json");
}

/* Rules for which tokens may come; wishes of whoever asks are none. */
static void check_rules(const char *dir)
{
    hf_model m;
    hf_llama_tensors(&m, "F16");
    llama(dir, HF_LLAMA_CONFIG, &m);
    static const struct {
        const char *file, *word; /* word NULL: it is no rule for answers */
    } rules[] = {{"{\"suppress_tokens\":[1]}", "suppress_tokens"}, {"{\"forced_eos_token_id\":0}", "forced_eos_token_id"},
                 {"{\"bad_words_ids\":[[1]]}", "bad_words_ids"}, {"{\"no_repeat_ngram_size\":2}", "no_repeat_ngram_size"},
                 {"{\"guidance_scale\":1.5}", "guidance_scale"}, {"{\"min_length\":true}", "min_length"},
                 {"{\"suppress_tokens\":[],\"forced_bos_token_id\":null,\"no_repeat_ngram_size\":0,\"sequence_bias\":{},"
                  "\"guidance_scale\":1.0,\"temperature\":0.3,\"repetition_penalty\":1.2}", NULL}};
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        hf_text(dir, "generation_config.json", rules[i].file);
        slm_source *s = rules[i].word != NULL ? NULL : must_open(dir, &floats);
        if (rules[i].word != NULL)
            must_fail(dir, SLM_UNSUPPORTED, rules[i].word);
        CHECK(rules[i].word != NULL || s != NULL, "%s", rules[i].file);
        if (s != NULL)
            s->close(s);
    }
    hf_delete(dir, "generation_config.json");
}

/* Files that say of the tokenizer what tokenizer.json does not say, and for which the library goes by them, are refused. */
static void check_second_word(const char *dir)
{
    static const struct {
        const char *file, *text, *word; /* word: what the refusal names; NULL: it loads */
    } cases[] = {
        {"tokenizer_config.json", "{\"tokenizer_class\":\"RobertaTokenizerFast\",\"add_prefix_space\":false}", NULL},
        {"tokenizer_config.json", "{\"tokenizer_class\":\"RobertaTokenizerFast\",\"add_prefix_space\":true}", "add_prefix_space"},
        {"tokenizer_config.json", "{\"tokenizer_class\":\"Qwen2Tokenizer\",\"add_prefix_space\":true}", "add_prefix_space"},
        {"tokenizer_config.json", "{\"tokenizer_class\":\"TokenizersBackend\",\"add_prefix_space\":true}", NULL},
        {"tokenizer_config.json", "{\"tokenizer_class\":\"AlbertTokenizer\",\"do_lower_case\":true}", "do_lower_case"},
        {"tokenizer_config.json", "{\"tokenizer_class\":\"AlbertTokenizer\",\"keep_accents\":false}", "keep_accents"},
        {"tokenizer_config.json", "{\"added_tokens_decoder\":{\"37\":{\"content\":\"<tag>\",\"lstrip\":false}}}", NULL},
        {"tokenizer_config.json", "{\"added_tokens_decoder\":{\"37\":{\"content\":\"<tag>\",\"lstrip\":true}}}", "\"lstrip\": true"},
        {"tokenizer_config.json", "{\"added_tokens_decoder\":{\"36\":{\"content\":\"<|end|>\",\"rstrip\":true}}}", NULL},
        {"tokenizer_config.json", "{\"added_tokens_decoder\":{\"37\":7}}", NULL},
        {"added_tokens.json", "{\"<tag>\":37}", NULL},
        {"added_tokens.json", "{\"<tag>\":37,\"the\":38}", "\"the\""},
        {"added_tokens.json", "[]", NULL},
    };
    hf_model m;
    hf_llama_tensors(&m, "F16");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        llama(dir, HF_LLAMA_CONFIG, &m);
        hf_delete(dir, "added_tokens.json");
        hf_text(dir, cases[i].file, cases[i].text);
        slm_source *s = cases[i].word == NULL ? must_open(dir, &floats) : NULL;
        if (cases[i].word != NULL)
            must_fail(dir, SLM_UNSUPPORTED, cases[i].word);
        else if (s != NULL)
            s->close(s);
    }
    hf_delete(dir, "added_tokens.json");
}

/* Any file may be a pointer that Git LFS left. */
static void check_pointers(const char *dir)
{
    static const char *const names[] = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
                                        "generation_config.json"};
    hf_model m;
    hf_llama_tensors(&m, "F16");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        llama(dir, HF_LLAMA_CONFIG, &m);
        hf_text(dir, names[i], "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 14503\n");
        must_fail(dir, SLM_FORMAT, "Git LFS pointer");
        must_fail(dir, SLM_FORMAT, names[i]);
        must_fail(dir, SLM_FORMAT, "git lfs pull");
    }
    hf_delete(dir, "generation_config.json");
    hf_delete(dir, "config.json");
    must_fail(dir, SLM_IO, "config.json");
}

/* Configurations that differ from the tiny Llama's in one place, and what must come of them. */
static void check_llama_configs(const char *dir)
{
    static const struct {
        const char *from, *to;
        slm_status status;
        const char *word;
    } bad[] = {
        {"\"rope_theta\":10000.0", "\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4,\"llama_4_scaling_beta\":2}", SLM_UNSUPPORTED,
         "llama_4_scaling_beta"},
        {"\"rope_theta\":10000.0", "\"rope_scaling\":{\"rope_type\":\"yarn\"}", SLM_FORMAT, "factor"},
        {"\"rope_theta\":10000.0", "\"rope_scaling\":{\"rope_type\":\"llama3\",\"low_freq_factor\":4,\"high_freq_factor\":1}", SLM_FORMAT,
         "freq"},
        {"\"rope_theta\":10000.0", "\"rope_scaling\":{\"type\":\"longrope\",\"short_factor\":[1]}", SLM_FORMAT, "original_max"},
        {"\"rope_theta\":10000.0", "\"rope_theta\":-1", SLM_FORMAT, "freq_base"},
        {"\"rope_theta\":10000.0", "\"rope_scaling\":{\"factor\":4}", SLM_UNSUPPORTED, "\"factor\""},
        {"\"rope_theta\":10000.0", "\"rope_scaling\":{\"type\":\"linear\"}", SLM_FORMAT, "no factor"},
        {"\"rope_theta\":10000.0", "\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":0}", SLM_FORMAT, "no factor"},
        {"\"rope_theta\":10000.0", "\"rope_parameters\":{\"rope_theta\":1e4,\"beta_fast\":32}", SLM_UNSUPPORTED, "\"beta_fast\""},
        {"\"rope_theta\":10000.0", "\"rope_scaling\":{\"rope_type\":\"spiral\",\"factor\":4}", SLM_UNSUPPORTED, "spiral"},
        {"\"rope_theta\":10000.0", "\"rope_scaling\":{\"rope_type\":\"dynamic\",\"factor\":0.5}", SLM_FORMAT, "factor"},
        {"\"rope_theta\":10000.0", "\"rope_scaling\":{\"rope_type\":\"dynamic\"}", SLM_UNSUPPORTED, "factor"},
        {"\"max_position_embeddings\":128", "\"max_position_embeddings\":1000000000000000019884624838656", SLM_FORMAT, "context_length"},
        {"\"vocab_size\":40", "\"vocab_size\":99999999999999999999", SLM_FORMAT, "vocab_size"},
        {"\"rope_theta\":10000.0", "\"partial_rotary_factor\":0.01", SLM_UNSUPPORTED, "partial_rotary_factor"},
        {"\"num_key_value_heads\":2", "\"num_key_value_heads\":3", SLM_FORMAT, "heads"},
        {"\"num_key_value_heads\":2", "\"head_dim\":1e9", SLM_FORMAT, "rotate"},
        {"\"hidden_act\":\"silu\"", "\"hidden_act\":\"gelu\"", SLM_UNSUPPORTED, "gelu"},
        {"LlamaForCausalLM", "LlamaForSequenceClassification", SLM_FORMAT, "score.weight"},
        {"LlamaForCausalLM", "LlamaModel", SLM_UNSUPPORTED, "modules.json"},
        {"\"model_type\":\"llama\"", "\"model_type\":\"llama\",\"query_scale\":2", SLM_UNSUPPORTED, "query_scale"},
        {"\"model_type\":\"llama\"", "\"model_type\":\"llama\",\"mlp_bias\":true", SLM_UNSUPPORTED, "mlp_bias"},
        {"\"tie_word_embeddings\":true", "\"tie_word_embeddings\":false", SLM_FORMAT, "lm_head"},
        {"\"vocab_size\":40", "\"vocab_size\":30", SLM_FORMAT, "embed_tokens"},
        {"\"model_type\":\"llama\"", "\"model_type\":\"qwen3\",\"head_dim\":16", SLM_FORMAT, "q_norm"},
    };
    char config[2048];
    hf_model m;
    hf_llama_tensors(&m, "F16");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        replace(HF_LLAMA_CONFIG, bad[i].from, bad[i].to, config, sizeof config);
        llama(dir, config, &m);
        must_fail(dir, bad[i].status, bad[i].word);
    }
    /* a bias that nobody announced */
    hf_add(&m, "model.layers.1.mlp.up_proj.bias", "F16", 96, 0);
    llama(dir, HF_LLAMA_CONFIG, &m);
    must_fail(dir, SLM_UNSUPPORTED, "up_proj.bias");
    hf_llama_tensors(&m, "F16");
    replace(HF_LLAMA_CONFIG, "\"rope_theta\":10000.0",
            "\"rope_theta\":5e5,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4,"
            "\"original_max_position_embeddings\":64}",
            config, sizeof config);
    llama(dir, config, &m);
    slm_source *s = must_open(dir, &floats);
    if (s != NULL) {
        CHECK(s->hparams.has_rope_factors == 1 && s->hparams.rope_factors_short[0] == 1 && s->hparams.rope_factors_short[7] == 8 &&
                  s->hparams.rope_base == 5e5f,
              "Llama 3's scaling");
        s->close(s);
    }
}

/* Gemma: norms are stored minus one; the embedding is scaled. */
static void check_gemma(const char *dir)
{
    char config[2048], named[2048];
    hf_model m;
    hf_llama_tensors(&m, "BF16");
    replace(HF_LLAMA_CONFIG, "\"model_type\":\"llama\",\"hidden_act\":\"silu\"",
            "\"model_type\":\"gemma\",\"head_dim\":16,\"hidden_act\":\"gelu_pytorch_tanh\"", named, sizeof named);
    replace(named, "\"tie_word_embeddings\":true,", "", config, sizeof config);
    llama(dir, config, &m);
    slm_source *s = must_open(dir, &floats);
    if (s == NULL)
        return;
    CHECK(s->hparams.embed_scale == 8 && s->hparams.activation == SLM_ACT_GEGLU && s->hparams.tied_head, "what it is");
    const slm_source_tensor *t = tensor_of(s, SLM_TENSOR_ATTN_NORM, 1);
    float norm[64];
    slm_status status = SLM_OK;
    slm_error err;
    s->read_rows(s, t, 0, 64, norm, &status, &err);
    for (int i = 0; i < 64; i++) {
        uint32_t half = (uint32_t) hf_half(hf_weight("model.layers.1.input_layernorm.weight", (size_t) i), true) << 16;
        float want;
        memcpy(&want, &half, 4);
        CHECK(status == SLM_OK && norm[i] == want + 1, "norm %d is %f", i, (double) norm[i]);
    }
    s->close(s);
}

static void check_tokenizers(const char *dir)
{
    static const struct {
        const char *file, *word;
        slm_status status;
    } bad[] = {
        {"{", "tokenizer.json", SLM_FORMAT},
        {"{}", "unknown", SLM_UNSUPPORTED},
        {"{\"model\":{\"type\":\"BPE\"}}", "vocabulary", SLM_FORMAT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":40}}}", "40", SLM_FORMAT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1}}}", "-1", SLM_FORMAT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1.5}}}", "integer", SLM_FORMAT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1,\"b\":1}}}", "twice", SLM_FORMAT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1}},\"added_tokens\":[{\"id\":2}]}", "added", SLM_FORMAT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1},\"merges\":[\"a\"]}}", "merge", SLM_FORMAT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1},\"merges\":[[\"a\"]]}}", "merge", SLM_FORMAT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1},\"merges\":[3]}}", "merge", SLM_FORMAT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1},\"merges\":[]}}", "neither", SLM_UNSUPPORTED},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1},\"merges\":[]},\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
         "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"x+\"}},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}}",
         "behavior", SLM_UNSUPPORTED},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":1}}}", "BertNormalizer", SLM_UNSUPPORTED},
    };
    hf_model m;
    hf_llama_tensors(&m, "F16");
    llama(dir, HF_LLAMA_CONFIG, &m);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        hf_text(dir, "tokenizer.json", bad[i].file);
        must_fail(dir, bad[i].status, bad[i].word);
    }
}

int main(void)
{
    char bert[64], causal[64];
    if (!hf_make_dir(bert, sizeof bert) || !hf_make_dir(causal, sizeof causal))
        return 2;
    check_bert(bert);
    check_card(bert);
    check_smoothing(bert);
    check_sentence(bert);
    check_pooling(bert);
    check_length(bert);
    check_without_modules(bert);
    check_modules(bert);
    check_json();
    check_cross_encoder(bert);
    check_configs(bert);
    check_files(bert);
    check_reading(bert);
    check_llama(causal);
    check_llama_configs(causal);
    check_windows(causal);
    check_ends(causal);
    check_rules(causal);
    check_second_word(causal);
    check_pointers(causal);
    check_gemma(causal);
    check_tokenizers(causal);
    hf_remove_dir(bert);
    hf_remove_dir(causal);
    TEST_MAIN_END("hf");
}
