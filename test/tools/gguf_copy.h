/*
 * A GGUF file's keys, written again as they are.
 */
#ifndef GGUF_COPY_H
#define GGUF_COPY_H

#include "engine/import/gguf/gguf.h"
#include "tools/gguf_writer.h"

static inline void gw_copy_values(gw *w, const slm_gguf *g)
{
    for (size_t i = 0; i < slm_gguf_n_values(g); i++) {
        const slm_gguf_value *v = slm_gguf_value_at(g, i);
        unsigned char *bytes = malloc(v->bytes + 1);
        if (bytes == NULL || slm_gguf_read_value(g, v, bytes, NULL) != SLM_OK)
            abort();
        if (v->is_array)
            gw_kv_array(w, v->key, v->type, v->n);
        else
            gw_key(w, v->key, v->type);
        if (!v->is_array && v->type == SLM_GGUF_STRING)
            gw_u64(w, v->bytes);
        gw_raw(w, bytes, v->bytes);
        free(bytes);
    }
}

#endif
