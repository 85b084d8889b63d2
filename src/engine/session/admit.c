/*
 * Admission: in what order queued jobs join the running ones, and which of them compute a prefix for others.
 *
 *   queue    A1 A2 A3 B1 B2 C1     jobs that begin alike stand together, behind the first of them to come
 *   running  A1 B1 C1              the first computes the prefix (leads), the others wait until it is past it
 *   cache    A B                   and continue from the kept copy
 *
 * Two kinds of prefix: what requests declare (SLM_SEG_PREFIX) is kept in any case; of what is not declared the common beginning of two
 * jobs is kept as soon as the second one shows up, and a short one when it saves enough for all that stand behind the first.  What a
 * running job has computed already costs nobody a wait: it is shared even where it is not worth keeping.  Everything is compared as token
 * ids of one kind (prefix.h), never as text.  A position's keys and values depend on the tokens up to it alone, so whose they are and when
 * they were computed does not show in any answer.
 *
 * Positions that a request declares public are kept a second time, with the same blocks, for all realms.  Nobody waits for another realm's:
 * who comes while they are computed computes them too.
 *
 * Nobody waits for a queued job, only for running ones, and those always advance: waiting ends.
 */
#include <string.h>

#include "engine/session/session.h"

/* A shorter declared prefix than this is not worth an entry. */
#define MIN_PREFIX 8
/* An undeclared one must save so many tokens, of all who wait for it together: waiting costs up to one pass over the weights, about as much
 * as 8 tokens. */
#define MIN_SHARED 32
/* Queued jobs that a new one is compared with. */
#define HORIZON 128

static slm_prefix_kind kind_of(const slm_job *job)
{
    return (slm_prefix_kind){.regime = job->regime, .realm = job->realm};
}

static slm_prefix_kind public_kind_of(const slm_job *job)
{
    return (slm_prefix_kind){.regime = job->regime, .realm = job->public_realm, .is_public = true};
}

/* Common beginning of two jobs, as far as either may be reused. */
static uint32_t shared_length(const slm_job *a, const slm_job *b)
{
    uint32_t n = a->first_out < b->first_out ? a->first_out : b->first_out, i = 0;

    if (a->regime != b->regime || a->realm != b->realm)
        return 0;
    while (i < n && a->ids[i] == b->ids[i])
        i++;
    return i;
}

/* The same, or 0 when it is less than `least`, which is MIN_PREFIX or more: mostly seen by a look at the last tokens before it. */
static uint32_t shared_at_least(const slm_job *a, const slm_job *b, uint32_t least)
{
    uint32_t n, from = least - MIN_PREFIX;

    if (a->first_out < least || b->first_out < least || memcmp(a->ids + from, b->ids + from, MIN_PREFIX * sizeof *a->ids) != 0)
        return 0;
    n = shared_length(a, b);
    return n < least ? 0 : n;
}

void slm_admit_enqueue(slm_session *s, slm_job *job)
{
    slm_job *behind = s->queued.tail;
    uint32_t most = behind == NULL ? 0 : shared_length(behind, job), seen = 0;

    if (!job->mode->in_order) {
        for (slm_job *other = behind; other != NULL && seen < HORIZON; other = other->prev, seen++) {
            uint32_t n = shared_at_least(other, job, most + MIN_SHARED);

            if (n == 0)
                continue;
            most = n;
            behind = other;
        }
    }
    slm_list_insert(&s->queued, behind, job);
}

/* ---- prefixes of running jobs */

static bool same_ids(const slm_job *a, const slm_job *b, uint32_t n)
{
    return a->n_ids >= n && b->n_ids >= n && memcmp(a->ids, b->ids, n * sizeof *a->ids) == 0;
}

/* Is a running job about to compute positions of this one that it keeps for others: its first `want`, all of them declared, or enough
 * beyond `reused`? Somebody waits for an urgent one, which is not to wait for others' turn. */
static bool has_leader(const slm_session *s, const slm_job *job, uint32_t want, uint32_t reused)
{
    for (const slm_job *j = s->running.head; j != NULL; j = j->next) {
        uint32_t n;

        if (!j->leads || j->regime != job->regime || j->realm != job->realm)
            continue;
        if (want >= MIN_PREFIX && reused < want && j->n_prefix >= want && same_ids(j, job, want))
            return true;
        n = j->urgent >= job->urgent ? shared_at_least(j, job, reused + MIN_PREFIX) : 0;
        n = n < j->n_keep ? n : j->n_keep;
        if (n >= reused + MIN_PREFIX && j->seq->length < n)
            return true;
    }
    return false;
}

/* The running job with the longest common beginning with this one that is worth it, beyond `reused`; *n is its length. NULL when there is
 * none. */
static slm_job *find_sharer(const slm_session *s, const slm_job *job, uint32_t reused, uint32_t *n)
{
    slm_job *found = NULL;
    uint32_t least = reused + MIN_PREFIX;

    for (slm_job *j = s->running.head; j != NULL; j = j->next) {
        uint32_t length = j->seq == NULL ? 0 : shared_at_least(j, job, least);

        if (length == 0 || (j->seq->length < length && length < reused + MIN_SHARED))
            continue;
        found = j;
        *n = length;
        least = length + 1;
    }
    return found;
}

/* Once they are computed; what was reused of other entries has been by the first step. */
static void give(slm_session *s, slm_job *job)
{
    if (!job->gives || job->seq->length < job->n_public)
        return;
    job->gives = false;
    slm_prefix_add(s->prefixes, s->pool, job->ids, job->n_public, public_kind_of(job), job->seq);
}

void slm_admit_keep(slm_session *s, slm_job *job)
{
    uint32_t length, n;

    give(s, job);
    if (!job->leads)
        return;
    length = job->seq->length;
    n = length >= job->n_keep ? job->n_keep : length >= job->n_prefix ? job->n_prefix : 0;
    job->leads = length < job->n_keep;
    if (n <= job->n_kept)
        return;
    job->n_kept = n;
    slm_prefix_add(s->prefixes, s->pool, job->ids, n, kind_of(job), job->seq);
}

/* ---- admission */

typedef enum admission { ADMITTED, WAITS, NO_ROOM, GONE } admission;

/* What the job has in common with the next of the queue, when that and those behind it save enough; else 0. */
static uint32_t shared_with_next(const slm_job *job, uint32_t reused)
{
    uint32_t n = job->next == NULL ? 0 : shared_at_least(job->next, job, reused + MIN_PREFIX), saved = 0;

    for (const slm_job *j = job->next; n > 0 && saved < MIN_SHARED && j != NULL && shared_at_least(j, job, n) > 0; j = j->next)
        saved += n - reused;
    return saved < MIN_SHARED ? 0 : n;
}

/* The job is to keep what others wait for: its declared prefix, and what it has in common with the next of the queue. */
static void choose_leader(slm_job *job, uint32_t declared, uint32_t reused)
{
    uint32_t n = shared_with_next(job, reused);

    job->leads = n > 0 || (declared >= MIN_PREFIX && job->n_kept < declared);
    job->n_keep = n > job->n_prefix ? n : job->n_prefix;
}

/* Gives the job its sequence with the first `reused` positions of a cached prefix. */
static admission start_job(slm_session *s, slm_job *job, const slm_seq *from, uint32_t reused)
{
    uint32_t blocks = slm_job_blocks(job, reused), taken = 0;
    uint32_t pins = reused > 0 ? slm_seq_unpinned(s->pool, from, reused) : 0;
    slm_error error = {0};

    if (!slm_kv_promise(s->pool, blocks, pins)) {
        if (s->running.n > 0)
            return NO_ROOM;
        if (slm_job_check_budget(s, job, &error) == SLM_OK) {
            if (reused == 0)
                return NO_ROOM;
            job->n_kept = 0;
            return start_job(s, job, NULL, 0);
        }
        slm_job_finish(s, &s->queued, job, &error);
        return GONE;
    }
    job->promise = blocks;
    job->seq = reused > 0 ? slm_seq_fork(s->pool, from, reused, job->branch_end, true, &taken) : slm_seq_new(job->branch_end);
    job->promise -= taken;
    if (job->seq == NULL) {
        slm_fail(&error, SLM_NOMEM, "out of memory for the KV cache");
        slm_job_finish(s, &s->queued, job, &error);
        return GONE;
    }
    job->result.usage.reused_tokens = reused;
    s->stats.usage.reused_tokens += reused;
    s->stats.usage.prompt_tokens += reused;
    slm_list_remove(&s->queued, job);
    slm_list_append(&s->running, job);
    return ADMITTED;
}

/* The longest beginning of the job that is kept: its realm's, or of its public positions anybody's. */
static uint32_t find_kept(slm_session *s, slm_job *job, slm_seq **from)
{
    uint32_t most = job->n_public < job->first_out ? job->n_public : job->first_out, n;
    slm_seq *of_all = NULL;

    n = most < MIN_PREFIX ? 0 : slm_prefix_find(s->prefixes, job->ids, most, public_kind_of(job), &of_all);
    job->gives = most >= MIN_PREFIX && n < most;
    most = slm_prefix_find(s->prefixes, job->ids, job->first_out, kind_of(job), from);
    if (n <= most)
        return most;
    *from = of_all;
    return n;
}

static admission admit(slm_session *s, slm_job *job)
{
    slm_seq *from = NULL;
    uint32_t want = job->n_prefix < job->first_out ? job->n_prefix : job->first_out, n = 0;
    uint32_t reused = find_kept(s, job, &from);
    slm_job *sharer;
    admission result;

    if (has_leader(s, job, want, reused))
        return WAITS;
    sharer = find_sharer(s, job, reused, &n);
    if (sharer != NULL && sharer->seq->length < n) {
        sharer->leads = true;
        sharer->n_keep = sharer->n_keep > n ? sharer->n_keep : n;
        return WAITS;
    }
    if (sharer != NULL && n >= reused + MIN_SHARED) {
        slm_prefix_add(s->prefixes, s->pool, job->ids, n, kind_of(job), sharer->seq);
        reused = slm_prefix_find(s->prefixes, job->ids, job->first_out, kind_of(job), &from);
    }
    job->n_kept = reused;
    if (sharer != NULL && n > reused) {
        from = sharer->seq;
        reused = n;
    }
    choose_leader(job, want, reused);
    result = start_job(s, job, from, reused);
    if (result == NO_ROOM)
        job->leads = false;
    return result;
}

void slm_admit_jobs(slm_session *s)
{
    slm_job *next;

    for (slm_job *job = s->queued.head; job != NULL && s->running.n < s->limits.max_sequences && !slm_session_stopped(s); job = next) {
        next = job->next;
        if (admit(s, job) == NO_ROOM)
            return;
    }
}
