/*
 * Fuzz target of model files: any bytes as a GGUF file, through import, open, prewarm, tokenizing and two generated tokens.
 *
 * Promises: no crash, no status that means a bug, a message with every refusal, no image left after a failure, and nothing
 * refused after the import that the import let pass.  A broken promise traps.
 */
#include <stdint.h>
#include <stdlib.h>

#include "tools/try_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    slm_error err = {0};
    try_stage stage;
    char image[96];
    slm_status status = try_model(data, size, &err, &stage, NULL);
    try_image_path(image, sizeof image);
    if (status == SLM_INTERNAL || (status != SLM_OK && err.message[0] == '\0') || (status == SLM_FORMAT && stage != TRY_IMPORT) ||
        access(image, F_OK) == 0) {
        fprintf(stderr, "broken promise: status %d, stage %d, %s\n", status, stage, err.message);
        __builtin_trap();
    }
    return 0;
}
