/*
 * entailment.h: whether a text entails a sentence, by a model that was trained on natural language inference: its head tells
 * "entailment" from "contradiction" (and "neutral"), or from "not_entailment".
 *
 * Such a model reads text and sentence together, so a label or a condition becomes a sentence (a hypothesis), and each is read beside the
 * text: as many passes as there are sentences.
 */
#ifndef SLM_PG_ENTAILMENT_H
#define SLM_PG_ENTAILMENT_H

#include "postgres.h"

#include "pg/functions/labels.h"
#include "pg/functions/reading.h"
#include "pg/run/opened.h"
#include "pg/run/work.h"

/* Does the model have such a head? */
bool slm_pg_can_entail(const SlmOpenModel *entry);

/* For begin: reads a text, in UTF-8 as the sentences, beside each of n of them, and says where it is longer than the model reads.  Filled
 * when the work is done: weights are the head's outputs for entailment, fits the probabilities of entailment against contradiction alone;
 * of a text in windows those of the window that entails a sentence most. */
SlmWeighed *slm_pg_read_entailment(SlmWork *work, SlmText text, const char *const *sentences, int n);
/* A sentence for each label: the instruction, in which the label and its description take the place of {label}. */
const char **slm_pg_label_sentences(const char *instruction, const SlmLabels *labels);
/* The same with these. */
SlmWeighed *slm_pg_read_label_entailment(SlmWork *work, SlmText text, const char *instruction, const SlmLabels *labels);

#endif
