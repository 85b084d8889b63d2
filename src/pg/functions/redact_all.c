/*
 * redact_all.c: slm_redact_all, slm_redact_all_details: values of a known form, patterns of administrators, names that a model finds.
 *
 *   forms (redact.c)  ──►  patterns (redact_patterns.c)  ──►  entities (entities.c)
 *
 * What stands behind in that order gets what the ones before have left of its place, so that nothing that somebody found stays readable.
 * Kinds of entities that are known: person, organization, place, address, by the labels that models have for them; others are left
 * alone.  Without a model (none named, slm.entity_model empty) it runs none.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "pg/base/args.h"
#include "pg/base/compat.h"
#include "pg/base/earlier.h"
#include "pg/base/encoding.h"
#include "pg/functions/entities.h"
#include "pg/functions/kinds.h"
#include "pg/functions/redact.h"
#include "pg/models/catalog.h"

PG_FUNCTION_INFO_V1(slm_pg_redact_all);
PG_FUNCTION_INFO_V1(slm_pg_redact_all_details);

enum { ARG_INPUT, ARG_CATEGORIES, ARG_MASK, ARG_MODEL, ARG_THRESHOLD };

#define N_NAMES 4
#define ALL_NAMES ((1u << N_NAMES) - 1)

/* Beginnings of the labels of models, in lower case. */
static const struct {
    const char *category, *labels[5];
} names[N_NAMES] = {
    {"person", {"per", "name", "givenname", "surname", "user"}},
    {"organization", {"org", "company", "corp"}},
    {"place", {"loc", "gpe", "place", "city", "country"}},
    {"address", {"addr", "street", "zip"}},
};

typedef struct Wanted {
    uint32 forms, names; /* bits */
    int n_patterns;
    SlmRedactPattern *patterns;
} Wanted;

typedef struct Call {
    Wanted wanted;
    const char *text, *mask; /* UTF-8; mask may be NULL */
    size_t length;
    double threshold;
    SlmEntityReading *reading; /* NULL: no model is run */
} Call;

/* ---- what is wanted */

static void add_known(StringInfo list, const char *name)
{
    appendStringInfo(list, "%s%s", list->len == 0 ? "" : ", ", name);
}

static pg_noreturn void unknown(const char *name, const SlmRedactPattern *patterns, int n);

static void unknown(const char *name, const SlmRedactPattern *patterns, int n)
{
    StringInfoData known;

    initStringInfo(&known);
    for (int i = 0; i < SLM_REDACT_N_KINDS; i++)
        add_known(&known, slm_redact_name((slm_redact_kind) i));
    for (int i = 0; i < N_NAMES; i++)
        add_known(&known, names[i].category);
    for (int i = 0; i < n; i++)
        if (i == 0 || strcmp(patterns[i].category, patterns[i - 1].category) != 0)
            add_known(&known, patterns[i].category);
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown category \"%s\"", name),
                    errhint("Known are %s.", known.data)));
    pg_unreachable();
}

/* Takes the patterns of a category to the front of the list behind those that are there. */
static bool want_patterns(Wanted *w, const char *category, int n)
{
    bool found = false;

    for (int i = 0; i < n; i++)
        if (strcmp(w->patterns[i].category, category) == 0) {
            found = true;
            if (i >= w->n_patterns) {
                SlmRedactPattern p = w->patterns[i];

                w->patterns[i] = w->patterns[w->n_patterns];
                w->patterns[w->n_patterns++] = p;
            }
        }
    return found;
}

static Wanted wanted_arg(FunctionCallInfo fcinfo)
{
    Wanted w = {0};
    const char **categories;
    int n_patterns, n;

    w.patterns = slm_pg_redact_patterns(&n_patterns);
    if (PG_ARGISNULL(ARG_CATEGORIES)) {
        w.forms = SLM_REDACT_ALL;
        w.names = ALL_NAMES;
        w.n_patterns = n_patterns;
        return w;
    }
    categories = slm_pg_strings_arg(fcinfo, ARG_CATEGORIES, "categories", 100, &n);
    for (int i = 0; i < n; i++) {
        const char *category = slm_pg_cstring_from_utf8(categories[i]);
        slm_redact_kind form = slm_redact_of_name(categories[i], strlen(categories[i]));
        bool known = want_patterns(&w, category, n_patterns);

        if (form != SLM_REDACT_N_KINDS)
            w.forms |= 1u << form;
        for (int k = 0; k < N_NAMES; k++)
            if (strcmp(names[k].category, category) == 0) {
                w.names |= 1u << k;
                known = true;
            }
        if (form == SLM_REDACT_N_KINDS && !known)
            unknown(category, w.patterns, n_patterns);
    }
    return w;
}

/* ---- what is found */

typedef struct Finding {
    SlmRedacted *found;
    char *covered;       /* [length] bytes that stand in a span */
    const char *kind;    /* UTF-8, of what is being found */
    const size_t *bytes; /* [characters + 1] where each begins */
} Finding;

static bool is_word(char c)
{
    return slm_redact_word((unsigned char) c);
}

/* Adds what of [begin, end) is in no span yet; of a part, without what is no word at its ends. */
static void add_rest(Finding *f, size_t begin, size_t end)
{
    const char *text = f->found->text;

    for (size_t i = begin; i < end;) {
        size_t from = i, to;

        while (i < end && f->covered[i] == f->covered[from])
            i++;
        to = i;
        if (f->covered[from])
            continue;
        if (from > begin || to < end) {
            while (from < to && !is_word(text[from]))
                from++;
            while (to > from && !is_word(text[to - 1]))
                to--;
        }
        if (to > from)
            slm_pg_redact_add(f->found, from, to, f->kind);
    }
    memset(f->covered + begin, 1, end - begin);
}

static void add_match(void *arg, size_t from, size_t to)
{
    Finding *f = arg;

    add_rest(f, f->bytes[from], f->bytes[to]);
}

static void find_patterns(Finding *f, const Wanted *w)
{
    const char *text = f->found->text;
    size_t length = f->found->length, n = 0, *bytes;
    pg_wchar *chars;

    if (w->n_patterns == 0)
        return;
    chars = MemoryContextAllocHuge(CurrentMemoryContext, sizeof *chars * (length + 1));
    bytes = MemoryContextAllocHuge(CurrentMemoryContext, sizeof *bytes * (length + 1));
    for (size_t i = 0; i < length; i += (size_t) pg_utf_mblen((const unsigned char *) text + i)) {
        chars[n] = utf8_to_unicode((const unsigned char *) text + i);
        bytes[n++] = i;
    }
    bytes[n] = length;
    f->bytes = bytes;
    for (int i = 0; i < w->n_patterns; i++) {
        f->kind = slm_pg_utf8_from_cstring(w->patterns[i].category);
        slm_pg_redact_match(&w->patterns[i], chars, n, add_match, f);
    }
    pfree(chars);
    pfree(bytes);
}

/* The known kind of a model's label; N_NAMES: none. */
static int kind_of_label(const char *label)
{
    for (int k = 0; k < N_NAMES; k++)
        for (int i = 0; i < (int) lengthof(names[k].labels) && names[k].labels[i] != NULL; i++)
            if (pg_strncasecmp(label, names[k].labels[i], strlen(names[k].labels[i])) == 0)
                return k;
    return N_NAMES;
}

static void find_names(Finding *f, const Call *call)
{
    size_t n;
    slm_entity *entities = slm_pg_entities_found(call->reading, &n);

    for (size_t i = 0; i < n; i++) {
        int kind = kind_of_label(entities[i].kind);

        if (kind == N_NAMES || (call->wanted.names >> kind & 1) == 0 || (double) entities[i].score < call->threshold)
            continue;
        f->kind = names[kind].category;
        add_rest(f, entities[i].begin, entities[i].end);
    }
}

static int by_place(const void *a, const void *b)
{
    const SlmRedactSpan *x = a, *y = b;

    return x->begin < y->begin ? -1 : 1;
}

static SlmRedacted find_all(const Call *call)
{
    SlmRedacted r = {.text = call->text, .length = call->length};
    Finding f = {.found = &r};

    f.covered = MemoryContextAllocExtended(CurrentMemoryContext, r.length + 1, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
    slm_pg_redact_forms(&r, call->wanted.forms);
    for (size_t i = 0; i < r.n; i++)
        memset(f.covered + r.spans[i].begin, 1, r.spans[i].end - r.spans[i].begin);
    find_patterns(&f, &call->wanted);
    if (call->reading != NULL)
        find_names(&f, call);
    if (r.n > 1)
        qsort(r.spans, r.n, sizeof *r.spans, by_place);
    slm_pg_redact_number(&r);
    pfree(f.covered);
    return r;
}

/* ---- the functions: input, categories, mask, model, threshold, on_error */

static Datum finish_text(SlmWork *work, bool *isnull)
{
    const Call *call = slm_pg_work_state(work);
    SlmRedacted r = find_all(call);

    return PointerGetDatum(slm_pg_redact_masked(&r, call->mask));
}

static Datum finish_set(SlmWork *work, bool *isnull)
{
    return PointerGetDatum(slm_pg_work_state(work));
}

/* A model that finds what labels ask for is asked for the names that are wanted. */
static void ask_names(Call *call, SlmText *t)
{
    const char **labels = palloc(sizeof *labels * N_NAMES);
    int n = 0;

    for (int i = 0; i < N_NAMES; i++)
        if ((call->wanted.names >> i & 1) != 0)
            labels[n++] = names[i].category;
    slm_pg_ask_entities(t, labels, n, &call->threshold);
}

/* With what is wanted, of the model that finds names; has_mask: the details have none. */
static void begin(SlmWork *work, FunctionCallInfo fcinfo, bool has_mask)
{
    int model = has_mask ? ARG_MODEL : ARG_MODEL - 1;
    Call *call = palloc0(sizeof *call);
    SlmText t = {0};
    bool isnull = false;

    if (PG_ARGISNULL(ARG_INPUT)) {
        slm_pg_work_decide(work, (Datum) 0, true);
        return;
    }
    slm_pg_refuse_list(fcinfo, ARG_INPUT, "It takes one text; unnest() gives a row for each of a list.");
    call->wanted = wanted_arg(fcinfo);
    call->threshold = slm_pg_entity_threshold(fcinfo, model + 1);
    if (has_mask && !PG_ARGISNULL(ARG_MASK))
        call->mask = slm_pg_utf8_from_text(PG_GETARG_TEXT_PP(ARG_MASK), NULL);
    slm_pg_work_set_state(work, call);
    call->text = slm_pg_input_utf8(PG_GETARG_TEXT_PP(ARG_INPUT), &call->length);
    if (call->wanted.names != 0 &&
        (!PG_ARGISNULL(model) || !PG_ARGISNULL(ARG_CATEGORIES) || slm_pg_default_model(SLM_TASK_ENTITIES) != NULL)) {
        t.entry = slm_pg_work_model(work, slm_pg_text_arg(fcinfo, model));
        t.text = call->text;
        t.length = call->length;
        ask_names(call, &t);
        if (!slm_pg_blank_arg(fcinfo, ARG_INPUT)) {
            slm_pg_measure(&t);
            slm_pg_note_windows(work, &t);
            call->reading = slm_pg_read_entities(work, &t);
            return;
        }
    }
    slm_pg_work_decide(work, has_mask ? finish_text(work, &isnull) : finish_set(work, &isnull), false);
}

static void begin_text(SlmWork *work, FunctionCallInfo fcinfo)
{
    begin(work, fcinfo, true);
}

const SlmWorkKind slm_pg_redact_all_kind = {.symbol = "slm_pg_redact_all", .task = SLM_TASK_ENTITIES, .may_need_no_model = true,
                                            .begin = begin_text, .finish = finish_text};

Datum slm_pg_redact_all(PG_FUNCTION_ARGS)
{
    return slm_pg_work_call(&slm_pg_redact_all_kind, fcinfo);
}

static void begin_details(SlmWork *work, FunctionCallInfo fcinfo)
{
    begin(work, fcinfo, false);
}

const SlmWorkKind slm_pg_redact_all_details_kind = {.symbol = "slm_pg_redact_all_details", .task = SLM_TASK_ENTITIES,
                                                    .may_need_no_model = true, .answers = SLM_ANSWERS_SET, .begin = begin_details,
                                                    .finish = finish_set};

static void put(SlmWork *work, const void *answer, ReturnSetInfo *result)
{
    SlmRedacted r = find_all(answer);

    slm_pg_redact_put(&r, result);
}

Datum slm_pg_redact_all_details(PG_FUNCTION_ARGS)
{
    return slm_pg_work_set(&slm_pg_redact_all_details_kind, fcinfo, put);
}
