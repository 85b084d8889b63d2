/*
 * Setting error messages.  Invariant: whatever bytes of a file or a row go into a message, what comes out is printable UTF-8, cut to
 * the struct, so that it can go to a log or a client as it stands.
 */
#include "engine/base/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Replaces what a terminal or a log should not get: control characters and bytes that are no valid UTF-8. */
void slm_clean_text(char *text)
{
    unsigned char *p = (unsigned char *) text;
    while (*p) {
        int extra = *p < 0x80                                  ? 0
                    : (*p & 0xE0) == 0xC0 && *p >= 0xC2 ? 1
                    : (*p & 0xF0) == 0xE0                ? 2
                    : (*p & 0xF8) == 0xF0 && *p <= 0xF4 ? 3
                                                        : -1;
        int good = extra >= 0 && *p >= 0x20 && *p != 0x7F;
        for (int i = 1; good && i <= extra; i++)
            good = (p[i] & 0xC0) == 0x80;
        if (good && extra == 2)
            good = !(p[0] == 0xE0 && p[1] < 0xA0) && !(p[0] == 0xED && p[1] > 0x9F);
        if (good && extra == 3)
            good = !(p[0] == 0xF0 && p[1] < 0x90) && !(p[0] == 0xF4 && p[1] > 0x8F);
        if (!good)
            *p++ = '?';
        else
            p += 1 + extra;
    }
}

static void set(slm_error *err, slm_status status, const char *format, va_list args)
{
    vsnprintf(err->message, sizeof err->message, format, args);
    err->hint[0] = '\0';
    err->status = status;
    err->os_error = 0;
    err->cause = SLM_CAUSE_NONE;
    err->hint_code = SLM_HINT_OTHER;
}

slm_status slm_fail(slm_error *err, slm_status status, const char *format, ...)
{
    if (err != NULL) {
        va_list args;
        va_start(args, format);
        set(err, status, format, args);
        va_end(args);
        slm_clean_text(err->message);
    }
    return status;
}

slm_status slm_fail_os(slm_error *err, int os_error, const char *format, ...)
{
    slm_status status = os_error == ENOMEM ? SLM_NOMEM : SLM_IO;
    if (err != NULL) {
        va_list args;
        va_start(args, format);
        set(err, status, format, args);
        va_end(args);
        err->os_error = os_error;
        size_t n = strlen(err->message);
        snprintf(err->message + n, sizeof err->message - n, ": %s", strerror(os_error));
        slm_clean_text(err->message);
    }
    return status;
}

void slm_blame(slm_error *err, slm_cause cause)
{
    if (err == NULL || (err->status != SLM_LIMIT && err->status != SLM_INVALID))
        return;
    err->cause = cause == SLM_CAUSE_BAD_TEXT && err->status == SLM_LIMIT ? SLM_CAUSE_LONG : cause;
}

slm_status slm_hint(slm_error *err, const char *format, ...)
{
    if (err == NULL)
        return SLM_INTERNAL;
    va_list args;
    va_start(args, format);
    vsnprintf(err->hint, sizeof err->hint, format, args);
    va_end(args);
    slm_clean_text(err->hint);
    return err->status;
}
