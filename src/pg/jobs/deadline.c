/*
 * The time limit of a batch.
 *
 * It is a cancel that the process sends to itself.  Code of a user may catch a cancel and go on, so it is sent again every second, and a
 * background worker that has caught GRACE of them is ended, which nothing can catch: others' jobs wait for it.
 */
#include "pg/jobs/deadline.h"

#include <limits.h>
#include <signal.h>

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#define AGAIN_MS 1000
#define GRACE 5

static int limit_ms = 10 * 60 * 1000;
static TimeoutId timeout = MAX_TIMEOUTS; /* not registered yet */
static volatile sig_atomic_t sent; /* cancels of the present batch */

/* In a signal handler. */
static void cancel_batch(void)
{
    sent++;
    InterruptPending = true;
    QueryCancelPending = true;
    if (sent > GRACE && MyBackendType == B_BG_WORKER)
        ProcDiePending = true;
    SetLatch(MyLatch);
}

void slm_pg_deadline_begin(void)
{
    if (timeout == MAX_TIMEOUTS)
        timeout = RegisterTimeout(USER_TIMEOUT, cancel_batch);
    sent = 0;
    if (limit_ms > 0)
        enable_timeout_every(timeout, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), limit_ms), AGAIN_MS);
}

void slm_pg_deadline_end(void)
{
    if (timeout == MAX_TIMEOUTS)
        return;
    disable_timeout(timeout, false);
    if (sent > 0)
        QueryCancelPending = false; /* sent and not seen any more */
}

bool slm_pg_deadline_passed(void)
{
    return sent > 0;
}

const char *slm_pg_deadline_name(void)
{
    return psprintf("slm.job_batch_timeout (%g s)", limit_ms / 1000.0);
}

void slm_pg_deadline_settings(void)
{
    DefineCustomIntVariable("slm.job_batch_timeout", "The longest time that one batch of a job may take.",
                            "0 means no limit. The rows of a batch that takes longer are computed one by one; a row that takes longer by "
                            "itself is given up.",
                            &limit_ms, 10 * 60 * 1000, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
}
