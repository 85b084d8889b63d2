/*
 * Mixtures of experts: the feed-forward of a layer as many small ones, of which a router lets a few work on each row.
 *
 *   route    unit = rows: logits of the router in float, shares by softmax over all, the n_experts_used largest
 *   order    one thread: the (row, expert) pairs sorted by expert, then row: "slots"
 *   gather   unit = slots: the rows' activations, one behind the other for each expert
 *   feed     unit = rows of one expert times some of its panels: as of any feed-forward, on its part of the stacked matrices
 *   down     the same of its second product
 *   add      unit = rows: x += residual_scale * sum of share * output, experts in ascending order
 *
 * The number of stages is the same whatever the router chose: a thread that comes late reads what is already that of the next layer, and
 * must not lose count.
 *
 * A row's bits depend on its own logits and experts only: which other rows an expert works on changes no product (linear.c).  Equal
 * logits: the expert with the smaller number goes first.
 */
#include <string.h>

#include "engine/base/math.h"
#include "engine/model/run.h"

/* In ws->routes. */
typedef struct routes {
    uint32_t *expert; /* [n, used] ascending in a row */
    float *share;     /* [n, used] */
    uint32_t *slot;   /* [n, used] where the pair is in the order by expert */
    uint32_t *row;    /* [n * used] the row of a slot */
    uint32_t *first;  /* [n_experts + 1] slots of an expert */
    uint8_t *fine;    /* [n * used] of the slots */
} routes;

static routes routes_of(const slm_run *run, uint32_t n)
{
    size_t pairs = (size_t) n * run->hp->n_experts_used;
    routes r;
    r.expert = run->ws->routes.p;
    r.share = (float *) (r.expert + pairs);
    r.slot = (uint32_t *) (r.share + pairs);
    r.row = r.slot + pairs;
    r.first = r.row + pairs;
    r.fine = (uint8_t *) (r.first + run->hp->n_experts + 1);
    return r;
}

slm_status slm_experts_need(slm_run *run, uint32_t n, slm_error *err)
{
    const slm_hparams *hp = run->hp;
    slm_workspace *ws = run->ws;
    size_t pairs = (size_t) n * hp->n_experts_used, terms = run->fine != NULL ? 2 : 1, ff = slm_round_up(hp->n_ff_expert, 16);
    SLM_TRY(slm_buffer_need(&ws->routes, pairs * 17 + (hp->n_experts + 1) * sizeof(uint32_t), 1, err));
    SLM_TRY(slm_buffer_need(&ws->out, pairs * run->ld.embd, sizeof(float), err));
    if (run->model->floats) {
        SLM_TRY(slm_buffer_need(&ws->chosen, pairs * run->ld.embd, sizeof(float), err));
        SLM_TRY(slm_buffer_need(&ws->ff, pairs * ff, sizeof(float), err));
    }
    if (run->model->quantized) {
        SLM_TRY(slm_buffer_need(&ws->chosenq, terms * pairs * (hp->n_embd / 32), sizeof(slm_qblock), err));
        SLM_TRY(slm_buffer_need(&ws->ffq, terms * pairs * (ff / 32 + 1), sizeof(slm_qblock), err));
    }
    return SLM_OK;
}

/* The experts of one row out of their logits. */
static void choose(const slm_hparams *hp, float *logits, uint32_t *expert, float *share)
{
    uint32_t used = hp->n_experts_used;
    double sum = 0, chosen = 0;
    float most = logits[0];
    for (uint32_t e = 1; e < hp->n_experts; e++)
        most = logits[e] > most ? logits[e] : most;
    for (uint32_t e = 0; e < hp->n_experts; e++)
        sum += slm_exp((double) logits[e] - (double) most);
    for (uint32_t k = 0; k < used; k++) { /* kept in ascending order of their numbers */
        uint32_t best = UINT32_MAX, at = k;
        for (uint32_t e = 0; e < hp->n_experts; e++) {
            bool taken = false;
            for (uint32_t j = 0; j < k; j++)
                taken = taken || expert[j] == e;
            if (!taken && (best == UINT32_MAX || logits[e] > logits[best]))
                best = e;
        }
        for (; at > 0 && expert[at - 1] > best; at--)
            expert[at] = expert[at - 1];
        expert[at] = best;
    }
    for (uint32_t k = 0; k < used; k++)
        chosen += slm_exp((double) logits[expert[k]] - (double) most);
    for (uint32_t k = 0; k < used; k++)
        share[k] = (float) (slm_exp((double) logits[expert[k]] - (double) most) / (hp->experts_scaled ? chosen : sum));
}

static void route_stage(slm_lane *t, const slm_weight *router, const slm_act *a, const routes *r, uint32_t n)
{
    const slm_run *run = t->run;
    uint32_t used = run->hp->n_experts_used, b, e;
    float *logits = t->s->tile.p;
    while (slm_lane_next(t, n, 4, &b, &e))
        for (uint32_t i = b; i < e; i++) {
            run->kn->gemm(router, 0, router->n_panels, NULL, a->x + i * a->ldx, a->ldx, 1, logits, 16 * (size_t) router->n_panels,
                          t->s->gemm.p);
            choose(run->hp, logits, r->expert + i * used, r->share + i * used);
        }
    slm_lane_end(t);
}

static void order_stage(slm_lane *t, const slm_act *a, const routes *r, uint32_t n)
{
    uint32_t n_experts = t->run->hp->n_experts, used = t->run->hp->n_experts_used, pairs = n * used, b, e;
    while (slm_lane_next(t, 1, 1, &b, &e)) {
        memset(r->first, 0, (n_experts + 1) * sizeof *r->first);
        for (uint32_t i = 0; i < pairs; i++)
            r->first[r->expert[i] + 1]++;
        for (uint32_t k = 0; k < n_experts; k++)
            r->first[k + 1] += r->first[k];
        for (uint32_t i = pairs; i-- > 0;) /* from the end: what stands in first[k + 1] goes down to first[k] */
            r->slot[i] = --r->first[r->expert[i] + 1];
        memmove(r->first, r->first + 1, n_experts * sizeof *r->first);
        r->first[n_experts] = pairs;
        for (uint32_t i = 0; i < pairs; i++) {
            r->row[r->slot[i]] = i / used;
            r->fine[r->slot[i]] = a->fine != NULL && a->fine[i / used];
        }
    }
    slm_lane_end(t);
}

/* The slots' activations; what is returned is theirs. */
static slm_act gather_stage(slm_lane *t, const slm_act *a, const routes *r, uint32_t pairs)
{
    const slm_run *run = t->run;
    uint32_t b, e;
    size_t ld = run->ld.embd, ldq = run->hp->n_embd / 32;
    float *x = run->ws->chosen.p;
    slm_qblock *q = run->ws->chosenq.p, *lo = q + pairs * ldq;
    while (slm_lane_next(t, pairs, 16, &b, &e))
        for (uint32_t i = b; i < e; i++) {
            if (run->model->floats)
                memcpy(x + i * ld, a->x + r->row[i] * a->ldx, run->hp->n_embd * sizeof *x);
            if (run->model->quantized)
                memcpy(q + i * ldq, a->q + r->row[i] * a->ldq, ldq * sizeof *q);
            if (run->model->quantized && r->fine[i])
                memcpy(lo + i * ldq, a->lo + r->row[i] * a->ldq, ldq * sizeof *q);
        }
    slm_lane_end(t);
    return (slm_act) {.q = q, .x = x, .ldq = ldq, .ldx = ld, .lo = a->lo != NULL ? lo : NULL, .fine = a->lo != NULL ? r->fine : NULL};
}

/* The rows of one expert in a stacked matrix. */
static slm_weight part_of(const slm_weight *stacked, uint32_t expert, uint32_t rows)
{
    slm_weight w = *stacked;
    w.rows = rows;
    w.n_panels = rows / 16;
    w.data = (const char *) stacked->data + (size_t) expert * w.n_panels * stacked->panel_bytes;
    return w;
}

/* The activations from a slot on. */
static slm_act from_slot(const slm_act *a, uint32_t slot)
{
    slm_act part = *a;
    part.q = a->q != NULL ? a->q + slot * a->ldq : NULL;
    part.x = a->x != NULL ? a->x + slot * a->ldx : NULL;
    part.lo = a->lo != NULL ? a->lo + slot * a->ldq : NULL;
    part.fine = a->fine != NULL ? a->fine + slot : NULL;
    return part;
}

/* How the work of an expert with n rows is cut. */
typedef struct cut {
    uint32_t tile, tiles, step, across; /* rows of a unit, units above each other; panels of a unit, units side by side */
} cut;

static cut cut_of(uint32_t n, uint32_t n_panels)
{
    cut c = {.tile = n < SLM_TILE_ROWS ? n : SLM_TILE_ROWS};
    c.step = n >= 128 ? 2 : n >= 16 ? 4 : 8; /* whole blocks of 32 columns */
    c.tiles = n == 0 ? 0 : (n + SLM_TILE_ROWS - 1) / SLM_TILE_ROWS;
    c.across = (n_panels + c.step - 1) / c.step;
    return c;
}

/* Units of all experts. */
static uint32_t count_units(const slm_hparams *hp, const routes *r, uint32_t n_panels)
{
    uint32_t units = 0;
    for (uint32_t k = 0; k < hp->n_experts; k++) {
        cut c = cut_of(r->first[k + 1] - r->first[k], n_panels);
        units += c.tiles * c.across;
    }
    return units;
}

/* The expert of a unit, and its rows (from the expert's first slot) and panels. */
static uint32_t find_unit(const slm_hparams *hp, const routes *r, uint32_t n_panels, uint32_t index, slm_unit *u)
{
    uint32_t k = 0, n = 0;
    cut c = {0};
    for (; k < hp->n_experts; k++) {
        n = r->first[k + 1] - r->first[k];
        c = cut_of(n, n_panels);
        if (index < c.tiles * c.across)
            break;
        index -= c.tiles * c.across;
    }
    u->row = index / c.across * c.tile;
    u->panel = index % c.across * c.step;
    u->rows = n - u->row < c.tile ? n - u->row : c.tile;
    u->panels = n_panels - u->panel < c.step ? n_panels - u->panel : c.step;
    return k;
}

static void feed_stage(slm_lane *t, const slm_layer *layer, const slm_act *a, const slm_act *inner, const routes *r)
{
    slm_run *run = t->run;
    const slm_hparams *hp = run->hp;
    uint32_t n_panels = hp->n_ff_expert / 16, units = count_units(hp, r, n_panels), b, e;
    while (slm_lane_next(t, units, 1, &b, &e)) {
        slm_unit u;
        uint32_t k = find_unit(hp, r, n_panels, b, &u), first = r->first[k];
        slm_weight gate = part_of(&layer->expert_gate, k, hp->n_ff_expert), up = part_of(&layer->expert_up, k, hp->n_ff_expert);
        slm_act own = from_slot(a, first);
        slm_feed feed = {.gate = &gate, .up = &up, .down = &layer->expert_down, .ldff = inner->ldx, .ldq = inner->ldq};
        feed.ff = (float *) run->ws->ff.p + first * inner->ldx;
        feed.q = (slm_qblock *) run->ws->ffq.p + first * inner->ldq;
        feed.lo = inner->lo != NULL ? feed.q + (inner->lo - inner->q) : feed.q;
        slm_feed_unit(run, t->s, &feed, &own, &u);
    }
    slm_lane_end(t);
}

static void down_stage(slm_lane *t, const slm_layer *layer, const slm_act *inner, const routes *r)
{
    slm_run *run = t->run;
    const slm_hparams *hp = run->hp;
    uint32_t n_panels = hp->n_embd / 16, units = count_units(hp, r, n_panels), b, e;
    while (slm_lane_next(t, units, 1, &b, &e)) {
        slm_unit u;
        uint32_t k = find_unit(hp, r, n_panels, b, &u), first = r->first[k];
        slm_weight down = part_of(&layer->expert_down, k, hp->n_embd);
        slm_act own = from_slot(inner, first);
        slm_product product = {&down, NULL, (float *) run->ws->out.p + first * run->ld.embd, run->ld.embd};
        slm_product_unit(run, t->s, &product, &own, &u);
    }
    slm_lane_end(t);
}

static void add_stage(slm_lane *t, const routes *r, float *x, uint32_t n)
{
    const slm_run *run = t->run;
    uint32_t used = run->hp->n_experts_used, b, e;
    size_t ld = run->ld.embd;
    while (slm_lane_next(t, n, 2, &b, &e))
        for (uint32_t i = b; i < e; i++)
            for (uint32_t k = 0; k < used; k++)
                run->kn->add_scaled(x + i * ld, ld, (const float *) run->ws->out.p + r->slot[i * used + k] * ld, ld,
                                    run->hp->residual_scale * r->share[i * used + k], 1, run->hp->n_embd);
    slm_lane_end(t);
}

void slm_stages_experts(slm_lane *t, const slm_layer *layer, const slm_act *a, float *x, uint32_t n)
{
    const slm_run *run = t->run;
    uint32_t pairs = n * run->hp->n_experts_used;
    routes r = routes_of(run, n);
    size_t ldq = run->hp->n_ff_expert / 32;
    slm_act inner = {.q = run->ws->ffq.p, .x = run->ws->ff.p, .ldq = ldq, .ldx = slm_round_up(run->hp->n_ff_expert, 16)};

    route_stage(t, &layer->router, a, &r, n);
    order_stage(t, a, &r, n);
    slm_act gathered = gather_stage(t, a, &r, pairs);
    inner.lo = gathered.lo != NULL ? inner.q + pairs * ldq : NULL;
    inner.fine = gathered.fine;
    feed_stage(t, layer, &gathered, &inner, &r);
    down_stage(t, layer, &inner, &r);
    add_stage(t, &r, x, n);
}
