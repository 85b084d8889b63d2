/*
 * errors.c: engine status to SQLSTATE, in one table, and the answer to an interrupt.
 *
 *   NOMEM 53200   IO 58030   FORMAT 22P03   UNSUPPORTED 0A000   INVALID 22023   LIMIT 54000   CANCELLED 57014   INTERNAL XX000
 *   where the system was the reason, by its errno: disk full 53100, no such file 58P01, no permission 42501, ...
 *   where the text is at fault: empty 2200F, no text 22000
 *   where the engine process has died of it, twice: SLM01
 *
 * The engine's words are UTF-8 and already cleaned of control characters; a hint of the engine wins over the table's.
 */
#include "pg/base/errors.h"

#include <string.h>

#include "miscadmin.h"

#include "engine/slm.h"
#include "pg/base/encoding.h"
#include "pg/base/guc.h"
#include "pg/base/row_error.h"

static const struct {
    int sqlstate;
    const char *hint;
} status_table[] = {
    [SLM_OK] = {ERRCODE_INTERNAL_ERROR, NULL},
    [SLM_NOMEM] = {ERRCODE_OUT_OF_MEMORY, "Lower slm.kv_cache_memory, use a smaller model, or give the server more memory."},
    [SLM_IO] = {ERRCODE_IO_ERROR, "Check that the file exists and that the operating system user of the server may read it."},
    [SLM_FORMAT] = {ERRCODE_INVALID_BINARY_REPRESENTATION,
                    "The file is damaged, incomplete or no model: compare its checksum with the publisher's and fetch it again."},
    [SLM_UNSUPPORTED] = {ERRCODE_FEATURE_NOT_SUPPORTED, "docs/MODELS.md lists the supported model families, tokenizers and weight types."},
    [SLM_INVALID] = {ERRCODE_INVALID_PARAMETER_VALUE, NULL},
    [SLM_LIMIT] = {ERRCODE_PROGRAM_LIMIT_EXCEEDED, NULL},
    [SLM_CANCELLED] = {ERRCODE_QUERY_CANCELED, NULL},
    [SLM_INTERNAL] = {ERRCODE_INTERNAL_ERROR, "This is a bug in slm_pg; please report it with the statement that shows it."},
};

static const char disk_full_hint[] = "Free space on the disk that holds slm.model_directory, or move that directory.";

/* As errcode_for_file_access(), which calls what it does not know an internal error. */
static int os_sqlstate(int os_error)
{
    switch (os_error) {
    case ENOENT:
        return ERRCODE_UNDEFINED_FILE;
    case EEXIST:
        return ERRCODE_DUPLICATE_FILE;
    case EACCES:
    case EPERM:
    case EROFS:
        return ERRCODE_INSUFFICIENT_PRIVILEGE;
    case ENAMETOOLONG:
        return MAKE_SQLSTATE('5', '8', 'P', '0', '3'); /* ERRCODE_FILE_NAME_TOO_LONG of PostgreSQL 17 */
    case ENOTDIR:
    case EISDIR:
    case ELOOP:
    case ENODEV:
    case ENXIO:
        return ERRCODE_WRONG_OBJECT_TYPE;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return ERRCODE_DISK_FULL;
    case ENOMEM:
        return ERRCODE_OUT_OF_MEMORY;
    case EMFILE:
    case ENFILE:
    case EAGAIN:
        return ERRCODE_INSUFFICIENT_RESOURCES;
    case EOVERFLOW:
        return ERRCODE_PROGRAM_LIMIT_EXCEEDED;
    case EBUSY:
    case ETXTBSY:
        return ERRCODE_OBJECT_IN_USE;
    default:
        return ERRCODE_IO_ERROR;
    }
}

/* NULL: there is nothing to add to the reason. */
static const char *os_hint(int os_error)
{
    switch (os_sqlstate(os_error)) {
    case ERRCODE_UNDEFINED_FILE:
        return "The path is one of the server, seen by the server: a relative one begins at the data directory.";
    case ERRCODE_INSUFFICIENT_PRIVILEGE:
        return "The operating system user of the server must be allowed to read the file and to enter every directory above it: copy it "
               "to a place where it is.";
    case ERRCODE_DISK_FULL:
        return disk_full_hint;
    case ERRCODE_OUT_OF_MEMORY:
        return status_table[SLM_NOMEM].hint;
    case ERRCODE_INSUFFICIENT_RESOURCES:
        return "Raise the server's limit of open files, or lower max_files_per_process.";
    case ERRCODE_IO_ERROR:
        return "The disk or the file system reports an error: the system's log may say more.";
    default:
        return NULL;
    }
}

void slm_pg_file_error(int os_error, const char *what)
{
    const char *hint = os_hint(os_error);

    errno = os_error;
    ereport(ERROR, (errcode(os_sqlstate(os_error)), errmsg("%s: %m", what), hint != NULL ? errhint("%s", hint) : 0));
    pg_unreachable();
}

int slm_pg_sqlstate(const slm_error *err)
{
    if ((unsigned) err->status >= lengthof(status_table))
        return ERRCODE_INTERNAL_ERROR;
    if (err->cause == SLM_CAUSE_EMPTY)
        return ERRCODE_ZERO_LENGTH_CHARACTER_STRING;
    if (err->cause == SLM_CAUSE_BAD_TEXT)
        return ERRCODE_DATA_EXCEPTION;
    if (err->cause == SLM_CAUSE_POISON)
        return SLM_ERRCODE_POISON;
    return err->os_error != 0 ? os_sqlstate(err->os_error) : status_table[err->status].sqlstate;
}

static const char *hint_of(const slm_error *err)
{
    bool halved = slm_pg_kv_type() == SLM_KV_Q8;

    if (err->hint_code == SLM_HINT_KV_BUDGET) /* the engine does not know what it is called here */
        return halved ? "Raise slm.kv_cache_memory." : "Raise slm.kv_cache_memory, or halve what is needed: SET slm.kv_type = q8.";
    if (err->hint_code == SLM_HINT_KV_REQUEST)
        return halved ? "Raise slm.kv_cache_memory, shorten the prompt, or ask for fewer tokens."
                      : "Raise slm.kv_cache_memory, halve what is needed (SET slm.kv_type = q8), shorten the prompt, or ask for fewer "
                        "tokens.";
    if (err->hint[0] != '\0')
        return slm_pg_cstring_from_utf8(err->hint);
    if (err->os_error != 0)
        return os_hint(err->os_error);
    return (unsigned) err->status < lengthof(status_table) ? status_table[err->status].hint : NULL;
}

void slm_pg_error(const slm_error *err, const char *what)
{
    const char *message = slm_pg_cstring_from_utf8(err->message), *hint = hint_of(err);

    ereport(ERROR, (slm_pg_input_error(slm_pg_fault_of(err->cause)), errcode(slm_pg_sqlstate(err)),
                    what != NULL ? errmsg("%s: %s", what, message) : errmsg("%s", message),
                    hint != NULL ? errhint("%s", hint) : 0));
}

void slm_pg_interrupted(void)
{
    CHECK_FOR_INTERRUPTS();
    if (InterruptPending && (InterruptHoldoffCount > 0 || QueryCancelHoldoffCount > 0 || CritSectionCount > 0))
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("a model cannot run while the server holds off interrupts and one is pending")));
}
