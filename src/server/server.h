/*
 * slm_engine: one running batch for all clients of a socket, in a process that may die.
 *
 *   main.c        options, signals, the loop
 *   clients.c     connections and frames
 *   flows.c       requests that wait, and whose turn it is
 *   turns.c       who takes part in a step
 *   models.c      sessions, steps, results
 *   images.c      images, adapters and constraints
 *   flight.c      what is being computed, for those who look after it; suspects and poison
 *
 *   SUBMIT ─► request ─► flow of (connection, role), by class ─turn─► session of its model ─step, step─► RESULT
 *                   └─► suspect: its model's second session, alone
 *
 * One thread does all of it; a step runs on the engine's own workers besides.  A frame is read between steps, and so are cancels.
 *
 * Nothing that a client sends is trusted: a frame that is none ends its connection, a request that makes no sense is answered with an
 * error.  What clients may ask for at all, privileges, is theirs to check: whoever can connect has the server's own user.
 */
#ifndef SLM_SERVER_H
#define SLM_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/slm.h"
#include "engine/wire/frame.h"
#include "engine/wire/state.h"
#include "engine/wire/wire.h"

typedef struct client client;
typedef struct flow flow;
typedef struct served served;
typedef struct request request;
typedef struct party party;

typedef struct request_list {
    request *head, *tail;
    size_t n;
} request_list;

/* A request, from SUBMIT to RESULT. It is in one list: its flow's, its model's suspects, or what a session runs. */
struct request {
    request *next, *prev;
    request_list *list;
    request *next_of_client, *prev_of_client;
    client *from;
    flow *flow;
    served *model; /* it is counted there */
    slm_class class;
    slm_wire_request wire; /* its number is the client's */
    slm_digest digest;
    slm_adapter *adapter; /* a reference, or NULL */
    bool suspect, held;
    uint64_t id;   /* in its session; 0: not there yet */
    uint64_t cost; /* what its turn is counted as */
    party *party;  /* while it runs beside others */
    slm_usage so_far;            /* what steps have taken of it */
    uint64_t came_ns, others_ns; /* then, and what others' work had taken then (turns.c) */
};

/* ---- main.c */
extern slm_engine_state *slm_server_state;
/* A line of the log. */
void slm_server_log(const char *format, ...) __attribute__((format(printf, 1, 2)));
uint64_t slm_server_now_ns(void);

/* ---- clients.c */
/* Takes over a socket, of a client that may connect. */
void slm_clients_add(int fd);
/* Waits for something to read, up to ms (-1: for ever), and reads and answers it.  listener, alive: sockets beside, or -1. Returns false
 * when nobody is left who could ask: alive has ended, or without listener the last client has. */
bool slm_clients_poll(int listener, int alive, int ms);
/* Writes what can be written, and closes those who do not read. */
void slm_clients_flush(void);
void slm_client_result(const request *r, const slm_result *result);
void slm_client_piece(const request *r, const char *text, size_t length);
void slm_client_progress(const request *r);
/* The request is not its client's any more. */
void slm_client_forget(request *r);
size_t slm_clients_count(void);
void slm_clients_figures(slm_state_figures *out);

/* ---- flows.c */
void slm_list_put(request_list *list, request *r);
void slm_list_take(request *r);
/* Queues a request behind the others of its role and connection. NULL memory: false. */
bool slm_flows_put(request *r);
/* Takes back one that waits. */
void slm_flows_take(request *r);
/* The request of a class whose turn it is, of those that `may` says can go on now; NULL: none.  It is no longer in its flow. */
request *slm_flows_next(slm_class class, bool (*may)(const request *r));
/* No request of a connection is left. */
void slm_flows_forget(const client *c);
size_t slm_flows_waiting(slm_class class);

/* ---- models.c */
void slm_models_init(const char *directory);
/* Takes a request that has been read: it will be answered, maybe at once. */
void slm_models_take(request *r);
/* Ends a request without an answer. */
void slm_models_drop(request *r);
/* Lets those run whose turn it is, and advances each session by a step. Milliseconds until there is more to do; -1: nothing is left. */
int slm_models_step(void);
/* Between steps: memory that nobody needs, limits that have changed. */
void slm_models_idle(void);
void slm_models_figures(slm_state_figures *out);
/* Tells clients how far their requests are. */
void slm_models_progress(void);

/* ---- turns.c */
/* A request runs, and runs no more. NULL memory: it runs, and nobody counts. */
void slm_turns_enter(request *r);
void slm_turns_leave(request *r);
/* Before a round of steps. */
void slm_turns_begin(void);
/* May it take part in a step of this round? */
bool slm_turns_may(const request *r);
/* What a step took of it: CPU time, of all threads at once. */
void slm_turns_charge(request *r, uint64_t ns);
/* What steps have taken so far of those for whom nobody waits. */
uint64_t slm_turns_others_ns(void);
/* Is somebody expected back at once, so that it pays to wait? */
bool slm_turns_expected(void);

/* ---- flight.c */
slm_digest slm_flight_digest(const slm_wire_request *r, const uint8_t *body, size_t n);
bool slm_flight_poison(slm_digest digest);
bool slm_flight_suspect(slm_digest digest);
void slm_flight_cleared(slm_digest digest);
/* What is computed next. */
void slm_flight_begin(const char *model, const request_list *list, const request *one);
void slm_flight_end(void);
void slm_flight_watch_faults(void);
void slm_flight_publish(const slm_state_figures *figures);

#endif
