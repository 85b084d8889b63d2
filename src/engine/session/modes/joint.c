/*
 * JOINT: labels and a text through an encoder that reads them together, a score for each label (embed.c runs the steps).
 *
 * How they stand in the prompt is the business of the model's kind of head: one function for each.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/session/session.h"

#define DEFAULT_QUESTION "Which of these describes the text best?"
#define OPTION_TOKENS 48 /* of an option at most, beside its mark */
#define LEAST_ROOM 16    /* tokens that options leave to the question */

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

static slm_bytes bytes_of(const char *text)
{
    return (slm_bytes) {text, strlen(text)};
}

/* n parts as one text, of which no more than `most` tokens stay. */
static slm_status put_some(slm_marked *p, const slm_bytes *parts, size_t n, size_t most, slm_error *err)
{
    size_t at = p->out.ids.n, bytes = 0, used = 0;

    for (size_t i = 0; i < n; i++)
        bytes += parts[i].length;
    char *all = malloc(bytes + 1);
    if (all == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for a prompt");
    for (size_t i = 0; i < n; used += parts[i++].length)
        memcpy(all + used, parts[i].data, parts[i].length);
    slm_status status = slm_marked_text(p, all, bytes, false, err);
    free(all);
    if (status == SLM_OK && p->out.ids.n - at > most)
        slm_marked_drop(p, at + most, p->out.ids.n);
    return status;
}

/* What a decision model is asked: one label alone is a statement that holds or not, several are options. */
static bool is_statement(const slm_request *r)
{
    return r->n_labels == 1;
}

static size_t n_options(const slm_request *r)
{
    return is_statement(r) ? 2 : r->n_labels;
}

/* What stands in a segment, without the white space at its end that keeps it apart from a text. */
static slm_bytes trimmed(const slm_segment *s)
{
    size_t n = s->length;

    while (n > 0 && strchr(" \t\r\n", s->text[n - 1]) != NULL)
        n--;
    return (slm_bytes) {s->text, n};
}

/* What is said about label i, or NULL. */
static const char *description_of(const slm_request *r, size_t i)
{
    return r->descriptions == NULL || r->descriptions[i] == NULL || r->descriptions[i][0] == '\0' ? NULL : r->descriptions[i];
}

/* `kind`, and what is asked: the system's text, or a statement, of which the system's text may say more. */
static slm_status put_question(slm_marked *p, const ask *a, const char *kind, size_t most, slm_error *err)
{
    slm_bytes parts[6] = {bytes_of(kind)};
    size_t n = 1;

    if (a->system != NULL)
        parts[n++] = trimmed(a->system);
    if (is_statement(a->request)) {
        const char *description = description_of(a->request, 0);

        parts[n] = bytes_of(" ");
        n += a->system != NULL;
        parts[n++] = bytes_of(a->request->labels[0]);
        parts[n] = bytes_of(": ");
        n += description != NULL;
        parts[n] = bytes_of(description != NULL ? description : "");
        n += description != NULL;
    } else if (a->system == NULL) {
        parts[n++] = bytes_of(DEFAULT_QUESTION);
    }
    return put_some(p, parts, n, most, err);
}

/* Option i's text, behind a space, as the model's template writes it. */
static slm_status put_option(slm_marked *p, const ask *a, size_t i, size_t most, slm_error *err)
{
    static const char *const plain[] = {"false", "true"},
                            *const told[] = {"false: no, the statement does not hold", "true: yes, the statement holds"};
    const slm_request *r = a->request;
    bool bare = a->hp->decide_words == SLM_DECIDE_BARE;
    const char *name = !is_statement(r) ? r->labels[i] : bare ? plain[i] : told[i];
    const char *description = is_statement(r) ? NULL : description_of(r, i);
    slm_bytes parts[4] = {bytes_of(" "), bytes_of(bare && description != NULL ? description : name)};
    size_t n = 2;

    if (description != NULL && !bare) {
        parts[n++] = bytes_of(": ");
        parts[n++] = bytes_of(description);
    }
    return put_some(p, parts, n, most, err);
}

static uint8_t mark_of(const slm_request *r, size_t i)
{
    return is_statement(r) && i == 0 ? SLM_MARK_NO : SLM_MARK_LABEL;
}

/* Question and options have decide_tokens together, as they had in training: options of more than OPTION_TOKENS are cut, all of them to
 * equal parts where they leave no room, and the question to what is left.  at [n + 2]: where question and options begin, and the last
 * one ends. */
static void fit(slm_marked *p, const slm_hparams *hp, size_t *at, size_t n)
{
    size_t most = OPTION_TOKENS + 1, total = 0, room = hp->decide_tokens;

    for (int round = 0; round < 2; round++) {
        total = 0;
        for (size_t i = 1; i <= n; i++)
            total += at[i + 1] - at[i] < most ? at[i + 1] - at[i] : most;
        if (total + LEAST_ROOM <= room || round == 1)
            break;
        most = (room < LEAST_ROOM ? 0 : room - LEAST_ROOM) / n;
        most = most < 4 ? 4 : most;
    }
    for (size_t i = n; i >= 1; i--)
        if (at[i + 1] - at[i] > most)
            slm_marked_drop(p, at[i] + most, at[i + 1]);
    size_t question = at[1] - 1 - at[0], left = room > total ? room - total : 0;
    left = left < 8 ? 8 : left;
    if (question > left)
        slm_marked_drop(p, at[0] + left, at[1] - 1);
}

/* [CLS] choice question: what is asked [SEP] [MASK] a [MASK] b ... [SEP] the text [SEP] */
static slm_status put_laya(slm_marked *p, const ask *a, slm_error *err)
{
    const slm_request *r = a->request;
    size_t n = n_options(r), *at = malloc((n + 2) * sizeof *at);

    if (at == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for a prompt");
    at[0] = p->out.ids.n;
    slm_status status = put_question(p, a, is_statement(r) ? "noul question: " : "choice question: ", SIZE_MAX / 2, err);
    if (status == SLM_OK)
        status = slm_marked_token(p, a->hp->joint_text, SLM_MARK_NONE, err);
    for (size_t i = 0; status == SLM_OK && i < n; i++) {
        at[i + 1] = p->out.ids.n;
        status = slm_marked_token(p, a->hp->joint_label, mark_of(r, i), err);
        if (status == SLM_OK)
            status = put_option(p, a, i, SIZE_MAX / 2, err);
    }
    at[n + 1] = p->out.ids.n;
    if (status == SLM_OK)
        fit(p, a->hp, at, n);
    free(at);
    SLM_TRY(status);
    SLM_TRY(slm_marked_token(p, a->hp->joint_text, SLM_MARK_TEXT, err));
    return slm_marked_text(p, a->row->text, a->row->length, true, err);
}

static slm_status put_named(slm_marked *p, const char *name, slm_error *err)
{
    int32_t id = slm_tokenizer_find(p->tok, name, strlen(name));

    return id < 0 ? slm_fail(err, SLM_UNSUPPORTED, "the model's vocabulary has no token %s, which its questions need", name)
                  : slm_marked_token(p, (uint32_t) id, SLM_MARK_NONE, err);
}

/* The text first, then the question and the options, each between tokens of their own; of d1-omni's texts nothing is cut but the row's. */
static slm_status put_d1(slm_marked *p, const ask *a, slm_error *err)
{
    const slm_request *r = a->request;
    size_t n = n_options(r), longest = a->hp->n_context / 2, budget = 24 * n + 32;

    budget = budget > longest ? longest : budget;
    budget = budget < 96 ? 96 : budget;
    size_t most = budget > 5 * n ? (budget - 3 * n) / n : 2;
    SLM_TRY(put_named(p, "<|startoftext|>", err));
    SLM_TRY(put_named(p, "<|reserved_7|>", err));
    SLM_TRY(slm_marked_text(p, a->row->text, a->row->length, true, err));
    SLM_TRY(put_named(p, "<|reserved_8|>", err));
    SLM_TRY(put_question(p, a, "", budget - 1, err));
    for (size_t i = 0; i < n; i++) {
        SLM_TRY(put_named(p, "<|reserved_9|>", err));
        SLM_TRY(slm_marked_token(p, a->hp->joint_label, mark_of(r, i), err));
        SLM_TRY(put_option(p, a, i, most, err));
        SLM_TRY(put_named(p, "<|reserved_10|>", err));
    }
    return put_named(p, "<|reserved_11|>", err);
}

typedef slm_status (*put_fn)(slm_marked *p, const ask *a, slm_error *err);
static const put_fn kinds[] = {[SLM_JOINT_GLICLASS] = put_gliclass, [SLM_JOINT_LAYA] = put_laya, [SLM_JOINT_D1] = put_d1};

static slm_status check(const slm_session *s, const slm_request *r, ask *out, slm_error *err)
{
    uint32_t most = s->model->hp.joint_most > 0 ? s->model->hp.joint_most : SLM_MAX_LABELS;
    bool system = r->n_segments == 2 && r->segments[0].role == SLM_ROLE_SYSTEM;

    if (!slm_model_get_info(s->model)->can_joint || s->pool != NULL) {
        slm_fail(err, SLM_UNSUPPORTED, "model \"%s\" cannot read labels beside a text", slm_model_get_info(s->model)->name);
        return slm_hint(err, "Use a model that was trained to, such as GLiClass.");
    }
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
    job->question = s->model->hp.n_decide > 0 && is_statement(request) ? SLM_DECIDE_YES_NO : SLM_DECIDE_CHOICE;
    slm_prompt_free(&prompt);
    return SLM_OK;
}

const slm_mode_ops slm_mode_joint = {.name = "joint", .encoder = true, .in_order = true, .build = build, .prepare = prepare};
