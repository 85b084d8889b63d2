/*
 * train.h: the rows of a training, and a new version of a classifier against the active one (train.c, retrain.c).
 */
#ifndef SLM_PG_TRAIN_H
#define SLM_PG_TRAIN_H

#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/jsonb.h"

#include "pg/functions/reading.h"
#include "pg/models/classifier_rows.h"
#include "pg/run/opened.h"
#include "pg/run/work.h"

/* What tells a row in another training: hashes of its text (0: there was none) and of its embedding. */
typedef struct SlmRowHash {
    uint32 text, vector;
} SlmRowHash;

/* What is being learned from. Everything lives in one memory context. */
typedef struct SlmTrainRows {
    const char *what; /* who reads, for messages */
    const SlmWorkKind *kind; /* whose requests those of the texts are */
    SlmOpenModel *entry;
    bool with_key;                                /* a further column may say which row it is */
    bool by_names;                                /* no label column */
    bool with_text;                               /* beside an embedding its text may be given, as the second column */
    bool need_texts, keep_texts;                  /* for n-grams; also for the comparison with another version */
    int text_column, vector_column, label_column, key_column, beside_column; /* 0 = none */
    int dims;
    int64 n, room, skipped;
    float *vectors; /* [n, dims] */
    SlmRowHash *hashes; /* [n] */
    const char **texts;
    size_t *lengths;
    const char **keys; /* [n] NULL: none; in the server's encoding */
    int64 *places;     /* [n] of the row in the query, from 1 */
    int64 place;       /* rows of the query so far */
    int32_t *labels;
    int n_labels, label_room;
    const char **names;
    HTAB *label_ids;
    /* Where the encoder was tuned to the rows (train_tuned.c): its folds, and vectors of all rows by encoders that have not seen one. */
    uint32 n_folds; /* 0: it was not */
    uint8 *fold_of_row;
    float **fold_vectors; /* [n_folds] of [n, dims] */
} SlmTrainRows;

/* An empty set whose texts a model embeds; the caller sets by_names, with_key and what texts are for. */
void slm_pg_init_training_rows(SlmTrainRows *set, const char *what, SlmOpenModel *entry);
/* The query of a training whose answers a teacher gives: the expression over a sample of the query's different texts, those with the
 * smallest hashes.  as: behind the expression, "AS label".  It is the caller's in every part, and read as any other: with their rights,
 * read-only. */
char *slm_pg_teacher_query(const char *query, const char *teacher, const char *as, int rows);
/* Reads all rows of a query, read-only, with the caller's rights. */
void slm_pg_read_training_rows(SlmTrainRows *set, const char *query);
/* Number, key and text of a row as the first columns of a result. */
void slm_pg_training_row_values(const SlmTrainRows *set, int64 row, Datum values[3], bool nulls[3]);
/* ERROR where nothing can be learned from them; says how many were passed over. */
void slm_pg_check_training_rows(const SlmTrainRows *set);
/* The number of a label, new or known; UTF-8. */
int slm_pg_training_label(SlmTrainRows *set, const char *name);
/* Runs the engine, on the threads that there are; the report must be freed. */
void slm_pg_train_rows(const SlmTrainRows *set, const slm_train_options *options, slm_train_report *report);
/* For slm_train_options.progress: into slm.progress. */
void slm_pg_training_progress(void *arg, const char *stage, double fraction);

/* Embeds the texts of some rows (NULL: of all) with a model: [n, n_embd]. */
float *slm_pg_embed_rows(SlmOpenModel *entry, const SlmTrainRows *rows, const int64 *chosen, int64 n);
/* hashes[].vector of all rows. */
void slm_pg_hash_vectors(SlmTrainRows *set);

/* The encoder of a classifier that may be tuned to its labels. */
typedef struct SlmTunedEncoder {
    Jsonb *options; /* of slm_finetune; NULL: it is not to be tuned */
    const char *base, *classifier, *query;
    int32 version;      /* of the classifier */
    const char *adapter;
    bool tuned;         /* it pays, and was */
    double plain_accuracy, accuracy; /* by cross-validation, as it is and tuned; NaN: not measured */
} SlmTunedEncoder;

/* Names the adapter; ERROR for what cannot be tuned with these options. */
void slm_pg_check_tuning(const SlmTrainRows *set, SlmTunedEncoder *e);
/* Finds out whether tuning the encoder pays; then the rows have the embeddings of one that was tuned, and its folds. */
void slm_pg_tune_encoder(SlmTrainRows *set, const slm_train_options *options, SlmTunedEncoder *e);

/* Begins to embed a text of a training, UTF-8, as part of a work; *longer: it is read in windows. */
SlmVector *slm_pg_read_training_text(SlmWork *work, SlmOpenModel *entry, const char *content, size_t length, bool *longer);

typedef enum SlmComparisonState {
    SLM_NO_OTHER,       /* no version is active */
    SLM_OTHER_UNUSABLE, /* the active one cannot answer any more */
    SLM_NOT_COMPARED,
    SLM_COMPARED
} SlmComparisonState;

typedef struct SlmComparison {
    SlmComparisonState state;
    const char *reason; /* why it is unusable or was not compared */
    int32 other;        /* the active version */
    int64 rows;         /* that both were judged by */
    double accuracy, log_loss, other_accuracy, other_log_loss;
} SlmComparison;

/* The new version of a training against the active one (NULL: none), on rows of the training that neither has seen. */
void slm_pg_compare_versions(const SlmVersion *active, const SlmTrainRows *rows, const slm_train_report *report, SlmComparison *out);
/* Which rows those classifiers of a report's folds are right about that have not seen them: [n]. */
void slm_pg_held_out_right(const SlmTrainRows *rows, const slm_train_report *report, bool *right);
/* Is the new version better? */
bool slm_pg_is_better(const SlmComparison *comparison);
/* What tells a text, UTF-8, in another training; never 0. */
uint32 slm_pg_row_hash(const void *data, Size bytes);
/* How many of these texts, by their hashes, the active version of a classifier was trained on; 0 unless the current user owns it: nobody
 * else may ask what is among its rows. */
int64 slm_pg_rows_trained_on(const char *classifier, const uint32 *texts, int64 n);
/* trials and trial_rows of slm.classifier_registry: what later versions are compared by; (Datum) 0 for a version that keeps none. */
void slm_pg_pack_trials(const SlmTrainRows *rows, const slm_train_report *report, Datum *trials, Datum *trial_rows);

#endif
