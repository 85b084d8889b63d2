/*
 * Prompts of encoders that read labels beside a text: pieces one after the other, tokens that mark a place and texts between them, with the
 * frame of the tokenizer around all.
 *
 * A text is tokenized by itself, as the reference does between added tokens, and never becomes a control token, wherever it comes from.
 */
#ifndef SLM_TEXT_MARKED_H
#define SLM_TEXT_MARKED_H

#include "engine/text/chat.h"

/* What a token of such a prompt marks: a label, whose score is read at its row; the beginning of the text; the no beside a label that is a
 * yes. */
enum { SLM_MARK_NONE = 0, SLM_MARK_LABEL = 1, SLM_MARK_TEXT = 2, SLM_MARK_NO = 3 };

typedef struct slm_marked {
    slm_tokenizer *tok;
    const volatile int *stop;
    slm_prompt out;     /* with its marks */
    size_t mark_room;
    bool fresh, begun;  /* the next text stands behind a token; something stands in the frame already */
} slm_marked;

/* Puts what stands before all pieces. Whatever fails, slm_marked_free follows. */
slm_status slm_marked_begin(slm_marked *p, slm_tokenizer *tok, const volatile int *stop, slm_error *err);
slm_status slm_marked_token(slm_marked *p, uint32_t id, uint8_t mark, slm_error *err);
/* row: it is the text that may be cut. */
slm_status slm_marked_text(slm_marked *p, const char *text, size_t length, bool row, slm_error *err);
/* Leaves out tokens [begin, end), none of which is the row's, nor stands before it once it is put. */
void slm_marked_drop(slm_marked *p, size_t begin, size_t end);
/* Puts what stands behind, and hands the prompt over. */
slm_status slm_marked_end(slm_marked *p, slm_prompt *out, slm_error *err);
void slm_marked_free(slm_marked *p);

#endif
