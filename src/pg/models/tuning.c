/*
 * tuning.c: the file "tuning" of the image directory, one line for each CPU model that the directory was used on:
 *
 *   <ahead> <GB/s> <name of the CPU>
 *
 * What it says decides how weights are fetched, never what is computed, so the file needs no lock and no flush: it is written under
 * another name and renamed, the last one wins, and a lost line is measured again.  What is read is believed only when it is a line
 * that this code can have written; everything else is as if it were not there.  Where the file cannot be written nothing is measured,
 * for every new session would do so anew.
 */
#include "postgres.h"

#include "pg/models/tuning.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/fd.h"

#include "engine/slm.h"
#include "pg/models/store.h"
#include "pg/models/store_files.h"

#define FILE_NAME "tuning"
#define MAX_BYTES 8192

/* The file's text; empty when there is none. */
static char *read_all(void)
{
    char *text = palloc(MAX_BYTES + 1);
    int fd = BasicOpenFile(slm_pg_store_file(FILE_NAME), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | PG_BINARY);
    struct stat st;
    ssize_t n = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? read(fd, text, MAX_BYTES) : 0;

    if (fd >= 0)
        close(fd);
    text[Max(n, 0)] = '\0';
    return text;
}

/* A line as write_file makes it? */
static bool parse_line(const char *line, size_t length, slm_tuning *tuning, const char **cpu)
{
    char copy[256];
    int skip = 0;

    if (length >= sizeof copy)
        return false;
    memcpy(copy, line, length);
    copy[length] = '\0';
    if (strlen(copy) != length || sscanf(copy, "%5u %9f %n", &tuning->ahead, &tuning->gigabytes_per_second, &skip) != 2 || skip == 0)
        return false;
    *cpu = line + skip;
    return tuning->ahead <= 65536 && tuning->gigabytes_per_second > 0 && tuning->gigabytes_per_second < 1e6f; /* no NaN */
}

/* The last line of this CPU. */
static bool find(const char *text, const char *name, slm_tuning *out)
{
    bool found = false;
    const char *end;

    for (const char *line = text; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        slm_tuning tuning;
        const char *cpu;

        if (parse_line(line, (size_t) (end - line), &tuning, &cpu) && (size_t) (end - cpu) == strlen(name) &&
            memcmp(cpu, name, strlen(name)) == 0) {
            *out = tuning;
            found = true;
        }
    }
    return found;
}

/* What the file had and can be read of it, and our line. */
static void write_file(int fd, const char *text, const char *name, const slm_tuning *tuning)
{
    StringInfoData out;
    const char *end;

    initStringInfo(&out);
    for (const char *line = text; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        slm_tuning other;
        const char *cpu;

        if (parse_line(line, (size_t) (end - line), &other, &cpu) && out.len < MAX_BYTES / 2)
            appendBinaryStringInfo(&out, line, (int) (end - line) + 1);
    }
    appendStringInfo(&out, "%u %.1f %s\n", tuning->ahead, tuning->gigabytes_per_second, name);
    if (write(fd, out.data, (size_t) out.len) != out.len)
        ereport(DEBUG1, (errmsg_internal("the file \"" FILE_NAME "\" was not written whole")));
}

static void measure(const char *text, const char *name)
{
    char *temporary = slm_pg_store_file(psprintf(SLM_TEMPORARY FILE_NAME ".%d", MyProcPid));
    slm_tuning tuning;
    int fd;

    (void) unlink(temporary); /* of a process of this number that crashed */
    fd = slm_pg_store_create(temporary);
    if (fd < 0)
        return;
    if (slm_tune(&tuning, NULL) == SLM_OK) {
        slm_tuning_set(&tuning);
        write_file(fd, text, name, &tuning);
    }
    close(fd);
    if (rename(temporary, slm_pg_store_file(FILE_NAME)) != 0)
        (void) unlink(temporary);
}

void slm_pg_tune(void)
{
    static bool done;
    char name[128];
    slm_tuning tuning;
    const char *text;

    if (done)
        return;
    done = true;
    slm_cpu_name(name, sizeof name);
    text = read_all();
    if (find(text, name, &tuning))
        slm_tuning_set(&tuning);
    else
        measure(text, name);
}
