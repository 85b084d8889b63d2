/*
 * cascade_rows.c: rows of slm.cascade_registry and slm.cascade_grant, and the SQL functions that change them.
 *
 * As with classifiers (classifier_rows.c): rows are read by a scan that needs no privilege and written as the extension, after the checks
 * here; names, owners, grants and locks are those of registry.h.  A cascade lends nobody anything: whoever uses one needs its classifiers
 * and models too, and nothing in a row is ever run but its steps, as calls of whoever uses it.
 */
#include "pg/models/cascade_rows.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/rel.h"

#include "pg/base/as_owner.h"
#include "pg/base/earlier.h"
#include "pg/base/nearest.h"
#include "pg/models/catalog.h"
#include "pg/models/load.h"
#include "pg/models/registry.h"

PG_FUNCTION_INFO_V1(slm_pg_drop_cascade);
PG_FUNCTION_INFO_V1(slm_pg_grant_cascade);
PG_FUNCTION_INFO_V1(slm_pg_revoke_cascade);

/* ---- reading */

/* The row of a name; with nearest, all names that the user may use are tried. */
static SlmCascadeRow *scan(const char *name, Snapshot snapshot, SlmNearest *nearest)
{
    Relation table = slm_pg_open_extension_table("cascade_registry");
    TupleDesc desc = CreateTupleDescCopy(RelationGetDescr(table));
    SysScanDesc at = systable_beginscan(table, InvalidOid, false, snapshot, 0, NULL);
    SlmCascadeRow *found = NULL;
    HeapTuple tuple;

    while (found == NULL && HeapTupleIsValid(tuple = systable_getnext(at))) {
        bool isnull;
        char *its = TextDatumGetCString(heap_getattr(tuple, Anum_slm_cascade_name, desc, &isnull));
        Oid owner = DatumGetObjectId(heap_getattr(tuple, Anum_slm_cascade_owner, desc, &isnull));

        if (strcmp(its, name) == 0) {
            found = palloc(sizeof *found);
            *found = (SlmCascadeRow){owner, heap_copytuple(tuple), desc};
        } else if (nearest != NULL && (slm_pg_owns(owner) || slm_pg_granted("cascade", its, snapshot))) {
            slm_pg_nearest_try(nearest, its);
        }
    }
    systable_endscan(at);
    table_close(table, AccessShareLock);
    return found;
}

SlmCascadeRow *slm_pg_find_cascade(const char *name, Snapshot snapshot)
{
    return scan(name, snapshot, NULL);
}

static pg_noreturn void unknown_cascade(const char *name, Snapshot snapshot);

static void unknown_cascade(const char *name, Snapshot snapshot)
{
    SlmNearest nearest;

    slm_pg_nearest_begin(&nearest, name);
    (void) scan(name, snapshot, &nearest);
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("cascade \"%s\" does not exist", name),
                    errhint("%sThe view slm.cascades lists them; slm_create_cascade() makes one.", slm_pg_did_you_mean(&nearest))));
    pg_unreachable();
}

SlmCascadeRow *slm_pg_usable_cascade(const char *name, Snapshot snapshot)
{
    SlmCascadeRow *row = slm_pg_find_cascade(name, snapshot);

    if (row == NULL)
        unknown_cascade(name, snapshot);
    if (!slm_pg_owns(row->owner) && !(slm_pg_role_exists(row->owner) && slm_pg_granted("cascade", name, snapshot)))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied for cascade \"%s\"", name),
                        errhint("Its owner or a superuser can run: SELECT slm_grant_cascade('%s', %s);", name,
                                quote_literal_cstr(GetUserNameFromId(GetUserId(), true)))));
    return row;
}

Datum slm_pg_cascade_value(const SlmCascadeRow *row, int column)
{
    bool isnull;
    Datum value = heap_getattr(row->tuple, column, row->desc, &isnull);

    if (isnull)
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a row of slm.cascade_registry was changed or damaged"),
                        errhint("Create the cascade again with slm_create_cascade.")));
    return TupleDescAttr(row->desc, column - 1)->attlen == -1 ? PointerGetDatum(PG_DETOAST_DATUM_COPY(value)) : value;
}

/* ---- changing */

SlmCascadeRow *slm_pg_own_cascade(const char *name, bool missing_ok)
{
    SlmCascadeRow *row;

    slm_pg_lock_name("cascade", name);
    row = slm_pg_find_cascade(name, NULL);
    if (row == NULL && !missing_ok)
        unknown_cascade(name, NULL);
    if (row != NULL && !slm_pg_owns(row->owner))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be owner of cascade \"%s\"", name),
                        slm_pg_role_exists(row->owner)
                            ? errhint("Its owner is \"%s\".", GetUserNameFromId(row->owner, true))
                            : errhint("Its owner was dropped. A superuser can run: SELECT slm_drop_cascade('%s');", name)));
    return row;
}

void slm_pg_store_cascade(const SlmNewCascade *new, const SlmCascadeRow *old)
{
    static const char *const insert =
        "INSERT INTO slm.cascade_registry (name, owner, steps, images, versions, thresholds, measure, target, failure, audit, rows, shares,"
        " measured, bound, speedup, query, created_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, clock_timestamp())";
    Oid types[] = {TEXTOID,   OIDOID,    JSONBOID,  TEXTARRAYOID,   INT4ARRAYOID, FLOAT8ARRAYOID, TEXTOID,   FLOAT8OID,
                   FLOAT8OID, FLOAT8OID, INT8OID,   FLOAT8ARRAYOID, FLOAT8OID,    FLOAT8OID,      FLOAT8OID, TEXTOID};
    Datum values[lengthof(types)] = {CStringGetTextDatum(new->name), ObjectIdGetDatum(old == NULL ? GetUserId() : old->owner), new->steps,
                                     new->images, new->versions, new->thresholds, CStringGetTextDatum(new->measure),
                                     Float8GetDatum(new->target), Float8GetDatum(new->failure), Float8GetDatum(new->audit),
                                     Int64GetDatum(new->rows), new->shares, Float8GetDatum(new->measured), Float8GetDatum(new->bound),
                                     Float8GetDatum(new->speedup), CStringGetTextDatum(new->query)};
    char nulls[lengthof(types) + 1];
    SlmAs saved;

    memset(nulls, ' ', sizeof nulls);
    nulls[12] = isnan(new->measured) ? 'n' : ' ';
    nulls[14] = isnan(new->speedup) ? 'n' : ' ';
    (void) slm_pg_change_registry("DELETE FROM slm.cascade_registry WHERE name = $1", 1, &new->name);
    if (old == NULL) /* what an owner who was dropped before has left */
        (void) slm_pg_change_registry("DELETE FROM slm.cascade_grant WHERE name = $1", 1, &new->name);
    slm_pg_as_extension(&saved);
    if (SPI_connect() != SPI_OK_CONNECT ||
        SPI_execute_with_args(insert, lengthof(types), types, values, nulls, false, 0) != SPI_OK_INSERT)
        elog(ERROR, "could not write slm.cascade_registry");
    SPI_finish();
    slm_pg_as_end(&saved);
    CommandCounterIncrement();
    slm_pg_forget_roles_of("cascade");
}

/* ---- the functions */

#define NAME_OF "the name of a cascade"

Datum slm_pg_drop_cascade(PG_FUNCTION_ARGS)
{
    const char *name = slm_pg_name_argument(fcinfo, 0, NAME_OF);

    slm_pg_refuse_read_only("slm_drop_cascade()");
    (void) slm_pg_own_cascade(name, false);
    (void) slm_pg_change_registry("DELETE FROM slm.cascade_grant WHERE name = $1", 1, &name);
    (void) slm_pg_change_registry("DELETE FROM slm.cascade_registry WHERE name = $1", 1, &name);
    slm_pg_forget_roles_of("cascade");
    slm_pg_log_change("cascade", name, "dropped");
    PG_RETURN_VOID();
}

static void own(const char *name)
{
    (void) slm_pg_own_cascade(name, false);
}

Datum slm_pg_grant_cascade(PG_FUNCTION_ARGS)
{
    slm_pg_change_grant(fcinfo, "cascade", true, own);
    PG_RETURN_VOID();
}

Datum slm_pg_revoke_cascade(PG_FUNCTION_ARGS)
{
    slm_pg_change_grant(fcinfo, "cascade", false, own);
    PG_RETURN_VOID();
}
