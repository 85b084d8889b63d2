/*
 * The memory that slm_engine and its supervisor share: one anonymous file, which the supervisor makes and keeps while engines come and go.
 *
 *   supervisor ──► limits                                    what the engine may take; changed while it runs
 *   engine ──────► ready, beats, flight, fault, figures      how it is, what it is computing, and what it died of
 *   supervisor ──► suspects, poison                          what the engine that died was computing: for the next one
 *
 * A flight is what one step computes: the digests of its requests.  An engine that dies in flight of a fault of its own leaves them as
 * suspects; the next one runs each alone, in a session of its own.  A suspect that was alone when the engine died again is poison: refused
 * from then on.  Everything here is written by one side at a time; the other one's numbers are checked before they are used.
 */
#ifndef SLM_WIRE_STATE_H
#define SLM_WIRE_STATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SLM_STATE_VERSION 1
#define SLM_FLIGHT_MOST 1024
#define SLM_POISON_MOST 256
#define SLM_STATE_MODELS 8
#define SLM_STATE_NAME 64
#define SLM_STATE_CLASSES 3

/* Of a request's bytes, without its number. */
typedef struct slm_digest {
    uint64_t low, high;
} slm_digest;

typedef struct slm_state_model {
    char name[SLM_STATE_NAME]; /* of the image */
    uint64_t image_bytes, kv_bytes, scratch_bytes, prefixes, requests;
} slm_state_model;

/* Since the engine began, but for what is now. */
typedef struct slm_state_figures {
    uint64_t requests, prompt_tokens, output_tokens, reused_tokens, steps;
    uint64_t refused, cancelled, garbage;              /* poison; requests; connections closed for what they sent */
    uint64_t busy_ns;                                  /* in steps */
    uint64_t connections;                              /* now */
    uint64_t queued[SLM_STATE_CLASSES], running[SLM_STATE_CLASSES]; /* now */
    uint32_t n_models;
    slm_state_model models[SLM_STATE_MODELS];
} slm_state_figures;

typedef struct slm_engine_state {
    uint32_t version;
    /* ---- limits */
    _Atomic uint64_t memory_bytes; /* keys and values of all models */
    _Atomic uint32_t n_threads;
    /* ---- the engine's life */
    _Atomic uint32_t ready;  /* it listens */
    _Atomic uint64_t beats;  /* moves on whenever a step or a pass of the loop is done */
    _Atomic uint32_t at_work; /* a pass has begun and not ended */
    _Atomic int32_t fault;   /* the signal of a fault of its own; 0: none */
    _Atomic uint32_t n_flight;
    char flight_model[SLM_STATE_NAME];
    slm_digest flight[SLM_FLIGHT_MOST];
    /* ---- what was learned from deaths */
    uint32_t n_suspects, n_poison;
    slm_digest suspects[SLM_FLIGHT_MOST];
    slm_digest poison[SLM_POISON_MOST]; /* the oldest is forgotten first */
    /* ---- figures */
    _Atomic uint32_t figures_changes; /* odd while they are written */
    slm_state_figures figures;
} slm_engine_state;

#endif
