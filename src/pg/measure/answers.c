/*
 * answers.c: runs a candidate over a query's rows.
 *
 *   query (input, expected, ...) ──► SELECT expected, <candidate> FROM (query) ──cursor──► expected, given, confidence
 *
 * The query is prepared alone first, so that what stands between the parentheses of the statement around it is one SELECT that writes
 * nothing; the candidate's expression never becomes text of that statement (one_expression.h).  Calls of slm_* functions in it run in
 * batches as in any other SELECT.
 */
#include "pg/measure/answers.h"

#include <sys/resource.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "nodes/pg_list.h"
#include "portability/instr_time.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/typcache.h"

#include "engine/slm.h"
#include "pg/base/encoding.h"
#include "pg/base/errors.h"
#include "pg/base/one_expression.h"
#include "pg/base/user_query.h"
#include "pg/functions/labels.h"
#include "pg/functions/train.h"

#define FETCH_ROWS 1024

/* ---- the statement */

char *slm_pg_trimmed(const char *query)
{
    char *copy = pstrdup(query);
    size_t n = strlen(copy);

    while (n > 0 && (copy[n - 1] == ';' || copy[n - 1] == ' ' || copy[n - 1] == '\n' || copy[n - 1] == '\r' || copy[n - 1] == '\t'))
        copy[--n] = '\0';
    return copy;
}

TupleDesc slm_pg_look_at_query(const char *query, int least)
{
    const char *example = least > 1 ? "SELECT body, label FROM tickets WHERE label IS NOT NULL" : "SELECT body FROM tickets";
    SPIPlanPtr plan;
    CachedPlanSource *source;

    slm_pg_refuse_name(query, example);
    plan = SPI_prepare(query, 0, NULL);
    if (plan == NULL || !SPI_is_cursor_plan(plan))
        ereport(ERROR, (errcode(ERRCODE_INVALID_CURSOR_DEFINITION), errmsg("the query to measure by must be one SELECT"),
                        errhint("For example: %s", example)));
    if (slm_pg_writes(plan))
        ereport(ERROR, (errcode(ERRCODE_INVALID_CURSOR_DEFINITION), errmsg("the query to measure by writes"),
                        errhint("Give one SELECT that writes nothing: %s", example)));
    source = linitial(SPI_plan_get_plan_sources(plan));
    if (source->resultDesc == NULL || source->resultDesc->natts < least)
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                        errmsg("the query to measure by must give %s, but it gives %d column",
                               least > 1 ? "an input and the expected value" : "an input",
                               source->resultDesc == NULL ? 0 : source->resultDesc->natts),
                        errhint("For example: %s", example)));
    return CreateTupleDescCopy(source->resultDesc);
}

static int column_number(TupleDesc desc, const char *name)
{
    for (int i = 0; i < desc->natts; i++)
        if (strcmp(NameStr(TupleDescAttr(desc, i)->attname), name) == 0)
            return i + 1;
    return 0;
}

const char **slm_pg_query_columns(TupleDesc desc)
{
    const char **names = palloc(sizeof(char *) * (Size) desc->natts);

    for (int i = 0; i < desc->natts; i++) {
        const char *name = NameStr(TupleDescAttr(desc, i)->attname);
        bool own = name[0] != '\0' && name[0] != '?' && column_number(desc, name) == i + 1;

        names[i] = own ? pstrdup(quote_identifier(name)) : psprintf("column_%d", i + 1);
    }
    return names;
}

const char *slm_pg_joined(const char *const *names, int n)
{
    StringInfoData list;

    initStringInfo(&list);
    for (int i = 0; i < n; i++)
        appendStringInfo(&list, "%s%s", i > 0 ? ", " : "", names[i]);
    return list.data;
}

static const char *classifier_expression(const SlmCandidate *candidate)
{
    return psprintf("%s.slm_classify_details(input, classifier => %s)", quote_identifier(get_namespace_name(candidate->schema)),
                    quote_literal_cstr(candidate->classifier));
}

/* The columns of the statement that are the answer, and its confidence where the query gives one; of a classifier the input. */
static const char *answer_columns(TupleDesc desc, const char *const *names, const SlmCandidate *candidate)
{
    if (candidate->expression != NULL)
        return "slm_expression";
    if (candidate->classifier != NULL)
        return "slm_expression, m.input::pg_catalog.text";
    if (candidate->column != NULL) {
        int column = column_number(desc, candidate->column);

        if (column == 0)
            ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("the query to measure by has no column \"%s\"", candidate->column),
                            errhint("It gives: %s.", slm_pg_joined(names, desc->natts))));
        return psprintf("m.%s", names[column - 1]);
    }
    if (desc->natts < 3)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("nothing says what the answers are"),
                        errhint("Give an expression over the query's columns, as 'slm_classify(input, ARRAY[''billing'', ''other''])', "
                                "a classifier, or a third column with the answers of another system.")));
    return desc->natts == 3 ? psprintf("m.%s", names[2]) : psprintf("m.%s, m.%s::pg_catalog.float8", names[2], names[3]);
}

static Portal open_candidate(const char *query, const SlmCandidate *candidate)
{
    TupleDesc desc = slm_pg_look_at_query(query, 2);
    const char **names = slm_pg_query_columns(desc);
    const char *expression = candidate->classifier != NULL ? classifier_expression(candidate) : candidate->expression;
    const char *input = column_number(desc, "input") == 0 ? psprintf(", q.%s AS input", names[0]) : "";
    const char *expected = column_number(desc, "expected") == 0 ? psprintf(", q.%s AS expected", names[1]) : "";
    const char *statement = psprintf("SELECT m.%s, %s FROM (SELECT q.*%s%s FROM (%s\n) AS q (%s)) AS m", names[1],
                                     answer_columns(desc, names, candidate), input, expected, query, slm_pg_joined(names, desc->natts));
    SlmExpression *parsed = slm_pg_parse_expression(expression != NULL ? expression : "NULL");
    SPIPlanPtr plan = slm_pg_prepare_with(statement, parsed, 0, NULL);

    return slm_pg_open_query_plan(plan);
}

/* ---- the rows */

/* An answer of slm_classify_details or slm_filter_details: a row with a label or a truth value, its probability (of a truth value, that
 * of true) and maybe an error. */
typedef struct RowAnswer {
    bool is_row, is_truth;
    bool with_input; /* the statement's third column is the text */
    int label, probability; /* attribute numbers of the row's type, 0: none */
    TupleDesc desc;         /* of the last row */
} RowAnswer;

static void look_at_row(RowAnswer *answer, HeapTupleHeader row)
{
    Oid type = HeapTupleHeaderGetTypeId(row);
    int32 typmod = HeapTupleHeaderGetTypMod(row);

    if (answer->desc != NULL && answer->desc->tdtypeid == type && answer->desc->tdtypmod == typmod)
        return;
    answer->desc = lookup_rowtype_tupdesc_copy(type, typmod);
    answer->label = column_number(answer->desc, "label");
    answer->is_truth = false;
    if (answer->label == 0) {
        answer->label = column_number(answer->desc, "value");
        if (answer->label != 0 && TupleDescAttr(answer->desc, answer->label - 1)->atttypid != BOOLOID)
            answer->label = 0;
        answer->is_truth = answer->label != 0;
    }
    answer->probability = column_number(answer->desc, "probability");
    if (answer->label == 0)
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH), errmsg("the answers are rows without a column \"label\""),
                        errhint("Give an expression with one value, slm_classify_details(input, ...) or slm_filter_details(...).")));
    if (answer->probability != 0 && TupleDescAttr(answer->desc, answer->probability - 1)->atttypid != FLOAT8OID)
        answer->probability = 0;
}

static const char *read_row(RowAnswer *answer, HeapTupleHeader row, double *confidence)
{
    HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(row), .t_data = row};
    Datum value;
    bool isnull;

    look_at_row(answer, row);
    if (answer->probability != 0) {
        value = heap_getattr(&tuple, answer->probability, answer->desc, &isnull);
        *confidence = isnull ? NAN : DatumGetFloat8(value);
        if (answer->is_truth)
            *confidence = Max(*confidence, 1 - *confidence);
    }
    return SPI_getvalue(&tuple, answer->desc, answer->label);
}

static void make_room(SlmAnswers *out)
{
    int64 room = out->room == 0 ? FETCH_ROWS : out->room * 2;

#define GROW(array, size)                                                                                                                \
    array =                                                                                                                              \
        out->room == 0 ? MemoryContextAllocHuge(CurrentMemoryContext, (Size) room * (size)) : repalloc_huge(array, (Size) room * (size))
    GROW(out->expected, sizeof(char *));
    GROW(out->given, sizeof(char *));
    GROW(out->confidence, sizeof(double));
    GROW(out->inputs, sizeof(uint32));
#undef GROW
    out->room = room;
}

/* What tells the text of a column in a training; 0: NULL. */
static uint32 text_hash(const SPITupleTable *rows, uint64 i, int column)
{
    bool isnull;
    Datum value = SPI_getbinval(rows->vals[i], rows->tupdesc, column, &isnull);
    size_t length;
    const char *content = isnull ? NULL : slm_pg_utf8_from_text(DatumGetTextPP(value), &length);

    return isnull ? 0 : slm_pg_row_hash(content, length);
}

/* Adds the rows that the cursor has fetched; called in a context of theirs. */
static void add_rows(SlmAnswers *out, const SPITupleTable *rows, uint64 n_rows, RowAnswer *answer, MemoryContext keep)
{
    bool with_confidence = rows->tupdesc->natts > 2;

    for (uint64 i = 0; i < n_rows; i++) {
        const char *expected = SPI_getvalue(rows->vals[i], rows->tupdesc, 1), *given;
        double confidence = NAN;
        uint32 hash = 0;
        bool isnull;
        MemoryContext old;

        if (expected == NULL) {
            out->unlabelled++;
            continue;
        }
        if (answer->with_input)
            hash = text_hash(rows, i, 3);
        if (answer->is_row) {
            Datum row = SPI_getbinval(rows->vals[i], rows->tupdesc, 2, &isnull);

            given = isnull ? NULL : read_row(answer, DatumGetHeapTupleHeader(row), &confidence);
        } else {
            given = SPI_getvalue(rows->vals[i], rows->tupdesc, 2);
            if (with_confidence) {
                Datum value = SPI_getbinval(rows->vals[i], rows->tupdesc, 3, &isnull);

                confidence = isnull ? NAN : DatumGetFloat8(value);
            }
        }
        if (!isnan(confidence) && !(confidence >= 0 && confidence <= 1))
            ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE), errmsg("a confidence is %g", confidence),
                            errhint("The fourth column of the query is a probability from 0 to 1.")));
        old = MemoryContextSwitchTo(keep);
        if (out->n == out->room)
            make_room(out);
        out->expected[out->n] = pstrdup(expected);
        out->given[out->n] = given == NULL ? NULL : pstrdup(given);
        out->confidence[out->n] = given == NULL ? NAN : confidence;
        out->inputs[out->n] = hash;
        out->has_confidence |= !isnan(out->confidence[out->n]);
        out->n++;
        MemoryContextSwitchTo(old);
    }
}

static double cpu_seconds(void)
{
    struct rusage use;

    getrusage(RUSAGE_SELF, &use);
    return (double) (use.ru_utime.tv_sec + use.ru_stime.tv_sec) + 1e-6 * (double) (use.ru_utime.tv_usec + use.ru_stime.tv_usec);
}

void slm_pg_gather_answers(const char *query, const SlmCandidate *candidate, SlmAnswers *out)
{
    MemoryContext keep = CurrentMemoryContext;
    double cpu = cpu_seconds();
    instr_time begin, end;
    RowAnswer answer = {0};
    Portal portal;

    *out = (SlmAnswers){0};
    INSTR_TIME_SET_CURRENT(begin);
    SPI_connect();
    portal = open_candidate(slm_pg_trimmed(query), candidate);
    answer.with_input = candidate->classifier != NULL;
    answer.is_row = type_is_rowtype(TupleDescAttr(portal->tupDesc, 1)->atttypid);
    for (;;) {
        MemoryContext chunk = AllocSetContextCreate(CurrentMemoryContext, "slm measured rows", ALLOCSET_DEFAULT_SIZES);
        MemoryContext old;

        slm_pg_fetch_query(portal, FETCH_ROWS);
        old = MemoryContextSwitchTo(chunk);
        answer.desc = NULL;
        if (SPI_processed > 0)
            add_rows(out, SPI_tuptable, SPI_processed, &answer, keep);
        MemoryContextSwitchTo(old);
        MemoryContextDelete(chunk);
        if (SPI_processed == 0)
            break;
        SPI_freetuptable(SPI_tuptable);
        CHECK_FOR_INTERRUPTS();
    }
    SPI_cursor_close(portal);
    SPI_finish();
    MemoryContextSwitchTo(keep);
    INSTR_TIME_SET_CURRENT(end);
    INSTR_TIME_SUBTRACT(end, begin);
    out->seconds = INSTR_TIME_GET_DOUBLE(end);
    out->cpu_seconds = cpu_seconds() - cpu;
    if (out->n == 0)
        ereport(ERROR, (errcode(ERRCODE_NO_DATA_FOUND), errmsg("the query to measure by gave no row with an expected value"),
                        errdetail(INT64_FORMAT " rows without one were left out.", out->unlabelled)));
}

void slm_pg_say_trained_on(const SlmCandidate *candidate, const SlmAnswers *answers)
{
    int64 known = candidate->classifier == NULL ? 0 : slm_pg_rows_trained_on(candidate->classifier, answers->inputs, answers->n);

    if (known > 0)
        ereport(WARNING, (errmsg("classifier \"%s\" was trained on " INT64_FORMAT " of these " INT64_FORMAT " rows, "
                                 "so it looks better than it is", candidate->classifier, known, answers->n),
                          errhint("Measure by rows that it has not seen; its accuracy on rows that were held out: "
                                  "SELECT accuracy FROM slm.classifiers WHERE name = %s AND active;",
                                  quote_literal_cstr(candidate->classifier))));
}

int slm_pg_uncalibrated(void)
{
    int level = NewGUCNestLevel();

    (void) set_config_option("slm.enable_calibration", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
    return level;
}

/* ---- figures of labels */

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

static int32 number_of(const SlmLabelFigures *figures, const char *name)
{
    const char **found;

    if (name == NULL)
        return -1;
    found = bsearch(&name, figures->names, (size_t) figures->n_labels, sizeof(char *), compare_strings);
    return (int32) (found - figures->names);
}

/* Every text that is expected or given somewhere, once, ascending. */
static void find_names(const SlmAnswers *answers, SlmLabelFigures *out)
{
    Size n = 0;

    out->names = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(char *) * 2 * (Size) answers->n);
    for (int64 i = 0; i < answers->n; i++) {
        out->names[n++] = answers->expected[i];
        if (answers->given[i] != NULL)
            out->names[n++] = answers->given[i];
    }
    qsort(out->names, n, sizeof(char *), compare_strings);
    out->n_labels = 0;
    for (Size i = 0; i < n; i++)
        if (out->n_labels == 0 || strcmp(out->names[out->n_labels - 1], out->names[i]) != 0) {
            if (out->n_labels == SLM_MAX_LABELS)
                ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("there are more than %d different labels", SLM_MAX_LABELS),
                                errhint("Texts are measured with kind => 'text'.")));
            out->names[out->n_labels++] = out->names[i];
        }
}

void slm_pg_label_figures(const SlmAnswers *answers, SlmLabelFigures *out)
{
    bool *right = MemoryContextAllocHuge(CurrentMemoryContext, (Size) answers->n);
    double *confidence = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(double) * (Size) answers->n);
    size_t with_confidence = 0;
    slm_error err;

    find_names(answers, out);
    out->truth = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int32) * (Size) answers->n);
    out->given = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int32) * (Size) answers->n);
    out->labels = palloc(sizeof(slm_label_score) * (Size) out->n_labels);
    for (int64 i = 0; i < answers->n; i++) {
        out->truth[i] = number_of(out, answers->expected[i]);
        out->given[i] = number_of(out, answers->given[i]);
        if (isnan(answers->confidence[i]))
            continue;
        confidence[with_confidence] = answers->confidence[i];
        right[with_confidence++] = out->truth[i] == out->given[i];
    }
    if (slm_metrics_classification(out->truth, out->given, (size_t) answers->n, (uint32_t) out->n_labels, &out->all, out->labels, &err) !=
        SLM_OK)
        slm_pg_error(&err, NULL);
    slm_metrics_wilson(out->all.right, out->all.n, 0.95, &out->low, &out->high);
    out->ece = slm_metrics_ece(confidence, right, with_confidence, out->bins);
    pfree(right);
    pfree(confidence);
}
