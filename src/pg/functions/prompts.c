/*
 * prompts.c: the words of the built-in functions (prompts.h).
 */
#include "pg/functions/prompts.h"

static const char *const built_in[SLM_N_PROMPTS] = {
    [SLM_PROMPT_TEXT] = "Text: ",
    [SLM_PROMPT_DESCRIBE] = "Describe the text in a few words.",
    [SLM_PROMPT_ANSWER_WITH] = "Answer with one of:",
};

const char *slm_pg_prompt(SlmPrompt prompt)
{
    return built_in[prompt];
}
