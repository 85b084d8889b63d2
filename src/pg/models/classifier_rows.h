/*
 * classifier_rows.h: trained classifiers of this database, as rows of slm.classifier_registry and slm.classifier_grant (classifier_rows.c).
 */
#ifndef SLM_PG_CLASSIFIER_ROWS_H
#define SLM_PG_CLASSIFIER_ROWS_H


#include "postgres.h"

#include "access/htup.h"
#include "access/tupdesc.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/snapshot.h"

#include "engine/slm.h"
#include "pg/models/catalog.h"

/* Columns of slm.classifier_registry that C code reads. */
enum {
    Anum_slm_classifier_name = 1,
    Anum_slm_classifier_version = 2,
    Anum_slm_classifier_active = 3,
    Anum_slm_classifier_owner = 4,
    Anum_slm_classifier_image = 5,
    Anum_slm_classifier_by_names = 17,
    Anum_slm_classifier_blob = 20,
    Anum_slm_classifier_trials = 21,
    Anum_slm_classifier_trial_rows = 22
};

/* A row of slm.classifier_registry, in the context of the caller of slm_pg_versions. */
typedef struct SlmVersion {
    char name[SLM_NAME_MAX + 1];
    int32 version;
    bool active, by_names;
    Oid owner;               /* InvalidOid, or of a dropped role: disabled */
    char key[SLM_WHOLE_KEY_SIZE]; /* image of the model whose embeddings it takes */
    HeapTuple tuple;         /* a copy; its large values are still in the table */
    TupleDesc desc;
} SlmVersion;

/* The versions (SlmVersion *) of a name, or of all names (NULL), by a snapshot, or as committed last (NULL). */
List *slm_pg_versions(const char *name, Snapshot snapshot);
/* A large value, detoasted; NULL when it is null. */
struct varlena *slm_pg_version_value(const SlmVersion *version, int column);
/* The active one of a list; NULL. */
SlmVersion *slm_pg_active_version(const List *versions);
/* May the current user use the classifier? By owner and grants; snapshot as above. */
bool slm_pg_may_use_classifier(const char *name, Oid owner, Snapshot snapshot);
/* For changes: locks the name to the end of the transaction and gives its versions as they are then; ERROR unless the current user owns
 * them. Without missing_ok there must be some. */
List *slm_pg_own_classifier(const char *name, bool missing_ok);
pg_noreturn void slm_pg_unknown_classifier(const char *name, Snapshot snapshot);
/* What is stored of a training. */
typedef struct SlmNewVersion {
    const char *name, *key, *query;
    Datum labels, confusion; /* text[]; int[] or 0 */
    const slm_train_report *report;
    Jsonb *options;
    bool by_names;
    double seconds;
    double plain_accuracy, tuned_accuracy; /* of a tuned encoder, and of the same as it was; NaN */
    bytea *blob;
    Datum trials, trial_rows; /* bytea[], bytea; 0: none */
} SlmNewVersion;

/* The number of the version behind those of slm_pg_own_classifier. */
int32 slm_pg_next_version(const List *versions);
/* Adds it, for their owner, or the current user where there are none; active: in place of the one that is. Returns its number. */
int32 slm_pg_store_version(const SlmNewVersion *new, const List *versions, bool active);
/* NOTICEs for the user's jobs that have rows of another version. */
void slm_pg_say_stale_jobs(const char *name, int32 version);
/* Drops a name that is locked; the caller has the right to. */
void slm_pg_remove_classifier(const char *name);

#endif
