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

double slm_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
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
    job->ids = NULL;
    job->n_ids = job->id_room = 0;
}

void slm_job_finish(slm_session *s, slm_job_list *from, slm_job *job, const slm_error *error)
{
    double now = slm_seconds();

    slm_list_remove(from, job);
    if (error != NULL) {
        if (job->mode->fail != NULL)
            job->mode->fail(s, job, error);
        job->result.status = error->status;
        job->result.error = *error;
    }
    if (job->first_out_at > 0) {
        job->result.prefill_ms = (job->first_out_at - job->admitted_at) * 1e3;
        job->result.decode_ms = (now - job->first_out_at) * 1e3;
    } else if (job->admitted_at > 0) {
        job->result.prefill_ms = (now - job->admitted_at) * 1e3;
    }
    if (job->id == 0) {
        slm_job_free(s, job);
        return;
    }
    shed(s, job);
    slm_list_append(&s->finished, job);
}
