/*
 * Split GGUF files: which belong together, and where each tensor is.
 *
 * Invariant: part i says split.no = i and the same split.count and split.tensors.count as the first; names of tensors are unique over all
 * parts, and there are as many as they say.
 */
#include "engine/import/gguf/parts.h"
#include "engine/slm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SUFFIX "-%05u-of-%05u.gguf"
#define SUFFIX_BYTES 20

void slm_gguf_parts_close(slm_gguf_parts *p)
{
    for (uint32_t i = 0; i < p->n; i++)
        slm_gguf_close(p->part[i]);
    free(p->tensors);
    *p = (slm_gguf_parts) {.n = 0};
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const slm_gguf_placed *) a)->tensor->name, ((const slm_gguf_placed *) b)->tensor->name);
}

const slm_gguf_placed *slm_gguf_parts_find(const slm_gguf_parts *p, const char *name)
{
    slm_gguf_tensor wanted = {.name = name};
    slm_gguf_placed key = {.tensor = &wanted};
    return p->n_tensors == 0 ? NULL : bsearch(&key, p->tensors, p->n_tensors, sizeof key, by_name);
}

/* A whole number of a file's keys; absent: *out is as it was. */
static slm_status take_count(const slm_gguf *g, const char *key, uint32_t most, uint32_t *out, slm_error *err)
{
    const slm_gguf_value *v = slm_gguf_find(g, key);
    double x = -1;
    if (v == NULL)
        return SLM_OK;
    if (v->is_array || !slm_gguf_number(g, v, 0, &x) || !(x >= 0 && x <= most) || x != (double) (uint32_t) x)
        return slm_fail(err, SLM_FORMAT, "%s is no number from 0 to %u", key, most);
    *out = (uint32_t) x;
    return SLM_OK;
}

const char *slm_split_name(const char *first, uint32_t i, uint32_t n, char *out, size_t size)
{
    size_t begin = strlen(first) - SUFFIX_BYTES;
    snprintf(out, size, "%.*s" SUFFIX, (int) begin, first, i, n);
    return out + begin;
}

/* Is the name of the path that of part i of n? */
static bool named(const char *path, uint32_t i, uint32_t n)
{
    char suffix[64];
    size_t length = strlen(path);
    snprintf(suffix, sizeof suffix, SUFFIX, i, n);
    return strlen(suffix) == SUFFIX_BYTES && length > SUFFIX_BYTES && strcmp(path + length - SUFFIX_BYTES, suffix) == 0;
}

uint32_t slm_split_count(const char *path)
{
    size_t length = strlen(path);
    uint32_t n = length <= SUFFIX_BYTES ? 1 : (uint32_t) strtoul(path + length - strlen("00003.gguf"), NULL, 10);
    return n >= 2 && n <= SLM_GGUF_MAX_PARTS && named(path, 1, n) ? n : 1;
}

/* How many parts the first is one of; 1: it is whole. */
static slm_status count_parts(const slm_gguf *g, const char *path, uint32_t *n, slm_error *err)
{
    uint32_t no = 0;
    char name[4096];
    *n = 1;
    SLM_TRY(take_count(g, "split.count", 65535, n, err));
    SLM_TRY(take_count(g, "split.no", 65535, &no, err));
    if (*n <= 1 && no == 0) {
        *n = 1;
        return SLM_OK;
    }
    if (no >= *n)
        return slm_fail(err, SLM_FORMAT, "the file says that it is part %u of %u", no + 1, *n);
    if (*n > SLM_GGUF_MAX_PARTS)
        return slm_fail(err, SLM_UNSUPPORTED, "the file is one of %u parts of a model (at most %u are read)", *n, SLM_GGUF_MAX_PARTS);
    if (!named(path, no + 1, *n) || strlen(path) >= sizeof name) {
        slm_fail(err, SLM_UNSUPPORTED, "the file is one of %u parts of a model, but its name does not end with \"" SUFFIX "\"", *n, no + 1,
                 *n);
        return slm_hint(err, "Name the parts as they were published: they are looked for beside the first.");
    }
    if (no == 0)
        return SLM_OK;
    slm_split_name(path, 1, *n, name, sizeof name);
    slm_fail(err, SLM_INVALID, "the file is part %u of %u of a model", no + 1, *n);
    return slm_hint(err, "Name the first part, \"%s\": the others are read with it.", name);
}

/* What another part may say. */
static slm_status check_part(const slm_gguf *g, uint32_t i, uint32_t n, uint32_t total, slm_error *err)
{
    static const char *const known[] = {"split.no", "split.count", "split.tensors.count", "general.alignment"};
    uint32_t no = UINT32_MAX, count = 0, tensors = total;
    SLM_TRY(take_count(g, known[0], 65535, &no, err));
    SLM_TRY(take_count(g, known[1], 65535, &count, err));
    SLM_TRY(take_count(g, known[2], SLM_GGUF_MAX_TENSORS, &tensors, err));
    if (no != i || count != n)
        return slm_fail(err, SLM_FORMAT, "part %u of %u says that it is part %u of %u", i + 1, n, no + 1, count);
    if (tensors != total)
        return slm_fail(err, SLM_FORMAT, "part %u of %u says that the model has %u tensors, the first says %u", i + 1, n, tensors, total);
    for (size_t k = 0; k < slm_gguf_n_values(g); k++) {
        const char *key = slm_gguf_value_at(g, k)->key;
        bool good = false;
        for (size_t w = 0; !good && w < sizeof known / sizeof known[0]; w++)
            good = strcmp(key, known[w]) == 0;
        if (!good)
            return slm_fail(err, SLM_UNSUPPORTED, "part %u of %u has the key %s, which is read in the first alone", i + 1, n, key);
    }
    return SLM_OK;
}

static slm_status open_others(slm_gguf_parts *p, const char *path, uint32_t n, uint32_t total, slm_error *err)
{
    char name[4200];
    for (uint32_t i = 1; i < n; i++) {
        const char *sealed = slm_split_name(path, i + 1, n, name, sizeof name);
        slm_status status = slm_gguf_open_part(name, sealed, &p->part[i], err);
        if (status != SLM_OK) {
            char why[sizeof err->message];
            snprintf(why, sizeof why, "%s", err->message);
            return slm_fail(err, status, "part %u of %u: %s", i + 1, n, why);
        }
        p->n = i + 1;
        SLM_TRY(check_part(p->part[i], i, n, total, err));
    }
    const char *more = slm_split_name(path, n + 1, n, name, sizeof name);
    if (access(name, F_OK) == 0)
        return slm_fail(err, SLM_FORMAT, "\"%s\" is beside the %u parts of the model", more, n);
    return SLM_OK;
}

static slm_status place_tensors(slm_gguf_parts *p, uint32_t total, slm_error *err)
{
    for (uint32_t i = 0; i < p->n; i++) {
        p->n_tensors += slm_gguf_n_tensors(p->part[i]);
        p->bytes += slm_gguf_bytes(p->part[i]);
    }
    if (p->n_tensors > SLM_GGUF_MAX_TENSORS || (p->n > 1 && p->n_tensors != total))
        return slm_fail(err, SLM_FORMAT, "the parts have %zu tensors, not the %u that they say", p->n_tensors, total);
    p->tensors = calloc(p->n_tensors + 1, sizeof *p->tensors);
    if (p->tensors == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    for (uint32_t i = 0, at = 0; i < p->n; i++)
        for (size_t k = 0; k < slm_gguf_n_tensors(p->part[i]); k++)
            p->tensors[at++] = (slm_gguf_placed) {slm_gguf_tensor_at(p->part[i], k), i};
    qsort(p->tensors, p->n_tensors, sizeof *p->tensors, by_name);
    for (size_t k = 1; k < p->n_tensors; k++)
        if (by_name(&p->tensors[k - 1], &p->tensors[k]) == 0)
            return slm_fail(err, SLM_FORMAT, "tensor %s is in part %u and in part %u", p->tensors[k].tensor->name,
                            p->tensors[k - 1].part + 1, p->tensors[k].part + 1);
    return SLM_OK;
}

static slm_status open_all(slm_gguf_parts *p, const char *path, slm_error *err)
{
    uint32_t n = 1, total = UINT32_MAX;
    SLM_TRY(slm_gguf_open(path, &p->part[0], err));
    p->n = 1;
    SLM_TRY(count_parts(p->part[0], path, &n, err));
    if (n > 1) {
        SLM_TRY(take_count(p->part[0], "split.tensors.count", SLM_GGUF_MAX_TENSORS, &total, err));
        if (total == UINT32_MAX)
            return slm_fail(err, SLM_FORMAT, "the first of %u parts has no split.tensors.count", n);
        SLM_TRY(open_others(p, path, n, total, err));
    }
    return place_tensors(p, total, err);
}

slm_status slm_gguf_parts_open(const char *path, slm_gguf_parts *out, slm_error *err)
{
    *out = (slm_gguf_parts) {.n = 0};
    slm_status status = open_all(out, path, err);
    if (status != SLM_OK)
        slm_gguf_parts_close(out);
    return status;
}
