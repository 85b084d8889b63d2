/*
 * Decision heads: what a file says of one, in GGUF's keys ARCHITECTURE.decision.*.
 *
 * The last decision.block_count of the model's blocks are the head's (family_modernbert.c draws it).  A score is divided by the
 * temperature of the kind of question and the number of its options, decision.temperature.KIND.2, .3_5, .6_10, .11, or else by
 * decision.temperature.KIND: then their softmax is calibrated.  How a question is put to the model is the template "systemone"; it is
 * compared with those that are known, by what it says of options, never run.
 * Sources: the Laya models' build_sequence and rl_agent_config.json; llama.cpp's key names.
 */
#include "engine/arch/family.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define MOST_OPTIONS 255 /* that these models were trained with */

/* By kind of question and number of options, or by kind alone. */
static slm_status read_temperatures(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    static const char *const kinds[SLM_DECIDE_KINDS] = {"choice", "score", "noul"};
    static const char *const sizes[SLM_DECIDE_SIZES] = {"2", "3_5", "6_10", "11"};
    char key[64];
    for (uint32_t i = 0; i < SLM_DECIDE_KINDS * SLM_DECIDE_SIZES; i++) {
        float any, *t = &hp->decide_temperature[i / SLM_DECIDE_SIZES][i % SLM_DECIDE_SIZES];
        snprintf(key, sizeof key, "decision.temperature.%s", kinds[i / SLM_DECIDE_SIZES]);
        SLM_TRY(slm_meta_float(meta, key, 1e-3, 1e3, 1, &any, err));
        snprintf(key, sizeof key, "decision.temperature.%s.%s", kinds[i / SLM_DECIDE_SIZES], sizes[i % SLM_DECIDE_SIZES]);
        SLM_TRY(slm_meta_float(meta, key, 1e-3, 1e3, (double) any, t, err));
    }
    return SLM_OK;
}

/* The inner widths, of the layers of the text and of those of the head. */
static slm_status read_widths(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    double width, late = 0;
    for (uint32_t i = 0; i < hp->n_layers; i++) {
        if (!meta->number(meta->arg, "feed_forward_length", i, &width))
            return slm_fail(err, SLM_FORMAT, "%s.feed_forward_length has fewer entries than the model has layers", meta->architecture);
        late = i + hp->n_decide == hp->n_layers ? width : late;
        if (width != (slm_layer_decides(hp, i) ? late : hp->n_ff) || !(width >= 1 && width <= 1u << 20))
            return slm_fail(err, SLM_UNSUPPORTED, "%s.feed_forward_length is %g in layer %u, which is not supported", meta->architecture,
                            width, i);
    }
    hp->n_ff_decide = (uint32_t) late;
    return SLM_OK;
}

/* Options without a description, as the template writes them: two are known. */
static slm_status read_words(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    static const char key[] = "tokenizer.chat_template.systemone";
    char text[4096];
    if (!meta->string(meta->arg, key, text, sizeof text))
        return slm_fail(err, SLM_FORMAT, "the decision model has no %s", key);
    const char *asked = hp->joint == SLM_JOINT_D1 ? "<|reserved_8|>{{ instructions " : "{{ type }} question: {{ instructions ";
    bool question = strstr(text, asked) != NULL;
    if (question && strstr(text, "no, the statement does not hold") != NULL && strstr(text, "yes, the statement holds") != NULL) {
        hp->decide_words = SLM_DECIDE_LAYA;
        return SLM_OK;
    }
    hp->decide_words = SLM_DECIDE_BARE;
    if (question && hp->joint == SLM_JOINT_LAYA && strstr(text, "{% if o.description %}{{ o.description ") != NULL &&
        strstr(text, "{% else %}{{ o.key }}{% endif %}") != NULL)
        return SLM_OK;
    return slm_fail(err, SLM_UNSUPPORTED, "%s is none of the templates that are known", key);
}

slm_status slm_decide_read(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    hp->joint_most = MOST_OPTIONS;
    SLM_TRY(slm_meta_u32(meta, "decision.block_count", 1, hp->n_layers - 1, NAN, &hp->n_decide, err));
    SLM_TRY(slm_meta_u32(meta, "tokenizer.ggml.token_type_count", SLM_DECIDE_KINDS, SLM_DECIDE_KINDS, NAN, &hp->n_token_types, err));
    SLM_TRY(slm_meta_u32(meta, "tokenizer.ggml.mask_token_id", 0, hp->n_vocab - 1, NAN, &hp->joint_label, err));
    SLM_TRY(slm_meta_float(meta, "attention.layer_norm_epsilon", 1e-13, 1e-2, NAN, &hp->decide_eps, err));
    SLM_TRY(read_widths(meta, hp, err));
    SLM_TRY(read_temperatures(meta, hp, err));
    return read_words(meta, hp, err);
}

slm_status slm_decide_check(const slm_hparams *hp, slm_error *err)
{
    bool none = hp->n_decide == 0, laya = hp->joint == SLM_JOINT_LAYA;
    bool good = (laya || hp->joint == SLM_JOINT_D1) == !none;
    if (none)
        good = good && hp->n_ff_decide == 0 && hp->decide_tokens == 0 && hp->decide_words == 0 && hp->decide_eps == 0;
    else
        good = good && hp->n_decide < hp->n_layers && hp->n_ff_decide >= 1 && hp->n_ff_decide <= 1u << 20 &&
               (hp->decide_tokens > 0) == laya && hp->decide_tokens <= 1u << 16 && hp->decide_words <= SLM_DECIDE_BARE &&
               hp->n_token_types == SLM_DECIDE_KINDS && isfinite(hp->decide_eps) && hp->decide_eps >= 1e-13f && hp->decide_eps <= 1e-1f &&
               !hp->causal && !hp->mask_causal && !hp->norm_after_sum && !hp->post_norm_only && !hp->shared_layers && !hp->parallel &&
               hp->relative_span == 0 && hp->relative_buckets == 0 && !hp->alibi && hp->n_lookup == 0 && hp->n_experts == 0 &&
               hp->joint_flags == 0 && hp->joint_scorer == 0;
    for (uint32_t i = 0; !none && good && i < hp->n_layers; i++)
        good = !slm_layer_decides(hp, i) || !slm_layer_convolves(hp, i);
    for (uint32_t i = 0; i < SLM_DECIDE_KINDS * SLM_DECIDE_SIZES; i++) {
        float t = hp->decide_temperature[i / SLM_DECIDE_SIZES][i % SLM_DECIDE_SIZES];
        good = good && (none ? t == 0 : isfinite(t) && t >= 1e-3f && t <= 1e3f);
    }
    if (!good)
        return slm_fail(err, SLM_FORMAT, "the decision head is out of range");
    if (hp->n_ff_decide % 32 != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "widths that are no multiple of 32 are not supported");
    return SLM_OK;
}
