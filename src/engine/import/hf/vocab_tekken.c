/*
 * tekken.json of Mistral's own format: ranks of bytes, control tokens before them.
 *
 *   {"config": {"pattern": ..., "default_vocab_size": N, "default_num_special_tokens": S},
 *    "vocab": [{"rank": 0, "token_bytes": "AA==", ...}, ...],
 *    "special_tokens": [{"rank": 0, "token_str": "<unk>", "is_control": true}, ...]}
 *
 * Ids 0 to S - 1 are the control tokens in order of rank, filled up with <SPECIAL_i>; the token of rank r has the id S + r.  Of "vocab" the
 * first N - S count, and what they say of their text ("token_str", which may hold NUL) does not.  The older format without
 * "special_tokens" has names that only Mistral's library knows.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/import/hf/json.h"
#include "engine/import/hf/vocab_made.h"
#include "engine/import/hf/vocab_ranks.h"

#define MAX_SPECIALS 100000u
#define FILE_NAME "tekken.json"

/* The texts of the control tokens [n] by rank: each rank from 0 on, once. */
static slm_status sort_specials(json_t *list, const char **texts, slm_error *err)
{
    size_t n = json_array_size(list), i;
    json_t *entry;
    json_array_foreach(list, i, entry)
    {
        json_t *rank = json_object_get(entry, "rank"), *string = json_object_get(entry, "token_str");
        const char *text = json_string_value(string);
        json_int_t at = json_is_integer(rank) ? json_integer_value(rank) : -1;
        if (text == NULL || strlen(text) != json_string_length(string) || at < 0 || (size_t) at >= n || texts[at] != NULL)
            return slm_fail(err, SLM_FORMAT, "\"" FILE_NAME "\" does not give its control tokens the ranks from 0 on, each once");
        texts[at] = text;
    }
    return SLM_OK;
}

static slm_status take_specials(slm_hf_made *m, json_t *list, uint32_t wanted, slm_error *err)
{
    size_t n = json_array_size(list);
    char filler[32];
    if (!json_is_array(list)) {
        slm_fail(err, SLM_UNSUPPORTED, "\"" FILE_NAME "\" is of the older format without \"special_tokens\", which is not supported");
        return slm_hint(err, "Save the tokenizer beside the model as tokenizer.json.");
    }
    const char **texts = calloc(n + 1, sizeof *texts);
    if (texts == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    slm_status status = sort_specials(list, texts, err);
    for (size_t i = 0; status == SLM_OK && i < n; i++)
        status = slm_hf_made_add(m, texts[i], true, err);
    free(texts);
    for (uint32_t i = (uint32_t) n; status == SLM_OK && i < wanted; i++) {
        snprintf(filler, sizeof filler, "<SPECIAL_%u>", i);
        status = slm_hf_made_add(m, filler, true, err);
    }
    return status;
}

static slm_status take_ranks(slm_hf_ranks *r, json_t *list, size_t n, uint32_t first, slm_error *err)
{
    for (size_t i = 0; i < n; i++) {
        json_t *entry = json_array_get(list, i), *bytes = json_object_get(entry, "token_bytes"), *rank = json_object_get(entry, "rank");
        if (!json_is_string(bytes) || (rank != NULL && (!json_is_integer(rank) || json_integer_value(rank) != (json_int_t) i)))
            return slm_fail(err, SLM_FORMAT, "\"" FILE_NAME "\" has no token of the rank %zu at its place", i);
        SLM_TRY(slm_hf_ranks_add(r, json_string_value(bytes), json_string_length(bytes), (json_int_t) (first + i), FILE_NAME, err));
    }
    return SLM_OK;
}

static slm_status take_vocab(slm_hf_made *m, json_t *file, slm_hf_ranks *r, slm_error *err)
{
    slm_hf_json config = slm_hf_member((slm_hf_json){file, FILE_NAME}, "config");
    json_t *specials = json_object_get(file, "special_tokens"), *vocab = json_object_get(file, "vocab"), *model = NULL, *special;
    json_t *said = json_object_get(config.object, "pattern");
    const char *pattern = json_string_value(said);
    uint32_t n_specials = (uint32_t) json_array_size(specials), size = UINT32_MAX;
    size_t n = json_array_size(vocab), i;
    if (pattern == NULL || strlen(pattern) != json_string_length(said) || n == 0)
        return slm_fail(err, SLM_FORMAT, "\"" FILE_NAME "\" has no \"pattern\" or no \"vocab\"");
    if (json_array_size(specials) > MAX_SPECIALS)
        return slm_fail(err, SLM_LIMIT, "\"" FILE_NAME "\" has more than %u control tokens", MAX_SPECIALS);
    SLM_TRY(slm_hf_u32(config, "default_num_special_tokens", n_specials, MAX_SPECIALS, &n_specials, err));
    SLM_TRY(slm_hf_u32(config, "default_vocab_size", n_specials + 1, UINT32_MAX, &size, err));
    SLM_TRY(take_specials(m, specials, n_specials, err));
    SLM_TRY(take_ranks(r, vocab, n < size - n_specials ? n : size - n_specials, n_specials, err));
    SLM_TRY(slm_hf_ranks_model(r, m->stop, &model, err));
    SLM_TRY(slm_hf_put(m->tokenizer, "model", model, err));
    json_array_foreach(m->added, i, special)
    {
        const char *text = json_string_value(json_object_get(special, "content"));
        if (json_object_get(r->vocab, text) != NULL)
            return slm_fail(err, SLM_FORMAT, "\"" FILE_NAME "\" has the token \"%.60s\" twice", text);
        SLM_TRY(slm_hf_put(r->vocab, text, json_integer((json_int_t) i), err));
    }
    SLM_TRY(slm_hf_put(m->tokenizer, "post_processor", slm_hf_part("ByteLevel"), err));
    return slm_hf_byte_level(m, false, pattern, false, err);
}

slm_status slm_hf_read_tekken(slm_hf_made *m, slm_error *err)
{
    json_t *file = NULL;
    slm_hf_ranks ranks = {0};
    SLM_TRY(slm_hf_load_raw(m->dir, FILE_NAME, SLM_HF_MAX_VOCAB_BYTES, &file, err));
    slm_status status = slm_hf_ranks_init(&ranks, err);
    if (status == SLM_OK)
        status = take_vocab(m, file, &ranks, err);
    slm_hf_ranks_free(&ranks);
    json_decref(file);
    return status;
}
