/*
 * cues.c: how well a candidate's neighbourhood fits a field's words.
 *
 *   kind                     without a word that names the field      with one, at distance d
 *   e-mail, IBAN, ...        0.7 what else could be meant             up to 1
 *   date, amount             0.5                                      up to 1; a label of something else nearer: not meant
 *   identifier, number       not meant, unless the field says no more than "number"      0.3 up to 1; likewise
 *   phrase                   0.2                                      up to 1
 *
 * A word in front of the value counts more than one behind it: people write "order 4711".
 */
#include "engine/extract/cues.h"

#include <string.h>

#define REACH 10
#define BEHIND 0.6f
#define LABEL 0.45f /* more for "order number" than for "order" */

/* ---- the field's words */

/* Calls take(arg, word in lower case) for each word of s. */
static void each_word(const char *s, void (*take)(void *arg, const char *lower), void *arg)
{
    slm_words words;
    slm_error err;
    char plain[512];
    size_t n = 0;
    /* order_number, orderNumber and order-number are two words each */
    for (size_t i = 0; s[i] != '\0' && n + 2 < sizeof plain; i++) {
        bool inner = i > 0 && s[i] >= 'A' && s[i] <= 'Z' && s[i - 1] >= 'a' && s[i - 1] <= 'z';
        if (inner)
            plain[n++] = ' ';
        plain[n++] = s[i] == '_' || s[i] == '-' ? ' ' : s[i];
    }
    if (slm_words_find(plain, n, NULL, &words, &err) != SLM_OK)
        return;
    for (size_t i = 0; i < words.n; i++)
        take(arg, words.list[i].lower);
    slm_words_free(&words);
}

typedef struct reading {
    slm_groups groups;
    char last[SLM_WORD_BYTES];
    slm_cues *cues;
} reading;

static void read_word(void *arg, const char *lower)
{
    static const char hollow[] =
        " what which who when where how text mentioned stated given value exact name field please tell give find extract ";
    reading *r = arg;
    slm_groups groups = slm_groups_of(lower);
    char spaced[SLM_WORD_BYTES + 2] = " ";

    strcat(strcat(spaced, lower), " ");
    r->groups |= groups;
    if (!slm_word_is_function(lower))
        strcpy(r->last, lower);
    if (groups == 0 && r->cues != NULL && r->cues->n_own < SLM_MOST_OWN && strlen(lower) >= 3 && !slm_word_is_function(lower) &&
        strstr(hollow, spaced) == NULL)
        strcpy(r->cues->own[r->cues->n_own++], lower);
}

static slm_groups groups_of_kind(slm_extract_kind kind)
{
    slm_groups all = 0;
    for (int g = 0; g < SLM_N_GROUPS; g++)
        if (slm_group_kind((slm_group) g) == kind)
            all |= (slm_groups) 1 << g;
    return all;
}

void slm_cues_of(const slm_extract_field *field, slm_cues *out)
{
    const slm_groups labels = SLM_GROUP_BIT(ORDER) | SLM_GROUP_BIT(INVOICE) | SLM_GROUP_BIT(CUSTOMER) | SLM_GROUP_BIT(TICKET) |
                              SLM_GROUP_BIT(TRACKING) | SLM_GROUP_BIT(CONTRACT) | SLM_GROUP_BIT(ARTICLE) | SLM_GROUP_BIT(PHONE) |
                              SLM_GROUP_BIT(VAT) | SLM_GROUP_BIT(CARD) | SLM_GROUP_BIT(IBAN);
    const slm_groups days = SLM_GROUP_BIT(ORDER) | SLM_GROUP_BIT(BOUGHT) | SLM_GROUP_BIT(INVOICE) | SLM_GROUP_BIT(BIRTH) |
                            SLM_GROUP_BIT(DELIVERY) | SLM_GROUP_BIT(DUE);
    reading r = {.cues = out};

    *out = (slm_cues){.kind = field->kind};
    each_word(field->name, read_word, &r);
    if (field->question != NULL)
        each_word(field->question, read_word, &r);
    switch (field->kind) {
        case SLM_EXTRACT_ID:
            out->generic = SLM_GROUP_BIT(NUMBER) | SLM_GROUP_BIT(REFERENCE);
            out->rivals = labels;
            break;
        case SLM_EXTRACT_DATE:
        case SLM_EXTRACT_TIMESTAMP:
            out->generic = SLM_GROUP_BIT(DATE) | SLM_GROUP_BIT(SINCE);
            out->rivals = days;
            break;
        case SLM_EXTRACT_AMOUNT:
            out->generic = SLM_GROUP_BIT(AMOUNT);
            break;
        case SLM_EXTRACT_NUMBER:
        case SLM_EXTRACT_INTEGER:
            out->generic = SLM_GROUP_BIT(NUMBER) | SLM_GROUP_BIT(COUNT);
            break;
        default:
            out->generic = groups_of_kind(field->kind);
            break;
    }
    out->specific = r.groups & ~out->generic;
    if (field->kind != SLM_EXTRACT_ID && (out->specific & SLM_GROUP_BIT(ORDER)) != 0)
        out->specific |= SLM_GROUP_BIT(BOUGHT);
    if (field->kind != SLM_EXTRACT_ID && (out->specific & SLM_GROUP_BIT(BOUGHT)) != 0)
        out->specific |= SLM_GROUP_BIT(ORDER);
    out->rivals &= ~out->specific;
}

slm_extract_kind slm_extract_guess(const char *name, const char *question)
{
    static const slm_extract_kind sure[] = {SLM_EXTRACT_EMAIL, SLM_EXTRACT_IBAN,  SLM_EXTRACT_URL,
                                            SLM_EXTRACT_IP,    SLM_EXTRACT_PHONE, SLM_EXTRACT_CARD};
    static const char texts[] =
        " name address method type status reason kind category city country colour color person company product street town title subject ";
    const slm_groups ids = SLM_GROUP_BIT(ORDER) | SLM_GROUP_BIT(INVOICE) | SLM_GROUP_BIT(TICKET) | SLM_GROUP_BIT(TRACKING) |
                           SLM_GROUP_BIT(CONTRACT) | SLM_GROUP_BIT(REFERENCE) | SLM_GROUP_BIT(NUMBER) | SLM_GROUP_BIT(VAT);
    reading r = {0};
    char spaced[SLM_WORD_BYTES + 2] = " ";

    each_word(name, read_word, &r);
    if (question != NULL)
        each_word(question, read_word, &r);
    for (size_t i = 0; i < sizeof sure / sizeof *sure; i++)
        if ((r.groups & groups_of_kind(sure[i])) != 0)
            return sure[i];
    strcat(strcat(spaced, r.last), " ");
    if (strstr(texts, spaced) != NULL)
        return SLM_EXTRACT_TEXT;
    if ((r.groups & (groups_of_kind(SLM_EXTRACT_DATE) & ~SLM_GROUP_BIT(SINCE))) != 0)
        return SLM_EXTRACT_DATE;
    if ((r.groups & groups_of_kind(SLM_EXTRACT_AMOUNT)) != 0)
        return SLM_EXTRACT_AMOUNT;
    if ((r.groups & (SLM_GROUP_BIT(COUNT) | SLM_GROUP_BIT(AGE))) != 0 ||
        ((r.groups & SLM_GROUP_BIT(NUMBER)) != 0 && (strstr(name, "number_of") != NULL || strstr(name, "number of") != NULL)))
        return SLM_EXTRACT_NUMBER;
    if ((r.groups & ids) != 0)
        return SLM_EXTRACT_ID;
    return (r.groups & SLM_GROUP_BIT(TIME)) != 0 ? SLM_EXTRACT_TIME : SLM_EXTRACT_TEXT;
}

/* ---- the neighbourhood */

static bool is_own(const slm_cues *cues, const char *word)
{
    size_t n = strlen(word);
    for (size_t i = 0; i < cues->n_own; i++) {
        size_t bytes = strlen(cues->own[i]), same = bytes < 5 ? bytes : bytes - 2 > 4 ? bytes - 2 : 4;
        if (n >= same && memcmp(word, cues->own[i], same) == 0 && n <= bytes + 3)
            return true;
    }
    return false;
}

/* An order number is not near "ordered". */
static bool is_verb(const char *word)
{
    size_t n = strlen(word);
    return (n > 4 && memcmp(word + n - 2, "ed", 2) == 0) || (n > 5 && memcmp(word + n - 3, "ing", 3) == 0) ||
           (memcmp(word, "bestellt", 8) == 0) || (n > 5 && memcmp(word + n - 2, "\xC3\xA9", 2) == 0);
}

typedef struct nearness {
    float specific, generic, rival;
} nearness;

/* Does a word like "number" stand behind it, or in it: "order id", "Bestellnummer"?  Then it is a label, wherever the value is. */
static bool is_label(const slm_cues *cues, const slm_words *words, size_t i)
{
    const slm_groups number = SLM_GROUP_BIT(NUMBER) | SLM_GROUP_BIT(REFERENCE);
    if (cues->kind != SLM_EXTRACT_ID)
        return false;
    return (slm_word_groups(&words->list[i]) & number) != 0 || (i + 1 < words->n && words->list[i + 1].place - words->list[i].place <= 2 &&
                                                                (slm_word_groups(&words->list[i + 1]) & number) != 0);
}

static void look_at(const slm_cues *cues, const slm_words *words, size_t i, uint64_t distance, bool behind, nearness *near)
{
    slm_word *word = &words->list[i];
    slm_groups groups = slm_word_groups(word);
    float s = (1.0f - (float) (distance - 1) / REACH) * (behind ? BEHIND : 1.0f) + (is_label(cues, words, i) ? LABEL : 0);

    s = s > 1 ? 1 : s;
    if (cues->kind == SLM_EXTRACT_ID && (groups & (SLM_GROUP_BIT(ORDER) | SLM_GROUP_BIT(BOUGHT))) != 0 && is_verb(word->lower))
        return;
    if ((groups & cues->specific) != 0 || is_own(cues, word->lower))
        near->specific = near->specific > s ? near->specific : s;
    else if ((groups & cues->rivals) != 0)
        near->rival = near->rival > s ? near->rival : s;
    if ((groups & cues->generic) != 0)
        near->generic = near->generic > s ? near->generic : s;
}

static nearness look_around(const slm_cues *cues, const slm_words *words, const slm_extract_candidate *c)
{
    nearness near = {0, 0, 0};
    size_t first = slm_words_at(words, c->begin), last = c->end > c->begin ? slm_words_at(words, c->end - 1) : first;

    if (first == words->n)
        return near;
    last = last < words->n ? last : words->n - 1;
    for (size_t i = first; i-- > 0;) {
        uint64_t distance = words->list[first].place - words->list[i].place;
        if (distance > REACH)
            break;
        look_at(cues, words, i, distance, false, &near);
    }
    for (size_t i = last + 1; i < words->n; i++) {
        uint64_t distance = words->list[i].place - words->list[last].place;
        if (distance > REACH)
            break;
        look_at(cues, words, i, distance, true, &near);
    }
    return near;
}

float slm_cues_score(const slm_cues *cues, const slm_words *words, const slm_extract_candidate *c)
{
    nearness near = look_around(cues, words, c);
    bool named = cues->specific != 0 || cues->n_own > 0;
    float best = named ? near.specific : near.generic;

    switch (cues->kind) {
        case SLM_EXTRACT_ID:
            if (!named)
                return near.rival > near.generic ? 0.3f : 0.5f + 0.5f * near.generic;
            return near.specific == 0 || near.rival > near.specific ? -1.0f : 0.3f + 0.6f * near.specific + 0.1f * near.generic;
        case SLM_EXTRACT_DATE:
        case SLM_EXTRACT_TIMESTAMP:
            if (named &&
                (near.rival > near.specific || (near.specific == 0 && (cues->specific & (SLM_GROUP_BIT(BIRTH) | SLM_GROUP_BIT(DUE))) != 0)))
                return -1.0f;
            return 0.5f + 0.4f * best + 0.1f * near.generic;
        case SLM_EXTRACT_AMOUNT:
            return 0.5f + 0.4f * best + 0.1f * near.generic;
        case SLM_EXTRACT_NUMBER:
        case SLM_EXTRACT_INTEGER:
            return named && best == 0 ? -1.0f : 0.4f + 0.6f * best;
        case SLM_EXTRACT_TEXT:
            return 0.2f + 0.8f * best;
        default:
            return 0.7f + 0.3f * best;
    }
}
