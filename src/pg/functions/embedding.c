/*
 * embedding.c: slm_classify_embedding and _scores: a trained classifier on an embedding that is stored already (real[], or pgvector's
 * vector by its cast).
 *
 * No model runs, so these calls are no works; the classifier is looked up once per statement.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/compat.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/base/errors.h"
#include "pg/base/row_error.h"
#include "pg/functions/prototypes.h"
#include "pg/functions/scores.h"
#include "pg/functions/trained.h"

PG_FUNCTION_INFO_V1(slm_pg_classify_embedding);
PG_FUNCTION_INFO_V1(slm_pg_classify_embedding_scores);

enum { ARG_EMBEDDING, ARG_CLASSIFIER, ARG_THRESHOLD };

/* The numbers of an embedding argument, checked against the classifier. */
static const float *embedding_of(const SlmTrained *trained, ArrayType *array)
{
    uint32_t dims = slm_classifier_n_dims(trained->classifier);

    if (ARR_NDIM(array) != 1 || ARR_HASNULL(array) || (uint32_t) ARR_DIMS(array)[0] != dims)
        ereport(ERROR, (slm_pg_input_error(SLM_FAULT_INVALID), errcode(ERRCODE_DATA_EXCEPTION),
                        errmsg("classifier \"%s\" takes embeddings of %u numbers, not %d", trained->kept.name, dims,
                               ARR_NDIM(array) == 1 ? ARR_DIMS(array)[0] : 0),
                        errhint("Pass what slm_embed gave with the model that the classifier was trained on.")));
    if (slm_classifier_needs_text(trained->classifier))
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("classifier \"%s\" needs the text, not the embedding alone", trained->kept.name),
                        errhint("It was trained with n-grams: slm_classify(text, classifier => '%s'), or train one without n-grams.",
                                trained->kept.name)));
    return slm_pg_floats(array);
}

typedef struct EmbeddingCall {
    text *name; /* of the classifier, as the argument had it */
    SlmTrained *trained;
    float *probabilities; /* [n_labels] */
} EmbeddingCall;

static EmbeddingCall *embedding_call(FunctionCallInfo fcinfo)
{
    EmbeddingCall *call = fcinfo->flinfo->fn_extra;
    text *name = PG_GETARG_TEXT_PP(ARG_CLASSIFIER);
    MemoryContext old;

    if (call != NULL && VARSIZE_ANY_EXHDR(call->name) == VARSIZE_ANY_EXHDR(name) &&
        memcmp(VARDATA_ANY(call->name), VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name)) == 0)
        return call;
    old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
    call = palloc(sizeof *call);
    call->name = cstring_to_text_with_len(VARDATA_ANY(name), (int) VARSIZE_ANY_EXHDR(name));
    call->trained = slm_pg_use_classifier(name);
    call->probabilities = palloc(sizeof(float) * slm_classifier_n_labels(call->trained->classifier));
    MemoryContextSwitchTo(old);
    fcinfo->flinfo->fn_extra = call;
    return call;
}

/* Fills call->probabilities. */
static void predict(EmbeddingCall *call, ArrayType *embedding)
{
    slm_error err;

    if (slm_classifier_predict(call->trained->classifier, embedding_of(call->trained, embedding), NULL, NULL, 1, call->probabilities,
                               &err) != SLM_OK)
        slm_pg_error(&err, NULL);
}

static Datum classify(PG_FUNCTION_ARGS)
{
    EmbeddingCall *call;
    double threshold;
    const char *label;
    uint32_t best = 0;

    if (PG_ARGISNULL(ARG_EMBEDDING) || PG_ARGISNULL(ARG_CLASSIFIER))
        PG_RETURN_NULL();
    threshold = slm_pg_float_arg(fcinfo, ARG_THRESHOLD, "threshold", 0, 0, false, 1, false);
    call = embedding_call(fcinfo);
    predict(call, PG_GETARG_ARRAYTYPE_P(ARG_EMBEDDING));
    for (uint32_t i = 1; i < slm_classifier_n_labels(call->trained->classifier); i++)
        if (call->probabilities[i] > call->probabilities[best])
            best = i;
    if ((double) call->probabilities[best] < threshold)
        PG_RETURN_NULL();
    label = slm_classifier_label(call->trained->classifier, best);
    PG_RETURN_TEXT_P(slm_pg_text_from_utf8(label, strlen(label)));
}

Datum slm_pg_classify_embedding(PG_FUNCTION_ARGS)
{
    return slm_pg_guarded(classify, fcinfo);
}

static Datum put_all(PG_FUNCTION_ARGS)
{
    EmbeddingCall *call;
    const char **labels;
    double *scores, threshold;
    int n;

    InitMaterializedSRF(fcinfo, 0);
    if (PG_ARGISNULL(ARG_EMBEDDING) || PG_ARGISNULL(ARG_CLASSIFIER))
        return (Datum) 0;
    threshold = slm_pg_float_arg(fcinfo, ARG_THRESHOLD, "threshold", 0, 0, false, 1, false);
    call = embedding_call(fcinfo);
    predict(call, PG_GETARG_ARRAYTYPE_P(ARG_EMBEDDING));
    n = (int) slm_classifier_n_labels(call->trained->classifier);
    labels = palloc(sizeof(char *) * (Size) n);
    scores = palloc(sizeof(double) * (Size) n);
    for (int i = 0; i < n; i++) {
        labels[i] = slm_classifier_label(call->trained->classifier, (uint32_t) i);
        scores[i] = (double) call->probabilities[i];
    }
    slm_pg_put_scores((ReturnSetInfo *) fcinfo->resultinfo, labels, scores, n, threshold);
    return (Datum) 0;
}

Datum slm_pg_classify_embedding_scores(PG_FUNCTION_ARGS)
{
    return slm_pg_guarded(put_all, fcinfo);
}
