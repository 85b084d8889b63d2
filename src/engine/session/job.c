/*
 * Jobs: the life of one request inside a session, and the lists it moves through (session.h).
 *
 * A job owns its tokens, its answer and its share of the KV pool.  Finishing gives the KV back at once; the result stays until it is
 * released.  Internal jobs (priors) vanish when they finish.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/session/session.h"

static uint64_t nanoseconds(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t) t.tv_sec * 1000000000u + (uint64_t) t.tv_nsec;
}

slm_stopwatch slm_stopwatch_start(void)
{
    return (slm_stopwatch){.wall_ns = nanoseconds(CLOCK_MONOTONIC), .cpu_ns = nanoseconds(CLOCK_PROCESS_CPUTIME_ID)};
}

void slm_stopwatch_stop(slm_stopwatch *watch)
{
    watch->wall_ns = nanoseconds(CLOCK_MONOTONIC) - watch->wall_ns;
    watch->cpu_ns = nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - watch->cpu_ns;
}

/* What falls on positions [begin, end): nothing is lost by rounding, whatever the parts. */
static uint64_t part(uint64_t total, uint32_t begin, uint32_t end, uint32_t of)
{
    return (uint64_t) ((double) total * end / of) - (uint64_t) ((double) total * begin / of);
}

void slm_usage_share(slm_session *s, slm_job *job, uint32_t begin, uint32_t n, uint32_t of, bool decode, const slm_stopwatch *watch)
{
    uint64_t wall = part(watch->wall_ns, begin, begin + n, of);
    slm_usage share = {.cpu_ns = part(watch->cpu_ns, begin, begin + n, of)};

    if (decode)
        share.decode_ns = wall;
    else
        share.prefill_ns = wall;
    slm_usage_add(&job->result.usage, &share);
    slm_usage_add(&s->stats.usage, &share);
}

/* Gives back the KV blocks and the promise of more. */
void slm_job_release_kv(slm_session *s, slm_job *job)
{
    slm_seq_drop(s->pool, job->seq);
    job->seq = NULL;
    if (job->promise > 0)
        slm_kv_unpromise(s->pool, job->promise);
    job->promise = 0;
    job->leads = false;
}

/* ---- numbers */

#define LEAST_BUCKETS 64

static void put_in_bucket(slm_session *s, slm_job *job)
{
    slm_job **bucket = &s->by_id[job->id & (s->n_buckets - 1)];

    job->next_same = *bucket;
    *bucket = job;
}

/* As many buckets as there will be jobs: ids follow each other, so a bucket has hardly ever two. */
static bool grow_buckets(slm_session *s)
{
    slm_job **old = s->by_id;
    size_t n_old = s->n_buckets, n = n_old == 0 ? LEAST_BUCKETS : 2 * n_old;
    slm_job **grown = s->n_ids < n_old ? old : calloc(n, sizeof *grown);

    if (grown == NULL || grown == old)
        return grown != NULL;
    s->by_id = grown;
    s->n_buckets = n;
    for (size_t i = 0; i < n_old; i++) {
        for (slm_job *job = old[i], *next; job != NULL; job = next) {
            next = job->next_same;
            put_in_bucket(s, job);
        }
    }
    free(old);
    return true;
}

slm_status slm_job_number(slm_session *s, slm_job *job, slm_error *err)
{
    if (!grow_buckets(s))
        return slm_fail(err, SLM_NOMEM, "out of memory for a request");
    job->id = job->result.id = s->next_id++;
    job->result.usage.requests = 1;
    s->stats.usage.requests++;
    put_in_bucket(s, job);
    s->n_ids++;
    return SLM_OK;
}

slm_job *slm_job_find(const slm_session *s, uint64_t id)
{
    slm_job *job = id == 0 || s->n_buckets == 0 ? NULL : s->by_id[id & (s->n_buckets - 1)];

    while (job != NULL && job->id != id)
        job = job->next_same;
    return job;
}

static void forget_number(slm_session *s, const slm_job *job)
{
    slm_job **p = &s->by_id[job->id & (s->n_buckets - 1)];

    while (*p != job)
        p = &(*p)->next_same;
    *p = job->next_same;
    if (--s->n_ids == 0 && s->n_buckets > LEAST_BUCKETS) {
        free(s->by_id);
        s->by_id = NULL;
        s->n_buckets = 0;
    }
}

static void clear_mode(slm_session *s, slm_job *job, bool finished)
{
    if (job->mode->clear != NULL)
        job->mode->clear(s, job, finished);
}

void slm_job_free(slm_session *s, slm_job *job)
{
    if (job == NULL)
        return;
    if (job->id != 0)
        forget_number(s, job);
    clear_mode(s, job, false);
    slm_job_release_kv(s, job);
    slm_adapter_close(job->adapter);
    free(job->ids);
    free(job->marks);
    free(job->result.text);
    free(job->result.scores);
    free(job->result.tokens);
    free(job);
}

bool slm_job_id_room(slm_job *job, uint32_t n)
{
    uint32_t room = n + n / 2 + 16;
    int32_t *ids;

    if (n <= job->id_room)
        return true;
    ids = realloc(job->ids, (size_t) room * sizeof *ids);
    if (ids == NULL)
        return false;
    job->ids = ids;
    job->id_room = room;
    return true;
}

bool slm_job_push_id(slm_job *job, int32_t id)
{
    if (!slm_job_id_room(job, job->n_ids + 1))
        return false;
    job->ids[job->n_ids++] = id;
    return true;
}

void slm_list_insert(slm_job_list *list, slm_job *behind, slm_job *job)
{
    slm_job *before = behind != NULL ? behind->next : list->head;

    job->prev = behind;
    job->next = before;
    if (behind != NULL)
        behind->next = job;
    else
        list->head = job;
    if (before != NULL)
        before->prev = job;
    else
        list->tail = job;
    job->list = list;
    list->n++;
}

void slm_list_append(slm_job_list *list, slm_job *job)
{
    slm_list_insert(list, list->tail, job);
}

void slm_list_remove(slm_job_list *list, slm_job *job)
{
    if (job->prev != NULL)
        job->prev->next = job->next;
    else
        list->head = job->next;
    if (job->next != NULL)
        job->next->prev = job->prev;
    else
        list->tail = job->prev;
    job->next = job->prev = NULL;
    job->list = NULL;
    list->n--;
}

/* What a finished job no longer needs. */
static void shed(slm_session *s, slm_job *job)
{
    clear_mode(s, job, true);
    slm_job_release_kv(s, job);
    free(job->ids);
    free(job->marks);
    job->ids = NULL;
    job->marks = NULL;
    job->n_ids = job->id_room = 0;
}

void slm_job_finish(slm_session *s, slm_job_list *from, slm_job *job, const slm_error *error)
{
    slm_list_remove(from, job);
    if (error != NULL) {
        if (job->mode->fail != NULL)
            job->mode->fail(s, job, error);
        job->result.status = error->status;
        job->result.error = *error;
    }
    if (job->id == 0) {
        slm_job_free(s, job);
        return;
    }
    shed(s, job);
    slm_list_append(&s->finished, job);
}
