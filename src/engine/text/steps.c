/*
 * The steps over a text: each reads one side and writes the other.
 *
 * Normal forms work on pieces that begin at a character before which nothing composes, at most MAX_PIECE characters long, so that memory
 * and time are bounded whatever the text.  `origins` holds, for each byte, the offset behind its character in the caller's text; it is kept
 * only when ends are wanted.
 */
#include "engine/text/steps.h"

#include <stdlib.h>
#include <utf8proc.h>

#define MAX_PIECE 1024 /* characters normalized together; longer runs of combining marks are cut */
#define MAX_STEP_BYTES (1u << 24)
#define GRAPHEME_BYTES 6 /* longer ones are mapped character by character (SentencePiece's converter in the tokenizers library) */

typedef struct io {
    slm_tokenizer *tok;
    const char *in;
    const size_t *from; /* origins of in, or NULL: base + place */
    size_t n, base;
    slm_tok_side *out;
    slm_error *err;
} io;

bool slm_text_is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
           c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

/* ------------------------------------------------------------------ the section */

size_t slm_steps_bytes(const slm_text_step *steps, size_t n)
{
    size_t bytes = n * sizeof(slm_step_entry);
    for (size_t i = 0; i < n; i++)
        bytes += steps[i].from.length + steps[i].to.length;
    return (bytes + 7) / 8 * 8;
}

void slm_steps_write(const slm_text_step *steps, size_t n, char *out)
{
    uint32_t at = (uint32_t) (n * sizeof(slm_step_entry));
    for (size_t i = 0; i < n; i++) {
        const slm_text_step *s = &steps[i];
        slm_step_entry e = {s->op, at, (uint32_t) s->from.length, at + (uint32_t) s->from.length, (uint32_t) s->to.length};
        memcpy(out + i * sizeof e, &e, sizeof e);
        if (s->from.length > 0)
            memcpy(out + e.from_at, s->from.data, s->from.length);
        if (s->to.length > 0)
            memcpy(out + e.to_at, s->to.data, s->to.length);
        at = e.to_at + e.to_n;
    }
}

/* The number of units of a map's trie, which its first word gives in bytes; 0 when the map is unsound. */
static uint32_t map_units(const char *map, size_t n)
{
    uint32_t bytes = 0;
    if (n < 8)
        return 0;
    memcpy(&bytes, map, 4);
    return bytes % 4 == 0 && bytes >= 4 && bytes <= n - 4 ? bytes / 4 : 0;
}

static bool step_ok(uint32_t op, const char *from, size_t from_n, const char *to, size_t to_n)
{
    if (op > SLM_TEXT_BLANKS || from_n > MAX_STEP_BYTES || to_n > 256)
        return false;
    if (op == SLM_TEXT_CHARSMAP)
        return map_units(from, from_n) > 0;
    if (op == SLM_TEXT_REPLACE && (from_n == 0 || from_n > 256))
        return false;
    return slm_utf8_valid_prefix(from, from_n) == from_n && slm_utf8_valid_prefix(to, to_n) == to_n;
}

bool slm_steps_check(const char *section, size_t bytes, uint32_t n)
{
    if (n > SLM_VOCAB_MAX_STEPS || n * sizeof(slm_step_entry) > bytes)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        slm_step_entry e;
        memcpy(&e, section + i * sizeof e, sizeof e);
        if (e.from_at > bytes || e.from_n > bytes - e.from_at || e.to_at > bytes || e.to_n > bytes - e.to_at ||
            !step_ok(e.op, section + e.from_at, e.from_n, section + e.to_at, e.to_n))
            return false;
    }
    return true;
}

slm_status slm_steps_accept(const slm_text_step *steps, size_t n, slm_error *err)
{
    if (n > SLM_VOCAB_MAX_STEPS)
        return slm_fail(err, SLM_UNSUPPORTED, "the tokenizer's normalizer has %zu steps; at most %d are possible", n, SLM_VOCAB_MAX_STEPS);
    for (size_t i = 0; i < n; i++)
        if (!step_ok(steps[i].op, steps[i].from.data, steps[i].from.length, steps[i].to.data, steps[i].to.length))
            return slm_fail(err, SLM_FORMAT,
                            steps[i].op == SLM_TEXT_CHARSMAP ? "the tokenizer's precompiled map of characters is damaged"
                                                             : "step %zu of the tokenizer's normalizer is out of range", i + 1);
    return SLM_OK;
}

/* ------------------------------------------------------------------ reading and writing */

/* Where the first n bytes of the input end in the caller's text. */
static size_t origin_of(const io *x, size_t n)
{
    return n == 0 ? x->base : x->from != NULL ? x->from[n - 1] : x->base + n;
}

static slm_status put(io *x, const char *bytes, size_t n, size_t end)
{
    slm_tok_side *o = x->out;
    if (n == 0)
        return SLM_OK;
    SLM_TRY(slm_tok_reserve((void **) &o->bytes, &o->capacity, o->n + n, 1, x->err));
    memcpy(o->bytes + o->n, bytes, n);
    if (x->tok->want_ends) {
        SLM_TRY(slm_tok_reserve((void **) &o->origins, &o->origins_capacity, o->n + n, sizeof *o->origins, x->err));
        for (size_t i = 0; i < n; i++)
            o->origins[o->n + i] = end;
    }
    o->n += n;
    return SLM_OK;
}

static slm_status put_code(io *x, uint32_t c, size_t end)
{
    char bytes[4];
    return put(x, bytes, (size_t) slm_utf8_encode(c, bytes), end);
}

/* in[begin, end) as it is. */
static slm_status copy(io *x, size_t begin, size_t end)
{
    slm_tok_side *o = x->out;
    if (!x->tok->want_ends)
        return put(x, x->in + begin, end - begin, 0);
    for (size_t i = begin; i < end; i++)
        SLM_TRY(put(x, x->in + i, 1, origin_of(x, i + 1)));
    return o->n > 0 || begin == end ? SLM_OK : slm_fail(x->err, SLM_INTERNAL, "nothing was copied");
}

/* ------------------------------------------------------------------ normal forms */

/* Does nothing before this character compose with it or change places with it? */
static bool begins_piece(uint32_t c, bool compatible)
{
    if (c < 0x300)
        return true;
    if ((c >= 0x1160 && c <= 0x11FF) || (compatible && ((c >= 0x3130 && c <= 0x318F) || (c >= 0xFF9E && c <= 0xFFDC))))
        return false;
    const utf8proc_property_t *p = utf8proc_get_property((utf8proc_int32_t) c);
    return p->combining_class == 0 && p->category != UTF8PROC_CATEGORY_MN && p->category != UTF8PROC_CATEGORY_MC;
}

static slm_status put_piece(io *x, size_t begin, size_t end, int options)
{
    utf8proc_int32_t codes[20 * MAX_PIECE];
    utf8proc_ssize_t n = utf8proc_decompose((const utf8proc_uint8_t *) x->in + begin, (utf8proc_ssize_t) (end - begin), codes,
                                            20 * MAX_PIECE, (utf8proc_option_t) options);
    if (n >= 0 && n <= 20 * MAX_PIECE)
        n = utf8proc_normalize_utf32(codes, n, (utf8proc_option_t) options);
    if (n < 0 || n > 20 * MAX_PIECE)
        return copy(x, begin, end);
    for (utf8proc_ssize_t i = 0; i < n; i++)
        SLM_TRY(put_code(x, (uint32_t) codes[i], origin_of(x, end)));
    return SLM_OK;
}

static slm_status normal_form(io *x, uint32_t op)
{
    bool compose = op == SLM_TEXT_NFC || op == SLM_TEXT_NFKC, compatible = op == SLM_TEXT_NFKC || op == SLM_TEXT_NFKD;
    int options = UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) | (compatible ? UTF8PROC_COMPAT : 0);
    for (size_t at = 0, end; at < x->n; at = end) {
        int length;
        size_t chars = 0;
        end = at;
        while (end < x->n && (unsigned char) x->in[end] < 0x80)
            end++;
        if (end < x->n && end > at)
            end--; /* the last may be what a mark composes with */
        if (end > at) {
            SLM_TRY(copy(x, at, end));
        } else {
            do {
                slm_utf8_decode(x->in + end, &length);
                end += (size_t) length;
            } while (end < x->n && ++chars < MAX_PIECE && !begins_piece(slm_utf8_decode(x->in + end, &length), compatible));
            SLM_TRY(put_piece(x, at, end, options));
        }
        if (slm_tok_stopped(x->tok))
            return slm_tok_cancelled(x->err);
    }
    return SLM_OK;
}

/* ------------------------------------------------------------------ characters */

static slm_status lowercase(io *x)
{
    for (size_t at = 0; at < x->n;) {
        int length;
        uint32_t c = slm_utf8_decode(x->in + at, &length);
        at += (size_t) length;
        SLM_TRY(put_code(x, c == 0x130 ? 'i' : (uint32_t) utf8proc_tolower((utf8proc_int32_t) c), origin_of(x, at)));
        if (c == 0x130) /* the one character whose full lowercase is longer */
            SLM_TRY(put_code(x, 0x307, origin_of(x, at)));
        if (slm_tok_stopped(x->tok))
            return slm_tok_cancelled(x->err);
    }
    return SLM_OK;
}

static slm_status strip_accents(io *x)
{
    for (size_t at = 0; at < x->n;) {
        int length;
        uint32_t c = slm_utf8_decode(x->in + at, &length);
        utf8proc_category_t category = c < 0x80 ? UTF8PROC_CATEGORY_CN : utf8proc_category((utf8proc_int32_t) c);
        if (category != UTF8PROC_CATEGORY_MN && category != UTF8PROC_CATEGORY_MC && category != UTF8PROC_CATEGORY_ME)
            SLM_TRY(copy(x, at, at + (size_t) length));
        at += (size_t) length;
        if (slm_tok_stopped(x->tok))
            return slm_tok_cancelled(x->err);
    }
    return SLM_OK;
}

static slm_status replace(io *x, const char *from, size_t from_n, const char *to, size_t to_n)
{
    size_t at = 0;
    while (at < x->n) {
        const char *hit = memmem(x->in + at, x->n - at, from, from_n);
        size_t begin = hit != NULL ? (size_t) (hit - x->in) : x->n;
        SLM_TRY(copy(x, at, begin));
        if (hit != NULL)
            SLM_TRY(put(x, to, to_n, origin_of(x, begin + from_n)));
        at = hit != NULL ? begin + from_n : x->n;
        if (slm_tok_stopped(x->tok))
            return slm_tok_cancelled(x->err);
    }
    return SLM_OK;
}

/* Runs of two spaces or more. */
static slm_status squeeze(io *x, const char *to, size_t to_n)
{
    for (size_t at = 0, end; at < x->n; at = end) {
        bool space = x->in[at] == ' ';
        for (end = at; end < x->n && (x->in[end] == ' ') == space;)
            end++;
        SLM_TRY(space && end - at >= 2 ? put(x, to, to_n, origin_of(x, end)) : copy(x, at, end));
        if (slm_tok_stopped(x->tok))
            return slm_tok_cancelled(x->err);
    }
    return SLM_OK;
}

static slm_status trim(io *x)
{
    size_t begin = 0, end = x->n;
    while (begin < end && x->in[begin] == ' ')
        begin++;
    while (end > begin && x->in[end - 1] == ' ')
        end--;
    return copy(x, begin, end);
}

static slm_status blanks(io *x, const char *to, size_t to_n)
{
    for (size_t at = 0, end; at < x->n; at = end) {
        int length;
        size_t chars = 0;
        bool space = slm_text_is_space(slm_utf8_decode(x->in + at, &length)), lone = strchr("\t\n\r", x->in[at]) != NULL;
        for (end = at; end < x->n && slm_text_is_space(slm_utf8_decode(x->in + end, &length)) == space; chars++)
            end += (size_t) length;
        SLM_TRY(space && (chars >= 2 || lone) ? put(x, to, to_n, origin_of(x, end)) : copy(x, at, end));
        if (slm_tok_stopped(x->tok))
            return slm_tok_cancelled(x->err);
    }
    return SLM_OK;
}

static slm_status strip(io *x, bool left, bool right)
{
    size_t begin = 0, end = x->n;
    int length;
    while (left && begin < end && slm_text_is_space(slm_utf8_decode(x->in + begin, &length)))
        begin += (size_t) length;
    while (right && end > begin) {
        size_t last = end - 1;
        while (last > begin && !slm_utf8_is_start(x->in[last]))
            last--;
        if (!slm_text_is_space(slm_utf8_decode(x->in + last, &length)))
            break;
        end = last;
    }
    return copy(x, begin, end);
}

/* ------------------------------------------------------------------ SentencePiece's map of characters */

/* What the map has for text[n]: the string of the shortest entry that text begins with, as the tokenizers library takes it; NULL when there
 * is none.  The trie is a double array (darts-clone): a unit holds label, offset, and whether a value follows. */
static const char *map_lookup(const char *map, size_t map_n, const char *text, size_t n, size_t *length)
{
    uint32_t units = map_units(map, map_n), unit;
    const char *strings = map + 4 + 4 * (size_t) units;
    size_t strings_n = map_n - 4 - 4 * (size_t) units, place = 0;
    if (units == 0)
        return NULL;
    memcpy(&unit, map + 4, 4);
    place ^= (size_t) (unit >> 10) << ((unit & (1u << 9)) >> 6);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char) text[i];
        place ^= c;
        if (c == 0 || place >= units)
            return NULL;
        memcpy(&unit, map + 4 + 4 * place, 4);
        if ((unit & (1u << 31 | 0xFF)) != c)
            return NULL;
        place ^= (size_t) (unit >> 10) << ((unit & (1u << 9)) >> 6);
        if ((unit >> 8 & 1) == 0)
            continue;
        if (place >= units)
            return NULL;
        memcpy(&unit, map + 4 + 4 * place, 4);
        size_t at = unit & ~(1u << 31);
        const char *end = at < strings_n ? memchr(strings + at, 0, strings_n - at) : NULL;
        if (end == NULL)
            return NULL;
        *length = (size_t) (end - (strings + at));
        return slm_utf8_valid_prefix(strings + at, *length) == *length ? strings + at : NULL;
    }
    return NULL;
}

static slm_status map_grapheme(io *x, const char *map, size_t map_n, size_t begin, size_t end)
{
    size_t length;
    const char *found = end - begin < GRAPHEME_BYTES ? map_lookup(map, map_n, x->in + begin, end - begin, &length) : NULL;
    if (found != NULL)
        return put(x, found, length, origin_of(x, end));
    while (begin < end) {
        size_t n = (size_t) slm_utf8_char_length(x->in + begin, end - begin);
        found = map_lookup(map, map_n, x->in + begin, n, &length);
        SLM_TRY(found != NULL ? put(x, found, length, origin_of(x, begin + n)) : copy(x, begin, begin + n));
        begin += n;
    }
    return SLM_OK;
}

static slm_status map_characters(io *x, const char *map, size_t map_n)
{
    for (size_t at = 0, end; at < x->n; at = end) {
        utf8proc_int32_t state = 0;
        int length;
        uint32_t c = slm_utf8_decode(x->in + at, &length);
        end = at + (size_t) length;
        while (end < x->n) {
            uint32_t next = slm_utf8_decode(x->in + end, &length);
            bool plain = c < 0x80 && next < 0x80 && !(c == '\r' && next == '\n');
            if (plain || utf8proc_grapheme_break_stateful((utf8proc_int32_t) c, (utf8proc_int32_t) next, &state))
                break;
            end += (size_t) length;
            c = next;
        }
        SLM_TRY(map_grapheme(x, map, map_n, at, end));
        if (slm_tok_stopped(x->tok))
            return slm_tok_cancelled(x->err);
    }
    return SLM_OK;
}

/* ------------------------------------------------------------------ all of them */

static slm_status run_step(io *x, const slm_step_entry *e)
{
    const char *section = x->tok->steps, *from = section + e->from_at, *to = section + e->to_at;
    switch ((slm_text_op) e->op) {
    case SLM_TEXT_LOWER: return lowercase(x);
    case SLM_TEXT_STRIP_ACCENTS: return strip_accents(x);
    case SLM_TEXT_REPLACE: return replace(x, from, e->from_n, to, e->to_n);
    case SLM_TEXT_SQUEEZE: return squeeze(x, to, e->to_n);
    case SLM_TEXT_STRIP_LEFT: return strip(x, true, false);
    case SLM_TEXT_STRIP_RIGHT: return strip(x, false, true);
    case SLM_TEXT_TRIM: return trim(x);
    case SLM_TEXT_BLANKS: return blanks(x, to, e->to_n);
    case SLM_TEXT_CHARSMAP: return map_characters(x, from, e->from_n);
    case SLM_TEXT_PREPEND:
    case SLM_TEXT_PREFIX_SPACE:
        if (x->n > 0 && (e->op == SLM_TEXT_PREPEND || x->in[0] != ' '))
            SLM_TRY(e->op == SLM_TEXT_PREPEND ? put(x, to, e->to_n, x->base) : put(x, " ", 1, x->base));
        return copy(x, 0, x->n);
    default: return normal_form(x, e->op);
    }
}

/* Normal forms leave ASCII alone. */
static bool changes_nothing(const slm_step_entry *e, const char *text, size_t n)
{
    if (e->op > SLM_TEXT_NFKD)
        return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char) text[i] >= 0x80)
            return false;
    return true;
}

slm_status slm_steps_run(slm_tokenizer *tok, const char *text, size_t n, size_t base, const char **out, size_t *out_n, slm_error *err)
{
    int side = 0;
    io x = {.tok = tok, .in = text, .n = n, .base = base, .err = err};
    for (uint32_t i = 0; i < tok->h->n_steps; i++) {
        slm_step_entry e;
        memcpy(&e, tok->steps + i * sizeof e, sizeof e);
        if (changes_nothing(&e, x.in, x.n))
            continue;
        x.out = &tok->sides[side];
        x.out->n = 0;
        SLM_TRY(slm_tok_reserve((void **) &x.out->bytes, &x.out->capacity, 1, 1, err));
        SLM_TRY(run_step(&x, &e));
        x.in = x.out->bytes;
        x.n = x.out->n;
        x.from = tok->want_ends ? x.out->origins : NULL;
        side = 1 - side;
    }
    tok->origins = x.in != text ? x.from : NULL;
    *out = x.in;
    *out_n = x.n;
    return SLM_OK;
}

void slm_steps_free(slm_tokenizer *tok)
{
    for (int i = 0; i < 2; i++) {
        free(tok->sides[i].bytes);
        free(tok->sides[i].origins);
        tok->sides[i] = (slm_tok_side){0};
    }
}
