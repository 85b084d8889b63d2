/*
 * ledger_view.c: what slm.usage is made of, and slm_reset_usage.
 *
 * A role sees the rows of the roles whose rights it has; pg_read_all_stats, and so pg_monitor, sees all, and alone those that were folded
 * and belong to nobody any more.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/tuplestore.h"

#include "pg/base/earlier.h"
#include "pg/run/accounts.h"
#include "pg/run/ledger.h"
#include "pg/run/ledger_file.h"

PG_FUNCTION_INFO_V1(slm_pg_usage_rows);
PG_FUNCTION_INFO_V1(slm_pg_reset_usage);

#define N_KEYS 6

typedef struct Rows {
    SlmLedgerRow *rows; /* [room] */
    int n, room;
} Rows;

/* Rows that came after the room was made are left for the next look. */
static void copy_row(void *arg, const SlmLedgerKey *key, const SlmLedgerFigures *figures)
{
    Rows *r = arg;

    if (r->n < r->room)
        r->rows[r->n++] = (SlmLedgerRow){*key, *figures};
}

static bool may_see(Oid role)
{
    if (OidIsValid(role) && has_privs_of_role(GetUserId(), role))
        return true;
    return has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
}

/* Names come from databases of any encoding, and from a file: what is no text here is shown byte by byte. */
static Datum shown(const char *name)
{
    StringInfoData out;

    if (pg_verifymbstr(name, (int) strlen(name), true))
        return CStringGetTextDatum(name);
    initStringInfo(&out);
    for (; *name != '\0'; name++)
        if (IS_HIGHBIT_SET(*name))
            appendStringInfo(&out, "\\x%02x", (unsigned char) *name);
        else
            appendStringInfoChar(&out, *name);
    return CStringGetTextDatum(out.data);
}

static void put_row(ReturnSetInfo *result, const SlmLedgerRow *row)
{
    const SlmLedgerKey *key = &row->key;
    const uint64 *figures = (const uint64 *) &row->figures;
    Datum values[N_KEYS + SLM_LEDGER_N_FIGURES] = {DateADTGetDatum(key->day), ObjectIdGetDatum(key->role), ObjectIdGetDatum(key->database)};
    bool nulls[N_KEYS + SLM_LEDGER_N_FIGURES] = {false, !OidIsValid(key->role), !OidIsValid(key->database)};

    values[3] = shown(key->application);
    values[4] = shown(key->function);
    values[5] = shown(key->model);
    for (size_t i = 0; i < SLM_LEDGER_N_FIGURES; i++)
        values[N_KEYS + i] = Int64GetDatum((int64) figures[i]);
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

Datum slm_pg_usage_rows(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
    Rows r = {0};

    InitMaterializedSRF(fcinfo, 0);
    if (!slm_pg_ledger_shared())
        ereport(NOTICE, (errmsg("usage is that of this session alone"),
                         errhint("With slm_pg in shared_preload_libraries all sessions are counted, and kept over restarts.")));
    slm_pg_accounts_flush(true);
    r.room = slm_pg_ledger_rows();
    r.rows = MemoryContextAllocHuge(CurrentMemoryContext, sizeof *r.rows * (Size) Max(r.room, 1));
    slm_pg_ledger_each(copy_row, &r);
    for (int i = 0; i < r.n; i++)
        if (may_see(r.rows[i].key.role))
            put_row(result, &r.rows[i]);
    return (Datum) 0;
}

Datum slm_pg_reset_usage(PG_FUNCTION_ARGS)
{
    slm_pg_accounts_flush(true);
    PG_RETURN_INT32(slm_pg_ledger_reset(PG_ARGISNULL(0) ? InvalidOid : PG_GETARG_OID(0)));
}
