/*
 * compat.h: the differences between PostgreSQL 15, 16, 17 and 18; no other file mentions PG_VERSION_NUM.
 *
 * The rest of src/pg is written for the newest spelling that all of them can be brought to.
 */
#ifndef SLM_PG_COMPAT_H
#define SLM_PG_COMPAT_H

#if PG_VERSION_NUM < 150000
#error "slm_pg needs PostgreSQL 15 or newer"
#endif

/* 18 gave the module magic a name and a version, and spells an attribute in another way. */
#if PG_VERSION_NUM >= 180000
#define SLM_PG_MAGIC(v) PG_MODULE_MAGIC_EXT(.name = "slm_pg", .version = v)
#else
#define SLM_PG_MAGIC(v) PG_MODULE_MAGIC
#define pg_noreturn __attribute__((noreturn))
#endif

/* 16 moved pg_cryptohash and varatt out of headers that were included by others. */
#if PG_VERSION_NUM >= 160000
#include "postgres.h"

#include "miscadmin.h"
#include "varatt.h"
#endif

/* May the current role execute a function? */
#if PG_VERSION_NUM >= 160000
#define SLM_EXECUTE_ACL(function) object_aclcheck(ProcedureRelationId, function, GetUserId(), ACL_EXECUTE)
#else
#define SLM_EXECUTE_ACL(function) pg_proc_aclcheck(function, GetUserId(), ACL_EXECUTE)
#endif

/* The columns of a table that a range table entry reads, offset by FirstLowInvalidHeapAttributeNumber. */
#if PG_VERSION_NUM >= 160000
#define SLM_SELECTED_COLUMNS(query, rte) \
    ((rte)->perminfoindex == 0 ? NULL : getRTEPermissionInfo((query)->rteperminfos, (rte))->selectedCols)
#else
#define SLM_SELECTED_COLUMNS(query, rte) ((rte)->selectedCols)
#endif

/* May a role SET ROLE to another? */
#if PG_VERSION_NUM >= 160000
#define SLM_CAN_SET_ROLE(member, role) member_can_set_role(member, role)
#else
#define SLM_CAN_SET_ROLE(member, role) is_member_of_role(member, role)
#endif

/* All settings of the server, and how many. */
#if PG_VERSION_NUM >= 160000
#define SLM_GUC_VARIABLES(n) get_guc_variables(n)
#else
#define SLM_GUC_VARIABLES(n) (*(n) = GetNumConfigOptions(), get_guc_variables())
#endif

/* May the current role connect to a database? */
#if PG_VERSION_NUM >= 160000
#define SLM_CONNECT_ACL(database) object_aclcheck(DatabaseRelationId, database, GetUserId(), ACL_CONNECT)
#else
#define SLM_CONNECT_ACL(database) pg_database_aclcheck(database, GetUserId(), ACL_CONNECT)
#endif

/* 18 moved the properties of EXPLAIN, and its state, to headers of their own. */
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#endif

/* EXPLAIN of a query without a hook: 17 made it callable; before, it was written into the caller as it stands here. */
#include "commands/explain.h"
#include "tcop/tcopprot.h"

static inline void slm_pg_standard_explain(Query *query, int cursor_options, IntoClause *into, ExplainState *es, const char *query_string,
                                           ParamListInfo params, QueryEnvironment *environment)
{
#if PG_VERSION_NUM >= 170000
    standard_ExplainOneQuery(query, cursor_options, into, es, query_string, params, environment);
#else
    PlannedStmt *plan;
    instr_time start, duration;
    BufferUsage buffers_start, buffers;

    if (es->buffers)
        buffers_start = pgBufferUsage;
    INSTR_TIME_SET_CURRENT(start);
    plan = pg_plan_query(query, query_string, cursor_options, params);
    INSTR_TIME_SET_CURRENT(duration);
    INSTR_TIME_SUBTRACT(duration, start);
    if (es->buffers) {
        memset(&buffers, 0, sizeof buffers);
        BufferUsageAccumDiff(&buffers, &pgBufferUsage, &buffers_start);
    }
    ExplainOnePlan(plan, into, es, query_string, params, environment, &duration, es->buffers ? &buffers : NULL);
#endif
}

/* Do columns need their table's name, as EXPLAIN sees it?  18 has an entry for GROUP BY in the range table, which is no table. */
static inline bool slm_pg_many_tables(const List *rtable)
{
    int n = list_length(rtable);
#if PG_VERSION_NUM >= 180000
    ListCell *cell;

    foreach (cell, rtable)
        n -= lfirst_node(RangeTblEntry, cell)->rtekind == RTE_GROUP;
#endif
    return n > 1;
}

/* The index of this backend, or of any, among MaxBackends + NUM_AUXILIARY_PROCS. */
#if PG_VERSION_NUM >= 170000
#define SLM_MY_PROC_NUMBER MyProcNumber
#define SLM_PROC_NUMBER(proc) GetNumberFromPGProc(proc)
#else
#define SLM_MY_PROC_NUMBER (MyProc->pgprocno)
#define SLM_PROC_NUMBER(proc) ((proc)->pgprocno)
#endif

/* Whose privileges a plan's tables are checked by. */
#if PG_VERSION_NUM >= 160000
#define SLM_PLAN_PERMISSIONS(plan) ((plan)->permInfos)
#define SlmPermission RTEPermissionInfo
#else
#define SLM_PLAN_PERMISSIONS(plan) ((plan)->rtable)
#define SlmPermission RangeTblEntry
#endif

/* 17 gave wait events of extensions names of their own, and sets of wait events an owner. */
#include "utils/wait_event.h"

#if PG_VERSION_NUM >= 170000
#define SLM_WAIT_EVENT(name) WaitEventExtensionNew(name)
#define SLM_NEW_WAIT_SET(n) CreateWaitEventSet(NULL, n)
#else
#define SLM_WAIT_EVENT(name) PG_WAIT_EXTENSION
#define SLM_NEW_WAIT_SET(n) CreateWaitEventSet(TopMemoryContext, n)
#endif

/* 18 took the last argument of ExecutorRun away. */
#if PG_VERSION_NUM >= 180000
#define SLM_EXECUTE_ONCE_PARAM
#define SLM_EXECUTE_ONCE_ARG
#define SLM_RUN_ONCE
#else
#define SLM_EXECUTE_ONCE_PARAM , bool execute_once
#define SLM_EXECUTE_ONCE_ARG , execute_once
#define SLM_RUN_ONCE , true
#endif

/* 16 gave functions that check what a user wrote a place for a soft error. */
#if PG_VERSION_NUM >= 160000
#define slm_make_range(cache, lower, upper) make_range(cache, lower, upper, false, NULL)
#else
#define slm_make_range(cache, lower, upper) make_range(cache, lower, upper, false)
#endif

/* 16 renamed what pg_stat_user_functions counts, and made a time one number of ticks. */
#if PG_VERSION_NUM >= 160000
#define SLM_FUNCTION_FIGURE(name) name
#define SLM_SET_NANOSECONDS(time, ns) ((time).ticks = (int64) (ns))
#else
#define SLM_FUNCTION_FIGURE(name) f_##name
#define SLM_SET_NANOSECONDS(time, ns) ((time).tv_sec = (time_t) ((ns) / 1e9), (time).tv_nsec = (long) ((ns) - (double) (time).tv_sec * 1e9))
#endif

/* 18 can tell of primary keys that are deferrable, which are none for us. */
#if PG_VERSION_NUM >= 180000
#define slm_primary_key_index(rel) RelationGetPrimaryKeyIndex(rel, false)
#else
#define slm_primary_key_index(rel) RelationGetPrimaryKeyIndex(rel)
#endif

#endif
