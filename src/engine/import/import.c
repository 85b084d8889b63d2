/*
 * slm_import: a source of weights, whatever it is, to a packed image.
 *
 * The kind of source is told from the path: a directory is a Hugging Face model, a file is GGUF, or an image that was exported, which
 * is copied as it is.  The tokenizer's blob is opened once before it is written, so that an image never holds one that slm_model_open
 * would refuse.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/import/gguf/gguf.h"
#include "engine/import/hf/hf.h"
#include "engine/arch/family.h"
#include "engine/image/image.h"
#include "engine/slm.h"
#include "engine/text/script.h"
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
    size_t n = slm_tokenizer_size(tok), said = strlen(source->info.recognized);
    snprintf(source->info.recognized + said, sizeof source->info.recognized - said, ", tokenizer %s%s%s", source->info.tokenizer,
             source->info.chat_format[0] != '\0' ? ", chat format " : "", source->info.chat_format);
    source->info.scripts = slm_script_known(tok);
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
    if (options->quantization != NULL || options->chat_format != NULL || options->pre != NULL || options->rope != NULL ||
        options->pooling != NULL || options->eos != NULL || options->dimensions > 0)
        return slm_fail(err, SLM_INVALID, "an image is loaded as it is: without options");
    return slm_image_copy(source_path, image_path, progress, progress_arg, stop, info, err);
}

/* "none", "linear:FACTOR" or "base:NUMBER" in place of what the source says. */
static slm_status force_rope(slm_hparams *hp, const char *rope, slm_error *err)
{
    char *end = NULL;
    const char *colon = strchr(rope, ':');
    double number = colon != NULL ? strtod(colon + 1, &end) : 0;
    bool base = strncmp(rope, "base:", 5) == 0, linear = strncmp(rope, "linear:", 7) == 0, none = strcmp(rope, "none") == 0;
    bool good = none || ((base || linear) && end != colon + 1 && *end == '\0' && number >= 1 && number <= (base ? 1e9 : 1e4));
    if (!good) {
        slm_fail(err, SLM_INVALID, "the option \"rope\" is \"%.40s\"", rope);
        return slm_hint(err, "It may be \"none\", \"linear:4\" (positions are divided by it) or \"base:500000\".");
    }
    if (hp->n_rot == 0)
        return slm_fail(err, SLM_INVALID, "the option \"rope\" is given, but the model does not rotate its positions");
    if (base) {
        hp->rope_base = (float) number;
        return SLM_OK;
    }
    hp->has_rope_factors = 0;
    hp->rope_dynamic = 0;
    hp->rope_attn_factor = 1;
    hp->rope_scale = linear ? (float) number : 1;
    return SLM_OK;
}

static slm_status force_pooling(slm_hparams *hp, const char *pooling, slm_error *err)
{
    static const struct {
        const char *name;
        uint32_t pool;
    } pools[] = {{"mean", SLM_POOL_MEAN}, {"cls", SLM_POOL_CLS},   {"max", SLM_POOL_MAX},
                 {"sqrt", SLM_POOL_SQRT}, {"last", SLM_POOL_LAST}, {"weighted", SLM_POOL_WEIGHTED}};
    size_t i = 0, n = sizeof pools / sizeof pools[0];
    while (i < n && strcmp(pools[i].name, pooling) != 0)
        i++;
    if (i == n) {
        slm_fail(err, SLM_INVALID, "the option \"pooling\" is \"%.40s\"", pooling);
        return slm_hint(err, "It may be mean, cls, last, max, sqrt or weighted.");
    }
    if (!slm_hparams_embeds(hp))
        return slm_fail(err, SLM_INVALID, "the option \"pooling\" is given, but the model does not embed texts");
    if (hp->n_layers == 0 && pools[i].pool != SLM_POOL_MEAN) {
        slm_fail(err, SLM_INVALID, "the option \"pooling\" is \"%.40s\", but a table of vectors gives their mean", pooling);
        return slm_hint(err, "Leave the option out.");
    }
    if (hp->n_pools > 1 && hp->n_dense > 0)
        return slm_fail(err, SLM_INVALID, "the option \"pooling\" is given, but a dense module of the model takes %u poolings",
                        hp->n_pools);
    hp->n_pools = 1;
    hp->pooling = hp->pools[0] = pools[i].pool;
    return SLM_OK;
}

static slm_status force_dimensions(slm_hparams *hp, uint32_t dimensions, slm_error *err)
{
    hp->cut = 0;
    if (!slm_hparams_embeds(hp))
        return slm_fail(err, SLM_INVALID, "the option \"dimensions\" is given, but the model does not embed texts");
    if (dimensions > slm_hparams_outputs(hp))
        return slm_fail(err, SLM_INVALID, "the option \"dimensions\" is %u, but the model's vectors have %u", dimensions,
                        slm_hparams_outputs(hp));
    hp->cut = dimensions;
    return SLM_OK;
}

/* What the caller says in place of the source. */
static slm_status force(slm_source *source, const slm_import_options *options, slm_error *err)
{
    if (options->rope != NULL)
        SLM_TRY(force_rope(&source->hparams, options->rope, err));
    if (options->pooling != NULL)
        SLM_TRY(force_pooling(&source->hparams, options->pooling, err));
    if (options->dimensions > 0)
        SLM_TRY(force_dimensions(&source->hparams, options->dimensions, err));
    const struct {
        const char *key, *value;
    } said[] = {{"chat_format", options->chat_format}, {"pre", options->pre}, {"rope", options->rope}, {"pooling", options->pooling},
                {"eos", options->eos}, {"dimensions", options->dimensions > 0 ? "" : NULL}};
    char *out = source->info.recognized;
    for (size_t i = 0; i < sizeof said / sizeof said[0]; i++)
        if (said[i].value != NULL) {
            size_t n = strlen(out);
            snprintf(out + n, sizeof source->info.recognized - n, ", option %s", said[i].key);
        }
    return slm_hparams_check(&source->hparams, err);
}

/* The warnings stay with the model. */
static void keep_notes(slm_source *source, const slm_warnings *warnings)
{
    size_t n = 0, size = sizeof source->info.notes;
    for (uint32_t i = 0; warnings != NULL && i < warnings->n && i < SLM_MAX_WARNINGS && n < size; i++)
        n += (size_t) snprintf(source->info.notes + n, size - n, "%s%s", i > 0 ? "\n" : "", warnings->warnings[i].message);
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
        status = force(source, &chosen, err);
    if (status == SLM_OK)
        keep_notes(source, chosen.warnings);
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
