/*
 * classifier_rows.c: rows of slm.classifier_registry and slm.classifier_grant, and the SQL functions that change them.
 *
 * Rows are read by a scan that needs no privilege, as those of slm.model_registry are, and written as the extension, after the checks here.
 * A name belongs to the owner of its versions, whoever writes a row: no version is added, activated or removed for another role.
 *
 * Names, owners, grants and locks are those of registry.h.
 */
#include "pg/models/classifier_rows.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "engine/slm.h"
#include "pg/base/as_owner.h"
#include "pg/base/compat.h"
#include "pg/base/earlier.h"
#include "pg/base/nearest.h"
#include "pg/models/catalog.h"
#include "pg/models/load.h"
#include "pg/models/registry.h"
#include "pg/models/uses.h"

PG_FUNCTION_INFO_V1(slm_pg_restore_classifier);
PG_FUNCTION_INFO_V1(slm_pg_drop_classifier);
PG_FUNCTION_INFO_V1(slm_pg_rename_classifier);
PG_FUNCTION_INFO_V1(slm_pg_set_classifier_owner);
PG_FUNCTION_INFO_V1(slm_pg_grant_classifier);
PG_FUNCTION_INFO_V1(slm_pg_revoke_classifier);

/* ---- reading */

static SlmVersion *read_version(HeapTuple tuple, TupleDesc desc)
{
    SlmVersion *v = palloc0(sizeof *v);
    bool isnull;

    strlcpy(v->name, TextDatumGetCString(heap_getattr(tuple, Anum_slm_classifier_name, desc, &isnull)), sizeof v->name);
    v->version = DatumGetInt32(heap_getattr(tuple, Anum_slm_classifier_version, desc, &isnull));
    v->active = DatumGetBool(heap_getattr(tuple, Anum_slm_classifier_active, desc, &isnull));
    v->by_names = DatumGetBool(heap_getattr(tuple, Anum_slm_classifier_by_names, desc, &isnull));
    v->owner = DatumGetObjectId(heap_getattr(tuple, Anum_slm_classifier_owner, desc, &isnull));
    strlcpy(v->key, TextDatumGetCString(heap_getattr(tuple, Anum_slm_classifier_image, desc, &isnull)), sizeof v->key);
    v->tuple = heap_copytuple(tuple);
    v->desc = desc;
    return v;
}

static int by_version(const ListCell *a, const ListCell *b)
{
    const SlmVersion *x = lfirst(a), *y = lfirst(b);
    int order = strcmp(x->name, y->name);

    return order != 0 ? order : (x->version > y->version) - (x->version < y->version);
}

List *slm_pg_versions(const char *name, Snapshot snapshot)
{
    Relation table = slm_pg_open_extension_table("classifier_registry");
    TupleDesc desc = CreateTupleDescCopy(RelationGetDescr(table));
    SysScanDesc scan = systable_beginscan(table, InvalidOid, false, snapshot, 0, NULL);
    List *result = NIL;
    HeapTuple tuple;

    while (HeapTupleIsValid(tuple = systable_getnext(scan))) {
        bool isnull;
        const text *its = DatumGetTextPP(heap_getattr(tuple, Anum_slm_classifier_name, desc, &isnull));

        if (name == NULL || ((size_t) VARSIZE_ANY_EXHDR(its) == strlen(name) && memcmp(VARDATA_ANY(its), name, strlen(name)) == 0))
            result = lappend(result, read_version(tuple, desc));
    }
    systable_endscan(scan);
    table_close(table, AccessShareLock);
    list_sort(result, by_version);
    return result;
}

struct varlena *slm_pg_version_value(const SlmVersion *version, int column)
{
    bool isnull;
    Datum value = heap_getattr(version->tuple, column, version->desc, &isnull);

    return isnull ? NULL : PG_DETOAST_DATUM_COPY(value);
}

SlmVersion *slm_pg_active_version(const List *versions)
{
    ListCell *cell;

    foreach (cell, versions)
        if (((SlmVersion *) lfirst(cell))->active)
            return lfirst(cell);
    return NULL;
}

/* ---- privileges */

bool slm_pg_may_use_classifier(const char *name, Oid owner, Snapshot snapshot)
{
    return slm_pg_owns(owner) || (slm_pg_role_exists(owner) && slm_pg_granted("classifier", name, snapshot));
}

void slm_pg_unknown_classifier(const char *name, Snapshot snapshot)
{
    SlmNearest nearest;
    ListCell *cell;

    slm_pg_nearest_begin(&nearest, name);
    foreach (cell, slm_pg_versions(NULL, snapshot)) {
        const SlmVersion *v = lfirst(cell);

        if (slm_pg_may_use_classifier(v->name, v->owner, snapshot))
            slm_pg_nearest_try(&nearest, v->name);
    }
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("classifier \"%s\" does not exist", name),
                    errhint("%sThe view slm.classifiers lists them; slm_train_classifier() trains one.",
                            slm_pg_did_you_mean(&nearest))));
    pg_unreachable();
}

/* ---- changing */

List *slm_pg_own_classifier(const char *name, bool missing_ok)
{
    List *versions;
    ListCell *cell;

    slm_pg_lock_name("classifier", name);
    versions = slm_pg_versions(name, NULL);
    if (versions == NIL && !missing_ok)
        slm_pg_unknown_classifier(name, NULL);
    foreach (cell, versions) {
        const SlmVersion *v = lfirst(cell);

        if (!slm_pg_owns(v->owner))
            ereport(ERROR,
                    (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be owner of classifier \"%s\"", name),
                     slm_pg_role_exists(v->owner)
                         ? errhint("Its owner is \"%s\".", GetUserNameFromId(v->owner, true))
                         : errhint("Its owner was dropped. A superuser can run: SELECT slm_set_classifier_owner('%s', %s);", name,
                                   quote_literal_cstr(GetUserNameFromId(GetUserId(), true)))));
    }
    return versions;
}

/* Makes `version` (0: none) the active one of a name that slm_pg_own_classifier locked. */
static void activate_version(const char *name, int32 version)
{
    const char *values[2] = {name, psprintf("%d", version)};

    (void) slm_pg_change_registry("UPDATE slm.classifier_registry SET active = false WHERE name = $1 AND active", 1, values);
    (void) slm_pg_change_registry("UPDATE slm.classifier_registry SET active = true WHERE name = $1 AND version = $2::int", 2, values);
}

int32 slm_pg_next_version(const List *versions)
{
    return versions == NIL ? 1 : ((SlmVersion *) llast(versions))->version + 1;
}

int32 slm_pg_store_version(const SlmNewVersion *new, const List *versions, bool active)
{
    static const char *const insert =
        "INSERT INTO slm.classifier_registry (name, version, active, owner, image, labels, training_rows, accuracy, macro_f1, log_loss,"
        " ece, temperature, l2, confusion, options, query, by_names, seconds, trained_at, blob, trials, trial_rows,"
        " plain_accuracy, tuned_accuracy)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, clock_timestamp(), $19, $20,"
        " $21, $22, $23)";
    Oid types[] = {TEXTOID,   INT4OID,   BOOLOID,   OIDOID,    TEXTOID,      TEXTARRAYOID, INT8OID, FLOAT8OID, FLOAT8OID, FLOAT8OID,
                   FLOAT8OID, FLOAT8OID, FLOAT8OID, INT4ARRAYOID, JSONBOID, TEXTOID,      BOOLOID, FLOAT8OID, BYTEAOID,
                   BYTEAARRAYOID, BYTEAOID, FLOAT8OID, FLOAT8OID};
    const slm_train_report *report = new->report;
    int32 version = slm_pg_next_version(versions);
    Oid owner = versions == NIL ? GetUserId() : ((SlmVersion *) linitial(versions))->owner;
    double figures[6] = {report->accuracy, report->macro_f1, report->log_loss, report->ece, (double) report->temperature,
                         (double) report->l2};
    char nulls[lengthof(types) + 1];
    Datum values[lengthof(types)] = {
        CStringGetTextDatum(new->name), Int32GetDatum(version), BoolGetDatum(active), ObjectIdGetDatum(owner),
        CStringGetTextDatum(new->key),  new->labels,            Int64GetDatum((int64) report->n_rows)};
    SlmAs saved;

    memset(nulls, ' ', sizeof nulls);
    if (version < 1)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("classifier \"%s\" has no version numbers left", new->name),
                        errhint("Train it under another name.")));
    for (int i = 0; i < (int) lengthof(figures); i++) {
        values[7 + i] = Float8GetDatum(figures[i]);
        nulls[7 + i] = isnan(figures[i]) ? 'n' : ' ';
    }
    values[13] = new->confusion;
    nulls[13] = new->confusion == (Datum) 0 ? 'n' : ' ';
    values[14] = JsonbPGetDatum(new->options);
    values[15] = CStringGetTextDatum(new->query);
    values[16] = BoolGetDatum(new->by_names);
    values[17] = Float8GetDatum(new->seconds);
    values[18] = PointerGetDatum(new->blob);
    values[19] = new->trials;
    values[20] = new->trial_rows;
    nulls[19] = nulls[20] = new->trial_rows == (Datum) 0 ? 'n' : ' ';
    values[21] = Float8GetDatum(new->plain_accuracy);
    values[22] = Float8GetDatum(new->tuned_accuracy);
    nulls[21] = isnan(new->plain_accuracy) ? 'n' : ' ';
    nulls[22] = isnan(new->tuned_accuracy) ? 'n' : ' ';
    if (versions == NIL) /* what an owner who was dropped before has left */
        (void) slm_pg_change_registry("DELETE FROM slm.classifier_grant WHERE name = $1", 1, &new->name);
    if (active)
        activate_version(new->name, 0);
    slm_pg_as_extension(&saved);
    if (SPI_connect() != SPI_OK_CONNECT ||
        SPI_execute_with_args(insert, lengthof(types), types, values, nulls, false, 0) != SPI_OK_INSERT)
        elog(ERROR, "could not write slm.classifier_registry");
    SPI_finish();
    slm_pg_as_end(&saved);
    CommandCounterIncrement();
    slm_pg_forget_roles_of("classifier");
    slm_pg_log_change("classifier", new->name, psprintf(active ? "trained to version %d" : "trained to version %d, not in use,", version));
    return version;
}

void slm_pg_say_stale_jobs(const char *name, int32 version)
{
    static const char *const query = "SELECT d.name FROM slm.job_definition d WHERE pg_has_role($3, d.owner::oid, 'USAGE')"
                                     "   AND EXISTS (SELECT FROM slm.job_done s, unnest(s.models) m WHERE s.job_id = d.id"
                                     "               AND split_part(m, '@', 1) = $1 AND split_part(m, '@', 2) <> $2)"
                                     " ORDER BY d.name";
    Oid types[3] = {TEXTOID, TEXTOID, OIDOID};
    Datum values[3] = {CStringGetTextDatum(name), CStringGetTextDatum(psprintf("%d", version)), ObjectIdGetDatum(GetUserId())};
    MemoryContext keep = CurrentMemoryContext;
    List *jobs = NIL;
    ListCell *cell;
    SlmAs saved;

    slm_pg_as_extension(&saved);
    if (SPI_connect() != SPI_OK_CONNECT || SPI_execute_with_args(query, 3, types, values, NULL, false, 0) != SPI_OK_SELECT)
        elog(ERROR, "could not read slm.job_definition");
    for (uint64 i = 0; i < SPI_processed; i++) {
        char *job = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
        MemoryContext old = MemoryContextSwitchTo(keep);

        jobs = lappend(jobs, pstrdup(job));
        MemoryContextSwitchTo(old);
    }
    SPI_finish();
    slm_pg_as_end(&saved);
    foreach (cell, jobs)
        ereport(NOTICE, (errmsg("rows of job \"%s\" were computed with another version of classifier \"%s\"", (char *) lfirst(cell), name),
                         errhint("They stay as they are. To compute them again: SELECT slm_alter_job(%s);",
                                 quote_literal_cstr(lfirst(cell)))));
}

void slm_pg_remove_classifier(const char *name)
{
    (void) slm_pg_change_registry("DELETE FROM slm.classifier_grant WHERE name = $1", 1, &name);
    (void) slm_pg_change_registry("DELETE FROM slm.classifier_registry WHERE name = $1", 1, &name);
    slm_pg_forget_roles_of("classifier");
    slm_pg_log_change("classifier", name, "dropped");
}

/* ---- the functions */

#define NAME_OF "the name of a classifier"

Datum slm_pg_restore_classifier(PG_FUNCTION_ARGS)
{
    const char *name = slm_pg_name_argument(fcinfo, 0, NAME_OF);
    int32 version;
    List *versions;
    ListCell *cell;

    slm_pg_refuse_read_only("slm_restore_classifier()");
    if (PG_ARGISNULL(1))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the version of a classifier must not be null")));
    version = PG_GETARG_INT32(1);
    versions = slm_pg_own_classifier(name, false);
    foreach (cell, versions) {
        if (((SlmVersion *) lfirst(cell))->version != version)
            continue;
        activate_version(name, version);
        slm_pg_forget_roles_of("classifier");
        slm_pg_log_change("classifier", name, psprintf("restored to version %d", version));
        slm_pg_say_stale_jobs(name, version);
        PG_RETURN_VOID();
    }
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("classifier \"%s\" has no version %d", name, version),
                    errhint("Its versions are %d to %d; the view slm.classifiers lists them.", ((SlmVersion *) linitial(versions))->version,
                            ((SlmVersion *) llast(versions))->version)));
    PG_RETURN_VOID();
}

Datum slm_pg_drop_classifier(PG_FUNCTION_ARGS)
{
    const char *name = slm_pg_name_argument(fcinfo, 0, NAME_OF);

    slm_pg_refuse_read_only("slm_drop_classifier()");
    (void) slm_pg_own_classifier(name, false);
    slm_pg_refuse_in_use(SLM_CLASSIFIER, name, "drop",
                         psprintf("SELECT slm_drop_classifier(%s, cascade => true);", quote_literal_cstr(name)),
                         !PG_ARGISNULL(1) && PG_GETARG_BOOL(1));
    slm_pg_remove_classifier(name);
    PG_RETURN_VOID();
}

Datum slm_pg_rename_classifier(PG_FUNCTION_ARGS)
{
    const char *values[2] = {slm_pg_name_argument(fcinfo, 0, NAME_OF), slm_pg_name_argument(fcinfo, 1, "the new name of a classifier")};

    slm_pg_refuse_read_only("slm_rename_classifier()");
    slm_pg_check_name("classifier", values[1]);
    (void) slm_pg_own_classifier(values[0], false);
    slm_pg_lock_name("classifier", values[1]);
    if (slm_pg_versions(values[1], NULL) != NIL)
        ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT), errmsg("classifier \"%s\" already exists", values[1]),
                        errhint("Choose another name.")));
    slm_pg_refuse_in_use(SLM_CLASSIFIER, values[0], "rename",
                         psprintf("SELECT slm_rename_classifier(%s, %s, cascade => true);", quote_literal_cstr(values[0]),
                                  quote_literal_cstr(values[1])), !PG_ARGISNULL(2) && PG_GETARG_BOOL(2));
    (void) slm_pg_change_registry("UPDATE slm.classifier_registry SET name = $2 WHERE name = $1", 2, values);
    (void) slm_pg_change_registry("UPDATE slm.classifier_grant SET name = $2 WHERE name = $1", 2, values);
    slm_pg_forget_roles_of("classifier");
    slm_pg_log_change("classifier", values[0], psprintf("renamed to \"%s\"", values[1]));
    PG_RETURN_VOID();
}

Datum slm_pg_set_classifier_owner(PG_FUNCTION_ARGS)
{
    const char *name = slm_pg_name_argument(fcinfo, 0, NAME_OF);
    Oid role = get_role_oid(slm_pg_name_argument(fcinfo, 1, "the name of a role"), false);
    const char *values[2] = {name, psprintf("%u", role)};

    slm_pg_refuse_read_only("slm_set_classifier_owner()");
    (void) slm_pg_own_classifier(name, false);
    if (!slm_pg_may_become(GetUserId(), role))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("must be a member of role \"%s\" to give it a classifier", GetUserNameFromId(role, true))));
    (void) slm_pg_change_registry("UPDATE slm.classifier_registry SET owner = $2::oid WHERE name = $1", 2, values);
    slm_pg_forget_roles_of("classifier");
    slm_pg_log_change("classifier", name, psprintf("given to \"%s\"", GetUserNameFromId(role, false)));
    PG_RETURN_VOID();
}

static void own(const char *name)
{
    (void) slm_pg_own_classifier(name, false);
}

Datum slm_pg_grant_classifier(PG_FUNCTION_ARGS)
{
    slm_pg_change_grant(fcinfo, "classifier", true, own);
    PG_RETURN_VOID();
}

Datum slm_pg_revoke_classifier(PG_FUNCTION_ARGS)
{
    slm_pg_change_grant(fcinfo, "classifier", false, own);
    PG_RETURN_VOID();
}
