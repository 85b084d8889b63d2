/*
 * finetune.c: slm_finetune, slm_restore_finetune.
 *
 *   query ──cursor──► rows ──► examples ──slm_finetune_run──► values ──► <key>.img, row of slm.model_registry ─► model => 'base+name'
 *                                                               └──────► row of slm.finetune_registry: a version, with its image
 *
 * The active version is the adapter that slm.model_registry has under the name; the others are there as bytes, from which an image is made
 * when one is restored.  The image is written, probed and renamed as that of a loaded adapter (load.c), so there is no half-written one;
 * whatever fails, the abort of the transaction removes rows and files.
 *
 * The base is pinned while it is learned on, and locked only at the end: who drops it meanwhile makes the fine-tuning fail there.
 */
#include "pg/functions/finetune.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "pg/base/as_owner.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/base/errors.h"
#include "pg/base/guc.h"
#include "pg/base/threads.h"
#include "pg/functions/adapters.h"
#include "pg/models/catalog.h"
#include "pg/models/digest.h"
#include "pg/models/load.h"
#include "pg/models/loading.h"
#include "pg/models/store.h"
#include "pg/models/store_files.h"
#include "pg/run/progress.h"
#include "pg/run/use.h"

PG_FUNCTION_INFO_V1(slm_pg_finetune);
PG_FUNCTION_INFO_V1(slm_pg_restore_finetune);

#define CURVE_POINTS 100
#define CLASSIFIER_KEPT 0.5f /* of the change of a classifier's encoder; docs/FINE_TUNING.md */
#define MOST_BYTES ((Size) 900 * 1024 * 1024) /* of an image that a row can hold */

/* The version that is active before. */
typedef enum OtherState { NO_OTHER, OTHER_COMPARED, OTHER_UNKNOWN } OtherState;

struct SlmTuning {
    SlmLoad load; /* first: SlmLoad * is SlmTuning * */
    char *base_name, *query, *base_key;
    Jsonb *json;
    SlmTuneOptions options;
    SlmTuneSet set;
    slm_finetune *engine;
    slm_finetune_report report;
    bytea *blob;
    char sha256[65];
    slm_adapter *other_adapter;
    OtherState other_state;
    slm_finetune_score other;
    int32 version, other_version;
    bool registered, active;
    double seconds, cpu;
    bool (*enough)(void *arg); /* should the training pause? NULL: never */
    void *enough_arg;
};

typedef SlmTuning Tuning;

/* ---- images */

/* load.make: the image is what the row holds. */
static slm_status make_from_blob(SlmLoad *load, const char *temporary, slm_error *err)
{
    const Tuning *t = (const Tuning *) load;
    int fd = OpenTransientFile(temporary, O_WRONLY | O_CREAT | O_EXCL | PG_BINARY);

    if (fd < 0)
        slm_pg_file_error(errno, psprintf("could not create \"%s\"", slm_pg_store_shown(temporary)));
    slm_pg_store_write(fd, VARDATA_ANY(t->blob), VARSIZE_ANY_EXHDR(t->blob), slm_pg_store_shown(temporary));
    if (pg_fsync(fd) != 0 || CloseTransientFile(fd) != 0)
        slm_pg_file_error(errno, psprintf("could not write \"%s\"", slm_pg_store_shown(temporary)));
    return SLM_OK;
}

static slm_status probe(SlmLoad *load, const char *image, slm_error *err)
{
    Tuning *t = (Tuning *) load;

    return slm_pg_probe_adapter(load, t->set.base, image, err);
}

/* A file of the image directory, whole. */
static bytea *read_image(const char *path)
{
    struct stat st;
    bytea *blob;
    Size bytes;
    int fd = OpenTransientFile(path, O_RDONLY | PG_BINARY), error;

    if (fd < 0 || fstat(fd, &st) != 0)
        slm_pg_file_error(errno, psprintf("could not read \"%s\"", slm_pg_store_shown(path)));
    bytes = (Size) st.st_size;
    if (bytes > MOST_BYTES)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("the adapter is too large to be kept: %zu MB", bytes >> 20),
                        errhint("Give it a smaller rank or fewer targets: {\"rank\": 8, \"targets\": [\"q\", \"v\"]}.")));
    blob = MemoryContextAllocHuge(CurrentMemoryContext, bytes + VARHDRSZ);
    SET_VARSIZE(blob, bytes + VARHDRSZ);
    error = slm_pg_store_read(fd, VARDATA(blob), bytes);
    if (error != 0)
        slm_pg_file_error(error, psprintf("could not read \"%s\"", slm_pg_store_shown(path)));
    CloseTransientFile(fd);
    return blob;
}

/* The key of the blob's image, for this base. */
static void make_key(Tuning *t)
{
    slm_pg_sha256_hex(VARDATA_ANY(t->blob), VARSIZE_ANY_EXHDR(t->blob), t->sha256);
    slm_pg_load_key(&t->load, t->sha256, psprintf("adapter\n%s", t->base_key));
}

/* What was learned as the bytes of an image. */
static void make_blob(Tuning *t)
{
    size_t n;
    const float *values = slm_finetune_values(t->engine, &n);
    char *temporary;
    slm_error err;

    slm_pg_sha256_hex(values, n * sizeof *values, t->sha256); /* names a temporary file */
    slm_pg_load_key(&t->load, t->sha256, NULL);
    temporary = slm_pg_store_temporary(t->load.key);
    (void) unlink(temporary);
    PG_TRY();
    {
        if (slm_finetune_write(t->engine, temporary, slm_pg_utf8_from_cstring(t->load.name), NULL, &err) != SLM_OK)
            slm_pg_error(&err, psprintf("could not write what \"%s\" has learned", t->load.name));
        t->blob = read_image(temporary);
    }
    PG_FINALLY();
    {
        (void) unlink(temporary);
    }
    PG_END_TRY();
    make_key(t);
}

/* ---- the registry */

/* Runs a statement as the extension; up to 23 values, in the caller's memory. Returns the number of rows. */
static uint64 run_sql(const char *sql, int n, const Oid *types, const Datum *values, const char *nulls, bool read_only)
{
    if (SPI_execute_with_args(sql, n, (Oid *) types, (Datum *) values, nulls, read_only, 0) < 0)
        elog(ERROR, "SPI failed: %s", sql);
    return SPI_processed;
}

/* The last version and the active one; 0: none. */
static void find_versions(const char *name, int32 *last, int32 *active)
{
    Datum value = CStringGetTextDatum(name);
    Oid type = TEXTOID;
    bool isnull;
    SlmAs saved;

    *last = *active = 0;
    slm_pg_as_extension(&saved);
    SPI_connect();
    (void) run_sql("SELECT pg_catalog.max(version), pg_catalog.max(version) FILTER (WHERE active)"
                   " FROM slm.finetune_registry WHERE name OPERATOR(pg_catalog.=) $1",
                   1, &type, &value, NULL, false);
    if (SPI_processed == 1) {
        Datum found = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);

        *last = isnull ? 0 : DatumGetInt32(found);
        found = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull);
        *active = isnull ? 0 : DatumGetInt32(found);
    }
    SPI_finish();
    slm_pg_as_end(&saved);
}

static void put_number(StringInfo out, const char *key, double value)
{
    if (!isnan(value))
        appendStringInfo(out, ", \"%s\": %.6g", key, value);
}

/* Some of the steps, and all that were judged. */
static char *curve_of(const slm_finetune_report *r)
{
    StringInfoData out;
    uint32_t every = r->n_steps / CURVE_POINTS + 1;
    bool first = true;

    initStringInfo(&out);
    appendStringInfoChar(&out, '[');
    for (uint32_t i = 0; i < r->n_steps; i++) {
        const slm_finetune_point *p = &r->points[i];

        if (i % every != 0 && isnan(p->held_out.loss) && i + 1 < r->n_steps)
            continue;
        appendStringInfo(&out, "%s{\"step\": %u", first ? "" : ", ", p->step);
        put_number(&out, "rate", p->rate);
        put_number(&out, "loss", p->loss);
        put_number(&out, "held_out_loss", p->held_out.loss);
        put_number(&out, "held_out_exact", p->held_out.exact);
        appendStringInfoChar(&out, '}');
        first = false;
    }
    appendStringInfoChar(&out, ']');
    return out.data;
}

static Datum jsonb_datum(const char *json)
{
    return DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
}

static void insert_version(Tuning *t)
{
    static const char *const ends[] = {"done", "early", "diverged"};
    static const Oid types[] = {TEXTOID, INT4OID,   BOOLOID,   INT8OID,   INT8OID,   INT8OID,  INT4OID,  INT4OID,
                                TEXTOID, FLOAT8OID, FLOAT8OID, FLOAT8OID, FLOAT8OID, JSONBOID, JSONBOID, TEXTOID,
                                TEXTOID, FLOAT8OID, FLOAT8OID, INT8OID,   TEXTOID,   BYTEAOID};
    const slm_finetune_report *r = &t->report;
    Datum values[] = {CStringGetTextDatum(t->load.name),
                      Int32GetDatum(t->version),
                      BoolGetDatum(t->active),
                      Int64GetDatum((int64) t->set.n_examples),
                      Int64GetDatum((int64) t->set.n_held_out),
                      Int64GetDatum((int64) r->n_tokens),
                      Int32GetDatum((int32) r->n_steps),
                      Int32GetDatum((int32) r->best_step),
                      CStringGetTextDatum(ends[r->end]),
                      Float8GetDatum(r->before.loss),
                      Float8GetDatum(r->after.loss),
                      Float8GetDatum(r->before.exact),
                      Float8GetDatum(r->after.exact),
                      jsonb_datum(curve_of(r)),
                      JsonbPGetDatum(t->json),
                      CStringGetTextDatum(t->query),
                      CStringGetTextDatum(t->set.digest),
                      Float8GetDatum(t->seconds),
                      Float8GetDatum(t->cpu),
                      Int64GetDatum((int64) r->bytes),
                      CStringGetTextDatum(t->sha256),
                      PointerGetDatum(t->blob)};
    char nulls[lengthof(types) + 1];
    SlmAs saved;

    memset(nulls, ' ', sizeof nulls);
    nulls[9] = isnan(r->before.loss) ? 'n' : ' ';
    nulls[10] = isnan(r->after.loss) ? 'n' : ' ';
    nulls[11] = isnan(r->before.exact) ? 'n' : ' ';
    nulls[12] = isnan(r->after.exact) ? 'n' : ' ';
    slm_pg_as_extension(&saved);
    SPI_connect();
    if (t->active)
        (void) run_sql("UPDATE slm.finetune_registry SET active = false WHERE active AND name OPERATOR(pg_catalog.=) $1", 1, types, values,
                       NULL, false);
    (void) run_sql("INSERT INTO slm.finetune_registry (name, version, active, training_rows, held_out_rows, training_tokens, steps,"
                   " best_step, ended, loss_before, loss_after, exact_before, exact_after, curve, options, query, data_sha256, seconds,"
                   " cpu_seconds, memory_bytes, sha256, blob)"
                   " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)",
                   lengthof(types), types, values, nulls, false);
    SPI_finish();
    slm_pg_as_end(&saved);
}

/* ---- before: the name, the base */

/* Is the name that of a fine-tuned adapter of this base, which the caller owns?  false: it is free; ERROR: it is taken. */
static bool check_names(const char *name, const char *base)
{
    const SlmModelRow *row = slm_pg_find_model(name);
    int32 last, active;

    slm_pg_check_name("adapter", name);
    if (strchr(base, '+') != NULL)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is a model with an adapter, which cannot be fine-tuned", base),
                        errhint("Fine-tune the model alone; a fine-tuning of the same name makes another version.")));
    if (row == NULL)
        return false;
    find_versions(name, &last, &active);
    row = slm_pg_find_model(name);
    if (last == 0 || row->base[0] == '\0')
        ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT),
                        errmsg("\"%s\" is the name of %s that was loaded", name, row->base[0] == '\0' ? "a model" : "an adapter"),
                        errhint("Choose another name for what is learned.")));
    (void) slm_pg_owned_model(name);
    if (strcmp(row->base, base) != 0)
        ereport(ERROR,
                (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("adapter \"%s\" belongs to model \"%s\"", name, row->base),
                 errhint("Choose another name, or drop it: SELECT slm_drop_adapter(%s);", quote_literal_cstr(name))));
    return true;
}

/* ---- training */

static void train_progress(void *arg, const char *stage, double fraction)
{
    Tuning *t = arg;

    slm_pg_loading_report(NULL, (uint64_t) (fraction * 1000), 1000);
    if (t->enough != NULL && t->engine != NULL && t->enough(t->enough_arg))
        slm_finetune_pause(t->engine);
}

static slm_status new_engine(Tuning *t, const slm_finetune_options *options, slm_error *err)
{
    const slm_model *base = slm_pg_opened_model(t->set.base);
    const SlmTuneSet *set = &t->set;

    if (slm_pg_finetune_is_text_kind(set->kind))
        return slm_finetune_new_texts(base, slm_pg_finetune_contrast(set->kind), set->texts, set->n_examples, set->held_out_texts,
                                      set->n_held_out, options, &t->engine, err);
    return slm_finetune_new(base, set->examples, set->n_examples, set->held_out, set->n_held_out, options, &t->engine, err);
}

/* Whom a training in the background makes way for; NULL: nobody, or there are processors for both. */
static const volatile uint32_t *others(int n_threads)
{
    int spare = slm_guc_max_threads > 0 ? slm_cpu_count() - slm_guc_max_threads : 0;

    return slm_pg_in_background() && spare < n_threads ? slm_pg_waited_for() : NULL;
}

/* The engine's object, of the examples. */
static void make_engine(Tuning *t)
{
    slm_finetune_options options = t->options.engine;
    slm_status status;
    slm_error err;

    options.n_threads = slm_pg_take_threads();
    options.others = others(options.n_threads);
    options.progress = train_progress;
    options.progress_arg = t;
    while ((status = new_engine(t, &options, &err)) == SLM_CANCELLED)
        slm_pg_loading_interrupted();
    if (status != SLM_OK) {
        if (err.status == SLM_LIMIT)
            slm_hint(&err, slm_pg_finetune_is_text_kind(t->set.kind)
                               ? "Raise slm.train_memory, or take fewer texts a step ({\"step_texts\": 24}), or a smaller max_tokens."
                               : "Raise slm.train_memory, or give it shorter examples (max_tokens, too_long) or a smaller rank.");
        slm_pg_error(&err, NULL);
    }
}

/* false: it is to pause. */
static bool run_engine(Tuning *t)
{
    slm_status status;
    slm_error err;

    slm_pg_loading_phase("training");
    while ((status = slm_finetune_run(t->engine, &err)) == SLM_CANCELLED) {
        if (t->enough != NULL && t->enough(t->enough_arg) && !InterruptPending)
            return false;
        slm_pg_loading_interrupted();
    }
    if (status != SLM_OK)
        slm_pg_error(&err, NULL);
    t->report = *slm_finetune_get_report(t->engine);
    return true;
}

/* How the active version does on the same held-out rows. */
static void judge_other(Tuning *t)
{
    const SlmModelRow *row = t->registered ? slm_pg_find_model(t->load.name) : NULL;
    slm_status status;
    slm_error err;

    t->other_state = row == NULL ? NO_OTHER : OTHER_UNKNOWN;
    if (row == NULL || row->key[0] == '\0' || t->set.n_held_out == 0)
        return;
    if (slm_adapter_open(slm_pg_store_image(row->key), slm_pg_opened_model(t->set.base), &t->other_adapter, &err) != SLM_OK)
        return;
    slm_pg_loading_phase("comparing");
    while ((status = slm_finetune_judge(t->engine, t->other_adapter, &t->other, &err)) == SLM_CANCELLED)
        slm_pg_loading_interrupted();
    if (status == SLM_OK)
        t->other_state = OTHER_COMPARED;
    else if (status != SLM_INVALID)
        slm_pg_error(&err, NULL);
}

static bool is_active(const Tuning *t)
{
    if (t->other_state == NO_OTHER || t->options.activate == SLM_TUNE_ALWAYS)
        return true;
    return t->options.activate == SLM_TUNE_IF_BETTER && t->other_state == OTHER_COMPARED && t->report.after.loss < t->other.loss;
}

/* The base's lock, to the end of the transaction; it is the one that was learned on. */
static void lock_base(Tuning *t)
{
    const SlmModelRow *row;

    slm_pg_store_lock(t->base_key);
    if (!slm_pg_key_in_use(t->base_key) || (row = slm_pg_find_model(t->base_name)) == NULL || strcmp(row->key, t->base_key) != 0)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("model \"%s\" was dropped or replaced while it was learned on", t->base_name)));
}

double slm_pg_seconds_since(TimestampTz from)
{
    return (double) (GetCurrentTimestamp() - from) / USECS_PER_SEC;
}

double slm_pg_cpu_seconds(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double) usage.ru_utime.tv_sec + (double) usage.ru_stime.tv_sec +
           1e-6 * (double) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

void slm_pg_tuning_read(SlmTuning *t)
{
    MemoryContext keep = CurrentMemoryContext;

    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    slm_pg_loading_phase("reading");
    slm_pg_finetune_read(&t->set, t->query, keep);
    MemoryContextSwitchTo(keep);
    SPI_finish();
}

/* Compares, writes and registers what was learned. */
static void keep_version(Tuning *t)
{
    t->registered = check_names(t->load.name, t->base_name); /* the query, or time, may have changed it */
    judge_other(t);
    slm_pg_give_threads();
    t->active = is_active(t);
    lock_base(t);
    make_blob(t);
    if (!t->registered)
        slm_pg_load_register(&t->load, false);
    else if (t->active)
        slm_pg_load_replace(&t->load);
    find_versions(t->load.name, &t->version, &t->other_version);
    t->version++;
    insert_version(t);
    CommandCounterIncrement();
}

/* Inside PG_TRY: the engine's objects are freed by the caller. */
static pg_noinline void tune(Tuning *t)
{
    TimestampTz begin = GetCurrentTimestamp();
    double cpu = slm_pg_cpu_seconds();

    slm_pg_tuning_read(t);
    slm_pg_tuning_begin(t);
    ereport(NOTICE, (errmsg("learning from %zu rows (" UINT64_FORMAT " tokens) with %zu MB of memory; %zu rows are held out",
                            t->set.n_examples, t->set.tokens, slm_finetune_get_report(t->engine)->bytes >> 20, t->set.n_held_out)));
    (void) run_engine(t);
    t->seconds = slm_pg_seconds_since(begin);
    t->cpu = slm_pg_cpu_seconds() - cpu;
    keep_version(t);
}

void slm_pg_tuning_free(SlmTuning *t)
{
    slm_adapter_close(t->other_adapter);
    slm_finetune_free(t->engine);
    t->other_adapter = NULL;
    t->engine = NULL;
    slm_pg_give_threads();
}

/* ---- in parts, for background jobs */

SlmTuning *slm_pg_tuning_new(const char *name, const char *base, const char *query, Jsonb *options)
{
    Tuning *t = palloc0(sizeof *t);

    t->load = (SlmLoad){.verb = "keep adapter", .phase = "writing", .make = make_from_blob, .probe = probe};
    t->load.name = name;
    t->load.base = t->base_name = pstrdup(base);
    t->query = pstrdup(query);
    t->json = options;
    t->load.options = slm_pg_no_options();
    slm_pg_finetune_options(t->json, &t->options);
    t->registered = check_names(t->load.name, t->base_name);
    t->set.base = slm_pg_use_model(cstring_to_text(t->base_name), SLM_TASK_ANY);
    t->base_key = pstrdup(slm_pg_opened_key(t->set.base));
    slm_pg_finetune_defaults(&t->options, slm_pg_info(t->set.base)->can_generate);
    t->set.options = &t->options;
    if (t->options.engine.lesson.k > 0)
        slm_pg_finetune_open_teacher(&t->set);
    t->load.source = psprintf("slm_finetune(%s, %s, ...)", quote_literal_cstr(t->load.name), quote_literal_cstr(t->base_name));
    return t;
}

const char *slm_pg_tuning_base_key(const SlmTuning *t)
{
    return t->base_key;
}

SlmTuneSet *slm_pg_tuning_rows(SlmTuning *t)
{
    return &t->set;
}

void slm_pg_tuning_begin(SlmTuning *t)
{
    slm_pg_finetune_examples(&t->set);
    if (t->set.teacher != NULL)
        slm_pg_finetune_teach(&t->set);
    make_engine(t);
}

void slm_pg_tuning_take(SlmTuning *t, const char **texts, const char **labels, int64 n, bool quiet)
{
    const char **none = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(char *) * (Size) Max(n, 1));

    for (int64 i = 0; i < n; i++)
        none[i] = "";
    t->set.kind = SLM_TUNE_NEAR;
    t->set.prompts = texts;
    t->set.answers = labels;
    t->set.thirds = none;
    t->set.n = t->set.n_own = t->set.room = n;
    t->set.quiet = quiet;
    t->options.validation = 0;
    t->options.activate = SLM_TUNE_ALWAYS;
    t->options.engine.longest = slm_pg_finetune_most(&t->set);
    if (t->options.engine.kept == 0)
        t->options.engine.kept = CLASSIFIER_KEPT;
}

void slm_pg_tuning_embed(SlmTuning *t, const char *const *texts, int64 n, float *vectors)
{
    const slm_text_example *list = slm_pg_finetune_documents(&t->set, texts, n);
    slm_status status;
    slm_error err;

    slm_pg_loading_phase("embedding");
    while ((status = slm_finetune_embed(t->engine, list, (size_t) n, vectors, &err)) == SLM_CANCELLED)
        slm_pg_loading_interrupted();
    if (status != SLM_OK)
        slm_pg_error(&err, NULL);
}

bool slm_pg_tuning_resume(SlmTuning *t, const void *data, Size bytes, const char **reason)
{
    slm_error err;

    if (slm_finetune_resume(t->engine, data, bytes, &err) == SLM_OK)
        return true;
    *reason = slm_pg_cstring_from_utf8(err.message);
    return false;
}

bool slm_pg_tuning_work(SlmTuning *t, bool (*enough)(void *arg), void *arg)
{
    t->enough = enough;
    t->enough_arg = arg;
    return run_engine(t);
}

const slm_finetune_report *slm_pg_tuning_report(const SlmTuning *t)
{
    return slm_finetune_get_report(t->engine);
}

void slm_pg_tuning_save(const SlmTuning *t, void **data, size_t *bytes)
{
    slm_error err;

    if (slm_finetune_save(t->engine, data, bytes, &err) != SLM_OK)
        slm_pg_error(&err, NULL);
}

int32 slm_pg_tuning_keep(SlmTuning *t, double seconds, double cpu, bool *active)
{
    t->seconds = seconds;
    t->cpu = cpu;
    keep_version(t);
    *active = t->active;
    return t->version;
}

/* ---- what is said at the end */

static void explain_end(const Tuning *t)
{
    const slm_finetune_report *r = &t->report;

    if (r->end == SLM_FINETUNE_DIVERGED)
        ereport(WARNING, (errmsg("the fine-tuning was stopped after %u steps: its loss was not finite, or rose", r->n_steps),
                          errdetail("What is kept is the state after step %u.", r->best_step),
                          errhint("Try a smaller rate, such as {\"rate\": 0.0003}, or more tokens a step.")));
    else if (t->set.n_held_out > 0 && r->best_step == 0)
        ereport(WARNING, (errmsg("nothing was learned that answers the held-out rows better than model \"%s\" alone", t->base_name),
                          errhint("Try more rows, another rate or more epochs; version %d changes no answer.", t->version)));
}

static void explain_other(const Tuning *t)
{
    const char *restore =
        psprintf("SELECT slm_restore_finetune(%s, %d);", quote_literal_cstr(t->load.name), t->active ? t->other_version : t->version);

    if (t->other_state == OTHER_COMPARED)
        ereport(NOTICE,
                (errmsg("version %d of \"%s\" %s: loss %.4f on the held-out rows, that of version %d %.4f", t->version, t->load.name,
                        t->active ? "is active now" : "was not activated", t->report.after.loss, t->other_version, t->other.loss),
                 errdetail("The version before may have learned from rows that are held out now."),
                 errhint(t->active ? "To go back: %s" : "To use it all the same: %s", restore)));
    else if (t->other_state == OTHER_UNKNOWN)
        ereport(NOTICE, (errmsg("version %d of \"%s\" %s: it could not be compared with version %d", t->version, t->load.name,
                                t->active ? "is active now" : "was not activated", t->other_version),
                         errhint(t->active ? "To go back: %s" : "To use it: %s", restore)));
}

char *slm_pg_tuning_call(const SlmTuning *t, const char *prefix, const char *text, int most_labels)
{
    const char *model = quote_literal_cstr(psprintf("%s+%s", t->base_name, t->load.name));
    const char *system =
        t->options.system == NULL ? "" : psprintf(", system => %s", quote_literal_cstr(slm_pg_cstring_from_utf8(t->options.system)));
    StringInfoData call;

    initStringInfo(&call);
    appendStringInfoString(&call, prefix);
    if (slm_pg_finetune_is_text_kind(t->set.kind))
        appendStringInfo(&call, "slm_embed(%s, %s)", text, model);
    else if (t->set.kind == SLM_TUNE_MESSAGES)
        appendStringInfo(&call, "slm_chat(%s, %s)", strcmp(text, "text") == 0 ? "messages" : text, model);
    else if (t->set.kind == SLM_TUNE_PAIRS)
        appendStringInfo(&call, "slm_generate(%s, %s%s)", text, model, system);
    else if (t->set.kind == SLM_TUNE_FIELDS)
        appendStringInfo(&call, "slm_generate_json(%s, %s, %s%s%s)", text, quote_literal_cstr(slm_pg_cstring_from_utf8(t->set.schema)),
                         model, system, t->options.show_schema ? "" : ", show_schema => false");
    else {
        appendStringInfo(&call, "slm_classify(%s, ARRAY[", text);
        for (int i = 0; i < Min(t->set.n_labels, most_labels); i++)
            appendStringInfo(&call, "%s%s", i > 0 ? ", " : "", quote_literal_cstr(slm_pg_cstring_from_utf8(t->set.labels[i])));
        appendStringInfo(&call, "%s], %s, 'direct')", t->set.n_labels > most_labels ? ", ..." : "", model);
    }
    return call.data;
}

/* The call that asks what was learned. */
static void explain_use(const Tuning *t)
{
    ereport(NOTICE, (errmsg("what was learned is asked by %s", slm_pg_tuning_call(t, "", "text", 20))));
}

static Datum tuning_row(const Tuning *t, TupleDesc desc)
{
    const slm_finetune_report *r = &t->report;
    Datum values[10];
    bool nulls[10] = {false};

    values[0] = Int32GetDatum(t->version);
    values[1] = Int64GetDatum((int64) t->set.n_examples);
    values[2] = Int64GetDatum((int64) t->set.n_held_out);
    values[3] = Int32GetDatum((int32) r->n_steps);
    values[4] = Float8GetDatum(r->before.loss);
    values[5] = Float8GetDatum(r->after.loss);
    values[6] = Float8GetDatum(r->before.exact);
    values[7] = Float8GetDatum(r->after.exact);
    values[8] = Float8GetDatum(t->seconds);
    values[9] = BoolGetDatum(t->active);
    nulls[4] = isnan(r->before.loss);
    nulls[5] = isnan(r->after.loss);
    nulls[6] = isnan(r->before.exact);
    nulls[7] = isnan(r->after.exact);
    return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

Datum slm_pg_finetune(PG_FUNCTION_ARGS)
{
    char *name = slm_pg_name_argument(fcinfo, 0, "the name of an adapter"),
         *base = slm_pg_name_argument(fcinfo, 1, "the name of its model"),
         *query = slm_pg_name_argument(fcinfo, 2, "the query of a fine-tuning");
    Tuning *t;
    TupleDesc desc;

    if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    slm_pg_check_may_load(fcinfo, "fine-tune a model", false);
    slm_pg_refuse_read_only("slm_finetune()");
    t = slm_pg_tuning_new(name, base, query, PG_ARGISNULL(3) ? slm_pg_no_options() : PG_GETARG_JSONB_P(3));
    slm_pg_store_make_directory();
    slm_pg_loading_begin(t->load.name);
    PG_TRY();
    {
        tune(t);
    }
    PG_FINALLY();
    {
        slm_pg_tuning_free(t);
        slm_pg_loading_end();
    }
    PG_END_TRY();
    explain_end(t);
    explain_other(t);
    explain_use(t);
    return tuning_row(t, desc);
}

/* ---- slm_restore_finetune(name, version) */

/* The image of a version, in the caller's memory; ERROR where there is none. */
static bytea *version_blob(const char *name, int32 version)
{
    static const Oid types[] = {TEXTOID, INT4OID};
    Datum values[] = {CStringGetTextDatum(name), Int32GetDatum(version)};
    bytea *blob = NULL;
    bool isnull;
    SlmAs saved;

    slm_pg_as_extension(&saved);
    SPI_connect();
    if (run_sql("SELECT blob FROM slm.finetune_registry WHERE name OPERATOR(pg_catalog.=) $1 AND version OPERATOR(pg_catalog.=) $2", 2,
                types, values, NULL, true) == 1)
        blob = (bytea *) DatumGetPointer(
            SPI_datumTransfer(PointerGetDatum(PG_DETOAST_DATUM(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull))),
                              false, -1));
    SPI_finish();
    slm_pg_as_end(&saved);
    if (blob == NULL)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("adapter \"%s\" has no version %d that was fine-tuned", name, version),
                        errhint("The view slm.finetunes lists the versions.")));
    return blob;
}

static void activate(const char *name, int32 version)
{
    static const Oid types[] = {TEXTOID, INT4OID};
    Datum values[] = {CStringGetTextDatum(name), Int32GetDatum(version)};
    SlmAs saved;

    slm_pg_as_extension(&saved);
    SPI_connect();
    (void) run_sql("UPDATE slm.finetune_registry SET active = false WHERE active AND name OPERATOR(pg_catalog.=) $1"
                   " AND version OPERATOR(pg_catalog.<>) $2",
                   2, types, values, NULL, false);
    (void)
        run_sql("UPDATE slm.finetune_registry SET active = true WHERE name OPERATOR(pg_catalog.=) $1 AND version OPERATOR(pg_catalog.=) $2",
                2, types, values, NULL, false);
    SPI_finish();
    slm_pg_as_end(&saved);
    CommandCounterIncrement();
}

static pg_noinline void restore(Tuning *t, int32 version)
{
    const SlmModelRow *row = slm_pg_find_model(t->load.name);

    if (row == NULL || row->base[0] == '\0')
        slm_pg_unknown_adapter(t->load.name);
    (void) slm_pg_owned_model(t->load.name);
    t->load.base = t->base_name = pstrdup(slm_pg_find_model(t->load.name)->base);
    t->blob = version_blob(t->load.name, version);
    t->set.base = slm_pg_use_model(cstring_to_text(t->base_name), SLM_TASK_ANY);
    t->base_key = pstrdup(slm_pg_opened_key(t->set.base));
    lock_base(t);
    make_key(t);
    slm_pg_load_replace(&t->load);
    activate(t->load.name, version);
}

Datum slm_pg_restore_finetune(PG_FUNCTION_ARGS)
{
    Tuning *t = palloc0(sizeof *t);

    t->load = (SlmLoad){.verb = "restore adapter", .phase = "writing", .make = make_from_blob, .probe = probe};
    t->load.name = slm_pg_name_argument(fcinfo, 0, "the name of an adapter");
    t->load.options = slm_pg_no_options();
    if (PG_ARGISNULL(1))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the version must not be null")));
    slm_pg_refuse_read_only("slm_restore_finetune()");
    slm_pg_store_make_directory();
    slm_pg_loading_begin(t->load.name);
    PG_TRY();
    {
        restore(t, PG_GETARG_INT32(1));
    }
    PG_FINALLY();
    {
        slm_pg_loading_end();
    }
    PG_END_TRY();
    PG_RETURN_VOID();
}
