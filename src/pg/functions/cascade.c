/*
 * cascade.c: the cascades that this backend has opened (cascade.h).
 *
 * A row's steps are read once and kept; that the user may use it is asked anew where the snapshot or the role is another (asked.h).  What
 * a row says is checked as if a user had just written it: a restored row is hostile.
 */
#include "pg/functions/cascade.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "pg/models/cascade_rows.h"

static dlist_head opened = DLIST_STATIC_INIT(opened); /* most recently used first */

/* ---- steps */

static const char *const step_hint = "For example: [{\"classifier\": \"topics\"}, {\"labels\": [\"billing\", \"delivery\"], "
                                     "\"model\": \"large\", \"method\": \"direct\"}]; for slm_filter the last step is "
                                     "{\"condition\": \"asks for a refund\", \"model\": \"large\"}";

static pg_noreturn void bad_step(int number, const char *what);

static void bad_step(int number, const char *what)
{
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("step %d of a cascade %s", number, what), errhint("%s", step_hint)));
    pg_unreachable();
}

static void set_value(SlmCascadeStep *step, int argument, Datum value)
{
    step->values[argument] = value;
    step->nulls[argument] = false;
}

static Datum labels_value(int number, JsonbContainer *list)
{
    int n = JsonContainerIsArray(list) ? (int) JsonContainerSize(list) : 0;
    Datum *elements = palloc(sizeof(Datum) * (Size) Max(n, 1));

    if (n == 0)
        bad_step(number, "has labels that are no list of strings");
    for (int i = 0; i < n; i++) {
        JsonbValue *value = getIthJsonbValueFromContainer(list, (uint32) i);

        if (value->type != jbvString)
            bad_step(number, "has labels that are no list of strings");
        elements[i] = PointerGetDatum(cstring_to_text_with_len(value->val.string.val, value->val.string.len));
    }
    return PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT));
}

static void read_member(int number, const char *key, const JsonbValue *value, SlmCascadeStep *out)
{
    static const struct {
        const char *key;
        int argument;
    } strings[] = {{"classifier", SLM_CLASSIFY_CLASSIFIER}, {"model", SLM_CLASSIFY_MODEL}, {"method", SLM_CLASSIFY_METHOD},
                   {"instruction", SLM_CLASSIFY_INSTRUCTION}};

    if (strcmp(key, "labels") == 0 && value->type == jbvBinary) {
        set_value(out, SLM_CLASSIFY_LABELS, labels_value(number, value->val.binary.data));
        return;
    }
    if (strcmp(key, "descriptions") == 0 && value->type == jbvBinary) {
        set_value(out, SLM_CLASSIFY_DESCRIPTIONS, JsonbPGetDatum(JsonbValueToJsonb((JsonbValue *) unconstify(JsonbValue *, value))));
        return;
    }
    if (strcmp(key, "condition") == 0 && value->type == jbvString && value->val.string.len > 0) {
        out->condition = cstring_to_text_with_len(value->val.string.val, value->val.string.len);
        return;
    }
    for (int i = 0; i < (int) lengthof(strings); i++)
        if (strcmp(key, strings[i].key) == 0 && value->type == jbvString) {
            set_value(out, strings[i].argument,
                      PointerGetDatum(cstring_to_text_with_len(value->val.string.val, value->val.string.len)));
            return;
        }
    bad_step(number, psprintf("has a member \"%s\" that is unknown or of a wrong type", key));
}

static void read_step(int number, JsonbContainer *object, SlmCascadeStep *out)
{
    JsonbIterator *it = JsonbIteratorInit(object);
    JsonbIteratorToken token;
    JsonbValue key, value;
    int kinds;

    memset(out, 0, sizeof *out);
    memset(out->nulls, true, sizeof out->nulls);
    (void) JsonbIteratorNext(&it, &key, true); /* the beginning */
    while ((token = JsonbIteratorNext(&it, &key, true)) == WJB_KEY) {
        (void) JsonbIteratorNext(&it, &value, true);
        read_member(number, pnstrdup(key.val.string.val, key.val.string.len), &value, out);
    }
    kinds = (!out->nulls[SLM_CLASSIFY_LABELS] || !out->nulls[SLM_CLASSIFY_DESCRIPTIONS]) + !out->nulls[SLM_CLASSIFY_CLASSIFIER] +
            (out->condition != NULL);
    if (kinds > 1 || (kinds == 0 && out->nulls[SLM_CLASSIFY_MODEL]))
        bad_step(number, "is not one of: a classifier, labels, a condition");
}

int slm_pg_read_steps(Jsonb *json, SlmCascadeStep steps[SLM_MAX_STEPS])
{
    int n = JB_ROOT_IS_ARRAY(json) ? (int) JB_ROOT_COUNT(json) : 0;

    if (n < 2 || n > SLM_MAX_STEPS)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("the steps of a cascade are a list of 2 to %d objects", SLM_MAX_STEPS),
                        errhint("%s", step_hint)));
    for (int i = 0; i < n; i++) {
        JsonbValue *value = getIthJsonbValueFromContainer(&json->root, (uint32) i);

        if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
            bad_step(i + 1, "is no object");
        read_step(i + 1, value->val.binary.data, &steps[i]);
    }
    return n;
}

const char *slm_pg_truth(const char *answer)
{
    bool value;

    return !parse_bool(answer, &value) ? answer : value ? "true" : "false";
}

/* ---- opening */

static void close_kept(SlmKept *kept)
{
    MemoryContextDelete(((SlmCascade *) kept)->context);
}

static pg_noreturn void damaged(const char *name);

static void damaged(const char *name)
{
    ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("cascade \"%s\" is damaged", name),
                    errhint("Create it again with slm_create_cascade.")));
    pg_unreachable();
}

/* The elements of an array of the row, exactly n. */
static Datum *elements(const SlmCascadeRow *row, const char *name, int column, Oid type, int16 length, bool by_value, char align, int n)
{
    ArrayType *array = DatumGetArrayTypeP(slm_pg_cascade_value(row, column));
    Datum *values;
    bool *nulls;
    int found;

    if (ARR_NDIM(array) != 1 || ARR_HASNULL(array) || ARR_ELEMTYPE(array) != type)
        damaged(name);
    deconstruct_array(array, type, length, by_value, align, &values, &nulls, &found);
    if (found != n)
        damaged(name);
    return values;
}

static void fill(SlmCascade *c, const char *name, const SlmCascadeRow *row)
{
    Datum *keys, *versions, *thresholds;

    c->n = slm_pg_read_steps(DatumGetJsonbP(slm_pg_cascade_value(row, Anum_slm_cascade_steps)), c->steps);
    keys = elements(row, name, Anum_slm_cascade_images, TEXTOID, -1, false, TYPALIGN_INT, c->n);
    versions = elements(row, name, Anum_slm_cascade_versions, INT4OID, sizeof(int32), true, TYPALIGN_INT, c->n);
    thresholds = elements(row, name, Anum_slm_cascade_thresholds, FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE,
                          c->n - 1);
    for (int i = 0; i < c->n; i++) {
        strlcpy(c->steps[i].key, TextDatumGetCString(keys[i]), sizeof c->steps[i].key);
        c->steps[i].version = DatumGetInt32(versions[i]);
        c->steps[i].threshold = i < c->n - 1 ? DatumGetFloat8(thresholds[i]) : 0;
        if (!(c->steps[i].threshold >= 0))
            damaged(name);
    }
    c->target = DatumGetFloat8(slm_pg_cascade_value(row, Anum_slm_cascade_target));
    c->audit = DatumGetFloat8(slm_pg_cascade_value(row, Anum_slm_cascade_audit));
    if (!(c->target > 0 && c->target < 1 && c->audit >= 0 && c->audit <= 1))
        damaged(name);
}

static SlmCascade *open_row(const char *name, const SlmCascadeRow *row)
{
    MemoryContext context, old;
    SlmCascade *c = (SlmCascade *) slm_pg_kept_row(&opened, name, row->tuple);

    if (c != NULL)
        return c;
    slm_pg_kept_room(&opened, name, close_kept);
    context = AllocSetContextCreate(CurrentMemoryContext, "slm cascade", ALLOCSET_SMALL_SIZES); /* goes with an error */
    old = MemoryContextSwitchTo(context);
    c = palloc0(sizeof *c);
    c->context = context;
    fill(c, name, row);
    MemoryContextSwitchTo(old);
    MemoryContextSetParent(context, TopMemoryContext);
    slm_pg_keep(&opened, &c->kept, name, row->tuple);
    return c;
}

SlmCascade *slm_pg_use_cascade(const text *name)
{
    char *wanted = text_to_cstring(name);
    Snapshot snapshot = GetActiveSnapshot();
    SlmAsked asked = slm_pg_asked_by(snapshot);
    SlmCascade *found = (SlmCascade *) slm_pg_kept_answer(&opened, wanted, &asked);

    if (found == NULL) {
        found = open_row(wanted, slm_pg_usable_cascade(wanted, snapshot));
        found->kept.asked = asked;
    }
    slm_pg_use_kept(&opened, &found->kept);
    return found;
}

/* ---- running */

void slm_pg_check_step(const SlmCascade *cascade, int step, const char *key, int32 version)
{
    const SlmCascadeStep *s = &cascade->steps[step];

    if (strcmp(s->key, key) == 0 && s->version == version)
        return;
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("cascade \"%s\" learned its thresholds with another %s of step %d", cascade->kept.name,
                           s->version != version ? "version of the classifier" : "model", step + 1),
                    errhint("Create it again: SELECT c.* FROM slm.cascades o, slm_create_cascade(o.name, o.steps, o.query, o.target, "
                            "o.measure, o.failure, o.audit) c WHERE o.name = %s AND o.owner = current_user::regrole;",
                            quote_literal_cstr(cascade->kept.name))));
}

bool slm_pg_is_audited(const SlmCascade *cascade, const text *input)
{
    uint64 hash = hash_bytes_extended((const unsigned char *) VARDATA_ANY(input), (int) VARSIZE_ANY_EXHDR(input), 20);

    return (double) (hash >> 11) / 9007199254740992.0 < cascade->audit;
}
