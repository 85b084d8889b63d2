/*
 * classification.c: how a text gets scores for labels (classification.h).
 *
 *   embedding the label whose prototype (name, description, examples) is nearest to the text's embedding; for encoders
 *   direct    P(label | instruction with the labels, text), each label scored whole, minus its log probability after the
 *             content-free text "N/A" (prior correction); for models that follow instructions
 *   channel   P(text | instruction with one label): which label explains the text best; for tiny models, which cannot answer but can tell
 *             (DESIGN D19)
 *   described which label becomes likelier as a description of the text, beside the same of "N/A" (asking.h): the text comes first and is
 *             computed once for all labels, and for other decisions about it
 *   entailment the label whose sentence the text entails most; for models with a head for natural language inference (entailment.h)
 *   joint     the label that speaks for itself most where the text is read beside all of them; for models trained to (joint.h)
 *   auto      embedding for an encoder, channel below 1e9 parameters, else direct; entailment or joint where there is such a head
 *
 * A model with a head has labels of its own, where the call gives none (head.h).  Of many labels an encoder may leave a few over, which
 * the method then weighs (shortlist.h).
 *
 * What does not depend on the row is computed once per session: prototypes are cached, instructions are prefix segments and the row comes
 * last.  Probabilities are a softmax over the labels' log probabilities, or over 20 times their cosines (the scale that
 * sentence-transformers trains with).
 */
#include "pg/functions/classification.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/lsyscache.h"

#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/encoding.h"
#include "pg/base/errors.h"
#include "pg/base/row_error.h"
#include "pg/functions/asking.h"
#include "pg/functions/calibration.h"
#include "pg/functions/cascade.h"
#include "pg/functions/entailment.h"
#include "pg/functions/head.h"
#include "pg/functions/joint.h"
#include "pg/functions/labels.h"
#include "pg/functions/prompts.h"
#include "pg/functions/prototypes.h"
#include "pg/functions/reading.h"
#include "pg/functions/shortlist.h"
#include "pg/functions/trained.h"
#include "pg/models/catalog.h"
#include "pg/run/opened.h"
#include "pg/run/use.h"
#include "pg/run/work.h"

#define SMALL_MODEL UINT64CONST(1000000000)

typedef enum Method { METHOD_EMBEDDING, METHOD_DIRECT, METHOD_CHANNEL, METHOD_ENTAILMENT, METHOD_DESCRIBED, METHOD_JOINT } Method;

typedef struct Classify {
    SlmOpenModel *entry;
    const text *input;
    const ArrayType *embedding; /* of the input; NULL: it is to be made */
    SlmTruncate truncate;
    SlmLabels labels; /* of a trained classifier: only the type of the result */
    SlmLabels among;  /* those that the method weighs: all, or the short list */
    SlmShortlist *shortlist; /* or NULL */
    SlmExamples examples;
    Method method;
    bool best_only;          /* direct: the winner is enough */
    const char *instruction; /* UTF-8, with placeholder */
    size_t public_bytes;     /* of it (slm_request) */
    const double *cosines;   /* embedding: [n_labels] with each label's prototype */
    const SlmWeighed *weighed; /* entailment, joint */
    SlmTrained *trained;     /* or NULL */
    SlmHead *head;           /* the model's own labels, or NULL */
    float *best, *window;    /* trained: [n_labels] the highest score of a window, and those of one */
    SlmQuestion question;    /* a condition, or the labels of method described */
    SlmAsking *asked;        /* it; or NULL */
    double *probabilities;   /* [n_labels] log probabilities first */
    const SlmCalibrationRow *calibration; /* or NULL */
    SlmScores scores;
    /* ---- of a cascade */
    SlmCascade *cascade;     /* or NULL; then the rest belongs to its steps */
    struct Classify *at;     /* the step that is under way, or has answered */
    int step;
    const char *early;       /* audited: what a step before the last has said */
} Classify;

const char *slm_pg_auto_method(bool can_generate, uint64 parameters)
{
    return !can_generate ? "embedding" : parameters < SMALL_MODEL ? "channel" : "direct";
}

static Method parse_method(const text *name, const SlmOpenModel *entry)
{
    const char *s = name == NULL ? "auto" : text_to_cstring(name);
    const slm_model_info *info = slm_pg_info(entry);
    Method method;
    bool fits;

    if (strcmp(s, "auto") == 0)
        s = slm_pg_beside_method(entry) != NULL ? slm_pg_beside_method(entry) : slm_pg_auto_method(info->can_generate, info->n_parameters);
    if (strcmp(s, "embedding") == 0)
        method = METHOD_EMBEDDING;
    else if (strcmp(s, "entailment") == 0)
        method = METHOD_ENTAILMENT;
    else if (strcmp(s, "joint") == 0)
        method = METHOD_JOINT;
    else if (strcmp(s, "direct") == 0)
        method = METHOD_DIRECT;
    else if (strcmp(s, "channel") == 0)
        method = METHOD_CHANNEL;
    else if (strcmp(s, "described") == 0)
        method = METHOD_DESCRIBED;
    else
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown classification method \"%s\"", s),
                        errhint("The methods are auto, embedding, direct, channel, described, entailment and joint.")));
    fits = method == METHOD_ENTAILMENT ? slm_pg_can_entail(entry)
           : method == METHOD_JOINT    ? slm_pg_can_joint(entry)
           : method == METHOD_EMBEDDING ? info->can_embed
                                        : info->can_generate;
    if (!fits)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                        errmsg("method %s does not fit the model, %s of the family %s", s,
                               info->can_generate ? "a generator" : "an encoder", info->family),
                        errhint("Encoders classify by method embedding, generative models by direct, channel or described, models that "
                                "were trained on natural language inference by entailment, on texts beside labels by joint; auto "
                                "chooses.")));
    return method;
}

char *slm_pg_fill(const char *instruction, const char *placeholder, const char *with)
{
    const char *at = strstr(instruction, placeholder);

    if (at == NULL)
        return pstrdup(instruction);
    return psprintf("%.*s%s%s", (int) (at - instruction), instruction, with, at + strlen(placeholder));
}

/* ---- requests */

/* The instruction with the list of labels. */
static void put_labels(StringInfo text, const char *instruction, const char *const *names, int n)
{
    StringInfoData list;

    initStringInfo(&list);
    for (int i = 0; i < n; i++)
        appendStringInfo(&list, "%s%s", i > 0 ? ", " : "", names[i]);
    appendStringInfo(text, "%s\n", slm_pg_fill(instruction, "{labels}", list.data));
}

char *slm_pg_direct_prompt(const SlmOpenModel *entry, const char *instruction, const char *const *names, int n)
{
    StringInfoData text;

    initStringInfo(&text);
    put_labels(&text, instruction != NULL ? instruction : slm_pg_prompt(SLM_PROMPT_DIRECT, entry), names, n);
    appendStringInfo(&text, "\n%s", slm_pg_prompt(SLM_PROMPT_CLASSIFY_TEXT, entry));
    return text.data;
}

/* The instruction, and a line for each description. */
static char *direct_instruction(const Classify *c)
{
    StringInfoData text;

    initStringInfo(&text);
    put_labels(&text, c->instruction, c->among.names, c->among.n);
    for (int i = 0; i < c->among.n && c->among.descriptions != NULL; i++)
        if (c->among.descriptions[i] != NULL)
            appendStringInfo(&text, "%s: %s\n", c->among.names[i], c->among.descriptions[i]);
    appendStringInfo(&text, "\n%s", slm_pg_prompt(SLM_PROMPT_CLASSIFY_TEXT, c->entry));
    return text.data;
}

/* Instruction and examples as turns of a conversation, all of it the shared prefix, then the row. */
static void submit_direct(SlmWork *work, const Classify *c)
{
    slm_segment *segments = palloc(sizeof(slm_segment) * (Size) (3 * c->examples.n + 2));
    slm_request request = {.mode = SLM_MODE_LABELS,
                           .chat = true,
                           .segments = segments,
                           .public_bytes = c->public_bytes,
                           .labels = c->among.names,
                           .n_labels = (size_t) c->among.n,
                           .prior_text = "N/A",
                           .best_only = c->best_only};
    size_t n = 0;

    segments[n++] = slm_pg_segment_utf8(SLM_ROLE_USER, SLM_SEG_PREFIX, direct_instruction(c));
    for (int i = 0; i < c->examples.n; i++) {
        if (c->shortlist != NULL && !slm_pg_shortlist_has(c->shortlist, c->examples.labels[i]))
            continue;
        segments[n++] = slm_pg_segment_utf8(SLM_ROLE_USER, SLM_SEG_PREFIX | SLM_SEG_JOIN, c->examples.texts[i]);
        segments[n++] = slm_pg_segment_utf8(SLM_ROLE_ASSISTANT, SLM_SEG_PREFIX, c->labels.names[c->examples.labels[i]]);
        segments[n++] = slm_pg_segment_utf8(SLM_ROLE_USER, SLM_SEG_PREFIX, slm_pg_prompt(SLM_PROMPT_CLASSIFY_TEXT, c->entry));
    }
    segments[n++] = slm_pg_segment(SLM_ROLE_USER, SLM_SEG_JOIN, c->input);
    request.n_segments = n;
    slm_pg_submit_cut(work, c->entry, &request, &segments[n - 1], c->truncate);
}

static void submit_channel(SlmWork *work, const Classify *c)
{
    slm_segment segments[2] = {{0}, slm_pg_segment(SLM_ROLE_ASSISTANT, SLM_SEG_SCORED, c->input)};
    slm_request request = {.mode = SLM_MODE_LOGPROBS, .chat = true, .segments = segments, .n_segments = 2,
                           .public_bytes = c->public_bytes};

    if (strstr(c->instruction, "{label}") == NULL)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the instruction of method channel must contain {label}"),
                        errhint("For example: 'Write a product review about: {label}'.")));
    if (c->examples.n > 0)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("method channel takes no examples"),
                        errhint("Use method direct, or an embedding model, or train a classifier with slm_train_classifier.")));
    for (int i = 0; i < c->among.n; i++) {
        char *instruction = slm_pg_fill(c->instruction, "{label}", slm_pg_described_label(&c->among, i, "%s (%s)"));

        segments[0] = slm_pg_segment_utf8(SLM_ROLE_USER, SLM_SEG_PREFIX, instruction);
        slm_pg_submit_cut(work, c->entry, &request, &segments[1], c->truncate);
        pfree(instruction);
    }
}

/* The row's text for an encoder. */
static SlmText text_to_read(SlmWork *work, const Classify *c)
{
    SlmText t = {.entry = c->entry, .prompt = slm_pg_text_prompt(c->entry, false), .truncate = c->truncate};

    t.text = slm_pg_input_utf8(c->input, &t.length);
    slm_pg_measure(&t);
    slm_pg_note_windows(work, &t);
    return t;
}

static void submit_embedding(SlmWork *work, Classify *c)
{
    const float *prototypes = slm_pg_prototypes(c->entry, &c->labels, &c->examples); /* also of those that are on no short list */
    SlmText t;

    if (c->embedding != NULL) {
        c->cosines = slm_pg_stored_cosines(c->entry, c->embedding, prototypes, c->labels.n);
        return;
    }
    t = text_to_read(work, c);

    c->cosines = slm_pg_read_cosines(work, &t, prototypes, c->labels.n);
}

/* A sentence for each label. */
static void submit_entailment(SlmWork *work, Classify *c)
{
    SlmText t = {.entry = c->entry, .truncate = c->truncate};

    if (strstr(c->instruction, "{label}") == NULL)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the instruction of method entailment must contain {label}"),
                        errhint("It is the sentence that the text should entail, for example: 'The customer asks about {label}.'.")));
    if (c->examples.n > 0)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("method entailment takes no examples"),
                        errhint("Use an embedding model, or train a classifier with slm_train_classifier.")));
    t.text = slm_pg_input_utf8(c->input, &t.length);
    c->weighed = slm_pg_read_label_entailment(work, t, c->instruction, &c->among);
}

static void submit_joint(SlmWork *work, Classify *c)
{
    SlmText t = {.entry = c->entry, .truncate = c->truncate};

    if (c->instruction != NULL && strstr(c->instruction, "{label") != NULL)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the instruction of method joint stands before the text, without "
                                                                         "labels"),
                        errhint("The model reads the labels apart: say what the text is, for example 'A review of a hotel: ', or leave "
                                "instruction out.")));
    if (c->examples.n > 0)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("method joint takes no examples"),
                        errhint("Use an embedding model, or train a classifier with slm_train_classifier.")));
    t.text = slm_pg_input_utf8(c->input, &t.length);
    c->weighed = slm_pg_read_joint(work, t, c->instruction, &c->among, false);
}

/* ---- scores */

static double sum_logprobs(const slm_result *result)
{
    double sum = 0;

    for (size_t i = 0; i < result->n_scores; i++) {
        if (result->scores[i] == result->scores[i]) /* NaN: nothing precedes it */
            sum += (double) result->scores[i];
    }
    return sum;
}

static double raw_score(SlmWork *work, const Classify *c, int label)
{
    switch (c->method) {
        case METHOD_EMBEDDING:
            return SLM_COSINE_SCALE * c->cosines[label];
        case METHOD_DIRECT:
            return (double) slm_pg_work_result(work, 0)->scores[label];
        case METHOD_ENTAILMENT:
        case METHOD_JOINT:
            return c->weighed->weights[label];
        case METHOD_CHANNEL:
        case METHOD_DESCRIBED: /* answered by slm_pg_asked */
            break;
    }
    return sum_logprobs(slm_pg_work_result(work, label));
}

/* The second model's score of the i-th label on the short list, as it weighs beside the encoder's (docs/CHOOSING.md).  What channel sums
 * over the text counts in the mean of its tokens, so that a long text weighs no more than a short one. */
static double listed_score(SlmWork *work, const Classify *c, int i, const double *raised)
{
    static const double weights[] = {
        [METHOD_EMBEDDING] = 1, [METHOD_DIRECT] = 0.2, [METHOD_CHANNEL] = 3, [METHOD_ENTAILMENT] = 1, [METHOD_DESCRIBED] = 0.1,
        [METHOD_JOINT] = 1};
    int label = c->shortlist->listed[i];
    double score = c->method == METHOD_DESCRIBED ? raised[label] : raw_score(work, c, c->method == METHOD_EMBEDDING ? label : i);

    if (c->method == METHOD_CHANNEL)
        score /= (double) Max(slm_pg_work_result(work, i)->n_scores, 1);
    return weights[c->method] * score;
}

static int combine(SlmWork *work, const Classify *c)
{
    double *scores = palloc(sizeof(double) * (Size) c->among.n), *raised = NULL;

    if (c->method == METHOD_DESCRIBED) {
        raised = palloc(sizeof(double) * (Size) c->labels.n);
        slm_pg_asked_raised(work, c->asked, 0, raised);
    }
    for (int i = 0; i < c->among.n; i++)
        scores[i] = listed_score(work, c, i, raised);
    return slm_pg_shortlist_combine(c->shortlist, scores, c->labels.n, c->probabilities);
}

/* ---- labels of the call */

void slm_pg_refuse_beside(FunctionCallInfo fcinfo, const char *what, const SlmArgument *others, int n, int method, const char *has,
                          const char *has_method)
{
    for (int i = 0; i < n; i++)
        if (!PG_ARGISNULL(others[i].place) && !type_is_enum(get_fn_expr_argtype(fcinfo->flinfo, others[i].place)))
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s cannot be given beside a %s", others[i].name, what),
                            errhint("%s: leave out %s or the %s.", has, others[i].name, what)));
    if (!PG_ARGISNULL(method) && strcmp(text_to_cstring(PG_GETARG_TEXT_PP(method)), "auto") != 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("method cannot be given beside a %s", what),
                        errhint("%s: leave method out, or the %s.", has_method, what)));
}

/* What makes no sense beside a classifier or a cascade: any of the first n, and a method. */
static void refuse_beside(FunctionCallInfo fcinfo, const char *what, int n, const char *has, const char *has_method)
{
    static const SlmArgument others[] = {{SLM_CLASSIFY_LABELS, "labels"},
                  {SLM_CLASSIFY_MODEL, "model"},
                  {SLM_CLASSIFY_SHORTLIST, "shortlist"},
                  {SLM_CLASSIFY_SHORTLIST_MODEL, "shortlist_model"},
                  {SLM_CLASSIFY_INSTRUCTION, "instruction"},
                  {SLM_CLASSIFY_EXAMPLES, "examples"},
                  {SLM_CLASSIFY_DESCRIPTIONS, "descriptions"},
                  {SLM_CLASSIFY_CLASSIFIER, "classifier"}};

    slm_pg_refuse_beside(fcinfo, what, others, n, SLM_CLASSIFY_METHOD, has, has_method);
}

/* What makes no sense where labels and method are the model's own. */
static void refuse_beside_head(FunctionCallInfo fcinfo)
{
    if (!PG_ARGISNULL(SLM_CLASSIFY_SHORTLIST) || !PG_ARGISNULL(SLM_CLASSIFY_SHORTLIST_MODEL))
        slm_pg_refuse_shortlist("a model with labels of its own");
    if (!PG_ARGISNULL(SLM_CLASSIFY_INSTRUCTION) || !PG_ARGISNULL(SLM_CLASSIFY_EXAMPLES))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("%s cannot be given to a model with labels of its own",
                               PG_ARGISNULL(SLM_CLASSIFY_INSTRUCTION) ? "examples" : "an instruction"),
                        errhint("The model was trained to tell these labels apart: leave it out, or choose another model.")));
    if (!PG_ARGISNULL(SLM_CLASSIFY_METHOD) && strcmp(text_to_cstring(PG_GETARG_TEXT_PP(SLM_CLASSIFY_METHOD)), "auto") != 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("method cannot be given to a model with labels of its own"),
                        errhint("Leave method out, or choose an embedding or a generative model.")));
}

static void begin_head(SlmWork *work, Classify *c, FunctionCallInfo fcinfo)
{
    Oid type = get_fn_expr_argtype(fcinfo->flinfo, SLM_CLASSIFY_LABELS);
    SlmText t;

    refuse_beside_head(fcinfo);
    if (c->embedding != NULL)
        slm_pg_refuse_embedding("a model with labels of its own");
    c->labels.enum_type = type_is_enum(type) ? type : InvalidOid;
    t = text_to_read(work, c);
    c->head = slm_pg_read_head(work, &t);
    c->scores.n = c->head->n;
}

/* Asks the question about the text, which other questions about it share (asking.h). */
static void ask(SlmWork *work, Classify *c, const text *method)
{
    SlmAskedRow row = {.entry = c->entry, .truncate = c->truncate, .method = method, .embedding = c->embedding,
                       .instruction = c->instruction};

    row.input = slm_pg_input_utf8(c->input, &row.length);
    c->asked = slm_pg_ask(work, &row, &c->question, 1);
}

static void ask_described(SlmWork *work, Classify *c)
{
    if (c->examples.n > 0)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("method described takes no examples"),
                        errhint("Use method direct, or an embedding model, or train a classifier with slm_train_classifier.")));
    c->question = (SlmQuestion){.type = SLM_QUESTION_CHOICE, .n = c->labels.n, .names = c->labels.names,
                                .descriptions = c->labels.descriptions};
    if (c->shortlist != NULL) {
        c->question.only = c->shortlist->listed;
        c->question.n_only = c->shortlist->n;
    }
    ask(work, c, cstring_to_text("described"));
}

/* What slm_sentiment hands on are the built-in words, in whose place a row may stand; method described has its own (asking.h), and joint
 * needs none. */
static void put_instruction(Classify *c, const text *given)
{
    SlmPrompt prompt = c->method == METHOD_DIRECT ? SLM_PROMPT_DIRECT :
                       c->method == METHOD_ENTAILMENT ? SLM_PROMPT_HYPOTHESIS : SLM_PROMPT_CHANNEL;

    c->instruction = given == NULL ? NULL : slm_pg_utf8_from_text(given, NULL);
    if (c->method == METHOD_EMBEDDING || c->method == METHOD_DESCRIBED)
        return;
    if (given != NULL && strcmp(c->instruction, slm_pg_built_in_prompts[SLM_PROMPT_SENTIMENT].text) == 0)
        prompt = SLM_PROMPT_SENTIMENT;
    else if (given != NULL)
        return;
    if (c->method == METHOD_JOINT) {
        c->instruction = NULL;
        return;
    }
    c->instruction = slm_pg_prompt(prompt, c->entry);
    c->public_bytes = slm_pg_public_bytes(c->instruction);
}

/* The requests of the method, about the labels that it weighs. */
static void submit_method(SlmWork *work, Classify *c)
{
    switch (c->method) {
        case METHOD_EMBEDDING:
            submit_embedding(work, c);
            break;
        case METHOD_DIRECT:
            submit_direct(work, c);
            break;
        case METHOD_CHANNEL:
            submit_channel(work, c);
            break;
        case METHOD_ENTAILMENT:
            submit_entailment(work, c);
            break;
        case METHOD_DESCRIBED:
            ask_described(work, c);
            break;
        case METHOD_JOINT:
            submit_joint(work, c);
            break;
    }
}

/* Once the encoder has read the text: the second model weighs what is on the list. */
static bool weigh_list(SlmWork *work, void *arg)
{
    Classify *c = arg;

    if (slm_pg_work_waits(work))
        return true;
    c->among = slm_pg_shortlist_choose(c->shortlist, &c->labels);
    slm_pg_work_drop_all(work);
    submit_method(work, c);
    return false;
}

static void begin_list(SlmWork *work, Classify *c)
{
    const ArrayType *embedding = c->embedding;

    c->embedding = NULL; /* it is the encoder's */
    c->input = DatumGetTextPP(PointerGetDatum(PG_DETOAST_DATUM_COPY(PointerGetDatum(c->input)))); /* for the second step */
    slm_pg_shortlist_read(work, c->shortlist, c->input, c->truncate, &c->labels, &c->examples, embedding);
    slm_pg_work_go_on(work, weigh_list, c);
}

static void begin_labels(SlmWork *work, Classify *c, FunctionCallInfo fcinfo, bool best_only)
{
    bool none = PG_ARGISNULL(SLM_CLASSIFY_LABELS) && PG_ARGISNULL(SLM_CLASSIFY_DESCRIPTIONS);

    c->entry = none ? slm_pg_head_model(slm_pg_text_arg(fcinfo, SLM_CLASSIFY_MODEL)) : NULL;
    if (c->entry != NULL && !slm_pg_can_entail(c->entry)) {
        begin_head(work, c, fcinfo);
        return;
    }
    slm_pg_labels_arg(fcinfo, SLM_CLASSIFY_LABELS, SLM_CLASSIFY_DESCRIPTIONS, true, &c->labels);
    c->entry = slm_pg_work_model(work, slm_pg_text_arg(fcinfo, SLM_CLASSIFY_MODEL));
    if (slm_pg_info(c->entry)->can_classify && !slm_pg_can_entail(c->entry))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("labels cannot be given to a model with labels of its own"),
                        errhint("Leave labels and descriptions out, or choose an embedding or a generative model.")));
    c->shortlist = slm_pg_shortlist_arg(fcinfo, SLM_CLASSIFY_SHORTLIST, SLM_CLASSIFY_SHORTLIST_MODEL, c->entry);
    c->method = parse_method(slm_pg_text_arg(fcinfo, SLM_CLASSIFY_METHOD), c->entry);
    c->best_only = best_only && c->method == METHOD_DIRECT && c->shortlist == NULL;
    slm_pg_examples_arg(fcinfo, SLM_CLASSIFY_EXAMPLES, &c->labels, &c->examples);
    put_instruction(c, slm_pg_text_arg(fcinfo, SLM_CLASSIFY_INSTRUCTION));
    c->scores.n = c->labels.n;
    if (c->shortlist != NULL) {
        begin_list(work, c);
        return;
    }
    if (c->embedding != NULL && c->method != METHOD_EMBEDDING)
        slm_pg_refuse_embedding(slm_pg_beside_method(c->entry) != NULL ? "a model that reads texts beside labels" : "a generative model");
    c->among = c->labels;
    submit_method(work, c);
}

/* ---- a trained classifier */

/* The scores of a window; a label has that of the window that speaks for it most. */
static void take_scores(void *arg, const float *vector, size_t n_numbers, const char *window, size_t length)
{
    Classify *c = arg;
    slm_error err;

    if (slm_classifier_score(c->trained->classifier, vector, window, length, c->window, &err) != SLM_OK)
        slm_pg_error(&err, NULL);
    for (int i = 0; i < c->scores.n; i++)
        c->best[i] = Max(c->best[i], c->window[i]);
}

static void begin_trained(SlmWork *work, Classify *c, FunctionCallInfo fcinfo)
{
    Oid type = get_fn_expr_argtype(fcinfo->flinfo, SLM_CLASSIFY_LABELS);
    SlmText t;

    refuse_beside(fcinfo, "classifier", 7, "A trained classifier has its own labels and model", "A trained classifier has its own");
    c->labels.enum_type = type_is_enum(type) ? type : InvalidOid;
    c->trained = slm_pg_use_classifier(PG_GETARG_TEXT_PP(SLM_CLASSIFY_CLASSIFIER));
    c->entry = slm_pg_classifier_model(c->trained);
    c->scores.n = (int) slm_classifier_n_labels(c->trained->classifier);
    c->window = palloc(sizeof(float) * (Size) c->scores.n);
    c->best = palloc(sizeof(float) * (Size) c->scores.n);
    for (int i = 0; i < c->scores.n; i++)
        c->best[i] = -get_float4_infinity();
    if (c->embedding != NULL) {
        size_t length;
        const char *whole = slm_pg_input_utf8(c->input, &length);

        take_scores(c, slm_pg_stored_vector(c->entry, c->embedding), 0, whole, length);
        return;
    }
    t = text_to_read(work, c);
    slm_pg_read(work, &t, SLM_WINDOWS_HALF, take_scores, c);
}

static void predict(Classify *c)
{
    slm_error err;

    if (slm_classifier_softmax(c->trained->classifier, c->best, &err) != SLM_OK)
        slm_pg_error(&err, NULL);
    for (int i = 0; i < c->scores.n; i++)
        c->probabilities[i] = (double) c->best[i];
}

/* ---- what has come out */

static void find_scores(SlmWork *work, Classify *c)
{
    SlmScores *s = &c->scores;

    if (c->best_only) {
        s->best = (int) slm_pg_work_result(work, 0)->best;
        return;
    }
    s->probabilities = c->probabilities;
    if (c->shortlist != NULL) {
        s->best = combine(work, c);
        return;
    }
    if (c->trained != NULL) {
        predict(c);
    } else if (c->asked != NULL) {
        memcpy(c->probabilities, slm_pg_asked(work, c->asked, 0), sizeof(double) * (Size) s->n);
    } else if (c->head != NULL) {
        slm_pg_head_probabilities(c->head, c->probabilities);
    } else {
        for (int i = 0; i < s->n; i++)
            c->probabilities[i] = raw_score(work, c, i);
        slm_pg_softmax(c->probabilities, s->n);
    }
    slm_pg_calibrate_probabilities(c->calibration, false, c->probabilities, s->n);
    for (int i = 1; i < s->n; i++)
        if (c->probabilities[i] > c->probabilities[s->best])
            s->best = i;
}

static const char *label_of(const Classify *c, int label)
{
    if (c->asked != NULL && c->question.type == SLM_QUESTION_YES_NO)
        return label == 0 ? "true" : "false";
    if (c->head != NULL)
        return c->head->labels[label];
    return c->trained != NULL ? slm_classifier_label(c->trained->classifier, (uint32_t) label) : c->labels.names[label];
}

/* ---- a cascade: a step is begun when the one before was not sure enough */

static void begin_condition(SlmWork *work, Classify *c, FunctionCallInfo fcinfo, const text *condition)
{
    static const char *names[2] = {"yes", "no"};

    c->entry = slm_pg_work_model(work, slm_pg_text_arg(fcinfo, SLM_CLASSIFY_MODEL));
    c->question = (SlmQuestion){.type = SLM_QUESTION_YES_NO, .n = 2, .names = names, .text = slm_pg_utf8_from_text(condition, NULL)};
    c->scores.n = 2;
    if (!PG_ARGISNULL(SLM_CLASSIFY_INSTRUCTION))
        c->instruction = slm_pg_utf8_from_text(PG_GETARG_TEXT_PP(SLM_CLASSIFY_INSTRUCTION), NULL);
    ask(work, c, slm_pg_text_arg(fcinfo, SLM_CLASSIFY_METHOD));
}

static void begin_step(SlmWork *work, Classify *c)
{
    const SlmCascadeStep *step = &c->cascade->steps[c->step];
    FmgrInfo function = {.fn_mcxt = CurrentMemoryContext, .fn_nargs = SLM_CLASSIFY_ARGUMENTS}; /* no expression: labels are text */
    Classify *at = palloc0(sizeof *at);
    LOCAL_FCINFO(call, SLM_CLASSIFY_ARGUMENTS);

    InitFunctionCallInfoData(*call, &function, SLM_CLASSIFY_ARGUMENTS, InvalidOid, NULL, NULL);
    for (int i = 0; i < SLM_CLASSIFY_ARGUMENTS; i++)
        call->args[i] = (NullableDatum){step->values[i], step->nulls[i]};
    call->args[SLM_CLASSIFY_INPUT] = (NullableDatum){PointerGetDatum(c->input), false};
    at->input = c->input;
    at->truncate = c->truncate;
    at->embedding = c->step == 0 ? c->embedding : NULL;
    c->at = at;
    if (step->condition != NULL)
        begin_condition(work, at, call, step->condition);
    else if (step->nulls[SLM_CLASSIFY_CLASSIFIER])
        begin_labels(work, at, call, c->best_only && c->step == c->cascade->n - 1);
    else
        begin_trained(work, at, call);
    slm_pg_check_step(c->cascade, c->step, slm_pg_opened_key(at->entry), at->trained == NULL ? 0 : at->trained->version);
    at->probabilities = palloc(sizeof(double) * (Size) at->scores.n);
}

/* A label of the step that is under way, as the cascade gives it. */
static const char *cascade_label(const Classify *c, int label)
{
    const char *name = label_of(c->at, label);

    return slm_pg_cascade_condition(c->cascade->steps, c->cascade->n) != NULL ? slm_pg_truth(name) : name;
}

/* What it has answered. */
static const char *answer_of(const Classify *c)
{
    return cascade_label(c, c->at->scores.best);
}

/* Once the step's answer is there: that of the cascade, or on to the next, or, of a text that is audited, to the last. */
static bool go_up(SlmWork *work, void *arg)
{
    Classify *c = arg;
    const SlmCascade *cascade = c->cascade;
    bool last = c->step == cascade->n - 1, sure;
    SlmCascadeNote note = {.name = cascade->kept.name, .target = cascade->target, .audited = c->early != NULL};

    if (slm_pg_work_waits(work))
        return true;
    find_scores(work, c->at);
    sure = !last && c->at->scores.probabilities[c->at->scores.best] >= cascade->steps[c->step].threshold;
    if (last || (sure && !slm_pg_is_audited(cascade, c->input))) {
        note.early = sure || c->early != NULL;
        note.disagreed = c->early != NULL && strcmp(c->early, answer_of(c)) != 0;
        slm_pg_work_went_up(work, &note);
        return false;
    }
    if (sure)
        c->early = answer_of(c);
    slm_pg_work_drop_all(work);
    c->step = sure ? cascade->n - 1 : c->step + 1;
    begin_step(work, c);
    slm_pg_work_go_on(work, go_up, c);
    return false;
}

static void begin_steps(SlmWork *work, Classify *c, SlmCascade *cascade)
{
    c->cascade = cascade;
    c->input = DatumGetTextPP(PointerGetDatum(PG_DETOAST_DATUM_COPY(PointerGetDatum(c->input)))); /* for steps to come */
    begin_step(work, c);
    slm_pg_work_go_on(work, go_up, c);
}

static void begin_cascade(SlmWork *work, Classify *c, FunctionCallInfo fcinfo)
{
    Oid type = get_fn_expr_argtype(fcinfo->flinfo, SLM_CLASSIFY_LABELS);

    refuse_beside(fcinfo, "cascade", 8, "A cascade has its own steps", "A cascade has its own steps");
    c->labels.enum_type = type_is_enum(type) ? type : InvalidOid;
    begin_steps(work, c, slm_pg_use_cascade(PG_GETARG_TEXT_PP(SLM_CLASSIFY_CASCADE)));
}

SlmCascadeRun *slm_pg_cascade_begin(SlmWork *work, SlmCascade *cascade, const text *input, const ArrayType *embedding, SlmTruncate truncate)
{
    Classify *c = palloc0(sizeof *c);

    c->input = input;
    c->embedding = embedding;
    c->truncate = truncate;
    begin_steps(work, c, cascade);
    return c;
}

const char *slm_pg_cascade_answer(const SlmCascadeRun *run, double *probability)
{
    *probability = run->at->scores.probabilities[run->at->scores.best];
    return answer_of(run);
}

/* ---- either */

/* What corrects the probabilities of labels; a trained classifier's are corrected by itself, and a cascade's thresholds were learned
 * without. */
static const SlmCalibrationRow *find_calibration(const Classify *c)
{
    static const char *const methods[] = {"embedding", "direct", "channel", "entailment", "described", "joint"};

    return slm_pg_find_calibration(slm_pg_opened_key(c->entry), "classify", c->head != NULL ? "head" : methods[c->method], c->scores.n);
}

void slm_pg_classification_begin(SlmWork *work, FunctionCallInfo fcinfo, bool best_only)
{
    Classify *c = palloc0(sizeof(Classify));

    slm_pg_work_set_state(work, c);
    if (slm_pg_decide_blank(work, fcinfo, SLM_CLASSIFY_INPUT))
        return;
    c->input = PG_GETARG_TEXT_PP(SLM_CLASSIFY_INPUT);
    c->embedding = PG_ARGISNULL(SLM_CLASSIFY_EMBEDDING) ? NULL : PG_GETARG_ARRAYTYPE_P(SLM_CLASSIFY_EMBEDDING);
    c->truncate = slm_pg_truncate_arg(fcinfo, SLM_CLASSIFY_TRUNCATE);
    c->scores.threshold = slm_pg_float_arg(fcinfo, SLM_CLASSIFY_THRESHOLD, "threshold", 0, 0, false, 1, false);
    if (!PG_ARGISNULL(SLM_CLASSIFY_CASCADE)) {
        c->best_only = best_only && c->scores.threshold == 0;
        begin_cascade(work, c, fcinfo);
        return;
    }
    if (PG_ARGISNULL(SLM_CLASSIFY_CLASSIFIER))
        begin_labels(work, c, fcinfo, best_only && c->scores.threshold == 0);
    else
        begin_trained(work, c, fcinfo);
    if (c->trained == NULL && !c->best_only && c->shortlist == NULL)
        c->calibration = find_calibration(c);
    c->probabilities = palloc(sizeof(double) * (Size) c->scores.n);
}

const SlmScores *slm_pg_classification_scores(SlmWork *work)
{
    Classify *c = slm_pg_work_state(work);

    if (c->cascade == NULL) {
        find_scores(work, c);
    } else {
        c->at->scores.threshold = c->scores.threshold;
        return &c->at->scores;
    }
    return &c->scores;
}

const char *slm_pg_classification_label(const SlmWork *work, int label)
{
    const Classify *c = slm_pg_work_state(work);

    return c->cascade != NULL ? cascade_label(c, label) : label_of(c, label);
}

Datum slm_pg_classification_datum(const SlmWork *work, int label)
{
    const Classify *c = slm_pg_work_state(work);

    return slm_pg_label_datum(slm_pg_classification_label(work, label), c->labels.enum_type);
}
