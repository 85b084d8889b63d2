/*
 * memory.c: when the memory of this backend's sessions goes back to the system.
 *
 *   end of a message from the client ──► trim: keys and values and scratch that no request or kept prefix needs, but KEEP_BYTES
 *   slm.kv_cache_memory lowered ───────► at the end of that message kept prefixes beyond it
 *   DISCARD ALL, or slm.cache_timeout without a call ──► the sessions whole, with prefixes and label sets; prototypes; worker threads
 *
 * The end of a message is when its memory context is reset: the last thing before the backend waits for its client, after errors too.
 * Processes without clients (job workers) trim at the end of a transaction, to more: their next one follows.
 *
 * A waiting backend runs no code but that of interrupts.  So the timer's handler does what the signal of another backend does that wants
 * invalidations to be read: it raises a catch-up interrupt, which a backend outside of a transaction answers by an empty transaction of its
 * own, in ordinary code, and at the end of that one the sessions are freed.  Inside of a transaction block the answer is smaller, and the
 * sessions go when the block ends.
 *
 * Invariant: nothing here is called while the engine is on the stack, and nothing here raises an error.
 */

#include "pg/run/memory.h"

#include <signal.h>

#include "access/parallel.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/latch.h"
#include "storage/sinval.h"
#include "tcop/utility.h"
#include "utils/memutils.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "engine/slm.h"
#include "pg/base/guc.h"
#include "pg/run/backend.h"
#include "pg/run/backends.h"

#define KEEP_BYTES ((size_t) 4 << 20)         /* of keys and values, and of scratch: short calls find it still warm */
#define WORKER_KEEP_BYTES ((size_t) 64 << 20)
#define WORTH_A_TRIM ((size_t) 1 << 20)       /* what malloc_trim's walk over the heap is worth */

static MemoryContextCallback message_callback;
static bool in_message;          /* the callback is registered */
static bool lowered;             /* a limit may have been lowered since sessions were told */
static bool holds;               /* there may be something to free */
static bool used;                /* a session has worked since the last end */
static TimestampTz last_use;     /* the end of what used one last */
static void (*release_more)(void);
static TimeoutId timer;
static bool has_timer;
static ProcessUtility_hook_type previous_utility;

/* ---- freeing */

static void release_all(void)
{
    if (!holds)
        return;
    holds = slm_pg_free_sessions() > 0; /* those with requests are left */
    release_more();
    slm_threads_release();
    slm_memory_trim();
    slm_pg_backends_update();
}

static void trim(size_t keep_bytes)
{
    if (used)
        last_use = GetCurrentTimestamp();
    used = false;
    if (lowered)
        slm_pg_lower_limits();
    if (slm_pg_trim_sessions(keep_bytes) >= WORTH_A_TRIM || lowered)
        slm_memory_trim();
    lowered = false;
    slm_pg_backends_update();
}

/* ---- the idle time */

/* In a signal handler. */
static void at_timeout(void)
{
    catchupInterruptPending = true;
    SetLatch(MyLatch);
}

static TimestampTz due(void)
{
    return TimestampTzPlusMilliseconds(last_use, slm_guc_cache_timeout_ms);
}

/* Sets the timer when there is something to free; anew: to another time than it is set to. */
static void watch(bool anew)
{
    if (!holds || slm_guc_cache_timeout_ms == 0 || MessageContext == NULL || IsParallelWorker())
        return;
    if (!has_timer)
        timer = RegisterTimeout(USER_TIMEOUT, at_timeout);
    has_timer = true;
    if (anew)
        disable_timeout(timer, false);
    if (!get_timeout_active(timer))
        enable_timeout_at(timer, due());
}

/* ---- ends */

static void end_of_message(void *arg)
{
    in_message = false;
    trim(KEEP_BYTES);
    watch(true);
}

static void expect_end(void)
{
    if (in_message || MessageContext == NULL)
        return;
    message_callback.func = end_of_message;
    MemoryContextRegisterResetCallback(MessageContext, &message_callback);
    in_message = true;
}

void slm_pg_memory_used(void)
{
    holds = used = true;
    expect_end();
}

void slm_pg_memory_lowered(void)
{
    lowered = true;
    expect_end();
}

/* An error of the statement has disabled all timers, so each end of a transaction looks whether one is needed. */
static void at_xact_end(XactEvent event, void *arg)
{
    if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
        return;
    if (!holds)
        return;
    if (MessageContext == NULL && used)
        trim(WORKER_KEEP_BYTES);
    else if (slm_guc_cache_timeout_ms > 0 && !used && GetCurrentTimestamp() >= due())
        release_all();
    watch(false);
}

static void process_utility(PlannedStmt *pstmt, const char *query_string, bool read_only_tree, ProcessUtilityContext context,
                            ParamListInfo params, QueryEnvironment *env, DestReceiver *dest, QueryCompletion *completion)
{
    bool discard = IsA(pstmt->utilityStmt, DiscardStmt) && ((const DiscardStmt *) pstmt->utilityStmt)->target == DISCARD_ALL;

    if (previous_utility != NULL)
        previous_utility(pstmt, query_string, read_only_tree, context, params, env, dest, completion);
    else
        standard_ProcessUtility(pstmt, query_string, read_only_tree, context, params, env, dest, completion);
    if (discard)
        release_all();
}

void slm_pg_memory_init(void (*release)(void))
{
    release_more = release;
    RegisterXactCallback(at_xact_end, NULL);
    previous_utility = ProcessUtility_hook;
    ProcessUtility_hook = process_utility;
}
