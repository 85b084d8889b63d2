/*
 * Fine-tunings in the background: rows of slm.tune_job.
 *
 *   tune.c        a turn of a worker: reads the rows once, trains until a checkpoint is due, and keeps what was learned at the end
 *   tune_file.c   checkpoints: one file each in slm.model_directory
 *   tune_admin.c  the functions of users
 *
 * Everything that an owner wrote (query, options) runs as he, in a security-restricted operation; the table is the extension's.
 *
 * Invariant: what a training ends with is a function of the rows that were read when it began (slm.tune_job.rows), options, memory and
 * base alone.  A checkpoint only saves time: it is bound to all of these by a digest, and one that is missing, damaged or of another
 * training is passed over.  So a turn that is cut off anywhere leaves the job as its last checkpoint has it.
 */
#ifndef SLM_PG_JOBS_TUNE_H
#define SLM_PG_JOBS_TUNE_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* What the worker's slots call it: row jobs have the numbers from 1 on. */
#define SLM_TUNE_SLOT(id) (-(id))

/* ---- tune.c */
typedef enum SlmTuneDue { SLM_TUNE_NONE, SLM_TUNE_LATER, SLM_TUNE_NOW } SlmTuneDue;
/* The fine-tuning that has waited longest, of those that may run; for LATER *due is lowered to when one is.  Needs SPI, acting as the
 * extension. */
SlmTuneDue slm_pg_tune_next(int32 *id, char *activity, Size size, TimestampTz *due);
/* Counts a turn before it begins, in a transaction of its own; false: it ends the server again and again, and was paused.  Needs SPI,
 * acting as the extension. */
bool slm_pg_tune_claim(int32 id);
/* A turn, in the current transaction; wanted: has other work come?  The name of a checkpoint that is to be removed after commit, NULL. */
char *slm_pg_tune_turn(int32 id, const volatile bool *wanted);
/* Notes what ended a turn (NULL: a cancel), after its transaction was undone. Needs SPI, acting as the extension. */
void slm_pg_tune_failed(int32 id, const char *error, int seconds);

/* ---- tune_file.c */
#define SLM_TUNE_DIGEST 65 /* what a checkpoint belongs to, in hex */
char *slm_pg_tune_file(int32 id);
void slm_pg_tune_write(int32 id, const char *digest, const void *data, Size bytes);
/* NULL, and why, where there is none that is whole and of this digest. */
char *slm_pg_tune_read(int32 id, const char *digest, Size *bytes, const char **reason);
void slm_pg_tune_remove(const char *file);

#endif
