/*
 * as_owner.c: acting as another role, and finding what belongs to the extension; see as_owner.h.
 */
#include "pg/base/as_owner.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

#include "pg/base/compat.h"

char *slm_pg_current_path(void)
{
    StringInfoData path;
    ListCell *cell;

    initStringInfo(&path);
    foreach (cell, fetch_search_path(true))
        if (!isAnyTempNamespace(lfirst_oid(cell)))
            appendStringInfo(&path, "%s, ", quote_identifier(get_namespace_name(lfirst_oid(cell))));
    appendStringInfoString(&path, "pg_temp");
    return path.data;
}

void slm_pg_as(SlmAs *saved, Oid role, const char *search_path)
{
    GetUserIdAndSecContext(&saved->user, &saved->security);
    SetUserIdAndSecContext(role, saved->security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
    saved->level = NewGUCNestLevel();
    (void) set_config_option("search_path", search_path, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

void slm_pg_as_extension(SlmAs *saved)
{
    Oid owner = slm_pg_extension_owner();

    if (!OidIsValid(owner))
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("the extension slm_pg is not installed in this database"),
                        errhint("Run CREATE EXTENSION slm_pg in this database.")));
    slm_pg_as(saved, owner, SLM_SAFE_PATH);
}

void slm_pg_as_end(const SlmAs *saved)
{
    AtEOXact_GUC(false, saved->level);
    SetUserIdAndSecContext(saved->user, saved->security);
}

bool slm_pg_may_become(Oid member, Oid role)
{
    return member == role || SLM_CAN_SET_ROLE(member, role);
}

Oid slm_pg_extension_relation(const char *name)
{
    Oid extension = get_extension_oid("slm_pg", true), schema = get_namespace_oid("slm", true), relation;

    if (!OidIsValid(extension) || !OidIsValid(schema))
        return InvalidOid;
    relation = get_relname_relid(name, schema);
    if (!OidIsValid(relation) || getExtensionOfObject(RelationRelationId, relation) != extension)
        return InvalidOid;
    return relation;
}

Oid slm_pg_extension_owner(void)
{
    Oid extension = get_extension_oid("slm_pg", true), owner = InvalidOid;
    Relation catalog;
    ScanKeyData key;
    SysScanDesc scan;
    HeapTuple tuple;

    if (!OidIsValid(extension))
        return InvalidOid;
    catalog = table_open(ExtensionRelationId, AccessShareLock);
    ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(extension));
    scan = systable_beginscan(catalog, ExtensionOidIndexId, true, NULL, 1, &key);
    tuple = systable_getnext(scan);
    if (HeapTupleIsValid(tuple))
        owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
    systable_endscan(scan);
    table_close(catalog, AccessShareLock);
    return owner;
}
