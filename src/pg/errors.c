/*
 * errors.c: engine status to SQLSTATE, in one table, and the answer to an interrupt.
 *
 *   NOMEM 53200   IO 58030 (disk full: 53100)   FORMAT 22P03   UNSUPPORTED 0A000   INVALID 22023   LIMIT 54000
 *   CANCELLED 57014   INTERNAL XX000; where the text is at fault: empty 2200F, no text 22000
 *
 * The engine's words are UTF-8 and already cleaned of control characters; a hint of the engine wins over the table's.
 */
#include "pg/row_error.h"

#include <string.h>

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

static bool is_disk_full(const slm_error *err)
{
    return err->status == SLM_IO && (strstr(err->message, strerror(ENOSPC)) != NULL || strstr(err->message, strerror(EDQUOT)) != NULL ||
                                     strstr(err->message, strerror(EFBIG)) != NULL);
}

int slm_pg_sqlstate(const slm_error *err)
{
    if ((unsigned) err->status >= lengthof(status_table))
        return ERRCODE_INTERNAL_ERROR;
    if (err->cause == SLM_CAUSE_EMPTY)
        return ERRCODE_ZERO_LENGTH_CHARACTER_STRING;
    if (err->cause == SLM_CAUSE_BAD_TEXT)
        return ERRCODE_DATA_EXCEPTION;
    return is_disk_full(err) ? ERRCODE_DISK_FULL : status_table[err->status].sqlstate;
}

void slm_pg_error(const slm_error *err, const char *what)
{
    char *message = slm_pg_cstring_from_utf8(err->message);
    static const char budget[] = "Raise the KV cache budget";
    char *hint = NULL;

    if (strncmp(err->hint, budget, strlen(budget)) == 0) /* the engine does not know what it is called here */
        hint = psprintf("Raise slm.kv_cache_memory%s", slm_pg_cstring_from_utf8(err->hint + strlen(budget)));
    else if (err->hint[0] != '\0')
        hint = slm_pg_cstring_from_utf8(err->hint);
    else if (is_disk_full(err))
        hint = "Free space on the disk that holds slm.model_directory, or move that directory.";
    else if ((unsigned) err->status < lengthof(status_table) && status_table[err->status].hint != NULL)
        hint = pstrdup(status_table[err->status].hint);
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
