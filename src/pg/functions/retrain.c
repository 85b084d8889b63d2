/*
 * retrain.c: a new version of a classifier against the active one.
 *
 *   rows of the new training ──► new version: the trial that has not seen the row ──┐
 *                            └─► active one: its trial that has not seen the row,   ├──► accuracy and log loss on the same rows
 *                                or itself, when the row is new to it             ──┘
 *
 * A version is never judged by rows that it has learned from: they would favour it.  So each version keeps, beside itself, the classifiers
 * of the folds of its cross-validation (trials), and for each of its rows a hash and which trial has not seen it.  A text that is equal, or
 * whose embedding is, counts as the same row, with whatever label.  Rows that all trials of the active version have seen (of labels
 * that could not be held out) judge nobody.  A version that was learned from names has seen no labels and judges all rows itself.
 *
 *   trial_rows   | text hash u32 | embedding hash u32 | trial u8 | ...   9 bytes a row, little-endian, in the order of the training
 *
 * A restored row is hostile: whatever of it does not hold together means that there is no comparison.
 */
#include "postgres.h"

#include <unistd.h>

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/snapmgr.h"

#include "engine/slm.h"
#include "pg/base/compat.h"
#include "pg/base/encoding.h"
#include "pg/base/errors.h"
#include "pg/functions/kinds.h"
#include "pg/functions/reading.h"
#include "pg/functions/train.h"
#include "pg/functions/trained.h"
#include "pg/models/catalog.h"
#include "pg/models/classifier_rows.h"
#include "pg/models/registry.h"
#include "pg/models/store.h"
#include "pg/run/opened.h"
#include "pg/run/use.h"
#include "pg/run/work.h"

#define ROW_BYTES 9
#define NOT_JUDGED 255
#define AT_ONCE 256
#define MAX_EMBEDDED 2000 /* rows that are embedded once more for an active version of another model */
#define LEAST_PROBABILITY 1e-30

/* A version as it judges rows. */
typedef struct Judge {
    slm_classifier *models[1 + SLM_MAX_TRIALS]; /* itself, then its trials */
    int n_models;
    uint8 *which;    /* [n] the model of a row, or NOT_JUDGED */
    int32 *label_of; /* [its labels] the training's number of a label, -1 for one that it does not have */
    int32 *own;      /* [labels of the training] the version's number, -1 */
    const float *vectors; /* [rows compared, width]; NULL: those of the training */
    int width;
    bool held_out;        /* of a tuned encoder: a row's vector by one that has not seen it */
    double accuracy, log_loss;
} Judge;

/* ---- what a version keeps */

static void put_u32(uint8 *to, uint32 value)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8) (value >> (8 * i));
}

static uint32 get_u32(const uint8 *from)
{
    return (uint32) from[0] | (uint32) from[1] << 8 | (uint32) from[2] << 16 | (uint32) from[3] << 24;
}

static bytea *make_bytes(Size bytes)
{
    bytea *value;

    if (bytes + VARHDRSZ > MaxAllocSize)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("the classifier takes %zu bytes, more than a value may have", bytes),
                        errhint("Train with fewer rows or labels, or without n-grams.")));
    value = palloc(bytes + VARHDRSZ);
    SET_VARSIZE(value, bytes + VARHDRSZ);
    return value;
}

void slm_pg_pack_trials(const SlmTrainRows *rows, const slm_train_report *report, Datum *trials, Datum *trial_rows)
{
    Datum elements[SLM_MAX_TRIALS];
    uint32 n_trials = report->n_trials;
    Size bytes = 0;
    bytea *map;
    uint8 *at;

    *trials = *trial_rows = (Datum) 0;
    if (rows->by_names)
        return;
    if (rows->n_folds > 0) /* its encoder has seen all rows, and those of the trials are gone */
        n_trials = 0;
    for (uint32 k = 0; k < n_trials; k++) {
        bytea *blob = make_bytes(report->trials[k].bytes);

        memcpy(VARDATA(blob), report->trials[k].data, report->trials[k].bytes);
        elements[k] = PointerGetDatum(blob);
        bytes += report->trials[k].bytes;
    }
    if (bytes + 1024 > MaxAllocSize) /* an array cannot hold them: this version will not be compared */
        return;
    map = make_bytes((Size) rows->n * ROW_BYTES);
    at = (uint8 *) VARDATA(map);
    for (int64 r = 0; r < rows->n; r++, at += ROW_BYTES) {
        put_u32(at, rows->hashes[r].text);
        put_u32(at + 4, rows->hashes[r].vector);
        at[8] = n_trials > 0 ? report->trial_of_row[r] : SLM_SEEN_BY_ALL;
    }
    *trials = PointerGetDatum(construct_array(elements, (int) n_trials, BYTEAOID, -1, false, TYPALIGN_INT));
    *trial_rows = PointerGetDatum(map);
}

/* ---- which model judges a row */

typedef struct SeenRow {
    uint32 hash; /* key */
    uint8 trial;
} SeenRow;

static HTAB *make_table(const char *name, int64 n)
{
    HASHCTL control = {.keysize = sizeof(uint32), .entrysize = sizeof(SeenRow), .hcxt = CurrentMemoryContext};

    return hash_create(name, Max(n, 16), &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Two rows of one hash that no trial has both not seen have been seen by all. */
static void note_row(HTAB *table, uint32 hash, uint8 trial)
{
    bool found;
    SeenRow *row = hash_search(table, &hash, HASH_ENTER, &found);

    if (!found)
        row->trial = trial;
    else if (row->trial != trial)
        row->trial = SLM_SEEN_BY_ALL;
}

static bool look_up(HTAB *table, uint32 hash, uint8 *trial)
{
    const SeenRow *row = hash_search(table, &hash, HASH_FIND, NULL);

    if (row != NULL)
        *trial = row->trial;
    return row != NULL;
}

/* Finds the rows of the training among those that the version has learned from. */
static const char *find_seen(const SlmVersion *version, const SlmTrainRows *rows, Judge *j)
{
    bytea *map = (bytea *) slm_pg_version_value(version, Anum_slm_classifier_trial_rows);
    bool same_model = strcmp(version->key, slm_pg_opened_key(rows->entry)) == 0, any_text = false;
    HTAB *texts, *vectors;
    const uint8 *at;
    int64 n;

    if (map == NULL)
        return "It has not kept which rows it was trained on.";
    n = (int64) (VARSIZE(map) - VARHDRSZ) / ROW_BYTES;
    at = (const uint8 *) VARDATA(map);
    texts = make_table("slm trained texts", n);
    vectors = make_table("slm trained vectors", n);
    for (int64 i = 0; i < n; i++, at += ROW_BYTES) {
        if (at[8] != SLM_SEEN_BY_ALL && at[8] + 1 >= j->n_models)
            return "What it has kept of its training is damaged.";
        if (get_u32(at) != 0) {
            note_row(texts, get_u32(at), at[8]);
            any_text = true;
        }
        note_row(vectors, get_u32(at + 4), at[8]);
        CHECK_FOR_INTERRUPTS();
    }
    if (!same_model && (!any_text || rows->text_column == 0))
        return "It belongs to another model, and rows without texts cannot be recognized.";
    for (int64 r = 0; r < rows->n; r++) {
        uint8 by_text = 0, by_vector = 0;
        bool text = rows->hashes[r].text != 0 && look_up(texts, rows->hashes[r].text, &by_text);
        bool vector = same_model && look_up(vectors, rows->hashes[r].vector, &by_vector);

        if (!text && !vector)
            j->which[r] = 0;
        else if ((text && by_text == SLM_SEEN_BY_ALL) || (vector && by_vector == SLM_SEEN_BY_ALL) ||
                 (text && vector && by_text != by_vector))
            j->which[r] = NOT_JUDGED;
        else
            j->which[r] = (uint8) (1 + (text ? by_text : by_vector));
    }
    hash_destroy(texts);
    hash_destroy(vectors);
    return NULL;
}

int64 slm_pg_rows_trained_on(const char *classifier, const uint32 *texts, int64 n)
{
    const SlmVersion *active = slm_pg_active_version(slm_pg_versions(classifier, GetActiveSnapshot()));
    bytea *map = active == NULL || !slm_pg_owns(active->owner)
                     ? NULL : (bytea *) slm_pg_version_value(active, Anum_slm_classifier_trial_rows);
    int64 rows = map == NULL ? 0 : (int64) (VARSIZE(map) - VARHDRSZ) / ROW_BYTES, known = 0;
    HTAB *table = make_table("slm trained texts", rows);
    uint8 trial;

    for (int64 i = 0; i < rows; i++)
        note_row(table, get_u32((const uint8 *) VARDATA(map) + i * ROW_BYTES), 0);
    for (int64 i = 0; i < n; i++)
        known += texts[i] != 0 && look_up(table, texts[i], &trial);
    hash_destroy(table);
    return known;
}

/* ---- judges */

static bool same_labels(const slm_classifier *a, const slm_classifier *b)
{
    bool same = slm_classifier_n_labels(a) == slm_classifier_n_labels(b) && slm_classifier_n_dims(a) == slm_classifier_n_dims(b);

    for (uint32 i = 0; same && i < slm_classifier_n_labels(a); i++)
        same = strcmp(slm_classifier_label(a, i), slm_classifier_label(b, i)) == 0;
    return same;
}

typedef struct NamedLabel {
    const char *name;
    int32 number;
} NamedLabel;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const NamedLabel *) a)->name, ((const NamedLabel *) b)->name);
}

static void map_labels(const slm_classifier *classifier, const SlmTrainRows *rows, Judge *j)
{
    uint32 n = slm_classifier_n_labels(classifier);
    NamedLabel *sorted = palloc(sizeof *sorted * (Size) rows->n_labels);

    j->label_of = palloc(sizeof(int32) * n);
    j->own = palloc(sizeof(int32) * (Size) rows->n_labels);
    for (int i = 0; i < rows->n_labels; i++) {
        sorted[i] = (NamedLabel) {rows->names[i], i};
        j->own[i] = -1;
    }
    qsort(sorted, (size_t) rows->n_labels, sizeof *sorted, by_name);
    for (uint32 i = 0; i < n; i++) {
        NamedLabel key = {slm_classifier_label(classifier, i), 0};
        const NamedLabel *found = bsearch(&key, sorted, (size_t) rows->n_labels, sizeof *sorted, by_name);

        j->label_of[i] = found == NULL ? -1 : found->number;
        if (found != NULL)
            j->own[found->number] = (int32) i;
    }
    pfree(sorted);
}

/* Opens the trials of a stored version. */
static const char *open_trials(const SlmVersion *version, Judge *j)
{
    ArrayType *array = (ArrayType *) slm_pg_version_value(version, Anum_slm_classifier_trials);
    slm_error err;
    Datum *blobs;
    bool *nulls;
    int n;

    if (array == NULL || ARR_NDIM(array) == 0)
        return NULL;
    deconstruct_array(array, BYTEAOID, -1, false, TYPALIGN_INT, &blobs, &nulls, &n);
    for (int i = 0; i < n; i++) {
        if (nulls[i] || n > SLM_MAX_TRIALS ||
            (j->models[1 + i] = slm_pg_open_classifier(DatumGetByteaPP(blobs[i]), &err)) == NULL ||
            !same_labels(j->models[0], j->models[1 + i]))
            return "What it has kept of its training is damaged.";
        j->n_models = 2 + i;
    }
    return NULL;
}

/* A model of the image that the current user may run, NULL when none is; *there: one is registered, and the image is on this server. */
static const char *model_of_key(const char *key, bool *there)
{
    const char *plus = strchr(key, '+'), *base = plus == NULL ? key : pnstrdup(key, (Size) (plus - key)), *name;
    bool may_use;

    *there = false;
    for (int i = 0; (name = slm_pg_nth_of_key(key, i, &may_use)) != NULL; i++) {
        if (access(slm_pg_store_path(base, ".img"), F_OK) != 0 ||
            (plus != NULL && access(slm_pg_store_path(plus + 1, ".img"), F_OK) != 0))
            continue;
        *there = true;
        if (may_use)
            return name;
    }
    return NULL;
}

static void new_judge(const SlmTrainRows *rows, const slm_train_report *report, Judge *j)
{
    memset(j, 0, sizeof *j);
    j->n_models = 1 + (int) report->n_trials;
    j->which = palloc((Size) rows->n);
    for (uint32 k = 0; k < report->n_trials; k++) {
        slm_error err;

        j->models[1 + k] = slm_pg_open_blob(report->trials[k].data, report->trials[k].bytes, &err);
        if (j->models[1 + k] == NULL)
            slm_pg_error(&err, NULL);
    }
    for (int64 r = 0; r < rows->n; r++)
        j->which[r] = report->trial_of_row[r] == SLM_SEEN_BY_ALL ? NOT_JUDGED : (uint8) (1 + report->trial_of_row[r]);
    map_labels(j->models[1], rows, j);
    j->held_out = rows->n_folds > 0;
}

/* The active version; its reason when it cannot judge, *unusable when it can do nothing else either. */
static const char *other_judge(const SlmVersion *version, const SlmTrainRows *rows, Judge *j, const char **model, bool *unusable)
{
    const char *reason;
    slm_error err;
    bool there;

    memset(j, 0, sizeof *j);
    *unusable = true;
    j->n_models = 1;
    j->models[0] = slm_pg_open_classifier(slm_pg_version_value(version, Anum_slm_classifier_blob), &err);
    if (j->models[0] == NULL)
        return slm_pg_cstring_from_utf8(err.message);
    *model = model_of_key(version->key, &there);
    if (!there)
        return "Its model is not loaded.";
    *unusable = false;
    j->width = (int) slm_classifier_n_dims(j->models[0]);
    if (strcmp(version->key, slm_pg_opened_key(rows->entry)) == 0) {
        *model = NULL; /* the embeddings are there */
        if (j->width != rows->dims) {
            *unusable = true;
            return "It does not fit its model.";
        }
    } else if (*model == NULL) {
        return "You may not use its model.";
    } else if (rows->text_column == 0) {
        return "It belongs to another model, and the query gives embeddings.";
    }
    if (slm_classifier_needs_text(j->models[0]) && rows->text_column == 0)
        return "It needs the texts, and the query gives embeddings.";
    map_labels(j->models[0], rows, j);
    j->which = palloc0((Size) rows->n);
    if (version->by_names)
        return NULL;
    reason = open_trials(version, j);
    return reason != NULL ? reason : find_seen(version, rows, j);
}

/* ---- judging */

float *slm_pg_embed_rows(SlmOpenModel *entry, const SlmTrainRows *rows, const int64 *chosen, int64 n)
{
    Size dims = slm_pg_info(entry)->n_embd;
    float *vectors = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(float) * (Size) Max(n, 1) * dims);
    SlmVector *read[AT_ONCE];

    for (int64 begin = 0; begin < n; begin += AT_ONCE) {
        int count = (int) Min(n - begin, AT_ONCE);
        SlmWork *work = slm_pg_work_new(&slm_pg_train_classifier_kind);

        for (int i = 0; i < count; i++) {
            int64 row = chosen == NULL ? begin + i : chosen[begin + i];
            bool longer; /* which has been said when the row was read first */

            read[i] = slm_pg_read_training_text(work, entry, rows->texts[row], rows->lengths[row], &longer);
        }
        slm_pg_work_wait(work);
        for (int i = 0; i < count; i++)
            memcpy(vectors + (Size) (begin + i) * dims, read[i]->x, sizeof(float) * dims);
        slm_pg_work_free(work);
    }
    return vectors;
}

/* The vector of row r, which is the i-th that is compared. */
static const float *vector_of(const Judge *j, const SlmTrainRows *rows, int64 i, int64 r)
{
    if (j->vectors != NULL)
        return j->vectors + (Size) i * (Size) j->width;
    return (j->held_out ? rows->fold_vectors[rows->fold_of_row[r]] : rows->vectors) + (Size) r * (Size) rows->dims;
}

/* Probabilities of row r, which is the i-th that is compared; is the right label the most probable one? */
static bool judge_row(const Judge *j, const SlmTrainRows *rows, int64 i, int64 r, float *p)
{
    const slm_classifier *model = j->models[j->which[r]];
    uint32 n_labels = slm_classifier_n_labels(model), best = 0;
    bool text = slm_classifier_needs_text(model);
    slm_error err;

    if (slm_classifier_predict(model, vector_of(j, rows, i, r), text ? &rows->texts[r] : NULL, text ? &rows->lengths[r] : NULL, 1, p,
                               &err) != SLM_OK)
        slm_pg_error(&err, NULL);
    for (uint32 l = 1; l < n_labels; l++)
        best = p[l] > p[best] ? l : best;
    if (i % 64 == 0)
        CHECK_FOR_INTERRUPTS();
    return j->label_of[best] == rows->labels[r];
}

void slm_pg_held_out_right(const SlmTrainRows *rows, const slm_train_report *report, bool *right)
{
    float *p = palloc(sizeof(float) * (Size) rows->n_labels);
    Judge j;

    new_judge(rows, report, &j);
    for (int64 r = 0; r < rows->n; r++)
        right[r] = j.which[r] != NOT_JUDGED && judge_row(&j, rows, r, r, p);
    pfree(p);
}

static void judge(Judge *j, const SlmTrainRows *rows, const int64 *chosen, int64 n)
{
    float *p = palloc(sizeof(float) * slm_classifier_n_labels(j->models[j->n_models - 1]));
    int64 right = 0;

    for (int64 i = 0; i < n; i++) {
        int32 truth = j->own[rows->labels[chosen[i]]];

        right += judge_row(j, rows, i, chosen[i], p);
        j->log_loss -= log(Max(truth < 0 ? 0.0 : (double) p[truth], LEAST_PROBABILITY));
    }
    j->accuracy = (double) right / (double) n;
    j->log_loss /= (double) n;
    pfree(p);
}

/* Rows that both may be judged by, evenly chosen where there are more than `most`. */
static int64 choose_rows(const Judge *a, const Judge *b, int64 n, int64 most, int64 *chosen)
{
    int64 common = 0, taken = 0;

    for (int64 r = 0; r < n; r++)
        if (a->which[r] != NOT_JUDGED && b->which[r] != NOT_JUDGED)
            chosen[common++] = r;
    if (common <= most)
        return common;
    for (int64 i = 0; i < most; i++)
        chosen[taken++] = chosen[i * common / most];
    return taken;
}

void slm_pg_compare_versions(const SlmVersion *active, const SlmTrainRows *rows, const slm_train_report *report, SlmComparison *out)
{
    const char *model = NULL;
    bool unusable = false;
    Judge new, other;
    int64 *chosen;

    memset(out, 0, sizeof *out);
    if (active == NULL)
        return;
    out->other = active->version;
    out->reason = other_judge(active, rows, &other, &model, &unusable);
    out->state = unusable ? SLM_OTHER_UNUSABLE : SLM_NOT_COMPARED;
    if (out->reason == NULL && rows->by_names)
        out->reason = "The rows have no labels to judge by.";
    if (out->reason == NULL && report->n_trials == 0)
        out->reason = "The accuracy of the new version was not measured.";
    if (out->reason != NULL)
        return;
    new_judge(rows, report, &new);
    chosen = MemoryContextAllocHuge(CurrentMemoryContext, sizeof *chosen * (Size) rows->n);
    out->rows = choose_rows(&new, &other, rows->n, model != NULL ? MAX_EMBEDDED : rows->n, chosen);
    if (out->rows == 0) {
        out->reason = "It has learned from all of these rows, and none could be held out.";
        return;
    }
    if (model != NULL) {
        SlmOpenModel *entry = slm_pg_use_model(cstring_to_text(model), SLM_TASK_EMBED);

        if ((int) slm_pg_info(entry)->n_embd != other.width) {
            out->state = SLM_OTHER_UNUSABLE;
            out->reason = "It does not fit its model.";
            return;
        }
        other.vectors = slm_pg_embed_rows(entry, rows, chosen, out->rows);
    }
    judge(&new, rows, chosen, out->rows);
    judge(&other, rows, chosen, out->rows);
    out->state = SLM_COMPARED;
    out->accuracy = new.accuracy;
    out->log_loss = new.log_loss;
    out->other_accuracy = other.accuracy;
    out->other_log_loss = other.log_loss;
}

bool slm_pg_is_better(const SlmComparison *c)
{
    if (c->state != SLM_COMPARED)
        return c->state != SLM_NOT_COMPARED;
    return c->accuracy > c->other_accuracy || (c->accuracy == c->other_accuracy && c->log_loss < c->other_log_loss);
}
