/*
 * progress.c: how far a running slm_load_model is, for slm.model_status of every session.
 *
 * One small file <slm.model_directory>/loading.<pid> of fixed size, rewritten in place at most every 100 ms by the loading backend.  It is
 * made when the load begins and removed when it ends, also by an error; one whose process is gone is removed by the next load.  It works
 * without shared memory, so without shared_preload_libraries.  Writing may fail (disk full): then there is no progress to see, that is all.
 *
 * A load takes long, and most interrupts of a session (a timer of the statistics, a barrier, a look at its memory) are no reason to
 * begin it anew: they are answered here, below the engine.  A cancel is not, nor is an error that an answer raises: these wait until
 * the engine has returned.
 */
#include "pg/slm_pg.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/fd.h"

static SlmProgress current;
static int progress_fd = -1;
static TimestampTz last_write;
static ErrorData *held; /* raised by an interrupt below the engine, waiting for the engine's return */

static char *progress_path(int pid)
{
    return psprintf("%s/loading.%d", slm_pg_store_directory(), pid);
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

void slm_pg_progress_begin(const char *name)
{
    slm_pg_progress_end();
    memset(&current, 0, sizeof current);
    current.pid = MyProcPid;
    strlcpy(current.name, name, sizeof current.name);
    strlcpy(current.phase, "hashing", sizeof current.phase);
    progress_fd = BasicOpenFile(progress_path(MyProcPid), O_RDWR | O_CREAT | O_TRUNC | PG_BINARY);
    write_progress();
}

void slm_pg_progress_phase(const char *phase)
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

void slm_pg_progress_interrupted(void)
{
    ErrorData *error = held;

    held = NULL;
    if (error != NULL)
        ReThrowError(error);
    slm_pg_interrupted();
}

void slm_pg_progress_report(void *arg, uint64_t done, uint64_t total)
{
    if (InterruptPending)
        answer_interrupts();
    current.done = done;
    current.total = total;
    if (TimestampDifferenceExceeds(last_write, GetCurrentTimestamp(), 100))
        write_progress();
}

void slm_pg_progress_end(void)
{
    held = NULL;
    if (progress_fd < 0)
        return;
    close(progress_fd);
    progress_fd = -1;
    unlink(progress_path(MyProcPid));
}

SlmProgress *slm_pg_progress_list(int *n)
{
    char *directory = slm_pg_store_directory();
    SlmProgress *list = palloc(sizeof(SlmProgress));
    DIR *dir = AllocateDir(directory);
    struct dirent *de;

    *n = 0;
    if (dir == NULL && errno == ENOENT)
        return list;
    while ((de = ReadDir(dir, directory)) != NULL) {
        int pid;
        int fd;

        if (sscanf(de->d_name, "loading.%d", &pid) != 1 || pid <= 0 || (kill(pid, 0) != 0 && errno == ESRCH))
            continue;
        fd = OpenTransientFile(psprintf("%s/%s", directory, de->d_name), O_RDONLY | PG_BINARY);
        if (fd < 0)
            continue;
        list = repalloc(list, sizeof(SlmProgress) * (Size) (*n + 1));
        if (read(fd, &list[*n], sizeof(SlmProgress)) == (ssize_t) sizeof(SlmProgress) && list[*n].pid == pid) {
            list[*n].name[SLM_NAME_MAX] = '\0';
            list[*n].phase[sizeof list[*n].phase - 1] = '\0';
            (*n)++;
        }
        CloseTransientFile(fd);
    }
    FreeDir(dir);
    return list;
}
