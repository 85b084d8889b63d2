/*
 * The places of a role's rows in a tensor that several share.
 */
#include "engine/import/hf/fused.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

slm_hf_part slm_hf_part_of(const char *name, char *bare, uint32_t size)
{
    slm_hf_part p = {.parts = 1};
    const char *mark = strchr(name, '#');
    snprintf(bare, size, "%.*s", (int) (mark != NULL ? mark - name : (ptrdiff_t) strlen(name)), name);
    if (mark == NULL)
        return p;
    p.by_head = mark[1] == 'h';
    p.part = (uint32_t) (mark[1 + p.by_head] - '0');
    p.parts = (uint32_t) (mark[3 + p.by_head] - '0');
    return p;
}

uint64_t slm_hf_part_row(slm_hf_part p, uint32_t rows, uint32_t head_dim, uint32_t row, uint32_t *together)
{
    if (!p.by_head) {
        *together = rows - row;
        return (uint64_t) p.part * rows + row;
    }
    *together = head_dim - row % head_dim;
    return ((uint64_t) (row / head_dim) * p.parts + p.part) * head_dim + row % head_dim;
}
