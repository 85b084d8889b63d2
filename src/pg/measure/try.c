/*
 * try.c: slm_try: some rows of a query with the labels that they would get, and what an eye should be kept on, in plain words.
 *
 *   query (text, ...) ──► SELECT input, slm_classify_details(input, ...) FROM (query) LIMIT n ──► a line for each row, with a hint
 *                                                                                            └──► a line for each label that needs a word
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/compat.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/base/one_expression.h"
#include "pg/base/user_query.h"
#include "pg/functions/windows.h"
#include "pg/measure/answers.h"
#include "pg/run/opened.h"
#include "pg/run/use.h"

PG_FUNCTION_INFO_V1(slm_pg_try);

#define MOST 1000
#define CLOSE 0.1 /* a margin below is a close call */
#define PIECES_A_WORD 1.9 /* of a text whose words the model hardly knows; by MiniLM, English has 1.2 (Banking77), German 2.1 */
#define MIN_WORDS 5
#define OFTEN 3            /* close calls between two labels that are worth a word, and a tenth of the rows */

enum { T_ROW, T_INPUT, T_LABEL, T_PROBABILITY, T_RUNNER_UP, T_HINT, T_COLUMNS };

/* What a row was given. */
typedef struct Tried {
    const char *input, *label, *runner_up, *error; /* in the server's encoding; NULL: none */
    double probability, margin;
    bool judged;
} Tried;

typedef struct Trial {
    SlmOpenModel *entry; /* NULL where a classifier brings its own */
    Tried *rows;
    int n;
    const char **labels; /* [n_labels] of the call, or those that were given */
    int n_labels;
} Trial;

/* ---- the statement */

static void add_argument(StringInfo call, const char *name, const char *value, const char *type)
{
    if (value != NULL)
        appendStringInfo(call, ", %s => %s::pg_catalog.%s", name, quote_literal_cstr(value), type);
}

static char *value_of(FunctionCallInfo fcinfo, int i)
{
    Oid output;
    bool varlena;

    if (PG_ARGISNULL(i))
        return NULL;
    getTypeOutputInfo(get_fn_expr_argtype(fcinfo->flinfo, i), &output, &varlena);
    return OidOutputFunctionCall(output, PG_GETARG_DATUM(i));
}

static const char *call_of(FunctionCallInfo fcinfo)
{
    StringInfoData call;

    initStringInfo(&call);
    appendStringInfo(&call, "%s.slm_classify_details(input",
                     quote_identifier(get_namespace_name(get_func_namespace(fcinfo->flinfo->fn_oid))));
    add_argument(&call, "labels", value_of(fcinfo, 1), "text[]");
    add_argument(&call, "descriptions", value_of(fcinfo, 3), "jsonb");
    add_argument(&call, "model", value_of(fcinfo, 4), "text");
    add_argument(&call, "classifier", value_of(fcinfo, 5), "text");
    appendStringInfoChar(&call, ')');
    return call.data;
}

static Portal open_trial(FunctionCallInfo fcinfo, const char *query, int n)
{
    TupleDesc desc = slm_pg_look_at_query(query, 1);
    const char **names = slm_pg_query_columns(desc);
    const char *statement = psprintf("SELECT m.input, slm_expression "
                                     "FROM (SELECT q.%s::pg_catalog.text AS input FROM (%s\n) AS q (%s) LIMIT %d) AS m",
                                     names[0], query, slm_pg_joined(names, desc->natts), n);
    SPIPlanPtr plan = slm_pg_prepare_with(statement, slm_pg_parse_expression(call_of(fcinfo)), 0, NULL);

    return slm_pg_open_query_plan(plan);
}

/* The columns of slm_classify_details: label, probability, runner_up, margin, error. */
static void read_details(Tried *out, HeapTupleHeader row)
{
    TupleDesc desc = lookup_rowtype_tupdesc_copy(HeapTupleHeaderGetTypeId(row), HeapTupleHeaderGetTypMod(row));
    HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(row), .t_data = row};
    bool isnull;
    Datum value;

    out->label = SPI_getvalue(&tuple, desc, 1);
    value = heap_getattr(&tuple, 2, desc, &isnull);
    out->judged = !isnull;
    out->probability = isnull ? 0 : DatumGetFloat8(value);
    out->runner_up = SPI_getvalue(&tuple, desc, 3);
    value = heap_getattr(&tuple, 4, desc, &isnull);
    out->margin = isnull ? 1 : DatumGetFloat8(value);
    out->error = SPI_getvalue(&tuple, desc, 5);
}

static void run_trial(Trial *t, FunctionCallInfo fcinfo, const char *query, int n)
{
    MemoryContext keep = CurrentMemoryContext;
    Portal portal;

    t->rows = palloc0(sizeof(Tried) * (Size) n);
    SPI_connect();
    portal = open_trial(fcinfo, query, n);
    slm_pg_fetch_query(portal, n);
    MemoryContextSwitchTo(keep);
    for (uint64 i = 0; i < SPI_processed && t->n < n; i++) {
        Tried *row = &t->rows[t->n++];
        bool isnull;
        Datum details = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull);

        row->input = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
        if (!isnull)
            read_details(row, (HeapTupleHeader) PG_DETOAST_DATUM_COPY(details));
    }
    SPI_cursor_close(portal);
    SPI_finish();
}

/* ---- hints */

static int words_in(const char *text, size_t length)
{
    int words = 0;
    bool inside = false;

    for (size_t i = 0; i < length; i++) {
        bool space = (unsigned char) text[i] <= ' ';

        words += !space && !inside;
        inside = !space;
    }
    return words;
}

/* What the model makes of the text, before any label; NULL: nothing to say. */
static const char *reading_hint(const Trial *t, const Tried *row)
{
    size_t length, pieces, room;
    const char *text;
    int words;

    if (t->entry == NULL)
        return NULL;
    text = slm_pg_utf8_from_cstring(row->input);
    length = strlen(text);
    words = words_in(text, length);
    pieces = slm_pg_tokens_in(t->entry, text, length);
    room = slm_pg_info(t->entry)->n_context;
    if (pieces > room)
        return psprintf("long: %zu tokens, and the model reads %zu at a time, so the text is read in parts or cut", pieces, room);
    if (words >= MIN_WORDS && (double) pieces > PIECES_A_WORD * words)
        return psprintf("the model hardly knows these words (%.1f pieces a word): another language than it was made for?",
                        (double) pieces / words);
    return NULL;
}

static const char *row_hint(const Trial *t, const Tried *row)
{
    const char *reading;

    if (row->error != NULL)
        return row->error;
    if (!row->judged)
        return "no text, so no label";
    reading = reading_hint(t, row);
    if (row->margin < CLOSE && row->runner_up != NULL)
        return psprintf("a close call: \"%s\" fits nearly as well%s%s", row->runner_up, reading != NULL ? "; " : "",
                        reading != NULL ? reading : "");
    if (row->probability < 2.0 / Max(t->n_labels, 4) || row->probability < 0.3)
        return psprintf("unsure: no label fits well; one may be missing%s%s", reading != NULL ? "; " : "", reading != NULL ? reading : "");
    return reading;
}

static void put(ReturnSetInfo *result, int row, const Tried *tried, const char *label, const char *hint)
{
    Datum values[T_COLUMNS] = {0};
    bool nulls[T_COLUMNS];

#define SET_TEXT(column, string)                                                                                                         \
    nulls[column] = (string) == NULL;                                                                                                    \
    if (!nulls[column])                                                                                                                  \
        values[column] = CStringGetTextDatum(string)
    values[T_ROW] = Int32GetDatum(row);
    nulls[T_ROW] = row == 0;
    SET_TEXT(T_INPUT, tried == NULL ? NULL : tried->input);
    SET_TEXT(T_LABEL, label);
    values[T_PROBABILITY] = Float8GetDatum(tried == NULL ? 0 : tried->probability);
    nulls[T_PROBABILITY] = tried == NULL || !tried->judged;
    SET_TEXT(T_RUNNER_UP, tried == NULL ? NULL : tried->runner_up);
    SET_TEXT(T_HINT, hint);
#undef SET_TEXT
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* The labels that occur in the rows, for a call whose labels are the model's or classifier's own. */
static void labels_of_rows(Trial *t)
{
    int n = 0;

    t->labels = palloc(sizeof(char *) * (Size) (2 * t->n + 1));
    for (int i = 0; i < t->n; i++) {
        if (t->rows[i].label != NULL)
            t->labels[n++] = t->rows[i].label;
        if (t->rows[i].runner_up != NULL)
            t->labels[n++] = t->rows[i].runner_up;
    }
    qsort(t->labels, (size_t) n, sizeof(char *), compare_strings);
    for (int i = 0; i < n; i++)
        if (i == 0 || strcmp(t->labels[t->n_labels - 1], t->labels[i]) != 0)
            t->labels[t->n_labels++] = t->labels[i];
}

static bool pair(const Tried *row, const char *a, const char *b)
{
    return row->label != NULL && row->runner_up != NULL && ((strcmp(row->label, a) == 0 && strcmp(row->runner_up, b) == 0) ||
                                                            (strcmp(row->label, b) == 0 && strcmp(row->runner_up, a) == 0));
}

static void put_label_hints(ReturnSetInfo *result, const Trial *t, bool own_labels)
{
    int often = Max(OFTEN, t->n / 10);

    for (int a = 0; a < t->n_labels; a++) {
        int given = 0;

        for (int i = 0; i < t->n; i++)
            given += t->rows[i].label != NULL && strcmp(t->rows[i].label, t->labels[a]) == 0;
        if (given == 0 && !own_labels)
            put(result, 0, NULL, t->labels[a],
                psprintf("never chosen in %d rows: leave it out if there are none of it, or say what it means (descriptions)", t->n));
        if (given == t->n && t->n >= 10)
            put(result, 0, NULL, t->labels[a],
                psprintf("chosen for all %d rows: too wide beside the others, or these rows are all alike", t->n));
        for (int b = a + 1; b < t->n_labels; b++) {
            int close = 0;

            for (int i = 0; i < t->n; i++)
                close += t->rows[i].margin < CLOSE && pair(&t->rows[i], t->labels[a], t->labels[b]);
            if (close >= often)
                put(result, 0, NULL, t->labels[a],
                    psprintf("overlaps with \"%s\": %d of %d rows are close calls between them; join them, or say what tells them apart "
                             "(descriptions)",
                             t->labels[b], close, t->n));
        }
    }
}

/* ---- slm_try(query, labels, n, descriptions, model, classifier) */

/* The labels of the call, whichever way it names them. */
static void labels_of_call(Trial *t, FunctionCallInfo fcinfo)
{
    if (!PG_ARGISNULL(1)) {
        t->labels = slm_pg_strings_arg(fcinfo, 1, "labels", 10000, &t->n_labels);
        for (int i = 0; i < t->n_labels; i++)
            t->labels[i] = slm_pg_cstring_from_utf8(t->labels[i]);
    } else {
        labels_of_rows(t);
    }
}

Datum slm_pg_try(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
    int n = slm_pg_int_arg(fcinfo, 2, "n", 30, 1, MOST);
    Trial t = {0};

    if (PG_ARGISNULL(0))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the query must not be null"),
                        errhint("For example: SELECT body FROM tickets ORDER BY random()")));
    InitMaterializedSRF(fcinfo, 0);
    run_trial(&t, fcinfo, slm_pg_trimmed(text_to_cstring(PG_GETARG_TEXT_PP(0))), n);
    if (t.n == 0)
        ereport(ERROR, (errcode(ERRCODE_NO_DATA_FOUND), errmsg("the query gave no row to try")));
    if (PG_ARGISNULL(5))
        t.entry = slm_pg_use_model(slm_pg_text_arg(fcinfo, 4), SLM_TASK_CLASSIFY);
    labels_of_call(&t, fcinfo);
    for (int i = 0; i < t.n; i++)
        put(result, i + 1, &t.rows[i], t.rows[i].label, row_hint(&t, &t.rows[i]));
    put_label_hints(result, &t, PG_ARGISNULL(1));
    return (Datum) 0;
}
