/*
 * LABELS: the probability of each whole label, computed over a trie of their tokens (DESIGN D10).
 *
 * p(label) is the product, over the decisions on its way through the trie, of the softmax restricted to what may come next; forced tokens
 * have probability 1.  So labels sum to 1.  Only stages (decisions) need a forward pass: the first one comes with the prompt, each
 * other one is an item on the job's stack, which continues the KV of its parent stage in a sequence of its own.
 *
 * KV rule: every item takes at most lane_blocks blocks.  The stack is worked off from its top, so one lane alone needs (depth - 1) *
 * lane_blocks; further lanes use the promise only beyond that reserve, or else blocks that nobody has been promised ("borrowed").
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/math.h"
#include "engine/session/modes/labels.h"

/* Branches of a label trie that may be computed side by side for one row. */
#define LABEL_LANES 16

/* Stages of one row in one batch, at most; with best_only, where several rows fill the batch, one. */
#define MAX_LANES 64
#define CROWDED 4
/* A way is given up when its bound is this far below the best label: far more than rounding. */
#define MARGIN 1e-3

/* ---- the request */

/* What branches need beyond the prompt: see the KV rule above. */
static void size_branches(slm_job *job)
{
    slm_labels_state *l = &job->labels;
    const slm_trie *trie = l->set->trie;
    uint32_t lanes = trie->n_stages - 1 < LABEL_LANES ? trie->n_stages - 1 : LABEL_LANES;

    job->branch_end = job->end + trie->max_feed;
    if (lanes == 0)
        return;
    l->lane_blocks = slm_kv_blocks_for(job->end % SLM_KV_BLOCK + trie->max_feed);
    job->branch_blocks = l->lane_blocks * (trie->depth - 1 + lanes);
}

static slm_status size(slm_job *job, slm_error *err)
{
    const slm_trie *trie = job->labels.set->trie;

    if (trie->n_stages == 0) { /* a single label is certain */
        job->trivial = true;
        job->result.scores = calloc(1, sizeof *job->result.scores);
        job->result.n_scores = 1;
        return job->result.scores == NULL ? slm_fail(err, SLM_NOMEM, "out of memory for labels") : SLM_OK;
    }
    for (uint32_t i = 0; i < trie->stages[0].path_length; i++)
        if (!slm_job_push_id(job, trie->path[trie->stages[0].path_begin + i]))
            return slm_fail(err, SLM_NOMEM, "out of memory for a request");
    job->end = job->prompt_end = job->n_ids;
    job->first_out = job->n_ids - 1;
    size_branches(job);
    job->labels.scores = malloc(trie->n_labels * sizeof *job->labels.scores);
    return job->labels.scores == NULL ? slm_fail(err, SLM_NOMEM, "out of memory for labels") : SLM_OK;
}

static slm_status prepare(slm_session *s, const slm_request *r, slm_job *job, slm_error *err)
{
    const slm_trie *trie;
    slm_prompt prompt;

    SLM_TRY(slm_labels_find_set(s, job, r, err));
    job->labels.best_only = r->best_only;
    trie = job->labels.set->trie;
    SLM_TRY(slm_job_read_prompt(s, r, job, trie->n_stages > 0 ? trie->stages[0].path_length + trie->max_feed : 0, &prompt, err));
    slm_prompt_free(&prompt);
    return size(job, err);
}

static slm_status enlist(slm_session *s, const slm_request *r, slm_job *job, slm_error *err)
{
    return r->prior_text != NULL ? slm_labels_find_prior(s, job, r, err) : SLM_OK;
}

/* ---- the stack */

/* Blocks came free: pay back what was borrowed, promise the rest again. */
static void give_back(slm_session *s, slm_job *job, uint32_t blocks)
{
    slm_labels_state *l = &job->labels;
    uint32_t pay = blocks < l->borrowed ? blocks : l->borrowed;

    l->borrowed -= pay;
    if (blocks > pay && slm_kv_promise(s->pool, blocks - pay, 0))
        job->promise += blocks - pay;
}

static void count_taken(slm_job *job, uint32_t taken, bool promised)
{
    if (promised)
        job->promise -= taken;
    else
        job->labels.borrowed += taken;
}

/* Gives the item a sequence of its own with room for n more positions. */
static bool own_sequence(slm_session *s, slm_job *job, slm_label_item *item, uint32_t n, bool promised)
{
    uint32_t taken;
    bool ok;

    if (!item->own && item->seq->refs > 1) {
        slm_seq *fork = slm_seq_fork(s->pool, item->seq, item->base, job->branch_end, promised, &taken);

        count_taken(job, taken, promised);
        if (fork == NULL)
            return false;
        slm_seq_drop(s->pool, item->seq); /* others hold it: nothing comes free */
        item->seq = fork;
    }
    item->own = true;
    ok = slm_seq_reserve(s->pool, item->seq, item->seq->length + n, promised, &taken);
    count_taken(job, taken, promised);
    return ok;
}

/* Can no label below the item reach the best one any more? */
static bool hopeless(const slm_labels_state *l, const slm_label_item *item)
{
    double bound = item->score;

    if (!l->prune)
        return false;
    if (l->prior != NULL)
        bound -= l->prior->stage_min[item->stage];
    return bound + MARGIN < l->best;
}

static void drop_hopeless(slm_session *s, slm_job *job)
{
    slm_labels_state *l = &job->labels;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < l->n_items; i++) {
        if (hopeless(l, &l->items[i]))
            give_back(s, job, slm_seq_drop(s->pool, l->items[i].seq));
        else
            l->items[kept++] = l->items[i];
    }
    l->n_items = kept;
}

static void plan(slm_session *s, slm_job *job)
{
    slm_labels_state *l = &job->labels;
    const slm_trie *trie = l->set->trie;
    uint32_t lanes = l->prune && s->running.n >= CROWDED ? 1 : MAX_LANES;

    l->in_step = 0;
    if (l->prune)
        drop_hopeless(s, job);
    for (uint32_t i = l->n_items; i-- > 0 && l->in_step < lanes && slm_step_left(s) > 0 && !slm_session_stopped(s);) {
        slm_label_item *item = &l->items[i];
        const slm_trie_stage *stage = &trie->stages[item->stage];
        uint32_t fed = item->own ? item->seq->length - item->base : 0, n = stage->path_length - fed;
        bool promised = l->in_step == 0 || job->promise >= trie->depth * l->lane_blocks;

        n = n < slm_step_left(s) ? n : slm_step_left(s);
        if (!own_sequence(s, job, item, n, promised))
            break;
        slm_step_add(s, job, item->seq, trie->path + stage->path_begin + fed, n, item->base + stage->path_length - 1,
                     item->stage);
        l->in_step++;
    }
}

/* ---- decisions */

static slm_status ask(slm_session *s, slm_want *w, slm_error *err)
{
    const slm_trie *trie = w->job->labels.set->trie;
    const slm_trie_stage *stage = &trie->stages[w->stage];

    (void) s;
    (void) err;
    w->ids = trie->child_ids + stage->child_begin;
    w->n_ids = stage->n_children;
    return SLM_OK;
}

static int by_score(const void *a, const void *b)
{
    const slm_label_item *x = a, *y = b;

    if (x->score != y->score)
        return x->score < y->score ? -1 : 1;
    return x->stage > y->stage ? -1 : 1;
}

static bool room_for_items(slm_labels_state *l, uint32_t more)
{
    uint32_t room = (l->n_items + more) * 2;
    slm_label_item *items;

    if (l->n_items + more <= l->item_room)
        return true;
    items = realloc(l->items, room * sizeof *items);
    if (items == NULL)
        return false;
    l->items = items;
    l->item_room = room;
    return true;
}

/* log(sum(exp(x))) in double precision, in order. */
static double log_sum(const float *x, uint32_t n)
{
    double max = (double) x[0], sum = 0;

    for (uint32_t i = 1; i < n; i++)
        max = (double) x[i] > max ? (double) x[i] : max;
    for (uint32_t i = 0; i < n; i++)
        sum += slm_exp((double) x[i] - max);
    return max + slm_log(sum);
}

/* The children's logits of a stage are known: labels get their score, stages below go on the stack, the likeliest on top. */
static slm_status open_stage(slm_job *job, uint32_t stage_no, double score, slm_seq *seq, const float *logits, slm_error *err)
{
    slm_labels_state *l = &job->labels;
    const slm_trie *trie = l->set->trie;
    const slm_trie_stage *stage = &trie->stages[stage_no];
    double lse = log_sum(logits, stage->n_children);
    uint32_t first = l->n_items;

    if (!room_for_items(l, stage->n_children))
        return slm_fail(err, SLM_NOMEM, "out of memory for labels");
    for (uint32_t i = 0; i < stage->n_children; i++) {
        double child = score + fmin(0.0, (double) logits[i] - lse);
        int32_t to = trie->child_to[stage->child_begin + i];

        if (to < 0) {
            uint32_t label = (uint32_t) (-1 - to);
            double relative = l->prior != NULL && l->prior->state == SLM_PRIOR_READY ? child - l->prior->scores[label] : child;

            l->scores[label] = child;
            l->best = relative > l->best ? relative : l->best;
        } else {
            l->items[l->n_items++] = (slm_label_item){.stage = (uint32_t) to, .base = seq->length, .seq = seq, .score = child};
            seq->refs++;
        }
    }
    qsort(l->items + first, l->n_items - first, sizeof *l->items, by_score);
    return SLM_OK;
}

static slm_status commit(slm_session *s, slm_job *job, const slm_span *span, bool *done, slm_error *err)
{
    slm_labels_state *l = &job->labels;
    const slm_want *want = span->n_wants > 0 ? &s->step.wants[span->first_want] : NULL;
    slm_label_item item = {.seq = job->seq};
    slm_status status;
    uint32_t fed = span->n - slm_span_prompt(span);

    (void) done;
    job->result.usage.label_tokens += fed;
    s->stats.usage.label_tokens += fed;
    if (!span->prompt)
        span->seq->length += span->n;
    if (want == NULL)
        return SLM_OK;
    if (!l->decided) {
        for (uint32_t i = 0; i < l->set->trie->n_labels; i++)
            l->scores[i] = NAN;
        l->best = -INFINITY;
        l->decided = true;
        job->seq = NULL;
        l->prune = l->best_only && (l->prior == NULL || l->prior->state == SLM_PRIOR_READY);
    } else {
        uint32_t i = l->n_items;

        while (l->items[--i].stage != span->stage)
            continue;
        item = l->items[i];
        memmove(l->items + i, l->items + i + 1, (l->n_items - i - 1) * sizeof *l->items);
        l->n_items--;
    }
    status = open_stage(job, span->stage, item.score, item.seq, s->step.some + want->logits, err);
    give_back(s, job, slm_seq_drop(s->pool, item.seq));
    return status;
}

/* ---- the answer */

/* What the prior cost counts with the first answer that uses it. */
static void count_prior(slm_result *result, slm_prior *prior)
{
    slm_usage_add(&result->usage, &prior->cost);
    prior->cost = (slm_usage){0};
}

/* Scores of a finished job: prior subtracted, normalized again, as floats. */
static slm_status answer(slm_job *job, bool best_only, slm_error *err)
{
    slm_labels_state *l = &job->labels;
    uint32_t n = l->set->trie->n_labels, best = 0;
    double max = -INFINITY, sum = 0, shift = 0;

    job->result.scores = malloc(n * sizeof *job->result.scores);
    if (job->result.scores == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for labels");
    for (uint32_t i = 0; i < n; i++) {
        if (l->prior != NULL)
            l->scores[i] -= l->prior->scores[i];
        if (l->scores[i] > max) {
            max = l->scores[i];
            best = i;
        }
    }
    if (!best_only && l->prior != NULL) {
        for (uint32_t i = 0; i < n; i++)
            sum += slm_exp(l->scores[i] - max);
        shift = max + slm_log(sum);
    }
    for (uint32_t i = 0; i < n; i++)
        job->result.scores[i] = best_only && i != best ? -INFINITY : (float) (l->scores[i] - shift);
    job->result.n_scores = n;
    job->result.best = best;
    if (l->prior != NULL)
        count_prior(&job->result, l->prior);
    return SLM_OK;
}

static void fill_prior(slm_prior *prior, const slm_job *job)
{
    const slm_trie *trie = prior->set->trie;

    memcpy(prior->scores, job->labels.scores, trie->n_labels * sizeof *prior->scores);
    for (uint32_t i = trie->n_stages; i-- > 0;) {
        const slm_trie_stage *stage = &trie->stages[i];

        prior->stage_min[i] = INFINITY;
        for (uint32_t c = stage->child_begin; c < stage->child_begin + stage->n_children; c++) {
            int32_t to = trie->child_to[c];

            prior->stage_min[i] = fmin(prior->stage_min[i], to < 0 ? prior->scores[-1 - to] : prior->stage_min[to]);
        }
    }
    prior->cost = job->result.usage;
    prior->state = SLM_PRIOR_READY;
}

static void conclude(slm_session *s, slm_job *job);

/* Jobs that waited for a prior that is now ready, or never will be. */
static void wake_waiting(slm_session *s, const slm_prior *prior)
{
    slm_job *next;

    for (slm_job *job = s->waiting.head; job != NULL; job = next) {
        next = job->next;
        if (job->labels.prior == prior)
            conclude(s, job);
    }
}

/* All stages are computed: finishes the job, or lets it wait for its prior. */
static void conclude(slm_session *s, slm_job *job)
{
    slm_labels_state *l = &job->labels;
    slm_job_list *from = job->list;
    slm_error error = {0};

    if (l->computes != NULL) {
        slm_prior *prior = l->computes;

        fill_prior(prior, job);
        wake_waiting(s, prior);
        l->computes = NULL;
        prior->refs--;
        slm_job_finish(s, from, job, NULL);
    } else if (l->prior != NULL && l->prior->state == SLM_PRIOR_PENDING) {
        slm_job_release_kv(s, job);
        slm_list_remove(from, job);
        slm_list_append(&s->waiting, job);
    } else if (l->prior != NULL && l->prior->state == SLM_PRIOR_FAILED) {
        error = l->prior->error;
        slm_job_finish(s, from, job, &error);
    } else {
        slm_status status = answer(job, l->best_only, &error);

        slm_job_finish(s, from, job, status == SLM_OK ? NULL : &error);
    }
}

static void fail(slm_session *s, slm_job *job, const slm_error *error)
{
    slm_prior *prior = job->labels.computes;

    if (prior == NULL)
        return;
    job->labels.computes = NULL;
    prior->state = SLM_PRIOR_FAILED;
    prior->error = *error;
    wake_waiting(s, prior);
    prior->refs--;
}

static void settle(slm_session *s, slm_job *job)
{
    if (job->labels.decided && job->labels.n_items == 0)
        conclude(s, job);
}

static void clear(slm_session *s, slm_job *job, bool finished)
{
    slm_labels_state *l = &job->labels;

    (void) finished;
    for (uint32_t i = 0; i < l->n_items; i++)
        slm_seq_drop(s->pool, l->items[i].seq);
    if (l->prior != NULL)
        l->prior->refs--;
    if (l->computes != NULL) {
        l->computes->state = SLM_PRIOR_FAILED;
        l->computes->refs--;
    }
    if (l->set != NULL)
        l->set->refs--;
    free(l->scores);
    free(l->items);
    memset(l, 0, sizeof *l);
}

const slm_mode_ops slm_mode_labels = {.name = "labels",
                                      .prepare = prepare,
                                      .enlist = enlist,
                                      .plan = plan,
                                      .ask = ask,
                                      .commit = commit,
                                      .settle = settle,
                                      .fail = fail,
                                      .clear = clear};
