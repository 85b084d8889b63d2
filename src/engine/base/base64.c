/*
 * Base 64: four letters for three bytes.
 */
#include "engine/base/base64.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

slm_status slm_base64_decode(const char *text, size_t n, char **bytes, size_t *length, slm_error *err)
{
    char *out = malloc(n / 4 * 3 + 3);
    uint32_t bits = 0, have = 0;
    size_t m = 0;
    if (out == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    while (n > 0 && text[n - 1] == '=')
        n--;
    for (size_t i = 0; i < n; i++) {
        const char *at = text[i] != '\0' ? strchr(alphabet, text[i]) : NULL;
        if (at == NULL) {
            free(out);
            return slm_fail(err, SLM_FORMAT, "this is no base 64: %.*s", (int) (n < 60 ? n : 60), text);
        }
        bits = bits << 6 | (uint32_t) (at - alphabet);
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[m++] = (char) (bits >> have);
        }
    }
    *bytes = out;
    *length = m;
    return SLM_OK;
}

char *slm_base64_encode(const char *bytes, size_t n)
{
    char *out = malloc((n + 2) / 3 * 4 + 1), *at = out;
    for (size_t i = 0; out != NULL && i < n; i += 3) {
        uint32_t have = n - i < 3 ? (uint32_t) (n - i) : 3, bits = 0;
        for (uint32_t k = 0; k < 3; k++)
            bits = bits << 8 | (k < have ? (unsigned char) bytes[i + k] : 0u);
        for (uint32_t k = 0; k < 4; k++)
            *at++ = k <= have ? alphabet[bits >> (18 - 6 * k) & 63] : '=';
    }
    if (out != NULL)
        *at = '\0';
    return out;
}
