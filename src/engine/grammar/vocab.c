/*
 * Building the tries of a vocabulary; see vocab.h.
 */
#include "engine/grammar/vocab.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/utf8.h"

typedef struct entry {
    const unsigned char *data;
    uint32_t length, id;
} entry;

static int by_text(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    uint32_t n = x->length < y->length ? x->length : y->length;
    int c = memcmp(x->data, y->data, n);
    if (c != 0)
        return c;
    if (x->length != y->length)
        return x->length < y->length ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

/* Characters of a plain text; 0 for one that is not plain. */
static uint32_t plain_length(const unsigned char *data, uint32_t n)
{
    uint32_t chars = 0;
    for (uint32_t i = 0; i < n;) {
        int length = slm_utf8_char_length((const char *) data + i, n - i);
        if (length <= 0 || data[i] < 32 || data[i] == '"' || data[i] == '\\' ||
            (length == 3 && data[i] == 0xE2 && data[i + 1] == 0x80 && (data[i + 2] & 0xFE) == 0xA8))
            return 0;
        i += (uint32_t) length;
        chars++;
    }
    return chars;
}

/* Writes the trie of sorted entries; returns the number of nodes. same is set when not NULL. */
static uint32_t write_trie(const entry *e, uint32_t n, slm_vocab_node *nodes, int32_t *same)
{
    uint32_t path[SLM_VOCAB_MAX_DEPTH], depth = 0, n_nodes = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t common = 0;
        while (i > 0 && common < e[i].length && common < e[i - 1].length && e[i].data[common] == e[i - 1].data[common])
            common++;
        while (depth > common)
            nodes[path[--depth]].skip = n_nodes;
        for (; depth < e[i].length; depth++) {
            path[depth] = n_nodes;
            nodes[n_nodes++] = (slm_vocab_node) {0, -1, e[i].data[depth], (uint8_t) depth, false};
        }
        if (same != NULL)
            same[e[i].id] = nodes[path[depth - 1]].token;
        nodes[path[depth - 1]].shared = nodes[path[depth - 1]].token >= 0;
        nodes[path[depth - 1]].token = (int32_t) e[i].id;
    }
    while (depth > 0)
        nodes[path[--depth]].skip = n_nodes;
    return n_nodes;
}

/* What stays of memory that was taken for the worst case. */
static slm_vocab_node *shrink(slm_vocab_node *nodes, uint32_t n)
{
    slm_vocab_node *less = realloc(nodes, (n > 0 ? n : 1) * sizeof *nodes);
    return less != NULL ? less : nodes;
}

static void mark_plain(slm_token_vocab *v, const entry *e, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t chars = plain_length(e[i].data, e[i].length);
        for (uint32_t k = chars > SLM_PLAIN_LENGTHS ? SLM_PLAIN_LENGTHS : chars - 1; chars > 0 && k <= SLM_PLAIN_LENGTHS; k++)
            v->plain[(size_t) k * v->n_words + e[i].id / 64] |= UINT64_C(1) << e[i].id % 64;
        if (chars > SLM_PLAIN_LENGTHS) {
            v->longer[v->n_longer][0] = e[i].id;
            v->longer[v->n_longer++][1] = chars;
        }
    }
}

static slm_status fill(slm_token_vocab *v, entry *e, uint32_t n, size_t bytes, slm_error *err)
{
    uint32_t n_other = 0;
    size_t other_bytes = 0;
    v->all = malloc((bytes + 1) * sizeof *v->all);
    v->same = malloc(((size_t) v->n_tokens + 1) * sizeof *v->same);
    v->plain = calloc((size_t) (SLM_PLAIN_LENGTHS + 1) * v->n_words + 1, sizeof *v->plain);
    v->longer = calloc(bytes / SLM_PLAIN_LENGTHS + 1, sizeof *v->longer);
    if (v->all == NULL || v->same == NULL || v->plain == NULL || v->longer == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for the trie of %u tokens", v->n_tokens);
    for (uint32_t i = 0; i < v->n_tokens; i++)
        v->same[i] = -1;
    if (n > 1)
        qsort(e, n, sizeof *e, by_text);
    v->n_all = write_trie(e, n, v->all, v->same);
    v->all = shrink(v->all, v->n_all);
    mark_plain(v, e, n);
    for (uint32_t i = 0; i < n; i++)
        if (plain_length(e[i].data, e[i].length) == 0) {
            other_bytes += e[i].length;
            e[n_other++] = e[i];
        }
    v->other = malloc((other_bytes + 1) * sizeof *v->other);
    if (v->other == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for the trie of %u tokens", v->n_tokens);
    v->n_other = write_trie(e, n_other, v->other, NULL);
    v->other = shrink(v->other, v->n_other);
    return SLM_OK;
}

slm_status slm_token_vocab_build(const slm_token_text *texts, uint32_t n, slm_token_vocab **out, slm_error *err)
{
    slm_token_vocab *v = calloc(1, sizeof *v);
    entry *e = malloc(((size_t) n + 1) * sizeof *e);
    uint32_t n_entries = 0;
    size_t bytes = 0;
    slm_status status;
    if (v == NULL || e == NULL) {
        free(v);
        free(e);
        return slm_fail(err, SLM_NOMEM, "out of memory for the trie of %u tokens", n);
    }
    v->n_tokens = n;
    v->n_words = (n + 63) / 64;
    for (uint32_t i = 0; i < n; i++)
        if (texts[i].length > 0 && texts[i].length <= SLM_VOCAB_MAX_DEPTH) {
            e[n_entries++] = (entry) {(const unsigned char *) texts[i].data, texts[i].length, i};
            bytes += texts[i].length;
            v->longest = texts[i].length > v->longest ? texts[i].length : v->longest;
        }
    status = fill(v, e, n_entries, bytes, err);
    free(e);
    if (status == SLM_OK)
        *out = v;
    else
        slm_token_vocab_free(v);
    return status;
}

void slm_token_vocab_free(slm_token_vocab *v)
{
    if (v == NULL)
        return;
    free(v->all);
    free(v->other);
    free(v->same);
    free(v->plain);
    free(v->longer);
    free(v);
}
