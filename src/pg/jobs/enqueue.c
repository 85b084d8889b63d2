/*
 * The triggers of jobs: note the primary keys of rows whose inputs are new or changed.
 *
 * One C function serves the statement triggers (with transition tables) and the row triggers, which are there for logical replication and
 * for partitioned tables (a statement trigger of the root does not see rows that are written to a partition directly).  It runs in the
 * writer's statement, so it does as little as it can:
 *
 *   rows of the transition tables ──► keys, written in C (keys.c) ──► INSERT of these constants into slm.job_queue
 *                                     output functions of types only      prepared once per session, as the extension
 *
 * Invariant: no expression, operator, cast, view or function of a user is evaluated and no name of his is looked up, whatever the table,
 * the trigger and the writer's search_path are.  So nothing can fire the trigger again, or forget what it uses, while it runs.
 *
 * A trigger counts only if it looks as create.c made it: name, timing, events, transition tables, argument.  Any other is passed over with
 * a WARNING, since a writer's statement must not fail for a job's sake.
 *
 * What is known of a job is kept per job and table and made anew after a change of the table or of any definition, of which the trigger
 * of slm.job_definition tells all sessions.  Definitions are read with the latest snapshot: a transaction older than the job must not
 * miss it.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/partition.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "common/md5.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/queryenvironment.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "pg/base/as_owner.h"
#include "pg/base/earlier.h"
#include "pg/jobs/jobs.h"
#include "pg/jobs/origin.h"
#include "pg/jobs/triggers.h"
#include "pg/jobs/wake.h"

#define CHUNK 1000 /* keys noted by one statement */

PG_FUNCTION_INFO_V1(slm_pg_job_enqueue);
PG_FUNCTION_INFO_V1(slm_pg_job_defined);

typedef struct JobTrigger {
    struct {
        int32 job;
        Oid table;
    } key;
    bool valid;
    MemoryContext context;    /* of all below */
    SlmJob *job;              /* NULL: there is none */
    SlmKeyWriter *writer;
    Bitmapset *keys, *inputs; /* attribute numbers of this table */
    AttrNumber value;         /* of the target column, where it is of this table; else 0 */
    Oid value_output;
    bool text_keys;           /* whose text depends on settings */
} JobTrigger;

/* Keys of one call that are still to be noted or forgotten. */
typedef struct Keys {
    SPIPlanPtr plan;
    int n;
    uint64 total; /* with those before */
    Datum list[CHUNK];
} Keys;

/* A row of a transition table. */
typedef struct Rows {
    Tuplestorestate *store;
    TupleTableSlot *slot; /* empty: there are no more */
} Rows;

static HTAB *triggers;
static Oid definitions, queue; /* slm.job_definition and slm.job_queue of this database */
static SPIPlanPtr note_plan, note_one_plan, note_origin_plan, forget_plan; /* kept until the session ends */

/* ---------------------------------------------------------------- noting, as the extension */

static SPIPlanPtr prepare(const char *query, int n, Oid type)
{
    Oid types[3] = {INT4OID, type, INT4ARRAYOID};
    SPIPlanPtr plan = SPI_prepare(query, n, types);

    if (plan == NULL || SPI_keepplan(plan) != 0)
        elog(ERROR, "could not prepare a statement of jobs: %s", SPI_result_code_string(SPI_result));
    return plan;
}

static void prepare_plans(void)
{
    if (note_plan != NULL)
        return;
    note_one_plan = prepare("INSERT INTO slm.job_queue (job_id, key) VALUES ($1, $2)", 2, JSONBOID);
    note_origin_plan = prepare("INSERT INTO slm.job_queue (job_id, key, origin) VALUES ($1, $2, $3)", 3, JSONBOID);
    forget_plan = prepare("DELETE FROM slm.job_done d USING pg_catalog.unnest($2) k"
                          " WHERE d.job_id OPERATOR(pg_catalog.=) $1 AND d.key OPERATOR(pg_catalog.=) k",
                          2, JSONBARRAYOID);
    note_plan = prepare("INSERT INTO slm.job_queue (job_id, key) SELECT $1, k FROM pg_catalog.unnest($2) k", 2, JSONBARRAYOID);
}

static Keys *begin_keys(SPIPlanPtr plan)
{
    Keys *keys = palloc(sizeof *keys);

    keys->plan = plan;
    keys->n = 0;
    keys->total = 0;
    return keys;
}

/* Runs the plan for the keys that have been gathered. */
static void flush(const JobTrigger *trigger, Keys *keys)
{
    Datum values[2] = {Int32GetDatum(trigger->key.job)};
    bool one = keys->n == 1 && keys->plan == note_plan;
    int code;

    if (keys->n == 0)
        return;
    values[1] = one ? keys->list[0] : PointerGetDatum(construct_array(keys->list, keys->n, JSONBOID, -1, false, TYPALIGN_INT));
    code = SPI_execute_plan(one ? note_one_plan : keys->plan, values, NULL, false, 0);
    if (code != SPI_OK_INSERT && code != SPI_OK_DELETE)
        elog(ERROR, "could not note rows of a job: %s", SPI_result_code_string(code));
    for (int i = 0; i < keys->n; i++)
        pfree(DatumGetPointer(keys->list[i]));
    keys->total += keys->n;
    keys->n = 0;
}

static void add_key(const JobTrigger *trigger, Keys *keys, Datum key)
{
    keys->list[keys->n++] = key;
    if (keys->n == CHUNK)
        flush(trigger, keys);
}

/* A row that was inserted or changed. While a job's batch writes, not every job follows (origin.c). */
static void note_key(const JobTrigger *trigger, Relation table, Keys *keys, Datum key, const SlmJobChange *change)
{
    Datum values[3] = {Int32GetDatum(trigger->key.job), key};
    int code;

    if (!slm_pg_job_origin_active()) {
        add_key(trigger, keys, key);
        return;
    }
    if (!slm_pg_job_follows(trigger->job, table, key, change, &values[2]))
        return;
    code = SPI_execute_plan(note_origin_plan, values, NULL, false, 0);
    if (code != SPI_OK_INSERT)
        elog(ERROR, "could not note a row of a job: %s", SPI_result_code_string(code));
    keys->total++;
}

/* ---------------------------------------------------------------- keys that changed */

/* Old keys, and new ones with the hash of their row's value. */
typedef struct Moved {
    TupleDesc desc; /* (key jsonb, value_hash text); NULL: there are none */
    Tuplestorestate *old_keys, *new_keys;
} Moved;

static void begin_moved(Moved *moved)
{
    slm_pg_job_text_settings();
    moved->desc = CreateTemplateTupleDesc(2);
    TupleDescInitEntry(moved->desc, 1, "key", JSONBOID, -1, 0);
    TupleDescInitEntry(moved->desc, 2, "value_hash", TEXTOID, -1, 0);
    moved->old_keys = tuplestore_begin_heap(true, false, work_mem);
    moved->new_keys = tuplestore_begin_heap(true, false, work_mem);
}

/* As slm_pg_job_value_hash says it; (Datum) 0 for NULL. */
static Datum value_hash(const JobTrigger *trigger, Datum value, bool isnull)
{
    char hex[33], *text;
    const char *error = NULL;

    if (isnull)
        return (Datum) 0;
    text = OidOutputFunctionCall(trigger->value_output, value);
    if (!pg_md5_hash(text, strlen(text), hex, &error))
        elog(ERROR, "could not compute a hash: %s", error);
    pfree(text);
    return CStringGetTextDatum(hex);
}

static void add_old_key(Moved *moved, Datum key)
{
    Datum row[2] = {key};
    bool nulls[2] = {false, true};

    if (moved->desc == NULL)
        begin_moved(moved);
    tuplestore_putvalues(moved->old_keys, moved->desc, row, nulls);
}

static void add_new_key(const JobTrigger *trigger, Moved *moved, Datum key, const Datum *values, const bool *value_nulls)
{
    Datum row[2] = {key};
    bool nulls[2] = {false, true};

    if (moved->desc == NULL)
        begin_moved(moved);
    if (trigger->value > 0) {
        row[1] = value_hash(trigger, values[trigger->value - 1], value_nulls[trigger->value - 1]);
        nulls[1] = row[1] == (Datum) 0;
    }
    tuplestore_putvalues(moved->new_keys, moved->desc, row, nulls);
}

static void register_keys(const Moved *moved, const char *name, Tuplestorestate *store)
{
    EphemeralNamedRelation relation = palloc0(sizeof *relation);

    relation->md.name = pstrdup(name);
    relation->md.tupdesc = moved->desc;
    relation->md.enrtype = ENR_NAMED_TUPLESTORE;
    relation->md.enrtuples = tuplestore_tuple_count(store);
    relation->reldata = store;
    if (SPI_register_relation(relation) != SPI_OK_REL_REGISTER)
        elog(ERROR, "could not name the changed keys of a job");
}

/* Forgets keys that are no more; a new key whose row carries a value that was computed under one of them takes over what is known.  The
 * relations are those registered here: no table, view or temporary relation stands before them. */
static void forget_moved(const JobTrigger *trigger, Moved *moved)
{
    const char *forget = "DELETE FROM slm.job_done d USING slm_old_keys o"
                         " WHERE d.job_id OPERATOR(pg_catalog.=) $1 AND d.key OPERATOR(pg_catalog.=) o.key"
                         "   AND NOT EXISTS (SELECT FROM slm_new_keys n WHERE n.key OPERATOR(pg_catalog.=) d.key)";
    Oid types[1] = {INT4OID};
    Datum values[1] = {Int32GetDatum(trigger->key.job)};

    if (moved->desc == NULL)
        return;
    register_keys(moved, "slm_old_keys", moved->old_keys);
    register_keys(moved, "slm_new_keys", moved->new_keys);
    if (trigger->value == 0)
        slm_pg_spi_with(forget, 1, types, values, NULL, SPI_OK_DELETE);
    else
        slm_pg_spi_with(psprintf("WITH gone AS (%s RETURNING d.version, d.input_hash, d.value_hash, d.models)"
                                 " INSERT INTO slm.job_done (job_id, key, version, input_hash, value_hash, models)"
                                 " SELECT $1, n.key, g.version, g.input_hash, g.value_hash, g.models"
                                 " FROM slm_new_keys n JOIN gone g ON g.value_hash OPERATOR(pg_catalog.=) n.value_hash"
                                 " WHERE NOT EXISTS (SELECT FROM slm_old_keys o WHERE o.key OPERATOR(pg_catalog.=) n.key)"
                                 " ON CONFLICT DO NOTHING",
                                 forget),
                        1, types, values, NULL, SPI_OK_INSERT);
    tuplestore_end(moved->old_keys);
    tuplestore_end(moved->new_keys);
}

/* ---------------------------------------------------------------- which job */

/* Relation cache callback: table InvalidOid means all. */
static void forget_table(Datum arg, Oid table)
{
    HASH_SEQ_STATUS scan;
    JobTrigger *entry;

    hash_seq_init(&scan, triggers);
    while ((entry = hash_seq_search(&scan)) != NULL)
        if (table == InvalidOid || table == definitions || table == queue || entry->key.table == table)
            entry->valid = false;
}

static Bitmapset *input_numbers(TupleDesc desc, const SlmJob *job)
{
    Bitmapset *result = NULL;

    for (int i = 0; i < desc->natts; i++) {
        Form_pg_attribute att = TupleDescAttr(desc, i);
        ListCell *cell;

        foreach (cell, job->input_columns)
            if (!att->attisdropped && strcmp(lfirst(cell), quote_identifier(NameStr(att->attname))) == 0)
                result = bms_add_member(result, att->attnum);
    }
    return result;
}

/* The attribute numbers of this table; a partition may have other numbers than its root. */
static void find_columns(JobTrigger *entry, TupleDesc desc)
{
    const SlmJob *job = entry->job;
    bool varlena;

    entry->inputs = input_numbers(desc, job);
    entry->keys = NULL;
    entry->value = 0;
    entry->text_keys = false;
    if (job->keys.n == 0)
        return;
    entry->writer = slm_pg_key_writer(&job->keys, desc);
    for (int k = 0; k < job->keys.n; k++)
        entry->text_keys = entry->text_keys || !job->keys.list[k].simple;
    for (int i = 0; i < desc->natts; i++) {
        Form_pg_attribute att = TupleDescAttr(desc, i);

        if (att->attisdropped)
            continue;
        for (int k = 0; k < job->keys.n; k++)
            if (strcmp(job->keys.list[k].name, NameStr(att->attname)) == 0)
                entry->keys = bms_add_member(entry->keys, att->attnum);
        if (job->source == job->target && strcmp(job->target_column, quote_identifier(NameStr(att->attname))) == 0)
            entry->value = att->attnum;
    }
    if (entry->value > 0)
        getTypeOutputInfo(TupleDescAttr(desc, entry->value - 1)->atttypid, &entry->value_output, &varlena);
}

static void fill_entry(JobTrigger *entry, Relation table)
{
    MemoryContext old;

    entry->valid = false;
    entry->job = NULL;
    definitions = slm_pg_extension_relation("job_definition");
    queue = slm_pg_extension_relation("job_queue");
    if (!OidIsValid(definitions) || !OidIsValid(queue) || !OidIsValid(slm_pg_extension_relation("job_done")))
        return;
    if (entry->context == NULL)
        entry->context = AllocSetContextCreate(TopMemoryContext, "slm job trigger", ALLOCSET_SMALL_SIZES);
    MemoryContextReset(entry->context);
    entry->valid = true; /* before it is filled: an invalidation that arrives meanwhile counts */
    PushActiveSnapshot(GetLatestSnapshot());
    old = MemoryContextSwitchTo(entry->context);
    entry->job = slm_pg_job_read(entry->key.job, false);
    if (entry->job != NULL && entry->job->source_name != NULL)
        find_columns(entry, RelationGetDescr(table));
    MemoryContextSwitchTo(old);
    PopActiveSnapshot();
}

static JobTrigger *find_entry(int32 job, Relation table)
{
    JobTrigger *entry, key = {.key = {job, RelationGetRelid(table)}};
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
        fill_entry(entry, table);
    return entry;
}

static void pass_over(const TriggerData *data, const char *why)
{
    ereport(WARNING, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                      errmsg("trigger \"%s\" of table \"%s\" %s", data->tg_trigger->tgname, RelationGetRelationName(data->tg_relation),
                             why),
                      errhint("Drop the trigger; slm_create_job makes those of a job.")));
}

/* The entry of a trigger's job, or NULL when that is gone. What is said of a job stays with those who write its table. */
static JobTrigger *find_trigger(TriggerData *data)
{
    Relation table = data->tg_relation;
    JobTrigger *entry = find_entry(pg_strtoint32(data->tg_trigger->tgargs[0]), table);
    const SlmJob *job = entry->job;

    if (job == NULL || !slm_pg_job_owner_exists(job->owner))
        return NULL;
    if (job->source != entry->key.table &&
        !(table->rd_rel->relispartition && list_member_oid(get_partition_ancestors(entry->key.table), job->source))) {
        pass_over(data, "belongs to a job of another table");
        return NULL;
    }
    if (!slm_pg_job_trigger_is_ours(data->tg_trigger, entry->key.job, job->source)) {
        pass_over(data, "is not as slm_create_job makes it, and is passed over");
        return NULL;
    }
    if (job->keys.n == 0) {
        ereport(WARNING, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                          errmsg("a job does not see this change: table %s has no primary key any more", job->source_name),
                          errdetail("The job is that of trigger \"%s\".", data->tg_trigger->tgname),
                          errhint("Add a primary key, or end the job with slm_drop_job.")));
        return NULL;
    }
    return entry;
}

/* ---------------------------------------------------------------- events */

/* Do these columns differ between two rows, in their stored bytes? */
static bool columns_differ(TupleDesc desc, const Bitmapset *columns, const Datum *old, const bool *old_nulls, const Datum *new,
                           const bool *new_nulls)
{
    int number = -1;

    while ((number = bms_next_member(columns, number)) >= 0) {
        int i = number - 1;
        Form_pg_attribute att = TupleDescAttr(desc, i);

        if (old_nulls[i] != new_nulls[i] || (!old_nulls[i] && !datum_image_eq(old[i], new[i], att->attbyval, att->attlen)))
            return true;
    }
    return false;
}

static const SlmJobChange new_row = {.new_row = true, .other = true};

/* Which inputs differ between two rows; false: none. filled: the column that a running batch fills, 0: none. */
static bool inputs_differ(const JobTrigger *trigger, TupleDesc desc, AttrNumber filled, const Datum *old, const bool *old_nulls,
                          const Datum *new, const bool *new_nulls, SlmJobChange *change)
{
    Bitmapset *other = trigger->inputs;

    *change = (SlmJobChange){0};
    if (filled > 0 && bms_is_member(filled, trigger->inputs)) {
        Bitmapset *column = bms_make_singleton(filled);

        change->filled = columns_differ(desc, column, old, old_nulls, new, new_nulls);
        other = bms_difference(trigger->inputs, column);
    }
    change->other = columns_differ(desc, other, old, old_nulls, new, new_nulls);
    return change->filled || change->other;
}

/* Returns how many keys it noted. */
static uint64 enqueue_row(JobTrigger *trigger, TriggerData *data)
{
    TupleDesc desc = RelationGetDescr(data->tg_relation);
    HeapTuple row = data->tg_newtuple != NULL ? data->tg_newtuple : data->tg_trigtuple;
    Datum *values = palloc(sizeof(Datum) * desc->natts * 2), *before = values + desc->natts;
    bool *nulls = palloc(sizeof(bool) * desc->natts * 2), *nulls_before = nulls + desc->natts;
    Keys *keys = begin_keys(TRIGGER_FIRED_BY_DELETE(data->tg_event) ? forget_plan : note_plan);
    SlmJobChange change = new_row;
    Moved moved = {0};

    heap_deform_tuple(row, desc, values, nulls);
    if (TRIGGER_FIRED_BY_UPDATE(data->tg_event)) {
        heap_deform_tuple(data->tg_trigtuple, desc, before, nulls_before);
        if (!slm_pg_same_key(trigger->writer, before, values)) {
            add_old_key(&moved, slm_pg_write_key(trigger->writer, before, nulls_before));
            add_new_key(trigger, &moved, slm_pg_write_key(trigger->writer, values, nulls), values, nulls);
            forget_moved(trigger, &moved);
        } else if (!inputs_differ(trigger, desc, slm_pg_job_origin_column(data->tg_relation), before, nulls_before, values, nulls,
                                  &change)) {
            return 0;
        }
    }
    if (keys->plan == forget_plan)
        add_key(trigger, keys, slm_pg_write_key(trigger->writer, values, nulls));
    else
        note_key(trigger, data->tg_relation, keys, slm_pg_write_key(trigger->writer, values, nulls), &change);
    flush(trigger, keys);
    return keys->plan == forget_plan ? 0 : keys->total;
}

/* A transition table may be read by several triggers: each has a place of its own in it. */
static void begin_rows(Rows *rows, Tuplestorestate *store, TupleDesc desc)
{
    rows->store = store;
    rows->slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
    if (store == NULL)
        return;
    tuplestore_select_read_pointer(store, tuplestore_alloc_read_pointer(store, EXEC_FLAG_REWIND));
    tuplestore_rescan(store);
}

static void end_rows(Rows *rows)
{
    ExecDropSingleTupleTableSlot(rows->slot);
}

static bool next_row(Rows *rows)
{
    if (rows->store == NULL || !tuplestore_gettupleslot(rows->store, true, false, rows->slot))
        return false;
    slot_getallattrs(rows->slot);
    return true;
}

static uint64 note_new(JobTrigger *trigger, TriggerData *data)
{
    Keys *notes = begin_keys(note_plan);
    Rows rows;

    begin_rows(&rows, data->tg_newtable, RelationGetDescr(data->tg_relation));
    while (next_row(&rows))
        note_key(trigger, data->tg_relation, notes, slm_pg_write_key(trigger->writer, rows.slot->tts_values, rows.slot->tts_isnull),
                 &new_row);
    end_rows(&rows);
    flush(trigger, notes);
    return notes->total;
}

static void forget_old(JobTrigger *trigger, TriggerData *data)
{
    Keys *forgotten = begin_keys(forget_plan);
    Rows rows;

    begin_rows(&rows, data->tg_oldtable, RelationGetDescr(data->tg_relation));
    while (next_row(&rows))
        add_key(trigger, forgotten, slm_pg_write_key(trigger->writer, rows.slot->tts_values, rows.slot->tts_isnull));
    end_rows(&rows);
    flush(trigger, forgotten);
}

/* The server puts the old and the new row of an UPDATE side by side into both tables, but for those that change their partition.  Where
 * the keys of a pair differ the new one is noted, and moved or forgotten as a set: right in any order.  note: not only keys that moved. */
static uint64 note_changed(JobTrigger *trigger, TriggerData *data, bool note)
{
    TupleDesc desc = RelationGetDescr(data->tg_relation);
    AttrNumber filled = slm_pg_job_origin_column(data->tg_relation);
    Keys *notes = begin_keys(note_plan);
    Moved moved = {0};
    Rows old, new;

    begin_rows(&old, data->tg_oldtable, desc);
    begin_rows(&new, data->tg_newtable, desc);
    for (;;) {
        bool has_old = next_row(&old), has_new = next_row(&new), same = false;
        const Datum *before = old.slot->tts_values, *values = new.slot->tts_values;
        const bool *nulls_before = old.slot->tts_isnull, *nulls = new.slot->tts_isnull;
        SlmJobChange change = new_row;

        if (!has_old && !has_new)
            break;
        same = has_old && has_new && slm_pg_same_key(trigger->writer, before, values);
        if (has_old && !same)
            add_old_key(&moved, slm_pg_write_key(trigger->writer, before, nulls_before));
        if (has_new && !same)
            add_new_key(trigger, &moved, slm_pg_write_key(trigger->writer, values, nulls), values, nulls);
        if (note && has_new && (!same || inputs_differ(trigger, desc, filled, before, nulls_before, values, nulls, &change)))
            note_key(trigger, data->tg_relation, notes, slm_pg_write_key(trigger->writer, values, nulls), &change);
    }
    end_rows(&old);
    end_rows(&new);
    forget_moved(trigger, &moved);
    flush(trigger, notes);
    return notes->total;
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

/* Returns how many keys it noted. The rows of a partitioned table are noted by row triggers. */
static uint64 enqueue_statement(JobTrigger *trigger, TriggerData *data)
{
    bool partitioned = data->tg_relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE;
    Oid types[1] = {INT4OID};
    Datum values[1] = {Int32GetDatum(trigger->key.job)};

    if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
        return note_new(trigger, data);
    if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
        return !partitioned || key_updated(trigger, data) ? note_changed(trigger, data, !partitioned) : 0;
    if (TRIGGER_FIRED_BY_DELETE(data->tg_event)) {
        forget_old(trigger, data);
    } else {
        slm_pg_spi_with("DELETE FROM slm.job_done WHERE job_id OPERATOR(pg_catalog.=) $1", 1, types, values, NULL, SPI_OK_DELETE);
        slm_pg_spi_with("DELETE FROM slm.job_queue WHERE job_id OPERATOR(pg_catalog.=) $1", 1, types, values, NULL, SPI_OK_DELETE);
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

static void check_call(FunctionCallInfo fcinfo)
{
    TriggerData *data = (TriggerData *) fcinfo->context;

    if (!CALLED_AS_TRIGGER(fcinfo) || data->tg_trigger->tgnargs != 1 ||
        (TRIGGER_FIRED_FOR_STATEMENT(data->tg_event) && !TRIGGER_FIRED_BY_TRUNCATE(data->tg_event) && data->tg_newtable == NULL &&
         data->tg_oldtable == NULL))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED), errmsg("slm.job_enqueue is the trigger of a job"),
                        errhint("Use slm_create_job.")));
}

Datum slm_pg_job_enqueue(PG_FUNCTION_ARGS)
{
    TriggerData *data = (TriggerData *) fcinfo->context;
    JobTrigger *trigger;
    SlmAs saved;

    check_call(fcinfo);
    if (no_rows(data))
        return PointerGetDatum(NULL);
    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    trigger = find_trigger(data);
    if (trigger != NULL) {
        slm_pg_as(&saved, slm_pg_job_table_owner(queue), SLM_SAFE_PATH);
        prepare_plans();
        if (trigger->text_keys)
            slm_pg_job_text_settings();
        if ((TRIGGER_FIRED_FOR_ROW(data->tg_event) ? enqueue_row(trigger, data) : enqueue_statement(trigger, data)) > 0 &&
            !trigger->job->paused)
            slm_pg_job_wake_at_commit();
        slm_pg_as_end(&saved);
    }
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
