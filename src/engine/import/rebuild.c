/*
 * slm_image_rebuild: an image of an earlier layout with the tables of its tokenizer in the present form.
 */
#include "engine/image/image.h"
#include "engine/text/tokenizer.h"

slm_status slm_image_rebuild(const char *from_path, const char *image_path, slm_progress_fn progress, void *progress_arg,
                             const volatile int *stop, slm_error *err)
{
    return slm_image_write_again(from_path, image_path, slm_tokenizer_convert, progress, progress_arg, stop, err);
}
