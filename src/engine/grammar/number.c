/*
 * Decimal numbers as automata: a number's text compared with a bound, or divided by a number, digit by digit and exactly.
 *
 * Texts are plain: an optional minus, digits without leading zeros, perhaps a point and digits.  An exponent is not followed: it matches
 * nothing, so numbers that are bounded are written without one.
 *
 *   COMPARE  a: bound, b: flags (op, phase, result so far), c: digits read         -12.5 >= -20   ->   12.5 <= 20
 *   DIVIDE   a: modulus, b: remainder so far, c: scale, phase and decimals read    12.50 is a multiple of 0.05: 1250 mod 5
 */
#include <stdlib.h>

#include "engine/grammar/rx.h"

enum { MAX_EXPONENT = 400, MAX_DIGITS = 2000 };

/* Flags of COMPARE. The sign of number minus bound so far is LESS, 0 or GREATER. */
enum { OP_LESS = 1, OP_GREATER = 2, OP_EQUAL = 4, SIGNED = 8, FRACTION = 16, LESS = 32, GREATER = 64 };

static slm_rx compare_make(slm_rx_pool *p, uint32_t decimal, uint32_t flags, uint32_t n_read);

/* Is a number that is less (-1), equal (0), greater (1) what the comparison wants? */
static bool wanted(uint32_t flags, int sign)
{
    return sign < 0 ? (flags & OP_LESS) != 0 : sign > 0 ? (flags & OP_GREATER) != 0 : (flags & OP_EQUAL) != 0;
}

static int sign_so_far(uint32_t flags)
{
    return flags & LESS ? -1 : flags & GREATER ? 1 : 0;
}

/* How the integer part compares when it ends after n digits. */
static int integer_sign(const slm_decimal *d, uint32_t flags, uint32_t n)
{
    return n < d->n_int ? -1 : n > d->n_int ? 1 : sign_so_far(flags);
}

static int sign_at_end(const slm_decimal *d, uint32_t flags, uint32_t n)
{
    int sign = flags & FRACTION ? 0 : integer_sign(d, flags, n);
    if (sign == 0 && (flags & FRACTION ? n : 0) < d->n_frac)
        sign = -1; /* what is left of the bound ends in a digit that is no zero */
    return sign;
}

static slm_rx compare_make(slm_rx_pool *p, uint32_t decimal, uint32_t flags, uint32_t n_read)
{
    bool nullable = !(flags & SIGNED) && wanted(flags, sign_at_end(&p->decimals[decimal], flags, n_read));
    return slm_rx_make(p, RX_COMPARE, decimal, flags, n_read, nullable, false);
}

/* The comparison is decided, whatever digits follow. */
static slm_rx decided(uint32_t flags, int sign)
{
    return wanted(flags, sign) ? SLM_RX_ANY : SLM_RX_EMPTY;
}

static slm_rx compare_digit(slm_rx_pool *p, slm_rx_node e, unsigned digit)
{
    const slm_decimal *d = &p->decimals[e.a];
    uint32_t n = e.c, flags = e.b, bound;
    if (flags & FRACTION) {
        bound = n < d->n_frac ? (unsigned) d->digits[d->n_int + n] - '0' : 0;
        if (digit != bound)
            return decided(flags, digit < bound ? -1 : 1);
        return compare_make(p, e.a, flags, n < d->n_frac ? n + 1 : n);
    }
    if (n >= d->n_int)
        return decided(flags, 1);
    bound = (unsigned) d->digits[n] - '0';
    if (sign_so_far(flags) == 0 && digit != bound)
        flags |= digit < bound ? LESS : GREATER;
    return compare_make(p, e.a, flags, n + 1);
}

/* The first byte says the sign; from there on magnitudes are compared. */
static slm_rx compare_first(slm_rx_pool *p, slm_rx_node e, unsigned byte)
{
    const slm_decimal d = p->decimals[e.a];
    bool zero = d.n_frac == 0 && d.n_int == 1 && d.digits[0] == '0';
    uint32_t flags = e.b & ~(uint32_t) SIGNED;
    if (byte == '-') {
        if (!d.negative && !zero) /* -0 and below */
            return decided(flags, -1);
        flags = (flags & OP_EQUAL) | (flags & OP_LESS ? OP_GREATER : 0) | (flags & OP_GREATER ? OP_LESS : 0);
        return compare_make(p, e.a, flags, 0);
    }
    if (byte < '0' || byte > '9')
        return SLM_RX_EMPTY;
    if (d.negative)
        return decided(flags, 1);
    e.b = flags;
    return compare_digit(p, e, byte - '0');
}

static slm_rx compare_step(slm_rx_pool *p, slm_rx_node e, unsigned byte)
{
    if (e.b & SIGNED)
        return compare_first(p, e, byte);
    if (byte == '.' && !(e.b & FRACTION)) {
        int sign = integer_sign(&p->decimals[e.a], e.b, e.c);
        return sign != 0 ? decided(e.b, sign) : compare_make(p, e.a, e.b | FRACTION, 0);
    }
    return byte >= '0' && byte <= '9' ? compare_digit(p, e, byte - '0') : SLM_RX_EMPTY;
}

slm_rx slm_rx_compare(slm_rx_pool *p, uint32_t decimal, char op)
{
    uint32_t flags = SIGNED | (op == '<' || op == 'l' ? OP_LESS : OP_GREATER) | (op == 'l' || op == 'g' ? OP_EQUAL : 0);
    return compare_make(p, decimal, flags, 0);
}

/* c of DIVIDE: scale, decimals read, and whether the point was. */
enum { POINT = 1 << 30, READ_SHIFT = 15, SCALE_MASK = (1 << 15) - 1 };

static slm_rx divide_make(slm_rx_pool *p, uint32_t m, uint32_t rest, uint32_t c)
{
    uint32_t scale = c & SCALE_MASK, read = c >> READ_SHIFT & SCALE_MASK;
    uint64_t end = rest;
    for (; read < scale && end != 0; read++)
        end = end * 10 % m;
    return slm_rx_make(p, RX_DIVIDE, m, rest, c, end == 0, false);
}

static slm_rx divide_step(slm_rx_pool *p, slm_rx_node e, unsigned byte)
{
    uint32_t scale = e.c & SCALE_MASK, read = e.c >> READ_SHIFT & SCALE_MASK;
    if (byte == '-' && !(e.c & POINT))
        return divide_make(p, e.a, e.b, e.c);
    if (byte == '.' && !(e.c & POINT))
        return divide_make(p, e.a, e.b, e.c | POINT);
    if (byte < '0' || byte > '9')
        return SLM_RX_EMPTY;
    if ((e.c & POINT) && read == scale)
        return byte == '0' ? divide_make(p, e.a, e.b, e.c) : SLM_RX_EMPTY;
    return divide_make(p, e.a, (uint32_t) (((uint64_t) e.b * 10 + byte - '0') % e.a), e.c & POINT ? e.c + (1u << READ_SHIFT) : e.c);
}

slm_rx slm_rx_multiple(slm_rx_pool *p, uint32_t m, uint32_t scale)
{
    return divide_make(p, m, 0, scale);
}

slm_rx slm_number_step(slm_rx_pool *p, slm_rx_node e, unsigned byte)
{
    return e.kind == RX_COMPARE ? compare_step(p, e, byte) : divide_step(p, e, byte);
}

/* Writes the digits of a JSON number without sign and exponent, as if the point stood `point` digits from the left. */
static uint32_t read_digits(const char *text, size_t n, char *digits, uint32_t *point, long *exponent)
{
    uint32_t n_digits = 0;
    bool after = false;
    size_t i = text[0] == '-';
    *point = 0;
    *exponent = 0;
    for (; i < n && text[i] != 'e' && text[i] != 'E'; i++) {
        if (text[i] == '.') {
            after = true;
            continue;
        }
        digits[n_digits++] = text[i];
        *point += !after;
    }
    if (i < n) {
        char copy[16] = "";
        size_t left = n - i - 1;
        memcpy(copy, text + i + 1, left < sizeof copy - 1 ? left : sizeof copy - 1);
        *exponent = left < sizeof copy - 1 ? strtol(copy, NULL, 10) : MAX_EXPONENT + 1;
    }
    return n_digits;
}

bool slm_decimal_parse(slm_rx_pool *p, const char *text, size_t n, uint32_t *decimal)
{
    uint32_t point, n_digits, room, first = 0, end;
    long exponent, at;
    char *digits, *all;
    if (n > MAX_DIGITS || !SLM_GROW(p->budget, p->decimals, p->decimals_capacity, (uint64_t) p->n_decimals + 1))
        return slm_budget_fail(p->budget, SLM_UNSUPPORTED, "a number has more than %d digits", MAX_DIGITS);
    digits = slm_budget_alloc(p->budget, n + 1);
    if (digits == NULL)
        return false;
    n_digits = read_digits(text, n, digits, &point, &exponent);
    if (exponent > MAX_EXPONENT || exponent < -MAX_EXPONENT)
        return slm_budget_fail(p->budget, SLM_UNSUPPORTED, "a number has an exponent beyond %d", MAX_EXPONENT);
    at = (long) point + exponent; /* where the point stands now; pad with zeros so that it stands inside */
    room = n_digits + 2 * MAX_EXPONENT + 2;
    all = slm_budget_alloc(p->budget, room);
    if (all == NULL)
        return false;
    memset(all, '0', room);
    first = at < 1 ? (uint32_t) (1 - at) : 0;
    memcpy(all + first, digits, n_digits);
    at += first;
    end = first + n_digits < (uint32_t) at ? (uint32_t) at : first + n_digits;
    while (end > (uint32_t) at && all[end - 1] == '0')
        end--;
    for (first = 0; first + 1 < (uint32_t) at && all[first] == '0';)
        first++;
    p->decimals[p->n_decimals] = (slm_decimal) {text[0] == '-', (uint32_t) at - first, end - (uint32_t) at, all + first};
    if (end - first == 1 && all[first] == '0')
        p->decimals[p->n_decimals].negative = false;
    *decimal = p->n_decimals++;
    return true;
}
