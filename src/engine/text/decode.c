/*
 * From token ids to text: the bytes of one token (for streaming) and the text of many.
 *
 * A token's bytes may be part of a character only; slm_tokenizer_decode puts U+FFFD where the bytes of all form none.
 */
#include <stdlib.h>

#include "engine/text/internal.h"

#define SPACE_MARK "\xE2\x96\x81" /* U+2581: SentencePiece's space */

/* The byte that a token "<0xNN>" stands for, -1 = the text is no such token. */
int slm_tok_byte_token(const char *text, size_t n)
{
    if (n != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
        return -1;
    int value = 0;
    for (int i = 3; i < 5; i++) {
        char c = text[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* Writes the text of a SentencePiece or WordPiece token to out, which holds n + 1 bytes. */
static size_t render(const slm_tokenizer *tok, int32_t id, const char *bytes, size_t n, char *out)
{
    size_t m = 0;
    if (tok->h->kind == SLM_TOK_WORDPIECE) {
        if ((tok->types[id] & SLM_TOK_CONTINUED) == 0 || (tok->types[id] & SLM_TOK_TYPE) == SLM_TOKEN_USER_DEFINED)
            out[m++] = ' ';
        memcpy(out + m, bytes, n);
        return m + n;
    }
    int value = (tok->types[id] & SLM_TOK_TYPE) == SLM_TOKEN_BYTE ? slm_tok_byte_token(bytes, n) : -1;
    if (value >= 0) {
        out[0] = (char) value;
        return 1;
    }
    for (size_t i = 0; i < n;) {
        if (n - i >= 3 && memcmp(bytes + i, SPACE_MARK, 3) == 0) {
            out[m++] = ' ';
            i += 3;
        } else {
            out[m++] = bytes[i++];
        }
    }
    return m;
}

slm_bytes slm_tokenizer_piece(slm_tokenizer *tok, int32_t id, bool special)
{
    if (id < 0 || (uint32_t) id >= tok->h->n_tokens)
        return (slm_bytes){"", 0};
    uint8_t type = tok->types[id] & SLM_TOK_TYPE;
    size_t n;
    const char *bytes = slm_tok_bytes(tok, (uint32_t) id, &n);
    if (type == SLM_TOKEN_CONTROL || (type == SLM_TOKEN_UNKNOWN && tok->h->kind != SLM_TOK_WORDPIECE))
        return (slm_bytes){bytes, special ? n : 0};
    if (tok->h->kind == SLM_TOK_BPE)
        return (slm_bytes){bytes, n};
    if (slm_tok_reserve((void **) &tok->buffer, &tok->buffer_capacity, n + 1, 1, NULL) != SLM_OK)
        return (slm_bytes){bytes, n};
    return (slm_bytes){tok->buffer, render(tok, id, bytes, n, tok->buffer)};
}

/* Copies raw[n] to a new string, U+FFFD for each maximal part of bytes that form no character. */
static slm_status to_utf8(slm_tokenizer *tok, const char *raw, size_t n, char **out, size_t *length, slm_error *err)
{
    char *text = n > (SIZE_MAX - 1) / 3 ? NULL : malloc(3 * n + 1), *fit;
    if (text == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for a text of %zu bytes", n);
    size_t m = 0;
    for (size_t i = 0; i < n;) {
        int kind = slm_utf8_scan(raw + i, n - i);
        size_t used = kind > 0 ? (size_t) kind : kind < 0 ? (size_t) -kind : n - i;
        memcpy(text + m, kind > 0 ? raw + i : "\xEF\xBF\xBD", kind > 0 ? used : 3);
        m += kind > 0 ? used : 3;
        i += used;
        if (slm_tok_stopped(tok)) {
            free(text);
            return slm_tok_cancelled(err);
        }
    }
    text[m] = '\0';
    fit = realloc(text, m + 1);
    *out = fit != NULL ? fit : text;
    *length = m;
    return SLM_OK;
}

slm_status slm_tokenizer_decode(slm_tokenizer *tok, const int32_t *ids, size_t n, bool special, const volatile int *stop, char **out,
                                size_t *length, slm_error *err)
{
    char *raw = NULL;
    size_t raw_n = 0, raw_capacity = 0;
    slm_status status = SLM_OK;
    tok->stop = stop;
    for (size_t i = 0; i < n && status == SLM_OK; i++) {
        if (ids[i] < 0 || (uint32_t) ids[i] >= tok->h->n_tokens) {
            status = slm_fail(err, SLM_INVALID, "token id %d is out of range", ids[i]);
            slm_hint(err, "The ids of this model are 0 to %u.", tok->h->n_tokens - 1);
            break;
        }
        slm_bytes piece = slm_tokenizer_piece(tok, ids[i], special);
        status = slm_tok_reserve((void **) &raw, &raw_capacity, raw_n + piece.length + 1, 1, err);
        if (status == SLM_OK) {
            memcpy(raw + raw_n, piece.data, piece.length);
            raw_n += piece.length;
        }
        if (slm_tok_stopped(tok))
            status = slm_tok_cancelled(err);
    }
    bool prefixed = tok->h->kind == SLM_TOK_WORDPIECE || (tok->h->flags & SLM_TOKF_SPACE_PREFIX) != 0;
    size_t skip = prefixed && raw_n > 0 && raw[0] == ' ' ? 1 : 0;
    if (status == SLM_OK)
        status = to_utf8(tok, raw_n > 0 ? raw + skip : "", raw_n - skip, out, length, err);
    free(raw);
    tok->stop = NULL;
    return status;
}
