/*
 * Scanners of numbers with a check: accounts (IBAN), payment cards, national identity numbers; and phone numbers.
 */
#include "engine/redact/redact.h"

#include <string.h>

/* Digits or letters with single separators between them, as people group them. */
typedef struct grouped {
    char s[40]; /* without separators, letters in upper case */
    int n;
    size_t end; /* behind the last one */
} grouped;

static bool separates(const slm_redact_text *t, size_t i, const char *separators)
{
    int c = slm_redact_at(t, i);
    return c > 0 && strchr(separators, c) != NULL;
}

/* Reads up to most digits (and letters). */
static void read_grouped(const slm_redact_text *t, size_t at, int most, bool letters, const char *separators, grouped *out)
{
    size_t i = at;
    out->n = 0;
    out->end = at;
    while (out->n < most) {
        int c = slm_redact_at(t, i);
        if (slm_redact_digit(c) || (letters && slm_redact_letter(c))) {
            out->s[out->n++] = (char) (slm_redact_letter(c) ? c & ~0x20 : c);
            out->end = ++i;
        } else if (out->n > 0 && i == out->end && separates(t, i, separators)) {
            i++;
        } else {
            break;
        }
    }
    out->s[out->n] = '\0';
}

/* ---- IBAN (ISO 13616): the length belongs to the country */

static const char iban_lengths[] =
    "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29ES24FI18FK18FO18"
    "FR27GB22GE22GI23GL18GR27GT28HN28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21LY25"
    "MC27MD24ME22MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25QA29RO24RS22RU33SA24SC31SD18SE24SI19"
    "SK24SM27SO23ST25SV28TL23TN24TR26UA29VA22VG24XK20YE30";

static int iban_length(const char *country)
{
    for (const char *p = iban_lengths; *p != '\0'; p += 4)
        if (p[0] == country[0] && p[1] == country[1])
            return (p[2] - '0') * 10 + p[3] - '0';
    return 0;
}

/* Number modulo 97 of the text, letters as 10 to 35. */
static int mod97(const char *s, int n, int rest)
{
    for (int i = 0; i < n; i++)
        rest = slm_redact_digit(s[i]) ? (rest * 10 + s[i] - '0') % 97 : (rest * 100 + s[i] - 'A' + 10) % 97;
    return rest;
}

size_t slm_redact_iban(const slm_redact_text *t, size_t at)
{
    grouped g;
    char country[2];
    int length;
    if (!slm_redact_letter(slm_redact_at(t, at)) || !slm_redact_letter(slm_redact_at(t, at + 1)))
        return 0;
    country[0] = (char) (t->text[at] & ~0x20);
    country[1] = (char) (t->text[at + 1] & ~0x20);
    length = iban_length(country);
    if (length == 0)
        return 0;
    read_grouped(t, at, length, true, " -", &g);
    if (g.n != length || !slm_redact_digit(g.s[2]) || !slm_redact_digit(g.s[3]) || !slm_redact_ends(t, g.end))
        return 0;
    return mod97(g.s, 4, mod97(g.s + 4, length - 4, 0)) == 1 ? g.end : 0;
}

/* ---- payment cards (ISO/IEC 7812): 13 to 19 digits with Luhn's check digit, of a known network */

static bool luhn(const char *s, int n)
{
    int sum = 0;
    for (int i = 0; i < n; i++) {
        int d = s[n - 1 - i] - '0';
        sum += i % 2 == 0 ? d : d < 5 ? 2 * d : 2 * d - 9;
    }
    return sum % 10 == 0;
}

static bool of_a_network(const char *s, int n)
{
    int two = (s[0] - '0') * 10 + s[1] - '0', four = two * 100 + (s[2] - '0') * 10 + s[3] - '0';
    if (two == 34 || two == 37)
        return n == 15;
    if (two == 36 || two == 38 || two == 39 || (four >= 3000 && four <= 3059))
        return n >= 14 && n <= 19;
    if (s[0] == '4')
        return n == 13 || n == 16 || n == 19;
    if ((two >= 51 && two <= 55) || (four >= 2221 && four <= 2720))
        return n == 16;
    if (four >= 3528 && four <= 3589)
        return n >= 16;
    if (four == 6011 || two == 62 || two == 65 || (four >= 6440 && four <= 6499))
        return n >= 16;
    return two == 50 || (two >= 56 && two <= 69);
}

size_t slm_redact_card(const slm_redact_text *t, size_t at)
{
    grouped g;
    size_t best = 0;
    if (!slm_redact_digit(slm_redact_at(t, at)))
        return 0;
    for (int n = 13; n <= 19; n++) {
        read_grouped(t, at, n, false, " -", &g);
        if (g.n == n && slm_redact_ends(t, g.end) && of_a_network(g.s, n) && luhn(g.s, n))
            best = g.end;
    }
    return best;
}

/* ---- national identity numbers */

static int weighted(const char *s, const char *weights, int n)
{
    int sum = 0;
    for (int i = 0; i < n; i++)
        sum += (s[i] - '0') * (weights[i] - '0');
    return sum;
}

static bool all_equal(const char *s, int n)
{
    for (int i = 1; i < n; i++)
        if (s[i] != s[0])
            return false;
    return true;
}

/* United States: 123-45-6789, with the dashes. */
static size_t us_ssn(const slm_redact_text *t, size_t at)
{
    int area = 0;
    for (int i = 0; i < 11; i++) {
        int c = slm_redact_at(t, at + (size_t) i);
        if (i == 3 || i == 6 ? c != '-' : !slm_redact_digit(c))
            return 0;
        area = i < 3 ? area * 10 + c - '0' : area;
    }
    if (area == 0 || area == 666 || area >= 900 || memcmp(t->text + at + 4, "00", 2) == 0 || memcmp(t->text + at + 7, "0000", 4) == 0)
        return 0;
    return slm_redact_ends(t, at + 11) && slm_redact_at(t, at + 11) != '-' ? at + 11 : 0;
}

/* Spain: eight digits, or X, Y, Z and seven, with a letter of 23. */
static bool es_dni(const grouped *g)
{
    int value = 0;
    if (g->n != 9 || !slm_redact_letter(g->s[8]))
        return false;
    for (int i = 0; i < 8; i++) {
        int d = i == 0 && g->s[0] >= 'X' && g->s[0] <= 'Z' ? g->s[0] - 'X' : slm_redact_digit(g->s[i]) ? g->s[i] - '0' : -1;
        if (d < 0)
            return false;
        value = value * 10 + d;
    }
    return "TRWAGMYFPDXBNJZSQVHLCKE"[value % 23] == g->s[8];
}

/* Italy: the codice fiscale, 16 characters, the last a check. */
static bool it_codice(const grouped *g)
{
    static const int odd[] = {1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23};
    int sum = 0;
    if (g->n != 16)
        return false;
    for (int i = 0; i < 16; i++)
        if ("LLLLLLDDLDDLDDDL"[i] == 'L' ? !slm_redact_letter(g->s[i]) : false)
            return false;
    for (int i = 0; i < 15; i++) {
        int value = slm_redact_digit(g->s[i]) ? g->s[i] - '0' : g->s[i] - 'A';
        sum += i % 2 == 0 ? odd[value] : value;
    }
    return sum % 26 + 'A' == g->s[15];
}

/* France: 13 digits (Corsica: 2A, 2B) and a key of two. */
static bool fr_nir(const grouped *g)
{
    char s[16];
    if (g->n != 15 || g->s[0] < '1' || g->s[0] > '4')
        return false;
    memcpy(s, g->s, sizeof s);
    if (s[5] == '2' && (s[6] == 'A' || s[6] == 'B')) { /* counted as departments 19 and 18 */
        s[5] = '1';
        s[6] = s[6] == 'A' ? '9' : '8';
    }
    for (int i = 0; i < 15; i++)
        if (!slm_redact_digit(s[i]))
            return false;
    return 97 - mod97(s, 13, 0) == (s[13] - '0') * 10 + s[14] - '0';
}

/* United Kingdom: the national insurance number, AB 12 34 56 C. */
static bool uk_nino(const grouped *g)
{
    if (g->n != 9 || !slm_redact_letter(g->s[0]) || !slm_redact_letter(g->s[1]) || g->s[8] < 'A' || g->s[8] > 'D')
        return false;
    if (strchr("DFIQUV", g->s[0]) != NULL || strchr("DFIQUVO", g->s[1]) != NULL)
        return false;
    for (int i = 2; i < 8; i++)
        if (!slm_redact_digit(g->s[i]))
            return false;
    return true;
}

static bool only_digits(const grouped *g)
{
    for (int i = 0; i < g->n; i++)
        if (!slm_redact_digit(g->s[i]))
            return false;
    return !all_equal(g->s, g->n);
}

/* Germany: the tax number of a person, ISO 7064 MOD 11,10; among the first ten digits one occurs twice or three times. */
static bool de_tax(const grouped *g)
{
    int product = 10, count[10] = {0}, twice = 0;
    if (g->n != 11 || g->s[0] == '0' || !only_digits(g))
        return false;
    for (int i = 0; i < 10; i++) {
        int sum = (g->s[i] - '0' + product) % 10;
        count[g->s[i] - '0']++;
        product = (sum == 0 ? 10 : sum) * 2 % 11;
    }
    for (int d = 0; d < 10; d++) {
        twice += count[d] == 2 || count[d] == 3;
        if (count[d] > 3)
            return false;
    }
    return twice == 1 && (11 - product) % 10 == g->s[10] - '0';
}

/* Poland: PESEL. */
static bool pl_pesel(const grouped *g)
{
    int month = g->n == 11 ? ((g->s[2] - '0') * 10 + g->s[3] - '0') % 20 : 0, day = g->n == 11 ? (g->s[4] - '0') * 10 + g->s[5] - '0' : 0;
    return g->n == 11 && only_digits(g) && month >= 1 && month <= 12 && day >= 1 && day <= 31 &&
           (10 - weighted(g->s, "1379137913", 10) % 10) % 10 == g->s[10] - '0';
}

/* Brazil: CPF, with its separators 123.456.789-09. */
static bool br_cpf(const slm_redact_text *t, size_t at, const grouped *g)
{
    int first = 0, second = 0;
    if (g->n != 11 || g->end - at != 14 || slm_redact_at(t, at + 3) != '.' || slm_redact_at(t, at + 11) != '-' || !only_digits(g))
        return false;
    for (int i = 0; i < 9; i++)
        first += (g->s[i] - '0') * (10 - i);
    first = first * 10 % 11 % 10;
    for (int i = 0; i < 9; i++)
        second += (g->s[i] - '0') * (11 - i);
    second = (second + first * 2) * 10 % 11 % 10;
    return g->s[9] - '0' == first && g->s[10] - '0' == second;
}

size_t slm_redact_national_id(const slm_redact_text *t, size_t at)
{
    static const int lengths[] = {16, 15, 11, 9};
    size_t end = us_ssn(t, at);
    if (end != 0)
        return end;
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        grouped g;
        bool plain;
        read_grouped(t, at, lengths[k], true, " .-", &g);
        if (g.n != lengths[k] || !slm_redact_ends(t, g.end))
            continue;
        plain = g.end - at == (size_t) g.n; /* written without separators, or in groups of its own kind */
        if (it_codice(&g) || fr_nir(&g) ||
            (g.end - at <= 11 && (es_dni(&g) || (uk_nino(&g) && slm_redact_letter(slm_redact_at(t, at))))) ||
            (g.end - at <= 14 && (uk_nino(&g) || de_tax(&g))) || (plain && pl_pesel(&g)) || br_cpf(t, at, &g))
            return g.end;
    }
    return 0;
}

/* ---- phone numbers: with a country code, or in one of the forms that people write national ones in */

/* Reads digits with separators ( . - / and spaces, brackets around an area code); *groups: how many runs of digits. */
static int read_phone(const slm_redact_text *t, size_t at, size_t *end, int *groups, bool *spaced)
{
    int digits = 0, open = 0, gap = 0;
    *end = at;
    *groups = 0;
    *spaced = false;
    for (size_t i = at; digits <= 16; i++) {
        int c = slm_redact_at(t, i);
        if (slm_redact_digit(c)) {
            *groups += digits == 0 || gap > 0;
            gap = 0;
            digits++;
            *end = i + 1;
        } else if (c == '(' && open == 0 && (digits == 0 || gap > 0 || i == at)) {
            open = 1;
        } else if (c == ')' && open == 1) {
            open = 2;
            gap = 1;
        } else if ((c == ' ' || c == '-' || c == '.' || c == '/') && digits > 0 && gap < 3) {
            gap += gap == 0 || (c == ' ' || c == '-' || c == '/') ? 1 : 3; /* "a - b", "a / b" */
            if (gap > 3)
                break;
            *spaced |= c != '.';
        } else {
            break;
        }
    }
    return digits;
}

static bool groups_are(const slm_redact_text *t, size_t at, size_t end, int first, int second, int third)
{
    int want[3] = {first, second, third}, group = -1, count = 0;
    bool in = false;
    for (size_t i = at; i <= end; i++) {
        bool digit = i < end && slm_redact_digit(slm_redact_at(t, i));
        if (digit && !in) {
            if (++group == 3)
                return false;
            count = 0;
        }
        if (!digit && in && count != want[group])
            return false;
        count += digit;
        in = digit;
    }
    return group == 2;
}

size_t slm_redact_phone(const slm_redact_text *t, size_t at)
{
    int c = slm_redact_at(t, at), before = at > 0 ? slm_redact_at(t, at - 1) : -1, digits, groups;
    bool plus = c == '+', spaced;
    size_t end, begin = plus ? at + 1 : at;
    if (!(plus || c == '(' || slm_redact_digit(c)) || before == '+' || before == '.' || before == ',' || before == '#' || before == '-' ||
        before == '/' || before == '$')
        return 0;
    if (!plus && before == ' ' && at > 1 && slm_redact_digit(slm_redact_at(t, at - 2))) /* the middle of a longer number */
        return 0;
    digits = read_phone(t, begin, &end, &groups, &spaced);
    if (!slm_redact_ends(t, end) || digits < 7 || digits > 15)
        return 0;
    if (plus || (slm_redact_at(t, at) == '0' && slm_redact_at(t, at + 1) == '0' && slm_redact_at(t, at + 2) != '0'))
        return digits >= 8 ? end : 0;
    /* a trunk prefix: 0 151 23456789, (030) 1234-567, 01 23 45 67 89 */
    if (slm_redact_at(t, c == '(' ? at + 1 : at) == '0' && digits >= 8 && digits <= 12)
        return groups > 1 || digits >= 10 ? end : 0;
    /* North America, Spain and Italy: three groups of a known shape */
    if (digits == 10 && groups_are(t, at, end, 3, 3, 4))
        return end;
    return digits == 9 && groups_are(t, at, end, 3, 3, 3) && spaced && (c == '6' || c == '7' || c == '9') ? end : 0;
}
