/*
 * engine.h: the engine process, as backends see it (engine.c), and what looks after it (supervisor.c).
 */
#ifndef SLM_PG_ENGINE_H
#define SLM_PG_ENGINE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"

#include "engine/wire/state.h"
#include "pg/base/shmem.h"

/* Base backups and pg_rewind leave out what begins so.  Relative to the data directory, where every process of the server stands. */
#define SLM_ENGINE_DIRECTORY "pgsql_tmp_slm_engine"
#define SLM_ENGINE_SOCKET SLM_ENGINE_DIRECTORY "/pgsql_tmp.sock"

typedef enum SlmEngineMode { SLM_ENGINE_AUTO, SLM_ENGINE_SHARED, SLM_ENGINE_LOCAL } SlmEngineMode;

/* In shared memory, guarded by its lock but for the condition variable. */
typedef struct SlmEngineShared {
    LWLock *lock;
    ConditionVariable changed; /* ready, or gone */
    pid_t supervisor;          /* 0: there is none */
    struct Latch *latch;       /* its; it is in no list of backends */
    bool wanted;               /* somebody has asked for the process */
    pid_t pid;                 /* 0: it does not run */
    bool ready;                /* it listens */
    uint32 life;               /* counts processes */
    uint32 restarts, blamed, hangs;
    uint32 failures;           /* in a row that died as soon as they were started: while there are any, it waits before the next */
    TimestampTz started;
    char last_end[160];        /* in words */
    double tokens_per_second;
    slm_state_figures figures;
} SlmEngineShared;

extern SlmEngineShared *slm_pg_engine;
extern const SlmShmemPart slm_pg_engine_part;
extern int slm_guc_engine, slm_guc_engine_memory_kb, slm_guc_engine_timeout_ms;
extern char *slm_guc_engine_program;

/* What there is to connect to. */
typedef struct SlmEngineNow {
    bool supervised, ready, failing;
    uint32 life, blamed;
} SlmEngineNow;
void slm_pg_engine_now(SlmEngineNow *out);
/* Asks for the process, and waits until it is another than `not_life` and ready, but no longer than ms; answers interrupts. */
bool slm_pg_engine_await(uint32 not_life, long ms, SlmEngineNow *out);
/* Settings, and the supervisor when the library is being preloaded. */
void slm_pg_engine_init(void);

#endif
