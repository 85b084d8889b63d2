/*
 * finetune.h: what a fine-tuning is asked for and learns from (finetune_options.c, finetune_rows.c), for finetune.c.
 */
#ifndef SLM_PG_FINETUNE_H
#define SLM_PG_FINETUNE_H

#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/jsonb.h"

#include "engine/slm.h"
#include "pg/run/opened.h"

/* What the rows of the query are. */
typedef enum SlmTuneKind { SLM_TUNE_PAIRS, SLM_TUNE_MESSAGES, SLM_TUNE_LABELS, SLM_TUNE_FIELDS } SlmTuneKind;

typedef enum SlmTuneActivate { SLM_TUNE_IF_BETTER, SLM_TUNE_ALWAYS, SLM_TUNE_NEVER } SlmTuneActivate;

typedef struct SlmTuneOptions {
    slm_finetune_options engine;
    const char *system, *instruction; /* UTF-8; NULL */
    const char **labels;              /* [n_labels] UTF-8; NULL: those of the rows */
    int n_labels;
    char *schema;                     /* JSON in the server's encoding; NULL: made of the rows */
    bool show_schema;
    double validation;                /* share of the rows that is held out */
    uint32_t max_tokens;              /* of an example; 0: the model's context */
    bool skip_long;
    SlmTuneActivate activate;
} SlmTuneOptions;

/* ERROR for what is no option or out of range. */
void slm_pg_finetune_options(Jsonb *json, SlmTuneOptions *out);

/* The rows, and the examples that they became. */
typedef struct SlmTuneSet {
    SlmOpenModel *base;
    const SlmTuneOptions *options;
    SlmTuneKind kind;
    const char **prompts, **answers; /* [n] UTF-8; of messages the JSON */
    int64 n, room, skipped, duplicates, contradictions, too_long;
    const char **labels;             /* [n_labels] of SLM_TUNE_LABELS, sorted */
    int n_labels;
    char *schema;                    /* of SLM_TUNE_FIELDS, as slm_generate_json takes it; in UTF-8 */
    slm_example *examples, *held_out;
    size_t n_examples, n_held_out;
    uint64 tokens;
    char digest[65];                 /* SHA-256 of all prompts and answers in order */
} SlmTuneSet;

/* Runs the query, inside SPI, as train.c does; rows in `keep`. */
void slm_pg_finetune_read(SlmTuneSet *set, const char *query, MemoryContext keep);
/* Checks them and makes examples of them. */
void slm_pg_finetune_examples(SlmTuneSet *set);

#endif
