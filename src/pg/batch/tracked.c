/*
 * tracked.c: what a node has computed, in pg_stat_user_functions where track_functions is 'all'.
 *
 * A call of a node never goes through the function manager, which counts.  So the node counts for it when it ends: its calls, equal ones
 * too, as an ordinary plan would have made them, and the time of its forward passes, shared by the node's functions as their calls are.
 */
#include "postgres.h"

#include "fmgr.h"
#include "pgstat.h"

#include "pg/base/compat.h"
#include "pg/batch/batch.h"
#include "pg/batch/state.h"

/* The share of a time that is calls / all. */
static instr_time part_of(instr_time whole, uint64 calls, uint64 all)
{
    instr_time part;

    SLM_SET_NANOSECONDS(part, INSTR_TIME_GET_DOUBLE(whole) * 1e9 * (double) calls / (double) all);
    return part;
}

void slm_pg_batch_track(const BatchState *state)
{
    uint64 all = 0;

    for (int i = 0; i < state->n_calls; i++)
        all += state->calls[i].n_begun;
    for (int i = 0; i < state->n_calls; i++) {
        const BatchCall *call = &state->calls[i];
        LOCAL_FCINFO(fcinfo, 0);
        FmgrInfo function = call->function;
        PgStat_FunctionCallUsage usage;
        instr_time time;

        if (call->n_begun == 0)
            continue;
        time = part_of(state->counters.engine_time, call->n_begun, all);
        function.fn_stats = TRACK_FUNC_PL; /* what the function manager says of functions in C: where all are tracked */
        InitFunctionCallInfoData(*fcinfo, &function, 0, InvalidOid, NULL, NULL);
        pgstat_init_function_usage(fcinfo, &usage);
        if (usage.fs == NULL)
            continue;
        usage.fs->SLM_FUNCTION_FIGURE(numcalls) += (PgStat_Counter) call->n_begun;
        INSTR_TIME_ADD(usage.fs->SLM_FUNCTION_FIGURE(total_time), time);
        INSTR_TIME_ADD(usage.fs->SLM_FUNCTION_FIGURE(self_time), time);
    }
}
