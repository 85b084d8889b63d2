/*
 * extract.c: slm_extract, slm_extract_as, slm_extract_details: values copied out of a text, typed (DESIGN D20).
 *
 *   fields ──► candidates of each (engine/extract) ──► typed ones: the best by its form and the words around it, no model is run
 *                                                  ──► phrases: the one whose "name: phrase" is nearest to the text, for an encoder;
 *                                                      the likeliest answer, less what it is without the text, for a generative model
 *   fields ──► labels of a model that finds their spans ──► the best span of each that holds a value of its kind; of lists all
 *
 * Nothing is written that does not stand in the text.  With copy => false a generative model writes all values under the JSON Schema of the
 * fields instead.  docs/EXTRACTION.md has the figures by which each kind is chosen as it is.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"

#include "engine/extract/extract.h"
#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/base/errors.h"
#include "pg/base/guc.h"
#include "pg/base/row_error.h"
#include "pg/functions/entities.h"
#include "pg/functions/fields.h"
#include "pg/functions/kinds.h"
#include "pg/functions/prompts.h"
#include "pg/functions/reading.h"
#include "pg/functions/type_schema.h"
#include "pg/models/catalog.h"
#include "pg/run/constraints.h"
#include "pg/run/use.h"
#include "pg/run/work.h"

PG_FUNCTION_INFO_V1(slm_pg_extract);
PG_FUNCTION_INFO_V1(slm_pg_extract_as);
PG_FUNCTION_INFO_V1(slm_pg_extract_details);

enum { ARG_INPUT, ARG_FIELDS, ARG_MODEL, ARG_THRESHOLD, ARG_COPY };

/* Below, a typed value is left out. */
#define TYPED_THRESHOLD 0.25
/* Bytes that are read beside a span of a model that finds spans. */
#define MOST_JOINED 64
/* What the words around a phrase count beside the encoder's cosine. */
#define CUE_WEIGHT 0.3

/* A field and what stands for it in the text. */
typedef struct Choice {
    const SlmField *field;
    slm_extract_candidate *list; /* [n], palloc'ed */
    int n, best;                 /* -1: none; of a list all of them */
    double score;
    SlmVector **vectors; /* phrases, for an encoder: [n] of "name: phrase" */
    int run;             /* phrases, for a generative model: of the work, or -1 */
    const char *label;   /* for a model that finds spans */
} Choice;

typedef struct Extraction {
    SlmFields fields;
    Choice *choices;  /* [fields.n] */
    const char *text; /* UTF-8 */
    size_t length;
    bool month_first; /* how its dates are read where nothing tells */
    bool has_threshold;
    double threshold;
    SlmEntityReading *spans; /* by a model that finds them; else NULL */
    SlmVector *whole; /* of the text, where phrases are asked for */
    bool written;     /* by a model, not copied */
    Oid type;         /* slm_extract_as */
} Extraction;

/* ---- candidates */

/* Those in [begin, end) of the text, [*n]; meant: that is what the field means. */
static slm_extract_candidate *find_candidates(const Extraction *e, const slm_extract_field *what, size_t begin, size_t end, bool meant,
                                              int *n)
{
    slm_extract_options options = {.month_first = e->month_first, .meant = meant, .stop = SLM_STOP};
    slm_extract_candidate *found, *list;
    slm_status status;
    slm_error err;
    size_t n_found;

    while ((status = slm_extract_find(e->text + begin, end - begin, what, &options, &found, &n_found, &err)) == SLM_CANCELLED)
        slm_pg_interrupted();
    if (status != SLM_OK)
        slm_pg_error(&err, NULL);
    list = palloc_extended(sizeof *found * (n_found + 1), MCXT_ALLOC_NO_OOM);
    for (size_t i = 0; list != NULL && i < n_found; i++) {
        list[i] = found[i];
        list[i].begin += begin;
        list[i].end += begin;
    }
    free(found);
    if (list == NULL)
        ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
    *n = (int) n_found;
    return list;
}

static void choose_typed(const Extraction *e, Choice *c)
{
    c->best = c->n > 0 && (double) c->list[0].score >= (e->has_threshold ? e->threshold : TYPED_THRESHOLD) ? 0 : -1;
    c->score = c->best == 0 ? (double) c->list[0].score : 0;
}

static const char *spoken_name(const Choice *c)
{
    char *name = pstrdup(c->field->what.name);

    for (char *p = name; *p != '\0'; p++)
        if (*p == '_' || *p == '-')
            *p = ' ';
    return name;
}

static char *phrase_of(const Extraction *e, const slm_extract_candidate *c)
{
    return pnstrdup(e->text + c->begin, c->end - c->begin);
}

/* ---- phrases: an encoder */

static SlmText to_read(SlmOpenModel *entry, const char *text, size_t length)
{
    SlmText t = {.entry = entry, .prompt = slm_pg_text_prompt(entry, false), .text = text, .length = length};

    slm_pg_measure(&t);
    return t;
}

static void read_phrases(SlmWork *work, Extraction *e, Choice *c, SlmOpenModel *entry)
{
    if (e->whole == NULL) {
        SlmText t = to_read(entry, e->text, e->length);

        slm_pg_note_windows(work, &t);
        e->whole = slm_pg_read_vector(work, &t);
    }
    c->vectors = palloc(sizeof(SlmVector *) * (Size) c->n);
    for (int i = 0; i < c->n; i++) {
        char *said = psprintf("%s: %s", spoken_name(c), phrase_of(e, &c->list[i]));
        SlmText t = to_read(entry, said, strlen(said));

        c->vectors[i] = slm_pg_read_vector(work, &t);
    }
}

static void choose_nearest(const Extraction *e, Choice *c)
{
    for (int i = 0; i < c->n; i++) {
        double score = slm_vector_cosine(c->vectors[i]->x, e->whole->x, (size_t) e->whole->n) + CUE_WEIGHT * (double) c->list[i].score;

        if (c->best < 0 || score > c->score) {
            c->best = i;
            c->score = score;
        }
    }
    c->score = Max(0, Min(1, c->score));
    if (e->has_threshold && c->score < e->threshold)
        c->best = -1;
}

/* ---- phrases: a generative model */

/* Equal phrases are one label: the first stays. */
static void drop_equal(const Extraction *e, Choice *c)
{
    int n = 0;

    for (int i = 0; i < c->n; i++) {
        bool seen = false;

        for (int k = 0; k < n && !seen; k++)
            seen = c->list[k].end - c->list[k].begin == c->list[i].end - c->list[i].begin &&
                   memcmp(e->text + c->list[k].begin, e->text + c->list[i].begin, c->list[i].end - c->list[i].begin) == 0;
        if (!seen)
            c->list[n++] = c->list[i];
    }
    c->n = n;
}

static void ask_for_phrase(SlmWork *work, const Extraction *e, Choice *c, SlmOpenModel *entry, int *runs)
{
    const char *question = c->field->what.question != NULL ? c->field->what.question
                                                                  : slm_pg_prompt_with(SLM_PROMPT_QUESTION, entry, "field", spoken_name(c));
    const char **labels;
    slm_segment segments[2];
    slm_request request = {.mode = SLM_MODE_LABELS, .chat = true, .segments = segments, .n_segments = 2, .prior_text = "N/A"};

    drop_equal(e, c);
    labels = palloc(sizeof(char *) * (Size) c->n);
    for (int i = 0; i < c->n; i++)
        labels[i] = phrase_of(e, &c->list[i]);
    request.labels = labels;
    request.n_labels = (size_t) c->n;
    segments[0] = slm_pg_segment_utf8(SLM_ROLE_USER, SLM_SEG_PREFIX, slm_pg_prompt_with(SLM_PROMPT_PHRASE, entry, "question", question));
    segments[1] = (slm_segment){.role = SLM_ROLE_USER, .flags = SLM_SEG_JOIN, .text = e->text, .length = e->length};
    slm_pg_submit_cut(work, entry, &request, &segments[1], SLM_TRUNCATE_DEFAULT);
    c->run = (*runs)++;
}

static void choose_likeliest(SlmWork *work, const Extraction *e, Choice *c)
{
    const slm_result *result = slm_pg_work_result(work, c->run);

    c->best = (int) result->best;
    c->score = slm_exp((double) result->scores[result->best]);
    if (e->has_threshold && c->score < e->threshold)
        c->best = -1;
}

/* ---- a model that finds spans */

/* A field is asked for by its description, unless that is a question, else by its name. */
static const char *label_of(const Choice *c)
{
    const char *said = c->field->what.question;

    return said != NULL && said[0] != '\0' && strchr(said, '?') == NULL ? said : spoken_name(c);
}

/* Fields whose labels are equal share one. */
static void find_spans(SlmWork *work, Extraction *e, SlmOpenModel *entry)
{
    const char **labels = palloc(sizeof *labels * (Size) e->fields.n);
    SlmText t = {.entry = entry, .text = e->text, .length = e->length};
    double threshold = e->has_threshold ? e->threshold : -1;
    int n = 0;

    for (int i = 0; i < e->fields.n; i++) {
        int k = 0;

        e->choices[i].label = label_of(&e->choices[i]);
        while (k < n && strcmp(labels[k], e->choices[i].label) != 0)
            k++;
        if (k == n)
            labels[n++] = e->choices[i].label;
    }
    e->month_first = slm_extract_month_first(e->text, e->length, e->month_first);
    slm_pg_ask_entities(&t, labels, n, &threshold);
    slm_pg_measure(&t);
    slm_pg_note_windows(work, &t);
    e->spans = slm_pg_read_entities(work, &t);
}

static bool joins(char c)
{
    return c > ' ' && c < 0x7F;
}

/* The first value of the field's kind that has a byte of the span; false: none.  What is joined to the span is read with it, so that no
 * number is cut: 1 in 1.012,50 stands for all of it. */
static bool value_at(const Extraction *e, const Choice *c, const slm_entity *span, slm_extract_candidate *out)
{
    size_t begin = span->begin, end = span->end;
    slm_extract_candidate *list;
    bool found = false;
    int n;

    while (begin > 0 && span->begin - begin < MOST_JOINED && joins(e->text[begin - 1]))
        begin--;
    while (end < e->length && end - span->end < MOST_JOINED && joins(e->text[end]))
        end++;
    list = find_candidates(e, &c->field->what, begin, end, true, &n);
    for (int i = 0; i < n && !found; i++) {
        found = list[i].begin < span->end && list[i].end > span->begin;
        *out = list[i];
    }
    pfree(list);
    return found;
}

static void choose_spans(const Extraction *e, Choice *c, const slm_entity *found, size_t n)
{
    bool many = c->field->many;
    size_t own = 0;

    for (size_t i = 0; i < n; i++)
        own += strcmp(found[i].kind, c->label) == 0;
    c->list = MemoryContextAllocHuge(CurrentMemoryContext, sizeof *c->list * (own + 1));
    for (size_t i = 0; i < n; i++) {
        slm_extract_candidate value = {.begin = found[i].begin, .end = found[i].end};

        if (strcmp(found[i].kind, c->label) != 0 || (!many && (double) found[i].score <= c->score))
            continue;
        if (c->field->what.kind != SLM_EXTRACT_TEXT && !value_at(e, c, &found[i], &value))
            continue;
        value.score = found[i].score;
        if (many && c->n > 0 && value.begin < c->list[c->n - 1].end) { /* two spans of one value */
            c->list[c->n - 1].score = Max(c->list[c->n - 1].score, value.score);
            continue;
        }
        c->n = many ? c->n : 0;
        c->list[c->n++] = value;
        c->score = (double) value.score;
        c->best = 0;
    }
}

/* ---- a call */

/* The model that the call names, which may be one that finds spans; else the default for labels: an encoder where one is set. */
static SlmOpenModel *phrase_model(SlmWork *work, FunctionCallInfo fcinfo)
{
    SlmOpenModel *entry = slm_pg_work_model(work, slm_pg_text_arg(fcinfo, ARG_MODEL));
    bool finds = slm_pg_info(entry)->can_find && !PG_ARGISNULL(ARG_MODEL);

    if (!slm_pg_info(entry)->can_embed && !slm_pg_info(entry)->can_generate && !finds)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("the model can neither compute embeddings nor generate text"),
                        errhint("Choose one that can: see can_embed and can_generate in slm.models.")));
    return entry;
}

static void submit_phrases(SlmWork *work, SlmOpenModel *entry, Extraction *e)
{
    bool encodes = slm_pg_info(entry)->can_embed;
    int runs = 0;

    for (int i = 0; i < e->fields.n; i++) {
        Choice *c = &e->choices[i];

        if (c->field->what.kind != SLM_EXTRACT_TEXT || c->n == 0)
            continue;
        if (encodes)
            read_phrases(work, e, c, entry);
        else
            ask_for_phrase(work, e, c, entry, &runs);
    }
}

/* By their form, and by the words around them: true when all values are known without a model. */
static bool find_by_form(Extraction *e)
{
    bool known = true;

    for (int i = 0; i < e->fields.n; i++) {
        Choice *c = &e->choices[i];

        c->list = find_candidates(e, &c->field->what, 0, e->length, false, &c->n);
        if (c->field->what.kind != SLM_EXTRACT_TEXT)
            choose_typed(e, c);
        else
            known &= c->n == 0;
    }
    return known;
}

/* Reads the text: true when all values are known without a model. */
static bool copy_values(SlmWork *work, FunctionCallInfo fcinfo, Extraction *e)
{
    bool known;
    /* a model that is named is looked for though no row may need it, so that a wrong name is found at once */
    SlmOpenModel *entry = PG_ARGISNULL(ARG_MODEL) ? NULL : phrase_model(work, fcinfo);
    bool finds = entry != NULL && slm_pg_info(entry)->can_find;

    if (!finds)
        slm_pg_refuse_lists(&e->fields);
    e->text = slm_pg_input_utf8(PG_GETARG_TEXT_PP(ARG_INPUT), &e->length);
    e->month_first = DateOrder == DATEORDER_MDY;
    e->has_threshold = !PG_ARGISNULL(ARG_THRESHOLD);
    e->threshold = slm_pg_float_arg(fcinfo, ARG_THRESHOLD, "threshold", 0, 0, false, 1, false);
    e->choices = palloc0(sizeof(Choice) * (Size) e->fields.n);
    for (int i = 0; i < e->fields.n; i++) {
        e->choices[i].field = &e->fields.list[i];
        e->choices[i].best = e->choices[i].run = -1;
    }
    if (finds) {
        find_spans(work, e, entry);
        return false;
    }
    known = find_by_form(e);
    if (!known)
        submit_phrases(work, entry != NULL ? entry : phrase_model(work, fcinfo), e);
    return known;
}

static void choose_values(SlmWork *work, Extraction *e)
{
    size_t n = 0;
    slm_entity *found = e->spans != NULL ? slm_pg_entities_found(e->spans, &n) : NULL;

    for (int i = 0; i < e->fields.n; i++) {
        Choice *c = &e->choices[i];

        if (e->spans != NULL)
            choose_spans(e, c, found, n);
        else if (c->vectors != NULL)
            choose_nearest(e, c);
        else if (c->run >= 0)
            choose_likeliest(work, e, c);
    }
}

static void write_values(SlmWork *work, FunctionCallInfo fcinfo, Extraction *e)
{
    SlmOpenModel *entry = slm_pg_use_model(slm_pg_text_arg(fcinfo, ARG_MODEL), SLM_TASK_GENERATE);
    const char *schema = slm_pg_utf8_from_cstring(slm_pg_fields_schema(&e->fields));
    slm_segment segments[2];
    slm_request request = {.mode = SLM_MODE_GENERATE,
                           .speculate = slm_guc_speculate,
                           .chat = true,
                           .segments = segments,
                           .n_segments = 2,
                           .max_tokens = 32 + 160 * (uint32) e->fields.n,
                           .sampling = {.top_p = 1, .repeat_penalty = 1}};

    slm_pg_refuse_lists(&e->fields);
    e->written = true;
    request.public_bytes = slm_pg_public_bytes(slm_pg_prompt(SLM_PROMPT_EXTRACT, entry));
    segments[0] = slm_pg_segment_utf8(SLM_ROLE_SYSTEM, SLM_SEG_PREFIX, slm_pg_prompt_with(SLM_PROMPT_EXTRACT, entry, "schema", schema));
    segments[1] = slm_pg_segment(SLM_ROLE_USER, 0, PG_GETARG_TEXT_PP(ARG_INPUT));
    request.constraint = slm_pg_constraint(entry, SLM_CONSTRAINT_JSON_SCHEMA, schema);
    if (slm_pg_work_submit_if_fits(work, entry, &request) == NULL)
        ereport(ERROR, (slm_pg_input_error(SLM_FAULT_LONG), errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("the text is longer than the model reads"),
                        errhint("Shorten the text, or copy the values, which are found in texts of any length.")));
}

/* The text of a value in the server's encoding. */
static char *value_of(const Extraction *e, const Choice *c, const slm_extract_candidate *found)
{
    if (c->field->what.kind == SLM_EXTRACT_ENUM)
        return slm_pg_cstring_from_utf8(c->field->what.values[found->value]);
    return found->normal[0] != '\0' ? pstrdup(found->normal) : slm_pg_cstring_from_utf8(phrase_of(e, found));
}

static void put_value(StringInfo json, const Extraction *e, const Choice *c, const slm_extract_candidate *found)
{
    if (c->field->number)
        appendStringInfoString(json, value_of(e, c, found));
    else
        escape_json(json, value_of(e, c, found));
}

static void put_list(StringInfo json, const Extraction *e, const Choice *c)
{
    for (int i = 0; i < c->n; i++) {
        appendStringInfoChar(json, i == 0 ? '[' : ',');
        put_value(json, e, c, &c->list[i]);
    }
    appendStringInfoChar(json, ']');
}

static char *json_of(SlmWork *work, const Extraction *e)
{
    StringInfoData json;

    if (e->written) {
        const slm_result *result = slm_pg_work_result(work, 0);

        if (result->finish != SLM_FINISH_STOP)
            ereport(ERROR, (slm_pg_input_error(SLM_FAULT_NO_ANSWER), errcode(ERRCODE_DATA_EXCEPTION), errmsg("the values are not complete"),
                            errhint("Shorten the text or ask for fewer fields, or copy them: copy => true.")));
        return text_to_cstring(slm_pg_text_from_utf8(result->text, result->text_length));
    }
    initStringInfo(&json);
    for (int i = 0; i < e->fields.n; i++) {
        const Choice *c = &e->choices[i];

        appendStringInfoChar(&json, i == 0 ? '{' : ',');
        escape_json(&json, slm_pg_cstring_from_utf8(c->field->what.name));
        appendStringInfoChar(&json, ':');
        if (c->best < 0)
            appendStringInfoString(&json, "null");
        else if (c->field->many)
            put_list(&json, e, c);
        else
            put_value(&json, e, c, &c->list[c->best]);
    }
    appendStringInfoChar(&json, '}');
    return json.data;
}

/* false: the text is NULL, which is decided. */
static bool has_text(SlmWork *work, FunctionCallInfo fcinfo)
{
    if (PG_ARGISNULL(ARG_INPUT))
        slm_pg_work_decide(work, (Datum) 0, true);
    return !PG_ARGISNULL(ARG_INPUT);
}

static Extraction *new_extraction(SlmWork *work, FunctionCallInfo fcinfo)
{
    Extraction *e = palloc0(sizeof *e);

    slm_pg_work_set_state(work, e);
    if (PG_ARGISNULL(ARG_FIELDS))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("fields must not be null"),
                        errhint("For example: fields => ARRAY['order number', 'amount']")));
    slm_pg_fields_arg(fcinfo, ARG_FIELDS, &e->fields);
    return e;
}

/* ---- slm_extract */

static Datum finish_extract(SlmWork *work, bool *isnull)
{
    Extraction *e = slm_pg_work_state(work);

    if (!e->written)
        choose_values(work, e);
    return DirectFunctionCall1(jsonb_in, CStringGetDatum(json_of(work, e)));
}

static void begin_extract(SlmWork *work, FunctionCallInfo fcinfo)
{
    Extraction *e;
    bool isnull = false;

    if (!has_text(work, fcinfo))
        return;
    e = new_extraction(work, fcinfo);
    if (!slm_pg_bool_arg(fcinfo, ARG_COPY, true))
        write_values(work, fcinfo, e);
    else if (copy_values(work, fcinfo, e))
        slm_pg_work_decide(work, finish_extract(work, &isnull), false);
}

const SlmWorkKind slm_pg_extract_kind = {.symbol = "slm_pg_extract",
                                         .task = SLM_TASK_CLASSIFY,
                                         .may_need_no_model = true,
                                         .begin = begin_extract,
                                         .finish = finish_extract};

Datum slm_pg_extract(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_extract_kind, fcinfo);
}

/* ---- slm_extract_as */

static Datum finish_as(SlmWork *work, bool *isnull)
{
    Extraction *e = slm_pg_work_state(work);

    if (!e->written)
        choose_values(work, e);
    return slm_pg_type_value(e->type, -1, json_of(work, e), isnull);
}

static void begin_as(SlmWork *work, FunctionCallInfo fcinfo)
{
    Extraction *e = palloc0(sizeof *e);
    bool isnull = false;

    if (!has_text(work, fcinfo))
        return;
    slm_pg_work_set_state(work, e);
    e->type = get_fn_expr_argtype(fcinfo->flinfo, ARG_FIELDS);
    if (!OidIsValid(e->type))
        elog(ERROR, "could not determine the type of the values");
    slm_pg_fields_of_type(e->type, &e->fields);
    if (!slm_pg_bool_arg(fcinfo, ARG_COPY, true))
        write_values(work, fcinfo, e);
    else if (copy_values(work, fcinfo, e))
        slm_pg_work_decide(work, finish_as(work, &isnull), false);
}

const SlmWorkKind slm_pg_extract_as_kind = {.symbol = "slm_pg_extract_as",
                                            .task = SLM_TASK_CLASSIFY,
                                            .may_need_no_model = true,
                                            .begin = begin_as,
                                            .finish = finish_as};

Datum slm_pg_extract_as(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_extract_as_kind, fcinfo);
}

/* ---- slm_extract_details */

static Datum finish_details(SlmWork *work, bool *isnull)
{
    choose_values(work, slm_pg_work_state(work));
    return PointerGetDatum(slm_pg_work_state(work));
}

static void begin_details(SlmWork *work, FunctionCallInfo fcinfo)
{
    Extraction *e;

    if (!has_text(work, fcinfo))
        return;
    e = new_extraction(work, fcinfo);
    if (copy_values(work, fcinfo, e))
        slm_pg_work_decide(work, PointerGetDatum(e), false);
}

const SlmWorkKind slm_pg_extract_details_kind = {.symbol = "slm_pg_extract_details",
                                                 .task = SLM_TASK_CLASSIFY,
                                                 .answers = SLM_ANSWERS_SET,
                                                 .may_need_no_model = true,
                                                 .begin = begin_details,
                                                 .finish = finish_details};

/* found: NULL: no value */
static void put_choice(ReturnSetInfo *result, const Extraction *e, const Choice *c, const slm_extract_candidate *found, SlmPlace *place)
{
    double score = c->field->many && found != NULL ? (double) found->score : c->score;
    Datum values[5] = {CStringGetTextDatum(slm_pg_cstring_from_utf8(c->field->what.name))};
    bool nulls[5] = {false, found == NULL, found == NULL, found == NULL, found == NULL};

    if (found != NULL) {
        values[1] = CStringGetTextDatum(value_of(e, c, found));
        values[2] = Int32GetDatum(slm_pg_character_of(place, e->text, found->begin) + 1);
        values[3] = Int32GetDatum(slm_pg_character_of(place, e->text, found->end));
        values[4] = Float8GetDatum((double) (int) (score * 1000 + 0.5) / 1000);
    }
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void put_choices(SlmWork *work, const void *answer, ReturnSetInfo *result)
{
    const Extraction *e = answer;

    for (int i = 0; i < e->fields.n; i++) {
        const Choice *c = &e->choices[i];
        SlmPlace place = {0};

        for (int k = 0; c->field->many && k < c->n; k++)
            put_choice(result, e, c, &c->list[k], &place);
        if (!c->field->many || c->n == 0)
            put_choice(result, e, c, c->best < 0 ? NULL : &c->list[c->best], &place);
    }
}

Datum slm_pg_extract_details(PG_FUNCTION_ARGS)
{
    return slm_pg_work_set(&slm_pg_extract_details_kind, fcinfo, put_choices);
}
