/*
 * labels.c: reading labels and examples (labels.h).
 */
#include "pg/labels.h"

#include "pg/args.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

#define MAX_EXAMPLES 1000

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

static void check_labels(const SlmLabels *labels)
{
    const char **sorted;

    if (labels->n == 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("labels must not be empty"),
                        errhint("Pass from 1 to %d labels, such as ARRAY['billing', 'delivery'].", SLM_MAX_LABELS)));
    sorted = palloc(sizeof(char *) * (Size) labels->n);
    memcpy(sorted, labels->names, sizeof(char *) * (Size) labels->n);
    qsort(sorted, (size_t) labels->n, sizeof(char *), compare_strings);
    for (int i = 1; i < labels->n; i++) {
        if (strcmp(sorted[i - 1], sorted[i]) == 0)
            ereport(ERROR,
                    (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("label \"%s\" is there twice", slm_pg_cstring_from_utf8(sorted[i])),
                     errhint("Labels must be distinct.")));
    }
    pfree(sorted);
}

/* The string of a key of a JSON object in UTF-8, or NULL when it is not there or is JSON null. */
static const char *json_string(JsonbContainer *object, const char *key, const char *what)
{
    JsonbValue *value = getKeyJsonValueFromContainer(object, key, (int) strlen(key), NULL);

    if (value == NULL || value->type == jbvNull)
        return NULL;
    if (value->type != jbvString)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("\"%s\" of %s must be a string", key, what)));
    return slm_pg_utf8_from_cstring(pnstrdup(value->val.string.val, value->val.string.len));
}

static Jsonb *json_array_arg(FunctionCallInfo fcinfo, int arg, const char *what, const char *example, int max)
{
    Jsonb *json = PG_GETARG_JSONB_P(arg);

    if (!JB_ROOT_IS_ARRAY(json) || JB_ROOT_IS_SCALAR(json))
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s must be a JSON array", what), errhint("For example: %s", example)));
    if ((int) JB_ROOT_COUNT(json) > max)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("%s has %d elements", what, (int) JB_ROOT_COUNT(json)),
                        errhint("At most %d are allowed.", max)));
    return json;
}

#define LABELS_EXAMPLE "[{\"label\": \"billing\", \"description\": \"invoices, refunds\"}, {\"label\": \"other\"}]"

static void labels_from_json(FunctionCallInfo fcinfo, int arg, SlmLabels *out)
{
    Jsonb *json = json_array_arg(fcinfo, arg, "labels", LABELS_EXAMPLE, SLM_MAX_LABELS);
    int n = (int) JB_ROOT_COUNT(json);
    bool described = false;

    out->names = palloc0(sizeof(char *) * (Size) Max(n, 1));
    out->descriptions = palloc0(sizeof(char *) * (Size) Max(n, 1));
    for (int i = 0; i < n; i++) {
        JsonbValue *value = getIthJsonbValueFromContainer(&json->root, (uint32) i);

        if (value->type == jbvString) {
            out->names[i] = slm_pg_utf8_from_cstring(pnstrdup(value->val.string.val, value->val.string.len));
        } else if (value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data)) {
            out->names[i] = json_string(value->val.binary.data, "label", "a label");
            out->descriptions[i] = json_string(value->val.binary.data, "description", "a label");
        }
        if (out->names[i] == NULL || out->names[i][0] == '\0')
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("element %d of labels has no label", i + 1),
                            errhint("For example: %s", LABELS_EXAMPLE)));
        described = described || out->descriptions[i] != NULL;
    }
    out->n = n;
    if (!described)
        out->descriptions = NULL;
}

static void labels_from_enum(Oid type, SlmLabels *out)
{
    Relation relation = table_open(EnumRelationId, AccessShareLock);
    Relation index = index_open(EnumTypIdSortOrderIndexId, AccessShareLock);
    ScanKeyData key;
    SysScanDesc scan;
    HeapTuple tuple;

    out->names = palloc(sizeof(char *) * SLM_MAX_LABELS);
    out->enum_type = type;
    ScanKeyInit(&key, Anum_pg_enum_enumtypid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(type));
    scan = systable_beginscan_ordered(relation, index, NULL, 1, &key);
    while (HeapTupleIsValid(tuple = systable_getnext_ordered(scan, ForwardScanDirection)) && out->n < SLM_MAX_LABELS)
        out->names[out->n++] = slm_pg_utf8_from_cstring(pstrdup(NameStr(((Form_pg_enum) GETSTRUCT(tuple))->enumlabel)));
    systable_endscan_ordered(scan);
    index_close(index, AccessShareLock);
    table_close(relation, AccessShareLock);
}

void slm_pg_labels_arg(FunctionCallInfo fcinfo, int arg, SlmLabels *out)
{
    Oid type = get_fn_expr_argtype(fcinfo->flinfo, arg);

    memset(out, 0, sizeof *out);
    if (type_is_enum(type)) {
        labels_from_enum(type, out); /* the value of the argument is of no interest */
    } else if (PG_ARGISNULL(arg)) {
        out->n = 0;
    } else if (type == JSONBOID) {
        labels_from_json(fcinfo, arg, out);
    } else {
        out->names = slm_pg_strings_arg(fcinfo, arg, "labels", SLM_MAX_LABELS, &out->n);
    }
    check_labels(out);
}

Datum slm_pg_label_datum(const SlmLabels *labels, int i)
{
    if (OidIsValid(labels->enum_type))
        return DirectFunctionCall2(enum_in, CStringGetDatum(slm_pg_cstring_from_utf8(labels->names[i])),
                                   ObjectIdGetDatum(labels->enum_type));
    return PointerGetDatum(slm_pg_text_from_utf8(labels->names[i], strlen(labels->names[i])));
}

#define EXAMPLES_EXAMPLE "[{\"text\": \"Where is my parcel?\", \"label\": \"delivery\"}]"

void slm_pg_examples_arg(FunctionCallInfo fcinfo, int arg, const SlmLabels *labels, SlmExamples *out)
{
    Jsonb *json;

    memset(out, 0, sizeof *out);
    if (PG_ARGISNULL(arg))
        return;
    json = json_array_arg(fcinfo, arg, "examples", EXAMPLES_EXAMPLE, MAX_EXAMPLES);
    out->n = (int) JB_ROOT_COUNT(json);
    out->texts = palloc0(sizeof(char *) * (Size) Max(out->n, 1));
    out->labels = palloc0(sizeof(int) * (Size) Max(out->n, 1));
    for (int i = 0; i < out->n; i++) {
        JsonbValue *value = getIthJsonbValueFromContainer(&json->root, (uint32) i);
        const char *label = NULL;

        if (value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data)) {
            out->texts[i] = json_string(value->val.binary.data, "text", "an example");
            label = json_string(value->val.binary.data, "label", "an example");
        }
        if (out->texts[i] == NULL || label == NULL)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("element %d of examples needs a text and a label", i + 1),
                            errhint("For example: %s", EXAMPLES_EXAMPLE)));
        while (out->labels[i] < labels->n && strcmp(labels->names[out->labels[i]], label) != 0)
            out->labels[i]++;
        if (out->labels[i] == labels->n)
            ereport(ERROR,
                    (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                     errmsg("example %d has the label \"%s\", which is not among the labels", i + 1, slm_pg_cstring_from_utf8(label)),
                     errhint("Add it to labels, or correct the example.")));
    }
}
