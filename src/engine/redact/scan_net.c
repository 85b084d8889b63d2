/*
 * Scanners of addresses in networks: mail, web, IP.
 */
#include "engine/redact/redact.h"

#include <arpa/inet.h>
#include <string.h>

#define LONGEST_LOCAL 64 /* of a mail address (RFC 5321) */
#define LONGEST_HOST 253

static bool in_local(int c)
{
    return slm_redact_word(c) || (c > 0 && strchr(".!#$%&'*+-/=?^`{|}~", c) != NULL);
}

static bool in_label(int c)
{
    return slm_redact_letter(c) || slm_redact_digit(c) || c == '-' || c >= 0x80;
}

/* The end of a host name of at least two labels, the last of them letters: "mail.example.org". */
static size_t host(const slm_redact_text *t, size_t at)
{
    size_t i = at, good = 0;
    for (int labels = 0; i - at <= LONGEST_HOST; labels++) {
        size_t begin = i;
        bool letters = true;
        while (in_label(slm_redact_at(t, i))) {
            letters &= slm_redact_letter(slm_redact_at(t, i)) || slm_redact_at(t, i) >= 0x80;
            i++;
        }
        if (i == begin || slm_redact_at(t, begin) == '-' || slm_redact_at(t, i - 1) == '-')
            break;
        if (labels > 0 && letters && i - begin >= 2)
            good = i;
        if (labels > 0 && i - begin > 4 && strncmp(t->text + begin, "xn--", 4) == 0)
            good = i;
        if (slm_redact_at(t, i) != '.')
            break;
        i++;
    }
    return good;
}

size_t slm_redact_email(const slm_redact_text *t, size_t at)
{
    size_t i = at, end;
    if (!slm_redact_word(slm_redact_at(t, at)) || (at > 0 && in_local(slm_redact_at(t, at - 1)) && slm_redact_at(t, at - 1) != '\'' &&
                                                   slm_redact_at(t, at - 1) != '=' && slm_redact_at(t, at - 1) != '/'))
        return 0;
    while (in_local(slm_redact_at(t, i)) && i - at < LONGEST_LOCAL)
        i++;
    if (slm_redact_at(t, i) != '@' || slm_redact_at(t, i - 1) == '.')
        return 0;
    end = host(t, i + 1);
    return end != 0 && slm_redact_ends(t, end) ? end : 0;
}

static bool begins_with(const slm_redact_text *t, size_t at, const char *lower)
{
    size_t n = strlen(lower);
    for (size_t i = 0; i < n; i++)
        if ((slm_redact_at(t, at + i) | 0x20) != lower[i] && slm_redact_at(t, at + i) != lower[i])
            return false;
    return true;
}

size_t slm_redact_url(const slm_redact_text *t, size_t at)
{
    static const char *const schemes[] = {"https://", "http://", "ftp://", "www."};
    size_t i = 0, depth = 0;
    for (size_t k = 0; k < sizeof schemes / sizeof *schemes && i == 0; k++)
        if (begins_with(t, at, schemes[k]))
            i = at + strlen(schemes[k]);
    if (i == 0 || !slm_redact_word(slm_redact_at(t, i)))
        return 0;
    for (int c; (c = slm_redact_at(t, i)) > ' ' && c != '<' && c != '>' && c != '"' && c != '`' && c != 0x7f; i++) {
        if (c == '(')
            depth++;
        if (c == ')' && depth-- == 0)
            break;
        /* U+3000 to U+303F and the full-width forms are the text's own punctuation */
        if ((c == 0xE3 && slm_redact_at(t, i + 1) == 0x80) || (c == 0xEF && slm_redact_at(t, i + 1) == 0xBC))
            break;
    }
    while (i > at && strchr(".,;:!?'*]}", t->text[i - 1]) != NULL)
        i--;
    return !begins_with(t, at, "www.") || host(t, at) != 0 ? i : 0;
}

static size_t ip4(const slm_redact_text *t, size_t at)
{
    size_t i = at;
    for (int part = 0; part < 4; part++) {
        int value = 0, digits = 0;
        for (; slm_redact_digit(slm_redact_at(t, i)) && digits < 4; digits++)
            value = value * 10 + slm_redact_at(t, i++) - '0';
        if (digits == 0 || digits > 3 || value > 255 || (part < 3 && slm_redact_at(t, i++) != '.'))
            return 0;
    }
    /* five numbers are a version or an outline, not an address */
    return slm_redact_ends(t, i) && !(slm_redact_at(t, i) == '.' && slm_redact_digit(slm_redact_at(t, i + 1))) ? i : 0;
}

static size_t ip6(const slm_redact_text *t, size_t at)
{
    char address[INET6_ADDRSTRLEN + 1];
    struct in6_addr out;
    size_t i = at, n;
    int colons = 0;
    for (int c; i - at <= INET6_ADDRSTRLEN &&
                ((c = slm_redact_at(t, i)) == ':' || c == '.' || slm_redact_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f'));
         i++)
        colons += c == ':';
    while (i > at &&
           (slm_redact_at(t, i - 1) == '.' || (slm_redact_at(t, i - 1) == ':' && (i < at + 2 || slm_redact_at(t, i - 2) != ':'))))
        i--; /* the sentence's own */
    n = i - at;
    if (colons < 2 || n < 3 || n > INET6_ADDRSTRLEN || !slm_redact_ends(t, i))
        return 0;
    memcpy(address, t->text + at, n);
    address[n] = '\0';
    return inet_pton(AF_INET6, address, &out) == 1 ? i : 0;
}

size_t slm_redact_ip(const slm_redact_text *t, size_t at)
{
    int before = at > 0 ? slm_redact_at(t, at - 1) : -1;
    size_t end;
    if (before == '.' || before == ':')
        return 0;
    end = ip4(t, at);
    return end != 0 ? end : ip6(t, at);
}
