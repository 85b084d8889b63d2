/*
 * Grammars as constraints; see grammar.h.
 *
 *   state     bytes of the answer so far, and the grammar's number for where they lead
 *   allowed   the grammar's mask, and the tokens that end an answer where it may end
 *   forced    bytes without a choice, written as the tokenizer writes them
 *
 * The grammar keeps what it computes until that takes too much memory; then all of it is dropped, and a state's number is found again from
 * its bytes (epoch).  So a state never becomes invalid, and what it allows is a function of its bytes alone.
 */
#include "engine/decode/grammar.h"

#include <stdlib.h>
#include <string.h>

/* What a grammar may keep between two calls. */
#define KEEP_BYTES ((size_t) 48 << 20)
/* Bytes of a forced run that are looked at in one go. */
#define RUN_BYTES 256
#define MAX_ENDS (SLM_VOCAB_MAX_ENDS + 4)

typedef struct grammar {
    slm_constraint base;
    slm_grammar *g;
    slm_tokenizer *tok;
    uint32_t epoch; /* how often what was computed has been dropped */
    bool failed;    /* memory was out: to be dropped before the next use */
    uint32_t n_ends;
    int32_t ends[MAX_ENDS]; /* ascending */
    int32_t ids[SLM_ALLOWED_IDS + MAX_ENDS];
    uint64_t *mask;       /* [n_words] */
    uint64_t *first_mask; /* [n_words] at the beginning where a space is skipped; NULL: not asked for yet */
    slm_ids run;          /* scratch of forced() */
} grammar;

typedef struct place {
    uint32_t state, epoch;
    bool skips, ended; /* at the beginning, where a space does not count; the end has been said */
    char *bytes;       /* [n] of the answer */
    uint32_t n, room;
} place;

/* ---- the vocabulary */

static void free_vocab(void *vocab)
{
    slm_token_vocab_free(vocab);
}

/* May the token be written? No control token is, nor one that stands for what the vocabulary does not have. */
static bool is_text(const slm_tokenizer *tok, int32_t id)
{
    slm_token_type type = slm_tokenizer_type(tok, id);

    return type != SLM_TOKEN_CONTROL && type != SLM_TOKEN_UNKNOWN && type != SLM_TOKEN_UNUSED && !slm_tokenizer_is_end(tok, id);
}

static slm_status build_vocab(slm_tokenizer *tok, uint32_t n_vocab, slm_token_vocab **out, slm_error *err)
{
    size_t n = slm_tokenizer_size(tok), bytes = 0, at = 0;
    slm_token_text *texts = calloc(n_vocab, sizeof *texts);
    char *arena = NULL;
    slm_status status = SLM_NOMEM;

    n = n < n_vocab ? n : n_vocab;
    for (size_t i = 0; i < n && texts != NULL; i++)
        bytes += is_text(tok, (int32_t) i) ? slm_tokenizer_piece(tok, (int32_t) i, false).length : 0;
    arena = malloc(bytes + 1);
    for (size_t i = 0; i < n && texts != NULL && arena != NULL; i++) {
        slm_bytes piece = is_text(tok, (int32_t) i) ? slm_tokenizer_piece(tok, (int32_t) i, false) : (slm_bytes){0};

        if (piece.length == 0 || at + piece.length > bytes)
            continue;
        memcpy(arena + at, piece.data, piece.length);
        texts[i] = (slm_token_text){arena + at, (uint32_t) piece.length};
        at += piece.length;
    }
    if (texts == NULL || arena == NULL)
        slm_fail(err, SLM_NOMEM, "out of memory for a vocabulary");
    else
        status = slm_token_vocab_build(texts, n_vocab, out, err);
    free(arena);
    free(texts);
    return status;
}

static slm_status vocab_of(slm_tokenizer *tok, uint32_t n_vocab, const slm_token_vocab **out, slm_error *err)
{
    slm_token_vocab *vocab = slm_tokenizer_kept(tok);

    if (vocab == NULL) {
        SLM_TRY(build_vocab(tok, n_vocab, &vocab, err));
        slm_tokenizer_keep(tok, vocab, free_vocab);
    }
    *out = vocab;
    return SLM_OK;
}

/* ---- states */

/* Drops what the grammar has computed where it is too much. */
static void tidy(grammar *c)
{
    if (!c->failed && slm_grammar_trim(c->g, SIZE_MAX) <= KEEP_BYTES)
        return;
    slm_grammar_trim(c->g, KEEP_BYTES);
    c->failed = false;
    c->epoch++;
}

static slm_status noted(grammar *c, slm_status status)
{
    c->failed = c->failed || (status != SLM_OK && status != SLM_INVALID);
    return status;
}

/* The grammar's number for a place: found again when what it had computed has been dropped. */
static slm_status find(grammar *c, place *p, slm_error *err)
{
    uint32_t state;

    tidy(c);
    if (p->epoch == c->epoch)
        return SLM_OK;
    SLM_TRY(noted(c, slm_grammar_start(c->g, &state, err)));
    if (p->n > 0)
        SLM_TRY(noted(c, slm_grammar_advance(c->g, state, p->bytes, p->n, &state, err)));
    p->state = state;
    p->epoch = c->epoch;
    return SLM_OK;
}

static slm_status start(slm_constraint *base, void *state, bool skip_space, slm_error *err)
{
    grammar *c = (grammar *) base;
    place *p = state;

    *p = (place){.epoch = c->epoch - 1, .skips = skip_space};
    return find(c, p, err);
}

static bool copy(slm_constraint *base, void *to, const void *from)
{
    const place *old = from;
    place *new = to;

    (void) base;
    *new = *old;
    new->room = old->n;
    new->bytes = old->n > 0 ? malloc(old->n) : NULL;
    if (old->n > 0 && new->bytes == NULL)
        return false;
    if (old->n > 0)
        memcpy(new->bytes, old->bytes, old->n);
    return true;
}

static void clear(slm_constraint *base, void *state)
{
    (void) base;
    free(((place *) state)->bytes);
}

static bool done(const slm_constraint *base, const void *state)
{
    grammar *c = (grammar *) (uintptr_t) base;
    place *p = (place *) (uintptr_t) state;

    return p->ended || (find(c, p, NULL) == SLM_OK && slm_grammar_is_done(c->g, p->state));
}

/* What a token adds to the answer. */
static slm_bytes text_of(const grammar *c, int32_t id)
{
    slm_bytes piece = {0};

    if (id >= 0 && (size_t) id < slm_tokenizer_size(c->tok) && is_text(c->tok, id))
        piece = slm_tokenizer_piece(c->tok, id, false);
    return piece;
}

static slm_status not_allowed(int32_t id, slm_error *err)
{
    return slm_fail(err, SLM_INVALID, "token %d is not allowed here", id);
}

/* Bytes join the answer; where they do not fit, the place is as before. */
static slm_status add_bytes(grammar *c, place *p, const char *bytes, size_t n, slm_error *err)
{
    uint32_t next;

    if (n == 0)
        return SLM_OK;
    if (p->n + n > p->room) {
        uint32_t room = 2 * (p->n + (uint32_t) n) + 64;
        char *grown = realloc(p->bytes, room);

        if (grown == NULL)
            return slm_fail(err, SLM_NOMEM, "out of memory for a constraint");
        p->bytes = grown;
        p->room = room;
    }
    SLM_TRY(noted(c, slm_grammar_advance(c->g, p->state, bytes, n, &next, err)));
    memcpy(p->bytes + p->n, bytes, n);
    p->n += (uint32_t) n;
    p->state = next;
    return SLM_OK;
}

static slm_status advance(slm_constraint *base, void *state, int32_t id, slm_error *err)
{
    grammar *c = (grammar *) base;
    place *p = state;
    slm_bytes piece;

    if (p->ended)
        return not_allowed(id, err);
    SLM_TRY(find(c, p, err));
    if (slm_tokenizer_is_end(c->tok, id)) {
        p->ended = slm_grammar_accepts(c->g, p->state);
        return p->ended ? SLM_OK : not_allowed(id, err);
    }
    piece = text_of(c, id);
    if (piece.length == 0)
        return not_allowed(id, err);
    if (p->skips && piece.data[0] == ' ')
        piece = (slm_bytes){piece.data + 1, piece.length - 1};
    SLM_TRY(add_bytes(c, p, piece.data, piece.length, err));
    p->skips = false;
    return SLM_OK;
}

/* One by one, so that the place is known where they do not fit. */
static slm_status begin_with(slm_constraint *base, void *state, const char *bytes, size_t n, size_t *fit, slm_error *err)
{
    grammar *c = (grammar *) base;
    place *p = state;

    for (*fit = 0; *fit < n; ++*fit) {
        SLM_TRY(find(c, p, err));
        SLM_TRY(add_bytes(c, p, bytes + *fit, 1, err));
    }
    p->skips = p->skips && n == 0;
    return SLM_OK;
}

/* ---- masks */

static uint32_t n_words(const grammar *c)
{
    return (c->base.n_vocab + 63) / 64;
}

/* The first tokens where a space before the text does not count: those that fit without it, and the space alone. */
static slm_status allow_first(grammar *c, const place *p, const int32_t *ids, uint32_t n, const uint64_t *bits, slm_error *err)
{
    uint64_t *mask = calloc(n_words(c), sizeof *mask);

    if (mask == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for a constraint");
    for (uint32_t i = 0; i < n; i++)
        mask[ids[i] / 64] |= UINT64_C(1) << ids[i] % 64;
    if (ids == NULL)
        memcpy(mask, bits, n_words(c) * sizeof *mask);
    for (size_t id = 0; id < slm_tokenizer_size(c->tok) && id < c->base.n_vocab; id++) {
        slm_bytes whole = is_text(c->tok, (int32_t) id) ? slm_tokenizer_piece(c->tok, (int32_t) id, false) : (slm_bytes){0};
        uint64_t bit = UINT64_C(1) << id % 64;
        uint32_t next;
        slm_status status;

        if (whole.length == 0 || whole.data[0] != ' ')
            continue;
        mask[id / 64] &= ~bit;
        status = whole.length == 1 ? SLM_OK : slm_grammar_advance(c->g, p->state, whole.data + 1, whole.length - 1, &next, err);
        if (status == SLM_OK)
            mask[id / 64] |= bit;
        else if (status != SLM_INVALID) {
            free(mask);
            return noted(c, status);
        }
    }
    c->first_mask = mask;
    return SLM_OK;
}

/* Adds the ends to ids, in order. */
static void with_ends(grammar *c, const int32_t *ids, uint32_t n, slm_allowed *out)
{
    uint32_t at = 0, i = 0, e = 0;

    while (i < n || e < c->n_ends)
        c->ids[at++] = e == c->n_ends || (i < n && ids[i] < c->ends[e]) ? ids[i++] : c->ends[e++];
    *out = (slm_allowed){.ids = c->ids, .n_ids = at};
}

static slm_status allowed(slm_constraint *base, const void *state, slm_allowed *out, slm_error *err)
{
    grammar *c = (grammar *) base;
    place *p = (place *) (uintptr_t) state; /* its number may have to be found again: what it says stays the same */
    const int32_t *ids = NULL;
    const uint64_t *bits = NULL;
    uint32_t n = 0;
    bool may_end;

    SLM_TRY(find(c, p, err));
    may_end = slm_grammar_accepts(c->g, p->state);
    SLM_TRY(noted(c, slm_grammar_mask(c->g, p->state, &ids, &n, &bits, err)));
    if (p->skips) {
        if (c->first_mask == NULL)
            SLM_TRY(allow_first(c, p, ids, n, bits, err));
        ids = NULL;
        bits = c->first_mask;
    }
    if (ids != NULL && n + (may_end ? c->n_ends : 0) == 0)
        return slm_fail(err, SLM_UNSUPPORTED, "the model's vocabulary has no token for what must come next");
    if (ids != NULL && may_end)
        with_ends(c, ids, n, out);
    else if (ids != NULL)
        *out = (slm_allowed){.ids = ids, .n_ids = n};
    else
        *out = (slm_allowed){.mask = bits};
    if (ids == NULL && may_end) {
        memcpy(c->mask, bits, n_words(c) * sizeof *c->mask);
        for (uint32_t i = 0; i < c->n_ends; i++)
            c->mask[c->ends[i] / 64] |= UINT64_C(1) << c->ends[i] % 64;
        out->mask = c->mask;
    }
    return SLM_OK;
}

/* ---- forced runs */

/* Could a token that is longer than n bytes stand where one of n bytes is about to be forced? */
static bool longer_fits(grammar *c, uint32_t state, size_t n)
{
    const int32_t *ids = NULL;
    const uint64_t *bits = NULL;
    uint32_t n_ids = 0;

    if (noted(c, slm_grammar_mask(c->g, state, &ids, &n_ids, &bits, NULL)) != SLM_OK)
        return true;
    for (uint32_t i = 0; i < n_ids; i++)
        if (slm_tokenizer_piece(c->tok, ids[i], false).length > n)
            return true;
    for (uint32_t w = 0; ids == NULL && w < n_words(c); w++)
        for (uint64_t left = bits[w]; left != 0; left &= left - 1)
            if (slm_tokenizer_piece(c->tok, (int32_t) (64 * w) + __builtin_ctzll(left), false).length > n)
                return true;
    return false;
}

/* How many tokens of the run are sure: the last one is not where the text behind it could have made it longer. */
static size_t sure_tokens(grammar *c, const place *p, const char *bytes, uint32_t n_bytes)
{
    size_t n = c->run.n, head = n_bytes, last;
    uint32_t end, before = p->state;

    if (n == 0 || noted(c, slm_grammar_advance(c->g, p->state, bytes, n_bytes, &end, NULL)) != SLM_OK)
        return 0;
    if (slm_grammar_is_done(c->g, end))
        return n;
    last = slm_tokenizer_piece(c->tok, c->run.ids[n - 1], false).length;
    if (last > n_bytes || (n == 1 && p->skips))
        return 0;
    head -= last;
    if (head > 0 && noted(c, slm_grammar_advance(c->g, p->state, bytes, head, &before, NULL)) != SLM_OK)
        return 0;
    return longer_fits(c, before, last) ? n - 1 : n;
}

static uint32_t forced(slm_constraint *base, const void *state, int32_t *ids, uint32_t max)
{
    grammar *c = (grammar *) base;
    place *p = (place *) (uintptr_t) state;
    char bytes[RUN_BYTES];
    uint32_t n_bytes, n;

    if (p->ended || find(c, p, NULL) != SLM_OK)
        return 0;
    n_bytes = slm_grammar_forced(c->g, p->state, bytes, sizeof bytes);
    while (n_bytes > 0 && n_bytes == sizeof bytes && ((unsigned char) bytes[n_bytes - 1] & 0xc0) == 0x80)
        n_bytes--; /* not in the middle of a character */
    if (n_bytes == 0)
        return 0;
    c->run.n = 0;
    if (slm_tokenizer_encode(c->tok, bytes, n_bytes, false, p->skips, NULL, &c->run, NULL) != SLM_OK)
        return 0;
    n = (uint32_t) sure_tokens(c, p, bytes, n_bytes);
    n = n < max ? n : max;
    memcpy(ids, c->run.ids, n * sizeof *ids);
    return n;
}

/* ---- making one */

static void destroy(slm_constraint *base)
{
    grammar *c = (grammar *) base;

    slm_grammar_free(c->g);
    free(c->mask);
    free(c->first_mask);
    free(c->run.ids);
    free(c);
}

static const slm_constraint_ops ops = {.name = "grammar",
                                       .start = start,
                                       .allowed = allowed,
                                       .forced = forced,
                                       .advance = advance,
                                       .begin_with = begin_with,
                                       .done = done,
                                       .copy = copy,
                                       .clear = clear,
                                       .destroy = destroy};

slm_status slm_grammar_constraint(slm_tokenizer *tok, uint32_t n_vocab, slm_grammar_kind kind, const char *text, size_t n,
                                  slm_constraint **out, slm_error *err)
{
    const slm_token_vocab *vocab;
    grammar *c;
    slm_status status;

    SLM_TRY(vocab_of(tok, n_vocab, &vocab, err));
    c = calloc(1, sizeof *c);
    if (c == NULL || (c->mask = malloc((n_vocab + 63) / 64 * sizeof *c->mask)) == NULL) {
        free(c);
        return slm_fail(err, SLM_NOMEM, "out of memory for a constraint");
    }
    c->base = (slm_constraint){
        .ops = &ops, .state_bytes = sizeof(place), .n_vocab = n_vocab, .vocabulary = tok, .references = 1};
    c->tok = tok;
    c->epoch = 1;
    for (uint32_t id = 0; id < n_vocab && id < slm_tokenizer_size(tok) && c->n_ends < MAX_ENDS; id++)
        if (slm_tokenizer_is_end(tok, (int32_t) id))
            c->ends[c->n_ends++] = (int32_t) id;
    status = slm_grammar_compile(vocab, kind, text, n, &c->g, err);
    if (status != SLM_OK)
        destroy(&c->base);
    else
        *out = &c->base;
    return status;
}
