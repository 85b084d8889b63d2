/*
 * Every weight type against reference values: golden/quants/TYPE.bin are blocks of 4 x 512 weights, TYPE.f32 the same dequantized
 * by the reference implementation.  slm_dequantize and pack + unpack_row (on every instruction set) must equal them bit for bit.
 */
#include "slm_test.h"

#include <stdlib.h>
#include <string.h>

#include "engine/kernels/kernels.h"
#include "golden.h"

enum { ROWS = 4, COLS = 512 };

static size_t read_file(const char *folder, const char *name, const char *ending, void *out, size_t room)
{
    char path[600];
    snprintf(path, sizeof path, "%s/quants/%s.%s", folder, name, ending);
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(out, 1, room, f) : 0;
    if (f)
        fclose(f);
    return n;
}

static void check_type(const char *folder, slm_type type)
{
    const slm_type_info *info = slm_type_get(type);
    static uint8_t source[ROWS * COLS * 4];
    static float expected[ROWS * COLS], got[ROWS * COLS];
    size_t row_bytes = COLS / info->block_weights * info->block_bytes;
    size_t n = read_file(folder, info->name, "bin", source, sizeof source);
    CHECK(n == ROWS * row_bytes, "%s: %zu bytes", info->name, n);
    CHECK(read_file(folder, info->name, "f32", expected, sizeof expected) == sizeof expected, "%s", info->name);
    slm_dequantize(type, source, got, ROWS * COLS);
    CHECK(memcmp(got, expected, sizeof expected) == 0, "%s: dequantized values differ", info->name);

    size_t panel_bytes = slm_panel_bytes(type, COLS);
    void *panel = aligned_alloc(64, panel_bytes);
    CHECK(panel_bytes > 0 && panel, "%s: panel", info->name);
    if (!panel)
        return;
    slm_pack_panel(type, source, row_bytes, ROWS, COLS, panel);
    slm_weight w = {panel, panel_bytes, ROWS, COLS, 1, type};
    static const char *const isas[] = {"ref", "avx2", "avx512", "neon"};
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        const slm_kernels *k = slm_kernels_of(isas[i]);
        for (uint32_t r = 0; k && r < ROWS; r++) {
            k->unpack_row(&w, r, got);
            CHECK(memcmp(got, expected + r * COLS, COLS * sizeof *got) == 0, "%s: unpack_row %s, row %u", info->name, isas[i], r);
        }
    }
    free(panel);
}

int main(void)
{
    const char *folder = golden_root();
    for (uint32_t type = 0; type < SLM_TYPE_COUNT; type++) {
        static const float zeros[256];
        uint8_t block[1024];
        if (slm_type_get(type))
            CHECK((slm_quantize((slm_type) type, zeros, block, 256, NULL) == SLM_OK) == slm_type_get(type)->made, "%s: made or not",
                  slm_type_get(type)->name);
    }
    for (uint32_t type = 0; type < SLM_TYPE_COUNT; type++)
        if (slm_type_get(type) && type != SLM_TYPE_F32)
            check_type(folder, (slm_type) type);
    TEST_MAIN_END("test_quants");
}
