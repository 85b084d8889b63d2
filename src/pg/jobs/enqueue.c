/*
 * The triggers of jobs: note the primary keys of rows whose inputs are new or changed.
 *
 * One C function serves the statement triggers (with transition tables) and the row trigger for logical replication.  It runs in the
 * writer's statement, so it does as little as it can: one INSERT ... SELECT, as the job's owner, with a fixed search_path.
 */
#include "pg/jobs/jobs.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "pg/jobs/wake.h"

PG_FUNCTION_INFO_V1(slm_pg_job_enqueue);

void slm_pg_spi(const char *query, int expected)
{
    int code = SPI_execute(query, false, 0);

    if (code != expected)
        elog(ERROR, "unexpected result %d of \"%s\"", code, query);
}

char *slm_pg_job_columns(const List *columns, const char *prefix)
{
    StringInfoData out;
    ListCell *cell;

    initStringInfo(&out);
    foreach (cell, columns)
        appendStringInfo(&out, "%s%s.%s", out.len > 0 ? ", " : "", prefix, (char *) lfirst(cell));
    return out.data;
}

/* Queue rows for every new row. */
static char *insert_query(const SlmJob *job)
{
    return psprintf("INSERT INTO slm.job_queue (job_id, key) SELECT %d, pg_catalog.jsonb_build_array(%s) FROM slm_new n", job->id,
                    slm_pg_job_columns(job->key_columns, "n"));
}

/* Queue rows for every changed row: same key, other inputs; or a key that was not there. */
static char *update_query(const SlmJob *job)
{
    StringInfoData query;
    ListCell *cell;

    initStringInfo(&query);
    appendStringInfo(&query, "%s WHERE NOT EXISTS (SELECT FROM slm_old o WHERE ", insert_query(job));
    foreach (cell, job->key_columns)
        appendStringInfo(&query, "o.%s OPERATOR(pg_catalog.=) n.%s AND ", (char *) lfirst(cell), (char *) lfirst(cell));
    appendStringInfo(&query, "pg_catalog.record_image_eq(ROW(%s), ROW(%s)))", slm_pg_job_columns(job->input_columns, "o"),
                     slm_pg_job_columns(job->input_columns, "n"));
    return query.data;
}

/* What was computed for rows that are no more. */
static char *forget_query(const SlmJob *job, bool updated)
{
    char *query = psprintf("DELETE FROM slm.job_done d USING slm_old o WHERE d.job_id OPERATOR(pg_catalog.=) %d AND d.key OPERATOR(pg_catalog.=) "
                           "pg_catalog.jsonb_build_array(%s)",
                           job->id, slm_pg_job_columns(job->key_columns, "o"));

    if (updated)
        query = psprintf("%s AND NOT EXISTS (SELECT FROM slm_new n WHERE pg_catalog.jsonb_build_array(%s) OPERATOR(pg_catalog.=) d.key)", query,
                         slm_pg_job_columns(job->key_columns, "n"));
    return query;
}

/* Did an UPDATE name a key column? */
static bool key_updated(const SlmJob *job, TriggerData *data)
{
    ListCell *cell;

    foreach (cell, job->key_columns) {
        for (int i = 0; i < data->tg_relation->rd_att->natts; i++) {
            Form_pg_attribute att = TupleDescAttr(data->tg_relation->rd_att, i);

            if (!att->attisdropped && strcmp(quote_identifier(NameStr(att->attname)), lfirst(cell)) == 0 &&
                bms_is_member(att->attnum - FirstLowInvalidHeapAttributeNumber, data->tg_updatedcols))
                return true;
        }
    }
    return false;
}

/* The row trigger: the writer is logical replication. Compares the inputs of old and new row. */
static void enqueue_row(const SlmJob *job, TriggerData *data)
{
    Relation relation = data->tg_relation;
    TupleDesc desc = relation->rd_att;
    bool update = TRIGGER_FIRED_BY_UPDATE(data->tg_event);
    Oid types[2] = {get_rel_type_id(RelationGetRelid(relation)), get_rel_type_id(RelationGetRelid(relation))};
    Datum values[2];
    char *query;

    values[0] = heap_copy_tuple_as_datum(update ? data->tg_newtuple : data->tg_trigtuple, desc);
    values[1] = heap_copy_tuple_as_datum(data->tg_trigtuple, desc);
    query = psprintf("INSERT INTO slm.job_queue (job_id, key) SELECT %d, pg_catalog.jsonb_build_array(%s) FROM (SELECT ($1).*) n, (SELECT ($2).*) o",
                     job->id, slm_pg_job_columns(job->key_columns, "n"));
    if (update)
        query = psprintf("%s WHERE pg_catalog.record_image_ne(ROW(%s, %s), ROW(%s, %s))", query, slm_pg_job_columns(job->key_columns, "n"),
                         slm_pg_job_columns(job->input_columns, "n"), slm_pg_job_columns(job->key_columns, "o"),
                         slm_pg_job_columns(job->input_columns, "o"));
    if (SPI_execute_with_args(query, 2, types, values, NULL, false, 0) != SPI_OK_INSERT)
        elog(ERROR, "could not enqueue a row");
}

static void enqueue_statement(const SlmJob *job, TriggerData *data)
{
    if (TRIGGER_FIRED_BY_INSERT(data->tg_event)) {
        slm_pg_spi(insert_query(job), SPI_OK_INSERT);
    } else if (TRIGGER_FIRED_BY_UPDATE(data->tg_event)) {
        slm_pg_spi(update_query(job), SPI_OK_INSERT);
        if (key_updated(job, data))
            slm_pg_spi(forget_query(job, true), SPI_OK_DELETE);
    } else if (TRIGGER_FIRED_BY_DELETE(data->tg_event)) {
        slm_pg_spi(forget_query(job, false), SPI_OK_DELETE);
    } else {
        slm_pg_spi(psprintf("DELETE FROM slm.job_done WHERE job_id OPERATOR(pg_catalog.=) %d", job->id), SPI_OK_DELETE);
        slm_pg_spi(psprintf("DELETE FROM slm.job_queue WHERE job_id OPERATOR(pg_catalog.=) %d", job->id), SPI_OK_DELETE);
    }
}

Datum slm_pg_job_enqueue(PG_FUNCTION_ARGS)
{
    TriggerData *data = (TriggerData *) fcinfo->context;
    int security, level;
    Oid user;
    SlmJob *job;

    if (!CALLED_AS_TRIGGER(fcinfo) || data->tg_trigger->tgnargs != 1)
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED), errmsg("slm.job_enqueue is the trigger of a job"),
                        errhint("Use slm_create_job.")));
    if (SPI_connect() != SPI_OK_CONNECT || SPI_register_trigger_data(data) < 0)
        elog(ERROR, "could not connect to SPI");

    GetUserIdAndSecContext(&user, &security);
    level = NewGUCNestLevel();
    (void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
    SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
    job = slm_pg_job_read(pg_strtoint32(data->tg_trigger->tgargs[0]), false);
    if (job != NULL) {
        SetUserIdAndSecContext(job->owner, security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
        if (TRIGGER_FIRED_FOR_ROW(data->tg_event))
            enqueue_row(job, data);
        else
            enqueue_statement(job, data);
        if (SPI_processed > 0)
            slm_pg_job_wake_at_commit();
    }
    AtEOXact_GUC(true, level);
    SetUserIdAndSecContext(user, security);
    SPI_finish();
    return PointerGetDatum(NULL);
}
