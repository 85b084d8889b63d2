/*
 * prompts.h: the words with which the built-in functions ask generative models.
 */
#ifndef SLM_PG_PROMPTS_H
#define SLM_PG_PROMPTS_H

#include "postgres.h"

typedef enum SlmPrompt {
    SLM_PROMPT_TEXT,        /* stands before the row's text */
    SLM_PROMPT_DESCRIBE,    /* asks for what fits the text */
    SLM_PROMPT_ANSWER_WITH, /* stands before the answers to choose from */
    SLM_N_PROMPTS
} SlmPrompt;

/* UTF-8. */
const char *slm_pg_prompt(SlmPrompt prompt);

#endif
