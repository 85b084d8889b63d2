/*
 * answer.c: slm_answer: the sentences of a table's texts that answer a question, with their source.
 *
 *   question ──► the PASSAGES nearest rows ──► their sentences ──► score: 0.8 cosine of the sentence + 0.2 of its row
 *                                                               └─► the best ones, if they reach the threshold: quotes
 *                                                                     └── generate ──► a model's answer from these rows, beside the quote
 *
 * A quote is a sentence of the row as it stands.  Below the threshold nothing is said, and no model is asked to write.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "engine/extract/summary.h"
#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/compat.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/base/errors.h"
#include "pg/functions/kinds.h"
#include "pg/functions/reading.h"
#include "pg/models/loading.h"
#include "pg/run/use.h"
#include "pg/search/rows.h"

PG_FUNCTION_INFO_V1(slm_pg_answer);

#define PASSAGES 8
#define MOST_QUOTES 20
#define MOST_SENTENCES 256 /* of a row */
#define LEAST_WORDS 3      /* a heading is no answer */
#define OF_SENTENCE 0.8
#define ANSWER_TOKENS 96

enum { A_QUESTION, A_QUERY, A_N, A_THRESHOLD, A_GENERATE, A_MODEL, A_GENERATE_MODEL };
enum { O_QUOTE, O_SOURCE, O_SCORE, O_ANSWER, O_COLUMNS };

typedef struct Sentence {
    uint32 passage; /* number of the row */
    const char *text;
    size_t length;
    double score;
    int order; /* as they were read */
} Sentence;

typedef struct Answer {
    const text *question;
    const char *query;
    SlmOpenModel *entry;
    SlmTrainRows *set;
    const float *vector;          /* of the question */
    uint32 passages[PASSAGES];    /* rows, the nearest first; UINT32_MAX: no more */
    Sentence *sentences;          /* best first */
    int n_sentences;
} Answer;

/* ---- sentences */

static slm_sentence *sentences_of(const char *text, size_t length, size_t *n)
{
    slm_sentence *found = NULL, *copy;
    slm_status status;
    slm_error err;

    while ((status = slm_sentences_find(text, length, SLM_STOP, &found, n, &err)) == SLM_CANCELLED)
        slm_pg_interrupted();
    if (status != SLM_OK)
        slm_pg_error(&err, NULL);
    *n = Min(*n, MOST_SENTENCES);
    copy = palloc_extended(sizeof *copy * (*n + 1), MCXT_ALLOC_NO_OOM);
    if (copy != NULL && *n > 0)
        memcpy(copy, found, sizeof *copy * *n);
    free(found);
    if (copy == NULL)
        ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
    return copy;
}

static int by_score(const void *a, const void *b)
{
    const Sentence *x = a, *y = b;

    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

static double cosine(const Answer *a, const float *vector)
{
    return slm_vector_cosine(a->vector, vector, (size_t) a->set->dims);
}

static void add_sentence(Answer *a, uint32 row, const char *text, size_t length, double score)
{
    a->sentences[a->n_sentences] = (Sentence){row, text, length, score, a->n_sentences};
    a->n_sentences++;
}

/* Adds the sentences of a row, with their scores. */
static void judge_passage(Answer *a, uint32 row)
{
    size_t n;
    const char *whole = a->set->texts[row];
    slm_sentence *list = sentences_of(whole, a->set->lengths[row], &n);
    SlmVector **read = palloc(sizeof(SlmVector *) * (n + 1));
    SlmWork *work = slm_pg_work_new(&slm_pg_answer_kind);
    MemoryContext old = MemoryContextSwitchTo(slm_pg_work_context(work));
    double of_row = cosine(a, a->set->vectors + (Size) row * (Size) a->set->dims);

    for (size_t i = 0; i < n; i++) {
        SlmText t = {.entry = a->entry, .prompt = slm_pg_text_prompt(a->entry, false), .text = whole + list[i].begin,
                     .length = list[i].end - list[i].begin};

        slm_pg_measure(&t);
        read[i] = slm_pg_read_vector(work, &t);
    }
    MemoryContextSwitchTo(old);
    slm_pg_work_wait(work);
    a->sentences = a->sentences == NULL ? palloc(sizeof(Sentence) * (n + 1))
                                        : repalloc(a->sentences, sizeof(Sentence) * ((size_t) a->n_sentences + n + 1));
    for (size_t i = 0; i < n; i++)
        if (list[i].n_words >= LEAST_WORDS || n == 1)
            add_sentence(a, row, whole + list[i].begin, list[i].end - list[i].begin,
                         OF_SENTENCE * cosine(a, read[i]->x) + (1 - OF_SENTENCE) * of_row);
    slm_pg_work_free(work);
}

static void look(void *arg)
{
    Answer *a = arg;
    float product[PASSAGES];

    a->set = slm_pg_search_rows(&slm_pg_answer_kind, "slm_answer()", a->entry, a->query);
    if (a->set->text_column == 0 && a->set->beside_column == 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the query of slm_answer() gives no texts to quote"),
                        errhint("For example: SELECT embedding, body, id FROM manual")));
    a->vector = slm_pg_search_question(&slm_pg_answer_kind, a->entry, a->question);
    slm_pg_loading_phase("reading");
    slm_pg_nearest(a->vector, 1, a->set->vectors, a->set->n, (Size) a->set->dims, PASSAGES, a->passages, product);
    for (int i = 0; i < PASSAGES && a->passages[i] != UINT32_MAX; i++)
        if (a->set->texts[a->passages[i]] != NULL)
            judge_passage(a, a->passages[i]);
    if (a->n_sentences > 0)
        qsort(a->sentences, (size_t) a->n_sentences, sizeof(Sentence), by_score);
}

/* ---- a model's answer */

/* Asks a generative model, which is given the rows that the quotes came from. */
static Datum generated(const Answer *a, FunctionCallInfo fcinfo, int n_quotes, MemoryContext keep)
{
    const char *schema = quote_identifier(get_namespace_name(get_func_namespace(fcinfo->flinfo->fn_oid)));
    const char *statement = psprintf("SELECT %s.slm_generate($1, model => $2, max_tokens => %d, truncate => true, "
                                     "system => 'Answer the question in one sentence, from the text alone.')",
                                     schema, ANSWER_TOKENS);
    Oid types[2] = {TEXTOID, TEXTOID};
    char nulls[2] = {' ', PG_ARGISNULL(A_GENERATE_MODEL) ? 'n' : ' '};
    Datum values[2] = {0, PG_ARGISNULL(A_GENERATE_MODEL) ? (Datum) 0 : PG_GETARG_DATUM(A_GENERATE_MODEL)}, result;
    StringInfoData prompt;
    MemoryContext old;
    bool isnull;

    initStringInfo(&prompt);
    for (int i = 0; i < n_quotes; i++)
        appendStringInfo(&prompt, "%s\n", text_to_cstring(slm_pg_text_from_utf8(a->sentences[i].text, a->sentences[i].length)));
    appendStringInfo(&prompt, "\n%s", text_to_cstring(a->question));
    values[0] = CStringGetTextDatum(prompt.data);
    SPI_connect();
    if (SPI_execute_with_args(statement, 2, types, values, nulls, true, 1) != SPI_OK_SELECT || SPI_processed != 1)
        elog(ERROR, "could not ask for an answer");
    result = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
    old = MemoryContextSwitchTo(keep);
    result = isnull ? CStringGetTextDatum("") : PointerGetDatum(PG_DETOAST_DATUM_COPY(result));
    MemoryContextSwitchTo(old);
    SPI_finish();
    return result;
}

/* ---- slm_answer(question, query, n, threshold, generate, model, generate_model) */

Datum slm_pg_answer(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
    Answer a = {0};
    int n = slm_pg_int_arg(fcinfo, A_N, "n", 1, 1, MOST_QUOTES), quotes = 0;
    double threshold = slm_pg_float_arg(fcinfo, A_THRESHOLD, "threshold", 0.4, -1, false, 1, false);

    if (PG_ARGISNULL(A_QUESTION))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the question must not be null")));
    a.question = PG_GETARG_TEXT_PP(A_QUESTION);
    a.query = slm_pg_search_query(fcinfo, A_QUERY, "query", "SELECT embedding, body, id FROM manual");
    a.entry = slm_pg_use_model(slm_pg_text_arg(fcinfo, A_MODEL), SLM_TASK_EMBED);
    InitMaterializedSRF(fcinfo, 0);
    slm_pg_search_shown("slm_answer", look, &a);
    while (quotes < Min(n, a.n_sentences) && a.sentences[quotes].score >= threshold)
        quotes++;
    for (int i = 0; i < Max(quotes, 1); i++) {
        Datum values[O_COLUMNS] = {0}, row[3];
        bool nulls[O_COLUMNS] = {true, true, true, true}, row_nulls[3];

        if (a.n_sentences > 0) {
            values[O_SCORE] = Float8GetDatum(a.sentences[i].score);
            nulls[O_SCORE] = false;
        }
        if (i < quotes) {
            values[O_QUOTE] = PointerGetDatum(slm_pg_text_from_utf8(a.sentences[i].text, a.sentences[i].length));
            slm_pg_training_row_values(a.set, a.sentences[i].passage, row, row_nulls);
            values[O_SOURCE] = row[1];
            nulls[O_QUOTE] = false;
            nulls[O_SOURCE] = row_nulls[1];
        }
        if (i == 0 && quotes > 0 && slm_pg_bool_arg(fcinfo, A_GENERATE, false)) {
            values[O_ANSWER] = generated(&a, fcinfo, quotes, CurrentMemoryContext);
            nulls[O_ANSWER] = false;
        }
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    return (Datum) 0;
}
