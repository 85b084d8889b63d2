/*
 * slm_alter_job: a job is changed in place, with the checks of its creation for what changes.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "pg/base/as_owner.h"
#include "pg/base/earlier.h"
#include "pg/jobs/admin.h"
#include "pg/jobs/compute.h"
#include "pg/jobs/jobs.h"
#include "pg/jobs/wake.h"

PG_FUNCTION_INFO_V1(slm_pg_alter_job);

/* A job is given only to a role that the caller could act as: its owner's rights are what it runs with. */
static void check_new_owner(const char *job, Oid owner, Oid caller)
{
    if (OidIsValid(owner) && slm_pg_may_become(caller, owner))
        return;
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                    errmsg("you may not give job \"%s\" to role \"%s\"", job, OidIsValid(owner) ? GetUserNameFromId(owner, false) : "-"),
                    errhint("Only a role to which you can SET ROLE, or any by a superuser.")));
}

/* Changes the expression and what goes with it: the columns that it reads, and the search_path and settings of the caller. */
static void set_expression(int32 id, const SlmJob *before, char *expression, char *path)
{
    const Oid types[5] = {TEXTOID, TEXTOID, JSONBOID, TEXTARRAYOID, BOOLOID};
    SlmJob job = *before;
    bool whole_row;
    Datum values[5] = {CStringGetTextDatum(expression), CStringGetTextDatum(path), slm_pg_job_kept_settings()};
    List *inputs;
    Datum *names;
    int n = 0;
    ListCell *cell;

    job.expression = expression;
    job.search_path = path;
    inputs = slm_pg_job_inputs(&job, &whole_row);
    names = palloc(sizeof(Datum) * list_length(inputs));
    foreach (cell, inputs)
        names[n++] = CStringGetTextDatum(lfirst(cell));
    values[3] = PointerGetDatum(construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT));
    values[4] = BoolGetDatum(whole_row);
    slm_pg_spi_with(psprintf("UPDATE slm.job_definition SET expression = $1, search_path = $2, settings = $3, input_columns = $4::name[], "
                             "whole_row = $5 WHERE id = %d", id),
                    5, types, values, NULL, SPI_OK_UPDATE);
}

static int32 set_options(int32 id, const SlmJobOptions *options)
{
    Datum values[SLM_JOB_OPTION_VALUES];
    char nulls[SLM_JOB_OPTION_VALUES + 1] = {0};

    slm_pg_job_option_values(options, values, nulls);
    slm_pg_spi_with(psprintf("UPDATE slm.job_definition d SET overwrite = COALESCE($1, d.overwrite), "
                             "batch_size = COALESCE($2, d.batch_size), max_attempts = COALESCE($3, d.max_attempts), "
                             "retry_delay = COALESCE($4, d.retry_delay), backfill = COALESCE($5, d.backfill), "
                             "paused = COALESCE($6, d.paused), owner = CASE WHEN %u = 0 THEN d.owner ELSE %u::oid::regrole END, "
                             "version = d.version + 1, backfill_done = COALESCE($5, d.backfill) = 'none', backfill_position = NULL, "
                             "not_before = '-infinity' WHERE d.id = %d RETURNING d.version",
                             options->owner, options->owner, id),
                    SLM_JOB_OPTION_VALUES, slm_pg_job_option_types, values, nulls, SPI_OK_UPDATE_RETURNING);
    return DatumGetInt32(slm_pg_job_datum(1, INT4OID));
}

static int32 alter(const char *name, char *expression, const SlmJobOptions *options)
{
    char *path = slm_pg_current_path();
    Oid caller = GetUserId();
    SlmAs saved, settings;
    int32 id, version;
    SlmJob *job;

    id = slm_pg_job_id(name);
    if (OidIsValid(options->owner))
        check_new_owner(name, options->owner, caller);
    slm_pg_as_extension(&saved);
    slm_pg_job_lock(id, name);
    version = set_options(id, options);
    job = slm_pg_job_read(id, true);
    slm_pg_job_check_parts(job);
    slm_pg_job_check_rights(job);
    if (expression != NULL) {
        LockRelationOid(job->source, ShareRowExclusiveLock); /* writers that noted the inputs of the old one come first */
        slm_pg_job_check_tables(job);
        set_expression(id, job, expression, path);
    }
    if (expression != NULL || OidIsValid(options->owner)) {
        job = slm_pg_job_read(id, true);
        slm_pg_as_extension(&settings);
        slm_pg_job_settings(job);
        slm_pg_job_try(job);
        slm_pg_as_end(&settings);
    }
    (void) slm_pg_job_retry(id);
    slm_pg_as_end(&saved);
    return version;
}

/* slm_alter_job(name text, expression text, options jsonb) -> int. */
Datum slm_pg_alter_job(PG_FUNCTION_ARGS)
{
    SlmJobOptions options;
    int32 version;

    if (PG_ARGISNULL(0))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the name of a job must not be null")));
    slm_pg_job_options(&options, PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2), true);
    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    version = alter(text_to_cstring(PG_GETARG_TEXT_PP(0)), PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1)), &options);
    SPI_finish();
    slm_pg_job_wake_at_commit();
    PG_RETURN_INT32(version);
}
