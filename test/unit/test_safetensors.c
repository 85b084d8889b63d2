/*
 * Safetensors headers: what is taken, and every way in which one can lie; the fuzz corpus replayed.
 */
#include "../fuzz/fuzz_safetensors.c"

#include <stdio.h>

#include "replay.h"

/* One entry of a header. */
#define T(name, dtype, shape, offsets) "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

/* Parses a header for a file with data_bytes behind it. */
static slm_status parse(const char *header, uint64_t data_bytes, slm_safetensors *st, slm_error *err)
{
    *st = (slm_safetensors){0};
    err->message[0] = '\0';
    return slm_safetensors_parse(st, header, strlen(header), 8 + strlen(header) + data_bytes, 0, "x.safetensors", err);
}

static void check_good(void)
{
    slm_safetensors st;
    slm_error err;
    const char *header = "{\"__metadata__\":{\"format\":\"pt\"}," T("b", "BF16", "[2,3]", "[8,20]") ","
                         "" T("a", "F32", "[2]", "[0,8]") "," T("c", "I64", "[]", "[20,28]") "}  ";
    CHECK(parse(header, 28, &st, &err) == SLM_OK, "%s", err.message);
    CHECK(st.n_tensors == 3, "%zu tensors", st.n_tensors);
    if (st.n_tensors == 3) {
        uint64_t base = 8 + strlen(header);
        CHECK(strcmp(st.tensors[1].name, "b") == 0 && st.tensors[1].type == SLM_ST_BF16 && st.tensors[1].n_dims == 2 &&
                  st.tensors[1].dims[0] == 2 && st.tensors[1].dims[1] == 3 && st.tensors[1].begin == base + 8 &&
                  st.tensors[1].end == base + 20,
              "tensor b");
        CHECK(st.tensors[2].type == SLM_ST_OTHER && st.tensors[2].n_dims == 0, "tensor c");
    }
    slm_safetensors_close(&st);
    CHECK(parse("{}", 0, &st, &err) == SLM_OK && st.n_tensors == 0, "an empty file: %s", err.message);
    slm_safetensors_close(&st);
}

static void check_bad(void)
{
    static const struct {
        const char *header;
        uint64_t data_bytes;
        slm_status status;
        const char *word; /* in the message */
    } bad[] = {
        {"", 8, SLM_FORMAT, "header"},
        {"[]", 8, SLM_FORMAT, "header"},
        {"{", 8, SLM_FORMAT, "JSON"},
        {"{" T("a", "F32", "[2]", "[0,8]") "", 8, SLM_FORMAT, "JSON"},
        {"{\"a\":1}", 0, SLM_FORMAT, "dtype"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, SLM_FORMAT, "data_offsets"},
        {"{" T("a", "F32", "[2]", "[0]") "}", 8, SLM_FORMAT, "data_offsets"},
        {"{" T("a", "F32", "[2]", "[0,8.0]") "}", 8, SLM_FORMAT, "data_offsets"},
        {"{" T("a", "F32", "[2]", "[-8,0]") "}", 8, SLM_FORMAT, "outside"},
        {"{" T("a", "F32", "[2]", "[8,0]") "}", 8, SLM_FORMAT, "outside"},
        {"{" T("a", "F32", "[2]", "[0,16]") "}", 8, SLM_FORMAT, "outside"},
        {"{" T("a", "F32", "[3]", "[0,8]") "}", 8, SLM_FORMAT, "shape needs"},
        {"{" T("a", "F32", "[-2]", "[0,8]") "}", 8, SLM_FORMAT, "shape"},
        {"{" T("a", "F32", "[2.0]", "[0,8]") "}", 8, SLM_FORMAT, "shape"},
        {"{" T("a", "F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]") "}", 8, SLM_FORMAT, "dimensions"},
        {"{" T("a", "F32", "[4611686018427387906]", "[0,8]") "}", 8, SLM_FORMAT, "impossible"},
        {"{" T("a", "F32", "[4294967296,4294967296]", "[0,0]") "}", 0, SLM_FORMAT, "impossible"},
        {"{" T("a", "F32", "[99999999999999999999]", "[0,8]") "}", 8, SLM_FORMAT, "impossible"},
        {"{" T("a", "F31", "[2]", "[0,8]") "}", 8, SLM_UNSUPPORTED, "type"},
        {"{" T("a", "F32", "[1]", "[4,8]") "}", 8, SLM_FORMAT, "gap"},
        {"{" T("a", "F32", "[1]", "[0,4]") "}", 8, SLM_FORMAT, "data where"},
        {"{" T("a", "F32", "[2]", "[0,8]") "," T("b", "F32", "[2]", "[4,12]") "}", 12,
         SLM_FORMAT, "overlap"},
        {"{" T("a", "F32", "[2]", "[0,8]") "," T("b", "F32", "[2]", "[0,8]") "}", 8,
         SLM_FORMAT, "overlap"},
        {"{" T("a", "F32", "[1]", "[0,4]") "," T("a", "F32", "[1]", "[4,8]") "}", 8,
         SLM_FORMAT, "gives a key twice"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        slm_safetensors st;
        slm_error err;
        slm_status status = parse(bad[i].header, bad[i].data_bytes, &st, &err);
        CHECK(status == bad[i].status, "header %zu: status %d (%s)", i, (int) status, err.message);
        CHECK(strstr(err.message, bad[i].word) != NULL, "header %zu: \"%s\" lacks \"%s\"", i, err.message, bad[i].word);
        slm_safetensors_close(&st);
    }
}

/* More tensors than allowed are refused before they are looked at. */
static void check_many(void)
{
    size_t n = SLM_ST_MAX_TENSORS + 1, length = 1;
    char *header = malloc(n * 64);
    slm_safetensors st;
    slm_error err;
    header[0] = '{';
    for (size_t i = 0; i < n; i++)
        length += (size_t) sprintf(header + length, "%s\"t%zu\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}", i ? "," : "", i);
    strcpy(header + length, "}");
    CHECK(parse(header, 0, &st, &err) == SLM_FORMAT && st.n_tensors == 0, "%zu tensors: %s", n, err.message);
    slm_safetensors_close(&st);
    free(header);
}

int main(void)
{
    check_good();
    check_bad();
    check_many();
    test_replay("test/fuzz/corpus_safetensors", 20);
    TEST_MAIN_END("safetensors");
}
