/*
 * tuning.h: what this CPU likes best, measured once and kept (tuning.c).
 */
#ifndef SLM_PG_TUNING_H
#define SLM_PG_TUNING_H

/* Before weights are read: takes what is kept for this CPU, or measures it (some 30 ms) and keeps it.  Once a process. */
void slm_pg_tune(void);

#endif
