/*
 * vocab.json and merges.txt of byte-level BPE, as GPT-2 had them: {"token": id, ...}, and "left right" a line in order of rank.
 *
 * Lines that begin with "#version" say nothing.  What a text goes through before is the class's: GPT-2 and RoBERTa cut by GPT-2's pattern,
 * GPT-NeoX composes (NFC) before, Qwen composes and has a pattern of its own.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/base/utf8.h"
#include "engine/import/hf/json.h"
#include "engine/import/hf/vocab_made.h"

#define MAX_MERGES (1u << 21)
#define VOCAB "vocab.json"
#define MERGES "merges.txt"

static slm_status take_vocab(json_t *vocab, slm_error *err)
{
    const char *text;
    json_t *id;
    if (!json_is_object(vocab) || json_object_size(vocab) == 0)
        return slm_fail(err, SLM_FORMAT, "\"" VOCAB "\" is no object of tokens");
    json_object_foreach(vocab, text, id)
        if (!json_is_integer(id) || json_integer_value(id) < 0)
            return slm_fail(err, SLM_FORMAT, "\"" VOCAB "\" gives the token \"%.60s\" an id that is none", text);
    return SLM_OK;
}

/* One line [n], NUL behind it: two tokens of the vocabulary whose text together is one too. */
static slm_status take_line(json_t *vocab, json_t *seen, char *line, size_t n, size_t number, json_t *merges, slm_error *err)
{
    char *space = memchr(line, ' ', n);
    bool pair = space != NULL && space > line && space + 1 < line + n && strchr(space + 1, ' ') == NULL && strlen(line) == n;
    if (!pair)
        return slm_fail(err, SLM_FORMAT, "line %zu of \"" MERGES "\" is no pair of tokens", number);
    if (slm_utf8_valid_prefix(line, n) < n)
        return slm_fail(err, SLM_FORMAT, "line %zu of \"" MERGES "\" is not valid UTF-8", number);
    SLM_TRY(slm_hf_append(merges, json_stringn(line, n), err));
    if (json_object_get(seen, line) != NULL)
        return slm_fail(err, SLM_FORMAT, "line %zu of \"" MERGES "\" has been there before", number);
    SLM_TRY(slm_hf_put(seen, line, json_true(), err));
    *space = '\0';
    bool known = json_object_get(vocab, line) != NULL && json_object_get(vocab, space + 1) != NULL;
    memmove(space, space + 1, (size_t) (line + n - space));
    if (known && json_object_get(vocab, line) != NULL)
        return SLM_OK;
    return slm_fail(err, SLM_FORMAT, "line %zu of \"" MERGES "\" merges what \"" VOCAB "\" has no token for", number);
}

static slm_status take_lines(json_t *vocab, json_t *seen, char *text, size_t length, const volatile int *stop, json_t *merges,
                             slm_error *err)
{
    size_t number = 0;
    for (char *at = text, *end = text + length, *next; at < end; at = next) {
        char *stop_at = memchr(at, '\n', (size_t) (end - at));
        size_t n = (size_t) ((stop_at != NULL ? stop_at : end) - at);
        next = at + n + 1;
        n -= n > 0 && stop_at != NULL && at[n - 1] == '\r';
        at[n] = '\0';
        number++;
        if ((number & 1023) == 0 && stop != NULL && *stop != 0)
            return slm_fail(err, SLM_CANCELLED, "building the tokenizer was cancelled");
        if (json_array_size(merges) == MAX_MERGES)
            return slm_fail(err, SLM_FORMAT, "\"" MERGES "\" has more than %u merges", MAX_MERGES);
        if (strncmp(at, "#version", 8) != 0)
            SLM_TRY(take_line(vocab, seen, at, n, number, merges, err));
    }
    return SLM_OK;
}

/* What comes before the merges. */
static slm_status take_class(slm_hf_made *m, slm_error *err)
{
    const char *class = slm_hf_made_class(m);
    bool qwen = strcmp(class, "Qwen2Tokenizer") == 0, prefix = false;
    SLM_TRY(slm_hf_bool((slm_hf_json){m->config, "tokenizer_config.json"}, "add_prefix_space", &prefix, err));
    return slm_hf_byte_level(m, qwen || strcmp(class, "GPTNeoXTokenizer") == 0,
                             qwen ? "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
                                    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
                                  : NULL, prefix, err);
}

static slm_status take_merges(slm_hf_made *m, json_t *vocab, json_t *merges, slm_error *err)
{
    char *text = NULL;
    size_t length;
    json_t *seen = json_object();
    slm_status status = seen != NULL ? SLM_OK : slm_fail(err, SLM_NOMEM, "out of memory");
    if (status == SLM_OK)
        status = slm_hf_read_text(m->dir, MERGES, SLM_HF_MAX_VOCAB_BYTES, true, &text, &length, err);
    if (status == SLM_OK && text == NULL)
        status = slm_fail(err, SLM_FORMAT, "the model directory holds \"" VOCAB "\", but no \"" MERGES "\"");
    if (status == SLM_OK)
        status = take_lines(vocab, seen, text, length, m->stop, merges, err);
    free(text);
    json_decref(seen);
    return status;
}

slm_status slm_hf_read_merges(slm_hf_made *m, slm_error *err)
{
    json_t *vocab = NULL, *merges = json_array(), *model = json_pack("{s:s, s:o}", "type", "BPE", "merges", merges);
    SLM_TRY(slm_hf_put(m->tokenizer, "model", model, err));
    SLM_TRY(slm_hf_load(m->dir, VOCAB, SLM_HF_MAX_VOCAB_BYTES, false, &vocab, err));
    SLM_TRY(slm_hf_put(model, "vocab", vocab, err));
    SLM_TRY(take_vocab(vocab, err));
    SLM_TRY(take_merges(m, vocab, merges, err));
    return take_class(m, err);
}
