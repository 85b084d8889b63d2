/*
 * entities.c: slm_entities, slm_entities_json: what a model with labels for tokens finds in a text.
 *
 *   text ─► windows that overlap ─► words with labels, of each place from the window where it stands deeper ─► entities
 *
 * A word that two windows have read is taken from the first where it begins before the middle of what they share, else from the second; an
 * entity that goes over that place is joined of words of both.  Places are counted in characters of the database.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/json.h"

#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/base/errors.h"
#include "pg/functions/entities.h"
#include "pg/functions/kinds.h"
#include "pg/run/opened.h"
#include "pg/run/work.h"

PG_FUNCTION_INFO_V1(slm_pg_entities);
PG_FUNCTION_INFO_V1(slm_pg_entities_json);

#define ARG_LABELS 4
#define MOST_LABELS 1024 /* SLM_MODE_SPANS */

typedef struct Entities {
    const char *text;  /* UTF-8 */
    slm_entity *found; /* [n] in order */
    size_t n;
} Entities;

/* ---- words of the windows */

struct SlmEntityReading {
    SlmText text;
    slm_tagged *words; /* [n] in order, with places in the text */
    size_t n, room;
    size_t end; /* of the last window */
};

static void add_word(SlmEntityReading *r, slm_tagged word)
{
    if (r->n == r->room) {
        r->room = Max(64, 2 * r->room);
        r->words = r->words == NULL ? MemoryContextAllocHuge(GetMemoryChunkContext(r), sizeof *r->words * r->room)
                                    : repalloc_huge(r->words, sizeof *r->words * r->room);
    }
    r->words[r->n++] = word;
}

/* Words or spans of the window at `begin`, with places in it. */
static void take_found(SlmEntityReading *r, size_t begin, size_t length, const slm_tagged *words, size_t n)
{
    size_t from = begin < r->end ? begin + (r->end - begin) / 2 : begin;

    while (r->n > 0 && r->words[r->n - 1].begin >= from)
        r->n--;
    for (size_t i = 0; i < n; i++) {
        slm_tagged word = words[i];

        word.begin += begin;
        word.end += begin;
        if (word.begin >= from && (r->n == 0 || word.begin >= r->words[r->n - 1].end))
            add_word(r, word);
    }
    r->end = begin + length;
}

static void take_words(void *arg, const float *outputs, size_t n_outputs, const char *window, size_t length)
{
    SlmEntityReading *r = arg;
    size_t n = 0;
    slm_tagged *words = NULL;
    slm_status status;
    slm_error err;

    while ((status = slm_tag_words(slm_pg_opened_model(r->text.entry), window, length, outputs, n_outputs, SLM_STOP, &words, &n,
                                   &err)) == SLM_CANCELLED)
        slm_pg_interrupted();
    if (status != SLM_OK)
        slm_pg_error(&err, NULL);
    PG_TRY();
    {
        take_found(r, (size_t) (window - r->text.text), length, words, n);
    }
    PG_FINALLY();
    {
        free(words);
    }
    PG_END_TRY();
}

/* Does no character of the window go over this place? */
static bool is_between(const char *window, size_t length, int32_t at)
{
    return (size_t) at >= length || ((unsigned char) window[at] & 0xC0) != 0x80;
}

/* What the engine has found is looked at before it is taken: it may be another process. */
static void take_spans(void *arg, const slm_result *spans, const char *window, size_t length)
{
    SlmEntityReading *r = arg;
    size_t n = spans->n_scores, last = 0;
    slm_tagged *found = palloc(sizeof *found * (n + 1));

    for (size_t i = 0; i < n; i++) {
        const int32_t *place = spans->tokens + 3 * i;

        if (spans->n_tokens != 3 * n || place[0] < 0 || (size_t) place[0] < last || place[1] <= place[0] || (size_t) place[1] > length ||
            !is_between(window, length, place[0]) || !is_between(window, length, place[1]) || place[2] < 0 ||
            place[2] >= r->text.sought->n)
            ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("the engine has found what is not in the text")));
        last = (size_t) place[1];
        found[i] = (slm_tagged) {(size_t) place[0], (size_t) place[1], (uint32_t) place[2], spans->scores[i]};
    }
    take_found(r, (size_t) (window - r->text.text), length, found, n);
    pfree(found);
}

double slm_pg_entity_threshold(FunctionCallInfo fcinfo, int i)
{
    return PG_ARGISNULL(i) ? -1 : slm_pg_float_arg(fcinfo, i, "threshold", 0, 0, false, 1, false);
}

void slm_pg_ask_entities(SlmText *text, const char *const *labels, int n, double *threshold)
{
    bool finds = slm_pg_info(text->entry)->can_find;
    SlmSought *sought;

    *threshold = *threshold < 0 ? (finds ? 0.5 : 0) : *threshold;
    if (!finds)
        return;
    sought = palloc(sizeof *sought);
    *sought = (SlmSought) {labels, n, *threshold};
    text->sought = sought;
}

SlmEntityReading *slm_pg_read_entities(SlmWork *work, const SlmText *text)
{
    SlmEntityReading *r = palloc0(sizeof *r);

    r->text = *text;
    if (text->sought == NULL)
        slm_pg_read(work, text, SLM_WINDOWS_OVERLAP, take_words, r);
    else if (text->n_windows > 0)
        slm_pg_read_spans(work, text, take_spans, r);
    return r;
}

slm_entity *slm_pg_entities_found(const SlmEntityReading *r, size_t *n)
{
    slm_entity *found = MemoryContextAllocHuge(CurrentMemoryContext, sizeof *found * (r->n + 1));

    if (r->text.sought != NULL)
        for (*n = 0; *n < r->n; ++*n)
            found[*n] = (slm_entity) {r->words[*n].begin, r->words[*n].end, r->text.sought->labels[r->words[*n].label], r->words[*n].score};
    else
        *n = slm_tag_entities(slm_pg_opened_model(r->text.entry), r->words, r->n, found);
    return found;
}

/* ---- the functions */

typedef struct Call {
    SlmEntityReading *reading; /* NULL: a text without words */
    double threshold;
} Call;

int slm_pg_character_of(SlmPlace *place, const char *text, size_t byte)
{
    for (; place->at < byte; place->at++)
        place->characters += ((unsigned char) text[place->at] & 0xC0) != 0x80;
    return place->characters;
}

/* The labels of a call, which are for models that find what is asked for, and for no others. */
static void ask(FunctionCallInfo fcinfo, SlmText *t, double *threshold)
{
    int n;
    const char **labels = slm_pg_strings_arg(fcinfo, ARG_LABELS, "labels", MOST_LABELS, &n);

    if (slm_pg_info(t->entry)->can_find && n == 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the model finds what it is asked for, but no labels are given"),
                        errhint("Name them: labels => ARRAY['person', 'city'].")));
    if (!slm_pg_info(t->entry)->can_find && n > 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("labels are given, but the model has labels of its own"),
                        errhint("Leave labels out, or use a model that finds what labels ask for (GLiNER).")));
    slm_pg_ask_entities(t, labels, n, threshold);
}

/* input, model, threshold, truncate, labels, on_error */
static void begin_entities(SlmWork *work, FunctionCallInfo fcinfo)
{
    Call *call = palloc0(sizeof *call);
    SlmText t = {0};

    if (PG_ARGISNULL(0)) {
        slm_pg_work_decide(work, (Datum) 0, true);
        return;
    }
    slm_pg_refuse_list(fcinfo, 0, "It takes one text; unnest() gives a row for each of a list.");
    call->threshold = slm_pg_entity_threshold(fcinfo, 2); /* before the model: it does not depend on it */
    slm_pg_work_set_state(work, call);
    t.entry = slm_pg_work_model(work, slm_pg_text_arg(fcinfo, 1));
    t.truncate = slm_pg_truncate_arg(fcinfo, 3);
    ask(fcinfo, &t, &call->threshold);
    t.text = slm_pg_input_utf8(PG_GETARG_TEXT_PP(0), &t.length);
    if (slm_pg_blank_arg(fcinfo, 0))
        return;
    slm_pg_measure(&t);
    slm_pg_note_windows(work, &t);
    call->reading = slm_pg_read_entities(work, &t);
}

static Entities found_by(const Call *call)
{
    Entities e = {0};

    if (call->reading != NULL) {
        e.text = call->reading->text.text;
        e.found = slm_pg_entities_found(call->reading, &e.n);
    }
    return e;
}

static Datum finish_json(SlmWork *work, bool *isnull)
{
    const Call *call = slm_pg_work_state(work);
    Entities e = found_by(call);
    StringInfoData json;
    SlmPlace place = {0};

    initStringInfo(&json);
    for (size_t i = 0; i < e.n; i++) {
        const slm_entity *f = &e.found[i];

        if ((double) f->score < call->threshold)
            continue;
        appendStringInfoString(&json, json.len == 0 ? "[{\"kind\":" : ",{\"kind\":");
        escape_json(&json, slm_pg_cstring_from_utf8(f->kind));
        appendStringInfoString(&json, ",\"value\":");
        escape_json(&json, text_to_cstring(slm_pg_text_from_utf8(e.text + f->begin, f->end - f->begin)));
        appendStringInfo(&json, ",\"start\":%d", slm_pg_character_of(&place, e.text, f->begin) + 1);
        appendStringInfo(&json, ",\"end\":%d,\"score\":%s}", slm_pg_character_of(&place, e.text, f->end),
                         float8out_internal((double) f->score));
    }
    appendStringInfoString(&json, json.len == 0 ? "[]" : "]");
    return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

const SlmWorkKind slm_pg_entities_json_kind = {
    .symbol = "slm_pg_entities_json", .task = SLM_TASK_ENTITIES, .begin = begin_entities, .finish = finish_json};

Datum slm_pg_entities_json(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_entities_json_kind, fcinfo);
}

static Datum finish_set(SlmWork *work, bool *isnull)
{
    return PointerGetDatum(slm_pg_work_state(work));
}

const SlmWorkKind slm_pg_entities_kind = {.symbol = "slm_pg_entities", .task = SLM_TASK_ENTITIES, .answers = SLM_ANSWERS_SET,
                                          .begin = begin_entities, .finish = finish_set};

static void put_entities(SlmWork *work, const void *answer, ReturnSetInfo *result)
{
    const Call *call = answer;
    Entities e = found_by(call);
    SlmPlace place = {0};

    for (size_t i = 0; i < e.n; i++) {
        const slm_entity *f = &e.found[i];
        bool nulls[5] = {false};
        Datum values[5];

        if ((double) f->score < call->threshold)
            continue;
        values[0] = CStringGetTextDatum(slm_pg_cstring_from_utf8(f->kind));
        values[1] = PointerGetDatum(slm_pg_text_from_utf8(e.text + f->begin, f->end - f->begin));
        values[2] = Int32GetDatum(slm_pg_character_of(&place, e.text, f->begin) + 1);
        values[3] = Int32GetDatum(slm_pg_character_of(&place, e.text, f->end));
        values[4] = Float8GetDatum((double) f->score);
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
}

Datum slm_pg_entities(PG_FUNCTION_ARGS)
{
    return slm_pg_work_set(&slm_pg_entities_kind, fcinfo, put_entities);
}
