/*
 * turns.c: who takes part in a step.
 *
 *   party = role and class ──► had: the CPU time that steps took of it (of all threads at once), divided by the weight of its class
 *
 *   round:  base = the least that a party has had ──► parties up to SLACK above it take part; the others are left out
 *
 * In one batch everybody is served, so mostly all parties have had about as much and all take part.  A party with many requests has more of
 * each step than one with few; once it is ahead it waits until the others have had as much time to themselves.  So a role with one client
 * has as much of the engine as one with sixty, statements and jobs have their part beside those for whom somebody waits, and no more, and
 * nobody starves.
 *
 * Who comes anew begins at base: time spent away is not saved up.  A client that asks again as soon as it has its answer is away for a
 * moment only, as is a statement between two windows of rows: for GRACE_NS nobody uses that (jobs can wait), and for KEPT_NS, some steps of
 * others, it has not lost what it was behind, up to KEPT_MOST.
 */
#include <stdlib.h>

#include "server/server.h"

#define SLACK_NS 5e6
#define GRACE_NS 2000000u
#define KEPT_NS 500000000u
#define KEPT_MOST 160e6 /* of steps */
#define FORGET_NS 1000000000u

static const double weights[SLM_CLASSES] = {[SLM_CLASS_INTERACTIVE] = 8, [SLM_CLASS_BATCH] = 4, [SLM_CLASS_JOB] = 1};

struct party {
    party *next;
    uint64_t realm;
    slm_class class;
    double had;
    size_t n_running;
    uint64_t left_ns; /* when the last one ended */
};

static party *parties;
static double base; /* of the round */
static uint64_t others_ns;

static bool is_there(const party *p, uint64_t now)
{
    return p->n_running > 0 || (p->class != SLM_CLASS_JOB && now - p->left_ns < GRACE_NS);
}

static party *party_of(uint64_t realm, slm_class class)
{
    party *p = parties;

    while (p != NULL && (p->realm != realm || p->class != class))
        p = p->next;
    if (p != NULL)
        return p;
    p = calloc(1, sizeof *p);
    if (p == NULL)
        return NULL;
    p->realm = realm;
    p->class = class;
    p->next = parties;
    parties = p;
    return p;
}

void slm_turns_enter(request *r)
{
    party *p = party_of(r->wire.request.realm, r->class);

    r->party = p;
    if (p == NULL)
        return;
    if (p->n_running == 0) {
        double least = slm_server_now_ns() - p->left_ns < KEPT_NS ? base - KEPT_MOST / weights[r->class] : base;

        p->had = p->had > least ? p->had : least;
    }
    p->n_running++;
}

void slm_turns_leave(request *r)
{
    if (r->party == NULL)
        return;
    if (--r->party->n_running == 0)
        r->party->left_ns = slm_server_now_ns();
    r->party = NULL;
}

static void forget_old(uint64_t now)
{
    for (party **p = &parties; *p != NULL;) {
        party *gone = *p;

        if (gone->n_running > 0 || now - gone->left_ns < FORGET_NS) {
            p = &gone->next;
            continue;
        }
        *p = gone->next;
        free(gone);
    }
}

void slm_turns_begin(void)
{
    uint64_t now = slm_server_now_ns();
    bool any = false;

    for (const party *p = parties; p != NULL; p = p->next) {
        if (is_there(p, now) && (!any || p->had < base)) {
            base = p->had;
            any = true;
        }
    }
    forget_old(now);
}

bool slm_turns_may(const request *r)
{
    return r->party == NULL || r->party->had <= base + SLACK_NS;
}

void slm_turns_charge(request *r, uint64_t ns)
{
    if (r->party == NULL)
        return;
    r->party->had += (double) ns / weights[r->class];
    if (r->class != SLM_CLASS_INTERACTIVE)
        others_ns += ns;
}

uint64_t slm_turns_others_ns(void)
{
    return others_ns;
}

bool slm_turns_expected(void)
{
    uint64_t now = slm_server_now_ns();

    for (const party *p = parties; p != NULL; p = p->next)
        if (p->n_running == 0 && is_there(p, now))
            return true;
    return false;
}
