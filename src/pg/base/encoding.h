/*
 * encoding.h: the engine speaks UTF-8, the database its own encoding (encoding.c).
 */
#ifndef SLM_PG_ENCODING_H
#define SLM_PG_ENCODING_H

#include "postgres.h"

/* memcpy that answers interrupts: what is copied may have hundreds of MB. */
void slm_pg_copy(void *to, const void *from, size_t n);
/* A NUL-terminated copy of its own; *length (may be NULL) without the NUL. */
const char *slm_pg_utf8_from_text(const text *t, size_t *length);
/* *length bytes, where nothing has to be converted those of t itself, without a NUL behind them: long texts are not copied. */
const char *slm_pg_utf8_view(const text *t, size_t *length);
/* NUL-terminated, maybe s itself. */
const char *slm_pg_utf8_from_cstring(const char *s);
/* Characters that the database's encoding lacks become '?'. */
text *slm_pg_text_from_utf8(const char *s, size_t length);
char *slm_pg_cstring_from_utf8(const char *s);

#endif
