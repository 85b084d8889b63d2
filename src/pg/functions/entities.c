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

static void take_words(void *arg, const float *outputs, size_t n_outputs, const char *window, size_t length)
{
    SlmEntityReading *r = arg;
    size_t begin = (size_t) (window - r->text.text), from = begin < r->end ? begin + (r->end - begin) / 2 : begin, n = 0;
    slm_tagged *words = NULL;
    slm_status status;
    slm_error err;

    while ((status = slm_tag_words(slm_pg_opened_model(r->text.entry), window, length, outputs, n_outputs, SLM_STOP, &words, &n,
                                   &err)) == SLM_CANCELLED)
        slm_pg_interrupted();
    if (status != SLM_OK)
        slm_pg_error(&err, NULL);
    while (r->n > 0 && r->words[r->n - 1].begin >= from)
        r->n--;
    PG_TRY();
    {
        for (size_t i = 0; i < n; i++) {
            words[i].begin += begin;
            words[i].end += begin;
            if (words[i].begin >= from && (r->n == 0 || words[i].begin >= r->words[r->n - 1].end))
                add_word(r, words[i]);
        }
    }
    PG_FINALLY();
    {
        free(words);
    }
    PG_END_TRY();
    r->end = begin + length;
}

SlmEntityReading *slm_pg_read_entities(SlmWork *work, const SlmText *text)
{
    SlmEntityReading *r = palloc0(sizeof *r);

    r->text = *text;
    slm_pg_read(work, text, SLM_WINDOWS_OVERLAP, take_words, r);
    return r;
}

slm_entity *slm_pg_entities_found(const SlmEntityReading *r, size_t *n)
{
    slm_entity *found = MemoryContextAllocHuge(CurrentMemoryContext, sizeof *found * (r->n + 1));

    *n = slm_tag_entities(slm_pg_opened_model(r->text.entry), r->words, r->n, found);
    return found;
}

/* ---- the functions */

typedef struct Call {
    SlmEntityReading *reading; /* NULL: a text without words */
    double threshold;
} Call;

/* An entity with its places in characters: *at bytes of the text are *characters. */
typedef struct Place {
    size_t at;
    int characters;
} Place;

static int character_of(Place *place, const char *text, size_t byte)
{
    for (; place->at < byte; place->at++)
        place->characters += ((unsigned char) text[place->at] & 0xC0) != 0x80;
    return place->characters;
}

/* input, model, threshold, truncate */
static void begin_entities(SlmWork *work, FunctionCallInfo fcinfo)
{
    Call *call = palloc0(sizeof *call);
    SlmText t = {0};

    if (PG_ARGISNULL(0)) {
        slm_pg_work_decide(work, (Datum) 0, true);
        return;
    }
    slm_pg_refuse_list(fcinfo, 0, "It takes one text; unnest() gives a row for each of a list.");
    call->threshold = slm_pg_float_arg(fcinfo, 2, "threshold", 0, 0, false, 1, false); /* before the model: it does not depend on it */
    slm_pg_work_set_state(work, call);
    t.entry = slm_pg_work_model(work, slm_pg_text_arg(fcinfo, 1));
    t.truncate = slm_pg_truncate_arg(fcinfo, 3);
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
    Place place = {0};

    initStringInfo(&json);
    for (size_t i = 0; i < e.n; i++) {
        const slm_entity *f = &e.found[i];

        if ((double) f->score < call->threshold)
            continue;
        appendStringInfoString(&json, json.len == 0 ? "[{\"kind\":" : ",{\"kind\":");
        escape_json(&json, slm_pg_cstring_from_utf8(f->kind));
        appendStringInfoString(&json, ",\"value\":");
        escape_json(&json, text_to_cstring(slm_pg_text_from_utf8(e.text + f->begin, f->end - f->begin)));
        appendStringInfo(&json, ",\"start\":%d", character_of(&place, e.text, f->begin) + 1);
        appendStringInfo(&json, ",\"end\":%d,\"score\":%s}", character_of(&place, e.text, f->end), float8out_internal((double) f->score));
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
    Place place = {0};

    for (size_t i = 0; i < e.n; i++) {
        const slm_entity *f = &e.found[i];
        bool nulls[5] = {false};
        Datum values[5];

        if ((double) f->score < call->threshold)
            continue;
        values[0] = CStringGetTextDatum(slm_pg_cstring_from_utf8(f->kind));
        values[1] = PointerGetDatum(slm_pg_text_from_utf8(e.text + f->begin, f->end - f->begin));
        values[2] = Int32GetDatum(character_of(&place, e.text, f->begin) + 1);
        values[3] = Int32GetDatum(character_of(&place, e.text, f->end));
        values[4] = Float8GetDatum((double) f->score);
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
}

Datum slm_pg_entities(PG_FUNCTION_ARGS)
{
    return slm_pg_work_set(&slm_pg_entities_kind, fcinfo, put_entities);
}
