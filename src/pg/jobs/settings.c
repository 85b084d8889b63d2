/*
 * The settings of workers: when they may work, and what holds in their sessions.
 *
 * A worker is a session of the bootstrap superuser in databases that others own.  ALTER DATABASE ... SET and ALTER ROLE ... SET, which the
 * server applies to any session, are undone as soon as it has connected, role included: what the cluster's configuration says holds.
 */
#include "pg/jobs/settings.h"

#include <stdlib.h>
#include <time.h>

#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
#include "utils/memutils.h"

#include "pg/base/compat.h"
#include "pg/base/guc.h"
#include "pg/jobs/deadline.h"

static int job_threads = 1;
static double job_max_load = 0;
static char *job_window = "";

/* ---------------------------------------------------------------- when */

/* Minutes since midnight of "hh:mm", or -1. */
static int parse_minutes(const char *text, const char **end)
{
    char *rest;
    long hours = strtol(text, &rest, 10), minutes;

    if (rest == text || *rest != ':' || hours < 0 || hours > 24)
        return -1;
    minutes = strtol(rest + 1, &rest, 10);
    if (minutes < 0 || minutes > 59 || hours * 60 + minutes > 24 * 60)
        return -1;
    *end = rest;
    return (int) (hours * 60 + minutes);
}

static bool parse_window(const char *text, int *from, int *to)
{
    const char *end;

    *from = *to = 0;
    if (text == NULL || text[0] == '\0')
        return true;
    if ((*from = parse_minutes(text, &end)) < 0 || *end != '-')
        return false;
    return (*to = parse_minutes(end + 1, &end)) >= 0 && *end == '\0' && *from != *to;
}

static bool check_window(char **value, void **extra, GucSource source)
{
    int from, to;

    if (parse_window(*value, &from, &to))
        return true;
    GUC_check_errdetail("A window is written \"hh:mm-hh:mm\", such as \"22:00-06:00\", or empty for always.");
    return false;
}

bool slm_pg_job_may_work(void)
{
    int from, to, now;
    pg_time_t clock = (pg_time_t) time(NULL);
    struct pg_tm *local = pg_localtime(&clock, log_timezone);
    double load;

    (void) parse_window(job_window, &from, &to);
    now = local->tm_hour * 60 + local->tm_min;
    if (from < to ? now < from || now >= to : from > to && now < from && now >= to)
        return false;
    return job_max_load <= 0 || getloadavg(&load, 1) != 1 || load <= job_max_load;
}

/* ---------------------------------------------------------------- the session */

typedef struct Setting {
    char *name, *value;
} Setting;

static List *remembered; /* of Setting: what the cluster says */

void slm_pg_job_remember_settings(void)
{
    MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
    int n;
    struct config_generic **variables = SLM_GUC_VARIABLES(&n);

    for (int i = 0; i < n; i++) {
        Setting *setting = palloc(sizeof *setting);
        const char *value = GetConfigOption(variables[i]->name, true, false);

        setting->name = pstrdup(variables[i]->name);
        setting->value = pstrdup(value == NULL ? "" : value);
        remembered = lappend(remembered, setting);
    }
    MemoryContextSwitchTo(old);
}

/* "" for a setting that the cluster does not know. */
static const char *cluster_value(const char *name)
{
    ListCell *cell;

    foreach (cell, remembered)
        if (strcmp(((Setting *) lfirst(cell))->name, name) == 0)
            return ((Setting *) lfirst(cell))->value;
    return "";
}

void slm_pg_job_restore_settings(void)
{
    int n;
    struct config_generic **variables = SLM_GUC_VARIABLES(&n);

    if (GetSessionUserId() != GetAuthenticatedUserId())
        SetSessionAuthorization(GetAuthenticatedUserId(), true);
    SetConfigOption("role", "none", PGC_SUSET, PGC_S_SESSION);
    for (int i = 0; i < n; i++) {
        const struct config_generic *v = variables[i];

        if (v->source >= PGC_S_GLOBAL && v->source <= PGC_S_DATABASE_USER && (v->context == PGC_USERSET || v->context == PGC_SUSET) &&
            strcmp(v->name, "role") != 0 && strcmp(v->name, "session_authorization") != 0)
            SetConfigOption(v->name, cluster_value(v->name), PGC_SUSET, PGC_S_SESSION);
    }
    slm_pg_job_worker_session();
}

void slm_pg_job_worker_session(void)
{
    static const char *const fixed[][2] = {{"application_name", "slm job worker"}, {"search_path", "pg_catalog, pg_temp"},
                                           {"default_transaction_isolation", "read committed"}, {"default_transaction_read_only", "off"},
                                           {"default_transaction_deferrable", "off"}, {"lock_timeout", "0"}, {"row_security", "on"}};

    SetConfigOption("slm.threads", psprintf("%d", job_threads), PGC_USERSET, PGC_S_SESSION);
    slm_guc_threads_limit = job_threads; /* also of what an expression sets */
    slm_guc_kv_cache_limit_kb = atoi(GetConfigOption("slm.kv_cache_memory", false, false));
    for (int i = 0; i < (int) lengthof(fixed); i++)
        SetConfigOption(fixed[i][0], fixed[i][1], PGC_USERSET, PGC_S_SESSION);
}

void slm_pg_job_worker_settings(void)
{
    DefineCustomIntVariable("slm.job_threads", "Threads that a job worker may use.",
                            "0 means all. Workers run at lower priority than sessions.",
                            &job_threads, 1, 0, 1024, PGC_SIGHUP, 0, NULL, NULL, NULL);
    DefineCustomRealVariable("slm.job_max_load", "Jobs pause while the machine's one-minute load average is above this.", "0 means never.",
                             &job_max_load, 0, 0, 10000, PGC_SIGHUP, 0, NULL, NULL, NULL);
    DefineCustomStringVariable("slm.job_window", "The hours at which jobs may work, in log_timezone, such as 22:00-06:00.",
                               "Empty means always.",
                               &job_window, "", PGC_SIGHUP, 0, check_window, NULL, NULL);
    slm_pg_deadline_settings();
}
