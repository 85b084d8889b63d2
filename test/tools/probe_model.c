/*
 * probe_model: what a model directory becomes here, for programs that compare it with another implementation (test/mutations).
 *
 * One JSON object a line in, one out, until the input ends:
 *
 *   {"dir": PATH, "texts": [TEXT ...], "pairs": [[TEXT, TEXT] ...], "sequences": [[ID ...] ...], "look": BOOL}
 *   {"refused": MESSAGE, "status": WORD} or
 *   {"can": "generate|embed|classify|rerank|tag", "ids": [of each text, as the model gets it], "pair_ids": [...], "outputs": [...],
 *    "pair_outputs": [...], "logits": [of each sequence, by position], "ends": [ID ...], "labels": [...], "query_prompt": TEXT, ...}
 *
 * The model is imported as F32.  "look" does what is done before the weights are read, and no more: configuration, files of
 * sentence-transformers, names and shapes of tensors.
 */
#include <math.h>

#include "engine/import/hf/hf.h"
#include "engine/text/chat.h"
#include "model_test.h"

static const char *status_word(slm_status status)
{
    static const struct {
        slm_status status;
        const char *word;
    } words[] = {{SLM_UNSUPPORTED, "unsupported"}, {SLM_FORMAT, "format"}, {SLM_LIMIT, "limit"}, {SLM_INVALID, "invalid"},
                 {SLM_NOMEM, "no memory"}, {SLM_INTERNAL, "internal"}, {SLM_IO, "io"}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (words[i].status == status)
            return words[i].word;
    return "other";
}

static json_t *refusal(slm_status status, const slm_error *err)
{
    return json_pack("{s:s, s:s, s:s}", "refused", err->message, "status", status_word(status), "hint", err->hint);
}

static json_t *floats(const float *x, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, isfinite(x[i]) ? json_real((double) x[i]) : json_null());
    return list;
}

static json_t *integers(const int32_t *x, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer(x[i]));
    return list;
}

/* A text, or a pair of them, as segments. */
static size_t segments_of(const json_t *input, slm_segment out[2])
{
    size_t n = json_is_array(input) ? 2 : 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *text = json_is_array(input) ? json_array_get(input, i) : input;
        out[i] = (slm_segment){SLM_ROLE_USER, 0, json_string_value(text), json_string_length(text)};
    }
    return n;
}

/* The ids that the model gets for each input. */
static json_t *ids_of(slm_tokenizer *tok, const json_t *inputs)
{
    json_t *all = json_array();
    for (size_t i = 0; i < json_array_size(inputs); i++) {
        slm_segment segments[2];
        slm_error err = {0};
        slm_prompt prompt = {0};
        size_t n = segments_of(json_array_get(inputs, i), segments);
        slm_status status = slm_prompt_build(tok, false, segments, n, 0, NULL, &prompt, &err);
        json_array_append_new(all, status == SLM_OK ? integers(prompt.ids.ids, prompt.ids.n) : refusal(status, &err));
        slm_prompt_free(&prompt);
    }
    return all;
}

static json_t *run_one(slm_session *session, const json_t *input)
{
    slm_segment segments[2];
    slm_error err = {0};
    slm_request request = {.mode = SLM_MODE_EMBED, .segments = segments, .truncate = true};
    uint64_t id;
    size_t active = 1;
    request.n_segments = segments_of(input, segments);
    slm_status status = slm_submit(session, &request, &id, &err);
    while (status == SLM_OK && active > 0)
        status = slm_step(session, &active, &err);
    if (status != SLM_OK)
        return refusal(status, &err);
    const slm_result *r = slm_poll(session);
    json_t *out = r->status == SLM_OK ? floats(r->scores, r->n_scores) : refusal(r->status, &r->error);
    slm_release(session, id);
    return out;
}

/* Vectors, or the outputs of a head, of each input. */
static json_t *outputs_of(slm_session *session, const json_t *inputs)
{
    json_t *all = json_array();
    for (size_t i = 0; i < json_array_size(inputs); i++)
        json_array_append_new(all, run_one(session, json_array_get(inputs, i)));
    return all;
}

/* [positions][n_vocab], of no more positions than the model has; null where an id is none of the model's. */
static json_t *logits_of(const slm_model *model, const json_t *sequence)
{
    uint32_t n;
    size_t stride = test_logit_stride(model);
    int32_t *ids = test_ids(sequence, &n);
    n = n < model->hp.n_context ? n : model->hp.n_context;
    json_t *all = json_array();
    for (uint32_t i = 0; i < n; i++)
        if ((uint32_t) ids[i] >= model->hp.n_vocab) {
            free(ids);
            json_decref(all);
            return json_null();
        }
    float *logits = test_alloc(n * stride * sizeof *logits);
    test_sequence s = test_sequence_new(model, n);
    test_batch batch = test_batch_new(n);
    slm_workspace *ws = slm_workspace_new();
    test_batch_add_fine(&batch, &s, ids, n, n, 2, true);
    test_run(model, ws, &batch, 1, logits);
    for (uint32_t i = 0; i < n; i++)
        json_array_append_new(all, floats(logits + i * stride, model->hp.n_vocab));
    slm_workspace_free(ws);
    test_batch_free(&batch);
    test_sequence_free(&s);
    free(ids);
    free(logits);
    return all;
}

static const char *ability(const slm_model_info *info)
{
    return info->can_generate ? "generate" : info->can_embed ? "embed" : info->can_rerank ? "rerank" : info->can_tag ? "tag" : "classify";
}

static json_t *labels_of(const slm_model_info *info)
{
    json_t *list = json_array();
    const char *at = info->labels;
    for (uint32_t i = 0; i < info->n_labels; i++, at += strlen(at) + 1)
        json_array_append_new(list, json_string(at));
    return list;
}

static json_t *ends_of(slm_tokenizer *tok)
{
    json_t *list = json_array();
    for (size_t i = 0; i < slm_tokenizer_size(tok); i++)
        if (slm_tokenizer_is_end(tok, (int32_t) i))
            json_array_append_new(list, json_integer((json_int_t) i));
    return list;
}

static json_t *describe(slm_model *model, const json_t *request)
{
    const slm_model_info *info = slm_model_get_info(model);
    const json_t *texts = json_object_get(request, "texts"), *pairs = json_object_get(request, "pairs");
    const json_t *sequences = json_object_get(request, "sequences");
    json_t *out = json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:o}", "can", ability(info), "family", info->family, "chat",
                            info->chat_format, "query_prompt", info->query_prompt, "document_prompt", info->document_prompt, "head_kind",
                            (int) info->head_kind, "n_context", (int) info->n_context, "labels", labels_of(info));
    json_object_set_new(out, "ids", ids_of(model->tokenizer, texts));
    json_object_set_new(out, "pair_ids", ids_of(model->tokenizer, pairs));
    json_object_set_new(out, "ends", ends_of(model->tokenizer));
    if (info->can_generate) {
        json_t *all = json_array();
        for (size_t i = 0; i < json_array_size(sequences); i++)
            json_array_append_new(all, logits_of(model, json_array_get(sequences, i)));
        json_object_set_new(out, "logits", all);
        return out;
    }
    slm_limits limits = {.kv_cache_bytes = 16 << 20, .n_threads = 1};
    slm_session *session = NULL;
    slm_error err = {0};
    if (slm_session_new(model, &limits, &session, &err) != SLM_OK)
        test_die("session", err.message);
    json_object_set_new(out, "outputs", outputs_of(session, info->can_rerank ? NULL : texts));
    json_object_set_new(out, "pair_outputs", outputs_of(session, info->can_rerank || info->can_classify ? pairs : NULL));
    slm_session_free(session);
    return out;
}

static json_t *answer(const json_t *request)
{
    const char *dir = json_string_value(json_object_get(request, "dir"));
    char image[96];
    slm_import_options options = {.quantization = "F32", .n_threads = 1};
    slm_model_info info;
    slm_model *model = NULL;
    slm_error err = {0};
    uint64_t bytes = 0;
    if (json_is_true(json_object_get(request, "look"))) {
        slm_status looked = slm_hf_look(dir, &bytes, &err);
        return looked == SLM_OK ? json_object() : refusal(looked, &err);
    }
    snprintf(image, sizeof image, "%s/slm_probe_%d.slm", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (int) getpid());
    unlink(image);
    slm_status status = slm_import(dir, image, &options, NULL, NULL, NULL, &info, &err);
    if (status == SLM_OK)
        status = slm_model_open(image, &model, &err);
    unlink(image);
    if (status != SLM_OK)
        return refusal(status, &err);
    json_t *out = describe(model, request);
    slm_model_close(model);
    return out;
}

int main(void)
{
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, stdin) > 0) {
        json_error_t where;
        json_t *request = json_loads(line, 0, &where);
        if (request == NULL)
            test_die("input", where.text);
        json_t *out = answer(request);
        json_dumpf(out, stdout, JSON_COMPACT | JSON_REAL_PRECISION(7));
        putchar('\n');
        fflush(stdout);
        json_decref(out);
        json_decref(request);
    }
    free(line);
    slm_threads_release();
    return 0;
}
