/*
 * shmem.c: one pair of hooks for all parts of the library's shared memory, and slots of processes (shmem.h).
 *
 * A part is asked for its size when the postmaster sums up what is needed, and attached when the memory is there, in every process that
 * does not inherit it.  A crash makes the memory anew: all parts begin at zero again.
 *
 * A slot is read without a lock: the reader copies it and takes the copy only when `changes` was even and the same before and after.  A
 * writer that died in the middle leaves it odd, which the process that gets the slot next puts right.
 */
#include "pg/base/shmem.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"

#include "pg/base/compat.h"

static const SlmShmemPart *const *parts;
static int n_parts;
static shmem_request_hook_type previous_request;
static shmem_startup_hook_type previous_startup;

static void request(void)
{
    if (previous_request != NULL)
        previous_request();
    for (int i = 0; i < n_parts; i++) {
        RequestAddinShmemSpace(MAXALIGN(parts[i]->size()));
        if (parts[i]->locked)
            RequestNamedLWLockTranche(parts[i]->name, 1);
    }
}

static void startup(void)
{
    if (previous_startup != NULL)
        previous_startup();
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    for (int i = 0; i < n_parts; i++) {
        Size size = parts[i]->size();
        bool found;
        void *memory = ShmemInitStruct(parts[i]->name, size, &found);

        if (!found)
            memset(memory, 0, size);
        parts[i]->attach(memory, parts[i]->locked ? &GetNamedLWLockTranche(parts[i]->name)->lock : NULL);
    }
    LWLockRelease(AddinShmemInitLock);
}

void slm_pg_shmem_init(const SlmShmemPart *const *all, int n)
{
    if (!process_shared_preload_libraries_in_progress)
        return;
    parts = all;
    n_parts = n;
    previous_request = shmem_request_hook;
    shmem_request_hook = request;
    previous_startup = shmem_startup_hook;
    shmem_startup_hook = startup;
}

/* ---- slots */

int slm_pg_n_slots(void)
{
    return MaxBackends + NUM_AUXILIARY_PROCS;
}

Size slm_pg_slots_size(Size bytes)
{
    return mul_size(bytes, (Size) slm_pg_n_slots());
}

static SlmSlot *slot_at(const SlmSlots *slots, int i)
{
    return (SlmSlot *) ((char *) slots->first + slots->bytes * (Size) i);
}

void *slm_pg_slot_begin(const SlmSlots *slots)
{
    SlmSlot *slot = slots->first == NULL || MyProc == NULL ? NULL : slot_at(slots, SLM_MY_PROC_NUMBER);

    if (slot != NULL) {
        pg_atomic_write_u32(&slot->changes, pg_atomic_read_u32(&slot->changes) | 1); /* odd, even after one that died in the middle */
        pg_write_barrier();
    }
    return slot;
}

void slm_pg_slot_end(void *slot)
{
    pg_write_barrier();
    pg_atomic_fetch_add_u32(&((SlmSlot *) slot)->changes, 1);
}

bool slm_pg_slot_read(const SlmSlots *slots, int i, void *copy)
{
    SlmSlot *slot = slot_at(slots, i);

    for (int tries = 0; tries < 100; tries++) {
        uint32 before = pg_atomic_read_u32(&slot->changes);

        pg_read_barrier();
        memcpy(copy, slot, slots->bytes);
        pg_read_barrier();
        if (before % 2 == 0 && pg_atomic_read_u32(&slot->changes) == before)
            return ((SlmSlot *) copy)->pid != 0 && BackendPidGetProc(((SlmSlot *) copy)->pid) != NULL;
    }
    return false;
}
