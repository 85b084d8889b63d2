/*
 * A packed image as a source of weights: for making another image of it with other weight types.
 *
 *   mapped image ──unpack_row──► floats ──► rows in the type that the source declares ──► slm_image_write
 *
 * Matrices of float types are handed on as they were (F16 and BF16 survive the way through floats exactly).  Quantized ones are declared
 * F32, so that the writer quantizes them; what it would never quantize (position embeddings and their like) thereby becomes F32.
 * Rows come out of the mapping as the forward pass reads them, so no second reader of packed panels exists.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/image/image.h"
#include "engine/kernels/kernels.h"
#include "engine/arch/family.h"

typedef struct image_source {
    slm_source base; /* first: slm_source * is image_source * */
    const slm_image *image;
} image_source;

static void read_vector(const image_source *s, const slm_source_tensor *t, uint32_t row, uint32_t n_rows, float *out)
{
    const float *values = slm_image_vector(s->image, t->role, t->layer, t->rows);
    memcpy(out, values + row, (size_t) n_rows * sizeof *out);
}

static void read_rows(slm_source *source, const slm_source_tensor *t, uint32_t row, uint32_t n_rows, void *out, slm_status *status,
                      slm_error *err)
{
    const image_source *s = (const image_source *) source;
    const slm_kernels *kn = slm_kernels_get();
    const slm_type_info *type = slm_type_get(t->type);
    slm_weight w;
    *status = SLM_OK;
    if (t->cols == 0) {
        read_vector(s, t, row, n_rows, out);
        return;
    }
    float *floats = malloc((size_t) t->cols * sizeof *floats);
    if (floats == NULL || !slm_image_matrix(s->image, t->role, t->layer, &w))
        *status = slm_fail(err, floats == NULL ? SLM_NOMEM : SLM_INTERNAL, "out of memory");
    for (uint32_t r = 0; *status == SLM_OK && r < n_rows; r++) {
        kn->unpack_row(&w, row + r, floats);
        *status = slm_quantize(t->type, floats, (unsigned char *) out + (size_t) r * t->cols * type->block_bytes, t->cols, err);
    }
    free(floats);
}

static void close_source(slm_source *source)
{
    free(source->tensors);
    free(source->tokenizer);
    free(source);
}

/* Every tensor of the image, layer by layer of each role. */
static slm_status list_tensors(image_source *s, slm_error *err)
{
    const slm_hparams *hp = &s->base.hparams;
    size_t room = (size_t) SLM_TENSOR_ROLES * slm_layer_slots(hp);
    s->base.tensors = calloc(room, sizeof *s->base.tensors);
    if (s->base.tensors == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (unsigned r = 0; r < SLM_TENSOR_ROLES; r++) {
        slm_tensor_role role = (slm_tensor_role) r;
        for (uint32_t layer = 0; layer < slm_layer_slots(hp); layer++) {
            slm_source_tensor t = {.role = role, .layer = layer, .type = SLM_TYPE_F32};
            slm_weight w;
            if (!slm_role_in_layer(hp, role, layer))
                continue;
            slm_role_shape(hp, role, layer, &t.rows, &t.cols);
            if (t.cols != 0 && slm_image_matrix(s->image, role, layer, &w))
                t.type = slm_type_get(w.type)->is_float ? w.type : SLM_TYPE_F32;
            else if (t.cols != 0 || slm_image_vector(s->image, role, layer, t.rows) == NULL)
                continue;
            s->base.tensors[s->base.n_tensors++] = t;
        }
    }
    return SLM_OK;
}

static slm_status copy_tokenizer(image_source *s, slm_error *err)
{
    size_t bytes;
    const void *blob = slm_image_tokenizer(s->image, &bytes);
    if (bytes == 0)
        return SLM_OK;
    s->base.tokenizer = malloc(bytes);
    if (s->base.tokenizer == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    memcpy(s->base.tokenizer, blob, bytes);
    s->base.tokenizer_bytes = bytes;
    return SLM_OK;
}

slm_status slm_image_source(const slm_image *image, slm_source **out, slm_error *err)
{
    image_source *s = calloc(1, sizeof *s);
    if (s == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    s->image = image;
    s->base.hparams = *slm_image_hparams(image);
    s->base.info = *slm_image_info(image);
    s->base.info.n_parameters = 0; /* the writer counts */
    s->base.read_rows = read_rows;
    s->base.close = close_source;
    slm_status status = list_tensors(s, err);
    if (status == SLM_OK)
        status = copy_tokenizer(s, err);
    if (status != SLM_OK) {
        close_source(&s->base);
        return status;
    }
    *out = &s->base;
    return SLM_OK;
}

/* ------------------------------------------------------------------ to other types */

/* Encoders whose activations are scaled carry weights that were divided by the same: they work with quantized activations only. */
static slm_status check_scaled(const slm_image *image, const char *type, slm_error *err)
{
    if (type == NULL)
        return slm_fail(err, SLM_INVALID, "no type to quantize to");
    int found = slm_type_by_name(type);
    if (found < 0 || !slm_type_get((uint32_t) found)->is_float ||
        slm_image_vector(image, SLM_TENSOR_ATTN_IN_SCALE, 0, slm_image_hparams(image)->n_embd) == NULL)
        return SLM_OK;
    slm_fail(err, SLM_INVALID, "the weights of this model were scaled for quantized types and cannot become %s",
             slm_type_get((uint32_t) found)->name);
    return slm_hint(err, "Load the model from its source with that quantization.");
}

slm_status slm_image_requantize(slm_image *image, const char *path, const slm_import_options *options, slm_progress_fn progress,
                                void *arg, const volatile int *stop, slm_model_info *info, slm_error *err)
{
    slm_source *source = NULL;
    SLM_TRY(check_scaled(image, options->quantization, err));
    /* the new image is named after the source of this one: a weight that has rotted must not go on under that name */
    SLM_TRY(slm_image_prewarm(image, progress, arg, stop, err));
    SLM_TRY(slm_image_source(image, &source, err));
    slm_status status = slm_image_write(source, path, options, progress, arg, stop, err);
    if (status == SLM_OK && slm_image_check(image, err) != SLM_OK) {
        unlink(path);
        status = SLM_FORMAT;
    }
    if (status == SLM_OK && info != NULL)
        *info = source->info;
    source->close(source);
    return status;
}
