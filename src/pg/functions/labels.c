/*
 * labels.c: reading labels and examples (labels.h).
 */
#include "pg/functions/labels.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

#include "pg/base/args.h"
#include "pg/base/encoding.h"

#define MAX_EXAMPLES 1000

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* Of pointers into an array of strings. */
static int compare_places(const void *a, const void *b)
{
    return strcmp(**(const char **const *) a, **(const char **const *) b);
}

static void check_labels(const SlmLabels *labels, const char *hint)
{
    const char **sorted;

    if (labels->n == 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("labels must not be empty"),
                        errhint("Pass from 1 to %d labels, such as labels => ARRAY['billing', 'delivery']%s.", SLM_MAX_LABELS, hint)));
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

#define LABELS_EXAMPLE "{\"billing\": \"invoices, refunds\", \"other\": null}"

/* {"label": "description", ...} */
static void labels_from_object(Jsonb *json, SlmLabels *out)
{
    JsonbIterator *it = JsonbIteratorInit(&json->root);
    JsonbIteratorToken token;
    JsonbValue key, value;

    (void) JsonbIteratorNext(&it, &key, true); /* the beginning */
    while ((token = JsonbIteratorNext(&it, &key, true)) == WJB_KEY) {
        (void) JsonbIteratorNext(&it, &value, true);
        out->names[out->n] = slm_pg_utf8_from_cstring(pnstrdup(key.val.string.val, key.val.string.len));
        if (value.type == jbvString)
            out->descriptions[out->n] = slm_pg_utf8_from_cstring(pnstrdup(value.val.string.val, value.val.string.len));
        else if (value.type != jbvNull)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                            errmsg("the description of label \"%s\" must be a string", slm_pg_cstring_from_utf8(out->names[out->n])),
                            errhint("For example: %s", LABELS_EXAMPLE)));
        out->n++;
    }
}

/* ["label", {"label": "...", "description": "..."}, ...] */
static void labels_from_array(Jsonb *json, SlmLabels *out)
{
    for (; out->n < (int) JB_ROOT_COUNT(json); out->n++) {
        JsonbValue *value = getIthJsonbValueFromContainer(&json->root, (uint32) out->n);

        if (value->type == jbvString) {
            out->names[out->n] = slm_pg_utf8_from_cstring(pnstrdup(value->val.string.val, value->val.string.len));
        } else if (value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data)) {
            out->names[out->n] = json_string(value->val.binary.data, "label", "a label");
            out->descriptions[out->n] = json_string(value->val.binary.data, "description", "a label");
        }
        if (out->names[out->n] == NULL)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("element %d of descriptions has no label", out->n + 1),
                            errhint("For example: %s", LABELS_EXAMPLE)));
    }
}

static void labels_from_json(FunctionCallInfo fcinfo, int arg, SlmLabels *out)
{
    Jsonb *json = PG_GETARG_JSONB_P(arg);
    int n = (int) JB_ROOT_COUNT(json);

    if (JB_ROOT_IS_SCALAR(json))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("descriptions must be a JSON object"),
                        errhint("For example: %s", LABELS_EXAMPLE)));
    if (n > SLM_MAX_LABELS)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("descriptions has %d elements", n),
                        errhint("At most %d are allowed.", SLM_MAX_LABELS)));
    out->names = palloc0(sizeof(char *) * (Size) Max(n, 1));
    out->descriptions = palloc0(sizeof(char *) * (Size) Max(n, 1));
    if (JB_ROOT_IS_OBJECT(json))
        labels_from_object(json, out);
    else
        labels_from_array(json, out);
    for (int i = 0; i < n; i++)
        if (out->names[i][0] == '\0')
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("descriptions must not contain empty labels"),
                            errhint("For example: %s", LABELS_EXAMPLE)));
}

/* Where the labels are given, descriptions tell about some of them. */
static void add_descriptions(SlmLabels *labels, const SlmLabels *described)
{
    const char ***places = palloc(sizeof(char **) * (Size) labels->n); /* of the names, in their order */

    labels->descriptions = palloc0(sizeof(char *) * (Size) labels->n);
    for (int i = 0; i < labels->n; i++)
        places[i] = &labels->names[i];
    qsort(places, (size_t) labels->n, sizeof *places, compare_places);
    for (int i = 0; i < described->n; i++) {
        const char **wanted = &described->names[i], ***found;

        found = bsearch(&wanted, places, (size_t) labels->n, sizeof *places, compare_places);
        if (found == NULL)
            ereport(ERROR,
                    (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                     errmsg("descriptions has the label \"%s\", which is not among those to choose from",
                            slm_pg_cstring_from_utf8(*wanted)),
                     OidIsValid(labels->enum_type)
                         ? errhint("They are the values of type %s.", format_type_be(labels->enum_type))
                         : errhint("Add it to labels, or leave labels out: descriptions then names them all.")));
        labels->descriptions[*found - labels->names] = described->descriptions[i];
    }
    pfree(places);
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
    if (out->n == 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("type %s has no values to choose from", format_type_be(type)),
                        errhint("ALTER TYPE %s ADD VALUE '...' adds one.", format_type_be(type))));
}

void slm_pg_labels_arg(FunctionCallInfo fcinfo, int labels, int descriptions, bool classifier, SlmLabels *out)
{
    Oid type = get_fn_expr_argtype(fcinfo->flinfo, labels);
    SlmLabels described = {0};
    const char *hint = descriptions < 0 ? ""
                       : !classifier    ? ", or descriptions => '" LABELS_EXAMPLE "'"
                                        : ", descriptions => '" LABELS_EXAMPLE "', or classifier => 'name' of a trained one";

    memset(out, 0, sizeof *out);
    if (descriptions >= 0 && !PG_ARGISNULL(descriptions)) {
        labels_from_json(fcinfo, descriptions, &described);
        if (described.n > 0)
            check_labels(&described, hint);
    }
    if (type_is_enum(type)) {
        labels_from_enum(type, out); /* the value of the argument is of no interest */
    } else if (PG_ARGISNULL(labels)) {
        *out = described;
        check_labels(out, hint);
        return;
    } else {
        out->names = slm_pg_strings_arg(fcinfo, labels, "labels", SLM_MAX_LABELS, &out->n);
    }
    check_labels(out, hint);
    if (described.n > 0)
        add_descriptions(out, &described);
}

const char *slm_pg_described_label(const SlmLabels *labels, int i, const char *format)
{
    const char *description = labels->descriptions == NULL ? NULL : labels->descriptions[i];

    return description == NULL ? labels->names[i] : psprintf(format, labels->names[i], description);
}

Datum slm_pg_label_datum(const char *name, Oid enum_type)
{
    if (OidIsValid(enum_type))
        return DirectFunctionCall2(enum_in, CStringGetDatum(slm_pg_cstring_from_utf8(name)), ObjectIdGetDatum(enum_type));
    return PointerGetDatum(slm_pg_text_from_utf8(name, strlen(name)));
}

#define EXAMPLES_EXAMPLE "[{\"text\": \"Where is my parcel?\", \"label\": \"delivery\"}]"

void slm_pg_examples_arg(FunctionCallInfo fcinfo, int arg, const SlmLabels *labels, SlmExamples *out)
{
    Jsonb *json;

    memset(out, 0, sizeof *out);
    if (PG_ARGISNULL(arg))
        return;
    json = PG_GETARG_JSONB_P(arg);
    if (!JB_ROOT_IS_ARRAY(json) || JB_ROOT_IS_SCALAR(json))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("examples must be a JSON array"),
                        errhint("For example: %s", EXAMPLES_EXAMPLE)));
    if ((int) JB_ROOT_COUNT(json) > MAX_EXAMPLES)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("examples has %d elements", (int) JB_ROOT_COUNT(json)),
                        errhint("At most %d are allowed.", MAX_EXAMPLES)));
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
                     errhint("Correct the example, or add its label to those to choose from.")));
    }
}
