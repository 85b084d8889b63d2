/*
 * load.c: slm_load_model, slm_drop_model, slm_rename_model.
 *
 *   source ──SHA-256──► key ──lock──► marker ──► temporary file ──fsync, probe, rename──► image ──► row of slm.model_registry
 *
 * An image that is already there is used as it is.  The probe runs one small request through the new image before it gets its name, so
 * what is registered has run once on this machine.  Whatever fails, the abort of the transaction removes row, marker and files
 * (store.c).  Rows are written by SPI as the table's owner with a fixed search_path, after our own checks of privilege.
 */
#include "pg/models/load.h"

#include <sys/stat.h>
#include <unistd.h>

#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/fd.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/rel.h"

#include "engine/slm.h"
#include "pg/base/as_owner.h"
#include "pg/base/compat.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/base/errors.h"
#include "pg/base/guc.h"
#include "pg/base/paths.h"
#include "pg/base/threads.h"
#include "pg/models/calibration_rows.h"
#include "pg/models/catalog.h"
#include "pg/models/digest.h"
#include "pg/models/loading.h"
#include "pg/models/rebuild.h"
#include "pg/models/registry.h"
#include "pg/models/store.h"
#include "pg/models/stored.h"
#include "pg/models/uses.h"

PG_FUNCTION_INFO_V1(slm_pg_load_model);
PG_FUNCTION_INFO_V1(slm_pg_drop_model);
PG_FUNCTION_INFO_V1(slm_pg_rename_model);

/* ---- SPI as the extension's owner */

static void begin_as_owner(SlmAs *saved)
{
    slm_pg_as_extension(saved);
    SPI_connect();
}

static void end_as_owner(const SlmAs *saved)
{
    SPI_finish();
    slm_pg_as_end(saved);
}

/* Runs one statement with text parameters (NULL allowed) and returns the number of rows. */
static uint64 run_sql(const char *sql, int n, const char *const *values)
{
    Oid types[32];
    Datum args[32];
    char nulls[32] = {0};

    Assert(n <= 32);
    for (int i = 0; i < n; i++) {
        types[i] = TEXTOID;
        nulls[i] = values[i] == NULL ? 'n' : ' ';
        args[i] = values[i] == NULL ? (Datum) 0 : CStringGetTextDatum(values[i]);
    }
    if (SPI_execute_with_args(sql, n, types, args, nulls, false, 0) < 0)
        elog(ERROR, "SPI failed: %s", sql);
    return SPI_processed;
}

uint64 slm_pg_change_registry(const char *sql, int n, const char *const *values)
{
    SlmAs saved;
    uint64 changed;

    begin_as_owner(&saved);
    changed = run_sql(sql, n, values);
    end_as_owner(&saved);
    slm_pg_registry_changed();
    CommandCounterIncrement();
    return changed;
}

Datum slm_pg_registry_row(const char *sql, const char *name)
{
    SlmAs saved;
    Datum row;
    bool isnull;

    begin_as_owner(&saved);
    if (run_sql(sql, 1, &name) != 1)
        elog(ERROR, "\"%s\" is not registered", name);
    row = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
    row = SPI_datumTransfer(row, false, -1);
    end_as_owner(&saved);
    return row;
}

void slm_pg_refuse_read_only(const char *function)
{
    PreventCommandIfReadOnly(function);
    PreventCommandDuringRecovery(function);
    PreventCommandIfParallelMode(function);
}

/* ---- loading */

Jsonb *slm_pg_no_options(void)
{
    return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
}

/* What slm_load_model adds to an SlmLoad. */
typedef struct FileLoad {
    SlmLoad load; /* first: SlmLoad * is FileLoad * */
    const char *given; /* the path as the caller wrote it */
    char *path;
    slm_import_options import; /* strings in UTF-8 */
    slm_warnings warnings;
    SlmSource *files;
    slm_seal seal;
    char sha256[65];
    bool stored; /* its image is to be rows as well */
} FileLoad;

static uint32 dimensions_of(const JsonbValue *value)
{
    int32 n = 0;
    bool good = value->type == jbvNumeric;

    if (good) {
        Datum number = DirectFunctionCall1(numeric_float8, NumericGetDatum(value->val.numeric));

        good = DatumGetFloat8(number) >= 1 && DatumGetFloat8(number) <= 65536 && DatumGetFloat8(number) == (int32) DatumGetFloat8(number);
        n = good ? (int32) DatumGetFloat8(number) : 0;
    }
    if (!good)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"dimensions\" must be a whole number from 1 to 65536"),
                        errhint("For example '{\"dimensions\": 256}'.")));
    return (uint32) n;
}

static void parse_options(FileLoad *file)
{
    JsonbIterator *it;
    JsonbIteratorToken token;
    JsonbValue value;
    char *key = NULL;

    if (!JB_ROOT_IS_OBJECT(file->load.options))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("options must be a JSON object"),
                        errhint("For example '{\"quantization\": \"Q8_0\"}'.")));
    it = JsonbIteratorInit(&file->load.options->root);
    while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE) {
        const char **option;

        if (token == WJB_KEY)
            key = pnstrdup(value.val.string.val, value.val.string.len);
        if (token != WJB_VALUE)
            continue;
        if (strcmp(key, "stored") == 0) {
            if (value.type != jbvBool)
                ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"stored\" must be true or false")));
            file->stored = value.val.boolean;
            continue;
        }
        if (strcmp(key, "dimensions") == 0) {
            file->import.dimensions = dimensions_of(&value);
            continue;
        }
        option = strcmp(key, "quantization") == 0  ? &file->import.quantization
                 : strcmp(key, "chat_format") == 0 ? &file->import.chat_format
                 : strcmp(key, "pre") == 0         ? &file->import.pre
                 : strcmp(key, "rope") == 0        ? &file->import.rope
                 : strcmp(key, "pooling") == 0     ? &file->import.pooling
                 : strcmp(key, "eos") == 0         ? &file->import.eos
                                                   : NULL;
        if (option == NULL)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown option \"%s\"", key),
                            errhint("The options are \"quantization\", \"chat_format\", \"pre\", \"rope\", \"pooling\", \"dimensions\", "
                                    "\"eos\" and \"stored\".")));
        if (value.type != jbvString || value.val.string.len == 0 || value.val.string.len > 31)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"%s\" must be a string of 1 to 31 bytes", key)));
        *option = slm_pg_utf8_from_cstring(pnstrdup(value.val.string.val, value.val.string.len));
    }
}

void slm_pg_load_key(SlmLoad *load, const char *sha256, const char *options)
{
    int n = snprintf(load->key, sizeof load->key, "%s-l1", sha256);

    load->sha256 = sha256;
    if (options != NULL) {
        uint8 digest[32];

        slm_pg_sha256(options, strlen(options), digest);
        load->key[n++] = '-';
        for (int i = 0; i < 8; i++, n += 2)
            snprintf(load->key + n, sizeof load->key - (size_t) n, "%02x", digest[i]);
    }
}

static void make_key(FileLoad *file)
{
    const slm_import_options *import = &file->import;
    const struct {
        const char *key, *value;
    } said[] = {{"rope", import->rope}, {"pooling", import->pooling}, {"eos", import->eos},
                {"dimensions", import->dimensions > 0 ? psprintf("%u", import->dimensions) : NULL}};
    char *canonical = NULL;

    if (import->quantization != NULL || import->chat_format != NULL)
        canonical = psprintf("%s\n%s", import->quantization ? import->quantization : "", import->chat_format ? import->chat_format : "");
    if (import->pre != NULL)
        canonical = psprintf("%s\npre=%s", canonical != NULL ? canonical : "", import->pre);
    for (size_t i = 0; i < lengthof(said); i++)
        if (said[i].value != NULL)
            canonical = psprintf("%s\n%s=%s", canonical != NULL ? canonical : "", said[i].key, said[i].value);
    slm_pg_load_key(&file->load, file->sha256, canonical);
}

/* One small request through the model: a text, the pair of texts that a cross-encoder reads, or a text beside a label. */
static slm_status probe_session(slm_session *session, const slm_model_info *info, slm_error *err)
{
    const slm_segment segments[2] = {{.role = SLM_ROLE_USER, .text = "Hello", .length = 5},
                                     {.role = SLM_ROLE_USER, .flags = SLM_SEG_JOIN, .text = "Hello", .length = 5}};
    static const char *const label = "Hello";
    slm_request request = {.mode = info->can_generate ? SLM_MODE_GENERATE : info->can_find ? SLM_MODE_SPANS
                                   : info->can_joint  ? SLM_MODE_JOINT
                                                      : SLM_MODE_EMBED,
                           .labels = &label,
                           .n_labels = 1,
                           .chat = info->can_generate,
                           .segments = segments,
                           .n_segments = info->can_rerank ? 2 : 1,
                           .sampling = {.top_p = 1, .repeat_penalty = 1},
                           .max_tokens = 4};
    const slm_result *result = NULL;
    slm_status status;
    uint64_t id;

    while ((status = slm_submit(session, &request, &id, err)) == SLM_CANCELLED)
        slm_pg_interrupted();
    while (status == SLM_OK && (result = slm_poll(session)) == NULL) {
        CHECK_FOR_INTERRUPTS();
        status = slm_step(session, NULL, err);
        if (status == SLM_CANCELLED) {
            slm_pg_interrupted();
            status = SLM_OK;
        }
    }
    if (result != NULL && result->status != SLM_OK) {
        *err = result->error;
        status = result->status;
    }
    return status;
}

typedef struct Probe {
    const char *image;
    slm_model *model;
    slm_session *session;
    slm_status status;
} Probe;

static pg_noinline void probe_work(Probe *p, slm_model_info *info, slm_error *err)
{
    slm_limits limits = {.kv_cache_bytes = slm_pg_kv_cache_bytes(), .n_threads = slm_pg_take_threads(), .stop = SLM_STOP,
                         .kv_type = slm_pg_kv_type()};

    p->status = slm_model_open(p->image, &p->model, err);
    if (p->status != SLM_OK)
        return;
    *info = *slm_model_get_info(p->model);
    limits.kv_cache_bytes = Max(limits.kv_cache_bytes, (size_t) info->kv_bytes_per_token * 256);
    p->status = slm_session_new(p->model, &limits, &p->session, err);
    if (p->status == SLM_OK)
        p->status = probe_session(p->session, info, err);
}

/* Opens the image and lets it answer.  Nothing stays open. */
slm_status slm_pg_load_probe_model(SlmLoad *load, const char *image, slm_error *err)
{
    Probe *p = palloc0(sizeof(Probe));

    p->image = image;
    PG_TRY();
    {
        probe_work(p, &load->info, err);
    }
    PG_FINALLY();
    {
        slm_session_free(p->session);
        slm_model_close(p->model);
        slm_pg_give_threads();
    }
    PG_END_TRY();
    return p->status;
}

static void load_error(const SlmLoad *load, const slm_error *err)
{
    slm_pg_error(err, psprintf("could not %s \"%s\"", load->verb, load->name));
}

static slm_status make_from_file(SlmLoad *load, const char *temporary, slm_error *err)
{
    FileLoad *file = (FileLoad *) load;
    const char *path = slm_pg_utf8_from_cstring(file->path);

    file->import.n_threads = slm_pg_take_threads();
    file->import.warnings = &file->warnings;
    return slm_import(path, temporary, &file->import, slm_pg_loading_report, NULL, SLM_STOP, &load->info, err);
}

static void file_made(SlmLoad *load)
{
    FileLoad *file = (FileLoad *) load;

    for (uint32 i = 0; i < Min(file->warnings.n, SLM_MAX_WARNINGS); i++)
        ereport(WARNING, (errmsg("model \"%s\": %s", load->name, slm_pg_cstring_from_utf8(file->warnings.warnings[i].message)),
                          errhint("%s", slm_pg_cstring_from_utf8(file->warnings.warnings[i].hint))));
}

static pg_noinline void make_work(SlmLoad *load, const char *temporary)
{
    slm_error err;
    slm_status status;

    slm_pg_loading_phase(load->phase);
    while ((status = load->make(load, temporary, &err)) == SLM_CANCELLED)
        slm_pg_loading_interrupted();
    slm_pg_give_threads();
    if (status == SLM_OK) {
        slm_pg_loading_phase("probing");
        status = load->probe(load, temporary, &err);
    }
    if (status != SLM_OK)
        load_error(load, &err);
    if (load->made != NULL)
        load->made(load);
    durable_rename(temporary, slm_pg_store_path(load->key, ".img"), ERROR);
}

/* Writes the image under a temporary name, probes it and renames it. */
static void make_image(SlmLoad *load)
{
    char *temporary = slm_pg_store_temporary(load->key);

    (void) unlink(temporary);
    PG_TRY();
    {
        make_work(load, temporary);
    }
    PG_CATCH();
    {
        (void) unlink(temporary);
        PG_RE_THROW();
    }
    PG_END_TRY();
}

/* Is the image of a model whole, weights included?  (Opening an adapter reads all of it.) */
static slm_status verify_image(const char *key, const char *name, slm_error *err)
{
    slm_model *model;
    slm_status status = slm_pg_open_image(key, name, &model, err);

    if (status != SLM_OK)
        return status;
    PG_TRY();
    {
        while ((status = slm_model_prewarm(model, slm_pg_loading_report, NULL, SLM_STOP, err)) == SLM_CANCELLED)
            slm_pg_loading_interrupted();
    }
    PG_FINALLY();
    {
        slm_model_close(model);
    }
    PG_END_TRY();
    return status;
}

/* Makes sure that the image is there and good, whoever made it. Holds the key's lock. */
static void ensure_image(SlmLoad *load)
{
    char *image = slm_pg_store_image(load->key);
    slm_error err;

    if (access(image, F_OK) == 0) {
        slm_pg_loading_phase("probing");
        if ((load->base != NULL || verify_image(load->key, load->name, &err) == SLM_OK) && load->probe(load, image, &err) == SLM_OK)
            return;
        if (err.status != SLM_FORMAT && err.status != SLM_IO && err.status != SLM_UNSUPPORTED)
            load_error(load, &err);
        ereport(NOTICE, (errmsg("the image of this file was damaged and is written again"),
                         errdetail("%s", slm_pg_cstring_from_utf8(err.message))));
    }
    make_image(load);
}

/* What the view shows of a model as arrays, as texts for string_to_array; NULL where there is nothing. */
static const char *list_of_languages(const slm_model_info *info)
{
    return info->languages[0] != '\0' ? slm_pg_cstring_from_utf8(info->languages) : NULL;
}

static const char *list_of_scripts(const slm_model_info *info)
{
    StringInfoData out;

    initStringInfo(&out);
    for (int i = 0; slm_script_name(i) != NULL; i++)
        if ((info->scripts >> i & 1) != 0)
            appendStringInfo(&out, "%s%s", out.len > 0 ? ", " : "", slm_script_name(i));
    return out.len > 0 ? out.data : NULL;
}

/* A label with the end of a line in it is shown with a space there. */
static const char *list_of_labels(const slm_model_info *info)
{
    StringInfoData out;
    const char *label = info->labels;

    if (!info->can_classify && !info->can_tag)
        return NULL;
    initStringInfo(&out);
    for (uint32 i = 0; i < info->n_labels; i++, label += strlen(label) + 1) {
        char *shown = pstrdup(slm_pg_cstring_from_utf8(label));

        for (char *c = shown; *c != '\0'; c++)
            if (*c == '\n')
                *c = ' ';
        appendStringInfo(&out, "%s%s", i > 0 ? "\n" : "", shown);
    }
    return out.len > 0 ? out.data : NULL;
}

static bool insert_row(const SlmLoad *load)
{
    const slm_model_info *info = &load->info;
    const char *values[] = {
        load->name,
        load->key,
        psprintf("%u", GetUserId()),
        load->source,
        load->sha256,
        JsonbToCString(NULL, &load->options->root, (int) VARSIZE(load->options)),
        slm_pg_cstring_from_utf8(info->family),
        info->name[0] == '\0' && load->title != NULL ? load->title : slm_pg_cstring_from_utf8(info->name),
        psprintf(UINT64_FORMAT, (uint64) info->n_parameters),
        slm_pg_cstring_from_utf8(info->quantization),
        psprintf("%u", info->n_context),
        psprintf("%u", info->n_vocab),
        psprintf("%u", info->n_embd),
        psprintf("%u", info->n_layers),
        info->licence[0] ? slm_pg_cstring_from_utf8(info->licence) : NULL,
        psprintf(UINT64_FORMAT, (uint64) info->image_bytes),
        info->chat_format[0] ? slm_pg_cstring_from_utf8(info->chat_format) : NULL,
        info->tokenizer[0] ? slm_pg_cstring_from_utf8(info->tokenizer) : NULL,
        info->can_generate ? "true" : "false",
        info->can_embed ? "true" : "false",
        info->can_rerank ? "true" : "false",
        psprintf("%u", info->kv_bytes_per_token),
        load->base,
        list_of_languages(info),
        list_of_scripts(info),
        info->pooling[0] ? slm_pg_cstring_from_utf8(info->pooling) : NULL,
        list_of_labels(info),
        info->recognized[0] ? slm_pg_cstring_from_utf8(info->recognized) : NULL,
        info->notes[0] ? slm_pg_cstring_from_utf8(info->notes) : NULL,
    };

    return slm_pg_change_registry("INSERT INTO slm.model_registry (name, image, owner, source, sha256, options, family, title, parameters,"
                                  " quantization, context_length, vocabulary, embedding_dimension, layers, licence, image_bytes, "
                                  "chat_format, tokenizer,"
                                  " can_generate, can_embed, can_rerank, kv_bytes_per_token, base, languages, scripts, pooling, labels, "
                                  "recognized, warnings)"
                                  " VALUES ($1, $2, $3::oid::regrole, $4, $5, $6::jsonb, $7, $8, $9::bigint, $10, $11::int, $12::int, "
                                  "$13::int,"
                                  " $14::int, $15, $16::bigint, $17, $18, $19::bool, $20::bool, $21::bool, $22::int, $23, "
                                  "string_to_array($24, ', '), string_to_array($25, ', '), $26, string_to_array($27, E'\\n'), $28, "
                                  "string_to_array($29, E'\\n'))"
                                  " ON CONFLICT (name) DO NOTHING",
                                  lengthof(values), values) == 1;
}

static pg_noreturn void name_taken(const char *name);

static void name_taken(const char *name)
{
    const SlmModelRow *row = slm_pg_find_model(name);
    const char *what = row != NULL && row->base[0] != '\0' ? "adapter" : "model";

    ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT), errmsg("%s \"%s\" already exists", what, name),
                    errhint("Choose another name, or drop it first: SELECT slm_drop_%s('%s');", what, name)));
    pg_unreachable();
}

/* Has the image of a row to be made again? */
static bool image_lost(const SlmModelRow *row)
{
    char *image = slm_pg_store_image(row->key);
    struct stat st;
    slm_error err;

    slm_status status;

    if (stat(image, &st) != 0)
        return errno == ENOENT;
    if (row->base[0] != '\0')
        return st.st_size != row->image_bytes;
    status = verify_image(row->key, row->name, &err);
    return status == SLM_FORMAT || status == SLM_UNSUPPORTED; /* the latter: of a later version */
}

/* Before any work: is the name free, or registered with an image that is missing or damaged?  Returns whether the row is there. */
bool slm_pg_name_registered(const char *name)
{
    const SlmModelRow *row = slm_pg_find_model(name);

    if (row == NULL)
        return false;
    if (row->key[0] == '\0' || (slm_pg_owns_model(row) ? !image_lost(row) : access(slm_pg_store_image(row->key), F_OK) == 0))
        name_taken(name);
    (void) slm_pg_owned_model(name);
    return true;
}

static void refuse_other_source(const SlmLoad *load, const SlmModelRow *row)
{
    const char *what = row->base[0] != '\0' ? "adapter" : "model";

    ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT),
                    errmsg("%s \"%s\" was registered from another file or with other options", what, load->name),
                    errdetail("Its image is missing or damaged and can only be made again from the same source, \"%s\".", row->source),
                    errhint("Load that file, or drop the %s first: SELECT slm_drop_%s('%s');", what, what, load->name)));
}

void slm_pg_load_refused(const SlmLoad *load, bool registered, const slm_error *err)
{
    const SlmModelRow *row = registered ? slm_pg_find_model(load->name) : NULL;

    if (row != NULL && (err->status == SLM_FORMAT || err->status == SLM_UNSUPPORTED || err->status == SLM_INVALID))
        refuse_other_source(load, row);
    load_error(load, err);
    pg_unreachable();
}

static void log_load(const SlmLoad *load, const char *done)
{
    slm_pg_log_change(load->base != NULL ? "adapter" : "model", load->name, psprintf("%s from \"%s\"", done, load->source));
}

void slm_pg_load_register(SlmLoad *load, bool registered)
{
    const SlmModelRow *row = registered ? slm_pg_find_model(load->name) : NULL;

    if (row != NULL && strcmp(row->key, load->key) != 0)
        refuse_other_source(load, row);
    slm_pg_store_lock(load->key);
    slm_pg_store_sweep();
    slm_pg_store_mark(load->key);
    ensure_image(load);
    if (row == NULL) {
        if (!insert_row(load))
            name_taken(load->name);
        slm_pg_forget_dropped_roles();
    }
    log_load(load, row == NULL ? "loaded" : "made again");
}

void slm_pg_load_replace(SlmLoad *load)
{
    const char *values[6];

    slm_pg_store_lock(load->key);
    slm_pg_store_sweep();
    slm_pg_store_mark(load->key);
    ensure_image(load);
    values[0] = load->name;
    values[1] = load->key;
    values[2] = load->sha256;
    values[3] = JsonbToCString(NULL, &load->options->root, (int) VARSIZE(load->options));
    values[4] = psprintf(UINT64_FORMAT, (uint64) load->info.n_parameters);
    values[5] = psprintf(UINT64_FORMAT, (uint64) load->info.image_bytes);
    if (slm_pg_change_registry("UPDATE slm.model_registry SET image = $2, sha256 = $3, options = $4::jsonb, parameters = $5::bigint,"
                               " image_bytes = $6::bigint, loaded_at = pg_catalog.now() WHERE name = $1 AND base IS NOT NULL",
                               lengthof(values), values) != 1)
        slm_pg_unknown_adapter(load->name);
    log_load(load, "loaded");
}

static void load_work(FileLoad *file, bool registered)
{
    uint64_t weights;
    slm_error err;

    slm_pg_loading_begin(file->load.name);
    slm_pg_check_source(file->path, file->given);
    file->files = slm_pg_source_list(file->path);
    if (slm_source_look(slm_pg_utf8_from_cstring(file->path), &weights, &err) != SLM_OK)
        slm_pg_load_refused(&file->load, registered, &err);
    slm_pg_source_check_size(file->files, file->path, weights);
    file->load.title = slm_pg_source_title(file->files, file->path);
    slm_pg_source_digest(file->files, file->sha256);
    file->seal = slm_pg_source_seal(file->files);
    file->import.seal = &file->seal;
    make_key(file);
    slm_pg_load_register(&file->load, registered);
    if (file->stored && !RecoveryInProgress())
        slm_pg_keep_image(file->load.key);
}

Datum slm_pg_load_model(PG_FUNCTION_ARGS)
{
    FileLoad file = {.load = {.verb = "load model", .phase = "importing", .make = make_from_file, .probe = slm_pg_load_probe_model,
                              .made = file_made}};
    bool registered;

    if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("name and path of a model must not be null")));
    slm_pg_check_may_load(fcinfo, "load a model from a file of the server", true);
    file.load.name = text_to_cstring(PG_GETARG_TEXT_PP(0));
    file.given = text_to_cstring(PG_GETARG_TEXT_PP(1));
    file.load.options = PG_ARGISNULL(2) ? slm_pg_no_options() : PG_GETARG_JSONB_P(2);
    slm_pg_check_name("model", file.load.name);
    parse_options(&file);
    file.load.source = file.path = slm_pg_server_path(file.given);
    registered = slm_pg_name_registered(file.load.name);
    if (registered) /* only the image is made, which a standby may do for itself */
        PreventCommandIfParallelMode("slm_load_model()");
    else
        slm_pg_refuse_read_only("slm_load_model()");
    slm_pg_store_make_directory();
    PG_TRY();
    {
        load_work(&file, registered);
    }
    PG_FINALLY();
    {
        slm_pg_source_close(file.files);
        slm_pg_loading_end();
    }
    PG_END_TRY();
    return slm_pg_registry_row("SELECT m FROM slm.models m WHERE m.name = $1", file.load.name);
}

/* ---- the others */

char *slm_pg_name_argument(FunctionCallInfo fcinfo, int i, const char *what)
{
    if (PG_ARGISNULL(i))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be null", what)));
    return text_to_cstring(PG_GETARG_TEXT_PP(i));
}

/* The images of a model and its adapters are locked, so that the end of the transaction notes their new names. */
static void note_names(const char *name)
{
    const SlmModelRow *row;
    List *keys = NIL;
    ListCell *lc;

    for (int i = 0; (row = slm_pg_nth_model(i)) != NULL; i++)
        if (row->key[0] != '\0' && strcmp(row->name, name) == 0)
            keys = lappend(keys, pstrdup(row->key));
    foreach (lc, keys)
        slm_pg_store_lock(lfirst(lc));
}

void slm_pg_drop_registered(SlmObject object, const char *name, bool cascade)
{
    char key[SLM_KEY_SIZE];
    const SlmModelRow *row = slm_pg_owned_model(name);

    strlcpy(key, row->key, sizeof key);
    if (key[0] != '\0')
        slm_pg_store_lock(key);
    (void) slm_pg_key_in_use(key); /* reads the rows anew: an adapter may have come while we waited */
    slm_pg_refuse_in_use(object, name, "drop",
                         psprintf("SELECT slm_drop_%s(%s, cascade => true);", object == SLM_ADAPTER ? "adapter" : "model",
                                  quote_literal_cstr(name)), cascade);
    (void) slm_pg_change_registry("DELETE FROM slm.model_grant WHERE name = $1", 1, &name);
    if (slm_pg_change_registry("DELETE FROM slm.model_registry WHERE name = $1", 1, &name) == 0)
        slm_pg_unknown_model(name);
    slm_pg_calibrations_dropped(name);
    slm_pg_forget_images();
    slm_pg_forget_dropped_roles();
    slm_pg_store_sweep();
    slm_pg_log_change(object == SLM_ADAPTER ? "adapter" : "model", name, "dropped");
}

void slm_pg_drop_adapters(const char *base)
{
    const SlmModelRow *row;
    List *keys = NIL;
    ListCell *cell;

    for (int i = 0; (row = slm_pg_nth_model(i)) != NULL; i++)
        if (strcmp(row->base, base) == 0 && row->key[0] != '\0')
            keys = lappend(keys, pstrdup(row->key));
    foreach (cell, keys)
        slm_pg_store_lock(lfirst(cell));
    (void) slm_pg_change_registry("DELETE FROM slm.model_grant g USING slm.model_registry m"
                                  " WHERE m.base = $1 AND g.name = m.name", 1, &base);
    (void) slm_pg_change_registry("DELETE FROM slm.model_registry WHERE base = $1", 1, &base);
}

Datum slm_pg_drop_model(PG_FUNCTION_ARGS)
{
    const char *name = slm_pg_name_argument(fcinfo, 0, "the name of a model");
    const SlmModelRow *row = slm_pg_find_model(name);

    slm_pg_refuse_read_only("slm_drop_model()");
    if (row != NULL && row->base[0] != '\0')
        slm_pg_unknown_model(name);
    slm_pg_drop_registered(SLM_MODEL, name, !PG_ARGISNULL(1) && PG_GETARG_BOOL(1));
    PG_RETURN_VOID();
}

Datum slm_pg_rename_model(PG_FUNCTION_ARGS)
{
    const char *values[2] = {slm_pg_name_argument(fcinfo, 0, "the name of a model"),
                             slm_pg_name_argument(fcinfo, 1, "the new name of a model")};
    bool adapter;

    slm_pg_refuse_read_only("slm_rename_model()");
    slm_pg_check_name("model", values[1]);
    adapter = slm_pg_owned_model(values[0])->base[0] != '\0';
    if (slm_pg_find_model(values[1]) != NULL)
        name_taken(values[1]);
    slm_pg_refuse_in_use(adapter ? SLM_ADAPTER : SLM_MODEL, values[0], "rename",
                         psprintf("SELECT slm_rename_model(%s, %s, cascade => true);", quote_literal_cstr(values[0]),
                                  quote_literal_cstr(values[1])), !PG_ARGISNULL(2) && PG_GETARG_BOOL(2));
    note_names(values[0]);
    if (slm_pg_change_registry("UPDATE slm.model_registry SET name = CASE name WHEN $1 THEN $2 ELSE name END,"
                               " base = CASE base WHEN $1 THEN $2 ELSE base END WHERE name = $1 OR base = $1", 2, values) == 0)
        slm_pg_unknown_model(values[0]);
    (void) slm_pg_change_registry("UPDATE slm.model_grant SET name = $2 WHERE name = $1", 2, values);
    slm_pg_calibrations_renamed(values[0], values[1]);
    slm_pg_forget_dropped_roles();
    slm_pg_log_change(adapter ? "adapter" : "model", values[0], psprintf("renamed to \"%s\"", values[1]));
    PG_RETURN_VOID();
}
