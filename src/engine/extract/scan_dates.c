/*
 * scan_dates.c: dates and times of day (scan.h).
 *
 * Months are known by the beginnings of their names in the languages below; what the rest of the word may be is not asked for, but that it
 * is letters.  A date that the calendar does not have is none.
 */
#include "engine/extract/scan.h"

#include <stdio.h>
#include <string.h>

#include "engine/extract/words.h"

static int at_byte(const char *text, size_t length, size_t i)
{
    return i < length ? (unsigned char) text[i] : -1;
}

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

/* Up to `most` digits; 0 read where there are more or none. */
static size_t read_digits(const char *text, size_t length, size_t at, size_t most, int *value)
{
    size_t n = 0;
    *value = 0;
    while (is_digit(at_byte(text, length, at + n)) && n <= most) {
        *value = *value * 10 + (text[at + n] - '0');
        n++;
    }
    return n > most ? 0 : n;
}

static bool in_calendar(int year, int month, int day)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return year >= 1000 && year <= 9999 && month >= 1 && month <= 12 && day >= 1 && day <= days[month - 1] + (month == 2 && leap);
}

/* Beginnings of the names of months in lower case: English, German, French, Spanish, Italian, Portuguese, Dutch, Polish, Nordic, Czech. */
static const char *const months[12] = {"jan ene gen sty led",
                                       "feb fév fev lut úno",
                                       "mar mär mrz maa bře",
                                       "apr abr avr kwi dub",
                                       "may mai mag maj mei kvě",
                                       "jun juin giu cze červn",
                                       "jul juil lug lip červe",
                                       "aug aoû ago sie srp",
                                       "sep set wrz zář",
                                       "oct okt ott out paź říj",
                                       "nov lis",
                                       "dec dez déc dic des gru pro"};
/* What a month's word may be at most, in letters, and words that only begin like one. */
static const char not_months[] =
    " market marked mark marks marry mail main make maybe may-be august-strasse second secure set sets setup settle deck "
    "decide decided march-in general genau gentle august marta maria mario marco july-in out outside output led leder dub "
    "dublin pro product products problem produkt provide list listen lip lips des dessen deswegen desk juni-or junk june-bug "
    "agora ago magic magazine june gratis gross november-in sie sieben stylish style novel janitor margin mariner marine "
    "marble mars maison ";

static int month_of(const char *lower)
{
    size_t n = strlen(lower);
    for (int m = 0; m < 12; m++)
        for (const char *p = months[m]; *p != '\0';) {
            size_t bytes = strcspn(p, " ");
            if (n >= bytes && memcmp(p, lower, bytes) == 0)
                return m + 1;
            p += bytes + (p[bytes] == ' ');
        }
    return 0;
}

/* The month that a word at byte `at` names; 0: none.  *end is behind the word and its full stop. */
static int read_month(const char *text, size_t length, size_t at, size_t *end)
{
    slm_words word;
    slm_error err;
    size_t i = at, n;
    int month = 0;
    char spaced[SLM_WORD_BYTES + 3];

    while ((n = slm_word_char(text, length, i)) > 0 && !is_digit((unsigned char) text[i]) && i - at < SLM_WORD_BYTES)
        i += n;
    if (i == at || i - at >= SLM_WORD_BYTES || slm_words_find(text + at, i - at, NULL, &word, &err) != SLM_OK)
        return 0;
    if (word.n == 1) {
        size_t bytes = strlen(word.list[0].lower);
        spaced[0] = ' ';
        memcpy(spaced + 1, word.list[0].lower, bytes);
        memcpy(spaced + 1 + bytes, " ", 2);
        if (bytes >= 3 && (strstr(not_months, spaced) == NULL || strcmp(spaced, " august ") == 0 || strcmp(spaced, " june ") == 0 ||
                           strcmp(spaced, " out ") == 0 || strcmp(spaced, " set ") == 0 || strcmp(spaced, " ago ") == 0))
            month = month_of(word.list[0].lower);
    }
    slm_words_free(&word);
    *end = i + (at_byte(text, length, i) == '.');
    return month;
}

static size_t skip_spaces(const char *text, size_t length, size_t i)
{
    size_t from = i;
    while (i < length && i - from < 4 &&
           (text[i] == ' ' || text[i] == '\n' || ((unsigned char) text[i] == 0xC2 && at_byte(text, length, i + 1) == 0xA0)))
        i += text[i] == ' ' || text[i] == '\n' ? 1 : 2;
    return i;
}

static int full_year(int year, size_t digits)
{
    return digits == 2 ? year + (year < 70 ? 2000 : 1900) : year;
}

/* Not in the middle of a longer number or word. */
static bool ends(const char *text, size_t length, size_t i)
{
    int c = at_byte(text, length, i);
    if (slm_word_char(text, length, i) > 0)
        return c == 'T' && is_digit(at_byte(text, length, i + 1));
    return !((c == '-' || c == '/' || c == '.') && is_digit(at_byte(text, length, i + 1)));
}

static bool take(int year, int month, int day, size_t end, bool either, slm_day *out)
{
    if (!in_calendar(year, month, day))
        return false;
    *out = (slm_day){year, month, day, end, either};
    return true;
}

/* 2026-05-02, 2.5.2026, 5/2/26 */
static bool read_numeric(const char *text, size_t length, size_t at, bool month_first, slm_day *out)
{
    int a, b, c, separator;
    size_t n, m, k, i = at;

    if ((n = read_digits(text, length, i, 4, &a)) == 0)
        return false;
    separator = at_byte(text, length, i += n);
    if (separator != '-' && separator != '/' && separator != '.')
        return false;
    i++;
    if (separator == '.' && at_byte(text, length, i) == ' ')
        i++;
    if ((m = read_digits(text, length, i, 2, &b)) == 0 || at_byte(text, length, i + m) != separator)
        return false;
    i += m + 1;
    if (separator == '.' && at_byte(text, length, i) == ' ')
        i++;
    if ((k = read_digits(text, length, i, 4, &c)) == 0 || !ends(text, length, i + k))
        return false;
    i += k;
    if (n == 4)
        return k <= 2 && take(a, b, c, i, false, out);
    if (n > 2 || (k != 4 && k != 2))
        return false;
    if (separator == '.')
        return take(full_year(c, k), b, a, i, false, out);
    if (a > 12 || b > 12)
        return a > 12 ? take(full_year(c, k), b, a, i, false, out) : take(full_year(c, k), a, b, i, false, out);
    return month_first ? take(full_year(c, k), a, b, i, a != b, out) : take(full_year(c, k), b, a, i, a != b, out);
}

static bool matches(const char *text, size_t length, size_t at, const char *s)
{
    return at + strlen(s) <= length && memcmp(text + at, s, strlen(s)) == 0;
}

/* th, st, nd, rd, er, º, ª, full stop behind a day */
static size_t skip_ordinal(const char *text, size_t length, size_t i)
{
    static const char *const marks[] = {"st", "nd", "rd", "th", "er", "º", "ª", "."};
    for (size_t k = 0; k < sizeof marks / sizeof *marks; k++)
        if (matches(text, length, i, marks[k]))
            return i + strlen(marks[k]);
    return i;
}

static size_t skip_of(const char *text, size_t length, size_t i)
{
    static const char *const words[] = {"of ", "de ", "del ", "d'", "di "};
    for (size_t k = 0; k < sizeof words / sizeof *words; k++)
        if (matches(text, length, i, words[k]))
            return skip_spaces(text, length, i + strlen(words[k]));
    return i;
}

/* A year behind a month or day; it may follow a comma, "of", "de" or an apostrophe. */
static bool read_year(const char *text, size_t length, size_t i, int *year, size_t *end)
{
    size_t n;
    i += at_byte(text, length, i) == ',';
    i = skip_of(text, length, skip_spaces(text, length, i));
    n = read_digits(text, length, i, 4, year);
    if (n != 4 || !ends(text, length, i + n))
        return false;
    *end = i + n;
    return true;
}

/* 2 May 2026, 2nd of May, 2026, 2. Mai 2026, 2-May-2026 */
static bool read_day_first(const char *text, size_t length, size_t at, slm_day *out)
{
    int day, month, year;
    size_t n = read_digits(text, length, at, 2, &day), i, end;

    if (n == 0)
        return false;
    i = skip_ordinal(text, length, at + n);
    i = at_byte(text, length, i) == '-' || at_byte(text, length, i) == '/' ? i + 1 : skip_of(text, length, skip_spaces(text, length, i));
    month = read_month(text, length, i, &end);
    if (month == 0)
        return false;
    end += at_byte(text, length, end) == '-' || at_byte(text, length, end) == '/';
    return read_year(text, length, end, &year, &end) && take(year, month, day, end, false, out);
}

/* May 2, 2026; May 2nd 2026 */
static bool read_month_first(const char *text, size_t length, size_t at, slm_day *out)
{
    int day, month, year;
    size_t i = at, n;

    /* looked at first, as most words are no months: does a number follow? */
    while ((n = slm_word_char(text, length, i)) > 0 && i - at < SLM_WORD_BYTES)
        i += n;
    if (!is_digit(at_byte(text, length, skip_spaces(text, length, i + (at_byte(text, length, i) == '.')))))
        return false;
    month = read_month(text, length, at, &i);
    if (month == 0)
        return false;
    i = skip_spaces(text, length, i);
    n = read_digits(text, length, i, 2, &day);
    if (n == 0)
        return false;
    i = skip_ordinal(text, length, i + n);
    return read_year(text, length, i, &year, &i) && take(year, month, day, i, false, out);
}

/* 2026年5月2日, 2026년 5월 2일 */
static bool read_east_asian(const char *text, size_t length, size_t at, slm_day *out)
{
    static const char *const marks[2][3] = {{"年", "月", "日"}, {"년", "월", "일"}};
    for (int language = 0; language < 2; language++) {
        int part[3];
        size_t i = at;
        int k = 0;
        for (; k < 3; k++) {
            size_t n = read_digits(text, length, i, k == 0 ? 4 : 2, &part[k]);
            if (n == 0 || !matches(text, length, i + n, marks[language][k]))
                break;
            i += n + strlen(marks[language][k]);
            i = k < 2 ? skip_spaces(text, length, i) : i;
        }
        if (k == 3)
            return take(part[0], part[1], part[2], i, false, out);
    }
    return false;
}

bool slm_read_date(const char *text, size_t length, size_t at, bool month_first, slm_day *out)
{
    int before = at > 0 ? (unsigned char) text[at - 1] : ' ';
    if (!is_digit(at_byte(text, length, at)))
        return slm_word_char(text, length, at) > 0 && read_month_first(text, length, at, out);
    if (is_digit(before) || ((before == '-' || before == '/' || before == '.') && at > 1 && is_digit((unsigned char) text[at - 2])))
        return false;
    return read_numeric(text, length, at, month_first, out) || read_day_first(text, length, at, out) ||
           read_east_asian(text, length, at, out);
}

/* ---- times */

static size_t half_of_day(const char *text, size_t length, size_t i, int *hour)
{
    int a = at_byte(text, length, i) | 0x20;
    size_t end;
    if (a != 'a' && a != 'p')
        return 0;
    end = i + 1 + (at_byte(text, length, i + 1) == '.');
    if ((at_byte(text, length, end) | 0x20) != 'm' || *hour < 1 || *hour > 12)
        return 0;
    end += 1;
    if (slm_word_char(text, length, end) > 0)
        return 0;
    *hour = *hour % 12 + (a == 'p' ? 12 : 0);
    return end;
}

bool slm_read_time(const char *text, size_t length, size_t at, char normal[SLM_EXTRACT_NORMAL], size_t *end)
{
    int hour, minute = 0, second = 0, mark;
    size_t n = read_digits(text, length, at, 2, &hour), i = at + n, half;
    bool minutes = false;

    if (n == 0 || hour > 24)
        return false;
    mark = at_byte(text, length, i);
    if ((mark == ':' || mark == 'h' || mark == '.') && is_digit(at_byte(text, length, i + 1)) &&
        read_digits(text, length, i + 1, 2, &minute) == 2) {
        i += 3;
        minutes = mark != '.';
        if (mark == ':' && at_byte(text, length, i) == ':' && read_digits(text, length, i + 1, 2, &second) == 2)
            i += 3;
    }
    half = half_of_day(text, length, skip_spaces(text, length, i), &hour);
    if (half > 0)
        i = half;
    else if (matches(text, length, skip_spaces(text, length, i), "Uhr"))
        i = skip_spaces(text, length, i) + 3;
    else if (!minutes)
        return false;
    if (hour > 23 || minute > 59 || second > 59 || slm_word_char(text, length, i) > 0)
        return false;
    if (at_byte(text, length, i) == ':' && is_digit(at_byte(text, length, i + 1)))
        return false;
    snprintf(normal, SLM_EXTRACT_NORMAL, "%02d:%02d:%02d", hour, minute, second);
    *end = i;
    return true;
}
