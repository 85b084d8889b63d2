/*
 * kinds.c: the table of the kinds of work (work.h).
 */
#include "pg/functions/kinds.h"

#include "pg/run/work.h"

const SlmWorkKind *const slm_pg_kinds[] = {&slm_pg_generate_kind,  &slm_pg_generate_details_kind, &slm_pg_chat_kind,
                                           &slm_pg_summarize_kind, &slm_pg_classify_kind,         &slm_pg_perplexity_kind,
                                           &slm_pg_embed_kind,     &slm_pg_embed_query_kind,      &slm_pg_similarity_kind,
                                           &slm_pg_classify_multi_kind, &slm_pg_classify_details_kind,
                                           &slm_pg_classify_scores_json_kind, &slm_pg_summarize_details_kind,
                                           &slm_pg_embed_details_kind};

const size_t slm_pg_n_kinds = lengthof(slm_pg_kinds);
