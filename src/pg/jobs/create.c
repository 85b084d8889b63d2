/*
 * slm_create_job: everything that a batch could not do is refused here, before anything is written.
 *
 * The caller becomes the job's owner.  What is looked up in his name (the target's name in the options, the search_path and settings to
 * keep) is looked up first; then all is done as the extension, and what touches tables and expression as the tables' owners.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/relcache.h"

#include "pg/base/as_owner.h"
#include "pg/base/earlier.h"
#include "pg/jobs/admin.h"
#include "pg/jobs/check.h"
#include "pg/jobs/compute.h"
#include "pg/jobs/jobs.h"
#include "pg/jobs/triggers.h"
#include "pg/jobs/wake.h"
#include "pg/jobs/workers.h"

#define MAX_NAME 50

PG_FUNCTION_INFO_V1(slm_pg_create_job);

/* ---------------------------------------------------------------- what is refused */

static void check_name(const char *name)
{
    size_t n = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789");

    if (n == 0 || name[n] != '\0' || n > MAX_NAME || (name[0] >= '0' && name[0] <= '9'))
        ereport(ERROR, (errcode(ERRCODE_INVALID_NAME), errmsg("\"%s\" cannot be the name of a job", name),
                        errhint("A name begins with a letter and has up to 50 letters, digits and underscores.")));
}

/* Refuses what can be neither source nor target; leaves it locked. */
static void check_table(const char *job, Oid owner, Oid table, LOCKMODE mode)
{
    Oid before = slm_pg_job_table_owner(table);
    const char *name = slm_pg_job_table_name(table);
    char kind = get_rel_relkind(table);

    if (!OidIsValid(before))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("table with OID %u does not exist", table)));
    if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("%s is not a table", name),
                        errhint("A job needs a table or a partitioned table.")));
    if (get_rel_persistence(table) == RELPERSISTENCE_TEMP)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("%s is a temporary table", get_rel_name(table)),
                        errhint("Background workers do not see the temporary tables of a session.")));
    if (get_rel_namespace(table) == get_namespace_oid("slm", true) || IsCatalogNamespace(get_rel_namespace(table)))
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("%s belongs to the %s", name,
                                                                   IsCatalogNamespace(get_rel_namespace(table)) ? "server" : "extension"),
                        errhint("A job needs a table of a user.")));
    slm_pg_job_check_right(job, owner, table);
    slm_pg_refuse_distributed(table, name);
    LockRelationOid(table, mode);
    if (!OidIsValid(slm_pg_job_table_owner(table)))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("table %s was dropped just now", name)));
    slm_pg_job_check_right(job, owner, table); /* as it is behind the lock */
}

/* A key of a separate target must be written in JSON as the source's is. */
static bool same_kind(const SlmJobKey *a, const SlmJobKey *b)
{
    char category_a, category_b;
    bool preferred;

    get_type_category_preferred(getBaseType(a->type_oid), &category_a, &preferred);
    get_type_category_preferred(getBaseType(b->type_oid), &category_b, &preferred);
    return a->simple == b->simple && (getBaseType(a->type_oid) == getBaseType(b->type_oid) ||
                                      (a->simple && category_a == category_b &&
                                       (category_a == TYPCATEGORY_NUMERIC || category_a == TYPCATEGORY_STRING)));
}

static void check_target_keys(const SlmJob *job)
{
    for (int i = 0; i < job->keys.n; i++) {
        const SlmJobKey *key = &job->keys.list[i];

        if (get_attnum(job->target, key->name) <= 0)
            ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("table %s has no column \"%s\"", job->target_name, key->name),
                            errhint("A separate target table needs the primary-key columns of %s as its own key.", job->source_name)));
        if (!same_kind(key, &job->target_keys.list[i]))
            ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                            errmsg("column \"%s\" is of type %s in %s and of type %s in %s", key->name, format_type_be(key->type_oid),
                                   job->source_name, format_type_be(job->target_keys.list[i].type_oid), job->target_name),
                            errhint("A separate target table needs the primary key of %s as its own.", job->source_name)));
    }
}

/* Has the target a unique index on just the key columns, which ON CONFLICT can infer? */
static bool has_unique_key(const SlmJob *job, Relation target)
{
    List *indexes = RelationGetIndexList(target);
    ListCell *cell;
    bool found = false;

    foreach (cell, indexes) {
        Relation index = relation_open(lfirst_oid(cell), AccessShareLock);
        Form_pg_index form = index->rd_index;
        bool fits = form->indisunique && form->indimmediate && form->indisvalid && form->indnkeyatts == job->keys.n &&
                    heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL); /* not looked into: that may run it */

        for (int i = 0; fits && i < job->keys.n; i++) {
            bool among = false;

            for (int k = 0; k < job->keys.n; k++)
                among = among || form->indkey.values[k] == get_attnum(job->target, job->keys.list[i].name);
            fits = among;
        }
        found = found || fits;
        relation_close(index, AccessShareLock);
    }
    return found;
}

static void check_separate_target(const SlmJob *job)
{
    Relation target = table_open(job->target, NoLock);
    bool has_key;

    check_target_keys(job);
    has_key = has_unique_key(job, target);
    table_close(target, NoLock);
    if (!has_key)
        ereport(ERROR, (errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
                        errmsg("table %s has no unique constraint on (%s)", job->target_name, slm_pg_job_key_columns(&job->keys, "", "")),
                        errhint("A separate target table needs the primary key of %s as its own.", job->source_name)));
}

void slm_pg_job_check_tables(const SlmJob *job)
{
    if (job->keys.n == 0)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("table %s has no primary key", job->source_name),
                        errhint("A job remembers rows by their primary key. Add one with ALTER TABLE ... ADD PRIMARY KEY.")));
    if (!job->has_target_column)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("table %s has no column %s", job->target_name, job->target_column),
                        errhint("Add it first: ALTER TABLE %s ADD COLUMN %s text;", job->target_name, job->target_column)));
    for (int i = 0; i < job->keys.n; i++)
        if (strcmp(job->keys.list[i].column, job->target_column) == 0)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("column %s is part of the primary key", job->target_column),
                            errhint("A job cannot compute the key by which it remembers rows.")));
    if (job->source != job->target)
        check_separate_target(job);
}

/* Two jobs on one column would take each other's values for those of a user, or overwrite them for ever. */
static void check_unique(const char *name, Oid target, const char *column)
{
    const Oid types[3] = {TEXTOID, OIDOID, TEXTOID};
    Datum values[3] = {CStringGetTextDatum(name), ObjectIdGetDatum(target), CStringGetTextDatum(column)};

    slm_pg_spi_with("SELECT FROM slm.job_definition d WHERE d.name = $1", 1, types, values, NULL, SPI_OK_SELECT);
    if (SPI_processed > 0)
        ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT), errmsg("job \"%s\" exists already", name),
                        errhint("slm_alter_job changes a job, slm_drop_job ends it.")));
    slm_pg_spi_with("SELECT FROM slm.job_definition d WHERE d.target = $2 AND d.target_column = $3::name", 3, types, values, NULL,
                    SPI_OK_SELECT);
    if (SPI_processed > 0)
        ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT), errmsg("another job fills column \"%s\" of table %s", column,
                                                                  slm_pg_job_table_name(target)),
                        errhint("A column is filled by one job. Name another column, or change that job with slm_alter_job.")));
}

/* ---------------------------------------------------------------- creation */

static Datum name_array(const List *names)
{
    Datum *elements = palloc(sizeof(Datum) * Max(list_length(names), 1));
    int n = 0;
    ListCell *cell;

    foreach (cell, names)
        elements[n++] = CStringGetTextDatum(lfirst(cell));
    return PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* Writes the definition, and returns its id. */
static int32 insert(const SlmJob *job, const SlmJobOptions *options, const char *column, const char *path, Datum settings)
{
    Oid types[SLM_JOB_OPTION_VALUES + 11] = {0};
    Datum values[SLM_JOB_OPTION_VALUES + 11];
    char nulls[SLM_JOB_OPTION_VALUES + 12] = {0};
    const Oid more_types[11] = {TEXTOID, OIDOID, OIDOID, OIDOID, TEXTOID, TEXTARRAYOID, TEXTARRAYOID, TEXTOID, TEXTOID, JSONBOID, BOOLOID};
    bool whole_row;
    Datum more[11] = {CStringGetTextDatum(job->name), ObjectIdGetDatum(job->owner), ObjectIdGetDatum(job->source),
                      ObjectIdGetDatum(job->target), CStringGetTextDatum(column), (Datum) 0, name_array(slm_pg_job_inputs(job, &whole_row)),
                      CStringGetTextDatum(job->expression), CStringGetTextDatum(path), settings};
    List *keys = NIL;

    for (int i = 0; i < job->keys.n; i++)
        keys = lappend(keys, job->keys.list[i].name);
    more[5] = name_array(keys);
    more[10] = BoolGetDatum(whole_row);
    slm_pg_job_option_values(options, values, nulls);
    memcpy(types, slm_pg_job_option_types, sizeof slm_pg_job_option_types);
    memcpy(types + SLM_JOB_OPTION_VALUES, more_types, sizeof more_types);
    memcpy(values + SLM_JOB_OPTION_VALUES, more, sizeof more);
    memset(nulls + SLM_JOB_OPTION_VALUES, ' ', 11);
    slm_pg_spi_with("INSERT INTO slm.job_definition (overwrite, batch_size, max_attempts, retry_delay, backfill, backfill_done, paused, "
                    "name, owner, source, target, target_column, key_columns, input_columns, expression, search_path, settings, whole_row) "
                    "VALUES (COALESCE($1, false), COALESCE($2, 128), COALESCE($3, 5), COALESCE($4, interval '10 s'), "
                    "COALESCE($5, 'oldest'), COALESCE($5, 'oldest') = 'none', COALESCE($6, false), "
                    "$7, $8::regrole, $9::regclass, $10::regclass, $11::name, $12::name[], $13::name[], $14, $15, $16, $17) RETURNING id",
                    lengthof(types), types, values, nulls, SPI_OK_INSERT_RETURNING);
    return DatumGetInt32(slm_pg_job_datum(1, INT4OID));
}

/* What a job would be read as; of a table only its OID is given. */
static SlmJob *describe(const char *name, Oid owner, Oid source, Oid target, const char *column, const char *expression, const char *path)
{
    SlmJob *job = palloc0(sizeof *job);
    Relation table;

    job->name = pstrdup(name);
    job->owner = owner;
    job->source = source;
    job->target = target;
    job->source_owner = slm_pg_job_table_owner(source);
    job->target_owner = slm_pg_job_table_owner(target);
    job->source_name = slm_pg_job_table_name(source);
    job->target_name = slm_pg_job_table_name(target);
    job->target_column = pstrdup(quote_identifier(column));
    job->has_target_column = get_attnum(target, column) > 0;
    job->expression = pstrdup(expression);
    job->search_path = pstrdup(path);
    table = table_open(source, NoLock);
    slm_pg_job_read_keys(&job->keys, table, NIL);
    table_close(table, NoLock);
    table = table_open(target, NoLock);
    slm_pg_job_read_columns(&job->target_keys, table, &job->keys);
    table_close(table, NoLock);
    return job;
}

static void create(const char *name, Oid source, const char *column, const char *expression, const SlmJobOptions *options)
{
    Oid owner = GetUserId(), target = OidIsValid(options->target) ? options->target : source;
    char *path = slm_pg_current_path();
    SlmAs saved, settings;
    SlmJob *job;
    int32 id;

    slm_pg_as_extension(&saved);
    check_table(name, owner, source, ShareRowExclusiveLock); /* CREATE TRIGGER's */
    if (target != source)
        check_table(name, owner, target, RowExclusiveLock);
    check_unique(name, target, column);
    job = describe(name, owner, source, target, column, expression, path);
    slm_pg_job_check_tables(job);
    id = insert(job, options, column, path, slm_pg_job_kept_settings());
    job = slm_pg_job_read(id, true);
    slm_pg_as_extension(&settings);
    slm_pg_job_settings(job);
    slm_pg_job_try(job);
    slm_pg_as_end(&settings);
    slm_pg_job_make_triggers(id, source);
    slm_pg_as_end(&saved);
}

/* slm_create_job(name text, source regclass, target_column name, expression text, options jsonb) -> text. */
Datum slm_pg_create_job(PG_FUNCTION_ARGS)
{
    SlmJobOptions options;
    char *name;

    if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2) || PG_ARGISNULL(3))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("name, source, target_column and expression must not be null")));
    slm_pg_job_options(&options, PG_ARGISNULL(4) ? NULL : PG_GETARG_JSONB_P(4), false);
    name = text_to_cstring(PG_GETARG_TEXT_PP(0));
    check_name(name);
    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    create(name, PG_GETARG_OID(1), NameStr(*PG_GETARG_NAME(2)), text_to_cstring(PG_GETARG_TEXT_PP(3)), &options);
    SPI_finish();
    slm_pg_job_wake_at_commit();
    if (slm_pg_jobs_shared == NULL)
        ereport(NOTICE, (errmsg("job \"%s\" has no background worker", name),
                         errhint("Add slm_pg to shared_preload_libraries and restart the server, or run CALL slm_run_job(%s).",
                                 quote_literal_cstr(name))));
    PG_RETURN_DATUM(PG_GETARG_DATUM(0));
}
