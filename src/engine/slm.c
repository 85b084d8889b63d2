/*
 * The small public calls that belong to no module: versions, instruction sets, and text to tokens and back.
 */
#include "engine/slm.h"

#include <jansson.h>
#include <malloc.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utf8proc.h>
#include <xxhash.h>

#include "engine/base/pages.h"
#include "engine/kernels/kernels.h"
#include "engine/import/import.h"
#include "engine/model/model.h"
#include "engine/text/tags.h"

#define STRING_(x) #x
#define STRING(x) STRING_(x)

const char *slm_engine_version(void)
{
    return SLM_VERSION;
}

slm_status slm_set_isa(const char *name, slm_error *err)
{
    return slm_kernels_select(name, err);
}

const char *slm_isa(void)
{
    return slm_kernels_get()->isa;
}

const char *slm_isa_available(int i)
{
    const slm_kernels *table = i < 0 ? NULL : slm_kernels_nth(i);

    return table == NULL ? NULL : table->isa;
}

uint32_t slm_kv_bytes_per_token(const slm_model_info *info, slm_kv_type type)
{
    uint32_t heads = 2 * info->n_layers * info->n_kv_heads, dim;

    if (type != SLM_KV_Q8 || heads == 0)
        return info->kv_bytes_per_token;
    dim = info->kv_bytes_per_token / heads / (slm_image_wide_keys(info) ? sizeof(float) : sizeof(uint16_t));
    return heads * (dim + (dim + SLM_KV_GROUP - 1) / SLM_KV_GROUP * (uint32_t) sizeof(uint16_t));
}

slm_status slm_set_huge_pages(const char *how, slm_error *err)
{
    static const char *const names[] = {[SLM_HUGE_TRY] = "try", [SLM_HUGE_ON] = "on", [SLM_HUGE_OFF] = "off"};

    for (int i = 0; i < 3; i++)
        if (strcmp(how, names[i]) == 0) {
            slm_pages_want((slm_huge_pages) i);
            return SLM_OK;
        }
    return slm_fail(err, SLM_INVALID, "huge pages are \"try\", \"on\" or \"off\", not \"%s\"", how);
}

void slm_memory_trim(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

int slm_cpu_count(void)
{
    cpu_set_t set;
    long n;

    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return CPU_COUNT(&set);
    n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : (int) n;
}

bool slm_library_info(int i, const char **name, const char **version)
{
    static const struct {
        const char *name, *version;
    } libraries[] = {
        {"pcre2", STRING(PCRE2_MAJOR) "." STRING(PCRE2_MINOR)},
        {"utf8proc", STRING(UTF8PROC_VERSION_MAJOR) "." STRING(UTF8PROC_VERSION_MINOR) "." STRING(UTF8PROC_VERSION_PATCH)},
        {"jansson", JANSSON_VERSION},
        {"xxhash", STRING(XXH_VERSION_MAJOR) "." STRING(XXH_VERSION_MINOR) "." STRING(XXH_VERSION_RELEASE)},
    };

    if (i < 0 || (size_t) i >= sizeof libraries / sizeof *libraries)
        return false;
    *name = libraries[i].name;
    *version = libraries[i].version;
    return true;
}

/* ---- tokens */

static slm_status need_tokenizer(const slm_model *model, slm_error *err)
{
    if (model->tokenizer == NULL)
        return slm_fail(err, SLM_UNSUPPORTED, "model \"%s\" has no vocabulary", slm_model_get_info(model)->name);
    return SLM_OK;
}

slm_status slm_tokenize(const slm_model *model, const char *text, size_t length, bool special, const volatile int *stop, slm_tokens *out,
                        slm_error *err)
{
    slm_ids ids = {0};
    slm_status status;

    SLM_TRY(need_tokenizer(model, err));
    status = slm_tokenizer_encode(model->tokenizer, text, length, special, true, stop, &ids, err);
    if (status == SLM_OK)
        status = slm_model_check(model, err);
    if (status != SLM_OK) {
        free(ids.ids);
        return status;
    }
    out->ids = ids.ids;
    out->n = ids.n;
    return SLM_OK;
}

void slm_tokens_free(slm_tokens *tokens)
{
    if (tokens == NULL)
        return;
    free(tokens->ids);
    tokens->ids = NULL;
    tokens->n = 0;
}

slm_status slm_detokenize(const slm_model *model, const int32_t *ids, size_t n, bool special, const volatile int *stop, char **out,
                          size_t *length, slm_error *err)
{
    char *text = NULL;
    size_t bytes;

    SLM_TRY(need_tokenizer(model, err));
    SLM_TRY(slm_tokenizer_decode(model->tokenizer, ids, n, special, stop, &text, &bytes, err));
    if (slm_model_check(model, err) != SLM_OK) {
        free(text);
        return SLM_FORMAT;
    }
    *out = text;
    *length = bytes;
    return SLM_OK;
}

slm_status slm_chunk(const slm_model *model, const char *text, size_t length, size_t max_tokens, size_t overlap, const volatile int *stop,
                     size_t **offsets, size_t *n_chunks, slm_error *err)
{
    size_t *pieces, n;

    SLM_TRY(need_tokenizer(model, err));
    SLM_TRY(slm_tokenizer_chunk(model->tokenizer, text, length, max_tokens, overlap, stop, &pieces, &n, err));
    if (slm_model_check(model, err) != SLM_OK) {
        free(pieces);
        return SLM_FORMAT;
    }
    *offsets = pieces;
    *n_chunks = n;
    return SLM_OK;
}

slm_status slm_span_windows(const slm_model *model, const char *const *labels, size_t n_labels, const char *text, size_t length,
                            const volatile int *stop, size_t **offsets, size_t *n, slm_error *err)
{
    slm_wording how = slm_span_wording(&model->hp);
    size_t *windows = NULL;

    SLM_TRY(need_tokenizer(model, err));
    if (!slm_model_get_info(model)->can_find)
        return slm_fail(err, SLM_INVALID, "model \"%s\" does not find spans of labels", slm_model_get_info(model)->name);
    SLM_TRY(slm_worded_windows(model->tokenizer, &how, labels, n_labels, text, length, stop, &windows, n, err));
    if (slm_model_check(model, err) != SLM_OK) {
        free(windows);
        return SLM_FORMAT;
    }
    *offsets = windows;
    return SLM_OK;
}

slm_status slm_tag_words(const slm_model *model, const char *text, size_t length, const float *outputs, size_t n_outputs,
                         const volatile int *stop, slm_tagged **words, size_t *n_words, slm_error *err)
{
    SLM_TRY(need_tokenizer(model, err));
    SLM_TRY(slm_tags_read(model->tokenizer, text, length, slm_model_get_info(model)->n_labels, outputs, n_outputs, stop, words, n_words,
                          err));
    if (slm_model_check(model, err) != SLM_OK) {
        free(*words);
        return SLM_FORMAT;
    }
    return SLM_OK;
}

size_t slm_tag_entities(const slm_model *model, const slm_tagged *words, size_t n_words, slm_entity *out)
{
    const slm_model_info *info = slm_model_get_info(model);

    return slm_tags_join(info->labels, sizeof info->labels, info->n_labels, words, n_words, out);
}

/* ------------------------------------------------------------------ what needs two rooms */

slm_status slm_quantize_image(const slm_model *model, const char *image_path, const slm_import_options *options, slm_progress_fn progress,
                              void *progress_arg, const volatile int *stop, slm_model_info *info, slm_error *err)
{
    return slm_image_requantize(model->image, image_path, options, progress, progress_arg, stop, info, err);
}

slm_status slm_adapter_import(const char *source_path, const slm_model *base, const char *image_path, const slm_seal *seal,
                              const volatile int *stop, slm_adapter_info *info, slm_error *err)
{
    return slm_lora_import(source_path, &base->hp, image_path, seal, stop, info, err);
}

slm_status slm_adapter_look(const char *source_path, const slm_model *base, uint64_t *bytes, slm_error *err)
{
    return slm_lora_look(source_path, &base->hp, bytes, err);
}
