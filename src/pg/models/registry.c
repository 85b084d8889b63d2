/*
 * registry.c: what the registries of names that roles own have in common (registry.h).
 */
#include "pg/models/registry.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "pg/base/as_owner.h"
#include "pg/base/compat.h"
#include "pg/models/load.h"

enum { Anum_slm_grant_name = 1, Anum_slm_grant_role = 2 };

Relation slm_pg_open_extension_table(const char *name)
{
    Oid table = slm_pg_extension_relation(name);

    if (!OidIsValid(table))
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("table slm.%s does not exist", name),
                        errhint("Run CREATE EXTENSION slm_pg in this database.")));
    return table_open(table, AccessShareLock);
}

/* ---- privileges */

bool slm_pg_role_exists(Oid role)
{
    return OidIsValid(role) && SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role));
}

bool slm_pg_owns(Oid owner)
{
    return superuser() || (slm_pg_role_exists(owner) && has_privs_of_role(GetUserId(), owner));
}

bool slm_pg_granted(const char *what, const char *name, Snapshot snapshot)
{
    Relation table = slm_pg_open_extension_table(psprintf("%s_grant", what));
    SysScanDesc scan = systable_beginscan(table, InvalidOid, false, snapshot, 0, NULL);
    bool result = false;
    HeapTuple tuple;

    while (!result && HeapTupleIsValid(tuple = systable_getnext(scan))) {
        bool isnull;
        char *its = TextDatumGetCString(heap_getattr(tuple, Anum_slm_grant_name, RelationGetDescr(table), &isnull));
        Oid role = DatumGetObjectId(heap_getattr(tuple, Anum_slm_grant_role, RelationGetDescr(table), &isnull));

        result = strcmp(its, name) == 0 && (!OidIsValid(role) || (slm_pg_role_exists(role) && has_privs_of_role(GetUserId(), role)));
        pfree(its);
    }
    systable_endscan(scan);
    table_close(table, AccessShareLock);
    return result;
}

/* ---- changing */

void slm_pg_lock_name(const char *what, const char *name)
{
    Oid table = slm_pg_extension_relation(psprintf("%s_registry", what));

    LockDatabaseObject(table, DatumGetUInt32(hash_any((const unsigned char *) name, (int) strlen(name))), 0, ExclusiveLock);
}

void slm_pg_log_change(const char *what, const char *name, const char *done)
{
    ereport(LOG, (errmsg("slm_pg: %s \"%s\" %s by role \"%s\"", what, name, done, GetUserNameFromId(GetUserId(), false)),
                  errhidestmt(true), errhidecontext(true)));
}

void slm_pg_forget_roles_of(const char *what)
{
    (void) slm_pg_change_registry(psprintf("UPDATE slm.%s_registry SET owner = 0"
                                           " WHERE owner <> 0 AND NOT EXISTS (SELECT FROM pg_roles a WHERE a.oid = owner)", what), 0, NULL);
    (void) slm_pg_change_registry(psprintf("DELETE FROM slm.%s_grant"
                                           " WHERE role <> 0 AND NOT EXISTS (SELECT FROM pg_roles a WHERE a.oid = role)", what), 0, NULL);
}

const char *slm_pg_role_number(const char *role)
{
    return psprintf("%u", pg_strcasecmp(role, "public") == 0 ? InvalidOid : get_role_oid(role, false));
}

void slm_pg_change_grant(FunctionCallInfo fcinfo, const char *what, bool grant, void (*own)(const char *name))
{
    const char *name = slm_pg_name_argument(fcinfo, 0, psprintf("the name of a %s", what));
    const char *values[2] = {name, slm_pg_role_number(slm_pg_name_argument(fcinfo, 1, "the name of a role"))};

    slm_pg_refuse_read_only(psprintf("slm_%s_%s()", grant ? "grant" : "revoke", what));
    own(name);
    (void) slm_pg_change_registry(psprintf(grant ? "INSERT INTO slm.%s_grant (name, role) VALUES ($1, $2::oid) ON CONFLICT DO NOTHING"
                                                 : "DELETE FROM slm.%s_grant WHERE name = $1 AND role = $2::oid", what), 2, values);
    slm_pg_forget_roles_of(what);
    slm_pg_log_change(what, name, psprintf(grant ? "granted to \"%s\"" : "revoked from \"%s\"", slm_pg_name_argument(fcinfo, 1, "role")));
}
