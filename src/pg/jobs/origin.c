/*
 * A job never feeds on its own writes.
 *
 * Jobs follow one another: what job A writes may be an input of job B.  But a table's triggers change other columns in the course of a
 * job's write (updated_at), expressions read rows as a whole, and jobs may read each other's columns: followed blindly, such
 * writes would go round for ever.  So every row of slm.job_queue says which jobs' writes led to it (origin; empty for a write of a user or
 * application), and while a batch of job X writes a row, job Y is queued for it when
 *
 *   Y's expression names the column that X fills, and X does not follow Y in turn, however indirectly (the graph of named columns), or
 *   another input of Y has changed, and Y is not among what led to this write: not X itself, and none of the row's origins.
 *
 * An expression that reads the row as a whole does not read the columns that jobs fill, and does not follow what triggers change because
 * of a job.  Every chain ends: along it the origins grow, or it goes forward in a graph without cycles.
 *
 * The origins of a row are those of all its queue rows at the moment before it is written: whatever was written before that is computed
 * in it.
 */
#include "pg/jobs/origin.h"

#include "access/xact.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "nodes/pg_list.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "pg/base/compat.h"
#include "pg/jobs/compute.h"
#include "pg/jobs/jobs.h"

/* A row of the batch, by the hash of its key. */
typedef struct OriginRow {
    uint64 hash; /* hash key */
    Datum key;
    List *jobs; /* of int: that led to it */
} OriginRow;

typedef struct Origin {
    MemoryContext context;
    int32 job;
    Oid source, target; /* roots of partitions */
    char *column;       /* of the target, quoted */
    HTAB *rows;
    List *all; /* of int: that led to any row of the batch */
} Origin;

static Origin *origin; /* NULL: no batch is writing */

static Oid root_of(Oid table)
{
    List *ancestors = get_rel_relispartition(table) ? get_partition_ancestors(table) : NIL;

    return ancestors == NIL ? table : llast_oid(ancestors);
}

static uint64 hash_key(Datum key)
{
    return DatumGetUInt64(DirectFunctionCall2(jsonb_hash_extended, key, Int64GetDatum(0)));
}

static void forget(void *arg)
{
    if (origin == arg)
        origin = NULL;
}

/* Equal bytes, whatever their headers are. */
static bool same_key(Datum a, Datum b)
{
    const struct varlena *x = PG_DETOAST_DATUM_PACKED(a), *y = PG_DETOAST_DATUM_PACKED(b);

    return VARSIZE_ANY_EXHDR(x) == VARSIZE_ANY_EXHDR(y) && memcmp(VARDATA_ANY(x), VARDATA_ANY(y), VARSIZE_ANY_EXHDR(x)) == 0;
}

static OriginRow *find_row(Datum key)
{
    uint64 hash = hash_key(key);
    OriginRow *row = hash_search(origin->rows, &hash, HASH_FIND, NULL);

    return row != NULL && same_key(row->key, key) ? row : NULL;
}

/* ---------------------------------------------------------------- begin and end */

static List *int_list(Datum array)
{
    List *result = NIL;
    Datum *elements;
    int n;

    deconstruct_array(DatumGetArrayTypeP(array), INT4OID, sizeof(int32), true, TYPALIGN_INT, &elements, NULL, &n);
    for (int i = 0; i < n; i++)
        result = list_append_unique_int(result, DatumGetInt32(elements[i]));
    return result;
}

/* What led to the rows: the origins of all queue rows of their keys. */
static void read_origins(const SlmJob *job, const Datum *keys, int n)
{
    static const Oid types[] = {JSONBOID, INT4ARRAYOID};
    const Oid argument[1] = {JSONBARRAYOID};
    Datum values[1] = {PointerGetDatum(construct_array(unconstify(Datum *, keys), n, JSONBOID, -1, false, TYPALIGN_INT))};

    slm_pg_spi_with(psprintf("SELECT q.key, q.origin FROM unnest($1) k CROSS JOIN LATERAL "
                             "(SELECT s.key, s.origin FROM slm.job_queue s WHERE s.job_id = %d AND jsonb_hash_extended(s.key, 0) = "
                             "jsonb_hash_extended(k, 0) AND s.key = k AND s.origin <> '{}' OFFSET 0) q",
                             job->id),
                    1, argument, values, NULL, SPI_OK_SELECT);
    slm_pg_job_check_types(lengthof(types), types);
    for (uint64 i = 0; i < SPI_processed; i++) {
        MemoryContext old = MemoryContextSwitchTo(origin->context);
        OriginRow *row = find_row(slm_pg_job_value(i, 1));
        List *jobs = int_list(slm_pg_job_value(i, 2));

        if (row != NULL)
            row->jobs = list_concat_unique_int(row->jobs, jobs);
        origin->all = list_concat_unique_int(origin->all, jobs);
        MemoryContextSwitchTo(old);
    }
}

void slm_pg_job_origin_begin(const SlmJob *job, const SlmJobRow *rows, int n)
{
    HASHCTL control = {.keysize = sizeof(uint64), .entrysize = sizeof(OriginRow)};
    Datum *keys = palloc(sizeof(Datum) * Max(n, 1));
    MemoryContext context = AllocSetContextCreate(CurTransactionContext, "slm job origin", ALLOCSET_DEFAULT_SIZES), old;
    MemoryContextCallback *callback;
    int n_keys = 0;

    old = MemoryContextSwitchTo(context);
    origin = palloc0(sizeof *origin);
    callback = palloc(sizeof *callback);
    *callback = (MemoryContextCallback){.func = forget, .arg = origin};
    MemoryContextRegisterResetCallback(context, callback); /* an error ends the subtransaction, and this with it */
    control.hcxt = context;
    origin->context = context;
    origin->job = job->id;
    origin->source = root_of(job->source);
    origin->target = root_of(job->target);
    origin->column = pstrdup(job->target_column);
    origin->rows = hash_create("slm job origin", 128, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    for (int i = 0; i < n; i++) {
        uint64 hash = hash_key(rows[i].key);
        OriginRow *row;
        bool found;

        if (!rows[i].computed)
            continue;
        row = hash_search(origin->rows, &hash, HASH_ENTER, &found);
        *row = (OriginRow){.hash = hash, .key = datumCopy(rows[i].key, false, -1)};
        keys[n_keys++] = rows[i].key;
    }
    MemoryContextSwitchTo(old);
    read_origins(job, keys, n_keys);
}

void slm_pg_job_origin_end(void)
{
    if (origin != NULL)
        MemoryContextDelete(origin->context);
}

/* ---------------------------------------------------------------- following */

bool slm_pg_job_origin_active(void)
{
    return origin != NULL;
}

AttrNumber slm_pg_job_origin_column(Relation table)
{
    TupleDesc desc = RelationGetDescr(table);

    if (origin == NULL || root_of(RelationGetRelid(table)) != origin->target)
        return 0;
    for (int i = 0; i < desc->natts; i++)
        if (!TupleDescAttr(desc, i)->attisdropped &&
            strcmp(quote_identifier(NameStr(TupleDescAttr(desc, i)->attname)), origin->column) == 0)
            return i + 1;
    return 0;
}

/* May a change that a batch of job X led to go on to the follower? jobs: what led to the write; own: the row is one of the batch. */
static bool goes_on(const SlmJob *follower, const SlmJobChange *change, const List *jobs, bool own)
{
    if (follower->id == origin->job && own)
        return false;
    if (change->filled && follower->id != origin->job && !list_member_int(follower->followers, origin->job))
        return true;
    if (!change->other || (follower->whole_row && own && !change->new_row))
        return false;
    return !list_member_int(jobs, follower->id);
}

bool slm_pg_job_follows(const SlmJob *follower, Relation table, Datum key, const SlmJobChange *change, Datum *origins)
{
    Oid root = root_of(RelationGetRelid(table));
    const OriginRow *row = root == origin->source || root == origin->target ? find_row(key) : NULL;
    const List *jobs = row != NULL ? row->jobs : origin->all;
    Datum *elements;
    ListCell *cell;
    int n = 0;

    if (!goes_on(follower, change, jobs, row != NULL))
        return false;
    elements = palloc(sizeof(Datum) * (list_length(jobs) + 1));
    foreach (cell, jobs)
        if (lfirst_int(cell) != origin->job)
            elements[n++] = Int32GetDatum(lfirst_int(cell));
    elements[n++] = Int32GetDatum(origin->job);
    *origins = PointerGetDatum(construct_array(elements, n, INT4OID, sizeof(int32), true, TYPALIGN_INT));
    return true;
}
