/*
 * SPANS: the words of a text that labels stand for.
 *
 * The prompt is the labels and the words (text/words.h); the head's logits of a step become probabilities, and of those above the threshold
 * the most probable is taken first, then the next that has no word in common with one taken (the package's flat decoding).  Of the labels
 * of a span only the best can be taken, so no other is looked at.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/math.h"
#include "engine/session/session.h"
#include "engine/text/words.h"

#define MOST_LOGITS ((size_t) 1 << 23) /* of a text: 32 MiB */
#define MOST_WORDS 100                 /* of a span, of a model that labels words */

struct slm_span_state {
    slm_worded marked;
    slm_span_marks marks;
    float threshold;
};

static slm_status check(const slm_session *s, const slm_request *r, slm_error *err)
{
    const slm_model_info *info = slm_model_get_info(s->model);

    if (!info->can_find) {
        slm_fail(err, SLM_UNSUPPORTED, "model \"%s\" does not find spans of labels", info->name);
        return slm_hint(err, "Use a model with a head for it (GLiNER).");
    }
    if (r->n_segments != 1 || r->n_labels < 1 || r->n_labels > SLM_MAX_LABELS || r->labels == NULL)
        return slm_fail(err, SLM_INVALID, "spans are found in one text, for 1 to %d labels", SLM_MAX_LABELS);
    for (size_t i = 0; i < r->n_labels; i++)
        if (r->labels[i] == NULL || r->labels[i][0] == '\0')
            return slm_fail(err, SLM_INVALID, "label %zu is empty", i + 1);
    if (!(r->threshold >= 0 && r->threshold <= 1))
        return slm_fail(err, SLM_INVALID, "a threshold of %g is not between 0 and 1", (double) r->threshold);
    if (r->segments[0].length > INT32_MAX)
        return slm_fail(err, SLM_LIMIT, "a text of %zu bytes is too long", r->segments[0].length);
    return SLM_OK;
}

static slm_status read_prompt(slm_session *s, const slm_request *r, slm_job *job, slm_span_state *state, slm_error *err)
{
    const slm_hparams *hp = &s->model->hp;
    slm_wording how = slm_span_wording(hp);
    slm_worded *m = &state->marked;
    bool cut = false;

    SLM_TRY(slm_worded_build(s->model->tokenizer, &how, r->labels, r->n_labels, r->segments[0].text, r->segments[0].length, s->limits.stop,
                             m, &cut, err));
    if (cut && !r->truncate) {
        slm_fail(err, SLM_LIMIT, "the text has more words than the model reads beside its labels: %u fit", m->n_words);
        slm_blame(err, SLM_CAUSE_LONG);
        return slm_hint(err, "Cut it into windows, or allow it to be cut with truncate => true.");
    }
    if (slm_spans_outputs(hp, m->n_words, m->n_labels) > MOST_LOGITS)
        return slm_fail(err, SLM_LIMIT, "%u labels are too many for a text of %u words", m->n_labels, m->n_words);
    state->threshold = r->threshold;
    state->marks = (slm_span_marks) {.n_words = m->n_words, .n_labels = m->n_labels, .words = m->words, .labels = m->labels};
    job->ids = m->ids.ids;
    m->ids.ids = NULL;
    job->n_prompt = job->n_ids = job->id_room = (uint32_t) m->ids.n;
    job->n_prefix = job->n_ids;
    job->result.usage.prompt_tokens = job->n_prompt;
    return SLM_OK;
}

static slm_status prepare(slm_session *s, const slm_request *request, slm_job *job, slm_error *err)
{
    SLM_TRY(check(s, request, err));
    job->embed.spans = calloc(1, sizeof *job->embed.spans);
    if (job->embed.spans == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for a request");
    return read_prompt(s, request, job, job->embed.spans, err);
}

static void clear(slm_session *s, slm_job *job, bool finished)
{
    (void) s;
    (void) finished;
    if (job->embed.spans == NULL)
        return;
    slm_worded_free(&job->embed.spans->marked);
    free(job->embed.spans->marks.out);
    free(job->embed.spans);
    job->embed.spans = NULL;
}

const slm_span_marks *slm_spans_ready(slm_session *s, slm_job *job, slm_error *err)
{
    slm_span_marks *m = &job->embed.spans->marks;

    if (m->out == NULL)
        m->out = malloc(slm_spans_outputs(&s->model->hp, m->n_words, m->n_labels) * sizeof *m->out);
    if (m->out == NULL)
        slm_fail(err, SLM_NOMEM, "out of memory for the spans of a text");
    return m->out != NULL ? m : NULL;
}

/* ---- what is found */

typedef struct candidate {
    uint32_t first, last, label, order;
    float score;
} candidate;

typedef struct found {
    candidate *all; /* [n] */
    size_t n;
} found;

static float sigmoid(float x)
{
    return (float) (1 / (1 + slm_exp(-(double) x)));
}

static void find_pairs(const slm_span_marks *m, uint32_t width, float threshold, found *f)
{
    for (uint32_t i = 0; i < m->n_words; i++)
        for (uint32_t more = 0; more < width && i + more < m->n_words; more++) {
            const float *logits = m->out + ((size_t) i * width + more) * m->n_labels;
            candidate best = {i, i + more, 0, (uint32_t) f->n, -1};
            for (uint32_t c = 0; c < m->n_labels; c++)
                if (sigmoid(logits[c]) > best.score) {
                    best.score = sigmoid(logits[c]);
                    best.label = c;
                }
            if (best.score > threshold)
                f->all[f->n++] = best;
        }
}

/* Spans that begin at word i, the best label of each to best [most]. A span's score is the least of its first word's as first, its last
 * one's as last, and all its words' as inside. */
static void begin_at(const slm_span_marks *m, uint32_t i, uint32_t most, float threshold, candidate *best)
{
    for (uint32_t c = 0; c < m->n_labels; c++) {
        const float *word = m->out + ((size_t) i * m->n_labels + c) * 3;
        float least = word[0];
        uint32_t end = word[0] > threshold ? most : 0;

        for (uint32_t k = 0; k < end && word[2] >= threshold; k++, word += 3 * (size_t) m->n_labels) {
            least = word[2] < least ? word[2] : least;
            float score = word[1] < least ? word[1] : least;
            if (word[1] > threshold && score > best[k].score) {
                best[k].score = score;
                best[k].label = c;
            }
        }
    }
}

static void find_words(const slm_span_marks *m, float threshold, found *f)
{
    candidate best[MOST_WORDS];

    for (size_t i = 0; i < (size_t) m->n_words * m->n_labels * 3; i++)
        m->out[i] = sigmoid(m->out[i]);
    for (uint32_t i = 0; i < m->n_words; i++) {
        uint32_t most = m->n_words - i < MOST_WORDS ? m->n_words - i : MOST_WORDS;

        for (uint32_t k = 0; k < most; k++)
            best[k] = (candidate) {i, i + k, 0, 0, -1};
        begin_at(m, i, most, threshold, best);
        for (uint32_t k = 0; k < most; k++)
            if (best[k].score >= 0) {
                best[k].order = (uint32_t) f->n;
                f->all[f->n++] = best[k];
            }
    }
}

static int by_score(const void *a, const void *b)
{
    const candidate *x = a, *y = b;

    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

static int by_place(const void *a, const void *b)
{
    const candidate *x = a, *y = b;

    return x->first < y->first ? -1 : x->first > y->first;
}

/* Keeps those that have no word in common with a better one, in order of their places. */
static bool keep_apart(found *f, uint32_t n_words)
{
    bool *taken = calloc(n_words + 1, sizeof *taken);
    size_t n = 0;

    if (taken == NULL)
        return false;
    qsort(f->all, f->n, sizeof *f->all, by_score);
    for (size_t i = 0; i < f->n; i++) {
        candidate c = f->all[i];
        bool apart = true;

        for (uint32_t w = c.first; w <= c.last; w++)
            apart = apart && !taken[w];
        if (!apart)
            continue;
        memset(taken + c.first, true, c.last - c.first + 1);
        f->all[n++] = c;
    }
    free(taken);
    f->n = n;
    qsort(f->all, f->n, sizeof *f->all, by_place);
    return true;
}

static slm_status put_result(slm_job *job, const found *f, slm_error *err)
{
    const slm_word *places = job->embed.spans->marked.places;
    slm_result *r = &job->result;

    r->scores = malloc((f->n + 1) * sizeof *r->scores);
    r->tokens = malloc((3 * f->n + 1) * sizeof *r->tokens);
    if (r->scores == NULL || r->tokens == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for the spans of a text");
    for (size_t i = 0; i < f->n; i++) {
        const candidate *c = &f->all[i];

        r->scores[i] = c->score;
        r->tokens[3 * i] = (int32_t) places[c->first].begin;
        r->tokens[3 * i + 1] = (int32_t) places[c->last].end;
        r->tokens[3 * i + 2] = (int32_t) c->label;
    }
    r->n_scores = f->n;
    r->n_tokens = 3 * f->n;
    return SLM_OK;
}

slm_status slm_spans_answer(slm_session *s, slm_job *job, slm_error *err)
{
    const slm_span_state *state = job->embed.spans;
    const slm_span_marks *m = &state->marks;
    uint32_t width = s->model->hp.spans == SLM_SPANS_PAIRS ? s->model->hp.span_width : MOST_WORDS;
    found f = {.all = malloc((size_t) m->n_words * width * sizeof *f.all)};
    slm_status status = SLM_OK;

    if (f.all == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for the spans of a text");
    if (s->model->hp.spans == SLM_SPANS_PAIRS)
        find_pairs(m, width, state->threshold, &f);
    else
        find_words(m, state->threshold, &f);
    if (!keep_apart(&f, m->n_words))
        status = slm_fail(err, SLM_NOMEM, "out of memory for the spans of a text");
    if (status == SLM_OK)
        status = put_result(job, &f, err);
    free(f.all);
    return status;
}

const slm_mode_ops slm_mode_spans = {.name = "spans", .encoder = true, .in_order = true, .prepare = prepare, .clear = clear};
