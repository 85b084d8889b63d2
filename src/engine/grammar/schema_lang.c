/*
 * What schemas say of scalars, as languages; see schema.h.
 *
 * allOf, anyOf, oneOf, not and if are AND, OR and NOT of languages, so for scalars nothing is ever refused for its composition.  Numbers
 * that are compared, divided or excluded are written without exponents, and every number has as its complement all texts of other numbers.
 */
#include <stdio.h>
#include <stdlib.h>

#include "engine/grammar/pattern.h"
#include "engine/grammar/schema.h"

static slm_rx whole(slm_compiler *c, const char *pattern)
{
    return slm_pattern_compile(c->p, pattern, strlen(pattern), SLM_PATTERN_WHOLE);
}

bool slm_schema_syntax(slm_compiler *c)
{
    c->integer = whole(c, c->old_ids ? "-?(?:0|[1-9][0-9]*)" : "-?(?:0|[1-9][0-9]*)(?:\\.0+)?"); /* draft 4: 1.0 is none */
    c->maybe_integer = slm_rx_or(c->p, c->integer, whole(c, ".*[eE].*"));
    c->plain = whole(c, "-?(?:0|[1-9][0-9]*)(?:\\.[0-9]+)?");
    c->number = whole(c, "-?(?:0|[1-9][0-9]*)(?:\\.[0-9]+)?(?:[eE][+-]?[0-9]+)?");
    if (c->bounded) {
        c->integer = whole(c, "-?(?:0|[1-9][0-9]{0,18})");
        c->plain = c->number = whole(c, "-?(?:0|[1-9][0-9]{0,18})(?:\\.[0-9]{1,15})?");
    }
    return !c->b->failed;
}

slm_rx slm_second_spellings(slm_compiler *c)
{
    return whole(c, "-0|-?[0-9]+\\.[0-9]*0|-?[0-9.]+[eE].*");
}

/* ---- formats, as the RFCs that JSON Schema names write them (without comments and folding) */

#define H16 "[0-9A-Fa-f]{1,4}"
#define OCTET "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
#define IPV4 "(?:" OCTET "\\.){3}" OCTET
#define LS32 "(?:" H16 ":" H16 "|" IPV4 ")"
#define IPV6 "(?:(?:" H16 ":){6}" LS32 "|::(?:" H16 ":){5}" LS32 "|(?:" H16 ")?::(?:" H16 ":){4}" LS32 \
    "|(?:(?:" H16 ":){0,1}" H16 ")?::(?:" H16 ":){3}" LS32 "|(?:(?:" H16 ":){0,2}" H16 ")?::(?:" H16 ":){2}" LS32 \
    "|(?:(?:" H16 ":){0,3}" H16 ")?::" H16 ":" LS32 "|(?:(?:" H16 ":){0,4}" H16 ")?::" LS32 \
    "|(?:(?:" H16 ":){0,5}" H16 ")?::" H16 "|(?:(?:" H16 ":){0,6}" H16 ")?::)"
#define LABEL "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define DATE \
    "(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))" \
    "|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
#define OFFSET "(?:[zZ]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
#define TIME \
    "(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]+)?" OFFSET "|23:59:60(?:\\.[0-9]+)?(?:[zZ]|[+-]00:00))"
#define PCT "%[0-9A-Fa-f]{2}"
#define PCHAR "(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|" PCT ")"
#define QUERY "(?:\\?(?:" PCHAR "|[/?])*)?(?:#(?:" PCHAR "|[/?])*)?"
#define IPFUTURE "[vV][0-9A-Fa-f]+\\.[A-Za-z0-9._~!$&'()*+,;=:-]+"
#define HOST "(?:\\[(?:" IPV6 "|" IPFUTURE ")\\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|" PCT ")*)"
#define AUTHORITY "//(?:(?:[A-Za-z0-9._~!$&'()*+,;=:-]|" PCT ")*@)?" HOST "(?::[0-9]*)?(?:/" PCHAR "*)*"
#define SCHEME "[A-Za-z][A-Za-z0-9+.-]*:"
#define PATH "(?:/(?:" PCHAR "+(?:/" PCHAR "*)*)?|" PCHAR "+(?:/" PCHAR "*)*|)"
#define NOSCHEME "(?:/(?:" PCHAR "+(?:/" PCHAR "*)*)?|(?:[A-Za-z0-9._~!$&'()*+,;=@-]|" PCT ")+(?:/" PCHAR "*)*|)"
#define UCHAR "(?:[A-Za-z0-9._~!$&'()*+,;=:@\\u00A0-\\uD7FF\\uF900-\\uFDCF\\uFDF0-\\uFFEF-]|[\\u{10000}-\\u{EFFFD}]|" PCT ")"
#define PRIVATE "[/?\\uE000-\\uF8FF]|[\\u{F0000}-\\u{FFFFD}]|[\\u{100000}-\\u{10FFFD}]"
#define UQUERY "(?:\\?(?:" UCHAR "|" PRIVATE ")*)?(?:#(?:" UCHAR "|[/?])*)?"
#define UPATH "(?:/(?:" UCHAR "+(?:/" UCHAR "*)*)?|" UCHAR "+(?:/" UCHAR "*)*|)"
#define UAUTHORITY \
    "//(?:(?:" UCHAR ")*@)?(?:\\[(?:" IPV6 "|" IPFUTURE ")\\]|(?:[A-Za-z0-9._~!$&'()*+,;=\\u00A0-\\uD7FF-]|" PCT ")*)(?::[0-9]*)?(?:/" \
    UCHAR "*)*"
#define NAME "(?:[A-Za-z0-9_]|" PCT ")+"
#define VARIABLE NAME "(?:\\." NAME ")*(?::[1-9][0-9]{0,3}|\\*)?"
#define ATOM "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
#define QUOTED "\"(?:[ !#-\\[\\]-~]|\\\\[ -~])*\""

static const char *const FORMATS[][2] = {
    {"date", DATE},
    {"time", TIME},
    {"date-time", DATE "[Tt]" TIME},
    {"duration", "P(?:[0-9]+W|(?:[0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?|[0-9]+M(?:[0-9]+D)?|[0-9]+D)(?:T(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|"
                 "[0-9]+M(?:[0-9]+S)?|[0-9]+S))?|T(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S))"},
    {"email", "(?=.{1,254}$)(?:" ATOM "(?:\\." ATOM ")*|" QUOTED ")@(?:" LABEL "(?:\\." LABEL ")*|\\[(?:" IPV4 "|IPv6:" IPV6 ")\\])"},
    {"hostname", "(?=.{1,253}$)(?!(?:.*\\.)?[xX][nN]--)" LABEL "(?:\\." LABEL ")*"},
    {"ipv4", IPV4},
    {"ipv6", IPV6},
    {"uri", SCHEME "(?:" AUTHORITY "|" PATH ")" QUERY},
    {"uri-reference", "(?:" SCHEME "(?:" AUTHORITY "|" PATH ")|" AUTHORITY "|" NOSCHEME ")" QUERY},
    {"iri", SCHEME "(?:" UAUTHORITY "|" UPATH ")" UQUERY},
    {"iri-reference", "(?:" SCHEME "(?:" UAUTHORITY "|" UPATH ")|" UAUTHORITY "|" UPATH ")" UQUERY},
    {"uuid", "[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}"},
    {"json-pointer", "(?:/(?:[^~/]|~[01])*)*"},
    {"relative-json-pointer", "(?:0|[1-9][0-9]*)(?:#|(?:/(?:[^~/]|~[01])*)*)"},
    {"uri-template", "(?:[!#$&'(-;=?-Z\\[\\]_a-z~\\u00A0-\\uD7FF\\uE000-\\uFDCF\\uFDF0-\\uFFEF]|[\\u{10000}-\\u{10FFFD}]|" PCT
                     "|\\{[+#./;?&=,!@|]?" VARIABLE "(?:," VARIABLE ")*\\})*"},
};

slm_rx slm_schema_format(slm_compiler *c, const slm_json *name)
{
    static const char *const refused[] = {"regex", "idn-email", "idn-hostname"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (slm_json_is(name, refused[i])) {
            slm_schema_refuse(c, "format", name->text);
            return SLM_RX_EMPTY;
        }
    for (uint32_t i = 0; i < c->n_formats; i++)
        if (slm_json_is(name, c->formats[i].name))
            return c->formats[i].rx;
    for (size_t i = 0; i < sizeof FORMATS / sizeof *FORMATS; i++)
        if (slm_json_is(name, FORMATS[i][0])) {
            slm_rx rx = slm_pattern_compile(c->p, FORMATS[i][1], strlen(FORMATS[i][1]), SLM_PATTERN_JSON | SLM_PATTERN_WHOLE);
            if (SLM_GROW(c->b, c->formats, c->formats_capacity, (uint64_t) c->n_formats + 1))
                c->formats[c->n_formats++] = (slm_format) {FORMATS[i][0], rx};
            return rx;
        }
    return SLM_RX_ANY;
}

slm_rx slm_schema_pattern(slm_compiler *c, const char *text, uint32_t n)
{
    slm_rx rx;
    for (uint32_t i = 0; i < c->n_patterns; i++)
        if (c->patterns[i].n_key == n && memcmp(c->patterns[i].key, text, n) == 0)
            return c->patterns[i].pattern;
    rx = slm_pattern_compile(c->p, text, n, SLM_PATTERN_JSON);
    if (SLM_GROW(c->b, c->patterns, c->patterns_capacity, (uint64_t) c->n_patterns + 1))
        c->patterns[c->n_patterns++] = (slm_prop) {text, n, 0, rx, true};
    return rx;
}

/* ---- the algebra */

slm_lang slm_lang_not(slm_compiler *c, slm_lang l)
{
    return (slm_lang) {l.words ^ 7, l.not_num, l.num, slm_rx_not(c->p, l.str)};
}

slm_lang slm_lang_and(slm_compiler *c, slm_lang a, slm_lang b)
{
    return (slm_lang) {a.words & b.words, slm_rx_and(c->p, a.num, b.num), slm_rx_or(c->p, a.not_num, b.not_num),
                       slm_rx_and(c->p, a.str, b.str)};
}

static slm_lang lang_or(slm_compiler *c, slm_lang a, slm_lang b)
{
    return (slm_lang) {a.words | b.words, slm_rx_or(c->p, a.num, b.num), slm_rx_and(c->p, a.not_num, b.not_num),
                       slm_rx_or(c->p, a.str, b.str)};
}

static const slm_lang ALL = {7, SLM_RX_ANY, SLM_RX_EMPTY, SLM_RX_ANY}, NONE = {0, SLM_RX_EMPTY, SLM_RX_ANY, SLM_RX_EMPTY};

/* Are all texts of an expression written as JSON writes them?  Complements are not. */
static bool closed(const slm_rx_pool *p, slm_rx e)
{
    const slm_rx_node *n = &p->nodes[e];
    bool any = false, all = true;
    switch (n->kind) {
    case RX_NOT:
    case RX_COMPARE:
    case RX_DIVIDE:
        return false;
    case RX_OR:
    case RX_AND:
        for (uint32_t i = 0; i < n->b; i++) {
            bool one = closed(p, p->lists[n->a + i]);
            any = any || one;
            all = all && one;
        }
        return n->kind == RX_OR ? all : any;
    default:
        return true;
    }
}

slm_rx slm_lang_lexeme(slm_compiler *c, slm_lang l)
{
    static const char *const words[] = {"null", "false", "true"};
    slm_rx all = SLM_RX_EMPTY, num = l.num, str = l.str;
    if (num == SLM_RX_ANY)
        num = c->number;
    else if (!closed(c->p, num))
        num = slm_rx_and(c->p, c->plain, num);
    if (str == SLM_RX_ANY)
        str = c->p->json_text;
    else if (!closed(c->p, str))
        str = slm_rx_and(c->p, c->p->json_text, str);
    if (str != SLM_RX_EMPTY)
        all = slm_rx_literal(c->p, "\"", 1, slm_rx_cat(c->p, str, slm_rx_byte(c->p, '"')));
    for (int i = 0; i < 3; i++)
        if (l.words >> i & 1)
            all = slm_rx_or(c->p, all, slm_rx_literal(c->p, words[i], strlen(words[i]), SLM_RX_EPS));
    return slm_rx_or(c->p, all, num);
}

/* ---- nodes */

/* All plain spellings of a number: 1, 1.0, 1.00. */
static slm_rx spellings(slm_compiler *c, const slm_decimal *d)
{
    char *text = slm_budget_alloc(c->b, d->n_int + d->n_frac + 3);
    uint32_t n = 0;
    bool zero = d->n_int == 1 && d->n_frac == 0 && d->digits[0] == '0';
    slm_rx zeros = slm_rx_byte(c->p, '0'), tail;
    if (text == NULL)
        return SLM_RX_EMPTY;
    if (d->negative)
        text[n++] = '-';
    memcpy(text + n, d->digits, d->n_int);
    n += d->n_int;
    if (d->n_frac > 0) {
        text[n++] = '.';
        memcpy(text + n, d->digits + d->n_int, d->n_frac);
        n += d->n_frac;
        tail = slm_rx_rep(c->p, zeros, 0, SLM_RX_MANY);
    } else {
        tail = slm_rx_or(c->p, SLM_RX_EPS, slm_rx_literal(c->p, ".", 1, slm_rx_rep(c->p, zeros, 1, SLM_RX_MANY)));
    }
    tail = slm_rx_literal(c->p, text, n, tail);
    return zero ? slm_rx_or(c->p, tail, slm_rx_literal(c->p, "-", 1, tail)) : tail;
}

static void add_number(slm_compiler *c, slm_lang *l, const slm_json *v)
{
    uint32_t d;
    slm_decimal decimal;
    char *text;
    uint32_t n = 0;
    if (!slm_decimal_parse(c->p, v->text, v->n, &d))
        return;
    decimal = c->p->decimals[d];
    text = slm_budget_alloc(c->b, decimal.n_int + decimal.n_frac + 3);
    if (text == NULL)
        return;
    n = (uint32_t) sprintf(text, "%s%.*s%s%.*s", decimal.negative ? "-" : "", (int) decimal.n_int, decimal.digits,
                           decimal.n_frac > 0 ? "." : "", (int) decimal.n_frac, decimal.digits + decimal.n_int);
    l->num = slm_rx_or(c->p, l->num, slm_rx_or(c->p, slm_rx_literal(c->p, v->text, v->n, SLM_RX_EPS),
                                               slm_rx_literal(c->p, text, n, SLM_RX_EPS)));
    if (decimal.n_frac == 0)
        l->num = slm_rx_or(c->p, l->num, slm_rx_literal(c->p, text, n, slm_rx_literal(c->p, ".0", 2, SLM_RX_EPS)));
    l->not_num = slm_rx_and(c->p, l->not_num, slm_rx_not(c->p, spellings(c, &decimal)));
}

/* Collects the strings of a list of values as a trie. */
static slm_rx strings(slm_compiler *c, const slm_json *const *values, uint32_t n)
{
    slm_text *texts = slm_budget_alloc(c->b, (n + 1) * sizeof *texts);
    slm_rx *then = slm_budget_alloc(c->b, (n + 1) * sizeof *then);
    uint32_t n_texts = 0, n_different = 0;
    if (texts == NULL || then == NULL)
        return SLM_RX_EMPTY;
    for (uint32_t i = 0; i < n; i++) {
        char *out = NULL, *kept;
        uint32_t length = 0, capacity = 0;
        if (values[i]->type != JSON_STRING_)
            continue;
        slm_json_escape(c->b, values[i]->text, values[i]->n, &out, &length, &capacity);
        kept = slm_budget_alloc(c->b, length + 1);
        if (kept != NULL && length > 0)
            memcpy(kept, out, length);
        free(out);
        c->b->bytes -= capacity;
        if (kept == NULL || c->b->failed)
            return SLM_RX_EMPTY;
        texts[n_texts++] = (slm_text) {kept, length};
    }
    if (n_texts > 1)
        qsort(texts, n_texts, sizeof *texts, slm_text_compare);
    for (uint32_t i = 0; i < n_texts; i++)
        if (n_different == 0 || slm_text_compare(&texts[n_different - 1], &texts[i]) != 0) {
            texts[n_different] = texts[i];
            then[n_different++] = SLM_RX_EPS;
        }
    return slm_rx_trie(c->p, texts, then, n_different);
}

static bool scalar_in(slm_compiler *c, const slm_lang *l, const slm_json *v)
{
    char *out = NULL;
    uint32_t n = 0, capacity = 0;
    bool yes;
    if (v->type <= JSON_TRUE_)
        return l->words >> v->type & 1;
    if (v->type == JSON_NUMBER_)
        return l->num == SLM_RX_ANY || slm_rx_matches(c->p, l->num, v->text, v->n);
    if (v->type != JSON_STRING_ || l->str == SLM_RX_ANY)
        return v->type == JSON_STRING_;
    yes = slm_json_escape(c->b, v->text, v->n, &out, &n, &capacity) && slm_rx_matches(c->p, l->str, out, n);
    free(out);
    c->b->bytes -= capacity;
    return yes;
}

/* The scalars of enum or const that satisfy the node's other keywords. */
static slm_lang lang_of_values(slm_compiler *c, const slm_node *n, slm_lang other)
{
    slm_lang l = NONE;
    uint32_t count = 0, total = n->constant ? 1 : n->enumeration->n;
    const slm_json **values = slm_budget_alloc(c->b, (total + 1) * sizeof *values);
    const slm_json *v = n->constant ? n->enumeration : n->enumeration->first;
    for (uint32_t i = 0; values != NULL && i < total && slm_budget_step(c->b, 1); i++, v = v->next) {
        if (!scalar_in(c, &other, v))
            continue;
        values[count++] = v;
        if (v->type <= JSON_TRUE_)
            l.words |= (uint8_t) (1 << v->type);
        if (v->type == JSON_NUMBER_)
            add_number(c, &l, v);
    }
    if (values != NULL)
        l.str = strings(c, values, count);
    return l;
}

static void limit_number(slm_compiler *c, slm_lang *l, const slm_json *bound, char op, char opposite)
{
    uint32_t d;
    if (bound == NULL || !slm_decimal_parse(c->p, bound->text, bound->n, &d))
        return;
    l->num = slm_rx_and(c->p, l->num, slm_rx_compare(c->p, d, op));
    l->not_num = slm_rx_or(c->p, l->not_num, slm_rx_compare(c->p, d, opposite));
}

static void divide_number(slm_compiler *c, slm_lang *l, const slm_json *by)
{
    uint32_t d, m = 0;
    slm_decimal decimal;
    slm_rx rx;
    if (by == NULL || !slm_decimal_parse(c->p, by->text, by->n, &d))
        return;
    decimal = c->p->decimals[d];
    for (uint32_t i = 0; i < decimal.n_int + decimal.n_frac; i++) {
        if (m > 100000000) {
            slm_schema_refuse(c, "multipleOf", "too many digits");
            return;
        }
        m = m * 10 + (uint32_t) (decimal.digits[i] - '0');
    }
    if (m == 0 || decimal.negative) {
        slm_budget_fail(c->b, SLM_INVALID, "the schema's \"multipleOf\" is not above 0");
        return;
    }
    rx = slm_rx_multiple(c->p, m, decimal.n_frac);
    l->num = slm_rx_and(c->p, l->num, rx);
    l->not_num = slm_rx_or(c->p, l->not_num, slm_rx_not(c->p, rx));
}

/* The keywords of a node that look at a scalar itself. */
static slm_lang own_lang(slm_compiler *c, const slm_node *n)
{
    slm_lang l = ALL;
    l.words &= n->types;
    if (!(n->types & TYPE_NUMBER)) {
        l.num = SLM_RX_EMPTY;
        l.not_num = SLM_RX_ANY;
    } else {
        if (n->integer) {
            l.num = c->integer;
            l.not_num = slm_rx_not(c->p, c->maybe_integer);
        }
        limit_number(c, &l, n->minimum, 'g', '<');
        limit_number(c, &l, n->maximum, 'l', '>');
        limit_number(c, &l, n->above, '>', 'l');
        limit_number(c, &l, n->below, '<', 'g');
        divide_number(c, &l, n->multiple);
    }
    if (!(n->types & TYPE_STRING)) {
        l.str = SLM_RX_EMPTY;
        return n->enumeration != NULL ? lang_of_values(c, n, l) : l;
    }
    if (n->min_length > 0 || n->max_length != SLM_RX_MANY)
        l.str = n->min_length > n->max_length ? SLM_RX_EMPTY : slm_rx_rep(c->p, c->p->json_char, n->min_length, n->max_length);
    if (n->pattern != NULL)
        l.str = slm_rx_and(c->p, l.str, slm_schema_pattern(c, n->pattern->text, n->pattern->n));
    if (n->format != NULL)
        l.str = slm_rx_and(c->p, l.str, slm_schema_format(c, n->format));
    return n->enumeration != NULL ? lang_of_values(c, n, l) : l;
}

/* Exactly one of the nodes. */
static slm_lang one_of(slm_compiler *c, const slm_nodes *nodes)
{
    slm_lang none = ALL, one = NONE;
    for (uint32_t i = 0; i < nodes->n && !c->b->failed; i++) {
        slm_lang x = slm_lang_of(c, nodes->ids[i]), not_x = slm_lang_not(c, x);
        one = lang_or(c, slm_lang_and(c, one, not_x), slm_lang_and(c, none, x));
        none = slm_lang_and(c, none, not_x);
    }
    return one;
}

static slm_lang applied(slm_compiler *c, slm_node *n, slm_lang l)
{
    for (uint32_t i = 0; i < n->all.n && !c->b->failed; i++)
        l = slm_lang_and(c, l, slm_lang_of(c, n->all.ids[i]));
    if (n->any.n > 0) {
        slm_lang any = NONE;
        for (uint32_t i = 0; i < n->any.n && !c->b->failed; i++)
            any = lang_or(c, any, slm_lang_of(c, n->any.ids[i]));
        l = slm_lang_and(c, l, any);
    }
    if (n->one.n > 0)
        l = slm_lang_and(c, l, one_of(c, &n->one));
    if (n->no != 0)
        l = slm_lang_and(c, l, slm_lang_not(c, slm_lang_of(c, n->no)));
    if (n->ref != 0)
        l = slm_lang_and(c, l, slm_lang_of(c, n->ref));
    if (n->condition != 0) {
        slm_lang holds = slm_lang_of(c, n->condition);
        slm_lang then = n->then != 0 ? slm_lang_of(c, n->then) : ALL, other = n->otherwise != 0 ? slm_lang_of(c, n->otherwise) : ALL;
        l = slm_lang_and(c, l, lang_or(c, slm_lang_and(c, holds, then), slm_lang_and(c, slm_lang_not(c, holds), other)));
    }
    return l;
}

slm_lang slm_lang_of(slm_compiler *c, uint32_t node)
{
    slm_node *n = slm_node_read(c, node);
    slm_lang l;
    if (n->boolean >= 0 || c->b->failed)
        return n->boolean == 1 ? ALL : NONE;
    if (n->lang_known)
        return n->lang;
    if (n->lang_busy || c->depth > 300) { /* refers to itself: says nothing more */
        if (c->depth > 300)
            slm_budget_fail(c->b, SLM_LIMIT, "the schema's references are nested deeper than 300");
        return ALL;
    }
    n->lang_busy = true;
    c->depth++;
    l = applied(c, n, own_lang(c, n));
    c->depth--;
    n->lang_busy = false;
    n->lang = l;
    n->lang_known = true;
    return l;
}
