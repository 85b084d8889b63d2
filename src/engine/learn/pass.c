/*
 * A micro-batch, forward and backward: its memory, and its one parallel region.
 *
 * All activations lie in one arena whose size is known before it is taken: what each layer keeps (all of them, or one set that is computed
 * again before each backward step), the stream before every layer, and one set of gradients.  Padding is zero from the beginning and is
 * never written to but with finite values.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "engine/learn/learn.h"

#define HUGE_PAGE ((size_t) 2 << 20)
#define LOGITS (16u << 20) /* floats of logits at once, about */

/* ------------------------------------------------------------------ memory */

/* Hands out pieces of the arena, or only counts. */
typedef struct carver {
    char *base;
    size_t at;
    bool overflow;
} carver;

static void *carve(carver *c, size_t count, size_t size)
{
    size_t bytes, end;
    char *p = c->base == NULL ? NULL : c->base + c->at;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX - 64 ||
        __builtin_add_overflow(c->at, slm_round_up(bytes, 64), &end)) {
        c->overflow = true;
        return p;
    }
    c->at = end;
    return p;
}

static void carve_kept(carver *c, const slm_learn *t, slm_learn_kept *k, size_t n)
{
    const slm_layer *l = &t->model->layers[0];
    bool normed = l->q_norm != NULL;
    k->q = carve(c, n * t->ld.q, sizeof(float));
    k->k = carve(c, n * t->ld.kv, sizeof(float));
    k->v = carve(c, n * t->ld.kv, sizeof(float));
    k->q_raw = normed ? carve(c, n * t->ld.q, sizeof(float)) : k->q;
    k->k_raw = normed ? carve(c, n * t->ld.kv, sizeof(float)) : k->k;
    k->att = carve(c, n * t->ld.q, sizeof(float));
    k->mid = carve(c, n * t->ld.embd, sizeof(float));
    k->gate = carve(c, l->gate.data != NULL ? n * t->ld.ff : 0, sizeof(float));
    k->up = carve(c, n * t->ld.ff, sizeof(float));
    k->o_out = carve(c, l->attn_post_norm != NULL ? n * t->ld.embd : 0, sizeof(float));
    k->down_out = carve(c, l->ffn_post_norm != NULL ? n * t->ld.embd : 0, sizeof(float));
    k->lse = carve(c, n * t->hp->n_heads, sizeof(float));
    k->low = carve(c, SLM_TARGETS * n * t->rank, sizeof(float));
}

static void carve_gradients(carver *c, slm_learn *t, size_t n, size_t widest)
{
    float **rows[] = {&t->h, &t->out, &t->dx, &t->dy, &t->dh, &t->dq, &t->datt, &t->dk, &t->dv, &t->ff, &t->dff};
    size_t ld[] = {t->ld.embd, t->ld.embd, t->ld.embd, t->ld.embd, t->ld.embd, t->ld.q, t->ld.q, t->ld.kv, t->ld.kv, t->ld.ff, t->ld.ff};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        *rows[i] = carve(c, n * ld[i], sizeof(float));
    t->ld_half = widest;
    t->dlow = carve(c, 3 * n * t->rank, sizeof(float));
    t->blocks = carve(c, (n > t->head_rows ? n : t->head_rows) * (widest / 32), sizeof(slm_qblock));
    for (int i = 0; i < 3; i++)
        t->half[i] = carve(c, t->bf16 != NULL ? n * widest : 0, sizeof(uint16_t));
    t->losses = carve(c, n, sizeof(double));
    t->hits = carve(c, n, 1);
}

static void carve_texts(carver *c, slm_learn *t)
{
    size_t n = t->n_texts;
    float **rows[] = {&t->pooled, &t->unit, &t->dpooled};
    t->ld_texts = slm_round_up(n, 16);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        *rows[i] = carve(c, n * t->ld.embd, sizeof(float));
    t->turned_units = carve(c, t->ld.embd * t->ld_texts, sizeof(float));
    t->sims = carve(c, n * t->ld_texts, sizeof(float));
    t->lengths = carve(c, n, sizeof(float));
}

/* All of the arena for a micro-batch of n positions; kept [n_kept], may be one that is only counted with. */
static void carve_all(carver *c, slm_learn *t, size_t n, uint32_t longest, slm_learn_kept *kept, uint32_t n_kept)
{
    const slm_hparams *hp = t->hp;
    uint32_t inner = hp->n_heads * hp->head_dim, most = hp->n_ff > hp->n_embd ? hp->n_ff : hp->n_embd;
    size_t widest = slm_round_up(most > inner ? most : inner, 64), logits;
    size_t drop_rows = SLM_LEARN_ROWS * widest; /* n rows of 64 columns, or 16 whole ones */
    size_t wide_panel = widest * 16 * sizeof(float), chunk = (size_t) SLM_LEARN_CHUNK * SLM_LEARN_COLS * sizeof(float);
    t->x = carve(c, ((size_t) hp->n_layers + 1) * n * t->ld.embd, sizeof(float));
    for (uint32_t i = 0; i < n_kept; i++)
        carve_kept(c, t, c->base == NULL ? kept : kept + i, n);
    carve_gradients(c, t, n, widest);
    carve_texts(c, t);
    t->hidden = carve(c, t->head_rows * t->ld.embd, sizeof(float));
    t->dhidden = carve(c, t->head_rows * t->ld.embd, sizeof(float));
    logits = t->head_rows * t->ld.head;
    t->logits = carve(c, hp->final_softcap > 0 ? 2 * logits : logits, sizeof(float));
    t->half_logits = carve(c, t->bf16 != NULL ? logits : 0, sizeof(uint16_t));
    t->angles = carve(c, 3 * (size_t) longest * 2 * (hp->n_rot / 2), sizeof(float));
    for (int i = 0; i < t->n_threads; i++) {
        slm_learn_scratch s;
        s.block = carve(c, 32 * 16, sizeof(float));
        s.chunk = carve(c, wide_panel > chunk ? wide_panel : chunk, 1);
        s.attend = carve(c, slm_learn_attend_floats(hp, longest), sizeof(float));
        s.drop = t->dropped == 0 ? NULL : carve(c, n * SLM_LEARN_COLS > drop_rows ? n * SLM_LEARN_COLS : drop_rows, sizeof(float));
        s.gemm = carve(c, slm_gemm_scratch_bytes((uint32_t) widest), 1);
        if (c->base != NULL)
            t->scratch[i] = s;
    }
}

static uint32_t head_rows_of(const slm_learn *t, uint32_t capacity)
{
    if (t->ld.head == 0)
        return 0;
    size_t rows = LOGITS / t->ld.head;
    rows = rows < 16 ? 16 : rows;
    return rows < capacity ? (uint32_t) rows : capacity;
}

size_t slm_learn_bytes(const slm_learn *t, uint32_t capacity, uint32_t longest, bool keep_all)
{
    carver c = {0};
    slm_learn counted = *t;
    slm_learn_kept kept;
    counted.head_rows = head_rows_of(t, capacity);
    carve_all(&c, &counted, capacity, longest, &kept, keep_all ? t->hp->n_layers : 1);
    size_t values = 6 * t->n_values * sizeof(float);
    return c.overflow ? 0 : c.at + values;
}

slm_status slm_learn_room(slm_learn *t, uint32_t capacity, uint32_t longest, bool keep_all, slm_error *err)
{
    carver c = {0};
    slm_learn_kept one;
    t->capacity = capacity;
    t->longest = longest;
    t->n_kept = keep_all ? t->hp->n_layers : 1;
    t->head_rows = head_rows_of(t, capacity);
    carve_all(&c, t, capacity, longest, &one, t->n_kept);
    free(t->arena);
    free(t->kept);
    t->arena_bytes = c.at;
    t->kept = calloc(t->n_kept, sizeof *t->kept);
    c.at = slm_round_up(c.at, HUGE_PAGE);
    t->arena = c.overflow || t->kept == NULL ? NULL : aligned_alloc(HUGE_PAGE, c.at);
    if (t->arena == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    (void) madvise(t->arena, c.at, MADV_HUGEPAGE); /* a wish: large pages are taken, and given back, in a fraction of the time */
    for (size_t at = 0; at < c.at; at += HUGE_PAGE) { /* the system may have to make room for each page first */
        if (t->stop != NULL && *t->stop != 0)
            return slm_fail(err, SLM_CANCELLED, "cancelled");
        memset((char *) t->arena + at, 0, HUGE_PAGE);
    }
    c = (carver){.base = t->arena};
    carve_all(&c, t, capacity, longest, t->kept, t->n_kept);
    slm_learn_angles(t);
    return SLM_OK;
}

/* ------------------------------------------------------------------ opening */

slm_status slm_learn_check(const slm_model *model, slm_error *err)
{
    const slm_hparams *hp = &model->hp;
    if (!hp->causal || model->head.data == NULL) {
        slm_fail(err, SLM_UNSUPPORTED, "a model of the family %s does not generate text", hp->family);
        return slm_hint(err, "Fine-tune a model that slm_generate() can use.");
    }
    if (hp->norm != SLM_NORM_RMS || (hp->activation != SLM_ACT_SWIGLU && hp->activation != SLM_ACT_GEGLU) ||
        hp->n_experts > 0 || hp->conv_length > 0 || hp->attn_gate || hp->query_growth > 0 || !slm_layers_alike(hp) ||
        model->layers[0].gate.data == NULL)
        return slm_fail(err, SLM_UNSUPPORTED, "models of the family %s cannot be fine-tuned", hp->family);
    return SLM_OK;
}

slm_status slm_learn_open(const slm_model *model, const slm_learn_shape *shape, bool exact, int n_threads, const volatile int *stop,
                          slm_learn *t, slm_error *err)
{
    const slm_hparams *hp = &model->hp;
    memset(t, 0, sizeof *t);
    SLM_TRY(hp->causal ? slm_learn_check(model, err) : slm_learn_check_encoder(model, err));
    *t = (slm_learn){.model = model,
                     .hp = hp,
                     .kn = slm_kernels_get(),
                     .exact = exact,
                     .n_threads = n_threads < 1 ? 1 : n_threads,
                     .stop = stop};
    t->bf16 = exact ? NULL : slm_bf16_get();
    t->ld = (slm_learn_strides){.embd = slm_round_up(hp->n_embd, 64),
                                .q = slm_round_up((size_t) hp->n_heads * hp->head_dim, 64),
                                .kv = slm_round_up((size_t) hp->n_kv_heads * hp->head_dim, 64),
                                .ff = slm_round_up(hp->n_ff, 64),
                                .head = hp->causal ? slm_round_up(model->head.rows, 64) : 0};
    t->scratch = calloc((size_t) t->n_threads, sizeof *t->scratch);
    if (t->scratch == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    return slm_learn_params(t, shape, err);
}

void slm_learn_free(slm_learn *t)
{
    float *arrays[] = {t->values, t->turned, t->grads, t->part, t->moment, t->square};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        free(arrays[i]);
    free(t->pairs);
    free(t->kept);
    free(t->arena);
    free(t->scratch);
    memset(t, 0, sizeof *t);
}

/* ------------------------------------------------------------------ making way */

#define NAP_NS 500000ull
#define LONGEST_NS 100000000ull /* after this a unit is computed, however long it was since the last wait */

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000000000ull + (uint64_t) t.tv_nsec;
}

void slm_learn_give_way(slm_learn_lane *l)
{
    const slm_learn *t = l->t;
    uint64_t begin = now_ns(), most = 9 * (begin - l->since), now = begin;
    if (most > LONGEST_NS)
        most = LONGEST_NS;
    while (now - begin < most && *t->others != 0 && (t->stop == NULL || *t->stop == 0)) {
        nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
        now = now_ns();
    }
    l->since = now;
}

/* ------------------------------------------------------------------ the pass */

static void embed(slm_learn_lane *l)
{
    slm_learn *t = l->t;
    const slm_hparams *hp = t->hp;
    SLM_LEARN_EACH_ROWS(l, l->batch->n, b, e)
    for (uint32_t i = b; i < e; i++) {
        float *x = t->x + i * t->ld.embd;
        t->kn->unpack_row(&t->model->token_embd, (uint32_t) l->batch->ids[i], x);
        for (uint32_t c = 0; hp->embed_scale != 1.0f && c < hp->n_embd; c++)
            x[c] *= hp->embed_scale;
    }
    slm_learn_end(l);
}

/* How a kind of model is passed through. */
typedef struct way {
    void (*begin)(slm_learn_lane *l);
    void (*layer)(slm_learn_lane *l, uint32_t layer, slm_learn_kept *kept);
    void (*end)(slm_learn_lane *l);
    void (*layer_back)(slm_learn_lane *l, uint32_t layer, slm_learn_kept *kept);
} way;

static const way decoder = {embed, slm_learn_layer, slm_learn_head, slm_learn_layer_back};
static const way encoder = {slm_learn_look_up, slm_learn_encoder_layer, slm_learn_contrast, slm_learn_encoder_back};

static void pass_region(void *arg, slm_team *team, int thread, int n_threads)
{
    slm_learn_run *run = arg;
    slm_learn *t = run->t;
    slm_learn_lane lane = {.run = run, .t = t, .batch = run->batch, .team = team, .s = &t->scratch[thread]}, *l = &lane;
    const way *w = t->hp->causal ? &decoder : &encoder;
    uint32_t n_layers = t->hp->n_layers;
    bool all = t->n_kept == n_layers;

    if (t->others != NULL)
        lane.since = now_ns();
    w->begin(l);
    for (uint32_t layer = 0; layer < n_layers; layer++)
        w->layer(l, layer, &t->kept[all ? layer : 0]);
    w->end(l);
    for (uint32_t layer = n_layers; run->backward && layer-- > t->first_layer;) {
        if (!all && layer + 1 < n_layers)
            w->layer(l, layer, &t->kept[0]);
        w->layer_back(l, layer, &t->kept[all ? layer : 0]);
    }
}

static slm_status check_aim(const slm_learn *t, const slm_learn_batch *b, slm_error *err)
{
    const slm_learn_aim *aim = b->aim;
    if (b->n_sequences > t->n_texts)
        return slm_fail(err, SLM_INTERNAL, "a micro-batch of %u texts", b->n_sequences);
    if (aim != NULL && aim->kind != SLM_CONTRAST_LABELS &&
        (aim->n_queries == 0 || aim->n_queries > b->n_sequences / 2 ||
         (aim->kind == SLM_CONTRAST_SCORES && 2 * aim->n_queries != b->n_sequences)))
        return slm_fail(err, SLM_INTERNAL, "a micro-batch of %u texts, of which %u ask", b->n_sequences, aim->n_queries);
    return SLM_OK;
}

/* A teacher's logits are numbers that were computed elsewhere, and index the student's. */
static slm_status check_guesses(const slm_learn *t, const slm_learn_batch *b, slm_error *err)
{
    for (uint32_t i = 0; i < b->n_out; i++)
        for (uint32_t k = 0; k < t->lesson.k; k++)
            if (b->guesses[i][k].id < 0 || (uint32_t) b->guesses[i][k].id >= t->model->head.rows || !isfinite(b->guesses[i][k].logit))
                return slm_fail(err, SLM_INVALID, "a teacher's token is out of range, or its logit is not finite");
    return SLM_OK;
}

static slm_status check_batch(const slm_learn *t, const slm_learn_batch *b, slm_error *err)
{
    if (b->n == 0 || b->n > t->capacity || b->longest > t->longest || (b->n_out == 0) == (t->hp->causal != 0) || b->n_out > b->n)
        return slm_fail(err, SLM_INTERNAL, "a micro-batch of %u positions with %u wanted", b->n, b->n_out);
    for (uint32_t i = 0; i < b->n; i++)
        if (b->ids[i] < 0 || (uint32_t) b->ids[i] >= t->hp->n_vocab)
            return slm_fail(err, SLM_INVALID, "token id %d is outside the vocabulary of %u", b->ids[i], t->hp->n_vocab);
    if (!t->hp->causal)
        return check_aim(t, b, err);
    for (uint32_t i = 0; i < b->n_out; i++)
        if (b->out[i] >= b->n || b->target[i] < 0 || (uint32_t) b->target[i] >= t->model->head.rows)
            return slm_fail(err, SLM_INVALID, "a wanted row or its token is out of range");
    return check_guesses(t, b, err);
}

slm_status slm_learn_pass(slm_learn *t, const slm_learn_batch *batch, double weight, double *loss, slm_error *err)
{
    slm_learn_run run = {.t = t, .batch = batch, .weight = (float) weight, .backward = weight != 0};
    double sum = 0;
    SLM_TRY(check_batch(t, batch, err));
    if (run.backward)
        memset(t->part, 0, t->n_values * sizeof *t->part);
    slm_parallel_stages(t->n_threads, pass_region, &run);
    if (atomic_load(&run.cancelled))
        return slm_fail(err, SLM_CANCELLED, "cancelled");
    SLM_TRY(slm_model_check(t->model, err));
    for (uint32_t i = 0; i < (t->hp->causal ? batch->n_out : batch->aim != NULL ? batch->n_sequences : 0); i++)
        sum += t->losses[i];
    *loss += sum;
    for (size_t i = 0; run.backward && i < t->n_values; i++)
        t->grads[i] += t->part[i];
    return SLM_OK;
}
