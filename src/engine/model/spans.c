/*
 * Heads that find spans: which words of a text are a person, an invoice number, whatever labels stand before it (GLiNER).
 *
 *   [CLS] mark label mark label ... mark text [SEP] ─ layers ─┬─ rows of the labels' marks ─────────────────────┐
 *                                                             └─ rows of the words ─ LSTM, where there is one ──┴─► scores
 *
 *   pairs   out . relu(A first(word i) + B last(word k) + bias), by each label's row: one score for words i to k and a label
 *   words   an MLP over word, label and their product: scores of a word as first, last and inside for a label
 *
 * Of pairs the first product is taken once a word, not once a span, and the last one goes into the labels' rows: what is left of a span is
 * a sum, a ReLU and a product with each label.  Spans that begin at neighbouring words are lanes of that product, so words lie transposed
 * there.  A sequence is one thread's: its bits are the same alone, in any batch and on any number of threads.
 *
 * Sources: Zaratiana et al. 2023 (arXiv 2311.08526); the modules of the gliner package.
 */
#include <math.h>
#include <string.h>

#include "engine/arch/family.h"
#include "engine/model/run.h"

#define ROWS 64  /* of one product; looks up for a stop between them */
#define LANES 32 /* spans side by side */

/* Rooms of a thread, in floats, for texts of up to n words or tokens and so many labels. */
typedef struct rooms {
    float *words;  /* [n, H] */
    float *wide;   /* [n, 4 H] */
    float *first, *last; /* [4 H, n up to whole lanes]: pairs, transposed; else [n, 4 H] */
    float *side;   /* [n, 2 H] */
    float *labels; /* [c, 2 H] */
    float *asked;  /* [c, H] */
    float *folded; /* [c, 4 H] */
    float *bias;   /* [c] */
    float *lanes;  /* [4 H, LANES] */
    float *scores; /* [c, LANES] */
    float *row;    /* [8 H] */
    size_t stride; /* of first and last where they are transposed */
    size_t total;
} rooms;

static float *take(rooms *r, float *base, size_t floats)
{
    float *at = base != NULL ? base + r->total : NULL;
    r->total += slm_round_up(floats, 16);
    return at;
}

static rooms rooms_in(float *base, const slm_hparams *hp, uint32_t n, uint32_t c)
{
    size_t h = hp->span_embd;
    rooms r = {.stride = slm_round_up(n, LANES) + slm_round_up(hp->span_width, LANES)};
    r.words = take(&r, base, n * h);
    r.wide = take(&r, base, n * 4 * h);
    r.first = take(&r, base, 4 * h * r.stride);
    r.last = take(&r, base, 4 * h * r.stride);
    r.side = take(&r, base, n * 2 * h);
    r.labels = take(&r, base, c * 2 * h);
    r.asked = take(&r, base, c * h);
    r.folded = take(&r, base, c * 4 * h);
    r.bias = take(&r, base, c);
    r.lanes = take(&r, base, 4 * h * LANES);
    r.scores = take(&r, base, (size_t) c * LANES);
    r.row = take(&r, base, 8 * h);
    return r;
}

slm_status slm_spans_need(slm_run *run, slm_scratch *s, uint32_t longest, uint32_t n_labels, slm_error *err)
{
    const slm_hparams *hp = run->hp;
    size_t cols = 4 * (size_t) hp->span_embd > hp->n_embd ? 4 * (size_t) hp->span_embd : hp->n_embd;
    uint32_t n = longest > n_labels ? longest : n_labels;
    SLM_TRY(slm_buffer_need(&s->pool, rooms_in(NULL, hp, n, n_labels).total, sizeof(float), err));
    return slm_buffer_need(&s->poolq, ROWS * (cols / 32), sizeof(slm_qblock), err);
}

/* ---- products */

bool slm_run_stopping(slm_run *run)
{
    if (run->stop == NULL || *run->stop == 0)
        return false;
    atomic_store_explicit(&run->cancelled, 1, memory_order_relaxed);
    return true;
}

void slm_affine_rows(slm_run *run, slm_scratch *s, const slm_affine *of, const float *x, size_t ldx, uint32_t n, float *y, size_t ldy)
{
    const slm_weight *w = &of->w;
    bool is_float = slm_type_get(w->type)->is_float;
    for (uint32_t i = 0, rows; i < n && !slm_run_stopping(run); i += rows) {
        rows = n - i < ROWS ? n - i : ROWS;
        if (!is_float)
            run->kn->quantize(x + i * ldx, ldx, rows, w->cols, s->poolq.p);
        run->kn->gemm(w, 0, w->n_panels, s->poolq.p, x + i * ldx, ldx, rows, y + i * ldy, ldy, s->gemm.p);
        if (of->bias != NULL)
            run->kn->add_bias(y + i * ldy, ldy, of->bias, rows, w->rows);
    }
}

static void relu(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] > 0 ? x[i] : 0;
}

/* y [n, ldy] = down(relu(up(x))); wide: [n, 4 H]. */
static void through(slm_run *run, slm_scratch *s, const slm_affine *up, const slm_affine *down, const float *x, size_t ldx, uint32_t n,
                    float *wide, float *y, size_t ldy)
{
    slm_affine_rows(run, s, up, x, ldx, n, wide, up->w.rows);
    relu(wide, (size_t) n * up->w.rows);
    slm_affine_rows(run, s, down, wide, up->w.rows, n, y, ldy);
}

/* ---- rows of words and labels */

/* A row of the layers in the head's width, to out. */
static void narrow(slm_run *run, slm_scratch *s, const float *x, float *out)
{
    const slm_affine *proj = &run->model->spans[SLM_SPAN_PROJ];
    if (proj->w.data != NULL)
        slm_affine_rows(run, s, proj, x, run->hp->n_embd, 1, out, run->hp->span_embd);
    else
        memcpy(out, x, run->hp->span_embd * sizeof *out);
}

/* The row of a word of n tokens, the first of which is at x. */
static void pool_word(slm_run *run, slm_scratch *s, const float *x, uint32_t n, float *other, float *out)
{
    uint32_t width = run->hp->span_embd, pool = run->hp->word_pool;
    narrow(run, s, x + (pool == SLM_WORD_LAST ? n - 1 : 0) * run->ld.embd, out);
    if (pool != SLM_WORD_MEAN && pool != SLM_WORD_MAX)
        return;
    for (uint32_t i = 1; i < n; i++) {
        narrow(run, s, x + i * run->ld.embd, other);
        for (uint32_t c = 0; c < width; c++)
            out[c] = pool == SLM_WORD_MEAN ? out[c] + other[c] : other[c] > out[c] ? other[c] : out[c];
    }
    for (uint32_t c = 0; pool == SLM_WORD_MEAN && c < width; c++)
        out[c] /= (float) n;
}

static void gather(slm_run *run, slm_scratch *s, const rooms *r, const float *x, const slm_span_marks *m)
{
    const slm_affine *of = run->model->spans;
    uint32_t width = run->hp->span_embd, half = width / 2;
    for (uint32_t i = 0; i < m->n_labels; i++)
        narrow(run, s, x + m->labels[i] * run->ld.embd, r->asked + (size_t) i * width);
    for (uint32_t i = 0; i < m->n_words; i++)
        pool_word(run, s, x + m->words[2 * i] * run->ld.embd, m->words[2 * i + 1], r->row, r->words + (size_t) i * width);
    if (!run->hp->span_lstm)
        return;
    for (int back = 0; back < 2; back++) {
        const slm_affine *in = &of[back ? SLM_LSTM_BACK_IN : SLM_LSTM_IN], *state = &of[back ? SLM_LSTM_BACK_STATE : SLM_LSTM_STATE];
        slm_affine_rows(run, s, in, r->words, width, m->n_words, r->wide, 2 * width);
        slm_lstm_run(run, s, state, m->n_words, back, r->wide, 2 * width, r->row, r->side + (back ? half : 0), width);
    }
    memcpy(r->words, r->side, (size_t) m->n_words * width * sizeof *r->words);
}

/* ---- pairs */

/* What a side of a span gives to the first product, for all words, transposed to out [4 H, stride]; its place in the columns of that
 * product is `at`, and what is beside it is zero. */
static void lay_side(slm_run *run, slm_scratch *s, const rooms *r, const slm_affine *up, const slm_affine *down, uint32_t n, uint32_t at,
                     float *out)
{
    const slm_affine *whole = &run->model->spans[SLM_BOTH_UP], both = {whole->w, at == 0 ? whole->bias : NULL}; /* it counts once */
    uint32_t width = run->hp->span_embd, wide = 4 * width;
    memset(r->side, 0, (size_t) n * 2 * width * sizeof *r->side);
    through(run, s, up, down, r->words, width, n, r->wide, r->side + at, 2 * width);
    for (uint32_t i = 0; i < n; i++)
        relu(r->side + (size_t) i * 2 * width + at, width);
    slm_affine_rows(run, s, &both, r->side, 2 * width, n, r->wide, wide);
    for (uint32_t c = 0; c < wide; c++) {
        for (uint32_t i = 0; i < n; i++)
            out[c * r->stride + i] = r->wide[(size_t) i * wide + c];
        for (size_t i = n; i < r->stride; i++)
            out[c * r->stride + i] = 0;
    }
}

/* The labels' rows times the last product: folded [n_labels, 4 H], bias [n_labels]. */
static void fold_labels(slm_run *run, slm_scratch *s, const rooms *r, uint32_t n)
{
    const slm_affine *of = run->model->spans, *down = &of[SLM_BOTH_DOWN];
    uint32_t width = run->hp->span_embd, wide = 4 * width;
    through(run, s, &of[SLM_ASKED_UP], &of[SLM_ASKED_DOWN], r->asked, width, n, r->wide, r->labels, 2 * width);
    for (uint32_t i = 0; i < n; i++) {
        float sum = 0;
        for (uint32_t h = 0; h < width; h++)
            sum += r->labels[(size_t) i * 2 * width + h] * down->bias[h];
        r->bias[i] = sum;
    }
    for (uint32_t h = 0; h < width && !slm_run_stopping(run); h++) {
        run->kn->unpack_row(&down->w, h, r->row);
        run->kn->matmul(r->labels + h, 2 * width, 1, r->row, wide, n, wide, 1, r->folded, wide, h > 0);
    }
}

/* Spans of `more` words beyond the first that begin at words [begin, begin + n). */
static void score_lanes(slm_run *run, const rooms *r, const slm_span_marks *m, uint32_t begin, uint32_t n, uint32_t more)
{
    uint32_t wide = 4 * run->hp->span_embd, most = run->hp->span_width;
    for (uint32_t c = 0; c < wide; c++) {
        const float *restrict a = r->first + c * r->stride + begin, *restrict b = r->last + c * r->stride + begin + more;
        float *restrict sum = r->lanes + (size_t) c * LANES;
        for (uint32_t i = 0; i < LANES; i++) {
            float x = a[i] + b[i];
            sum[i] = x > 0 ? x : 0;
        }
    }
    run->kn->matmul(r->folded, wide, 1, r->lanes, LANES, m->n_labels, LANES, wide, r->scores, LANES, 0);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t c = 0; c < m->n_labels; c++)
            m->out[((size_t) (begin + i) * most + more) * m->n_labels + c] =
                begin + i + more < m->n_words ? r->scores[(size_t) c * LANES + i] + r->bias[c] : -INFINITY;
}

static void score_pairs(slm_run *run, slm_scratch *s, const rooms *r, const slm_span_marks *m)
{
    const slm_affine *of = run->model->spans;
    lay_side(run, s, r, &of[SLM_FIRST_UP], &of[SLM_FIRST_DOWN], m->n_words, 0, r->first);
    lay_side(run, s, r, &of[SLM_LAST_UP], &of[SLM_LAST_DOWN], m->n_words, run->hp->span_embd, r->last);
    fold_labels(run, s, r, m->n_labels);
    for (uint32_t i = 0; i < m->n_words; i += LANES)
        for (uint32_t more = 0; more < run->hp->span_width && !slm_run_stopping(run); more++)
            score_lanes(run, r, m, i, m->n_words - i < LANES ? m->n_words - i : LANES, more);
}

/* ---- words */

static void score_words(slm_run *run, slm_scratch *s, const rooms *r, const slm_span_marks *m)
{
    const slm_affine *of = run->model->spans;
    uint32_t width = run->hp->span_embd;
    float *x = r->first, *y = r->last; /* [ROWS, 3 H], [ROWS, 16] */
    slm_affine_rows(run, s, &of[SLM_WORD], r->words, width, m->n_words, r->side, 2 * width);
    slm_affine_rows(run, s, &of[SLM_LABEL], r->asked, width, m->n_labels, r->labels, 2 * width);
    for (uint32_t c = 0; c < m->n_labels; c++) {
        const float *label = r->labels + (size_t) c * 2 * width;
        for (uint32_t i = 0, n; i < m->n_words && !slm_run_stopping(run); i += n) {
            n = m->n_words - i < ROWS ? m->n_words - i : ROWS;
            for (uint32_t k = 0; k < n; k++) {
                const float *word = r->side + (size_t) (i + k) * 2 * width;
                float *both = x + (size_t) k * 3 * width;
                memcpy(both, word, width * sizeof *both);
                memcpy(both + width, label, width * sizeof *both);
                for (uint32_t h = 0; h < width; h++)
                    both[2 * width + h] = word[width + h] * label[width + h];
            }
            through(run, s, &of[SLM_SCORE_UP], &of[SLM_SCORE_DOWN], x, 3 * width, n, r->wide, y, 16);
            for (uint32_t k = 0; k < n; k++)
                memcpy(m->out + ((size_t) (i + k) * m->n_labels + c) * 3, y + (size_t) k * 16, 3 * sizeof *y);
        }
    }
}

slm_wording slm_span_wording(const slm_hparams *hp)
{
    return (slm_wording) {.label_mark = (int32_t) hp->label_mark, .text_mark = (int32_t) hp->text_mark, .behind = hp->label_behind != 0,
                          .max_words = hp->span_words, .max_tokens = hp->n_context};
}

size_t slm_spans_outputs(const slm_hparams *hp, uint32_t n_words, uint32_t n_labels)
{
    return (size_t) n_words * n_labels * (hp->spans == SLM_SPANS_PAIRS ? hp->span_width : 3);
}

bool slm_span_marks_good(const slm_span_marks *m, uint32_t length)
{
    bool good = m != NULL && m->n_words >= 1 && m->n_words <= length && m->n_labels >= 1 && m->n_labels <= length;
    for (uint32_t i = 0; good && i < m->n_words; i++)
        good = m->words[2 * i + 1] >= 1 && m->words[2 * i] < length && m->words[2 * i + 1] <= length - m->words[2 * i];
    for (uint32_t i = 0; good && i < m->n_labels; i++)
        good = m->labels[i] < length;
    return good;
}

void slm_spans_score(slm_run *run, slm_scratch *s, const float *x, const slm_span_marks *m)
{
    uint32_t n = m->n_words > m->n_labels ? m->n_words : m->n_labels;
    rooms r = rooms_in(s->pool.p, run->hp, n, m->n_labels);
    gather(run, s, &r, x, m);
    if (run->hp->spans == SLM_SPANS_PAIRS)
        score_pairs(run, s, &r, m);
    else
        score_words(run, s, &r, m);
}
