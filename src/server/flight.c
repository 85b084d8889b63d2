/*
 * flight.c: what is being computed, where the supervisor can see it; what was learned from earlier deaths (wire/state.h).
 *
 * A fault of the engine's own code is told from a signal that somebody sent: a kill from outside is nobody's fault.
 */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "server/server.h"

#define WIRE_HEADER 24 /* of a message: magic, kind, bytes, number */

slm_digest slm_flight_digest(const slm_wire_request *r, const uint8_t *body, size_t n)
{
    XXH128_hash_t hash = XXH3_128bits(n > WIRE_HEADER ? body + WIRE_HEADER : body, n > WIRE_HEADER ? n - WIRE_HEADER : n);

    return (slm_digest){.low = hash.low64, .high = hash.high64};
}

static bool same(slm_digest a, slm_digest b)
{
    return a.low == b.low && a.high == b.high;
}

static bool among(const slm_digest *list, uint32_t n, uint32_t most, slm_digest digest)
{
    for (uint32_t i = 0; i < n && i < most; i++)
        if (same(list[i], digest))
            return true;
    return false;
}

bool slm_flight_poison(slm_digest digest)
{
    return among(slm_server_state->poison, slm_server_state->n_poison, SLM_POISON_MOST, digest);
}

bool slm_flight_suspect(slm_digest digest)
{
    return among(slm_server_state->suspects, slm_server_state->n_suspects, SLM_FLIGHT_MOST, digest);
}

void slm_flight_cleared(slm_digest digest)
{
    slm_engine_state *s = slm_server_state;

    for (uint32_t i = 0; i < s->n_suspects && i < SLM_FLIGHT_MOST; i++)
        if (same(s->suspects[i], digest))
            s->suspects[i--] = s->suspects[--s->n_suspects];
}

void slm_flight_begin(const char *model, const request_list *list, const request *one)
{
    slm_engine_state *s = slm_server_state;
    uint32_t n = 0;

    atomic_store(&s->n_flight, 0);
    strncpy(s->flight_model, model, sizeof s->flight_model - 1);
    if (one != NULL)
        s->flight[n++] = one->digest;
    for (const request *r = list == NULL ? NULL : list->head; r != NULL && n < SLM_FLIGHT_MOST; r = r->next)
        s->flight[n++] = r->digest;
    atomic_store(&s->n_flight, n);
}

void slm_flight_end(void)
{
    atomic_store(&slm_server_state->n_flight, 0);
    atomic_fetch_add(&slm_server_state->beats, 1);
}

/* ---- faults */

/* Runs on any thread at any moment: notes whether the process itself is at fault, and lets the signal have its way. */
static void on_fault(int number, siginfo_t *info, void *context)
{
    struct sigaction usual = {.sa_handler = SIG_DFL};

    (void) context;
    if (info->si_code > 0 || info->si_pid == getpid())
        atomic_store(&slm_server_state->fault, number);
    sigemptyset(&usual.sa_mask);
    sigaction(number, &usual, NULL);
    if (info->si_code <= 0)
        raise(number); /* a fault comes again by itself */
}

void slm_flight_watch_faults(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS};
    static uint8_t room[64 << 10];
    stack_t stack = {.ss_sp = room, .ss_size = sizeof room};
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    sigaltstack(&stack, NULL);
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaction(signals[i], &action, NULL);
}

void slm_flight_publish(const slm_state_figures *figures)
{
    slm_engine_state *s = slm_server_state;

    atomic_fetch_add(&s->figures_changes, 1);
    s->figures = *figures;
    atomic_fetch_add(&s->figures_changes, 1);
}
