/*
 * prompt_rows.c: slm_set_prompt, slm_restore_prompt, slm_drop_prompt: the rows of slm.prompt_registry (prompts.h).
 *
 *   (name, family, language) ──► versions 1, 2, ... of a text, of which one is active
 *
 * A name belongs to the role that wrote it first.  Names that begin with slm_ are those of the built-in functions, and only superusers
 * write them: whoever does owns the row, and it counts as long as he is a superuser.  A change holds the lock on its name (registry.h).
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "pg/base/args.h"
#include "pg/base/compat.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/functions/prompts.h"
#include "pg/models/catalog.h"
#include "pg/models/load.h"
#include "pg/models/registry.h"

PG_FUNCTION_INFO_V1(slm_pg_set_prompt);
PG_FUNCTION_INFO_V1(slm_pg_restore_prompt);
PG_FUNCTION_INFO_V1(slm_pg_drop_prompt);
PG_FUNCTION_INFO_V1(slm_pg_list_built_in_prompts);

#define MOST_BYTES 65536 /* of a text */
#define MOST_VERSIONS 20 /* kept of a text; the oldest go first */

/* Of slm.prompt_registry. */
enum { ANUM_NAME = 1, ANUM_FAMILY, ANUM_LANGUAGE, ANUM_VERSION, ANUM_TEXT, ANUM_OWNER, ANUM_PUBLIC };

/* What a call is about, and what is there. */
typedef struct Prompt {
    const char *name, *family, *language; /* family "": any */
    const SlmBuiltInPrompt *built_in;     /* or NULL */
    bool taken;                           /* the name has rows */
    Oid owner;                            /* of them */
    int newest;                           /* version; 0: there is none */
    bool public;                          /* the rows of these words */
} Prompt;

/* ---- arguments */

static const SlmBuiltInPrompt *find_built_in(const char *name)
{
    for (int i = 0; i < SLM_N_PROMPTS; i++)
        if (strcmp(slm_pg_built_in_prompts[i].name, name) == 0)
            return &slm_pg_built_in_prompts[i];
    return NULL;
}

static const char *short_text(FunctionCallInfo fcinfo, int i, const char *what, const char *otherwise)
{
    const char *s = PG_ARGISNULL(i) ? otherwise : text_to_cstring(PG_GETARG_TEXT_PP(i));

    if (strlen(s) > SLM_NAME_MAX)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s is longer than %d bytes", what, SLM_NAME_MAX)));
    return s;
}

/* The rows of the name, as committed last; the lock is held. */
static void read_rows(Prompt *p)
{
    Relation table = slm_pg_open_extension_table("prompt_registry");
    TupleDesc desc = RelationGetDescr(table);
    SysScanDesc scan = systable_beginscan(table, InvalidOid, false, NULL, 0, NULL);
    HeapTuple tuple;

    while (HeapTupleIsValid(tuple = systable_getnext(scan))) {
        bool isnull;
        char *name = TextDatumGetCString(heap_getattr(tuple, ANUM_NAME, desc, &isnull));
        int version = DatumGetInt32(heap_getattr(tuple, ANUM_VERSION, desc, &isnull));

        if (strcmp(name, p->name) != 0)
            continue;
        p->taken = true;
        p->owner = DatumGetObjectId(heap_getattr(tuple, ANUM_OWNER, desc, &isnull));
        if (version > p->newest && strcmp(TextDatumGetCString(heap_getattr(tuple, ANUM_FAMILY, desc, &isnull)), p->family) == 0 &&
            strcmp(TextDatumGetCString(heap_getattr(tuple, ANUM_LANGUAGE, desc, &isnull)), p->language) == 0) {
            p->newest = version;
            p->public = DatumGetBool(heap_getattr(tuple, ANUM_PUBLIC, desc, &isnull));
        }
    }
    systable_endscan(scan);
    table_close(table, AccessShareLock);
}

static void check_owner(const Prompt *p)
{
    if (strncmp(p->name, SLM_PROMPT_RESERVED, strlen(SLM_PROMPT_RESERVED)) == 0) {
        if (p->built_in == NULL && !p->taken)
            ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("no built-in function has a prompt \"%s\"", p->name),
                            errhint("Names that begin with " SLM_PROMPT_RESERVED " are theirs; slm.prompts lists them.")));
        if (!superuser())
            ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be superuser to change prompt \"%s\"", p->name),
                            errdetail("It is what a built-in function says to models, whoever calls it."),
                            errhint("Where the function has an argument instruction, pass your words there.")));
        return;
    }
    if (p->taken && !slm_pg_owns(p->owner))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be owner of prompt \"%s\"", p->name),
                        slm_pg_role_exists(p->owner)
                            ? errhint("Its owner is \"%s\". Choose another name.", GetUserNameFromId(p->owner, true))
                            : errhint("Its owner was dropped. A superuser can drop it with slm_drop_prompt.")));
}

/* Arguments name, family and language, and what is there; the current user may change it. */
static void get_prompt(FunctionCallInfo fcinfo, int family, const char *function, Prompt *p)
{
    memset(p, 0, sizeof *p);
    slm_pg_refuse_read_only(function);
    p->name = slm_pg_name_argument(fcinfo, 0, "the name of a prompt");
    if (p->name[0] == '\0' || strlen(p->name) > SLM_NAME_MAX)
        ereport(ERROR, (errcode(ERRCODE_INVALID_NAME), errmsg("the name of a prompt is %s", p->name[0] == '\0' ? "empty" : "too long"),
                        errhint("A name has from 1 to %d bytes.", SLM_NAME_MAX)));
    p->family = short_text(fcinfo, family, "the family of models", "");
    p->language = short_text(fcinfo, family + 1, "the language", SLM_PROMPT_LANGUAGE);
    if (p->language[0] == '\0')
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the language is empty"),
                        errhint("For example: language => 'de'")));
    p->built_in = find_built_in(p->name);
    slm_pg_lock_name("prompt", p->name);
    (void) slm_pg_change_registry("UPDATE slm.prompt_registry SET owner = 0"
                                  " WHERE owner <> 0 AND NOT EXISTS (SELECT FROM pg_roles a WHERE a.oid = owner)", 0, NULL);
    read_rows(p);
    check_owner(p);
}

/* ---- the words */

static bool has_placeholder(const char *list, const char *placeholder, size_t length)
{
    size_t n;

    for (const char *p = slm_pg_next_placeholder(list, &n); p != NULL; p = slm_pg_next_placeholder(p + n, &n))
        if (n == length && memcmp(p, placeholder, n) == 0)
            return true;
    return false;
}

/* A built-in function's words have each of its placeholders, and no other. */
static void check_placeholders(const SlmBuiltInPrompt *built_in, const char *words)
{
    const char *known = built_in->placeholders;
    size_t n;

    for (const char *p = slm_pg_next_placeholder(known, &n); p != NULL; p = slm_pg_next_placeholder(p + n, &n))
        if (!has_placeholder(words, p, n))
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                            errmsg("the text of prompt \"%s\" lacks %.*s", built_in->name, (int) n, p),
                            errhint("The built-in text is: %s", built_in->text)));
    for (const char *p = slm_pg_next_placeholder(words, &n); p != NULL; p = slm_pg_next_placeholder(p + n, &n))
        if (!has_placeholder(known, p, n))
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                            errmsg("the text of prompt \"%s\" has %.*s, which nothing fills in", built_in->name, (int) n, p),
                            known[0] == '\0' ? errhint("It has no placeholders.") : errhint("It takes %s.", known)));
}

static const char *words_arg(FunctionCallInfo fcinfo, const Prompt *p)
{
    const char *words;

    if (slm_pg_blank_arg(fcinfo, 1))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the text of the prompt is missing"),
                        errhint("slm_drop_prompt() removes a prompt; the built-in one stands again.")));
    words = text_to_cstring(PG_GETARG_TEXT_PP(1));
    if (strlen(words) > MOST_BYTES)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("the text of the prompt has %zu bytes", strlen(words)), errhint("At most %d are allowed.", MOST_BYTES)));
    (void) slm_pg_utf8_from_cstring(words); /* it can be converted, or this says why not */
    if (p->built_in != NULL)
        check_placeholders(p->built_in, words);
    return words;
}

/* ---- the functions */

/* slm_set_prompt(name, text, family, language, public) */
Datum slm_pg_set_prompt(PG_FUNCTION_ARGS)
{
    const char *words, *values[7];
    bool public;
    Prompt p;

    get_prompt(fcinfo, 2, "slm_set_prompt()", &p);
    words = words_arg(fcinfo, &p);
    public = p.built_in != NULL || slm_pg_bool_arg(fcinfo, 4, p.public);
    if (p.built_in != NULL && !slm_pg_bool_arg(fcinfo, 4, true))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the words of built-in functions are public"),
                        errhint("Leave public => false out.")));
    values[0] = p.name;
    values[1] = p.family;
    values[2] = p.language;
    values[3] = psprintf("%d", p.newest + 1);
    values[4] = words;
    values[5] = psprintf("%u", p.built_in != NULL || !slm_pg_role_exists(p.owner) ? GetUserId() : p.owner);
    values[6] = public ? "true" : "false";
    (void) slm_pg_change_registry("UPDATE slm.prompt_registry SET active = false WHERE name = $1 AND family = $2 AND language = $3", 3,
                                  values);
    (void) slm_pg_change_registry("INSERT INTO slm.prompt_registry (name, family, language, version, text, owner, public, active)"
                                  " VALUES ($1, $2, $3, $4::int, $5, $6::oid, $7::bool, true)", 7, values);
    values[3] = psprintf("%d", p.newest + 1 - MOST_VERSIONS);
    (void) slm_pg_change_registry("DELETE FROM slm.prompt_registry"
                                  " WHERE name = $1 AND family = $2 AND language = $3 AND version <= $4::int", 4, values);
    PG_RETURN_INT32(p.newest + 1);
}

static void no_such(const Prompt *p, const char *version)
{
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                    errmsg("prompt \"%s\" has no %s for %s and language \"%s\"", p->name, version,
                           p->family[0] == '\0' ? "all models" : psprintf("family \"%s\"", p->family), p->language),
                    errhint("See SELECT name, version, family, language FROM slm.prompts;")));
}

/* slm_restore_prompt(name, version, family, language) */
Datum slm_pg_restore_prompt(PG_FUNCTION_ARGS)
{
    const char *values[4];
    Prompt p;

    if (PG_ARGISNULL(1))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the version must not be null")));
    get_prompt(fcinfo, 2, "slm_restore_prompt()", &p);
    values[0] = p.name;
    values[1] = p.family;
    values[2] = p.language;
    values[3] = psprintf("%d", PG_GETARG_INT32(1));
    if (slm_pg_change_registry("UPDATE slm.prompt_registry SET active = true"
                               " WHERE name = $1 AND family = $2 AND language = $3 AND version = $4::int", 4, values) == 0)
        no_such(&p, psprintf("version %s", values[3]));
    (void) slm_pg_change_registry("UPDATE slm.prompt_registry SET active = false"
                                  " WHERE name = $1 AND family = $2 AND language = $3 AND version <> $4::int AND active", 4, values);
    PG_RETURN_VOID();
}

/* slm_drop_prompt(name, family, language) */
Datum slm_pg_drop_prompt(PG_FUNCTION_ARGS)
{
    const char *values[3];
    Prompt p;

    get_prompt(fcinfo, 1, "slm_drop_prompt()", &p);
    values[0] = p.name;
    values[1] = p.family;
    values[2] = p.language;
    if (slm_pg_change_registry("DELETE FROM slm.prompt_registry WHERE name = $1 AND family = $2 AND language = $3", 3, values) == 0)
        no_such(&p, "text");
    PG_RETURN_VOID();
}

/* slm.built_in_prompts() */
Datum slm_pg_list_built_in_prompts(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

    InitMaterializedSRF(fcinfo, 0);
    for (int i = 0; i < SLM_N_PROMPTS; i++) {
        Datum values[3] = {CStringGetTextDatum(slm_pg_built_in_prompts[i].name), CStringGetTextDatum(slm_pg_built_in_prompts[i].text),
                           CStringGetTextDatum(slm_pg_built_in_prompts[i].placeholders)};
        bool nulls[3] = {false};

        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    return (Datum) 0;
}
