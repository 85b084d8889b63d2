/*
 * constraints.h: what an answer may be, compiled for a model and kept for the calls that follow (constraints.c).
 */
#ifndef SLM_PG_CONSTRAINTS_H
#define SLM_PG_CONSTRAINTS_H

#include "postgres.h"

#include "engine/slm.h"
#include "pg/run/opened.h"

/* Compiles text (UTF-8), or finds what the current role has compiled before; raises what is wrong with it.  Good until the next call of
 * this function: a request that has been submitted keeps its own reference. */
slm_constraint *slm_pg_constraint(SlmOpenModel *opened, slm_constraint_kind kind, const char *text);
/* What such a one was compiled from: "0:...", its kind and its text; palloc'ed. */
char *slm_pg_constraint_words(const slm_constraint *constraint);
/* Forgets those of a model that is closed; NULL: all. */
void slm_pg_forget_constraints(const slm_model *model);

#endif
