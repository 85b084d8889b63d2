/*
 * The one record of what requests take: in results, in the sums of a session, and wherever a caller adds them up.
 *
 * Times of a pass are dealt out by positions, so the sum over the requests of a session is what its passes took, however many of them
 * shared one.
 */
#ifndef SLM_BASE_USAGE_H
#define SLM_BASE_USAGE_H

#include <stddef.h>
#include <stdint.h>

typedef struct slm_usage {
#define FIGURE(name) uint64_t name;
#include "engine/base/usage.def"
#undef FIGURE
} slm_usage;

static inline void slm_usage_add(slm_usage *to, const slm_usage *from)
{
#define FIGURE(name) to->name += from->name;
#include "engine/base/usage.def"
#undef FIGURE
}

/* By how much each figure of a is above that of b. */
static inline slm_usage slm_usage_beyond(const slm_usage *a, const slm_usage *b)
{
    slm_usage rest = {0};

#define FIGURE(name) rest.name = a->name > b->name ? a->name - b->name : 0;
#include "engine/base/usage.def"
#undef FIGURE
    return rest;
}

/* Name and value of the i-th figure; NULL after the last. */
static inline const char *slm_usage_figure(const slm_usage *usage, size_t i, uint64_t *value)
{
    static const char *const names[] = {
#define FIGURE(name) #name,
#include "engine/base/usage.def"
#undef FIGURE
    };
    const uint64_t values[] = {
#define FIGURE(name) usage->name,
#include "engine/base/usage.def"
#undef FIGURE
    };

    if (i >= sizeof names / sizeof *names)
        return NULL;
    *value = values[i];
    return names[i];
}

/* Tokens that went through the model or were written: the work, in one number. */
static inline uint64_t slm_usage_tokens(const slm_usage *usage)
{
    return usage->prompt_tokens - usage->reused_tokens + usage->output_tokens + usage->label_tokens;
}

#endif
