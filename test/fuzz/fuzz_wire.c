/*
 * Fuzz target of the messages between processes (engine/wire/wire.h): any bytes as a request and as a result.
 *
 * Promises: no crash, nothing but FORMAT or NOMEM, a message with every refusal; what is taken packs to the very bytes that it came from,
 * so nothing in a message goes unread.  A broken promise traps.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void refused(slm_status status, const slm_error *err)
{
    if ((status != SLM_FORMAT && status != SLM_NOMEM) || err->message[0] == '\0')
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *again = malloc(size + 1);
    slm_wire_request request;
    slm_wire_result result;
    slm_error err = {0};
    slm_status status;

    if (again == NULL)
        return 0;
    status = slm_wire_read_request(data, size, &request, &err);
    if (status != SLM_OK)
        refused(status, &err);
    else if (slm_wire_pack_request(request.number, &request.names, &request.request, again, size) != size ||
             memcmp(again, data, size) != 0)
        __builtin_trap();
    if (status == SLM_OK)
        slm_wire_request_free(&request);
    status = slm_wire_read_result(data, size, &result, &err);
    if (status != SLM_OK)
        refused(status, &err);
    else if (slm_wire_pack_result(result.number, &result.result, again, size) != size || memcmp(again, data, size) != 0)
        __builtin_trap();
    if (status == SLM_OK)
        slm_wire_result_free(&result);
    free(again);
    return 0;
}
