/*
 * ledger_file.h: the ledger on disk (ledger_file.c).
 */
#ifndef SLM_PG_LEDGER_FILE_H
#define SLM_PG_LEDGER_FILE_H

#include "postgres.h"

#include "pg/run/ledger.h"

/* A row of the file. */
typedef struct SlmLedgerRow {
    SlmLedgerKey key;
    SlmLedgerFigures figures;
} SlmLedgerRow;

/* Hands each row of the file to put; false, and a LOG line, where it cannot be read: then nothing was put. */
bool slm_pg_ledger_file_read(void (*put)(const SlmLedgerRow *row), TimestampTz *reset_at);
/* Writes the rows beside the file and puts them in its place; false, and a LOG line, where that fails. */
bool slm_pg_ledger_file_write(const SlmLedgerRow *rows, int n, TimestampTz reset_at);

#endif
