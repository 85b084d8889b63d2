/*
 * joint.c: labels beside a text (joint.h).
 *
 * Labels that exclude each other compare their outputs by a softmax; one that stands alone is judged by its sigmoid, as the model was
 * trained.  Labels are in the order of the call, which the model reads them in.
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

    for (int i = 0; i < w->n; i++) {
        w->weights[i] = Max(w->weights[i], (double) outputs[i]);
        w->fits[i] = 1 / (1 + slm_exp(-w->weights[i]));
    }
}

SlmWeighed *slm_pg_read_joint(SlmWork *work, SlmText text, const char *instruction, const SlmLabels *labels)
{
    SlmWeighed *w = palloc(sizeof *w);
    SlmBeside *beside = palloc(sizeof *beside);

    w->n = labels->n;
    w->weights = palloc(sizeof(double) * (Size) w->n);
    w->fits = palloc0(sizeof(double) * (Size) w->n);
    for (int i = 0; i < w->n; i++)
        w->weights[i] = -get_float8_infinity();
    *beside = (SlmBeside){.instruction = instruction, .labels = labels->names, .descriptions = labels->descriptions, .n = labels->n};
    text.beside = beside;
    slm_pg_measure_beside(&text, beside);
    slm_pg_measure(&text);
    slm_pg_note_windows(work, &text);
    slm_pg_read(work, &text, SLM_WINDOWS_HALF, take_outputs, w);
    return w;
}
