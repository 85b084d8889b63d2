/*
 * The triggers of a job: how they look, how they are made and dropped.
 *
 *   slm_job_<id>_insert, _update, _delete   statement triggers with transition tables slm_new, slm_old
 *   slm_job_<id>_truncate                   always, also where logical replication applies it
 *   slm_job_<id>_row                        rows of logical replication; of a partitioned source all rows, as they may be written to a
 *                                           partition directly
 */
#include "pg/jobs/triggers.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_trigger.h"
#include "executor/spi.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "pg/base/as_owner.h"
#include "pg/jobs/jobs.h"

typedef enum Kinds { PLAIN = 1, PARTITIONED = 2, BOTH = 3 } Kinds;

static const struct {
    const char *suffix;
    Kinds kinds; /* of the source */
    int16 type;
    const char *events, *old_table, *new_table;
    const char *enable; /* NULL: as triggers are */
} shapes[] = {
    {"insert", PLAIN, TRIGGER_TYPE_INSERT, "INSERT", NULL, "slm_new", NULL},
    {"update", BOTH, TRIGGER_TYPE_UPDATE, "UPDATE", "slm_old", "slm_new", NULL},
    {"delete", BOTH, TRIGGER_TYPE_DELETE, "DELETE", "slm_old", NULL, NULL},
    {"truncate", BOTH, TRIGGER_TYPE_TRUNCATE, "TRUNCATE", NULL, NULL, "ALWAYS"},
    {"row", PARTITIONED, TRIGGER_TYPE_ROW | TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE, "INSERT OR UPDATE", NULL, NULL, "ALWAYS"},
    {"row", PLAIN, TRIGGER_TYPE_ROW | TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE, "INSERT OR UPDATE OR DELETE", NULL,
     NULL, "REPLICA"},
};

static Kinds kind_of(Oid source)
{
    return get_rel_relkind(source) == RELKIND_PARTITIONED_TABLE ? PARTITIONED : PLAIN;
}

static bool same_name(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

bool slm_pg_job_trigger_is_ours(const Trigger *trigger, int32 job, Oid source)
{
    Kinds kind = kind_of(source);

    for (int i = 0; i < (int) lengthof(shapes); i++)
        if ((shapes[i].kinds & kind) != 0 && trigger->tgtype == shapes[i].type && same_name(trigger->tgoldtable, shapes[i].old_table) &&
            same_name(trigger->tgnewtable, shapes[i].new_table) && trigger->tgnattr == 0 && trigger->tgqual == NULL &&
            !trigger->tgdeferrable && strcmp(trigger->tgname, psprintf("slm_job_%d_%s", job, shapes[i].suffix)) == 0)
            return true;
    return false;
}

static char *create_statement(int i, int32 job, Oid source)
{
    StringInfoData out;

    initStringInfo(&out);
    appendStringInfo(&out, "CREATE OR REPLACE TRIGGER slm_job_%d_%s AFTER %s ON %s", job, shapes[i].suffix, shapes[i].events,
                     slm_pg_job_table_name(source));
    if (shapes[i].old_table != NULL || shapes[i].new_table != NULL)
        appendStringInfoString(&out, " REFERENCING");
    if (shapes[i].old_table != NULL)
        appendStringInfo(&out, " OLD TABLE AS %s", shapes[i].old_table);
    if (shapes[i].new_table != NULL)
        appendStringInfo(&out, " NEW TABLE AS %s", shapes[i].new_table);
    appendStringInfo(&out, " FOR EACH %s EXECUTE FUNCTION slm.job_enqueue('%d')",
                     (shapes[i].type & TRIGGER_TYPE_ROW) != 0 ? "ROW" : "STATEMENT", job);
    return out.data;
}

void slm_pg_job_make_triggers(int32 job, Oid source)
{
    Kinds kind = kind_of(source);
    SlmAs saved;

    slm_pg_as(&saved, slm_pg_job_table_owner(source), SLM_SAFE_PATH);
    for (int i = 0; i < (int) lengthof(shapes); i++) {
        if ((shapes[i].kinds & kind) == 0)
            continue;
        slm_pg_spi(create_statement(i, job, source), SPI_OK_UTILITY);
        if (shapes[i].enable != NULL)
            slm_pg_spi(psprintf("ALTER TABLE %s ENABLE %s TRIGGER slm_job_%d_%s", slm_pg_job_table_name(source), shapes[i].enable, job,
                                shapes[i].suffix),
                       SPI_OK_UTILITY);
    }
    slm_pg_as_end(&saved);
}

/* Quoted names of the triggers of a table that call slm.job_enqueue under the name of one of this job. */
static List *triggers_of(int32 job, Oid source)
{
    Relation catalog = table_open(TriggerRelationId, AccessShareLock);
    List *result = NIL;
    ScanKeyData key;
    SysScanDesc scan;
    HeapTuple tuple;

    ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(source));
    scan = systable_beginscan(catalog, TriggerRelidNameIndexId, true, NULL, 1, &key);
    while (HeapTupleIsValid(tuple = systable_getnext(scan))) {
        Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);
        const char *function = get_func_name(form->tgfoid);
        bool ours = false;

        for (int i = 0; i < (int) lengthof(shapes); i++)
            ours = ours || strcmp(NameStr(form->tgname), psprintf("slm_job_%d_%s", job, shapes[i].suffix)) == 0;
        if (ours && function != NULL && strcmp(function, "job_enqueue") == 0)
            result = lappend(result, pstrdup(quote_identifier(NameStr(form->tgname))));
    }
    systable_endscan(scan);
    table_close(catalog, AccessShareLock);
    return result;
}

void slm_pg_job_drop_triggers(int32 job, Oid source)
{
    List *names = triggers_of(job, source);
    ListCell *cell;
    SlmAs saved;

    slm_pg_as(&saved, slm_pg_job_table_owner(source), SLM_SAFE_PATH);
    foreach (cell, names)
        slm_pg_spi(psprintf("DROP TRIGGER %s ON %s", (char *) lfirst(cell), slm_pg_job_table_name(source)), SPI_OK_UTILITY);
    slm_pg_as_end(&saved);
}
