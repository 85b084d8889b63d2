/*
 * fits.c: requests that fit whatever their texts are, told without a tokenizer.
 *
 * A token stands for a byte at least, after normalization, which makes eleven times as many bytes of a character at most (NFKC: three
 * bytes of U+FDFA become 33), and leaves ASCII as long as it is.  What the chat format puts around the texts, its own system prompt
 * included, is far below FORMAT_TOKENS for every format there is; a model that knows none puts its own few beginnings and ends.
 *
 * This is what keeps a backend whose requests run in the engine process without a session: a request that may be too long is checked here
 * (local.c), and takes a session for it; any other is tokenized once, there.
 */
#include "postgres.h"

#include "pg/base/guc.h"
#include "pg/run/internal.h"

#define FORMAT_TOKENS 256
#define FEW_TOKENS 8
#define MOST_GROWTH 11
#define BLOCK 16      /* positions that keys and values are given for at once */
#define MOST_LANES 64 /* branches of labels at a time, at most */

/* No text of so many bytes has more tokens. */
static uint64 most_tokens(const char *text, size_t n)
{
    uint64 tokens = 1;

    for (size_t i = 0; i < n; i++)
        tokens += (unsigned char) text[i] < 0x80 ? 1 : MOST_GROWTH;
    return tokens;
}

/* Positions for the ways that labels branch into, at most: each is rounded up to blocks at both of its ends. */
static uint64 most_branches(const slm_request *request)
{
    uint64 longest = 0, all = 0;

    for (size_t i = 0; i < request->n_labels; i++) {
        uint64 n = most_tokens(request->labels[i], strlen(request->labels[i]));

        longest = Max(longest, n);
        all += n;
    }
    return (longest + 2 * BLOCK) * (longest + Min(all, MOST_LANES));
}

bool slm_pg_surely_fits(const SlmOpenModel *opened, const slm_request *request)
{
    const slm_model_info *info = slm_pg_info(opened);
    uint64 tokens = request->chat ? FORMAT_TOKENS : FEW_TOKENS, branches = 0;

    for (size_t i = 0; i < request->n_segments; i++) {
        if (request->segments[i].length > info->n_context)
            return false;
        tokens += most_tokens(request->segments[i].text, request->segments[i].length) + FEW_TOKENS;
    }
    if (request->mode == SLM_MODE_GENERATE)
        tokens += request->max_tokens;
    if (request->mode == SLM_MODE_LABELS)
        branches = most_branches(request);
    if (request->prior_text != NULL)
        tokens += most_tokens(request->prior_text, Min(strlen(request->prior_text), info->n_context));
    return tokens + branches <= info->n_context && (tokens + branches) * slm_pg_kv_bytes_per_token(info) <= slm_pg_kv_cache_bytes();
}
