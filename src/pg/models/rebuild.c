/*
 * rebuild.c: opening the image of a model, which an earlier version may have written.
 *
 *   <stem>.img of an earlier layout ──lock of the key──► pgsql_tmp.<stem>.<pid>, fsync ──rename──► <stem>.img
 *
 * The image is written anew from itself (engine: slm_image_rebuild), by the first session that uses it; slm.model_status shows it at work
 * as it shows a load.  Key, name and answers stay, so no row changes: a standby does it for its own copy.  Others wait for the key's lock
 * and find it done.  Before the rename the old image is what there is: whatever happens until then, the next use begins again.
 */
#include "postgres.h"

#include "pg/models/rebuild.h"

#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/fd.h"
#include "storage/procarray.h"

#include "pg/base/encoding.h"
#include "pg/base/errors.h"
#include "pg/base/guc.h"
#include "pg/models/loading.h"
#include "pg/models/store.h"
#include "pg/models/store_files.h"

/* What rebuilding processes that crashed have left; the lock is held, but a parallel query's processes share it. */
static void remove_left(const char *key)
{
    char stem[SLM_STEM_SIZE];
    List *files;
    ListCell *lc;

    slm_pg_store_stem(key, stem);
    files = slm_pg_store_list(stem);
    foreach (lc, files == NIL ? NIL : ((SlmStoreFiles *) linitial(files))->temporaries) {
        const char *name = lfirst(lc);
        uint32 pid = slm_pg_store_number(name, psprintf(SLM_TEMPORARY "%s.", stem), INT_MAX);

        if ((int) pid == MyProcPid || BackendPidGetProc((int) pid) == NULL)
            (void) unlink(slm_pg_store_file(name));
    }
}

static pg_noreturn void not_rebuilt(const char *name, const char *path, const slm_error *err)
{
    struct stat st;
    int64 bytes = stat(path, &st) == 0 ? (int64) st.st_size : 0;

    ereport(ERROR, (errcode(slm_pg_sqlstate(err)),
                    errmsg("could not rebuild the image of model \"%s\", which an earlier version has written", name),
                    errdetail("%s", slm_pg_cstring_from_utf8(err->message)),
                    errhint("The operating system user of the server must be able to write to slm.model_directory (\"%s\"), and needs "
                            INT64_FORMAT " MB there.", slm_guc_model_directory, bytes / 1000000 + 1)));
    pg_unreachable();
}

/* Holds the lock.  What is wrong with the image itself is the caller's to tell. */
static slm_status rebuild(const char *key, const char *name, const char *path, slm_error *err)
{
    char *temporary = slm_pg_store_temporary(key);
    slm_status status;

    remove_left(key);
    slm_pg_loading_phase("rebuilding");
    while ((status = slm_image_rebuild(path, temporary, slm_pg_loading_report, NULL, SLM_STOP, err)) == SLM_CANCELLED)
        slm_pg_loading_interrupted();
    if (status != SLM_OK) {
        if (err->os_error != 0)
            not_rebuilt(name, path, err);
        return status;
    }
    if (rename(temporary, path) != 0) {
        slm_fail_os(err, errno, "cannot rename a file of the directory");
        (void) unlink(temporary);
        not_rebuilt(name, path, err);
    }
    fsync_fname(slm_pg_store_directory(), true);
    return SLM_OK;
}

slm_status slm_pg_open_image(const char *key, const char *name, slm_model **model, slm_error *err)
{
    char *path = slm_pg_store_image(key);
    bool loading = slm_pg_loading_running();
    slm_status status = slm_model_open(path, model, err);

    if (status != SLM_UNSUPPORTED || err->hint_code != SLM_HINT_OLD_IMAGE)
        return status;
    slm_pg_store_hold(key);
    if (!loading)
        slm_pg_loading_begin(name);
    PG_TRY();
    {
        status = slm_model_open(path, model, err); /* somebody may have done it while we waited */
        if (status == SLM_UNSUPPORTED && err->hint_code == SLM_HINT_OLD_IMAGE)
            status = rebuild(key, name, path, err);
        else if (status == SLM_OK)
            slm_model_close(*model);
    }
    PG_FINALLY();
    {
        if (!loading)
            slm_pg_loading_end();
    }
    PG_END_TRY();
    slm_pg_store_release(key);
    return status == SLM_OK ? slm_model_open(path, model, err) : status;
}
