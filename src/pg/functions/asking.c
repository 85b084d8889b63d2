/*
 * asking.c: typed questions about one text (asking.h).
 *
 *   text first        Text: {text} | question | statement     |: the questions branch off behind the text
 *   question first    question Text: {text} | statement       where the question is longer: it is the prefix of all rows
 *
 * A statement's log probability without a text, the one of "N/A", is computed once in a session and kept (priors.h).  Whether a statement
 * fits at all is a logistic function of how far it is from its border; both were fitted on half of the conditions of
 * test/bench/decisions.sql and measured on the other half (docs/DECISIONS.md).
 */
#include "pg/functions/asking.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/encoding.h"
#include "pg/base/guc.h"
#include "pg/base/row_error.h"
#include "pg/functions/calibration.h"
#include "pg/functions/entailment.h"
#include "pg/functions/joint.h"
#include "pg/functions/priors.h"
#include "pg/functions/prompts.h"
#include "pg/functions/prototypes.h"
#include "pg/functions/windows.h"
#include "pg/models/catalog.h"
#include "pg/run/backend.h"

#define SMALL_MODEL UINT64CONST(1000000000)
/* Does a statement fit? The border, and how steep the probability is beside it. */
#define COSINE_BORDER 0.37
#define COSINE_STEEP 15.0
#define RAISE_BORDER 0.14 /* of the log probability, as a part of itself */
#define RAISE_STEEP 14.0
#define NO_TEXT "N/A"
#define NONE "none of these"
#define DECLARED_BYTES 1024 /* a longer text is found to be shared when the second question about it shows up */
#define LEEWAY 8            /* tokens */

typedef enum Method { METHOD_EMBEDDING, METHOD_DESCRIBED, METHOD_DIRECT, METHOD_ENTAILMENT, METHOD_JOINT } Method;

typedef struct Asked {
    const SlmQuestion *question;
    int n;                  /* statements, or labels of direct */
    int *order;             /* [n] option of the i-th, by the bytes of their names */
    const char **statements; /* [n] in that order */
    const double *priors;   /* [n] described and direct */
    int first;              /* of its results (described, direct), its cosines or its sentences */
    const SlmWeighed *weighed; /* entailment: of all questions' statements; joint: of its own */
    const char *ask;        /* UTF-8, what stands beside the text */
    const char *name;       /* what stands before it */
    const SlmCalibrationRow *calibration; /* or NULL */
} Asked;

struct SlmAsking {
    SlmAskedRow row;
    Method method;
    size_t length;      /* of the text that is read */
    const double *cosines;          /* embedding: with all statements */
    int n;
    Asked asked[FLEXIBLE_ARRAY_MEMBER];
};

const char *slm_pg_decision_method(bool can_generate, uint64 parameters)
{
    return !can_generate ? "embedding" : parameters < SMALL_MODEL ? "described" : "direct";
}

static Method parse_method(const text *name, const SlmOpenModel *entry)
{
    const char *s = name == NULL ? "auto" : text_to_cstring(name);
    const slm_model_info *info = slm_pg_info(entry);
    Method method;
    bool fits;

    if (strcmp(s, "auto") == 0)
        s = slm_pg_beside_method(entry) != NULL ? slm_pg_beside_method(entry)
                                                : slm_pg_decision_method(info->can_generate, info->n_parameters);
    if (strcmp(s, "embedding") == 0)
        method = METHOD_EMBEDDING;
    else if (strcmp(s, "entailment") == 0)
        method = METHOD_ENTAILMENT;
    else if (strcmp(s, "joint") == 0)
        method = METHOD_JOINT;
    else if (strcmp(s, "described") == 0)
        method = METHOD_DESCRIBED;
    else if (strcmp(s, "direct") == 0)
        method = METHOD_DIRECT;
    else
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown method of decisions \"%s\"", s),
                        errhint("The methods are auto, embedding, described, direct, entailment and joint.")));
    fits = method == METHOD_ENTAILMENT ? slm_pg_can_entail(entry)
           : method == METHOD_JOINT    ? slm_pg_can_joint(entry)
           : method == METHOD_EMBEDDING ? info->can_embed
                                        : info->can_generate;
    if (!fits)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("method %s does not fit the model, of the family %s", s, info->family),
                        errhint("Embedding models decide by method embedding, generative ones by described or direct, models that were "
                                "trained on natural language inference by entailment, on texts beside labels by joint; auto chooses.")));
    return method;
}

/* ---- statements */

static int by_name(const void *a, const void *b, void *arg)
{
    const char *const *names = arg;

    return strcmp(names[*(const int *) a], names[*(const int *) b]);
}

static const char *described_option(const SlmQuestion *q, int i)
{
    const char *description = q->descriptions == NULL ? NULL : q->descriptions[i];

    if (description == NULL)
        return q->names[i];
    return q->type == SLM_QUESTION_YES_NO ? description : psprintf("%s: %s", q->names[i], description);
}

/* Is it one statement, which fits or does not? */
static bool is_condition(const SlmQuestion *q)
{
    if (q->type == SLM_QUESTION_SCALE)
        return q->by_numbers;
    return q->type == SLM_QUESTION_YES_NO && (q->descriptions == NULL || q->descriptions[0] == NULL || q->descriptions[1] == NULL);
}

static void make_statements(Asked *a, Method method)
{
    const SlmQuestion *q = a->question;
    bool none = q->none && method == METHOD_DIRECT;

    a->n = q->n + none;
    a->order = palloc(sizeof(int) * (Size) a->n);
    a->statements = palloc(sizeof(char *) * (Size) a->n);
    if (is_condition(q) && method != METHOD_DIRECT) {
        a->n = 1;
        a->order[0] = 0;
        a->statements[0] = q->descriptions != NULL && q->descriptions[0] != NULL ? q->descriptions[0] : q->text;
        return;
    }
    for (int i = 0; i < q->n; i++)
        a->order[i] = i;
    qsort_arg(a->order, (size_t) q->n, sizeof(int), by_name, q->names);
    for (int i = 0; i < q->n; i++)
        a->statements[i] = method == METHOD_DIRECT ? q->names[a->order[i]] : described_option(q, a->order[i]);
    if (none) {
        a->order[q->n] = q->n;
        a->statements[q->n] = NONE;
    }
}

/* What stands beside the text. */
static const char *make_ask(const SlmAskedRow *row, const Asked *a, Method method)
{
    const SlmQuestion *q = a->question;
    StringInfoData ask;

    if (row->instruction != NULL && method == METHOD_DESCRIBED)
        return row->instruction;
    if (method == METHOD_DESCRIBED)
        return is_condition(q) || q->type == SLM_QUESTION_YES_NO || q->text == NULL ? slm_pg_prompt(SLM_PROMPT_DESCRIBE, row->entry)
                                                                                     : q->text;
    initStringInfo(&ask);
    if (row->instruction != NULL)
        appendStringInfo(&ask, "%s\n", row->instruction);
    if (q->text != NULL)
        appendStringInfo(&ask, "%s\n", q->text);
    for (int i = 0; i < q->n && q->descriptions != NULL; i++)
        if (q->descriptions[a->order[i]] != NULL)
            appendStringInfo(&ask, "%s: %s\n", q->names[a->order[i]], q->descriptions[a->order[i]]);
    appendStringInfoString(&ask, slm_pg_prompt(SLM_PROMPT_ANSWER_WITH, row->entry));
    for (int i = 0; i < a->n; i++)
        appendStringInfo(&ask, "%s%s", i == 0 ? " " : ", ", a->statements[i]);
    appendStringInfoChar(&ask, '.');
    return ask.data;
}

/* ---- requests */

#define MAX_SEGMENTS 4

/* Puts text and question into segments, in the order that the text's length says; returns how many. */
static size_t put_segments(slm_segment *segments, const Asked *a, const char *text, size_t length, bool text_first, bool shared)
{
    unsigned prefix = text_first && shared ? SLM_SEG_PREFIX : 0; /* the question too: most have the same words */
    slm_segment row = {.role = SLM_ROLE_USER, .flags = SLM_SEG_JOIN | prefix, .text = text, .length = length};

    if (!text_first) {
        segments[0] = slm_pg_segment_utf8(SLM_ROLE_USER, SLM_SEG_PREFIX, psprintf("%s\n\n%s", a->ask, a->name));
        segments[1] = row;
        return 2;
    }
    segments[0] = slm_pg_segment_utf8(SLM_ROLE_USER, SLM_SEG_PREFIX, a->name);
    segments[1] = row;
    segments[2] = slm_pg_segment_utf8(SLM_ROLE_USER, SLM_SEG_JOIN | prefix, psprintf("\n\n%s", a->ask));
    return 3;
}

/* Submits question a about a text to a work: one request of a label set, or one for each statement. */
static void submit(SlmWork *work, SlmOpenModel *entry, const Asked *a, Method method, const char *text, size_t length, bool text_first,
                   bool shared)
{
    slm_segment segments[MAX_SEGMENTS];
    size_t n = put_segments(segments, a, text, length, text_first, shared);
    slm_request request = {.chat = true, .segments = segments, .n_segments = n, .public_bytes = text_first ? segments[0].length : 0};

    if (method == METHOD_DIRECT) {
        request.mode = SLM_MODE_LABELS;
        request.labels = a->statements;
        request.n_labels = (size_t) a->n;
        slm_pg_work_submit(work, entry, &request);
        return;
    }
    request.mode = SLM_MODE_LOGPROBS;
    request.n_segments = n + 1;
    for (int i = 0; i < a->n; i++) {
        segments[n] = slm_pg_segment_utf8(SLM_ROLE_ASSISTANT, SLM_SEG_SCORED, a->statements[i]);
        slm_pg_work_submit(work, entry, &request);
    }
}

static double sum_logprobs(const slm_result *result)
{
    double sum = 0;

    for (size_t i = 0; i < result->n_scores; i++)
        sum += (double) result->scores[i];
    return sum;
}

/* The log probability of the i-th statement or label of a. */
static double log_probability(SlmWork *work, const Asked *a, Method method, int first, int i)
{
    if (method == METHOD_DIRECT)
        return (double) slm_pg_work_result(work, first)->scores[i];
    return sum_logprobs(slm_pg_work_result(work, first + i));
}

/* The same of a text that says nothing. */
static const double *find_priors(SlmOpenModel *entry, const Asked *a, Method method, bool text_first)
{
    StringInfo key = slm_pg_priors_key(entry);
    const double *kept;
    double *priors;
    SlmWork *work;
    MemoryContext old;

    appendStringInfo(key, "%d %d %d", (int) method, (int) text_first, a->n);
    slm_pg_priors_key_add(key, a->name);
    slm_pg_priors_key_add(key, a->ask);
    for (int i = 0; i < a->n; i++)
        slm_pg_priors_key_add(key, a->statements[i]);
    kept = slm_pg_find_priors(key, a->n);
    if (kept != NULL)
        return kept;
    priors = palloc(sizeof(double) * (Size) a->n);
    work = slm_pg_work_new(NULL);
    old = MemoryContextSwitchTo(slm_pg_work_context(work));
    submit(work, entry, a, method, NO_TEXT, strlen(NO_TEXT), text_first, true);
    MemoryContextSwitchTo(old);
    slm_pg_work_wait(work);
    for (int i = 0; i < a->n; i++)
        priors[i] = log_probability(work, a, method, 0, i);
    slm_pg_work_free(work);
    slm_pg_keep_priors(key, priors, a->n);
    return priors;
}

/* Leaves the statements that are to be weighed.  The priors of all are known by then: they are computed once, not for each choice of
 * options. */
static void keep_only(Asked *a)
{
    const SlmQuestion *q = a->question;
    double *priors = palloc(sizeof(double) * (Size) Max(q->n_only, 1));
    bool *wanted = palloc0(sizeof(bool) * (Size) q->n);
    int n = 0;

    for (int i = 0; i < q->n_only; i++)
        wanted[q->only[i]] = true;
    for (int i = 0; i < a->n; i++) {
        if (!wanted[a->order[i]])
            continue;
        a->order[n] = a->order[i];
        a->statements[n] = a->statements[i];
        priors[n++] = a->priors[i];
    }
    a->n = n;
    a->priors = priors;
    pfree(wanted);
}

/* ---- texts that are too long for a generative model */

static size_t longest_statement(const Asked *a)
{
    size_t longest = 0;

    for (int i = 0; i < a->n; i++)
        longest = Max(longest, strlen(a->statements[i]));
    return longest;
}

static void refuse(size_t room)
{
    ereport(ERROR, (slm_pg_input_error(SLM_FAULT_LONG), errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                    errmsg("the text has more than %zu tokens, which the model reads beside the questions", room),
                    errhint("Leave truncate => false out to have its beginning read, or cut it into pieces with slm_chunk.")));
}

/* Tokens that the text may have beside the question and statement that take most. */
static size_t room_for_text(const SlmAsking *s)
{
    const slm_model_info *info = slm_pg_info(s->row.entry);
    size_t cache = (size_t) slm_guc_kv_cache_kb * 1024 / Max(slm_pg_kv_bytes_per_token(info), 1) / 2, taken = 0;
    size_t room = Min(info->n_context, cache);

    for (int i = 0; i < s->n; i++) {
        slm_segment segments[MAX_SEGMENTS];
        size_t n = put_segments(segments, &s->asked[i], "", 0, true, false);
        slm_request request = {.mode = SLM_MODE_LOGPROBS, .chat = true, .segments = segments, .n_segments = n};
        size_t statements = 0;

        for (int k = 0; k < s->asked[i].n; k++) {
            size_t tokens = slm_pg_tokens_in(s->row.entry, s->asked[i].statements[k], strlen(s->asked[i].statements[k]));

            statements = Max(statements, tokens);
        }
        taken = Max(taken, slm_pg_prompt_tokens(s->row.entry, &request) + statements);
    }
    return room > taken + LEEWAY ? room - taken - LEEWAY : 0;
}

/* Bytes of the text to be read: all of it, or what there is room for. */
static size_t readable(SlmWork *work, const SlmAsking *s)
{
    size_t beside = 0, room, length;
    const char *window;
    bool more;

    for (int i = 0; i < s->n; i++)
        beside = Max(beside, strlen(s->asked[i].ask) + longest_statement(&s->asked[i]));
    if (s->row.length + beside + 256 <= slm_pg_info(s->row.entry)->n_context / 2) /* a token has a byte at least */
        return s->row.length;
    room = room_for_text(s);
    if (room == 0)
        return s->row.length; /* the questions alone are too long, which the engine says */
    (void) slm_pg_reach(s->row.entry, s->row.input, s->row.length, room, &more);
    if (!more)
        return s->row.length;
    if (s->row.truncate == SLM_TRUNCATE_REFUSE)
        refuse(room);
    if (s->row.truncate == SLM_TRUNCATE_DEFAULT)
        slm_pg_work_longer(work);
    return slm_pg_next_window(slm_pg_windows(s->row.entry, s->row.input, s->row.length, room, 0, false), &window, &length) ? length : 0;
}

/* ---- asking */

static void ask_generator(SlmWork *work, SlmAsking *s)
{
    int statements = 0;
    bool shared;

    s->length = readable(work, s);
    for (int i = 0; i < s->n; i++) {
        Asked *a = &s->asked[i];
        bool text_first = strlen(a->ask) <= s->row.length;

        a->priors = find_priors(s->row.entry, a, s->method, text_first);
        if (a->question->only != NULL)
            keep_only(a);
        a->first = statements;
        statements += s->method == METHOD_DIRECT ? 1 : a->n;
    }
    shared = statements > 1 && s->length <= DECLARED_BYTES;
    for (int i = 0; i < s->n; i++)
        submit(work, s->row.entry, &s->asked[i], s->method, s->row.input, s->length, strlen(s->asked[i].ask) <= s->row.length, shared);
}

/* All statements at once: those of a question follow each other from its `first` on. */
static void ask_encoder(SlmWork *work, SlmAsking *s)
{
    SlmText t = {.entry = s->row.entry, .text = s->row.input, .length = s->row.length, .truncate = s->row.truncate};
    SlmLabels labels = {0};
    SlmExamples none = {0};

    for (int i = 0; i < s->n; i++) {
        s->asked[i].first = labels.n;
        labels.n += s->asked[i].n;
    }
    labels.names = palloc(sizeof(char *) * (Size) labels.n);
    for (int i = 0; i < s->n; i++)
        memcpy(labels.names + s->asked[i].first, s->asked[i].statements, sizeof(char *) * (Size) s->asked[i].n);
    if (s->method == METHOD_ENTAILMENT) {
        const SlmWeighed *weighed = slm_pg_read_entailment(work, t, labels.names, labels.n);

        for (int i = 0; i < s->n; i++)
            s->asked[i].weighed = weighed;
        return;
    }
    if (s->row.embedding != NULL) {
        s->cosines = slm_pg_stored_cosines(s->row.entry, s->row.embedding, slm_pg_prototypes(s->row.entry, &labels, &none), labels.n);
        return;
    }
    t.prompt = slm_pg_text_prompt(s->row.entry, false);
    slm_pg_measure(&t);
    slm_pg_note_windows(work, &t);
    s->cosines = slm_pg_read_cosines(work, &t, slm_pg_prototypes(s->row.entry, &labels, &none), labels.n);
}

/* A pass for each question, whose statements are labels beside the text; what is asked stands before it. */
static void ask_joint(SlmWork *work, SlmAsking *s)
{
    SlmText t = {.entry = s->row.entry, .text = s->row.input, .length = s->row.length, .truncate = s->row.truncate};

    for (int i = 0; i < s->n; i++) {
        Asked *a = &s->asked[i];
        const char *question = is_condition(a->question) ? NULL : a->question->text;
        SlmLabels *labels = palloc0(sizeof *labels);

        labels->n = a->n;
        labels->names = a->statements;
        if (s->row.instruction != NULL)
            question = s->row.instruction;
        a->weighed = slm_pg_read_joint(work, t, question == NULL ? NULL : psprintf("%s\n", question), labels, a->question->none);
    }
}

/* What corrects the answers to a question: a condition is the same question whoever asks it. */
static const SlmCalibrationRow *find_calibration(const SlmAsking *s, const SlmQuestion *q)
{
    static const char *const methods[] = {"embedding", "described", "direct", "entailment", "joint"};

    if (!s->row.calibrated || (q->type == SLM_QUESTION_SCALE && q->by_numbers))
        return NULL;
    return slm_pg_find_calibration(slm_pg_opened_key(s->row.entry), is_condition(q) ? "filter" : "decide", methods[s->method],
                                   q->n + q->none);
}

SlmAsking *slm_pg_ask(SlmWork *work, const SlmAskedRow *row, const SlmQuestion *questions, int n)
{
    SlmAsking *s = palloc0(offsetof(SlmAsking, asked) + sizeof(Asked) * (Size) n);

    s->row = *row;
    s->method = parse_method(row->method, row->entry);
    if (row->embedding != NULL && s->method != METHOD_EMBEDDING)
        slm_pg_refuse_embedding(slm_pg_beside_method(row->entry) != NULL ? "a model that reads texts beside labels" : "a generative model");
    s->n = n;
    for (int i = 0; i < n; i++) {
        s->asked[i].question = &questions[i];
        make_statements(&s->asked[i], s->method);
        if (s->method == METHOD_DESCRIBED || s->method == METHOD_DIRECT) {
            s->asked[i].ask = make_ask(row, &s->asked[i], s->method);
            s->asked[i].name = slm_pg_prompt(SLM_PROMPT_TEXT, row->entry);
        }
        s->asked[i].calibration = find_calibration(s, &questions[i]);
    }
    if (s->method == METHOD_EMBEDDING || s->method == METHOD_ENTAILMENT)
        ask_encoder(work, s);
    else if (s->method == METHOD_JOINT)
        ask_joint(work, s);
    else
        ask_generator(work, s);
    return s;
}

/* ---- probabilities */

static double logistic(double x)
{
    return 1 / (1 + slm_exp(-x));
}

/* How well the i-th statement fits, on a scale on which they can be compared; *fits: the probability that it does at all. */
static double weigh(SlmWork *work, const SlmAsking *s, const Asked *a, int i, double *fits)
{
    double raised;

    if (s->method == METHOD_EMBEDDING) {
        double cosine = s->cosines[a->first + i];

        *fits = logistic(COSINE_STEEP * (cosine - COSINE_BORDER));
        return SLM_COSINE_SCALE * cosine;
    }
    if (a->weighed != NULL) {
        *fits = a->weighed->fits[a->first + i];
        return a->weighed->weights[a->first + i];
    }
    raised = log_probability(work, a, s->method, a->first, i) - a->priors[i];
    *fits = logistic(RAISE_STEEP * (raised / Max(-a->priors[i], 1) - RAISE_BORDER));
    return raised;
}

/* Levels that are numbers only: a binomial distribution whose mean is as far up the scale as the condition fits. */
static void spread(double fits, double *p, int n)
{
    double ways = 1;

    for (int i = 0; i < n; i++) {
        p[i] = ways;
        for (int k = 0; k < n - 1; k++)
            p[i] *= k < i ? fits : 1 - fits;
        ways = ways * (n - 1 - i) / (i + 1);
    }
}

/* Corrects answers, p [n], which are put in the order of their bytes meanwhile; with none it is the last. */
static void calibrate(const Asked *a, double *p, int n)
{
    const SlmQuestion *q = a->question;
    bool yes_no = is_condition(q), in_order = !yes_no && a->n >= q->n;
    double *sorted;

    if (a->calibration == NULL)
        return;
    sorted = palloc(sizeof(double) * (Size) n);
    for (int i = 0; i < n; i++)
        sorted[i] = p[in_order && i < a->n ? a->order[i] : i];
    slm_pg_calibrate_probabilities(a->calibration, yes_no, sorted, n);
    for (int i = 0; i < n; i++)
        p[in_order && i < a->n ? a->order[i] : i] = sorted[i];
    pfree(sorted);
}

static double *answers(SlmWork *work, const SlmAsking *s, int question)
{
    const Asked *a = &s->asked[question];
    const SlmQuestion *q = a->question;
    double *weights = palloc(sizeof(double) * (Size) a->n), *p = palloc(sizeof(double) * (Size) (q->n + 1));
    double best = 0, fits;

    for (int i = 0; i < a->n; i++) {
        weights[i] = weigh(work, s, a, i, &fits);
        best = Max(best, fits);
    }
    if (is_condition(q) && s->method != METHOD_DIRECT) {
        p[0] = best;
        p[1] = 1 - best;
        if (q->type == SLM_QUESTION_SCALE)
            spread(best, p, q->n);
        return p;
    }
    slm_pg_softmax(weights, a->n); /* statements are in an order of their own: no sum depends on that of the call */
    for (int i = 0; i < a->n; i++)
        p[a->order[i]] = weights[i];
    if (q->none && s->method != METHOD_DIRECT) {
        for (int i = 0; i < q->n; i++)
            p[i] *= best;
        p[q->n] = 1 - best;
    }
    return p;
}

const double *slm_pg_asked(SlmWork *work, const SlmAsking *s, int question)
{
    const Asked *a = &s->asked[question];
    double *p = answers(work, s, question);

    calibrate(a, p, a->question->n + a->question->none);
    return p;
}

void slm_pg_asked_raised(SlmWork *work, const SlmAsking *s, int question, double *raised)
{
    const Asked *a = &s->asked[question];

    for (int i = 0; i < a->n; i++)
        raised[a->order[i]] = log_probability(work, a, s->method, a->first, i) - a->priors[i];
}
