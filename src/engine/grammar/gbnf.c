/*
 * GBNF grammars: rules  name ::= alternatives  of literals, classes, rules, groups and repetitions; the answer is what "root" derives.
 *
 * A rule that does not need itself, however far down, is regular and becomes part of the lexemes where it is named.  What is left are
 * values whose alternatives are sequences of lexemes and values; a repetition of such becomes a rule of its own (x* is "" | x x*).
 * Refused by name: rules that begin with themselves (left recursion, also hidden behind what may be empty), rules that are not there.
 */
#include <stdlib.h>

#include "engine/grammar/compile.h"
#include "engine/grammar/pattern.h"

typedef enum part_kind { PART_RX, PART_RULE, PART_CHOICE, PART_REPEAT } part_kind;

/* A sequence is a chain by next; a choice has sequences (chains by other) of which each begins with inner. */
typedef struct part {
    part_kind kind;
    slm_rx rx;
    uint32_t rule, min, max;
    struct sequence *choices; /* PART_CHOICE, PART_REPEAT (one element as a choice) */
    struct part *next;
} part;

typedef struct sequence {
    part *first;
    struct sequence *next;
} sequence;

typedef struct rule {
    const char *name;
    uint32_t n_name, value; /* value: 0 = not made */
    sequence *choices;      /* NULL: named, never defined */
    enum { RULE_NEW, RULE_BUSY, RULE_REGULAR, RULE_RECURSIVE } stage;
    slm_rx rx;
    bool compiled;
} rule;

typedef struct reader {
    slm_machine *m;
    slm_budget *b;
    slm_rx_pool *p;
    const char *text;
    size_t n, at;
    int depth;
    rule *rules;
    uint32_t n_rules, rules_capacity;
} reader;

enum { MAX_NESTING = 200, MAX_UNROLL = 256 };

static void *wrong(reader *r, const char *what)
{
    uint32_t line = 1;
    for (size_t i = 0; i < r->at && i < r->n; i++)
        line += r->text[i] == '\n';
    slm_budget_fail(r->b, SLM_INVALID, "the grammar is broken in line %u: %s", line, what);
    return NULL;
}

/* Spaces and comments; line ends as well where the rule goes on. */
static void space(reader *r, bool lines)
{
    for (; r->at < r->n; r->at++) {
        char c = r->text[r->at];
        if (c == '#')
            while (r->at + 1 < r->n && r->text[r->at + 1] != '\n')
                r->at++;
        else if (c != ' ' && c != '\t' && !(lines && (c == '\n' || c == '\r')))
            break;
    }
}

static bool peek(const reader *r, char c)
{
    return r->at < r->n && r->text[r->at] == c;
}

static bool take(reader *r, char c)
{
    if (!peek(r, c))
        return false;
    r->at++;
    return true;
}

static bool name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static uint32_t name_length(const reader *r)
{
    uint32_t n = 0;
    while (r->at + n < r->n && name_char(r->text[r->at + n]))
        n++;
    return n;
}

static uint32_t rule_of(reader *r, const char *name, uint32_t n)
{
    for (uint32_t i = 0; i < r->n_rules; i++)
        if (r->rules[i].n_name == n && memcmp(r->rules[i].name, name, n) == 0)
            return i;
    if (!SLM_GROW(r->b, r->rules, r->rules_capacity, (uint64_t) r->n_rules + 1) || !slm_budget_step(r->b, r->n_rules / 8 + 1))
        return 0;
    r->rules[r->n_rules] = (rule) {.name = name, .n_name = n};
    return r->n_rules++;
}

static part *part_new(reader *r, part_kind kind)
{
    part *p = slm_budget_alloc(r->b, sizeof *p);
    if (p == NULL || !slm_budget_step(r->b, 1))
        return NULL;
    p->kind = kind;
    return p;
}

/* One character of a literal, read as a class reads it, so that both know the same escapes. */
static slm_rx literal_char(reader *r)
{
    size_t from = r->at, at = 1;
    char one[24] = "[";
    uint32_t length = 1;
    char next = r->at + 1 < r->n ? r->text[r->at + 1] : 0;
    if (r->text[r->at] == '\\')
        r->at += 2 + (size_t) (next == 'x' ? 2 : next == 'u' ? 4 : next == 'U' ? 8 : 0);
    else
        do
            r->at++;
        while (r->at < r->n && ((unsigned char) r->text[r->at] & 0xC0) == 0x80 && r->at - from < 4);
    if (r->at > r->n)
        return SLM_RX_EMPTY;
    if (strchr("]^[", r->text[from]) != NULL)
        one[length++] = '\\';
    memcpy(one + length, r->text + from, r->at - from);
    length += (uint32_t) (r->at - from);
    one[length++] = ']';
    return slm_pattern_class(r->p, one, length, &at, 0);
}

/* Behind the opening quote. */
static slm_rx literal(reader *r)
{
    size_t end = r->at, n = 0;
    slm_rx *chars, made = SLM_RX_EPS;
    while (end < r->n && r->text[end] != '"')
        end += r->text[end] == '\\' ? 2 : 1;
    if (end >= r->n)
        return wrong(r, "a literal without its end"), SLM_RX_EMPTY;
    chars = slm_budget_alloc(r->b, (end - r->at + 1) * sizeof *chars);
    while (chars != NULL && r->at < end && !r->b->failed)
        chars[n++] = literal_char(r);
    r->at = end + 1;
    while (n > 0)
        made = slm_rx_cat(r->p, chars[--n], made);
    return made;
}

static sequence *take_choices(reader *r, bool inside);

static part *take_element(reader *r)
{
    static const uint32_t all[][2] = {{0, 0x10FFFF}};
    part *e = part_new(r, PART_RX);
    uint32_t n = name_length(r);
    if (e == NULL)
        return NULL;
    if (take(r, '"')) {
        e->rx = literal(r);
    } else if (take(r, '[')) {
        e->rx = slm_pattern_class(r->p, r->text, r->n, &r->at, 0);
    } else if (take(r, '.')) {
        e->rx = slm_rx_chars(r->p, all, 1, false);
    } else if (take(r, '(')) {
        e->kind = PART_CHOICE;
        e->choices = take_choices(r, true);
        if (!r->b->failed && !take(r, ')'))
            return wrong(r, "a group without its end");
    } else if (n > 0) {
        e->kind = PART_RULE;
        e->rule = rule_of(r, r->text + r->at, n);
        r->at += n;
    } else {
        return wrong(r, "a literal, class, rule or group is due");
    }
    return r->b->failed ? NULL : e;
}

/* {m}, {m,}, {,n}, {m,n}, behind the brace */
static bool take_counts(reader *r, uint32_t *min, uint32_t *max)
{
    uint64_t counts[2] = {0, 0};
    bool comma = false, digits[2] = {false, false};
    for (; r->at < r->n && r->text[r->at] != '}'; r->at++) {
        char c = r->text[r->at];
        if (c == ',' && !comma) {
            comma = true;
        } else if (c >= '0' && c <= '9') {
            counts[comma] = counts[comma] * 10 + (uint64_t) (c - '0');
            digits[comma] = true;
            if (counts[comma] > 100000)
                return slm_budget_fail(r->b, SLM_LIMIT, "the grammar repeats more than 100,000 times");
        } else if (c != ' ') {
            return wrong(r, "counts are due") != NULL;
        }
    }
    *min = (uint32_t) counts[0];
    *max = !comma ? *min : digits[1] ? (uint32_t) counts[1] : SLM_RX_MANY;
    if (!take(r, '}') || (!digits[0] && !digits[1]) || *min > *max)
        return wrong(r, "counts that are none") != NULL;
    return true;
}

static part *take_repeats(reader *r)
{
    part *e = take_element(r);
    while (e != NULL && !r->b->failed) {
        uint32_t min = 0, max = SLM_RX_MANY;
        part *rep;
        space(r, false);
        if (take(r, '+'))
            min = 1;
        else if (take(r, '?'))
            max = 1;
        else if (!take(r, '*') && !(take(r, '{') && take_counts(r, &min, &max)))
            break;
        rep = part_new(r, PART_REPEAT);
        if (rep == NULL || (rep->choices = slm_budget_alloc(r->b, sizeof *rep->choices)) == NULL)
            return NULL;
        rep->min = min;
        rep->max = max;
        rep->choices->first = e;
        e = rep;
    }
    return e;
}

static sequence *take_choices(reader *r, bool inside)
{
    sequence *first = NULL, **last = &first;
    if (++r->depth > MAX_NESTING)
        return wrong(r, "groups nested deeper than 200");
    do {
        part **to;
        *last = slm_budget_alloc(r->b, sizeof **last);
        if (*last == NULL)
            return NULL;
        to = &(*last)->first;
        for (;;) {
            space(r, inside || *to == (*last)->first); /* a rule may go on behind its | */
            if (r->at >= r->n || strchr("|)\n\r", r->text[r->at]) != NULL)
                break;
            *to = take_repeats(r);
            if (*to == NULL)
                return NULL;
            to = &(*to)->next;
            space(r, inside);
            if (r->at >= r->n || strchr("|)\n\r", r->text[r->at]) != NULL)
                break;
        }
        last = &(*last)->next;
    } while (take(r, '|'));
    r->depth--;
    return first;
}

static bool take_rules(reader *r)
{
    for (space(r, true); r->at < r->n && !r->b->failed; space(r, true)) {
        uint32_t n = name_length(r), which;
        sequence *choices;
        if (n == 0)
            return wrong(r, "a rule's name is due") != NULL;
        which = rule_of(r, r->text + r->at, n);
        r->at += n;
        space(r, false);
        if (r->n - r->at < 3 || memcmp(r->text + r->at, "::=", 3) != 0)
            return wrong(r, "::= is due") != NULL;
        r->at += 3;
        choices = take_choices(r, false);
        if (r->b->failed)
            return false;
        if (r->rules[which].choices != NULL)
            return slm_budget_fail(r->b, SLM_INVALID, "the rule \"%.*s\" comes twice", (int) (n < 100 ? n : 100), r->rules[which].name);
        r->rules[which].choices = choices;
        if (r->at < r->n && r->text[r->at] != '\n' && r->text[r->at] != '\r')
            return wrong(r, "a closing bracket without its group") != NULL;
    }
    return !r->b->failed;
}

/* ---- which rules are regular */

static bool regular(reader *r, uint32_t which);

static bool choices_regular(reader *r, const sequence *s)
{
    bool all = true;
    for (; s != NULL; s = s->next)
        for (const part *p = s->first; p != NULL; p = p->next) {
            if (p->kind == PART_RULE && !regular(r, p->rule))
                all = false;
            if ((p->kind == PART_CHOICE || p->kind == PART_REPEAT) && !choices_regular(r, p->choices))
                all = false;
        }
    return all;
}

/* A rule that is met again while it is looked at is recursive, and so is all between. */
static bool regular(reader *r, uint32_t which)
{
    bool yes;
    if (r->b->failed || r->rules[which].choices == NULL)
        return !r->b->failed && slm_budget_fail(r->b, SLM_INVALID, "the grammar has no rule \"%.*s\"",
                                                (int) (r->rules[which].n_name < 100 ? r->rules[which].n_name : 100), r->rules[which].name);
    if (r->rules[which].stage != RULE_NEW) {
        if (r->rules[which].stage == RULE_BUSY)
            r->rules[which].stage = RULE_RECURSIVE;
        return r->rules[which].stage == RULE_REGULAR;
    }
    if (++r->depth > 2 * MAX_NESTING)
        return slm_budget_fail(r->b, SLM_LIMIT, "the grammar's rules are nested deeper than %d", 2 * MAX_NESTING);
    r->rules[which].stage = RULE_BUSY;
    yes = choices_regular(r, r->rules[which].choices);
    r->depth--;
    r->rules[which].stage = yes && r->rules[which].stage == RULE_BUSY ? RULE_REGULAR : RULE_RECURSIVE;
    return r->rules[which].stage == RULE_REGULAR;
}

/* ---- regular parts as expressions */

static slm_rx choices_rx(reader *r, const sequence *s);

static slm_rx part_rx(reader *r, const part *p)
{
    rule *of;
    switch (p->kind) {
    case PART_RX:
        return p->rx;
    case PART_CHOICE:
        return choices_rx(r, p->choices);
    case PART_REPEAT:
        return slm_rx_rep(r->p, choices_rx(r, p->choices), p->min, p->max);
    default:
        of = &r->rules[p->rule];
        if (!of->compiled)
            of->rx = choices_rx(r, of->choices);
        of->compiled = true;
        return of->rx;
    }
}

static slm_rx choices_rx(reader *r, const sequence *s)
{
    slm_rx all = SLM_RX_EMPTY;
    for (; s != NULL && slm_budget_step(r->b, 1); s = s->next) {
        slm_rx one = SLM_RX_EPS;
        for (const part *p = s->first; p != NULL && !r->b->failed; p = p->next)
            one = slm_rx_cat(r->p, one, part_rx(r, p));
        all = slm_rx_or(r->p, all, one);
    }
    return all;
}

static bool part_regular(reader *r, const part *p)
{
    return p->kind == PART_RX || (p->kind == PART_RULE ? regular(r, p->rule) : choices_regular(r, p->choices));
}

/* ---- the others as values */

typedef struct symbols {
    slm_symbol *list;
    uint32_t n, capacity;
} symbols;

static uint32_t value_new(reader *r)
{
    slm_machine *m = r->m;
    if (!SLM_GROW(r->b, m->values, m->values_capacity, (uint64_t) m->n_values + 2) || !slm_budget_step(r->b, 1))
        return 0;
    m->n_values += m->n_values == 0;
    m->values[m->n_values] = (slm_value) {.scalar = SLM_RX_EMPTY};
    return m->n_values++;
}

static void add_lexeme(reader *r, symbols *s, slm_rx rx)
{
    if (s->n > 0 && !s->list[s->n - 1].is_value)
        s->list[s->n - 1].id = slm_rx_cat(r->p, s->list[s->n - 1].id, rx);
    else if (rx != SLM_RX_EPS && SLM_GROW(r->b, s->list, s->capacity, (uint64_t) s->n + 1))
        s->list[s->n++] = (slm_symbol) {false, rx};
}

static void add_value(reader *r, symbols *s, uint32_t value)
{
    if (SLM_GROW(r->b, s->list, s->capacity, (uint64_t) s->n + 1))
        s->list[s->n++] = (slm_symbol) {true, value};
}

static bool sequence_shape(reader *r, const symbols *s, slm_shape *shape)
{
    *shape = (slm_shape) {.kind = SHAPE_SEQUENCE};
    shape->sequence.n = s->n;
    shape->sequence.symbols = slm_budget_alloc(r->b, (s->n + 1) * sizeof *s->list);
    if (shape->sequence.symbols != NULL && s->n > 0)
        memcpy(shape->sequence.symbols, s->list, s->n * sizeof *s->list);
    return shape->sequence.symbols != NULL;
}

/* Shapes of a value stand together: made first, then put behind the others. */
static void value_set(reader *r, uint32_t value, const slm_shape *shapes, uint32_t n)
{
    slm_machine *m = r->m;
    if (!SLM_GROW(r->b, m->shapes, m->shapes_capacity, (uint64_t) m->n_shapes + n))
        return;
    m->values[value].shapes = m->n_shapes;
    m->values[value].n_shapes = n;
    if (n > 0)
        memcpy(m->shapes + m->n_shapes, shapes, n * sizeof *shapes);
    m->n_shapes += n;
}

static void make_value(reader *r, uint32_t value, const sequence *choices);

static void add_part(reader *r, symbols *s, const part *p);

/* At most n more of the element, or any number: a rule that is "" or one and the rest. */
static uint32_t more_value(reader *r, const sequence *element, uint32_t n)
{
    uint32_t value = value_new(r);
    symbols one = {0};
    slm_shape shapes[2];
    if (r->b->failed)
        return 0;
    for (const part *p = element->first; p != NULL; p = p->next)
        add_part(r, &one, p);
    if (n == SLM_RX_MANY)
        add_value(r, &one, value);
    else if (n > 1)
        add_value(r, &one, more_value(r, element, n - 1));
    if (sequence_shape(r, &(symbols) {0}, &shapes[0]) && sequence_shape(r, &one, &shapes[1]))
        value_set(r, value, shapes, 2);
    free(one.list);
    r->b->bytes -= one.capacity * sizeof *one.list;
    return value;
}

static void add_part(reader *r, symbols *s, const part *p)
{
    uint32_t value;
    if (r->b->failed)
        return;
    if (part_regular(r, p)) {
        add_lexeme(r, s, part_rx(r, p));
        return;
    }
    switch (p->kind) {
    case PART_RULE:
        if (r->rules[p->rule].value == 0) {
            value = value_new(r);
            r->rules[p->rule].value = value;
            make_value(r, value, r->rules[p->rule].choices);
        }
        add_value(r, s, r->rules[p->rule].value);
        break;
    case PART_CHOICE:
        value = value_new(r);
        make_value(r, value, p->choices);
        add_value(r, s, value);
        break;
    default:
        if (p->min > MAX_UNROLL || (p->max != SLM_RX_MANY && p->max > MAX_UNROLL)) {
            slm_budget_fail(r->b, SLM_LIMIT, "the grammar repeats a recursive rule more than %d times", MAX_UNROLL);
            return;
        }
        for (uint32_t i = 0; i < p->min; i++)
            add_part(r, s, p->choices->first);
        if (p->max != p->min)
            add_value(r, s, more_value(r, p->choices, p->max == SLM_RX_MANY ? p->max : p->max - p->min));
    }
}

static void make_value(reader *r, uint32_t value, const sequence *choices)
{
    uint32_t n = 0, i = 0;
    slm_shape *shapes;
    for (const sequence *s = choices; s != NULL; s = s->next)
        n++;
    shapes = slm_budget_alloc(r->b, (n + 1) * sizeof *shapes);
    if (++r->depth > 2 * MAX_NESTING)
        slm_budget_fail(r->b, SLM_LIMIT, "the grammar's rules are nested deeper than %d", 2 * MAX_NESTING);
    for (const sequence *s = choices; s != NULL && shapes != NULL && !r->b->failed; s = s->next) {
        symbols list = {0};
        for (const part *p = s->first; p != NULL && !r->b->failed; p = p->next)
            add_part(r, &list, p);
        sequence_shape(r, &list, &shapes[i++]);
        free(list.list);
        r->b->bytes -= list.capacity * sizeof *list.list;
    }
    r->depth--;
    if (!r->b->failed)
        value_set(r, value, shapes, n);
}

/* ---- what may be empty, what begins with itself, what can match */

static bool symbol_is(const slm_machine *m, slm_symbol s, const bool *of_values, bool nullable)
{
    if (s.is_value)
        return of_values[s.id];
    return nullable ? m->rx.nodes[s.id].nullable : true;
}

/* Values of which some alternative has only symbols for which it holds: the least set. */
static void close_values(reader *r, bool *set, bool nullable)
{
    slm_machine *m = r->m;
    for (bool again = true; again && !r->b->failed;) {
        again = false;
        for (uint32_t v = 1; v < m->n_values && slm_budget_step(r->b, 1); v++)
            for (uint32_t k = 0; k < m->values[v].n_shapes && !set[v]; k++) {
                const slm_sequence *s = &m->shapes[m->values[v].shapes + k].sequence;
                uint32_t i = 0;
                while (i < s->n && symbol_is(m, s->symbols[i], set, nullable))
                    i++;
                if (i == s->n)
                    set[v] = again = true;
            }
    }
}

/* Depth first along what may stand at the beginning: stages 1 on the way, 2 done. */
static void find_left(reader *r, uint32_t value, const bool *nullable, uint8_t *stage)
{
    slm_machine *m = r->m;
    if (r->b->failed || stage[value] == 2)
        return;
    if (stage[value] == 1 || ++r->depth > 2000) {
        const char *name = "a repetition of what may be empty";
        uint32_t n = (uint32_t) strlen(name);
        for (uint32_t i = 0; i < r->n_rules; i++)
            if (r->rules[i].value == value) {
                name = r->rules[i].name;
                n = r->rules[i].n_name;
            }
        slm_budget_fail(r->b, SLM_UNSUPPORTED, "left recursion in the grammar: %.*s", (int) (n < 100 ? n : 100), name);
        return;
    }
    stage[value] = 1;
    for (uint32_t k = 0; k < m->values[value].n_shapes; k++) {
        const slm_sequence *s = &m->shapes[m->values[value].shapes + k].sequence;
        for (uint32_t i = 0; i < s->n; i++) {
            if (s->symbols[i].is_value)
                find_left(r, s->symbols[i].id, nullable, stage);
            if (!symbol_is(m, s->symbols[i], nullable, true))
                break;
        }
    }
    r->depth--;
    stage[value] = 2;
}

/* Alternatives with a part that matches nothing leave. */
static void prune(reader *r, const bool *live)
{
    slm_machine *m = r->m;
    for (uint32_t v = 1; v < m->n_values; v++) {
        uint32_t kept = 0;
        for (uint32_t k = 0; k < m->values[v].n_shapes; k++) {
            slm_shape shape = m->shapes[m->values[v].shapes + k];
            bool all = true;
            for (uint32_t i = 0; i < shape.sequence.n && all; i++) {
                slm_symbol s = shape.sequence.symbols[i];
                all = s.is_value ? live[s.id] : slm_rx_is_live(r->p, s.id);
            }
            if (all)
                m->shapes[m->values[v].shapes + kept++] = shape;
        }
        m->values[v].n_shapes = kept;
        m->values[v].live = live[v];
    }
}

static uint32_t check(reader *r, uint32_t root)
{
    slm_machine *m = r->m;
    bool *nullable = slm_budget_alloc(r->b, m->n_values + 1), *live = slm_budget_alloc(r->b, m->n_values + 1);
    uint8_t *stage = slm_budget_alloc(r->b, m->n_values + 1);
    if (nullable == NULL || live == NULL || stage == NULL)
        return 0;
    close_values(r, nullable, true);
    close_values(r, live, false);
    r->depth = 0;
    for (uint32_t v = 1; v < m->n_values && !r->b->failed; v++)
        find_left(r, v, nullable, stage);
    prune(r, live);
    if (!r->b->failed && !live[root])
        slm_budget_fail(r->b, SLM_INVALID, "the grammar derives no text");
    return root;
}

uint32_t slm_gbnf_compile(slm_machine *m, const char *text, size_t n)
{
    reader r = {.m = m, .b = &m->budget, .p = &m->rx, .text = text, .n = n};
    uint32_t root = 0, value = 0;
    if (take_rules(&r)) {
        part start = {.kind = PART_RULE};
        symbols all = {0};
        slm_shape shape;
        r.depth = 0;
        start.rule = rule_of(&r, "root", 4);
        value = value_new(&r);
        for (root = 0; root < r.n_rules && !r.b->failed; root++)
            regular(&r, root);
        add_part(&r, &all, &start);
        if (!r.b->failed && sequence_shape(&r, &all, &shape))
            value_set(&r, value, &shape, 1);
        free(all.list);
        root = r.b->failed ? 0 : check(&r, value);
    }
    free(r.rules);
    return m->budget.failed ? 0 : root;
}
