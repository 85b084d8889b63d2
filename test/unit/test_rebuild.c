/*
 * Images of layout 1 (version 0.1.0): the panels of every weight type come back byte for byte, a rebuilt image is the one that an import
 * writes today, and what is damaged, forged, cut short or cancelled leaves no file.
 */
#include <stdlib.h>
#include <unistd.h>

#include "engine/image/format.h"
#include "engine/image/image.h"
#include "engine/kernels/kernels.h"
#include "golden.h"
#include "slm_test.h"
#include "tools/old_image.h"
#include "tools/smallest_gguf.h"
#include "tools/try_model.h"

static char image_path[96], old_path[112], new_path[112];

static unsigned char *read_all(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return NULL;
    fseek(f, 0, SEEK_END);
    *n = (size_t) ftell(f);
    rewind(f);
    unsigned char *bytes = malloc(*n + 1);
    if (bytes == NULL || fread(bytes, 1, *n, f) != *n)
        abort();
    fclose(f);
    return bytes;
}

static void write_all(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(bytes, 1, n, f) != n || fclose(f) != 0)
        abort();
}

/* Blanks what an image says of where it comes from, and the checksum over that. */
static void blank_origin(unsigned char *bytes)
{
    slm_image_header *h = (slm_image_header *) bytes;
    slm_model_info *info = (slm_model_info *) (bytes + h->info.offset);
    memset(info->recognized, 0, sizeof info->recognized);
    h->head_checksum = 0;
}

static bool same_image(unsigned char *a, size_t n_a, unsigned char *b, size_t n_b)
{
    if (a == NULL || b == NULL || n_a != n_b || n_a < sizeof(slm_image_header))
        return false;
    blank_origin(a);
    blank_origin(b);
    return memcmp(a, b, n_a) == 0;
}

/* ------------------------------------------------------------------ panels */

static void test_panels(void)
{
    for (uint32_t type = 0; type < SLM_TYPE_COUNT; type++) {
        const slm_type_info *info = slm_type_get(type);
        if (info == NULL)
            continue;
        for (uint32_t groups = 1; groups <= 9; groups++) {
            uint32_t cols = groups * (info->block_weights == 1 ? 32 : info->block_weights);
            size_t stride = (size_t) cols / info->block_weights * info->block_bytes, bytes = slm_panel_bytes((slm_type) type, cols);
            unsigned char *rows = malloc(16 * stride), *now = calloc(1, bytes), *old = malloc(bytes), *copy = malloc(bytes);
            unsigned char *back = malloc(bytes);
            for (size_t i = 0; i < 16 * stride; i++)
                rows[i] = (unsigned char) (rand() >> 7);
            slm_pack_panel((slm_type) type, rows, stride, 16, cols, now);
            memcpy(old, now, bytes);
            old_panel(slm_format_of(type), cols, old, copy);
            CHECK(groups == 1 || info->is_float || memcmp(old, now, bytes) != 0, "%s: layout 1 is no other", info->name);
            slm_panel_from_layout_1((slm_type) type, cols, old, back);
            CHECK(memcmp(back, now, bytes) == 0, "%s of %u columns: the panel is another", info->name, cols);
            free(rows);
            free(now);
            free(old);
            free(copy);
            free(back);
        }
    }
}

/* ------------------------------------------------------------------ images */

static void rebuild_gguf(const char *path, const char *name, const char *quantization)
{
    slm_error err = {0};
    slm_import_options options = {.quantization = quantization};
    slm_image *image = NULL;
    size_t n = 0, n_old = 0, n_new = 0;
    unlink(image_path);
    unlink(new_path);
    CHECK(slm_import(path, image_path, &options, NULL, NULL, NULL, NULL, &err) == SLM_OK, "%s: %s", name, err.message);
    unsigned char *old = old_image(image_path, &n_old), *want = read_all(image_path, &n), *have = NULL;
    CHECK(old != NULL && want != NULL, "%s: no image", name);
    if (old != NULL && want != NULL) {
        write_all(old_path, old, n_old);
        CHECK(slm_image_open(old_path, &image, &err) == SLM_UNSUPPORTED && err.hint_code == SLM_HINT_OLD_IMAGE, "%s: %s", name,
              err.message);
        CHECK(slm_image_rebuild(old_path, new_path, NULL, NULL, NULL, &err) == SLM_OK, "%s: %s", name, err.message);
        have = read_all(new_path, &n_new);
        CHECK(same_image(want, n, have, n_new), "%s: the rebuilt image is another", name);
    }
    free(have);
    free(old);
    free(want);
}

static void test_images(void)
{
    static const char *const types[] = {NULL, "F16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q6_K", "Q4_K", "Q5_K", "BF16"};
    static const char *const families[] = {"llama", "phi3", "gemma3", "qwen3", "olmo2"};
    char path[512];
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        snprintf(path, sizeof path, "%s/families/%s.gguf", golden_root(), families[i]);
        rebuild_gguf(path, families[i], types[i % (sizeof types / sizeof types[0])]);
    }
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        snprintf(path, sizeof path, "%s/families/llama.gguf", golden_root());
        rebuild_gguf(path, types[i] == NULL ? "as it is" : types[i], types[i]);
    }
}

/* An image that version 0.1.0 has written is what an import writes today, its tokenizer too. */
static void test_0_1_0(void)
{
    slm_error err = {0};
    size_t n = 0, n_new = 0;
    unlink(image_path);
    unlink(new_path);
    CHECK(slm_import("test/data/tiny.gguf", image_path, NULL, NULL, NULL, NULL, NULL, &err) == SLM_OK, "%s", err.message);
    CHECK(slm_image_rebuild("test/data/tiny-0.1.0.img", new_path, NULL, NULL, NULL, &err) == SLM_OK, "%s", err.message);
    unsigned char *want = read_all(image_path, &n), *have = read_all(new_path, &n_new);
    CHECK(same_image(want, n, have, n_new), "an image of 0.1.0: the rebuilt one is another");
    free(want);
    free(have);
}

/* ------------------------------------------------------------------ refusals */

static bool no_file(slm_status status)
{
    bool none = access(new_path, F_OK) != 0;
    unlink(new_path);
    return status == SLM_OK ? !none : none;
}

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
    int *left = arg;
    CHECK(done <= total, "progress %lu of %lu", (unsigned long) done, (unsigned long) total);
    if (*left > 0)
        --*left;
    else
        left[1] = 1;
}

/* An old image in which one byte before the weights is another and the checksum fits: nothing may crash, and what is rebuilt opens. */
static void test_forged(unsigned char *old, size_t n)
{
    slm_error err = {0};
    slm_image_header *h = (slm_image_header *) (void *) old;
    uint64_t offset = h->weights_offset, sum = h->head_checksum;
    unsigned long broken = 0, left = 0, unread = 0, rebuilt = 0;
    for (size_t i = 0; i < offset; i += offset > 30000 && i > 30000 ? 331 : offset > 30000 ? 23 : 1) {
        unsigned char was = old[i];
        try_stage stage;
        old[i] ^= (unsigned char) (1u << (i * 7 + i / 8) % 8);
        h->head_checksum = 0;
        h->head_checksum = XXH3_64bits(old, (size_t) offset);
        write_all(old_path, old, n);
        slm_status status = slm_image_rebuild(old_path, new_path, NULL, NULL, NULL, &err);
        broken += status == SLM_INTERNAL;
        rebuilt += status == SLM_OK;
        slm_status opened = status == SLM_OK ? try_open(new_path, &err, &stage) : SLM_OK;
        unread += opened == SLM_INTERNAL;
        left += !no_file(status);
        h->head_checksum = sum;
        old[i] = was;
    }
    CHECK(broken == 0 && left == 0 && unread == 0 && rebuilt < offset, "forged images: %lu broken, %lu left, %lu unread, %lu rebuilt",
          broken, left, unread, rebuilt);
}

static void test_refusals(void)
{
    gw w = {0};
    tiny t;
    char path[64];
    slm_error err = {0};
    size_t n = 0, n_new = 0;
    int stop[2] = {0};
    tiny_default(&t);
    tiny_write(&t, &w);
    int fd = try_file(w.bytes, w.n, path, sizeof path);
    rebuild_gguf(path, "tiny", NULL);
    unsigned char *old = read_all(old_path, &n), *new = read_all(new_path, &n_new);

    CHECK(slm_image_rebuild(old_path, new_path, NULL, NULL, NULL, &err) == SLM_IO, "an image was overwritten");
    unlink(new_path);
    CHECK(slm_image_rebuild(image_path, new_path, NULL, NULL, NULL, &err) == SLM_INVALID && no_file(SLM_INVALID), "rebuilt twice: %s",
          err.message);
    CHECK(slm_image_rebuild("/nowhere/at/all", new_path, NULL, NULL, NULL, &err) == SLM_IO && no_file(SLM_IO), "no such file: %s",
          err.message);
    for (int calls = 0;; calls++) {
        stop[0] = calls;
        stop[1] = 0;
        slm_status status = slm_image_rebuild(old_path, new_path, on_progress, stop, &stop[1], &err);
        CHECK((status == SLM_OK && calls > 10) || status == SLM_CANCELLED, "stopped after %d: %s", calls, err.message);
        CHECK(no_file(status), "stopped after %d: a file is left", calls);
        if (status == SLM_OK || calls > 10000)
            break;
    }
    for (size_t cut = 0; cut < n; cut += 211) {
        write_all(old_path, old, cut);
        slm_status status = slm_image_rebuild(old_path, new_path, NULL, NULL, NULL, &err);
        CHECK(status == SLM_FORMAT && no_file(status), "cut at %zu: status %d", cut, status);
    }
    size_t first = (size_t) ((slm_image_header *) (void *) old)->weights_offset;
    for (size_t i = 0; i < 16; i++) {
        size_t at = n - 1 - i * ((n - first) / 16);
        old[at] ^= 1;
        write_all(old_path, old, n);
        slm_status status = slm_image_rebuild(old_path, new_path, NULL, NULL, NULL, &err);
        CHECK(status == SLM_FORMAT && no_file(status), "a wrong weight at %zu: status %d", at, status);
        old[at] ^= 1;
    }
    test_forged(old, n);
    free(old);
    old = read_all("test/data/tiny-0.1.0.img", &n); /* and the tables of its tokenizer */
    if (old != NULL)
        test_forged(old, n);
    free(old);
    free(new);
    close(fd);
    gw_free(&w);
}

int main(void)
{
    try_image_path(image_path, sizeof image_path);
    snprintf(old_path, sizeof old_path, "%s.old", image_path);
    snprintf(new_path, sizeof new_path, "%s.new", image_path);
    test_panels();
    test_images();
    test_0_1_0();
    test_refusals();
    unlink(image_path);
    unlink(old_path);
    unlink(new_path);
    TEST_MAIN_END("rebuild");
}
