/*
 * fields.c: reading the fields of slm_extract (fields.h).
 *
 *   'order', 'order number'             a name: its kind is guessed from its words
 *   'paid: amount'                      a name and a kind
 *   'paid: How much was paid?'          a name and a question, which tells the kind
 *   {"paid": "amount", "by": null}      the same as an object
 *   {"mood": ["happy", "angry"]}        one of these values
 *   {"mood": {"values_of": "moods.name"}}                            one of the values of a column
 *   {"paid": {"type": "number", "description": "..."}}, {"type": "object", "properties": {...}}     JSON Schema
 *   {"paid": {"type": "array", "items": {"type": "number"}}}         all values, from models that find them
 *
 * What a schema asks of a value beyond its type, format and enum cannot be kept by copying and is refused, but for a composite type, whose
 * own input checks it.
 */
#include "pg/functions/fields.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

#include "pg/base/args.h"
#include "pg/base/compat.h"
#include "pg/base/encoding.h"
#include "pg/functions/column_values.h"
#include "pg/functions/type_schema.h"

#define MOST_VALUES 1000 /* of a field */
#define FIELDS_EXAMPLE "ARRAY['order number', 'amount'], or '{\"order number\": \"id\", \"paid\": \"How much was paid?\"}'"

static pg_noreturn void refuse(const char *field, const char *why);

static void refuse(const char *field, const char *why)
{
    ereport(ERROR,
            (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("field \"%s\" %s", slm_pg_cstring_from_utf8(field), why),
             errhint(
                 "Fields are copied from the text. Ask for text, number, integer, amount, date, time, timestamp, id, email, phone, iban, "
                 "card, url, ip, uuid or a list of values, or let a model write: slm_generate_json(body, schema).")));
    pg_unreachable();
}

static const char *utf8_string(const JsonbValue *v)
{
    return slm_pg_utf8_from_cstring(pnstrdup(v->val.string.val, v->val.string.len));
}

static SlmField *add_field(SlmFields *fields, const char *name)
{
    SlmField *f = &fields->list[fields->n];

    if (fields->n >= SLM_MAX_FIELDS)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("too many fields"),
                        errhint("At most %d are extracted by a call.", SLM_MAX_FIELDS)));
    if (name[0] == '\0' || strlen(name) > 1000)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg(name[0] == '\0' ? "a field without a name" : "a field's name is too long"),
                        errhint("For example: fields => %s", FIELDS_EXAMPLE)));
    for (int i = 0; i < fields->n; i++)
        if (strcmp(fields->list[i].what.name, name) == 0)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("field \"%s\" is there twice", slm_pg_cstring_from_utf8(name)),
                            errhint("Fields must be distinct.")));
    f->what.name = name;
    fields->n++;
    return f;
}

/* Gives a field its kind: what its words say goes before a plain type. */
static void set_kind(SlmField *f, slm_extract_kind kind)
{
    slm_extract_kind guess = slm_extract_guess(f->what.name, f->what.question);

    f->number = kind == SLM_EXTRACT_NUMBER || kind == SLM_EXTRACT_INTEGER || kind == SLM_EXTRACT_AMOUNT;
    f->what.whole = kind == SLM_EXTRACT_INTEGER;
    if (kind == SLM_EXTRACT_N_KINDS) {
        kind = guess;
        f->number = guess == SLM_EXTRACT_NUMBER || guess == SLM_EXTRACT_AMOUNT;
    } else if (kind == SLM_EXTRACT_TEXT && guess != SLM_EXTRACT_AMOUNT && guess != SLM_EXTRACT_NUMBER) {
        kind = guess;
    } else if ((kind == SLM_EXTRACT_NUMBER || kind == SLM_EXTRACT_INTEGER) && (guess == SLM_EXTRACT_AMOUNT || guess == SLM_EXTRACT_ID)) {
        f->what.whole |= guess == SLM_EXTRACT_ID;
        kind = guess;
    }
    f->what.kind = kind;
}

/* "numeric(8,2)" is numeric. */
static slm_extract_kind kind_of_name(const char *name)
{
    char *lower = pstrdup(name);
    char *bracket;

    for (char *p = lower; *p != '\0'; p++)
        *p = (char) pg_tolower((unsigned char) *p);
    bracket = strchr(lower, '(');
    if (bracket != NULL)
        *bracket = '\0';
    return slm_extract_of_name(lower);
}

/* A kind's name or a question. */
static void say(SlmField *f, const char *s)
{
    slm_extract_kind kind;

    while (*s == ' ')
        s++;
    kind = kind_of_name(s);
    if (kind == SLM_EXTRACT_N_KINDS && (pg_strcasecmp(s, "boolean") == 0 || pg_strcasecmp(s, "bool") == 0))
        refuse(f->what.name, "is boolean, which no text holds to be copied");
    if (kind == SLM_EXTRACT_N_KINDS && s[0] != '\0')
        f->what.question = s;
    set_kind(f, kind);
}

/* "name" or "name: kind or question" */
static void read_item(SlmFields *fields, const char *item)
{
    const char *colon = strchr(item, ':');

    if (colon == NULL)
        set_kind(add_field(fields, item), SLM_EXTRACT_N_KINDS);
    else
        say(add_field(fields, pnstrdup(item, (Size) (colon - item))), colon + 1);
}

/* ---- JSON */

static void read_values(SlmField *f, const JsonbContainer *list)
{
    int n = (int) JsonContainerSize(list);
    const char **values = palloc(sizeof(char *) * (Size) Max(n, 1));

    for (int i = 0; i < n; i++) {
        JsonbValue *v = getIthJsonbValueFromContainer(unconstify(JsonbContainer *, list), (uint32) i);

        if (v->type == jbvNull)
            continue;
        if (v->type != jbvString || v->val.string.len == 0)
            refuse(f->what.name, "has a value that is no text to be found");
        values[f->what.n_values++] = utf8_string(v);
    }
    if (f->what.n_values == 0 || f->what.n_values > MOST_VALUES)
        refuse(f->what.name, psprintf("must have from 1 to %d values", MOST_VALUES));
    f->what.values = values;
    f->what.kind = SLM_EXTRACT_ENUM;
}

/* The values of a column, which the caller may read. */
static void read_column(SlmField *f, const char *name)
{
    SlmColumnValues from;
    const char **values;

    slm_pg_column_values(slm_pg_cstring_from_utf8(name), MOST_VALUES, &from);
    values = palloc(sizeof(char *) * (Size) from.n);
    for (int i = 0; i < from.n; i++)
        if (from.values[i][0] != '\0')
            values[f->what.n_values++] = slm_pg_utf8_from_cstring(from.values[i]);
    if (f->what.n_values == 0)
        refuse(f->what.name, "has no value that is text to be found");
    f->what.values = values;
    f->what.kind = SLM_EXTRACT_ENUM;
}

typedef struct Schema {
    const char *type, *format;
    const char *column; /* values_of */
    const JsonbContainer *values; /* of enum */
    const JsonbContainer *items;  /* of an array */
} Schema;

static bool key_is(const JsonbValue *key, const char *name)
{
    return key->val.string.len == (int) strlen(name) && memcmp(key->val.string.val, name, (size_t) key->val.string.len) == 0;
}

static void read_schema(SlmField *f, const JsonbContainer *object, bool checked, Schema *s);

/* The one of a list that is not null: ["number", "null"], [{...}, {"type": "null"}] */
static void read_options(SlmField *f, const JsonbContainer *list, bool checked, Schema *s)
{
    int n = 0;

    for (uint32 i = 0; i < JsonContainerSize(list); i++) {
        JsonbValue *v = getIthJsonbValueFromContainer(unconstify(JsonbContainer *, list), i);
        JsonbValue *type = v->type == jbvBinary && JsonContainerIsObject(v->val.binary.data)
                               ? getKeyJsonValueFromContainer(v->val.binary.data, "type", 4, NULL)
                               : v;

        if (type != NULL && type->type == jbvString && type->val.string.len == 4 && memcmp(type->val.string.val, "null", 4) == 0)
            continue;
        if (n++ > 0)
            refuse(f->what.name, "may be of several types");
        if (v->type == jbvBinary && JsonContainerIsObject(v->val.binary.data))
            read_schema(f, v->val.binary.data, checked, s);
        else if (v->type == jbvString)
            s->type = utf8_string(v);
    }
}

static bool is_string(const JsonbValue *v)
{
    return v->type == jbvString;
}

static bool is_list(const JsonbValue *v)
{
    return v->type == jbvBinary && JsonContainerIsArray(v->val.binary.data);
}

/* checked: the value's own input checks what stands beside type, format and enum. */
static void read_schema(SlmField *f, const JsonbContainer *object, bool checked, Schema *s)
{
    static const char *const passed[] = {"title", "default", "examples", "$comment", "nullable"};
    static const char *const checks[] = {"minimum", "maximum", "multipleOf", "pattern", "maxLength"};
    JsonbIterator *it = JsonbIteratorInit(unconstify(JsonbContainer *, object));
    JsonbValue key, v;
    bool known;

    (void) JsonbIteratorNext(&it, &key, true);
    while (JsonbIteratorNext(&it, &key, true) == WJB_KEY) {
        (void) JsonbIteratorNext(&it, &v, true);
        known = false;
        for (int i = 0; i < (int) lengthof(passed); i++)
            known |= key_is(&key, passed[i]);
        for (int i = 0; i < (int) lengthof(checks); i++)
            known |= checked && key_is(&key, checks[i]);
        if ((key_is(&key, "type") || key_is(&key, "kind")) && is_string(&v))
            s->type = utf8_string(&v);
        else if (key_is(&key, "format") && is_string(&v))
            s->format = utf8_string(&v);
        else if ((key_is(&key, "description") || key_is(&key, "question")) && is_string(&v))
            f->what.question = utf8_string(&v);
        else if ((key_is(&key, "enum") || key_is(&key, "values")) && is_list(&v))
            s->values = v.val.binary.data;
        else if (key_is(&key, "values_of") && is_string(&v))
            s->column = utf8_string(&v);
        else if (key_is(&key, "items") && v.type == jbvBinary && JsonContainerIsObject(v.val.binary.data))
            s->items = v.val.binary.data;
        else if ((key_is(&key, "anyOf") || key_is(&key, "oneOf") || key_is(&key, "type")) && is_list(&v))
            read_options(f, v.val.binary.data, checked, s);
        else if (!known)
            refuse(f->what.name, psprintf("asks for \"%s\", which copying cannot keep", pnstrdup(key.val.string.val, key.val.string.len)));
    }
}

/* Of an array what its elements are is looked for; its own description goes before theirs. */
static void read_elements(SlmField *f, bool checked, Schema *s)
{
    const JsonbContainer *items = s->items;
    const char *question = f->what.question;

    f->many = true;
    *s = (Schema) {0};
    if (items != NULL)
        read_schema(f, items, checked, s);
    if (question != NULL)
        f->what.question = question;
}

static void read_definition(SlmField *f, const JsonbContainer *object, bool checked)
{
    Schema s = {0};
    slm_extract_kind kind = SLM_EXTRACT_N_KINDS;

    read_schema(f, object, checked, &s);
    if (s.type != NULL && strcmp(s.type, "array") == 0 && s.values == NULL && s.column == NULL)
        read_elements(f, checked, &s);
    if (s.items != NULL)
        refuse(f->what.name, "asks for \"items\", which copying cannot keep");
    if (s.values != NULL) {
        read_values(f, s.values);
        return;
    }
    if (s.column != NULL) {
        read_column(f, s.column);
        return;
    }
    if (s.type != NULL && strcmp(s.type, "string") == 0 && s.format != NULL) {
        kind = kind_of_name(s.format);
        if (kind == SLM_EXTRACT_N_KINDS)
            refuse(f->what.name, psprintf("has the format \"%s\", which is not known", s.format));
    } else if (s.type != NULL) {
        kind = kind_of_name(s.type);
        if (kind == SLM_EXTRACT_N_KINDS)
            refuse(f->what.name, psprintf("is of type %s, which no text holds to be copied", s.type));
    }
    set_kind(f, kind);
}

static void read_object(SlmFields *fields, const JsonbContainer *object, bool checked)
{
    JsonbIterator *it = JsonbIteratorInit(unconstify(JsonbContainer *, object));
    JsonbValue key, v;

    (void) JsonbIteratorNext(&it, &key, true);
    while (JsonbIteratorNext(&it, &key, true) == WJB_KEY) {
        SlmField *f;

        (void) JsonbIteratorNext(&it, &v, true);
        f = add_field(fields, utf8_string(&key));
        if (v.type == jbvNull || (v.type == jbvBool && v.val.boolean))
            set_kind(f, SLM_EXTRACT_N_KINDS);
        else if (v.type == jbvString)
            say(f, utf8_string(&v));
        else if (is_list(&v))
            read_values(f, v.val.binary.data);
        else if (v.type == jbvBinary && JsonContainerIsObject(v.val.binary.data))
            read_definition(f, v.val.binary.data, checked);
        else
            refuse(f->what.name, "is described by what is neither a type, a question, a list of values nor a schema");
    }
}

static const JsonbContainer *properties_of(Jsonb *json)
{
    JsonbValue *v = JB_ROOT_IS_OBJECT(json) ? getKeyJsonValueFromContainer(&json->root, "properties", 10, NULL) : NULL;

    return v != NULL && v->type == jbvBinary && JsonContainerIsObject(v->val.binary.data) ? v->val.binary.data : NULL;
}

static void read_json(SlmFields *fields, Jsonb *json)
{
    const JsonbContainer *properties = properties_of(json);

    if (properties != NULL) {
        read_object(fields, properties, false);
    } else if (JB_ROOT_IS_OBJECT(json)) {
        read_object(fields, &json->root, false);
    } else if (JB_ROOT_IS_SCALAR(json)) {
        JsonbValue *v = getIthJsonbValueFromContainer(&json->root, 0);

        if (v->type == jbvString)
            read_item(fields, utf8_string(v));
    } else {
        for (uint32 i = 0; i < JB_ROOT_COUNT(json); i++) {
            JsonbValue *v = getIthJsonbValueFromContainer(&json->root, i);

            if (v->type != jbvString)
                ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("element %u of fields is no name", i + 1),
                                errhint("For example: fields => %s", FIELDS_EXAMPLE)));
            read_item(fields, utf8_string(v));
        }
    }
}

/* ---- the argument */

static void read_array(SlmFields *fields, ArrayType *array)
{
    Datum *elements;
    bool *nulls;
    int n;

    deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
    for (int i = 0; i < n; i++) {
        if (nulls[i])
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a field without a name"),
                            errhint("For example: fields => %s", FIELDS_EXAMPLE)));
        read_item(fields, slm_pg_utf8_from_text(DatumGetTextPP(elements[i]), NULL));
    }
}

/* What an untyped literal or parameter comes as: JSON, an array's literal, or names with commas between them. */
static void read_text(SlmFields *fields, const char *s)
{
    const char *p = s + strspn(s, " \t\r\n");

    if (*p == '[' || *p == '"' || (*p == '{' && p[1 + strspn(p + 1, " \t\r\n")] == '"' && strchr(p, ':') != NULL) || strcmp(p, "{}") == 0) {
        read_json(fields, DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(p))));
    } else if (*p == '{') {
        Oid input, parameter;

        getTypeInputInfo(TEXTARRAYOID, &input, &parameter);
        read_array(fields, DatumGetArrayTypeP(OidInputFunctionCall(input, pstrdup(p), parameter, -1)));
    } else {
        while (*p != '\0') {
            size_t length = strcspn(p, ","), n = length;

            while (n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\n'))
                n--;
            read_item(fields, slm_pg_utf8_from_cstring(pnstrdup(p, n)));
            p += length + (p[length] == ',');
            p += strspn(p, " \t\r\n");
        }
    }
}

void slm_pg_fields_arg(FunctionCallInfo fcinfo, int i, SlmFields *out)
{
    Oid type = get_fn_expr_argtype(fcinfo->flinfo, i);

    out->n = 0;
    out->list = palloc0(sizeof(SlmField) * (SLM_MAX_FIELDS + 1));
    if (type == TEXTARRAYOID)
        read_array(out, PG_GETARG_ARRAYTYPE_P(i));
    else if (type == JSONBOID)
        read_json(out, PG_GETARG_JSONB_P(i));
    else
        read_text(out, text_to_cstring(PG_GETARG_TEXT_PP(i)));
    if (out->n == 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("fields must not be empty"),
                        errhint("For example: fields => %s", FIELDS_EXAMPLE)));
}

void slm_pg_fields_of_type(Oid type, SlmFields *out)
{
    Jsonb *schema;

    if (get_typtype(type) != TYPTYPE_COMPOSITE)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("type %s is no composite type", format_type_be(type)),
                        errhint("CREATE TYPE mail AS (order_number text, amount numeric), then slm_extract_as(body, NULL::mail).")));
    schema = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(slm_pg_type_schema(type, -1))));
    out->n = 0;
    out->list = palloc0(sizeof(SlmField) * (SLM_MAX_FIELDS + 1));
    read_object(out, properties_of(schema), true);
}

void slm_pg_refuse_lists(const SlmFields *fields)
{
    for (int i = 0; i < fields->n; i++)
        if (fields->list[i].many)
            refuse(fields->list[i].what.name, "is of type array, which no text holds to be copied");
}

/* ---- values that are written */

static const char *const written_types[SLM_EXTRACT_N_KINDS] = {
    [SLM_EXTRACT_TEXT] = "\"type\":\"string\",\"maxLength\":200",
    [SLM_EXTRACT_NUMBER] = "\"type\":\"number\",\"minimum\":-1e15,\"maximum\":1e15",
    [SLM_EXTRACT_INTEGER] = "\"type\":\"integer\",\"minimum\":-999999999999,\"maximum\":999999999999",
    [SLM_EXTRACT_AMOUNT] = "\"type\":\"number\",\"minimum\":-1e15,\"maximum\":1e15,\"multipleOf\":0.01",
    [SLM_EXTRACT_DATE] = "\"type\":\"string\",\"format\":\"date\"",
    [SLM_EXTRACT_TIME] = "\"type\":\"string\",\"pattern\":\"^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]$\"",
    [SLM_EXTRACT_TIMESTAMP] = "\"type\":\"string\",\"format\":\"date-time\"",
    [SLM_EXTRACT_ID] = "\"type\":\"string\",\"pattern\":\"^[0-9A-Za-z][0-9A-Za-z/_.-]{0,39}$\"",
    [SLM_EXTRACT_EMAIL] = "\"type\":\"string\",\"format\":\"email\",\"maxLength\":100",
    [SLM_EXTRACT_PHONE] = "\"type\":\"string\",\"pattern\":\"^[+]?[0-9]{5,15}$\"",
    [SLM_EXTRACT_IBAN] = "\"type\":\"string\",\"pattern\":\"^[A-Z]{2}[0-9]{2}[0-9A-Z]{11,30}$\"",
    [SLM_EXTRACT_CARD] = "\"type\":\"string\",\"pattern\":\"^[0-9]{13,19}$\"",
    [SLM_EXTRACT_URL] = "\"type\":\"string\",\"format\":\"uri\",\"maxLength\":200",
    [SLM_EXTRACT_IP] = "\"type\":\"string\",\"anyOf\":[{\"format\":\"ipv4\"},{\"format\":\"ipv6\"}]",
    [SLM_EXTRACT_UUID] = "\"type\":\"string\",\"format\":\"uuid\"",
};

char *slm_pg_fields_schema(const SlmFields *fields)
{
    StringInfoData out, required;

    initStringInfo(&out);
    initStringInfo(&required);
    appendStringInfoString(&out, "{\"type\":\"object\",\"properties\":{");
    for (int i = 0; i < fields->n; i++) {
        const slm_extract_field *f = &fields->list[i].what;

        if (i > 0)
            appendStringInfoChar(&required, ',');
        appendStringInfoString(&out, i > 0 ? "," : "");
        escape_json(&out, slm_pg_cstring_from_utf8(f->name));
        escape_json(&required, slm_pg_cstring_from_utf8(f->name));
        appendStringInfoString(&out, ":{");
        if (f->question != NULL) {
            appendStringInfoString(&out, "\"description\":");
            escape_json(&out, slm_pg_cstring_from_utf8(f->question));
            appendStringInfoChar(&out, ',');
        }
        appendStringInfoString(&out, "\"anyOf\":[{");
        if (f->kind == SLM_EXTRACT_ENUM) {
            appendStringInfoString(&out, "\"enum\":[");
            for (size_t k = 0; k < f->n_values; k++) {
                appendStringInfoString(&out, k > 0 ? "," : "");
                escape_json(&out, slm_pg_cstring_from_utf8(f->values[k]));
            }
            appendStringInfoChar(&out, ']');
        } else {
            appendStringInfoString(&out, written_types[f->kind]);
        }
        appendStringInfoString(&out, "},{\"type\":\"null\"}]}");
    }
    appendStringInfo(&out, "},\"required\":[%s],\"additionalProperties\":false}", required.data);
    return out.data;
}
