/*
 * Fuzz target of the tokenizers: hostile texts, hostile blobs, hostile vocabularies, hostile templates.
 *
 *   byte 0: what is hostile (mod 4); byte 1: which vocabulary; byte 2: sizes and flags; the rest is the text, the patches, ...
 *
 * Besides not crashing: what encodes must decode to itself where the tokenizer is lossless, no control token may come out of text,
 * refusals carry a message, and pieces of slm_tokenizer_chunk cover the text within their limit.  A broken promise traps.
 */
#include <stdint.h>

#include "engine/text/chat.h"
#include "vocab_small.h"

#define PROMISE(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: broken promise: %s\n", __FILE__, __LINE__, #condition); \
            __builtin_trap(); \
        } \
    } while (0)

enum { N_VOCABS = 10 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The vocabularies are built once. */
static void *vocab_blob(unsigned which, size_t *bytes)
{
    static const char *const pres[] = {"gpt-2", "smollm", "llama-bpe", "qwen2", "gpt-4o", "tekken"};
    static void *blobs[N_VOCABS];
    static size_t sizes[N_VOCABS];
    static small_vocab s;
    slm_error err = {0};
    if (blobs[which] == NULL) {
        if (which < 6)
            small_bpe(&s, pres[which], NULL);
        else if (which < 8)
            small_spm(&s, which == 6);
        else
            small_wordpiece(&s, which == 8);
        PROMISE(slm_tokenizer_build(&s.v, NULL, &blobs[which], &sizes[which], &err) == SLM_OK);
    }
    *bytes = sizes[which];
    return blobs[which];
}

static slm_tokenizer *vocab_open(unsigned which)
{
    static slm_tokenizer *open[N_VOCABS];
    slm_error err = {0};
    size_t bytes;
    void *blob = vocab_blob(which, &bytes);
    if (open[which] == NULL)
        PROMISE(slm_tokenizer_open(blob, bytes, &open[which], &err) == SLM_OK);
    return open[which];
}

static void check_round_trip(slm_tokenizer *tok, const slm_ids *ids, const char *text, size_t n)
{
    char *back = NULL;
    size_t back_n = 0;
    slm_error err = {0};
    PROMISE(slm_tokenizer_decode(tok, ids->ids, ids->n, true, NULL, &back, &back_n, &err) == SLM_OK);
    PROMISE(back_n == n && memcmp(back, text, n) == 0);
    free(back);
}

static void check_chunks(slm_tokenizer *tok, const char *text, size_t n, size_t max_tokens, size_t overlap, size_t n_ids)
{
    size_t *offsets = NULL, n_chunks = 0, covered = 0;
    slm_error err = {0};
    slm_status status = slm_tokenizer_chunk(tok, text, n, max_tokens, overlap, NULL, &offsets, &n_chunks, &err);
    PROMISE(status == SLM_OK || (status == SLM_INVALID && err.message[0] != '\0'));
    for (size_t i = 0; status == SLM_OK && i < n_chunks; i++) {
        slm_ids ids = {0};
        size_t begin = offsets[2 * i], end = offsets[2 * i + 1];
        PROMISE(begin <= covered && end > covered && end <= n);
        PROMISE(slm_tokenizer_encode(tok, text + begin, end - begin, false, true, NULL, &ids, &err) == SLM_OK);
        PROMISE(ids.n <= max_tokens);
        covered = end;
        free(ids.ids);
    }
    PROMISE(status != SLM_OK || covered == n || n_ids == 0);
    free(offsets);
}

static void hostile_text(unsigned which, unsigned flags, const char *text, size_t n)
{
    slm_tokenizer *tok = vocab_open(which);
    slm_ids ids = {0};
    slm_error err = {0};
    bool special = (flags & 1) != 0, bad = slm_utf8_valid_prefix(text, n) < n || (n > 0 && memchr(text, 0, n) != NULL);
    slm_status status = slm_tokenizer_encode(tok, text, n, special, true, NULL, &ids, &err);
    PROMISE(bad ? status == SLM_INVALID && err.message[0] != '\0' && ids.n == 0 : status == SLM_OK);
    for (size_t i = 0; i < ids.n; i++) {
        PROMISE(ids.ids[i] >= 0 && (size_t) ids.ids[i] < slm_tokenizer_size(tok));
        bool unknown = which >= 8 && ids.ids[i] == slm_tokenizer_find(tok, "[UNK]", 5);
        PROMISE(special || unknown || slm_tokenizer_type(tok, ids.ids[i]) != SLM_TOKEN_CONTROL);
    }
    bool lossless = which < 8 && (which < 6 || (!special && memmem(text, n, "\xE2\x96\x81", 3) == NULL));
    if (!bad && lossless && n > 0)
        check_round_trip(tok, &ids, text, n);
    if (!bad && n > 0)
        check_chunks(tok, text, n, 1 + (flags >> 1) % 40, (flags >> 1) % 40 * (flags >> 7) / 2, ids.n);
    free(ids.ids);
}

static void use(slm_tokenizer *tok, const char *text, size_t n)
{
    slm_error err = {0};
    slm_ids ids = {0};
    slm_prompt prompt = {0};
    slm_segment segment = {SLM_ROLE_USER, 0, text, n};
    char *back = NULL;
    size_t back_n;
    slm_tokenizer_encode(tok, text, n, true, true, NULL, &ids, &err);
    if (slm_tokenizer_decode(tok, ids.ids, ids.n, true, NULL, &back, &back_n, &err) == SLM_OK)
        PROMISE(slm_utf8_valid_prefix(back, back_n) == back_n);
    if (slm_prompt_build(tok, true, &segment, 1, 0, NULL, &prompt, &err) == SLM_OK)
        slm_prompt_free(&prompt);
    free(back);
    free(ids.ids);
}

/* Patches of three bytes: offset (16 bits) and new value. */
static void hostile_blob(unsigned which, const uint8_t *data, size_t n)
{
    size_t bytes;
    const void *good = vocab_blob(which, &bytes);
    char *blob = malloc(bytes);
    slm_tokenizer *tok = NULL;
    slm_error err = {0};
    PROMISE(blob != NULL);
    memcpy(blob, good, bytes);
    for (size_t i = 0; i + 3 <= n; i += 3)
        blob[(data[i] | (size_t) data[i + 1] << 8) % bytes] = (char) data[i + 2];
    if (slm_tokenizer_open(blob, bytes, &tok, &err) == SLM_OK)
        use(tok, "hello <|im_end|> world \xE4\xB8\xAD\xE6\x96\x87 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 71);
    else
        PROMISE(err.message[0] != '\0');
    slm_tokenizer_free(tok);
    free(blob);
}

/* Lines "T text" are tokens whose type is the digit T; lines after an empty one are merges. */
static void hostile_vocab(unsigned which, unsigned flags, const char *data, size_t n)
{
    static slm_bytes tokens[4096], merges[4096];
    static int32_t types[4096];
    static float scores[4096];
    slm_vocab v = {.kind = (slm_tok_kind) (which % 3), .tokens = tokens, .types = types, .scores = scores, .merges = merges, .bos = -1,
        .eos = (int32_t) (flags & 15) - 1, .eot = -1, .unk = (int32_t) (flags >> 4) - 1, .sep = -1, .pad = -1, .cls = -1, .mask = -1,
        .add_space_prefix = (flags & 1) != 0, .lowercase = true, .strip_accents = true};
    bool in_merges = false;
    memcpy(v.pre, "gpt-2", 6);
    for (size_t at = 0; at < n && v.n_tokens < 4096 && v.n_merges < 4096;) {
        const char *line = data + at, *end = memchr(line, '\n', n - at);
        size_t length = end != NULL ? (size_t) (end - line) : n - at;
        at += length + 1;
        if (length == 0) {
            in_merges = true;
        } else if (in_merges) {
            merges[v.n_merges++] = (slm_bytes){line, length};
        } else {
            types[v.n_tokens] = line[0] - '0';
            scores[v.n_tokens] = (float) (length * 7 % 5);
            tokens[v.n_tokens++] = (slm_bytes){line + 1, length - 1};
        }
    }
    void *blob = NULL;
    size_t bytes;
    slm_tokenizer *tok = NULL;
    slm_error err = {0};
    if (slm_tokenizer_build(&v, NULL, &blob, &bytes, &err) == SLM_OK) {
        PROMISE(slm_tokenizer_open(blob, bytes, &tok, &err) == SLM_OK);
        use(tok, data, slm_utf8_valid_prefix(data, n));
        slm_tokenizer_free(tok);
    } else {
        PROMISE(err.message[0] != '\0');
    }
    free(blob);
}

static void hostile_template(const char *data, size_t n)
{
    static small_vocab s;
    char *text = malloc(n + 1);
    void *blob = NULL;
    PROMISE(text != NULL);
    memcpy(text, data, n);
    text[n] = '\0';
    small_spm(&s, 1);
    s.v.chat_template = text;
    slm_tokenizer *tok = small_open(&s.v, NULL, &blob);
    PROMISE(tok != NULL);
    use(tok, data, n);
    slm_tokenizer_free(tok);
    free(blob);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3 || size > 8192)
        return 0;
    unsigned which = data[1] % N_VOCABS, flags = data[2];
    switch (data[0] % 4) {
    case 0: hostile_text(which, flags, (const char *) data + 3, size - 3); break;
    case 1: hostile_blob(which, data + 3, size - 3); break;
    case 2: hostile_vocab(which, flags, (const char *) data + 3, size - 3); break;
    default: hostile_template((const char *) data + 3, size - 3); break;
    }
    return 0;
}
