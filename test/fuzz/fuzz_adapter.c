/*
 * Fuzz target of adapter files: any bytes as a GGUF adapter for the tiny model, through import, open and one forward pass of two tokens.
 *
 * Promises: no crash, no status that means a bug, a message with every refusal, no image left after a failure, and nothing refused
 * after the import that the import let pass.  A broken promise traps.  (PEFT directories: their parts have fuzz_safetensors.)
 */
#include <stdint.h>

#include "engine/model/adapter.h"
#include "model_test.h"
#include "tiny_model.h"
#include "tools/try_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void forward(const slm_model *model, const slm_adapter *adapter)
{
    static slm_workspace *ws;
    static const int32_t ids[2] = {65, 66};
    const slm_adapter *adapters[2] = {adapter, NULL};
    test_sequence s = test_sequence_new(model, 2);
    test_batch t = test_batch_new(2);
    if (ws == NULL)
        ws = slm_workspace_new();
    t.b.adapters = adapters;
    test_batch_add(&t, &s, ids, 2, 2, 1);
    test_run(model, ws, &t, 1, NULL);
    test_batch_free(&t);
    test_sequence_free(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static slm_model *model;
    char path[64], image[96];
    slm_adapter *adapter = NULL;
    slm_error err = {0};
    bool imported = false;
    if (model == NULL)
        model = tiny_model("F32");
    int fd = try_file(data, size, path, sizeof path);
    try_image_path(image, sizeof image);
    unlink(image);
    slm_status status = slm_adapter_import(path, model, image, NULL, NULL, NULL, &err);
    if (status == SLM_OK) {
        imported = true;
        status = slm_adapter_open(image, model, &adapter, &err);
        unlink(image);
    }
    if (status == SLM_OK)
        forward(model, adapter);
    slm_adapter_close(adapter);
    close(fd);
    if (status == SLM_INTERNAL || (status != SLM_OK && (imported || err.message[0] == '\0')) || access(image, F_OK) == 0) {
        fprintf(stderr, "broken promise: status %d, %s\n", status, err.message);
        __builtin_trap();
    }
    return 0;
}
