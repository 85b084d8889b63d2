/*
 * asked.c: for whom, and by what, an answer was found (asked.h).
 */
#include "pg/models/asked.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"

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
