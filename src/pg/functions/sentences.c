/*
 * sentences.c: a summary of whole sentences of the text (sentences.h).
 *
 *   sentences ──► at most MOST_READ, by their words ──► vectors of the encoder, or of the words ──► central and unlike each other
 */
#include "pg/functions/sentences.h"

#include "lib/stringinfo.h"

#include "engine/extract/summary.h"
#include "engine/slm.h"
#include "pg/base/encoding.h"
#include "pg/base/errors.h"
#include "pg/functions/reading.h"

#define MOST_READ 200      /* sentences, by an encoder */
#define MOST_COMPARED 1000 /* by their words */

struct SlmSentences {
    const char *text;
    slm_sentence *list; /* [n], palloc'ed */
    size_t n;
    int max_words;
    size_t n_dims;
    float *vectors;   /* by words: [n, n_dims], palloc'ed */
    SlmVector **read; /* by an encoder: [n] */
    SlmVector *focus;
    float *focus_words; /* by words: [n_dims] */
};

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

int slm_pg_count_words(const char *s, size_t length)
{
    int n = 0;

    for (size_t i = 0; i < length; i++)
        n += !is_space(s[i]) && (i == 0 || is_space(s[i - 1]));
    return n;
}

static void check(slm_status status, slm_error *err)
{
    if (status == SLM_CANCELLED)
        slm_pg_interrupted();
    else if (status != SLM_OK)
        slm_pg_error(err, NULL);
}

/* At most `most`, palloc'ed. */
static void find_sentences(SlmSentences *s, size_t length, size_t most)
{
    slm_sentence *found = NULL;
    slm_status status;
    slm_error err;
    size_t n = 0;

    while ((status = slm_sentences_find(s->text, length, SLM_STOP, &found, &n, &err)) == SLM_CANCELLED)
        slm_pg_interrupted();
    check(status, &err);
    while ((status = slm_sentences_reduce(s->text, found, &n, most, SLM_STOP, &err)) == SLM_CANCELLED && !QueryCancelPending &&
           !ProcDiePending)
        slm_pg_interrupted();
    if (status != SLM_OK) {
        free(found);
        check(status, &err);
    }
    s->n = n;
    s->list = MemoryContextAllocExtended(CurrentMemoryContext, sizeof *found * (n + 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
    if (s->list != NULL && n > 0)
        memcpy(s->list, found, sizeof *found * n);
    free(found);
    if (s->list == NULL)
        ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
    /* as summaries are measured: "A-4711" is a word */
    for (size_t i = 0; i < n; i++)
        s->list[i].n_words = (uint32_t) slm_pg_count_words(s->text + s->list[i].begin, s->list[i].end - s->list[i].begin);
}

static void read_words(SlmSentences *s, const char *focus)
{
    slm_status status;
    slm_error err;

    s->n_dims = SLM_LEXICAL_DIMS;
    s->vectors = palloc(sizeof(float) * SLM_LEXICAL_DIMS * (s->n + 1));
    while ((status = slm_sentences_vectors(s->text, s->list, s->n, SLM_STOP, s->vectors, &err)) == SLM_CANCELLED)
        slm_pg_interrupted();
    check(status, &err);
    if (focus != NULL) {
        slm_sentence whole = {0, strlen(focus), 1, 1};

        s->focus_words = palloc(sizeof(float) * SLM_LEXICAL_DIMS);
        check(slm_sentences_vectors(focus, &whole, 1, NULL, s->focus_words, &err), &err);
    }
}

static SlmVector *read_one(SlmWork *work, SlmOpenModel *encoder, const char *text, size_t length)
{
    SlmText t = {.entry = encoder, .prompt = slm_pg_text_prompt(encoder, false), .text = text, .length = length};

    slm_pg_measure(&t);
    return slm_pg_read_vector(work, &t);
}

SlmSentences *slm_pg_read_sentences(SlmWork *work, SlmOpenModel *encoder, const char *text, size_t length, const char *focus, int max_words)
{
    SlmSentences *s = palloc0(sizeof *s);

    s->text = text;
    s->max_words = max_words;
    find_sentences(s, length, encoder != NULL ? MOST_READ : MOST_COMPARED);
    if (encoder == NULL) {
        read_words(s, focus);
        return s;
    }
    s->n_dims = slm_pg_info(encoder)->n_embd;
    s->read = palloc(sizeof(SlmVector *) * (s->n + 1));
    for (size_t i = 0; i < s->n; i++)
        s->read[i] = read_one(work, encoder, text + s->list[i].begin, s->list[i].end - s->list[i].begin);
    if (focus != NULL)
        s->focus = read_one(work, encoder, focus, strlen(focus));
    return s;
}

static int compare_places(const void *a, const void *b)
{
    return *(const uint32_t *) a < *(const uint32_t *) b ? -1 : *(const uint32_t *) a > *(const uint32_t *) b;
}

/* The beginning of the first sentence with more than a greeting, since none is short enough. */
static void put_beginning(StringInfo out, const SlmSentences *s)
{
    const slm_sentence *best = &s->list[0];
    size_t at, end;
    int words = 0;

    for (size_t i = 0; i < s->n && best->n_words < 4; i++)
        best = &s->list[i];
    at = end = best->begin;
    while (at < best->end && words < s->max_words) {
        while (at < best->end && is_space(s->text[at]))
            at++;
        while (at < best->end && !is_space(s->text[at]))
            at++;
        end = at;
        words++;
    }
    appendBinaryStringInfo(out, s->text + best->begin, (int) (end - best->begin));
    if (end < best->end)
        appendStringInfoString(out, "\xE2\x80\xA6"); /* ... */
}

text *slm_pg_chosen_sentences(SlmSentences *s)
{
    StringInfoData out;
    uint32_t *chosen = palloc(sizeof *chosen * (s->n + 1));
    size_t n;

    if (s->read != NULL) {
        s->vectors = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(float) * s->n_dims * (s->n + 1));
        for (size_t i = 0; i < s->n; i++)
            memcpy(s->vectors + i * s->n_dims, s->read[i]->x, sizeof(float) * s->n_dims);
    }
    n = slm_sentences_choose(s->vectors, s->n_dims, s->list, s->n, s->focus != NULL ? s->focus->x : s->focus_words, true,
                             (uint32_t) s->max_words, chosen);
    qsort(chosen, n, sizeof *chosen, compare_places);
    initStringInfo(&out);
    for (size_t i = 0; i < n; i++) {
        const slm_sentence *sentence = &s->list[chosen[i]];

        appendStringInfoString(&out, i > 0 ? " " : "");
        appendBinaryStringInfo(&out, s->text + sentence->begin, (int) (sentence->end - sentence->begin));
    }
    if (n == 0 && s->n > 0)
        put_beginning(&out, s);
    return slm_pg_text_from_utf8(out.data, (size_t) out.len);
}
