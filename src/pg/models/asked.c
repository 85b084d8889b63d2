/*
 * asked.c: for whom, and by what, an answer was found, and rows that are kept open (asked.h).
 */
#include "pg/models/asked.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/palloc.h"

#define MAX_UNUSED 8 /* of a kind; the least recently used one goes first */

static uint64 epoch; /* 0: no callback is registered yet */

static void at_xact_end(XactEvent event, void *arg)
{
    epoch++;
}

static void at_subxact_end(SubXactEvent event, SubTransactionId my, SubTransactionId parent, void *arg)
{
    if (event == SUBXACT_EVENT_ABORT_SUB)
        epoch++;
}

SlmAsked slm_pg_asked_by(Snapshot snapshot)
{
    SlmAsked asked;

    if (epoch == 0) {
        RegisterXactCallback(at_xact_end, NULL);
        RegisterSubXactCallback(at_subxact_end, NULL);
        epoch = 1;
    }
    memset(&asked, 0, sizeof asked);
    asked.epoch = epoch;
    asked.xmin = snapshot->xmin;
    asked.xmax = snapshot->xmax;
    asked.command = snapshot->curcid;
    asked.user = GetUserId();
    if (snapshot->xcnt > 0)
        asked.in_progress = hash_bytes_extended((const unsigned char *) snapshot->xip, (int) (snapshot->xcnt * sizeof(TransactionId)), 1);
    if (snapshot->subxcnt > 0)
        asked.in_progress ^= hash_bytes_extended((const unsigned char *) snapshot->subxip,
                                                 (int) ((Size) snapshot->subxcnt * sizeof(TransactionId)), 2);
    return asked;
}

/* ---- rows that are kept */

SlmKept *slm_pg_kept_answer(dlist_head *kept, const char *name, const SlmAsked *asked)
{
    SlmKept *found = NULL;
    dlist_iter it;

    dlist_foreach(it, kept) {
        SlmKept *k = dlist_container(SlmKept, node, it.cur);

        if (strcmp(k->name, name) == 0 && memcmp(&k->asked, asked, sizeof *asked) == 0)
            found = k;
    }
    return found;
}

SlmKept *slm_pg_kept_row(dlist_head *kept, const char *name, HeapTuple row)
{
    dlist_iter it;

    dlist_foreach(it, kept) {
        SlmKept *k = dlist_container(SlmKept, node, it.cur);

        if (strcmp(k->name, name) == 0 && ItemPointerEquals(&k->place, &row->t_self) &&
            k->writer == HeapTupleHeaderGetRawXmin(row->t_data))
            return k;
    }
    return NULL;
}

void slm_pg_kept_room(dlist_head *kept, const char *name, void (*close)(SlmKept *))
{
    dlist_mutable_iter it;
    int unused = 0;

    dlist_foreach_modify(it, kept) {
        SlmKept *k = dlist_container(SlmKept, node, it.cur);

        if (k->users == 0 && (strcmp(k->name, name) == 0 || ++unused >= MAX_UNUSED)) {
            dlist_delete(&k->node);
            close(k);
        }
    }
}

void slm_pg_keep(dlist_head *kept, SlmKept *new, const char *name, HeapTuple row)
{
    strlcpy(new->name, name, sizeof new->name);
    new->place = row->t_self;
    new->writer = HeapTupleHeaderGetRawXmin(row->t_data);
    dlist_push_head(kept, &new->node);
}

static void release(void *arg)
{
    ((SlmKept *) arg)->users--;
}

void slm_pg_use_kept(dlist_head *kept, SlmKept *it)
{
    MemoryContextCallback *callback = palloc(sizeof *callback);

    dlist_move_head(kept, &it->node);
    it->users++;
    callback->func = release;
    callback->arg = it;
    MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
}
