/*
 * SentencePiece BPE (Llama 2, Mistral, Phi-3, Gemma): merges by score, or by rank where the vocabulary lists its merges.
 *
 * Spaces become U+2581, one more is put in front where the model wants it; a text then starts as its characters, and of all
 * neighbours that form a token together the pair of highest score merges first, the leftmost among equals; with a list of merges (a
 * tokenizer.json) those that it names, in its order.  A character that is no token falls back to its bytes <0xNN>.  Scheme: SentencePiece,
 * T. Kudo and J. Richardson, arXiv 1808.06226.
 *
 * Where no token of the vocabulary has a space behind another character (a bit set at build), no merge can cross the beginning of a
 * word, so words are merged one at a time: short ones by scanning, and those that are tokens by one look.
 */
#include "engine/text/internal.h"

#define MARK "\xE2\x96\x81"
#define SHORT_WORD 24 /* bytes */
#define BLOCK_BYTES ((size_t) 1 << 16) /* of text in the buffer at a time, up to the end of a word */

/* Where we are in the caller's text while tokens of the buffer are emitted. */
typedef struct cursor {
    const char *text; /* the caller's */
    size_t at, buffer_at, base;
    bool prefixed; /* the buffer's first mark stands for nothing in the text */
    bool unknown;  /* the last token was an unknown one */
} cursor;

/* Highest score first when sorted ascending. */
static inline uint64_t score_key(float score, uint32_t left)
{
    union { float f; uint32_t u; } v = {score + 0.0f};
    uint32_t ascending = v.u >> 31 ? ~v.u : v.u | 0x80000000u;
    return (uint64_t) ~ascending << 32 | left;
}

/* Advances to the end of a token that ends at byte `end` of the buffer; returns the end in the caller's text. */
static size_t advance(cursor *c, size_t end)
{
    if (c->prefixed && c->buffer_at == 0 && end >= 3) {
        c->buffer_at = 3;
        c->prefixed = false;
    }
    while (c->buffer_at < end) {
        c->buffer_at += c->text[c->at] == ' ' ? 3 : 1;
        c->at++;
    }
    return c->base + c->at;
}

/* One token, or the bytes of a character that is none. */
static slm_status emit(slm_tokenizer *tok, cursor *c, int32_t id, size_t begin, size_t end, slm_error *err)
{
    if (id >= 0) {
        c->unknown = false;
        return slm_tok_emit(tok, id, tok->want_ends ? advance(c, end) : 0, err);
    }
    for (size_t i = begin; i < end; i++) {
        int32_t byte = tok->h->byte_id[(unsigned char) tok->buffer[i]];
        size_t at = tok->want_ends ? advance(c, i + 1) : 0;
        if (byte < 0 && i + 1 < end)
            continue; /* one unknown token for the whole character */
        bool unknown = byte < 0, fused = unknown && c->unknown && (tok->h->flags & SLM_TOKF_FUSE_UNKNOWN) != 0;
        if (unknown)
            byte = fused ? -1 : tok->h->unk;
        c->unknown = unknown;
        if (byte >= 0)
            SLM_TRY(slm_tok_emit(tok, byte, at, err));
    }
    return SLM_OK;
}

/* Merges by rank know tokens that are looked for in texts too. */
static inline int32_t find(const slm_tokenizer *tok, size_t begin, size_t n)
{
    int32_t id = slm_tok_lookup(tok, tok->buffer + begin, n, SLM_TOK_TYPE, SLM_TOKEN_NORMAL);
    return id >= 0 || tok->merges == NULL ? id : slm_tok_lookup(tok, tok->buffer + begin, n, SLM_TOK_TYPE, SLM_TOKEN_USER_DEFINED);
}

/* The token that neighbours left and right, n bytes together at `begin`, become; -1 = none.  *score: higher ones first. */
static inline int32_t pair_of(const slm_tokenizer *tok, int32_t left, int32_t right, size_t begin, size_t n, float *score)
{
    if (tok->merges != NULL) {
        const slm_tok_merge *m = slm_bpe_merge(tok, left, right);
        *score = m != NULL ? -(float) m->rank : 0;
        return m != NULL ? (int32_t) m->id : -1;
    }
    int32_t id = find(tok, begin, n);
    *score = id >= 0 ? tok->scores[id] : 0;
    return id;
}

static slm_status merge_short(slm_tokenizer *tok, cursor *c, size_t begin, size_t n, slm_error *err)
{
    uint32_t starts[SHORT_WORD + 1], count = 0;
    int32_t ids[SHORT_WORD], pairs[SHORT_WORD]; /* id of symbol i, of symbols i and i + 1 together */
    float scores[SHORT_WORD];                   /* of pairs */
    for (size_t at = 0; at < n; at += (size_t) slm_utf8_char_length(tok->buffer + begin + at, n - at))
        starts[count++] = (uint32_t) at;
    starts[count] = (uint32_t) n;
    for (uint32_t i = 0; i < count; i++)
        ids[i] = find(tok, begin + starts[i], starts[i + 1] - starts[i]);
    for (uint32_t i = 0; i + 1 < count; i++)
        pairs[i] = pair_of(tok, ids[i], ids[i + 1], begin + starts[i], starts[i + 2] - starts[i], &scores[i]);
    for (;;) {
        uint32_t best = count;
        for (uint32_t i = 0; i + 1 < count; i++)
            if (pairs[i] >= 0 && (best == count || scores[i] > scores[best]))
                best = i;
        if (best == count)
            break;
        ids[best] = pairs[best];
        count--;
        memmove(&starts[best + 1], &starts[best + 2], (count - best) * sizeof starts[0]);
        memmove(&ids[best + 1], &ids[best + 2], (count - best - 1) * sizeof ids[0]);
        memmove(&pairs[best], &pairs[best + 1], (count - best) * sizeof pairs[0]);
        memmove(&scores[best], &scores[best + 1], (count - best) * sizeof scores[0]);
        for (uint32_t i = best > 0 ? best - 1 : 0; i <= best && i + 1 < count; i++)
            pairs[i] = pair_of(tok, ids[i], ids[i + 1], begin + starts[i], starts[i + 2] - starts[i], &scores[i]);
    }
    for (uint32_t i = 0; i < count; i++)
        SLM_TRY(emit(tok, c, ids[i], begin + starts[i], begin + starts[i + 1], err));
    return SLM_OK;
}

static slm_status push_pair(slm_tokenizer *tok, size_t begin, int32_t left, slm_error *err)
{
    const slm_tok_symbol *l = &tok->symbols[left];
    if (l->next < 0)
        return SLM_OK;
    uint32_t length = l->length + tok->symbols[l->next].length;
    float score;
    int32_t id = pair_of(tok, l->id, tok->symbols[l->next].id, begin + l->begin, length, &score);
    if (id < 0)
        return SLM_OK;
    return slm_tok_heap_push(tok, (slm_tok_pair){score_key(score, (uint32_t) left), length, id}, err);
}

static slm_status merge_heap(slm_tokenizer *tok, size_t begin, slm_error *err)
{
    slm_tok_symbol *s = tok->symbols;
    slm_tok_pair pair;
    while (slm_tok_heap_pop(tok, &pair)) {
        if (slm_tok_stopped(tok))
            return slm_tok_cancelled(err);
        int32_t at = (int32_t) (uint32_t) pair.key;
        slm_tok_symbol *left = &s[at];
        if (left->length == 0 || left->next < 0 || left->length + s[left->next].length != pair.length)
            continue;
        slm_tok_symbol *right = &s[left->next];
        left->id = pair.id;
        left->length = pair.length;
        left->next = right->next;
        right->length = 0;
        if (left->next >= 0)
            s[left->next].previous = at;
        SLM_TRY(push_pair(tok, begin, at, err));
        if (left->previous >= 0)
            SLM_TRY(push_pair(tok, begin, left->previous, err));
    }
    return SLM_OK;
}

static slm_status merge_long(slm_tokenizer *tok, cursor *c, size_t begin, size_t n, slm_error *err)
{
    int32_t count = 0;
    tok->heap_n = 0;
    for (size_t at = 0; at < n; count++) {
        uint32_t length = (uint32_t) slm_utf8_char_length(tok->buffer + begin + at, n - at);
        SLM_TRY(slm_tok_reserve((void **) &tok->symbols, &tok->symbols_capacity, (size_t) count + 1, sizeof *tok->symbols, err));
        tok->symbols[count] = (slm_tok_symbol){count - 1, count + 1, find(tok, begin + at, length), (uint32_t) at, length};
        at += length;
        if (slm_tok_stopped(tok))
            return slm_tok_cancelled(err);
    }
    tok->symbols[count - 1].next = -1;
    for (int32_t i = 0; i + 1 < count; i++) {
        SLM_TRY(push_pair(tok, begin, i, err));
        if (slm_tok_stopped(tok))
            return slm_tok_cancelled(err);
    }
    SLM_TRY(merge_heap(tok, begin, err));
    const slm_tok_symbol *s = tok->symbols;
    for (int32_t i = 0; i >= 0; i = s[i].next)
        SLM_TRY(emit(tok, c, s[i].id, begin + s[i].begin, begin + s[i].begin + s[i].length, err));
    return SLM_OK;
}

/* [begin, begin + n) of the buffer. */
static slm_status encode_word(slm_tokenizer *tok, cursor *c, size_t begin, size_t n, bool shortcut, slm_error *err)
{
    if (shortcut) {
        int32_t id = slm_tok_lookup(tok, tok->buffer + begin, n, SLM_TOK_TYPE | SLM_TOK_WHOLE, SLM_TOKEN_NORMAL | SLM_TOK_WHOLE);
        if (id >= 0)
            return emit(tok, c, id, begin, begin + n, err);
    }
    return n <= SHORT_WORD ? merge_short(tok, c, begin, n, err) : merge_long(tok, c, begin, n, err);
}

/* The end of the word that begins at `at`: marks, or one, then anything up to the next mark. */
static size_t word_end(const char *buffer, size_t n, size_t at, bool one)
{
    for (bool first = true; n - at >= 3 && memcmp(buffer + at, MARK, 3) == 0 && (first || !one); first = false)
        at += 3;
    while (at < n && !(n - at >= 3 && (unsigned char) buffer[at] == 0xE2 && memcmp(buffer + at, MARK, 3) == 0))
        at++;
    return at;
}

/* Writes text[n] to the buffer with its spaces as marks, one more in front for `prefix`; returns the bytes used. */
static size_t mark_spaces(char *buffer, const char *text, size_t n, bool prefix)
{
    size_t used = 0;
    if (prefix) {
        memcpy(buffer, MARK, 3);
        used = 3;
    }
    for (size_t i = 0; i < n; i++) {
        if (text[i] == ' ') {
            memcpy(buffer + used, MARK, 3);
            used += 3;
        } else {
            buffer[used++] = text[i];
        }
    }
    return used;
}

/* The end of a block of whole words that begins at `at`: the first beginning of a word behind at + BLOCK_BYTES. */
static size_t block_end(const char *text, size_t n, size_t at)
{
    if (n - at <= BLOCK_BYTES)
        return n;
    for (at += BLOCK_BYTES; at < n; at++)
        if (text[at] == ' ' && text[at - 1] != ' ' && memcmp(text + at - 3, MARK, 3) != 0)
            return at;
    return n;
}

static slm_status encode_block(slm_tokenizer *tok, const char *text, size_t n, size_t base, bool prefix, bool words, slm_error *err)
{
    bool split = (tok->h->flags & SLM_TOKF_SPLIT_MARKS) != 0;
    SLM_TRY(slm_tok_reserve((void **) &tok->buffer, &tok->buffer_capacity, 3 * n + 4, 1, err));
    size_t used = mark_spaces(tok->buffer, text, n, prefix);
    cursor c = {.text = text, .base = base, .prefixed = prefix};
    if (!words)
        return encode_word(tok, &c, 0, used, false, err);
    for (size_t at = 0; at < used;) {
        size_t end = word_end(tok->buffer, used, at, split);
        SLM_TRY(encode_word(tok, &c, at, end - at, true, err));
        at = end;
        if (slm_tok_stopped(tok))
            return slm_tok_cancelled(err);
    }
    return SLM_OK;
}

slm_status slm_spm_encode(slm_tokenizer *tok, const char *text, size_t n, size_t base, bool begin, slm_error *err)
{
    bool marked = n > 0 && (text[0] == ' ' || (n >= 3 && memcmp(text, MARK, 3) == 0));
    bool prefix = begin && (tok->h->flags & SLM_TOKF_SPACE_PREFIX) != 0 && !(marked && (tok->h->flags & SLM_TOKF_PREFIX_ONCE) != 0);
    bool words = (tok->h->flags & (SLM_TOKF_SPLIT_SPACES | SLM_TOKF_SPLIT_MARKS)) != 0;
    for (size_t at = 0; at < n;) {
        size_t end = words ? block_end(text, n, at) : n;
        SLM_TRY(slm_tok_check_word(end - at > BLOCK_BYTES ? end - at - BLOCK_BYTES : 0, base + at, err));
        SLM_TRY(encode_block(tok, text + at, end - at, base + at, prefix && at == 0, words, err));
        at = end;
    }
    return SLM_OK;
}

slm_status slm_spm_token(slm_tokenizer *tok, const char *bytes, size_t n, slm_error *err)
{
    cursor c = {0};
    SLM_TRY(slm_tok_reserve((void **) &tok->buffer, &tok->buffer_capacity, n + 1, 1, err));
    memcpy(tok->buffer, bytes, n);
    return encode_word(tok, &c, 0, n, false, err);
}
