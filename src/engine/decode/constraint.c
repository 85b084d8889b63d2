/*
 * Constraints: references, and states in memory of their own; see constraint.h.
 */
#include "engine/decode/constraint.h"

#include <stdlib.h>
#include <string.h>

#include "engine/slm.h"

slm_constraint *slm_constraint_share(slm_constraint *c)
{
    if (c != NULL)
        c->references++;
    return c;
}

void slm_constraint_drop(slm_constraint *c)
{
    void (*release)(void *);
    void *owner;

    if (c == NULL || --c->references > 0)
        return;
    release = c->release;
    owner = c->owner;
    c->ops->destroy(c);
    if (release != NULL)
        release(owner);
}

void slm_constraint_free(slm_constraint *c)
{
    slm_constraint_drop(c);
}

slm_status slm_constraint_begin(slm_constraint *c, bool skip_space, void **state, slm_error *err)
{
    void *memory = malloc(c->state_bytes);
    slm_status status;

    if (memory == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for a constraint");
    status = c->ops->start(c, memory, skip_space, err);
    if (status != SLM_OK)
        free(memory);
    else
        *state = memory;
    return status;
}

void *slm_constraint_fork(slm_constraint *c, const void *state)
{
    void *memory = malloc(c->state_bytes);

    if (memory == NULL)
        return NULL;
    if (c->ops->copy == NULL)
        memcpy(memory, state, c->state_bytes);
    else if (!c->ops->copy(c, memory, state)) {
        free(memory);
        return NULL;
    }
    return memory;
}

void slm_constraint_end(slm_constraint *c, void *state)
{
    if (state != NULL && c->ops->clear != NULL)
        c->ops->clear(c, state);
    free(state);
}
