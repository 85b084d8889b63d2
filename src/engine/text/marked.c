/* Prompts in pieces (marked.h). */
#include "engine/text/marked.h"

#include <stdlib.h>
#include <string.h>

#include "engine/text/internal.h"

/* Marks for the tokens that have none yet. */
static slm_status mark(slm_marked *p, size_t from, uint8_t mark, slm_error *err)
{
    size_t n = p->out.ids.n;
    SLM_TRY(slm_tok_reserve((void **) &p->out.marks, &p->mark_room, n, 1, err));
    memset(p->out.marks + from, mark, n - from);
    return SLM_OK;
}

static slm_status push(slm_marked *p, int32_t id, uint8_t what, slm_error *err)
{
    SLM_TRY(slm_ids_push(&p->out.ids, id, err));
    p->fresh = true;
    return mark(p, p->out.ids.n - 1, what, err);
}

slm_status slm_marked_begin(slm_marked *p, slm_tokenizer *tok, const volatile int *stop, slm_error *err)
{
    const slm_tok_frame *f = &tok->h->frame;
    *p = (slm_marked) {.tok = tok, .stop = stop, .fresh = true};
    for (uint32_t i = 0; i < f->n_before; i++)
        SLM_TRY(push(p, f->before[i], SLM_MARK_NONE, err));
    return SLM_OK;
}

slm_status slm_marked_token(slm_marked *p, uint32_t id, uint8_t what, slm_error *err)
{
    p->begun = true;
    return push(p, (int32_t) id, what, err);
}

slm_status slm_marked_text(slm_marked *p, const char *text, size_t length, bool row, slm_error *err)
{
    size_t before = p->out.ids.n;
    bool first_only = (p->tok->h->flags & SLM_TOKF_PREFIX_FIRST) != 0;
    if (length > 0) {
        slm_status status = slm_tokenizer_encode(p->tok, text, length, false, p->fresh && !(first_only && p->begun), p->stop, &p->out.ids,
                                                 err);
        if (status != SLM_OK && row)
            slm_blame(err, SLM_CAUSE_BAD_TEXT);
        SLM_TRY(status);
        p->fresh = false;
        p->begun = true;
        SLM_TRY(mark(p, before, SLM_MARK_NONE, err));
    }
    if (row) {
        p->out.row_begin = before;
        p->out.row_end = p->out.ids.n;
    }
    return SLM_OK;
}

void slm_marked_drop(slm_marked *p, size_t begin, size_t end)
{
    slm_prompt *out = &p->out;
    memmove(out->ids.ids + begin, out->ids.ids + end, (out->ids.n - end) * sizeof *out->ids.ids);
    memmove(out->marks + begin, out->marks + end, out->ids.n - end);
    out->ids.n -= end - begin;
}

slm_status slm_marked_end(slm_marked *p, slm_prompt *out, slm_error *err)
{
    const slm_tok_frame *f = &p->tok->h->frame;
    for (uint32_t i = 0; i < f->n_after; i++)
        SLM_TRY(push(p, f->after[i], SLM_MARK_NONE, err));
    *out = p->out;
    p->out = (slm_prompt) {0};
    return SLM_OK;
}

void slm_marked_free(slm_marked *p)
{
    slm_prompt_free(&p->out);
}
