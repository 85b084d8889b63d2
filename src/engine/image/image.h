/*
 * The packed model image: one file, mapped read-only and shared by every backend of the cluster (DESIGN D2).
 *
 *   | header | hparams | info | tokenizer blob | tensor directory | ...4 KiB... | tensors, each 64-byte aligned |
 *
 * The header holds magic, SLM_IMAGE_LAYOUT, byte order mark, offsets and sizes of the sections, an XXH3 checksum of everything before
 * the weights and one of the weights.  Opening validates it as if it were hostile: the file lies in a directory that only the server
 * writes, but disks rot and versions change.
 */
#ifndef SLM_IMAGE_IMAGE_H
#define SLM_IMAGE_IMAGE_H

#include "engine/arch/family.h"

typedef struct slm_image slm_image;

/* Maps and checks. */
slm_status slm_image_open(const char *path, slm_image **out, slm_error *err);
void slm_image_close(slm_image *image);
/* FORMAT once a page of it was missing, or slm_image_prewarm has found other weights than were written. */
slm_status slm_image_check(const slm_image *image, slm_error *err);
const slm_hparams *slm_image_hparams(const slm_image *image);
const slm_model_info *slm_image_info(const slm_image *image);
/* Does a model of these weights keep keys and values in F32?  The one place that says so: weights that were not rounded are worth it. */
bool slm_image_wide_keys(const slm_model_info *info);
/* The tokenizer's blob (text/tokenizer.h); size 0 when the model has no vocabulary. */
const void *slm_image_tokenizer(const slm_image *image, size_t *size);
/* The matrix of a role (layer 0 for roles that are not per layer); false when the model has none. Fused sources (QKV, GATE_UP)
 * are split by rows at import: the image holds only the split roles. */
bool slm_image_matrix(const slm_image *image, slm_tensor_role role, uint32_t layer, slm_weight *out);
/* A vector (norms, biases) as F32 [n]; NULL when the model has none. */
const float *slm_image_vector(const slm_image *image, slm_tensor_role role, uint32_t layer, uint32_t n);
/* Whole file into memory with the weights' checksum verified; for slm_model_prewarm. */
slm_status slm_image_prewarm(slm_image *image, slm_progress_fn progress, void *arg, const volatile int *stop, slm_error *err);
uint64_t slm_image_resident_bytes(const slm_image *image);
uint64_t slm_image_huge_bytes(const slm_image *image);

/* ---- building ---- */

/* A source of weights: a validated GGUF file or Hugging Face directory, behind one face. */
typedef struct slm_source slm_source;
struct slm_source {
    slm_hparams hparams;
    slm_model_info info;          /* family, name, licence, tokenizer, chat format...; counts are filled by the builder */
    void *tokenizer;              /* blob, malloc'ed by text/tokenizer_build */
    size_t tokenizer_bytes;
    slm_source_tensor *tensors;   /* [n_tensors], unique by (role, layer) */
    size_t n_tensors;
    void (*read_rows)(slm_source *source, const slm_source_tensor *tensor, uint32_t row, uint32_t n_rows, void *out,
                      slm_status *status, slm_error *err); /* pread of whole rows: a truncated file is an error, not SIGBUS */
    void (*close)(slm_source *source);
};

/* The tensors of an open image as a source, to write them with other types; the image must outlive it. */
slm_status slm_image_source(const slm_image *image, slm_source **out, slm_error *err);

/* Writes the image of a source; options->quantization converts matrices of float types. */
slm_status slm_image_write(slm_source *source, const char *path, const slm_import_options *options, slm_progress_fn progress, void *arg,
                           const volatile int *stop, slm_error *err);

/* Makes the tokenizer's blob of an earlier image one of the present form (malloc'ed), *out NULL: it is; fills in what the image could not
 * say of its model. */
typedef slm_status (*slm_image_convert_fn)(const void *blob, size_t bytes, slm_model_info *info, void **out, size_t *out_bytes,
                                           slm_error *err);
/* slm_image_rebuild of slm.h. */
slm_status slm_image_write_again(const char *from_path, const char *image_path, slm_image_convert_fn convert, slm_progress_fn progress,
                                 void *arg, const volatile int *stop, slm_error *err);

/* Does the file begin as an image does? */
bool slm_image_is(const char *path);
/* An image file of somebody else's as an image of ours: copied, then checked with the weights' checksum.  Status as slm_import. */
slm_status slm_image_copy(const char *from_path, const char *path, slm_progress_fn progress, void *arg, const volatile int *stop,
                          slm_model_info *info, slm_error *err);

/* slm_quantize_image of slm.h for a mapped image. */
slm_status slm_image_requantize(slm_image *image, const char *path, const slm_import_options *options, slm_progress_fn progress,
                                void *arg, const volatile int *stop, slm_model_info *info, slm_error *err);

#endif
