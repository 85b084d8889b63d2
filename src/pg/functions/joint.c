/*
 * joint.c: labels beside a text (joint.h).
 *
 * Labels that exclude each other compare their outputs by a softmax; one that stands alone is judged by its sigmoid, as the model was
 * trained.  Labels are in the order of the call, which the model reads them in.  A decision model chooses one of several, so that only a
 * label in a pass of its own, as a statement, has an output that says whether it is right.
 */
#include "pg/functions/joint.h"

#include "utils/float.h"

#include "engine/slm.h"
#include "pg/functions/entailment.h"
#include "pg/models/catalog.h"
#include "pg/run/backend.h"

bool slm_pg_can_joint(const SlmOpenModel *entry)
{
    return slm_pg_info(entry)->can_joint;
}

const char *slm_pg_beside_method(const SlmOpenModel *entry)
{
    return slm_pg_can_joint(entry) ? "joint" : slm_pg_can_entail(entry) ? "entailment" : NULL;
}

static void take_outputs(void *arg, const float *outputs, size_t n, const char *window, size_t length)
{
    SlmWeighed *w = arg;

    if (n != (size_t) w->n) /* they come from another process */
        ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("the engine gave %zu scores for %d labels", n, w->n)));
    for (int i = 0; i < w->n; i++) {
        w->weights[i] = Max(w->weights[i], (double) outputs[i]);
        w->fits[i] = 1 / (1 + slm_exp(-w->weights[i]));
    }
}

/* The part of w that is read in one pass, with labels first and those behind it. */
static void read_some(SlmWork *work, SlmText text, const char *instruction, const SlmLabels *labels, const SlmWeighed *w, int first, int n)
{
    SlmWeighed *some = palloc(sizeof *some);
    SlmBeside *beside = palloc(sizeof *beside);

    *some = (SlmWeighed){.n = n, .weights = w->weights + first, .fits = w->fits + first};
    *beside = (SlmBeside){.instruction = instruction, .labels = labels->names + first, .n = n,
                          .descriptions = labels->descriptions == NULL ? NULL : labels->descriptions + first};
    text.beside = beside;
    slm_pg_measure_beside(&text, beside);
    slm_pg_measure(&text);
    if (first == 0)
        slm_pg_note_windows(work, &text);
    slm_pg_read(work, &text, SLM_WINDOWS_HALF, take_outputs, some);
}

SlmWeighed *slm_pg_read_joint(SlmWork *work, SlmText text, const char *instruction, const SlmLabels *labels, bool alone)
{
    SlmWeighed *w = palloc(sizeof *w);
    int n = alone && slm_pg_info(text.entry)->can_decide ? 1 : labels->n;

    w->n = labels->n;
    w->weights = palloc(sizeof(double) * (Size) w->n);
    w->fits = palloc0(sizeof(double) * (Size) w->n);
    for (int i = 0; i < w->n; i++)
        w->weights[i] = -get_float8_infinity();
    for (int i = 0; i < w->n; i += n)
        read_some(work, text, instruction, labels, w, i, n);
    return w;
}
