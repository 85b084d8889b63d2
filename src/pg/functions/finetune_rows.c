/*
 * finetune_rows.c: the rows of a fine-tuning's query, and the examples that they become.
 *
 *   (prompt, completion)      what slm_generate(prompt, system => ...) is to answer
 *   (messages jsonb)          what slm_chat answers: the last message, the assistant's
 *   (input, label)            what slm_classify(input, labels, method => 'direct') chooses; the second column is named label
 *   (input, fields jsonb)     what slm_generate_json(input, schema) writes
 *
 * The prompt is made of the same segments, by the same functions, as those calls make theirs, so that what is learned is what will be
 * asked.  Equal rows count once.  All rows are held in memory, as text and as tokens.
 *
 * What is held out is told by the prompt's hash: equal prompts are on one side, and the same rows in any order are cut alike.  Or it is
 * what the option "validation_query" gives, without the rows that are learned from.
 */
#include "pg/functions/finetune.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/memutils.h"

#include "pg/base/args.h"
#include "pg/base/encoding.h"
#include "pg/base/errors.h"
#include "pg/base/user_query.h"
#include "pg/functions/classification.h"
#include "pg/functions/generate.h"
#include "pg/models/digest.h"
#include "pg/models/loading.h"

#define FETCH_ROWS 512
#define LEAST_TO_HOLD_OUT 10 /* rows, below which none is held out */

/* ---- reading */

static void find_kind(SlmTuneSet *set, TupleDesc desc)
{
    Oid first = desc->natts > 0 ? TupleDescAttr(desc, 0)->atttypid : InvalidOid;
    bool is_text = IsBinaryCoercible(first, TEXTOID) || first == UNKNOWNOID;

    if (!slm_pg_info(set->base)->can_generate) {
        set->kind = slm_pg_finetune_text_kind(desc);
        return;
    }
    if (desc->natts == 1 && first == JSONBOID) {
        set->kind = SLM_TUNE_MESSAGES;
        return;
    }
    if (desc->natts != 2 || !is_text)
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                        errmsg("the query of a fine-tuning must return two columns, a text and its answer, or one of chat messages"),
                        errdetail("It returns %d columns%s.", desc->natts,
                                  desc->natts > 0 ? psprintf(", the first of type %s", format_type_be(first)) : ""),
                        errhint("For example: SELECT question, answer FROM faq; SELECT body, topic AS label FROM tickets; SELECT body, "
                                "jsonb_build_object('amount', amount) FROM mails; SELECT messages FROM chats (jsonb).")));
    if (TupleDescAttr(desc, 1)->atttypid == JSONBOID)
        set->kind = SLM_TUNE_FIELDS;
    else if (strcmp(NameStr(TupleDescAttr(desc, 1)->attname), "label") == 0)
        set->kind = SLM_TUNE_LABELS;
    else
        set->kind = SLM_TUNE_PAIRS;
}

static void make_room(SlmTuneSet *set)
{
    int64 room = set->room == 0 ? 1024 : 2 * set->room;
    Size bytes = sizeof(char *) * (Size) room;

    set->prompts = set->room == 0 ? MemoryContextAllocHuge(CurrentMemoryContext, bytes) : repalloc_huge(set->prompts, bytes);
    set->answers = set->room == 0 ? MemoryContextAllocHuge(CurrentMemoryContext, bytes) : repalloc_huge(set->answers, bytes);
    set->thirds = set->room == 0 ? MemoryContextAllocHuge(CurrentMemoryContext, bytes) : repalloc_huge(set->thirds, bytes);
    set->room = room;
}

/* The JSON text of a jsonb without the spaces behind : and , outside of strings: as slm_generate_json writes it. */
static char *compact(const char *json)
{
    char *out = palloc(strlen(json) + 1), *to = out;
    bool inside = false;

    for (const char *p = json; *p != '\0'; p++) {
        if (inside && *p == '\\' && p[1] != '\0') {
            *to++ = *p++;
        } else if (*p == '"') {
            inside = !inside;
        } else if (!inside && *p == ' ') {
            continue;
        }
        *to++ = *p;
    }
    *to = '\0';
    return out;
}

static char *blank(char *s)
{
    return s != NULL && s[strspn(s, " \t\r\n")] == '\0' ? NULL : s;
}

static void add_row(SlmTuneSet *set, HeapTuple tuple, TupleDesc desc)
{
    char *first = blank(SPI_getvalue(tuple, desc, 1)),
         *second = set->kind == SLM_TUNE_MESSAGES ? NULL : blank(SPI_getvalue(tuple, desc, 2)),
         *third = desc->natts < 3 ? NULL : blank(SPI_getvalue(tuple, desc, 3));

    if (first == NULL || (second == NULL && set->kind != SLM_TUNE_MESSAGES) || (third == NULL && set->kind == SLM_TUNE_SCORED)) {
        set->skipped++;
        return;
    }
    if (set->n == set->room)
        make_room(set);
    if (set->kind == SLM_TUNE_FIELDS)
        second = compact(second);
    set->prompts[set->n] = pstrdup(slm_pg_utf8_from_cstring(first));
    set->answers[set->n] = second == NULL ? "" : pstrdup(slm_pg_utf8_from_cstring(second));
    set->thirds[set->n] = third == NULL ? "" : pstrdup(slm_pg_utf8_from_cstring(third));
    set->n++;
}

static Portal open_rows(SlmTuneSet *set, const char *query)
{
    Portal portal = slm_pg_open_query(query, "a fine-tuning", "SELECT question, answer FROM faq");

    find_kind(set, portal->tupDesc);
    return portal;
}

/* The query of what is held out, whose rows are of the same kind. */
static Portal open_validation(SlmTuneSet *set)
{
    SlmTuneKind kind = set->kind;
    Portal portal = open_rows(set, set->options->validation_query);

    if (set->kind != kind)
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH), errmsg("the validation query gives other columns than the query"),
                        errhint("Both must give the same kind of rows, with the same names: a second column named label is of labels.")));
    return portal;
}

void slm_pg_finetune_check_query(SlmTuneSet *set, const char *query)
{
    SPI_cursor_close(open_rows(set, query));
    if (set->options->validation_query != NULL)
        SPI_cursor_close(open_validation(set));
}

/* All rows of a portal, which is closed. */
static void read_all(SlmTuneSet *set, Portal portal, MemoryContext keep)
{
    for (;;) {
        MemoryContext old;

        slm_pg_fetch_query(portal, FETCH_ROWS);
        old = MemoryContextSwitchTo(keep); /* SPI leaves us in a context of its own */
        for (uint64 i = 0; i < SPI_processed; i++)
            add_row(set, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
        MemoryContextSwitchTo(old);
        slm_pg_loading_report(NULL, (uint64_t) set->n, 0);
        if (SPI_processed == 0)
            break;
        SPI_freetuptable(SPI_tuptable);
        CHECK_FOR_INTERRUPTS();
    }
    SPI_cursor_close(portal);
}

void slm_pg_finetune_read(SlmTuneSet *set, const char *query, MemoryContext keep)
{
    read_all(set, open_rows(set, query), keep);
    set->n_own = set->n;
    if (set->options->validation_query == NULL)
        return;
    read_all(set, open_validation(set), keep);
    if (set->n == set->n_own)
        ereport(ERROR, (errcode(ERRCODE_NO_DATA_FOUND), errmsg("the validation query gave no row"),
                        errhint("Give it rows with a text and its answer, or hold out a share of the rows: {\"validation\": 0.1}.")));
}

/* ---- equal rows, equal prompts */

typedef struct Seen {
    uint64 prompt; /* key */
    uint64 answer;
} Seen;

static uint64 hash_text(const char *s, uint64 seed)
{
    return hash_bytes_extended((const unsigned char *) s, (int) strlen(s), seed);
}

/* Drops rows that were there before, and counts prompts that have another answer too; the digest of what is left. */
static void drop_equal(SlmTuneSet *set)
{
    HASHCTL control = {.keysize = sizeof(uint64), .entrysize = sizeof(Seen), .hcxt = CurrentMemoryContext};
    HTAB *rows = hash_create("slm fine-tuning rows", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    HTAB *prompts = hash_create("slm fine-tuning prompts", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    uint8 chain[32 + 24] = {0};
    bool more = set->kind == SLM_TUNE_FOUND || set->kind == SLM_TUNE_SCORED; /* a text may well have several */
    int64 n = 0, own = 0;

    for (int64 i = 0; i < set->n; i++) {
        uint64 prompt = hash_text(set->prompts[i], 1), answer = hash_text(set->answers[i], 2),
               both = hash_text(set->thirds[i], hash_text(set->answers[i], prompt)), third = hash_text(set->thirds[i], 4);
        bool known;
        Seen *seen;

        (void) hash_search(rows, &both, HASH_ENTER, &known);
        if (known) {
            set->duplicates++;
            continue;
        }
        seen = hash_search(prompts, &prompt, HASH_ENTER, &known);
        if (!known)
            seen->answer = answer;
        set->contradictions += known && !more;
        memcpy(chain + 32, &prompt, 8);
        memcpy(chain + 40, &answer, 8);
        memcpy(chain + 48, &third, 8);
        slm_pg_sha256(chain, set->thirds[i][0] == '\0' ? 48 : sizeof chain, chain);
        own += i < set->n_own;
        set->prompts[n] = set->prompts[i];
        set->thirds[n] = set->thirds[i];
        set->answers[n++] = set->answers[i];
    }
    set->n = n;
    set->n_own = own;
    slm_pg_digest_hex(chain, set->digest);
    hash_destroy(rows);
    hash_destroy(prompts);
}

/* ---- labels and schema */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

static bool known_label(const SlmTuneSet *set, const char *name)
{
    for (int i = 0; i < set->n_labels; i++)
        if (strcmp(set->labels[i], name) == 0)
            return true;
    return false;
}

void slm_pg_finetune_labels(SlmTuneSet *set)
{
    const char **sorted;

    if (set->options->labels != NULL) {
        set->labels = set->options->labels;
        set->n_labels = set->options->n_labels;
        for (int64 i = 0; i < set->n; i++)
            if (!known_label(set, set->answers[i]))
                ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                                errmsg("a row has the label \"%s\", which is none of the option \"labels\"",
                                       slm_pg_cstring_from_utf8(set->answers[i])),
                                errhint("Add it to the option, or leave such rows out.")));
    } else {
        sorted = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(char *) * (Size) set->n);
        memcpy(sorted, set->answers, sizeof(char *) * (Size) set->n);
        qsort(sorted, (size_t) set->n, sizeof(char *), by_name);
        for (int64 i = 0; i < set->n; i++)
            if (i == 0 || strcmp(sorted[i], sorted[i - 1]) != 0)
                sorted[set->n_labels++] = sorted[i];
        set->labels = sorted;
    }
    if (set->n_labels < 2)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("all rows have the label \"%s\"", slm_pg_cstring_from_utf8(set->labels[0])),
                        errhint("A fine-tuning on labels needs at least two of them.")));
    if (set->n_labels > 10000)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("the query gives more than 10000 labels"),
                        errhint("Name the column otherwise than label where it holds answers.")));
}

/* A property of the schema that is made of rows: its name and the kinds of its values, as bits. */
typedef struct Property {
    char *name;
    int kinds;
} Property;

static const char *const kind_names[] = {"string", "number", "boolean", "null", "array", "object"};

static int kind_of(const JsonbValue *value)
{
    if (value->type == jbvBinary)
        return JsonContainerIsArray(value->val.binary.data) ? 1 << 4 : 1 << 5;
    return value->type == jbvString ? 1 : value->type == jbvNumeric ? 2 : value->type == jbvBool ? 4 : 8;
}

static void note_properties(List **properties, Jsonb *fields)
{
    JsonbIterator *it;
    JsonbIteratorToken token;
    JsonbValue value;
    Property *last = NULL;

    if (!JB_ROOT_IS_OBJECT(fields))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the fields of a row are no JSON object"),
                        errhint("For example: SELECT body, jsonb_build_object('amount', amount, 'date', day) FROM mails")));
    it = JsonbIteratorInit(&fields->root);
    while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE) {
        ListCell *cell;

        if (token == WJB_VALUE)
            last->kinds |= kind_of(&value);
        if (token != WJB_KEY)
            continue;
        last = NULL;
        foreach (cell, *properties)
            if (strlen(((Property *) lfirst(cell))->name) == (size_t) value.val.string.len &&
                memcmp(((Property *) lfirst(cell))->name, value.val.string.val, (size_t) value.val.string.len) == 0)
                last = lfirst(cell);
        if (last != NULL)
            continue;
        if (list_length(*properties) == 200)
            ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("the rows have more than 200 different fields"),
                            errhint("Give the rows the same few fields, or the option \"schema\".")));
        last = palloc0(sizeof *last);
        last->name = pnstrdup(value.val.string.val, value.val.string.len);
        *properties = lappend(*properties, last);
    }
}

/* A schema that all rows fit: each field with the kinds of values that it has. */
static char *make_schema(const SlmTuneSet *set)
{
    StringInfoData properties, required;
    List *list = NIL;
    ListCell *cell;

    for (int64 i = 0; i < set->n; i++) {
        CHECK_FOR_INTERRUPTS();
        note_properties(&list, DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(slm_pg_cstring_from_utf8(set->answers[i])))));
    }
    initStringInfo(&properties);
    initStringInfo(&required);
    foreach (cell, list) {
        const Property *p = lfirst(cell);
        const char *comma = "";

        appendStringInfoString(&properties, foreach_current_index(cell) > 0 ? ", " : "");
        appendStringInfoString(&required, foreach_current_index(cell) > 0 ? ", " : "");
        escape_json(&properties, p->name);
        escape_json(&required, p->name);
        appendStringInfoString(&properties, ": {\"type\": [");
        for (int k = 0; k < (int) lengthof(kind_names); k++)
            if (p->kinds >> k & 1) {
                appendStringInfo(&properties, "%s\"%s\"", comma, kind_names[k]);
                comma = ", ";
            }
        appendStringInfoString(&properties, "]}");
    }
    return psprintf("{\"type\": \"object\", \"required\": [%s], \"properties\": {%s}, \"additionalProperties\": false}", required.data,
                    properties.data);
}

/* As slm_generate_json will see it: through jsonb, whose order of keys is its own. */
static void find_schema(SlmTuneSet *set)
{
    const char *json = set->options->schema != NULL ? set->options->schema : make_schema(set);
    Jsonb *schema = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json)));

    set->schema = pstrdup(slm_pg_utf8_from_cstring(JsonbToCString(NULL, &schema->root, (int) VARSIZE(schema))));
}

/* ---- examples */

/* The prompt of a row as segments; *answer where the row has it elsewhere. */
static size_t segments_of(const SlmTuneSet *set, int64 i, slm_segment **segments, const char **answer)
{
    const SlmTuneOptions *o = set->options;
    const char *system = o->system;
    size_t n = 0;

    *answer = set->answers[i];
    if (set->kind == SLM_TUNE_MESSAGES) {
        *segments =
            slm_pg_parse_messages(DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(slm_pg_cstring_from_utf8(set->prompts[i])))),
                                  &n);
        if (n < 2 || (*segments)[n - 1].role != SLM_ROLE_ASSISTANT)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                            errmsg("the last message of row " INT64_FORMAT " is not the assistant's", i + 1),
                            errhint("What is to be learned is the last message, of the role assistant.")));
        *answer = (*segments)[n - 1].text;
        return n - 1;
    }
    *segments = palloc(2 * sizeof **segments);
    if (set->kind == SLM_TUNE_LABELS) {
        (*segments)[n++] =
            slm_pg_segment_utf8(SLM_ROLE_USER, SLM_SEG_PREFIX, slm_pg_direct_prompt(set->base, o->instruction, set->labels, set->n_labels));
        (*segments)[n++] = slm_pg_segment_utf8(SLM_ROLE_USER, SLM_SEG_JOIN, set->prompts[i]);
        return n;
    }
    if (set->kind == SLM_TUNE_FIELDS && o->show_schema) {
        const char *shown = slm_pg_schema_instruction(set->base, set->schema);

        system = system == NULL ? shown : psprintf("%s\n\n%s", system, shown);
    }
    if (system != NULL)
        (*segments)[n++] = slm_pg_segment_utf8(SLM_ROLE_SYSTEM, SLM_SEG_PREFIX, system);
    (*segments)[n++] = slm_pg_segment_utf8(SLM_ROLE_USER, 0, set->prompts[i]);
    return n;
}

/* The example of a row; false: it is too long and is passed over. */
static bool make_example(SlmTuneSet *set, int64 i, uint32_t most, MemoryContext keep, slm_example *out)
{
    slm_segment *segments;
    const char *answer;
    size_t n = segments_of(set, i, &segments, &answer), n_prompt;
    slm_tokens tokens;
    slm_status status;
    slm_error err;
    int32_t *ids;

    while ((status = slm_example_tokens(slm_pg_opened_model(set->base), true, segments, n, answer, strlen(answer), SLM_STOP, &tokens,
                                        &n_prompt, &err)) == SLM_CANCELLED)
        slm_pg_loading_interrupted();
    if (status != SLM_OK)
        slm_pg_error(&err, psprintf("row " INT64_FORMAT, i + 1));
    if (tokens.n > most) {
        size_t length = tokens.n;

        slm_tokens_free(&tokens);
        if (!set->options->skip_long)
            ereport(ERROR,
                    (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                     errmsg("row " INT64_FORMAT " has %zu tokens, but an example may have %u", i + 1, length, most),
                     errhint("Leave such rows out with {\"too_long\": \"skip\"}, or raise {\"max_tokens\": %zu} where the model's context "
                             "allows it.",
                             length)));
        set->too_long++;
        return false;
    }
    ids = MemoryContextAllocExtended(keep, sizeof(int32_t) * tokens.n, MCXT_ALLOC_NO_OOM | MCXT_ALLOC_HUGE);
    if (ids != NULL)
        memcpy(ids, tokens.ids, sizeof(int32_t) * tokens.n);
    *out = (slm_example){.ids = ids, .n = (uint32_t) tokens.n, .prompt = (uint32_t) n_prompt};
    slm_tokens_free(&tokens);
    if (ids == NULL)
        ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory for the rows of a fine-tuning")));
    set->tokens += out->n;
    return true;
}

static void check_rows(const SlmTuneSet *set)
{
    if (set->n_own == 0)
        ereport(ERROR, (errcode(ERRCODE_NO_DATA_FOUND), errmsg("the query gave no row to learn from"),
                        errdetail(INT64_FORMAT " rows without a text or without an answer were skipped.", set->skipped),
                        errhint("A fine-tuning needs rows with a text and its answer.")));
    if (set->quiet)
        return;
    if (set->skipped > 0)
        ereport(WARNING, (errmsg_plural("%ld row without a text or without an answer was skipped",
                                        "%ld rows without a text or without an answer were skipped", (unsigned long) set->skipped,
                                        (long) set->skipped)));
    if (set->duplicates > 0)
        ereport(NOTICE, (errmsg_plural("%ld row that was there before counts once", "%ld rows that were there before count once",
                                       (unsigned long) set->duplicates, (long) set->duplicates)));
    if (set->contradictions > 0)
        ereport(WARNING, (errmsg_plural("%ld row has a text that another row answers otherwise",
                                        "%ld rows have a text that another row answers otherwise", (unsigned long) set->contradictions,
                                        (long) set->contradictions),
                          errhint("Nothing can be right for both: look whether the rows are what you want to be learned.")));
}

bool slm_pg_finetune_holds_out(const SlmTuneSet *set, int64 i)
{
    uint64 hash = hash_text(set->prompts[i], 3 + set->options->engine.seed);

    if (set->options->validation_query != NULL)
        return i >= set->n_own;
    return set->n_read >= LEAST_TO_HOLD_OUT && (double) (hash >> 11) * 0x1p-53 < set->options->validation;
}

void slm_pg_finetune_examples(SlmTuneSet *set)
{
    const SlmTuneOptions *o = set->options;
    uint32_t context = slm_pg_info(set->base)->n_context, most = o->max_tokens > 0 && o->max_tokens < context ? o->max_tokens : context;
    MemoryContext keep = CurrentMemoryContext, row = AllocSetContextCreate(keep, "slm fine-tuning row", ALLOCSET_DEFAULT_SIZES);

    set->n_read = set->n;
    drop_equal(set);
    check_rows(set);
    if (slm_pg_finetune_is_text_kind(set->kind)) {
        slm_pg_finetune_text_examples(set);
        return;
    }
    if (set->kind == SLM_TUNE_LABELS)
        slm_pg_finetune_labels(set);
    if (set->kind == SLM_TUNE_FIELDS)
        find_schema(set);
    set->examples = MemoryContextAllocHuge(keep, sizeof(slm_example) * (Size) set->n);
    set->held_out = MemoryContextAllocHuge(keep, sizeof(slm_example) * (Size) set->n);
    for (int64 i = 0; i < set->n; i++) {
        bool out = slm_pg_finetune_holds_out(set, i);
        slm_example example;
        bool made;

        MemoryContextSwitchTo(row);
        made = make_example(set, i, most, keep, &example);
        MemoryContextSwitchTo(keep);
        MemoryContextReset(row);
        if (made && out)
            set->held_out[set->n_held_out++] = example;
        else if (made)
            set->examples[set->n_examples++] = example;
        CHECK_FOR_INTERRUPTS();
    }
    MemoryContextDelete(row);
    if (set->n_examples == 0)
        ereport(ERROR, (errcode(ERRCODE_NO_DATA_FOUND), errmsg("no row is left to learn from"),
                        errdetail(INT64_FORMAT " rows were too long, %zu are held out.", set->too_long, set->n_held_out),
                        errhint("Give it more rows, shorter ones, or a smaller {\"validation\": 0.1}.")));
    if (set->too_long > 0)
        ereport(WARNING, (errmsg_plural("%ld row of more than %u tokens was left out", "%ld rows of more than %u tokens were left out",
                                        (unsigned long) set->too_long, (long) set->too_long, most)));
}
