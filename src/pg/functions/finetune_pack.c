/*
 * finetune_pack.c: the rows of a fine-tuning as bytes of a table, so that a background job learns to its end from what it has read once.
 *
 *   | kind u32 | rows u64 | of these not the validation query's u64 | for each: prompt, answer, third, each as length u32 and bytes
 *   in UTF-8 | native byte order
 *
 * A restored row is hostile: every length is checked, and that no text has a NUL; who restored it could as well have changed the query.
 */
#include "pg/functions/finetune.h"

#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#define MOST_BYTES ((Size) 900 * 1024 * 1024)

static Size text_bytes(const char *text)
{
    return sizeof(uint32) + strlen(text);
}

static char *put_text(char *to, const char *text)
{
    uint32 n = (uint32) strlen(text);

    memcpy(to, &n, sizeof n);
    memcpy(to + sizeof n, text, n);
    return to + sizeof n + n;
}

bytea *slm_pg_finetune_pack(const SlmTuneSet *set)
{
    uint32 kind = (uint32) set->kind;
    uint64 n[2] = {(uint64) set->n, (uint64) set->n_own};
    Size bytes = VARHDRSZ + sizeof kind + sizeof n;
    bytea *packed;
    char *to;

    for (int64 i = 0; i < set->n; i++)
        bytes += text_bytes(set->prompts[i]) + text_bytes(set->answers[i]) + text_bytes(set->thirds[i]);
    if (bytes > MOST_BYTES)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("the rows of the fine-tuning take %zu MB, more than a background job can keep", bytes >> 20),
                        errhint("Let the query give fewer rows, or call slm_finetune, which keeps none.")));
    packed = MemoryContextAllocHuge(CurrentMemoryContext, bytes);
    SET_VARSIZE(packed, bytes);
    to = VARDATA(packed);
    memcpy(to, &kind, sizeof kind);
    memcpy(to + sizeof kind, n, sizeof n);
    to += sizeof kind + sizeof n;
    for (int64 i = 0; i < set->n; i++)
        to = put_text(put_text(put_text(to, set->prompts[i]), set->answers[i]), set->thirds[i]);
    return packed;
}

static pg_noreturn void damaged(void);

static void damaged(void)
{
    ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("the rows that a fine-tuning has kept are damaged"),
                    errhint("Drop it with slm_drop_finetune and create it again.")));
    pg_unreachable();
}

static char *get_text(const char **at, const char *end)
{
    uint32 n;
    char *text;

    if (end - *at < (ptrdiff_t) sizeof n)
        damaged();
    memcpy(&n, *at, sizeof n);
    *at += sizeof n;
    if (end - *at < (ptrdiff_t) n || memchr(*at, '\0', n) != NULL || !pg_verify_mbstr(PG_UTF8, *at, (int) n, true))
        damaged();
    text = pnstrdup(*at, n);
    *at += n;
    return text;
}

void slm_pg_finetune_unpack(SlmTuneSet *set, const bytea *packed)
{
    const char *at = VARDATA_ANY(packed), *end = at + VARSIZE_ANY_EXHDR(packed);
    uint32 kind;
    uint64 numbers[2], n;

    if (end - at < (ptrdiff_t) (sizeof kind + sizeof numbers))
        damaged();
    memcpy(&kind, at, sizeof kind);
    memcpy(numbers, at + sizeof kind, sizeof numbers);
    at += sizeof kind + sizeof numbers;
    n = numbers[0];
    set->kind = (SlmTuneKind) kind;
    if (kind > SLM_TUNE_SCORED || slm_pg_finetune_is_text_kind(set->kind) == slm_pg_info(set->base)->can_generate ||
        n > (uint64) (end - at) / (3 * sizeof(uint32)) || numbers[1] > n)
        damaged();
    set->n = set->room = (int64) n;
    set->n_own = (int64) numbers[1];
    set->prompts = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(char *) * (Size) (n + 1));
    set->answers = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(char *) * (Size) (n + 1));
    set->thirds = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(char *) * (Size) (n + 1));
    for (uint64 i = 0; i < n; i++) {
        set->prompts[i] = get_text(&at, end);
        set->answers[i] = get_text(&at, end);
        set->thirds[i] = get_text(&at, end);
    }
    if (at != end)
        damaged();
}

static uint64 hash_of(const char *text, uint64 seed)
{
    return hash_bytes_extended((const unsigned char *) text, (int) strlen(text), seed);
}

static int by_number(const void *a, const void *b)
{
    uint64 x = *(const uint64 *) a, y = *(const uint64 *) b;

    return x < y ? -1 : x > y;
}

bytea *slm_pg_finetune_hashes(const SlmTuneSet *set)
{
    Size bytes = sizeof(uint64) * (Size) set->n_own;
    bytea *hashes = MemoryContextAllocHuge(CurrentMemoryContext, bytes + VARHDRSZ + sizeof(uint64));
    uint64 *list = MemoryContextAllocHuge(CurrentMemoryContext, bytes + sizeof(uint64));

    for (int64 i = 0; i < set->n_own; i++)
        list[i] = hash_of(set->thirds[i], hash_of(set->answers[i], hash_of(set->prompts[i], 1)));
    qsort(list, (size_t) set->n_own, sizeof *list, by_number);
    memcpy(VARDATA(hashes), list, bytes);
    pfree(list);
    SET_VARSIZE(hashes, bytes + VARHDRSZ);
    return hashes;
}

int64 slm_pg_finetune_new_rows(const SlmTuneSet *set, const bytea *known)
{
    bytea *now = slm_pg_finetune_hashes(set);
    int64 n_known = (int64) (VARSIZE_ANY_EXHDR(known) / sizeof(uint64)), k = 0, n = 0;

    for (int64 i = 0; i < set->n_own; i++) {
        uint64 hash, other = 0, before = 0;

        memcpy(&hash, VARDATA(now) + sizeof hash * (Size) i, sizeof hash);
        if (i > 0)
            memcpy(&before, VARDATA(now) + sizeof hash * (Size) (i - 1), sizeof hash);
        for (; k < n_known; k++) {
            memcpy(&other, VARDATA_ANY(known) + sizeof other * (Size) k, sizeof other);
            if (other >= hash)
                break;
        }
        n += (k == n_known || other != hash) && (i == 0 || hash != before); /* equal rows count once */
    }
    pfree(now);
    return n;
}
