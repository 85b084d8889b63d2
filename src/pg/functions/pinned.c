/*
 * pinned.c: slm_model_digest, and slm_embed_pinned and slm_classify_pinned, which are immutable.
 *
 * What a model says is a function of the model's contents, the options of its load, and the arguments.  The digest names the first two; a
 * call that names a model and its digest is refused where the model of that name is another one, so it gives one answer or none for ever:
 * it may stand in a generated column, an index, a CHECK, and in what Citus sends to its workers.  Nothing that a setting says takes part.
 *
 *   key of an image   SHA-256 of the source, "-l1", and "-" a digest of the options, if any      ──►  digest: the same without "-l1"
 *                     the same of an adapter behind "+"
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "pg/base/args.h"
#include "pg/base/earlier.h"
#include "pg/functions/classification.h"
#include "pg/functions/kinds.h"
#include "pg/functions/labels.h"
#include "pg/models/catalog.h"
#include "pg/run/opened.h"
#include "pg/run/use.h"
#include "pg/run/work.h"

PG_FUNCTION_INFO_V1(slm_pg_model_digest);
PG_FUNCTION_INFO_V1(slm_pg_embed_pinned);
PG_FUNCTION_INFO_V1(slm_pg_classify_pinned);

#define LAYOUT "-l1"

static char *digest_of(const SlmOpenModel *entry)
{
    char *digest = pstrdup(slm_pg_opened_key(entry)), *found;

    while ((found = strstr(digest, LAYOUT)) != NULL)
        memmove(found, found + strlen(LAYOUT), strlen(found + strlen(LAYOUT)) + 1);
    return digest;
}

Datum slm_pg_model_digest(PG_FUNCTION_ARGS)
{
    PG_RETURN_TEXT_P(cstring_to_text(digest_of(slm_pg_use_model(PG_GETARG_TEXT_PP(0), SLM_TASK_ANY))));
}

/* The model of a call, which is the one that the digest says. */
static SlmOpenModel *pinned_model(const SlmWork *work, FunctionCallInfo fcinfo, int model, int digest)
{
    SlmOpenModel *entry;
    const char *name, *is;

    if (PG_ARGISNULL(model) || PG_ARGISNULL(digest))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("a pinned call must name its model and the model's digest"),
                        errhint("SELECT slm_model_digest('minilm') shows it.")));
    name = text_to_cstring(PG_GETARG_TEXT_PP(model));
    entry = slm_pg_work_model(work, PG_GETARG_TEXT_PP(model));
    is = digest_of(entry);
    if (strcmp(is, text_to_cstring(PG_GETARG_TEXT_PP(digest))) != 0)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("model \"%s\" is not the one that this call is pinned to", name),
                        errdetail("Its digest is %s.", is),
                        errhint("Load the model that the values were computed with under this name, or compute them anew with this "
                                "digest.")));
    return entry;
}

/* ---- slm_embed_pinned(input, model, digest, truncate, on_error) */

static void begin_embed(SlmWork *work, FunctionCallInfo fcinfo)
{
    LOCAL_FCINFO(call, 4);

    if (PG_ARGISNULL(0)) {
        slm_pg_work_decide(work, (Datum) 0, true);
        return;
    }
    (void) pinned_model(work, fcinfo, 1, 2);
    InitFunctionCallInfoData(*call, fcinfo->flinfo, 4, fcinfo->fncollation, fcinfo->context, NULL);
    call->args[0] = fcinfo->args[0];
    call->args[1] = fcinfo->args[1];
    call->args[2] = fcinfo->args[3];
    call->args[3] = fcinfo->args[4];
    slm_pg_embed_kind.begin(work, call);
}

static Datum finish_embed(SlmWork *work, bool *isnull)
{
    return slm_pg_embed_kind.finish(work, isnull);
}

const SlmWorkKind slm_pg_embed_pinned_kind = {
    .symbol = "slm_pg_embed_pinned", .task = SLM_TASK_EMBED, .begin = begin_embed, .finish = finish_embed};

Datum slm_pg_embed_pinned(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_embed_pinned_kind, fcinfo);
}

/* ---- slm_classify_pinned(input, labels, model, digest, threshold, descriptions, truncate, on_error) */

enum { P_INPUT, P_LABELS, P_MODEL, P_DIGEST, P_THRESHOLD, P_DESCRIPTIONS, P_TRUNCATE, P_ON_ERROR };

/* The labels are all that there is here: no classifier, no cascade. */
static void check_labels(FunctionCallInfo fcinfo)
{
    int n = 0;

    if (!PG_ARGISNULL(P_LABELS)) {
        ArrayType *labels = PG_GETARG_ARRAYTYPE_P(P_LABELS);

        n = ArrayGetNItems(ARR_NDIM(labels), ARR_DIMS(labels));
    }
    if (n < 1 || n > SLM_MAX_LABELS)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("a pinned call takes from 1 to %d labels, not %d", SLM_MAX_LABELS, n),
                        errhint("For example: labels => ARRAY['billing', 'delivery'].")));
}

static void begin_classify(SlmWork *work, FunctionCallInfo fcinfo)
{
    LOCAL_FCINFO(call, SLM_CLASSIFY_ARGUMENTS);

    if (PG_ARGISNULL(0)) {
        slm_pg_work_decide(work, (Datum) 0, true);
        return;
    }
    check_labels(fcinfo);
    (void) pinned_model(work, fcinfo, P_MODEL, P_DIGEST);
    InitFunctionCallInfoData(*call, fcinfo->flinfo, SLM_CLASSIFY_ARGUMENTS, fcinfo->fncollation, fcinfo->context, NULL);
    for (int i = 0; i < SLM_CLASSIFY_ARGUMENTS; i++)
        call->args[i].isnull = true;
    call->args[SLM_CLASSIFY_INPUT] = fcinfo->args[P_INPUT];
    call->args[SLM_CLASSIFY_LABELS] = fcinfo->args[P_LABELS];
    call->args[SLM_CLASSIFY_MODEL] = fcinfo->args[P_MODEL];
    call->args[SLM_CLASSIFY_THRESHOLD] = fcinfo->args[P_THRESHOLD];
    call->args[SLM_CLASSIFY_DESCRIPTIONS] = fcinfo->args[P_DESCRIPTIONS];
    call->args[SLM_CLASSIFY_TRUNCATE] = fcinfo->args[P_TRUNCATE];
    call->args[SLM_CLASSIFY_ON_ERROR] = fcinfo->args[P_ON_ERROR];
    slm_pg_classification_begin(work, call, true);
}

static Datum finish_classify(SlmWork *work, bool *isnull)
{
    return slm_pg_classify_kind.finish(work, isnull);
}

const SlmWorkKind slm_pg_classify_pinned_kind = {
    .symbol = "slm_pg_classify_pinned", .task = SLM_TASK_CLASSIFY, .begin = begin_classify, .finish = finish_classify};

Datum slm_pg_classify_pinned(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_classify_pinned_kind, fcinfo);
}
