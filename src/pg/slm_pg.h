/*
 * slm_pg.h: what the files of src/pg share.
 *
 *   fn_*.c ──► catalog.c   name, task ──► registered row, privilege       (slm.model_registry, cached for a transaction)
 *      │           └─────► session_cache.c   image key ──► mapped model and session of this backend
 *      └─────► work.c ──► slm_pg_start / _wait / _finish: a request of the engine that lives as long as a memory context
 *   models.c ──► digest.c, store.c: the source's SHA-256, the image directory with its locks, markers and transaction ends
 *
 * Invariant: every engine call is made with the stop flag &InterruptPending and returns before anything here can longjmp; when it
 * returned SLM_CANCELLED, slm_pg_interrupted() lets the server act on the interrupt and the call is made again.
 */
#ifndef SLM_PG_H
#define SLM_PG_H

#include "postgres.h"

#include <sys/types.h>

#include "fmgr.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "pg/compat.h"
#include "engine/slm.h"

#define SLM_PG_VERSION "0.1.0"
#define SLM_NAME_MAX 63 /* bytes of a model's name */
#define SLM_KEY_SIZE 96 /* an image's key: 64 hex digits, "-l" layout, "-" 16 hex digits of the options, NUL */
#define SLM_STOP ((const volatile int *) &InterruptPending)

/* ---- guc.c */
extern int slm_guc_threads, slm_guc_max_threads, slm_guc_kv_cache_kb;
/* Bounds of this process whatever is set, also by an expression of a job; 0 = none. */
extern int slm_guc_threads_limit, slm_guc_kv_cache_limit_kb;
size_t slm_pg_kv_cache_bytes(void);
extern bool slm_guc_speculate;
extern char *slm_guc_isa, *slm_guc_model_directory;
extern char *slm_guc_generate_model, *slm_guc_classify_model, *slm_guc_embed_model;
void slm_pg_define_gucs(void);

/* ---- init.c: the cluster's thread budget */
bool slm_pg_preloaded(void);
int slm_pg_threads_in_use(void); /* cluster-wide when preloaded, else of this session */
int slm_pg_take_threads(void);   /* how many threads a call may use now; to be given back */
void slm_pg_give_threads(void);

/* ---- errors.c */
/* Raises err as an ERROR; what (in the server's encoding, may be NULL) is put before the message. */
pg_noreturn void slm_pg_error(const slm_error *err, const char *what);
int slm_pg_sqlstate(const slm_error *err);
/* The same for what the system refused: what ("could not open \"x\""), its reason, and a hint that fits the reason. */
pg_noreturn void slm_pg_file_error(int os_error, const char *what);
int slm_pg_os_sqlstate(int os_error);
/* After SLM_CANCELLED: lets the server answer the interrupt, which usually does not return. */
void slm_pg_interrupted(void);

/* ---- encoding.c: the engine speaks UTF-8, the database its own encoding */
/* memcpy that answers interrupts: what is copied may have hundreds of MB. */
void slm_pg_copy(void *to, const void *from, size_t n);
text *slm_pg_text_copy(const text *t);
/* A NUL-terminated copy of its own; *length (may be NULL) without the NUL. */
const char *slm_pg_utf8_from_text(const text *t, size_t *length);
/* *length bytes, where nothing has to be converted those of t itself, without a NUL behind them: long texts are not copied. */
const char *slm_pg_utf8_view(const text *t, size_t *length);
/* NUL-terminated, maybe s itself. */
const char *slm_pg_utf8_from_cstring(const char *s);
/* Characters that the database's encoding lacks become '?'. */
text *slm_pg_text_from_utf8(const char *s, size_t length);
char *slm_pg_cstring_from_utf8(const char *s);

/* ---- catalog.c */
typedef enum SlmTask { SLM_TASK_GENERATE, SLM_TASK_CLASSIFY, SLM_TASK_EMBED, SLM_TASK_RERANK, SLM_TASK_ANY } SlmTask;

typedef struct SlmModelRow {
    char name[SLM_NAME_MAX + 1];
    char key[SLM_KEY_SIZE]; /* empty when the row's is none */
    char base[SLM_NAME_MAX + 1]; /* of an adapter: its model; else empty */
    char *source;
    char *options; /* of the load: JSON */
    int64 image_bytes;
    bool can_generate;
    uint64 parameters;
    Oid owner;   /* of a role that may have been dropped */
    List *roles; /* of Oid: who was granted it; InvalidOid is PUBLIC */
} SlmModelRow;

typedef struct SlmEntry SlmEntry;

Oid slm_pg_registry_oid(void);
/* The row, or NULL; valid until the next call that may touch the catalog. */
const SlmModelRow *slm_pg_find_model(const char *name);
/* The i-th row, NULL after the last. */
const SlmModelRow *slm_pg_nth_model(int i);
/* Reads the rows anew; false when the extension is not there (any more). */
bool slm_pg_registry_reread(void);
/* Does any row of this database use the image?  Reads the table anew. */
bool slm_pg_key_in_use(const char *key);
void slm_pg_check_name(const char *what, const char *name);
pg_noreturn void slm_pg_unknown_model(const char *name);
pg_noreturn void slm_pg_unknown_adapter(const char *name);
/* Owner, superuser or grantee? */
bool slm_pg_may_use_model(const SlmModelRow *row);
bool slm_pg_owns_model(const SlmModelRow *row); /* has the current user the owner's rights? */
bool slm_pg_may_use_model(const SlmModelRow *row);
/* The row of a model that the current user owns, or an ERROR. */
const SlmModelRow *slm_pg_owned_model(const char *name);
/* The opened model (or 'model+adapter') for a task: name NULL means the task's default. Checks the privilege; pinned in
 * CurrentMemoryContext, and not to be used beyond its life. */
SlmEntry *slm_pg_use_model(const text *name, SlmTask task);
/* The name that a task means when the call gives none; NULL when no setting says so. */
const char *slm_pg_default_model(SlmTask task);
void slm_pg_registry_changed(void); /* tells every backend */
void slm_pg_catalog_init(void);

/* ---- session_cache.c */
struct SlmEntry {
    dlist_node node;
    char key[2 * SLM_KEY_SIZE]; /* of the image; 'model+adapter' of both */
    char name[SLM_NAME_MAX + 1]; /* when it was opened */
    slm_model *model;
    slm_session *session; /* NULL until the first request */
    slm_limits limits;    /* as the session has them */
    dlist_head runs;      /* of SlmRun */
    int n_pins;           /* of slm_pg_pin(), and those of the entries with it as base */
    struct SlmEntry *base; /* of a model with an adapter: the model's entry, whose session runs its requests; else NULL */
    slm_adapter *adapter;  /* then */
    TimestampTz last_use;
    dev_t device;          /* of the image's file when it was mapped: another one may be put in its place, to repair it */
    ino_t inode;
    TimestampTz looked;    /* start of the statement that compared them last */
    int n_running;         /* runs without a result */
    uint64 n_requests;     /* submitted so far */
};

/* A request that has been submitted; freed with the memory context in which it was started. */
typedef struct SlmRun {
    dlist_node node;
    SlmEntry *entry;          /* NULL once finished */
    uint64 id;
    const slm_result *result; /* NULL while it runs; owned by the engine's session */
    const void *batch;        /* the batch node's statement that it was made for, or NULL */
    SubTransactionId subid;
    MemoryContextCallback callback;
} SlmRun;

/* What the requests of a stretch of work took: points to an SlmMeter while somebody counts, else NULL. */
#define SLM_METER_MODELS 8
typedef struct SlmMeter {
    uint64 requests, prompt_tokens, reused_tokens, output_tokens;
    int n_models; /* distinct; those beyond the limit are not named */
    char models[SLM_METER_MODELS][SLM_NAME_MAX + 16]; /* SHA-256 of the source in hex, or name@version of a classifier */
} SlmMeter;
extern SlmMeter *slm_pg_meter;
/* Notes what was used, where somebody counts. */
void slm_pg_meter_model(const char *name);

SlmEntry *slm_pg_find_entry(const char *key);
SlmEntry *slm_pg_open_entry(const SlmModelRow *row);
/* Keeps the entry, and its base, open until CurrentMemoryContext is reset or deleted. */
void slm_pg_pin(SlmEntry *entry);
/* The entry of a model with an adapter: shares the model and its session. */
SlmEntry *slm_pg_adapted_entry(SlmEntry *base, const SlmModelRow *adapter);
const slm_model_info *slm_pg_info(const SlmEntry *entry);
/* Submits a request; raises its errors. */
SlmRun *slm_pg_start(SlmEntry *entry, const slm_request *request);
/* The same in two steps: a run can be started again when it is finished, which takes no more memory.  if_it_fits: false where the row's
 * text is too long, instead of an error. */
SlmRun *slm_pg_new_run(void);
bool slm_pg_start_run(SlmRun *run, SlmEntry *entry, const slm_request *request, bool if_it_fits);
/* Tokens of a request's prompt, which is not run. */
size_t slm_pg_prompt_tokens(SlmEntry *entry, const slm_request *request);
/* Runs until the request is finished and returns its result; raises its error. */
const slm_result *slm_pg_wait(SlmRun *run);
/* Advances all requests of the run's session by one pass. */
void slm_pg_advance(SlmRun *run);
void slm_pg_step_entry(SlmEntry *entry);
/* Advances every session that has a request under way. */
void slm_pg_step_all(void);
void slm_pg_finish(SlmRun *run);
/* Closes models whose image is used by no row any more. */
void slm_pg_close_unused(void);
/* Closes models and adapters whose image could not be read whole, or was replaced, so that they are opened, and checked, anew. */
void slm_pg_close_damaged(void);
void slm_pg_sessions_init(void);
/* The i-th opened model, NULL after the last. */
const SlmEntry *slm_pg_nth_entry(int i);
/* Gives back what the sessions hold and do not need, but about keep_bytes of each kind and session; returns the bytes. */
size_t slm_pg_trim_sessions(size_t keep_bytes);
/* Frees the sessions without requests, whose next call makes them anew; returns how many are left. */
int slm_pg_free_sessions(void);
/* Brings the sessions' limits down to what is set now. */
void slm_pg_lower_limits(void);

/* ---- memory.c: when the memory of sessions goes back */
void slm_pg_memory_used(void);    /* a session begins to work */
void slm_pg_memory_lowered(void); /* a limit may have been lowered */
void slm_pg_memory_init(void);
extern int slm_guc_cache_timeout_ms;

/* ---- backends.c: slm.sessions */
void slm_pg_backends_update(void); /* something of this backend's sessions has changed */
void slm_pg_backends_init(void);

/* ---- digest.c */
/* A model's files, their digests, and the proof that an import reads what was hashed.  Lives in CurrentMemoryContext. */
typedef struct SlmSource SlmSource;
SlmSource *slm_pg_source_list(const char *path);
/* What to call a model that gives itself no name: a directory's own; NULL for a file. */
const char *slm_pg_source_title(const SlmSource *source, const char *path);
/* ERROR where a directory holds far more than a model with so many bytes of weights. */
void slm_pg_source_check_size(const SlmSource *source, const char *path, uint64 weights);
/* SHA-256 (hex, NUL-terminated) of a file, or of a directory's files in sorted order: names, lengths and contents. */
void slm_pg_source_digest(SlmSource *source, char sha256[65]);
slm_seal slm_pg_source_seal(SlmSource *source); /* after slm_pg_source_digest */
void slm_pg_source_close(SlmSource *source);
void slm_pg_sha256(const void *data, size_t bytes, uint8 out[32]);

/* ---- store.c, store_files.c */
/* Has it the shape of a key?  What comes out of a table is asked before it names a file. */
bool slm_pg_key_valid(const char *key);
/* Where the image is, when it is there; one that 0.1.0 made gets its present name.  An ERROR when others may write to the directory. */
char *slm_pg_store_image(const char *key);
char *slm_pg_store_path(const char *key, const char *suffix);
char *slm_pg_store_temporary(const char *key); /* of this process */
char *slm_pg_store_directory(void);
char *slm_pg_store_shown(const char *path); /* what messages say in place of a path in it */
void slm_pg_store_check(void); /* an ERROR unless the directory is the server's alone, or absent */
void slm_pg_store_make_directory(void);
/* Databases of the cluster that the user may connect to and that have a model of this name, quoted; NULL: none is known. */
char *slm_pg_store_databases_with(const char *name);
/* Locks the image for the rest of the transaction, whose end then removes what nobody uses. */
void slm_pg_store_lock(const char *key);
void slm_pg_store_mark(const char *key); /* this database uses the image; needs the lock */
void slm_pg_store_mark_if_missing(const char *key);
void slm_pg_store_sweep(void);
void slm_pg_store_init(void);

/* ---- progress.c: how far a load is, visible to all sessions */
typedef struct SlmProgress {
    int pid;
    Oid database, role;
    TimestampTz server_start;
    char phase[16];
    uint64 done, total;
    char name[SLM_NAME_MAX + 1];
} SlmProgress;
void slm_pg_progress_begin(const char *name);
void slm_pg_progress_phase(const char *phase);
void slm_pg_progress_report(void *arg, uint64_t done, uint64_t total); /* also answers interrupts that are no cancel, below the engine */
void slm_pg_progress_interrupted(void); /* in place of slm_pg_interrupted() after a call with slm_pg_progress_report */
void slm_pg_progress_end(void);
/* Loads that are running now in the cluster: palloc'ed array. */
SlmProgress *slm_pg_progress_list(int *n);

#endif
