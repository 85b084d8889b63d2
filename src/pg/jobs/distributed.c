/*
 * distributed.c: tables that Citus has distributed are known by its catalog pg_dist_partition; their rows are not in this server, and Citus
 * takes no triggers on them.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/pg_namespace.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "pg/jobs/check.h"

static bool is_distributed(Oid table)
{
    Oid catalog = get_relname_relid("pg_dist_partition", PG_CATALOG_NAMESPACE);
    AttrNumber relation = OidIsValid(catalog) ? get_attnum(catalog, "logicalrelid") : InvalidAttrNumber;
    Relation rel;
    SysScanDesc scan;
    ScanKeyData key;
    bool found;

    if (relation == InvalidAttrNumber)
        return false;
    rel = table_open(catalog, AccessShareLock);
    ScanKeyInit(&key, relation, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(table));
    scan = systable_beginscan(rel, InvalidOid, false, NULL, 1, &key);
    found = HeapTupleIsValid(systable_getnext(scan));
    systable_endscan(scan);
    table_close(rel, AccessShareLock);
    return found;
}

void slm_pg_refuse_distributed(Oid table, const char *name)
{
    if (is_distributed(table))
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("%s is distributed by Citus", name),
                        errhint("Its rows are computed on the nodes that have them: UPDATE it with slm_classify_pinned() or "
                                "slm_embed_pinned(), or make the column GENERATED ALWAYS AS such a call.")));
}
