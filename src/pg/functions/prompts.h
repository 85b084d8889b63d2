/*
 * prompts.h: the words with which functions ask generative models (prompts.c): the built-in ones of prompts.def, and rows of
 * slm.prompt_registry, by name, family of the model and language.
 *
 * Rule: the built-in functions take no words but those of prompts.def and of superusers' rows, whoever calls them.  Rows of other roles are
 * used by slm_generate(prompt_name => ...) alone, and by a superuser only where a superuser wrote them.
 *
 * Of the rows that may be used one is chosen: the language of slm.prompt_language before English, the model's family before any.
 *
 * Words of the built-in functions, and of superusers' rows that are public, are what slm_request.public_bytes counts: what models have
 * computed of them serves all roles.  What is filled in, and whatever stands behind that, is its caller's.
 */
#ifndef SLM_PG_PROMPTS_H
#define SLM_PG_PROMPTS_H

#include "postgres.h"

#include "pg/run/opened.h"

typedef enum SlmPrompt {
#define SLM_PROMPT_ROW(id, name, placeholders, text) SLM_PROMPT_##id,
#include "pg/functions/prompts.def"
#undef SLM_PROMPT_ROW
    SLM_N_PROMPTS
} SlmPrompt;

#define SLM_PROMPT_LANGUAGE "en" /* of the built-in ones */
#define SLM_PROMPT_RESERVED "slm_" /* names that begin so are those of the built-in functions */

typedef struct SlmBuiltInPrompt {
    const char *name, *placeholders, *text;
} SlmBuiltInPrompt;

extern const SlmBuiltInPrompt slm_pg_built_in_prompts[SLM_N_PROMPTS];

/* A placeholder {name} and what stands in its place, both in UTF-8. */
typedef struct SlmVariable {
    const char *name, *value;
    bool used; /* found in a text */
} SlmVariable;

/* The words of a built-in function for a model, in UTF-8; lives as long as CurrentMemoryContext. */
const char *slm_pg_prompt(SlmPrompt prompt, const SlmOpenModel *entry);
/* The same with one placeholder filled in. */
char *slm_pg_prompt_with(SlmPrompt prompt, const SlmOpenModel *entry, const char *variable, const char *value);
/* The text of a role's own prompt, in UTF-8; ERROR where there is none that the current user may use. *public_bytes: of slm_request, for a
 * prompt that begins with it. */
const char *slm_pg_named_prompt(const char *name, const SlmOpenModel *entry, size_t *public_bytes);
/* The same of words that slm_pg_prompt gave: those before the first placeholder. */
size_t slm_pg_public_bytes(const char *words);

/* The text with placeholders replaced, each as often as it occurs; what was filled in is not looked at again. */
char *slm_pg_fill_variables(const char *text, SlmVariable *variables, int n);
/* The next {name} of a text from `from` on, NULL: none; *length with its braces. */
const char *slm_pg_next_placeholder(const char *from, size_t *length);

/* Settings; once from _PG_init. */
void slm_pg_prompts_init(void);

#endif
