/*
 * sample.c: the texts that an aggregate keeps of a group (sample.h), in the order of their hashes.
 */
#include "pg/functions/sample.h"

#include "libpq/pqformat.h"

/* FNV-1a with a last mix, so that the smallest are spread evenly. */
static uint64 hash_of(const char *s, size_t length)
{
    uint64 h = UINT64CONST(14695981039346656037);

    for (size_t i = 0; i < length; i++)
        h = (h ^ (unsigned char) s[i]) * UINT64CONST(1099511628211);
    h = (h ^ h >> 33) * UINT64CONST(0xff51afd7ed558ccd);
    h = (h ^ h >> 33) * UINT64CONST(0xc4ceb9fe1a85ec53);
    return h ^ h >> 33;
}

SlmSample *slm_pg_sample_new(MemoryContext context, int most, size_t most_bytes)
{
    SlmSample *s = MemoryContextAllocZero(context, offsetof(SlmSample, list) + sizeof(SlmSampleText) * (Size) (most + 1));

    s->context = context;
    s->most = most;
    s->most_bytes = most_bytes;
    s->ceiling = PG_UINT64_MAX;
    return s;
}

/* The first place whose hash is not smaller. */
static int place_of(const SlmSample *s, uint64 hash)
{
    int low = 0, high = s->n;

    while (low < high) {
        int middle = (low + high) / 2;

        if (s->list[middle].hash < hash)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Forgets the texts from the ceiling on. */
static void lower_ceiling(SlmSample *s, uint64 ceiling)
{
    s->ceiling = Min(s->ceiling, ceiling);
    while (s->n > 0 && s->list[s->n - 1].hash >= s->ceiling) {
        s->bytes -= s->list[--s->n].length;
        pfree(s->list[s->n].text);
    }
}

static void keep(SlmSample *s, uint64 hash, const char *text, uint32 length, uint32 weight)
{
    int at = place_of(s, hash);
    SlmSampleText *t = &s->list[at];

    if (hash >= s->ceiling)
        return;
    if (at < s->n && t->hash == hash) {
        t->weight = t->weight > PG_UINT32_MAX - weight ? PG_UINT32_MAX : t->weight + weight;
        return;
    }
    memmove(t + 1, t, sizeof *t * (Size) (s->n - at));
    *t = (SlmSampleText){.hash = hash, .weight = weight, .length = length, .text = MemoryContextAlloc(s->context, Max(length, 1))};
    memcpy(t->text, text, length);
    s->n++;
    s->bytes += length;
    while (s->n > s->most || s->bytes > s->most_bytes)
        lower_ceiling(s, s->list[s->n - 1].hash);
}

void slm_pg_sample_add(SlmSample *sample, const char *text, size_t length, size_t most_of_one)
{
    if (length > most_of_one) {
        length = most_of_one;
        while (length > 0 && ((unsigned char) text[length] & 0xC0) == 0x80)
            length--;
    }
    keep(sample, hash_of(text, length), text, (uint32) length, 1);
}

void slm_pg_sample_merge(SlmSample *sample, const SlmSample *other)
{
    lower_ceiling(sample, other->ceiling);
    for (int i = 0; i < other->n; i++)
        keep(sample, other->list[i].hash, other->list[i].text, other->list[i].length, other->list[i].weight);
}

void slm_pg_sample_send(StringInfo out, const SlmSample *sample)
{
    pq_sendint64(out, sample->ceiling);
    pq_sendint32(out, (uint32) sample->n);
    for (int i = 0; i < sample->n; i++) {
        pq_sendint64(out, sample->list[i].hash);
        pq_sendint32(out, sample->list[i].weight);
        pq_sendint32(out, sample->list[i].length);
        pq_sendbytes(out, sample->list[i].text, (int) sample->list[i].length);
    }
}

void slm_pg_sample_receive(StringInfo in, SlmSample *sample)
{
    uint64 ceiling = (uint64) pq_getmsgint64(in);
    int n = (int) pq_getmsgint(in, 4);

    lower_ceiling(sample, ceiling);
    for (int i = 0; i < n; i++) {
        uint64 hash = (uint64) pq_getmsgint64(in);
        uint32 weight = pq_getmsgint(in, 4), length = pq_getmsgint(in, 4);

        keep(sample, hash, pq_getmsgbytes(in, (int) length), length, weight);
    }
}
