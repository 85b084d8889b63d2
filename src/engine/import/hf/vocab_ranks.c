/*
 * Cuts of tokens, and vocabularies of bytes.
 *
 * The work for one token grows with the square of its length, and its length comes from a file: the sum is bounded.
 */
#include "engine/import/hf/vocab_ranks.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/base64.h"
#include "engine/import/hf/vocab_made.h"
#include "engine/text/tokenizer.h"

#define MAX_MERGES (1u << 21)
#define MAX_WORK (UINT64_C(1) << 31) /* bytes looked at; vocabularies of 262,144 tokens take some 2^24 */
#define MAX_CUTS 4096                /* of one token */

typedef struct cut {
    json_int_t rank; /* of the left half */
    size_t at;
} cut;

static int by_rank_of_left(const void *a, const void *b)
{
    const cut *x = a, *y = b;
    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

static slm_status add_merge(json_t *merges, const char *token, size_t at, slm_error *err)
{
    bool spaced = strchr(token, ' ') != NULL;
    json_t *merge = spaced ? json_pack("[s%s]", token, at, token + at) : json_sprintf("%.*s %s", (int) at, token, token + at);
    return slm_hf_append(merges, merge, err);
}

/* The cuts of one token into tokens. left: room for its text. */
static slm_status cuts_of(const char *token, size_t length, char *left, json_t *halves, cut *cuts, size_t *n, slm_error *err)
{
    *n = 0;
    memcpy(left, token, length + 1);
    for (size_t at = 1; at < length; at++) {
        if (((unsigned char) token[at] & 0xC0) == 0x80)
            continue;
        if (json_object_get(halves, token + at) == NULL)
            continue;
        left[at] = '\0';
        json_t *rank = json_object_get(halves, left);
        left[at] = token[at];
        if (rank == NULL)
            continue;
        if (*n == MAX_CUTS)
            return slm_fail(err, SLM_LIMIT, "a token of the vocabulary can be cut into two tokens in more than %d ways", MAX_CUTS);
        cuts[(*n)++] = (cut){json_integer_value(rank), at};
    }
    return SLM_OK;
}

static slm_status find_merges(const char *const *tokens, size_t n, json_t *halves, bool by_rank, const volatile int *stop, json_t *merges,
                              char *left, cut *cuts, slm_error *err)
{
    uint64_t work = 0;
    for (size_t i = 0; i < n; i++) {
        size_t length = strlen(tokens[i]), n_cuts;
        work += (uint64_t) length * length;
        if ((i & 255) == 0 && stop != NULL && *stop != 0)
            return slm_fail(err, SLM_CANCELLED, "building the tokenizer was cancelled");
        if (work > MAX_WORK)
            return slm_fail(err, SLM_LIMIT, "the vocabulary's tokens are too long to find its merges");
        SLM_TRY(cuts_of(tokens[i], length, left, halves, cuts, &n_cuts, err));
        if (by_rank)
            qsort(cuts, n_cuts, sizeof *cuts, by_rank_of_left);
        if (json_array_size(merges) + n_cuts > MAX_MERGES)
            return slm_fail(err, SLM_LIMIT, "the vocabulary implies more than %u merges", MAX_MERGES);
        for (size_t c = 0; c < n_cuts; c++)
            SLM_TRY(add_merge(merges, tokens[i], cuts[c].at, err));
    }
    return SLM_OK;
}

slm_status slm_hf_merges_of(const char *const *tokens, size_t n, json_t *halves, bool by_rank, const volatile int *stop, json_t *merges,
                            slm_error *err)
{
    size_t longest = 0;
    for (size_t i = 0; i < n; i++) {
        size_t length = strlen(tokens[i]);
        longest = length > longest ? length : longest;
    }
    char *left = malloc(longest + 1);
    cut *cuts = malloc(MAX_CUTS * sizeof *cuts);
    slm_status status = left == NULL || cuts == NULL
                            ? slm_fail(err, SLM_NOMEM, "out of memory")
                            : find_merges(tokens, n, halves, by_rank, stop, merges, left, cuts, err);
    free(left);
    free(cuts);
    return status;
}

/* ---- tokens of bytes ---- */

slm_status slm_hf_ranks_init(slm_hf_ranks *r, slm_error *err)
{
    *r = (slm_hf_ranks){json_object(), json_array(), json_array()};
    return r->vocab != NULL && r->merges != NULL && r->order != NULL ? SLM_OK : slm_fail(err, SLM_NOMEM, "out of memory");
}

void slm_hf_ranks_free(slm_hf_ranks *r)
{
    json_decref(r->vocab);
    json_decref(r->merges);
    json_decref(r->order);
}

slm_status slm_hf_ranks_add(slm_hf_ranks *r, const char *base64, size_t n, json_int_t id, const char *file, slm_error *err)
{
    size_t length = 0, used = 0;
    char *bytes = NULL;
    slm_status status = slm_base64_decode(base64, n, &bytes, &length, err);
    if (status == SLM_FORMAT || (status == SLM_OK && length == 0))
        status = slm_fail(err, SLM_FORMAT, "\"%s\" holds a token that is not in base 64: %.*s", file, (int) (n < 60 ? n : 60), base64);
    if (status != SLM_OK) {
        free(bytes);
        return status;
    }
    char *text = malloc(2 * length + 1);
    for (size_t i = 0; text != NULL && i < length; i++)
        used += slm_bpe_letter_of((unsigned char) bytes[i], text + used);
    free(bytes);
    if (text == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    text[used] = '\0';
    status = json_object_get(r->vocab, text) != NULL ? slm_fail(err, SLM_FORMAT, "\"%s\" holds a token twice: %.60s", file, text)
                                                     : slm_hf_put(r->vocab, text, json_integer(id), err);
    if (status == SLM_OK)
        status = slm_hf_append(r->order, json_stringn(text, used), err);
    free(text);
    return status;
}

slm_status slm_hf_ranks_model(slm_hf_ranks *r, const volatile int *stop, json_t **model, slm_error *err)
{
    size_t n = json_array_size(r->order);
    const char **tokens = malloc((n + 1) * sizeof *tokens);
    if (tokens == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (size_t i = 0; i < n; i++)
        tokens[i] = json_string_value(json_array_get(r->order, i));
    slm_status status = slm_hf_merges_of(tokens, n, r->vocab, true, stop, r->merges, err);
    free(tokens);
    SLM_TRY(status);
    *model = json_pack("{s:s, s:O, s:O, s:b}", "type", "BPE", "vocab", r->vocab, "merges", r->merges, "ignore_merges", 1);
    return *model != NULL ? SLM_OK : slm_fail(err, SLM_NOMEM, "out of memory");
}
