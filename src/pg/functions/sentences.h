/*
 * sentences.h: a summary of whole sentences of the text, verbatim (sentences.c).
 */
#ifndef SLM_PG_SENTENCES_H
#define SLM_PG_SENTENCES_H

#include "postgres.h"

#include "pg/run/opened.h"
#include "pg/run/work.h"

typedef struct SlmSentences SlmSentences;

/* Words of a text, as summaries are measured: what stands between spaces. */
int slm_pg_count_words(const char *s, size_t length);

/* Reads the sentences of a text (UTF-8, which must live as long as the work), and what it is to be about, or NULL: by the encoder, as part
 * of the work, or where that is NULL by their words, at once. */
SlmSentences *slm_pg_read_sentences(SlmWork *work, SlmOpenModel *encoder, const char *text, size_t length, const char *focus,
                                    int max_words);
/* The summary, in the server's encoding: the sentences that are chosen in their order; where the shortest is too long, the beginning of the
 * best one and an ellipsis.  The work is done. */
text *slm_pg_chosen_sentences(SlmSentences *sentences);

#endif
