/*
 * finetune.h: what a fine-tuning is asked for and learns from (finetune_options.c, finetune_rows.c), for finetune.c.
 */
#ifndef SLM_PG_FINETUNE_H
#define SLM_PG_FINETUNE_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"

#include "engine/slm.h"
#include "pg/run/opened.h"

/* What the rows of the query are; from SLM_TUNE_NEAR on those of an embedding model: (text, label), (query, document [, another]),
 * (text, text, score). */
typedef enum SlmTuneKind {
    SLM_TUNE_PAIRS, SLM_TUNE_MESSAGES, SLM_TUNE_LABELS, SLM_TUNE_FIELDS, SLM_TUNE_NEAR, SLM_TUNE_FOUND, SLM_TUNE_SCORED
} SlmTuneKind;

typedef enum SlmTuneActivate { SLM_TUNE_IF_BETTER, SLM_TUNE_ALWAYS, SLM_TUNE_NEVER } SlmTuneActivate;

typedef struct SlmTuneOptions {
    slm_finetune_options engine;
    const char *system, *instruction; /* UTF-8; NULL */
    const char **labels;              /* [n_labels] UTF-8; NULL: those of the rows */
    int n_labels;
    char *schema;                     /* JSON in the server's encoding; NULL: made of the rows */
    bool show_schema;
    double validation;                /* share of the rows that is held out */
    const char *validation_query;     /* in the server's encoding; its rows are held out instead; NULL */
    uint32_t max_tokens;              /* of an example; 0: the model's context */
    bool skip_long;
    const char *logits_of;            /* the model of engine.lesson, in the server's encoding; NULL */
    SlmTuneActivate activate;
} SlmTuneOptions;

/* ERROR for what is no option or out of range. */
void slm_pg_finetune_options(Jsonb *json, SlmTuneOptions *out);
/* What was not given and depends on the kind of model. */
void slm_pg_finetune_defaults(SlmTuneOptions *options, bool generates);

/* The rows, and the examples that they became. */
typedef struct SlmTuneSet {
    SlmOpenModel *base, *teacher; /* teacher: whose logits are learned; NULL */
    const SlmTuneOptions *options;
    SlmTuneKind kind;
    const char **prompts, **answers; /* [n] UTF-8; of messages the JSON */
    const char **thirds;             /* [n] of three columns: another document, or a number; else NULL */
    int64 n, n_own, n_read, room, skipped, duplicates, contradictions, too_long; /* rows from n_own on are the validation query's */
    bool quiet;                      /* nothing is said of the rows */
    const char **labels;             /* [n_labels] of SLM_TUNE_LABELS, sorted */
    int n_labels;
    char *schema;                    /* of SLM_TUNE_FIELDS, as slm_generate_json takes it; in UTF-8 */
    slm_example *examples, *held_out;
    slm_text_example *texts, *held_out_texts; /* of an embedding model, instead */
    size_t n_examples, n_held_out;
    uint64 tokens;
    char digest[65];                 /* SHA-256 of all prompts and answers in order */
} SlmTuneSet;

/* Runs the query, and that of the option "validation_query", inside SPI, as train.c does; rows in `keep`. */
void slm_pg_finetune_read(SlmTuneSet *set, const char *query, MemoryContext keep);
/* Checks them and makes examples of them. */
void slm_pg_finetune_examples(SlmTuneSet *set);
/* Is the row one that is held out? */
bool slm_pg_finetune_holds_out(const SlmTuneSet *set, int64 i);
/* The distinct answers, sorted, or those of the option "labels", to set->labels. */
void slm_pg_finetune_labels(SlmTuneSet *set);

/* The rows as bytes, and back: what a background job learns from, whatever its query gives later.  ERROR where they are too many; where
 * the bytes, which came out of a table, are none. */
bytea *slm_pg_finetune_pack(const SlmTuneSet *set);
void slm_pg_finetune_unpack(SlmTuneSet *set, const bytea *packed);
/* Hashes of the rows, sorted; and how many rows are there that such hashes of earlier ones do not have. */
bytea *slm_pg_finetune_hashes(const SlmTuneSet *set);
int64 slm_pg_finetune_new_rows(const SlmTuneSet *set, const bytea *known);
/* ERROR unless the queries can be read and have the columns of a fine-tuning; inside SPI. */
void slm_pg_finetune_check_query(SlmTuneSet *set, const char *query);

/* ---- finetune.c: a fine-tuning in parts, as background jobs make it (jobs/tune.c); all with the rights of the current role */
typedef struct SlmTuning SlmTuning;
/* Checks name, base and options, and opens the base. */
SlmTuning *slm_pg_tuning_new(const char *name, const char *base, const char *query, Jsonb *options);
void slm_pg_tuning_free(SlmTuning *t); /* what is not palloc'ed */
const char *slm_pg_tuning_base_key(const SlmTuning *t);
void slm_pg_tuning_read(SlmTuning *t); /* runs the query */
SlmTuneSet *slm_pg_tuning_rows(SlmTuning *t);
void slm_pg_tuning_begin(SlmTuning *t); /* rows to examples, and the engine's object */
/* Goes on from a checkpoint; false, and why, where it belongs to another one or is damaged. */
bool slm_pg_tuning_resume(SlmTuning *t, const void *data, Size bytes, const char **reason);
/* In place of reading and of what options say is held out: rows of an embedding model, texts and labels in UTF-8, from all of which is
 * learned.  Read from outside, they have been spoken of. */
void slm_pg_tuning_take(SlmTuning *t, const char **texts, const char **labels, int64 n, bool quiet);
/* Vectors [n, n_embd] of length 1 of texts in UTF-8, cut as those that are learned from, by what was learned to the end. */
void slm_pg_tuning_embed(SlmTuning *t, const char *const *texts, int64 n, float *vectors);
/* Trains until the end (true), or until there was enough, which is asked before each pass. */
bool slm_pg_tuning_work(SlmTuning *t, bool (*enough)(void *arg), void *arg);
const slm_finetune_report *slm_pg_tuning_report(const SlmTuning *t);
void slm_pg_tuning_save(const SlmTuning *t, void **data, size_t *bytes); /* *data: free() */
double slm_pg_cpu_seconds(void); /* of this process so far */
double slm_pg_seconds_since(TimestampTz from);
/* The call that asks what was learned, of a text: "slm_generate(text, 'base+name')". */
char *slm_pg_tuning_call(const SlmTuning *t, const char *prefix, const char *text, int most_labels);
/* Compares, writes and registers what was learned to the end; its version. */
int32 slm_pg_tuning_keep(SlmTuning *t, double seconds, double cpu, bool *active);

/* ---- finetune_teach.c: the logits of a larger model */
/* Opens the option's model and checks that it can teach this base. */
void slm_pg_finetune_open_teacher(SlmTuneSet *set);
/* Its logits for all examples. */
void slm_pg_finetune_teach(SlmTuneSet *set);
/* ERROR where there is a teacher: in the background. */
void slm_pg_finetune_refuse_teacher(const SlmTuneSet *set);

/* ---- finetune_texts.c: the rows of an embedding model */
bool slm_pg_finetune_is_text_kind(SlmTuneKind kind);
/* The kind of a query with these columns; an ERROR where it is none. */
SlmTuneKind slm_pg_finetune_text_kind(TupleDesc desc);
void slm_pg_finetune_text_examples(SlmTuneSet *set);
/* Tokens that a text has at most. */
uint32_t slm_pg_finetune_most(const SlmTuneSet *set);
/* Texts as documents, in CurrentMemoryContext. */
slm_text_example *slm_pg_finetune_documents(SlmTuneSet *set, const char *const *texts, int64 n);
slm_contrast slm_pg_finetune_contrast(SlmTuneKind kind);

#endif
