/* The table of modes. */
#include "engine/session/modes/mode.h"

static const slm_mode_ops *const modes[] = {
    [SLM_MODE_GENERATE] = &slm_mode_generate,
    [SLM_MODE_LABELS] = &slm_mode_labels,
    [SLM_MODE_LOGPROBS] = &slm_mode_logprobs,
    [SLM_MODE_EMBED] = &slm_mode_embed,
    [SLM_MODE_JOINT] = &slm_mode_joint,
    [SLM_MODE_SPANS] = &slm_mode_spans,
};

const slm_mode_ops *slm_mode_find(slm_mode mode)
{
    return (unsigned) mode < sizeof modes / sizeof modes[0] ? modes[mode] : NULL;
}
