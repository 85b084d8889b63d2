/*
 * What the fine-tuning of an encoder learns from: texts with labels, pairs, or pairs with a score; how an epoch goes through them, and how
 * the held-out ones are judged (fit.c runs it, contrast.c has the losses).
 *
 *   labels   the order of an epoch has each text once, and behind it another one of its label, so that every text of a step has a mate
 *   pairs    an example is two texts, or three; documents that are the same tokens are answers to the same queries
 *
 * To judge, the texts are embedded, a micro-batch at a time, into `vectors`; when the last one is there they are scored.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/learn/fit.h"

#define REFERENCES 32 /* examples of a label whose mean it is judged by */
#define MOST_JUDGED 1000 /* pairs: every query is compared with every answer */

/* Times the scale at which it learns.  A held-out loss is that at the best of them: vectors that were trained are surer at any one scale,
 * and so wrongly sure, where the same vectors order better. */
#define N_SHARP 6
static const double sharpness[N_SHARP] = {0.25, 0.5, 0.75, 1, 1.5, 2};

struct slm_texts {
    slm_contrast kind;
    const slm_text_example *examples, *held_out;
    uint32_t n_labels;
    uint32_t *by_label, *label_first; /* LABELS: examples sorted by label, [n_labels + 1] where each begins */
    slm_text_example *list;           /* [n_list] one text each; LABELS: with its label, of a reference; -1: it is held out */
    size_t n_list, n_judged;          /* n_judged: held-out examples among them */
    float *vectors;                   /* [n_list, n_embd] at length 1 */
    float *means;                     /* LABELS: [n_labels, n_embd] */
    float *cosines;                   /* of one text: to all labels or answers */
    slm_learn_aim aim;
    int32_t *labels; /* [step_texts] */
    float *scores;
};

static uint32_t texts_of(slm_contrast kind, const slm_text_example *e)
{
    return kind == SLM_CONTRAST_LABELS ? 1 : kind == SLM_CONTRAST_PAIRS && e->ids[2] != NULL ? 3 : 2;
}

static uint32_t tokens_of(slm_contrast kind, const slm_text_example *e)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < texts_of(kind, e); i++)
        n += e->n[i];
    return n;
}

/* ------------------------------------------------------------------ the lists */

static slm_status check_list(const slm_model *model, slm_contrast kind, const slm_text_example *list, size_t n, uint32_t *longest,
                             uint32_t *n_labels, slm_error *err)
{
    for (size_t i = 0; i < n; i++) {
        for (uint32_t k = 0; k < texts_of(kind, &list[i]); k++) {
            if (list[i].ids[k] == NULL || list[i].n[k] == 0)
                return slm_fail(err, SLM_INVALID, "example %zu has an empty text", i + 1);
            if (list[i].n[k] > model->hp.n_context)
                return slm_fail(err, SLM_LIMIT, "a text of example %zu has %u tokens, the model takes %u", i + 1, list[i].n[k],
                                model->hp.n_context);
            *longest = list[i].n[k] > *longest ? list[i].n[k] : *longest;
        }
        if (kind == SLM_CONTRAST_SCORES && !(fabsf(list[i].score) <= 1))
            return slm_fail(err, SLM_INVALID, "the score of example %zu is none from -1 to 1", i + 1);
        if (kind == SLM_CONTRAST_LABELS && (list[i].label < 0 || list[i].label >= 1000000))
            return slm_fail(err, SLM_INVALID, "the label of example %zu is out of range", i + 1);
        if (kind == SLM_CONTRAST_LABELS && (uint32_t) list[i].label >= *n_labels)
            *n_labels = (uint32_t) list[i].label + 1;
    }
    return SLM_OK;
}

static slm_status sort_labels(slm_finetune *f, slm_error *err)
{
    slm_texts *x = f->texts;
    x->label_first = calloc(x->n_labels + (size_t) 2, sizeof *x->label_first);
    x->by_label = malloc(f->n_examples * sizeof *x->by_label);
    if (x->label_first == NULL || x->by_label == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (size_t i = 0; i < f->n_examples; i++)
        x->label_first[x->examples[i].label + 2]++;
    for (uint32_t l = 2; l <= x->n_labels; l++)
        x->label_first[l] += x->label_first[l - 1];
    for (size_t i = 0; i < f->n_examples; i++) /* label_first[l + 1] goes from where l begins to where it ends */
        x->by_label[x->label_first[x->examples[i].label + 1]++] = (uint32_t) i;
    return SLM_OK;
}

/* References of each label, then what is held out; pairs: what asks, then the answers. */
static void fill_list(slm_finetune *f)
{
    slm_texts *x = f->texts;
    for (uint32_t l = 0; x->kind == SLM_CONTRAST_LABELS && l < x->n_labels; l++)
        for (uint32_t i = x->label_first[l]; i < x->label_first[l + 1] && i < x->label_first[l] + REFERENCES; i++) {
            const slm_text_example *e = &x->examples[x->by_label[i]];
            x->list[x->n_list++] = (slm_text_example){.ids = {e->ids[0]}, .n = {e->n[0]}, .label = (int32_t) l};
        }
    x->n_judged = x->kind == SLM_CONTRAST_LABELS || f->n_held_out < MOST_JUDGED ? f->n_held_out : MOST_JUDGED;
    for (uint32_t side = 0; side < (x->kind == SLM_CONTRAST_LABELS ? 1 : 2); side++)
        for (size_t i = 0; i < x->n_judged; i++)
            x->list[x->n_list++] = (slm_text_example){.ids = {x->held_out[i].ids[side]}, .n = {x->held_out[i].n[side]}, .label = -1};
}

static slm_status make_lists(slm_finetune *f, const slm_model *model, slm_error *err)
{
    slm_texts *x = f->texts;
    size_t width = model->hp.n_embd;
    if (x->kind == SLM_CONTRAST_LABELS)
        SLM_TRY(sort_labels(f, err));
    x->labels = calloc(f->options.step_texts, sizeof *x->labels);
    x->scores = calloc(f->options.step_texts, sizeof *x->scores);
    if (x->labels == NULL || x->scores == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    if (f->n_held_out == 0)
        return SLM_OK;
    x->list = malloc((f->n_examples + 2 * f->n_held_out) * sizeof *x->list);
    if (x->list == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    fill_list(f);
    x->vectors = malloc(x->n_list * width * sizeof *x->vectors);
    x->means = malloc((x->n_labels + (size_t) 1) * width * sizeof *x->means);
    x->cosines = malloc((x->n_labels + x->n_judged + (size_t) 1) * sizeof *x->cosines);
    return x->vectors == NULL || x->means == NULL || x->cosines == NULL ? slm_fail(err, SLM_NOMEM, "out of memory") : SLM_OK;
}

size_t slm_texts_bytes(const slm_finetune *f)
{
    const slm_texts *x = f->texts;
    size_t width = f->t.hp->n_embd * sizeof(float);
    return x->n_list * (width + sizeof *x->list) + (x->list == NULL ? 0 : x->n_labels * width) + f->n_examples * sizeof *x->by_label;
}

float *slm_texts_judged(const slm_finetune *f, size_t *most)
{
    *most = f->texts->n_list;
    return f->texts->vectors;
}

slm_status slm_texts_new(slm_finetune *f, const slm_model *model, slm_contrast kind, const slm_text_example *examples,
                         const slm_text_example *held_out, uint32_t *longest, slm_error *err)
{
    slm_texts *x = f->texts = calloc(1, sizeof *x);
    if (x == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    *x = (slm_texts){.kind = kind, .examples = examples, .held_out = held_out};
    if (f->n_examples < 2 || f->n_examples > INT32_MAX / 2 || f->options.step_texts == 0)
        return slm_fail(err, SLM_INVALID, "%zu examples are too few to learn from, or too many", f->n_examples);
    SLM_TRY(check_list(model, kind, examples, f->n_examples, longest, &x->n_labels, err));
    uint32_t known = x->n_labels;
    SLM_TRY(check_list(model, kind, held_out, f->n_held_out, longest, &x->n_labels, err));
    if (x->n_labels != known)
        return slm_fail(err, SLM_INVALID, "a label is held out that no example has");
    return make_lists(f, model, err);
}

void slm_texts_free(slm_texts *x)
{
    if (x == NULL)
        return;
    void *lists[] = {x->by_label, x->label_first, x->list, x->vectors, x->means, x->cosines, x->labels, x->scores};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        free(lists[i]);
    free(x);
}

/* ------------------------------------------------------------------ steps */

/* Another example of the same label, or the example itself where it is the only one. */
static uint32_t mate_of(const slm_finetune *f, uint32_t epoch, uint32_t example)
{
    const slm_texts *x = f->texts;
    int32_t label = x->examples[example].label;
    uint32_t first = x->label_first[label], n = x->label_first[label + 1] - first;
    if (n < 2)
        return example;
    uint32_t other = x->by_label[first + slm_fit_draw(f, epoch + 1000003, example + (size_t) 1) % (n - 1)];
    return other == example ? x->by_label[first + n - 1] : other;
}

void slm_texts_order(slm_finetune *f, uint32_t epoch)
{
    uint32_t *order = f->order;
    for (size_t i = 0; i < f->n_examples; i++)
        order[i] = (uint32_t) i;
    for (size_t i = f->n_examples; i > 1; i--) {
        size_t j = slm_fit_draw(f, epoch, i);
        uint32_t swap = order[i - 1];
        order[i - 1] = order[j];
        order[j] = swap;
    }
    f->n_order = f->n_examples;
    if (f->texts->kind != SLM_CONTRAST_LABELS)
        return;
    for (size_t i = f->n_examples; i-- > 0;) { /* from behind: both places of i lie behind what is still to be read */
        uint32_t example = order[i];
        order[2 * i] = example;
        order[2 * i + 1] = mate_of(f, epoch, example);
    }
    f->n_order = 2 * f->n_examples;
}

size_t slm_texts_step(const slm_finetune *f, size_t from, uint64_t *n)
{
    const slm_texts *x = f->texts;
    size_t at_once = x->kind == SLM_CONTRAST_LABELS ? 2 : 1, end = from;
    uint64_t tokens = 0, texts = 0;
    while (end < f->n_order) {
        uint64_t more = 0, more_texts = 0;
        for (size_t i = end; i < end + at_once; i++) {
            more += tokens_of(x->kind, &x->examples[f->order[i]]);
            more_texts += texts_of(x->kind, &x->examples[f->order[i]]);
        }
        bool least = end < from + 2 * at_once; /* two examples say something about each other */
        if (texts + more_texts > f->options.step_texts || (!least && tokens + more > f->options.step_tokens))
            break;
        tokens += more;
        texts += more_texts;
        end += at_once;
    }
    *n = tokens;
    return end;
}

static void add_text(slm_finetune *f, const int32_t *ids, uint32_t n)
{
    slm_learn_batch *b = &f->batch;
    memcpy(f->ids + b->n, ids, n * sizeof *ids);
    b->n += n;
    b->longest = n > b->longest ? n : b->longest;
    f->first_row[++b->n_sequences] = b->n;
}

static void clear_batch(slm_finetune *f)
{
    f->batch = (slm_learn_batch){.ids = f->ids, .first = f->first_row, .out = f->out, .target = f->target};
    f->first_row[0] = 0;
}

/* Documents that are the same tokens get the number of the first of them. */
static void number_documents(slm_finetune *f, uint32_t n_queries)
{
    const slm_learn_batch *b = &f->batch;
    int32_t *labels = f->texts->labels;
    for (uint32_t j = 0; j < b->n_sequences - n_queries; j++) {
        const uint32_t *at = b->first + n_queries + j;
        labels[j] = (int32_t) j;
        for (uint32_t k = 0; k < j && labels[j] == (int32_t) j; k++) {
            const uint32_t *other = b->first + n_queries + k;
            if (at[1] - at[0] == other[1] - other[0] && memcmp(f->ids + at[0], f->ids + other[0], (at[1] - at[0]) * sizeof *f->ids) == 0)
                labels[j] = labels[k];
        }
    }
}

void slm_texts_fill(slm_finetune *f)
{
    slm_texts *x = f->texts;
    uint32_t n = (uint32_t) (f->step_end - f->at);
    clear_batch(f);
    x->aim = (slm_learn_aim){.kind = x->kind, .scale = f->options.scale, .labels = x->labels, .scores = x->scores, .n_queries = n};
    for (uint32_t side = 0; side < 3; side++)
        for (uint32_t i = 0; i < n; i++) {
            const slm_text_example *e = &x->examples[f->order[f->at + i]];
            if (side >= texts_of(x->kind, e))
                continue;
            if (x->kind == SLM_CONTRAST_LABELS)
                x->labels[i] = e->label;
            x->scores[i] = e->score;
            add_text(f, e->ids[side], e->n[side]);
        }
    if (x->kind == SLM_CONTRAST_PAIRS)
        number_documents(f, n);
    f->batch.aim = &x->aim;
    f->step_answers = n;
}

/* ------------------------------------------------------------------ judging */

static float dot(const slm_finetune *f, const float *a, const float *b)
{
    double sums[3];
    f->t.kn->products(a, b, f->t.hp->n_embd, sums);
    return (float) sums[0];
}

/* Mean vectors of the labels, at length 1. */
static void make_means(slm_finetune *f)
{
    slm_texts *x = f->texts;
    uint32_t width = f->t.hp->n_embd;
    memset(x->means, 0, (size_t) x->n_labels * width * sizeof *x->means);
    for (size_t i = 0; i < x->n_list; i++)
        for (uint32_t c = 0; x->list[i].label >= 0 && c < width; c++)
            x->means[(size_t) x->list[i].label * width + c] += x->vectors[i * width + c];
    for (uint32_t l = 0; l < x->n_labels; l++) {
        float *mean = x->means + (size_t) l * width, length = sqrtf(dot(f, mean, mean));
        for (uint32_t c = 0; length > 0 && c < width; c++)
            mean[c] /= length;
    }
}

/* Cross-entropies of a vector's cosines to n others, of which `right` is the right one, at each sharpness; *exact counts where it is
 * nearest. */
static void against(slm_finetune *f, const float *vector, const float *others, size_t n, size_t right, double sums[N_SHARP])
{
    size_t width = f->t.hp->n_embd;
    float *cosines = f->texts->cosines;
    size_t best = right;
    for (size_t j = 0; j < n; j++)
        cosines[j] = dot(f, vector, others + j * width);
    for (size_t j = 0; j < n; j++)
        best = cosines[j] > cosines[best] ? j : best;
    f->exact += best == right;
    for (int s = 0; s < N_SHARP; s++) {
        double scale = (double) f->options.scale * sharpness[s], sum = 0;
        for (size_t j = 0; j < n; j++)
            sum += exp(scale * ((double) cosines[j] - (double) cosines[best]));
        sums[s] += log(sum) + scale * ((double) cosines[best] - (double) cosines[right]);
    }
}

static void score_list(slm_finetune *f, slm_finetune_score *out)
{
    slm_texts *x = f->texts;
    size_t width = f->t.hp->n_embd, n = x->n_judged, references = x->n_list - n;
    double sums[N_SHARP] = {0}, least;
    if (x->kind == SLM_CONTRAST_LABELS)
        make_means(f);
    for (size_t i = 0; i < n; i++) {
        if (x->kind == SLM_CONTRAST_LABELS) {
            against(f, x->vectors + (references + i) * width, x->means, x->n_labels, (size_t) x->held_out[i].label, sums);
        } else if (x->kind == SLM_CONTRAST_PAIRS) {
            against(f, x->vectors + i * width, x->vectors + n * width, n, i, sums);
        } else {
            double off = (double) dot(f, x->vectors + i * width, x->vectors + (n + i) * width) - (double) x->held_out[i].score;
            sums[0] += off * off;
        }
    }
    least = sums[0];
    for (int s = 1; s < N_SHARP && x->kind != SLM_CONTRAST_SCORES; s++)
        least = sums[s] < least ? sums[s] : least;
    *out = (slm_finetune_score){.loss = least / (double) n,
                                .exact = x->kind == SLM_CONTRAST_SCORES ? NAN : (double) f->exact / (double) n};
}

/* The vectors of the texts from *at on that fit into a micro-batch. */
static slm_status embed_some(slm_finetune *f, const slm_text_example *texts, size_t n, size_t *at, float *vectors, slm_error *err)
{
    size_t width = f->t.hp->n_embd, next = *at;
    clear_batch(f);
    for (; next < n && f->batch.n + texts[next].n[0] <= f->t.capacity && f->batch.n_sequences < f->t.n_texts; next++)
        add_text(f, texts[next].ids[0], texts[next].n[0]);
    SLM_TRY(slm_fit_pass(f, 0, err));
    for (size_t i = *at; i < next; i++)
        memcpy(vectors + i * width, f->t.unit + (i - *at) * f->t.ld.embd, width * sizeof *vectors);
    *at = next;
    return SLM_OK;
}

slm_status slm_finetune_embed(slm_finetune *f, const slm_text_example *texts, size_t n, float *vectors, slm_error *err)
{
    if (f->texts == NULL)
        return slm_fail(err, SLM_INVALID, "a model that generates has no vectors of texts");
    for (size_t i = 0; i < n; i++)
        if (texts[i].n[0] == 0 || texts[i].n[0] > f->t.longest)
            return slm_fail(err, SLM_LIMIT, "text %zu has %u tokens, at most %u were said", i + 1, texts[i].n[0], f->t.longest);
    for (size_t at = 0; at < n;)
        SLM_TRY(embed_some(f, texts, n, &at, vectors, err));
    return SLM_OK;
}

slm_status slm_texts_judge(slm_finetune *f, slm_finetune_score *out, slm_error *err)
{
    slm_texts *x = f->texts;
    while (f->at < x->n_list)
        SLM_TRY(embed_some(f, x->list, x->n_list, &f->at, x->vectors, err));
    score_list(f, out);
    return SLM_OK;
}
