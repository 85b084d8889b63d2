/*
 * Ranks of tiktoken: a line for each token, its bytes in base 64, a space, its id.
 *
 * The file says neither how texts are cut nor which control tokens there are.  transformers cuts by the pattern of Llama 3, and takes the
 * control tokens of tokenizer_config.json: ids that they name behind the file's are theirs, what lies between is <|reserved_token_i|>.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/import/hf/json.h"
#include "engine/import/hf/vocab_made.h"
#include "engine/import/hf/vocab_ranks.h"

#define MAX_TOKENS (1u << 21)
#define PATTERN                                                                                                                     \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* "base64 id", NUL behind it; ids ascend, as in every file that is written by rank. */
static slm_status take_line(slm_hf_made *m, slm_hf_ranks *r, char *line, json_int_t *last, slm_error *err)
{
    size_t n = strcspn(line, " ");
    char *end = line;
    long long id = line[n] == ' ' && line[n + 1] >= '0' && line[n + 1] <= '9' ? strtoll(line + n + 1, &end, 10) : -1;
    if (n == 0 || *end != '\0' || end == line || id <= *last || id > INT32_MAX)
        return slm_fail(err, SLM_FORMAT, "\"%s\" is not in the format of tiktoken: behind the token %lld comes \"%.60s\"", m->file,
                        (long long) *last, line);
    *last = id;
    if (json_array_size(r->order) == MAX_TOKENS)
        return slm_fail(err, SLM_LIMIT, "\"%s\" has more than %u tokens", m->file, MAX_TOKENS);
    return slm_hf_ranks_add(r, line, n, id, m->file, err);
}

static slm_status take_lines(slm_hf_made *m, slm_hf_ranks *r, char *text, size_t length, slm_error *err)
{
    json_int_t last = -1;
    for (char *at = text, *end = text + length, *next; at < end; at = next) {
        char *stop_at = memchr(at, '\n', (size_t) (end - at));
        size_t n = (size_t) ((stop_at != NULL ? stop_at : end) - at);
        next = at + n + 1;
        n -= n > 0 && at[n - 1] == '\r';
        at[n] = '\0';
        if (strlen(at) != n)
            return slm_fail(err, SLM_FORMAT, "\"%s\" is not in the format of tiktoken: it holds a NUL byte", m->file);
        if (n > 0)
            SLM_TRY(take_line(m, r, at, &last, err));
    }
    return last >= 0 ? SLM_OK : slm_fail(err, SLM_FORMAT, "\"%s\" holds no token", m->file);
}

/* Control tokens behind the file's ids. */
static slm_status take_specials(slm_hf_made *m, size_t n_tokens, slm_error *err)
{
    json_t *decoder = json_object_get(m->config, "added_tokens_decoder"), *extra = json_object_get(m->config, "extra_special_tokens");
    json_t *token;
    const char *key, *text;
    char id[24];
    long long last = -1;
    size_t i;
    json_object_foreach(decoder, key, token)
    {
        long long at = strtoll(key, NULL, 10);
        last = at > last ? at : last;
    }
    if (last >= (long long) (n_tokens + MAX_TOKENS))
        return slm_fail(err, SLM_LIMIT, "\"added_tokens_decoder\" in \"tokenizer_config.json\" names the id %lld", last);
    for (long long at = (long long) n_tokens; at <= last; at++) {
        snprintf(id, sizeof id, "%lld", at);
        json_t *named = json_object_get(decoder, id);
        char filler[40];
        snprintf(filler, sizeof filler, "<|reserved_token_%lld|>", at);
        text = named != NULL ? json_string_value(json_object_get(named, "content")) : filler;
        if (text == NULL)
            return slm_fail(err, SLM_FORMAT, "\"added_tokens_decoder\" in \"tokenizer_config.json\" is damaged");
        SLM_TRY(slm_hf_made_add(m, text, true, err));
    }
    json_array_foreach(extra, i, token)
    {
        if (!json_is_string(token))
            return slm_fail(err, SLM_UNSUPPORTED, "\"extra_special_tokens\" in \"tokenizer_config.json\" holds what is no text, which is "
                                                  "not supported without tokenizer.json");
        SLM_TRY(slm_hf_made_add(m, json_string_value(token), true, err));
    }
    return SLM_OK;
}

static slm_status take_file(slm_hf_made *m, slm_hf_ranks *r, char *text, size_t length, slm_error *err)
{
    json_t *model = NULL;
    SLM_TRY(take_lines(m, r, text, length, err));
    SLM_TRY(slm_hf_ranks_model(r, m->stop, &model, err));
    SLM_TRY(slm_hf_put(m->tokenizer, "model", model, err));
    SLM_TRY(take_specials(m, json_array_size(r->order), err));
    SLM_TRY(slm_hf_put(m->tokenizer, "post_processor", slm_hf_part("ByteLevel"), err));
    return slm_hf_byte_level(m, false, PATTERN, false, err);
}

slm_status slm_hf_read_tiktoken(slm_hf_made *m, slm_error *err)
{
    char *text = NULL;
    size_t length;
    slm_hf_ranks ranks = {0};
    SLM_TRY(slm_hf_read_text(m->dir, m->file, SLM_HF_MAX_VOCAB_BYTES, false, &text, &length, err));
    slm_status status = slm_hf_ranks_init(&ranks, err);
    if (status == SLM_OK)
        status = take_file(m, &ranks, text, length, err);
    slm_hf_ranks_free(&ranks);
    free(text);
    return status;
}
