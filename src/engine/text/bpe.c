/*
 * Byte-level BPE (GPT-2 and its heirs): words from the pre-tokenizer, then merges by rank.
 *
 * A word starts as its bytes; of all neighbours that may merge, the pair of lowest rank merges first, the leftmost among equals.
 * Two shortcuts with the same result: a word that is a token which its own bytes encode to (a bit set at build), and for short
 * words a plain scan in place of the heap.
 */
#include "engine/text/internal.h"

#define SHORT_WORD 32

int slm_bpe_byte_of(uint32_t code)
{
    if ((code >= 33 && code <= 126) || (code >= 161 && code <= 172) || (code >= 174 && code <= 255))
        return (int) code;
    /* The other bytes, in ascending order, stand at 256 + n: 0..32, 127..160, 173. */
    if (code >= 256 && code < 256 + 33)
        return (int) code - 256;
    if (code >= 289 && code < 289 + 34)
        return (int) code - 289 + 127;
    return code == 323 ? 173 : -1;
}

size_t slm_bpe_letter_of(unsigned char byte, char *out)
{
    uint32_t code = byte < 33 ? 256u + byte : byte >= 127 && byte < 161 ? 289u + byte - 127 : byte == 173 ? 323u : byte;
    return (size_t) slm_utf8_encode(code, out);
}

static inline const slm_tok_merge *find_merge(const slm_tokenizer *tok, int32_t left, int32_t right)
{
    const slm_tok_header *h = tok->h;
    if (left < 0 || right < 0 || tok->merges == NULL)
        return NULL;
    uint64_t key = (uint64_t) (uint32_t) left << 32 | (uint32_t) right;
    uint32_t mask = (1u << h->merge_bits) - 1;
    uint32_t i = (uint32_t) (key * UINT64_C(0x9E3779B97F4A7C15) >> (64 - h->merge_bits));
    for (uint32_t probe = 0; probe <= h->merge_probe; probe++, i = (i + 1) & mask) {
        const slm_tok_merge *m = &tok->merges[i];
        if (m->left == (uint32_t) left && m->right == (uint32_t) right)
            return m->id < h->n_tokens ? m : NULL;
        if (m->left == SLM_TOK_NONE)
            return NULL;
    }
    return NULL;
}

const slm_tok_merge *slm_bpe_merge(const slm_tokenizer *tok, int32_t left, int32_t right)
{
    return find_merge(tok, left, right);
}

/* Up to SHORT_WORD bytes: parallel arrays, the lowest rank found by scanning. */
static slm_status merge_short(slm_tokenizer *tok, const char *word, size_t n, size_t base, slm_error *err)
{
    int32_t ids[SHORT_WORD];
    uint32_t ranks[SHORT_WORD], ends[SHORT_WORD], next_ids[SHORT_WORD];
    size_t count = n;
    for (size_t i = 0; i < n; i++) {
        ids[i] = tok->h->byte_id[(unsigned char) word[i]];
        ends[i] = (uint32_t) i + 1;
    }
    for (size_t i = 0; i + 1 < n; i++) {
        const slm_tok_merge *m = find_merge(tok, ids[i], ids[i + 1]);
        ranks[i] = m != NULL ? m->rank : SLM_TOK_NONE;
        next_ids[i] = m != NULL ? m->id : 0;
    }
    while (count > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; i++)
            if (ranks[i] < ranks[best])
                best = i;
        if (ranks[best] == SLM_TOK_NONE)
            break;
        ids[best] = (int32_t) next_ids[best];
        ends[best] = ends[best + 1];
        count--;
        size_t rest = count - best - 1;
        memmove(&ids[best + 1], &ids[best + 2], rest * sizeof ids[0]);
        memmove(&ends[best + 1], &ends[best + 2], rest * sizeof ends[0]);
        memmove(&ranks[best], &ranks[best + 1], rest * sizeof ranks[0]);
        memmove(&next_ids[best], &next_ids[best + 1], rest * sizeof next_ids[0]);
        for (size_t i = best > 0 ? best - 1 : 0; i <= best && i + 1 < count; i++) {
            const slm_tok_merge *m = find_merge(tok, ids[i], ids[i + 1]);
            ranks[i] = m != NULL ? m->rank : SLM_TOK_NONE;
            next_ids[i] = m != NULL ? m->id : 0;
        }
    }
    for (size_t i = 0; i < count; i++)
        if (ids[i] >= 0)
            SLM_TRY(slm_tok_emit(tok, ids[i], base + ends[i], err));
    return SLM_OK;
}

static slm_status push_pair(slm_tokenizer *tok, int32_t left, slm_error *err)
{
    const slm_tok_symbol *l = &tok->symbols[left];
    if (l->next < 0)
        return SLM_OK;
    const slm_tok_symbol *r = &tok->symbols[l->next];
    const slm_tok_merge *m = find_merge(tok, l->id, r->id);
    if (m == NULL)
        return SLM_OK;
    return slm_tok_heap_push(tok, (slm_tok_pair){(uint64_t) m->rank << 32 | (uint32_t) left, l->length + r->length, (int32_t) m->id}, err);
}

/* Words of any length: a linked list of symbols and a heap of pairs. */
static slm_status merge_long(slm_tokenizer *tok, const char *word, size_t n, size_t base, slm_error *err)
{
    SLM_TRY(slm_tok_check_word(n, base, err));
    SLM_TRY(slm_tok_reserve((void **) &tok->symbols, &tok->symbols_capacity, n, sizeof *tok->symbols, err));
    tok->heap_n = 0;
    slm_tok_symbol *s = tok->symbols;
    for (size_t i = 0; i < n; i++) {
        int32_t id = tok->h->byte_id[(unsigned char) word[i]];
        s[i] = (slm_tok_symbol){(int32_t) i - 1, i + 1 < n ? (int32_t) i + 1 : -1, id, (uint32_t) i, 1};
    }
    for (size_t i = 0; i + 1 < n; i++) {
        SLM_TRY(push_pair(tok, (int32_t) i, err));
        if (slm_tok_stopped(tok))
            return slm_tok_cancelled(err);
    }
    slm_tok_pair pair;
    while (slm_tok_heap_pop(tok, &pair)) {
        if (slm_tok_stopped(tok))
            return slm_tok_cancelled(err);
        int32_t at = (int32_t) (uint32_t) pair.key;
        slm_tok_symbol *left = &s[at];
        if (left->length == 0 || left->next < 0 || left->length + s[left->next].length != pair.length)
            continue;
        slm_tok_symbol *right = &s[left->next];
        const slm_tok_merge *m = find_merge(tok, left->id, right->id);
        if (m == NULL || (int32_t) m->id != pair.id || m->rank != pair.key >> 32)
            continue;
        left->id = pair.id;
        left->length = pair.length;
        left->next = right->next;
        right->length = 0;
        if (left->next >= 0)
            s[left->next].previous = at;
        SLM_TRY(push_pair(tok, at, err));
        if (left->previous >= 0)
            SLM_TRY(push_pair(tok, left->previous, err));
    }
    for (int32_t i = 0; i >= 0; i = s[i].next)
        if (s[i].id >= 0)
            SLM_TRY(slm_tok_emit(tok, s[i].id, base + s[i].begin + s[i].length, err));
    return SLM_OK;
}

slm_status slm_bpe_word(slm_tokenizer *tok, const char *word, size_t n, size_t base, bool shortcut, slm_error *err)
{
    if (shortcut) {
        bool any = (tok->h->flags & SLM_TOKF_WHOLE_WORDS) != 0;
        uint8_t need = any ? 0 : SLM_TOK_WHOLE;
        int32_t id = slm_tok_lookup(tok, word, n, SLM_TOK_TYPE | need, SLM_TOKEN_NORMAL | need);
        if (id >= 0)
            return slm_tok_emit(tok, id, base + n, err);
    }
    return n <= SHORT_WORD ? merge_short(tok, word, n, base, err) : merge_long(tok, word, n, base, err);
}

slm_status slm_bpe_encode(slm_tokenizer *tok, const char *text, size_t n, size_t base, slm_error *err)
{
    size_t at = 0;
    while (at < n) {
        size_t end = at;
        SLM_TRY(slm_pre_next(tok, text, n, at, &end, err));
        SLM_TRY(slm_bpe_word(tok, text + at, end - at, base + at, true, err));
        at = end;
        if (slm_tok_stopped(tok))
            return slm_tok_cancelled(err);
    }
    return SLM_OK;
}
