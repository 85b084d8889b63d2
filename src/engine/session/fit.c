/*
 * How much of a text fits a number of tokens: for `truncate` and for slm_chunk.
 *
 * Tokenizers normalize, insert spaces and join what stands together, so byte offsets of tokens are not a thing that all of them have.
 * What counts is how many tokens the piece has when it is tokenized on its own; that is what is searched here, by bisection over
 * character boundaries.
 */
#include <stdlib.h>

#include "engine/session/session.h"

static size_t char_floor(const char *text, size_t at)
{
    while (at > 0 && ((unsigned char) text[at] & 0xc0) == 0x80)
        at--;
    return at;
}

static slm_status count(slm_tokenizer *tok, const char *text, size_t length, const volatile int *stop, slm_ids *scratch, slm_error *err)
{
    scratch->n = 0;
    return slm_tokenizer_encode(tok, text, length, false, true, stop, scratch, err);
}

slm_status slm_text_fit(slm_tokenizer *tok, const char *text, size_t length, size_t max_tokens, const volatile int *stop, size_t *fit,
                        slm_error *err)
{
    slm_ids ids = {0};
    size_t low = 0, high = length, step = max_tokens < length / 4 ? max_tokens * 4 : length;
    slm_status status = SLM_OK;

    /* A beginning that fits and one that does not, by doubling. */
    while (low < length && status == SLM_OK) {
        size_t at = length - low > step ? char_floor(text, low + step) : length;

        if (at <= low)
            at = length;
        status = count(tok, text, at, stop, &ids, err);
        if (status == SLM_OK && ids.n > max_tokens) {
            high = at;
            break;
        }
        low = status == SLM_OK ? at : low;
        step *= 2;
    }
    while (status == SLM_OK && low < high) {
        size_t middle = char_floor(text, low + (high - low) / 2);

        if (middle <= low)
            break;
        status = count(tok, text, middle, stop, &ids, err);
        if (ids.n > max_tokens)
            high = middle;
        else
            low = middle;
    }
    free(ids.ids);
    if (status == SLM_OK)
        *fit = low;
    return status;
}
