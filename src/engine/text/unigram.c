/*
 * Unigram (XLM-R, T5, ALBERT, DeBERTa-v3): the pieces of a word whose scores sum to the most.
 *
 *   text ─► words: at white space, or at each U+2581 that stands for a space; a mark in front ─► best path over the word's characters
 *
 * Viterbi from left to right: of two paths to a place the first of equal ones stays, and a character that is no piece costs the lowest
 * score of all less ten; neighbours without a piece become one unknown token.  As in the tokenizers library (Metaspace, Unigram); scheme:
 * T. Kudo, Subword Regularization, arXiv 1804.10959.
 */
#include "engine/text/steps.h"

#define MARK "\xE2\x96\x81"
#define UNKNOWN_PENALTY 10.0

/* The best way to a place of the word. */
typedef struct node {
    double score;
    uint32_t begin; /* of its last piece */
    int32_t id;     /* -1: an unknown character; -2: nobody has come here */
} node;

typedef struct word {
    const char *text;    /* in the buffer, mark included */
    size_t n, base, mark; /* mark: bytes of a mark in front that is not in the text */
} word;

static void step(node *to, double score, uint32_t begin, int32_t id)
{
    if (to->id == -2 || score > to->score)
        *to = (node){score, begin, id};
}

/* All pieces that begin at `at`. */
static void extend(const slm_tokenizer *tok, const char *text, size_t n, size_t at, node *nodes)
{
    double here = nodes[at].score;
    size_t first = (size_t) slm_utf8_char_length(text + at, n - at), longest = tok->h->max_token_bytes;
    bool single = false;
    if (nodes[at].id == -2)
        return;
    for (size_t length = first; length <= longest && at + length <= n;) {
        int32_t id = slm_tok_lookup(tok, text + at, length, SLM_TOK_TYPE, SLM_TOKEN_NORMAL);
        if (id >= 0) {
            step(&nodes[at + length], here + (double) tok->scores[id], (uint32_t) at, id);
            single = single || length == first;
        }
        if (at + length == n)
            break;
        length += (size_t) slm_utf8_char_length(text + at + length, n - at - length);
    }
    if (!single)
        step(&nodes[at + first], here + (double) tok->h->lowest_score - UNKNOWN_PENALTY, (uint32_t) at, -1);
}

/* Bytes of an unknown piece, or one unknown token. */
static slm_status emit_unknown(slm_tokenizer *tok, const char *text, size_t n, size_t end, slm_error *err)
{
    bool bytes = (tok->h->flags & SLM_TOKF_BYTE_FALLBACK) != 0;
    for (size_t i = 0; bytes && i < n; i++)
        bytes = tok->h->byte_id[(unsigned char) text[i]] >= 0;
    for (size_t i = 0; bytes && i < n; i++)
        SLM_TRY(slm_tok_emit(tok, tok->h->byte_id[(unsigned char) text[i]], end, err));
    return bytes || tok->h->unk < 0 ? SLM_OK : slm_tok_emit(tok, tok->h->unk, end, err);
}

/* Where byte `end` of a word is in the text that the words came from. */
static size_t place(const word *w, size_t end)
{
    return w->base + (end > w->mark ? end - w->mark : 0);
}

static slm_status encode_word(slm_tokenizer *tok, const word *w, slm_error *err)
{
    size_t n = w->n;
    SLM_TRY(slm_tok_check_word(n, w->base, err));
    SLM_TRY(slm_tok_reserve((void **) &tok->nodes, &tok->nodes_capacity, 2 * (n + 1), sizeof(node), err));
    node *nodes = tok->nodes, *path = nodes + n + 1;
    size_t count = 0;
    for (size_t i = 0; i <= n; i++)
        nodes[i].id = -2;
    nodes[0] = (node){.id = 0};
    for (size_t at = 0; at < n; at += (size_t) slm_utf8_char_length(w->text + at, n - at)) {
        extend(tok, w->text, n, at, nodes);
        if (slm_tok_stopped(tok))
            return slm_tok_cancelled(err);
    }
    for (size_t end = n; end > 0; end = nodes[end].begin) /* from the end; `begin` of a path's entry holds its end */
        path[count++] = (node){.begin = (uint32_t) end, .id = nodes[end].id};
    for (size_t begin = 0; count > 0;) {
        node *p = &path[--count];
        while (p->id == -1 && count > 0 && path[count - 1].id == -1)
            p = &path[--count];
        SLM_TRY(p->id >= 0 ? slm_tok_emit(tok, p->id, place(w, p->begin), err)
                           : emit_unknown(tok, w->text + begin, p->begin - begin, place(w, p->begin), err));
        begin = p->begin;
    }
    return SLM_OK;
}

static bool at_mark(const char *text, size_t n)
{
    return n >= 3 && memcmp(text, MARK, 3) == 0;
}

/* text[n] without white space that separates, cut before each mark. */
static slm_status encode_marked(slm_tokenizer *tok, const char *text, size_t n, size_t base, bool prefix, slm_error *err)
{
    prefix = prefix && !at_mark(text, n) && text[0] != ' ';
    for (size_t at = 0, end; at < n; at = end) {
        size_t used = 0, begin = at;
        bool space = text[at] == ' ';
        end = at + (space ? 1 : at_mark(text + at, n - at) ? 3 : 0);
        while (end < n && text[end] != ' ' && !at_mark(text + end, n - end))
            end++;
        SLM_TRY(slm_tok_check_word(end - at, base + at, err));
        SLM_TRY(slm_tok_reserve((void **) &tok->buffer, &tok->buffer_capacity, end - at + 4, 1, err));
        word w = {.base = base + at};
        if (space || (prefix && at == 0)) {
            memcpy(tok->buffer, MARK, 3);
            used = 3;
            begin += space;
            w.mark = space ? 2 : 3; /* a space is one byte of the text */
        }
        memcpy(tok->buffer + used, text + begin, end - begin);
        w.text = tok->buffer;
        w.n = used + (end - begin);
        SLM_TRY(encode_word(tok, &w, err));
    }
    return SLM_OK;
}

slm_status slm_unigram_encode(slm_tokenizer *tok, const char *text, size_t n, size_t base, bool begin, slm_error *err)
{
    bool prefix = begin && (tok->h->flags & SLM_TOKF_SPACE_PREFIX) != 0;
    if ((tok->h->flags & SLM_TOKF_SPLIT_WHITE) == 0)
        return n > 0 ? encode_marked(tok, text, n, base, prefix, err) : SLM_OK;
    for (size_t at = 0, end; at < n; at = end) {
        int length;
        bool space = slm_text_is_space(slm_utf8_decode(text + at, &length));
        for (end = at; end < n && slm_text_is_space(slm_utf8_decode(text + end, &length)) == space;)
            end += (size_t) length;
        if (!space)
            SLM_TRY(encode_marked(tok, text + at, end - at, base + at, (tok->h->flags & SLM_TOKF_SPACE_PREFIX) != 0, err));
        if (slm_tok_stopped(tok))
            return slm_tok_cancelled(err);
    }
    return SLM_OK;
}
