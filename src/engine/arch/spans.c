/*
 * Heads that find spans: their numbers, and which tensors they have.
 *
 * GLiNER puts a mark before each label and one behind all of them.  Rows of labels and words are projected where the head is not as wide as
 * the layers, an LSTM goes over the words where there is one, and spans are weighed as pairs of words or word by word (model/spans.c, which
 * names the source).  Only directories have such a head.
 */
#include "engine/arch/family.h"

#include <math.h>

bool slm_spans_reads(const slm_hparams *hp, slm_tensor_role role)
{
    if (hp->spans == SLM_SPANS_NONE)
        return false;
    if (role <= SLM_TENSOR_SPAN_PROJ_BIAS)
        return hp->span_embd != hp->n_embd;
    if (role <= SLM_TENSOR_LSTM_BACK_STATE_BIAS)
        return hp->span_lstm != 0;
    return (role >= SLM_TENSOR_SPAN_WORD) == (hp->spans == SLM_SPANS_WORDS);
}

slm_status slm_spans_read(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    SLM_TRY(slm_meta_u32(meta, "slm.spans", 0, SLM_SPANS_WORDS, 0, &hp->spans, err));
    if (hp->spans == SLM_SPANS_NONE)
        return SLM_OK;
    hp->pooling = SLM_POOL_SPANS;
    SLM_TRY(slm_meta_u32(meta, "slm.span.embd", 1, 65536, NAN, &hp->span_embd, err));
    SLM_TRY(slm_meta_u32(meta, "slm.span.width", 0, SLM_MAX_SPAN_WIDTH, NAN, &hp->span_width, err));
    SLM_TRY(slm_meta_u32(meta, "slm.span.words", 1, 1u << 16, NAN, &hp->span_words, err));
    SLM_TRY(slm_meta_u32(meta, "slm.span.lstm", 0, 1, 0, &hp->span_lstm, err));
    SLM_TRY(slm_meta_u32(meta, "slm.span.pool", 0, SLM_WORD_MAX, 0, &hp->word_pool, err));
    SLM_TRY(slm_meta_u32(meta, "slm.span.behind", 0, 1, 0, &hp->label_behind, err));
    SLM_TRY(slm_meta_u32(meta, "slm.span.label_mark", 0, hp->n_vocab - 1, NAN, &hp->label_mark, err));
    return slm_meta_u32(meta, "slm.span.text_mark", 0, hp->n_vocab - 1, NAN, &hp->text_mark, err);
}

slm_status slm_spans_check(const slm_hparams *hp, slm_error *err)
{
    bool any = hp->spans != SLM_SPANS_NONE, good = hp->spans <= SLM_SPANS_WORDS && any == (hp->pooling == SLM_POOL_SPANS);
    if (good && any)
        good = !hp->causal && hp->n_layers > 0 && hp->span_embd >= 32 && hp->span_embd <= 8192 && hp->span_width <= SLM_MAX_SPAN_WIDTH &&
               (hp->span_width > 0) == (hp->spans == SLM_SPANS_PAIRS) && hp->span_words >= 1 && hp->span_words <= 1u << 16 &&
               hp->span_lstm <= 1 && hp->word_pool <= SLM_WORD_MAX && hp->label_behind <= 1 && hp->label_mark < hp->n_vocab &&
               hp->text_mark < hp->n_vocab && hp->label_mark != hp->text_mark && hp->n_labels == 0 && hp->tags == 0;
    if (good && any && hp->span_embd % 32 != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "a head whose width is no multiple of 32 is not supported");
    return good ? SLM_OK : slm_fail(err, SLM_FORMAT, "the head that finds spans is out of range");
}
