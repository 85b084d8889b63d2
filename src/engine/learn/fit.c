/*
 * A fine-tuning from its first step to its last: which examples a step takes, the rate, what is held out, when it ends.
 *
 *   epoch = the examples in an order of the seed's, cut into steps of about step_tokens tokens
 *   step  = its examples in micro-batches as large as the memory allows; their gradients are summed in order; AdamW
 *   after an epoch: the held-out examples; the best values so far are kept (without held-out examples: the last ones)
 *
 * All state is in the object between two passes: whatever interrupts it, the run goes on with the pass that was given up, and ends with the
 * bits that it would have had.  It stops at the best values when a loss or a gradient is not finite, or when the loss has risen far above
 * where it began.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/rng.h"
#include "engine/learn/fit.h"

#define MOST_CAPACITY 4096 /* positions of a micro-batch; more bring no speed */
#define RISEN 2.0          /* times the first loss, and RISEN_BY above it: diverged */
#define RISEN_BY 1.0
#define SMOOTH 0.9 /* of the running mean of losses that is compared */

/* ------------------------------------------------------------------ order */

size_t slm_fit_draw(const slm_finetune *f, uint32_t epoch, size_t i)
{
    return (size_t) (slm_rng_uniform(f->options.seed + 1 + epoch, i) * (double) i);
}

void slm_fit_order(slm_finetune *f, uint32_t epoch)
{
    if (f->texts != NULL) {
        slm_texts_order(f, epoch);
        return;
    }
    for (size_t i = 0; i < f->n_examples; i++)
        f->order[i] = (uint32_t) i;
    for (size_t i = f->n_examples; i > 1; i--) {
        size_t j = slm_fit_draw(f, epoch, i);
        uint32_t swap = f->order[i - 1];
        f->order[i - 1] = f->order[j];
        f->order[j] = swap;
    }
}

size_t slm_fit_step_end(const slm_finetune *f, size_t from, uint64_t *n)
{
    uint64_t tokens = 0;
    size_t end = from;
    if (f->texts != NULL)
        return slm_texts_step(f, from, n);
    while (end < f->n_examples && (end == from || tokens + f->examples[f->order[end]].n <= f->options.step_tokens))
        tokens += f->examples[f->order[end++]].n;
    *n = tokens;
    return end;
}

uint64_t slm_fit_steps(slm_finetune *f, uint32_t epochs, uint64_t *largest)
{
    uint64_t n = 0, tokens = 0;
    *largest = 0;
    for (uint32_t epoch = 0; epoch < epochs; epoch++) {
        slm_fit_order(f, epoch);
        for (size_t at = 0; at < f->n_order; at = slm_fit_step_end(f, at, &tokens), *largest = tokens > *largest ? tokens : *largest)
            n++;
    }
    return n;
}

static double rate_of(const slm_finetune *f, uint32_t step)
{
    double warm = ceil(f->options.warmup * f->n_all), left = (double) f->n_all - warm;
    if (step < warm)
        return f->options.rate * (step + 1) / warm;
    return left < 1 ? f->options.rate : f->options.rate * 0.5 * (1 + cos(M_PI * (step - warm) / left));
}

/* ------------------------------------------------------------------ micro-batches */

static void batch_add(slm_finetune *f, const slm_example *e)
{
    slm_learn_batch *b = &f->batch;
    memcpy(f->ids + b->n, e->ids, e->n * sizeof *e->ids);
    for (uint32_t i = e->prompt; i < e->n; i++) {
        f->out[b->n_out] = b->n + i - 1;
        f->guesses[b->n_out] = f->t.lesson.k == 0 ? NULL : e->guesses + (size_t) (i - e->prompt) * f->t.lesson.k;
        f->target[b->n_out++] = e->ids[i];
    }
    b->n += e->n;
    b->longest = e->n > b->longest ? e->n : b->longest;
    f->first_row[++b->n_sequences] = b->n;
}

/* Examples of the list from `at` on, by the order where there is one, as many as fit. Returns where the next micro-batch begins. */
static size_t fill_batch(slm_finetune *f, const slm_example *list, const uint32_t *order, size_t at, size_t end)
{
    f->batch = (slm_learn_batch){.ids = f->ids, .first = f->first_row, .out = f->out, .target = f->target, .guesses = f->guesses};
    f->first_row[0] = 0;
    for (; at < end; at++) {
        const slm_example *e = &list[order == NULL ? at : order[at]];
        if (f->batch.n + e->n > f->t.capacity)
            break;
        batch_add(f, e);
    }
    return at;
}

static void say(slm_finetune *f)
{
    const slm_finetune_options *o = &f->options;
    double done = (double) f->report.n_steps / f->n_all;
    f->said = done > f->said ? done : f->said;
    if (o->progress != NULL)
        o->progress(o->progress_arg, f->saying, f->said);
}

slm_status slm_fit_pass(slm_finetune *f, double weight, slm_error *err)
{
    slm_status status;
    say(f);
    if (f->pausing)
        return slm_fail(err, SLM_CANCELLED, "the fine-tuning is to pause");
    while ((status = slm_learn_pass(&f->t, &f->batch, weight, &f->loss, err)) == SLM_CANCELLED) {
        say(f);
        if (*f->options.stop != 0)
            break;
    }
    return status;
}

/* ------------------------------------------------------------------ held-out examples */

static void judge_begin(slm_finetune *f)
{
    f->at = 0;
    f->loss = 0;
    f->exact = 0;
}

/* Goes on judging the present values; *out is set at the end. */
static slm_status judge(slm_finetune *f, slm_finetune_score *out, slm_error *err)
{
    uint64_t answers = 0;
    f->saying = "judging";
    if (f->texts != NULL)
        return slm_texts_judge(f, out, err);
    while (f->at < f->n_held_out) {
        size_t next = fill_batch(f, f->held_out, NULL, f->at, f->n_held_out);
        const uint8_t *hit = f->t.hits;
        SLM_TRY(slm_fit_pass(f, 0, err));
        for (size_t i = f->at; i < next; i++) {
            bool all = true;
            for (uint32_t k = f->held_out[i].prompt; k < f->held_out[i].n; k++)
                all = *hit++ && all;
            f->exact += all;
        }
        f->at = next;
    }
    for (size_t i = 0; i < f->n_held_out; i++)
        answers += f->held_out[i].n - f->held_out[i].prompt;
    *out = (slm_finetune_score){.loss = f->loss / (double) answers, .exact = (double) f->exact / (double) f->n_held_out};
    return SLM_OK;
}

static void keep_best(slm_finetune *f, slm_finetune_score score)
{
    memcpy(f->best, f->t.values, f->t.n_values * sizeof *f->best);
    f->report.after = score;
    f->report.best_step = f->report.n_steps;
    f->worse = 0;
}

static slm_status judge_base(slm_finetune *f, slm_error *err)
{
    SLM_TRY(judge(f, &f->report.before, err));
    keep_best(f, f->report.before);
    f->stage = STAGE_EPOCH;
    return SLM_OK;
}

static slm_status judge_epoch(slm_finetune *f, slm_error *err)
{
    slm_finetune_score score;
    SLM_TRY(judge(f, &score, err));
    f->points[f->report.n_steps - 1].held_out = score;
    f->stage = STAGE_EPOCH;
    if (score.loss < f->report.after.loss) {
        keep_best(f, score);
    } else if (++f->worse == f->options.patience) {
        f->report.end = SLM_FINETUNE_EARLY;
        f->stage = STAGE_ENDED;
    }
    return SLM_OK;
}

/* ------------------------------------------------------------------ steps */

uint64_t slm_fit_step(slm_finetune *f)
{
    uint64_t tokens = 0;
    f->at = f->next;
    f->step_end = slm_fit_step_end(f, f->next, &tokens);
    f->loss = 0;
    f->step_answers = 0;
    for (size_t i = f->at; f->texts == NULL && i < f->step_end; i++) {
        const slm_example *e = &f->examples[f->order[i]];
        f->step_answers += e->n - e->prompt;
    }
    memset(f->t.grads, 0, f->t.n_values * sizeof *f->t.grads);
    return tokens;
}

static void step_begin(slm_finetune *f)
{
    f->report.n_tokens += slm_fit_step(f);
}

static void epoch_begin(slm_finetune *f)
{
    if (f->epoch == f->options.epochs) {
        f->stage = STAGE_ENDED;
        return;
    }
    slm_fit_order(f, f->epoch++);
    f->next = 0;
    f->stage = STAGE_STEPS;
    step_begin(f);
}

static bool risen(slm_finetune *f, double loss)
{
    if (isnan(f->first))
        f->first = f->running = loss;
    f->running = SMOOTH * f->running + (1 - SMOOTH) * loss;
    return f->running > RISEN * f->first + RISEN_BY;
}

/* What is left of the running step, and what follows it. */
static slm_status step(slm_finetune *f, slm_error *err)
{
    uint32_t n = f->report.n_steps;
    f->saying = "training";
    while (f->at < f->step_end) {
        size_t next = f->step_end;
        if (f->texts != NULL)
            slm_texts_fill(f);
        else
            next = fill_batch(f, f->examples, f->order, f->at, f->step_end);
        f->t.drop_seed = slm_rng_at(f->options.seed + 1 + f->epoch, f->at);
        SLM_TRY(slm_fit_pass(f, 1.0 / (double) f->step_answers, err));
        f->at = next;
    }
    double loss = f->loss / (double) f->step_answers, rate = rate_of(f, n);
    double norm = isfinite(loss) ? slm_learn_step(&f->t, rate, f->options.decay, f->options.clip) : NAN;
    if (!isfinite(norm) || risen(f, loss)) {
        f->report.end = SLM_FINETUNE_DIVERGED;
        f->stage = STAGE_ENDED;
        return SLM_OK;
    }
    f->points[n] = (slm_finetune_point){.step = n + 1, .rate = rate, .loss = loss, .held_out = {NAN, NAN}};
    f->report.n_steps++;
    f->next = f->step_end;
    if (f->next < f->n_order) {
        step_begin(f);
    } else if (f->n_held_out > 0) {
        judge_begin(f);
        f->stage = STAGE_JUDGE;
    } else {
        f->report.best_step = f->report.n_steps;
        f->stage = STAGE_EPOCH;
    }
    return SLM_OK;
}

void slm_finetune_pause(slm_finetune *f)
{
    f->pausing = true;
}

slm_status slm_finetune_run(slm_finetune *f, slm_error *err)
{
    f->pausing = false;
    while (f->stage != STAGE_ENDED) {
        switch (f->stage) {
            case STAGE_JUDGE_BASE:
                SLM_TRY(judge_base(f, err));
                break;
            case STAGE_EPOCH:
                epoch_begin(f);
                break;
            case STAGE_STEPS:
                SLM_TRY(step(f, err));
                break;
            default:
                SLM_TRY(judge_epoch(f, err));
                break;
        }
        if (f->stage == STAGE_ENDED && f->best != NULL) {
            memcpy(f->t.values, f->best, f->t.n_values * sizeof *f->best);
            slm_learn_turn(&f->t);
        } else if (f->stage == STAGE_ENDED && f->options.kept > 0) {
            slm_learn_shrink(&f->t, f->options.kept);
        }
    }
    return SLM_OK;
}

slm_status slm_finetune_judge(slm_finetune *f, const slm_adapter *adapter, slm_finetune_score *out, slm_error *err)
{
    size_t bytes = f->t.n_values * sizeof *f->t.values;
    if (f->n_held_out == 0 || f->stage != STAGE_ENDED)
        return slm_fail(err, SLM_INVALID, "there is nothing to judge an adapter by");
    if (f->aside == NULL) {
        if ((f->aside = malloc(bytes)) == NULL)
            return slm_fail(err, SLM_NOMEM, "out of memory");
        memcpy(f->aside, f->t.values, bytes);
        judge_begin(f);
    }
    slm_status status = slm_learn_take(&f->t, adapter, err);
    if (status == SLM_OK)
        status = judge(f, out, err);
    if (status == SLM_CANCELLED)
        return status;
    memcpy(f->t.values, f->aside, bytes);
    slm_learn_turn(&f->t);
    free(f->aside);
    f->aside = NULL;
    return status;
}

/* ------------------------------------------------------------------ the object */

static slm_status check_lesson(const slm_lesson *l, slm_error *err)
{
    if (l->k != 0 && (l->k < 2 || l->k > SLM_MOST_GUESSES || !(l->temperature >= 0.1f && l->temperature <= 100) ||
                      !(l->mix >= 0 && l->mix <= 1)))
        return slm_fail(err, SLM_INVALID, "a teacher's number of logits, its temperature or the mix are out of range");
    return SLM_OK;
}

static slm_status check_options(const slm_finetune_options *o, size_t n_held_out, slm_error *err)
{
    if (!(o->kept >= 0 && o->kept <= 1))
        return slm_fail(err, SLM_INVALID, "a share of %g of the change is out of range", (double) o->kept);
    if (o->kept > 0 && n_held_out > 0) {
        slm_fail(err, SLM_INVALID, "held-out rows judge the whole change, so a share of it cannot be kept beside them");
        return slm_hint(err, "Hold nothing out: {\"validation\": 0}.");
    }
    if (o->rank < 1 || o->rank > 256 || !(o->alpha > 0) || !(o->alpha <= 65536))
        return slm_fail(err, SLM_INVALID, "rank %u or alpha %g is out of range", o->rank, (double) o->alpha);
    if (!(o->dropout >= 0 && o->dropout <= 0.9f))
        return slm_fail(err, SLM_INVALID, "a dropout of %g is out of range", (double) o->dropout);
    if (!(o->rate > 0 && o->rate <= 1) || !(o->warmup >= 0 && o->warmup <= 1) || !(o->decay >= 0 && o->decay < 1) || !(o->clip >= 0))
        return slm_fail(err, SLM_INVALID, "rate, warm-up, weight decay or clipping are out of range");
    if (o->epochs < 1 || o->epochs > 1000 || o->step_tokens < 1 || (o->targets & ~(unsigned) SLM_ADAPT_ALL) != 0)
        return slm_fail(err, SLM_INVALID, "epochs, tokens of a step or targets are out of range");
    if (o->step_texts != 0 && (o->step_texts < 6 || o->step_texts > 1024 || !(o->scale > 0 && o->scale <= 1000)))
        return slm_fail(err, SLM_INVALID, "texts of a step or scale are out of range");
    return check_lesson(&o->lesson, err);
}

/* Their longest. */
static slm_status check_examples(const slm_finetune *f, const slm_model *model, const slm_example *list, size_t n, uint32_t *longest,
                                 slm_error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (list[i].prompt == 0 || list[i].prompt >= list[i].n)
            return slm_fail(err, SLM_INVALID, "example %zu has no prompt or no answer", i + 1);
        if (list[i].n > model->hp.n_context)
            return slm_fail(err, SLM_LIMIT, "example %zu has %u tokens, the model's context is %u", i + 1, list[i].n, model->hp.n_context);
        if (f->options.lesson.k > 0 && list[i].guesses == NULL)
            return slm_fail(err, SLM_INVALID, "example %zu has no logits of a teacher", i + 1);
        *longest = list[i].n > *longest ? list[i].n : *longest;
    }
    return SLM_OK;
}

/* What the teacher's logits of the examples take. */
static size_t guesses_bytes(const slm_finetune *f, const slm_example *list, size_t n)
{
    size_t answers = 0;
    for (size_t i = 0; f->options.lesson.k > 0 && i < n; i++)
        answers += list[i].n - list[i].prompt;
    return answers * f->options.lesson.k * sizeof(slm_guess);
}

/* What is needed beside the training's own memory: the best values, the adapter before a judgement, points, order, what a teacher said. */
static size_t beside(const slm_finetune *f)
{
    return 2 * f->t.n_values * sizeof(float) + (size_t) f->n_all * sizeof *f->points + 2 * f->n_examples * sizeof *f->order +
           (f->texts == NULL ? 0 : slm_texts_bytes(f)) + guesses_bytes(f, f->examples, f->n_examples) +
           guesses_bytes(f, f->held_out, f->n_held_out);
}

/* The largest micro-batch that the memory allows, all layers kept where that is possible. */
static slm_status take_room(slm_finetune *f, uint32_t longest, uint64_t largest, slm_error *err)
{
    uint32_t wish = f->options.step_tokens < MOST_CAPACITY ? f->options.step_tokens : MOST_CAPACITY, least = longest;
    size_t extra = beside(f), bytes = 0;
    if (f->texts != NULL && largest > longest) /* a step's texts see each other: it is one piece */
        wish = least = (uint32_t) largest;
    wish = wish < least ? least : wish;
    for (int keep = 1; keep >= 0; keep--)
        for (uint32_t capacity = wish;; capacity = capacity * 3 / 4 < least ? least : capacity * 3 / 4) {
            bytes = slm_learn_bytes(&f->t, capacity, longest, keep != 0);
            if (bytes != 0 && bytes + extra <= f->options.memory) {
                f->report.bytes = bytes + extra;
                return slm_learn_room(&f->t, capacity, longest, keep != 0, err);
            }
            if (capacity == least || (keep && capacity <= wish / 4))
                break;
        }
    slm_fail(err, SLM_LIMIT, "fine-tuning on %s of up to %u tokens needs %zu MB of memory, but %zu MB are allowed",
             f->texts != NULL ? "steps" : "examples", least, (bytes + extra + 1048575) >> 20, f->options.memory >> 20);
    return slm_hint(err, f->texts != NULL ? "Allow it more memory, or let a step take fewer texts."
                                          : "Allow it more memory, or give it shorter examples.");
}

static slm_status take_lists(slm_finetune *f, slm_error *err)
{
    uint32_t n = f->t.capacity;
    f->ids = malloc(n * sizeof *f->ids);
    f->target = malloc(n * sizeof *f->target);
    f->first_row = malloc((n + (size_t) 1) * sizeof *f->first_row);
    f->out = malloc(n * sizeof *f->out);
    f->guesses = malloc(n * sizeof *f->guesses);
    f->points = malloc((f->n_all + (size_t) 1) * sizeof *f->points);
    f->best = f->n_held_out > 0 ? malloc(f->t.n_values * sizeof *f->best) : NULL;
    if (f->ids == NULL || f->target == NULL || f->first_row == NULL || f->out == NULL || f->guesses == NULL ||
        f->points == NULL || (f->best == NULL && f->n_held_out > 0))
        return slm_fail(err, SLM_NOMEM, "out of memory");
    f->report.points = f->points;
    return SLM_OK;
}

/* Once the examples are checked; longest: of their sequences. */
static slm_status prepare(slm_finetune *f, const slm_model *model, uint32_t longest, slm_error *err)
{
    const slm_finetune_options *o = &f->options;
    slm_learn_shape shape = {.rank = o->rank,
                             .targets = o->targets == 0 ? SLM_ADAPT_ALL : o->targets,
                             .alpha = o->alpha,
                             .dropout = o->dropout,
                             .layers = o->layers,
                             .seed = o->seed};
    uint64_t largest = 0;
    if (f->texts != NULL && o->longest > longest)
        longest = o->longest < model->hp.n_context ? o->longest : model->hp.n_context;
    SLM_TRY(slm_learn_open(model, &shape, o->exact, o->n_threads, o->stop, &f->t, err));
    f->t.others = o->others;
    f->t.lesson = o->lesson;
    f->order = malloc(2 * f->n_examples * sizeof *f->order);
    if (f->order == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    f->n_order = f->n_examples;
    uint64_t n_all = slm_fit_steps(f, o->epochs, &largest);
    if (largest > INT32_MAX || n_all > 10000000)
        return slm_fail(err, SLM_LIMIT, "the fine-tuning would have %llu steps", (unsigned long long) n_all);
    f->n_all = f->report.n_planned = (uint32_t) n_all;
    f->report.n_parameters = f->t.n_values;
    if (f->texts != NULL)
        f->t.n_texts = o->step_texts;
    SLM_TRY(take_room(f, longest, largest, err));
    return take_lists(f, err);
}

static slm_finetune *begin(const slm_finetune_options *options, size_t n_examples, size_t n_held_out)
{
    slm_finetune *f = calloc(1, sizeof *f);
    if (f == NULL)
        return NULL;
    f->options = *options;
    f->n_examples = n_examples;
    f->n_held_out = n_held_out;
    f->first = NAN;
    f->report.before = f->report.after = (slm_finetune_score){NAN, NAN};
    f->stage = n_held_out > 0 ? STAGE_JUDGE_BASE : STAGE_EPOCH;
    return f;
}

static slm_status begun(slm_finetune *f, slm_status status, slm_finetune **out)
{
    if (status != SLM_OK)
        slm_finetune_free(f);
    else
        *out = f;
    return status;
}

static slm_status check_all(const slm_finetune *f, const slm_model *model, uint32_t *longest, slm_error *err)
{
    SLM_TRY(check_options(&f->options, f->n_held_out, err));
    SLM_TRY(slm_learn_check(model, err));
    if (f->n_examples == 0)
        return slm_fail(err, SLM_INVALID, "there is no example to learn from");
    SLM_TRY(check_examples(f, model, f->examples, f->n_examples, longest, err));
    return check_examples(f, model, f->held_out, f->n_held_out, longest, err);
}

slm_status slm_finetune_new(const slm_model *model, const slm_example *examples, size_t n_examples, const slm_example *held_out,
                            size_t n_held_out, const slm_finetune_options *options, slm_finetune **out, slm_error *err)
{
    slm_finetune *f = begin(options, n_examples, n_held_out);
    uint32_t longest = 0;
    if (f == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    f->examples = examples;
    f->held_out = held_out;
    slm_status status = check_all(f, model, &longest, err);
    if (status == SLM_OK)
        status = prepare(f, model, longest, err);
    return begun(f, status, out);
}

slm_status slm_finetune_new_texts(const slm_model *model, slm_contrast kind, const slm_text_example *examples, size_t n_examples,
                                  const slm_text_example *held_out, size_t n_held_out, const slm_finetune_options *options,
                                  slm_finetune **out, slm_error *err)
{
    slm_finetune *f = begin(options, n_examples, n_held_out);
    uint32_t longest = 0;
    if (f == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    slm_status status = check_options(options, n_held_out, err);
    if (status == SLM_OK && options->lesson.k > 0)
        status = slm_fail(err, SLM_INVALID, "an embedding model has no logits to learn");
    if (status == SLM_OK)
        status = slm_learn_check_encoder(model, err);
    if (status == SLM_OK)
        status = slm_texts_new(f, model, kind, examples, held_out, &longest, err);
    if (status == SLM_OK)
        status = prepare(f, model, longest, err);
    return begun(f, status, out);
}

const slm_finetune_report *slm_finetune_get_report(const slm_finetune *f)
{
    return &f->report;
}

const float *slm_finetune_values(const slm_finetune *f, size_t *n)
{
    *n = f->t.n_values;
    return f->t.values;
}

slm_status slm_finetune_write(const slm_finetune *f, const char *image_path, const char *name, slm_adapter_info *info, slm_error *err)
{
    return slm_learn_write(&f->t, f->t.values, image_path, name, info, err);
}

void slm_finetune_free(slm_finetune *f)
{
    if (f == NULL)
        return;
    slm_learn_free(&f->t);
    slm_texts_free(f->texts);
    void *lists[] = {f->order, f->best, f->aside, f->points, f->ids, f->target, f->first_row, f->out, f->guesses};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        free(lists[i]);
    free(f);
}
