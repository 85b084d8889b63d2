/*
 * Characters as bytes: ranges of code points as UTF-8, and as a JSON string writes them.
 *
 * A JSON string has one spelling here: \" \\ \b \f \n \r \t, \u00xx in small letters for the other controls, and every other character as
 * itself.  So a text has one encoding, its length in characters can be counted, and "any text but these" is a complement.
 */
#include "engine/base/utf8.h"
#include "engine/grammar/rx.h"

/* Bytes low..high at one place. */
static slm_rx bytes(slm_rx_pool *p, unsigned low, unsigned high)
{
    slm_byte_set set = {{0}};
    slm_set_add(&set, low, high);
    return slm_rx_set(p, &set);
}

/* Code points low..high whose encodings have the same number of bytes: split where a continuation byte does not cover its whole range. */
static slm_rx utf8_same(slm_rx_pool *p, const unsigned char *low, const unsigned char *high, int n)
{
    slm_rx made;
    static const unsigned char least[] = {0x80, 0x80, 0x80}, most[] = {0xBF, 0xBF, 0xBF};
    if (n == 1)
        return bytes(p, low[0], high[0]);
    if (low[0] == high[0])
        return slm_rx_cat(p, bytes(p, low[0], low[0]), utf8_same(p, low + 1, high + 1, n - 1));
    made = SLM_RX_EMPTY;
    unsigned first = low[0], last = high[0];
    if (memcmp(low + 1, least, (size_t) n - 1) != 0)
        made = slm_rx_cat(p, bytes(p, first, first), utf8_same(p, low + 1, most, n - 1)), first++;
    if (memcmp(high + 1, most, (size_t) n - 1) != 0)
        made = slm_rx_or(p, made, slm_rx_cat(p, bytes(p, last, last), utf8_same(p, least, high + 1, n - 1))), last--;
    if (first <= last)
        made = slm_rx_or(p, made, slm_rx_cat(p, bytes(p, first, last), utf8_same(p, least, most, n - 1)));
    return made;
}

static slm_rx utf8_range(slm_rx_pool *p, uint32_t low, uint32_t high)
{
    static const uint32_t borders[][2] = {{0, 0x7F}, {0x80, 0x7FF}, {0x800, 0xD7FF}, {0xE000, 0xFFFF}, {0x10000, 0x10FFFF}};
    slm_rx made = SLM_RX_EMPTY;
    for (int i = 0; i < 5; i++) {
        uint32_t a = low > borders[i][0] ? low : borders[i][0], b = high < borders[i][1] ? high : borders[i][1];
        char from[4], to[4];
        if (a > b)
            continue;
        made = slm_rx_or(p, made, utf8_same(p, (unsigned char *) from, (unsigned char *) to,
                                            (slm_utf8_encode(b, to), slm_utf8_encode(a, from))));
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
    for (uint32_t i = 0; i < n && slm_budget_step(p->budget, 4); i++)
        if (ranges[i][1] >= 128)
            made = slm_rx_or(p, made, utf8_range(p, ranges[i][0] < 128 ? 128 : ranges[i][0], ranges[i][1]));
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
