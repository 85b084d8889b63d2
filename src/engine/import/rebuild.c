/*
 * slm_image_rebuild: an image of an earlier layout with the tables of its tokenizer in the present form.
 */
#include <stdio.h>

#include "engine/image/image.h"
#include "engine/text/script.h"
#include "engine/text/tokenizer.h"

/* What version 0.1.0 did not keep: which scripts the vocabulary knows. */
static slm_status convert(const void *blob, size_t bytes, slm_model_info *info, void **out, size_t *out_bytes, slm_error *err)
{
    slm_tokenizer *tok = NULL;
    SLM_TRY(slm_tokenizer_convert(blob, bytes, out, out_bytes, err));
    SLM_TRY(slm_tokenizer_open(*out != NULL ? *out : blob, *out != NULL ? *out_bytes : bytes, &tok, err));
    info->scripts = slm_script_known(tok);
    slm_tokenizer_free(tok);
    snprintf(info->recognized, sizeof info->recognized, "image of version 0.1.0, tokenizer %s%s%s", info->tokenizer,
             info->chat_format[0] != '\0' ? ", chat format " : "", info->chat_format);
    return SLM_OK;
}

slm_status slm_image_rebuild(const char *from_path, const char *image_path, slm_progress_fn progress, void *progress_arg,
                             const volatile int *stop, slm_error *err)
{
    return slm_image_write_again(from_path, image_path, convert, progress, progress_arg, stop, err);
}
