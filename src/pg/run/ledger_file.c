/*
 * ledger_file.c: the ledger on disk, pg_stat/slm_pg_usage below the data directory (ledger_file.h).
 *
 *   | head: magic, version, figures, their names, rows, reset | rows: key, figures | CRC-32C of all before |
 *
 * It is written beside the old one, flushed, and renamed, so that a crash leaves one of the two.  Figures are read by their names: a
 * release that has others reads those that it knows.
 *
 * A file is hostile: its size must be what its head says, texts must end within their fields and be texts, days and figures be in bounds.
 * One that is not as it should be is put aside, under the name slm_pg_usage.damaged, and a LOG line says so.
 */
#include "pg/run/ledger_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"
#include "utils/memutils.h"

#define FILE_NAME PGSTAT_STAT_PERMANENT_DIRECTORY "/slm_pg_usage"
#define MAGIC "SLMUSAGE"
#define VERSION 1
#define NAME_BYTES 32
#define MAX_FIGURES 64
#define MAX_ROWS 50000
#define MAX_DAY 365000 /* a thousand years on */

typedef struct Head {
    char magic[8];
    uint32 version, n_figures, n_rows, unused;
    int64 reset_at;
} Head;

typedef char FigureName[NAME_BYTES];

/* ---- writing */

typedef struct Writer {
    FILE *file;
    pg_crc32c crc;
    bool failed;
} Writer;

static void put(Writer *w, const void *data, size_t bytes)
{
    COMP_CRC32C(w->crc, data, bytes);
    w->failed = w->failed || fwrite(data, 1, bytes, w->file) != bytes;
}

static void put_all(Writer *w, const SlmLedgerRow *rows, int n, TimestampTz reset_at)
{
    Head head = {.version = VERSION, .n_figures = SLM_LEDGER_N_FIGURES, .n_rows = (uint32) n, .reset_at = reset_at};
    pg_crc32c crc;

    memcpy(head.magic, MAGIC, sizeof head.magic);
    INIT_CRC32C(w->crc);
    put(w, &head, sizeof head);
    for (size_t i = 0; i < SLM_LEDGER_N_FIGURES; i++) {
        FigureName name = {0};

        strlcpy(name, slm_pg_ledger_figure(i), sizeof name);
        put(w, name, sizeof name);
    }
    for (int i = 0; i < n; i++) {
        put(w, &rows[i].key, sizeof rows[i].key);
        put(w, &rows[i].figures, sizeof rows[i].figures);
    }
    crc = w->crc;
    FIN_CRC32C(crc);
    put(w, &crc, sizeof crc);
}

bool slm_pg_ledger_file_write(const SlmLedgerRow *rows, int n, TimestampTz reset_at)
{
    char temporary[MAXPGPATH];
    Writer w = {0};

    snprintf(temporary, sizeof temporary, "%s.%d", FILE_NAME, MyProcPid);
    w.file = AllocateFile(temporary, PG_BINARY_W);
    if (w.file != NULL) {
        put_all(&w, rows, n, reset_at);
        w.failed = FreeFile(w.file) != 0 || w.failed;
    }
    if (w.file == NULL || w.failed) {
        ereport(LOG, (errcode_for_file_access(), errmsg("could not write file \"%s\": %m", temporary)));
        (void) unlink(temporary);
        return false;
    }
    return durable_rename(temporary, FILE_NAME, LOG) == 0; /* flushes the file, then its name */
}

/* ---- reading */

typedef struct Reader {
    const char *at, *end;
} Reader;

static bool get(Reader *r, void *out, size_t bytes)
{
    if ((size_t) (r->end - r->at) < bytes)
        return false;
    memcpy(out, r->at, bytes);
    r->at += bytes;
    return true;
}

/* Ends in its field, nothing follows the end, and no byte is one that could not be shown. */
static bool is_text(const char *text, size_t room)
{
    size_t n = strnlen(text, room);

    for (size_t i = 0; i < n; i++)
        if ((unsigned char) text[i] < ' ' || (unsigned char) text[i] == 0x7f)
            return false;
    for (size_t i = n; i < room; i++)
        if (text[i] != '\0')
            return false;
    return n < room;
}

/* figures[i] of the file is number to[i] of ours, -1: not known here. */
static bool read_names(Reader *r, uint32 n, int to[MAX_FIGURES])
{
    for (uint32 i = 0; i < n; i++) {
        FigureName name;

        if (!get(r, name, sizeof name) || !is_text(name, sizeof name))
            return false;
        to[i] = -1;
        for (size_t k = 0; k < SLM_LEDGER_N_FIGURES; k++)
            if (strcmp(name, slm_pg_ledger_figure(k)) == 0)
                to[i] = (int) k;
    }
    return true;
}

static bool read_row(Reader *r, uint32 n_figures, const int to[MAX_FIGURES], SlmLedgerRow *row)
{
    SlmLedgerKey *key = &row->key;
    uint64 *figures = (uint64 *) &row->figures, value;

    memset(row, 0, sizeof *row);
    if (!get(r, key, sizeof *key) || key->unused != 0 || key->day < 0 || key->day > MAX_DAY ||
        !is_text(key->application, sizeof key->application) || !is_text(key->function, sizeof key->function) ||
        !is_text(key->model, sizeof key->model))
        return false;
    for (uint32 i = 0; i < n_figures; i++) {
        if (!get(r, &value, sizeof value) || value > PG_INT64_MAX / 2)
            return false;
        if (to[i] >= 0)
            figures[to[i]] = value;
    }
    return true;
}

/* Twice: the first time everything is only looked at. */
static bool read_all(const char *data, size_t bytes, void (*hand_over)(const SlmLedgerRow *row), TimestampTz *reset_at)
{
    Reader r = {data, data + bytes};
    Head head;
    pg_crc32c crc, stored;
    int to[MAX_FIGURES];

    if (!get(&r, &head, sizeof head) || memcmp(head.magic, MAGIC, sizeof head.magic) != 0 || head.version != VERSION ||
        head.n_figures > MAX_FIGURES || head.n_rows > MAX_ROWS || head.unused != 0)
        return false;
    if (bytes != sizeof head + (size_t) head.n_figures * NAME_BYTES +
                     (size_t) head.n_rows * (sizeof(SlmLedgerKey) + head.n_figures * sizeof(uint64)) + sizeof crc)
        return false;
    INIT_CRC32C(crc);
    COMP_CRC32C(crc, data, bytes - sizeof crc);
    FIN_CRC32C(crc);
    memcpy(&stored, data + bytes - sizeof crc, sizeof stored);
    if (!EQ_CRC32C(crc, stored) || !IS_VALID_TIMESTAMP(head.reset_at) || !read_names(&r, head.n_figures, to))
        return false;
    for (uint32 i = 0; i < head.n_rows; i++) {
        SlmLedgerRow row;

        if (!read_row(&r, head.n_figures, to, &row))
            return false;
        if (hand_over != NULL)
            hand_over(&row);
    }
    *reset_at = head.reset_at;
    return true;
}

/* The file's bytes, malloc'ed; NULL: there is none, or *damaged. */
static char *read_file(size_t *bytes, bool *damaged)
{
    FILE *file = AllocateFile(FILE_NAME, PG_BINARY_R);
    struct stat st;
    char *data = NULL;

    *damaged = false;
    if (file == NULL) {
        if (errno != ENOENT)
            ereport(LOG, (errcode_for_file_access(), errmsg("could not open file \"%s\": %m", FILE_NAME)));
        return NULL;
    }
    if (fstat(fileno(file), &st) == 0 && st.st_size > 0 && st.st_size < (off_t) MaxAllocSize)
        data = malloc((size_t) st.st_size);
    *bytes = data == NULL ? 0 : (size_t) st.st_size;
    *damaged = data == NULL || fread(data, 1, *bytes, file) != *bytes;
    (void) FreeFile(file);
    return data;
}

bool slm_pg_ledger_file_read(void (*hand_over)(const SlmLedgerRow *row), TimestampTz *reset_at)
{
    bool damaged;
    size_t bytes;
    char *data = read_file(&bytes, &damaged);

    if (data == NULL && !damaged)
        return false;
    damaged = damaged || !read_all(data, bytes, NULL, reset_at) || !read_all(data, bytes, hand_over, reset_at);
    free(data);
    if (!damaged)
        return true;
    ereport(LOG, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("file \"%s\" is damaged or of another release: usage is counted from now on",
                                                          FILE_NAME),
                  errdetail("It is kept as \"%s.damaged\".", FILE_NAME)));
    (void) durable_rename(FILE_NAME, FILE_NAME ".damaged", LOG);
    return false;
}
