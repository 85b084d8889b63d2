/*
 * scan.h: values by their form: numbers, money, dates, times, identifiers (scan_numbers.c, scan_dates.c).
 *
 * Each reads a value that begins at byte `at` of a text (valid UTF-8) and says where it ends; false when none begins there.
 */
#ifndef SLM_EXTRACT_SCAN_H
#define SLM_EXTRACT_SCAN_H

#include "engine/extract/extract.h"

typedef struct slm_number {
    size_t begin, end;               /* the digits with their sign */
    char normal[SLM_EXTRACT_NORMAL]; /* -1234.56 */
    bool whole;                      /* without a decimal part */
    bool plain;                      /* digits alone: no sign, no separators */
} slm_number;

/* A number with separators of thousands and decimals as people write them: 1,234.56; 1.234,56; 1 234,56; 1'234.  thousands: a single
 * point before three digits separates thousands (of money), else decimals. */
bool slm_read_number(const char *text, size_t length, size_t at, bool thousands, slm_number *out);
/* A number with a currency before or behind it; the span holds both. */
bool slm_read_money(const char *text, size_t length, size_t at, slm_number *out);
/* Letters and digits, at least one of these, with single - / _ . between them; # may stand before. */
bool slm_read_id(const char *text, size_t length, size_t at, size_t *begin, size_t *end);
bool slm_read_uuid(const char *text, size_t length, size_t at, size_t *end);

typedef struct slm_day {
    int year, month, day;
    size_t end;
    bool either; /* day and month could be the other way round */
} slm_day;

/* A date with its year: 2026-05-02, 2.5.2026, 5/2/26, 2 May 2026, May 2nd, 2026, 2. Mai 2026, 2 de mayo de 2026, 2026年5月2日 ... */
bool slm_read_date(const char *text, size_t length, size_t at, bool month_first, slm_day *out);
/* 10:30, 10:30:15, 10h30, 3 pm, 3.30 Uhr */
bool slm_read_time(const char *text, size_t length, size_t at, char normal[SLM_EXTRACT_NORMAL], size_t *end);

#endif
