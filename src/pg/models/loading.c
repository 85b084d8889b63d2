/*
 * loading.c: how far a running load or training is, for slm.model_status of the sessions that may see it.
 *
 * One small file of fixed size in slm.model_directory, pgsql_tmp.loading.<pid>, rewritten in place at most every 100 ms by the loading
 * backend.  It is made when the load begins and removed when it ends, also by an error; one whose process is gone is removed by the next
 * load.  It works without shared memory, so without shared_preload_libraries.  Writing may fail (disk full): then there is no progress
 * to see, that is all.
 *
 * What is read is believed only when every field can be what a backend of this server, running now in that database, has written: a file
 * may be left by a crash, or come with a copy of a running cluster.
 *
 * A load takes long, and most interrupts of a session (a timer of the statistics, a barrier, a look at its memory) are no reason to
 * begin it anew: they are answered here, below the engine.  A cancel is not, nor is an error that an answer raises: these wait until
 * the engine has returned.
 */
#include "pg/models/loading.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/timestamp.h"

#include "pg/base/errors.h"
#include "pg/models/store.h"
#include "pg/models/store_files.h"

static SlmLoading current;
static int progress_fd = -1;
static TimestampTz last_write;
static ErrorData *held; /* raised by an interrupt below the engine, waiting for the engine's return */

static char *progress_path(int pid)
{
    return slm_pg_store_file(psprintf(SLM_TEMPORARY "loading.%d", pid));
}

/* No ERROR from here: it is called below the engine too. */
static void write_progress(void)
{
    if (progress_fd >= 0) {
        ssize_t written = pwrite(progress_fd, &current, sizeof current, 0);

        (void) written;
    }
    last_write = GetCurrentTimestamp();
}

void slm_pg_loading_begin(const char *name)
{
    slm_pg_loading_end();
    memset(&current, 0, sizeof current);
    current.pid = MyProcPid;
    current.server_start = PgStartTime;
    current.database = MyDatabaseId;
    current.role = GetUserId();
    strlcpy(current.name, name, sizeof current.name);
    strlcpy(current.phase, "hashing", sizeof current.phase);
    (void) unlink(progress_path(MyProcPid)); /* of a process of this number that crashed */
    progress_fd = slm_pg_store_create(progress_path(MyProcPid));
    write_progress();
}

bool slm_pg_loading_running(void)
{
    return progress_fd >= 0;
}

void slm_pg_loading_phase(const char *phase)
{
    strlcpy(current.phase, phase, sizeof current.phase);
    current.done = current.total = 0;
    write_progress();
}

static void answer_interrupts(void)
{
    MemoryContext context = CurrentMemoryContext;

    if (QueryCancelPending || ProcDiePending || held != NULL)
        return;
    PG_TRY();
    {
        CHECK_FOR_INTERRUPTS();
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(context);
        held = CopyErrorData();
        FlushErrorState();
        InterruptPending = true; /* the engine stops */
    }
    PG_END_TRY();
}

void slm_pg_loading_interrupted(void)
{
    ErrorData *error = held;

    held = NULL;
    if (error != NULL)
        ReThrowError(error);
    slm_pg_interrupted();
}

void slm_pg_loading_report(void *arg, uint64_t done, uint64_t total)
{
    if (InterruptPending)
        answer_interrupts();
    current.done = done;
    current.total = total;
    if (TimestampDifferenceExceeds(last_write, GetCurrentTimestamp(), 100))
        write_progress();
}

void slm_pg_loading_end(void)
{
    held = NULL;
    if (progress_fd < 0)
        return;
    close(progress_fd);
    progress_fd = -1;
    unlink(progress_path(MyProcPid));
}

/* A text of ours that ends inside its field. */
static bool good_text(const char *text, size_t size)
{
    size_t n = strnlen(text, size);

    for (size_t i = 0; i < n; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    return n > 0 && n < size;
}

static bool believable(const SlmLoading *p, int pid)
{
    PGPROC *proc = BackendPidGetProc(pid);

    return proc != NULL && p->pid == pid && p->server_start == PgStartTime && p->database == proc->databaseId && p->done <= PG_INT64_MAX &&
           p->total <= PG_INT64_MAX && good_text(p->name, sizeof p->name) && good_text(p->phase, sizeof p->phase);
}

static bool read_progress(const char *path, SlmLoading *out)
{
    int fd = BasicOpenFile(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | PG_BINARY);
    bool whole = fd >= 0 && read(fd, out, sizeof *out) == (ssize_t) sizeof *out;

    if (fd >= 0)
        close(fd);
    return whole;
}

SlmLoading *slm_pg_loading_list(int *n)
{
    char *directory = slm_pg_store_directory();
    SlmLoading *list = palloc(sizeof(SlmLoading));
    DIR *dir = AllocateDir(directory);
    struct dirent *de;

    *n = 0;
    if (dir == NULL && errno == ENOENT)
        return list;
    while ((de = ReadDir(dir, directory)) != NULL) {
        uint32 pid = slm_pg_store_number(de->d_name, SLM_TEMPORARY "loading.", INT_MAX);

        if (pid == 0)
            continue;
        list = repalloc(list, sizeof(SlmLoading) * (Size) (*n + 1));
        if (read_progress(slm_pg_store_file(de->d_name), &list[*n]) && believable(&list[*n], (int) pid))
            (*n)++;
    }
    FreeDir(dir);
    return list;
}
