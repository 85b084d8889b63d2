/*
 * shortlist.c: which labels come on the list, and how both models' scores become probabilities (shortlist.h).
 *
 * Labels that are equally near come in the order of the call.  Nothing here depends on other rows.
 */
#include "pg/functions/shortlist.h"

#include "pg/base/args.h"
#include "pg/base/encoding.h"
#include "pg/functions/calibration.h"
#include "pg/functions/prototypes.h"
#include "pg/models/catalog.h"
#include "pg/run/use.h"

#define MAX_LISTED 255

#define EXAMPLE "model => 'a generative model', shortlist => 8, shortlist_model => 'an encoder'"

SlmShortlist *slm_pg_shortlist_arg(FunctionCallInfo fcinfo, int size, int model, const SlmOpenModel *second)
{
    SlmShortlist *list;

    if (PG_ARGISNULL(size)) {
        if (!PG_ARGISNULL(model))
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("shortlist_model needs the length of the short list"),
                            errhint("Add it: shortlist => 8, or leave shortlist_model out.")));
        return NULL;
    }
    list = palloc0(sizeof *list);
    list->n = slm_pg_int_arg(fcinfo, size, "shortlist", 0, 2, MAX_LISTED);
    if (PG_ARGISNULL(model) && slm_pg_default_model(SLM_TASK_EMBED) == NULL)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("no encoder was named for the short list and slm.embed_model is not set"),
                        errhint("Pass shortlist_model => 'an encoder', or SET slm.embed_model. The view slm.models lists the "
                                "loaded models.")));
    list->entry = slm_pg_use_model(slm_pg_text_arg(fcinfo, model), SLM_TASK_EMBED);
    if (list->entry == second)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the short list is to be weighed by the model that makes it"),
                        errhint("Name a second model: %s.", EXAMPLE)));
    return list;
}

void slm_pg_refuse_shortlist(const char *model)
{
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a short list cannot be made for %s", model),
                    errhint("Leave shortlist and shortlist_model out, or name another model: %s.", EXAMPLE)));
    pg_unreachable();
}

void slm_pg_shortlist_read(SlmWork *work, SlmShortlist *list, const text *input, SlmTruncate truncate, const SlmLabels *labels,
                           const SlmExamples *examples, const ArrayType *embedding)
{
    SlmText t = {.entry = list->entry, .prompt = slm_pg_text_prompt(list->entry, false), .truncate = truncate};
    const float *prototypes = slm_pg_prototypes(list->entry, labels, examples);

    list->n = Min(list->n, labels->n);
    if (embedding != NULL) {
        list->cosines = slm_pg_stored_cosines(list->entry, embedding, prototypes, labels->n);
        return;
    }
    t.text = slm_pg_input_utf8(input, &t.length);
    slm_pg_measure(&t);
    slm_pg_note_windows(work, &t);
    list->cosines = slm_pg_read_cosines(work, &t, prototypes, labels->n);
}

/* ---- the list */

static int nearest_first(const void *a, const void *b, void *arg)
{
    const double *cosines = arg;
    int i = *(const int *) a, j = *(const int *) b;

    if (cosines[i] != cosines[j])
        return cosines[i] > cosines[j] ? -1 : 1;
    return i - j;
}

static int compare_places(const void *a, const void *b)
{
    return *(const int *) a - *(const int *) b;
}

SlmLabels slm_pg_shortlist_choose(SlmShortlist *list, const SlmLabels *all)
{
    SlmLabels on = {.n = list->n, .enum_type = all->enum_type};
    int *order = palloc(sizeof(int) * (Size) all->n);

    for (int i = 0; i < all->n; i++)
        order[i] = i;
    qsort_arg(order, (size_t) all->n, sizeof(int), nearest_first, unconstify(double *, list->cosines));
    qsort(order, (size_t) list->n, sizeof(int), compare_places);
    list->listed = order;
    on.names = palloc(sizeof(char *) * (Size) on.n);
    on.descriptions = all->descriptions == NULL ? NULL : palloc(sizeof(char *) * (Size) on.n);
    for (int i = 0; i < on.n; i++) {
        on.names[i] = all->names[order[i]];
        if (on.descriptions != NULL)
            on.descriptions[i] = all->descriptions[order[i]];
    }
    return on;
}

bool slm_pg_shortlist_has(const SlmShortlist *list, int label)
{
    return bsearch(&label, list->listed, (size_t) list->n, sizeof(int), compare_places) != NULL;
}

/* ---- probabilities */

int slm_pg_shortlist_combine(const SlmShortlist *list, const double *scores, int n_labels, double *probabilities)
{
    double *on = palloc(sizeof(double) * (Size) list->n), sum = 0;
    int best = 0;

    for (int i = 0; i < n_labels; i++)
        probabilities[i] = SLM_COSINE_SCALE * list->cosines[i];
    slm_pg_softmax(probabilities, n_labels);
    for (int i = 0; i < list->n; i++) {
        on[i] = SLM_COSINE_SCALE * list->cosines[list->listed[i]] + scores[i];
        sum += probabilities[list->listed[i]];
    }
    slm_pg_softmax(on, list->n);
    for (int i = 0; i < list->n; i++) {
        probabilities[list->listed[i]] = sum * on[i];
        best = on[i] > on[best] ? i : best;
    }
    pfree(on);
    return list->listed[best];
}
