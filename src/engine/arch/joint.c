/*
 * Heads that read labels beside a text: their numbers, and which tensors they have.
 *
 * GLiClass puts a mark before each label and one behind all of them.  The row of a label (at its mark, or the mean of its tokens) and that
 * of the text (the first, or another pooling) are projected, and a scorer makes one number of the two.
 * Decision heads: decide.c.
 * Sources: arXiv 2508.07662; the gliclass library's GLiClassUniEncoder.
 */
#include "engine/arch/family.h"

#include <math.h>

bool slm_joint_reads(const slm_hparams *hp, slm_tensor_role role)
{
    uint32_t scorer = hp->joint_scorer;
    if (hp->joint != SLM_JOINT_GLICLASS)
        return false;
    if (role < SLM_TENSOR_JOINT_SCALE)
        return true;
    if (role == SLM_TENSOR_JOINT_SCALE)
        return (hp->joint_flags & SLM_JOINT_UNIT) != 0;
    if (role <= SLM_TENSOR_JOINT_MLP_2_BIAS)
        return scorer == SLM_SCORER_MLP || scorer == SLM_SCORER_HOPFIELD;
    return scorer == (role <= SLM_TENSOR_JOINT_OUT_1_BIAS ? SLM_SCORER_WEIGHTED : SLM_SCORER_HOPFIELD);
}

uint32_t slm_joint_widest(const slm_hparams *hp)
{
    uint32_t embd = (hp->joint_scorer == SLM_SCORER_WEIGHTED ? 4 : 2) * hp->n_embd, least = SLM_JOINT_MLP;
    if (hp->joint == SLM_JOINT_NONE)
        return 0;
    least = embd > least ? embd : least;
    return hp->joint_width > least ? hp->joint_width : least;
}

slm_status slm_joint_read(const slm_meta *meta, slm_hparams *hp, slm_error *err)
{
    SLM_TRY(slm_meta_u32(meta, "slm.joint", 0, SLM_JOINT_GLICLASS, 0, &hp->joint, err));
    if (hp->joint == SLM_JOINT_NONE)
        return SLM_OK;
    SLM_TRY(slm_meta_u32(meta, "slm.joint.flags", 0, SLM_JOINT_FLAGS, NAN, &hp->joint_flags, err));
    SLM_TRY(slm_meta_u32(meta, "slm.joint.scorer", 0, SLM_SCORER_HOPFIELD, NAN, &hp->joint_scorer, err));
    SLM_TRY(slm_meta_u32(meta, "slm.joint.width", 1, 65536, NAN, &hp->joint_width, err));
    SLM_TRY(slm_meta_u32(meta, "slm.joint.most", 0, SLM_MAX_LABELS, 0, &hp->joint_most, err));
    return slm_meta_u32(meta, "slm.joint.squash", SLM_SQUASH_NONE, SLM_SQUASH_GELU_ERF, NAN, &hp->head_squash, err);
}

slm_status slm_joint_check(const slm_hparams *hp, slm_error *err)
{
    bool none = hp->joint == SLM_JOINT_NONE, gliclass = hp->joint == SLM_JOINT_GLICLASS, good;
    if (none)
        good = hp->joint_flags == 0 && hp->joint_scorer == 0 && hp->joint_width == 0 && hp->joint_label == 0 && hp->joint_text == 0 &&
               hp->joint_most == 0;
    else
        good = hp->joint <= SLM_JOINT_D1 && hp->joint_flags <= SLM_JOINT_FLAGS && hp->joint_scorer <= SLM_SCORER_HOPFIELD &&
               (hp->joint_width >= 1) == gliclass && hp->joint_width <= 65536 && hp->joint_most <= SLM_MAX_LABELS &&
               hp->joint_label < hp->n_vocab && hp->joint_text < hp->n_vocab && hp->tags == 1 && hp->n_labels == 1 && !hp->causal &&
               hp->n_layers > 0;
    if (!good)
        return slm_fail(err, SLM_FORMAT, "the head that reads labels is out of range");
    if (!none && hp->joint_width % 32 != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "projections of a width that is no multiple of 32 are not supported");
    return SLM_OK;
}
