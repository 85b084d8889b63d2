/*
 * scan_numbers.c: numbers, money and identifiers (scan.h).
 *
 *   1,479.72   groups 1 479 72 with separators , .   the last one differs: it is the decimal one
 *   1.479      one point before three digits: thousands of money, decimals of a plain number
 *   24.03.2025 groups of two digits between equal separators: no number
 */
#include "engine/extract/scan.h"

#include <string.h>

#include "engine/extract/words.h"

#define MOST_GROUPS 10
#define MOST_DIGITS 30

static int at_byte(const char *text, size_t length, size_t i)
{
    return i < length ? (unsigned char) text[i] : -1;
}

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static bool is_alnum(int c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Does a letter or digit end directly before byte i? */
static bool word_before(const char *text, size_t i)
{
    unsigned char c = i > 0 ? (unsigned char) text[i - 1] : 0;
    size_t from = i;
    if (c < 0x80)
        return i > 0 && (is_alnum(c) || c == '_');
    do
        from--;
    while (from > 0 && ((unsigned char) text[from] & 0xC0) == 0x80);
    return slm_word_goes_on(text, i, from);
}

/* Bytes of a space that may stand within a number or before a currency: U+0020, U+00A0, U+202F, U+2009. */
static size_t space_at(const char *text, size_t length, size_t i)
{
    if (i < length && text[i] == ' ')
        return 1;
    if (i + 1 < length && memcmp(text + i, "\xC2\xA0", 2) == 0)
        return 2;
    if (i + 2 < length && (memcmp(text + i, "\xE2\x80\xAF", 3) == 0 || memcmp(text + i, "\xE2\x80\x89", 3) == 0))
        return 3;
    return 0;
}

/* ---- numbers */

typedef struct groups {
    struct {
        size_t begin, n; /* digits */
        char separator;  /* before it; ' ' for all kinds of spaces */
    } list[MOST_GROUPS];
    size_t n, digits, end;
} groups;

static size_t digits_at(const char *text, size_t length, size_t i)
{
    size_t n = 0;
    while (is_digit(at_byte(text, length, i + n)))
        n++;
    return n;
}

static bool read_groups(const char *text, size_t length, size_t at, groups *g)
{
    size_t i = at, n = digits_at(text, length, at);
    g->n = g->digits = 0;
    for (char separator = 0; n > 0 && g->n < MOST_GROUPS;) {
        size_t skip;
        g->list[g->n].begin = i;
        g->list[g->n].n = n;
        g->list[g->n++].separator = separator;
        g->digits += n;
        g->end = i += n;
        skip = space_at(text, length, i);
        separator = skip > 0 ? ' ' : (char) at_byte(text, length, i);
        if (skip == 0 && (separator == '.' || separator == ',' || separator == '\''))
            skip = 1;
        n = skip == 0 ? 0 : digits_at(text, length, i + skip);
        if ((separator == ' ' || separator == '\'') && (n != 3 || g->list[g->n - 1].n > 3))
            n = 0;
        i += skip;
    }
    return g->n > 0 && g->digits <= MOST_DIGITS;
}

/* Of how many groups is the whole part?  0: they are no number. */
static size_t whole_groups(const groups *g, bool thousands)
{
    char first = g->n > 1 ? g->list[1].separator : 0, last = g->list[g->n - 1].separator;
    size_t whole = g->n;
    if (g->n == 1)
        return 1;
    if (last != first || last == '.' || last == ',') {
        bool three = g->list[g->n - 1].n == 3, mixed = last != first;
        if (last == ' ' || last == '\'')
            return 0; /* decimals behind thousands only */
        if (mixed || !three)
            whole = g->n - 1;
        else if (g->n == 2 && (g->list[0].n > 3 || (last == '.' && !thousands)))
            whole = 1;
    }
    for (size_t k = 1; k < whole; k++)
        if (g->list[k].n != 3 || g->list[k].separator != first || g->list[0].n > 3)
            return 0;
    return whole;
}

bool slm_read_number(const char *text, size_t length, size_t at, bool thousands, slm_number *out)
{
    groups g;
    size_t begin = at, used = 0, whole, leading = 0;
    bool minus = at_byte(text, length, at) == '-';

    at += minus;
    if (!is_digit(at_byte(text, length, at)) || word_before(text, begin) || (minus && begin > 0 && text[begin - 1] == '-'))
        return false;
    if (begin > 1 && (text[begin - 1] == '.' || text[begin - 1] == ',') && is_digit((unsigned char) text[begin - 2]))
        return false;
    if (!read_groups(text, length, at, &g))
        return false;
    if (g.n == 2 && g.list[0].n == 1 && text[g.list[0].begin] == '0') /* 0.125 */
        thousands = false, whole = g.list[1].separator == ' ' || g.list[1].separator == '\'' ? 0 : 1;
    else
        whole = whole_groups(&g, thousands);
    if (whole == 0)
        return false;
    if (minus)
        out->normal[used++] = '-';
    for (size_t k = 0; k < g.n; k++) {
        if (k == whole)
            out->normal[used++] = '.';
        memcpy(out->normal + used, text + g.list[k].begin, g.list[k].n);
        used += g.list[k].n;
    }
    out->normal[used] = '\0';
    /* 007 is 7 */
    while (out->normal[minus + leading] == '0' && is_digit((unsigned char) out->normal[minus + leading + 1]))
        leading++;
    memmove(out->normal + minus, out->normal + minus + leading, strlen(out->normal + minus + leading) + 1);
    out->begin = begin;
    out->end = g.end;
    out->whole = whole == g.n;
    out->plain = !minus && g.n == 1;
    return true;
}

/* ---- money */

static const char *const symbols[] = {"€",   "$",   "£",   "¥",   "₹",   "₩",   "₽", "₺",   "₴",   "₫",   "₪",   "₱",
                                      "zł",  "kr",  "Kč",  "Ft",  "Rs",  "Fr",  "CHF", "EUR", "USD", "GBP", "JPY", "PLN",
                                      "SEK", "NOK", "DKK", "CAD", "AUD", "NZD", "INR", "CNY", "RMB", "BRL", "MXN", "CZK",
                                      "HUF", "TRY", "ZAR", "SGD", "HKD", "KRW", "RUB", "ILS", "THB"};
static const char *const words[] = {"euro",   "euros",   "Euro",    "Euros",  "EURO",   "dollar",  "dollars", "Dollar",  "Dollars",
                                    "pound",  "pounds",  "Pfund",   "livres", "libras", "dólares", "dollari", "dolares", "sterline",
                                    "francs", "Franken", "franchi", "yen",    "Yen",    "rupees",  "zloty",   "złotych", "kronor",
                                    "kroner", "reais",   "pesos",   "bucks",  "quid",   "cents",   "元",      "円",      "원",
                                    "eur",    "usd",     "gbp",     "руб",    "рублей"};

static size_t begins_with(const char *text, size_t length, size_t at, const char *const *list, size_t n)
{
    size_t best = 0;
    for (size_t i = 0; i < n; i++) {
        size_t bytes = strlen(list[i]);
        if (bytes > best && at + bytes <= length && memcmp(text + at, list[i], bytes) == 0)
            best = bytes;
    }
    return best;
}

/* Bytes of a currency that stands at byte `at`, a whole word where it is letters. */
static size_t currency_at(const char *text, size_t length, size_t at)
{
    size_t n = begins_with(text, length, at, symbols, sizeof symbols / sizeof *symbols);
    size_t word = begins_with(text, length, at, words, sizeof words / sizeof *words);
    n = n > word ? n : word;
    if (n > 0 && slm_word_goes_on(text, length, at) && slm_word_char(text, length, at + n) > 0)
        return 0;
    return n;
}

bool slm_read_money(const char *text, size_t length, size_t at, slm_number *out)
{
    size_t number = at, currency = 0, skip, behind;

    if (!is_digit(at_byte(text, length, at)) && at_byte(text, length, at) != '-') {
        currency = begins_with(text, length, at, symbols, sizeof symbols / sizeof *symbols);
        if (currency == 0 || word_before(text, at))
            return false;
        number = at + currency;
        number += space_at(text, length, number);
    }
    if (currency > 0 && slm_word_char(text, length, number - 1) > 0) {
        /* EUR12.50: the digits follow letters directly */
        slm_number inner;
        if (!slm_read_number(text + number, length - number, 0, true, &inner))
            return false;
        *out = inner;
        out->begin += number;
        out->end += number;
    } else if (!slm_read_number(text, length, number, true, out)) {
        return false;
    }
    if (currency > 0) {
        out->begin = at;
        return !slm_word_goes_on(text, length, out->end) || currency_at(text, length, out->end) > 0;
    }
    if (at_byte(text, length, out->end) == ',' &&
        (at_byte(text, length, out->end + 1) == '-' || at_byte(text, length, out->end + 1) == 0xE2)) {
        behind = out->end + (text[out->end + 1] == '-' ? 2 : 1); /* 99,- */
        skip = space_at(text, length, behind);
        out->end = currency_at(text, length, behind + skip) > 0 ? behind + skip + currency_at(text, length, behind + skip) : behind;
        return true;
    }
    skip = space_at(text, length, out->end);
    behind = currency_at(text, length, out->end + skip);
    out->end += behind > 0 ? skip + behind : 0;
    return behind > 0;
}

/* ---- identifiers */

bool slm_read_id(const char *text, size_t length, size_t at, size_t *begin, size_t *end)
{
    size_t i = at;
    bool digit = false;

    i += at_byte(text, length, i) == '#';
    *begin = i;
    if (!is_alnum(at_byte(text, length, i)) || word_before(text, at))
        return false;
    /* the rest of something that is joined has been read with its beginning */
    if (at > 1 && at == i && strchr("-/_.", text[at - 1]) != NULL && word_before(text, at - 1))
        return false;
    while (is_alnum(at_byte(text, length, i))) {
        int next;
        digit |= is_digit(at_byte(text, length, i));
        i++;
        next = at_byte(text, length, i);
        if (next > 0 && strchr("-/_.", next) != NULL && is_alnum(at_byte(text, length, i + 1)))
            i++;
    }
    *end = i;
    return digit && !slm_word_goes_on(text, length, i);
}

bool slm_read_uuid(const char *text, size_t length, size_t at, size_t *end)
{
    static const int parts[] = {8, 4, 4, 4, 12};
    size_t i = at;
    if (word_before(text, at))
        return false;
    for (int g = 0; g < 5; g++) {
        if (g > 0 && at_byte(text, length, i++) != '-')
            return false;
        for (int k = 0; k < parts[g]; k++, i++) {
            int c = at_byte(text, length, i);
            if (!is_digit(c) && !((c | 0x20) >= 'a' && (c | 0x20) <= 'f'))
                return false;
        }
    }
    *end = i;
    return !slm_word_goes_on(text, length, i);
}
