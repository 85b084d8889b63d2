/*
 * finetune_distill.c: slm_distill: a small model learns what a teacher answers.
 *
 *   query ──a sample of different texts──► teacher (an expression over input) ──► rows ──slm_finetune's parts──► adapter of the student
 *
 * The teacher is any expression: a call of a larger model, or a column that holds its answers, looked up.  It is asked once a text.  With
 * the option "logits" a model's logits of those answers teach beside them (finetune_teach.c).
 *
 * Then both are measured on texts that were held out: how often the student answers as the teacher did, before and after, and how many
 * texts each takes in a second.
 */
#include "pg/functions/finetune.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "pg/base/args.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/functions/train.h"
#include "pg/models/catalog.h"
#include "pg/models/load.h"
#include "pg/models/loading.h"
#include "pg/models/store.h"
#include "pg/run/usage.h"

PG_FUNCTION_INFO_V1(slm_pg_distill);

#define MOST_ASKED 50 /* held-out texts that the student is asked to measure it */

typedef struct Distilling {
    SlmTuning *tuning;
    char *name, *student;
    const char *prefix; /* the extension's schema, and a dot */
    SlmMeter meter;     /* of the teacher */
    int64 asked;        /* texts */
    double teacher_seconds, student_seconds, agreement;
    int64 answered; /* by the student, to measure it */
    int32 version;
    bool active;
    double seconds;
    Datum row;
} Distilling;

/* The model whose logits are learned is one of the teacher's. */
static void count_logits(const SlmTuneSet *set)
{
    char digest[65];

    if (set->teacher == NULL)
        return;
    strlcpy(digest, slm_pg_opened_key(set->teacher), sizeof digest);
    slm_pg_meter_model(digest);
}

/* Asks the teacher about the texts, counting the models that answer. */
static void ask_teacher(Distilling *d)
{
    SlmMeter *outer = slm_pg_meter;
    TimestampTz begin = GetCurrentTimestamp();

    PG_TRY();
    {
        slm_pg_meter = &d->meter;
        slm_pg_tuning_read(d->tuning);
        count_logits(slm_pg_tuning_rows(d->tuning));
    }
    PG_FINALLY();
    {
        slm_pg_meter = outer;
    }
    PG_END_TRY();
    d->teacher_seconds = slm_pg_seconds_since(begin);
    d->asked = slm_pg_tuning_rows(d->tuning)->n;
}

/* Prompts and answers of held-out rows, as two arrays. */
static int64 held_out(const SlmTuneSet *set, Datum *inputs, Datum *answers)
{
    Datum in[MOST_ASKED], out[MOST_ASKED];
    int n = 0;

    for (int64 i = 0; i < set->n && n < MOST_ASKED; i++) {
        if (!slm_pg_finetune_holds_out(set, i))
            continue;
        in[n] = PointerGetDatum(slm_pg_text_from_utf8(set->prompts[i], strlen(set->prompts[i])));
        out[n++] = PointerGetDatum(slm_pg_text_from_utf8(set->answers[i], strlen(set->answers[i])));
    }
    *inputs = PointerGetDatum(construct_array(in, n, TEXTOID, -1, false, TYPALIGN_INT));
    *answers = PointerGetDatum(construct_array(out, n, TEXTOID, -1, false, TYPALIGN_INT));
    return n;
}

/* Asks the student about held-out texts: how fast it is, and how often it says what the teacher said. */
static void ask_student(Distilling *d)
{
    static const Oid types[] = {TEXTARRAYOID, TEXTARRAYOID};
    const SlmTuneSet *set = slm_pg_tuning_rows(d->tuning);
    const char *call = slm_pg_tuning_call(d->tuning, d->prefix, "u.input", INT_MAX);
    bool fields = set->kind == SLM_TUNE_FIELDS, vectors = slm_pg_finetune_is_text_kind(set->kind);
    Datum values[2];
    TimestampTz begin;
    bool isnull;

    d->agreement = get_float8_nan();
    if (!d->active || (d->answered = held_out(set, &values[0], &values[1])) == 0)
        return;
    begin = GetCurrentTimestamp();
    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    if (SPI_execute_with_args(psprintf("SELECT pg_catalog.avg(CASE WHEN s.said %s THEN 1::pg_catalog.float8 ELSE 0::pg_catalog.float8 END)"
                                       " FROM (SELECT %s AS said, u.answer FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2))"
                                       " u (input, answer)) s",
                                       vectors  ? "IS NOT NULL"
                                       : fields ? "OPERATOR(pg_catalog.=) s.answer::pg_catalog.jsonb"
                                                : "OPERATOR(pg_catalog.=) s.answer",
                                       call),
                              2, (Oid *) types, values, NULL, true, 0) != SPI_OK_SELECT)
        elog(ERROR, "could not ask the student");
    if (!vectors)
        d->agreement = DatumGetFloat8(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
    SPI_finish();
    d->student_seconds = slm_pg_seconds_since(begin);
}

/* Bytes of the images that answered for the teacher; -1 where none is a loaded model. */
static int64 teacher_bytes(const SlmMeter *meter)
{
    const SlmModelRow *row;
    int64 bytes = 0;

    for (int m = 0; m < meter->n_models; m++)
        for (int i = 0; (row = slm_pg_nth_model(i)) != NULL; i++)
            if (strncmp(row->key, meter->models[m], 64) == 0) {
                bytes += row->image_bytes;
                break;
            }
    return bytes > 0 ? bytes : -1;
}

static int64 image_bytes(const char *name)
{
    const SlmModelRow *row = slm_pg_find_model(name);

    return row == NULL ? 0 : row->image_bytes;
}

static Datum row_of(const Distilling *d, TupleDesc desc)
{
    const slm_finetune_report *r = slm_pg_tuning_report(d->tuning);
    const SlmTuneSet *set = slm_pg_tuning_rows(d->tuning);
    int64 teacher = teacher_bytes(&d->meter);
    Datum values[12];
    bool nulls[12] = {false};

    values[0] = Int32GetDatum(d->version);
    values[1] = Int64GetDatum((int64) set->n_examples);
    values[2] = Int64GetDatum((int64) set->n_held_out);
    values[3] = Float8GetDatum(r->before.exact);
    values[4] = Float8GetDatum(r->after.exact);
    values[5] = Float8GetDatum(d->agreement);
    values[6] = Float8GetDatum((double) d->asked / d->teacher_seconds);
    values[7] = Float8GetDatum((double) d->answered / d->student_seconds);
    values[8] = Int64GetDatum(teacher);
    values[9] = Int64GetDatum(image_bytes(d->student) + image_bytes(d->name));
    values[10] = Float8GetDatum(d->seconds);
    values[11] = BoolGetDatum(d->active);
    nulls[3] = isnan(r->before.exact);
    nulls[4] = isnan(r->after.exact);
    nulls[5] = isnan(d->agreement);
    nulls[7] = d->answered == 0;
    nulls[8] = teacher < 0;
    return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/* Inside PG_TRY: the engine's objects are freed by the caller. */
static pg_noinline void distill(Distilling *d, TupleDesc desc)
{
    TimestampTz begin = GetCurrentTimestamp();
    double cpu = slm_pg_cpu_seconds();

    ask_teacher(d);
    slm_pg_tuning_begin(d->tuning);
    (void) slm_pg_tuning_work(d->tuning, NULL, NULL);
    d->version = slm_pg_tuning_keep(d->tuning, slm_pg_seconds_since(begin), slm_pg_cpu_seconds() - cpu, &d->active);
    d->seconds = slm_pg_seconds_since(begin);
    ask_student(d);
    d->row = row_of(d, desc);
}

/* The answers' column is named label where they are to be chosen: a student that embeds, or the option "labels". */
static const char *answer_name(Jsonb *options, const char *student)
{
    JsonbValue key = {.type = jbvString};
    const SlmModelRow *row = slm_pg_find_model(student);

    key.val.string.val = "labels";
    key.val.string.len = 6;
    if (JB_ROOT_IS_OBJECT(options) && findJsonbValueFromContainer(&options->root, JB_FOBJECT, &key) != NULL)
        return "label";
    return row != NULL && !row->can_generate ? "label" : "answer";
}

/* slm_distill(name, student, query, teacher, rows, options) */
Datum slm_pg_distill(PG_FUNCTION_ARGS)
{
    Distilling *d = palloc0(sizeof *d);
    char *query = slm_pg_name_argument(fcinfo, 2, "the query of texts"), *teacher = slm_pg_name_argument(fcinfo, 3, "the teacher");
    Jsonb *options = PG_ARGISNULL(5) ? slm_pg_no_options() : PG_GETARG_JSONB_P(5);
    int rows = slm_pg_int_arg(fcinfo, 4, "rows", 1000, 2, 10000000);
    TupleDesc desc;

    d->name = slm_pg_name_argument(fcinfo, 0, "the name of an adapter");
    d->student = slm_pg_name_argument(fcinfo, 1, "the name of its model");
    d->prefix = psprintf("%s.", quote_identifier(get_namespace_name(get_func_namespace(fcinfo->flinfo->fn_oid))));
    if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    slm_pg_check_may_load(fcinfo, "fine-tune a model", false);
    slm_pg_refuse_read_only("slm_distill()");
    query = slm_pg_teacher_query(query, teacher, psprintf(" AS %s", answer_name(options, d->student)), rows);
    d->tuning = slm_pg_tuning_new(d->name, d->student, query, options);
    slm_pg_store_make_directory();
    slm_pg_loading_begin(d->name);
    PG_TRY();
    {
        distill(d, desc);
    }
    PG_FINALLY();
    {
        slm_pg_tuning_free(d->tuning);
        slm_pg_loading_end();
    }
    PG_END_TRY();
    PG_RETURN_DATUM(d->row);
}
