/*
 * type_value.c: JSON of a type's schema to a value of the type (type_schema.h).
 *
 * Every scalar goes through the type's own input function, with the type modifier, as a literal of SQL would.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/rangetypes.h"
#include "utils/typcache.h"

#include "pg/base/compat.h"
#include "pg/functions/type_schema.h"

static Datum value_of(Oid type, int32 typmod, const JsonbValue *v, bool *isnull);

static pg_noreturn void misfit(Oid type);

static void misfit(Oid type)
{
    ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("the answer is no JSON of type %s", format_type_be(type))));
    pg_unreachable();
}

/* The text of a scalar, or of any JSON where the type is json. */
static char *text_of(Oid type, const JsonbValue *v)
{
    if (type == JSONOID || type == JSONBOID)
        return JsonbToCString(NULL, &JsonbValueToJsonb(unconstify(JsonbValue *, v))->root, 0);
    switch (v->type) {
        case jbvString:
            return pnstrdup(v->val.string.val, v->val.string.len);
        case jbvNumeric:
            return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v->val.numeric)));
        case jbvBool:
            return pstrdup(v->val.boolean ? "true" : "false");
        default:
            misfit(type);
    }
}

static Datum scalar(Oid type, int32 typmod, const JsonbValue *v)
{
    Oid input, parameter;
    char *text = text_of(type, v);

    /* 7.0 is an integer of JSON, and no literal of one here */
    if (v->type == jbvNumeric && (type == INT2OID || type == INT4OID || type == INT8OID))
        text = DatumGetCString(DirectFunctionCall1(
            numeric_out, DirectFunctionCall2(numeric_round, NumericGetDatum(v->val.numeric), Int32GetDatum(0))));
    getTypeInputInfo(type, &input, &parameter);
    return OidInputFunctionCall(input, text, parameter, typmod);
}

static const JsonbContainer *container(Oid type, const JsonbValue *v, bool array)
{
    if (v->type != jbvBinary || JsonContainerIsArray(v->val.binary.data) != array)
        misfit(type);
    return v->val.binary.data;
}

static Datum composite(Oid type, const JsonbValue *v)
{
    JsonbContainer *object = unconstify(JsonbContainer *, container(type, v, false));
    TupleDesc desc = lookup_rowtype_tupdesc_copy(type, -1);
    Datum *values = palloc0(sizeof(Datum) * (Size) desc->natts);
    bool *nulls = palloc(sizeof(bool) * (Size) desc->natts);

    for (int i = 0; i < desc->natts; i++) {
        const FormData_pg_attribute *a = TupleDescAttr(desc, i);
        const char *name = NameStr(a->attname);
        JsonbValue *value = a->attisdropped ? NULL : getKeyJsonValueFromContainer(object, name, (int) strlen(name), NULL);

        nulls[i] = true;
        if (value != NULL)
            values[i] = value_of(a->atttypid, a->atttypmod, value, &nulls[i]);
    }
    return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}

static Datum array(Oid type, Oid element, int32 typmod, const JsonbValue *v)
{
    JsonbContainer *list = unconstify(JsonbContainer *, container(type, v, true));
    int n = (int) JsonContainerSize(list), dims[1] = {n}, lower[1] = {1};
    Datum *values = palloc(sizeof(Datum) * (Size) Max(n, 1));
    bool *nulls = palloc(sizeof(bool) * (Size) Max(n, 1));
    int16 length;
    bool by_value;
    char align;

    for (int i = 0; i < n; i++)
        values[i] = value_of(element, typmod, getIthJsonbValueFromContainer(list, (uint32) i), &nulls[i]);
    get_typlenbyvalalign(element, &length, &by_value, &align);
    if (n == 0)
        return PointerGetDatum(construct_empty_array(element));
    return PointerGetDatum(construct_md_array(values, nulls, 1, dims, lower, element, length, by_value, align));
}

/* Both bounds belong to the range; the smaller one comes first, whatever was written first. */
static Datum range(Oid type, const JsonbValue *v)
{
    JsonbContainer *list = unconstify(JsonbContainer *, container(type, v, true));
    TypeCacheEntry *cache = lookup_type_cache(type, TYPECACHE_RANGE_INFO);
    RangeBound bounds[2] = {{.inclusive = true, .lower = true}, {.inclusive = true}};
    bool isnull;

    if (JsonContainerSize(list) != 2)
        misfit(type);
    for (uint32 i = 0; i < 2; i++)
        bounds[i].val = value_of(cache->rngelemtype->type_id, -1, getIthJsonbValueFromContainer(list, i), &isnull);
    if (range_cmp_bound_values(cache, &bounds[0], &bounds[1]) > 0) {
        Datum other = bounds[0].val;

        bounds[0].val = bounds[1].val;
        bounds[1].val = other;
    }
    return RangeTypePGetDatum(slm_make_range(cache, &bounds[0], &bounds[1]));
}

static Datum value_of(Oid type, int32 typmod, const JsonbValue *v, bool *isnull)
{
    char kind = get_typtype(type);
    Oid element = get_element_type(type), base;
    Datum value;

    check_stack_depth();
    *isnull = v->type == jbvNull && type != JSONOID && type != JSONBOID;
    if (*isnull && kind != TYPTYPE_DOMAIN)
        return (Datum) 0;
    if (kind == TYPTYPE_DOMAIN) {
        int32 base_typmod = -1;

        base = getBaseTypeAndTypmod(type, &base_typmod);
        value = value_of(base, base_typmod, v, isnull);
        domain_check(value, *isnull, type, NULL, NULL);
        return value;
    }
    if (kind == TYPTYPE_COMPOSITE)
        return composite(type, v);
    if (kind == TYPTYPE_RANGE)
        return range(type, v);
    return OidIsValid(element) ? array(type, element, typmod, v) : scalar(type, typmod, v);
}

Datum slm_pg_type_value(Oid type, int32 typmod, const char *json, bool *isnull)
{
    Jsonb *whole = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json)));
    JsonbValue v;

    if (JB_ROOT_IS_SCALAR(whole))
        v = *getIthJsonbValueFromContainer(&whole->root, 0);
    else
        v = (JsonbValue){.type = jbvBinary, .val.binary = {.len = (int) VARSIZE(whole) - VARHDRSZ, .data = &whole->root}};
    return value_of(type, typmod, &v, isnull);
}
