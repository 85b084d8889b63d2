/*
 * fn_classify.c: slm_classify and slm_classify_scores with a generative model.
 *
 *   direct    P(label | instruction with the labels, text), each label scored whole, minus its log probability after the
 *             content-free text "N/A" (prior correction); for models that follow instructions
 *   channel   P(text | instruction with one label): which label explains the text best; for tiny models, which cannot answer but can tell
 *             (DESIGN 6: 77 % against 16-22 % on 8 labels for SmolLM2-135M)
 *   auto      channel below 1e9 parameters, else direct
 *
 * Instructions are prefix segments: their keys and values are computed once per session (direct: one prefix, channel: one a label) and the row
 * comes last.  Probabilities are a softmax over the labels' log probabilities.
 */
#include "pg/args.h"
#include "pg/work.h"

#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(slm_pg_classify);
PG_FUNCTION_INFO_V1(slm_pg_classify_scores);

#define MAX_LABELS 10000
#define SMALL_MODEL UINT64CONST(1000000000)
#define DIRECT_INSTRUCTION "Classify the following text into exactly one of these categories: {labels}. Answer with the category only."
#define CHANNEL_INSTRUCTION "Write a customer support message about: {label}"

typedef enum Method { METHOD_DIRECT, METHOD_CHANNEL } Method;

typedef struct Classify {
    SlmEntry *entry;
    const text *input;
    const char **labels; /* [n_labels] UTF-8 */
    int n_labels;
    Method method;
    const char *instruction; /* UTF-8, with placeholder */
    double threshold;
    double *scores; /* [n_labels] log probabilities, then probabilities */
} Classify;

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

static void check_labels(const Classify *c)
{
    const char **sorted;

    if (c->n_labels == 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("labels must not be empty"),
                        errhint("Pass from 1 to %d labels, such as ARRAY['billing', 'delivery'].", MAX_LABELS)));
    sorted = palloc(sizeof(char *) * (Size) c->n_labels);
    memcpy(sorted, c->labels, sizeof(char *) * (Size) c->n_labels);
    qsort(sorted, (size_t) c->n_labels, sizeof(char *), compare_strings);
    for (int i = 1; i < c->n_labels; i++) {
        if (strcmp(sorted[i - 1], sorted[i]) == 0)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                            errmsg("label \"%s\" is there twice", slm_pg_cstring_from_utf8(sorted[i])), errhint("Labels must be distinct.")));
    }
    pfree(sorted);
}

static Method parse_method(const text *name, const SlmEntry *entry)
{
    const char *s = name == NULL ? "auto" : text_to_cstring(name);

    if (strcmp(s, "auto") == 0)
        return slm_pg_info(entry)->n_parameters < SMALL_MODEL ? METHOD_CHANNEL : METHOD_DIRECT;
    if (strcmp(s, "direct") == 0)
        return METHOD_DIRECT;
    if (strcmp(s, "channel") == 0)
        return METHOD_CHANNEL;
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown classification method \"%s\"", s),
                    errhint("The methods are auto, direct and channel.")));
    pg_unreachable();
}

/* The instruction with the first placeholder replaced; without one it stands as it is. */
static char *fill(const char *instruction, const char *placeholder, const char *with)
{
    const char *at = strstr(instruction, placeholder);

    if (at == NULL)
        return pstrdup(instruction);
    return psprintf("%.*s%s%s", (int) (at - instruction), instruction, with, at + strlen(placeholder));
}

static void submit_direct(SlmWork *work, const Classify *c)
{
    StringInfoData list;
    slm_segment segments[2];
    slm_request request = {.mode = SLM_MODE_LABELS, .chat = true, .segments = segments, .n_segments = 2, .labels = c->labels,
                           .n_labels = (size_t) c->n_labels, .prior_text = "N/A"};

    initStringInfo(&list);
    for (int i = 0; i < c->n_labels; i++)
        appendStringInfo(&list, "%s%s", i > 0 ? ", " : "", c->labels[i]);
    segments[0] = slm_pg_segment_utf8(SLM_ROLE_USER, SLM_SEG_PREFIX, psprintf("%s\n\nText: ", fill(c->instruction, "{labels}", list.data)));
    segments[1] = slm_pg_segment(SLM_ROLE_USER, SLM_SEG_JOIN, c->input);
    slm_pg_work_submit(work, c->entry, &request);
}

static void submit_channel(SlmWork *work, const Classify *c)
{
    slm_segment segments[2] = {{0}, slm_pg_segment(SLM_ROLE_ASSISTANT, SLM_SEG_SCORED, c->input)};
    slm_request request = {.mode = SLM_MODE_LOGPROBS, .chat = true, .segments = segments, .n_segments = 2};

    if (strstr(c->instruction, "{label}") == NULL)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the instruction of method channel must contain {label}"),
                        errhint("For example: 'Write a product review about: {label}'.")));
    for (int i = 0; i < c->n_labels; i++) {
        char *instruction = fill(c->instruction, "{label}", c->labels[i]);

        segments[0] = slm_pg_segment_utf8(SLM_ROLE_USER, SLM_SEG_PREFIX, instruction);
        slm_pg_work_submit(work, c->entry, &request);
        pfree(instruction);
    }
}

static double sum_logprobs(const slm_result *result)
{
    double sum = 0;

    for (size_t i = 0; i < result->n_scores; i++) {
        if (result->scores[i] == result->scores[i]) /* NaN: nothing precedes it */
            sum += (double) result->scores[i];
    }
    return sum;
}

/* Log probabilities become probabilities that sum to 1. */
static void softmax(double *scores, int n)
{
    double max = scores[0], sum = 0;

    for (int i = 1; i < n; i++)
        max = Max(max, scores[i]);
    for (int i = 0; i < n; i++)
        sum += scores[i] = slm_exp(scores[i] - max);
    for (int i = 0; i < n; i++)
        scores[i] /= sum;
}

/* Arguments: input, labels, model, method, instruction. */
static Classify *begin_labels(SlmWork *work, FunctionCallInfo fcinfo)
{
    Classify *c = palloc0(sizeof(Classify));

    slm_pg_work_set_state(work, c);
    c->input = PG_GETARG_TEXT_PP(0);
    c->labels = slm_pg_strings_arg(fcinfo, 1, "labels", MAX_LABELS, &c->n_labels);
    check_labels(c);
    c->entry = slm_pg_use_model(slm_pg_text_arg(fcinfo, 2), SLM_TASK_CLASSIFY);
    c->method = parse_method(slm_pg_text_arg(fcinfo, 3), c->entry);
    if (PG_ARGISNULL(4))
        c->instruction = c->method == METHOD_DIRECT ? DIRECT_INSTRUCTION : CHANNEL_INSTRUCTION;
    else
        c->instruction = slm_pg_utf8_from_text(PG_GETARG_TEXT_PP(4), NULL);
    c->scores = palloc(sizeof(double) * (Size) c->n_labels);
    if (c->method == METHOD_DIRECT)
        submit_direct(work, c);
    else
        submit_channel(work, c);
    return c;
}

static Classify *finish_labels(SlmWork *work)
{
    Classify *c = slm_pg_work_state(work);

    for (int i = 0; i < c->n_labels; i++)
        c->scores[i] = c->method == METHOD_DIRECT ? (double) slm_pg_work_result(work, 0)->scores[i] : sum_logprobs(slm_pg_work_result(work, i));
    softmax(c->scores, c->n_labels);
    return c;
}

static void begin_classify(SlmWork *work, FunctionCallInfo fcinfo)
{
    double threshold;

    if (PG_ARGISNULL(0)) {
        slm_pg_work_decide(work, (Datum) 0, true);
        return;
    }
    threshold = slm_pg_float_arg(fcinfo, 5, "threshold", 0, 0, false, 1, false);
    begin_labels(work, fcinfo)->threshold = threshold;
}

static Datum finish_classify(SlmWork *work, bool *isnull)
{
    const Classify *c = finish_labels(work);
    int best = 0;

    for (int i = 1; i < c->n_labels; i++) {
        if (c->scores[i] > c->scores[best])
            best = i;
    }
    *isnull = c->scores[best] < c->threshold;
    return *isnull ? (Datum) 0 : PointerGetDatum(slm_pg_text_from_utf8(c->labels[best], strlen(c->labels[best])));
}

const SlmWorkKind slm_pg_classify_kind = {"slm_pg_classify", begin_classify, finish_classify};

Datum slm_pg_classify(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_classify_kind, fcinfo);
}

/* ---- slm_classify_scores */

static void begin_scores(SlmWork *work, FunctionCallInfo fcinfo)
{
    (void) begin_labels(work, fcinfo);
}

static Datum finish_scores(SlmWork *work, bool *isnull)
{
    return PointerGetDatum(finish_labels(work));
}

static int compare_scores(const void *a, const void *b, void *arg)
{
    const double *scores = arg;
    int i = *(const int *) a, j = *(const int *) b;

    if (scores[i] != scores[j])
        return scores[i] > scores[j] ? -1 : 1;
    return i < j ? -1 : 1;
}

Datum slm_pg_classify_scores(PG_FUNCTION_ARGS)
{
    static const SlmWorkKind kind = {"slm_pg_classify_scores", begin_scores, finish_scores};
    ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
    SlmWork *work;
    const Classify *c;
    bool isnull;
    int *order;

    InitMaterializedSRF(fcinfo, 0);
    if (PG_ARGISNULL(0))
        return (Datum) 0;
    work = slm_pg_work_begin(&kind, fcinfo);
    c = (const Classify *) DatumGetPointer(slm_pg_work_finish(work, &isnull));
    order = palloc(sizeof(int) * (Size) c->n_labels);
    for (int i = 0; i < c->n_labels; i++)
        order[i] = i;
    qsort_arg(order, (size_t) c->n_labels, sizeof(int), compare_scores, c->scores);
    for (int i = 0; i < c->n_labels; i++) {
        const char *label = c->labels[order[i]];
        Datum values[2] = {PointerGetDatum(slm_pg_text_from_utf8(label, strlen(label))), Float8GetDatum(c->scores[order[i]])};
        bool nulls[2] = {false, false};

        tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
    }
    slm_pg_work_free(work);
    return (Datum) 0;
}
