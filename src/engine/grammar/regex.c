/*
 * Regular expressions as whole grammars: one value, one lexeme.
 */
#include <stdlib.h>

#include "engine/grammar/compile.h"
#include "engine/grammar/pattern.h"

static uint32_t one_value(slm_machine *m, slm_value v)
{
    if (!SLM_GROW(&m->budget, m->values, m->values_capacity, (uint64_t) (m->n_values == 0 ? 2 : m->n_values + 1)))
        return 0;
    if (m->n_values == 0)
        m->n_values = 1;
    m->values[m->n_values] = v;
    return m->n_values++;
}

uint32_t slm_regex_compile(slm_machine *m, const char *text, size_t n)
{
    slm_rx e = slm_pattern_compile(&m->rx, text, n, SLM_PATTERN_WHOLE);
    if (!m->budget.failed && !slm_rx_is_live(&m->rx, e) && !m->budget.failed)
        slm_budget_fail(&m->budget, SLM_INVALID, "no text matches the pattern");
    return m->budget.failed ? 0 : one_value(m, (slm_value) {.scalar = e, .live = true});
}
