/*
 * JOINT: labels and a text through an encoder that reads them together, a score for each label (embed.c runs the steps).
 *
 * How they stand in the prompt is the business of the model's kind of head: one function for each.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/session/session.h"

/* What a request has, by what it is. */
typedef struct ask {
    const slm_hparams *hp;
    const slm_segment *system, *row; /* system: what is asked, or NULL */
    const slm_request *request;
} ask;

/* What is asked and the text are one text to the tokenizer. */
static slm_status put_row(slm_marked *p, const ask *a, slm_error *err)
{
    size_t n = a->system->length;
    char *both = malloc(n + a->row->length + 1);
    if (both == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for a prompt");
    memcpy(both, a->system->text, n);
    memcpy(both + n, a->row->text, a->row->length);
    slm_status status = slm_marked_text(p, both, n + a->row->length, true, err);
    free(both);
    return status;
}

/* <<LABEL>> a <<LABEL>> b ... <<SEP>> what is asked, the text; or the text first.  A description stands behind its label. */
static slm_status put_gliclass(slm_marked *p, const ask *a, slm_error *err)
{
    const slm_request *r = a->request;
    bool text_first = (a->hp->joint_flags & SLM_JOINT_TEXT_FIRST) != 0;

    if (text_first)
        SLM_TRY(slm_marked_text(p, a->row->text, a->row->length, true, err));
    for (size_t i = 0; i < r->n_labels; i++) {
        const char *description = r->descriptions == NULL ? NULL : r->descriptions[i];
        size_t n = strlen(r->labels[i]) + (description == NULL ? 0 : strlen(description)) + 3;
        char *label = malloc(n);

        if (label == NULL)
            return slm_fail(err, SLM_NOMEM, "out of memory for a prompt");
        snprintf(label, n, "%s%s%s", r->labels[i], description == NULL ? "" : ": ", description == NULL ? "" : description);
        slm_status status = slm_marked_token(p, a->hp->joint_label, SLM_MARK_LABEL, err);
        if (status == SLM_OK)
            status = slm_marked_text(p, label, strlen(label), false, err);
        free(label);
        SLM_TRY(status);
    }
    SLM_TRY(slm_marked_token(p, a->hp->joint_text, SLM_MARK_TEXT, err));
    if (text_first)
        return a->system == NULL ? SLM_OK : slm_marked_text(p, a->system->text, a->system->length, false, err);
    return a->system == NULL ? slm_marked_text(p, a->row->text, a->row->length, true, err) : put_row(p, a, err);
}

typedef slm_status (*put_fn)(slm_marked *p, const ask *a, slm_error *err);
static const put_fn kinds[] = {[SLM_JOINT_GLICLASS] = put_gliclass};

static slm_status check(const slm_session *s, const slm_request *r, ask *out, slm_error *err)
{
    uint32_t most = s->model->hp.joint_most > 0 ? s->model->hp.joint_most : SLM_MAX_LABELS;
    bool system = r->n_segments == 2 && r->segments[0].role == SLM_ROLE_SYSTEM;

    if (!(r->n_segments == 1 || system) || r->segments[r->n_segments - 1].role != SLM_ROLE_USER)
        return slm_fail(err, SLM_INVALID, "a text that is read beside labels stands alone or behind what is asked");
    if (r->n_labels < 1 || r->labels == NULL)
        return slm_fail(err, SLM_INVALID, "a request without labels");
    if (r->n_labels > most) {
        slm_fail(err, SLM_LIMIT, "%zu labels, but the model reads at most %u beside a text", r->n_labels, most);
        return slm_hint(err, "Give fewer labels, or use an embedding model, which has no such bound.");
    }
    for (size_t i = 0; i < r->n_labels; i++)
        if (r->labels[i] == NULL || r->labels[i][0] == '\0')
            return slm_fail(err, SLM_INVALID, "label %zu is empty", i + 1);
    *out = (ask) {.hp = &s->model->hp, .system = system ? &r->segments[0] : NULL, .row = &r->segments[r->n_segments - 1], .request = r};
    return SLM_OK;
}

static slm_status build(slm_session *s, const slm_request *request, slm_prompt *out, slm_error *err)
{
    slm_marked prompt;
    ask a;

    SLM_TRY(check(s, request, &a, err));
    slm_status status = slm_marked_begin(&prompt, s->model->tokenizer, s->limits.stop, err);
    if (status == SLM_OK)
        status = kinds[s->model->hp.joint](&prompt, &a, err);
    if (status == SLM_OK)
        status = slm_marked_end(&prompt, out, err);
    slm_marked_free(&prompt);
    return status;
}

static slm_status prepare(slm_session *s, const slm_request *request, slm_job *job, slm_error *err)
{
    slm_prompt prompt;

    SLM_TRY(slm_job_read_prompt(s, request, job, 0, &prompt, err));
    job->n_prefix = job->n_ids; /* all of it is of the first token type */
    job->marks = prompt.marks;
    prompt.marks = NULL;
    job->n_labels = (uint32_t) request->n_labels;
    slm_prompt_free(&prompt);
    return SLM_OK;
}

const slm_mode_ops slm_mode_joint = {.name = "joint", .encoder = true, .labels = true, .in_order = true, .build = build,
                                     .prepare = prepare};
