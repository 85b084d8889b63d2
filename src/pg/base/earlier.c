/*
 * earlier.c: databases whose extension is of an earlier release than the library (earlier.h).
 *
 *   new library ──► earlier release's functions, tables, triggers: refused, nothing is read or written ──► ALTER EXTENSION slm_pg UPDATE
 *
 * The script of an earlier release can still be run, by CREATE EXTENSION ... VERSION or by a dump of a database that was not updated, so
 * every symbol that it names is in the library.
 *
 * Invariant: no code of this library runs that was called through an earlier declaration, which may have fewer arguments, other columns of
 * a result and tables of another shape.
 */
#include "postgres.h"

#include "pg/base/earlier.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

/* Releases that are not served. */
static const char *const earlier[] = {"0.1.0"};

/* The version of the extension in this database; NULL when it is not there. */
static char *installed_version(void)
{
    Relation catalog = table_open(ExtensionRelationId, AccessShareLock);
    char *version = NULL;
    ScanKeyData key;
    SysScanDesc scan;
    HeapTuple tuple;

    ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum("slm_pg"));
    scan = systable_beginscan(catalog, ExtensionNameIndexId, true, NULL, 1, &key);
    tuple = systable_getnext(scan);
    if (HeapTupleIsValid(tuple)) {
        bool isnull;
        Datum value = heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(catalog), &isnull);

        version = isnull ? NULL : TextDatumGetCString(value);
    }
    systable_endscan(scan);
    table_close(catalog, AccessShareLock);
    return version;
}

static bool is_earlier(const char *version)
{
    for (size_t i = 0; version != NULL && i < lengthof(earlier); i++)
        if (strcmp(version, earlier[i]) == 0)
            return true;
    return false;
}

bool slm_pg_extension_is_earlier(void)
{
    return is_earlier(installed_version());
}

const Pg_finfo_record *slm_pg_function_record(void)
{
    static const Pg_finfo_record record = {1};
    const char *version;

    if (creating_extension)
        return &record;
    version = installed_version();
    if (is_earlier(version))
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("the extension slm_pg of this database is version %s, its library is version %s", version, SLM_VERSION),
                        errhint("Run ALTER EXTENSION slm_pg UPDATE; in every database that has the extension.")));
    return &record;
}

/* ---- symbols that only scripts of earlier releases name */

#define GONE(symbol)                                   \
    PG_FUNCTION_INFO_V1(symbol);                       \
    Datum symbol(PG_FUNCTION_ARGS)                     \
    {                                                  \
        elog(ERROR, "%s is no function of this release", #symbol); \
    }

GONE(slm_pg_classifiers_touch)
GONE(slm_pg_classify_trained)
GONE(slm_pg_classify_vector)
GONE(slm_pg_embed_array)
GONE(slm_pg_job_check_models)
GONE(slm_pg_job_claim_rows)
GONE(slm_pg_job_key_expression)
GONE(slm_pg_job_run_batch)
GONE(slm_pg_job_wake)
GONE(slm_pg_trained_scores)
GONE(slm_pg_vector_scores)
