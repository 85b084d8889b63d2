/*
 * Checkpoints of fine-tunings: tune.<database>.<id> in slm.model_directory.
 *
 *   | "SLMCKPT1" | digest of what it belongs to, 64 hex digits | SHA-256 of the data, 64 hex digits | bytes u64 | data |
 *
 * A new one is written beside the old, flushed and renamed over it: there is always a whole one or none.  The name of the one in work
 * begins as temporary files do, so that base backups leave it out.
 */
#include "pg/jobs/tune.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file_utils.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/memutils.h"

#include "pg/base/errors.h"
#include "pg/models/digest.h"
#include "pg/models/store.h"
#include "pg/models/store_files.h"

#define MAGIC "SLMCKPT1"
#define HEX 64
#define HEAD (8 + 2 * HEX + 8)
#define MOST_BYTES ((Size) 64 * 1024 * 1024 * 1024)

char *slm_pg_tune_file(int32 id)
{
    return slm_pg_store_file(psprintf("tune.%u.%d", MyDatabaseId, id));
}

void slm_pg_tune_write(int32 id, const char *digest, const void *data, Size bytes)
{
    char *path = slm_pg_tune_file(id), *temporary = slm_pg_store_file(psprintf(SLM_TEMPORARY "tune.%u.%d", MyDatabaseId, id));
    char head[HEAD + 1];
    uint64 n = bytes;
    int fd;

    memcpy(head, MAGIC, 8);
    memcpy(head + 8, digest, HEX);
    slm_pg_sha256_hex(data, bytes, head + 8 + HEX);
    memcpy(head + 8 + 2 * HEX, &n, sizeof n);
    slm_pg_store_make_directory();
    (void) unlink(temporary); /* of a worker that ended in the middle */
    fd = OpenTransientFile(temporary, O_WRONLY | O_CREAT | O_EXCL | PG_BINARY);
    if (fd < 0)
        slm_pg_file_error(errno, psprintf("could not create \"%s\"", slm_pg_store_shown(temporary)));
    slm_pg_store_write(fd, head, HEAD, slm_pg_store_shown(temporary));
    slm_pg_store_write(fd, data, bytes, slm_pg_store_shown(temporary));
    if (pg_fsync(fd) != 0 || CloseTransientFile(fd) != 0)
        slm_pg_file_error(errno, psprintf("could not write \"%s\"", slm_pg_store_shown(temporary)));
    (void) durable_rename(temporary, path, ERROR);
}

static char *read_checked(int fd, const char *digest, Size *bytes, const char **reason)
{
    char head[HEAD], sum[HEX + 1];
    struct stat st;
    uint64 n;
    char *data;

    *reason = "it is damaged";
    if (fstat(fd, &st) != 0 || st.st_size < HEAD || slm_pg_store_read(fd, head, HEAD) != 0)
        return NULL;
    memcpy(&n, head + 8 + 2 * HEX, sizeof n);
    if (memcmp(head, MAGIC, 8) != 0 || n > MOST_BYTES || (uint64) st.st_size != n + HEAD)
        return NULL;
    if (memcmp(head + 8, digest, HEX) != 0) {
        *reason = "it belongs to another training";
        return NULL;
    }
    data = MemoryContextAllocHuge(CurrentMemoryContext, (Size) n + 1);
    if (slm_pg_store_read(fd, data, (Size) n) != 0) {
        pfree(data);
        return NULL;
    }
    slm_pg_sha256_hex(data, (Size) n, sum);
    if (memcmp(head + 8 + HEX, sum, HEX) != 0) {
        pfree(data);
        return NULL;
    }
    *bytes = (Size) n;
    return data;
}

char *slm_pg_tune_read(int32 id, const char *digest, Size *bytes, const char **reason)
{
    int fd = OpenTransientFile(slm_pg_tune_file(id), O_RDONLY | O_NOFOLLOW | PG_BINARY);
    char *data;

    *reason = NULL;
    if (fd < 0)
        return NULL;
    data = read_checked(fd, digest, bytes, reason);
    CloseTransientFile(fd);
    return data;
}

void slm_pg_tune_remove(const char *file)
{
    if (unlink(file) != 0 && errno != ENOENT)
        ereport(LOG, (errcode_for_file_access(), errmsg("could not remove file \"%s\": %m", file)));
}
