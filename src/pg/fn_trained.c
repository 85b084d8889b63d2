/*
 * fn_trained.c: slm_classify and slm_classify_scores with a classifier that was trained here.
 *
 * A text is embedded first; an embedding that is stored already (real[], or pgvector's vector by its cast) needs no forward pass at all.
 */
#include "pg/args.h"
#include "pg/classifiers.h"
#include "pg/prototypes.h"
#include "pg/scores.h"
#include "pg/work.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(slm_pg_classify_trained);
PG_FUNCTION_INFO_V1(slm_pg_classify_vector);
PG_FUNCTION_INFO_V1(slm_pg_trained_scores);
PG_FUNCTION_INFO_V1(slm_pg_vector_scores);

typedef struct Trained {
    SlmTrained *trained;
    const char *text; /* UTF-8, or NULL when the embedding was given */
    size_t length;
    const float *vector; /* or NULL: the work's result */
    double threshold;
} Trained;

/* Arguments: input or embedding, classifier, threshold where there is one. false for a NULL. */
static bool begin_trained(SlmWork *work, FunctionCallInfo fcinfo, bool scores)
{
    Trained *t = palloc0(sizeof *t);

    slm_pg_work_set_state(work, t);
    if (PG_ARGISNULL(0) || PG_ARGISNULL(1)) {
        slm_pg_work_decide(work, (Datum) 0, true);
        return false;
    }
    t->trained = slm_pg_use_classifier(PG_GETARG_TEXT_PP(1));
    t->threshold = scores ? 0 : slm_pg_float_arg(fcinfo, 2, "threshold", 0, 0, false, 1, false);
    return true;
}

static void begin_text(SlmWork *work, FunctionCallInfo fcinfo, bool scores)
{
    slm_segment segment;
    slm_request request;
    SlmEntry *entry;
    Trained *t;

    if (!begin_trained(work, fcinfo, scores))
        return;
    t = slm_pg_work_state(work);
    t->text = slm_pg_utf8_from_text(PG_GETARG_TEXT_P_COPY(0), &t->length);
    entry = slm_pg_classifier_model(t->trained);
    request = slm_pg_embed_request(entry, &segment, slm_pg_info(entry)->document_prompt, t->text, false);
    slm_pg_work_submit(work, entry, &request);
}

/* The numbers of an embedding argument, checked against the classifier. */
static const float *embedding_of(const SlmTrained *trained, ArrayType *array)
{
    uint32_t dims = slm_classifier_n_dims(trained->classifier);

    if (ARR_NDIM(array) != 1 || ARR_HASNULL(array) || (uint32_t) ARR_DIMS(array)[0] != dims)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("classifier \"%s\" takes embeddings of %u numbers, not %d", trained->name, dims,
                               ARR_NDIM(array) == 1 ? ARR_DIMS(array)[0] : 0),
                        errhint("Pass what slm_embed gave with the model that the classifier was trained on.")));
    if (slm_classifier_needs_text(trained->classifier))
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("classifier \"%s\" needs the text, not the embedding alone", trained->name),
                        errhint("It was trained with n-grams. Pass the text, or train one without n-grams.")));
    return slm_pg_floats(array);
}

static void begin_vector(SlmWork *work, FunctionCallInfo fcinfo)
{
    Trained *t;

    if (!begin_trained(work, fcinfo, true))
        return;
    t = slm_pg_work_state(work);
    t->vector = embedding_of(t->trained, PG_GETARG_ARRAYTYPE_P_COPY(0));
}

/* Probabilities [n_labels] of the row. */
static float *predict(SlmWork *work, Trained *t)
{
    float *probabilities = palloc(sizeof(float) * slm_classifier_n_labels(t->trained->classifier));
    const float *vector = t->vector != NULL ? t->vector : slm_pg_work_result(work, 0)->scores;
    bool text = slm_classifier_needs_text(t->trained->classifier);
    slm_error err;

    if (slm_classifier_predict(t->trained->classifier, vector, text ? &t->text : NULL, text ? &t->length : NULL, 1, probabilities,
                               &err) != SLM_OK)
        slm_pg_error(&err, NULL);
    return probabilities;
}

/* The first label of the highest probability. */
static uint32_t most_likely(const slm_classifier *classifier, const float *probabilities)
{
    uint32_t best = 0;

    for (uint32_t i = 1; i < slm_classifier_n_labels(classifier); i++)
        if (probabilities[i] > probabilities[best])
            best = i;
    return best;
}

static Datum finish_trained(SlmWork *work, bool *isnull)
{
    Trained *t = slm_pg_work_state(work);
    float *probabilities = predict(work, t);
    uint32_t best = most_likely(t->trained->classifier, probabilities);
    const char *label;

    *isnull = (double) probabilities[best] < t->threshold;
    label = slm_classifier_label(t->trained->classifier, best);
    pfree(probabilities);
    return *isnull ? (Datum) 0 : PointerGetDatum(slm_pg_text_from_utf8(label, strlen(label)));
}

static void begin_classify_text(SlmWork *work, FunctionCallInfo fcinfo)
{
    begin_text(work, fcinfo, false);
}

const SlmWorkKind slm_pg_classify_trained_kind = {"slm_pg_classify_trained", begin_classify_text, finish_trained};

Datum slm_pg_classify_trained(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_classify_trained_kind, fcinfo);
}

/* ---- a stored embedding: no model runs, so it is no work; the classifier is looked up once per statement */

typedef struct VectorCall {
    text *name; /* of the classifier, as the argument had it */
    SlmTrained *trained;
    float *probabilities; /* [n_labels] */
} VectorCall;

static VectorCall *vector_call(FunctionCallInfo fcinfo)
{
    VectorCall *call = fcinfo->flinfo->fn_extra;
    text *name = PG_GETARG_TEXT_PP(1);
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

Datum slm_pg_classify_vector(PG_FUNCTION_ARGS)
{
    VectorCall *call;
    double threshold;
    const char *label;
    uint32_t best;
    slm_error err;

    if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
        PG_RETURN_NULL();
    threshold = slm_pg_float_arg(fcinfo, 2, "threshold", 0, 0, false, 1, false);
    call = vector_call(fcinfo);
    if (slm_classifier_predict(call->trained->classifier, embedding_of(call->trained, PG_GETARG_ARRAYTYPE_P(0)), NULL, NULL, 1,
                               call->probabilities, &err) != SLM_OK)
        slm_pg_error(&err, NULL);
    best = most_likely(call->trained->classifier, call->probabilities);
    if ((double) call->probabilities[best] < threshold)
        PG_RETURN_NULL();
    label = slm_classifier_label(call->trained->classifier, best);
    PG_RETURN_TEXT_P(slm_pg_text_from_utf8(label, strlen(label)));
}

/* ---- scores */

static void begin_scores_text(SlmWork *work, FunctionCallInfo fcinfo)
{
    begin_text(work, fcinfo, true);
}

static void begin_scores_vector(SlmWork *work, FunctionCallInfo fcinfo)
{
    begin_vector(work, fcinfo);
}

static Datum finish_scores(SlmWork *work, bool *isnull)
{
    return PointerGetDatum(predict(work, slm_pg_work_state(work)));
}

static Datum put_all(FunctionCallInfo fcinfo, const SlmWorkKind *kind)
{
    SlmWork *work;
    const slm_classifier *classifier;
    const char **labels;
    double *scores;
    float *probabilities;
    bool isnull;
    int n;

    InitMaterializedSRF(fcinfo, 0);
    work = slm_pg_work_begin(kind, fcinfo);
    probabilities = (float *) DatumGetPointer(slm_pg_work_finish(work, &isnull));
    if (!isnull) {
        classifier = ((Trained *) slm_pg_work_state(work))->trained->classifier;
        n = (int) slm_classifier_n_labels(classifier);
        labels = palloc(sizeof(char *) * (Size) n);
        scores = palloc(sizeof(double) * (Size) n);
        for (int i = 0; i < n; i++) {
            labels[i] = slm_classifier_label(classifier, (uint32_t) i);
            scores[i] = (double) probabilities[i];
        }
        slm_pg_put_scores((ReturnSetInfo *) fcinfo->resultinfo, labels, scores, n);
    }
    slm_pg_work_free(work);
    return (Datum) 0;
}

Datum slm_pg_trained_scores(PG_FUNCTION_ARGS)
{
    static const SlmWorkKind kind = {"slm_pg_trained_scores", begin_scores_text, finish_scores};

    return put_all(fcinfo, &kind);
}

Datum slm_pg_vector_scores(PG_FUNCTION_ARGS)
{
    static const SlmWorkKind kind = {"slm_pg_vector_scores", begin_scores_vector, finish_scores};

    return put_all(fcinfo, &kind);
}
