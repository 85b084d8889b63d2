/*
 * slm_import: a source of weights, whatever it is, to a packed image.
 *
 * The kind of source is told from the path: a directory is a Hugging Face model, a file is GGUF, or an image that was exported, which
 * is copied as it is.  The tokenizer's blob is opened once before it is written, so that an image never holds one that slm_model_open
 * would refuse.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/import/gguf/gguf.h"
#include "engine/import/hf/hf.h"
#include "engine/image/image.h"
#include "engine/slm.h"
#include "engine/text/tokenizer.h"

static slm_status open_source(const char *path, slm_import_options *options, const volatile int *stop, slm_source **out,
                              slm_error *err)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return slm_fail_os(err, errno, "cannot open \"%s\"", path);
    if (!S_ISDIR(st.st_mode))
        return slm_gguf_source(path, options, stop, out, err);
    if (options->pre != NULL)
        return slm_fail(err, SLM_INVALID, "a pre-tokenizer can be chosen for GGUF files only: a directory describes its own");
    if (options->quantization == NULL)
        options->quantization = "Q8_0";
    return slm_hf_open(path, options, stop, out, err);
}

static slm_status describe_tokenizer(slm_source *source, slm_error *err)
{
    slm_tokenizer *tok = NULL;
    if (source->tokenizer_bytes == 0)
        return SLM_OK;
    SLM_TRY(slm_tokenizer_open(source->tokenizer, source->tokenizer_bytes, &tok, err));
    snprintf(source->info.tokenizer, sizeof source->info.tokenizer, "%s", slm_tokenizer_name(tok));
    if (source->hparams.causal)
        snprintf(source->info.chat_format, sizeof source->info.chat_format, "%s", slm_tokenizer_chat_format(tok));
    size_t n = slm_tokenizer_size(tok);
    slm_tokenizer_free(tok);
    if (n != source->hparams.n_vocab)
        return slm_fail(err, SLM_FORMAT, "the vocabulary has %zu tokens, the model %u", n, source->hparams.n_vocab);
    return SLM_OK;
}

/* The seal has the last word. */
static slm_status end_seal(slm_status status, const char *image_path, slm_error *err)
{
    slm_status end = slm_seal_end(status, err);
    if (status == SLM_OK && end != SLM_OK)
        unlink(image_path);
    return end;
}

/* An image: its bytes are what it is. */
static slm_status import_image(const char *source_path, const char *image_path, const slm_import_options *options,
                               slm_progress_fn progress, void *progress_arg, const volatile int *stop, slm_model_info *info,
                               slm_error *err)
{
    if (options->quantization != NULL || options->chat_format != NULL || options->pre != NULL)
        return slm_fail(err, SLM_INVALID, "an image is loaded as it is: without options");
    return slm_image_copy(source_path, image_path, progress, progress_arg, stop, info, err);
}

slm_status slm_import(const char *source_path, const char *image_path, const slm_import_options *options, slm_progress_fn progress,
                      void *progress_arg, const volatile int *stop, slm_model_info *info, slm_error *err)
{
    slm_source *source = NULL;
    slm_import_options chosen = {.quantization = NULL};
    if (options != NULL)
        chosen = *options;
    if (chosen.warnings != NULL)
        chosen.warnings->n = 0;
    SLM_TRY(slm_seal_begin(chosen.seal, err));
    if (slm_image_is(source_path))
        return end_seal(import_image(source_path, image_path, &chosen, progress, progress_arg, stop, info, err), image_path, err);
    slm_status status = open_source(source_path, &chosen, stop, &source, err);
    if (status == SLM_OK)
        status = describe_tokenizer(source, err);
    if (status == SLM_OK)
        status = slm_image_write(source, image_path, &chosen, progress, progress_arg, stop, err);
    if (status == SLM_OK && info != NULL)
        *info = source->info;
    if (source != NULL)
        source->close(source);
    return end_seal(status, image_path, err);
}

slm_status slm_source_look(const char *source_path, uint64_t *bytes, slm_error *err)
{
    struct stat st;
    if (stat(source_path, &st) != 0)
        return slm_fail_os(err, errno, "cannot open \"%s\"", source_path);
    if (slm_image_is(source_path)) {
        *bytes = (uint64_t) st.st_size;
        return SLM_OK;
    }
    return S_ISDIR(st.st_mode) ? slm_hf_look(source_path, bytes, err) : slm_gguf_look(source_path, bytes, err);
}
