/*
 * digest.h: a model's files, their digests, and the proof that an import reads what was hashed (digest.c).
 */
#ifndef SLM_PG_DIGEST_H
#define SLM_PG_DIGEST_H

#include "postgres.h"

#include "engine/slm.h"

/* Lives in CurrentMemoryContext. */
typedef struct SlmSource SlmSource;
SlmSource *slm_pg_source_list(const char *path);
/* What to call a model that gives itself no name: a directory's own; NULL for a file. */
const char *slm_pg_source_title(const SlmSource *source, const char *path);
/* ERROR where a directory holds far more than a model with so many bytes of weights. */
void slm_pg_source_check_size(const SlmSource *source, const char *path, uint64 weights);
/* SHA-256 (hex, NUL-terminated) of a file, or of a directory's files in sorted order: names, lengths and contents. */
void slm_pg_source_digest(SlmSource *source, char sha256[65]);
slm_seal slm_pg_source_seal(SlmSource *source); /* after slm_pg_source_digest */
void slm_pg_source_close(SlmSource *source);
void slm_pg_sha256(const void *data, size_t bytes, uint8 out[32]);
/* A SHA-256 in hex, NUL-terminated; and that of some bytes. */
void slm_pg_digest_hex(const uint8 digest[32], char out[65]);
static inline void slm_pg_sha256_hex(const void *data, size_t bytes, char out[65])
{
    uint8 digest[32];

    slm_pg_sha256(data, bytes, digest);
    slm_pg_digest_hex(digest, out);
}

#endif
