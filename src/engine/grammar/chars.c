/*
 * Characters as bytes: ranges of code points as UTF-8, and as a JSON string writes them.
 *
 * A JSON string has one spelling here: \" \\ \b \f \n \r \t, \u00xx in small letters for the other controls, and every other character as
 * itself.  So a text has one encoding, its length in characters can be counted, and "any text but these" is a complement.
 */
#include "engine/base/utf8.h"
#include "engine/grammar/rx.h"

/* Sorted, apart: what is looked up in. Only code points of low..high count. */
typedef struct chars {
    const uint32_t (*ranges)[2];
    uint32_t n, low, high;
} chars;

/* The first range that ends at or behind c; n when there is none. */
static uint32_t find(const chars *s, uint32_t c)
{
    uint32_t low = 0, high = s->n;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (s->ranges[mid][1] < c)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* The continuation bytes of the characters of base..base + 2^bits - 1: bytes with the same expression behind them share a set. */
static slm_rx block(slm_rx_pool *p, const chars *s, uint32_t base, int bits)
{
    uint32_t end = base + (UINT32_C(1) << bits) - 1, at = find(s, base), n = 0;
    slm_rx then[64], made = SLM_RX_EMPTY;
    slm_byte_set sets[64];
    if (at == s->n || s->ranges[at][0] > end || end < s->low || base > s->high || !slm_budget_step(p->budget, 8))
        return SLM_RX_EMPTY;
    if (bits == 0 || (s->ranges[at][0] <= base && s->ranges[at][1] >= end && base >= s->low && end <= s->high))
        return p->continuations[bits / 6]; /* all of them */
    bits -= 6;
    for (unsigned k = 0x80; k <= 0xBF; k++) {
        slm_rx one = block(p, s, base + ((k & 63) << bits), bits);
        uint32_t i = 0;
        if (one == SLM_RX_EMPTY)
            continue;
        while (i < n && then[i] != one)
            i++;
        if (i == n) {
            sets[n] = (slm_byte_set) {{0}};
            then[n++] = one;
        }
        slm_set_add(&sets[i], k, k);
    }
    for (uint32_t i = 0; i < n; i++)
        made = slm_rx_or(p, made, slm_rx_cat(p, slm_rx_set(p, &sets[i]), then[i]));
    return made;
}

/* The characters behind ASCII.  Leading bytes: 110xxxxx, 1110xxxx, 11110xxx; without overlong forms, surrogates and what is above
 * U+10FFFF. */
static slm_rx utf8(slm_rx_pool *p, const uint32_t (*ranges)[2], uint32_t n)
{
    static const struct {
        uint32_t low, high;
        int bits;
        unsigned mark;
    } lengths[] = {{0x80, 0x7FF, 6, 0xC0}, {0x800, 0xD7FF, 12, 0xE0}, {0xE000, 0xFFFF, 12, 0xE0}, {0x10000, 0x10FFFF, 18, 0xF0}};
    slm_rx made = SLM_RX_EMPTY, then[16];
    slm_byte_set sets[16], any = {{0}};
    slm_set_add(&any, 0x80, 0xBF);
    for (uint32_t i = 0; i < 4; i++)
        p->continuations[i] = p->continuations[i] != 0 ? p->continuations[i] : slm_rx_rep(p, slm_rx_set(p, &any), i, i);
    for (int i = 0; i < 4; i++) {
        chars s = {ranges, n, lengths[i].low, lengths[i].high};
        uint32_t n_then = 0, bits = (uint32_t) lengths[i].bits;
        for (uint32_t lead = s.low >> bits; lead <= s.high >> bits; lead++) {
            slm_rx rest = block(p, &s, lead << bits, (int) bits);
            uint32_t k = 0;
            while (k < n_then && then[k] != rest)
                k++;
            if (k == n_then && (rest == SLM_RX_EMPTY || k == 16)) {
                if (rest != SLM_RX_EMPTY)
                    made = slm_rx_or(p, made, slm_rx_cat(p, slm_rx_byte(p, lengths[i].mark | lead), rest));
                continue;
            }
            if (k == n_then) {
                sets[k] = (slm_byte_set) {{0}};
                then[n_then++] = rest;
            }
            slm_set_add(&sets[k], lengths[i].mark | lead, lengths[i].mark | lead);
        }
        for (uint32_t k = 0; k < n_then; k++)
            made = slm_rx_or(p, made, slm_rx_cat(p, slm_rx_set(p, &sets[k]), then[k]));
    }
    return made;
}

static const char SHORT[] = "\b\f\n\r\t\"\\", LETTERS[] = "bfnrt\"\\";

/* What a JSON string may not hold as it is; NULL for the rest. */
static const char *escape_of(unsigned c, char out[7])
{
    static const char hex[] = "0123456789abcdef";
    const char *at = c == 0 ? NULL : strchr(SHORT, (int) c);
    if (c >= 32 && at == NULL)
        return NULL;
    if (at != NULL)
        memcpy(out, (char[]) {'\\', LETTERS[at - SHORT], 0}, 3);
    else
        memcpy(out, (char[]) {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15], 0}, 7);
    return out;
}

static bool has_char(const uint32_t (*ranges)[2], uint32_t n, uint32_t c)
{
    for (uint32_t i = 0; i < n; i++)
        if (c >= ranges[i][0] && c <= ranges[i][1])
            return true;
    return false;
}

slm_rx slm_rx_chars(slm_rx_pool *p, const uint32_t (*ranges)[2], uint32_t n, bool json)
{
    slm_rx made = SLM_RX_EMPTY, then[34];
    slm_text texts[34];
    char escapes[34][7];
    slm_byte_set ascii = {{0}};
    uint32_t n_texts = 0;
    if (!slm_budget_step(p->budget, n))
        return SLM_RX_EMPTY;
    for (unsigned c = 0; c < 128; c++) {
        if (!has_char(ranges, n, c))
            continue;
        if (json && escape_of(c, escapes[n_texts]) != NULL) {
            texts[n_texts] = (slm_text) {escapes[n_texts], (uint32_t) strlen(escapes[n_texts])};
            then[n_texts++] = SLM_RX_EPS;
        } else {
            slm_set_add(&ascii, c, c);
        }
    }
    for (uint32_t i = 1; i < n_texts; i++)
        for (uint32_t k = i; k > 0 && slm_text_compare(&texts[k - 1], &texts[k]) > 0; k--) {
            slm_text t = texts[k];
            texts[k] = texts[k - 1];
            texts[k - 1] = t;
        }
    made = slm_rx_or(p, slm_rx_set(p, &ascii), slm_rx_trie(p, texts, then, n_texts));
    made = slm_rx_or(p, made, utf8(p, ranges, n));
    p->nodes[made].json = p->nodes[made].json || json;
    return made;
}

bool slm_json_escape(slm_budget *b, const char *text, size_t n, char **out, uint32_t *n_out, uint32_t *capacity)
{
    for (size_t i = 0; i < n; i++) {
        char escape[7];
        const char *e = escape_of((unsigned char) text[i], escape);
        uint32_t length = e == NULL ? 1 : (uint32_t) strlen(e);
        if (!SLM_GROW(b, *out, *capacity, (uint64_t) *n_out + length))
            return false;
        memcpy(*out + *n_out, e == NULL ? text + i : e, length);
        *n_out += length;
    }
    return true;
}
