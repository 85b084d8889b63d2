/*
 * stored.c: slm_store_model and slm_export_model: an image as rows of the database, or as a file for another server.
 *
 *   <stem>.img ──pieces of 1 MiB──► slm.image_part (image, part, bytes) ──WAL, dump, pg_upgrade──► another server
 *   first use there: rows ──lock of the key──► pgsql_tmp.<stem>.<pid>, checksums, fsync ──rename──► <stem>.img
 *
 * The rows are the extension's own, read by a scan and never by a query: a standby and a parallel query's processes can do it too.  What
 * comes out of them is believed no more than any other file: sizes, and the image's checksums, before it gets its name.
 */
#include "postgres.h"

#include "pg/models/stored.h"

#include <fcntl.h>
#include <unistd.h>

#include "access/genam.h"
#include "access/table.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#include "engine/slm.h"
#include "pg/base/as_owner.h"
#include "pg/base/compat.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/base/errors.h"
#include "pg/base/paths.h"
#include "pg/models/load.h"
#include "pg/models/loading.h"
#include "pg/models/rebuild.h"
#include "pg/models/store.h"
#include "pg/models/store_files.h"

#define PART_BYTES (1 << 20)

PG_FUNCTION_INFO_V1(slm_pg_store_model);
PG_FUNCTION_INFO_V1(slm_pg_export_model);

/* ---- an image from rows */

static pg_noreturn void part_missing(const char *name, int part)
{
    ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("the stored image of \"%s\" is not whole", name),
                    errdetail("Its part %d is missing or has another size than parts have.", part),
                    errhint("Load the model from its source; SELECT slm_store_model(%s); then stores it anew.", quote_literal_cstr(name))));
    pg_unreachable();
}

/* Begins a scan for one part. */
static SysScanDesc find_part(Relation rel, Oid index, const char *key, int part)
{
    ScanKeyData keys[2];

    ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(key));
    ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(part));
    return systable_beginscan(rel, index, true, NULL, 2, keys);
}

/* One part in a copy, or NULL. */
static bytea *read_part(Relation rel, Oid index, const char *key, int part)
{
    SysScanDesc scan = find_part(rel, index, key, part);
    HeapTuple tuple = systable_getnext(scan);
    bytea *bytes = NULL;
    bool isnull = true;
    Datum value = HeapTupleIsValid(tuple) ? heap_getattr(tuple, 3, RelationGetDescr(rel), &isnull) : (Datum) 0;

    if (!isnull)
        bytes = (bytea *) PG_DETOAST_DATUM_COPY(value);
    systable_endscan(scan);
    return bytes;
}

/* Without reading its bytes. */
static bool has_parts(Relation rel, Oid index, const char *key)
{
    SysScanDesc scan = find_part(rel, index, key, 0);
    bool found = HeapTupleIsValid(systable_getnext(scan));

    systable_endscan(scan);
    return found;
}

/* All parts into an open file; the bytes that were written. */
static uint64 write_parts(Relation rel, Oid index, const char *key, const char *name, int fd, const char *shown)
{
    MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "slm image part", ALLOCSET_DEFAULT_SIZES), before;
    uint64 total = 0;
    bool last = false;

    before = MemoryContextSwitchTo(context);
    for (int part = 0;; part++) {
        bytea *bytes;
        size_t n;

        CHECK_FOR_INTERRUPTS();
        MemoryContextReset(context);
        bytes = read_part(rel, index, key, part);
        if (bytes == NULL)
            break;
        n = VARSIZE(bytes) - VARHDRSZ;
        if (last || n == 0 || n > PART_BYTES)
            part_missing(name, part);
        last = n < PART_BYTES;
        slm_pg_store_write(fd, VARDATA(bytes), n, shown);
        total += n;
        slm_pg_loading_report(NULL, total, total);
    }
    MemoryContextSwitchTo(before);
    MemoryContextDelete(context);
    return total;
}

/* Are header, sizes and checksums those of an image?  An adapter's are checked when it is opened with its model. */
static void check_whole(const char *temporary, const char *name, bool adapter)
{
    slm_model *model;
    slm_error err;
    slm_status status;

    if (adapter)
        return;
    status = slm_model_open(temporary, &model, &err);
    if (status == SLM_UNSUPPORTED && err.hint_code == SLM_HINT_OLD_IMAGE) /* rebuilding checks it */
        return;
    if (status == SLM_OK) {
        while ((status = slm_model_prewarm(model, slm_pg_loading_report, NULL, SLM_STOP, &err)) == SLM_CANCELLED)
            slm_pg_loading_interrupted();
        slm_model_close(model);
    }
    if (status != SLM_OK)
        slm_pg_error(&err, psprintf("could not use the stored image of \"%s\"", name));
}

static bool restore(Relation rel, Oid index, const char *key, const char *name, bool adapter)
{
    char *temporary = slm_pg_store_temporary(key), *path = slm_pg_store_path(key, ".img");
    int fd;
    uint64 bytes;

    (void) unlink(temporary);
    fd = OpenTransientFilePerm(temporary, O_RDWR | O_CREAT | O_EXCL | PG_BINARY, S_IRUSR | S_IWUSR);
    if (fd < 0)
        ereport(ERROR, (errcode_for_file_access(), errmsg("could not create \"%s\": %m", slm_pg_store_shown(temporary))));
    bytes = write_parts(rel, index, key, name, fd, slm_pg_store_shown(temporary));
    if (bytes > 0 && pg_fsync(fd) != 0)
        ereport(ERROR, (errcode_for_file_access(), errmsg("could not fsync \"%s\": %m", slm_pg_store_shown(temporary))));
    CloseTransientFile(fd);
    if (bytes == 0) {
        (void) unlink(temporary);
        return false;
    }
    check_whole(temporary, name, adapter);
    durable_rename(temporary, path, ERROR);
    ereport(LOG, (errmsg("slm_pg: the image of model \"%s\" was made from what is stored with the data", name)));
    return true;
}

/* Under the lock of the key. */
static bool restore_locked(Relation rel, Oid index, const char *key, const char *name, bool adapter)
{
    char *temporary = slm_pg_store_temporary(key);
    bool done;

    if (access(slm_pg_store_image(key), F_OK) == 0) /* somebody did it while we waited */
        return true;
    slm_pg_loading_phase("restoring");
    PG_TRY();
    {
        done = restore(rel, index, key, name, adapter);
    }
    PG_CATCH();
    {
        (void) unlink(temporary);
        PG_RE_THROW();
    }
    PG_END_TRY();
    return done;
}

bool slm_pg_restore_image(const char *key, const char *name)
{
    Oid table = slm_pg_extension_relation("image_part"), index;
    const SlmModelRow *row = slm_pg_find_model(name);
    bool adapter = row != NULL && row->base[0] != '\0', loading = slm_pg_loading_running(), done;
    Relation rel;

    if (!OidIsValid(table))
        return false;
    rel = table_open(table, AccessShareLock);
    index = slm_primary_key_index(rel);
    if (!OidIsValid(index) || !has_parts(rel, index, key)) {
        table_close(rel, AccessShareLock);
        return false;
    }
    slm_pg_store_make_directory();
    slm_pg_store_hold(key);
    if (!loading)
        slm_pg_loading_begin(name);
    PG_TRY();
    {
        done = restore_locked(rel, index, key, name, adapter);
    }
    PG_FINALLY();
    {
        if (!loading)
            slm_pg_loading_end();
    }
    PG_END_TRY();
    slm_pg_store_release(key);
    table_close(rel, AccessShareLock);
    return done;
}

/* ---- rows from an image */

static void run(const char *sql, int n, Oid *types, Datum *values)
{
    if (SPI_execute_with_args(sql, n, types, values, NULL, false, 0) < 0)
        elog(ERROR, "SPI failed: %s", sql);
}

static void insert_parts(int fd, const char *key, const char *shown)
{
    Oid types[3] = {TEXTOID, INT4OID, BYTEAOID};
    bytea *bytes = palloc(PART_BYTES + VARHDRSZ);
    Datum values[3] = {CStringGetTextDatum(key), 0, PointerGetDatum(bytes)};

    for (int part = 0;; part++) {
        size_t n = 0;
        ssize_t got = 1;

        CHECK_FOR_INTERRUPTS();
        while (n < PART_BYTES && got != 0) {
            got = read(fd, VARDATA(bytes) + n, PART_BYTES - n);
            if (got < 0 && errno != EINTR)
                ereport(ERROR, (errcode_for_file_access(), errmsg("could not read \"%s\": %m", shown)));
            n += got > 0 ? (size_t) got : 0;
        }
        if (n == 0)
            break;
        SET_VARSIZE(bytes, n + VARHDRSZ);
        values[1] = Int32GetDatum(part);
        run("INSERT INTO slm.image_part (image, part, bytes) VALUES ($1, $2, $3)", 3, types, values);
    }
    pfree(bytes);
}

void slm_pg_keep_image(const char *key)
{
    char *path;
    Oid type = TEXTOID;
    Datum value = CStringGetTextDatum(key);
    SlmAs saved;
    int fd;

    slm_pg_store_lock(key);
    path = slm_pg_store_image(key);
    fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);
    if (fd < 0)
        ereport(ERROR, (errcode_for_file_access(), errmsg("could not open \"%s\": %m", slm_pg_store_shown(path))));
    slm_pg_as_extension(&saved);
    SPI_connect();
    run("DELETE FROM slm.image_part WHERE image = $1", 1, &type, &value);
    insert_parts(fd, key, slm_pg_store_shown(path));
    SPI_finish();
    slm_pg_as_end(&saved);
    CloseTransientFile(fd);
}

void slm_pg_forget_images(void)
{
    SlmAs saved;

    slm_pg_as_extension(&saved);
    SPI_connect();
    run("DELETE FROM slm.image_part p\n"
        "WHERE NOT EXISTS (SELECT FROM slm.model_registry m WHERE m.image = p.image)", 0, NULL, NULL);
    SPI_finish();
    slm_pg_as_end(&saved);
}

/* The key of a model or adapter that the caller owns and whose image is here. */
static char *own_key(const char *name)
{
    const SlmModelRow *row = slm_pg_owned_model(name);
    char *key = pstrdup(row->key);

    if (key[0] == '\0')
        elog(ERROR, "the row of \"%s\" names no image", name);
    if (access(slm_pg_store_image(key), F_OK) != 0 && !slm_pg_restore_image(key, name))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FILE), errmsg("the image of \"%s\" is not on this server", name),
                        errhint("Load it again from its source first.")));
    return key;
}

Datum slm_pg_store_model(PG_FUNCTION_ARGS)
{
    char *name = slm_pg_name_argument(fcinfo, 0, "the name of a model"), *key;
    Oid type = TEXTOID;
    Datum value;
    SlmAs saved;

    slm_pg_refuse_read_only("slm_store_model()");
    if (PG_ARGISNULL(1) || PG_GETARG_BOOL(1)) {
        key = own_key(name);
        slm_pg_keep_image(key);
        PG_RETURN_VOID();
    }
    key = pstrdup(slm_pg_owned_model(name)->key);
    slm_pg_store_lock(key);
    value = CStringGetTextDatum(key);
    slm_pg_as_extension(&saved);
    SPI_connect();
    run("DELETE FROM slm.image_part WHERE image = $1", 1, &type, &value);
    SPI_finish();
    slm_pg_as_end(&saved);
    PG_RETURN_VOID();
}

/* ---- a file for another server */

static void copy_file(int from, int to, const char *from_shown, const char *to_shown)
{
    char *buffer = palloc(PART_BYTES);
    ssize_t n;

    for (;;) {
        CHECK_FOR_INTERRUPTS();
        n = read(from, buffer, PART_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            ereport(ERROR, (errcode_for_file_access(), errmsg("could not read \"%s\": %m", from_shown)));
        if (n == 0)
            break;
        slm_pg_store_write(to, buffer, (size_t) n, to_shown);
    }
    if (pg_fsync(to) != 0)
        ereport(ERROR, (errcode_for_file_access(), errmsg("could not fsync \"%s\": %m", to_shown)));
    pfree(buffer);
}

static void export(const char *key, const char *path)
{
    char *image = slm_pg_store_image(key);
    bool exists;
    int from, to;

    from = OpenTransientFile(image, O_RDONLY | PG_BINARY);
    if (from < 0)
        ereport(ERROR, (errcode_for_file_access(), errmsg("could not open \"%s\": %m", slm_pg_store_shown(image))));
    to = OpenTransientFilePerm(path, O_RDWR | O_CREAT | O_EXCL | PG_BINARY, S_IRUSR | S_IWUSR | S_IRGRP | S_IROTH);
    exists = to < 0 && errno == EEXIST;
    if (to < 0)
        ereport(ERROR, (errcode_for_file_access(), errmsg("could not create \"%s\": %m", path),
                        errhint(exists ? "Nothing is overwritten: remove the file, or name another."
                                       : "The server writes it: name a folder that is there, and that its operating system user may write "
                                         "into.")));
    PG_TRY();
    {
        copy_file(from, to, slm_pg_store_shown(image), path);
    }
    PG_CATCH();
    {
        (void) unlink(path);
        PG_RE_THROW();
    }
    PG_END_TRY();
    CloseTransientFile(to);
    CloseTransientFile(from);
}

Datum slm_pg_export_model(PG_FUNCTION_ARGS)
{
    char *name = slm_pg_name_argument(fcinfo, 0, "the name of a model"), *path, *key;

    if (!has_privs_of_role(GetUserId(), ROLE_PG_WRITE_SERVER_FILES))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied to write a file of the server"),
                        errhint("Only a superuser or a member of pg_write_server_files may.")));
    if (PG_ARGISNULL(1))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the path must not be null")));
    path = text_to_cstring(PG_GETARG_TEXT_PP(1));
    canonicalize_path(path);
    if (!is_absolute_path(path))
        ereport(ERROR, (errcode(ERRCODE_INVALID_NAME), errmsg("\"%s\" is not an absolute path of the server", path),
                        errhint("For example '/var/backups/%s.slm'.", name)));
    if (slm_pg_owned_model(name)->base[0] != '\0')
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is an adapter", name),
                        errhint("Export its model; an adapter is loaded from its own source.")));
    key = own_key(name);
    export(key, path);
    PG_RETURN_INT64(slm_pg_owned_model(name)->image_bytes);
}
