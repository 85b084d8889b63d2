/*
 * Triggers and background jobs.
 *
 *   statement ──► job_enqueue (enqueue.c) ──► slm.job_queue ──► claim ──► batch (run.c) ──► target column
 *                 keys only, in the writer's transaction         │          one transaction: compute, write, note, dequeue
 *                                                                └ one transaction: counts the try, so that a row that ends
 *                                                                  the server is found out
 *   definition.c reads slm.job_definition, keys.c says how keys are written; queue.c takes rows and keeps what failed; compute.c evaluates
 *   and writes as the tables' owners; worker.c runs all this in the background, launcher.c starts and wakes workers; create.c, alter.c
 *   and control.c are the functions of users.
 *
 * Invariants: a batch locks its queue rows, computes, writes, notes slm.job_done and deletes the queue rows in ONE transaction, so a
 * crash at any moment leaves everything as it was and the rows pending; a row counts as running only while its worker holds an
 * advisory lock.  The queue is append-only for writers: none ever waits for a row that is being computed, and no row of the target is
 * locked before all rows of the batch have been computed; rows that others hold locked are left for later.
 *
 * Rights: the tables of jobs belong to the extension and are read and written as its owner, by statements that call nothing of a user.
 * Whatever a user wrote runs as somebody else: the expression and all code of the source table as the source's owner, all code of the
 * target as the target's owner, each only while the job's owner may SET ROLE to him.  So an expression never has rights that its job's
 * owner has not, and a table's triggers, checks, casts and policies never have rights that the table's owner has not.
 */
#ifndef SLM_PG_JOBS_H
#define SLM_PG_JOBS_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/rel.h"

/* A key column of a table, as the table is now. */
typedef struct SlmJobKey {
    char *name;   /* of the column */
    char *column; /* quoted */
    Oid type_oid;
    char *type;                   /* as in a cast */
    char *equal, *less, *greater; /* the type's own operators, with their schema: OPERATOR(pg_catalog.=) */
    bool simple;                  /* of a built-in type whose jsonb form needs no setting */
} SlmJobKey;

typedef struct SlmJobKeys {
    SlmJobKey *list;
    int n; /* 0: the table has lost its primary key, or the target one of its columns */
} SlmJobKeys;

/* A row of slm.job_definition. Strings live in the context of the caller of slm_pg_job_read. */
typedef struct SlmJob {
    int32 id;
    char *name;
    Oid owner;                      /* InvalidOid: he was dropped, the job is disabled */
    Oid source, target;
    Oid source_owner, target_owner;
    char *source_name, *target_name; /* quoted and qualified; NULL when the table was dropped */
    char *target_column;             /* quoted */
    bool has_target_column;          /* it exists */
    SlmJobKeys keys, target_keys;    /* of the source's primary key, and the columns of the same names in the target */
    List *input_columns;             /* of char *, quoted; those that exist, or all but those that jobs fill when one does not */
    bool whole_row;                  /* the expression reads the row as a whole, or no column: all but those that jobs fill are inputs */
    List *followers;                 /* of int: this job and those that read what it writes, by the column's name, however indirectly */
    char *expression, *search_path, *settings;
    int32 version, batch_size, max_attempts;
    bool overwrite, newest_first, backfill_done, paused;
} SlmJob;

/* ---- definition.c: needs SPI */
/* Reads a job as the extension; NULL when there is none. lock: FOR KEY SHARE, so that it is not dropped meanwhile, and its tables are
 * locked and read; else, for writers, the source only.  A worker does not wait for who is changing the job: ERROR (55P03). */
SlmJob *slm_pg_job_read(int32 id, bool lock);
/* ERROR unless the tables, the columns and the owner of a job are there. */
void slm_pg_job_check_parts(const SlmJob *job);
/* ERROR (42501) unless a job's owner may act as the owners of its tables. */
void slm_pg_job_check_rights(const SlmJob *job);
void slm_pg_job_check_right(const char *job, Oid owner, Oid table);
/* The owner of a table; InvalidOid when it was dropped. */
Oid slm_pg_job_table_owner(Oid table);
/* Quoted and qualified: the job's search_path may know another table by the same name. NULL when it was dropped. */
char *slm_pg_job_table_name(Oid table);
/* The primary key of a table; without one, the columns of these names (List of char *), n = 0 when one is missing. */
void slm_pg_job_read_keys(SlmJobKeys *keys, Relation table, const List *names);
/* The columns of these names in a table; n = 0 when one is missing. */
void slm_pg_job_read_columns(SlmJobKeys *keys, Relation table, const SlmJobKeys *names);
bool slm_pg_job_owner_exists(Oid owner);
/* Runs a query through SPI; ERROR unless the result code is `expected`. */
void slm_pg_spi(const char *query, int expected);
void slm_pg_spi_with(const char *query, int n, const Oid *types, const Datum *values, const char *nulls, int expected);
/* ERROR unless the columns of the SPI result are of these types: under a user's search_path a statement need not mean what it says. */
void slm_pg_job_check_types(int n, const Oid *types);
/* Column of a row of the SPI result, which has been checked or is checked here; (Datum) 0 for null. */
Datum slm_pg_job_value(uint64 row, int column);
Datum slm_pg_job_datum(int column, Oid type);

/* ---- keys.c: parts of statements, all with the schema of every function, operator and type */
/* "pg_catalog.jsonb_build_array(prefix.key1, pg_catalog.concat(prefix.key2))": a row's key. */
char *slm_pg_job_key(const SlmJobKeys *keys, const char *prefix);
/* "table.key1 OPERATOR(pg_catalog.=) (key ->> 0)::type1 AND ...". */
char *slm_pg_job_key_condition(const SlmJobKeys *keys, const char *table, const char *key);
/* "(key ->> 0)::type1, ...". */
char *slm_pg_job_key_values(const SlmJobKeys *keys, const char *key);
/* "key1, key2", each with the prefix ("t." or "") and the suffix (" DESC" or ""). */
char *slm_pg_job_key_columns(const SlmJobKeys *keys, const char *prefix, const char *suffix);
/* The row's key comes after (or, less, before) the given one, in the order of the key. */
char *slm_pg_job_key_beyond(const SlmJobKeys *keys, const char *table, const char *key, bool less);
/* The hash of a row's inputs, and of its value in the target: NULL for a NULL. They call output functions of types, never a cast. */
char *slm_pg_job_input_hash(const SlmJob *job, const char *prefix);
char *slm_pg_job_value_hash(const SlmJob *job, const char *prefix);
/* Settings on which the text of a value depends; in a level made by NewGUCNestLevel. */
void slm_pg_job_text_settings(void);

/* A row's key in C, as slm_pg_job_key() writes it: what a writer's triggers note. Lives in the context in which it was made. */
typedef struct SlmKeyWriter SlmKeyWriter;
/* `table` has the key columns by name, perhaps under other numbers than the job's source. */
SlmKeyWriter *slm_pg_key_writer(const SlmJobKeys *keys, TupleDesc table);
Datum slm_pg_write_key(SlmKeyWriter *writer, const Datum *values, const bool *nulls); /* values of the whole row; jsonb */
/* Do two rows have the same key, in its stored bytes? */
bool slm_pg_same_key(const SlmKeyWriter *writer, const Datum *a, const Datum *b);

/* ---- queue.c, run.c and control.c: inside the current transaction */
/* Takes the next due rows, noting that they are tried: bigint[] of queue ids, (Datum) 0 when none is due. To be committed. */
Datum slm_pg_job_claim(int32 id);
/* Computes claimed rows; ids (Datum) 0: queues existing rows instead. Returns how many rows it looked at. */
int slm_pg_job_run(int32 id, Datum ids);
/* Gives claimed rows back: they were not at fault, the try does not count. */
void slm_pg_job_give_back(int32 id, Datum ids);
/* A job whose owner was dropped is nobody's for good, so that it never becomes that of a new role with the same number. Needs SPI, acting
 * as the extension. */
void slm_pg_job_disown(int32 id);

/* Defines settings, shared memory and the launcher. Called once from _PG_init. */
void slm_pg_jobs_init(void);

#endif
