/*
 * sample.h: what aggregates over texts keep of a group: the different ones with the smallest hashes, as many as fit, each with its count.
 *
 * Which texts are kept depends on their set alone, on no order and no split of the rows: those that come first in the order of their
 * hashes, so far as there is room.  What is dropped sets a ceiling: it was not kept because those before it fill the room, so nothing
 * behind it is kept either, however small.  A text that is kept has been kept from its first row on, so its count is exact.  The hash is
 * the same on every machine.
 */
#ifndef SLM_PG_SAMPLE_H
#define SLM_PG_SAMPLE_H

#include "postgres.h"

#include "lib/stringinfo.h"

typedef struct SlmSampleText {
    uint64 hash;
    uint32 weight, length; /* how often it was there; bytes */
    char *text;            /* UTF-8 [length], palloc'ed in the sample's context */
} SlmSampleText;

typedef struct SlmSample {
    MemoryContext context;
    int most;          /* texts */
    size_t most_bytes; /* of all texts together */
    uint64 ceiling;    /* nothing from here on is kept */
    size_t bytes;
    int n;
    SlmSampleText list[FLEXIBLE_ARRAY_MEMBER]; /* [n] by hash; room for most + 1 */
} SlmSample;

SlmSample *slm_pg_sample_new(MemoryContext context, int most, size_t most_bytes);
/* Counts a text: its first most_of_one bytes, whole characters. */
void slm_pg_sample_add(SlmSample *sample, const char *text, size_t length, size_t most_of_one);
/* Adds what another sample of the same bounds has kept. */
void slm_pg_sample_merge(SlmSample *sample, const SlmSample *other);
/* As bytes, for a process that shares no memory; what is read fills a new sample. */
void slm_pg_sample_send(StringInfo out, const SlmSample *sample);
void slm_pg_sample_receive(StringInfo in, SlmSample *sample);

#endif
