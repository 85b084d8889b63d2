/*
 * windows.h: a text of any length as windows that a model can read, one after the other, in bounded memory.
 */
#ifndef SLM_PG_WINDOWS_H
#define SLM_PG_WINDOWS_H

#include "postgres.h"

#include "pg/run/opened.h"

typedef struct SlmWindows SlmWindows;

/* text: valid UTF-8, which must live as long as the windows; max_tokens: of a window by itself, without what a prompt adds; sentences: a
 * window ends with a sentence, though there were room for more; overlap: tokens that a window shares with the one before.  palloc'ed in
 * CurrentMemoryContext. */
SlmWindows *slm_pg_windows(const SlmOpenModel *entry, const char *text, size_t length, size_t max_tokens, size_t overlap,
                           bool sentences);
/* Windows that are known: [2 * n] begin and end byte of each. */
SlmWindows *slm_pg_windows_known(const char *text, size_t length, const size_t *offsets, size_t n);
/* The next window: a part of the text; false when there is none. Together they cover the text, in order of their beginnings and ends. */
bool slm_pg_next_window(SlmWindows *windows, const char **text, size_t *length);

/* Tokens of the text by itself. */
size_t slm_pg_tokens_in(const SlmOpenModel *entry, const char *text, size_t length);
/* A beginning of the text that has more than max_tokens tokens, or all of it: *more says which. Reads no further than it must. */
size_t slm_pg_reach(const SlmOpenModel *entry, const char *text, size_t length, size_t max_tokens, bool *more);

#endif
