/*
 * Adapters in the forward pass: what is added to a finished product, and the feed-forward of batches that have adapters (adapter.h).
 *
 *   stage 1   low[p][row] = A x        units: SLM_ADAPT_ROWS rows of one product
 *   stage 2   y[row] += s * (B low)    units: the same rows by SLM_ADAPT_PANELS panels of output columns
 *
 * Neighbouring rows with the same adapter go through one gemm call.  Batches without adapters never come here; in a batch with some,
 * rows without one take the same products and the same element-wise functions as ever, so their bits are those of a batch without.
 */
#include "engine/model/adapter.h"

#define SLM_ADAPT_ROWS 16
#define SLM_ADAPT_PANELS 16

static const slm_adapter *adapter_of(const slm_run *run, const uint32_t *rows, uint32_t i)
{
    return run->batch->adapters[rows == NULL ? i : rows[i]];
}

/* The pair of the rows from i on, NULL for none, and how many rows up to end have the same one. */
static const slm_adapter_pair *same_pair(const slm_run *run, const uint32_t *rows, uint32_t i, uint32_t end, uint32_t layer,
                                         slm_target target, uint32_t *count)
{
    const slm_adapter *adapter = adapter_of(run, rows, i);
    uint32_t n = 1;
    while (i + n < end && adapter_of(run, rows, i + n) == adapter)
        n++;
    *count = n;
    if (adapter == NULL || adapter->layers[layer][target].a.data == NULL)
        return NULL;
    return &adapter->layers[layer][target];
}

static uint32_t max_rank(const slm_batch *batch)
{
    uint32_t rank = 1;
    for (uint32_t i = 0; i < batch->n; i++)
        if (batch->adapters[i] != NULL && batch->adapters[i]->max_rank > rank)
            rank = batch->adapters[i]->max_rank;
    return rank;
}

slm_status slm_adapt_need(const slm_run *run, slm_error *err)
{
    slm_workspace *ws = run->ws;
    ws->ld_low = slm_round_up(max_rank(run->batch), 16);
    SLM_TRY(slm_buffer_need(&ws->low, 3 * (size_t) run->n, ws->ld_low * sizeof(float), err));
    SLM_TRY(slm_buffer_need(&ws->gate, run->n * run->ld.ff, sizeof(float), err));
    return slm_buffer_need(&ws->ff, run->n * run->ld.ff, sizeof(float), err);
}

static float *low_row(const slm_run *run, int product, uint32_t row)
{
    return (float *) run->ws->low.p + ((size_t) product * run->n + row) * run->ws->ld_low;
}

static void add_low(const slm_run *run, slm_scratch *s, const slm_adapter_pair *pair, const float *low, uint32_t panel, uint32_t panels,
                    float scale, uint32_t n, float *y, size_t ldy)
{
    float *tile = s->tile.p;
    size_t ld = 16 * (size_t) panels;
    slm_weight part = pair->b;
    uint32_t left = part.rows - 16 * panel, cols = left < ld ? left : (uint32_t) ld;
    part.data = (const char *) part.data + panel * part.panel_bytes;
    part.rows = cols;
    part.n_panels = panels;
    run->kn->gemm(&part, 0, panels, NULL, low, run->ws->ld_low, n, tile, ld, s->gemm.p);
    for (uint32_t r = 0; r < n; r++)
        for (uint32_t c = 0; c < cols; c++)
            y[r * ldy + 16 * (size_t) panel + c] += tile[r * ld + c] * scale;
}

/* Stage 2 of one product for rows [begin, end) and panels [panel, panel + SLM_ADAPT_PANELS) as far as they exist. */
static void add_rows(const slm_lane *t, uint32_t layer, const slm_adapted *p, int product, const uint32_t *rows, float scale,
        uint32_t begin,
                     uint32_t end, uint32_t panel)
{
    uint32_t count;
    for (uint32_t i = begin; i < end; i += count) {
        const slm_adapter_pair *pair = same_pair(t->run, rows, i, end, layer, p->target, &count);
        if (pair == NULL || panel >= pair->b.n_panels)
            continue;
        uint32_t panels = pair->b.n_panels - panel < SLM_ADAPT_PANELS ? pair->b.n_panels - panel : SLM_ADAPT_PANELS;
        add_low(t->run, t->s, pair, low_row(t->run, product, i), panel, panels, pair->scale * scale, count, p->y + i * p->ldy, p->ldy);
    }
}

void slm_stage_adapt(slm_lane *t, uint32_t layer, const slm_adapted *products, int n_products, const float *x, size_t ldx,
                     const uint32_t *rows, float scale, uint32_t n)
{
    const slm_run *run = t->run;
    uint32_t tiles = (n + SLM_ADAPT_ROWS - 1) / SLM_ADAPT_ROWS, groups = 1, b, e, count;
    for (int p = 0; p < n_products; p++) {
        uint32_t needed = (uint32_t) ((products[p].ldy / 16 + SLM_ADAPT_PANELS - 1) / SLM_ADAPT_PANELS);
        groups = needed > groups ? needed : groups;
    }
    while (slm_lane_next(t, tiles * (uint32_t) n_products, 1, &b, &e)) {
        int p = (int) (b % (uint32_t) n_products);
        uint32_t begin = b / (uint32_t) n_products * SLM_ADAPT_ROWS, end = n - begin < SLM_ADAPT_ROWS ? n : begin + SLM_ADAPT_ROWS;
        for (uint32_t i = begin; i < end; i += count) {
            const slm_adapter_pair *pair = same_pair(run, rows, i, end, layer, products[p].target, &count);
            if (pair != NULL)
                run->kn->gemm(&pair->a, 0, pair->a.n_panels, NULL, x + i * ldx, ldx, count, low_row(run, p, i), run->ws->ld_low,
                              t->s->gemm.p);
        }
    }
    slm_lane_end(t);
    while (slm_lane_next(t, tiles * groups * (uint32_t) n_products, 1, &b, &e)) {
        int p = (int) (b % (uint32_t) n_products);
        uint32_t group = b / (uint32_t) n_products % groups, begin = b / ((uint32_t) n_products * groups) * SLM_ADAPT_ROWS;
        uint32_t end = n - begin < SLM_ADAPT_ROWS ? n : begin + SLM_ADAPT_ROWS;
        add_rows(t, layer, &products[p], p, rows, scale, begin, end, group * SLM_ADAPT_PANELS);
    }
    slm_lane_end(t);
}

void slm_adapt_table(const slm_run *run, slm_scratch *s, uint32_t row, slm_target target, uint32_t index, float *x)
{
    const slm_adapter *adapter = run->batch == NULL ? NULL : run->batch->adapters[row];
    const slm_adapter_pair *pair = adapter == NULL ? NULL : &adapter->tables[target - SLM_TARGETS];
    if (pair == NULL || pair->a.data == NULL)
        return;
    run->kn->unpack_row(&pair->a, index, low_row(run, 0, row));
    for (uint32_t panel = 0; panel < pair->b.n_panels; panel += SLM_ADAPT_PANELS) {
        uint32_t left = pair->b.n_panels - panel;
        add_low(run, s, pair, low_row(run, 0, row), panel, left < SLM_ADAPT_PANELS ? left : SLM_ADAPT_PANELS, pair->scale, 1, x, 0);
    }
}

/* The inner row of the feed-forward in place of x; gate: what it is multiplied by, or room. */
static void activate(const slm_run *run, float *gate, float *x, uint32_t n)
{
    switch (run->hp->activation) {
    case SLM_ACT_GEGLU: run->kn->geglu(gate, x, x, n); return;
    case SLM_ACT_SWIGLU: run->kn->swiglu(gate, x, x, n); return;
    case SLM_ACT_GELU_ERF: run->kn->gelu_erf(x, x, n); return;
    case SLM_ACT_GEGLU_ERF:
        run->kn->gelu_erf(gate, gate, n);
        for (uint32_t c = 0; c < n; c++)
            x[c] *= gate[c];
        return;
    default: /* GELU_TANH, without a gate */
        for (uint32_t c = 0; c < n; c++)
            gate[c] = 1.0f;
        run->kn->geglu(x, gate, x, n);
    }
}

void slm_stage_feed_adapted(slm_lane *t, uint32_t layer, const slm_act *a, const uint32_t *rows, uint32_t n)
{
    slm_run *run = t->run;
    const slm_layer *l = &run->model->layers[layer];
    uint32_t width = l->down.cols;
    float *gate = run->ws->gate.p, *up = run->ws->ff.p;
    size_t ld = run->ld.ff, ldq = width / 32;
    slm_product products[2] = {{&l->up, l->up_bias, up, ld}, {&l->gate, NULL, gate, ld}};
    slm_adapted adapted[2] = {{SLM_TARGET_UP, up, ld}, {SLM_TARGET_GATE, gate, ld}};
    int n_products = l->gate.data != NULL ? 2 : 1;
    bool quantize = !slm_type_get(l->down.type)->is_float;
    uint32_t b, e;
    slm_stage_project(t, products, n_products, a, n);
    slm_lane_end(t);
    slm_stage_adapt(t, layer, adapted, n_products, a->x, a->ldx, rows, 1.0f, n);
    while (slm_lane_next(t, n, 4, &b, &e)) {
        for (uint32_t i = b; i < e; i++) {
            float *x = up + i * ld;
            activate(run, gate + i * ld, x, width);
            slm_qblock *q = (slm_qblock *) run->ws->ffq.p + i * ldq;
            if (quantize)
                slm_quantize_row(run, t->s, x, width, q, a->fine != NULL && a->fine[i] ? q + run->n * ldq : NULL);
        }
    }
    slm_lane_end(t);
}

slm_status slm_adapter_open(const char *image_path, const slm_model *base, slm_adapter **out, slm_error *err)
{
    return slm_adapter_map(image_path, &base->hp, out, err);
}
