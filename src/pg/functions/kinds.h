/*
 * kinds.h: every function that runs a model as a kind of work (kinds.c).
 */
#ifndef SLM_PG_KINDS_H
#define SLM_PG_KINDS_H

#include "postgres.h"

#include "pg/run/work.h"

/* Each beside its function. */
extern const SlmWorkKind slm_pg_generate_kind, slm_pg_generate_details_kind, slm_pg_chat_kind, slm_pg_summarize_kind, slm_pg_classify_kind,
    slm_pg_perplexity_kind, slm_pg_embed_kind, slm_pg_embed_query_kind, slm_pg_similarity_kind, slm_pg_classify_multi_kind,
    slm_pg_summarize_details_kind, slm_pg_classify_details_kind, slm_pg_classify_scores_json_kind, slm_pg_embed_details_kind;

extern const SlmWorkKind *const slm_pg_kinds[];
extern const size_t slm_pg_n_kinds;

#endif
