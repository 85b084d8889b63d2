/*
 * prompts.c: the words of functions, and which row of slm.prompt_registry stands in their place (prompts.h).
 *
 *   name ──► rows of the name ──► those that the caller may use ──► best by language and family ──► or the built-in one
 *
 * What was read of a name is kept while the same role asks by the same snapshot (asked.h), so a statement asks by the same words from its
 * first row to its last, and the next one sees what was committed.  Keys of prefixes and priors hold the words themselves.
 */
#include "pg/functions/prompts.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "pg/base/encoding.h"
#include "pg/models/asked.h"
#include "pg/models/registry.h"
#include "pg/run/backend.h"

const SlmBuiltInPrompt slm_pg_built_in_prompts[SLM_N_PROMPTS] = {
#define SLM_PROMPT_ROW(id, name, placeholders, text) [SLM_PROMPT_##id] = {name, placeholders, text},
#include "pg/functions/prompts.def"
#undef SLM_PROMPT_ROW
};

/* Columns of slm.prompt_registry. */
enum { ANUM_NAME = 1, ANUM_FAMILY, ANUM_LANGUAGE, ANUM_VERSION, ANUM_TEXT, ANUM_OWNER, ANUM_PUBLIC, ANUM_ACTIVE };

typedef struct Row {
    struct Row *next;
    const char *family, *language, *text; /* family "": any; text in UTF-8 */
    Oid owner;
    bool public;
} Row;

/* The active rows of a name. */
typedef struct Known {
    struct Known *next;
    char *name;
    Row *rows;
} Known;

static char *guc_language;
static MemoryContext context; /* of all that is known */
static Known *known;
static SlmAsked known_for;

/* ---- rows */

static const char *utf8_column(HeapTuple tuple, int column, TupleDesc desc)
{
    bool isnull;
    Datum value = heap_getattr(tuple, column, desc, &isnull);

    return isnull ? pstrdup("") : slm_pg_utf8_from_cstring(TextDatumGetCString(value));
}

static Row *read_row(HeapTuple tuple, TupleDesc desc)
{
    Row *row = palloc0(sizeof *row);
    bool isnull;

    row->family = utf8_column(tuple, ANUM_FAMILY, desc);
    row->language = utf8_column(tuple, ANUM_LANGUAGE, desc);
    row->text = utf8_column(tuple, ANUM_TEXT, desc);
    row->owner = DatumGetObjectId(heap_getattr(tuple, ANUM_OWNER, desc, &isnull));
    row->public = DatumGetBool(heap_getattr(tuple, ANUM_PUBLIC, desc, &isnull));
    return row;
}

static Row *read_rows(const char *name, Snapshot snapshot)
{
    Relation table = slm_pg_open_extension_table("prompt_registry");
    TupleDesc desc = RelationGetDescr(table);
    Row *rows = NULL;
    SysScanDesc scan;
    HeapTuple tuple;
    ScanKeyData key;

    list_free(RelationGetIndexList(table)); /* finds the primary key */
    ScanKeyInit(&key, ANUM_NAME, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(name));
    scan = systable_beginscan(table, table->rd_pkindex, OidIsValid(table->rd_pkindex), snapshot, 1, &key);
    while (HeapTupleIsValid(tuple = systable_getnext(scan))) {
        bool isnull;

        if (DatumGetBool(heap_getattr(tuple, ANUM_ACTIVE, desc, &isnull))) {
            Row *row = read_row(tuple, desc);

            row->next = rows;
            rows = row;
        }
    }
    systable_endscan(scan);
    table_close(table, AccessShareLock);
    return rows;
}

/* What a statement reads of a name. */
static const Row *rows_of(const char *name)
{
    Snapshot snapshot = GetActiveSnapshot();
    SlmAsked asked = slm_pg_asked_by(snapshot);
    MemoryContext old;
    Known *k;

    if (memcmp(&asked, &known_for, sizeof asked) != 0) {
        known = NULL;
        known_for = asked;
        if (context == NULL)
            context = AllocSetContextCreate(TopMemoryContext, "slm prompts", ALLOCSET_SMALL_SIZES);
        MemoryContextReset(context);
    }
    for (k = known; k != NULL; k = k->next)
        if (strcmp(k->name, name) == 0)
            return k->rows;
    old = MemoryContextSwitchTo(context);
    k = palloc(sizeof *k);
    k->name = pstrdup(name);
    k->rows = read_rows(name, snapshot);
    k->next = known;
    known = k;
    MemoryContextSwitchTo(old);
    return k->rows;
}

/* ---- which of them */

static bool is_administrators(const Row *row)
{
    return slm_pg_role_exists(row->owner) && superuser_arg(row->owner);
}

/* May the current user ask by it? */
static bool is_usable(const Row *row)
{
    if (!slm_pg_role_exists(row->owner))
        return false;
    if (superuser())
        return superuser_arg(row->owner);
    return row->public || has_privs_of_role(GetUserId(), row->owner);
}

/* 0: it is for another model or language. */
static int fit(const Row *row, const char *family)
{
    const char *language = guc_language == NULL || guc_language[0] == '\0' ? SLM_PROMPT_LANGUAGE : guc_language;
    bool same_family = strcmp(row->family, family) == 0;

    if (!same_family && row->family[0] != '\0')
        return 0;
    if (strcmp(row->language, language) == 0)
        return 3 + same_family;
    return strcmp(row->language, SLM_PROMPT_LANGUAGE) == 0 ? 1 + same_family : 0;
}

static const Row *best_row(const Row *rows, const SlmOpenModel *entry, bool (*may)(const Row *row))
{
    const char *family = slm_pg_info(entry)->family;
    const Row *best = NULL;

    for (const Row *row = rows; row != NULL; row = row->next)
        if (may(row) && fit(row, family) > (best == NULL ? 0 : fit(best, family)))
            best = row;
    return best;
}

const char *slm_pg_prompt(SlmPrompt prompt, const SlmOpenModel *entry)
{
    const Row *row = best_row(rows_of(slm_pg_built_in_prompts[prompt].name), entry, is_administrators);

    return row == NULL ? slm_pg_built_in_prompts[prompt].text : pstrdup(row->text);
}

char *slm_pg_prompt_with(SlmPrompt prompt, const SlmOpenModel *entry, const char *variable, const char *value)
{
    SlmVariable v = {.name = variable, .value = value};

    return slm_pg_fill_variables(slm_pg_prompt(prompt, entry), &v, 1);
}

static pg_noreturn void no_prompt(const char *name, const Row *rows);

static void no_prompt(const char *name, const Row *rows)
{
    bool usable = false;

    for (const Row *row = rows; row != NULL; row = row->next)
        usable |= is_usable(row);
    if (usable)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("prompt \"%s\" has no text for this model and language", name),
                        errhint("slm.prompts shows which it has. Add one for all models: SELECT slm_set_prompt('%s', '...');", name)));
    if (rows != NULL)
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied for prompt \"%s\"", name),
                        superuser() ? errdetail("Another role wrote it, and it must not steer a superuser's statement.") : 0,
                        superuser() ? errhint("SET ROLE to its owner, or write it again under a name of your own with slm_set_prompt.")
                                    : errhint("Its owner can give it to all: SELECT slm_set_prompt('%s', '...', public => true);", name)));
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("prompt \"%s\" does not exist", name),
                    errhint("The view slm.prompts lists them; slm_set_prompt() makes one.")));
    pg_unreachable();
}

size_t slm_pg_public_bytes(const char *words)
{
    size_t length;
    const char *first = slm_pg_next_placeholder(words, &length);

    return first == NULL ? strlen(words) : (size_t) (first - words);
}

const char *slm_pg_named_prompt(const char *name, const SlmOpenModel *entry, size_t *public_bytes)
{
    const Row *rows, *row;

    if (strncmp(name, SLM_PROMPT_RESERVED, strlen(SLM_PROMPT_RESERVED)) == 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("\"%s\" is the name of a built-in function's prompt", name),
                        errhint("Call the function, or copy the text: SELECT slm_set_prompt('my_prompt', text) FROM slm.prompts "
                                "WHERE name = ...;")));
    rows = rows_of(name);
    row = best_row(rows, entry, is_usable);
    if (row == NULL)
        no_prompt(name, rows);
    *public_bytes = row->public && is_administrators(row) ? slm_pg_public_bytes(row->text) : 0;
    return pstrdup(row->text);
}

/* ---- placeholders */

const char *slm_pg_next_placeholder(const char *from, size_t *length)
{
    for (const char *p = strchr(from, '{'); p != NULL; p = strchr(p + 1, '{')) {
        const char *end = p + 1;

        while ((*end >= 'a' && *end <= 'z') || *end == '_' || (end > p + 1 && *end >= '0' && *end <= '9'))
            end++;
        if (*end == '}' && end > p + 1) {
            *length = (size_t) (end + 1 - p);
            return p;
        }
    }
    return NULL;
}

char *slm_pg_fill_variables(const char *text, SlmVariable *variables, int n)
{
    StringInfoData out;
    const char *at;
    size_t length;

    initStringInfo(&out);
    for (at = slm_pg_next_placeholder(text, &length); at != NULL; at = slm_pg_next_placeholder(text, &length)) {
        int v = 0;

        while (v < n && !(strlen(variables[v].name) == length - 2 && strncmp(variables[v].name, at + 1, length - 2) == 0))
            v++;
        appendBinaryStringInfo(&out, text, (int) (at - text));
        if (v < n) {
            appendStringInfoString(&out, variables[v].value);
            variables[v].used = true;
        } else {
            appendBinaryStringInfo(&out, at, (int) length);
        }
        text = at + length;
    }
    appendStringInfoString(&out, text);
    return out.data;
}

void slm_pg_prompts_init(void)
{
    DefineCustomStringVariable("slm.prompt_language", "Language of the prompts of functions that ask generative models.",
                               "Rows of slm.prompts in this language are taken where there are some, then English ones, then the built-in "
                               "ones. slm_set_prompt adds translations.",
                               &guc_language, SLM_PROMPT_LANGUAGE, PGC_USERSET, 0, NULL, NULL, NULL);
}
