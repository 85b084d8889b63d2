/*
 * UTF-8 checks: runs of ASCII go eight bytes at a time, everything else character by character.
 */
#include "engine/base/utf8.h"

#include <string.h>

int slm_utf8_char_length(const char *s, size_t n)
{
    const unsigned char *p = (const unsigned char *) s;
    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xC2 || p[0] > 0xF4)
        return 0;
    if (n < 2 || (p[1] & 0xC0) != 0x80)
        return 0;
    if (p[0] < 0xE0)
        return 2;
    if ((p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F) || (p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F))
        return 0;
    if (n < 3 || (p[2] & 0xC0) != 0x80)
        return 0;
    if (p[0] < 0xF0)
        return 3;
    if (n < 4 || (p[3] & 0xC0) != 0x80)
        return 0;
    return 4;
}

size_t slm_utf8_valid_prefix(const char *text, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint64_t eight;
        while (n - i >= sizeof eight) {
            memcpy(&eight, text + i, sizeof eight);
            if (eight & UINT64_C(0x8080808080808080))
                break;
            i += sizeof eight;
        }
        if (i == n)
            break;
        int length = slm_utf8_char_length(text + i, n - i);
        if (length == 0)
            break;
        i += (size_t) length;
    }
    return i;
}

slm_status slm_utf8_check(const char *text, size_t n, slm_error *err)
{
    size_t good = slm_utf8_valid_prefix(text, n);
    if (good < n) {
        slm_fail(err, SLM_INVALID, "text is not valid UTF-8 at byte offset %zu (byte 0x%02x)", good, (unsigned) (unsigned char) text[good]);
        slm_hint(err, "Convert the text to UTF-8 before it is given to a model.");
        return SLM_INVALID;
    }
    const char *nul = n > 0 ? memchr(text, 0, n) : NULL;
    if (nul != NULL)
        return slm_fail(err, SLM_INVALID, "text holds a NUL byte at byte offset %zu", (size_t) (nul - text));
    return SLM_OK;
}

int slm_utf8_encode(uint32_t code, char out[4])
{
    if (code < 0x80) {
        out[0] = (char) code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char) (0xC0 | code >> 6);
        out[1] = (char) (0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char) (0xE0 | code >> 12);
        out[1] = (char) (0x80 | (code >> 6 & 0x3F));
        out[2] = (char) (0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (char) (0xF0 | code >> 18);
    out[1] = (char) (0x80 | (code >> 12 & 0x3F));
    out[2] = (char) (0x80 | (code >> 6 & 0x3F));
    out[3] = (char) (0x80 | (code & 0x3F));
    return 4;
}

int slm_utf8_scan(const char *s, size_t n)
{
    const unsigned char *p = (const unsigned char *) s;
    unsigned char low = 0x80, high = 0xBF;
    int need;
    if (p[0] < 0x80)
        return p[0] == 0 ? -1 : 1;
    if (p[0] < 0xC2 || p[0] > 0xF4)
        return -1;
    need = p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
    if (p[0] == 0xE0)
        low = 0xA0;
    else if (p[0] == 0xED)
        high = 0x9F;
    else if (p[0] == 0xF0)
        low = 0x90;
    else if (p[0] == 0xF4)
        high = 0x8F;
    for (int i = 1; i < need; i++) {
        if ((size_t) i == n)
            return 0;
        if (p[i] < low || p[i] > high)
            return -i;
        low = 0x80;
        high = 0xBF;
    }
    return need;
}
