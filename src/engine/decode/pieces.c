/*
 * Token bytes to valid UTF-8 with stop strings; see pieces.h.
 */
#include "engine/decode/pieces.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/utf8.h"

slm_status slm_pieces_init(slm_pieces *p, const char *const *stops, size_t n_stops, slm_error *err)
{
    memset(p, 0, sizeof *p);
    if (n_stops == 0)
        return SLM_OK;
    p->stops = calloc(n_stops, sizeof *p->stops);
    if (p->stops == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for stop strings");
    for (size_t i = 0; i < n_stops; i++) {
        size_t length = stops[i] == NULL ? 0 : strlen(stops[i]);

        if (length == 0) {
            slm_pieces_clear(p);
            return slm_fail(err, SLM_INVALID, "a stop string is empty");
        }
        p->stops[i] = strdup(stops[i]);
        if (p->stops[i] == NULL) {
            slm_pieces_clear(p);
            return slm_fail(err, SLM_NOMEM, "out of memory for stop strings");
        }
        p->n_stops = i + 1;
        p->longest_stop = length > p->longest_stop ? length : p->longest_stop;
    }
    return SLM_OK;
}

void slm_pieces_clear(slm_pieces *p)
{
    for (size_t i = 0; i < p->n_stops; i++)
        free(p->stops[i]);
    free(p->stops);
    free(p->text);
    memset(p, 0, sizeof *p);
}

static bool append(slm_pieces *p, const void *bytes, size_t n)
{
    if (p->n + n + 1 > p->capacity) {
        size_t room = (p->n + n + 1) * 2 + 64;
        char *text = realloc(p->text, room);

        if (text == NULL)
            return false;
        p->text = text;
        p->capacity = room;
    }
    memcpy(p->text + p->n, bytes, n);
    p->n += n;
    p->text[p->n] = '\0';
    return true;
}

/* Moves whole characters and broken bytes from pending to the text; the beginning of a character stays. */
static bool drain(slm_pieces *p)
{
    int kind;

    while (p->n_pending > 0 && (kind = slm_utf8_scan((const char *) p->pending, p->n_pending)) != 0) {
        unsigned used = (unsigned) (kind > 0 ? kind : -kind);

        if (!(kind > 0 ? append(p, p->pending, used) : append(p, "\xef\xbf\xbd", 3)))
            return false;
        p->n_pending -= used;
        memmove(p->pending, p->pending + used, p->n_pending);
    }
    return true;
}

/* Looks for stop strings that end after `old`, the length before the last addition; cuts the text at the first one. */
static void find_stop(slm_pieces *p, size_t old)
{
    size_t from = old + 1 > p->longest_stop ? old + 1 - p->longest_stop : 0, cut = SIZE_MAX;

    for (size_t i = 0; i < p->n_stops; i++) {
        const char *hit = strstr(p->text + from, p->stops[i]);

        if (hit != NULL && (size_t) (hit - p->text) < cut)
            cut = (size_t) (hit - p->text);
    }
    if (cut != SIZE_MAX) {
        p->n = cut;
        p->text[cut] = '\0';
        p->stopped = true;
    }
}

/* Length of the longest end of the text that is a proper beginning of a stop string. */
static size_t held_back(const slm_pieces *p)
{
    size_t most = p->longest_stop > 0 ? p->longest_stop - 1 : 0;

    for (size_t k = most < p->n ? most : p->n; k > 0; k--)
        for (size_t i = 0; i < p->n_stops; i++)
            if (strlen(p->stops[i]) > k && memcmp(p->text + p->n - k, p->stops[i], k) == 0)
                return k;
    return 0;
}

slm_status slm_pieces_add(slm_pieces *p, const char *bytes, size_t length, slm_error *err)
{
    size_t old = p->n;

    if (p->stopped)
        return SLM_OK;
    for (size_t i = 0; i < length; i++) {
        p->pending[p->n_pending++] = (unsigned char) bytes[i];
        if (!drain(p))
            return slm_fail(err, SLM_NOMEM, "out of memory for an answer");
    }
    if (p->n > old && p->n_stops > 0)
        find_stop(p, old);
    p->final = p->stopped ? p->n : p->n - held_back(p);
    return SLM_OK;
}

slm_status slm_pieces_finish(slm_pieces *p, slm_error *err)
{
    p->n_pending = 0;
    if (!append(p, "", 0))
        return slm_fail(err, SLM_NOMEM, "out of memory for an answer");
    p->final = p->n;
    return SLM_OK;
}
