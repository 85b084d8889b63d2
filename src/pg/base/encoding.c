/*
 * encoding.c: texts between the database's encoding and the engine's UTF-8.
 *
 * Into the engine: conversion by the server, an ERROR where a byte is no text of the encoding; a SQL_ASCII database has no encoding, so its
 * bytes are checked to be UTF-8.  Out of the engine the text is valid UTF-8 by contract; what a LATIN1 database cannot hold becomes '?',
 * because a model may always say something that the database has no letter for, and a lost statement is worse than a lost letter.
 */

#include "pg/base/encoding.h"

#include "catalog/namespace.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "pg/base/compat.h"

#define PIECE ((size_t) 1 << 20)

void slm_pg_copy(void *to, const void *from, size_t n)
{
    for (size_t done = 0; done < n; done += PIECE) {
        memcpy((char *) to + done, (const char *) from + done, Min(n - done, PIECE));
        CHECK_FOR_INTERRUPTS();
    }
}

const char *slm_pg_utf8_from_text(const text *t, size_t *length)
{
    size_t n = VARSIZE_ANY_EXHDR(t);
    char *copy = palloc(n + 1);
    const char *result;

    slm_pg_copy(copy, VARDATA_ANY(t), n);
    copy[n] = '\0';
    result = pg_server_to_any(copy, (int) n, PG_UTF8);
    if (length != NULL)
        *length = result == copy ? n : strlen(result);
    return result;
}

const char *slm_pg_utf8_view(const text *t, size_t *length)
{
    const char *result = pg_server_to_any(VARDATA_ANY(t), (int) VARSIZE_ANY_EXHDR(t), PG_UTF8);

    *length = result == VARDATA_ANY(t) ? (size_t) VARSIZE_ANY_EXHDR(t) : strlen(result);
    return result;
}

const char *slm_pg_utf8_from_cstring(const char *s)
{
    return pg_server_to_any(s, (int) strlen(s), PG_UTF8);
}

/* Converts what can be converted, piece by piece. */
static void append_converted(StringInfo out, const char *s, size_t length)
{
    int encoding = GetDatabaseEncoding();
    Oid proc = FindDefaultConversionProc(PG_UTF8, encoding);

    if (!OidIsValid(proc))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
                        errmsg("there is no conversion from UTF8 to the database encoding %s", GetDatabaseEncodingName())));
    while (length > 0) {
        int piece = (int) Min(length, 65536);
        int done;

        while (piece > 0 && piece < (int) length && ((unsigned char) s[piece] & 0xC0) == 0x80)
            piece--; /* not inside a character */
        enlargeStringInfo(out, piece * MAX_CONVERSION_GROWTH + 1);
        done = pg_do_encoding_conversion_buf(proc, PG_UTF8, encoding, (unsigned char *) unconstify(char *, s), piece,
                                             (unsigned char *) out->data + out->len, out->maxlen - out->len, true);
        out->len += (int) strlen(out->data + out->len);
        s += done;
        length -= (size_t) done;
        if (done < piece) {
            int bytes = pg_encoding_mblen(PG_UTF8, s);

            appendStringInfoChar(out, '?');
            s += bytes;
            length -= (size_t) bytes;
        }
    }
}

text *slm_pg_text_from_utf8(const char *s, size_t length)
{
    StringInfoData out;

    if (length > MaxAllocSize - VARHDRSZ)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("text of %zu bytes is too long", length)));
    if (GetDatabaseEncoding() == PG_UTF8 || GetDatabaseEncoding() == PG_SQL_ASCII) {
        text *result = palloc(length + VARHDRSZ);

        SET_VARSIZE(result, length + VARHDRSZ);
        slm_pg_copy(VARDATA(result), s, length);
        return result;
    }
    initStringInfo(&out);
    append_converted(&out, s, length);
    return cstring_to_text_with_len(out.data, out.len);
}

char *slm_pg_cstring_from_utf8(const char *s)
{
    return text_to_cstring(slm_pg_text_from_utf8(s, strlen(s)));
}
