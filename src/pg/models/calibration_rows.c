/*
 * calibration_rows.c: rows of slm.calibration_registry (calibration_rows.h).
 *
 *   key, kind, method, options ──► the newest version whose image the model of its name still has, if the user may use that model
 *
 * What was read is kept while the snapshot and the role are the same (asked.h), so that the rows of a statement look once.  A restored
 * row is hostile: numbers that make no probability are as if they were not there.
 */
#include "pg/models/calibration_rows.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "nodes/pg_list.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "engine/slm.h"
#include "pg/base/as_owner.h"
#include "pg/base/earlier.h"
#include "pg/base/guc.h"
#include "pg/models/asked.h"
#include "pg/models/catalog.h"
#include "pg/models/load.h"
#include "pg/models/registry.h"

PG_FUNCTION_INFO_V1(slm_pg_drop_calibration);

#define MAX_KNOTS 64

enum {
    Anum_model = 1,
    Anum_kind,
    Anum_method,
    Anum_options,
    Anum_version,
    Anum_image,
    Anum_temperature,
    Anum_from,
    Anum_to
};

/* A row that can be applied. */
typedef struct Kept {
    char key[SLM_KEY_SIZE], kind[16], method[16];
    int options, version;
    char model[SLM_NAME_MAX + 1];
    SlmCalibrationRow row;
} Kept;

static MemoryContext kept_context; /* of what follows; NULL: nothing was read */
static List *kept;                 /* of Kept */
static SlmAsked asked_by;

/* ---- reading */

/* The numbers of an array column; NULL: they are none. */
static const double *numbers(HeapTuple tuple, TupleDesc desc, int column, int *n)
{
    bool isnull;
    Datum value = heap_getattr(tuple, column, desc, &isnull);
    ArrayType *array;

    if (isnull)
        return NULL;
    array = DatumGetArrayTypePCopy(value);
    if (ARR_NDIM(array) != 1 || ARR_HASNULL(array) || ARR_ELEMTYPE(array) != FLOAT8OID)
        return NULL;
    *n = ARR_DIMS(array)[0];
    return (const double *) ((const char *) array + ARR_OVERHEAD_NONULLS(1));
}

static bool is_rising(const double *x, int n)
{
    for (int i = 0; i < n; i++)
        if (!(x[i] >= 0 && x[i] <= 1) || (i > 0 && !(x[i] > x[i - 1])))
            return false;
    return true;
}

static bool read_row(HeapTuple tuple, TupleDesc desc, Kept *out)
{
    bool isnull;
    Datum temperature = heap_getattr(tuple, Anum_temperature, desc, &isnull);
    int n_from = 0, n_to = 0;

    if (!isnull) {
        out->row.temperature = DatumGetFloat8(temperature);
        return out->row.temperature >= 0.01 && out->row.temperature <= 100;
    }
    out->row.from = numbers(tuple, desc, Anum_from, &n_from);
    out->row.to = numbers(tuple, desc, Anum_to, &n_to);
    out->row.n = n_from;
    return n_from == n_to && n_from >= 1 && n_from <= MAX_KNOTS && is_rising(out->row.from, n_from) && is_rising(out->row.to, n_to);
}

static void copy_text(char *out, size_t size, HeapTuple tuple, TupleDesc desc, int column)
{
    bool isnull;

    strlcpy(out, TextDatumGetCString(heap_getattr(tuple, column, desc, &isnull)), size);
}

/* Is it the model's image still, and may the user use the model? */
static bool applies(const Kept *k)
{
    const SlmModelRow *model = slm_pg_find_model(k->model);

    return model != NULL && strcmp(model->key, k->key) == 0 && slm_pg_may_use_model(model);
}

static void read_all(Snapshot snapshot)
{
    Relation table = slm_pg_open_extension_table("calibration_registry");
    TupleDesc desc = RelationGetDescr(table);
    SysScanDesc scan = systable_beginscan(table, InvalidOid, false, snapshot, 0, NULL);
    HeapTuple tuple;

    while (HeapTupleIsValid(tuple = systable_getnext(scan))) {
        Kept *k = palloc0(sizeof *k);
        bool isnull;

        copy_text(k->model, sizeof k->model, tuple, desc, Anum_model);
        copy_text(k->kind, sizeof k->kind, tuple, desc, Anum_kind);
        copy_text(k->method, sizeof k->method, tuple, desc, Anum_method);
        copy_text(k->key, sizeof k->key, tuple, desc, Anum_image);
        k->options = DatumGetInt32(heap_getattr(tuple, Anum_options, desc, &isnull));
        k->version = DatumGetInt32(heap_getattr(tuple, Anum_version, desc, &isnull));
        if (read_row(tuple, desc, k))
            kept = lappend(kept, k);
    }
    systable_endscan(scan);
    table_close(table, AccessShareLock);
}

/* Reads the rows anew, unless they are those of this snapshot and role. */
static void look(void)
{
    Snapshot snapshot = GetActiveSnapshot();
    SlmAsked asked = slm_pg_asked_by(snapshot);
    MemoryContext context, old;

    if (kept_context != NULL && memcmp(&asked, &asked_by, sizeof asked) == 0)
        return;
    if (kept_context != NULL)
        MemoryContextDelete(kept_context);
    kept_context = NULL;
    kept = NIL;
    context = AllocSetContextCreate(CurrentMemoryContext, "slm calibrations", ALLOCSET_SMALL_SIZES); /* goes with an error */
    old = MemoryContextSwitchTo(context);
    read_all(snapshot);
    MemoryContextSwitchTo(old);
    MemoryContextSetParent(context, TopMemoryContext);
    kept_context = context;
    asked_by = asked;
}

const SlmCalibrationRow *slm_pg_find_calibration(const char *key, const char *kind, const char *method, int options)
{
    const Kept *best = NULL;
    SlmCalibrationRow *row;
    ListCell *cell;

    if (!slm_guc_enable_calibration)
        return NULL;
    look();
    foreach (cell, kept) {
        const Kept *k = lfirst(cell);

        if (k->options == options && strcmp(k->key, key) == 0 && strcmp(k->kind, kind) == 0 && strcmp(k->method, method) == 0 &&
            (best == NULL || k->version > best->version) && applies(k))
            best = k;
    }
    if (best == NULL)
        return NULL;
    row = palloc(sizeof *row);
    *row = best->row;
    if (row->temperature == 0) {
        Size bytes = sizeof(double) * (Size) row->n;

        row->from = memcpy(palloc(bytes), row->from, bytes);
        row->to = memcpy(palloc(bytes), row->to, bytes);
    }
    return row;
}

/* ---- changing */

static const char *list_of(const double *x, int n)
{
    StringInfoData list;

    if (x == NULL)
        return NULL;
    initStringInfo(&list);
    for (int i = 0; i < n; i++)
        appendStringInfo(&list, "%c%s", i == 0 ? '{' : ',', float8out_internal(x[i]));
    appendStringInfoChar(&list, '}');
    return list.data;
}

static const char *number_text(double x)
{
    return isfinite(x) ? float8out_internal(x) : NULL;
}

/* The versions of a model are counted together, so that a number says which one is newer; ERROR unless it is the user's. */
static void lock_model(const char *model)
{
    slm_pg_lock_name("calibration", model);
    if (slm_pg_owned_model(model)->base[0] != '\0')
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is an adapter", model),
                        errhint("Models are calibrated, not their adapters.")));
}

int slm_pg_store_calibration(const SlmNewCalibration *new)
{
    bool tempered = new->row.temperature != 0;
    const char *values[] = {new->model, new->kind, new->method, psprintf("%d", new->options), new->key,
                            tempered ? float8out_internal(new->row.temperature) : NULL,
                            tempered ? NULL : list_of(new->row.from, new->row.n), tempered ? NULL : list_of(new->row.to, new->row.n),
                            psprintf(INT64_FORMAT, new->rows), number_text(new->figures[0]), number_text(new->figures[1]),
                            number_text(new->figures[2]), number_text(new->figures[3]), number_text(new->figures[4]), new->query};
    bool isnull;
    Datum row;

    lock_model(new->model);
    (void) slm_pg_change_registry("INSERT INTO slm.calibration_registry"
                                  " (model, kind, method, options, version, image, temperature, points_from, points_to, rows, accuracy,"
                                  "  ece_before, ece_after, log_loss_before, log_loss_after, query)"
                                  " SELECT $1, $2, $3, $4::int,"
                                  "        (SELECT coalesce(max(o.version), 0) + 1 FROM slm.calibration_registry o WHERE o.model = $1),"
                                  "        $5, $6::float8, $7::float8[], $8::float8[], $9::bigint, $10::float8, $11::float8, $12::float8,"
                                  "        $13::float8, $14::float8, $15", lengthof(values), values);
    row = slm_pg_registry_row("SELECT o FROM slm.calibration_registry o WHERE o.model = $1 ORDER BY o.version DESC LIMIT 1", new->model);
    return DatumGetInt32(GetAttributeByNum(DatumGetHeapTupleHeader(row), Anum_version, &isnull));
}

void slm_pg_calibrations_dropped(const char *model)
{
    (void) slm_pg_change_registry("DELETE FROM slm.calibration_registry WHERE model = $1", 1, &model);
}

void slm_pg_calibrations_renamed(const char *model, const char *to)
{
    const char *values[2] = {model, to};

    (void) slm_pg_change_registry("UPDATE slm.calibration_registry SET model = $2 WHERE model = $1", 2, values);
}

/* slm_drop_calibration(model, version): one, or all of them */
Datum slm_pg_drop_calibration(PG_FUNCTION_ARGS)
{
    const char *model = slm_pg_name_argument(fcinfo, 0, "the name of a model");
    const char *values[2] = {model, PG_ARGISNULL(1) ? NULL : psprintf("%d", PG_GETARG_INT32(1))};
    uint64 n;

    slm_pg_refuse_read_only("slm_drop_calibration()");
    lock_model(model);
    n = slm_pg_change_registry("DELETE FROM slm.calibration_registry WHERE model = $1 AND ($2 IS NULL OR version = $2::int)", 2, values);
    if (n == 0)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                        values[1] != NULL ? errmsg("model \"%s\" has no calibration %s", model, values[1])
                                          : errmsg("model \"%s\" has no calibration", model),
                        errhint("The view slm.calibrations lists them; slm_calibrate() makes one.")));
    PG_RETURN_VOID();
}
