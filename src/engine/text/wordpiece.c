/*
 * WordPiece as Hugging Face's BertTokenizer does it: clean, split, match greedily.
 *
 *   character ─► dropped (control, U+FFFD) | space | own word (CJK, punctuation) | NFD without nonspacing marks, lowercased ─► word
 *   word ─► longest token that begins it, then longest continuations; [UNK] when one is missing or it has over 100 characters
 *
 * The steps are those of BertNormalizer, BertPreTokenizer and WordPiece of the tokenizers library.  Text passes through one word buffer of
 * bounded size; `ends` keeps for each byte of the word where its character ended in the caller's text.
 */
#include <utf8proc.h>

#include "engine/text/internal.h"

#define MAX_CHARS 100 /* of a word; longer ones are unknown */
#define MAX_BYTES (4 * MAX_CHARS)

typedef struct word {
    char bytes[MAX_BYTES];
    size_t ends[MAX_BYTES]; /* offset behind the original character, per byte */
    size_t n, chars;
    size_t last_end;
} word;

typedef enum char_class { CHAR_DROP, CHAR_SPACE, CHAR_ALONE, CHAR_WORD } char_class;

static bool is_cjk(uint32_t c)
{
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
           (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B820 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

static bool is_punctuation(uint32_t c, utf8proc_category_t category)
{
    if (c < 0x80)
        return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
    return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

/* Before normalization. */
static char_class classify(uint32_t c)
{
    if (c < 0x80) {
        if (c == ' ' || c == '\t' || c == '\n' || c == '\r')
            return CHAR_SPACE;
        return c < 0x20 || c == 0x7F ? CHAR_DROP : CHAR_WORD;
    }
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t) c);
    if (c == 0xFFFD || category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF || category == UTF8PROC_CATEGORY_CO)
        return CHAR_DROP;
    if (category >= UTF8PROC_CATEGORY_ZS && category <= UTF8PROC_CATEGORY_ZP)
        return CHAR_SPACE;
    return is_cjk(c) ? CHAR_ALONE : CHAR_WORD;
}

static slm_status flush(slm_tokenizer *tok, word *w, slm_error *err)
{
    size_t at = 0, before = tok->out->n, ends_before = tok->ends_n, n = w->n, chars = w->chars;
    uint8_t continued = 0;
    w->n = 0;
    w->chars = 0;
    if (n == 0)
        return SLM_OK;
    while (at < n && chars <= MAX_CHARS) {
        size_t length = n - at < tok->h->max_token_bytes ? n - at : tok->h->max_token_bytes;
        int32_t id = -1;
        for (; length > 0; length--) {
            if (at + length < n && !slm_utf8_is_start(w->bytes[at + length]))
                continue;
            id = slm_tok_lookup(tok, w->bytes + at, length, SLM_TOK_TYPE | SLM_TOK_CONTINUED, SLM_TOKEN_NORMAL | continued);
            if (id >= 0)
                break;
        }
        if (id < 0)
            break;
        SLM_TRY(slm_tok_emit(tok, id, w->ends[at + length - 1], err));
        at += length;
        continued = SLM_TOK_CONTINUED;
    }
    if (at == n)
        return SLM_OK;
    tok->out->n = before;
    tok->ends_n = ends_before;
    return tok->h->unk >= 0 ? slm_tok_emit(tok, tok->h->unk, w->last_end, err) : SLM_OK;
}

/* One character of a word, after normalization; punctuation is a word of its own. */
static slm_status append(slm_tokenizer *tok, word *w, uint32_t c, size_t end, bool alone, slm_error *err)
{
    alone = alone || is_punctuation(c, c < 0x80 ? UTF8PROC_CATEGORY_CN : utf8proc_category((utf8proc_int32_t) c));
    if (alone)
        SLM_TRY(flush(tok, w, err));
    if (w->chars < MAX_CHARS) {
        int n = slm_utf8_encode(c, w->bytes + w->n);
        for (int i = 0; i < n; i++)
            w->ends[w->n++] = end;
    }
    w->chars++;
    w->last_end = end;
    return alone ? flush(tok, w, err) : SLM_OK;
}

static slm_status append_lower(slm_tokenizer *tok, word *w, uint32_t c, size_t end, bool alone, slm_error *err)
{
    if ((tok->h->flags & SLM_TOKF_LOWERCASE) == 0)
        return append(tok, w, c, end, alone, err);
    if (c == 0x130) { /* the one character whose full lowercase is longer: i and a combining dot */
        SLM_TRY(append(tok, w, 'i', end, alone, err));
        return append(tok, w, 0x307, end, alone, err);
    }
    return append(tok, w, (uint32_t) utf8proc_tolower((utf8proc_int32_t) c), end, alone, err);
}

static slm_status put_char(slm_tokenizer *tok, word *w, uint32_t c, size_t end, slm_error *err)
{
    char_class class = classify(c);
    if (class == CHAR_DROP)
        return SLM_OK;
    if (class == CHAR_SPACE)
        return flush(tok, w, err);
    bool alone = class == CHAR_ALONE && (tok->h->flags & SLM_TOKF_KEEP_CJK) == 0;
    if (c < 0x80 || (tok->h->flags & SLM_TOKF_STRIP_ACCENTS) == 0)
        return append_lower(tok, w, c, end, alone, err);
    utf8proc_int32_t parts[32];
    int boundary = 0;
    utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t) c, parts, 32, UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &boundary);
    if (n < 1 || n > 32)
        return append_lower(tok, w, c, end, alone, err);
    for (utf8proc_ssize_t i = 0; i < n; i++)
        if (utf8proc_category(parts[i]) != UTF8PROC_CATEGORY_MN)
            SLM_TRY(append_lower(tok, w, (uint32_t) parts[i], end, alone, err));
    return SLM_OK;
}

slm_status slm_wordpiece_encode(slm_tokenizer *tok, const char *text, size_t n, size_t base, slm_error *err)
{
    word w = {.n = 0};
    for (size_t at = 0; at < n;) {
        int length;
        uint32_t c = slm_utf8_decode(text + at, &length);
        at += (size_t) length;
        SLM_TRY(put_char(tok, &w, c, base + at, err));
        if (slm_tok_stopped(tok))
            return slm_tok_cancelled(err);
    }
    return flush(tok, &w, err);
}
