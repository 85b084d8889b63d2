/*
 * threads.c: the cluster's budget of engine threads.
 *
 * When slm_pg is preloaded, one shared counter says how many engine threads run in the cluster:
 *
 *   a call wants w threads ──► takes min(w, slm.max_threads - in use), at least the one it runs on ──► gives them back at its end
 *
 * Invariant: threads_held is what this backend has added to the counter; it is given back at the end of the call, at abort and at exit, and
 * the counter begins at zero after a crash because shared memory is made anew.
 */
#include "pg/base/threads.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"

#include "engine/slm.h"
#include "pg/base/guc.h"

typedef struct SlmShared {
    pg_atomic_uint32 threads; /* engine threads running in the cluster */
} SlmShared;

static SlmShared *shared;
static uint32 threads_held;
static bool exit_registered;

static Size shared_size(void)
{
    return sizeof(SlmShared);
}

static void attach(void *memory, LWLock *lock)
{
    shared = memory;
}

const SlmShmemPart slm_pg_threads_part = {"slm_pg", shared_size, attach, false};

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

void slm_pg_threads_init(void)
{
    RegisterXactCallback(at_xact_end, NULL);
    RegisterSubXactCallback(at_subxact_end, NULL);
}
