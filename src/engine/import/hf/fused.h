/*
 * Roles whose weights are a part of a larger tensor: the end of a name in a family's table says which.
 *
 *   name#1/3    the second of three equal parts, one below the other (GPT-2's query, key and value)
 *   name#h1/3   the same within each head (GPT-NeoX's, Qwen 3.5's query and gate)
 */
#ifndef SLM_HF_FUSED_H
#define SLM_HF_FUSED_H

#include <stdbool.h>
#include <stdint.h>

typedef struct slm_hf_part {
    uint32_t part, parts; /* parts 1: all of the tensor */
    bool by_head;
} slm_hf_part;

/* What the end of a name says; the name without it to bare[size]. */
slm_hf_part slm_hf_part_of(const char *name, char *bare, uint32_t size);
/* Where row `row` of a role with `rows` rows lies in its tensor; *together: so many rows, it among them, follow each other there. */
uint64_t slm_hf_part_row(slm_hf_part p, uint32_t rows, uint32_t head_dim, uint32_t row, uint32_t *together);

#endif
