/*
 * priors.c: numbers that do not depend on a row (priors.h).
 *
 * At most MAX_KEPT sets in TopMemoryContext, in a hash table by the hash of their key and in a list by their last use.  A key is compared
 * byte by byte, and holds the model's image: nothing has to be invalidated.
 */
#include "pg/functions/priors.h"

#include "common/hashfn.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#define MAX_KEPT 1024
#define BUCKETS 256

typedef struct Kept {
    dlist_node used;   /* last used first */
    dlist_node bucket;
    uint32 hash;
    int key_length, n;
    double *numbers;   /* [n] */
    char *key;         /* [key_length] */
} Kept;

static dlist_head by_use = DLIST_STATIC_INIT(by_use);
static dlist_head buckets[BUCKETS]; /* all zero is an empty list */
static int n_kept;

StringInfo slm_pg_priors_key(SlmOpenModel *entry)
{
    StringInfo key = makeStringInfo();
    Oid user = GetUserId();

    appendBinaryStringInfo(key, (char *) &user, sizeof user);
    slm_pg_priors_key_add(key, slm_pg_opened_key(entry));
    return key;
}

void slm_pg_priors_key_add(StringInfo key, const char *s)
{
    appendBinaryStringInfo(key, s, (int) strlen(s) + 1);
}

static uint32 hash_of(const StringInfoData *key)
{
    return hash_bytes((const unsigned char *) key->data, key->len);
}

const double *slm_pg_find_priors(const StringInfoData *key, int n)
{
    uint32 hash = hash_of(key);
    dlist_iter it;

    dlist_foreach (it, &buckets[hash % BUCKETS]) {
        Kept *kept = dlist_container(Kept, bucket, it.cur);

        if (kept->hash == hash && kept->n == n && kept->key_length == key->len && memcmp(kept->key, key->data, (size_t) key->len) == 0) {
            double *copy = palloc(sizeof(double) * (Size) n);

            dlist_move_head(&by_use, &kept->used);
            memcpy(copy, kept->numbers, sizeof(double) * (Size) n);
            return copy;
        }
    }
    return NULL;
}

static void drop_last(void)
{
    Kept *kept = dlist_container(Kept, used, dlist_tail_node(&by_use));

    dlist_delete(&kept->used);
    dlist_delete(&kept->bucket);
    pfree(kept);
    n_kept--;
}

void slm_pg_keep_priors(const StringInfoData *key, const double *numbers, int n)
{
    Size of_numbers = sizeof(double) * (Size) n;
    Kept *kept = MemoryContextAlloc(TopMemoryContext, MAXALIGN(sizeof *kept) + of_numbers + (Size) key->len);

    if (n_kept == MAX_KEPT)
        drop_last();
    kept->hash = hash_of(key);
    kept->n = n;
    kept->key_length = key->len;
    kept->numbers = (double *) (void *) ((char *) kept + MAXALIGN(sizeof *kept));
    kept->key = (char *) kept->numbers + of_numbers;
    memcpy(kept->numbers, numbers, of_numbers);
    memcpy(kept->key, key->data, (size_t) key->len);
    dlist_push_head(&by_use, &kept->used);
    dlist_push_head(&buckets[kept->hash % BUCKETS], &kept->bucket);
    n_kept++;
}
