/*
 * From a request to a job: arguments checked, prompt tokenized, lengths held against context and KV budget.
 *
 * Whatever is wrong with a request is found here, before it costs a forward pass, and is an error of slm_submit.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/session/session.h"

static slm_status check(const slm_session *s, const slm_mode_ops *mode, const slm_request *r, slm_error *err)
{
    const slm_model_info *info = slm_model_get_info(s->model);

    if (r->n_segments == 0 || r->segments == NULL)
        return slm_fail(err, SLM_INVALID, "a request needs at least one segment of text");
    for (size_t i = 0; i < r->n_segments; i++)
        if (r->segments[i].text == NULL || (unsigned) r->segments[i].role > SLM_ROLE_ASSISTANT)
            return slm_fail(err, SLM_INVALID, "segment %zu of the request is broken", i + 1);
    if (s->model->tokenizer == NULL)
        return slm_fail(err, SLM_UNSUPPORTED, "model \"%s\" has no vocabulary", info->name);
    if (r->adapter != NULL && !slm_adapter_fits(r->adapter, &s->model->hp))
        return slm_fail(err, SLM_INVALID, "the request's adapter was opened for another model");
    if (mode->build != NULL)
        return SLM_OK; /* which asks whether the model can */
    if (mode->encoder) {
        bool reads = info->can_embed || info->can_rerank || info->can_classify || info->can_tag;
        if ((r->mode == SLM_MODE_SPANS || reads) && s->pool == NULL)
            return SLM_OK;
        slm_fail(err, SLM_UNSUPPORTED, "model \"%s\" cannot embed", info->name);
        return slm_hint(err, "Use an embedding model.");
    }
    if (info->can_generate && s->pool != NULL)
        return SLM_OK;
    slm_fail(err, SLM_UNSUPPORTED, "model \"%s\" cannot generate text", info->name);
    return slm_hint(err, "It is an encoder; use a generative model.");
}

/* The text's fault, unless what all rows share is too long by itself. */
static slm_status too_long(const slm_session *s, const slm_prompt *prompt, uint32_t limit, slm_error *err)
{
    size_t n = prompt->ids.n, beside = n - (prompt->row_end - prompt->row_begin);
    uint32_t context = s->model->hp.n_context;

    if (prompt->marks != NULL && beside >= limit) {
        slm_fail(err, SLM_LIMIT, "the labels take %zu tokens, but the model reads %u with the text", beside, limit);
        return slm_hint(err, "Give fewer or shorter labels, or use an embedding model, which has no such bound.");
    }
    if (limit < context)
        slm_fail(err, SLM_LIMIT, "the prompt has %zu tokens, but only %u of the model's context of %u tokens are left for it", n, limit,
                 context);
    else
        slm_fail(err, SLM_LIMIT, "the prompt has %zu tokens, but the model's context is %u tokens", n, context);
    if (prompt->n_prefix < limit)
        slm_blame(err, SLM_CAUSE_LONG);
    return slm_hint(err, "Shorten the text, cut it into pieces with slm_chunk, or allow it to be cut with truncate => true.");
}

/* Takes the tail of the row's tokens out until the prompt fits; anywhere, as the reference does for what encoders read, or at the beginning
 * of a character. */
static slm_status cut_prompt(const slm_session *s, uint32_t max_tokens, bool anywhere, slm_prompt *p, slm_error *err)
{
    size_t excess = p->ids.n - max_tokens, cut;

    if (p->row_end - p->row_begin < excess)
        return too_long(s, p, max_tokens, err);
    cut = p->row_end - excess;
    while (cut > p->row_begin && !anywhere) {
        slm_bytes piece = slm_tokenizer_piece(s->model->tokenizer, p->ids.ids[cut], false);

        if (piece.length == 0 || ((unsigned char) piece.data[0] & 0xc0) != 0x80)
            break;
        cut--;
    }
    excess = p->row_end - cut;
    memmove(p->ids.ids + cut, p->ids.ids + p->row_end, (p->ids.n - p->row_end) * sizeof *p->ids.ids);
    if (p->marks != NULL)
        memmove(p->marks + cut, p->marks + p->row_end, p->ids.n - p->row_end);
    p->ids.n -= excess;
    if (p->pair_begin >= p->row_end)
        p->pair_begin -= excess;
    if (p->scored_begin >= p->row_end)
        p->scored_begin -= excess;
    else if (p->scored_begin > cut)
        p->scored_begin = cut;
    if (p->scored_end >= p->row_end)
        p->scored_end -= excess;
    else if (p->scored_end > cut)
        p->scored_end = cut;
    if (p->n_prefix > cut)
        p->n_prefix = cut;
    if (p->n_public > cut)
        p->n_public = cut;
    p->row_end = cut;
    return SLM_OK;
}

slm_status slm_job_prompt(slm_session *s, const slm_request *r, uint32_t max_tokens, slm_prompt *out, slm_error *err)
{
    const slm_mode_ops *mode = slm_mode_find(r->mode);
    slm_status status;

    memset(out, 0, sizeof *out);
    if (mode != NULL && mode->build != NULL)
        SLM_TRY(mode->build(s, r, out, err));
    else
        SLM_TRY(slm_prompt_build(s->model->tokenizer, r->chat, r->segments, r->n_segments, r->public_bytes, s->limits.stop, out, err));
    if (out->ids.n == 0 && s->model->hp.n_layers == 0) { /* a table of vectors: its last is zeros */
        status = slm_ids_push(&out->ids, (int32_t) s->model->hp.n_vocab - 1, err);
        if (status != SLM_OK) {
            slm_prompt_free(out);
            memset(out, 0, sizeof *out);
            return status;
        }
    }
    if (out->ids.n == 0) {
        slm_prompt_free(out);
        slm_fail(err, SLM_INVALID, "the prompt is empty");
        slm_blame(err, SLM_CAUSE_EMPTY);
        return SLM_INVALID;
    }
    if (max_tokens == 0 || out->ids.n <= max_tokens)
        return SLM_OK;
    status = r->truncate ? cut_prompt(s, max_tokens, mode != NULL && mode->encoder, out, err) : too_long(s, out, max_tokens, err);
    if (status != SLM_OK) {
        slm_prompt_free(out);
        memset(out, 0, sizeof *out);
    }
    return status;
}

/* ---- lengths and budget */

uint32_t slm_job_blocks(const slm_job *job, uint32_t reused)
{
    return slm_kv_blocks_for(job->end) - reused / SLM_KV_BLOCK + job->branch_blocks;
}

/* As an administrator reads it: kB below 10 MB, then MB; `up`: what is needed is not rounded down. */
static void put_size(char out[24], size_t bytes, bool up)
{
    size_t unit = bytes < ((size_t) 10 << 20) ? 1024 : (size_t) 1 << 20;
    snprintf(out, 24, "%zu %s", (bytes + (up ? unit - 1 : 0)) / unit, unit == 1024 ? "kB" : "MB");
}

slm_status slm_job_check_budget(const slm_session *s, const slm_job *job, slm_error *err)
{
    size_t stride = slm_kv_block_stride(s->pool);
    uint32_t need = slm_job_blocks(job, 0), have = slm_kv_capacity(s->pool);
    char needed[24], allowed[24];

    if (need <= have)
        return SLM_OK;
    put_size(needed, stride * need, true);
    put_size(allowed, stride * have, false);
    slm_fail(err, SLM_LIMIT, "the request needs %s of KV cache for %u tokens, but the budget is %s", needed, job->branch_end, allowed);
    if (need < have + slm_kv_blocks_for(job->n_prompt - job->n_prefix))
        slm_blame(err, SLM_CAUSE_LONG); /* without the row's own text it would fit */
    if (err != NULL)
        err->hint_code = SLM_HINT_KV_REQUEST;
    return slm_hint(err, "Raise the KV cache budget, shorten the prompt, or ask for fewer tokens.");
}

/* ---- the job */

slm_status slm_job_read_prompt(slm_session *s, const slm_request *r, slm_job *job, uint32_t answer, slm_prompt *prompt, slm_error *err)
{
    uint32_t context = s->model->hp.n_context;

    SLM_TRY(slm_job_prompt(s, r, answer < context ? context - answer : 1, prompt, err));
    job->ids = prompt->ids.ids;
    prompt->ids.ids = NULL;
    job->n_prompt = job->n_ids = job->id_room = (uint32_t) prompt->ids.n;
    job->n_prefix = (uint32_t) prompt->n_prefix;
    job->n_public = (uint32_t) prompt->n_public;
    job->result.usage.prompt_tokens = job->n_prompt;
    job->end = job->branch_end = job->prompt_end = job->n_prompt;
    job->first_out = job->n_prompt - 1;
    return SLM_OK;
}

static slm_status fill_job(slm_session *s, const slm_request *r, slm_job *job, slm_error *err)
{
    const slm_hparams *hp = &s->model->hp;

    job->realm = r->realm;
    job->public_realm = r->public_realm;
    if (r->adapter != NULL) {
        job->adapter = r->adapter;
        r->adapter->references++;
        job->regime = r->adapter->serial << SLM_REGIME_ADAPTER_SHIFT;
    }
    SLM_TRY(job->mode->prepare(s, r, job, err));
    if (job->mode->encoder)
        return SLM_OK;
    job->n_prefix = job->n_prefix < job->end ? job->n_prefix : job->end;
    job->n_public = job->n_public < job->n_prefix ? job->n_public : job->n_prefix;
    job->n_keep = job->n_prefix;
    if (hp->has_rope_factors == 2 && job->end > hp->n_ctx_original)
        job->regime |= SLM_REGIME_LONG;
    if (hp->rope_dynamic > 0 && job->end > hp->n_ctx_original)
        job->regime |= (uint64_t) job->end << SLM_REGIME_LENGTH_SHIFT;
    return slm_job_check_budget(s, job, err);
}

slm_status slm_job_from_request(slm_session *s, const slm_request *r, slm_job **out, slm_error *err)
{
    const slm_mode_ops *mode = slm_mode_find(r->mode);
    slm_job *job;
    slm_status status;

    if (mode == NULL)
        return slm_fail(err, SLM_INVALID, "unknown mode %d", (int) r->mode);
    SLM_TRY(check(s, mode, r, err));
    job = calloc(1, sizeof *job);
    if (job == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory for a request");
    job->mode = mode;
    status = fill_job(s, r, job, err);
    if (status != SLM_OK)
        slm_job_free(s, job);
    else
        *out = job;
    return status;
}
