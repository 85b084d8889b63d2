/*
 * reading.c: reading a text with an encoder (reading.h).
 *
 * The windows of a text are requests like any other; some thousand tokens of them are under way at a time, so that they fill the engine's
 * batches, and memory does not depend on the length of the text.
 */
#include "pg/functions/reading.h"

#include "fmgr.h"
#include "utils/float.h"

#include "engine/slm.h"
#include "pg/base/errors.h"
#include "pg/base/row_error.h"
#include "pg/functions/windows.h"
#include "pg/run/backend.h"
#include "pg/run/work.h"

#define SENTENCE_TOKENS 64    /* of a window where sentences are looked at alone */
#define TOKENS_UNDER_WAY 4096 /* eight of the engine's batches */
#define LEAST_ROOM 8
#define COUNTED_BYTES 1000000 /* of a text that is refused: how long it is is said */
#define MEASURED_BYTES 65536 /* of a text for a generative model: what is longer is measured before it is tokenized as a whole */

SlmTruncate slm_pg_truncate_arg(FunctionCallInfo fcinfo, int i)
{
    return PG_ARGISNULL(i) ? SLM_TRUNCATE_DEFAULT : PG_GETARG_BOOL(i) ? SLM_TRUNCATE_CUT : SLM_TRUNCATE_REFUSE;
}

/* ---- how long it is */

/* Tokens of what stands before a text, and special ones, which a table of vectors does not have. */
static size_t added(const SlmOpenModel *entry, const char *before, size_t special)
{
    if (slm_pg_info(entry)->n_layers == 0)
        special = 0;
    return before == NULL || before[0] == '\0' ? special : special + slm_pg_tokens_in(entry, before, strlen(before));
}

size_t slm_pg_embed_adds(const SlmOpenModel *entry)
{
    return added(entry, slm_pg_text_prompt(entry, false), 2);
}

/* Tokens of text that the model has room for beside the prompt or query and its special tokens; 0 where that is next to nothing. */
static size_t room_for(const SlmText *t)
{
    size_t room = slm_pg_info(t->entry)->n_context;
    const char *pair = t->query != NULL ? t->query : t->hypothesis;
    size_t taken = t->beside != NULL ? t->beside->tokens : pair != NULL ? added(t->entry, pair, 3) : added(t->entry, t->prompt, 2);

    return room >= taken + LEAST_ROOM ? room - taken : 0;
}

static void refuse(const SlmText *t, size_t room)
{
    bool counted = t->length <= COUNTED_BYTES;
    size_t n = counted ? slm_pg_tokens_in(t->entry, t->text, t->length) : room;

    ereport(ERROR, (slm_pg_input_error(SLM_FAULT_LONG), errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                    errmsg("the text has %s%zu tokens, but the model reads at most %zu", counted ? "" : "more than ", n, room),
                    errhint("Leave truncate => false out to have it read in windows, cut it with truncate => true, or into pieces with "
                            "slm_chunk.")));
}

/* Windows of a text whose labels are asked for. */
static void measure_sought(SlmText *t)
{
    size_t *offsets = NULL, *kept;
    slm_status status;
    slm_error err;

    while ((status = slm_span_windows(slm_pg_opened_model(t->entry), t->sought->labels, (size_t) t->sought->n, t->text, t->length, SLM_STOP,
                                      &offsets, &t->n_windows, &err)) == SLM_CANCELLED)
        slm_pg_interrupted();
    if (status != SLM_OK)
        slm_pg_error(&err, NULL);
    kept = MemoryContextAllocExtended(CurrentMemoryContext, sizeof *kept * Max(2 * t->n_windows, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
    if (kept != NULL)
        memcpy(kept, offsets, sizeof *kept * 2 * t->n_windows);
    free(offsets);
    if (kept == NULL)
        ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
    t->windows = kept;
    t->longer = t->n_windows > 1;
    if (t->longer && t->truncate == SLM_TRUNCATE_REFUSE)
        ereport(ERROR, (slm_pg_input_error(SLM_FAULT_LONG), errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("the text is longer than the model reads beside its labels"),
                        errhint("Leave truncate => false out to have it read in windows, or cut it with truncate => true.")));
    if (t->truncate == SLM_TRUNCATE_CUT && t->longer) {
        t->n_windows = 1;
        t->length = kept[1];
    }
}

/* The request for a text with labels. */
static slm_request request_beside(const SlmBeside *b, slm_segment segments[2], const char *text, size_t length)
{
    size_t n = 0;

    if (b->instruction != NULL)
        segments[n++] = (slm_segment){.role = SLM_ROLE_SYSTEM, .text = b->instruction, .length = strlen(b->instruction)};
    segments[n++] = (slm_segment){.role = SLM_ROLE_USER, .text = text, .length = length};
    return (slm_request){.mode = SLM_MODE_JOINT, .segments = segments, .n_segments = n, .labels = b->labels, .n_labels = (size_t) b->n,
                         .descriptions = b->descriptions};
}

void slm_pg_measure_beside(const SlmText *text, SlmBeside *beside)
{
    size_t context = slm_pg_info(text->entry)->n_context;
    slm_segment segments[2];
    slm_request request = request_beside(beside, segments, "", 0);

    beside->tokens = slm_pg_prompt_tokens(text->entry, &request);
    if (beside->tokens + LEAST_ROOM > context)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("the labels take %zu tokens, but the model reads %zu with the text", beside->tokens, context),
                        errhint("Give fewer or shorter labels and descriptions, or use an embedding model, which has no such bound.")));
}

void slm_pg_measure(SlmText *t)
{
    size_t room = room_for(t), reach;

    t->longer = false;
    if (t->sought != NULL) {
        measure_sought(t);
        return;
    }
    if (room == 0)
        return; /* the prompt alone is too long, which the engine says */
    reach = slm_pg_reach(t->entry, t->text, t->length, room, &t->longer);
    if (!t->longer)
        return;
    if (t->truncate == SLM_TRUNCATE_CUT)
        t->length = reach; /* the rest need not even be tokenized */
    if (t->truncate == SLM_TRUNCATE_REFUSE)
        refuse(t, room);
}

void slm_pg_note_windows(SlmWork *work, const SlmText *t)
{
    if (slm_pg_in_windows(t))
        slm_pg_work_longer(work);
}

/* ---- its requests */

typedef struct Window {
    SlmRun *run;
    const char *text;
    size_t length;
} Window;

typedef struct Reading {
    SlmText text;
    SlmWindows *windows; /* NULL: one request */
    Window *under_way;   /* [n] */
    int n, most;
    SlmTake take;
    SlmTakeSpans take_spans; /* instead */
    void *arg;
} Reading;

static void submit(SlmWork *work, Reading *r, const char *window, size_t length)
{
    const SlmText *t = &r->text;
    const char *beside = t->query != NULL ? t->query : t->hypothesis;
    bool pair = beside != NULL, prompted = !pair && t->prompt != NULL && t->prompt[0] != '\0';
    slm_segment segments[2] = {{.role = SLM_ROLE_USER}, {.role = SLM_ROLE_USER, .flags = SLM_SEG_JOIN}};
    slm_segment *own = &segments[t->query != NULL ? 1 : 0], *other = &segments[t->query != NULL ? 0 : 1];
    slm_request request = {.mode = SLM_MODE_EMBED, .segments = segments, .n_segments = pair ? 2 : 1};
    char *whole = prompted ? MemoryContextAllocHuge(CurrentMemoryContext, strlen(t->prompt) + length + 1) : NULL;

    own->text = window;
    own->length = length;
    if (t->sought != NULL) {
        request.mode = SLM_MODE_SPANS;
        request.labels = t->sought->labels;
        request.n_labels = (size_t) t->sought->n;
        request.threshold = (float) t->sought->threshold;
    }
    if (pair) {
        other->text = beside;
        other->length = strlen(beside);
    }
    if (prompted) {
        own->length += strlen(t->prompt);
        memcpy(whole, t->prompt, strlen(t->prompt));
        memcpy(whole + strlen(t->prompt), window, length);
        own->text = whole;
    }
    if (t->beside != NULL)
        request = request_beside(t->beside, segments, window, length);
    request.truncate = t->truncate != SLM_TRUNCATE_REFUSE;
    r->under_way[r->n++] = (Window){slm_pg_work_submit(work, t->entry, &request), window, length};
    if (whole != NULL)
        pfree(whole);
}

static bool submit_next(SlmWork *work, Reading *r)
{
    const char *window;
    size_t length;

    while (r->n < r->most && slm_pg_next_window(r->windows, &window, &length))
        submit(work, r, window, length);
    return r->n > 0;
}

static bool read_on(SlmWork *work, void *arg)
{
    Reading *r = arg;

    for (int i = 0; i < r->n; i++) {
        const slm_result *result = slm_pg_poll(r->under_way[i].run);

        if (r->take_spans != NULL)
            r->take_spans(r->arg, result, r->under_way[i].text, r->under_way[i].length);
        else
            r->take(r->arg, result->scores, result->n_scores, r->under_way[i].text, r->under_way[i].length);
        slm_pg_work_drop(work, r->under_way[i].run);
    }
    r->n = 0;
    return r->windows != NULL && submit_next(work, r);
}

/* Of a text, of which at most so many windows are under way. */
static Reading *begin_reading(SlmWork *work, const SlmText *t, int most, void *arg)
{
    Reading *r = palloc0(sizeof *r);

    r->text = *t;
    r->arg = arg;
    r->most = most;
    r->under_way = palloc(sizeof(Window) * (Size) most);
    slm_pg_work_go_on(work, read_on, r);
    return r;
}

void slm_pg_read(SlmWork *work, const SlmText *t, SlmWindowSize size, SlmTake take, void *arg)
{
    Reading *r;
    size_t room = room_for(t), tokens = room;

    if (size == SLM_WINDOWS_HALF || size == SLM_WINDOWS_SENTENCES)
        tokens = size == SLM_WINDOWS_HALF ? room / 2 : Min(SENTENCE_TOKENS, room);
    r = begin_reading(work, t, slm_pg_in_windows(t) ? (int) Max(TOKENS_UNDER_WAY / tokens, 2) : 1, arg);
    r->take = take;
    if (r->most == 1) {
        submit(work, r, t->text, t->length);
        return;
    }
    r->windows = slm_pg_windows(t->entry, t->text, t->length, tokens, size == SLM_WINDOWS_OVERLAP ? tokens / 4 : 0,
                                size == SLM_WINDOWS_SENTENCES);
    (void) submit_next(work, r);
}

void slm_pg_read_spans(SlmWork *work, const SlmText *t, SlmTakeSpans take, void *arg)
{
    Reading *r = begin_reading(work, t, (int) Max(TOKENS_UNDER_WAY / slm_pg_info(t->entry)->n_context, 2), arg);

    r->take_spans = take;
    r->windows = slm_pg_windows_known(t->text, t->length, t->windows, t->n_windows);
    (void) submit_next(work, r);
}

/* ---- what becomes of the windows */

/* Each window as heavy as it is long. */
typedef struct Mean {
    SlmVector vector;
    double *sum; /* [vector.n] */
    int n;
} Mean;

static void take_mean(void *arg, const float *vector, size_t n, const char *window, size_t length)
{
    Mean *m = arg;

    for (int i = 0; i < m->vector.n; i++) {
        m->sum[i] += (double) length * (double) vector[i];
        m->vector.x[i] = m->n == 0 ? vector[i] : (float) m->sum[i];
    }
    if (m->n++ > 0)
        slm_vector_normalize(m->vector.x, (size_t) m->vector.n);
}

SlmVector *slm_pg_read_vector(SlmWork *work, const SlmText *t)
{
    Mean *m = palloc0(sizeof *m);

    m->vector.n = (int) slm_pg_info(t->entry)->n_embd;
    m->vector.x = palloc0(sizeof(float) * (Size) m->vector.n);
    m->sum = palloc0(sizeof(double) * (Size) m->vector.n);
    slm_pg_read(work, t, SLM_WINDOWS_WHOLE, take_mean, m);
    return &m->vector;
}

typedef struct Cosines {
    const float *vectors; /* [n, n_dims] */
    double *best;         /* [n] */
    int n, n_dims;
} Cosines;

static void take_cosines(void *arg, const float *vector, size_t n, const char *window, size_t length)
{
    Cosines *c = arg;

    for (int i = 0; i < c->n; i++) {
        double cosine = slm_vector_cosine(vector, c->vectors + (Size) i * (Size) c->n_dims, (size_t) c->n_dims);

        c->best[i] = Max(c->best[i], cosine);
    }
}

double *slm_pg_read_cosines(SlmWork *work, const SlmText *t, const float *vectors, int n)
{
    Cosines *c = palloc(sizeof *c);

    c->vectors = vectors;
    c->n = n;
    c->n_dims = (int) slm_pg_info(t->entry)->n_embd;
    c->best = palloc(sizeof(double) * (Size) n);
    for (int i = 0; i < n; i++)
        c->best[i] = -1;
    slm_pg_read(work, t, SLM_WINDOWS_SENTENCES, take_cosines, c);
    return c->best;
}

static void take_relevance(void *arg, const float *score, size_t n, const char *window, size_t length)
{
    double *best = arg;

    *best = Max(*best, (double) *score);
}

double *slm_pg_read_relevance(SlmWork *work, const SlmText *t)
{
    double *best = palloc(sizeof *best);

    *best = -get_float8_infinity();
    slm_pg_read(work, t, SLM_WINDOWS_WHOLE, take_relevance, best);
    return best;
}

/* ---- generative models */

void slm_pg_submit_cut(SlmWork *work, SlmOpenModel *entry, slm_request *request, slm_segment *row, SlmTruncate truncate)
{
    bool more;

    if (truncate != SLM_TRUNCATE_REFUSE && row->length > MEASURED_BYTES) /* no model can read the rest */
        row->length = slm_pg_reach(entry, row->text, row->length, slm_pg_info(entry)->n_context, &more);
    request->truncate = truncate == SLM_TRUNCATE_CUT;
    if (truncate != SLM_TRUNCATE_DEFAULT) {
        slm_pg_work_submit(work, entry, request);
    } else if (slm_pg_work_submit_if_fits(work, entry, request) == NULL) {
        request->truncate = true;
        slm_pg_work_submit(work, entry, request);
        slm_pg_work_longer(work);
    }
}
