/*
 * Label sets and priors: what is made once and shared by the requests of a session.
 *
 * Both are lists, most recently used first, found by a hash and compared byte by byte.  Entries that nothing refers to any more are dropped
 * from the end when there are too many.
 */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "engine/session/modes/labels.h"

#define MAX_LABELS 10000
#define MAX_LABEL_BYTES ((size_t) 16 << 20)
#define KEEP_SETS 16
#define KEEP_PRIORS 64

/* A growing key. */
typedef struct key_buffer {
    char *data;
    size_t n, room;
    bool failed;
} key_buffer;

static void key_add(key_buffer *k, const void *bytes, size_t n)
{
    if (k->n + n > k->room && !k->failed) {
        size_t room = (k->n + n) * 2 + 64;
        char *data = realloc(k->data, room);

        k->failed = data == NULL;
        if (data != NULL) {
            k->data = data;
            k->room = room;
        }
    }
    if (k->failed)
        return;
    if (n > 0)
        memcpy(k->data + k->n, bytes, n);
    k->n += n;
}

static void key_add_text(key_buffer *k, const char *text, size_t n)
{
    key_add(k, &n, sizeof n);
    key_add(k, text, n);
}

/* ---- label sets */

static void set_free(slm_label_set *set)
{
    slm_trie_free(set->trie);
    free(set->key);
    free(set);
}

static bool ends_in_assistant(const slm_request *r)
{
    return r->segments[r->n_segments - 1].role == SLM_ROLE_ASSISTANT;
}

/* The token that ends a label. */
static slm_status answer_end(slm_session *s, bool chat, int32_t *end, slm_error *err)
{
    SLM_TRY(slm_chat_answer_end(s->model->tokenizer, chat, end, err));
    if (*end < 0 || (uint32_t) *end >= s->model->hp.n_vocab)
        return slm_fail(err, SLM_UNSUPPORTED, "model \"%s\" has no token that ends an answer", slm_model_get_info(s->model)->name);
    return SLM_OK;
}

/* Token sequences of all labels, one after the other in ids; ends[i] is where label i ends. */
static slm_status tokenize_labels(slm_session *s, const slm_request *r, slm_ids *ids, size_t *ends, slm_error *err)
{
    int32_t end;

    SLM_TRY(answer_end(s, r->chat, &end, err));
    bool begin = r->chat && !ends_in_assistant(r) && slm_chat_answer_space(s->model->tokenizer);
    for (size_t i = 0; i < r->n_labels; i++) {
        SLM_TRY(slm_tokenizer_encode(s->model->tokenizer, r->labels[i], strlen(r->labels[i]), false, begin, s->limits.stop, ids,
                                     err));
        SLM_TRY(slm_ids_push(ids, end, err));
        ends[i] = ids->n;
    }
    return SLM_OK;
}

static slm_status build_trie(slm_session *s, const slm_request *r, slm_trie **out, slm_error *err)
{
    slm_ids ids = {0};
    size_t *ends = malloc(r->n_labels * sizeof *ends);
    slm_token_span *spans = malloc(r->n_labels * sizeof *spans);
    uint32_t same[2] = {UINT32_MAX, UINT32_MAX};
    slm_status status;

    if (ends == NULL || spans == NULL) {
        status = slm_fail(err, SLM_NOMEM, "out of memory for labels");
    } else {
        status = tokenize_labels(s, r, &ids, ends, err);
        for (size_t i = 0; i < r->n_labels && status == SLM_OK; i++) {
            size_t begin = i == 0 ? 0 : ends[i - 1];

            spans[i] = (slm_token_span){ids.ids + begin, (uint32_t) (ends[i] - begin)};
        }
        if (status == SLM_OK)
            status = slm_trie_build(spans, (uint32_t) r->n_labels, out, same, err);
        if (status == SLM_INVALID && same[0] != UINT32_MAX) {
            if (strcmp(r->labels[same[0]], r->labels[same[1]]) == 0)
                slm_fail(err, SLM_INVALID, "label \"%.80s\" is given twice", r->labels[same[0]]);
            else
                slm_fail(err, SLM_INVALID, "labels \"%.80s\" and \"%.80s\" are the same to this model", r->labels[same[0]],
                         r->labels[same[1]]);
            slm_hint(err, "Labels must be distinct.");
        }
    }
    free(ends);
    free(spans);
    free(ids.ids);
    return status;
}

static slm_status check_labels(const slm_request *r, slm_error *err)
{
    size_t bytes = 0;

    if (r->n_labels == 0 || r->labels == NULL)
        return slm_fail(err, SLM_INVALID, "no labels are given");
    if (r->n_labels > MAX_LABELS)
        return slm_fail(err, SLM_LIMIT, "%zu labels are given, but at most %d are possible", r->n_labels, MAX_LABELS);
    for (size_t i = 0; i < r->n_labels; i++) {
        if (r->labels[i] == NULL || r->labels[i][0] == '\0')
            return slm_fail(err, SLM_INVALID, "label %zu is empty", i + 1);
        bytes += strlen(r->labels[i]);
    }
    if (bytes > MAX_LABEL_BYTES)
        return slm_fail(err, SLM_LIMIT, "the labels have %zu bytes together, but at most %zu are possible", bytes, MAX_LABEL_BYTES);
    return SLM_OK;
}

static slm_label_set *find_set(slm_session *s, const key_buffer *key, uint64_t hash)
{
    for (slm_label_set **p = &s->labels.sets; *p != NULL; p = &(*p)->next) {
        slm_label_set *set = *p;

        if (set->hash == hash && set->key_bytes == key->n && memcmp(set->key, key->data, key->n) == 0) {
            *p = set->next;
            set->next = s->labels.sets;
            s->labels.sets = set;
            return set;
        }
    }
    return NULL;
}

slm_status slm_labels_find_set(slm_session *s, slm_job *job, const slm_request *r, slm_error *err)
{
    key_buffer key = {0};
    char flags[2] = {(char) r->chat, 0};
    uint64_t hash;
    slm_label_set *set;
    slm_status status;

    SLM_TRY(check_labels(r, err));
    flags[1] = (char) ends_in_assistant(r);
    key_add(&key, &r->realm, sizeof r->realm); /* priors are found by their set: theirs too */
    key_add(&key, flags, sizeof flags);
    for (size_t i = 0; i < r->n_labels; i++)
        key_add(&key, r->labels[i], strlen(r->labels[i]) + 1);
    if (key.failed) {
        free(key.data);
        return slm_fail(err, SLM_NOMEM, "out of memory for labels");
    }
    hash = XXH3_64bits(key.data, key.n);
    set = find_set(s, &key, hash);
    if (set == NULL) {
        slm_labels_forget(s, false);
        set = calloc(1, sizeof *set);
        status = set == NULL ? slm_fail(err, SLM_NOMEM, "out of memory for labels") : build_trie(s, r, &set->trie, err);
        if (status != SLM_OK) {
            free(set);
            free(key.data);
            return status;
        }
        set->key = key.data;
        set->key_bytes = key.n;
        set->hash = hash;
        set->next = s->labels.sets;
        s->labels.sets = set;
        key.data = NULL;
    }
    free(key.data);
    set->refs++;
    job->labels.set = set;
    return SLM_OK;
}

/* ---- priors */

static void prior_free(slm_prior *prior)
{
    prior->set->refs--;
    free(prior->key);
    free(prior->scores);
    free(prior->stage_min);
    free(prior);
}

static slm_prior *prior_new(slm_label_set *set, key_buffer *key, uint64_t hash)
{
    slm_prior *prior = calloc(1, sizeof *prior);

    if (prior == NULL)
        return NULL;
    prior->set = set;
    set->refs++;
    prior->scores = malloc(set->trie->n_labels * sizeof *prior->scores);
    prior->stage_min = malloc((set->trie->n_stages + 1) * sizeof *prior->stage_min);
    if (prior->scores == NULL || prior->stage_min == NULL) {
        prior_free(prior);
        return NULL;
    }
    prior->key = key->data;
    prior->key_bytes = key->n;
    prior->hash = hash;
    key->data = NULL;
    return prior;
}

/* Everything that the prior's prompt is made of. */
static void prior_key(const slm_request *r, key_buffer *key)
{
    const slm_segment *last = &r->segments[r->n_segments - 1];
    uint64_t adapter = r->adapter == NULL ? 0 : r->adapter->serial;
    char chat = (char) r->chat;

    key_add(key, &adapter, sizeof adapter);
    key_add(key, &chat, 1);
    for (size_t i = 0; i < r->n_segments; i++) {
        key_add(key, &r->segments[i].role, sizeof r->segments[i].role);
        key_add(key, &r->segments[i].flags, sizeof r->segments[i].flags);
        if (&r->segments[i] != last)
            key_add_text(key, r->segments[i].text, r->segments[i].length);
    }
    key_add_text(key, r->prior_text, strlen(r->prior_text));
}

static void put_first(slm_session *s, slm_prior *prior)
{
    prior->prev = NULL;
    prior->next = s->labels.priors;
    if (s->labels.priors != NULL)
        s->labels.priors->prev = prior;
    s->labels.priors = prior;
}

static void take_out(slm_session *s, slm_prior *prior)
{
    if (prior->prev != NULL)
        prior->prev->next = prior->next;
    else
        s->labels.priors = prior->next;
    if (prior->next != NULL)
        prior->next->prev = prior->prev;
}

static void add_prior(slm_session *s, slm_prior *prior)
{
    slm_prior **bucket = &s->labels.prior_buckets[prior->hash % SLM_PRIOR_BUCKETS];

    prior->next_same = *bucket;
    *bucket = prior;
    put_first(s, prior);
    s->labels.n_priors++;
}

static void drop_prior(slm_session *s, slm_prior *prior)
{
    slm_prior **p = &s->labels.prior_buckets[prior->hash % SLM_PRIOR_BUCKETS];

    while (*p != prior)
        p = &(*p)->next_same;
    *p = prior->next_same;
    take_out(s, prior);
    s->labels.n_priors--;
    prior_free(prior);
}

static slm_prior *find_prior(slm_session *s, const slm_label_set *set, const key_buffer *key, uint64_t hash)
{
    for (slm_prior *prior = s->labels.prior_buckets[hash % SLM_PRIOR_BUCKETS]; prior != NULL; prior = prior->next_same) {
        if (prior->set == set && prior->state != SLM_PRIOR_FAILED && prior->hash == hash && prior->key_bytes == key->n
            && memcmp(prior->key, key->data, key->n) == 0) {
            take_out(s, prior);
            put_first(s, prior);
            return prior;
        }
    }
    return NULL;
}

/* Queues the job that computes a prior: the same request with the prior's text as its last segment. */
static slm_status queue_prior(slm_session *s, const slm_request *r, slm_prior *prior, slm_error *err)
{
    slm_request request = *r;
    slm_segment *segments = malloc(r->n_segments * sizeof *segments);
    slm_job *job;
    slm_status status;

    if (segments == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for a request");
    memcpy(segments, r->segments, r->n_segments * sizeof *segments);
    segments[r->n_segments - 1].text = r->prior_text;
    segments[r->n_segments - 1].length = strlen(r->prior_text);
    request.segments = segments;
    request.prior_text = NULL;
    request.best_only = false;
    status = slm_job_from_request(s, &request, &job, err);
    free(segments);
    if (status != SLM_OK)
        return status;
    job->labels.computes = prior;
    prior->refs++;
    slm_list_append(&s->queued, job);
    return SLM_OK;
}

slm_status slm_labels_find_prior(slm_session *s, slm_job *job, const slm_request *r, slm_error *err)
{
    key_buffer key = {0};
    uint64_t hash;
    slm_prior *prior;
    slm_status status = SLM_OK;

    prior_key(r, &key);
    if (key.failed) {
        free(key.data);
        return slm_fail(err, SLM_NOMEM, "out of memory for a request");
    }
    hash = XXH3_64bits(key.data, key.n);
    prior = find_prior(s, job->labels.set, &key, hash);
    if (prior == NULL) {
        if (s->labels.n_priors >= 2 * s->labels.n_priors_swept + KEEP_PRIORS) /* most of them may be in use: not every time */
            slm_labels_forget(s, false);
        prior = prior_new(job->labels.set, &key, hash);
        if (prior == NULL) {
            status = slm_fail(err, SLM_NOMEM, "out of memory for labels");
        } else if ((status = queue_prior(s, r, prior, err)) != SLM_OK) {
            prior_free(prior);
        } else {
            add_prior(s, prior);
        }
    }
    free(key.data);
    if (status != SLM_OK)
        return status;
    prior->refs++;
    job->labels.prior = prior;
    return SLM_OK;
}

void slm_labels_owed(const slm_session *s, slm_usage *out)
{
    for (const slm_prior *prior = s->labels.priors; prior != NULL; prior = prior->next)
        slm_usage_add(out, &prior->cost);
}

/* ---- dropping */

void slm_labels_forget(slm_session *s, bool all)
{
    size_t n = 0;

    for (slm_prior *prior = s->labels.priors, *next; prior != NULL; prior = next) {
        bool keep = !all && prior->state != SLM_PRIOR_FAILED && ++n < KEEP_PRIORS;

        next = prior->next;
        if (prior->refs == 0 && !keep)
            drop_prior(s, prior);
    }
    s->labels.n_priors_swept = s->labels.n_priors;
    n = 0;
    for (slm_label_set **p = &s->labels.sets; *p != NULL;) {
        slm_label_set *set = *p;

        if (set->refs > 0 || (!all && ++n < KEEP_SETS)) {
            p = &set->next;
            continue;
        }
        *p = set->next;
        set_free(set);
    }
}
