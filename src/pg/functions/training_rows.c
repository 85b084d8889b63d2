/*
 * training_rows.c: the rows of a query that somebody learns from, with their embeddings.
 *
 *   query ──cursor──► (text | embedding [, label] [, key]) ──embed──► matrix, labels by number
 *                     (text | embedding [, text] [, key])
 *
 * The query is opened read-only, so one that writes is refused by the server.  Texts are embedded as they are read, some hundred ahead.
 * All rows are held in memory: 4 bytes x dimensions x rows, and the texts where the caller wants them.
 */
#include "pg/functions/train.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "parser/parse_coerce.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "engine/slm.h"
#include "pg/base/encoding.h"
#include "pg/base/user_query.h"
#include "pg/base/row_count.h"
#include "pg/functions/labels.h"
#include "pg/functions/prototypes.h"
#include "pg/functions/kinds.h"
#include "pg/functions/reading.h"
#include "pg/models/loading.h"
#include "pg/run/opened.h"
#include "pg/run/work.h"

#define FETCH_ROWS 512

typedef struct LabelId {
    uint32 hash; /* of the name: dynahash key */
    int id;      /* of the first name that has it; others are looked for one by one */
} LabelId;

/* ---- columns */

static bool is_text(Oid type)
{
    return IsBinaryCoercible(type, TEXTOID) || type == UNKNOWNOID;
}

static void find_columns(SlmTrainRows *set, TupleDesc desc)
{
    int needed = set->by_names ? 1 : 2;
    Oid first;

    if (set->with_text && desc->natts > 1 && TupleDescAttr(desc, 0)->atttypid == FLOAT4ARRAYOID &&
        is_text(TupleDescAttr(desc, 1)->atttypid))
        set->beside_column = ++needed;
    if (desc->natts != needed && !(set->with_key && desc->natts == needed + 1))
        ereport(ERROR,
                (errcode(ERRCODE_DATATYPE_MISMATCH),
                 errmsg("the query of %s must return %s%s, but it returns %d columns", set->what,
                        set->with_text  ? "a text, or its embedding and maybe the text"
                        : set->by_names ? "one column, the text or its embedding"
                                        : "a text or its embedding, and a label",
                        set->with_key ? ", and maybe a key" : "", desc->natts),
                 errhint("For example: SELECT body%s%s FROM tickets%s", set->by_names ? "" : ", label", set->with_key ? ", id" : "",
                         set->by_names ? "" : " WHERE label IS NOT NULL")));
    first = TupleDescAttr(desc, 0)->atttypid;
    if (first == FLOAT4ARRAYOID)
        set->vector_column = 1;
    else if (is_text(first))
        set->text_column = 1;
    else
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH), errmsg("the first column of the query has type %s", format_type_be(first)),
                        errhint("It must be text, or real[] with stored embeddings (cast a vector: embedding::real[]).")));
    set->label_column = set->by_names ? 0 : needed;
    set->key_column = desc->natts > needed ? needed + 1 : 0;
    if (set->need_texts && set->text_column == 0 && set->beside_column == 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("n-grams need the text, but the query returns embeddings"),
                        errhint("Select the text instead of its embedding.")));
}

/* ---- rows */

static void make_room(SlmTrainRows *set)
{
    int64 room = set->room == 0 ? 1024 : set->room * 2;

#define GROW(array, size)                                                                                                                \
    array =                                                                                                                              \
        set->room == 0 ? MemoryContextAllocHuge(CurrentMemoryContext, (Size) room * (size)) : repalloc_huge(array, (Size) room * (size))
    GROW(set->vectors, sizeof(float) * (Size) set->dims);
    GROW(set->hashes, sizeof(SlmRowHash));
    GROW(set->labels, sizeof(int32_t));
    GROW(set->texts, sizeof(char *));
    GROW(set->lengths, sizeof(size_t));
    GROW(set->keys, sizeof(char *));
    GROW(set->places, sizeof(int64));
#undef GROW
    set->room = room;
}

int slm_pg_training_label(SlmTrainRows *set, const char *name)
{
    uint32 hash = string_hash(name, strlen(name) + 1);
    LabelId *found;
    bool known;

    found = hash_search(set->label_ids, &hash, HASH_ENTER, &known);
    if (!known)
        found->id = -1;
    if (found->id >= 0 && strcmp(set->names[found->id], name) == 0)
        return found->id;
    for (int i = 0; found->id >= 0 && i < set->n_labels; i++) /* another name has this hash */
        if (strcmp(set->names[i], name) == 0)
            return i;
    if (set->n_labels == SLM_MAX_LABELS)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("the query gives more than %d labels", SLM_MAX_LABELS)));
    if (set->n_labels == set->label_room) {
        set->label_room = Max(64, 2 * set->label_room);
        set->names = set->names == NULL ? palloc(sizeof(char *) * (Size) set->label_room)
                                        : repalloc(set->names, sizeof(char *) * (Size) set->label_room);
    }
    set->names[set->n_labels] = pstrdup(name);
    if (found->id < 0)
        found->id = set->n_labels;
    return set->n_labels++;
}

static void add_vector(SlmTrainRows *set, Datum datum, int64 row)
{
    ArrayType *array = DatumGetArrayTypeP(datum);

    if (ARR_NDIM(array) != 1 || ARR_HASNULL(array) || ARR_DIMS(array)[0] != set->dims)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("row " INT64_FORMAT " has an embedding of %d numbers, not %d", row + 1,
                               ARR_NDIM(array) == 1 ? ARR_DIMS(array)[0] : 0, set->dims),
                        errhint("All embeddings must come from one model: the default of embeddings, or the one that is named.")));
    memcpy(set->vectors + (Size) set->n * (Size) set->dims, slm_pg_floats(array), sizeof(float) * (Size) set->dims);
}

/* The text of a row whose embedding is given. */
static void add_text_beside(SlmTrainRows *set, const SPITupleTable *rows, uint64 i)
{
    char *beside = set->beside_column == 0 ? NULL : SPI_getvalue(rows->vals[i], rows->tupdesc, set->beside_column);

    set->texts[set->n] = beside == NULL ? NULL : slm_pg_utf8_from_cstring(beside);
    set->lengths[set->n] = beside == NULL ? 0 : strlen(set->texts[set->n]);
}

uint32 slm_pg_row_hash(const void *data, Size bytes)
{
    uint32 hash = (uint32) hash_bytes_extended(data, (int) bytes, 0);

    return hash == 0 ? 1 : hash;
}

static void hash_vector(SlmTrainRows *set, int64 row)
{
    set->hashes[row].vector = slm_pg_row_hash(set->vectors + (Size) row * (Size) set->dims, sizeof(float) * (Size) set->dims);
}

void slm_pg_hash_vectors(SlmTrainRows *set)
{
    for (int64 r = 0; r < set->n; r++)
        hash_vector(set, r);
}

SlmVector *slm_pg_read_training_text(SlmWork *work, SlmOpenModel *entry, const char *content, size_t length, bool *longer)
{
    SlmText t = {.entry = entry, .prompt = slm_pg_text_prompt(entry, false), .text = content, .length = length};
    MemoryContext old = MemoryContextSwitchTo(slm_pg_work_context(work));
    SlmVector *vector;

    slm_pg_measure(&t);
    *longer = slm_pg_in_windows(&t);
    vector = slm_pg_read_vector(work, &t);
    MemoryContextSwitchTo(old);
    return vector;
}

/* Adds the rows that the cursor has fetched; their texts are embedded together. */
static void add_rows(SlmTrainRows *set, SPITupleTable *rows, uint64 n_rows, MemoryContext keep)
{
    SlmVector **read = palloc0(sizeof(SlmVector *) * n_rows);
    SlmWork *work = slm_pg_work_new(set->kind);
    int64 first = set->n;
    MemoryContext fetch = MemoryContextSwitchTo(keep);

    for (uint64 i = 0; i < n_rows; i++) {
        bool input_null, label_null = false;
        Datum input = SPI_getbinval(rows->vals[i], rows->tupdesc, 1, &input_null);
        char *label = set->label_column == 0 ? NULL : SPI_getvalue(rows->vals[i], rows->tupdesc, set->label_column);

        if (set->label_column != 0)
            label_null = label == NULL || label[0] == '\0';
        set->place++;
        if (input_null || label_null) {
            set->skipped++;
            continue;
        }
        if (set->n == set->room)
            make_room(set);
        if (set->label_column != 0)
            set->labels[set->n] = slm_pg_training_label(set, slm_pg_utf8_from_cstring(label));
        set->places[set->n] = set->place;
        set->keys[set->n] = set->key_column == 0 ? NULL : SPI_getvalue(rows->vals[i], rows->tupdesc, set->key_column);
        set->hashes[set->n].text = 0;
        if (set->vector_column != 0) {
            add_vector(set, input, set->n);
            add_text_beside(set, rows, i);
        } else {
            SlmRowNote note = {0};
            size_t length;
            const char *content = slm_pg_utf8_from_text((text *) PG_DETOAST_DATUM_COPY(input), &length);

            set->texts[set->n] = content;
            set->lengths[set->n] = length;
            set->hashes[set->n].text = slm_pg_row_hash(content, length);
            read[set->n - first] = slm_pg_read_training_text(work, set->entry, content, length, &note.longer);
            slm_pg_count_row(&note);
        }
        set->n++;
    }
    MemoryContextSwitchTo(fetch);
    slm_pg_work_wait(work);
    for (int64 i = first; i < set->n; i++) {
        Size bytes = sizeof(float) * (Size) set->dims;
        float *vector = set->vectors + (Size) i * (Size) set->dims;

        if (set->text_column != 0) {
            memcpy(vector, read[i - first]->x, bytes);
            if (!set->keep_texts)
                pfree((char *) set->texts[i]);
        }
        hash_vector(set, i);
    }
    slm_pg_work_free(work);
}

void slm_pg_init_training_rows(SlmTrainRows *set, const char *what, SlmOpenModel *entry)
{
    HASHCTL control = {.keysize = sizeof(uint32), .entrysize = sizeof(LabelId), .hcxt = CurrentMemoryContext};

    memset(set, 0, sizeof *set);
    set->what = what;
    set->kind = &slm_pg_train_classifier_kind;
    set->entry = entry;
    set->dims = (int) slm_pg_info(entry)->n_embd;
    set->label_ids = hash_create("slm training labels", 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

char *slm_pg_teacher_query(const char *query, const char *teacher, const char *as, int rows)
{
    return psprintf("SELECT s.input, (%s\n)%s\n"
                    "FROM (SELECT d.input FROM (SELECT DISTINCT q.input::pg_catalog.text AS input FROM (%s\n) q (input)) d\n"
                    "      WHERE d.input IS NOT NULL ORDER BY pg_catalog.hashtextextended(d.input, 0), d.input LIMIT %d) s",
                    teacher, as, query, rows);
}

void slm_pg_read_training_rows(SlmTrainRows *set, const char *query)
{
    MemoryContext keep = CurrentMemoryContext;
    Portal portal;

    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    portal = slm_pg_open_query(query, set->what,
                                 set->by_names ? "SELECT body FROM tickets" : "SELECT body, label FROM tickets WHERE label IS NOT NULL");
    find_columns(set, portal->tupDesc);
    for (;;) {
        MemoryContext chunk = AllocSetContextCreate(CurrentMemoryContext, "slm training rows", ALLOCSET_DEFAULT_SIZES);
        MemoryContext old = MemoryContextSwitchTo(chunk);

        slm_pg_fetch_query(portal, FETCH_ROWS);
        if (SPI_processed > 0)
            add_rows(set, SPI_tuptable, SPI_processed, keep);
        MemoryContextSwitchTo(old);
        MemoryContextDelete(chunk);
        slm_pg_loading_report(NULL, (uint64_t) set->n, 0);
        if (SPI_processed == 0)
            break;
        SPI_freetuptable(SPI_tuptable);
        CHECK_FOR_INTERRUPTS();
    }
    SPI_cursor_close(portal);
    SPI_finish();
    MemoryContextSwitchTo(keep);
}

void slm_pg_training_row_values(const SlmTrainRows *set, int64 row, Datum values[3], bool nulls[3])
{
    const char *key = set->keys[row], *text = set->texts[row];

    values[0] = Int64GetDatum(set->places[row]);
    nulls[0] = false;
    nulls[1] = key == NULL;
    if (!nulls[1])
        values[1] = CStringGetTextDatum(key);
    nulls[2] = text == NULL;
    if (!nulls[2])
        values[2] = PointerGetDatum(slm_pg_text_from_utf8(text, set->lengths[row]));
}
