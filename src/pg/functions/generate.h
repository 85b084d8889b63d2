/*
 * generate.h: the request of a function that writes answers (generate.c).
 */
#ifndef SLM_PG_GENERATE_H
#define SLM_PG_GENERATE_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/jsonb.h"

#include "engine/slm.h"
#include "pg/run/backend.h"

#define SLM_GENERATE_SEGMENTS 4 /* system, prompt, suffix, prefill */

/* Argument 0 is the prompt, not NULL; from `first` on come model, system, the eight of slm_pg_sampling_args, chat, truncate, prefill and
 * suffix.  schema (UTF-8, may be NULL) is shown to the model behind the system text, where there is a chat.
 * segments: [SLM_GENERATE_SEGMENTS].  *prefill: what the answer begins with, in UTF-8, or "". */
SlmOpenModel *slm_pg_generate_request(FunctionCallInfo fcinfo, int first, const char *schema, slm_request *request,
                                      slm_segment *segments, const char **prefill);
/* What an answer begins with, and what the model has written behind it, in the server's encoding. */
text *slm_pg_whole_answer(const char *prefill, const slm_result *result);
/* What answers under a JSON Schema are told of it, in UTF-8. */
char *slm_pg_schema_instruction(const SlmOpenModel *entry, const char *schema);
/* The messages of slm_chat as segments; ERROR where they are none. */
slm_segment *slm_pg_parse_messages(Jsonb *messages, size_t *n);

#endif
