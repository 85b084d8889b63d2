/*
 * prototypes.c: vectors of labels (prototypes.h).
 *
 * The cache holds at most MAX_SETS sets in TopMemoryContext; a set is found by the bytes of everything that made it, the model's image
 * and the role included, so nothing has to be invalidated, and no role learns what another one asked for from what it need not compute.
 */
#include "pg/functions/prototypes.h"

#include "lib/ilist.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/float.h"
#include "utils/memutils.h"

#include "engine/slm.h"
#include "pg/base/row_error.h"
#include "pg/functions/labels.h"
#include "pg/functions/reading.h"
#include "pg/run/opened.h"
#include "pg/run/work.h"

#define MAX_SETS 16

typedef struct PrototypeSet {
    dlist_node node;
    char *key;
    int key_length;
    int n_floats;
    float *vectors;
} PrototypeSet;

static dlist_head sets = DLIST_STATIC_INIT(sets);
static int n_sets;

static void add_to_key(StringInfo key, const char *s)
{
    appendBinaryStringInfo(key, s == NULL ? "\1" : s, s == NULL ? 1 : (int) strlen(s));
    appendStringInfoChar(key, '\0');
}

static PrototypeSet *find_set(const StringInfo key)
{
    dlist_iter it;

    dlist_foreach (it, &sets) {
        PrototypeSet *set = dlist_container(PrototypeSet, node, it.cur);

        if (set->key_length == key->len && memcmp(set->key, key->data, (size_t) key->len) == 0) {
            dlist_move_head(&sets, &set->node);
            return set;
        }
    }
    return NULL;
}

static void drop_last_set(void)
{
    PrototypeSet *set = dlist_container(PrototypeSet, node, dlist_tail_node(&sets));

    dlist_delete(&set->node);
    pfree(set->key);
    pfree(set->vectors);
    pfree(set);
    n_sets--;
}

const float *slm_pg_stored_vector(const SlmOpenModel *entry, const ArrayType *embedding)
{
    int dims = (int) slm_pg_info(entry)->n_embd;

    if (ARR_NDIM(embedding) != 1 || ARR_HASNULL(embedding) || ARR_DIMS(embedding)[0] != dims)
        ereport(ERROR, (slm_pg_input_error(SLM_FAULT_INVALID), errcode(ERRCODE_DATA_EXCEPTION),
                        errmsg("the model takes embeddings of %d numbers, not %d", dims,
                               ARR_NDIM(embedding) == 1 ? ARR_DIMS(embedding)[0] : 0),
                        errhint("Pass what slm_embed gave with the same model, without NULLs, or leave embedding out.")));
    return slm_pg_floats(unconstify(ArrayType *, embedding));
}

double *slm_pg_stored_cosines(const SlmOpenModel *entry, const ArrayType *embedding, const float *prototypes, int n)
{
    int dims = (int) slm_pg_info(entry)->n_embd;
    const float *vector = slm_pg_stored_vector(entry, embedding);
    double *out = palloc(sizeof(double) * (Size) n);

    if (!isfinite(slm_vector_products(vector, vector, (size_t) dims).aa))
        ereport(ERROR, (slm_pg_input_error(SLM_FAULT_INVALID), errcode(ERRCODE_DATA_EXCEPTION),
                        errmsg("the embedding holds a value that is not finite")));
    for (int i = 0; i < n; i++)
        out[i] = slm_vector_cosine(vector, prototypes + (Size) i * (Size) dims, (size_t) dims);
    return out;
}

void slm_pg_refuse_embedding(const char *beside)
{
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("an embedding cannot be given to %s", beside),
                    errhint("It reads the text itself: leave embedding out, or choose an encoder or a trained classifier.")));
}

void slm_pg_forget_prototypes(void)
{
    while (n_sets > 0)
        drop_last_set();
}

static void keep_set(const StringInfo key, const float *vectors, int n_floats)
{
    PrototypeSet *set;

    if (n_sets == MAX_SETS)
        drop_last_set();
    set = MemoryContextAllocZero(TopMemoryContext, sizeof *set);
    set->key_length = key->len;
    set->key = MemoryContextAlloc(TopMemoryContext, (Size) key->len);
    memcpy(set->key, key->data, (size_t) key->len);
    set->n_floats = n_floats;
    set->vectors = MemoryContextAllocHuge(TopMemoryContext, sizeof(float) * (Size) n_floats);
    memcpy(set->vectors, vectors, sizeof(float) * (Size) n_floats);
    dlist_push_head(&sets, &set->node);
    n_sets++;
}

/* Adds the vectors of texts to those of their labels. */
static void add_vectors(SlmOpenModel *entry, const char *const *texts, const int *labels, int n, float *vectors, int dims)
{
    enum { AT_ONCE = 256 };
    SlmVector *read[AT_ONCE];

    for (int begin = 0; begin < n; begin += AT_ONCE) {
        int count = Min(n - begin, AT_ONCE);
        SlmWork *work = slm_pg_work_new(NULL);
        MemoryContext old = MemoryContextSwitchTo(slm_pg_work_context(work));

        for (int i = 0; i < count; i++) {
            SlmText t = {.entry = entry, .prompt = slm_pg_text_prompt(entry, false), .text = texts[begin + i],
                         .length = strlen(texts[begin + i])};

            slm_pg_measure(&t);
            read[i] = slm_pg_read_vector(work, &t);
        }
        MemoryContextSwitchTo(old);
        slm_pg_work_wait(work);
        for (int i = 0; i < count; i++) {
            float *to = vectors + (Size) (labels == NULL ? begin + i : labels[begin + i]) * (Size) dims;

            for (int d = 0; d < dims; d++)
                to[d] += read[i]->x[d];
        }
        slm_pg_work_free(work);
    }
}

float *slm_pg_prototypes(SlmOpenModel *entry, const SlmLabels *labels, const SlmExamples *examples)
{
    int dims = (int) slm_pg_info(entry)->n_embd;
    const char **texts = palloc(sizeof(char *) * (Size) labels->n);
    float *vectors = MemoryContextAllocExtended(CurrentMemoryContext, sizeof(float) * (Size) labels->n * (Size) dims,
                                                MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
    PrototypeSet *set;
    StringInfoData key;
    Oid user = GetUserId();

    initStringInfo(&key);
    appendBinaryStringInfo(&key, (char *) &user, sizeof user);
    add_to_key(&key, slm_pg_opened_key(entry));
    for (int i = 0; i < labels->n; i++) {
        texts[i] = slm_pg_described_label(labels, i, "%s: %s");
        add_to_key(&key, texts[i]);
    }
    for (int i = 0; i < examples->n; i++) {
        add_to_key(&key, labels->names[examples->labels[i]]);
        add_to_key(&key, examples->texts[i]);
    }
    set = find_set(&key);
    if (set == NULL) {
        add_vectors(entry, texts, NULL, labels->n, vectors, dims);
        add_vectors(entry, examples->texts, examples->labels, examples->n, vectors, dims);
        for (int i = 0; i < labels->n; i++)
            slm_vector_normalize(vectors + (Size) i * (Size) dims, (size_t) dims);
        keep_set(&key, vectors, labels->n * dims);
    } else {
        memcpy(vectors, set->vectors, sizeof(float) * (Size) set->n_floats);
    }
    return vectors;
}
