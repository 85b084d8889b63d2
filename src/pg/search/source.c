/*
 * source.c: a table or view that is searched (source.h).
 *
 * Statements are made of quoted names alone; the caller's condition is parsed by itself and put in as a tree (one_expression.h).  A column
 * is real[], or vector or halfvec of the extension vector, whose own operator is then used, and with it an index on the column; for a
 * real[] an index on its conversion (USING hnsw ((e::vector(384)) vector_cosine_ops)) serves as well.
 */
#include "pg/search/source.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "pg/base/compat.h"

/* ---- the table */

static const char *qualified(Oid schema, const char *name)
{
    return quote_qualified_identifier(get_namespace_name(schema), name);
}

/* The columns of the primary key; ERROR where there is none. */
static const char *primary_key(Oid relation, const char *name)
{
    Relation rel = relation_open(relation, AccessShareLock);
    Oid index = rel->rd_rel->relkind == RELKIND_RELATION || rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE
                    ? slm_primary_key_index(rel) : InvalidOid;
    StringInfoData out;
    HeapTuple tuple;
    Form_pg_index form;

    relation_close(rel, AccessShareLock);
    tuple = OidIsValid(index) ? SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index)) : NULL;
    if (!HeapTupleIsValid(tuple))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("%s has no primary key, so a column must tell its rows", name),
                        errhint("Name one with key_column => 'id'.")));
    form = (Form_pg_index) GETSTRUCT(tuple);
    initStringInfo(&out);
    if (form->indnkeyatts > 1)
        appendStringInfoString(&out, "pg_catalog.concat_ws(',', ");
    for (int i = 0; i < form->indnkeyatts; i++)
        appendStringInfo(&out, "%st.%s", i > 0 ? ", " : "", quote_identifier(get_attname(relation, form->indkey.values[i], false)));
    if (form->indnkeyatts > 1)
        appendStringInfoChar(&out, ')');
    ReleaseSysCache(tuple);
    return out.data;
}

void slm_pg_searched_begin(SlmSearched *s, FunctionCallInfo fcinfo, int relation, int key, int condition)
{
    char *path = slm_pg_current_path(), *own;
    HeapTuple tuple;
    Form_pg_class form;
    Oid owner, type = InvalidOid;

    if (PG_ARGISNULL(relation))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the table to search must not be null")));
    s->relation = PG_GETARG_OID(relation);
    tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(s->relation));
    if (!HeapTupleIsValid(tuple))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", s->relation)));
    form = (Form_pg_class) GETSTRUCT(tuple);
    owner = form->relowner;
    s->name = qualified(form->relnamespace, NameStr(form->relname));
    if (strchr("rpvmf", form->relkind) == NULL)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("%s is not a table or view", s->name)));
    ReleaseSysCache(tuple);
    s->functions = quote_identifier(get_namespace_name(get_func_namespace(fcinfo->flinfo->fn_oid)));
    own = PG_ARGISNULL(key) ? NULL : pstrdup(NameStr(*PG_GETARG_NAME(key)));
    s->key = own != NULL ? slm_pg_searched_column(s, own, &type) : primary_key(s->relation, s->name);
    s->key_has_order = own == NULL || OidIsValid(lookup_type_cache(type, TYPECACHE_LT_OPR)->lt_opr);
    s->condition = slm_pg_parse_expression(PG_ARGISNULL(condition) ? "true" : text_to_cstring(PG_GETARG_TEXT_PP(condition)));
    s->as_owner = owner != GetUserId() && slm_pg_may_become(GetUserId(), owner);
    slm_pg_expression_parallel(s->condition);
    if (s->as_owner)
        slm_pg_as(&s->saved, owner, path);
}

void slm_pg_searched_end(SlmSearched *s)
{
    if (s->as_owner)
        slm_pg_as_end(&s->saved);
}

const char *slm_pg_searched_column(const SlmSearched *s, const char *name, Oid *type)
{
    AttrNumber number = get_attnum(s->relation, name);

    if (number <= 0)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("%s has no column \"%s\"", s->name, name)));
    if (type != NULL)
        *type = getBaseType(get_atttype(s->relation, number));
    return psprintf("t.%s", quote_identifier(name));
}

/* ---- vectors */

/* Is it vector or halfvec of the extension vector?  *schema: where that is. */
static bool is_vector(Oid type, const char **schema)
{
    HeapTuple tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
    Oid extension = getExtensionOfObject(TypeRelationId, type);
    bool result = false;

    if (HeapTupleIsValid(tuple)) {
        Form_pg_type form = (Form_pg_type) GETSTRUCT(tuple);
        const char *of = OidIsValid(extension) ? get_extension_name(extension) : NULL;

        result = of != NULL && strcmp(of, "vector") == 0 &&
                 (strcmp(NameStr(form->typname), "vector") == 0 || strcmp(NameStr(form->typname), "halfvec") == 0);
        *schema = quote_identifier(get_namespace_name(form->typnamespace));
        ReleaseSysCache(tuple);
    }
    return result;
}

static SlmNearness by_operator(const char *expression, Oid type, const char *schema)
{
    const char *distance = psprintf("%s OPERATOR(%s.<=>) ($1::%s)", expression, schema, format_type_be_qualified(type));

    return (SlmNearness){.similarity = psprintf("(1 OPERATOR(pg_catalog.-) (%s))::pg_catalog.float8", distance), .order = distance};
}

/* The first key of an index, where it converts the column to a vector and sorts by cosine; NULL. */
static const char *converted_key(Oid index, const char *column, Oid *type, const char **schema)
{
    HeapTuple tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index));
    Form_pg_index form = (Form_pg_index) GETSTRUCT(tuple);
    const char *key = NULL;
    bool isnull;
    oidvector *classes = (oidvector *) DatumGetPointer(SysCacheGetAttr(INDEXRELID, tuple, Anum_pg_index_indclass, &isnull));
    Oid family = get_opclass_family(classes->values[0]), order;

    *type = get_opclass_input_type(classes->values[0]);
    order = get_opfamily_member(family, *type, *type, 1);
    if (form->indkey.values[0] == 0 && form->indisvalid && is_vector(*type, schema) && OidIsValid(order) &&
        strcmp(get_opname(order), "<=>") == 0) {
        key = text_to_cstring(DatumGetTextPP(
            DirectFunctionCall3(pg_get_indexdef_ext, ObjectIdGetDatum(index), Int32GetDatum(1), BoolGetDatum(false))));
        if (strncmp(key + strspn(key, "("), column, strlen(column)) != 0)
            key = NULL;
    }
    ReleaseSysCache(tuple);
    return key;
}

SlmNearness slm_pg_searched_nearness(const SlmSearched *s, const char *name)
{
    Oid type, of_index = InvalidOid;
    const char *column = slm_pg_searched_column(s, name, &type), *schema = NULL, *key = NULL;
    SlmNearness exact = {.similarity = psprintf("%s.slm_similarity(%s, $1)", s->functions, column)};
    Relation rel;
    List *indexes;
    ListCell *lc;

    if (is_vector(type, &schema))
        return by_operator(column, type, schema);
    if (type != FLOAT4ARRAYOID)
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH), errmsg("column \"%s\" of %s has type %s", name, s->name, format_type_be(type)),
                        errhint("It must be real[], or vector or halfvec of the extension vector: ALTER TABLE %s ADD embedding real[].",
                                s->name)));
    rel = relation_open(s->relation, AccessShareLock);
    indexes = RelationGetIndexList(rel);
    foreach (lc, indexes)
        if (key == NULL)
            key = converted_key(lfirst_oid(lc), quote_identifier(name), &of_index, &schema);
    relation_close(rel, AccessShareLock);
    if (key != NULL)
        return by_operator(psprintf("(%s)", key), of_index, schema);
    /* among rows that are equally near the key decides, whatever the plan */
    exact.order = psprintf(s->key_has_order ? "%s DESC, %s" : "%s DESC", exact.similarity, s->key);
    return exact;
}

void slm_pg_searched_run(const SlmSearched *s, const char *statement, Datum vector)
{
    Oid types[1] = {FLOAT4ARRAYOID};
    SPIPlanPtr plan = slm_pg_prepare_with(statement, s->condition, 1, types);

    if (slm_pg_execute_with(plan, s->condition, &vector, NULL, true, 0) != SPI_OK_SELECT)
        elog(ERROR, "could not search");
}
