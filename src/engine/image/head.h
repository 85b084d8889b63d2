/*
 * Everything of an image before its weights, written (private to image/).
 */
#ifndef SLM_IMAGE_HEAD_H
#define SLM_IMAGE_HEAD_H

#include "engine/base/status.h"
#include "engine/image/format.h"

/* What goes into the sections. */
typedef struct slm_image_head {
    const slm_hparams *hparams;
    const slm_model_info *info;
    const void *tokenizer;          /* [header.tokenizer.bytes] */
    slm_image_entry *entries;       /* [header.n_tensors]; are sorted */
} slm_image_head;

/* "mean", "cls, max, dense 128", "head on cls"; empty for a decoder. */
void slm_image_describe_pooling(const slm_hparams *hp, char *out, size_t size);
/* Bytes of its texts that are no UTF-8 become '?': they go to tables as they are.  False: one of them has no end. */
bool slm_image_clean_texts(slm_model_info *info);
/* A header of the present layout with sections one after the other, and the weights at the next page; the rest is zero. */
void slm_image_lay_out(size_t tokenizer_bytes, size_t n_tensors, slm_image_header *out);
/* Writes the head, with its checksum; h has the file's size and the weights' checksum. */
slm_status slm_image_write_head(int fd, slm_image_header *h, const slm_image_head *head, slm_error *err);

#endif
