/*
 * Split GGUF files: three parts of the tiny model give the same image as the whole file; parts that are missing, too many, contradict each
 * other or share a tensor are refused by name, and another part than the first with the name of the first.
 */
#include <sys/stat.h>
#include <unistd.h>

#include "engine/import/gguf/parts.h"
#include "engine/slm.h"
#include "slm_test.h"
#include "tools/gguf_copy.h"

#define N 3
#define WHOLE "test/data/tiny.gguf"

/* What is odd about a set of parts; -1: nothing. */
typedef struct odd {
    int part;                     /* the one that is odd */
    int64_t no, count, total;     /* what it says instead; -1: as it should be; -2: nothing */
    const char *key;              /* that it has besides */
    bool twice;                   /* it has the first tensor too */
    bool missing, cut;            /* it is not there; half of it is */
    bool more;                    /* there is a fourth file */
} odd;

#define NOTHING .no = -1, .count = -1, .total = -1

static void part_path(const char *dir, uint32_t i, char *out, size_t size)
{
    snprintf(out, size, "%s/tiny-%05u-of-%05u.gguf", dir, i + 1, N);
}

static void small(gw *w, const char *key, int64_t said, uint16_t x)
{
    if (said == -2)
        return;
    x = said >= 0 ? (uint16_t) said : x;
    gw_key(w, key, SLM_GGUF_U16);
    gw_raw(w, &x, 2);
}

static void copy_tensor(gw *w, const slm_gguf *g, const slm_gguf_tensor *t)
{
    unsigned char *bytes = malloc(t->bytes);
    if (bytes == NULL || slm_gguf_read_tensor(g, t, 0, bytes, t->bytes, NULL) != SLM_OK)
        abort();
    gw_raw(w, bytes, t->bytes);
    gw_align(w, 32);
    free(bytes);
}

static void write_part(const char *dir, const slm_gguf *g, uint32_t i, const odd *o)
{
    bool is_odd = o->part == (int) i;
    const odd said = is_odd ? *o : (odd) {NOTHING};
    size_t n = slm_gguf_n_tensors(g), mine = 0;
    uint64_t offset = 0, keys = (i == 0 ? slm_gguf_n_values(g) : 0) + (said.no != -2) + (said.count != -2) + (said.total != -2) +
        (said.key != NULL);
    char path[256];
    gw w = {0};
    for (size_t k = 0; k < n; k++)
        mine += k % N == i || (said.twice && k == 0);
    gw_begin(&w, 3, mine, keys);
    if (i == 0)
        gw_copy_values(&w, g);
    small(&w, "split.no", said.no, (uint16_t) i);
    small(&w, "split.count", said.count, N);
    small(&w, "split.tensors.count", said.total, (uint16_t) n);
    if (said.key != NULL)
        gw_kv_u32(&w, said.key, 32);
    for (int data = 0; data < 2; data++) {
        for (size_t k = 0; k < n; k++) {
            const slm_gguf_tensor *t = slm_gguf_tensor_at(g, k);
            if (k % N != i && !(said.twice && k == 0))
                continue;
            if (data)
                copy_tensor(&w, g, t);
            else
                gw_tensor(&w, t->name, t->dims[0], t->n_dims == 2 ? t->dims[1] : 0, (uint32_t) t->type, offset);
            offset += (t->bytes + 31) & ~(uint64_t) 31;
        }
        if (!data)
            gw_align(&w, 32);
    }
    part_path(dir, i, path, sizeof path);
    unlink(path);
    if (!said.missing && gw_save(&w, path) != 0)
        abort();
    if (said.cut && truncate(path, 30) != 0)
        abort();
    gw_free(&w);
}

static void write_parts(const char *dir, const slm_gguf *g, const odd *o)
{
    char more[256];
    for (uint32_t i = 0; i < N; i++)
        write_part(dir, g, i, o);
    snprintf(more, sizeof more, "%s/tiny-%05u-of-%05u.gguf", dir, N + 1, N);
    unlink(more);
    FILE *f = o->more ? fopen(more, "w") : NULL;
    if (f != NULL)
        fclose(f);
}

static char *contents(const char *path, size_t *n)
{
    struct stat st;
    FILE *f = fopen(path, "rb");
    if (f == NULL || fstat(fileno(f), &st) != 0)
        return NULL;
    char *bytes = malloc((size_t) st.st_size + 1);
    *n = bytes != NULL ? fread(bytes, 1, (size_t) st.st_size, f) : 0;
    fclose(f);
    return bytes;
}

static void check_good(const char *dir, const slm_gguf *g)
{
    const odd none = {.part = -1, NOTHING};
    char path[256], a[300], b[300];
    uint64_t looked = 0, sum = 0;
    size_t n_a = 0, n_b = 1;
    slm_error err = {0};
    write_parts(dir, g, &none);
    for (uint32_t i = 0; i < N; i++) {
        struct stat st = {0};
        part_path(dir, i, path, sizeof path);
        CHECK(stat(path, &st) == 0, "part %u", i);
        sum += (uint64_t) st.st_size;
    }
    part_path(dir, 0, path, sizeof path);
    snprintf(a, sizeof a, "%s/whole.slm", dir);
    snprintf(b, sizeof b, "%s/parts.slm", dir);
    CHECK(slm_source_look(path, &looked, &err) == SLM_OK && looked == sum, "%llu of %llu bytes: %s", (unsigned long long) looked,
          (unsigned long long) sum, err.message);
    CHECK(slm_import(WHOLE, a, NULL, NULL, NULL, NULL, NULL, &err) == SLM_OK, "%s", err.message);
    CHECK(slm_import(path, b, NULL, NULL, NULL, NULL, NULL, &err) == SLM_OK, "%s (%s)", err.message, err.hint);
    char *whole = contents(a, &n_a), *parts = contents(b, &n_b);
    CHECK(whole != NULL && parts != NULL && n_a == n_b && memcmp(whole, parts, n_a) == 0, "another image: %zu and %zu bytes", n_a, n_b);
    free(whole);
    free(parts);
    unlink(a);
    unlink(b);
    part_path(dir, 1, path, sizeof path);
    slm_status status = slm_source_look(path, &looked, &err);
    part_path(dir, 0, path, sizeof path);
    CHECK(status == SLM_INVALID && strstr(err.message, "part 2 of 3") != NULL && strstr(err.hint, path) != NULL, "%s (%s)", err.message,
          err.hint);
    snprintf(b, sizeof b, "%s/other.gguf", dir);
    CHECK(rename(path, b) == 0, "renamed");
    CHECK(slm_source_look(b, &looked, &err) == SLM_UNSUPPORTED && strstr(err.message, "-00001-of-00003.gguf") != NULL, "%s", err.message);
    CHECK(rename(b, path) == 0, "renamed");
}

static void check_odd(const char *dir, const slm_gguf *g)
{
    static const struct {
        odd o;
        slm_status status;
        const char *word;
    } bad[] = {
        {{.part = 1, NOTHING, .missing = true}, SLM_IO, "part 2 of 3"},
        {{.part = 2, NOTHING, .missing = true}, SLM_IO, "part 3 of 3"},
        {{.part = 2, NOTHING, .cut = true}, SLM_FORMAT, "part 3 of 3"},
        {{.part = 1, NOTHING, .more = true}, SLM_FORMAT, "-00004-of-00003.gguf"},
        {{.part = 1, .no = 2, .count = -1, .total = -1}, SLM_FORMAT, "part 2 of 3 says that it is part 3 of 3"},
        {{.part = 1, .no = -2, .count = -1, .total = -1}, SLM_FORMAT, "part 2 of 3"},
        {{.part = 2, .no = -1, .count = 4, .total = -1}, SLM_FORMAT, "part 3 of 3 says that it is part 3 of 4"},
        {{.part = 2, .no = -1, .count = -2, .total = -1}, SLM_FORMAT, "part 3 of 3"},
        {{.part = 1, .no = -1, .count = -1, .total = 5}, SLM_FORMAT, "has 5 tensors"},
        {{.part = 0, .no = -1, .count = -1, .total = -2}, SLM_FORMAT, "split.tensors.count"},
        {{.part = 0, .no = -1, .count = -1, .total = 9000}, SLM_FORMAT, "split.tensors.count"},
        {{.part = 0, .no = -1, .count = -1, .total = 7}, SLM_FORMAT, "7"},
        {{.part = 0, .no = -1, .count = 2, .total = -1}, SLM_UNSUPPORTED, "-00001-of-00002.gguf"},
        {{.part = 0, .no = -1, .count = 60000, .total = -1}, SLM_UNSUPPORTED, "60000 parts"},
        {{.part = 0, .no = 3, .count = -1, .total = -1}, SLM_FORMAT, "part 4 of 3"},
        {{.part = 0, .no = 1, .count = -1, .total = -1}, SLM_UNSUPPORTED, "-00002-of-00003.gguf"},
        {{.part = 0, .no = 1, .count = -2, .total = -1}, SLM_FORMAT, "part 2 of 1"},
        {{.part = 1, NOTHING, .key = "llama.block_count"}, SLM_UNSUPPORTED, "llama.block_count"},
        {{.part = 2, NOTHING, .twice = true}, SLM_FORMAT, "tensors"},
        {{.part = 0, .no = -1, .count = -2, .total = -1}, SLM_FORMAT, "lacks the tensor"},
    };
    char path[256];
    slm_error err = {0};
    uint64_t bytes;
    part_path(dir, 0, path, sizeof path);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        write_parts(dir, g, &bad[i].o);
        slm_status status = slm_source_look(path, &bytes, &err);
        CHECK(status == bad[i].status && strstr(err.message, bad[i].word) != NULL, "case %zu: %d, \"%s\" lacks \"%s\"", i, (int) status,
              err.message, bad[i].word);
    }
    /* its alignment is a part's own business; a tensor in two parts whose number is right */
    const odd aligned = {.part = 2, NOTHING, .key = "general.alignment"};
    write_parts(dir, g, &aligned);
    CHECK(slm_source_look(path, &bytes, &err) == SLM_OK, "%s", err.message);
    odd twice = {.part = 2, .no = -1, .count = -1, .total = (int64_t) slm_gguf_n_tensors(g) + 1, .twice = true};
    write_part(dir, g, 2, &twice);
    twice.twice = false;
    for (int i = 0; i < 2; i++) {
        twice.part = i;
        write_part(dir, g, (uint32_t) i, &twice);
    }
    slm_status status = slm_source_look(path, &bytes, &err);
    CHECK(status == SLM_FORMAT && strstr(err.message, "is in part 1 and in part 3") != NULL, "%d: %s", (int) status, err.message);
}

int main(void)
{
    char dir[] = "/tmp/slm_parts_XXXXXX", command[100];
    slm_gguf *g = NULL;
    slm_error err = {0};
    CHECK(mkdtemp(dir) != NULL && slm_gguf_open(WHOLE, &g, &err) == SLM_OK, "%s", err.message);
    if (g != NULL) {
        check_good(dir, g);
        check_odd(dir, g);
    }
    slm_gguf_close(g);
    snprintf(command, sizeof command, "rm -r %s", dir);
    CHECK(system(command) == 0, "%s", command);
    TEST_MAIN_END("gguf_parts");
}
