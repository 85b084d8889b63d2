/*
 * Reading a pattern into a tree, and the tree into an expression; see pattern.h.
 *
 * A pattern that may match a part of the text is .* pattern .*, in which ^ and $ and lookaheads look at what stands around them.  So the
 * tree is compiled from its end, each node with the expression of everything behind it: $ keeps of that the empty text, (?=x) what
 * begins with x as well.  Nodes without such assertions are compiled alone and put before.
 */
#include "engine/grammar/pattern.h"

#include <stdlib.h>
#include <utf8proc.h>

#include "engine/base/utf8.h"

typedef enum node_kind { N_CLASS, N_SEQUENCE, N_CHOICE, N_REPEAT, N_BEGIN, N_END, N_LOOK } node_kind;

typedef struct node {
    node_kind kind;
    bool asserts; /* holds a N_BEGIN, N_END or N_LOOK */
    bool negative; /* N_LOOK */
    slm_rx chars; /* N_CLASS */
    uint32_t min, max; /* N_REPEAT */
    struct node *first, *next; /* children and siblings */
} node;

typedef struct reader {
    slm_rx_pool *p;
    const char *text;
    size_t n, at;
    int flags, depth;
} reader;

typedef struct ranges {
    uint32_t (*r)[2];
    uint32_t n, capacity;
} ranges;

enum { MAX_NESTING = 200, MAX_COUNT = 100000, MAX_UNROLL = 16 };

static void *refuse(reader *r, slm_status status, const char *what)
{
    slm_budget_fail(r->p->budget, status, "%s in the pattern \"%.*s\"", what, (int) (r->n < 120 ? r->n : 120), r->text);
    return NULL;
}

static node *node_new(reader *r, node_kind kind)
{
    node *n = slm_budget_alloc(r->p->budget, sizeof *n);
    if (n != NULL && slm_budget_step(r->p->budget, 1))
        n->kind = kind;
    return r->p->budget->failed ? NULL : n;
}

static bool peek(const reader *r, const char *text)
{
    size_t n = strlen(text);
    return r->n - r->at >= n && memcmp(r->text + r->at, text, n) == 0;
}

static bool take(reader *r, const char *text)
{
    if (!peek(r, text))
        return false;
    r->at += strlen(text);
    return true;
}

static uint32_t take_char(reader *r)
{
    int length = slm_utf8_char_length(r->text + r->at, r->n - r->at);
    uint32_t c;
    if (length <= 0)
        return refuse(r, SLM_INVALID, "broken UTF-8"), r->at = r->n, 0;
    c = slm_utf8_decode(r->text + r->at, &length);
    r->at += (size_t) length;
    return c;
}

/* ---- sets of characters */

static bool add(reader *r, ranges *s, uint32_t low, uint32_t high)
{
    if (!SLM_GROW(r->p->budget, s->r, s->capacity, (uint64_t) s->n + 1))
        return false;
    s->r[s->n][0] = low;
    s->r[s->n++][1] = high;
    return true;
}

static int by_low(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return (x[0] > y[0]) - (x[0] < y[0]);
}

/* Sorts, joins what touches, and takes the complement where asked. */
static void normalize(reader *r, ranges *s, bool complement)
{
    uint32_t n = 0, from = 0, n_before;
    if (s->n > 1)
        qsort(s->r, s->n, sizeof *s->r, by_low);
    for (uint32_t i = 0; i < s->n; i++) {
        if (n > 0 && s->r[i][0] <= s->r[n - 1][1] + 1)
            s->r[n - 1][1] = s->r[i][1] > s->r[n - 1][1] ? s->r[i][1] : s->r[n - 1][1];
        else
            memmove(s->r[n++], s->r[i], sizeof *s->r);
    }
    s->n = n;
    if (!complement)
        return;
    n_before = n;
    for (uint32_t i = 0; i < n_before; i++) {
        uint32_t low = s->r[i][0], high = s->r[i][1];
        if (low > from && !add(r, s, from, low - 1))
            return;
        from = high + 1;
    }
    if (from <= 0x10FFFF)
        add(r, s, from, 0x10FFFF);
    if (n_before > 0)
        memmove(s->r, s->r + n_before, (s->n - n_before) * sizeof *s->r);
    s->n -= n_before;
}

static bool add_all(reader *r, ranges *s, ranges *more, bool complement)
{
    normalize(r, more, complement);
    for (uint32_t i = 0; i < more->n; i++)
        if (!add(r, s, more->r[i][0], more->r[i][1]))
            break;
    free(more->r);
    return !r->p->budget->failed;
}

static bool add_letters(reader *r, ranges *s, char letter)
{
    static const uint32_t digits[][2] = {{'0', '9'}}, words[][2] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}},
                          spaces[][2] = {{9, 13}, {32, 32}, {0xA0, 0xA0}, {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029},
                                         {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
    char small = (char) (letter | 32);
    const uint32_t (*from)[2] = small == 'd' ? digits : small == 'w' ? words : spaces;
    ranges some = {0};
    for (uint32_t i = 0, n = small == 'd' ? 1 : small == 'w' ? 4 : 10; i < n; i++)
        add(r, &some, from[i][0], from[i][1]);
    return add_all(r, s, &some, letter != small);
}

/* \p{L}, \p{Lu}, \p{Letter}, \pL: general categories; the letter p or P has been read. */
static bool add_category(reader *r, ranges *s, bool complement)
{
    static const char *const names[] = {"Cn", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe",
                                        "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co"};
    static const char *const whole[][2] = {{"Letter", "L"}, {"Mark", "M"}, {"Number", "N"}, {"Punctuation", "P"}, {"Symbol", "S"},
                                           {"Separator", "Z"}, {"Other", "C"}, {"Uppercase_Letter", "Lu"}, {"Lowercase_Letter", "Ll"},
                                           {"Decimal_Number", "Nd"}, {"Space_Separator", "Zs"}, {"digit", "Nd"}};
    char name[32] = "";
    bool wanted[30] = {false}, any = false;
    ranges some = {0};
    if (take(r, "{")) {
        size_t n = 0;
        while (r->at < r->n && r->text[r->at] != '}' && n < sizeof name - 1)
            name[n++] = r->text[r->at++];
        take(r, "}");
    } else if (r->at < r->n) {
        name[0] = r->text[r->at++];
    }
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        if (strcmp(name, whole[i][0]) == 0)
            memcpy(name, whole[i][1], strlen(whole[i][1]) + 1);
    for (int i = 0; i < 30; i++)
        if (name[0] == names[i][0] && (name[1] == 0 || (name[1] == names[i][1] && name[2] == 0)))
            any = wanted[i] = true;
    if (!any)
        return refuse(r, SLM_UNSUPPORTED, "a Unicode property that is no general category") != NULL;
    if (!slm_budget_step(r->p->budget, 50000))
        return false;
    for (uint32_t c = 0, from = 0; c <= 0x110000; c++) {
        bool in = c < 0x110000 && wanted[utf8proc_category((utf8proc_int32_t) c)];
        if (in && from == 0)
            from = c + 1;
        else if (!in && from != 0)
            add(r, &some, from - 1, c - 1), from = 0;
    }
    return add_all(r, s, &some, complement);
}

static uint32_t take_hex(reader *r, int digits)
{
    uint32_t c = 0;
    for (int i = 0; i < digits; i++) {
        char h = r->at < r->n ? r->text[r->at] : 0;
        int v = h >= '0' && h <= '9' ? h - '0' : (h | 32) >= 'a' && (h | 32) <= 'f' ? (h | 32) - 'a' + 10 : -1;
        if (v < 0)
            return refuse(r, SLM_INVALID, "an escape without its digits"), 0;
        c = c * 16 + (uint32_t) v;
        r->at++;
    }
    return c;
}

/* \uD83D\uDE00 is one character; \u{1F600} as well. */
static uint32_t take_unicode(reader *r)
{
    uint32_t c = 0;
    if (take(r, "{")) {
        while (r->at < r->n && r->text[r->at] != '}' && c <= 0x10FFFF && !r->p->budget->failed)
            c = c * 16 + take_hex(r, 1);
        if (!take(r, "}") || c > 0x10FFFF)
            refuse(r, SLM_INVALID, "a code point that is none");
        return c;
    }
    c = take_hex(r, 4);
    if (c >= 0xD800 && c < 0xDC00 && take(r, "\\u")) {
        uint32_t low = take_hex(r, 4);
        if (low < 0xDC00 || low > 0xDFFF)
            refuse(r, SLM_UNSUPPORTED, "half of a surrogate pair");
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    }
    return c;
}

/* Behind a backslash: a class is added to s (returns true), or *c is a character. */
static bool take_escape(reader *r, ranges *s, uint32_t *c, bool in_class)
{
    static const char from[] = "tnvfr", to[] = "\t\n\v\f\r";
    const char *known;
    char e;
    *c = 0;
    if (r->at >= r->n)
        return refuse(r, SLM_INVALID, "a backslash at the end") != NULL;
    if ((unsigned char) r->text[r->at] >= 128) {
        *c = take_char(r);
        return false;
    }
    e = r->text[r->at++];
    if (strchr("dDwWsS", e) != NULL && e != 0) {
        add_letters(r, s, e);
        return true;
    }
    if (e == 'p' || e == 'P') {
        add_category(r, s, e == 'P');
        return true;
    }
    known = e == 0 ? NULL : strchr(from, e);
    if (known != NULL)
        *c = (unsigned char) to[known - from];
    else if (e == 'x')
        *c = take_hex(r, 2);
    else if (e == 'u')
        *c = take_unicode(r);
    else if (e == 'U' && !(r->flags & SLM_PATTERN_JSON))
        *c = take_hex(r, 8);
    else if (e == 'c' && r->at < r->n)
        *c = (uint32_t) r->text[r->at++] & 31;
    else if (e == '0' && !(r->at < r->n && r->text[r->at] >= '0' && r->text[r->at] <= '9'))
        *c = 0;
    else if (e == 'b' && in_class)
        *c = 8;
    else if (e == 'b' || e == 'B')
        refuse(r, SLM_UNSUPPORTED, "a word boundary (\\b)");
    else if (e >= '0' && e <= '9')
        refuse(r, SLM_UNSUPPORTED, "a back-reference or octal escape");
    else if ((e | 32) >= 'a' && (e | 32) <= 'z')
        refuse(r, SLM_UNSUPPORTED, "an unknown escape");
    else
        *c = (unsigned char) e;
    return false;
}

static slm_rx chars_of(reader *r, ranges *s, bool complement)
{
    slm_rx made;
    normalize(r, s, complement);
    made = slm_rx_chars(r->p, (const uint32_t (*)[2]) s->r, s->n, r->flags & SLM_PATTERN_JSON);
    free(s->r);
    return made;
}

/* Behind '['. */
static slm_rx take_class(reader *r)
{
    ranges s = {0};
    bool complement = take(r, "^");
    while (!r->p->budget->failed && !peek(r, "]")) {
        uint32_t low, high;
        size_t back;
        if (r->at >= r->n) {
            refuse(r, SLM_INVALID, "a class without its end");
            break;
        }
        if (take(r, "\\")) {
            if (take_escape(r, &s, &low, true))
                continue;
        } else {
            low = take_char(r);
        }
        high = low;
        back = r->at;
        if (take(r, "-") && !peek(r, "]") && r->at < r->n) {
            ranges other = {0};
            if (take(r, "\\") ? take_escape(r, &other, &high, true) : (high = take_char(r), false)) {
                r->at = back; /* [a-\d]: a minus */
                high = low;
                add(r, &s, '-', '-');
                r->at++;
            }
            free(other.r);
        } else {
            r->at = back;
        }
        if (high < low)
            refuse(r, SLM_INVALID, "a range that ends before it begins");
        add(r, &s, low, high);
    }
    take(r, "]");
    return chars_of(r, &s, complement);
}

slm_rx slm_pattern_class(slm_rx_pool *p, const char *text, size_t n, size_t *at, int flags)
{
    reader r = {.p = p, .text = text, .n = n, .at = *at, .flags = flags};
    slm_rx made = take_class(&r);
    *at = r.at;
    return made;
}

/* ---- the tree */

static node *take_choice(reader *r);

static node *take_group(reader *r)
{
    node *n, *look = NULL;
    if (take(r, "?=") || peek(r, "?!")) {
        look = node_new(r, N_LOOK);
        if (look == NULL)
            return NULL;
        look->negative = take(r, "?!");
        look->asserts = true;
    } else if (peek(r, "?<=") || peek(r, "?<!")) {
        return refuse(r, SLM_UNSUPPORTED, "a lookbehind");
    } else if (take(r, "?<") || take(r, "?P<")) {
        while (r->at < r->n && r->text[r->at] != '>')
            r->at++;
        take(r, ">");
    } else if (!take(r, "?:") && peek(r, "?")) {
        return refuse(r, SLM_UNSUPPORTED, "an inline flag or special group");
    }
    n = take_choice(r);
    if (n != NULL && !take(r, ")"))
        return refuse(r, SLM_INVALID, "a group without its end");
    if (look != NULL)
        look->first = n;
    return look != NULL ? look : n;
}

static node *take_atom(reader *r)
{
    static const uint32_t dot[][2] = {{0, 9}, {11, 12}, {14, 0x2027}, {0x202A, 0x10FFFF}};
    bool json = r->flags & SLM_PATTERN_JSON;
    node *n;
    ranges s = {0};
    uint32_t c;
    if (take(r, "("))
        return take_group(r);
    n = node_new(r, N_CLASS);
    if (n == NULL)
        return NULL;
    if (take(r, "^") || take(r, "$")) {
        n->kind = r->text[r->at - 1] == '^' ? N_BEGIN : N_END;
        n->asserts = true;
    } else if (take(r, ".")) {
        n->chars = slm_rx_chars(r->p, dot, 4, json);
    } else if (take(r, "[")) {
        n->chars = take_class(r);
    } else if (take(r, "\\")) {
        if (!take_escape(r, &s, &c, false))
            add(r, &s, c, c);
        n->chars = chars_of(r, &s, false);
    } else if (peek(r, "*") || peek(r, "+") || peek(r, "?")) {
        return refuse(r, SLM_INVALID, "a repetition of nothing");
    } else {
        c = take_char(r);
        n->chars = slm_rx_chars(r->p, (const uint32_t[][2]) {{c, c}}, 1, json);
    }
    return r->p->budget->failed ? NULL : n;
}

/* {m}, {m,}, {m,n} at text[at]; anything else is a literal brace. */
static bool take_counts(reader *r, uint32_t *min, uint32_t *max)
{
    size_t back = r->at;
    uint64_t counts[2] = {0, 0};
    bool digits[2] = {false, false}, comma = false;
    r->at++;
    for (; r->at < r->n && ((r->text[r->at] >= '0' && r->text[r->at] <= '9') || (r->text[r->at] == ',' && !comma)); r->at++) {
        if (r->text[r->at] == ',') {
            comma = true;
        } else {
            counts[comma] = counts[comma] * 10 + (uint64_t) (r->text[r->at] - '0');
            counts[comma] = counts[comma] > MAX_COUNT ? MAX_COUNT + 1 : counts[comma];
            digits[comma] = true;
        }
    }
    if (!take(r, "}") || !digits[0]) {
        r->at = back;
        return false;
    }
    *min = (uint32_t) counts[0];
    *max = !comma ? *min : digits[1] ? (uint32_t) counts[1] : SLM_RX_MANY;
    if (*min > MAX_COUNT || (*max != SLM_RX_MANY && *max > MAX_COUNT))
        refuse(r, SLM_LIMIT, "a repetition of more than 100,000 times");
    else if (*min > *max)
        refuse(r, SLM_INVALID, "a repetition whose bounds are the wrong way round");
    return true;
}

static node *take_repeats(reader *r)
{
    node *n = take_atom(r);
    while (n != NULL && !r->p->budget->failed && r->at < r->n) {
        uint32_t min = 0, max = SLM_RX_MANY;
        node *rep;
        if (take(r, "+"))
            min = 1;
        else if (take(r, "?"))
            max = 1;
        else if (!take(r, "*") && !(peek(r, "{") && take_counts(r, &min, &max)))
            break;
        if (peek(r, "+"))
            return refuse(r, SLM_UNSUPPORTED, "a possessive repetition");
        take(r, "?");
        rep = node_new(r, N_REPEAT);
        if (rep == NULL)
            return NULL;
        rep->min = min;
        rep->max = max;
        rep->first = n;
        rep->asserts = n->asserts;
        n = rep;
        if (peek(r, "*") || peek(r, "+") || peek(r, "?"))
            return refuse(r, SLM_INVALID, "a repetition of a repetition");
    }
    return n;
}

static node *take_sequence(reader *r)
{
    node *seq = node_new(r, N_SEQUENCE), **last;
    if (seq == NULL)
        return NULL;
    last = &seq->first;
    while (r->at < r->n && !peek(r, "|") && !peek(r, ")")) {
        *last = take_repeats(r);
        if (*last == NULL)
            return NULL;
        seq->asserts = seq->asserts || (*last)->asserts;
        last = &(*last)->next;
    }
    return seq;
}

static node *take_choice(reader *r)
{
    node *choice = node_new(r, N_CHOICE), **last;
    if (choice == NULL || ++r->depth > MAX_NESTING)
        return refuse(r, SLM_LIMIT, "groups nested deeper than 200");
    last = &choice->first;
    do {
        *last = take_sequence(r);
        if (*last == NULL)
            return NULL;
        choice->asserts = choice->asserts || (*last)->asserts;
        last = &(*last)->next;
    } while (take(r, "|"));
    r->depth--;
    return choice;
}

/* ---- the expression: what a node matches, and `then` behind it; start: nothing of the text has been read before */

static slm_rx compile(reader *r, const node *n, slm_rx then, bool start);

static bool reads_nothing(const node *n)
{
    return n->kind == N_BEGIN || n->kind == N_END || n->kind == N_LOOK;
}

static slm_rx compile_sequence(reader *r, const node *n, slm_rx then, bool start)
{
    slm_rx rest;
    if (n == NULL)
        return then;
    if (++r->depth > 2000) {
        refuse(r, SLM_LIMIT, "a sequence too long");
        return SLM_RX_EMPTY;
    }
    rest = compile_sequence(r, n->next, then, start && reads_nothing(n));
    r->depth--;
    return compile(r, n, rest, start);
}

/* Adds the choices of a node to the scratch and joins them. */
static slm_rx compile_choice(reader *r, const node *n, slm_rx then, bool start)
{
    slm_rx_pool *p = r->p;
    uint32_t base = p->n_scratch;
    slm_rx made;
    for (const node *c = n->first; c != NULL && !p->budget->failed; c = c->next) {
        made = compile(r, c, then, start);
        if (!SLM_GROW(p->budget, p->scratch, p->scratch_capacity, (uint64_t) p->n_scratch + 1))
            break;
        p->scratch[p->n_scratch++] = made;
    }
    return slm_rx_or_scratch(p, base);
}

static slm_rx compile_repeat(reader *r, const node *n, slm_rx then, bool start)
{
    slm_rx made = then;
    if (!n->first->asserts)
        return slm_rx_cat(r->p, slm_rx_rep(r->p, compile(r, n->first, SLM_RX_EPS, false), n->min, n->max), then);
    if (n->max > MAX_UNROLL) {
        refuse(r, SLM_UNSUPPORTED, "an assertion (^, $ or a lookahead) inside a repetition");
        return SLM_RX_EMPTY;
    }
    for (uint32_t i = n->max; i-- > 0;) { /* from the last one back: each may be left out with all that follow it */
        slm_rx more = compile(r, n->first, made, start && i == 0);
        made = i >= n->min ? slm_rx_or(r->p, then, more) : more;
    }
    return made;
}

static slm_rx any_text(reader *r)
{
    static const uint32_t all[][2] = {{0, 0x10FFFF}};
    return r->flags & SLM_PATTERN_JSON ? r->p->json_text
                                       : slm_rx_rep(r->p, slm_rx_chars(r->p, all, 1, false), 0, SLM_RX_MANY);
}

static slm_rx compile(reader *r, const node *n, slm_rx then, bool start)
{
    slm_rx_pool *p = r->p;
    slm_rx seen;
    if (p->budget->failed)
        return SLM_RX_EMPTY;
    switch (n->kind) {
    case N_CLASS:
        return slm_rx_cat(p, n->chars, then);
    case N_SEQUENCE:
        return compile_sequence(r, n->first, then, start);
    case N_CHOICE:
        if (n->first->next == NULL)
            return compile(r, n->first, then, start);
        if (n->asserts || then == SLM_RX_EPS)
            return compile_choice(r, n, then, start);
        return slm_rx_cat(p, compile_choice(r, n, SLM_RX_EPS, start), then);
    case N_REPEAT:
        return compile_repeat(r, n, then, start);
    case N_BEGIN:
        return start ? then : SLM_RX_EMPTY;
    case N_END:
        return p->nodes[then].nullable ? SLM_RX_EPS : SLM_RX_EMPTY;
    default:
        seen = compile(r, n->first, any_text(r), start);
        return slm_rx_and(p, n->negative ? slm_rx_not(p, seen) : seen, then);
    }
}

slm_rx slm_pattern_compile(slm_rx_pool *p, const char *pattern, size_t n, int flags)
{
    reader r = {.p = p, .text = pattern, .n = n, .flags = flags};
    node *tree = take_choice(&r);
    slm_rx any, from_start, later = SLM_RX_EMPTY;
    if (tree == NULL || p->budget->failed)
        return SLM_RX_EMPTY;
    if (r.at < n) {
        refuse(&r, SLM_INVALID, "a closing bracket without its group");
        return SLM_RX_EMPTY;
    }
    r.depth = 0;
    if (flags & SLM_PATTERN_WHOLE)
        return compile(&r, tree, SLM_RX_EPS, true);
    any = any_text(&r);
    from_start = compile(&r, tree, any, true);
    if (!tree->asserts)
        return slm_rx_cat(p, any, from_start);
    later = compile(&r, tree, any, false);
    if (later == SLM_RX_EMPTY)
        return from_start;
    return slm_rx_or(p, from_start == later ? SLM_RX_EMPTY : from_start, slm_rx_cat(p, any, later));
}
