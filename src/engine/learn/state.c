/*
 * Where a fine-tuning stands, as bytes: what a checkpoint keeps.
 *
 *   | slm_saved | points [n_steps] | values, moments, squares [n_values] each | best | gradients | vectors |
 *
 * best: once the base was judged; gradients: within a step, of its micro-batches so far; vectors: within a judgement of texts, those that
 * were embedded.  All else follows from examples, options and seed.  The bytes are of this machine and of one version: they are bound to
 * what they belong to by whoever keeps them, and here only checked so far that nothing beyond an array is read or written.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/learn/fit.h"

#define MAGIC "SLMTUNE1"

typedef struct slm_saved {
    char magic[8];
    uint64_t n_values, n_all, n_examples, n_held_out, capacity, kept; /* of the fine-tuning that they belong to */
    uint64_t stage, epoch, next, at, exact, worse, optimizer_steps;
    uint64_t end, n_steps, best_step, n_tokens;
    double loss, running, first, said;
    slm_finetune_score before, after;
} slm_saved;

/* How much of each part is there. */
typedef struct slm_parts {
    size_t points, values, best, grads, vectors; /* points, floats */
} slm_parts;

static slm_parts parts_of(const slm_finetune *f, const slm_saved *s)
{
    slm_parts p = {.points = (size_t) s->n_steps, .values = f->t.n_values};
    bool judging = s->stage == STAGE_JUDGE_BASE || s->stage == STAGE_JUDGE;
    p.best = f->best != NULL && s->stage != STAGE_JUDGE_BASE ? f->t.n_values : 0;
    p.grads = s->stage == STAGE_STEPS && s->at > s->next ? f->t.n_values : 0;
    p.vectors = judging && f->texts != NULL ? (size_t) s->at * f->t.hp->n_embd : 0;
    return p;
}

static size_t bytes_of(const slm_parts *p)
{
    return sizeof(slm_saved) + p->points * sizeof(slm_finetune_point) +
           (3 * p->values + p->best + p->grads + p->vectors) * sizeof(float);
}

static slm_saved saved_of(const slm_finetune *f)
{
    slm_saved s;
    memset(&s, 0, sizeof s); /* padding too: the same state is the same bytes */
    memcpy(s.magic, MAGIC, sizeof s.magic);
    s.n_values = f->t.n_values, s.n_all = f->n_all, s.n_examples = f->n_examples, s.n_held_out = f->n_held_out;
    s.capacity = f->t.capacity, s.kept = f->t.n_kept;
    s.stage = f->stage, s.epoch = f->epoch, s.next = f->next, s.at = f->at, s.exact = f->exact, s.worse = f->worse;
    s.optimizer_steps = f->t.steps;
    s.end = f->report.end, s.n_steps = f->report.n_steps, s.best_step = f->report.best_step, s.n_tokens = f->report.n_tokens;
    s.loss = f->loss, s.running = f->running, s.first = f->first, s.said = f->said;
    s.before = f->report.before, s.after = f->report.after;
    return s;
}

static char *put(char *to, const void *from, size_t bytes)
{
    if (bytes > 0)
        memcpy(to, from, bytes);
    return to + bytes;
}

static const char *get(const char *from, void *to, size_t bytes)
{
    if (bytes > 0)
        memcpy(to, from, bytes);
    return from + bytes;
}

slm_status slm_finetune_save(const slm_finetune *f, void **data, size_t *bytes, slm_error *err)
{
    slm_saved s = saved_of(f);
    slm_parts p = parts_of(f, &s);
    size_t most;
    if (f->aside != NULL)
        return slm_fail(err, SLM_INVALID, "another adapter is being judged");
    *bytes = bytes_of(&p);
    char *to = *data = malloc(*bytes);
    if (to == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    to = put(to, &s, sizeof s);
    to = put(to, f->points, p.points * sizeof *f->points);
    to = put(to, f->t.values, p.values * sizeof(float));
    to = put(to, f->t.moment, p.values * sizeof(float));
    to = put(to, f->t.square, p.values * sizeof(float));
    to = put(to, f->best, p.best * sizeof(float));
    to = put(to, f->t.grads, p.grads * sizeof(float));
    (void) put(to, p.vectors > 0 ? slm_texts_judged(f, &most) : NULL, p.vectors * sizeof(float));
    return SLM_OK;
}

/* Does it stand where a step begins, or in the middle of one that takes several micro-batches; and are as many steps done as lie before
 * that, so that no more follow than there is room for? */
static bool is_at_step(slm_finetune *f, const slm_saved *s)
{
    bool within = s->stage == STAGE_STEPS;
    size_t at = 0;
    uint64_t n, tokens;
    if (s->epoch < within)
        return false;
    n = slm_fit_steps(f, (uint32_t) s->epoch - within, &tokens);
    if (!within)
        return n == s->n_steps;
    slm_fit_order(f, (uint32_t) s->epoch - 1);
    for (; at < f->n_order && at < s->next; n++)
        at = slm_fit_step_end(f, at, &tokens);
    if (at == f->n_order || at != s->next || n != s->n_steps)
        return false;
    return s->at == at || (f->texts == NULL && s->at > at && s->at < slm_fit_step_end(f, at, &tokens));
}

/* Does it belong to this fine-tuning, and is every number within its arrays? */
static bool fits(slm_finetune *f, const slm_saved *s)
{
    bool judging = s->stage == STAGE_JUDGE_BASE || s->stage == STAGE_JUDGE;
    size_t most = f->n_held_out;
    if (memcmp(s->magic, MAGIC, sizeof s->magic) != 0 || s->n_values != f->t.n_values || s->n_all != f->n_all ||
        s->n_examples != f->n_examples || s->n_held_out != f->n_held_out || s->capacity != f->t.capacity || s->kept != f->t.n_kept)
        return false;
    if (s->stage > STAGE_ENDED || s->epoch > f->options.epochs || s->n_steps > f->n_all || s->best_step > s->n_steps ||
        s->worse > f->options.epochs || s->optimizer_steps > f->n_all || s->end > SLM_FINETUNE_DIVERGED || s->exact > f->n_held_out)
        return false;
    if (f->texts != NULL)
        (void) slm_texts_judged(f, &most);
    if (s->next > 2 * f->n_examples || (s->at > most && s->at > 2 * f->n_examples))
        return false;
    if (judging && (f->n_held_out == 0 || s->at > most || (s->stage == STAGE_JUDGE && s->n_steps == 0)))
        return false;
    return s->stage == STAGE_ENDED || is_at_step(f, s);
}

static void take(slm_finetune *f, const slm_saved *s, const slm_parts *p, const char *from)
{
    size_t most;
    f->stage = (stage) s->stage;
    f->epoch = (uint32_t) s->epoch;
    f->next = (size_t) s->next;
    if (f->stage == STAGE_STEPS)
        (void) slm_fit_step(f);
    f->at = (size_t) s->at;
    f->loss = s->loss, f->exact = (size_t) s->exact;
    f->running = s->running, f->first = s->first, f->said = s->said;
    f->worse = (uint32_t) s->worse;
    f->t.steps = s->optimizer_steps;
    f->report.end = (slm_finetune_end) s->end;
    f->report.n_steps = (uint32_t) s->n_steps, f->report.best_step = (uint32_t) s->best_step, f->report.n_tokens = s->n_tokens;
    f->report.before = s->before, f->report.after = s->after;
    from = get(from, f->points, p->points * sizeof *f->points);
    from = get(from, f->t.values, p->values * sizeof(float));
    from = get(from, f->t.moment, p->values * sizeof(float));
    from = get(from, f->t.square, p->values * sizeof(float));
    from = get(from, f->best, p->best * sizeof(float));
    from = get(from, f->t.grads, p->grads * sizeof(float));
    (void) get(from, p->vectors > 0 ? slm_texts_judged(f, &most) : NULL, p->vectors * sizeof(float));
    slm_learn_turn(&f->t);
}

slm_status slm_finetune_resume(slm_finetune *f, const void *data, size_t bytes, slm_error *err)
{
    slm_saved s;
    if (f->report.n_steps != 0 || f->epoch != 0 || f->at != 0)
        return slm_fail(err, SLM_INVALID, "the fine-tuning has begun already");
    if (bytes < sizeof s)
        return slm_fail(err, SLM_FORMAT, "the checkpoint is too short");
    memcpy(&s, data, sizeof s);
    if (!fits(f, &s))
        return slm_fail(err, SLM_FORMAT, "the checkpoint is of another fine-tuning, or damaged");
    slm_parts p = parts_of(f, &s);
    if (bytes_of(&p) != bytes)
        return slm_fail(err, SLM_FORMAT, "the checkpoint has %zu bytes, %zu are expected", bytes, bytes_of(&p));
    take(f, &s, &p, (const char *) data + sizeof s);
    return SLM_OK;
}
