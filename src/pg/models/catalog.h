/*
 * catalog.h: the registered models and adapters of this database, and who may use them (catalog.c).
 */
#ifndef SLM_PG_CATALOG_H
#define SLM_PG_CATALOG_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "pg/base/compat.h"

#define SLM_NAME_MAX 63 /* bytes of a model's name */
#define SLM_KEY_SIZE 96 /* an image's key: 64 hex digits, "-l" layout, "-" 16 hex digits of the options, NUL */

typedef enum SlmTask {
    SLM_TASK_GENERATE, SLM_TASK_CLASSIFY, SLM_TASK_EMBED, SLM_TASK_RERANK, SLM_TASK_ENTITIES, SLM_TASK_CHUNK, SLM_TASK_ANY
} SlmTask;

typedef struct SlmModelRow {
    char name[SLM_NAME_MAX + 1];
    char key[SLM_KEY_SIZE]; /* empty when the row's is none */
    char base[SLM_NAME_MAX + 1]; /* of an adapter: its model; else empty */
    char *source;
    char *options; /* of the load: JSON */
    int64 image_bytes;
    bool can_generate, can_embed;
    uint64 parameters;
    Oid owner;   /* of a role that may have been dropped */
    List *roles; /* of Oid: who was granted it; InvalidOid is PUBLIC */
} SlmModelRow;

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
/* The i-th name of what has the key of an image, or 'key+key' of a model and an adapter: 'model', or 'model+adapter'; NULL after the last.
 * may_use: may the current user? */
const char *slm_pg_nth_of_key(const char *key, int i, bool *may_use);
/* Room for the longer kind of key. */
#define SLM_WHOLE_KEY_SIZE (2 * SLM_KEY_SIZE)
/* Owner, superuser or grantee? */
bool slm_pg_may_use_model(const SlmModelRow *row);
/* An ERROR unless so; what: "model", "adapter". */
void slm_pg_check_may_use(const SlmModelRow *row, const char *what);
bool slm_pg_owns_model(const SlmModelRow *row); /* has the current user the owner's rights? */
/* The row of a model that the current user owns, or an ERROR. */
const SlmModelRow *slm_pg_owned_model(const char *name);
/* The task that decides for another one: pieces of a text are cut for the model that will embed them, where one is set. */
SlmTask slm_pg_deciding_task(SlmTask task);
/* The name that a task means when the call gives none; NULL when no setting says so. */
const char *slm_pg_default_model(SlmTask task);
/* The same, or an ERROR that names the setting. */
const char *slm_pg_need_default_model(SlmTask task);
void slm_pg_registry_changed(void); /* tells every backend */
/* changed: called when rows have been read anew. */
void slm_pg_catalog_init(void (*changed)(void));

#endif
