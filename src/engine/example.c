/*
 * An example of a fine-tuning as token ids: the prompt exactly as a request would have it, the answer as a label or a generated text would
 * be, and the token that ends it.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/model/model.h"
#include "engine/text/chat.h"

slm_status slm_example_tokens(const slm_model *model, bool chat, const slm_segment *segments, size_t n_segments, const char *answer,
                              size_t length, const volatile int *stop, slm_tokens *out, size_t *n_prompt, slm_error *err)
{
    slm_tokenizer *tok = model->tokenizer;
    slm_prompt prompt = {0};
    int32_t end;

    if (tok == NULL)
        return slm_fail(err, SLM_UNSUPPORTED, "model \"%s\" has no vocabulary", slm_model_get_info(model)->name);
    if (length == 0) {
        slm_fail(err, SLM_INVALID, "the answer is empty");
        slm_blame(err, SLM_CAUSE_EMPTY);
        return SLM_INVALID;
    }
    SLM_TRY(slm_chat_answer_end(tok, chat, &end, err));
    if (end < 0 || (uint32_t) end >= model->hp.n_vocab)
        return slm_fail(err, SLM_UNSUPPORTED, "model \"%s\" has no token that ends an answer", slm_model_get_info(model)->name);
    SLM_TRY(slm_prompt_build(tok, chat, segments, n_segments, 0, stop, &prompt, err));
    *n_prompt = prompt.ids.n;
    slm_status status = prompt.ids.n == 0 ? slm_fail(err, SLM_INVALID, "the prompt is empty") : SLM_OK;
    if (status == SLM_OK)
        status = slm_tokenizer_encode(tok, answer, length, false, chat && prompt.answer_space, stop, &prompt.ids, err);
    if (status == SLM_OK)
        status = slm_ids_push(&prompt.ids, end, err);
    if (status == SLM_OK)
        status = slm_model_check(model, err);
    if (status != SLM_OK) {
        slm_prompt_free(&prompt);
        return status;
    }
    *out = (slm_tokens){.ids = prompt.ids.ids, .n = prompt.ids.n};
    return SLM_OK;
}

slm_status slm_text_tokens(const slm_model *model, const char *text, size_t length, size_t max_tokens, const volatile int *stop,
                           slm_tokens *out, bool *cut, slm_error *err)
{
    slm_segment segment = {.role = SLM_ROLE_USER, .text = text, .length = length};
    slm_prompt prompt = {0};
    size_t excess;

    if (model->tokenizer == NULL)
        return slm_fail(err, SLM_UNSUPPORTED, "model \"%s\" has no vocabulary", slm_model_get_info(model)->name);
    SLM_TRY(slm_prompt_build(model->tokenizer, false, &segment, 1, 0, stop, &prompt, err));
    excess = prompt.ids.n > max_tokens ? prompt.ids.n - max_tokens : 0;
    slm_status status = slm_model_check(model, err);
    if (status == SLM_OK && (prompt.ids.n == 0 || excess > prompt.row_end - prompt.row_begin))
        status = slm_fail(err, SLM_INVALID, "a text has no tokens, or %zu are too few for any", max_tokens);
    if (status != SLM_OK) {
        slm_prompt_free(&prompt);
        return status;
    }
    memmove(prompt.ids.ids + prompt.row_end - excess, prompt.ids.ids + prompt.row_end, (prompt.ids.n - prompt.row_end) * sizeof(int32_t));
    *cut = excess > 0;
    *out = (slm_tokens){.ids = prompt.ids.ids, .n = prompt.ids.n - excess};
    return SLM_OK;
}
