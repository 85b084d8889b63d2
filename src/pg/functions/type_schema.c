/*
 * type_schema.c: the JSON Schema of an SQL type.
 *
 *   scalars      what their input accepts for sure: integers and numerics in their range, dates of the calendar, values of an enum
 *   composites   an object of their columns in order, NULL where a column may be; the comment of a column is its description
 *   arrays       an array; ranges: an array of both bounds
 *   domains      what they are made of, within their CHECKs (type_check.c)
 *
 * A value of the schema is a value of the type: whatever is narrower here than in the type (no dates before the year 1000, floats below
 * 1e15) is so because the rest has no form that is sure to be read back.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tupdesc.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_type.h"
#include "commands/comment.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/typcache.h"

#include "pg/base/compat.h"
#include "pg/functions/type_schema.h"

#define MAX_DEPTH 8

#define DATE_PATTERN "[12][0-9]{3}-[0-9]{2}-[0-9]{2}"
#define TIME_PATTERN "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
#define ZONE_PATTERN "(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])"
#define HOURS "T([0-9]{1,4}H([0-9]{1,4}M)?([0-9]{1,4}S)?|[0-9]{1,4}M([0-9]{1,4}S)?|[0-9]{1,4}S)"
#define DAYS "[0-9]{1,4}D(" HOURS ")?"
#define MONTHS "[0-9]{1,4}M(" DAYS "|" HOURS ")?"
#define INTERVAL_PATTERN "P([0-9]{1,4}Y(" MONTHS "|" DAYS "|" HOURS ")?|" MONTHS "|" DAYS "|" HOURS "|[0-9]{1,4}W)"

static const struct {
    Oid type;
    const char *schema;
} plain[] = {
    {BOOLOID, "\"type\":\"boolean\""},
    {INT2OID, "\"type\":\"integer\",\"minimum\":-32768,\"maximum\":32767"},
    {INT4OID, "\"type\":\"integer\",\"minimum\":-2147483648,\"maximum\":2147483647"},
    {INT8OID, "\"type\":\"integer\",\"minimum\":-9223372036854775808,\"maximum\":9223372036854775807"},
    {FLOAT4OID, "\"type\":\"number\",\"minimum\":-1e15,\"maximum\":1e15"},
    {FLOAT8OID, "\"type\":\"number\",\"minimum\":-1e15,\"maximum\":1e15"},
    {TEXTOID, "\"type\":\"string\""},
    {DATEOID, "\"type\":\"string\",\"format\":\"date\",\"pattern\":\"^[12]\""},
    {TIMESTAMPOID, "\"type\":\"string\",\"format\":\"date-time\",\"pattern\":\"^" DATE_PATTERN "T" TIME_PATTERN "Z$\""},
    {TIMESTAMPTZOID, "\"type\":\"string\",\"format\":\"date-time\",\"pattern\":\"^" DATE_PATTERN "T" TIME_PATTERN ZONE_PATTERN "$\""},
    {TIMEOID, "\"type\":\"string\",\"pattern\":\"^" TIME_PATTERN "$\""},
    {TIMETZOID, "\"type\":\"string\",\"pattern\":\"^" TIME_PATTERN ZONE_PATTERN "$\""},
    {INTERVALOID, "\"type\":\"string\",\"pattern\":\"^" INTERVAL_PATTERN "$\""},
    {UUIDOID, "\"type\":\"string\",\"format\":\"uuid\""},
    {INETOID, "\"type\":\"string\",\"anyOf\":[{\"format\":\"ipv4\"},{\"format\":\"ipv6\"}]"},
    {JSONOID, ""},
    {JSONBOID, ""},
};

static void put_type(StringInfo out, Oid type, int32 typmod, int depth);

static pg_noreturn void refuse(Oid type, const char *why);

static void refuse(Oid type, const char *why)
{
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("no answer can be written as type %s%s", format_type_be(type), why),
                    errhint("Ask for a type that is made of booleans, numbers, texts, dates and times, enums, arrays and composites, and "
                            "convert its value.")));
    pg_unreachable();
}

/* numeric(p, s): p digits, s of them behind the point. */
static void put_numeric(StringInfo out, int32 typmod)
{
    int precision, scale;
    StringInfoData most;

    if (typmod < (int32) VARHDRSZ) {
        appendStringInfoString(out, "\"type\":\"number\",\"minimum\":-1e30,\"maximum\":1e30");
        return;
    }
    precision = ((typmod - VARHDRSZ) >> 16) & 0xffff;
    scale = (((typmod - VARHDRSZ) & 0x7ff) ^ 1024) - 1024;
    initStringInfo(&most);
    for (int i = 0; i < precision - scale; i++)
        appendStringInfoChar(&most, scale < 0 && i >= precision ? '0' : '9');
    if (precision <= scale)
        appendStringInfoChar(&most, '0');
    for (int i = 0; i < scale; i++)
        appendStringInfo(&most, "%s%c", i == 0 ? "." : "", i < scale - precision ? '0' : '9');
    appendStringInfo(out, "\"type\":\"%s\",\"minimum\":-%s,\"maximum\":%s", scale <= 0 ? "integer" : "number", most.data, most.data);
    if (scale > 0)
        appendStringInfo(out, ",\"multipleOf\":1e-%d", scale);
}

static void put_enum(StringInfo out, Oid type)
{
    Relation relation = table_open(EnumRelationId, AccessShareLock);
    Relation index = index_open(EnumTypIdSortOrderIndexId, AccessShareLock);
    ScanKeyData key;
    SysScanDesc scan;
    HeapTuple tuple;
    int n = 0;

    appendStringInfoString(out, "\"enum\":[");
    ScanKeyInit(&key, Anum_pg_enum_enumtypid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(type));
    scan = systable_beginscan_ordered(relation, index, NULL, 1, &key);
    while (HeapTupleIsValid(tuple = systable_getnext_ordered(scan, ForwardScanDirection))) {
        if (n++ > 0)
            appendStringInfoChar(out, ',');
        escape_json(out, NameStr(((Form_pg_enum) GETSTRUCT(tuple))->enumlabel));
    }
    systable_endscan_ordered(scan);
    index_close(index, AccessShareLock);
    table_close(relation, AccessShareLock);
    appendStringInfoChar(out, ']');
    if (n == 0)
        refuse(type, ", which has no values");
}

/* A column: its type, or NULL where it may be. */
static void put_column(StringInfo out, const FormData_pg_attribute *a, int depth)
{
    char *comment = GetComment(a->attrelid, RelationRelationId, a->attnum);

    escape_json(out, NameStr(a->attname));
    appendStringInfoString(out, ":{");
    if (comment != NULL) {
        appendStringInfoString(out, "\"description\":");
        escape_json(out, comment);
        appendStringInfoChar(out, ',');
    }
    if (a->attnotnull || !slm_pg_domain_may_be_null(a->atttypid)) {
        put_type(out, a->atttypid, a->atttypmod, depth + 1);
        appendStringInfoChar(out, '}');
        return;
    }
    appendStringInfoString(out, "\"anyOf\":[{");
    put_type(out, a->atttypid, a->atttypmod, depth + 1);
    appendStringInfoString(out, "},{\"type\":\"null\"}]}");
}

static void put_composite(StringInfo out, Oid type, int32 typmod, int depth)
{
    TupleDesc desc = lookup_rowtype_tupdesc(type, typmod);
    StringInfoData required;
    int n = 0;

    initStringInfo(&required);
    appendStringInfoString(out, "\"type\":\"object\",\"properties\":{");
    for (int i = 0; i < desc->natts; i++) {
        const FormData_pg_attribute *a = TupleDescAttr(desc, i);

        if (a->attisdropped || a->attgenerated != '\0')
            continue;
        if (n++ > 0) {
            appendStringInfoChar(out, ',');
            appendStringInfoChar(&required, ',');
        }
        put_column(out, a, depth);
        escape_json(&required, NameStr(a->attname));
    }
    appendStringInfo(out, "},\"required\":[%s],\"additionalProperties\":false", required.data);
    ReleaseTupleDesc(desc);
}

/* The keywords of a type's schema, without the braces around them. */
static void put_type(StringInfo out, Oid type, int32 typmod, int depth)
{
    char kind = get_typtype(type);
    Oid inner = get_element_type(type);

    check_stack_depth();
    if (depth > MAX_DEPTH)
        refuse(type, ", which stands too deep in others");
    for (int i = 0; i < (int) lengthof(plain); i++)
        if (plain[i].type == type) {
            appendStringInfoString(out, plain[i].schema);
            return;
        }
    if (type == NUMERICOID) {
        put_numeric(out, typmod);
    } else if (type == VARCHAROID || type == BPCHAROID) {
        appendStringInfoString(out, "\"type\":\"string\"");
        if (typmod >= (int32) VARHDRSZ)
            appendStringInfo(out, ",\"maxLength\":%d", typmod - VARHDRSZ);
    } else if (OidIsValid(inner) || kind == TYPTYPE_RANGE) {
        appendStringInfoString(out, "\"type\":\"array\",\"items\":{");
        put_type(out, OidIsValid(inner) ? inner : get_range_subtype(type), typmod, depth + 1);
        appendStringInfoString(out, kind == TYPTYPE_RANGE ? "},\"minItems\":2,\"maxItems\":2" : "}");
    } else if (kind == TYPTYPE_ENUM) {
        put_enum(out, type);
    } else if (kind == TYPTYPE_COMPOSITE) {
        put_composite(out, type, -1, depth);
    } else if (kind == TYPTYPE_DOMAIN) {
        int32 base_typmod = -1;
        Oid base = getBaseTypeAndTypmod(type, &base_typmod);

        if (base == JSONOID || base == JSONBOID)
            appendStringInfoString(out, "\"anyOf\":[{}]");
        put_type(out, base, base_typmod, depth + 1);
        slm_pg_put_checks(out, type);
    } else {
        refuse(type, "");
    }
}

char *slm_pg_type_schema(Oid type, int32 typmod)
{
    StringInfoData out;

    initStringInfo(&out);
    appendStringInfoChar(&out, '{');
    put_type(&out, type, typmod, 0);
    appendStringInfoChar(&out, '}');
    return out.data;
}
