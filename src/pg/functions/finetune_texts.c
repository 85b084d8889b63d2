/*
 * finetune_texts.c: the rows of an embedding model's fine-tuning, and the examples that they become.
 *
 *   (text, label)                  texts of a label come near each other; the second column is named label
 *   (query, document)              a query comes near its document, and away from the others of its step
 *   (query, document, document)    the third is none for the query
 *   (text, text, number)           their cosine becomes the number
 *
 * Texts are read as slm_embed reads them, with the prompts that the model has for documents and queries, up to max_tokens: what is longer
 * is cut, which one NOTICE counts.
 */
#include "pg/functions/finetune.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/memutils.h"

#include "pg/base/encoding.h"
#include "pg/base/errors.h"
#include "pg/models/loading.h"
#include "pg/run/backend.h"

#define DEFAULT_TOKENS 256 /* of a text; more are rarely what tells texts apart */

bool slm_pg_finetune_is_text_kind(SlmTuneKind kind)
{
    return kind >= SLM_TUNE_NEAR;
}

slm_contrast slm_pg_finetune_contrast(SlmTuneKind kind)
{
    return kind == SLM_TUNE_NEAR ? SLM_CONTRAST_LABELS : kind == SLM_TUNE_FOUND ? SLM_CONTRAST_PAIRS : SLM_CONTRAST_SCORES;
}

static bool is_text(TupleDesc desc, int i)
{
    Oid type = TupleDescAttr(desc, i)->atttypid;

    return IsBinaryCoercible(type, TEXTOID) || type == UNKNOWNOID;
}

static bool is_number(TupleDesc desc, int i)
{
    static const Oid types[] = {INT2OID, INT4OID, INT8OID, FLOAT4OID, FLOAT8OID, NUMERICOID};

    for (int k = 0; k < (int) lengthof(types); k++)
        if (TupleDescAttr(desc, i)->atttypid == types[k])
            return true;
    return false;
}

SlmTuneKind slm_pg_finetune_text_kind(TupleDesc desc)
{
    if (desc->natts == 2 && is_text(desc, 0) && is_text(desc, 1))
        return strcmp(NameStr(TupleDescAttr(desc, 1)->attname), "label") == 0 ? SLM_TUNE_NEAR : SLM_TUNE_FOUND;
    if (desc->natts == 3 && is_text(desc, 0) && is_text(desc, 1) && (is_text(desc, 2) || is_number(desc, 2)))
        return is_text(desc, 2) ? SLM_TUNE_FOUND : SLM_TUNE_SCORED;
    ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                    errmsg("the query for an embedding model must return a text and its label, a query and its document, or two texts "
                           "and a number"),
                    errdetail("It returns %d columns.", desc->natts),
                    errhint("For example: SELECT body, topic AS label FROM tickets; SELECT question, article FROM clicks; "
                            "SELECT one, other, similarity FROM pairs.")));
    pg_unreachable();
}

typedef struct Cut {
    uint32_t most;
    int64 texts;
} Cut;

/* The tokens of one text, in `keep`. */
static void take_text(SlmTuneSet *set, const char *prompt, const char *text, Cut *cut, MemoryContext keep, slm_text_example *e, int side)
{
    char *whole = prompt == NULL || prompt[0] == '\0' ? pstrdup(text) : psprintf("%s%s", prompt, text);
    slm_tokens tokens;
    slm_status status;
    slm_error err;
    bool shorter;
    int32_t *ids;

    while ((status = slm_text_tokens(slm_pg_opened_model(set->base), whole, strlen(whole), cut->most, SLM_STOP, &tokens, &shorter, &err)) ==
           SLM_CANCELLED)
        slm_pg_loading_interrupted();
    if (status != SLM_OK)
        slm_pg_error(&err, NULL);
    ids = MemoryContextAllocExtended(keep, sizeof(int32_t) * tokens.n, MCXT_ALLOC_NO_OOM | MCXT_ALLOC_HUGE);
    if (ids != NULL)
        memcpy(ids, tokens.ids, sizeof(int32_t) * tokens.n);
    e->ids[side] = ids;
    e->n[side] = (uint32_t) tokens.n;
    slm_tokens_free(&tokens);
    if (ids == NULL)
        ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory for the rows of a fine-tuning")));
    cut->texts += shorter;
    set->tokens += e->n[side];
}

static int32_t number_of_label(const SlmTuneSet *set, const char *name)
{
    for (int i = 0; i < set->n_labels; i++)
        if (strcmp(set->labels[i], name) == 0)
            return i;
    return 0; /* every row has one of them */
}

static float score_of(const char *number, int64 row)
{
    double score = DatumGetFloat8(DirectFunctionCall1(float8in, CStringGetDatum(number)));

    if (!(score >= -1 && score <= 1))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("row " INT64_FORMAT " has the score %s, out of range", row + 1, number),
                        errhint("The third column is the cosine that both texts are to have, from -1 to 1. For stars from 0 to 5: "
                                "SELECT one, other, stars / 5.0 FROM pairs")));
    return (float) score;
}

static void make_example(SlmTuneSet *set, int64 i, Cut *cut, MemoryContext keep, slm_text_example *e)
{
    const slm_model_info *info = slm_pg_info(set->base);
    bool asks = set->kind == SLM_TUNE_FOUND;

    memset(e, 0, sizeof *e);
    take_text(set, asks ? info->query_prompt : info->document_prompt, set->prompts[i], cut, keep, e, 0);
    if (set->kind == SLM_TUNE_NEAR)
        e->label = number_of_label(set, set->answers[i]);
    else
        take_text(set, info->document_prompt, set->answers[i], cut, keep, e, 1);
    if (set->kind == SLM_TUNE_FOUND && set->thirds[i][0] != '\0')
        take_text(set, info->document_prompt, set->thirds[i], cut, keep, e, 2);
    if (set->kind == SLM_TUNE_SCORED)
        e->score = score_of(set->thirds[i], i);
}

/* Which rows are held out: none of a label that no other row has. */
static bool *held_out_rows(const SlmTuneSet *set)
{
    bool *out = MemoryContextAllocHuge(CurrentMemoryContext, (Size) set->n);
    int64 *left = palloc0(sizeof(int64) * (Size) (set->n_labels + 1));

    for (int64 i = 0; i < set->n; i++)
        out[i] = slm_pg_finetune_holds_out(set, i);
    for (int64 i = 0; set->kind == SLM_TUNE_NEAR && i < set->n; i++)
        left[number_of_label(set, set->answers[i])] += !out[i];
    for (int64 i = 0; set->kind == SLM_TUNE_NEAR && i < set->n; i++) {
        int64 *of = &left[number_of_label(set, set->answers[i])];

        if (*of == 0 && set->options->validation_query != NULL)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                            errmsg("the validation query gives the label \"%s\", which no row to learn from has",
                                   slm_pg_cstring_from_utf8(set->answers[i])),
                            errhint("Add rows of the label to the query, or leave them out of the validation query.")));
        if (*of == 0) {
            out[i] = false;
            (*of)++;
        }
    }
    return out;
}

uint32_t slm_pg_finetune_most(const SlmTuneSet *set)
{
    uint32_t context = slm_pg_info(set->base)->n_context, wanted = set->options->max_tokens > 0 ? set->options->max_tokens : DEFAULT_TOKENS;

    return Min(wanted, context);
}

slm_text_example *slm_pg_finetune_documents(SlmTuneSet *set, const char *const *texts, int64 n)
{
    Cut cut = {.most = slm_pg_finetune_most(set)};
    slm_text_example *list =
        MemoryContextAllocExtended(CurrentMemoryContext, sizeof *list * (Size) Max(n, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);

    for (int64 i = 0; i < n; i++) {
        take_text(set, slm_pg_text_prompt(set->base, false), texts[i], &cut, CurrentMemoryContext, &list[i], 0);
        CHECK_FOR_INTERRUPTS();
    }
    return list;
}

void slm_pg_finetune_text_examples(SlmTuneSet *set)
{
    Cut cut = {.most = slm_pg_finetune_most(set)};
    MemoryContext keep = CurrentMemoryContext, row = AllocSetContextCreate(keep, "slm fine-tuning row", ALLOCSET_DEFAULT_SIZES);
    bool *out;

    if (set->kind == SLM_TUNE_NEAR)
        slm_pg_finetune_labels(set);
    out = held_out_rows(set);
    set->texts = MemoryContextAllocHuge(keep, sizeof(slm_text_example) * (Size) set->n);
    set->held_out_texts = MemoryContextAllocHuge(keep, sizeof(slm_text_example) * (Size) set->n);
    for (int64 i = 0; i < set->n; i++) {
        slm_text_example example;

        MemoryContextSwitchTo(row);
        make_example(set, i, &cut, keep, &example);
        MemoryContextSwitchTo(keep);
        MemoryContextReset(row);
        if (out[i])
            set->held_out_texts[set->n_held_out++] = example;
        else
            set->texts[set->n_examples++] = example;
        CHECK_FOR_INTERRUPTS();
    }
    MemoryContextDelete(row);
    if (set->n_examples < 2)
        ereport(ERROR, (errcode(ERRCODE_NO_DATA_FOUND), errmsg("too few rows are left to learn from"),
                        errdetail("%zu rows are held out.", set->n_held_out),
                        errhint("Give it more rows, or a smaller {\"validation\": 0.1}.")));
    if (cut.texts > 0 && !set->quiet)
        ereport(NOTICE, (errmsg_plural("%ld text was cut after %u tokens", "%ld texts were cut after %u tokens", (unsigned long) cut.texts,
                                       (long) cut.texts, cut.most),
                         errhint("Raise {\"max_tokens\": %u} to learn from more of them.",
                                 Min(2 * cut.most, slm_pg_info(set->base)->n_context))));
}
