/*
 * init.c: what happens when the library is loaded, in a backend on first use, or in the postmaster by shared_preload_libraries.
 *
 * Nothing here or in the engine starts a thread in the postmaster.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/guc.h"

#include "pg/base/compat.h"
#include "pg/base/guc.h"
#include "pg/base/row_count.h"
#include "pg/base/row_error.h"
#include "pg/base/shmem.h"
#include "pg/base/threads.h"
#include "pg/batch/batch.h"
#include "pg/functions/kinds.h"
#include "pg/functions/prompts.h"
#include "pg/functions/prototypes.h"
#include "pg/jobs/jobs.h"
#include "pg/jobs/workers.h"
#include "pg/models/catalog.h"
#include "pg/models/store.h"
#include "pg/run/backend.h"
#include "pg/run/backends.h"
#include "pg/run/budget.h"
#include "pg/run/engine.h"
#include "pg/run/ledger.h"
#include "pg/run/memory.h"
#include "pg/run/progress.h"
#include "pg/run/work.h"

SLM_PG_MAGIC(SLM_VERSION);

void _PG_init(void);

static const SlmShmemPart *const shared_parts[] = {&slm_pg_threads_part, &slm_pg_row_count_part, &slm_pg_backends_part,
                                                   &slm_pg_progress_part, &slm_pg_waited_part, &slm_pg_ledger_part, &slm_pg_budget_part,
                                                   &slm_pg_jobs_part, &slm_pg_engine_part};

void _PG_init(void)
{
    slm_pg_define_gucs(slm_pg_memory_lowered);
    slm_pg_budget_init();
    slm_pg_ledger_init(); /* before the shared memory: how much of it is a setting */
    slm_pg_shmem_init(shared_parts, lengthof(shared_parts));
    slm_pg_threads_init();
    slm_pg_row_error_init();
    slm_pg_catalog_init(slm_pg_close_unused);
    slm_pg_memory_init(slm_pg_forget_prototypes); /* before the sessions: its end of a transaction comes after theirs */
    slm_pg_sessions_init();
    slm_pg_engine_init();
    slm_pg_store_init();
    slm_pg_work_init(slm_pg_kinds, slm_pg_n_kinds);
    slm_pg_prompts_init();
    slm_pg_batch_init();
    slm_pg_jobs_init();
    MarkGUCPrefixReserved("slm"); /* last: what is not defined by now is a mistake in the configuration */
}
