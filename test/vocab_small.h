/*
 * Small vocabularies for tests: byte-level BPE with every byte, a few merges and the control tokens of all chat formats; SentencePiece
 * with byte fallback; WordPiece in both notations.
 */
#ifndef SLM_TEST_VOCAB_SMALL_H
#define SLM_TEST_VOCAB_SMALL_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/utf8.h"
#include "engine/text/tokenizer.h"

typedef struct small_vocab {
    slm_vocab v;
    slm_bytes tokens[1024], merges[256];
    int32_t types[1024];
    float scores[1024];
    char pool[16384];
    size_t pool_used;
} small_vocab;

static inline slm_bytes small_keep(small_vocab *s, const char *text, size_t n)
{
    char *at = s->pool + s->pool_used;
    memcpy(at, text, n);
    s->pool_used += n;
    return (slm_bytes){at, n};
}

static inline int32_t small_token(small_vocab *s, const char *text, int32_t type, float score)
{
    size_t i = s->v.n_tokens++;
    s->tokens[i] = small_keep(s, text, strlen(text));
    s->types[i] = type;
    s->scores[i] = score;
    return (int32_t) i;
}

static inline void small_begin(small_vocab *s, slm_tok_kind kind, const char *pre)
{
    memset(s, 0, sizeof *s);
    s->v.kind = kind;
    snprintf(s->v.pre, sizeof s->v.pre, "%s", pre);
    s->v.tokens = s->tokens;
    s->v.types = s->types;
    s->v.scores = kind == SLM_TOK_SPM ? s->scores : NULL;
    s->v.merges = s->merges;
    s->v.bos = s->v.eos = s->v.eot = s->v.unk = s->v.sep = s->v.pad = s->v.cls = s->v.mask = -1;
}

/* GPT-2's printable character for a byte. */
static inline int small_alphabet(int byte, char out[4])
{
    int printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    int code = printable ? byte : byte <= 32 ? 256 + byte : byte <= 160 ? 256 + 33 + byte - 127 : 256 + 67;
    return slm_utf8_encode((uint32_t) code, out);
}

static inline size_t small_encode_alphabet(const char *text, char *out)
{
    size_t n = 0;
    for (; *text != '\0'; text++)
        n += (size_t) small_alphabet((unsigned char) *text, out + n);
    out[n] = '\0';
    return n;
}

/* Adds the merge of two byte strings and the token that it makes, unless that is there. */
static inline void small_merge(small_vocab *s, const char *left, const char *right)
{
    char a[64], b[64], both[256];
    small_encode_alphabet(left, a);
    small_encode_alphabet(right, b);
    snprintf(both, sizeof both, "%s %s", a, b);
    s->merges[s->v.n_merges++] = small_keep(s, both, strlen(both));
    snprintf(both, sizeof both, "%s%s", a, b);
    for (size_t i = 0; i < s->v.n_tokens; i++)
        if (s->tokens[i].length == strlen(both) && memcmp(s->tokens[i].data, both, strlen(both)) == 0)
            return;
    small_token(s, both, SLM_TOKEN_NORMAL, 0);
}

static const char *const small_controls[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_sep|>", "<|begin_of_text|>",
    "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<s>", "</s>", "<bos>",
    "<start_of_turn>", "<end_of_turn>", "<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]", "<think>", "</think>"};

/* Ids 0..255 are the bytes. Tokens named in `leave_out` ("|a|b|") are left out. */
static inline void small_bpe(small_vocab *s, const char *pre, const char *leave_out)
{
    static const char *const merges[][2] = {{"h", "e"}, {"l", "l"}, {"he", "ll"}, {"hell", "o"}, {" ", "w"}, {"o", "r"}, {" w", "or"},
        {"l", "d"},
        {" wor", "ld"}, {"a", "a"}, {"aa", "aa"}, {"aaaa", "aaaa"}, {"b", "a"}, {"a", "b"}, {"ab", "ab"}, {" ", " "}, {"  ", "  "},
            {"\n", "\n"}};
    small_begin(s, SLM_TOK_BPE, pre);
    for (int i = 0; i < 256; i++) {
        char text[8];
        text[small_alphabet(i, text)] = '\0';
        small_token(s, text, SLM_TOKEN_NORMAL, 0);
    }
    for (size_t i = 0; i < sizeof merges / sizeof merges[0]; i++)
        small_merge(s, merges[i][0], merges[i][1]);
    for (size_t i = 0; i < sizeof small_controls / sizeof small_controls[0]; i++)
        if (leave_out == NULL || strstr(leave_out, small_controls[i]) == NULL)
            small_token(s, small_controls[i], SLM_TOKEN_CONTROL, 0);
    small_token(s, "<tool>", SLM_TOKEN_USER_DEFINED, 0);
}

static inline void small_spm(small_vocab *s, int prefix)
{
    static const struct { const char *text; float score; } pieces[] = {{"\xE2\x96\x81", -20}, {"h", -21}, {"e", -22}, {"l", -23}, {"o",
        -24}, {"w", -25},
        {"r", -26}, {"d", -27}, {"he", -3}, {"ll", -2}, {"hell", -4}, {"hello", -5}, {"\xE2\x96\x81hello", -6}, {"\xE2\x96\x81w", -1},
            {"or", -7},
        {"\xE2\x96\x81wor", -8}, {"ld", -9}, {"\xE2\x96\x81world", -10}, {"\xE2\x96\x81\xE2\x96\x81", -11}, {"a", -28}, {"aa", -12},
            {"aaa", -13},
        {"ab", -12}, {"b", -29}, {"\xC3\xA9", -30}};
    char text[8];
    small_begin(s, SLM_TOK_SPM, "default");
    s->v.unk = small_token(s, "<unk>", SLM_TOKEN_UNKNOWN, 0);
    s->v.bos = small_token(s, "<s>", SLM_TOKEN_CONTROL, 0);
    s->v.eos = small_token(s, "</s>", SLM_TOKEN_CONTROL, 0);
    for (int i = 0; i < 256; i++) {
        snprintf(text, sizeof text, "<0x%02X>", (unsigned) i & 0xFF);
        small_token(s, text, SLM_TOKEN_BYTE, 0);
    }
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++)
        small_token(s, pieces[i].text, SLM_TOKEN_NORMAL, pieces[i].score);
    s->v.add_bos = true;
    s->v.add_space_prefix = prefix != 0;
}

/* gguf: words begin with U+2581 and continuations are bare; else continuations begin with "##". */
static inline void small_wordpiece(small_vocab *s, int gguf)
{
    static const char *const words[] = {"hello", "world", "un", "a", "e", "caf", "i", "!", ",", "'", "\xE4\xB8\xAD", "\xE6\x96\x87", "10"};
    static const char *const parts[] = {"s", "aff", "able", "e", "d", "a", "0"};
    char text[32];
    small_begin(s, SLM_TOK_WORDPIECE, "default");
    s->v.pad = small_token(s, "[PAD]", SLM_TOKEN_CONTROL, 0);
    s->v.unk = small_token(s, "[UNK]", SLM_TOKEN_CONTROL, 0);
    s->v.cls = small_token(s, "[CLS]", SLM_TOKEN_CONTROL, 0);
    s->v.sep = small_token(s, "[SEP]", SLM_TOKEN_CONTROL, 0);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        snprintf(text, sizeof text, "%s%s", gguf ? "\xE2\x96\x81" : "", words[i]);
        small_token(s, text, SLM_TOKEN_NORMAL, 0);
    }
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        snprintf(text, sizeof text, "%s%s", gguf ? "" : "##", parts[i]);
        small_token(s, text, SLM_TOKEN_NORMAL, 0);
    }
    s->v.lowercase = s->v.strip_accents = true;
}

/* Builds and opens; prints why not. *blob is to be freed after the tokenizer. */
static inline slm_tokenizer *small_open(const slm_vocab *v, const char *chat_format, void **blob)
{
    slm_error err = {0};
    slm_tokenizer *tok = NULL;
    size_t bytes;
    *blob = NULL;
    if (slm_tokenizer_build(v, chat_format, blob, &bytes, &err) != SLM_OK || slm_tokenizer_open(*blob, bytes, &tok, &err) != SLM_OK)
        fprintf(stderr, "vocabulary: %s\n", err.message);
    return tok;
}

#endif
