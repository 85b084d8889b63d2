/*
 * train_tuned.c: the encoder of a classifier, tuned to its labels where that pays: slm_train_classifier(..., {"finetune": true}).
 *
 *   rows ──► classifier on the embeddings as they are, its folds
 *   each fold: encoder tuned on the other rows ──► vectors of all rows ──► classifier, judged by the fold ──► does it pay?
 *   it does:   encoder tuned on all rows = adapter "<classifier>_<version>" ──► new embeddings; the folds' vectors stay beside them
 *
 * What embeds a row has learned from it, and so its vector says its label: nothing may be judged by it.  So strength, figures, calibration
 * and the comparison with another version come from the folds, whose encoders have not seen the rows that they judge.
 */
#include "pg/functions/train.h"

#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "pg/base/encoding.h"
#include "pg/base/errors.h"
#include "pg/functions/finetune.h"
#include "pg/models/catalog.h"
#include "pg/models/loading.h"
#include "pg/models/store.h"
#include "pg/run/use.h"

/* An adapter's name that is free. */
static char *free_name(const char *classifier, int32 version)
{
    for (;; version++) {
        char *name = psprintf("%s_%d", classifier, version);

        if (slm_pg_find_model(name) == NULL)
            return name;
    }
}

void slm_pg_check_tuning(const SlmTrainRows *set, SlmTunedEncoder *e)
{
    static const char *const own[] = {"validation", "validation_query", "activate"};

    if (set->by_names)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("an encoder is not tuned to the names of labels"),
                        errhint("Give the query a column of labels, or leave \"finetune\" out.")));
    for (int i = 0; i < (int) lengthof(own); i++)
        if (getKeyJsonValueFromContainer(&e->options->root, own[i], (int) strlen(own[i]), NULL) != NULL)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"%s\" has no place in \"finetune\"", own[i]),
                            errdetail("What is held out is said by the folds of the classifier, and which version is active too."),
                            errhint("Leave it out.")));
    e->adapter = free_name(e->classifier, e->version);
    slm_pg_tuning_free(slm_pg_tuning_new(e->adapter, e->base, e->query, e->options)); /* refuses what would fail later */
}

/* A tuning on the rows that are not of a fold (-1: on all), in CurrentMemoryContext. */
static SlmTuning *tuning_without(const SlmTrainRows *set, const SlmTunedEncoder *e, int fold)
{
    SlmTuning *t = slm_pg_tuning_new(e->adapter, e->base, e->query, e->options);
    const char **texts = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(char *) * (Size) set->n),
               **labels = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(char *) * (Size) set->n);
    int64 n = 0;

    for (int64 r = 0; r < set->n; r++) {
        if (fold >= 0 && set->fold_of_row[r] == fold)
            continue;
        texts[n] = set->texts[r];
        labels[n++] = set->names[set->labels[r]];
    }
    slm_pg_tuning_take(t, texts, labels, n, fold >= 0);
    return t;
}

/* Vectors of all rows by an encoder that has not seen the fold. */
static void make_fold(SlmTrainRows *set, const SlmTunedEncoder *e, int fold)
{
    Size floats = (Size) set->n * (Size) set->dims;
    float *vectors = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(float) * floats);
    MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "slm tuned fold", ALLOCSET_DEFAULT_SIZES),
                  old = MemoryContextSwitchTo(scratch);
    SlmTuning *t = tuning_without(set, e, fold);

    PG_TRY();
    {
        slm_pg_tuning_begin(t);
        (void) slm_pg_tuning_work(t, NULL, NULL);
        slm_pg_tuning_embed(t, set->texts, set->n, vectors);
    }
    PG_FINALLY();
    {
        slm_pg_tuning_free(t);
    }
    PG_END_TRY();
    MemoryContextSwitchTo(old);
    MemoryContextDelete(scratch);
    set->fold_vectors[fold] = vectors;
}

/* The encoder tuned on all rows, as an adapter, whose embeddings the rows have from now on. */
static void make_adapter(SlmTrainRows *set, const SlmTunedEncoder *e)
{
    TimestampTz begin = GetCurrentTimestamp();
    double cpu = slm_pg_cpu_seconds();
    SlmTuning *t = tuning_without(set, e, -1);
    bool active;

    PG_TRY();
    {
        slm_pg_tuning_begin(t);
        (void) slm_pg_tuning_work(t, NULL, NULL);
        (void) slm_pg_tuning_keep(t, slm_pg_seconds_since(begin), slm_pg_cpu_seconds() - cpu, &active);
    }
    PG_FINALLY();
    {
        slm_pg_tuning_free(t);
    }
    PG_END_TRY();
    set->entry = slm_pg_use_model(cstring_to_text(psprintf("%s+%s", e->base, e->adapter)), SLM_TASK_EMBED);
    slm_pg_loading_phase("embedding");
    set->vectors = slm_pg_embed_rows(set->entry, set, NULL, set->n);
    slm_pg_hash_vectors(set);
}

static void say_cost(const SlmTrainRows *set)
{
    ereport(NOTICE, (errmsg("the encoder is tuned %u times without a part of the " INT64_FORMAT " rows, to see whether that pays, "
                            "and once on all of them if it does",
                            set->n_folds, set->n),
                     errdetail("Together that takes as long as %u trainings on all rows.", set->n_folds),
                     errhint("slm.model_status shows how far it is. {\"folds\": 2} takes less.")));
}

/* Is the classifier on the folds' vectors more often right than that on the embeddings as they are?  By more than one standard error of the
 * difference: of rows of which one alone is right, as many to each side would be chance. */
static bool pays(SlmTrainRows *set, const slm_train_options *options, SlmTunedEncoder *e, const bool *plain_right)
{
    bool *right = MemoryContextAllocHuge(CurrentMemoryContext, (Size) set->n);
    float *plain = set->vectors;
    slm_train_report tuned;
    double gained = 0, lost = 0;

    set->vectors = set->fold_vectors[0]; /* of what is fitted on them nothing is kept */
    slm_pg_train_rows(set, options, &tuned);
    set->vectors = plain;
    slm_pg_held_out_right(set, &tuned, right);
    for (int64 r = 0; r < set->n; r++) {
        gained += right[r] && !plain_right[r];
        lost += plain_right[r] && !right[r];
    }
    e->accuracy = tuned.accuracy;
    slm_train_report_free(&tuned);
    pfree(right);
    return gained - lost > sqrt(gained + lost);
}

static void take_texts(SlmTrainRows *set)
{
    for (int64 r = 0; r < set->n; r++) /* not all end with a NUL */
        set->texts[r] = pnstrdup(set->texts[r], set->lengths[r]);
}

/* The classifier on the embeddings as they are: its folds, and which rows it is right about. */
static void plain_folds(SlmTrainRows *set, const slm_train_options *options, SlmTunedEncoder *e, bool *right)
{
    slm_train_report plain;

    slm_pg_train_rows(set, options, &plain);
    e->plain_accuracy = plain.accuracy;
    if (plain.n_trials > 1) {
        slm_pg_held_out_right(set, &plain, right);
        set->n_folds = plain.n_trials;
        set->fold_of_row = MemoryContextAllocHuge(CurrentMemoryContext, (Size) set->n);
        memcpy(set->fold_of_row, plain.trial_of_row, (Size) set->n);
    }
    slm_train_report_free(&plain);
}

void slm_pg_tune_encoder(SlmTrainRows *set, const slm_train_options *options, SlmTunedEncoder *e)
{
    bool *plain_right = MemoryContextAllocHuge(CurrentMemoryContext, (Size) set->n);

    if (set->text_column == 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("an encoder is tuned on texts, but the query returns embeddings"),
                        errhint("Select the text instead of its embedding.")));
    take_texts(set);
    plain_folds(set, options, e, plain_right);
    if (set->n_folds < 2) {
        ereport(NOTICE, (errmsg("the encoder was not tuned: there are too few rows to see whether that pays"),
                         errhint("Label at least two different texts for each label.")));
        return;
    }
    say_cost(set);
    slm_pg_store_make_directory();
    set->fold_vectors = palloc0(sizeof(float *) * set->n_folds);
    for (uint32 k = 0; k < set->n_folds; k++)
        make_fold(set, e, (int) k);
    e->tuned = pays(set, options, e, plain_right);
    if (e->tuned)
        make_adapter(set, e);
    else
        set->n_folds = 0;
    ereport(NOTICE, (errmsg("tuning the encoder %s: accuracy %.4f by cross-validation, %.4f with model \"%s\" as it is",
                            e->tuned ? "pays" : "does not pay", e->accuracy, e->plain_accuracy, e->base),
                     e->tuned ? errdetail("Its adapter is \"%s\"; who may use the classifier needs it too (slm_grant_model).", e->adapter)
                              : errdetail("The classifier stands on the model as it is.")));
}
