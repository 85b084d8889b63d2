/*
 * train.c: slm_train_classifier.
 *
 *   query ──cursor──► rows (text | embedding, label) ──embed──► matrix ──slm_train_*──► blob ──retrain.c──► next version, active or not
 *
 * Rows are read by training_rows.c; their texts are kept when n-grams are wanted or another version is to be compared.
 */
#include "pg/functions/train.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "nodes/pg_list.h"
#include "parser/parse_func.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/compat.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/base/errors.h"
#include "pg/base/threads.h"
#include "pg/functions/finetune.h"
#include "pg/functions/kinds.h"
#include "pg/functions/labels.h"
#include "pg/functions/prototypes.h"
#include "pg/models/catalog.h"
#include "pg/models/classifier_rows.h"
#include "pg/models/load.h"
#include "pg/models/loading.h"
#include "pg/run/opened.h"
#include "pg/run/use.h"
#include "pg/run/work.h"

PG_FUNCTION_INFO_V1(slm_pg_train_classifier);
PG_FUNCTION_INFO_V1(slm_pg_distill_classifier);

/* ---- options */

static double json_number(Jsonb *options, const char *key, double otherwise, double min, double max)
{
    JsonbValue *value = getKeyJsonValueFromContainer(&options->root, key, (int) strlen(key), NULL);

    if (value == NULL || value->type == jbvNull)
        return otherwise;
    return slm_pg_option_number(key, value, min, max, false, psprintf("For example {\"%s\": %g}.", key, otherwise));
}

static bool json_flag(Jsonb *options, const char *key, bool otherwise)
{
    JsonbValue *value = getKeyJsonValueFromContainer(&options->root, key, (int) strlen(key), NULL);

    if (value == NULL || value->type == jbvNull)
        return otherwise;
    if (value->type != jbvBool)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"%s\" must be true or false", key)));
    return value->val.boolean;
}

void slm_pg_training_progress(void *arg, const char *stage, double fraction)
{
    slm_pg_loading_report(NULL, (uint64_t) (fraction * 1000), 1000);
}

typedef enum Activate { ACTIVATE_IF_BETTER, ACTIVATE_ALWAYS, ACTIVATE_NEVER } Activate;

static Activate read_activate(Jsonb *options)
{
    static const char *const names[] = {"if_better", "always", "never"};
    JsonbValue *value = getKeyJsonValueFromContainer(&options->root, "activate", 8, NULL);

    if (value == NULL || value->type == jbvNull)
        return ACTIVATE_IF_BETTER;
    for (int i = 0; value->type == jbvString && i < (int) lengthof(names); i++)
        if (value->val.string.len == (int) strlen(names[i]) && memcmp(value->val.string.val, names[i], strlen(names[i])) == 0)
            return (Activate) i;
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("option \"activate\" must be \"if_better\", \"always\" or \"never\"")));
    pg_unreachable();
}

/* The option "finetune": true, or an object of the options of slm_finetune; NULL: the encoder stays as it is. */
static Jsonb *read_finetune(Jsonb *options)
{
    JsonbValue *value = getKeyJsonValueFromContainer(&options->root, "finetune", 8, NULL);
    SlmTuneOptions parsed;
    Jsonb *given;

    if (value == NULL || value->type == jbvNull || (value->type == jbvBool && !value->val.boolean))
        return NULL;
    given = value->type == jbvBool ? slm_pg_no_options() : JsonbValueToJsonb(value);
    if (!JB_ROOT_IS_OBJECT(given))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("option \"finetune\" must be true, false or an object of options of slm_finetune"),
                        errhint("For example {\"finetune\": {\"epochs\": 5}}.")));
    slm_pg_finetune_options(given, &parsed);
    return given;
}

static slm_train_options read_options(Jsonb *options)
{
    static const char *const known[] = {"ngrams", "l2", "folds", "balance", "seed", "activate", "finetune"};
    slm_train_options out = {.trials = true, .stop = SLM_STOP, .progress = slm_pg_training_progress};
    JsonbIterator *it;
    JsonbValue key;
    JsonbIteratorToken token;
    JsonbValue *balance;

    if (!JB_ROOT_IS_OBJECT(options))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("options must be a JSON object")));
    it = JsonbIteratorInit(&options->root);
    while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE) {
        bool found = token != WJB_KEY;

        for (int i = 0; i < (int) lengthof(known) && !found; i++)
            found = key.val.string.len == (int) strlen(known[i]) && memcmp(key.val.string.val, known[i], strlen(known[i])) == 0;
        if (!found)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                            errmsg("unknown training option \"%.*s\"", key.val.string.len, key.val.string.val),
                            errhint("Options are ngrams, l2, folds, balance, seed, activate and finetune.")));
    }
    out.ngrams = json_flag(options, "ngrams", false);
    out.l2 = (float) json_number(options, "l2", 0, 0, 1e6);
    out.n_folds = (uint32_t) json_number(options, "folds", 0, 0, 20);
    out.seed = (uint64_t) json_number(options, "seed", 0, 0, 1e15);
    balance = getKeyJsonValueFromContainer(&options->root, "balance", 7, NULL);
    if (balance != NULL)
        out.balance = json_flag(options, "balance", false) ? SLM_BALANCE_ON : SLM_BALANCE_OFF;
    return out;
}

/* ---- rows */

void slm_pg_check_training_rows(const SlmTrainRows *set)
{
    if (set->n == 0)
        ereport(ERROR, (errcode(ERRCODE_NO_DATA_FOUND), errmsg("the query gave no row to learn from"),
                        errdetail(INT64_FORMAT " rows without text or label were skipped.", set->skipped),
                        errhint("A training needs rows with a text (or embedding)%s.", set->by_names ? "" : " and a label")));
    if (set->n_labels < 2)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("all rows have the label \"%s\"", slm_pg_cstring_from_utf8(set->names[0])),
                        errhint("A classifier needs at least two labels.")));
    if (set->skipped > 0)
        ereport(WARNING, (errmsg_plural("%ld row without text or label was skipped", "%ld rows without text or label were skipped",
                                        (unsigned long) set->skipped, (long) set->skipped)));
}

/* Says which rows the figures leave out, and why there are none. */
static void explain_figures(const char *name, const SlmTrainRows *set, const slm_train_report *report)
{
    int lonely = (int) report->n_lonely;

    if (set->by_names)
        return;
    if (isnan(report->accuracy) && lonely > 0)
        ereport(NOTICE, (errmsg("the accuracy of classifier \"%s\" was not measured", name),
                         errdetail("%d of its %d labels have fewer than two different texts: held out, they would be unknown.", lonely,
                                   set->n_labels),
                         errhint("Label at least two different texts for each label.")));
    else if (isnan(report->accuracy))
        ereport(NOTICE, (errmsg("the accuracy of classifier \"%s\" was not measured", name),
                         errdetail("The query gives %d different texts only, too few to hold some out.", (int) report->n_distinct)));
    else if (lonely > 0)
        ereport(NOTICE, (errmsg_plural("%d label has fewer than two different texts and is left out of the accuracy",
                                       "%d labels have fewer than two different texts and are left out of the accuracy",
                                       (unsigned long) lonely, lonely)));
}

/* ---- the registry */

static Datum text_array(const char *const *strings, int n)
{
    Datum *elements = palloc(sizeof(Datum) * (Size) Max(n, 1));

    for (int i = 0; i < n; i++)
        elements[i] = PointerGetDatum(slm_pg_text_from_utf8(strings[i], strlen(strings[i])));
    return PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* int[n_labels][n_labels] */
static Datum confusion_array(const slm_train_report *report, int n)
{
    Datum *elements = palloc(sizeof(Datum) * (Size) n * (Size) n);
    int dims[2] = {n, n}, lower[2] = {1, 1};

    for (int i = 0; i < n * n; i++)
        elements[i] = Int32GetDatum((int32) report->confusion[i]);
    return PointerGetDatum(construct_md_array(elements, NULL, 2, dims, lower, INT4OID, sizeof(int32), true, TYPALIGN_INT));
}

static bytea *bytes_value(const void *data, size_t bytes)
{
    bytea *value;

    if (bytes + VARHDRSZ > MaxAllocSize)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("the classifier takes %zu bytes, more than a value may have", bytes),
                        errhint("Train without n-grams, or with fewer labels.")));
    value = palloc(bytes + VARHDRSZ);
    SET_VARSIZE(value, bytes + VARHDRSZ);
    memcpy(VARDATA(value), data, bytes);
    return value;
}

/* Stores the next version of a name and returns its number. */
static int32 store_version(const char *name, const List *versions, const SlmTrainRows *set, const slm_train_report *report, Jsonb *options,
                           const char *query, double seconds, bool active, const SlmTunedEncoder *encoder)
{
    SlmNewVersion v = {.name = name,
                       .key = slm_pg_opened_key(set->entry),
                       .labels = text_array(set->names, set->n_labels),
                       .report = report,
                       .options = options,
                       .query = query,
                       .by_names = set->by_names,
                       .seconds = seconds,
                       .plain_accuracy = encoder->plain_accuracy,
                       .tuned_accuracy = encoder->accuracy,
                       .blob = bytes_value(report->blob, report->blob_bytes)};

    if (report->confusion != NULL)
        v.confusion = confusion_array(report, set->n_labels);
    slm_pg_pack_trials(set, report, &v.trials, &v.trial_rows);
    return slm_pg_store_version(&v, versions, active);
}

/* ---- the new version and the active one */

/* How a user undoes what was done. */
static int other_hint(const char *name, int32 version, bool active, const SlmComparison *c)
{
    if (active && c->state == SLM_NO_OTHER)
        return 0;
    return errhint(active ? "To go back: SELECT slm_restore_classifier('%s', %d);"
                          : "To use it all the same: SELECT slm_restore_classifier('%s', %d);",
                   name, active ? c->other : version);
}

static void explain_comparison(const char *name, int32 version, bool active, const SlmComparison *c)
{
    const char *now = active ? "is active now" : "was not activated";

    if (c->state == SLM_COMPARED)
        ereport(NOTICE,
                (errmsg("version %d of classifier \"%s\" %s: accuracy %.4f, that of version %d %.4f on the same %ld held-out rows", version,
                        name, now, c->accuracy, c->other, c->other_accuracy, (long) c->rows),
                 errdetail("Log loss %.4f, that of version %d %.4f. Each row was judged by what had not learned from it.", c->log_loss,
                           c->other, c->other_log_loss),
                 other_hint(name, version, active, c)));
    else if (c->state != SLM_NO_OTHER)
        ereport(NOTICE, (errmsg("version %d of classifier \"%s\" %s: version %d %s", version, name, now, c->other,
                                c->state == SLM_OTHER_UNUSABLE ? "cannot be used any more" : "could not be compared with it"),
                         errdetail("%s", c->reason), other_hint(name, version, active, c)));
    else if (!active)
        ereport(NOTICE, (errmsg("version %d of classifier \"%s\" %s", version, name, now), other_hint(name, version, active, c)));
}

/* ---- slm_train_classifier(name, query, model, labels, options) */

void slm_pg_train_rows(const SlmTrainRows *set, const slm_train_options *options, slm_train_report *report)
{
    slm_train_set input = {.n_rows = (size_t) set->n,
                           .n_dims = (uint32_t) set->dims,
                           .embeddings = set->vectors,
                           .texts = options->ngrams ? set->texts : NULL,
                           .text_lengths = options->ngrams ? set->lengths : NULL,
                           .labels = set->labels,
                           .n_labels = (uint32_t) set->n_labels,
                           .label_names = set->names,
                           .n_folds = set->n_folds,
                           .fold_of_row = set->fold_of_row,
                           .fold_embeddings = (const float *const *) set->fold_vectors};
    slm_train_options ours = *options;
    float *names = NULL;
    slm_status status;
    slm_error err;

    if (set->by_names) {
        SlmLabels labels = {.n = set->n_labels, .names = set->names};
        SlmExamples none = {0};

        names = slm_pg_prototypes(set->entry, &labels, &none);
    }
    slm_pg_loading_phase("training");
    ours.n_threads = slm_pg_take_threads();
    for (;;) {
        status = set->by_names ? slm_train_by_names(&input, names, &ours, report, &err)
                               : slm_train_classifier(&input, &ours, report, &err);
        if (status != SLM_CANCELLED)
            break;
        slm_pg_loading_interrupted();
    }
    slm_pg_give_threads();
    if (status != SLM_OK)
        slm_pg_error(&err, NULL);
}

static void init_set(SlmTrainRows *set, const text *model, const slm_train_options *options, bool keep)
{
    slm_pg_init_training_rows(set, "a training", slm_pg_use_model(model, slm_pg_train_classifier_kind.task));
    set->need_texts = options->ngrams;
    set->keep_texts = options->ngrams || keep;
}

/* Labels that are learned by their names. */
static void take_names(SlmTrainRows *set, FunctionCallInfo fcinfo, int arg)
{
    SlmLabels labels;

    set->by_names = true;
    slm_pg_labels_arg(fcinfo, arg, -1, false, &labels);
    for (int i = 0; i < labels.n; i++)
        (void) slm_pg_training_label(set, labels.names[i]);
}

typedef struct Training {
    char *name, *query;
    Jsonb *json;
    slm_train_options options;
    Activate activate;
    SlmTrainRows set;
    slm_train_report report;
    SlmComparison comparison;
    SlmTunedEncoder encoder;
    int32 version;
    bool active;
    double seconds;
} Training;

/* Inside PG_TRY: what the engine made is freed by the caller. */
static pg_noinline void train_and_store(Training *t, TimestampTz begin)
{
    List *versions;

    slm_pg_loading_phase("embedding");
    slm_pg_read_training_rows(&t->set, t->query);
    slm_pg_check_training_rows(&t->set);
    if (t->encoder.options != NULL)
        slm_pg_tune_encoder(&t->set, &t->options, &t->encoder);
    slm_pg_train_rows(&t->set, &t->options, &t->report);
    if (t->encoder.tuned)
        t->encoder.accuracy = t->report.accuracy;
    versions = slm_pg_own_classifier(t->name, true); /* the query may have changed them */
    slm_pg_loading_phase("comparing");
    slm_pg_compare_versions(slm_pg_active_version(versions), &t->set, &t->report, &t->comparison);
    t->active = t->activate == ACTIVATE_ALWAYS || (t->activate == ACTIVATE_IF_BETTER && slm_pg_is_better(&t->comparison));
    t->seconds = slm_pg_seconds_since(begin);
    t->version = store_version(t->name, versions, &t->set, &t->report, t->json, t->query, t->seconds, t->active,
                               &t->encoder);
}

static Datum training_row(const Training *t, TupleDesc desc)
{
    Datum values[11];
    bool nulls[11] = {false};

    values[0] = Int32GetDatum(t->version);
    values[1] = Int64GetDatum((int64) t->report.n_rows);
    values[2] = Int32GetDatum(t->set.n_labels);
    values[3] = Float8GetDatum(t->report.accuracy);
    values[4] = Float8GetDatum(t->report.macro_f1);
    values[5] = Float8GetDatum(t->report.ece);
    values[6] = Float8GetDatum(t->seconds);
    values[7] = BoolGetDatum(t->active);
    values[8] = Float8GetDatum(t->comparison.other_accuracy);
    nulls[3] = nulls[4] = nulls[5] = isnan(t->report.accuracy);
    nulls[8] = t->comparison.state != SLM_COMPARED;
    values[9] = Float8GetDatum(t->encoder.plain_accuracy);
    values[10] = Float8GetDatum(t->encoder.accuracy);
    nulls[9] = isnan(t->encoder.plain_accuracy);
    nulls[10] = isnan(t->encoder.accuracy);
    return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}

const SlmWorkKind slm_pg_train_classifier_kind = {
    .symbol = "slm_pg_train_classifier", .task = SLM_TASK_EMBED, .answers = SLM_ANSWERS_NO_MODEL};

/* slm_finetune beside the function that is called: who may not call it, tunes no encoder. */
static Oid finetune_function(FunctionCallInfo fcinfo)
{
    static const Oid types[] = {TEXTOID, TEXTOID, TEXTOID, JSONBOID};
    char *schema = get_namespace_name(get_func_namespace(fcinfo->flinfo->fn_oid));

    return LookupFuncName(list_make2(makeString(schema), makeString(pstrdup("slm_finetune"))), lengthof(types), types, false);
}

/* Checks what both functions take; the query is left to them. */
static Training *begin_training(FunctionCallInfo fcinfo, const char *function, int model, int options)
{
    Training *t = palloc0(sizeof *t);
    List *versions;

    slm_pg_refuse_read_only(function);
    t->name = text_to_cstring(PG_GETARG_TEXT_PP(0));
    slm_pg_check_name("classifier", t->name);
    t->json = PG_GETARG_JSONB_P(options);
    t->options = read_options(t->json);
    t->activate = read_activate(t->json);
    t->encoder = (SlmTunedEncoder){.options = read_finetune(t->json), .classifier = t->name, .plain_accuracy = NAN, .accuracy = NAN};
    versions = slm_pg_own_classifier(t->name, true);
    init_set(&t->set, slm_pg_text_arg(fcinfo, model), &t->options, t->encoder.options != NULL || slm_pg_active_version(versions) != NULL);
    if (t->encoder.options != NULL) {
        slm_pg_check_may_load_by(finetune_function(fcinfo), "fine-tune a model", false);
        t->encoder.base = PG_ARGISNULL(model) ? slm_pg_need_default_model(SLM_TASK_EMBED) : text_to_cstring(PG_GETARG_TEXT_PP(model));
        t->encoder.version = slm_pg_next_version(versions);
    }
    return t;
}

static Datum end_training(FunctionCallInfo fcinfo, Training *t, TimestampTz begin)
{
    TupleDesc desc;

    if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    t->encoder.query = t->query;
    if (t->encoder.options != NULL)
        slm_pg_check_tuning(&t->set, &t->encoder);
    slm_pg_loading_begin(t->name);
    PG_TRY();
    {
        train_and_store(t, begin);
    }
    PG_FINALLY();
    {
        slm_pg_loading_end();
        slm_train_report_free(&t->report);
    }
    PG_END_TRY();
    explain_figures(t->name, &t->set, &t->report);
    explain_comparison(t->name, t->version, t->active, &t->comparison);
    if (t->active && t->comparison.state != SLM_NO_OTHER)
        slm_pg_say_stale_jobs(t->name, t->version);
    return training_row(t, desc);
}

Datum slm_pg_train_classifier(PG_FUNCTION_ARGS)
{
    TimestampTz begin = GetCurrentTimestamp();
    Training *t;

    if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(4))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("name, query and options must not be null")));
    t = begin_training(fcinfo, "slm_train_classifier()", 2, 4);
    t->query = text_to_cstring(PG_GETARG_TEXT_PP(1));
    if (!PG_ARGISNULL(3))
        take_names(&t->set, fcinfo, 3);
    return end_training(fcinfo, t, begin);
}

/* ---- slm_distill_classifier(name, query, teacher, rows, model, options): the teacher's answers are the labels */

enum { DISTILL_NAME, DISTILL_QUERY, DISTILL_TEACHER, DISTILL_ROWS, DISTILL_MODEL, DISTILL_OPTIONS };

Datum slm_pg_distill_classifier(PG_FUNCTION_ARGS)
{
    TimestampTz begin = GetCurrentTimestamp();
    Training *t;
    int rows;

    if (PG_ARGISNULL(DISTILL_NAME) || PG_ARGISNULL(DISTILL_QUERY) || PG_ARGISNULL(DISTILL_TEACHER) || PG_ARGISNULL(DISTILL_OPTIONS))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("name, query, teacher and options must not be null"),
                        errhint("For example: slm_distill_classifier('topics', 'SELECT body FROM tickets', "
                                "'slm_classify(input, ARRAY[''billing'', ''delivery''])').")));
    rows = slm_pg_int_arg(fcinfo, DISTILL_ROWS, "rows", 1000, 2, 10000000);
    t = begin_training(fcinfo, "slm_distill_classifier()", DISTILL_MODEL, DISTILL_OPTIONS);
    t->query = slm_pg_teacher_query(text_to_cstring(PG_GETARG_TEXT_PP(DISTILL_QUERY)),
                                    text_to_cstring(PG_GETARG_TEXT_PP(DISTILL_TEACHER)), "::pg_catalog.text AS label", rows);
    return end_training(fcinfo, t, begin);
}
