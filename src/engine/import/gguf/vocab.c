/*
 * The vocabulary of a GGUF file, bounded and handed to text/tokenizer.h.
 *
 * Arrays are read by one pread each into a buffer and cut in place; the walk of slm_gguf_open has already checked their
 * lengths, and it is checked again here, since the file may have changed in between.  Types of arrays are demanded, not
 * assumed; every id lies inside the vocabulary or is absent (4294967295, which some converters write for "none", counts as
 * absent). The chat template is only compared with known ones, never run.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/import/gguf/gguf.h"
#include "engine/text/tokenizer.h"

typedef struct vocab_buffers {
    unsigned char *tokens_raw, *merges_raw;
    slm_bytes *tokens, *merges;
    float *scores;
    int32_t *types;
    char *chat_template;
    unsigned char *map; /* of characters, SentencePiece's */
    slm_text_step steps[2];
    int32_t eom;
    bool ranked; /* SentencePiece's pieces, merged by rank (Gemma 4) */
} vocab_buffers;

static void free_buffers(vocab_buffers *b)
{
    free(b->tokens_raw);
    free(b->merges_raw);
    free(b->tokens);
    free(b->merges);
    free(b->scores);
    free(b->types);
    free(b->chat_template);
    free(b->map);
}

static slm_status demand_array(const slm_gguf_value *v, slm_gguf_type type, slm_error *err)
{
    if (!v->is_array || v->type != type)
        return slm_fail(err, SLM_FORMAT, "%s has the wrong type", v->key);
    return SLM_OK;
}

/* An array of strings: its bytes in *raw, cut into (*strings)[v->n]. */
static slm_status read_strings(const slm_gguf *g, const slm_gguf_value *v, unsigned char **raw, slm_bytes **strings, slm_error *err)
{
    SLM_TRY(demand_array(v, SLM_GGUF_STRING, err));
    *raw = malloc((size_t) v->bytes + 1);
    *strings = calloc((size_t) v->n + 1, sizeof **strings);
    if (*raw == NULL || *strings == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    SLM_TRY(slm_gguf_read_value(g, v, *raw, err));
    uint64_t at = 0, length;
    for (uint32_t i = 0; i < v->n; i++) {
        if (v->bytes - at < 8)
            return slm_fail(err, SLM_FORMAT, "%s has changed while it was read", v->key);
        memcpy(&length, *raw + at, 8);
        at += 8;
        if (length > v->bytes - at)
            return slm_fail(err, SLM_FORMAT, "%s has changed while it was read", v->key);
        (*strings)[i] = (slm_bytes){(const char *) *raw + at, (size_t) length};
        at += length;
    }
    return SLM_OK;
}

/* An array of 4-byte entries, [n]. */
static slm_status read_words(const slm_gguf *g, const slm_gguf_value *v, slm_gguf_type type, size_t n, void **out, slm_error *err)
{
    SLM_TRY(demand_array(v, type, err));
    if (v->n != n)
        return slm_fail(err, SLM_FORMAT, "%s has %u entries for %zu tokens", v->key, v->n, n);
    *out = malloc(4 * n + 1);
    if (*out == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    return slm_gguf_read_value(g, v, *out, err);
}

static slm_status read_id(const slm_gguf *g, const char *key, size_t n_tokens, int32_t *out, slm_error *err)
{
    const slm_gguf_value *v = slm_gguf_find(g, key);
    double number;
    *out = -1;
    if (v == NULL)
        return SLM_OK;
    if (v->is_array || !slm_gguf_number(g, v, 0, &number))
        return slm_fail(err, SLM_FORMAT, "%s is no number", key);
    if (number == (double) UINT32_MAX || number == -1)
        return SLM_OK;
    if (!(number >= 0 && number < (double) n_tokens) || number != floor(number))
        return slm_fail(err, SLM_FORMAT, "%s is %g, but there are %zu tokens", key, number, n_tokens);
    *out = (int32_t) number;
    return SLM_OK;
}

static slm_status read_flag(const slm_gguf *g, const char *key, bool def, bool *out, slm_error *err)
{
    const slm_gguf_value *v = slm_gguf_find(g, key);
    double number;
    *out = def;
    if (v == NULL)
        return SLM_OK;
    if (v->is_array || v->type != SLM_GGUF_BOOL || !slm_gguf_number(g, v, 0, &number))
        return slm_fail(err, SLM_FORMAT, "%s is no boolean", key);
    *out = number != 0;
    return SLM_OK;
}

static slm_status read_ids(const slm_gguf *g, slm_vocab *vocab, vocab_buffers *b, slm_error *err)
{
    size_t n = vocab->n_tokens;
    SLM_TRY(read_id(g, "tokenizer.ggml.bos_token_id", n, &vocab->bos, err));
    SLM_TRY(read_id(g, "tokenizer.ggml.eos_token_id", n, &vocab->eos, err));
    SLM_TRY(read_id(g, "tokenizer.ggml.eot_token_id", n, &vocab->eot, err));
    SLM_TRY(read_id(g, "tokenizer.ggml.eom_token_id", n, &b->eom, err));
    vocab->ends = &b->eom;
    vocab->n_ends = b->eom >= 0;
    SLM_TRY(read_id(g, "tokenizer.ggml.unknown_token_id", n, &vocab->unk, err));
    SLM_TRY(read_id(g, "tokenizer.ggml.seperator_token_id", n, &vocab->sep, err)); /* misspelt in the specification */
    SLM_TRY(read_id(g, "tokenizer.ggml.padding_token_id", n, &vocab->pad, err));
    SLM_TRY(read_id(g, "tokenizer.ggml.cls_token_id", n, &vocab->cls, err));
    SLM_TRY(read_id(g, "tokenizer.ggml.mask_token_id", n, &vocab->mask, err));
    bool spm = vocab->kind == SLM_TOK_SPM || vocab->kind == SLM_TOK_UNIGRAM, bert = vocab->kind == SLM_TOK_WORDPIECE;
    bool llama3 = strcmp(vocab->pre, "llama-bpe") == 0 || strcmp(vocab->pre, "llama3") == 0;
    SLM_TRY(read_flag(g, "tokenizer.ggml.add_bos_token", spm || bert || llama3, &vocab->add_bos, err));
    SLM_TRY(read_flag(g, "tokenizer.ggml.add_eos_token", bert, &vocab->add_eos, err));
    vocab->add_bos = vocab->add_bos || (b->ranked && !vocab->split_marks); /* whatever the file says, as llama.cpp has it */
    SLM_TRY(read_flag(g, "tokenizer.ggml.add_space_prefix", spm && !b->ranked, &vocab->add_space_prefix, err));
    vocab->add_space_prefix = vocab->add_space_prefix || vocab->split_marks;
    SLM_TRY(read_flag(g, "tokenizer.ggml.normalizer.lowercase", bert, &vocab->lowercase, err));
    return read_flag(g, "tokenizer.ggml.normalizer.strip_accents", vocab->lowercase, &vocab->strip_accents, err);
}

static void warn(const slm_import_options *options, const slm_error *warning)
{
    slm_warnings *w = options != NULL ? options->warnings : NULL;
    if (w != NULL && w->n < SLM_MAX_WARNINGS)
        w->warnings[w->n] = *warning;
    if (w != NULL)
        w->n++;
}

/* The rule by which text is cut into words before merges: the file's, or the one that the caller names. */
static slm_status read_pre(const slm_gguf *g, const slm_import_options *options, slm_vocab *vocab, slm_error *err)
{
    const slm_gguf_value *v = slm_gguf_find(g, "tokenizer.ggml.pre");
    const char *chosen = options != NULL ? options->pre : NULL;
    char *pre = NULL;
    slm_status status = SLM_OK;
    slm_error warning;
    if (chosen != NULL && vocab->kind != SLM_TOK_BPE)
        return slm_fail(err, SLM_INVALID, "a pre-tokenizer can be chosen for byte-level BPE vocabularies only");
    if (v != NULL)
        SLM_TRY(slm_gguf_string(g, v, &pre, err));
    const char *name = chosen != NULL ? chosen : pre != NULL ? pre : "default";
    if (strlen(name) >= sizeof vocab->pre)
        status = slm_fail(err, SLM_UNSUPPORTED, "the pre-tokenizer \"%.60s\" is not supported", name);
    else
        memcpy(vocab->pre, name, strlen(name) + 1);
    if (status == SLM_OK && vocab->kind == SLM_TOK_BPE && strcmp(name, "default") == 0 && chosen == NULL) {
        slm_fail(&warning, SLM_FORMAT, "the file does not say how its tokenizer splits text into words");
        slm_hint(&warning, "Text is split as GPT-2 does, which makes answers worse where the model was trained otherwise. Convert the "
                           "model anew, or name the rule: {\"pre\": \"llama-bpe\"}, \"qwen2\", \"smollm\", \"gpt-4o\" ...");
        warn(options, &warning);
    }
    free(pre);
    return status;
}

/* *absent: the file says that it has no vocabulary. */
static slm_status read_kind(const slm_gguf *g, const slm_import_options *options, slm_vocab *vocab, bool *ranked, bool *absent,
                            slm_error *err)
{
    const slm_gguf_value *v = slm_gguf_find(g, "tokenizer.ggml.model");
    char *model = NULL;
    slm_status status = SLM_OK;
    *absent = v == NULL;
    if (v == NULL)
        return SLM_OK;
    SLM_TRY(slm_gguf_string(g, v, &model, err));
    if (strcmp(model, "none") == 0 || strcmp(model, "no_vocab") == 0)
        *absent = true;
    else if (strcmp(model, "gpt2") == 0)
        vocab->kind = SLM_TOK_BPE;
    else if (strcmp(model, "llama") == 0 || (*ranked = strcmp(model, "gemma4") == 0))
        vocab->kind = SLM_TOK_SPM;
    else if (strcmp(model, "bert") == 0)
        vocab->kind = SLM_TOK_WORDPIECE;
    else if (strcmp(model, "t5") == 0)
        vocab->kind = SLM_TOK_UNIGRAM;
    else
        status = slm_fail(err, SLM_UNSUPPORTED, "tokenizers of the kind \"%.40s\" are not supported", model);
    free(model);
    if (status == SLM_OK && !*absent)
        status = read_pre(g, options, vocab, err);
    if (status == SLM_OK && vocab->kind == SLM_TOK_BPE && strcmp(vocab->pre, "mmbert") == 0) { /* SentencePiece's pieces by name only */
        vocab->kind = SLM_TOK_SPM;
        *ranked = vocab->split_marks = vocab->prefix_once = true;
    }
    return status;
}

static slm_status add_step(slm_vocab *vocab, vocab_buffers *b, slm_text_op op, slm_bytes from, slm_bytes to)
{
    b->steps[vocab->n_steps++] = (slm_text_step){op, from, to};
    vocab->steps = b->steps;
    return SLM_OK;
}

/* Unigram: the map of characters, and what goes around texts (XLM-R's <s> A </s></s> B </s>). */
static slm_status read_unigram(const slm_gguf *g, slm_vocab *vocab, vocab_buffers *b, slm_error *err)
{
    const slm_gguf_value *v = slm_gguf_find(g, "tokenizer.ggml.precompiled_charsmap");
    int32_t first = vocab->bos, last = vocab->sep >= 0 ? vocab->sep : vocab->eos;
    if (vocab->unk < 0)
        return slm_fail(err, SLM_FORMAT, "the file's Unigram vocabulary has no unknown token");
    SLM_TRY(read_flag(g, "tokenizer.ggml.remove_extra_whitespaces", false, &vocab->split_white, err));
    vocab->framed = true;
    vocab->frame = (slm_tok_frame){first >= 0, last >= 0 ? 2 : 0, last >= 0, 0, {first}, {last, last}, {last}};
    if (v == NULL)
        return SLM_OK;
    if (!v->is_array || (v->type != SLM_GGUF_U8 && v->type != SLM_GGUF_I8))
        return slm_fail(err, SLM_FORMAT, "%s has the wrong type", v->key);
    b->map = malloc((size_t) v->bytes + 1);
    if (b->map == NULL)
        return slm_fail(err, SLM_NOMEM, "out of memory");
    SLM_TRY(slm_gguf_read_value(g, v, b->map, err));
    return add_step(vocab, b, SLM_TEXT_CHARSMAP, (slm_bytes){(char *) b->map, (size_t) v->bytes}, (slm_bytes){"", 0});
}

/* [CLS] A [SEP] B [SEP], which files of encoders with byte-level BPE call BOS and EOS. */
static void frame_text(slm_vocab *vocab)
{
    int32_t first = vocab->add_bos ? vocab->bos : -1, last = vocab->add_eos ? vocab->eos : -1, middle = vocab->sep >= 0 ? vocab->sep : last;
    vocab->framed = true;
    vocab->frame = (slm_tok_frame){first >= 0, middle >= 0, last >= 0, 0, {first}, {middle}, {last}};
}

static slm_status read_vocab(const slm_gguf *g, uint32_t n_vocab, slm_vocab *vocab, vocab_buffers *b, slm_error *err)
{
    const slm_gguf_value *v = slm_gguf_find(g, "tokenizer.ggml.tokens");
    if (v == NULL)
        return slm_fail(err, SLM_FORMAT, "the file names a tokenizer but has no tokenizer.ggml.tokens");
    if (v->n == 0 || (n_vocab != 0 && v->n != n_vocab))
        return slm_fail(err, SLM_FORMAT, "the vocabulary has %u tokens, the model %u", v->n, n_vocab);
    vocab->n_tokens = v->n;
    SLM_TRY(read_ids(g, vocab, b, err)); /* small things first: a refusal should cost little */
    if (vocab->kind == SLM_TOK_UNIGRAM)
        SLM_TRY(read_unigram(g, vocab, b, err));
    bool modern = vocab->kind == SLM_TOK_BPE && strcmp(vocab->pre, "modern-bert") == 0;
    if (modern || vocab->split_marks)
        frame_text(vocab);
    if (modern || (vocab->kind == SLM_TOK_BPE && strcmp(vocab->pre, "command-r") == 0)) /* composes, which the file does not say */
        SLM_TRY(add_step(vocab, b, SLM_TEXT_NFC, (slm_bytes){"", 0}, (slm_bytes){"", 0}));
    SLM_TRY(read_strings(g, v, &b->tokens_raw, &b->tokens, err));
    vocab->tokens = b->tokens;
    if ((v = slm_gguf_find(g, "tokenizer.ggml.scores")) != NULL) {
        SLM_TRY(read_words(g, v, SLM_GGUF_F32, vocab->n_tokens, (void **) &b->scores, err));
        for (size_t i = 0; i < vocab->n_tokens; i++)
            if (!isfinite(b->scores[i]))
                return slm_fail(err, SLM_FORMAT, "the score of token %zu is not finite", i);
        vocab->scores = b->scores;
    }
    if ((v = slm_gguf_find(g, "tokenizer.ggml.token_type")) != NULL) {
        SLM_TRY(read_words(g, v, SLM_GGUF_I32, vocab->n_tokens, (void **) &b->types, err));
        for (size_t i = 0; i < vocab->n_tokens; i++)
            if (b->types[i] < SLM_TOKEN_NORMAL || b->types[i] > SLM_TOKEN_BYTE)
                return slm_fail(err, SLM_FORMAT, "the type of token %zu is %d", i, b->types[i]);
        vocab->types = b->types;
    }
    if ((v = slm_gguf_find(g, "tokenizer.ggml.merges")) != NULL && (vocab->kind == SLM_TOK_BPE || b->ranked)) {
        SLM_TRY(read_strings(g, v, &b->merges_raw, &b->merges, err));
        vocab->merges = b->merges;
        vocab->n_merges = v->n;
    }
    if ((vocab->kind == SLM_TOK_BPE || b->ranked) && vocab->n_merges == 0) {
        slm_fail(err, SLM_FORMAT, "the file's vocabulary is %s, but it has no tokenizer.ggml.merges",
                 b->ranked ? "of pieces merged by rank" : "byte-level BPE");
        return slm_hint(err, "Without merges every byte would be a token of its own: convert the model anew with its tokenizer.");
    }
    if ((v = slm_gguf_find(g, "tokenizer.chat_template")) != NULL)
        SLM_TRY(slm_gguf_string(g, v, &b->chat_template, err));
    vocab->chat_template = b->chat_template;
    return SLM_OK;
}

slm_status slm_gguf_tokenizer(const slm_gguf *g, const slm_import_options *options, uint32_t n_vocab, const volatile int *stop,
                              void **blob, size_t *bytes, slm_error *err)
{
    slm_vocab vocab;
    vocab_buffers buffers;
    bool absent;
    memset(&vocab, 0, sizeof vocab);
    vocab.stop = stop;
    memset(&buffers, 0, sizeof buffers);
    SLM_TRY(read_kind(g, options, &vocab, &buffers.ranked, &absent, err));
    if (absent) {
        *blob = NULL;
        *bytes = 0;
        return SLM_OK;
    }
    slm_status status = read_vocab(g, n_vocab, &vocab, &buffers, err);
    vocab.end_text = options != NULL ? options->eos : NULL;
    if (status == SLM_OK)
        status = slm_tokenizer_build(&vocab, options != NULL ? options->chat_format : NULL, blob, bytes, err);
    free_buffers(&buffers);
    return status;
}
