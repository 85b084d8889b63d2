/*
 * joint.h: labels beside a text, by a model that was trained to read them together (GLiClass, decision models): one pass for all of them,
 * and an output for each.
 */
#ifndef SLM_PG_JOINT_H
#define SLM_PG_JOINT_H

#include "postgres.h"

#include "pg/functions/labels.h"
#include "pg/functions/reading.h"
#include "pg/run/opened.h"
#include "pg/run/work.h"

/* Has the model such a head? */
bool slm_pg_can_joint(const SlmOpenModel *entry);

/* For begin: reads a text, in UTF-8 as the labels, beside all of them, and says where it is longer than the model reads; of a text in
 * windows a label has the output of the one that speaks for it most.  instruction: what stands before the text, or NULL.  ERROR where the
 * labels leave no room for a text.  alone: fits are asked for, each by itself.  Filled when the work is done. */
SlmWeighed *slm_pg_read_joint(SlmWork *work, SlmText text, const char *instruction, const SlmLabels *labels, bool alone);

/* The method of a model whose head reads a text beside the labels or sentences of a call: "joint", "entailment"; NULL: it has none. */
const char *slm_pg_beside_method(const SlmOpenModel *entry);

#endif
