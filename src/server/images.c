/*
 * images.c: the images of the directory that are open, and what was made for them.
 *
 * A name is one of a file in the directory and nothing else: no path gets through.  A file that was replaced or damaged since it was mapped
 * is opened anew beside the old one, which goes with its last request.  Models that nobody uses stay, MOST_MODELS of them; the least
 * recently used goes first, and one whose file was taken away goes soon.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "server/internal.h"

#define MOST_MODELS SLM_STATE_MODELS
#define MOST_CONSTRAINTS 32 /* of a model */

static const char *directory;
static served *models;

void slm_images_init(const char *path)
{
    directory = path;
}

served *slm_images_first(void)
{
    return models;
}

/* ---- files */

static bool is_name(const char *name)
{
    size_t n = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.");

    return n > 0 && n < SLM_STATE_NAME && name[n] == '\0' && name[0] != '.';
}

static slm_status path_of(const char *name, char path[4096], struct stat *st, slm_error *err)
{
    if (!is_name(name))
        return slm_fail(err, SLM_INVALID, "\"%.64s\" is not the name of an image", name);
    if (snprintf(path, 4096, "%s/%s.img", directory, name) >= 4096)
        return slm_fail(err, SLM_LIMIT, "the name of the directory is too long");
    if (lstat(path, st) != 0)
        return slm_fail_os(err, errno, "could not open the image of a model");
    if (!S_ISREG(st->st_mode))
        return slm_fail(err, SLM_INVALID, "the image \"%s\" is no file", name);
    return SLM_OK;
}

/* ---- closing */

static void close_lane(lane *l)
{
    slm_session_free(l->session);
    l->session = NULL;
}

static void close_model(served *m)
{
    served **p = &models;

    while (*p != m)
        p = &(*p)->next;
    *p = m->next;
    for (int type = 0; type < SLM_KV_TYPES; type++)
        close_lane(&m->main[type]);
    close_lane(&m->alone);
    for (kept *k = m->constraints, *next; k != NULL; k = next) {
        next = k->next;
        slm_constraint_free(k->constraint);
        free(k);
    }
    for (adapter *a = m->adapters, *next; a != NULL; a = next) {
        next = a->next;
        slm_adapter_close(a->adapter);
        free(a);
    }
    slm_model_close(m->model);
    free(m);
}

void slm_images_sweep(void)
{
    for (served *m = models, *next; m != NULL; m = next) {
        next = m->next;
        if (m->stale && m->n_here == 0)
            close_model(m);
    }
}

void slm_images_idle(void)
{
    char path[4096];
    struct stat st;
    slm_error err;

    for (served *m = models; m != NULL; m = m->next)
        if (!m->stale && path_of(m->name, path, &st, &err) != SLM_OK && err.os_error == ENOENT)
            m->stale = true;
    slm_images_sweep();
}

static void make_room(void)
{
    served *oldest = NULL;
    size_t n = 0;

    for (served *m = models; m != NULL; m = m->next) {
        n++;
        if (m->n_here == 0 && (oldest == NULL || m->last_use_ns < oldest->last_use_ns))
            oldest = m;
    }
    if (n >= MOST_MODELS && oldest != NULL)
        close_model(oldest);
}

/* ---- opening */

static slm_status open_model(const char *name, const char *path, const struct stat *st, served **out, slm_error *err)
{
    served *m;
    slm_status status;

    make_room();
    m = calloc(1, sizeof *m);
    if (m == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for a model");
    status = slm_model_open(path, &m->model, err);
    if (status != SLM_OK) {
        free(m);
        return status;
    }
    memcpy(m->name, name, strlen(name) + 1);
    m->info = slm_model_get_info(m->model);
    m->device = st->st_dev;
    m->inode = st->st_ino;
    m->next = models;
    models = m;
    *out = m;
    return SLM_OK;
}

slm_status slm_images_find(const char *name, served **out, slm_error *err)
{
    char path[4096];
    struct stat st;
    served *m = models;

    SLM_TRY(path_of(name, path, &st, err));
    while (m != NULL && (m->stale || strcmp(m->name, name) != 0))
        m = m->next;
    if (m != NULL && (m->device != st.st_dev || m->inode != st.st_ino || slm_model_damaged(m->model))) {
        m->stale = true;
        slm_images_sweep();
        m = NULL;
    }
    if (m == NULL)
        SLM_TRY(open_model(name, path, &st, &m, err));
    m->last_use_ns = slm_server_now_ns();
    *out = m;
    return SLM_OK;
}

slm_status slm_images_adapter(served *m, const char *name, slm_adapter **out, slm_error *err)
{
    char path[4096];
    struct stat st;
    adapter *a, **p = &m->adapters;

    SLM_TRY(path_of(name, path, &st, err));
    while (*p != NULL && strcmp((*p)->name, name) != 0)
        p = &(*p)->next;
    a = *p;
    if (a != NULL && (a->device != st.st_dev || a->inode != st.st_ino || slm_adapter_damaged(a->adapter))) {
        *p = a->next;
        slm_adapter_close(a->adapter); /* requests have references of their own */
        free(a);
        a = NULL;
    }
    if (a == NULL) {
        a = calloc(1, sizeof *a);
        if (a == NULL)
            return slm_fail(err, SLM_NOMEM, "out of memory for an adapter");
        if (slm_adapter_open(path, m->model, &a->adapter, err) != SLM_OK) {
            free(a);
            return err->status;
        }
        memcpy(a->name, name, strlen(name) + 1);
        a->device = st.st_dev;
        a->inode = st.st_ino;
        a->next = m->adapters;
        m->adapters = a;
    }
    *out = a->adapter;
    return SLM_OK;
}

/* ---- constraints */

static void forget_oldest(served *m)
{
    kept **p = &m->constraints;
    size_t n = 0;

    while (*p != NULL && n++ < MOST_CONSTRAINTS)
        p = &(*p)->next;
    if (*p == NULL)
        return;
    slm_constraint_free((*p)->constraint);
    free(*p);
    *p = NULL;
}

slm_status slm_images_constraint(served *m, uint64_t realm, const char *words, slm_constraint **out, slm_error *err)
{
    kept **p = &m->constraints, *k;
    size_t n = strlen(words);

    if (words[0] < '0' || words[0] > '0' + SLM_CONSTRAINT_GBNF || words[1] != ':')
        return slm_fail(err, SLM_INVALID, "the request's constraint is of no kind");
    while (*p != NULL && ((*p)->realm != realm || strcmp((*p)->words, words) != 0))
        p = &(*p)->next;
    k = *p;
    if (k != NULL) {
        *p = k->next;
    } else {
        k = malloc(sizeof *k + n + 1);
        if (k == NULL)
            return slm_fail(err, SLM_NOMEM, "out of memory for a constraint");
        if (slm_constraint_compile(m->model, (slm_constraint_kind) (words[0] - '0'), words + 2, n - 2, &k->constraint, err) != SLM_OK) {
            free(k);
            return err->status;
        }
        k->realm = realm;
        memcpy(k->words, words, n + 1);
    }
    k->next = m->constraints;
    m->constraints = k;
    forget_oldest(m);
    *out = k->constraint;
    return SLM_OK;
}
