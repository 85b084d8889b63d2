/*
 * roles.c: whose a model is, who may use it, and who may load one: slm_grant_model, slm_revoke_model, slm_set_model_owner.
 *
 * An owner, or a role with a grant, that was dropped is a number which another cluster (by a dump), or this one after four billion others,
 * may give to another role.  So such a model is the superusers' alone from that moment on, and the next change of any model forgets the
 * number: the owner becomes '-', grants of and on it are gone.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_proc.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "pg/base/as_owner.h"
#include "pg/base/earlier.h"
#include "pg/models/catalog.h"
#include "pg/models/load.h"
#include "pg/models/registry.h"

PG_FUNCTION_INFO_V1(slm_pg_grant_model);
PG_FUNCTION_INFO_V1(slm_pg_revoke_model);
PG_FUNCTION_INFO_V1(slm_pg_set_model_owner);

/* ---- loading */

/* Was EXECUTE granted to a role of the user, other than PUBLIC?  PUBLIC may call the functions that load, to be told what they need. */
static bool may_execute(Oid function)
{
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    bool isnull = true, result = superuser();
    Datum value = HeapTupleIsValid(tuple) ? SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_proacl, &isnull) : (Datum) 0;
    Acl *acl = isnull ? NULL : DatumGetAclP(value);

    for (int i = 0; acl != NULL && i < ACL_NUM(acl); i++) {
        const AclItem *item = (const AclItem *) ((const char *) acl + ARR_OVERHEAD_NONULLS(1)) + i;

        result = result || (item->ai_grantee != ACL_ID_PUBLIC && (ACLITEM_GET_PRIVS(*item) & ACL_EXECUTE) != 0 &&
                            has_privs_of_role(GetUserId(), item->ai_grantee));
    }
    if (HeapTupleIsValid(tuple))
        ReleaseSysCache(tuple);
    return result;
}

void slm_pg_check_may_load(FunctionCallInfo fcinfo, const char *what, bool reads_files)
{
    slm_pg_check_may_load_by(fcinfo->flinfo->fn_oid, what, reads_files);
}

void slm_pg_check_may_load_by(Oid function, const char *what, bool reads_files)
{
    const char *user = quote_identifier(GetUserNameFromId(GetUserId(), false)), *member = "", *grant = "";

    if (reads_files && !has_privs_of_role(GetUserId(), ROLE_PG_READ_SERVER_FILES))
        member = psprintf(" GRANT pg_read_server_files TO %s;", user);
    if (!may_execute(function))
        grant = psprintf(" GRANT EXECUTE ON FUNCTION %s TO %s;", format_procedure(function), user);
    if (member[0] != '\0' || grant[0] != '\0')
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied to %s", what),
                        errhint("A superuser can do it, or run:%s%s", member, grant)));
}

/* ---- owners and grants */

void slm_pg_forget_dropped_roles(void)
{
    (void) slm_pg_change_registry("UPDATE slm.model_registry SET owner = 0"
                                  " WHERE owner <> 0 AND NOT EXISTS (SELECT FROM pg_roles a WHERE a.oid = owner)", 0, NULL);
    (void) slm_pg_change_registry("DELETE FROM slm.model_grant"
                                  " WHERE name IN (SELECT m.name FROM slm.model_registry m WHERE m.owner = 0)"
                                  " OR role <> 0 AND NOT EXISTS (SELECT FROM pg_roles a WHERE a.oid = role)", 0, NULL);
}

/* A superuser grants what no owner can grant any more: it is his from now on. */
static void take_over(const char *name)
{
    const char *values[2] = {name, psprintf("%u", GetUserId())};

    if (slm_pg_change_registry("UPDATE slm.model_registry SET owner = $2::oid::regrole WHERE name = $1 AND owner = 0", 2, values) > 0)
        ereport(NOTICE, (errmsg("the owner of \"%s\" was dropped: you own it now", name),
                         errhint("To give it to another role: SELECT slm_set_model_owner('%s', 'role');", name)));
}

/* done: to be followed by the role */
static const char *change_roles(FunctionCallInfo fcinfo, const char *function, const char *done, const char *sql)
{
    const char *name = slm_pg_name_argument(fcinfo, 0, "the name of a model");
    const char *role = slm_pg_name_argument(fcinfo, 1, "the name of a role");
    const char *values[2];

    slm_pg_refuse_read_only(function);
    (void) slm_pg_owned_model(name);
    values[0] = name;
    values[1] = slm_pg_role_number(role);
    slm_pg_forget_dropped_roles();
    (void) slm_pg_change_registry(sql, 2, values);
    slm_pg_log_change("model", name, psprintf("%s \"%s\"", done, role));
    return name;
}

Datum slm_pg_grant_model(PG_FUNCTION_ARGS)
{
    take_over(change_roles(fcinfo, "slm_grant_model()", "granted to",
                           "INSERT INTO slm.model_grant SELECT name, $2::oid::regrole FROM slm.model_registry WHERE name = $1"
                           " ON CONFLICT DO NOTHING"));
    PG_RETURN_VOID();
}

Datum slm_pg_revoke_model(PG_FUNCTION_ARGS)
{
    (void) change_roles(fcinfo, "slm_revoke_model()", "revoked from",
                        "DELETE FROM slm.model_grant WHERE name = $1 AND role = $2::oid");
    PG_RETURN_VOID();
}

Datum slm_pg_set_model_owner(PG_FUNCTION_ARGS)
{
    const char *name = slm_pg_name_argument(fcinfo, 0, "the name of a model");
    const char *role = slm_pg_name_argument(fcinfo, 1, "the name of a role");
    const char *values[2];
    Oid owner;

    slm_pg_refuse_read_only("slm_set_model_owner()");
    (void) slm_pg_owned_model(name);
    owner = get_role_oid(role, false);
    if (!slm_pg_may_become(GetUserId(), owner))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be member of role \"%s\"", role),
                        errhint("A model can be given to a role that you could become by SET ROLE; a superuser can give it to any.")));
    slm_pg_forget_dropped_roles();
    values[0] = name;
    values[1] = psprintf("%u", owner);
    if (slm_pg_change_registry("UPDATE slm.model_registry SET owner = $2::oid::regrole WHERE name = $1", 2, values) == 0)
        slm_pg_unknown_model(name);
    slm_pg_log_change("model", name, psprintf("given to \"%s\"", role));
    PG_RETURN_VOID();
}
