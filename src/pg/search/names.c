/*
 * names.c: what tells the texts of a cluster from the others (names.h).
 *
 * Of every word and every two words that follow each other it is counted in how many texts of each cluster they stand.  With p the share of
 * the cluster's texts and q that of all others, p * log(p / q) says how much they tell: what stands everywhere tells nothing, in whatever
 * language, so that no list of stop words is needed.  A name is up to PARTS of the best ones; a pair goes before the better of its words
 * when it tells nearly as much.
 */
#include "pg/search/names.h"

#include "catalog/pg_collation.h"
#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/formatting.h"
#include "utils/float.h"
#include "utils/hsearch.h"

#define PARTS 3
#define LONGEST 64      /* bytes of a word */
#define MOST_WORDS 400  /* of a text that are looked at */
#define NEARLY 0.55     /* of what its better word tells, a pair has to tell */
#define TELLS 2.5       /* each word of a pair is so much more frequent here */

typedef struct Gram {
    uint64 hash;            /* dynahash key */
    uint64 first, second;   /* of a pair: hashes of its words; 0: a word */
    uint32 last_text;       /* the text that has been counted last */
    char *shown;
    uint32 counts[FLEXIBLE_ARRAY_MEMBER]; /* [k] texts */
} Gram;

struct SlmNames {
    uint32 k, n;
    uint32 *sizes; /* [k] */
    HTAB *grams;
    MemoryContext context;
};

SlmNames *slm_pg_names(uint32 k)
{
    SlmNames *names = palloc0(sizeof *names);
    HASHCTL control = {.keysize = sizeof(uint64), .entrysize = offsetof(Gram, counts) + sizeof(uint32) * k, .hcxt = CurrentMemoryContext};

    names->k = k;
    names->sizes = palloc0(sizeof(uint32) * k);
    names->context = CurrentMemoryContext;
    names->grams = hash_create("slm names", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    return names;
}

static bool in_word(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (unsigned char) c >= 0x80;
}

static uint64 count(SlmNames *names, const char *begin, int length, uint64 first, uint64 second, uint32 cluster)
{
    uint64 hash = hash_bytes_extended((const unsigned char *) begin, length, 1);
    bool known;
    Gram *gram = hash_search(names->grams, &hash, HASH_ENTER, &known);

    if (!known) {
        memset((char *) gram + sizeof hash, 0, offsetof(Gram, counts) + sizeof(uint32) * names->k - sizeof hash);
        gram->shown = MemoryContextAlloc(names->context, (Size) length + 1);
        memcpy(gram->shown, begin, (Size) length);
        gram->shown[length] = '\0';
        gram->first = first;
        gram->second = second;
    }
    if (gram->last_text != names->n) {
        gram->last_text = names->n;
        gram->counts[cluster]++;
    }
    return hash;
}

void slm_pg_names_add(SlmNames *names, const char *text, uint32 cluster)
{
    char *lower = str_tolower(text, strlen(text), DEFAULT_COLLATION_OID);
    char pair[2 * LONGEST + 2];
    uint64 before = 0;
    int before_length = 0;

    names->n++; /* numbers begin at 1 */
    names->sizes[cluster]++;
    for (int at = 0, words = 0; lower[at] != '\0' && words < MOST_WORDS;) {
        int begin = at;
        uint64 hash;

        while (in_word(lower[at]) || (at > begin && lower[at] == '\'' && in_word(lower[at + 1])))
            at++;
        if (at == begin || at - begin > LONGEST) {
            /* the end of a sentence, or something that is no word, stands between two words */
            before = lower[at] == ' ' || lower[at] == '-' ? before : 0;
            at += at == begin;
            continue;
        }
        words++;
        hash = count(names, lower + begin, at - begin, 0, 0, cluster);
        if (before != 0) {
            pair[before_length] = ' ';
            memcpy(pair + before_length + 1, lower + begin, (Size) (at - begin));
            (void) count(names, pair, before_length + 1 + at - begin, before, hash, cluster);
        }
        before = hash;
        before_length = at - begin;
        memcpy(pair, lower + begin, (Size) before_length);
    }
    pfree(lower);
}

/* Shares of the cluster's texts and of the others. */
static void shares(const SlmNames *names, const Gram *gram, uint32 cluster, double *p, double *q)
{
    uint64 all = 0;

    for (uint32 i = 0; i < names->k; i++)
        all += gram->counts[i];
    *p = (double) gram->counts[cluster] / names->sizes[cluster];
    *q = ((double) (all - gram->counts[cluster]) + 0.5) / (names->n - names->sizes[cluster] + 1.0);
}

static double telling(const SlmNames *names, const Gram *gram, uint32 cluster)
{
    double p, q;

    shares(names, gram, cluster, &p, &q);
    return p > q && (gram->counts[cluster] > 1 || names->sizes[cluster] < 4) ? p * log(p / q) : 0;
}

/* Is the word of this hash much more frequent here? */
static bool tells(const SlmNames *names, uint64 word, uint32 cluster)
{
    const Gram *gram = hash_search(names->grams, &word, HASH_FIND, NULL);
    double p, q;

    if (gram == NULL)
        return false;
    shares(names, gram, cluster, &p, &q);
    return p > TELLS * q;
}

static bool one_of(uint64 hash, const uint64 *used, int n)
{
    for (int i = 0; i < n; i++)
        if (used[i] == hash)
            return true;
    return false;
}

/* The best gram that says nothing of what has been said: with `of`, of the pairs with this word. */
static const Gram *best_gram(const SlmNames *names, uint32 cluster, const uint64 *used, int n_used, uint64 of, double *best)
{
    HASH_SEQ_STATUS status;
    const Gram *found = NULL, *gram;

    *best = 0;
    hash_seq_init(&status, names->grams);
    while ((gram = hash_seq_search(&status)) != NULL) {
        double value;

        if (of == 0 ? gram->first != 0 || one_of(gram->hash, used, n_used)
                    : (gram->first != of && gram->second != of) || one_of(gram->first, used, n_used) || one_of(gram->second, used, n_used))
            continue;
        value = telling(names, gram, cluster);
        if (value > *best || (found != NULL && value == *best && strcmp(gram->shown, found->shown) < 0)) {
            if (of != 0 && (!tells(names, gram->first, cluster) || !tells(names, gram->second, cluster)))
                continue;
            *best = value;
            found = gram;
        }
    }
    return found;
}

char *slm_pg_name_of(SlmNames *names, uint32 cluster)
{
    StringInfoData out;
    uint64 used[2 * PARTS];
    int n_used = 0;
    double first = 0;

    initStringInfo(&out);
    for (int part = 0; part < PARTS; part++) {
        double value, of_pair;
        const Gram *word = best_gram(names, cluster, used, n_used, 0, &value), *pair;

        CHECK_FOR_INTERRUPTS();
        if (part == 0)
            first = value;
        if (word == NULL || value < 0.25 * first)
            break;
        pair = best_gram(names, cluster, used, n_used, word->hash, &of_pair);
        if (pair != NULL && of_pair >= NEARLY * value) {
            used[n_used++] = pair->first;
            used[n_used++] = pair->second;
            word = pair;
        } else {
            used[n_used++] = word->hash;
        }
        appendStringInfo(&out, "%s%s", part > 0 ? ", " : "", word->shown);
    }
    return out.len > 0 ? out.data : NULL;
}
