/*
 * The head of an image: where its sections lie, and their bytes with the checksum over all of them.  format.h has the layout.
 */
#include "engine/image/head.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "engine/base/file.h"
#include "engine/base/utf8.h"
#include "engine/image/image.h"
#include "engine/kernels/types.h"

static uint64_t up64(uint64_t n)
{
    return (n + 63) & ~(uint64_t) 63;
}

void slm_image_lay_out(size_t tokenizer_bytes, size_t n_tensors, slm_image_header *out)
{
    slm_image_header *h = out;
    memset(h, 0, sizeof *h);
    memcpy(h->magic, SLM_IMAGE_MAGIC, 8);
    h->layout = SLM_IMAGE_LAYOUT;
    h->byte_order = SLM_IMAGE_BYTE_ORDER;
    h->header_bytes = sizeof *h;
    h->n_tensors = (uint32_t) n_tensors;
    h->hparams = (slm_image_section){up64(sizeof *h), sizeof(slm_hparams)};
    h->info = (slm_image_section){up64(h->hparams.offset + h->hparams.bytes), sizeof(slm_model_info)};
    h->tokenizer = (slm_image_section){up64(h->info.offset + h->info.bytes), tokenizer_bytes};
    h->directory = (slm_image_section){up64(h->tokenizer.offset + h->tokenizer.bytes), n_tensors * sizeof(slm_image_entry)};
    uint64_t page = SLM_IMAGE_WEIGHTS_ALIGN, end = h->directory.offset + h->directory.bytes;
    h->weights_offset = (end + page - 1) & ~(page - 1);
}

static int by_role(const void *a, const void *b)
{
    const slm_image_entry *x = a, *y = b;
    if (x->role != y->role)
        return x->role < y->role ? -1 : 1;
    return x->layer < y->layer ? -1 : x->layer > y->layer;
}

static const char *pool_name(uint32_t pool)
{
    static const char *const names[] = {"", "mean", "cls", "", "max", "sqrt", "weighted", "last"};
    return pool < sizeof names / sizeof names[0] ? names[pool] : "";
}

void slm_image_describe_pooling(const slm_hparams *hp, char *out, size_t size)
{
    size_t n = 0;
    out[0] = '\0';
    if (hp->causal)
        return;
    if (hp->pooling == SLM_POOL_RANK)
        snprintf(out, size, hp->joint ? "head on every label" : hp->tags ? "head on every token" : "head on %s", pool_name(hp->head_pool));
    if (hp->pooling == SLM_POOL_SPANS)
        snprintf(out, size, "spans of labels");
    for (uint32_t i = 0; i < hp->n_pools && n < size; i++)
        n += (size_t) snprintf(out + n, size - n, "%s%s", i > 0 ? ", " : "", pool_name(hp->pools[i]));
    for (uint32_t i = 0; i < hp->n_dense && n < size; i++)
        n += (size_t) snprintf(out + n, size - n, ", dense %u", hp->dense_rows[i]);
    if (hp->cut > 0 && n < size)
        snprintf(out + n, size - n, ", cut to %u", hp->cut);
}

static void clean(char *text, size_t length)
{
    for (size_t at = 0; at < length;) {
        int n = slm_utf8_char_length(text + at, length - at);
        if (n == 0)
            text[at] = '?';
        at += n == 0 ? 1 : (size_t) n;
    }
}

bool slm_image_wide_keys(const slm_model_info *info)
{
    return strcmp(info->quantization, slm_type_get(SLM_TYPE_F32)->name) == 0;
}

bool slm_image_clean_texts(slm_model_info *info)
{
    const struct {
        char *text;
        size_t size;
    } texts[] = {{info->family, sizeof info->family},         {info->name, sizeof info->name},
                 {info->quantization, sizeof info->quantization}, {info->chat_format, sizeof info->chat_format},
                 {info->tokenizer, sizeof info->tokenizer},   {info->licence, sizeof info->licence},
                 {info->query_prompt, sizeof info->query_prompt}, {info->document_prompt, sizeof info->document_prompt},
                 {info->pooling, sizeof info->pooling},       {info->recognized, sizeof info->recognized},
                 {info->languages, sizeof info->languages},   {info->notes, sizeof info->notes}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        const char *end = memchr(texts[i].text, 0, texts[i].size);
        if (end == NULL)
            return false;
        clean(texts[i].text, (size_t) (end - texts[i].text));
    }
    clean(info->labels, sizeof info->labels); /* one behind the other */
    return info->labels[sizeof info->labels - 1] == '\0';
}

slm_status slm_image_write_head(int fd, slm_image_header *h, const slm_image_head *head, slm_error *err)
{
    unsigned char *bytes = calloc(1, (size_t) h->weights_offset);
    if (bytes == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    qsort(head->entries, h->n_tensors, sizeof *head->entries, by_role);
    memcpy(bytes + h->directory.offset, head->entries, (size_t) h->directory.bytes);
    memcpy(bytes + h->hparams.offset, head->hparams, sizeof *head->hparams);
    memcpy(bytes + h->info.offset, head->info, sizeof *head->info);
    if (h->tokenizer.bytes > 0)
        memcpy(bytes + h->tokenizer.offset, head->tokenizer, (size_t) h->tokenizer.bytes);
    h->head_checksum = 0;
    memcpy(bytes, h, sizeof *h);
    h->head_checksum = XXH3_64bits(bytes, (size_t) h->weights_offset);
    memcpy(bytes, h, sizeof *h);
    slm_status status = slm_file_write(fd, bytes, (size_t) h->weights_offset, 0, err);
    free(bytes);
    return status;
}
