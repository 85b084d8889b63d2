/*
 * The triggers of jobs: note the primary keys of rows whose inputs are new or changed.
 *
 * One C function serves the statement triggers (with transition tables) and the row triggers, which are there for logical replication and
 * for partitioned tables (a statement trigger of the root does not see rows that are written to a partition directly).  It runs in the
 * writer's statement, so it does as little as it can: one prepared INSERT ... SELECT.
 *
 * Prepared statements are kept per job and table and made anew after a change of the table or of any definition, of which the trigger of
 * slm.job_definition tells all sessions.  Definitions are read with the latest snapshot: a transaction older than the job must not miss it.
 *
 * Privileges: keys of built-in types are noted by the bootstrap superuser, as no function of a user is called; for other types a cast of
 * a user might run, so the job's owner notes them.
 */
#include "pg/jobs/jobs.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_authid.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "pg/jobs/wake.h"

#define SMALL_CHANGE 100 /* rows; above, an UPDATE's comparison is planned for the actual numbers of rows */

PG_FUNCTION_INFO_V1(slm_pg_job_enqueue);
PG_FUNCTION_INFO_V1(slm_pg_job_defined);

typedef enum Statement { NOTE_NEW, NOTE_CHANGED, FORGET_OLD, FORGET_MOVED, NOTE_ROW, FORGET_ROW, MOVE_ROW, N_STATEMENTS } Statement;

typedef struct JobTrigger {
    struct {
        int32 job;
        Oid table;
    } key;
    bool valid;
    MemoryContext context; /* of job and columns */
    SlmJob *job;           /* NULL: there is none */
    Bitmapset *keys, *inputs; /* attribute numbers of this table */
    SPIPlanPtr plans[N_STATEMENTS];
} JobTrigger;

static HTAB *triggers;
static Oid definitions; /* slm.job_definition */

/* ---------------------------------------------------------------- statements */

/* Queue rows for every changed row: same key, other inputs; or a key that was not there. */
static char *changed_query(const SlmJob *job, const char *note)
{
    StringInfoData query;

    initStringInfo(&query);
    appendStringInfo(&query, "%s FROM slm_new n WHERE NOT EXISTS (SELECT FROM slm_old o WHERE ", note);
    if (job->simple_keys)
        for (int i = 0; i < job->n_keys; i++)
            appendStringInfo(&query, "o.%s OPERATOR(pg_catalog.=) n.%s AND ", job->keys[i].column, job->keys[i].column);
    else
        appendStringInfo(&query, "%s OPERATOR(pg_catalog.=) %s AND ", slm_pg_job_key(job, "o"), slm_pg_job_key(job, "n"));
    appendStringInfo(&query, "pg_catalog.record_image_eq(ROW(%s), ROW(%s)))", slm_pg_job_columns(job->input_columns, "o"),
                     slm_pg_job_columns(job->input_columns, "n"));
    return query.data;
}

/* Forgets keys that are no more; a new key whose row carries a value that was computed under one of them takes over what is known. */
static char *moved_query(const SlmJob *job, const char *forget)
{
    if (job->source != job->target)
        return psprintf("%s", forget);
    return psprintf("WITH gone AS (%s RETURNING d.version, d.input_hash, d.value_hash, d.models) INSERT INTO slm.job_done (job_id, key, "
                    "version, input_hash, "
                    "value_hash, models) SELECT %d, %s, g.version, g.input_hash, g.value_hash, g.models FROM slm_new n JOIN gone g ON "
                    "g.value_hash "
                    "OPERATOR(pg_catalog.=) pg_catalog.md5(n.%s::pg_catalog.text) WHERE NOT EXISTS (SELECT FROM slm_old o WHERE %s "
                    "OPERATOR(pg_catalog.=) %s) "
                    "ON CONFLICT DO NOTHING",
                    forget, job->id, slm_pg_job_key(job, "n"), job->target_column, slm_pg_job_key(job, "o"), slm_pg_job_key(job, "n"));
}

static char *statement_text(const SlmJob *job, Statement which)
{
    char *key_n = slm_pg_job_key(job, "n"), *key_o = slm_pg_job_key(job, "o");
    char *note = psprintf("INSERT INTO slm.job_queue (job_id, key) SELECT %d, %s", job->id, key_n);
    char *forget = psprintf("DELETE FROM slm.job_done d USING %s WHERE d.job_id OPERATOR(pg_catalog.=) %d AND d.key "
                            "OPERATOR(pg_catalog.=) %s",
                            which == FORGET_ROW || which == MOVE_ROW ? "(SELECT ($1).*) o" : "slm_old o", job->id, key_o);

    switch (which) {
    case NOTE_NEW:
        return psprintf("%s FROM slm_new n", note);
    case NOTE_CHANGED:
        return changed_query(job, note);
    case NOTE_ROW:
        return psprintf("%s FROM (SELECT ($2).*) n", note);
    case MOVE_ROW:
        return job->source != job->target ? forget :
               psprintf("WITH gone AS (%s RETURNING d.version, d.input_hash, d.value_hash, d.models) INSERT INTO slm.job_done (job_id, "
                        "key, version, "
                        "input_hash, value_hash, models) SELECT %d, %s, g.version, g.input_hash, g.value_hash, g.models FROM gone g, "
                        "(SELECT ($2).*) n "
                        "ON CONFLICT DO NOTHING",
                        forget, job->id, key_n);
    case FORGET_MOVED:
        return moved_query(job, psprintf("%s AND NOT EXISTS (SELECT FROM slm_new n WHERE %s OPERATOR(pg_catalog.=) d.key)", forget, key_n));
    default:
        return forget;
    }
}

/* Returns how many rows it wrote. Of the statements for one row, $1 is the old row and $2 the new one (the same, where there is one
 * only). */
static uint64 execute(JobTrigger *trigger, Statement which, TriggerData *data)
{
    bool by_row = which >= NOTE_ROW;
    Oid type = get_rel_type_id(RelationGetRelid(data->tg_relation)), types[2] = {type, type};
    Datum rows[2] = {0};
    int code;

    if (by_row) {
        rows[0] = heap_copy_tuple_as_datum(data->tg_trigtuple, data->tg_relation->rd_att);
        rows[1] = data->tg_newtuple == NULL ? rows[0] : heap_copy_tuple_as_datum(data->tg_newtuple, data->tg_relation->rd_att);
    }
    if (which == NOTE_CHANGED && tuplestore_tuple_count(data->tg_newtable) > SMALL_CHANGE) {
        slm_pg_spi(statement_text(trigger->job, which), SPI_OK_INSERT);
        return SPI_processed;
    }
    if (trigger->plans[which] == NULL) {
        SPIPlanPtr plan = SPI_prepare(statement_text(trigger->job, which), by_row ? 2 : 0, types);

        if (plan == NULL || SPI_keepplan(plan) != 0)
            elog(ERROR, "could not prepare a statement of a job: %s", SPI_result_code_string(SPI_result));
        trigger->plans[which] = plan;
    }
    code = SPI_execute_plan(trigger->plans[which], by_row ? rows : NULL, NULL, false, 0);
    if (code != SPI_OK_INSERT && code != SPI_OK_DELETE)
        elog(ERROR, "could not note rows of a job: %s", SPI_result_code_string(code));
    return SPI_processed;
}

/* ---------------------------------------------------------------- which job */

/* Relation cache callback: table InvalidOid means all. */
static void forget_table(Datum arg, Oid table)
{
    HASH_SEQ_STATUS scan;
    JobTrigger *entry;

    hash_seq_init(&scan, triggers);
    while ((entry = hash_seq_search(&scan)) != NULL)
        if (table == InvalidOid || table == definitions || entry->key.table == table)
            entry->valid = false;
}

/* The attribute numbers of quoted names in a table; a partition may have other numbers than its root. */
static Bitmapset *column_numbers(TupleDesc desc, const SlmJob *job, bool keys)
{
    Bitmapset *result = NULL;

    for (int i = 0; i < desc->natts; i++) {
        Form_pg_attribute att = TupleDescAttr(desc, i);
        const char *name = quote_identifier(NameStr(att->attname));
        ListCell *cell;

        for (int k = 0; keys && !att->attisdropped && k < job->n_keys; k++)
            if (strcmp(job->keys[k].column, name) == 0)
                result = bms_add_member(result, att->attnum);
        foreach (cell, job->input_columns)
            if (!keys && !att->attisdropped && strcmp(lfirst(cell), name) == 0)
                result = bms_add_member(result, att->attnum);
    }
    return result;
}

static void fill_entry(JobTrigger *entry, TriggerData *data)
{
    MemoryContext old;
    int level;

    entry->valid = false;
    entry->job = NULL;
    definitions = get_relname_relid("job_definition", get_namespace_oid("slm", false));
    for (int i = 0; i < N_STATEMENTS; i++) {
        if (entry->plans[i] != NULL)
            SPI_freeplan(entry->plans[i]);
        entry->plans[i] = NULL;
    }
    if (entry->context == NULL)
        entry->context = AllocSetContextCreate(TopMemoryContext, "slm job trigger", ALLOCSET_SMALL_SIZES);
    MemoryContextReset(entry->context);
    entry->valid = true; /* before it is filled: an invalidation that arrives meanwhile counts */
    level = NewGUCNestLevel();
    (void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
    PushActiveSnapshot(GetLatestSnapshot());
    old = MemoryContextSwitchTo(entry->context);
    entry->job = slm_pg_job_read(entry->key.job, false);
    if (entry->job != NULL) {
        entry->keys = column_numbers(data->tg_relation->rd_att, entry->job, true);
        entry->inputs = column_numbers(data->tg_relation->rd_att, entry->job, false);
    }
    MemoryContextSwitchTo(old);
    PopActiveSnapshot();
    AtEOXact_GUC(false, level);
}

/* The prepared trigger, or NULL when its job is gone. Runs as the bootstrap superuser. */
static JobTrigger *find_trigger(TriggerData *data)
{
    JobTrigger *entry, key = {.key = {pg_strtoint32(data->tg_trigger->tgargs[0]), RelationGetRelid(data->tg_relation)}};
    bool found;

    if (triggers == NULL) {
        HASHCTL control = {.keysize = sizeof key.key, .entrysize = sizeof(JobTrigger)};

        triggers = hash_create("slm job triggers", 32, &control, HASH_ELEM | HASH_BLOBS);
        CacheRegisterRelcacheCallback(forget_table, (Datum) 0);
    }
    entry = hash_search(triggers, &key.key, HASH_ENTER, &found);
    if (!found)
        memset((char *) entry + sizeof entry->key, 0, sizeof *entry - sizeof entry->key);
    if (!entry->valid)
        fill_entry(entry, data);
    if (entry->job == NULL || !slm_pg_job_owner_exists(entry->job->owner))
        return NULL;
    if (entry->job->n_keys == 0) {
        ereport(WARNING, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                          errmsg("job \"%s\" does not see this change: table %s has no primary key any more", entry->job->name,
                                 entry->job->source_name),
                          errhint("Add one, or end the job with SELECT slm_drop_job(%s).", quote_literal_cstr(entry->job->name))));
        return NULL;
    }
    if (entry->job->source != entry->key.table &&
        !(data->tg_relation->rd_rel->relispartition && list_member_oid(get_partition_ancestors(entry->key.table), entry->job->source))) {
        ereport(WARNING, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                          errmsg("trigger \"%s\" of table \"%s\" belongs to a job of another table", data->tg_trigger->tgname,
                                 RelationGetRelationName(data->tg_relation)),
                          errhint("Drop the trigger; slm_create_job makes those of a job.")));
        return NULL;
    }
    return entry;
}

/* ---------------------------------------------------------------- events */

/* Do these columns differ between old and new row, in their stored bytes? */
static bool columns_differ(TriggerData *data, const Bitmapset *columns)
{
    TupleDesc desc = data->tg_relation->rd_att;
    int number = -1;

    while ((number = bms_next_member(columns, number)) >= 0) {
        Form_pg_attribute att = TupleDescAttr(desc, number - 1);
        bool null_old, null_new;
        Datum before = heap_getattr(data->tg_trigtuple, number, desc, &null_old);
        Datum after = heap_getattr(data->tg_newtuple, number, desc, &null_new);

        if (null_old != null_new || (!null_old && !datum_image_eq(before, after, att->attbyval, att->attlen)))
            return true;
    }
    return false;
}

/* Returns how many keys it noted. */
static uint64 enqueue_row(JobTrigger *trigger, TriggerData *data)
{
    if (TRIGGER_FIRED_BY_DELETE(data->tg_event)) {
        (void) execute(trigger, FORGET_ROW, data);
        return 0;
    }
    if (TRIGGER_FIRED_BY_UPDATE(data->tg_event)) {
        if (columns_differ(data, trigger->keys))
            (void) execute(trigger, MOVE_ROW, data);
        else if (!columns_differ(data, trigger->inputs))
            return 0;
    }
    return execute(trigger, NOTE_ROW, data);
}

/* Did an UPDATE name a key column? */
static bool key_updated(const JobTrigger *trigger, TriggerData *data)
{
    int number = -1;

    while ((number = bms_next_member(trigger->keys, number)) >= 0)
        if (bms_is_member(number - FirstLowInvalidHeapAttributeNumber, data->tg_updatedcols))
            return true;
    return false;
}

/* Runs a statement that casts a value of any type to text: as the job's owner, under fixed settings. */
static void forget_moved(JobTrigger *trigger, TriggerData *data)
{
    int security, level = NewGUCNestLevel();
    Oid user;

    GetUserIdAndSecContext(&user, &security);
    SetUserIdAndSecContext(trigger->job->owner, security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
    slm_pg_job_text_settings();
    (void) execute(trigger, FORGET_MOVED, data);
    AtEOXact_GUC(false, level);
    SetUserIdAndSecContext(user, security);
}

/* Returns how many keys it noted. The rows of a partitioned table are noted by row triggers. */
static uint64 enqueue_statement(JobTrigger *trigger, TriggerData *data)
{
    bool partitioned = data->tg_relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE;

    if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
        return partitioned ? 0 : execute(trigger, NOTE_NEW, data);
    if (TRIGGER_FIRED_BY_UPDATE(data->tg_event)) {
        if (key_updated(trigger, data))
            forget_moved(trigger, data);
        return partitioned ? 0 : execute(trigger, NOTE_CHANGED, data);
    }
    if (TRIGGER_FIRED_BY_DELETE(data->tg_event)) {
        (void) execute(trigger, FORGET_OLD, data);
    } else {
        slm_pg_spi(psprintf("DELETE FROM slm.job_done WHERE job_id OPERATOR(pg_catalog.=) %d", trigger->job->id), SPI_OK_DELETE);
        slm_pg_spi(psprintf("DELETE FROM slm.job_queue WHERE job_id OPERATOR(pg_catalog.=) %d", trigger->job->id), SPI_OK_DELETE);
    }
    return 0;
}

/* A statement that touched no row: there is nothing to look up. */
static bool no_rows(TriggerData *data)
{
    if (TRIGGER_FIRED_FOR_ROW(data->tg_event) || TRIGGER_FIRED_BY_TRUNCATE(data->tg_event))
        return false;
    return tuplestore_tuple_count(data->tg_newtable != NULL ? data->tg_newtable : data->tg_oldtable) == 0;
}

Datum slm_pg_job_enqueue(PG_FUNCTION_ARGS)
{
    TriggerData *data = (TriggerData *) fcinfo->context;
    int security, level = 0;
    Oid user;
    JobTrigger *trigger;

    if (!CALLED_AS_TRIGGER(fcinfo) || data->tg_trigger->tgnargs != 1 ||
        (TRIGGER_FIRED_FOR_STATEMENT(data->tg_event) && !TRIGGER_FIRED_BY_TRUNCATE(data->tg_event) && data->tg_newtable == NULL &&
         data->tg_oldtable == NULL))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED), errmsg("slm.job_enqueue is the trigger of a job"),
                        errhint("Use slm_create_job.")));
    if (no_rows(data))
        return PointerGetDatum(NULL);
    if (SPI_connect() != SPI_OK_CONNECT || SPI_register_trigger_data(data) < 0)
        elog(ERROR, "could not connect to SPI");

    GetUserIdAndSecContext(&user, &security);
    SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
    trigger = find_trigger(data);
    if (trigger != NULL) {
        if (!trigger->job->simple_keys) {
            SetUserIdAndSecContext(trigger->job->owner, security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
            level = NewGUCNestLevel();
            slm_pg_job_text_settings();
        }
        if ((TRIGGER_FIRED_FOR_ROW(data->tg_event) ? enqueue_row(trigger, data) : enqueue_statement(trigger, data)) > 0 &&
            !trigger->job->paused)
            slm_pg_job_wake_at_commit();
        if (level > 0)
            AtEOXact_GUC(false, level);
    }
    SetUserIdAndSecContext(user, security);
    SPI_finish();
    return PointerGetDatum(NULL);
}

/* The trigger of slm.job_definition: every session forgets what it knows of jobs, and the workers look. */
Datum slm_pg_job_defined(PG_FUNCTION_ARGS)
{
    if (!CALLED_AS_TRIGGER(fcinfo))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED), errmsg("slm.job_defined is a trigger")));
    CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
    slm_pg_job_wake_at_commit();
    return PointerGetDatum(NULL);
}
