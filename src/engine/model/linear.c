/*
 * Products of activations and packed weights, as stages of a parallel region.
 *
 * A stage's items are a tile of rows times one or two panels (16 output columns each); a thread takes some that follow each other and
 * cuts them into units: rows of one tile, panels side by side.  Items of one row tile follow each other, so that its activations stay in
 * the L2 cache while the panels pass, and each thread reads its own part of the weights in the order of memory.  What follows a product
 * element by element (bias, residual sum, activation function, quantization for the next product) is done on the unit's tile while it is
 * in the L1 cache.
 *
 * Small batches are bound by memory: there a unit is what 50 us read, or three quarters of a thread's own part, so that where two matrices
 * take turns (gate and up) the core's prefetchers seldom have to begin anew; the last quarter is left for whoever is done first.
 * Large ones are bound by arithmetic: a unit is SLM_TILE_ROWS rows by a few panels, some 10 us, which also is how often *stop is polled.
 *
 * Every output element is computed by one gemm call from one row and one panel: its bits do not depend on the cut (DESIGN D4).
 */
#include <string.h>

#include "engine/model/run.h"

#define UNIT_BYTES 1572864
#define FETCH_BYTES 16384
#define PANEL_ROWS 4   /* up to so many rows the kernels take one panel at a time, from there on two */
#define TILE_FLOATS (SLM_TILE_ROWS * SLM_TILE_COLS)

typedef struct grid {
    uint32_t n, row_tile, row_tiles; /* rows */
    uint32_t panels, step, across;   /* panels, of an item, items of a row tile */
    uint32_t items, grain;
} grid;

/* A unit's tile has at most TILE_FLOATS floats.  `align` panels belong together. */
static grid grid_make(uint32_t n, uint32_t panels, size_t panel_bytes, uint32_t align, int n_threads)
{
    grid g = {.n = n, .panels = panels};
    g.row_tiles = (n + SLM_TILE_ROWS - 1) / SLM_TILE_ROWS;
    g.row_tile = (n + g.row_tiles - 1) / g.row_tiles;
    if (g.row_tiles > 1)
        g.row_tile = (uint32_t) slm_round_up(g.row_tile, 8);
    g.row_tiles = (n + g.row_tile - 1) / g.row_tile;
    g.step = n > PANEL_ROWS && align < 2 ? 2 : align;
    g.across = (panels + g.step - 1) / g.step;
    g.items = g.across * g.row_tiles;

    uint32_t most = TILE_FLOATS / 16 / g.row_tile / g.step, share = 3 * g.across / (4 * (uint32_t) n_threads);
    g.grain = n >= 32 ? 1 : (uint32_t) (UNIT_BYTES / panel_bytes) / g.step;
    if (n_threads > 1 && g.grain > share)
        g.grain = share;
    if (g.grain > most)
        g.grain = most;
    if (g.grain < 1)
        g.grain = 1;
    return g;
}

/* The unit that begins with item *index, cut at `end`; *index goes on behind it. */
static slm_unit grid_unit(const grid *g, uint32_t *index, uint32_t end)
{
    slm_unit u;
    uint32_t tile = *index / g->across, first = *index % g->across, left = g->across - first;
    uint32_t count = left < end - *index ? left : end - *index;
    u.row = tile * g->row_tile;
    u.rows = g->n - u.row < g->row_tile ? g->n - u.row : g->row_tile;
    u.panel = first * g->step;
    u.panels = g->panels - u.panel < count * g->step ? g->panels - u.panel : count * g->step;
    *index += count;
    return u;
}

/* The next unit of a stage, of what this thread has taken ([*b, *e), at first empty) or of what it takes now. */
static bool next_unit(slm_lane *t, const grid *g, uint32_t *b, uint32_t *e, slm_unit *u)
{
    if (*b >= *e && !slm_lane_next(t, g->items, g->grain, b, e))
        return false;
    *u = grid_unit(g, b, *e);
    return true;
}

void slm_stage_fetch(const slm_lane *t, const slm_weight *w, uint32_t align, uint32_t n)
{
    const slm_run *run = t->run;
    if (run->n_threads < 2 || n >= 32 || w->data == NULL)
        return;
    grid g = grid_make(n, w->n_panels, w->panel_bytes, align, run->n_threads);
    uint32_t panel = slm_stage_share(g.items, t->stage.thread, run->n_threads) * g.step;
    size_t bytes = g.step * w->panel_bytes < FETCH_BYTES ? g.step * w->panel_bytes : FETCH_BYTES;
    const char *p = (const char *) w->data + panel * w->panel_bytes;
    for (size_t i = 0; i < bytes; i += 64)
        __builtin_prefetch(p + i, 0, 2);
}

void slm_quantize_row(const slm_run *run, slm_scratch *s, const float *x, uint32_t cols, slm_qblock *q, slm_qblock *lo)
{
    run->kn->quantize(x, cols, 1, cols, q);
    if (lo == NULL)
        return;
    float *rest = s->rest.p;
    for (uint32_t c = 0; c < cols; c++)
        rest[c] = x[c] - q[c / 32].d * (float) q[c / 32].q[c % 32];
    run->kn->quantize(rest, cols, 1, cols, lo);
}

void slm_norm_row(const slm_run *run, slm_norm_of n, const float *x, float *y, uint32_t width)
{
    const slm_hparams *hp = run->hp;
    if (hp->n_decide > 0 && n.b != NULL) /* of a decision head */
        run->kn->layer_norm(x, n.w, n.b, y, width, hp->decide_eps);
    else if (hp->norm == SLM_NORM_RMS)
        run->kn->rms_norm(x, n.w, y, width, hp->norm_eps);
    else
        run->kn->layer_norm(x, n.w, n.b != NULL ? n.b : run->model->zeros, y, width, hp->norm_eps);
}

void slm_add_row(const slm_run *run, const slm_weight *w, uint32_t row, float *x, float *scratch)
{
    run->kn->unpack_row(w, row, scratch);
    for (uint32_t c = 0; c < w->cols; c++)
        x[c] += scratch[c];
}

/* Adds the second term of fine rows to y, run by run. */
static void add_fine(const slm_run *run, slm_scratch *s, const slm_weight *part, const slm_act *a, uint32_t row, uint32_t rows, float *y,
                     size_t ldy)
{
    float *tile = s->fine.p;
    size_t ld = 16 * (size_t) part->n_panels;
    for (uint32_t r = 0, n; r < rows; r += n) {
        uint8_t fine = a->fine[row + r];
        for (n = 1; r + n < rows && a->fine[row + r + n] == fine; n++)
            continue;
        if (!fine)
            continue;
        run->kn->gemm(part, 0, part->n_panels, a->lo + (row + r) * a->ldq, NULL, 0, n, tile, ld, s->gemm.p);
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t c = 0; c < ld; c++)
                y[(r + i) * ldy + c] += tile[i * ld + c];
    }
}

/* Panels [panel, panel + panels) of w for rows [row, row + rows) of a: y[r, 0..16 * panels). */
static void multiply(const slm_run *run, slm_scratch *s, const slm_weight *w, uint32_t panel, uint32_t panels, const slm_act *a,
                     uint32_t row, uint32_t rows, float *y, size_t ldy)
{
    slm_weight part = *w;
    uint32_t left = w->rows - 16 * panel;
    part.data = (const char *) w->data + panel * w->panel_bytes;
    part.rows = left < 16 * panels ? left : 16 * panels;
    part.n_panels = panels;
    run->kn->gemm(&part, 0, panels, a->q == NULL ? NULL : a->q + row * a->ldq, a->x == NULL ? NULL : a->x + row * a->ldx, a->ldx, rows, y,
                  ldy, s->gemm.p);
    if (a->lo != NULL && !slm_type_get(w->type)->is_float)
        add_fine(run, s, &part, a, row, rows, y, ldy);
}

void slm_product_unit(slm_run *run, slm_scratch *s, const slm_product *p, const slm_act *a, const slm_unit *u)
{
    multiply(run, s, p->w, u->panel, u->panels, a, u->row, u->rows, p->y + u->row * p->ldy + 16 * (size_t) u->panel, p->ldy);
}

/* Columns of a unit that exist: the last panel may be padded. */
static uint32_t unit_cols(const slm_unit *u, uint32_t rows_of_weight)
{
    uint32_t left = rows_of_weight - 16 * u->panel;
    return left < 16 * u->panels ? left : 16 * u->panels;
}

void slm_stage_project(slm_lane *t, const slm_product *products, int n_products,
                       const slm_act *a, uint32_t n)
{
    slm_run *run = t->run;
    uint32_t panels = 0, b = 0, e = 0;
    slm_unit all;
    for (int i = 0; i < n_products; i++)
        panels += products[i].w->n_panels;
    grid g = grid_make(n, panels, products[0].w->panel_bytes, 1, run->n_threads);
    while (next_unit(t, &g, &b, &e, &all)) {
        uint32_t base = 0;
        for (int i = 0; i < n_products; base += products[i].w->n_panels, i++) {
            const slm_product *p = &products[i];
            uint32_t first = all.panel > base ? all.panel - base : 0;
            uint32_t last = all.panel + all.panels > base ? all.panel + all.panels - base : 0;
            if (last > p->w->n_panels)
                last = p->w->n_panels;
            if (first >= last)
                continue;
            slm_unit u = {.row = all.row, .rows = all.rows, .panel = first, .panels = last - first};
            float *y = p->y + u.row * p->ldy + 16 * (size_t) first;
            multiply(run, t->s, p->w, first, u.panels, a, u.row, u.rows, y, p->ldy);
            if (p->bias != NULL)
                run->kn->add_bias(y, p->ldy, p->bias + 16 * (size_t) first, u.rows, unit_cols(&u, p->w->rows));
        }
    }
}

void slm_stage_residual(slm_lane *t, const slm_product *product, const slm_act *a,
                        float scale, uint32_t n)
{
    slm_run *run = t->run;
    const slm_weight *w = product->w;
    float *tile = t->s->tile.p;
    uint32_t b = 0, e = 0;
    slm_unit u;
    grid g = grid_make(n, w->n_panels, w->panel_bytes, 1, run->n_threads);
    while (next_unit(t, &g, &b, &e, &u)) {
        size_t ld = 16 * (size_t) u.panels;
        uint32_t cols = unit_cols(&u, w->rows);
        multiply(run, t->s, w, u.panel, u.panels, a, u.row, u.rows, tile, ld);
        if (product->bias != NULL)
            run->kn->add_bias(tile, ld, product->bias + 16 * (size_t) u.panel, u.rows, cols);
        run->kn->add_scaled(product->y + u.row * product->ldy + 16 * (size_t) u.panel, product->ldy, tile, ld, scale, u.rows, cols);
    }
}

/* A tile of the feed-forward's inner row, in the form that its last product takes. */
static void feed_store(slm_run *run, slm_scratch *s, const slm_feed *feed, const slm_unit *u, const float *tile, const uint8_t *fine)
{
    size_t ld = 16 * (size_t) u->panels;
    if (slm_type_get(feed->down->type)->is_float) {
        for (uint32_t r = 0; r < u->rows; r++)
            memcpy(feed->ff + (u->row + r) * feed->ldff + 16 * (size_t) u->panel, tile + r * ld, ld * sizeof(float));
        return;
    }
    size_t ldq = feed->ldq, at = u->row * ldq + u->panel / 2;
    slm_qblock *out = feed->q + at, *lo = feed->lo + at, *blocks = s->blocks.p;
    run->kn->quantize(tile, ld, u->rows, (uint32_t) ld, blocks); /* together: rows of two blocks alone take twice as long */
    for (uint32_t r = 0; r < u->rows; r++)
        if (fine != NULL && fine[u->row + r])
            slm_quantize_row(run, s, tile + r * ld, (uint32_t) ld, out + r * ldq, lo + r * ldq);
        else
            memcpy(out + r * ldq, blocks + r * (ld / 32), ld / 32 * sizeof *blocks);
}

void slm_feed_unit(slm_run *run, slm_scratch *s, const slm_feed *feed, const slm_act *a, const slm_unit *u)
{
    const slm_weight *up = feed->up, *gate = feed->gate;
    float *tile = s->tile.p, *tile_gate = tile + TILE_FLOATS;
    size_t ld = 16 * (size_t) u->panels;
    uint32_t count = (uint32_t) (u->rows * ld);
    multiply(run, s, up, u->panel, u->panels, a, u->row, u->rows, tile, ld);
    if (feed->up_bias != NULL)
        run->kn->add_bias(tile, ld, feed->up_bias + 16 * (size_t) u->panel, u->rows, unit_cols(u, up->rows));
    if (gate != NULL) {
        multiply(run, s, gate, u->panel, u->panels, a, u->row, u->rows, tile_gate, ld);
        if (run->hp->activation == SLM_ACT_GEGLU) {
            run->kn->geglu(tile_gate, tile, tile, count);
        } else if (run->hp->activation == SLM_ACT_GEGLU_ERF) {
            run->kn->gelu_erf(tile_gate, tile_gate, count);
            for (uint32_t c = 0; c < count; c++)
                tile[c] *= tile_gate[c];
        } else {
            run->kn->swiglu(tile_gate, tile, tile, count);
        }
    } else if (feed->relu) {
        for (uint32_t c = 0; c < count; c++)
            tile[c] = tile[c] > 0 ? tile[c] : 0;
    } else if (run->hp->activation == SLM_ACT_GELU_TANH) {
        run->kn->geglu(tile, tile_gate, tile, count); /* ones, see slm_stage_feed */
    } else {
        run->kn->gelu_erf(tile, tile, count);
    }
    feed_store(run, s, feed, u, tile, a->fine);
}

void slm_stage_feed(slm_lane *t, const slm_layer *layer, const slm_act *a, uint32_t n)
{
    slm_run *run = t->run;
    size_t ldq = layer->down.cols / 32;
    slm_qblock *q = run->ws->ffq.p;
    const slm_weight *up = &layer->up, *gate = layer->gate.data != NULL ? &layer->gate : NULL;
    slm_feed feed = {.gate = gate, .up = up, .down = &layer->down, .up_bias = layer->up_bias, .relu = layer->relu,
                     .ff = run->ws->ff.p, .ldff = run->ld.ff,
                     .q = q, .lo = q + run->n * ldq, .ldq = ldq};
    uint32_t b = 0, e = 0;
    slm_unit u;
    for (uint32_t c = 0; run->hp->activation == SLM_ACT_GELU_TANH && c < TILE_FLOATS; c++)
        ((float *) t->s->tile.p)[TILE_FLOATS + c] = 1.0f; /* what the GELU is multiplied by: no unit without a gate writes there */
    grid g = grid_make(n, up->n_panels, up->panel_bytes + (gate != NULL ? gate->panel_bytes : 0), 2, run->n_threads);
    while (next_unit(t, &g, &b, &e, &u))
        slm_feed_unit(run, t->s, &feed, a, &u);
}

slm_act slm_feed_act(const slm_run *run, uint32_t cols, const uint8_t *fine)
{
    slm_act a = {.q = run->ws->ffq.p, .x = run->ws->ff.p, .ldq = cols / 32, .ldx = run->ld.ff, .fine = fine};
    a.lo = fine == NULL ? NULL : a.q + run->n * a.ldq;
    return a;
}

void slm_stage_logits(slm_lane *t, const slm_weight *w, const slm_act *a, uint32_t n,
                      float *logits, size_t ld)
{
    slm_run *run = t->run;
    const slm_hparams *hp = run->hp;
    uint32_t b = 0, e = 0;
    slm_unit u;
    grid g = grid_make(n, w->n_panels, w->panel_bytes, 1, run->n_threads);
    while (next_unit(t, &g, &b, &e, &u)) {
        float *y = logits + u.row * ld + 16 * (size_t) u.panel;
        multiply(run, t->s, w, u.panel, u.panels, a, u.row, u.rows, y, ld);
        for (uint32_t r = 0; r < u.rows; r++) {
            float *row = y + r * ld;
            if (run->model->head_bias != NULL)
                run->kn->add_bias(row, ld, run->model->head_bias + 16 * (size_t) u.panel, 1, unit_cols(&u, w->rows));
            if (hp->logit_scale != 1.0f)
                for (uint32_t c = 0; c < 16 * u.panels; c++)
                    row[c] *= hp->logit_scale;
            if (hp->final_softcap > 0)
                run->kn->softcap(row, row, hp->final_softcap, 16 * u.panels);
        }
    }
}
