/*
 * extract.c: the candidates of a field, by form and by the words around them (extract.h).
 */
#include "engine/extract/extract.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/extract/cues.h"
#include "engine/extract/scan.h"
#include "engine/extract/words.h"
#include "engine/redact/redact.h"

static const char *const names[] = {
#define KIND(id, name) name,
    SLM_EXTRACT_KINDS(KIND)
#undef KIND
};

static const struct {
    const char *name;
    slm_extract_kind kind;
} others[] = {{"string", SLM_EXTRACT_TEXT},
              {"varchar", SLM_EXTRACT_TEXT},
              {"numeric", SLM_EXTRACT_NUMBER},
              {"decimal", SLM_EXTRACT_NUMBER},
              {"float", SLM_EXTRACT_NUMBER},
              {"real", SLM_EXTRACT_NUMBER},
              {"double", SLM_EXTRACT_NUMBER},
              {"double precision", SLM_EXTRACT_NUMBER},
              {"int", SLM_EXTRACT_INTEGER},
              {"bigint", SLM_EXTRACT_INTEGER},
              {"smallint", SLM_EXTRACT_INTEGER},
              {"money", SLM_EXTRACT_AMOUNT},
              {"price", SLM_EXTRACT_AMOUNT},
              {"currency", SLM_EXTRACT_AMOUNT},
              {"datetime", SLM_EXTRACT_TIMESTAMP},
              {"date-time", SLM_EXTRACT_TIMESTAMP},
              {"identifier", SLM_EXTRACT_ID},
              {"code", SLM_EXTRACT_ID},
              {"e-mail", SLM_EXTRACT_EMAIL},
              {"telephone", SLM_EXTRACT_PHONE},
              {"uri", SLM_EXTRACT_URL},
              {"inet", SLM_EXTRACT_IP},
              {"ipv4", SLM_EXTRACT_IP},
              {"ipv6", SLM_EXTRACT_IP},
              {"timestamptz", SLM_EXTRACT_TIMESTAMP}};

const char *slm_extract_name(slm_extract_kind kind)
{
    return names[kind];
}

slm_extract_kind slm_extract_of_name(const char *name)
{
    int kind = 0;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcmp(others[i].name, name) == 0)
            return others[i].kind;
    while (kind < SLM_EXTRACT_N_KINDS && strcmp(names[kind], name) != 0)
        kind++;
    return kind == SLM_EXTRACT_ENUM ? SLM_EXTRACT_N_KINDS : (slm_extract_kind) kind;
}

/* ---- what is found */

typedef struct search {
    const char *text;
    size_t length;
    const slm_extract_field *field;
    const slm_extract_options *options;
    slm_words words;
    slm_cues cues;
    slm_extract_candidate *list; /* [n] */
    size_t n, room;
    bool month_first; /* what the text itself says, or else the options */
} search;

static int compare(const void *a, const void *b)
{
    const slm_extract_candidate *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->begin != y->begin ? (x->begin < y->begin ? -1 : 1) : x->end > y->end ? -1 : x->end < y->end;
}

/* A number without a currency is an amount where a word says so: weight BARE, and its score must be this. */
#define BARE 0.6f
#define LEAST_BARE 0.4f

static slm_status add(search *s, slm_extract_candidate c, float weight, slm_error *err)
{
    c.score = s->options->meant ? 1 : slm_cues_score(&s->cues, &s->words, &c) * weight;
    if (c.score < (weight < 1 ? LEAST_BARE : 0))
        return SLM_OK;
    if (s->n == s->room && s->room >= 4 * SLM_EXTRACT_MOST) { /* the best half stays */
        qsort(s->list, s->n, sizeof *s->list, compare);
        s->n = 2 * SLM_EXTRACT_MOST;
    }
    if (s->n == s->room) {
        size_t more = s->room == 0 ? 16 : s->room * 2;
        slm_extract_candidate *grown = realloc(s->list, more * sizeof *grown);
        if (grown == NULL)
            return slm_fail(err, SLM_NOMEM, "out of memory");
        s->list = grown;
        s->room = more;
    }
    s->list[s->n++] = c;
    return SLM_OK;
}

static bool stopped(const search *s, size_t i)
{
    return s->options->stop != NULL && (i & 4095) == 0 && *s->options->stop != 0;
}

/* Calls read at every byte where a value may begin: at words, and at what no word has.  It returns where to go on. */
typedef size_t (*reader)(search *s, size_t at, slm_status *status, slm_error *err);

static slm_status scan(search *s, reader read, slm_error *err)
{
    slm_status status = SLM_OK;
    for (size_t i = 0, polled = 0; i < s->length && status == SLM_OK;) {
        size_t n = slm_word_char(s->text, s->length, i), next = read(s, i, &status, err);
        if (++polled % 1024 == 0 && stopped(s, 0))
            return slm_fail(err, SLM_CANCELLED, "cancelled");
        if (next > i) {
            i = next;
            continue;
        }
        if (n == 0)
            i += slm_other_char(s->text, s->length, i);
        for (bool dense = slm_word_is_dense(s->text, s->length, i); n > 0 && slm_word_is_dense(s->text, s->length, i) == dense;
             n = slm_word_char(s->text, s->length, i))
            i += n;
    }
    return status;
}

/* ---- readers */

static slm_extract_candidate span(size_t begin, size_t end)
{
    return (slm_extract_candidate){.begin = begin, .end = end};
}

static size_t other_value(const search *s, size_t at)
{
    const slm_redact_text t = {s->text, s->length};
    size_t end = slm_redact_email(&t, at);
    if (end == 0)
        end = slm_redact_url(&t, at);
    return end != 0 ? end : slm_redact_iban(&t, at);
}

static size_t read_amount(search *s, size_t at, slm_status *status, slm_error *err)
{
    slm_number number;
    slm_day day;
    size_t end = other_value(s, at);
    if (end > 0)
        return end;
    if (slm_read_date(s->text, s->length, at, s->month_first, &day))
        return day.end;
    if (slm_read_money(s->text, s->length, at, &number)) {
        slm_extract_candidate c = span(number.begin, number.end);
        memcpy(c.normal, number.normal, sizeof c.normal);
        if (!s->field->whole || number.whole)
            *status = add(s, c, 1, err);
        return number.end;
    }
    return 0;
}

/* Is the number part of something that is joined by - / : . , or letters? */
static bool joined(const search *s, const slm_number *n)
{
    unsigned char before = n->begin > 0 ? (unsigned char) s->text[n->begin - 1] : ' ';
    unsigned char behind = n->end < s->length ? (unsigned char) s->text[n->end] : ' ';
    bool more = n->end + 1 < s->length && slm_word_char(s->text, s->length, n->end + 1) > 0;
    static const char *const ordinals[] = {"st", "nd", "rd", "th"};

    if (before == '#' || before == '/' || before == ':' || (before == '-' && n->begin > 1 && s->text[n->begin - 2] != ' '))
        return true;
    if (more && strchr("-/:.,", behind) != NULL && behind != 0)
        return true;
    for (size_t i = 0; i < 4; i++)
        if (n->end + 2 <= s->length && memcmp(s->text + n->end, ordinals[i], 2) == 0)
            return true;
    return false;
}

static size_t read_number(search *s, size_t at, slm_status *status, slm_error *err)
{
    slm_number number;
    slm_day day;
    char time[SLM_EXTRACT_NORMAL];
    size_t end = other_value(s, at);
    if (end > 0)
        return end;
    if (slm_read_date(s->text, s->length, at, s->month_first, &day))
        return day.end;
    if (slm_read_time(s->text, s->length, at, time, &end))
        return end;
    if (!slm_read_number(s->text, s->length, at, false, &number))
        return 0;
    if (!joined(s, &number) && (number.whole || !s->field->whole)) {
        slm_extract_candidate c = span(number.begin, number.end);
        memcpy(c.normal, number.normal, sizeof c.normal);
        *status = add(s, c, s->field->kind == SLM_EXTRACT_AMOUNT ? BARE : 1, err);
    }
    return number.end;
}

static size_t read_date(search *s, size_t at, slm_status *status, slm_error *err)
{
    slm_day day;
    slm_extract_candidate c;
    size_t end = other_value(s, at), time;
    if (end > 0)
        return end;
    if (!slm_read_date(s->text, s->length, at, s->month_first, &day))
        return 0;
    c = span(at, day.end);
    snprintf(c.normal, sizeof c.normal, "%04d-%02d-%02d", day.year, day.month, day.day);
    if (s->field->kind == SLM_EXTRACT_TIMESTAMP) {
        static const char *const between[] = {"T", " ", ", ", " at ", " um ", " à ", " a las ", " alle ", ", at "};
        char clock[SLM_EXTRACT_NORMAL] = "00:00:00";
        for (size_t i = 0; i < sizeof between / sizeof *between; i++) {
            size_t n = strlen(between[i]);
            if (day.end + n < s->length && memcmp(s->text + day.end, between[i], n) == 0 &&
                slm_read_time(s->text, s->length, day.end + n, clock, &time))
                c.end = time;
        }
        snprintf(c.normal + 10, sizeof c.normal - 10, "T%.8s", clock);
    }
    *status = add(s, c, 1, err);
    return c.end;
}

static size_t read_time(search *s, size_t at, slm_status *status, slm_error *err)
{
    slm_extract_candidate c = span(at, at);
    if (!slm_read_time(s->text, s->length, at, c.normal, &c.end))
        return 0;
    *status = add(s, c, 1, err);
    return c.end;
}

static size_t read_id(search *s, size_t at, slm_status *status, slm_error *err)
{
    slm_number number;
    slm_day day;
    slm_extract_candidate c = span(at, at);
    size_t end = other_value(s, at);
    bool digits = true;
    if (end > 0)
        return end;
    if (slm_read_date(s->text, s->length, at, s->month_first, &day))
        return day.end;
    if (slm_read_money(s->text, s->length, at, &number))
        return number.end;
    if (!slm_read_id(s->text, s->length, at, &c.begin, &c.end))
        return 0;
    if (slm_read_number(s->text, s->length, c.begin, false, &number) && number.end == c.end && !number.whole)
        return c.end; /* 12.5 */
    for (size_t i = c.begin; i < c.end; i++)
        digits &= s->text[i] >= '0' && s->text[i] <= '9';
    if (c.end - c.begin < 3 || (s->field->whole && !digits) || c.end - c.begin >= SLM_EXTRACT_NORMAL)
        return c.end;
    if (s->field->whole && slm_read_number(s->text, s->length, c.begin, false, &number))
        memcpy(c.normal, number.normal, sizeof c.normal);
    *status = add(s, c, 1, err);
    return c.end;
}

static size_t read_uuid(search *s, size_t at, slm_status *status, slm_error *err)
{
    slm_extract_candidate c = span(at, at);
    if (!slm_read_uuid(s->text, s->length, at, &c.end))
        return 0;
    for (size_t i = 0; i < c.end - at; i++)
        c.normal[i] = (char) (s->text[at + i] >= 'A' && s->text[at + i] <= 'F' ? s->text[at + i] | 0x20 : s->text[at + i]);
    *status = add(s, c, 1, err);
    return c.end;
}

/* Case is passed over in ASCII. */
static bool same_text(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char x = a[i], y = b[i];
        x = (char) (x >= 'A' && x <= 'Z' ? x | 0x20 : x);
        y = (char) (y >= 'A' && y <= 'Z' ? y | 0x20 : y);
        if (x != y)
            return false;
    }
    return true;
}

static size_t read_value(search *s, size_t at, slm_status *status, slm_error *err)
{
    slm_extract_candidate c = span(at, at);
    for (size_t v = 0; v < s->field->n_values; v++) {
        size_t n = strlen(s->field->values[v]);
        if (n > c.end - c.begin && n <= s->length - at && same_text(s->text + at, s->field->values[v], n) &&
            slm_word_char(s->text, s->length, at + n) == 0) {
            c.end = at + n;
            c.value = (uint32_t) v;
        }
    }
    if (c.end == at)
        return 0;
    *status = add(s, c, 1, err);
    return c.end;
}

/* ---- what slm_redact knows by form and check digits */

static slm_status find_redact(search *s, slm_redact_kind kind, slm_error *err)
{
    slm_redact_span *spans;
    size_t n;
    slm_status status = slm_redact_find(s->text, s->length, 1u << kind, s->options->stop, &spans, &n, err);

    if (status != SLM_OK)
        return status;
    for (size_t i = 0; i < n && status == SLM_OK; i++) {
        slm_extract_candidate c = span(spans[i].begin, spans[i].end);
        size_t used = 0;
        bool keep = kind == SLM_REDACT_EMAIL || kind == SLM_REDACT_URL || kind == SLM_REDACT_IP;
        for (size_t k = c.begin; !keep && k < c.end && used + 1 < sizeof c.normal; k++) {
            char ch = s->text[k];
            bool letter = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z');
            if ((ch >= '0' && ch <= '9') || (ch == '+' && used == 0) || (letter && kind == SLM_REDACT_IBAN))
                c.normal[used++] = (char) (letter ? ch & ~0x20 : ch);
        }
        status = add(s, c, 1, err);
    }
    free(spans);
    return status;
}

/* ---- phrases */

#define PHRASE_WORDS 5

/* May a phrase begin with word i: behind an article or a colon, or with a capital letter or a quotation mark? */
static bool phrase_begins(const search *s, size_t i)
{
    const slm_word *w = &s->words.list[i];
    size_t gap = i > 0 ? s->words.list[i - 1].end : 0;
    if (i > 0 && slm_word_is_article(s->words.list[i - 1].lower) && w->place - s->words.list[i - 1].place == 1)
        return true;
    for (size_t k = gap; k < w->begin; k++)
        if (s->text[k] == ':' || s->text[k] == '"' || (unsigned char) s->text[k] == 0xE2 || (unsigned char) s->text[k] == 0xC2)
            return true;
    return w->capital;
}

/* Do words i and i + 1 stand together: a space or a hyphen between them, or an apostrophe? */
static bool together(const search *s, size_t i)
{
    size_t from = s->words.list[i].end, to = s->words.list[i + 1].begin;
    return to - from == 1 && (s->text[from] == ' ' || s->text[from] == '-' || s->text[from] == '\'' || s->text[from] == '&');
}

static slm_status find_phrases(search *s, slm_error *err)
{
    slm_status status = SLM_OK;
    for (size_t i = 0; i < s->words.n && status == SLM_OK; i++) {
        size_t last = i;
        slm_extract_candidate c;
        if (stopped(s, i))
            return slm_fail(err, SLM_CANCELLED, "cancelled");
        if (s->words.list[i].function || !phrase_begins(s, i))
            continue;
        while (last + 1 < s->words.n && last + 1 - i < PHRASE_WORDS && !s->words.list[last + 1].function && together(s, last))
            last++;
        c = span(s->words.list[i].begin, s->words.list[last].end);
        if (s->words.list[i].digits && last == i)
            continue;
        status = add(s, c, 1, err);
        if (s->words.list[i].capital)
            i = last; /* its own capitals begin no other phrase */
    }
    return status;
}

/* ---- dates whose order of day and month the text itself gives away */

bool slm_extract_month_first(const char *text, size_t length, bool otherwise)
{
    for (size_t i = 0; i < length; i++) {
        slm_day day, other;
        if (text[i] < '0' || text[i] > '9' || (i > 0 && text[i - 1] >= '0' && text[i - 1] <= '9'))
            continue;
        if (!slm_read_date(text, length, i, true, &day) || day.either || memchr(text + i, '/', day.end - i) == NULL || day.end - i < 6)
            continue;
        if (text[i + 4 < length ? i + 4 : i] == '/')
            continue; /* 2026/05/02 says nothing */
        other = day;
        return slm_read_date(text, length, i, true, &other) &&
               (text[i] - '0') * (text[i + 1] == '/' ? 1 : 10) + (text[i + 1] == '/' ? 0 : text[i + 1] - '0') == day.month;
    }
    return otherwise;
}

static slm_status find(search *s, slm_error *err)
{
    slm_status status;
    switch (s->field->kind) {
        case SLM_EXTRACT_TEXT:
            return find_phrases(s, err);
        case SLM_EXTRACT_NUMBER:
        case SLM_EXTRACT_INTEGER:
            return scan(s, read_number, err);
        case SLM_EXTRACT_AMOUNT:
            status = scan(s, read_amount, err);
            return status == SLM_OK && s->n == 0 ? scan(s, read_number, err) : status;
        case SLM_EXTRACT_DATE:
        case SLM_EXTRACT_TIMESTAMP:
            return scan(s, read_date, err);
        case SLM_EXTRACT_TIME:
            return scan(s, read_time, err);
        case SLM_EXTRACT_ID:
            return scan(s, read_id, err);
        case SLM_EXTRACT_UUID:
            return scan(s, read_uuid, err);
        case SLM_EXTRACT_ENUM:
            return scan(s, read_value, err);
        case SLM_EXTRACT_EMAIL:
            return find_redact(s, SLM_REDACT_EMAIL, err);
        case SLM_EXTRACT_PHONE:
            return find_redact(s, SLM_REDACT_PHONE, err);
        case SLM_EXTRACT_IBAN:
            return find_redact(s, SLM_REDACT_IBAN, err);
        case SLM_EXTRACT_CARD:
            return find_redact(s, SLM_REDACT_CARD, err);
        case SLM_EXTRACT_URL:
            return find_redact(s, SLM_REDACT_URL, err);
        default:
            return find_redact(s, SLM_REDACT_IP, err);
    }
}

slm_status slm_extract_find(const char *text, size_t length, const slm_extract_field *field, const slm_extract_options *options,
                            slm_extract_candidate **out, size_t *n, slm_error *err)
{
    search s = {.text = text, .length = length, .field = field, .options = options};
    slm_status status = slm_words_find(text, length, options->stop, &s.words, err);

    if (status != SLM_OK)
        return status;
    slm_cues_of(field, &s.cues);
    s.month_first = slm_extract_month_first(text, length, options->month_first);
    status = find(&s, err);
    slm_words_free(&s.words);
    if (status != SLM_OK) {
        free(s.list);
        return status;
    }
    if (s.n > 1)
        qsort(s.list, s.n, sizeof *s.list, compare);
    *out = s.list;
    *n = s.n < SLM_EXTRACT_MOST ? s.n : SLM_EXTRACT_MOST;
    return SLM_OK;
}
