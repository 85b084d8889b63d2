/*
 * Products with the packed weights, and what adapters add to them.
 *
 *   forward    y[n, rows] = x W' + bias + low B'        low = scale * x A'
 *   backward   dx[n, cols] = dy W + dlow A               dlow = scale * dy B
 *              gradient of A += dlow' x / 1, of B' += low' dy
 *
 * Forward a unit is some panels by a tile of rows, as in the forward pass of answers.  Backward the sum runs over the weight's rows, across
 * its panels: a unit is 64 columns of dx, for which blocks of 512 rows are unpacked and turned, and then multiplied with all of the unit's
 * rows of dy.  Every element is made by one unit, so no bits depend on the cut.
 *
 * Dropout: an adapter sees x times a mask of 0 and 1 / (1 - p), which is drawn anew wherever it is needed, by seed, layer, input, row and
 * column.  Projections of one input have one mask.
 */
#include <string.h>

#include "engine/base/rng.h"
#include "engine/learn/learn.h"

#define ROW_TILE 256
#define GROUP 2 /* panels of a unit */

slm_learn_product slm_learn_product_of(const slm_learn *t, uint32_t layer, slm_target target, float *y, size_t ldy)
{
    const slm_layer *l = &t->model->layers[layer];
    const slm_weight *w[SLM_TARGETS] = {&l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down};
    const float *bias[SLM_TARGETS] = {l->q_bias, l->k_bias, l->v_bias, l->o_bias, NULL, l->up_bias, l->down_bias};
    return (slm_learn_product){.w = w[target],
                               .bias = bias[target],
                               .target = target,
                               .adapted = t->pairs[layer][target].rank > 0,
                               .y = y,
                               .ldy = ldy};
}

static float *low_rows(const slm_learn *t, const slm_learn_kept *kept, slm_target target)
{
    return kept->low + (size_t) target * t->capacity * t->rank;
}

static bool in_floats(const slm_learn *t, const slm_weight *w)
{
    return t->exact || slm_type_get(w->type)->is_float;
}

static bool drops(const slm_learn_lane *l)
{
    return l->t->dropped > 0 && l->run->backward;
}

/* out[rows, cols] = x times the mask of the input of `target`, rows from `row`, columns from `col`, a multiple of 4; add: out +=. */
static void drop(const slm_learn *t, uint32_t layer, slm_target target, uint32_t row, uint32_t rows, uint32_t col, uint32_t cols,
                 const float *x, size_t ldx, float *out, size_t ldo, bool add)
{
    float kept = 65536.0f / (float) (65536 - t->dropped);
    uint64_t input = (uint64_t) (layer * SLM_TARGETS + target) << 44;
    for (uint32_t r = 0; r < rows; r++, x += ldx, out += ldo) {
        uint64_t draw = 0, place = input | (uint64_t) (row + r) << 20;
        for (uint32_t c = 0; c < cols; c++) {
            draw = c % 4 == 0 ? slm_rng_at(t->drop_seed, place + (col + c) / 4) : draw >> 16;
            float value = (draw & 65535) < t->dropped ? 0.0f : kept * x[c];
            out[c] = add ? out[c] + value : value;
        }
    }
}

void slm_learn_enter(slm_learn_lane *l, uint32_t layer, slm_learn_kept *kept, const slm_learn_product *p, int n_products, const float *x,
                     size_t ldx, uint32_t b, uint32_t e)
{
    slm_learn *t = l->t;
    uint32_t cols = p[0].w->cols;
    bool quantize = false;
    for (int i = 0; i < n_products; i++)
        quantize = quantize || !in_floats(t, p[i].w);
    if (quantize)
        t->kn->quantize(x + b * ldx, ldx, e - b, cols, t->blocks + b * (size_t) (cols / 32));
    x += b * ldx;
    if (drops(l)) {
        drop(t, layer, p[0].target, b, e - b, 0, cols, x, ldx, l->s->drop, cols, false);
        x = l->s->drop;
        ldx = cols;
    }
    for (int i = 0; i < n_products; i++) {
        if (!p[i].adapted)
            continue;
        float *low = low_rows(t, kept, p[i].target) + (size_t) b * t->rank;
        const float *turned = slm_learn_a(t, t->turned, layer, p[i].target);
        t->kn->matmul(x, ldx, 1, turned, t->rank, e - b, t->rank, cols, low, t->rank, 0);
        for (size_t k = 0; k < (size_t) (e - b) * t->rank; k++)
            low[k] *= t->scale;
    }
}

/* One unit of a forward product: panels [panel, panel + panels) for rows [row, row + rows). */
static void forward_unit(slm_learn_lane *l, uint32_t layer, const slm_learn_kept *kept, const slm_learn_product *p, const float *x,
                         size_t ldx, uint32_t row, uint32_t rows, uint32_t panel, uint32_t panels)
{
    slm_learn *t = l->t;
    const slm_weight *w = p->w;
    float *y = p->y + row * p->ldy;
    uint32_t first = 16 * panel, cols = w->rows - first < 16 * panels ? w->rows - first : 16 * panels;
    if (t->exact && !slm_type_get(w->type)->is_float) {
        float *wide = l->s->chunk;
        for (uint32_t i = panel; i < panel + panels; i++) {
            for (uint32_t k = 0; k < w->cols; k += 32)
                t->kn->unpack_block(w, i, k / 32, wide + 16 * (size_t) k);
            t->kn->matmul(x + row * ldx, ldx, 1, wide, 16, rows, 16, w->cols, y + 16 * (size_t) i, p->ldy, 0);
        }
    } else {
        t->kn->gemm(w, panel, panel + panels, t->blocks + row * (size_t) (w->cols / 32), x + row * ldx, ldx, rows, y, p->ldy, l->s->gemm);
    }
    y += first;
    if (p->bias != NULL)
        for (uint32_t r = 0; r < rows; r++)
            for (uint32_t c = 0; c < cols; c++)
                y[r * p->ldy + c] += p->bias[first + c];
    if (p->adapted)
        t->kn->matmul(low_rows(t, kept, p->target) + (size_t) row * t->rank, t->rank, 1,
                      slm_learn_b(t, t->values, layer, p->target) + first, w->rows, rows, cols, t->rank, y, p->ldy, 1);
}

void slm_learn_forward(slm_learn_lane *l, uint32_t layer, const slm_learn_kept *kept, const slm_learn_product *p, int n_products,
                       const float *x, size_t ldx, uint32_t n)
{
    uint32_t groups = 0, tiles = (n + ROW_TILE - 1) / ROW_TILE, b, e;
    for (int i = 0; i < n_products; i++)
        groups += (p[i].w->n_panels + GROUP - 1) / GROUP;
    while (slm_learn_next(l, groups * tiles, 1, &b, &e)) {
        uint32_t row = b / groups * ROW_TILE, group = b % groups;
        const slm_learn_product *q = p;
        for (uint32_t own; group >= (own = (q->w->n_panels + GROUP - 1) / GROUP); q++)
            group -= own;
        uint32_t panel = group * GROUP, left = q->w->n_panels - panel;
        forward_unit(l, layer, kept, q, x, ldx, row, n - row < ROW_TILE ? n - row : ROW_TILE, panel, left < GROUP ? left : GROUP);
    }
    slm_learn_end(l);
}

void slm_learn_leave(slm_learn_lane *l, uint32_t layer, const slm_learn_product *p, int n_products, uint32_t b, uint32_t e)
{
    slm_learn *t = l->t;
    for (int i = 0; i < n_products; i++) {
        const float *dy = p[i].y + b * p[i].ldy;
        uint32_t rows = p[i].w->rows;
        if (t->bf16 != NULL)
            for (uint32_t r = 0; r < e - b; r++)
                t->bf16->from_floats(dy + r * p[i].ldy, t->half[i] + (b + r) * t->ld_half, rows);
        if (!p[i].adapted)
            continue;
        float *dlow = t->dlow + ((size_t) i * t->capacity + b) * t->rank;
        t->kn->matmul(dy, p[i].ldy, 1, slm_learn_b(t, t->turned, layer, p[i].target), t->rank, e - b, t->rank, rows, dlow, t->rank, 0);
        for (size_t k = 0; k < (size_t) (e - b) * t->rank; k++)
            dlow[k] *= t->scale;
    }
}

/* Rows [row, row + rows) of w, columns [col, col + 64), as floats: out[rows][64]; what does not exist is zero. */
static void chunk_floats(slm_learn_lane *l, const slm_weight *w, uint32_t panel, uint32_t panels, uint32_t col, float *out)
{
    for (uint32_t half = 0; half < SLM_LEARN_COLS; half += 32) {
        uint32_t first = col + half, n = first >= w->cols ? 0 : w->cols - first < 32 ? w->cols - first : 32;
        for (uint32_t i = 0; i < panels; i++) {
            float *to = out + (size_t) i * 16 * SLM_LEARN_COLS + half;
            if (n > 0)
                l->t->kn->unpack_block(w, panel + i, first / 32, l->s->block);
            for (uint32_t r = 0; r < 16; r++, to += SLM_LEARN_COLS)
                for (uint32_t c = 0; c < 32; c++)
                    to[c] = c < n ? l->s->block[16 * c + r] : 0.0f;
        }
    }
}

static void chunk_half(slm_learn_lane *l, const slm_weight *w, uint32_t panel, uint32_t panels, uint32_t col, uint16_t *out)
{
    if (w->cols - col < SLM_LEARN_COLS)
        memset(out, 0, (size_t) panels * 16 * SLM_LEARN_COLS * sizeof *out);
    for (uint32_t half = 0; half < SLM_LEARN_COLS; half += 32) {
        uint32_t first = col + half, n = first >= w->cols ? 0 : w->cols - first < 32 ? w->cols - first : 32;
        for (uint32_t i = 0; n > 0 && i < panels; i++) {
            l->t->kn->unpack_block(w, panel + i, first / 32, l->s->block);
            l->t->bf16->pair_rows(l->s->block, n, out + (size_t) i * 16 * SLM_LEARN_COLS + 2 * half, SLM_LEARN_COLS);
        }
    }
}

/* dx[rows, 64 columns from col] (+)= dy W. */
static void back_unit(slm_learn_lane *l, const slm_learn_product *p, const uint16_t *half, size_t ld, uint32_t col, uint32_t row,
                      uint32_t rows, float *dx, size_t lddx, bool add)
{
    slm_learn *t = l->t;
    const uint32_t most = SLM_LEARN_CHUNK / 16;
    for (uint32_t panel = 0, panels; panel < p->w->n_panels; panel += panels, add = true) {
        panels = p->w->n_panels - panel < most ? p->w->n_panels - panel : most;
        float *out = dx + row * lddx + col;
        if (t->stop != NULL && *t->stop != 0) { /* a unit of the output head takes 10 ms: the run is given up within it */
            atomic_store_explicit(&l->run->cancelled, 1, memory_order_relaxed);
            return;
        }
        if (t->bf16 != NULL) {
            chunk_half(l, p->w, panel, panels, col, l->s->chunk);
            t->bf16->matmul(half + row * ld + 16 * (size_t) panel, ld, l->s->chunk, rows, 16 * panels, out, lddx, add);
        } else {
            chunk_floats(l, p->w, panel, panels, col, l->s->chunk);
            t->kn->matmul(p->y + row * p->ldy + 16 * (size_t) panel, p->ldy, 1, l->s->chunk, SLM_LEARN_COLS, rows, SLM_LEARN_COLS,
                          16 * panels, out, lddx, add);
        }
    }
}

/* 64 columns of dx, for one half of the rows. */
static void dx_unit(slm_learn_lane *l, uint32_t layer, const slm_learn_product *p, int n_products, uint32_t col, uint32_t row,
                    uint32_t rows, float *dx, size_t lddx)
{
    slm_learn *t = l->t;
    const uint16_t *half = p[0].target == SLM_TARGETS ? t->half_logits : NULL;
    uint32_t cols = p[0].w->cols - col < SLM_LEARN_COLS ? p[0].w->cols - col : SLM_LEARN_COLS;
    for (int i = 0; i < n_products; i++)
        back_unit(l, &p[i], half == NULL ? t->half[i] : half, half == NULL ? t->ld_half : t->ld.head, col, row, rows, dx, lddx, i > 0);
    bool masked = drops(l), some = false;
    float *out = masked ? l->s->drop : dx + row * lddx + col;
    size_t ld = masked ? SLM_LEARN_COLS : lddx;
    for (int i = 0; i < n_products; i++) {
        if (!p[i].adapted)
            continue;
        t->kn->matmul(t->dlow + ((size_t) i * t->capacity + row) * t->rank, t->rank, 1,
                      slm_learn_a(t, t->values, layer, p[i].target) + col, p[i].w->cols, rows, cols, t->rank, out, ld, some || !masked);
        some = true;
    }
    if (masked && some)
        drop(t, layer, p[0].target, row, rows, col, cols, out, ld, dx + row * lddx + col, lddx, true);
}

/* 64 columns of the gradients of A or of B' of one product. */
static void grad_unit(slm_learn_lane *l, uint32_t layer, const slm_learn_kept *kept, const slm_learn_product *p, slm_target input,
                      int index, const float *x, size_t ldx, uint32_t n, uint32_t unit)
{
    slm_learn *t = l->t;
    uint32_t of_a = (p->w->cols + SLM_LEARN_COLS - 1) / SLM_LEARN_COLS, wide = unit < of_a ? p->w->cols : p->w->rows;
    uint32_t col = (unit < of_a ? unit : unit - of_a) * SLM_LEARN_COLS, cols = wide - col < SLM_LEARN_COLS ? wide - col : SLM_LEARN_COLS;
    x += col;
    if (unit < of_a && drops(l)) {
        drop(t, layer, input, 0, n, col, cols, x, ldx, l->s->drop, SLM_LEARN_COLS, false);
        x = l->s->drop;
        ldx = SLM_LEARN_COLS;
    }
    if (unit < of_a)
        t->kn->matmul(t->dlow + (size_t) index * t->capacity * t->rank, 1, t->rank, x, ldx, t->rank, cols, n,
                      slm_learn_a(t, t->part, layer, p->target) + col, wide, 1);
    else
        t->kn->matmul(low_rows(t, kept, p->target), 1, t->rank, p->y + col, p->ldy, t->rank, cols, n,
                      slm_learn_b(t, t->part, layer, p->target) + col, wide, 1);
}

static uint32_t grad_units(const slm_learn_product *p)
{
    if (!p->adapted)
        return 0;
    return (p->w->cols + SLM_LEARN_COLS - 1) / SLM_LEARN_COLS + (p->w->rows + SLM_LEARN_COLS - 1) / SLM_LEARN_COLS;
}

/* The gradients of A and B are units too, which even out what the threads get; without them the rows are halved for that. */
void slm_learn_backward(slm_learn_lane *l, uint32_t layer, const slm_learn_kept *kept, const slm_learn_product *p, int n_products,
                        const float *x, size_t ldx, float *dx, size_t lddx, uint32_t n)
{
    uint32_t tiles = n >= 128 && !p[0].adapted ? 2 : 1, tile = (n + tiles - 1) / tiles,
             groups = (p[0].w->cols + SLM_LEARN_COLS - 1) / SLM_LEARN_COLS;
    uint32_t of_dx = dx == NULL ? 0 : groups * tiles, units = of_dx, b, e;
    for (int i = 0; i < n_products; i++)
        units += grad_units(&p[i]);
    while (units > 0 && slm_learn_next(l, units, 1, &b, &e)) {
        if (b < of_dx) {
            uint32_t row = b / groups * tile, rows = n - row < tile ? n - row : tile;
            dx_unit(l, layer, p, n_products, b % groups * SLM_LEARN_COLS, row, rows, dx, lddx);
            continue;
        }
        int i = 0;
        for (b -= of_dx; b >= grad_units(&p[i]); i++)
            b -= grad_units(&p[i]);
        grad_unit(l, layer, kept, &p[i], p[0].target, i, x, ldx, n, b);
    }
    if (units > 0)
        slm_learn_end(l);
}
