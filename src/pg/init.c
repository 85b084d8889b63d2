/*
 * init.c: what happens when the library is loaded, and the cluster's thread budget.
 *
 * Loaded in a backend on first use, or in the postmaster by shared_preload_libraries.  Nothing here or in the engine starts a thread in
 * the postmaster.  When preloaded, one shared counter says how many engine threads run in the cluster:
 *
 *   a call wants w threads ──► takes min(w, slm.max_threads - in use), at least the one it runs on ──► gives them back at its end
 *
 * Invariant: threads_held is what this backend has added to the counter; it is given back at the end of the call, at abort and at exit, and
 * the counter begins at zero after a crash because shared memory is made anew.
 */
#include "pg/slm_pg.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/guc.h"

#include "pg/batch/batch.h"
#include "pg/jobs/jobs.h"
#include "pg/row_error.h"

SLM_PG_MAGIC(SLM_PG_VERSION);

void _PG_init(void);

typedef struct SlmShared {
    pg_atomic_uint32 threads; /* engine threads running in the cluster */
} SlmShared;

static SlmShared *shared;
static uint32 threads_held;
static bool exit_registered;
static shmem_request_hook_type prev_shmem_request_hook;
static shmem_startup_hook_type prev_shmem_startup_hook;

static void request_shmem(void)
{
    if (prev_shmem_request_hook)
        prev_shmem_request_hook();
    RequestAddinShmemSpace(MAXALIGN(sizeof(SlmShared)));
}

static void startup_shmem(void)
{
    bool found;

    if (prev_shmem_startup_hook)
        prev_shmem_startup_hook();
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    shared = ShmemInitStruct("slm_pg", sizeof(SlmShared), &found);
    if (!found)
        pg_atomic_init_u32(&shared->threads, 0);
    LWLockRelease(AddinShmemInitLock);
}

bool slm_pg_preloaded(void)
{
    return shared != NULL;
}

int slm_pg_threads_in_use(void)
{
    return (int) (shared != NULL ? pg_atomic_read_u32(&shared->threads) : threads_held);
}

void slm_pg_give_threads(void)
{
    if (threads_held > 0 && shared != NULL)
        pg_atomic_fetch_sub_u32(&shared->threads, threads_held);
    threads_held = 0;
}

static void give_threads_at_exit(int code, Datum arg)
{
    slm_pg_give_threads();
    slm_threads_release();
}

int slm_pg_take_threads(void)
{
    uint32 budget = (uint32) (slm_guc_max_threads > 0 ? slm_guc_max_threads : slm_cpu_count());
    uint32 wanted = (uint32) (slm_guc_threads > 0 ? slm_guc_threads : slm_cpu_count());

    if (IsParallelWorker())
        wanted = 1;
    if (slm_guc_threads_limit > 0)
        wanted = Min(wanted, (uint32) slm_guc_threads_limit);
    wanted = Min(wanted, budget);
    if (!exit_registered) {
        before_shmem_exit(give_threads_at_exit, 0);
        exit_registered = true;
    }
    slm_pg_give_threads();
    if (shared == NULL) {
        threads_held = wanted;
        return (int) wanted;
    }
    uint32 used = pg_atomic_read_u32(&shared->threads);
    uint32 taken;

    do {
        taken = used >= budget ? 1 : Min(wanted, budget - used);
    } while (!pg_atomic_compare_exchange_u32(&shared->threads, &used, used + taken));
    threads_held = taken;
    return (int) taken;
}

static void at_xact_end(XactEvent event, void *arg)
{
    if (event == XACT_EVENT_ABORT || event == XACT_EVENT_PARALLEL_ABORT)
        slm_pg_give_threads();
}

static void at_subxact_end(SubXactEvent event, SubTransactionId my, SubTransactionId parent, void *arg)
{
    if (event == SUBXACT_EVENT_ABORT_SUB)
        slm_pg_give_threads();
}

void _PG_init(void)
{
    slm_pg_define_gucs();
    if (process_shared_preload_libraries_in_progress) {
        prev_shmem_request_hook = shmem_request_hook;
        shmem_request_hook = request_shmem;
        prev_shmem_startup_hook = shmem_startup_hook;
        shmem_startup_hook = startup_shmem;
    }
    RegisterXactCallback(at_xact_end, NULL);
    RegisterSubXactCallback(at_subxact_end, NULL);
    slm_pg_row_error_init();
    slm_pg_catalog_init();
    slm_pg_memory_init(); /* before the sessions: its end of a transaction comes after theirs */
    slm_pg_backends_init();
    slm_pg_sessions_init();
    slm_pg_store_init();
    slm_pg_batch_init();
    slm_pg_jobs_init();
    MarkGUCPrefixReserved("slm"); /* last: what is not defined by now is a mistake in the configuration */
}
