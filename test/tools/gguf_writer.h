/*
 * A small writer of GGUF files in memory, for tools and for tests: well-formed files by the gw_kv_* and gw_tensor calls, and
 * broken ones by writing any bytes between them.
 *
 *   gw_begin(&w, 3, n_tensors, n_kv); gw_kv_...; gw_tensor...; gw_align(&w, 32); then the tensors' data at the offsets that were given
 *
 * Layout: the GGUF specification.  Not for the engine: failures of malloc end the program.
 */
#ifndef GGUF_WRITER_H
#define GGUF_WRITER_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct gw {
    unsigned char *bytes;
    size_t n, capacity;
} gw;

static inline void gw_raw(gw *w, const void *bytes, size_t n)
{
    if (w->capacity - w->n < n) {
        w->capacity = (w->capacity + n) * 2;
        w->bytes = realloc(w->bytes, w->capacity);
        if (w->bytes == NULL)
            abort();
    }
    if (n > 0)
        memcpy(w->bytes + w->n, bytes, n);
    w->n += n;
}

static inline void gw_free(gw *w)
{
    free(w->bytes);
    memset(w, 0, sizeof *w);
}

static inline void gw_u8(gw *w, uint8_t x) { gw_raw(w, &x, 1); }
static inline void gw_u32(gw *w, uint32_t x) { gw_raw(w, &x, 4); }
static inline void gw_u64(gw *w, uint64_t x) { gw_raw(w, &x, 8); }
static inline void gw_f32(gw *w, float x) { gw_raw(w, &x, 4); }

static inline void gw_string_n(gw *w, const char *s, size_t n)
{
    gw_u64(w, n);
    gw_raw(w, s, n);
}

static inline void gw_string(gw *w, const char *s)
{
    gw_string_n(w, s, strlen(s));
}

static inline void gw_begin(gw *w, uint32_t version, uint64_t n_tensors, uint64_t n_kv)
{
    gw_raw(w, "GGUF", 4);
    gw_u32(w, version);
    gw_u64(w, n_tensors);
    gw_u64(w, n_kv);
}

static inline void gw_key(gw *w, const char *key, uint32_t type)
{
    gw_string(w, key);
    gw_u32(w, type);
}

static inline void gw_kv_u32(gw *w, const char *key, uint32_t x)
{
    gw_key(w, key, 4);
    gw_u32(w, x);
}

static inline void gw_kv_f32(gw *w, const char *key, float x)
{
    gw_key(w, key, 6);
    gw_f32(w, x);
}

static inline void gw_kv_bool(gw *w, const char *key, int x)
{
    gw_key(w, key, 7);
    gw_u8(w, (uint8_t) x);
}

static inline void gw_kv_string(gw *w, const char *key, const char *x)
{
    gw_key(w, key, 8);
    gw_string(w, x);
}

/* The head of an array; its entries follow by gw_string, gw_u32 ... */
static inline void gw_kv_array(gw *w, const char *key, uint32_t type, uint64_t n)
{
    gw_key(w, key, 9);
    gw_u32(w, type);
    gw_u64(w, n);
}

/* cols first; rows 0: a vector. The offset is relative to the data. */
static inline void gw_tensor(gw *w, const char *name, uint64_t cols, uint64_t rows, uint32_t type, uint64_t offset)
{
    gw_string(w, name);
    gw_u32(w, rows ? 2 : 1);
    gw_u64(w, cols);
    if (rows)
        gw_u64(w, rows);
    gw_u32(w, type);
    gw_u64(w, offset);
}

static inline void gw_align(gw *w, size_t alignment)
{
    while (w->n % alignment != 0)
        gw_u8(w, 0);
}

static inline int gw_save(const gw *w, const char *path)
{
    FILE *f = fopen(path, "wb");
    int good = f != NULL && fwrite(w->bytes, 1, w->n, f) == w->n;
    return (f == NULL || fclose(f) == 0) && good ? 0 : -1;
}

#endif
