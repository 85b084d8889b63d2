/*
 * The tables of version 0.1.0 ("SLMTOKN1") in the present form, with the same tokens for every text.
 *
 * The sections are as they were; the header has grown, so they move as a whole.  What version 0.1.0 could not say is what it did: no
 * steps, added tokens found as they stand, and [CLS] and [SEP] around the texts of WordPiece vocabularies.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/text/internal.h"

#define MAGIC_1 "SLMTOKN1"

typedef struct header_1 {
    char magic[8];
    uint32_t byte_order, kind, n_tokens, flags;
    uint32_t hash_bits, max_probe, merge_bits, merge_probe;
    uint32_t n_specials, n_ends, max_token_bytes, reserved;
    int32_t bos, eos, eot, unk, sep, pad, cls, mask;
    int32_t ends[SLM_TOK_MAX_ENDS];
    int32_t byte_id[256];
    char pre[32], chat[32], system[512];
    uint64_t bytes;
    uint64_t at_offsets, at_bytes, at_types, at_scores, at_hash, at_merges, at_specials;
} header_1;

static size_t up64(size_t n)
{
    return (n + 63) & ~(size_t) 63;
}

static uint64_t moved(uint64_t at)
{
    return at == 0 ? 0 : at + up64(sizeof(slm_tok_header)) - up64(sizeof(header_1));
}

static void convert_header(const header_1 *old, slm_tok_header *h)
{
    *h = (slm_tok_header) {.byte_order = old->byte_order, .kind = old->kind, .n_tokens = old->n_tokens, .flags = old->flags,
        .hash_bits = old->hash_bits, .max_probe = old->max_probe, .merge_bits = old->merge_bits, .merge_probe = old->merge_probe,
        .n_specials = old->n_specials, .n_ends = old->n_ends, .max_token_bytes = old->max_token_bytes, .bos = old->bos, .eos = old->eos,
        .eot = old->eot, .unk = old->unk, .sep = old->sep, .pad = old->pad, .cls = old->cls, .mask = old->mask,
        .frame = {.before = {-1, -1, -1, -1}, .middle = {-1, -1, -1, -1}, .after = {-1, -1, -1, -1}}};
    memcpy(h->magic, SLM_TOK_MAGIC, sizeof h->magic);
    memcpy(h->ends, old->ends, sizeof h->ends);
    memcpy(h->byte_id, old->byte_id, sizeof h->byte_id);
    memcpy(h->pre, old->pre, sizeof h->pre);
    memcpy(h->chat, old->chat, sizeof h->chat);
    memcpy(h->system, old->system, sizeof h->system);
    h->at_offsets = moved(old->at_offsets);
    h->at_bytes = moved(old->at_bytes);
    h->at_types = moved(old->at_types);
    h->at_scores = moved(old->at_scores);
    h->at_hash = moved(old->at_hash);
    h->at_merges = moved(old->at_merges);
    h->at_specials = moved(old->at_specials);
    h->bytes = moved(old->bytes);
    if (old->kind != SLM_TOK_WORDPIECE)
        return;
    int32_t first = old->cls >= 0 ? old->cls : old->bos, last = old->sep >= 0 ? old->sep : old->eos;
    h->flags |= SLM_TOKF_FRAMED;
    h->frame.n_before = first >= 0;
    h->frame.n_middle = h->frame.n_after = last >= 0;
    h->frame.second_type = 1;
    h->frame.before[0] = first;
    h->frame.middle[0] = h->frame.after[0] = last;
}

slm_status slm_tokenizer_convert(const void *blob, size_t bytes, void **out, size_t *out_bytes, slm_error *err)
{
    const header_1 *old = blob;
    slm_tokenizer *tok;
    *out = NULL;
    if (bytes < up64(sizeof *old) || memcmp(old->magic, MAGIC_1, sizeof old->magic) != 0)
        return SLM_OK;
    size_t n = (size_t) moved(bytes);
    if (old->bytes != bytes || old->n_tokens > bytes || old->at_types > bytes - old->n_tokens || old->at_types < up64(sizeof *old))
        return slm_fail(err, SLM_FORMAT, "the tokenizer's tables are damaged");
    char *made = calloc(1, n);
    if (made == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for a tokenizer");
    slm_tok_header *h = (slm_tok_header *) (void *) made;
    memcpy(made + up64(sizeof *h), (const char *) blob + up64(sizeof *old), bytes - up64(sizeof *old));
    convert_header(old, h);
    uint8_t *types = (uint8_t *) made + h->at_types;
    for (uint32_t i = 0; i < h->n_tokens; i++) /* the upper bits of user-defined tokens have a meaning now */
        if ((types[i] & SLM_TOK_TYPE) == SLM_TOKEN_USER_DEFINED)
            types[i] = SLM_TOKEN_USER_DEFINED;
    slm_status status = slm_tokenizer_open(made, n, &tok, err);
    if (status != SLM_OK) {
        free(made);
        return status;
    }
    if (tok->scores != NULL)
        for (uint32_t i = 0; i < h->n_tokens; i++)
            h->lowest_score = i == 0 || tok->scores[i] < h->lowest_score ? tok->scores[i] : h->lowest_score;
    slm_tokenizer_free(tok);
    *out = made;
    *out_bytes = n;
    return SLM_OK;
}
