/*
 * uses.c: finding what uses a model, an adapter or a classifier (uses.h).
 *
 *   by number    classifiers (the image of their active version), adapters (their base)
 *   by its steps cascades
 *   by setting   slm.*_model of a job, a function, a role, this database
 *   by text      jobs, triggers, functions; views, rules, defaults, constraints, policies and indexes that call a function of the extension
 *
 * A text uses a name when the name stands in it between quotes, or beside the + of 'model+adapter': 'minilm', "minilm", $$minilm$$.  A name
 * that is put together when it runs is not found; a label that is written like the name is taken for it, and cascade is the way out.
 *
 * All is looked for as the extension, so that users of other roles count too; what the caller may not see is counted and not named.
 * Definitions are only written out, nothing of a user is evaluated.
 */
#include "pg/models/uses.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "pg/base/as_owner.h"
#include "pg/models/classifier_rows.h"
#include "pg/models/load.h"

#define MAX_NAMED 50 /* in a message */

/* Each query gives (kind, description, may the role see it?) for $1 the name, $2 a pattern of it in a text, $3 the role. */
typedef struct UserKind {
    int objects;  /* that such users may have */
    bool by_name; /* they miss the name when it changes */
    const char *query;
} UserKind;

#define MODELS (SLM_MODEL | SLM_ADAPTER)
#define ALL (MODELS | SLM_CLASSIFIER)
#define IS_PART_OF_EXTENSION(class, oid)                                                                                                 \
    " EXISTS (SELECT FROM pg_depend e WHERE e.classid = '" class "'::regclass AND e.objid = " oid                                        \
    "         AND e.refclassid = 'pg_extension'::regclass AND e.deptype = 'e'"                                                           \
    "         AND e.refobjid = (SELECT x.oid FROM pg_extension x WHERE x.extname = 'slm_pg'))"
#define MAY_SEE(owner, schema) " pg_has_role($3, " owner ", 'USAGE') OR has_schema_privilege($3, " schema ", 'USAGE')"
#define MAY_SEE_CASCADE                                                                                                                  \
    " pg_has_role($3, r.owner::oid, 'USAGE') OR EXISTS"                                                                                  \
    "       (SELECT FROM slm.cascade_grant g WHERE g.name = r.name AND (g.role = 0 OR pg_has_role($3, g.role::oid, 'USAGE')))"

static const UserKind kinds[] = {
    {ALL, true,
     "SELECT 'job', d.name, pg_has_role($3, d.owner::oid, 'USAGE')"
     " FROM slm.job_definition d"
     " WHERE d.expression ~ $2"
     "    OR EXISTS (SELECT FROM jsonb_each_text(d.settings) s"
     "               WHERE s.key ~ '^slm\\..*_model$' AND $1 IN (split_part(s.value, '+', 1), split_part(s.value, '+', 2)))"
     " ORDER BY 2"},
    {ALL, true,
     "SELECT 'trigger', format('%I on %s', t.tgname, t.tgrelid::regclass)," MAY_SEE("c.relowner", "c.relnamespace")
     " FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
     " WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND pg_get_triggerdef(t.oid) ~ $2"
     "   AND EXISTS (SELECT FROM pg_depend f WHERE f.classid = 'pg_trigger'::regclass AND f.objid = t.oid"
     "               AND f.refclassid = 'pg_proc'::regclass AND" IS_PART_OF_EXTENSION("pg_proc", "f.refobjid") ")"
     " ORDER BY 2"},
    {MODELS, false,
     "SELECT 'classifier', r.name, pg_has_role($3, r.owner::oid, 'USAGE') OR EXISTS"
     "       (SELECT FROM slm.classifier_grant g WHERE g.name = r.name AND (g.role = 0 OR pg_has_role($3, g.role::oid, 'USAGE')))"
     " FROM slm.classifier_registry r JOIN slm.model_registry m ON m.image IN (split_part(r.image, '+', 1), split_part(r.image, '+', 2))"
     " WHERE r.active AND m.name = $1"
     "   AND NOT EXISTS (SELECT FROM slm.model_registry o WHERE o.image = m.image AND o.name <> m.name)"
     " ORDER BY 2"},
    {SLM_MODEL, false,
     "SELECT 'adapter', m.name, pg_has_role($3, m.owner::oid, 'USAGE') FROM slm.model_registry m WHERE m.base = $1 ORDER BY 2"},
    {MODELS, true,
     "SELECT 'cascade', r.name," MAY_SEE_CASCADE
     " FROM slm.cascade_registry r"
     " WHERE EXISTS (SELECT FROM jsonb_array_elements(r.steps) WITH ORDINALITY s(step, i)"
     "               WHERE $1 IN (split_part(step ->> 'model', '+', 1), split_part(step ->> 'model', '+', 2))"
     "                  OR (NOT step ?| '{model,classifier}'"
     "                      AND r.images[i] IN (SELECT m.image FROM slm.model_registry m WHERE m.name = $1)"
     "                      AND r.images[i] NOT IN (SELECT m.image FROM slm.model_registry m WHERE m.name <> $1)))"
     " ORDER BY 2"},
    {SLM_CLASSIFIER, true,
     "SELECT 'cascade', r.name," MAY_SEE_CASCADE
     " FROM slm.cascade_registry r"
     " WHERE EXISTS (SELECT FROM jsonb_array_elements(r.steps) s(step) WHERE step ->> 'classifier' = $1)"
     " ORDER BY 2"},
    {MODELS, true,
     "SELECT 'setting', split_part(o, '=', 1)"
     "       || CASE WHEN s.setrole <> 0 THEN ' of role ' || s.setrole::regrole ELSE '' END"
     "       || CASE WHEN s.setdatabase <> 0 THEN ' of database ' || quote_ident(current_database()) ELSE '' END, true"
     " FROM pg_db_role_setting s, unnest(s.setconfig) o"
     " WHERE s.setdatabase IN (0, (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())) AND o ~ '^slm\\..*_model='"
     "   AND $1 IN (split_part(split_part(o, '=', 2), '+', 1), split_part(split_part(o, '=', 2), '+', 2))"
     " ORDER BY 2"},
    {ALL, true,
     "SELECT CASE p.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END, p.oid::regprocedure::text,"
     MAY_SEE("p.proowner", "p.pronamespace")
     " FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang"
     " WHERE l.lanname NOT IN ('c', 'internal') AND NOT" IS_PART_OF_EXTENSION("pg_proc", "p.oid")
     "   AND ((p.prosqlbody IS NULL AND p.prosrc ~* '\\mslm_' AND p.prosrc ~ $2)"
     "     OR (p.prosqlbody IS NOT NULL AND pg_get_function_sqlbody(p.oid) ~* '\\mslm_' AND pg_get_function_sqlbody(p.oid) ~ $2)"
     "     OR EXISTS (SELECT FROM unnest(p.proconfig) o WHERE o ~ '^slm\\..*_model='"
     "                AND $1 IN (split_part(split_part(o, '=', 2), '+', 1), split_part(split_part(o, '=', 2), '+', 2))))"
     " ORDER BY 1, 2"},
    {ALL, true,
     "SELECT CASE WHEN w.rulename <> '_RETURN' THEN 'rule' WHEN c.relkind = 'm' THEN 'materialized view' ELSE 'view' END,"
     "       CASE WHEN w.rulename <> '_RETURN' THEN quote_ident(w.rulename) || ' on ' ELSE '' END || c.oid::regclass,"
     MAY_SEE("c.relowner", "c.relnamespace")
     " FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class"
     " WHERE EXISTS (SELECT FROM pg_depend f WHERE f.classid = 'pg_rewrite'::regclass AND f.objid = w.oid"
     "               AND f.refclassid = 'pg_proc'::regclass AND" IS_PART_OF_EXTENSION("pg_proc", "f.refobjid") ")"
     "   AND NOT" IS_PART_OF_EXTENSION("pg_class", "c.oid") " AND pg_get_ruledef(w.oid) ~ $2"
     " ORDER BY 1, 2"},
    {ALL, true,
     "SELECT 'default', format('of column %I of %s', n.attname, c.oid::regclass)," MAY_SEE("c.relowner", "c.relnamespace")
     " FROM pg_attrdef a JOIN pg_class c ON c.oid = a.adrelid JOIN pg_attribute n ON n.attrelid = a.adrelid AND n.attnum = a.adnum"
     " WHERE pg_get_expr(a.adbin, a.adrelid) ~* '\\mslm_' AND pg_get_expr(a.adbin, a.adrelid) ~ $2"
     " ORDER BY 2"},
    {ALL, true,
     "SELECT 'constraint', quote_ident(k.conname) || COALESCE(' of ' || c.oid::regclass, ' of domain ' || k.contypid::regtype, ''),"
     MAY_SEE("COALESCE(c.relowner, 0)", "k.connamespace")
     " FROM pg_constraint k LEFT JOIN pg_class c ON c.oid = k.conrelid"
     " WHERE k.contype = 'c' AND k.coninhcount = 0 AND pg_get_constraintdef(k.oid) ~* '\\mslm_' AND pg_get_constraintdef(k.oid) ~ $2"
     " ORDER BY 2"},
    {ALL, true,
     "SELECT 'policy', format('%I of %s', y.polname, c.oid::regclass)," MAY_SEE("c.relowner", "c.relnamespace")
     " FROM pg_policy y JOIN pg_class c ON c.oid = y.polrelid,"
     " concat_ws(' ', pg_get_expr(y.polqual, y.polrelid), pg_get_expr(y.polwithcheck, y.polrelid)) x"
     " WHERE x ~* '\\mslm_' AND x ~ $2"
     " ORDER BY 2"},
    {ALL, true,
     "SELECT 'index', i.indexrelid::regclass::text," MAY_SEE("c.relowner", "c.relnamespace")
     " FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
     " WHERE (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)"
     "   AND pg_get_indexdef(i.indexrelid) ~* '\\mslm_' AND pg_get_indexdef(i.indexrelid) ~ $2"
     " ORDER BY 2"},
};

#define MAX_KINDS 16

typedef struct Users {
    struct {
        char *kind;
        int n;
    } kinds[MAX_KINDS];
    int n_kinds;
    StringInfoData counts; /* "2 jobs, 1 trigger" */
    StringInfoData named;  /* a line each */
    int n, n_named, n_hidden;
} Users;

/* The name between quotes or beside a +, as a regular expression. */
static char *pattern_of(const char *name)
{
    StringInfoData out;

    initStringInfo(&out);
    appendStringInfoString(&out, "['\"$+]");
    for (const char *c = name; *c != '\0'; c++)
        appendStringInfo(&out, isalnum((unsigned char) *c) || *c == '_' || IS_HIGHBIT_SET(*c) ? "%c" : "\\%c", *c);
    appendStringInfoString(&out, "['\"$+]");
    return out.data;
}

/* The rows of a finished query are in order of their kinds. */
static void add_users(Users *users, MemoryContext keep)
{
    for (uint64 i = 0; i < SPI_processed; i++) {
        char *kind = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
        char *what = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2);
        char *visible = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 3);

        if (users->n_kinds == 0 || strcmp(users->kinds[users->n_kinds - 1].kind, kind) != 0) {
            users->kinds[users->n_kinds].kind = MemoryContextStrdup(keep, kind);
            users->kinds[users->n_kinds++].n = 0;
        }
        users->kinds[users->n_kinds - 1].n++;
        users->n++;
        if (visible == NULL || visible[0] != 't')
            users->n_hidden++;
        else if (users->n_named++ < MAX_NAMED)
            appendStringInfo(&users->named, "%s%s %s", users->named.len > 0 ? "\n" : "", kind, what);
    }
}

static void count_kinds(Users *users)
{
    for (int i = 0; i < users->n_kinds; i++) {
        const char *kind = users->kinds[i].kind;
        int n = users->kinds[i].n;

        appendStringInfo(&users->counts, "%s%d ", i == 0 ? "" : i + 1 < users->n_kinds ? ", " : " and ", n);
        if (n > 1 && strcmp(kind, "policy") == 0)
            appendStringInfoString(&users->counts, "policies");
        else
            appendStringInfo(&users->counts, "%s%s", kind, n == 1 ? "" : strcmp(kind, "index") == 0 ? "es" : "s");
    }
}

/* The users of some of the kinds. */
static void find_users(SlmObject object, const char *name, bool by_name, bool by_number, Users *users)
{
    Oid types[3] = {TEXTOID, TEXTOID, OIDOID};
    Datum values[3] = {CStringGetTextDatum(name), CStringGetTextDatum(pattern_of(name)), ObjectIdGetDatum(GetUserId())};
    MemoryContext keep = CurrentMemoryContext;
    SlmAs saved;

    memset(users, 0, sizeof *users);
    initStringInfo(&users->counts);
    initStringInfo(&users->named);
    slm_pg_as_extension(&saved);
    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    for (size_t i = 0; i < lengthof(kinds); i++) {
        if ((kinds[i].objects & (int) object) == 0 || !(kinds[i].by_name ? by_name : by_number))
            continue;
        if (SPI_execute_with_args(kinds[i].query, 3, types, values, NULL, false, 0) != SPI_OK_SELECT)
            elog(ERROR, "could not look for users of \"%s\"", name);
        add_users(users, keep);
    }
    SPI_finish();
    slm_pg_as_end(&saved);
    count_kinds(users);
    if (users->n_named > MAX_NAMED)
        appendStringInfo(&users->named, "\nand %d more", users->n_named - MAX_NAMED);
    if (users->n_hidden > 0)
        appendStringInfo(&users->named, "%s%d that you may not see", users->named.len > 0 ? "\nand " : "", users->n_hidden);
}

static const char *object_name(SlmObject object)
{
    return object == SLM_MODEL ? "model" : object == SLM_ADAPTER ? "adapter" : "classifier";
}

static void say_what_misses(SlmObject object, const char *name)
{
    Users users;

    find_users(object, name, true, false, &users);
    if (users.n > 0)
        ereport(NOTICE, (errmsg("%s \"%s\" is still named by %s, which cannot be changed from here", object_name(object), name,
                                users.counts.data),
                         errdetail("%s", users.named.data), errhint("They fail until they name another one.")));
}

/* Names that a query gives, as the extension. */
static List *names_of(const char *sql, const char *name)
{
    Oid types[1] = {TEXTOID};
    Datum values[1] = {CStringGetTextDatum(name)};
    MemoryContext keep = CurrentMemoryContext;
    List *names = NIL;
    SlmAs saved;

    slm_pg_as_extension(&saved);
    if (SPI_connect() != SPI_OK_CONNECT || SPI_execute_with_args(sql, 1, types, values, NULL, false, 0) != SPI_OK_SELECT)
        elog(ERROR, "could not look for what stands on \"%s\"", name);
    for (uint64 i = 0; i < SPI_processed; i++) {
        char *found = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
        MemoryContext old = MemoryContextSwitchTo(keep);

        names = lappend(names, pstrdup(found));
        MemoryContextSwitchTo(old);
    }
    SPI_finish();
    slm_pg_as_end(&saved);
    return names;
}

/* What stands on a model that goes, whoever owns it, as DROP ... CASCADE does. */
static void drop_dependents(const char *name)
{
    List *classifiers = names_of("SELECT r.name FROM slm.classifier_registry r"
                                 " JOIN slm.model_registry m ON m.image IN (split_part(r.image, '+', 1), split_part(r.image, '+', 2))"
                                 " WHERE r.active AND m.name = $1"
                                 "   AND NOT EXISTS (SELECT FROM slm.model_registry o WHERE o.image = m.image AND o.name <> m.name)"
                                 " ORDER BY 1", name);
    List *adapters = names_of("SELECT m.name FROM slm.model_registry m WHERE m.base = $1 ORDER BY 1", name);
    ListCell *cell;

    foreach (cell, classifiers) {
        slm_pg_remove_classifier(lfirst(cell));
        say_what_misses(SLM_CLASSIFIER, lfirst(cell));
    }
    slm_pg_drop_adapters(name);
    foreach (cell, adapters)
        say_what_misses(SLM_ADAPTER, lfirst(cell));
}

void slm_pg_refuse_in_use(SlmObject object, const char *name, const char *verb, const char *again, bool cascade)
{
    bool drop = strcmp(verb, "drop") == 0;
    Users users;

    if (!cascade) {
        find_users(object, name, true, drop, &users);
        if (users.n > 0)
            ereport(ERROR, (errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
                            errmsg("cannot %s %s \"%s\": in use by %s", verb, object_name(object), name, users.counts.data),
                            errdetail("%s", users.named.data), errhint("Change them first, or, to %s it all the same: %s", verb, again)));
        return;
    }
    find_users(object, name, false, drop, &users);
    if (users.n > 0) {
        ereport(NOTICE, (errmsg("drop cascades to %s", users.counts.data), errdetail("%s", users.named.data)));
        drop_dependents(name);
    }
    say_what_misses(object, name);
}
