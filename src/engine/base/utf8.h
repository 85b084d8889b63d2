/*
 * UTF-8: where a text stops being valid, and single characters.
 *
 * Validity as in RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF.  Texts are checked once at the door
 * (slm_utf8_check); everything behind it may decode without looking at the bytes again.
 */
#ifndef SLM_BASE_UTF8_H
#define SLM_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

/* Bytes of the longest prefix of text[n] that is valid UTF-8; n when all of it is. */
size_t slm_utf8_valid_prefix(const char *text, size_t n);

/* SLM_INVALID, naming the byte offset, when text[n] is not valid UTF-8 or holds a NUL byte. */
slm_status slm_utf8_check(const char *text, size_t n, slm_error *err);

/* Bytes (1..4) of the character that begins at s[0], n >= 1 bytes left; 0 when the bytes there are no whole valid character. */
int slm_utf8_char_length(const char *s, size_t n);

/* What s[0..n), n >= 1, begins with: > 0 a whole character of that many bytes; 0 the beginning of one that needs more bytes; < 0 that many
 * bytes, negated, that belong to no character: one maximal part (Unicode 15, section 3.9), to be shown as one U+FFFD.  NUL counts as
 * broken: no text of ours may hold it. */
int slm_utf8_scan(const char *s, size_t n);

/* The code point at s, which must be valid; *length is its bytes. */
static inline uint32_t slm_utf8_decode(const char *s, int *length)
{
    const unsigned char *p = (const unsigned char *) s;
    if (p[0] < 0x80) {
        *length = 1;
        return p[0];
    }
    if (p[0] < 0xE0) {
        *length = 2;
        return (uint32_t) (p[0] & 0x1F) << 6 | (p[1] & 0x3F);
    }
    if (p[0] < 0xF0) {
        *length = 3;
        return (uint32_t) (p[0] & 0x0F) << 12 | (uint32_t) (p[1] & 0x3F) << 6 | (p[2] & 0x3F);
    }
    *length = 4;
    return (uint32_t) (p[0] & 0x07) << 18 | (uint32_t) (p[1] & 0x3F) << 12 | (uint32_t) (p[2] & 0x3F) << 6 | (p[3] & 0x3F);
}

/* Bytes written to out (1..4) for a code point up to U+10FFFF that is no surrogate. */
int slm_utf8_encode(uint32_t code, char out[4]);

/* Does a byte begin a character (no continuation byte)? */
static inline bool slm_utf8_is_start(char c)
{
    return ((unsigned char) c & 0xC0) != 0x80;
}

#endif
