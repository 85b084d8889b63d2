/*
 * kinds.c: the table of the kinds of work (work.h).
 */
#include "pg/functions/kinds.h"

/* In SQL: an slm_classify, once the planner has seen it. */
static const SlmWorkKind sentiment_kind = {.name = "slm_sentiment", .task = SLM_TASK_CLASSIFY, .answers = SLM_ANSWERS_NO_MODEL};

/* Once for a whole query (src/pg/search). */
#define ON_QUERY(function, job) {.symbol = "slm_pg_" function, .task = job, .answers = SLM_ANSWERS_NO_MODEL}
const SlmWorkKind slm_pg_duplicates_kind = ON_QUERY("duplicates", SLM_TASK_EMBED), slm_pg_topics_kind = ON_QUERY("topics", SLM_TASK_EMBED),
                  slm_pg_match_kind = ON_QUERY("match", SLM_TASK_EMBED), slm_pg_search_kind = ON_QUERY("search", SLM_TASK_EMBED),
                  slm_pg_answer_kind = ON_QUERY("answer", SLM_TASK_EMBED);
#undef ON_QUERY

const SlmWorkKind *const slm_pg_kinds[] = {
    &slm_pg_generate_kind, &slm_pg_generate_details_kind, &slm_pg_generate_stream_kind, &slm_pg_chat_kind,
    &slm_pg_summarize_kind, &slm_pg_summarize_details_kind, &slm_pg_classify_kind, &slm_pg_classify_details_kind,
    &slm_pg_classify_scores_kind, &slm_pg_classify_scores_json_kind, &slm_pg_classify_multi_kind, &slm_pg_embed_kind,
    &slm_pg_embed_query_kind, &slm_pg_embed_details_kind, &slm_pg_embed_many_kind, &slm_pg_similarity_kind, &slm_pg_rerank_kind,
    &slm_pg_entities_kind, &slm_pg_entities_json_kind, &slm_pg_redact_all_kind, &slm_pg_redact_all_details_kind,
    &slm_pg_perplexity_kind, &slm_pg_token_logprobs_kind, &slm_pg_tokenize_kind, &slm_pg_detokenize_kind,
    &slm_pg_count_tokens_kind, &slm_pg_chunk_kind, &slm_pg_train_classifier_kind, &slm_pg_generate_json_kind,
    &slm_pg_generate_as_kind, &slm_pg_generate_matching_kind, &slm_pg_extract_kind, &slm_pg_extract_as_kind,
    &slm_pg_extract_details_kind, &slm_pg_translate_kind, &slm_pg_fix_grammar_kind,
    &slm_pg_filter_kind, &slm_pg_filter_details_kind, &slm_pg_score_kind, &slm_pg_decide_kind, &slm_pg_decide_row_kind,
    &slm_pg_decide_details_kind, &slm_pg_agg_kind, &slm_pg_embed_pinned_kind, &slm_pg_classify_pinned_kind,
    &slm_pg_duplicates_kind, &slm_pg_topics_kind, &slm_pg_match_kind, &slm_pg_search_kind, &slm_pg_answer_kind, &sentiment_kind};

const size_t slm_pg_n_kinds = lengthof(slm_pg_kinds);
