/*
 * Scanner of dates of birth: a date behind a word that says so, in the languages below.
 */
#include "engine/redact/redact.h"

#include <string.h>

#define REACH 40 /* bytes between the word and the date */

/* Words, in lower case, that announce a date of birth. */
static const char *const announcements[] = {"born",
                                            "birth",
                                            "dob",
                                            "d.o.b",
                                            "geboren",
                                            "geburt",
                                            "geb.",
                                            "naissance",
                                            "n\xC3\xA9 le",
                                            "n\xC3\xA9"
                                            "e le",
                                            "nacid",
                                            "nacimiento",
                                            "fecha nac",
                                            "nascit",
                                            "nato il",
                                            "nata il",
                                            "nascid",
                                            "nascimento",
                                            "urodz",
                                            "geboorte",
                                            "f\xC3\xB8"
                                            "dt",
                                            "f\xC3\xB6"
                                            "dd"};

static const char *const months[] = {"jan",
                                     "ene",
                                     "gen",
                                     "feb",
                                     "f\xC3\xA9v",
                                     "fev",
                                     "mar",
                                     "m\xC3\xA4r",
                                     "mrz",
                                     "apr",
                                     "avr",
                                     "abr",
                                     "mai",
                                     "may",
                                     "mag",
                                     "jun",
                                     "juin",
                                     "giu",
                                     "jul",
                                     "juil",
                                     "lug",
                                     "aug",
                                     "ao\xC3\xBB",
                                     "ago",
                                     "sep",
                                     "set",
                                     "okt",
                                     "oct",
                                     "ott",
                                     "out",
                                     "nov",
                                     "dec",
                                     "dez",
                                     "d\xC3\xA9"
                                     "c",
                                     "dic"};

static bool same_letters(const slm_redact_text *t, size_t at, const char *lower)
{
    for (size_t i = 0; lower[i] != '\0'; i++) {
        int c = slm_redact_at(t, at + i);
        c = c >= 'A' && c <= 'Z' ? c | 0x20 : c;
        /* the capital letters of U+00C0 to U+00DE stand 32 before the small ones, in the second byte */
        if (i > 0 && (unsigned char) lower[i - 1] == 0xC3 && c >= 0x80 && c <= 0x9E)
            c += 0x20;
        if (c != (unsigned char) lower[i])
            return false;
    }
    return true;
}

static bool announced(const slm_redact_text *t, size_t at)
{
    size_t from = at > REACH ? at - REACH : 0;
    for (size_t i = at; i-- > from;) {
        if (slm_redact_at(t, i) == '\n' && i + 2 < at)
            return false;
        for (size_t k = 0; k < sizeof announcements / sizeof *announcements; k++)
            if (same_letters(t, i, announcements[k]) && i + strlen(announcements[k]) <= at)
                return true;
    }
    return false;
}

static size_t number(const slm_redact_text *t, size_t at, int most, int *value)
{
    size_t i = at;
    *value = 0;
    while (slm_redact_digit(slm_redact_at(t, i)) && i - at < (size_t) most)
        *value = *value * 10 + slm_redact_at(t, i++) - '0';
    return slm_redact_digit(slm_redact_at(t, i)) ? at : i;
}

static bool is_year(int year, size_t digits)
{
    return digits == 2 || (digits == 4 && year >= 1880 && year <= 2100);
}

/* 31.12.1980, 31/12/80, 1980-12-31 */
static size_t numeric(const slm_redact_text *t, size_t at)
{
    int a, b, c, separator;
    size_t i = number(t, at, 4, &a), k, end;
    if (i == at)
        return 0;
    separator = slm_redact_at(t, i);
    if (separator != '.' && separator != '/' && separator != '-')
        return 0;
    k = i + 1 + (slm_redact_at(t, i + 1) == ' ');
    end = number(t, k, 2, &b);
    if (end == k || slm_redact_at(t, end) != separator)
        return 0;
    k = end + 1 + (slm_redact_at(t, end + 1) == ' ');
    end = number(t, k, 4, &c);
    if (end == k)
        return 0;
    if (i - at == 4)
        return is_year(a, 4) && b >= 1 && b <= 12 && c >= 1 && c <= 31 ? end : 0;
    return i - at <= 2 && a >= 1 && b >= 1 && a <= 31 && b <= 31 && (a <= 12 || b <= 12) && is_year(c, end - k) ? end : 0;
}

static size_t month_name(const slm_redact_text *t, size_t at)
{
    size_t i = at;
    for (size_t k = 0; k < sizeof months / sizeof *months; k++)
        if (same_letters(t, at, months[k])) {
            for (i = at; slm_redact_letter(slm_redact_at(t, i)) || slm_redact_at(t, i) >= 0x80;)
                i++;
            return slm_redact_at(t, i) == '.' ? i + 1 : i;
        }
    return 0;
}

static size_t spaces(const slm_redact_text *t, size_t i)
{
    while (slm_redact_at(t, i) == ' ' || slm_redact_at(t, i) == ',')
        i++;
    return i;
}

static size_t of(const slm_redact_text *t, size_t i)
{
    return same_letters(t, i, "de ") || same_letters(t, i, "di ") || same_letters(t, i, "of ") ? i + 3 : i;
}

/* 31 December 1980, 31. Dezember 1980, 1er mars 1980, 31 de diciembre de 1980, December 31st, 1980 */
static size_t written(const slm_redact_text *t, size_t at)
{
    int day, year;
    size_t i = month_name(t, at), k;
    bool month_first = i != 0;
    if (month_first)
        i = spaces(t, i);
    k = number(t, month_first ? i : at, 2, &day);
    if (k == (month_first ? i : at) || day < 1 || day > 31)
        return 0;
    if (slm_redact_at(t, k) == '.')
        k++;
    else if (same_letters(t, k, "er") || same_letters(t, k, "st") || same_letters(t, k, "nd") || same_letters(t, k, "rd") ||
             same_letters(t, k, "th"))
        k += 2;
    if (!month_first) {
        i = month_name(t, of(t, spaces(t, k)));
        if (i == 0)
            return 0;
        k = i;
    }
    i = of(t, spaces(t, k));
    k = number(t, i, 4, &year);
    return k > i && is_year(year, k - i) ? k : 0;
}

size_t slm_redact_birth_date(const slm_redact_text *t, size_t at)
{
    int before = at > 0 ? slm_redact_at(t, at - 1) : -1;
    size_t end;
    if (before == '.' || before == '/' || before == '-' || !slm_redact_word(slm_redact_at(t, at)))
        return 0;
    end = numeric(t, at);
    end = end != 0 ? end : written(t, at);
    return end != 0 && slm_redact_ends(t, end) && announced(t, at) ? end : 0;
}
