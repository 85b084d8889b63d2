/*
 * Prompts: segments in their turns, as token ids.
 *
 * Each literal of the format and each segment is encoded on its own, so that a segment's ids do not depend on what follows it: the KV of a
 * prefix can be kept.  `fresh` says whether the next text follows a control token or begins the prompt, where SentencePiece puts its space.
 *
 * Public text may end inside a segment.  The tokens before that place can depend on what follows it, so only those are public that the
 * public text alone has too, without its last ones: whether and how many they are tells nothing of what follows.
 */
#include "engine/text/chat.h"

#include <stdlib.h>

#include "engine/text/chat_formats.h"

/* Tokens at the end of public text that what follows may change. */
#define PUBLIC_EDGE 2

typedef struct builder {
    slm_tokenizer *tok;
    const slm_chat_format *format;
    const slm_segment *segments;
    size_t n_segments, public_bytes;
    const volatile int *stop;
    slm_prompt *out;
    char *buffer;
    size_t buffer_capacity;
    bool fresh;
    bool only_prefix; /* all segments so far were prefixes */
    bool only_public; /* and public */
    slm_error *err;
} builder;

static slm_status push_control(builder *b, int32_t id)
{
    if (id < 0)
        return SLM_OK;
    b->fresh = true;
    return slm_ids_push(&b->out->ids, id, b->err);
}

/* The tokenizer puts its space before the very first text only, and this is one of a conversation's later ones. */
static bool behind_controls(const builder *b)
{
    return (b->tok->h->flags & SLM_TOKF_PREFIX_FIRST) != 0 && b->out->ids.n > 0 && b->format == b->tok->chat;
}

static slm_status put_literal(builder *b, const char *text)
{
    if (text == NULL || text[0] == '\0')
        return SLM_OK;
    slm_ids *ids = &b->out->ids;
    size_t before = ids->n;
    SLM_TRY(slm_tokenizer_encode(b->tok, text, strlen(text), true, b->fresh && !behind_controls(b), b->stop, ids, b->err));
    if (ids->n > before)
        b->fresh = slm_tokenizer_type(b->tok, ids->ids[ids->n - 1]) == SLM_TOKEN_CONTROL;
    return SLM_OK;
}

static bool is_white(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* before + text + after, encoded as one text without control tokens (unless the segment allows them). */
static slm_status put_text(builder *b, const char *before, const char *text, size_t n, const char *after, bool special)
{
    size_t head = before != NULL ? strlen(before) : 0, tail = after != NULL ? strlen(after) : 0;
    if (n == 0 && head + tail == 0)
        return SLM_OK;
    if (head + tail > 0) {
        SLM_TRY(slm_tok_check_text(text, n, b->stop, b->err)); /* offsets in messages are those of the caller's text */
        SLM_TRY(slm_tok_reserve((void **) &b->buffer, &b->buffer_capacity, head + n + tail, 1, b->err));
        if (head > 0)
            memcpy(b->buffer, before, head);
        SLM_TRY(slm_tok_copy(b->buffer + head, text, n, b->stop, b->err));
        if (tail > 0)
            memcpy(b->buffer + head + n, after, tail);
        text = b->buffer;
    }
    bool begin = b->fresh && !behind_controls(b) && (head == 0 || before[0] != ' ');
    SLM_TRY(slm_tokenizer_encode(b->tok, text, head + n + tail, special, begin, b->stop, &b->out->ids, b->err));
    b->fresh = false;
    return SLM_OK;
}

/* How many of a segment's bytes are public, from its first on. */
static size_t public_of(const builder *b, size_t segment)
{
    const slm_segment *s = &b->segments[segment];
    size_t n = b->public_bytes;
    for (size_t i = 0; i < segment && n > 0; i++)
        n -= n < b->segments[i].length ? n : b->segments[i].length;
    if (n >= s->length)
        return s->length;
    while (n > 0 && ((unsigned char) s->text[n] & 0xc0) == 0x80)
        n--;
    return n;
}

/* Behind a text of which the first n bytes are public: ids from `begin` on are its. */
static slm_status mark_public_part(builder *b, const char *before, const char *text, size_t n, bool special, size_t begin, bool fresh)
{
    slm_ids *ids = &b->out->ids;
    size_t end = ids->n, same = 0;
    b->fresh = fresh;
    SLM_TRY(put_text(b, before, text, n, NULL, special));
    size_t alone = ids->n - end;
    while (same < alone && begin + same < end && ids->ids[begin + same] == ids->ids[end + same])
        same++;
    ids->n = end;
    if (alone > PUBLIC_EDGE && same >= alone - PUBLIC_EDGE)
        b->out->n_public = begin + alone - PUBLIC_EDGE;
    return SLM_OK;
}

/* Behind segment i, whose text [n] begins `skipped` bytes into it. */
static slm_status mark_public(builder *b, size_t i, const char *before, const char *text, size_t n, size_t begin, bool fresh)
{
    const slm_segment *s = &b->segments[i];
    size_t skipped = (size_t) (text - s->text), public = b->only_public && b->only_prefix ? public_of(b, i) : 0;
    public = public > skipped ? public - skipped : 0;
    if (public > 0 && public >= n) {
        b->out->n_public = b->out->ids.n;
        return SLM_OK;
    }
    b->only_public = false;
    return public == 0 ? SLM_OK : mark_public_part(b, before, text, public, (s->flags & SLM_SEG_SPECIAL) != 0, begin, fresh);
}

/* The segments [from, to) of one turn; role is that of the first.  before: the plain text in front of the first. */
static slm_status put_segments(builder *b, size_t from, size_t to, const char *before)
{
    const slm_chat_turn *turn = &b->format->turn[b->segments[from].role];
    slm_prompt *out = b->out;
    for (size_t i = from; i < to; i++) {
        const slm_segment *s = &b->segments[i];
        const char *text = s->text;
        size_t n = s->length;
        unsigned trim = b->format->flags & (SLM_CHAT_TRIM | SLM_CHAT_TRIM_LEFT);
        while (i == from && trim != 0 && n > 0 && is_white(*text)) {
            text++;
            n--;
        }
        while (i + 1 == to && (trim & SLM_CHAT_TRIM) != 0 && n > 0 && is_white(text[n - 1]))
            n--;
        size_t begin = out->ids.n;
        bool fresh = b->fresh;
        slm_status status =
            put_text(b, i == from ? before : NULL, text, n, i + 1 == to ? turn->after : NULL, (s->flags & SLM_SEG_SPECIAL) != 0);
        if (status != SLM_OK) {
            if ((s->flags & SLM_SEG_PREFIX) == 0)
                slm_blame(b->err, SLM_CAUSE_BAD_TEXT);
            return status;
        }
        if ((s->flags & SLM_SEG_SCORED) != 0) {
            if (out->scored_end == 0)
                out->scored_begin = begin;
            out->scored_end = out->ids.n;
        }
        if ((s->role == SLM_ROLE_USER && (s->flags & SLM_SEG_WHOLE) == 0) || (s->flags & SLM_SEG_SCORED) != 0) {
            out->row_begin = begin;
            out->row_end = out->ids.n;
        }
        b->only_prefix = b->only_prefix && (s->flags & SLM_SEG_PREFIX) != 0;
        if (b->only_prefix)
            out->n_prefix = out->ids.n;
        SLM_TRY(mark_public(b, i, i == from ? before : NULL, text, n, begin, fresh));
    }
    return SLM_OK;
}

static size_t turn_end(const builder *b, size_t from)
{
    size_t to = from + 1;
    while (to < b->n_segments && (b->segments[to].flags & SLM_SEG_JOIN) != 0)
        to++;
    return to;
}

/* All system turns, inside a user turn; *any: there was one. */
static slm_status put_system_inline(builder *b, bool *any)
{
    for (size_t from = 0; from < b->n_segments; from = turn_end(b, from)) {
        if (b->segments[from].role != SLM_ROLE_SYSTEM)
            continue;
        SLM_TRY(put_segments(b, from, turn_end(b, from), *any ? NULL : b->format->turn[SLM_ROLE_SYSTEM].before));
        *any = true;
    }
    return SLM_OK;
}

/* A system message when the caller gave none and the format has one of its own. */
static slm_status put_default_system(builder *b)
{
    const slm_chat_format *format = b->format;
    const char *text = b->tok->h->system;
    for (size_t i = 0; i < b->n_segments; i++)
        if (b->segments[i].role == SLM_ROLE_SYSTEM)
            return SLM_OK;
    if ((text[0] == '\0' && !format->default_system) || (format->flags & (SLM_CHAT_SYSTEM_IN_FIRST | SLM_CHAT_SYSTEM_IN_LAST)) != 0)
        return SLM_OK;
    SLM_TRY(put_literal(b, format->turn[SLM_ROLE_SYSTEM].head));
    SLM_TRY(put_text(b, format->turn[SLM_ROLE_SYSTEM].before, text, strlen(text), format->turn[SLM_ROLE_SYSTEM].after, false));
    return put_literal(b, format->turn[SLM_ROLE_SYSTEM].tail);
}

/* The template up to here belongs to the prefix as long as no other text has come. */
static void mark_prefix(builder *b)
{
    if (b->only_prefix)
        b->out->n_prefix = b->out->ids.n;
    if (b->only_public && b->out->n_public > 0)
        b->out->n_public = b->out->ids.n;
}

static slm_status build_chat(builder *b)
{
    const slm_chat_format *format = b->format;
    bool system_inline = (format->flags & (SLM_CHAT_SYSTEM_IN_FIRST | SLM_CHAT_SYSTEM_IN_LAST)) != 0;
    size_t first_user = b->n_segments, last_user = b->n_segments, last = 0;
    for (size_t from = 0; from < b->n_segments; from = turn_end(b, from)) {
        if (b->segments[from].role == SLM_ROLE_USER) {
            first_user = first_user == b->n_segments ? from : first_user;
            last_user = from;
        }
        last = from;
    }
    if (system_inline && first_user == b->n_segments)
        return slm_fail(b->err, SLM_INVALID, "chat format %s needs a message of the user", format->name);
    SLM_TRY(put_default_system(b));
    for (size_t from = 0; from < b->n_segments; from = turn_end(b, from)) {
        const slm_chat_turn *turn = &format->turn[b->segments[from].role];
        size_t to = turn_end(b, from);
        bool inlined = false;
        if (system_inline && b->segments[from].role == SLM_ROLE_SYSTEM)
            continue;
        if ((format->flags & SLM_CHAT_BOS_EACH) != 0 && b->segments[from].role == SLM_ROLE_USER && from != first_user)
            SLM_TRY(push_control(b, b->tok->h->bos));
        SLM_TRY(put_literal(b, turn->head));
        if (system_inline && from == ((format->flags & SLM_CHAT_SYSTEM_IN_FIRST) != 0 ? first_user : last_user))
            SLM_TRY(put_system_inline(b, &inlined));
        mark_prefix(b);
        SLM_TRY(put_segments(b, from, to, inlined ? NULL : turn->before));
        if (from == last && b->segments[from].role == SLM_ROLE_ASSISTANT)
            return SLM_OK;
        SLM_TRY(put_literal(b, turn->tail));
        mark_prefix(b);
    }
    SLM_TRY(put_literal(b, format->answer));
    mark_prefix(b);
    const char *before = format->turn[SLM_ROLE_ASSISTANT].before;
    const unsigned prefix = b->tok->h->flags & (SLM_TOKF_SPACE_PREFIX | SLM_TOKF_PREFIX_FIRST);
    b->out->answer_space = prefix == SLM_TOKF_SPACE_PREFIX && (b->fresh || (before != NULL && before[0] == ' '));
    return SLM_OK;
}

/* Raw text: one after the other. */
static slm_status build_plain(builder *b)
{
    static const slm_chat_format plain = {.name = "plain"};
    b->format = &plain;
    for (size_t i = 0; i < b->n_segments; i++)
        SLM_TRY(put_segments(b, i, i + 1, NULL));
    if (b->n_segments > 0 && (b->segments[0].flags & SLM_SEG_SCORED) != 0)
        b->out->scored_begin = 0; /* with the BOS, which nothing precedes */
    return SLM_OK;
}

static slm_status build_encoder(builder *b)
{
    static const slm_chat_format plain = {.name = "plain"};
    const slm_tok_frame *f = &b->tok->h->frame;
    if (b->n_segments > 2)
        return slm_fail(b->err, SLM_INVALID, "an encoder takes one text or a pair, not %zu", b->n_segments);
    b->format = &plain;
    for (uint32_t i = 0; i < f->n_before; i++)
        SLM_TRY(push_control(b, f->before[i]));
    b->fresh = true;
    for (size_t i = 0; i < b->n_segments; i++) {
        if (i == 1) {
            for (uint32_t k = 0; k < f->n_middle; k++)
                SLM_TRY(push_control(b, f->middle[k]));
            b->out->pair_begin = b->out->ids.n;
            b->fresh = true;
        }
        SLM_TRY(put_segments(b, i, i + 1, NULL));
    }
    for (uint32_t i = 0; i < f->n_after; i++)
        SLM_TRY(push_control(b, f->after[i]));
    return SLM_OK;
}

static slm_status build(builder *b, bool chat)
{
    slm_tokenizer *tok = b->tok;
    for (size_t i = 0; i < b->n_segments; i++)
        if ((unsigned) b->segments[i].role > SLM_ROLE_ASSISTANT)
            return slm_fail(b->err, SLM_INVALID, "segment %zu has unknown role %d", i, (int) b->segments[i].role);
    if ((tok->h->flags & SLM_TOKF_FRAMED) != 0)
        return build_encoder(b);
    bool bos = (tok->h->flags & SLM_TOKF_ADD_BOS) != 0;
    if (chat && b->format == NULL) {
        slm_fail(b->err, SLM_UNSUPPORTED, "the model's chat template is of a format that is not known");
        slm_hint(b->err, "Load the model with the option chat_format (chatml, llama3, phi3, gemma, mistral-v3, raw, ...), or switch "
            "the chat format off.");
        return SLM_UNSUPPORTED;
    }
    if (bos || (chat && (b->format->flags & SLM_CHAT_BOS) != 0))
        SLM_TRY(push_control(b, tok->h->bos));
    mark_prefix(b);
    return chat ? build_chat(b) : build_plain(b);
}

slm_status slm_prompt_build(slm_tokenizer *tok, bool chat, const slm_segment *segments, size_t n_segments, size_t public_bytes,
                            const volatile int *stop, slm_prompt *out, slm_error *err)
{
    slm_prompt prompt = {0};
    builder b = {.tok = tok, .format = tok->chat, .segments = segments, .n_segments = n_segments, .public_bytes = public_bytes,
        .stop = stop, .out = &prompt, .fresh = true, .only_prefix = true, .only_public = public_bytes > 0, .err = err};
    slm_status status = build(&b, chat);
    free(b.buffer);
    if (status != SLM_OK) {
        slm_prompt_free(&prompt);
        return status;
    }
    *out = prompt;
    return SLM_OK;
}

bool slm_chat_answer_space(slm_tokenizer *tok)
{
    const slm_segment user = {SLM_ROLE_USER, 0, "a", 1};
    slm_prompt prompt = {0};
    slm_error err;
    if (slm_prompt_build(tok, true, &user, 1, 0, NULL, &prompt, &err) != SLM_OK)
        return false;
    bool space = prompt.answer_space;
    slm_prompt_free(&prompt);
    return space;
}

slm_status slm_chat_answer_end(slm_tokenizer *tok, bool chat, int32_t *end, slm_error *err)
{
    static const slm_segment turns[] = {{SLM_ROLE_USER, 0, "a", 1}, {SLM_ROLE_ASSISTANT, 0, "b", 1}, {SLM_ROLE_USER, 0, "c", 1}};
    slm_prompt open = {0}, closed = {0};
    *end = slm_tokenizer_eos(tok);
    if (!chat)
        return SLM_OK;
    slm_status status = slm_prompt_build(tok, true, turns, 2, 0, NULL, &open, err);
    if (status == SLM_OK)
        status = slm_prompt_build(tok, true, turns, 3, 0, NULL, &closed, err);
    for (size_t i = open.ids.n; status == SLM_OK && i < closed.ids.n; i++)
        if (slm_tokenizer_is_end(tok, closed.ids.ids[i])) {
            *end = closed.ids.ids[i];
            break;
        }
    slm_prompt_free(&open);
    slm_prompt_free(&closed);
    return status;
}

void slm_prompt_free(slm_prompt *prompt)
{
    if (prompt == NULL)
        return;
    free(prompt->ids.ids);
    free(prompt->marks);
    *prompt = (slm_prompt){0};
}
