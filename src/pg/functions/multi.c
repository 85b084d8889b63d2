/*
 * multi.c: slm_classify_multi: every label that fits, each judged on its own.
 *
 * With an encoder a label fits when its prototype is near enough; a generative model is asked about each label, and the probability of
 * "yes" decides.  A model for natural language inference says whether the text entails a sentence about the label; one that reads text
 * and labels together gives each its probability, as one with labels of its own does.  Of many labels an encoder may leave a few over, and
 * only these are judged (shortlist.h).
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"

#include "engine/slm.h"
#include "pg/base/args.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/base/row_error.h"
#include "pg/functions/classification.h"
#include "pg/functions/entailment.h"
#include "pg/functions/head.h"
#include "pg/functions/joint.h"
#include "pg/functions/kinds.h"
#include "pg/functions/labels.h"
#include "pg/functions/prompts.h"
#include "pg/functions/prototypes.h"
#include "pg/functions/reading.h"
#include "pg/functions/shortlist.h"
#include "pg/models/catalog.h"
#include "pg/run/opened.h"
#include "pg/run/use.h"
#include "pg/run/work.h"

PG_FUNCTION_INFO_V1(slm_pg_classify_multi);

enum {
    ARG_INPUT,
    ARG_LABELS,
    ARG_THRESHOLD,
    ARG_MODEL,
    ARG_INSTRUCTION,
    ARG_DESCRIPTIONS,
    ARG_SHORTLIST,
    ARG_SHORTLIST_MODEL,
    ARG_TRUNCATE
};

typedef struct Multi {
    SlmOpenModel *entry;
    const text *input;
    SlmTruncate truncate;
    const char *instruction; /* UTF-8, or NULL */
    SlmLabels labels;        /* which are judged: of a short list, those on it, once it is there */
    SlmShortlist *shortlist; /* or NULL */
    const double *cosines; /* [n_labels] with each label's prototype, or NULL: the model was asked */
    SlmHead *head; /* the model's own labels, or NULL */
    const SlmWeighed *weighed; /* each label beside the text, or NULL */
    double threshold;
} Multi;

/* A question for each label; the text comes last. */
static void ask(SlmWork *work, const Multi *m)
{
    const char *const answers[2] = {slm_pg_prompt(SLM_PROMPT_YES, m->entry), slm_pg_prompt(SLM_PROMPT_NO, m->entry)};
    const char *name = slm_pg_prompt(SLM_PROMPT_CLASSIFY_TEXT, m->entry);
    const char *asked = m->instruction == NULL ? slm_pg_prompt(SLM_PROMPT_MULTI, m->entry) : m->instruction;
    size_t public_bytes = m->instruction == NULL ? slm_pg_public_bytes(asked) : 0;

    for (int i = 0; i < m->labels.n; i++) {
        char *instruction = psprintf("%s\n\n%s", slm_pg_fill(asked, "{label}", slm_pg_described_label(&m->labels, i, "%s (%s)")), name);
        slm_segment segments[2] = {slm_pg_segment_utf8(SLM_ROLE_USER, SLM_SEG_PREFIX, instruction),
                                   slm_pg_segment(SLM_ROLE_USER, SLM_SEG_JOIN, m->input)};
        slm_request request = {.mode = SLM_MODE_LABELS,
                               .chat = true,
                               .segments = segments,
                               .n_segments = 2,
                               .public_bytes = public_bytes,
                               .labels = answers,
                               .n_labels = 2,
                               .prior_text = "N/A"};

        slm_pg_submit_cut(work, m->entry, &request, &segments[1], m->truncate);
    }
}

static SlmText text_to_read(SlmWork *work, const Multi *m)
{
    SlmText t = {.entry = m->entry, .prompt = slm_pg_text_prompt(m->entry, false), .truncate = m->truncate};

    t.text = slm_pg_input_utf8(m->input, &t.length);
    slm_pg_measure(&t);
    slm_pg_note_windows(work, &t);
    return t;
}

/* A sentence for each label, or all of them at once. */
static void submit_beside(SlmWork *work, Multi *m)
{
    SlmText t = {.entry = m->entry, .truncate = m->truncate};

    const char *said = m->instruction != NULL ? m->instruction : slm_pg_prompt(SLM_PROMPT_HYPOTHESIS, m->entry);
    SlmLabels sentences = {.n = m->labels.n};

    t.text = slm_pg_input_utf8(m->input, &t.length);
    if (slm_pg_info(m->entry)->can_decide) {
        sentences.names = slm_pg_label_sentences(said, &m->labels);
        m->weighed = slm_pg_read_joint(work, t, NULL, &sentences, true);
    } else if (slm_pg_can_joint(m->entry)) {
        m->weighed = slm_pg_read_joint(work, t, m->instruction, &m->labels, true);
    } else {
        m->weighed = slm_pg_read_label_entailment(work, t, said, &m->labels);
    }
}

static void begin_head(SlmWork *work, Multi *m, FunctionCallInfo fcinfo)
{
    SlmText t;

    if (!PG_ARGISNULL(ARG_SHORTLIST) || !PG_ARGISNULL(ARG_SHORTLIST_MODEL))
        slm_pg_refuse_shortlist("a model with labels of its own");
    if (m->instruction != NULL)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("an instruction cannot be given to a model with labels of its own"),
                        errhint("Leave it out, or choose another model.")));
    m->threshold = slm_pg_float_arg(fcinfo, ARG_THRESHOLD, "threshold", 0.5, 0, false, 1, false);
    t = text_to_read(work, m);
    m->head = slm_pg_read_head(work, &t);
}

/* The requests about the labels that are judged. */
static void submit(SlmWork *work, Multi *m)
{
    const SlmExamples none = {0};
    SlmText t;

    if (slm_pg_beside_method(m->entry) != NULL) {
        submit_beside(work, m);
    } else if (slm_pg_info(m->entry)->can_generate) {
        ask(work, m);
    } else {
        t = text_to_read(work, m);
        m->cosines = slm_pg_read_cosines(work, &t, slm_pg_prototypes(m->entry, &m->labels, &none), m->labels.n);
    }
}

/* Once the encoder has read the text: the labels on its list are judged. */
static bool judge_list(SlmWork *work, void *arg)
{
    Multi *m = arg;

    if (slm_pg_work_waits(work))
        return true;
    m->labels = slm_pg_shortlist_choose(m->shortlist, &m->labels);
    slm_pg_work_drop_all(work);
    submit(work, m);
    return false;
}

static void begin_list(SlmWork *work, Multi *m)
{
    const SlmExamples none = {0};

    m->input = DatumGetTextPP(PointerGetDatum(PG_DETOAST_DATUM_COPY(PointerGetDatum(m->input)))); /* for the second step */
    slm_pg_shortlist_read(work, m->shortlist, m->input, m->truncate, &m->labels, &none, NULL);
    slm_pg_work_go_on(work, judge_list, m);
}

static void begin_multi(SlmWork *work, FunctionCallInfo fcinfo)
{
    Multi *m = palloc0(sizeof *m);
    bool embeds;

    slm_pg_work_set_state(work, m);
    if (slm_pg_decide_blank(work, fcinfo, ARG_INPUT))
        return;
    m->input = PG_GETARG_TEXT_PP(ARG_INPUT);
    m->truncate = slm_pg_truncate_arg(fcinfo, ARG_TRUNCATE);
    if (!PG_ARGISNULL(ARG_INSTRUCTION))
        m->instruction = slm_pg_utf8_from_text(PG_GETARG_TEXT_PP(ARG_INSTRUCTION), NULL);
    if (PG_ARGISNULL(ARG_LABELS) && PG_ARGISNULL(ARG_DESCRIPTIONS) &&
        (m->entry = slm_pg_head_model(slm_pg_text_arg(fcinfo, ARG_MODEL))) != NULL && !slm_pg_can_entail(m->entry)) {
        begin_head(work, m, fcinfo);
        return;
    }
    slm_pg_labels_arg(fcinfo, ARG_LABELS, ARG_DESCRIPTIONS, false, &m->labels);
    m->entry = slm_pg_work_model(work, slm_pg_text_arg(fcinfo, ARG_MODEL));
    embeds = !slm_pg_info(m->entry)->can_generate && slm_pg_beside_method(m->entry) == NULL;
    if (embeds && !slm_pg_info(m->entry)->can_embed)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("labels cannot be given to a model with labels of its own"),
                        errhint("Leave labels and descriptions out, or choose an embedding or a generative model.")));
    m->threshold = slm_pg_float_arg(fcinfo, ARG_THRESHOLD, "threshold", embeds ? 0.3 : 0.5, 0, false, 1, false);
    if (embeds && !PG_ARGISNULL(ARG_SHORTLIST))
        slm_pg_refuse_shortlist("an encoder, which judges all labels at once");
    m->shortlist = slm_pg_shortlist_arg(fcinfo, ARG_SHORTLIST, ARG_SHORTLIST_MODEL, m->entry);
    if (m->shortlist != NULL)
        begin_list(work, m);
    else
        submit(work, m);
}

/* The cosine with a label's prototype, or the probability of "yes" or of entailment. */
static double fit_of(SlmWork *work, const Multi *m, int label)
{
    if (m->weighed != NULL)
        return m->weighed->fits[label];
    return m->cosines != NULL ? m->cosines[label] : slm_exp((double) slm_pg_work_result(work, label)->scores[0]);
}

static Datum finish_multi(SlmWork *work, bool *isnull)
{
    const Multi *m = slm_pg_work_state(work);
    int n_labels = m->head != NULL ? m->head->n : m->labels.n, n = 0;
    Datum *chosen = palloc(sizeof(Datum) * (Size) n_labels);
    double *fits = palloc(sizeof(double) * (Size) n_labels);

    if (m->head != NULL)
        slm_pg_head_probabilities(m->head, fits);
    for (int i = 0; i < n_labels && m->head == NULL; i++)
        fits[i] = fit_of(work, m, i);
    for (int i = 0; i < n_labels; i++)
        if (fits[i] >= m->threshold)
            chosen[n++] = slm_pg_label_datum(m->head != NULL ? m->head->labels[i] : m->labels.names[i], InvalidOid);
    return PointerGetDatum(construct_array(chosen, n, TEXTOID, -1, false, TYPALIGN_INT));
}

const SlmWorkKind slm_pg_classify_multi_kind = {
    .symbol = "slm_pg_classify_multi", .task = SLM_TASK_CLASSIFY, .begin = begin_multi, .finish = finish_multi};

Datum slm_pg_classify_multi(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_classify_multi_kind, fcinfo);
}
