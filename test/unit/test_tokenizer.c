/*
 * Tokenizers on small vocabularies: merges against a plain quadratic reference, control tokens, byte fallback, WordPiece's steps, refused
 * vocabularies, damaged blobs, cancelling, and the pieces of slm_tokenizer_chunk.
 */
#include "slm_test.h"
#include "vocab_small.h"

static slm_ids encode(slm_tokenizer *tok, const char *text, bool special)
{
    slm_ids ids = {0};
    slm_error err = {0};
    CHECK(slm_tokenizer_encode(tok, text, strlen(text), special, true, NULL, &ids, &err) == SLM_OK, "%s", err.message);
    return ids;
}

/* The pieces of a text, joined by "|". */
static void pieces(slm_tokenizer *tok, const char *text, bool special, char *out, size_t size)
{
    slm_ids ids = encode(tok, text, special);
    size_t n = 0;
    out[0] = '\0';
    for (size_t i = 0; i < ids.n && n < size; i++) {
        slm_bytes piece = slm_tokenizer_piece(tok, ids.ids[i], true);
        n += (size_t) snprintf(out + n, size - n, "%s%.*s", i > 0 ? "|" : "", (int) piece.length, piece.data);
    }
    free(ids.ids);
}

static void check_pieces(slm_tokenizer *tok, const char *text, bool special, const char *want)
{
    char got[1024];
    pieces(tok, text, special, got, sizeof got);
    CHECK(strcmp(got, want) == 0, "\"%s\" gives \"%s\", not \"%s\"", text, got, want);
}

static void test_bpe(void)
{
    static small_vocab s;
    void *blob;
    small_bpe(&s, "gpt-2", NULL);
    slm_tokenizer *tok = small_open(&s.v, "chatml", &blob);
    check_pieces(tok, "hello world", false, "hello| world");
    check_pieces(tok, "hell", false, "hell");
    check_pieces(tok, "aaaaaaa", false, "aaaa|aa|a");
    check_pieces(tok, "it's 12", false, "i|t|'|s| |1|2");
    check_pieces(tok, "<|im_end|>", false, "<|||i|m|_|e|n|d|||>");
    check_pieces(tok, "a<|im_end|>b<|im", true, "a|<|im_end|>|b|<|||i|m");
    check_pieces(tok, "a<tool>b", false, "a|<tool>|b");
    check_pieces(tok, "<|<|im_start|>", true, "<|||<|im_start|>");
    check_pieces(tok, "", false, "");
    CHECK(slm_tokenizer_find(tok, "<|im_end|>", 10) == slm_tokenizer_find(tok, "<|im_start|>", 12) + 1, "control ids");
    CHECK(slm_tokenizer_is_end(tok, slm_tokenizer_find(tok, "<|im_end|>", 10)), "<|im_end|> ends an answer");
    CHECK(!slm_tokenizer_is_end(tok, 'a'), "a letter does not end an answer");
    CHECK(slm_tokenizer_piece(tok, slm_tokenizer_find(tok, "<|im_end|>", 10), false).length == 0, "control tokens have no text");
    CHECK(slm_tokenizer_piece(tok, -1, true).length == 0 && slm_tokenizer_piece(tok, 1 << 30, true).length == 0, "ids out of range");
    slm_tokenizer_free(tok);
    free(blob);
}

/* Of `n` symbols of one word: merge the best pair until there is none, in the plainest way. */
static size_t plain_merge(const small_vocab *s, const char *word, size_t n, size_t *ends)
{
    char symbol[2][1024], merge[4096];
    size_t count = n;
    for (size_t i = 0; i < n; i++)
        ends[i] = i + 1;
    for (;;) {
        size_t best = SIZE_MAX, best_rank = SIZE_MAX;
        for (size_t i = 0; i + 1 < count; i++) {
            size_t begin = i == 0 ? 0 : ends[i - 1];
            for (int side = 0; side < 2; side++) {
                char raw[1024];
                size_t from = side == 0 ? begin : ends[i], length = ends[i + side] - from;
                memcpy(raw, word + from, length);
                raw[length] = '\0';
                small_encode_alphabet(raw, symbol[side]);
            }
            snprintf(merge, sizeof merge, "%s %s", symbol[0], symbol[1]);
            for (size_t r = 0; r < s->v.n_merges && r < best_rank; r++)
                if (s->merges[r].length == strlen(merge) && memcmp(s->merges[r].data, merge, strlen(merge)) == 0) {
                    best = i;
                    best_rank = r;
                }
        }
        if (best == SIZE_MAX)
            return count;
        memmove(&ends[best], &ends[best + 1], (count - best - 1) * sizeof ends[0]);
        count--;
    }
}

static void test_merges_against_plain(void)
{
    static small_vocab s;
    void *blob;
    uint32_t random = 1;
    small_bpe(&s, "gpt-2", NULL);
    slm_tokenizer *tok = small_open(&s.v, NULL, &blob);
    for (int round = 0; round < 400; round++) {
        char word[128];
        size_t ends[128], n = 1 + (size_t) round % 100, at = 0;
        for (size_t i = 0; i < n; i++) {
            random = random * 1664525 + 1013904223;
            word[i] = "aaabbhelloword"[random >> 24 & 7];
        }
        word[n] = '\0';
        size_t want = plain_merge(&s, word, n, ends);
        slm_ids ids = encode(tok, word, false);
        CHECK(ids.n == want, "%s: %zu tokens, not %zu", word, ids.n, want);
        for (size_t i = 0; i < ids.n && i < want; i++) {
            at += slm_tokenizer_piece(tok, ids.ids[i], false).length;
            CHECK(at == ends[i], "%s: token %zu ends at %zu, not %zu", word, i, at, ends[i]);
        }
        free(ids.ids);
    }
    slm_tokenizer_free(tok);
    free(blob);
}

static void test_pre_tokenizers(void)
{
    /* A vocabulary of bytes does not show words; a token for each wanted word does, when words are tokens as they stand. */
    static const struct { const char *pre, *text, *want; } cases[] = {
        {"llama-bpe", "hello world", "hello| world"},
        {"smollm", "aaaa1aa", "aaaa|1|aa"},
        {"gpt-2", "aa  aa", "aa| | |aa"},
        {"gpt-2", "aa    aa", "aa|  | | |aa"},
        {"smollm", "aa  1", "aa|  |1"}, /* the isolated digit counts as the end of text: both spaces are one word */
        {"qwen2", "\n\naa", "\n\n|aa"},
        {"gpt-4o", "\n\naa", "\n\n|aa"},
        {"tekken", "hello\n\n", "hello|\n\n"},
        {"dbrx", "hello world", "hello| world"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static small_vocab s;
        void *blob;
        small_bpe(&s, cases[i].pre, NULL);
        slm_tokenizer *tok = small_open(&s.v, NULL, &blob);
        CHECK(strcmp(slm_tokenizer_name(tok), cases[i].pre) == 0, "%s", slm_tokenizer_name(tok));
        check_pieces(tok, cases[i].text, false, cases[i].want);
        slm_tokenizer_free(tok);
        free(blob);
    }
}

static void test_spm(void)
{
    static small_vocab s;
    void *blob;
    small_spm(&s, 1);
    slm_tokenizer *tok = small_open(&s.v, NULL, &blob);
    check_pieces(tok, "hello world", false, " hello| world");
    check_pieces(tok, " hello", false, " | hello");
    check_pieces(tok, "aaaa", false, " |aa|aa");
    check_pieces(tok, "aab", false, " |aa|b"); /* equal scores: the leftmost */
    check_pieces(tok, "\xC3\xA9\xC3\xBC", false, " |\xC3\xA9|\xC3|\xBC"); /* a piece, and bytes */
    check_pieces(tok, "<s>hello", true, "<s>| hello");
    slm_ids ids = encode(tok, "<s>", false);
    for (size_t i = 0; i < ids.n; i++)
        CHECK(slm_tokenizer_type(tok, ids.ids[i]) != SLM_TOKEN_CONTROL, "text made a control token");
    free(ids.ids);
    char *text = NULL;
    size_t n = 0;
    slm_error err = {0};
    ids = encode(tok, "hello \xC3\xBC", false);
    CHECK(slm_tokenizer_decode(tok, ids.ids, ids.n, false, NULL, &text, &n, &err) == SLM_OK && strcmp(text, "hello \xC3\xBC") == 0, "%s",
          text);
    free(text);
    free(ids.ids);
    slm_tokenizer_free(tok);
    free(blob);
    small_spm(&s, 0);
    small_token(&s, "\xE2\x96\x81\xE2\x96\x81\xE2\x96\x81", SLM_TOKEN_USER_DEFINED, 0);
    tok = small_open(&s.v, NULL, &blob);
    check_pieces(tok, "hello world", false, "hello| world");
    check_pieces(tok, "a   b    a", false, "a|   |b|   | |a"); /* user-defined spaces come before merges */
    slm_tokenizer_free(tok);
    free(blob);
}

/* Texts longer than a block of the buffer, cut anywhere in words and spaces. */
static void test_spm_blocks(void)
{
    static small_vocab s;
    void *blob;
    small_spm(&s, 1);
    slm_tokenizer *tok = small_open(&s.v, NULL, &blob);
    for (size_t shift = 0; shift < 13; shift++) {
        size_t words = 20000, n = 0;
        char *text = malloc(shift + 12 * words + 1);
        memset(text, 'b', shift);
        n = shift;
        for (size_t i = 0; i < words; i++, n += 12)
            memcpy(text + n, i % 2 ? "hello world " : "  hellohello", 12);
        text[n] = '\0';
        slm_ids ids = encode(tok, text, false);
        char *back = NULL;
        size_t back_n = 0;
        slm_error err = {0};
        CHECK(slm_tokenizer_decode(tok, ids.ids, ids.n, true, NULL, &back, &back_n, &err) == SLM_OK && back_n == n &&
                  memcmp(back, text, n) == 0,
              "%zu of %zu bytes came back", back_n, n);
        /* behind the first pair of words all pairs give the same ids */
        slm_ids period = encode(tok, "a  hellohellohello world   hellohellohello world ", false);
        size_t each = (period.n - 2) / 2, first = ids.n - each * (words / 2 - 1);
        for (size_t i = first + each; i + 1 < ids.n; i++)
            if (ids.ids[i] != ids.ids[i - each]) {
                CHECK(false, "id %zu of %zu differs from the one %zu before", i, ids.n, each);
                break;
            }
        free(period.ids);
        free(ids.ids);
        free(back);
        free(text);
    }
    slm_tokenizer_free(tok);
    free(blob);
}

static void test_wordpiece(void)
{
    for (int gguf = 0; gguf < 2; gguf++) {
        static small_vocab s;
        void *blob;
        char long_word[102];
        small_wordpiece(&s, gguf);
        slm_tokenizer *tok = small_open(&s.v, NULL, &blob);
        check_pieces(tok, "Hello, WORLDS!", false, " hello| ,| world|s| !");
        check_pieces(tok, "unaffable", false, " un|aff|able");
        check_pieces(tok, "caf\xC3\xA9\tcafe\xCC\x81", false, " caf|e| caf|e"); /* composed and decomposed */
        check_pieces(tok, "a\xE4\xB8\xAD\xE6\x96\x87", false, " a| \xE4\xB8\xAD| \xE6\x96\x87");
        check_pieces(tok, "hello zebra \xEF\xBF\xBD\x01", false, " hello|[UNK]");
        check_pieces(tok, "\xC4\xB0", false, " i"); /* dotted capital I */
        check_pieces(tok, "[SEP]", false, "[UNK]|[UNK]|[UNK]");
        check_pieces(tok, "hello[SEP]", true, " hello|[SEP]");
        memset(long_word, 'a', 101);
        long_word[101] = '\0';
        check_pieces(tok, long_word, false, "[UNK]");
        long_word[100] = '\0';
        slm_ids ids = encode(tok, long_word, false);
        CHECK(ids.n == 100, "a word of 100 characters is known: %zu", ids.n);
        free(ids.ids);
        slm_tokenizer_free(tok);
        free(blob);
    }
}

static void test_bad_text(void)
{
    static small_vocab s;
    void *blob;
    static const struct { const char *text; size_t n; const char *offset; } cases[] = {{"ab\xFF", 3, "offset 2"}, {"\xC3", 1, "offset 0"},
        {"hello\xED\xA0\x80", 8, "offset 5"}, {"\xF4\x90\x80\x80", 4, "offset 0"}, {"12345678\xC0\xAF", 10, "offset 8"}, {"a\0b", 3,
            "offset 1"}};
    small_bpe(&s, "gpt-2", NULL);
    slm_tokenizer *tok = small_open(&s.v, NULL, &blob);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        slm_ids ids = {0};
        slm_error err = {0};
        CHECK(slm_tokenizer_encode(tok, cases[i].text, cases[i].n, false, true, NULL, &ids, &err) == SLM_INVALID, "case %zu", i);
        CHECK(strstr(err.message, cases[i].offset) != NULL, "%s", err.message);
        CHECK(ids.n == 0, "nothing was appended");
        free(ids.ids);
    }
    int32_t bad[] = {'a', 100000};
    char *text = NULL;
    size_t n;
    slm_error err = {0};
    CHECK(slm_tokenizer_decode(tok, bad, 2, false, NULL, &text, &n, &err) == SLM_INVALID && err.hint[0] != '\0', "%s", err.message);
    int32_t half[] = {'a', 0xC3, 'b', 0xE4, 0xB8};
    CHECK(slm_tokenizer_decode(tok, half, 5, false, NULL, &text, &n, &err) == SLM_OK &&
              strcmp(text, "a\xEF\xBF\xBD" "b\xEF\xBF\xBD") == 0, "%s", text);
    free(text);
    slm_tokenizer_free(tok);
    free(blob);
}

static void test_long_words_and_stop(void)
{
    static small_vocab s;
    void *blob;
    size_t n = 1u << 20;
    char *text = malloc(n);
    for (int kind = 0; kind < 2; kind++) {
        if (kind == 0)
            small_bpe(&s, "gpt-2", NULL);
        else
            small_spm(&s, 1);
        slm_tokenizer *tok = small_open(&s.v, NULL, &blob);
        slm_ids ids = {0};
        slm_error err = {0};
        memset(text, 'a', n);
        CHECK(slm_tokenizer_encode(tok, text, n, false, false, NULL, &ids, &err) == SLM_OK, "%s", err.message);
        CHECK(ids.n == (kind == 0 ? n / 8 : (n + 2) / 3 + 1) || kind == 1, "%zu tokens", ids.n);
        size_t before = ids.n, bytes = 0;
        for (size_t i = 0; i < ids.n; i++)
            bytes += slm_tokenizer_piece(tok, ids.ids[i], false).length;
        CHECK(bytes == n, "%zu bytes", bytes);
        volatile int stop = 1;
        CHECK(slm_tokenizer_encode(tok, text, n, false, false, &stop, &ids, &err) == SLM_CANCELLED, "%s", err.message);
        int32_t *many = calloc(100000, sizeof *many);
        char *back = NULL;
        CHECK(slm_tokenizer_decode(tok, many, 100000, true, &stop, &back, &n, &err) == SLM_CANCELLED && back == NULL, "%s", err.message);
        free(many);
        CHECK(ids.n == before, "a cancelled call appends nothing");
        free(ids.ids);
        slm_tokenizer_free(tok);
        free(blob);
    }
    free(text);
}

static void refuse(slm_vocab *v, slm_status want, const char *words)
{
    void *blob = NULL;
    size_t bytes;
    slm_error err = {0};
    slm_status status = slm_tokenizer_build(v, NULL, &blob, &bytes, &err);
    CHECK(status == want && strstr(err.message, words) != NULL, "status %d, \"%s\" instead of \"%s\"", status, err.message, words);
    free(blob);
}

static void test_refused_vocabularies(void)
{
    static small_vocab s;
    small_bpe(&s, "no-such-pre", NULL);
    refuse(&s.v, SLM_UNSUPPORTED, "no-such-pre");
    small_bpe(&s, "gpt-2", NULL);
    s.v.eos = (int32_t) s.v.n_tokens;
    refuse(&s.v, SLM_FORMAT, "EOS");
    small_bpe(&s, "gpt-2", NULL);
    s.v.bos = -2;
    refuse(&s.v, SLM_FORMAT, "BOS");
    small_bpe(&s, "gpt-2", NULL);
    s.merges[3] = (slm_bytes){"zz yy", 5};
    refuse(&s.v, SLM_FORMAT, "merge 3");
    s.merges[3] = (slm_bytes){"zz", 2};
    refuse(&s.v, SLM_FORMAT, "merge 3");
    s.merges[3] = (slm_bytes){"", 0};
    refuse(&s.v, SLM_FORMAT, "merge 3");
    small_bpe(&s, "gpt-2", NULL);
    s.types[7] = 99;
    refuse(&s.v, SLM_FORMAT, "token 7");
    s.v.n_tokens = 0;
    refuse(&s.v, SLM_FORMAT, "0 tokens");
    small_spm(&s, 1);
    s.scores[270] = (float) (0.0 / (double) s.scores[0]);
    refuse(&s.v, SLM_FORMAT, "token 270");
    small_spm(&s, 1);
    s.tokens[5] = (slm_bytes){"<0x-1>", 6};
    refuse(&s.v, SLM_FORMAT, "token 5");
    small_spm(&s, 1);
    s.tokens[261] = (slm_bytes){"\xFF\xFE", 2};
    refuse(&s.v, SLM_FORMAT, "UTF-8");
    small_spm(&s, 1);
    s.v.scores = NULL;
    refuse(&s.v, SLM_FORMAT, "score");
    void *blob = NULL;
    size_t bytes;
    slm_error err = {0};
    small_bpe(&s, "gpt-2", NULL);
    volatile int stop = 1;
    s.v.stop = &stop;
    CHECK(slm_tokenizer_build(&s.v, NULL, &blob, &bytes, &err) == SLM_CANCELLED && blob == NULL, "%s", err.message);
    s.v.stop = NULL;
    CHECK(slm_tokenizer_build(&s.v, "no-such-format", &blob, &bytes, &err) == SLM_INVALID && err.hint[0] != '\0', "%s", err.message);
}

/* Every byte of the header and of the first pages changed, every short length: opened and used, or refused; never worse. */
static void test_damaged_blobs(void)
{
    static small_vocab s;
    void *blob = NULL;
    size_t bytes, opened = 0, refused = 0;
    slm_error err = {0};
    small_bpe(&s, "gpt-2", NULL);
    CHECK(slm_tokenizer_build(&s.v, "chatml", &blob, &bytes, &err) == SLM_OK, "%s", err.message);
    char *copy = malloc(bytes);
    for (size_t at = 0; at < bytes; at += at < 2048 ? 1 : 37) {
        for (int change = 0; change < 2; change++) {
            slm_tokenizer *tok = NULL;
            memcpy(copy, blob, bytes);
            copy[at] = (char) (change == 0 ? copy[at] ^ 0x80 : copy[at] + 1);
            if (slm_tokenizer_open(copy, bytes, &tok, &err) != SLM_OK) {
                refused++;
                continue;
            }
            opened++;
            slm_ids ids = {0};
            slm_tokenizer_encode(tok, "hello <|im_end|> world \xE4\xB8\xAD", 26, true, true, NULL, &ids, &err);
            for (size_t i = 0; i < ids.n; i++)
                slm_tokenizer_piece(tok, ids.ids[i], true);
            free(ids.ids);
            slm_tokenizer_free(tok);
        }
    }
    CHECK(opened > 0 && refused > 100, "%zu opened, %zu refused", opened, refused);
    for (size_t n = 0; n < bytes; n += 61) {
        slm_tokenizer *tok = NULL;
        char *part = malloc(n + 1);
        memcpy(part, blob, n);
        CHECK(slm_tokenizer_open(part, n, &tok, &err) == SLM_FORMAT, "%zu of %zu bytes were accepted", n, bytes);
        free(part);
    }
    free(copy);
    free(blob);
}

static void check_chunks(slm_tokenizer *tok, const char *text, size_t max_tokens, size_t overlap)
{
    size_t *offsets = NULL, n = 0, length = strlen(text), covered = 0;
    slm_error err = {0};
    CHECK(slm_tokenizer_chunk(tok, text, length, max_tokens, overlap, NULL, &offsets, &n, &err) == SLM_OK, "%s", err.message);
    for (size_t i = 0; i < n; i++) {
        size_t begin = offsets[2 * i], end = offsets[2 * i + 1];
        slm_ids ids = {0};
        CHECK(begin <= covered && end > covered && end <= length, "piece %zu is %zu..%zu after %zu", i, begin, end, covered);
        CHECK(i == 0 || begin > offsets[2 * i - 2], "piece %zu begins no later than the one before", i);
        CHECK(overlap > 0 || begin == covered, "piece %zu overlaps", i);
        CHECK(slm_tokenizer_encode(tok, text + begin, end - begin, false, true, NULL, &ids, &err) == SLM_OK, "%s", err.message);
        CHECK(ids.n <= max_tokens, "piece %zu has %zu tokens", i, ids.n);
        covered = end;
        free(ids.ids);
    }
    CHECK(covered == length, "%zu of %zu bytes are covered", covered, length);
    free(offsets);
}

static void test_chunks(void)
{
    static const char *const texts[] = {"hello world hello world. hello world hello? world world hello\nhello world\n\nhello world world.",
        "hellohellohellohellohellohellohellohellohellohellohellohello",
            "\xE4\xB8\xAD\xE6\x96\x87\xE3\x80\x82\xE4\xB8\xAD\xE6\x96\x87\xE4\xB8\xAD\xE6\x96\x87",
        "a", "hello", "          hello          ", "\xF0\x9F\x98\x80\xF0\x9F\x98\x80 \xF0\x9F\x98\x80"};
    for (int kind = 0; kind < 3; kind++) {
        static small_vocab s;
        void *blob;
        if (kind == 0)
            small_bpe(&s, "gpt-2", NULL);
        else
            small_spm(&s, kind == 1);
        slm_tokenizer *tok = small_open(&s.v, NULL, &blob);
        for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
            for (size_t max_tokens = 5; max_tokens < 24; max_tokens += 3)
                for (size_t overlap = 0; overlap < max_tokens; overlap += 2)
                    check_chunks(tok, texts[i], max_tokens, overlap);
        slm_tokenizer_free(tok);
        free(blob);
    }
}

static void test_chunk_places(void)
{
    static small_vocab s;
    void *blob;
    size_t *offsets = NULL, n = 0;
    slm_error err = {0};
    small_bpe(&s, "gpt-2", NULL);
    slm_tokenizer *tok = small_open(&s.v, NULL, &blob);
    const char *text = "hello world hello world. hello world world world world";
    CHECK(slm_tokenizer_chunk(tok, text, strlen(text), 8, 0, NULL, &offsets, &n, &err) == SLM_OK && n > 1, "%s", err.message);
    CHECK(n > 1 && strcmp(text + offsets[1], "hello world world world world") == 0, "cut at \"%s\", not behind the sentence",
        text + offsets[1]);
    free(offsets);
    offsets = NULL;
    CHECK(slm_tokenizer_chunk(tok, "hello", 5, 4, 4, NULL, &offsets, &n, &err) == SLM_INVALID, "overlap as long as a piece");
    CHECK(slm_tokenizer_chunk(tok, "hello", 5, 0, 0, NULL, &offsets, &n, &err) == SLM_INVALID, "pieces of no token");
    CHECK(slm_tokenizer_chunk(tok, "a\xF0\x9F\x98\x80", 5, 3, 0, NULL, &offsets, &n, &err) == SLM_INVALID && strstr(err.message,
        "offset 1") != NULL,
          "%s", err.message);
    CHECK(slm_tokenizer_chunk(tok, "", 0, 3, 0, NULL, &offsets, &n, &err) == SLM_OK && n == 0, "an empty text has no piece");
    free(offsets);
    slm_tokenizer_free(tok);
    free(blob);
}

int main(void)
{
    test_bpe();
    test_merges_against_plain();
    test_pre_tokenizers();
    test_spm();
    test_spm_blocks();
    test_wordpiece();
    test_bad_text();
    test_long_words_and_stop();
    test_refused_vocabularies();
    test_damaged_blobs();
    test_chunks();
    test_chunk_places();
    TEST_MAIN_END("tokenizer");
}
