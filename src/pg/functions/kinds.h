/*
 * kinds.h: every function that takes a model as a kind of work: its task, and how it answers (kinds.c).
 *
 * What checks a job, weighs a plan, batches calls or explains them reads this table and knows no name of a function.
 */
#ifndef SLM_PG_KINDS_H
#define SLM_PG_KINDS_H

#include "postgres.h"

#include "pg/run/work.h"

/* Each beside its function. */
extern const SlmWorkKind
    slm_pg_generate_kind, slm_pg_generate_details_kind, slm_pg_generate_stream_kind, slm_pg_chat_kind, slm_pg_summarize_kind,
    slm_pg_summarize_details_kind, slm_pg_classify_kind, slm_pg_classify_details_kind, slm_pg_classify_scores_kind,
    slm_pg_classify_scores_json_kind, slm_pg_classify_multi_kind, slm_pg_embed_kind, slm_pg_embed_query_kind,
    slm_pg_embed_details_kind, slm_pg_embed_many_kind, slm_pg_similarity_kind, slm_pg_rerank_kind, slm_pg_perplexity_kind,
    slm_pg_entities_kind, slm_pg_entities_json_kind, slm_pg_redact_all_kind, slm_pg_redact_all_details_kind,
    slm_pg_token_logprobs_kind, slm_pg_tokenize_kind, slm_pg_detokenize_kind, slm_pg_count_tokens_kind, slm_pg_chunk_kind,
    slm_pg_train_classifier_kind, slm_pg_generate_json_kind, slm_pg_generate_as_kind, slm_pg_generate_matching_kind,
    slm_pg_extract_kind, slm_pg_extract_as_kind, slm_pg_extract_details_kind, slm_pg_translate_kind, slm_pg_fix_grammar_kind,
    slm_pg_agg_kind;
extern const SlmWorkKind slm_pg_filter_kind, slm_pg_filter_details_kind, slm_pg_score_kind, slm_pg_decide_kind,
    slm_pg_decide_row_kind, slm_pg_decide_details_kind;
extern const SlmWorkKind slm_pg_embed_pinned_kind, slm_pg_classify_pinned_kind;
extern const SlmWorkKind slm_pg_duplicates_kind, slm_pg_topics_kind, slm_pg_match_kind, slm_pg_search_kind, slm_pg_answer_kind;

extern const SlmWorkKind *const slm_pg_kinds[];
extern const size_t slm_pg_n_kinds;

#endif
