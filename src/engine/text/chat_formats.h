/*
 * What a chat format is: the literals around the turns of each role.
 *
 *   [BOS] { head before CONTENT after tail } ... answer
 *
 * head, tail and answer may name control tokens and are encoded on their own with control-token parsing; before and after are plain and
 * encoded together with the content, because a space or a line end there melts into its neighbours' tokens.
 */
#ifndef SLM_TEXT_CHAT_FORMATS_H
#define SLM_TEXT_CHAT_FORMATS_H

#include <stdbool.h>

#include "engine/text/internal.h"

#define SLM_CHAT_MAX_ENDS 3

enum {
    SLM_CHAT_BOS = 1,             /* the template writes BOS itself, whatever the tokenizer's add_bos says */
    SLM_CHAT_TRIM = 2,            /* white space at both ends of a turn's content is cut off */
    SLM_CHAT_TRIM_LEFT = 4,
    SLM_CHAT_SYSTEM_IN_FIRST = 8, /* no system turn: its text goes in front of the first user turn's */
    SLM_CHAT_SYSTEM_IN_LAST = 16, /* the same, last user turn */
    SLM_CHAT_BOS_EACH = 32        /* BOS again before every user turn but the first */
};

typedef struct slm_chat_turn {
    const char *head, *before, *after, *tail; /* NULL = nothing */
} slm_chat_turn;

struct slm_chat_format {
    const char *name;
    slm_chat_turn turn[3]; /* by slm_role */
    const char *answer;    /* opens the assistant's turn */
    const char *system;    /* message that the format adds when the caller gives none */
    bool default_system;   /* ... even if it is empty */
    const char *ends[SLM_CHAT_MAX_ENDS];
    unsigned flags;
};

#endif
