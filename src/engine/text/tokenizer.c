/*
 * Opening a tokenizer's blob, looking things up in it, and the way of a text: checked, cut at control and user-defined tokens,
 * the rest taken through the steps (steps.h), cut again at user-defined tokens that are looked for behind them, and given to the encoder of
 * its kind.
 *
 * Without `special` only user-defined tokens are recognized in text, never control tokens: what a row says cannot become structure.
 * (User-defined tokens that look like control tokens were made control tokens by slm_tokenizer_build.)
 */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <stddef.h>
#include <stdlib.h>
#include <utf8proc.h>

#include "engine/text/steps.h"

#define CHECK_BYTES ((size_t) 1 << 20) /* of text, checked between two looks at the stop flag */

slm_status slm_tok_reserve(void **data, size_t *capacity, size_t n, size_t size, slm_error *err)
{
    if (n <= *capacity)
        return SLM_OK;
    size_t wanted = *capacity < 64 ? 64 : *capacity, bytes;
    while (wanted < n)
        if (__builtin_add_overflow(wanted, wanted / 2, &wanted))
            return slm_fail(err, SLM_NOMEM, "out of memory for %zu elements", n);
    void *grown = NULL;
    if (!__builtin_mul_overflow(wanted, size, &bytes))
        grown = realloc(*data, bytes);
    if (grown == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for %zu elements of %zu bytes", wanted, size);
    *data = grown;
    *capacity = wanted;
    return SLM_OK;
}

slm_status slm_ids_push(slm_ids *ids, int32_t id, slm_error *err)
{
    SLM_TRY(slm_tok_reserve((void **) &ids->ids, &ids->capacity, ids->n + 1, sizeof *ids->ids, err));
    ids->ids[ids->n++] = id;
    return SLM_OK;
}

slm_status slm_tok_emit_slow(slm_tokenizer *tok, int32_t id, size_t end, slm_error *err)
{
    if (tok->want_ends) {
        if (tok->origins != NULL)
            end = end > 0 ? tok->origins[end - 1] : tok->piece_begin;
        SLM_TRY(slm_tok_reserve((void **) &tok->ends, &tok->ends_capacity, tok->ends_n + 1, sizeof *tok->ends, err));
        tok->ends[tok->ends_n++] = end;
    }
    return slm_ids_push(tok->out, id, err);
}

slm_status slm_tok_check_word(size_t n, size_t at, slm_error *err)
{
    if (n <= SLM_TOK_MAX_WORD)
        return SLM_OK;
    slm_fail(err, SLM_LIMIT, "the text has %zu bytes without a word boundary at byte offset %zu; at most %zu are possible", n, at,
             SLM_TOK_MAX_WORD);
    slm_hint(err, "Break the text into lines, or give it in parts.");
    return SLM_LIMIT;
}

int32_t slm_tok_lookup(const slm_tokenizer *tok, const char *bytes, size_t n, uint8_t mask, uint8_t want)
{
    const slm_tok_header *h = tok->h;
    if (n == 0 || n > h->max_token_bytes)
        return -1;
    uint64_t hash = XXH3_64bits(bytes, n);
    uint32_t slots = (1u << h->hash_bits) - 1, i = (uint32_t) hash & slots, tag = (uint32_t) (hash >> 32);
    for (uint32_t probe = 0; probe <= h->max_probe; probe++, i = (i + 1) & slots) {
        uint32_t id = (uint32_t) tok->hash[i];
        if (id == SLM_TOK_NONE)
            return -1;
        if ((uint32_t) (tok->hash[i] >> 32) != tag || id >= h->n_tokens || (tok->types[id] & mask) != want)
            continue;
        if (tok->offsets[id + 1] - tok->offsets[id] == n && memcmp(tok->bytes + tok->offsets[id], bytes, n) == 0)
            return (int32_t) id;
    }
    return -1;
}

/* ------------------------------------------------------------------ opening */

/* Bytes of the header as its magic says it was written; 0 for another magic. */
static size_t header_bytes(const char magic[8])
{
    if (memcmp(magic, SLM_TOK_MAGIC, 8) == 0)
        return sizeof(slm_tok_header);
    return memcmp(magic, SLM_TOK_MAGIC_1, 8) == 0 ? offsetof(slm_tok_header, at_steps) : 0;
}

/* Is [at, at + n * size) inside the blob, behind the header and aligned? */
static bool section_ok(const slm_tok_header *h, uint64_t at, uint64_t n, uint64_t size)
{
    uint64_t bytes;
    return at >= header_bytes(h->magic) && at % 8 == 0 && !__builtin_mul_overflow(n, size, &bytes) && at <= h->bytes &&
        bytes <= h->bytes - at;
}

static bool id_ok(const slm_tok_header *h, int32_t id)
{
    return id >= -1 && (id < 0 || (uint32_t) id < h->n_tokens);
}

static bool header_ok(const slm_tok_header *h, size_t bytes)
{
    if (h->byte_order != SLM_TOK_BYTE_ORDER || h->bytes != bytes)
        return false;
    if (h->kind > SLM_TOK_UNIGRAM || h->n_tokens == 0 || h->n_tokens > SLM_TOK_MAX_TOKENS || h->hash_bits > 26 || h->merge_bits > 26)
        return false;
    if (h->hash_bits == 0 || h->n_specials > h->n_tokens || h->n_ends > SLM_TOK_MAX_ENDS || h->max_token_bytes > SLM_TOK_MAX_BYTES)
        return false;
    if (memchr(h->pre, 0, sizeof h->pre) == NULL || memchr(h->chat, 0, sizeof h->chat) == NULL ||
        memchr(h->system, 0, sizeof h->system) == NULL)
        return false;
    if (!section_ok(h, h->at_offsets, (uint64_t) h->n_tokens + 1, 4) || !section_ok(h, h->at_types, h->n_tokens, 1) ||
        !section_ok(h, h->at_hash, UINT64_C(1) << h->hash_bits, 8) || !section_ok(h, h->at_specials, h->n_specials, 4) ||
        !section_ok(h, h->at_bytes, 0, 1))
        return false;
    if (h->at_scores != 0 && !section_ok(h, h->at_scores, h->n_tokens, 4))
        return false;
    if (h->at_merges != 0 && (h->merge_bits == 0 || !section_ok(h, h->at_merges, UINT64_C(1) << h->merge_bits, sizeof(slm_tok_merge))))
        return false;
    const int32_t special[] = {h->bos, h->eos, h->eot, h->unk, h->sep, h->pad, h->cls, h->mask};
    for (size_t i = 0; i < sizeof special / sizeof special[0]; i++)
        if (!id_ok(h, special[i]))
            return false;
    for (size_t i = 0; i < 256; i++)
        if (!id_ok(h, h->byte_id[i]))
            return false;
    for (size_t i = 0; i < h->n_ends; i++)
        if (h->ends[i] < 0 || !id_ok(h, h->ends[i]))
            return false;
    if (h->frame.n_before > SLM_VOCAB_MAX_FRAME || h->frame.n_middle > SLM_VOCAB_MAX_FRAME || h->frame.n_after > SLM_VOCAB_MAX_FRAME)
        return false;
    if (h->frame.second_type > 1)
        return false;
    for (uint32_t i = 0; i < SLM_VOCAB_MAX_FRAME; i++)
        if (!id_ok(h, h->frame.before[i]) || !id_ok(h, h->frame.middle[i]) || !id_ok(h, h->frame.after[i]))
            return false;
    if (h->n_steps > 0 && !section_ok(h, h->at_steps, h->steps_bytes, 1))
        return false;
    return h->kind == SLM_TOK_SPM ? h->at_scores != 0 || h->at_merges != 0 : h->kind != SLM_TOK_UNIGRAM || h->at_scores != 0;
}

/* Offsets ascend and stay inside the blob, no token is longer than promised; specials are ids of tokens that are valid UTF-8, so that
 * cutting a text at them leaves valid pieces. */
static bool tables_ok(const slm_tokenizer *tok)
{
    const slm_tok_header *h = tok->h;
    const uint32_t *offsets = tok->offsets;
    uint32_t bad = 0;
    for (uint32_t i = 0; i < h->n_tokens; i++)
        bad |= (uint32_t) (offsets[i + 1] < offsets[i]) | (uint32_t) (offsets[i + 1] - offsets[i] > h->max_token_bytes);
    if (bad || offsets[0] != 0 || offsets[h->n_tokens] > h->bytes - h->at_bytes)
        return false;
    for (uint32_t i = 0; i < h->n_specials; i++) {
        size_t n;
        if (tok->specials[i] >= h->n_tokens)
            return false;
        const char *bytes = slm_tok_bytes(tok, tok->specials[i], &n);
        if (slm_utf8_valid_prefix(bytes, n) < n)
            return false;
    }
    return true;
}

/* The header as this version has it.  Before SLMTOKN2 only WordPiece was put in a frame: [CLS] A [SEP] B [SEP]. */
static bool take_header(const void *blob, size_t bytes, slm_tok_header *h)
{
    size_t size = bytes >= 8 ? header_bytes(blob) : 0;
    if (size == 0 || bytes < size)
        return false;
    memset(h, 0, sizeof *h);
    memcpy(h, blob, size);
    if (size < sizeof *h) {
        int32_t first = h->cls >= 0 ? h->cls : h->bos, last = h->sep >= 0 ? h->sep : h->eos;
        h->n_steps = 0;
        h->frame = (slm_tok_frame){0, 0, 0, 0, {-1, -1, -1, -1}, {-1, -1, -1, -1}, {-1, -1, -1, -1}};
        if (h->kind == SLM_TOK_WORDPIECE) {
            h->flags |= SLM_TOKF_FRAMED;
            h->frame.n_before = first >= 0;
            h->frame.n_middle = h->frame.n_after = last >= 0;
            h->frame.second_type = 1;
            h->frame.before[0] = first;
            h->frame.middle[0] = h->frame.after[0] = last;
        }
    }
    return header_ok(h, bytes);
}

slm_status slm_tokenizer_open(const void *blob, size_t bytes, slm_tokenizer **out, slm_error *err)
{
    slm_tok_header header;
    if (blob == NULL || (uintptr_t) blob % 8 != 0 || !take_header(blob, bytes, &header)) {
        slm_fail(err, SLM_FORMAT, "the tokenizer's tables are damaged or of another version");
        slm_hint(err, "Load the model again.");
        return SLM_FORMAT;
    }
    slm_tokenizer *tok = calloc(1, sizeof *tok);
    if (tok == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for a tokenizer");
    const char *base = blob;
    const slm_tok_header *h;
    tok->header = header;
    tok->h = h = &tok->header;
    tok->offsets = (const uint32_t *) (base + h->at_offsets);
    tok->bytes = base + h->at_bytes;
    tok->types = (const uint8_t *) (base + h->at_types);
    tok->scores = h->at_scores != 0 ? (const float *) (base + h->at_scores) : NULL;
    tok->hash = (const uint64_t *) (base + h->at_hash);
    tok->merges = h->at_merges != 0 ? (const slm_tok_merge *) (base + h->at_merges) : NULL;
    tok->specials = (const uint32_t *) (base + h->at_specials);
    tok->steps = h->n_steps > 0 ? base + h->at_steps : NULL;
    tok->chat = slm_chat_find(h->chat);
    tok->rule = h->kind == SLM_TOK_BPE ? slm_pre_find(h->pre) : NULL;
    bool steps_ok = h->n_steps == 0 || slm_steps_check(tok->steps, h->steps_bytes, h->n_steps);
    if (!steps_ok || !tables_ok(tok) || (h->kind == SLM_TOK_BPE && tok->rule == NULL)) {
        slm_tokenizer_free(tok);
        return slm_fail(err, SLM_FORMAT, "the tokenizer's tables are inconsistent");
    }
    *out = tok;
    return SLM_OK;
}

void *slm_tokenizer_kept(const slm_tokenizer *tok)
{
    return tok->kept;
}

void slm_tokenizer_keep(slm_tokenizer *tok, void *made, void (*free_made)(void *))
{
    if (tok->kept != NULL)
        tok->free_kept(tok->kept);
    tok->kept = made;
    tok->free_kept = free_made;
}

void slm_tokenizer_free(slm_tokenizer *tok)
{
    if (tok == NULL)
        return;
    slm_tokenizer_keep(tok, NULL, NULL);
    slm_pre_free(tok);
    slm_steps_free(tok);
    free(tok->nodes);
    free(tok->symbols);
    free(tok->heap);
    free(tok->buffer);
    free(tok->ends);
    free(tok);
}

/* ------------------------------------------------------------------ what it knows */

size_t slm_tokenizer_size(const slm_tokenizer *tok)
{
    return tok->h->n_tokens;
}

const char *slm_tokenizer_name(const slm_tokenizer *tok)
{
    static const char *const names[] = {NULL, "spm", "wordpiece", "unigram"};
    return tok->h->kind == SLM_TOK_BPE ? tok->h->pre : names[tok->h->kind];
}

const char *slm_tokenizer_chat_format(const slm_tokenizer *tok)
{
    return tok->h->chat;
}

int32_t slm_tokenizer_bos(const slm_tokenizer *tok)
{
    return (tok->h->flags & SLM_TOKF_ADD_BOS) != 0 ? tok->h->bos : -1;
}

uint32_t slm_tokenizer_second_type(const slm_tokenizer *tok)
{
    return tok->h->frame.second_type;
}

int32_t slm_tokenizer_eos(const slm_tokenizer *tok)
{
    return tok->h->eos;
}

bool slm_tokenizer_is_end(const slm_tokenizer *tok, int32_t id)
{
    for (uint32_t i = 0; i < tok->h->n_ends; i++)
        if (tok->h->ends[i] == id)
            return true;
    return false;
}

slm_token_type slm_tokenizer_type(const slm_tokenizer *tok, int32_t id)
{
    if (id < 0 || (uint32_t) id >= tok->h->n_tokens)
        return SLM_TOKEN_UNUSED;
    uint8_t type = tok->types[id] & SLM_TOK_TYPE;
    return type >= SLM_TOKEN_NORMAL && type <= SLM_TOKEN_BYTE ? (slm_token_type) type : SLM_TOKEN_UNUSED;
}

int32_t slm_tokenizer_find(const slm_tokenizer *tok, const char *text, size_t length)
{
    int32_t id = slm_tok_lookup(tok, text, length, SLM_TOK_TYPE, SLM_TOKEN_CONTROL);
    return id >= 0 ? id : slm_tok_lookup(tok, text, length, 0, 0);
}

/* ------------------------------------------------------------------ encoding */

/* A text to be cut at tokens: the caller's (behind 0), or one of its pieces behind the steps. */
typedef struct piece {
    const char *text;
    size_t n, base;
    bool begin;   /* SentencePiece's space prefix goes before it */
    bool special; /* control tokens are looked for */
    bool behind;  /* the steps: now come the user-defined tokens that are looked for in the normalized text */
} piece;

static unsigned added_flags(const slm_tokenizer *tok, uint32_t id)
{
    return tok->types[id] >> SLM_TOK_ADDED_SHIFT;
}

/* Is this token looked for in this text? */
static bool wanted(const slm_tokenizer *tok, const piece *p, uint32_t id)
{
    bool user = (tok->types[id] & SLM_TOK_TYPE) == SLM_TOKEN_USER_DEFINED;
    if (!user)
        return p->special && !p->behind;
    return ((added_flags(tok, id) & SLM_ADDED_NORMALIZED) != 0) == p->behind;
}

/* The longest token wanted that p's text begins with at `at`; -1 = none. The range [lo, hi) of sorted specials that agree with the text so
 * far narrows byte by byte. */
static int32_t match_special(const slm_tokenizer *tok, const piece *p, size_t at, size_t *length)
{
    const char *text = p->text + at;
    size_t n = p->n - at;
    uint32_t lo = 0, hi = tok->h->n_specials;
    int32_t found = -1;
    for (size_t depth = 0; depth < n && depth < SLM_TOK_MAX_SPECIAL && lo < hi; depth++) {
        unsigned char c = (unsigned char) text[depth];
        for (int side = 0; side < 2; side++) { /* first not below c, then first above c */
            uint32_t a = lo, b = hi;
            while (a < b) {
                uint32_t middle = a + (b - a) / 2;
                size_t m;
                const char *bytes = slm_tok_bytes(tok, tok->specials[middle], &m);
                bool below = m <= depth || (side == 0 ? (unsigned char) bytes[depth] < c : (unsigned char) bytes[depth] <= c);
                if (below)
                    a = middle + 1;
                else
                    b = middle;
            }
            if (side == 0)
                lo = a;
            else
                hi = a;
        }
        if (lo >= hi)
            break;
        size_t m;
        slm_tok_bytes(tok, tok->specials[lo], &m);
        if (m != depth + 1)
            continue;
        for (uint32_t i = lo; i < hi && tok->offsets[tok->specials[i] + 1] - tok->offsets[tok->specials[i]] == m; i++) {
            if (wanted(tok, p, tok->specials[i])) {
                found = (int32_t) tok->specials[i];
                *length = m;
                break;
            }
        }
    }
    return found;
}

/* A character of a word as regular expressions have it (\\w). */
static bool is_word(uint32_t c)
{
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t) c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_ND) || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_PC ||
           c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9);
}

static size_t before(const char *text, size_t at)
{
    do
        at--;
    while (at > 0 && !slm_utf8_is_start(text[at]));
    return at;
}

/* May a token of these flags stand at [*begin, *end)? Takes the white space around it that belongs to it, not before `done`. */
static bool fit_added(const piece *p, unsigned flags, size_t done, size_t *begin, size_t *end)
{
    int length;
    bool left = *begin > 0 && is_word(slm_utf8_decode(p->text + before(p->text, *begin), &length));
    bool right = *end < p->n && is_word(slm_utf8_decode(p->text + *end, &length));
    if ((flags & SLM_ADDED_SINGLE_WORD) != 0 && (left || right))
        return false;
    while ((flags & SLM_ADDED_LSTRIP) != 0 && *begin > done &&
           slm_text_is_space(slm_utf8_decode(p->text + before(p->text, *begin), &length)))
        *begin = before(p->text, *begin);
    while ((flags & SLM_ADDED_RSTRIP) != 0 && *end < p->n && slm_text_is_space(slm_utf8_decode(p->text + *end, &length)))
        *end += (size_t) length;
    return true;
}

static slm_status encode_plain(slm_tokenizer *tok, const piece *p, slm_error *err)
{
    if (p->n == 0)
        return SLM_OK;
    switch (tok->h->kind) {
    case SLM_TOK_BPE: return slm_bpe_encode(tok, p->text, p->n, p->base, err);
    case SLM_TOK_SPM: return slm_spm_encode(tok, p->text, p->n, p->base, p->begin, err);
    case SLM_TOK_UNIGRAM: return slm_unigram_encode(tok, p->text, p->n, p->base, p->begin, err);
    default: return slm_wordpiece_encode(tok, p->text, p->n, p->base, err);
    }
}

static slm_status encode_parts(slm_tokenizer *tok, const piece *p, slm_error *err);

/* What is between two tokens: through the steps, and on. */
static slm_status encode_between(slm_tokenizer *tok, const piece *from, size_t at, size_t end, slm_error *err)
{
    bool first = (tok->h->flags & SLM_TOKF_PREFIX_FIRST) != 0;
    piece p = {.text = from->text + at, .n = end - at, .base = from->base + at, .begin = at == 0 ? from->begin : !first, .behind = true};
    if (p.n == 0)
        return SLM_OK;
    if (from->behind)
        return encode_plain(tok, &p, err);
    if (tok->h->n_steps > 0) {
        const char *text = p.text;
        tok->piece_begin = p.base;
        SLM_TRY(slm_steps_run(tok, text, p.n, p.base, &p.text, &p.n, err));
        p.base = p.text == text ? p.base : 0;
    }
    slm_status status = (tok->h->flags & SLM_TOKF_NORMALIZED) != 0 ? encode_parts(tok, &p, err) : encode_plain(tok, &p, err);
    tok->origins = NULL;
    return status;
}

static slm_status encode_parts(slm_tokenizer *tok, const piece *p, slm_error *err)
{
    bool first[256] = {false}, any = false;
    for (uint32_t i = 0; i < tok->h->n_specials; i++) {
        size_t m;
        const char *bytes = slm_tok_bytes(tok, tok->specials[i], &m);
        if (m > 0 && wanted(tok, p, tok->specials[i]))
            first[(unsigned char) bytes[0]] = any = true;
    }
    size_t done = 0;
    for (size_t at = 0; any && at < p->n;) {
        size_t length, begin = at, end;
        int32_t id;
        if (slm_tok_stopped(tok))
            return slm_tok_cancelled(err);
        if (!first[(unsigned char) p->text[at]] || (id = match_special(tok, p, at, &length)) < 0) {
            at++;
            continue;
        }
        at = end = at + length;
        bool user = (tok->types[id] & SLM_TOK_TYPE) == SLM_TOKEN_USER_DEFINED;
        if (begin < done || !fit_added(p, user ? added_flags(tok, (uint32_t) id) : 0, done, &begin, &end))
            continue;
        SLM_TRY(encode_between(tok, p, done, begin, err));
        SLM_TRY(slm_tok_emit(tok, id, p->base + end, err));
        done = end;
    }
    return encode_between(tok, p, done, p->n, err);
}

/* A very long word leaves much scratch behind: give it back. */
static void trim_scratch(slm_tokenizer *tok)
{
    const size_t keep = (size_t) 1 << 18; /* elements */
    if (tok->symbols_capacity > keep || tok->heap_capacity > keep) {
        free(tok->symbols);
        free(tok->heap);
        tok->symbols = NULL;
        tok->heap = NULL;
        tok->symbols_capacity = tok->heap_capacity = 0;
    }
    for (int i = 0; i < 2; i++)
        if (tok->sides[i].capacity > 16 * keep) {
            slm_steps_free(tok);
            break;
        }
    if (tok->nodes_capacity > keep) {
        free(tok->nodes);
        tok->nodes = NULL;
        tok->nodes_capacity = 0;
    }
    if (tok->buffer_capacity > 16 * keep) {
        free(tok->buffer);
        tok->buffer = NULL;
        tok->buffer_capacity = 0;
    }
}

slm_status slm_tok_encode_valid(slm_tokenizer *tok, const char *text, size_t n, bool special, bool begin, const volatile int *stop,
                                slm_ids *out, slm_error *err)
{
    size_t before = out->n;
    tok->out = out;
    tok->stop = stop;
    tok->ends_n = 0;
    tok->origins = NULL;
    slm_status status = encode_parts(tok, &(piece){.text = text, .n = n, .begin = begin, .special = special}, err);
    if (status != SLM_OK)
        out->n = before;
    tok->out = NULL;
    tok->stop = NULL;
    tok->origins = NULL;
    trim_scratch(tok);
    return status;
}

slm_status slm_tok_check_text(const char *text, size_t n, const volatile int *stop, slm_error *err)
{
    for (size_t at = 0; at < n;) {
        size_t step = n - at < CHECK_BYTES ? n - at : CHECK_BYTES, good = slm_utf8_valid_prefix(text + at, step);
        if (good == 0 || memchr(text + at, 0, good) != NULL)
            return slm_utf8_check(text, n, err); /* for its words */
        at += good;
        if (stop != NULL && *stop != 0)
            return slm_tok_cancelled(err);
    }
    return SLM_OK;
}

slm_status slm_tok_copy(char *to, const char *from, size_t n, const volatile int *stop, slm_error *err)
{
    for (size_t at = 0; at < n; at += CHECK_BYTES) {
        memcpy(to + at, from + at, n - at < CHECK_BYTES ? n - at : CHECK_BYTES);
        if (stop != NULL && *stop != 0)
            return slm_tok_cancelled(err);
    }
    return SLM_OK;
}

slm_status slm_tokenizer_encode(slm_tokenizer *tok, const char *text, size_t length, bool special, bool begin, const volatile int *stop,
                                slm_ids *out, slm_error *err)
{
    if (length > SLM_TOK_MAX_TEXT)
        return slm_fail(err, SLM_LIMIT, "text of %zu bytes is longer than %zu", length, SLM_TOK_MAX_TEXT);
    SLM_TRY(slm_tok_check_text(text, length, stop, err));
    return slm_tok_encode_valid(tok, text, length, special, begin, stop, out, err);
}
