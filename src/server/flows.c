/*
 * flows.c: whose turn it is.
 *
 *   class ─► roles, the one that has had least ─► its connections, the one that has had least ─► first come, first served
 *
 * What a role or a connection has had is counted in the cost of its requests (models.c), for each class.  Who comes anew, or comes back,
 * begins at what the one whose turn it was last has had: time spent away is not saved up.
 */
#include <stdlib.h>

#include "server/server.h"

typedef struct role {
    struct role *next;
    uint64_t realm;
    uint64_t had[SLM_CLASSES];
    size_t waiting[SLM_CLASSES];
    size_t n_flows;
} role;

struct flow {
    flow *next;
    role *role;
    const client *from;
    uint64_t had[SLM_CLASSES];
    request_list waiting[SLM_CLASSES];
};

static role *roles;
static flow *flows;
static uint64_t clocks[SLM_CLASSES]; /* what the role whose turn it was last had had */
static size_t n_waiting[SLM_CLASSES];

/* ---- lists */

void slm_list_put(request_list *list, request *r)
{
    r->list = list;
    r->next = NULL;
    r->prev = list->tail;
    if (list->tail != NULL)
        list->tail->next = r;
    else
        list->head = r;
    list->tail = r;
    list->n++;
}

void slm_list_take(request *r)
{
    request_list *list = r->list;

    if (list == NULL)
        return;
    *(r->prev != NULL ? &r->prev->next : &list->head) = r->next;
    *(r->next != NULL ? &r->next->prev : &list->tail) = r->prev;
    list->n--;
    r->list = NULL;
    r->next = r->prev = NULL;
}

/* ---- roles and connections */

static role *role_of(uint64_t realm)
{
    role *r = roles;

    while (r != NULL && r->realm != realm)
        r = r->next;
    if (r != NULL)
        return r;
    r = calloc(1, sizeof *r);
    if (r == NULL)
        return NULL;
    r->realm = realm;
    r->next = roles;
    roles = r;
    return r;
}

static void forget_role(role *gone)
{
    role **p = &roles;

    if (gone->n_flows > 0)
        return;
    while (*p != gone)
        p = &(*p)->next;
    *p = gone->next;
    free(gone);
}

static flow *flow_of(const client *from, uint64_t realm)
{
    flow *f = flows;
    role *r;

    while (f != NULL && (f->from != from || f->role->realm != realm))
        f = f->next;
    if (f != NULL)
        return f;
    f = calloc(1, sizeof *f);
    r = f == NULL ? NULL : role_of(realm);
    if (r == NULL) {
        free(f);
        return NULL;
    }
    f->from = from;
    f->role = r;
    r->n_flows++;
    f->next = flows;
    flows = f;
    return f;
}

void slm_flows_forget(const client *c)
{
    for (flow **p = &flows; *p != NULL;) {
        flow *f = *p;

        if (f->from != c) {
            p = &f->next;
            continue;
        }
        *p = f->next;
        f->role->n_flows--;
        forget_role(f->role);
        free(f);
    }
}

/* ---- turns */

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

bool slm_flows_put(request *r)
{
    flow *f = flow_of(r->from, r->wire.request.realm);
    slm_class c = r->class;

    if (f == NULL)
        return false;
    if (f->role->waiting[c] == 0)
        f->role->had[c] = later(f->role->had[c], clocks[c]);
    if (f->waiting[c].n == 0) {
        uint64_t least = UINT64_MAX;

        for (const flow *other = flows; other != NULL; other = other->next)
            if (other->role == f->role && other->waiting[c].n > 0 && other->had[c] < least)
                least = other->had[c];
        f->had[c] = least == UINT64_MAX ? f->had[c] : later(f->had[c], least);
    }
    r->flow = f;
    slm_list_put(&f->waiting[c], r);
    f->role->waiting[c]++;
    n_waiting[c]++;
    return true;
}

void slm_flows_take(request *r)
{
    if (r->flow == NULL || r->list != &r->flow->waiting[r->class])
        return;
    slm_list_take(r);
    r->flow->role->waiting[r->class]--;
    n_waiting[r->class]--;
}

request *slm_flows_next(slm_class c, bool (*may)(const request *r))
{
    flow *best = NULL;

    for (flow *f = flows; f != NULL; f = f->next) {
        if (f->waiting[c].n == 0 || !may(f->waiting[c].head))
            continue;
        if (best == NULL || f->role->had[c] < best->role->had[c] || (f->role == best->role && f->had[c] < best->had[c]))
            best = f;
    }
    if (best == NULL)
        return NULL;

    request *r = best->waiting[c].head;

    slm_flows_take(r);
    clocks[c] = best->role->had[c];
    best->role->had[c] += r->cost;
    best->had[c] += r->cost;
    return r;
}

size_t slm_flows_waiting(slm_class class)
{
    return n_waiting[class];
}
