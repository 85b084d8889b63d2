/*
 * Status codes and error messages of the engine.
 *
 * Every call that can fail returns an slm_status and takes an slm_error as its last argument.  Outputs
 * are set only on SLM_OK.  The values are pinned: they appear in logs and in the table that maps them to
 * SQLSTATE (src/pg/errors.c).  Nothing in the engine aborts, exits or prints.
 */
#ifndef SLM_BASE_STATUS_H
#define SLM_BASE_STATUS_H

typedef enum slm_status {
    SLM_OK = 0,
    SLM_NOMEM = 1,       /* an allocation failed */
    SLM_IO = 2,          /* open, read, write, map failed; message and os_error hold the system's reason */
    SLM_FORMAT = 3,      /* a file breaks its own format: truncated, out of range, inconsistent */
    SLM_UNSUPPORTED = 4, /* a well-formed file asks for what this build cannot do */
    SLM_INVALID = 5,     /* an argument is wrong */
    SLM_LIMIT = 6,       /* a bound was reached: context, memory budget, number of labels */
    SLM_CANCELLED = 7,   /* the stop flag was seen; the call may be repeated */
    SLM_INTERNAL = 8     /* a broken invariant: a bug */
} slm_status;

/* Is a text that the caller was given at fault, and how?  Another text would have been taken. */
typedef enum slm_cause {
    SLM_CAUSE_NONE = 0, /* not the text: an argument, a file, the machine */
    SLM_CAUSE_LONG = 1,
    SLM_CAUSE_EMPTY = 2,
    SLM_CAUSE_BAD_TEXT = 3, /* bytes that are no text, or a number that is none */
    SLM_CAUSE_POISON = 4 /* the process that computed it has died of it, twice */
} slm_cause;

/* Hints that a caller who has other names for things may want to say in its own words. */
typedef enum slm_hint_code {
    SLM_HINT_OTHER = 0,
    SLM_HINT_KV_BUDGET = 1, /* slm_limits.kv_cache_bytes is too small for any request */
    SLM_HINT_KV_REQUEST = 2, /* ... for this one */
    SLM_HINT_OLD_IMAGE = 3 /* of an earlier layout, which slm_model_rebuild can write anew */
} slm_hint_code;

/* What went wrong, for people.  hint may be empty.  Both are valid UTF-8 and NUL-terminated. */
typedef struct slm_error {
    slm_status status;
    int os_error; /* the system's errno where that was the reason; else 0 */
    slm_cause cause;
    slm_hint_code hint_code;
    char message[400];
    char hint[300];
} slm_error;

/* Sets *err (when not NULL) from printf arguments and returns status, so that a caller can write
 * `return slm_fail(err, SLM_FORMAT, "...")`.  Bytes of a file that go into a message are cleaned to
 * printable UTF-8.  Clears the hint and the cause. */
slm_status slm_fail(slm_error *err, slm_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* What the system refused: appends its reason for os_error (an errno).  Returns NOMEM for ENOMEM, else IO. */
slm_status slm_fail_os(slm_error *err, int os_error, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Adds a hint to an error that slm_fail has just set; returns err->status (SLM_INTERNAL if err is NULL). */
slm_status slm_hint(slm_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Says that the text is at fault, of an error that slm_fail has just set (err may be NULL).  SLM_CAUSE_BAD_TEXT with the status LIMIT is
 * SLM_CAUSE_LONG; errors of the machine stay without a cause. */
void slm_blame(slm_error *err, slm_cause cause);

/* Cleans a NUL-terminated text in place: control characters and bytes that are no valid UTF-8 become '?'. */
void slm_clean_text(char *text);

/* Forwards any status but SLM_OK. */
#define SLM_TRY(call)                                                                                       \
    do {                                                                                                    \
        slm_status try_status_ = (call);                                                                    \
        if (try_status_ != SLM_OK)                                                                          \
            return try_status_;                                                                             \
    } while (0)

#endif
