/*
 * head.c: a text through a model with a classification head (head.h).
 *
 * The engine gives the head's outputs as they stand. One of several labels: their softmax; any of several: a sigmoid each. A text that is
 * read in windows has for each label the output of the window that speaks for it most, as with trained classifiers.
 */
#include "pg/functions/head.h"

#include "utils/builtins.h"
#include "utils/float.h"

#include "pg/base/errors.h"
#include "pg/models/catalog.h"
#include "pg/run/backend.h"
#include "pg/run/use.h"

SlmOpenModel *slm_pg_head_model(const text *model)
{
    SlmOpenModel *entry;

    if (model == NULL && slm_pg_default_model(SLM_TASK_CLASSIFY) == NULL)
        return NULL;
    entry = slm_pg_use_model(model, SLM_TASK_CLASSIFY);
    return slm_pg_info(entry)->can_classify ? entry : NULL;
}

static void take_outputs(void *arg, const float *outputs, size_t n, const char *window, size_t length)
{
    SlmHead *head = arg;

    for (int i = 0; i < head->n; i++)
        head->logits[i] = Max(head->logits[i], outputs[i]);
}

SlmHead *slm_pg_read_head(SlmWork *work, const SlmText *t)
{
    const slm_model_info *info = slm_pg_info(t->entry);
    SlmHead *head = palloc0(sizeof *head);
    const char *at = info->labels;

    if (info->head_kind == SLM_HEAD_NUMBER)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("the head of the model gives numbers, not labels"),
                        errhint("Choose a model that was trained to classify.")));
    head->n = (int) info->n_labels;
    head->kind = info->head_kind;
    head->labels = palloc(sizeof(char *) * (Size) head->n);
    head->logits = palloc(sizeof(float) * (Size) head->n);
    for (int i = 0; i < head->n; i++) {
        if (at >= info->labels + sizeof info->labels || *at == '\0')
            ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("the model's image does not name label %d", i)));
        head->labels[i] = pstrdup(at);
        head->logits[i] = -get_float4_infinity();
        at += strlen(at) + 1;
    }
    slm_pg_read(work, t, SLM_WINDOWS_HALF, take_outputs, head);
    return head;
}

void slm_pg_head_probabilities(const SlmHead *head, double *out)
{
    double largest = (double) head->logits[0], sum = 0;

    if (head->kind == SLM_HEAD_MULTI) {
        for (int i = 0; i < head->n; i++)
            out[i] = 1 / (1 + slm_exp(-(double) head->logits[i]));
        return;
    }
    for (int i = 1; i < head->n; i++)
        largest = Max(largest, (double) head->logits[i]);
    for (int i = 0; i < head->n; i++)
        sum += out[i] = slm_exp((double) head->logits[i] - largest);
    for (int i = 0; i < head->n; i++)
        out[i] /= sum;
}
