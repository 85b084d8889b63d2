/*
 * shmem.h: the library's shared memory, which is there when it was preloaded (shmem.c).
 *
 *   parts     named pieces, each zeroed when the server starts, some with a lock
 *   slots     a part that is an array with an element for each process: written by its process alone, read by all without locks
 */
#ifndef SLM_PG_SHMEM_H
#define SLM_PG_SHMEM_H

#include "postgres.h"

#include "port/atomics.h"
#include "storage/lwlock.h"

typedef struct SlmShmemPart {
    const char *name;
    Size (*size)(void);                         /* called when the number of processes is known */
    void (*attach)(void *memory, LWLock *lock); /* in each process that starts with it, and in the postmaster */
    bool locked;                                /* it comes with a lock, else lock is NULL */
} SlmShmemPart;

/* Once from _PG_init: the parts, [n], which must live on. Does nothing unless the library is being preloaded. */
void slm_pg_shmem_init(const SlmShmemPart *const *parts, int n);

/* ---- slots */

/* The beginning of each slot. `changes` is odd while a write is under way. */
typedef struct SlmSlot {
    pg_atomic_uint32 changes;
    int pid; /* whose it is; 0 = there is nothing to read */
} SlmSlot;

/* Slots have `bytes` bytes each and begin with an SlmSlot; first is NULL without shared memory. */
typedef struct SlmSlots {
    void *first;
    Size bytes;
} SlmSlots;

int slm_pg_n_slots(void);
Size slm_pg_slots_size(Size bytes);
/* This process's slot, to be written until slm_pg_slot_end(); NULL where there is none. */
void *slm_pg_slot_begin(const SlmSlots *slots);
void slm_pg_slot_end(void *slot);
/* A copy of the i-th slot that no write has torn; false when there is none to be had, or none of a process that lives. */
bool slm_pg_slot_read(const SlmSlots *slots, int i, void *copy);

#endif
