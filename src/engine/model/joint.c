/*
 * The end of an encoder that reads labels beside a text: from the rows of a sequence, whose marks say where each label is, to a score of
 * each label, put at the place of its mark.
 *
 *   rows ─┬─ pool ─ project ──────────────┬─ scorer ─► out[row of the mark]
 *         └─ row or mean of each label ─ project ─┘
 *
 * Labels are taken one after the other, in their order, sums run in double or row by row: the same bits alone and in any batch.
 *
 * Source: arch/joint.c names it.
 */
#include <math.h>
#include <string.h>

#include "engine/base/math.h"
#include "engine/model/run.h"

#define HOPFIELD_BETA 4.0 /* as the library has it; it reads the text once */

typedef struct joint {
    const slm_run *run;
    slm_scratch *s;
    const float *x; /* [length, ld.embd] */
    const uint8_t *marks;
    uint32_t length, begin; /* begin: where the text's own rows do */
    float *text;            /* projected [n_embd]; weighted: by the scorer too, [2 n_embd] */
    float *key, *value;     /* hopfield: of the text, [n_embd] */
    float *label, *a, *b;   /* [widest] */
} joint;

static size_t width_of(const slm_hparams *hp)
{
    return slm_round_up(slm_joint_widest(hp), 16);
}

size_t slm_joint_floats(const slm_hparams *hp)
{
    return 6 * width_of(hp);
}

/* A matrix and, where it has one, the bias behind it. */
static void dense(const joint *j, slm_tensor_role role, const float *x, float *y)
{
    const slm_model *m = j->run->model;
    uint32_t i = (uint32_t) role - SLM_JOINT_FIRST;
    slm_dense_row(j->run, j->s, &m->joint[i], i + 1 < SLM_JOINT_ROLES ? m->joint_vectors[i + 1] : NULL, x, y);
}

static void make_unit(float *x, uint32_t n)
{
    double sum = 0;
    for (uint32_t c = 0; c < n; c++)
        sum += (double) x[c] * (double) x[c];
    float length = (float) sqrt(sum) + 1e-8f;
    for (uint32_t c = 0; c < n; c++)
        x[c] /= length;
}

/* b -> y, by two matrices from `first` on. */
static void project(const joint *j, slm_tensor_role first, float *y)
{
    const slm_hparams *hp = j->run->hp;
    dense(j, first, j->b, j->a);
    slm_squash_row(j->run, hp->head_squash, j->a, hp->joint_width);
    dense(j, (slm_tensor_role) (first + 2), j->a, y);
    if ((hp->joint_flags & SLM_JOINT_UNIT) != 0)
        make_unit(y, hp->n_embd);
}

/* The text's row.  Of its rows alone, those that are left out count as zeros. */
static void read_text(joint *j)
{
    const slm_hparams *hp = j->run->hp;
    uint32_t n = j->length - j->begin;
    slm_pool_rows(j->run, hp->head_pool, j->x + j->begin * j->run->ld.embd, n, j->b);
    for (uint32_t c = 0; c < hp->n_embd && j->begin > 0; c++) {
        if (hp->head_pool == SLM_POOL_MEAN)
            j->b[c] = (float) ((double) j->b[c] * n / j->length);
        else if (hp->head_pool == SLM_POOL_MAX && j->b[c] < 0)
            j->b[c] = 0;
    }
    project(j, SLM_TENSOR_JOINT_TEXT_0, j->text);
    if (hp->joint_scorer == SLM_SCORER_WEIGHTED) {
        memcpy(j->b, j->text, hp->n_embd * sizeof(float));
        dense(j, SLM_TENSOR_JOINT_PROJ_TEXT, j->b, j->text);
    } else if (hp->joint_scorer == SLM_SCORER_HOPFIELD) {
        dense(j, SLM_TENSOR_JOINT_K, j->text, j->key);
        dense(j, SLM_TENSOR_JOINT_V, j->text, j->value);
    }
}

/* The row of the label whose mark is at `at`. */
static void read_label(const joint *j, uint32_t at)
{
    const slm_hparams *hp = j->run->hp;
    size_t ld = j->run->ld.embd;
    uint32_t first = at + ((hp->joint_flags & SLM_JOINT_BEHIND_MARK) != 0), end = at + 1;
    bool alone = (hp->joint_flags & SLM_JOINT_TEXT_ALONE) != 0;
    while (end < j->length && j->marks[end] != SLM_MARK_LABEL && !(alone && j->marks[end] == SLM_MARK_TEXT))
        end++;
    if ((hp->joint_flags & SLM_JOINT_LABEL_MEAN) != 0 && first < end)
        slm_pool_rows(j->run, SLM_POOL_MEAN, j->x + first * ld, end - first, j->b);
    else if ((hp->joint_flags & SLM_JOINT_LABEL_MEAN) == 0 && first < j->length)
        memcpy(j->b, j->x + first * ld, hp->n_embd * sizeof(float));
    else
        memset(j->b, 0, hp->n_embd * sizeof(float));
    project(j, SLM_TENSOR_JOINT_LABEL_0, j->label);
}

static double dot(const float *x, const float *y, uint32_t n)
{
    double sum = 0;
    for (uint32_t c = 0; c < n; c++)
        sum += (double) x[c] * (double) y[c];
    return sum;
}

/* The feed-forward over b. */
static float feed(const joint *j)
{
    dense(j, SLM_TENSOR_JOINT_MLP_0, j->b, j->a);
    slm_squash_row(j->run, SLM_SQUASH_RELU, j->a, SLM_JOINT_MLP);
    dense(j, SLM_TENSOR_JOINT_MLP_1, j->a, j->b);
    slm_squash_row(j->run, SLM_SQUASH_RELU, j->b, SLM_JOINT_MLP / 2);
    dense(j, SLM_TENSOR_JOINT_MLP_2, j->b, j->a);
    return j->a[0];
}

static float score_weighted(const joint *j)
{
    uint32_t n = j->run->hp->n_embd;
    dense(j, SLM_TENSOR_JOINT_PROJ_LABEL, j->label, j->a);
    memcpy(j->b, j->text, n * sizeof(float));
    memcpy(j->b + n, j->a, n * sizeof(float));
    for (uint32_t c = 0; c < n; c++)
        j->b[2 * n + c] = j->text[n + c] * j->a[n + c];
    dense(j, SLM_TENSOR_JOINT_OUT_0, j->b, j->a);
    slm_squash_row(j->run, SLM_SQUASH_RELU, j->a, 4 * n);
    dense(j, SLM_TENSOR_JOINT_OUT_1, j->a, j->b);
    return j->b[0];
}

static float score(const joint *j)
{
    uint32_t n = j->run->hp->n_embd;
    switch (j->run->hp->joint_scorer) {
    case SLM_SCORER_MLP:
        memcpy(j->b, j->text, n * sizeof(float));
        memcpy(j->b + n, j->label, n * sizeof(float));
        return feed(j);
    case SLM_SCORER_WEIGHTED: return score_weighted(j);
    default: return (float) dot(j->text, j->label, n);
    }
}

/* Labels share the text among them, by a softmax over how near each is to it, and take up their share of its value. */
static void score_hopfield(const joint *j, float *out)
{
    uint32_t n = j->run->hp->n_embd;
    double most = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < j->length; i++) {
        if (j->marks[i] != SLM_MARK_LABEL)
            continue;
        read_label(j, i);
        dense(j, SLM_TENSOR_JOINT_Q, j->label, j->a);
        out[i] = (float) (HOPFIELD_BETA * dot(j->a, j->key, n));
        most = (double) out[i] > most ? (double) out[i] : most;
    }
    for (uint32_t i = 0; i < j->length; i++)
        sum += j->marks[i] == SLM_MARK_LABEL ? slm_exp((double) out[i] - most) : 0;
    for (uint32_t i = 0; i < j->length; i++) {
        if (j->marks[i] != SLM_MARK_LABEL)
            continue;
        float share = (float) (slm_exp((double) out[i] - most) / sum);
        read_label(j, i);
        for (uint32_t c = 0; c < n; c++)
            j->b[c] = j->label[c] + share * j->value[c];
        out[i] = feed(j);
    }
}

void slm_joint_scores(const slm_run *run, slm_scratch *s, const float *x, const uint8_t *marks, uint32_t length, float *out)
{
    const slm_hparams *hp = run->hp;
    size_t width = width_of(hp);
    float *at = s->pool.p;
    if (hp->n_decide > 0) {
        slm_decide_scores(run, s, x, marks, length, out);
        return;
    }
    joint j = {.run = run, .s = s, .x = x, .marks = marks, .length = length, .text = at, .key = at + width, .value = at + 2 * width,
               .label = at + 3 * width, .a = at + 4 * width, .b = at + 5 * width};
    while ((hp->joint_flags & SLM_JOINT_TEXT_ALONE) != 0 && j.begin + 1 < length && marks[j.begin] != SLM_MARK_TEXT)
        j.begin++;
    read_text(&j);
    if (hp->joint_scorer == SLM_SCORER_HOPFIELD)
        score_hopfield(&j, out);
    for (uint32_t i = 0; i < length; i++) {
        if (marks[i] != SLM_MARK_LABEL) {
            out[i] = 0;
            continue;
        }
        if (hp->joint_scorer != SLM_SCORER_HOPFIELD) {
            read_label(&j, i);
            out[i] = score(&j);
        }
        if ((hp->joint_flags & SLM_JOINT_UNIT) != 0)
            out[i] *= run->model->joint_vectors[SLM_TENSOR_JOINT_SCALE - SLM_JOINT_FIRST][0];
    }
}
