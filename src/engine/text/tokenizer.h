/*
 * Text to token ids and back: byte-level BPE (gpt2), SentencePiece BPE (llama), Unigram (t5, xlm-r), WordPiece (bert).
 *
 * A tokenizer is a blob of tables built once at import and used in place from the mapped image: no parsing at open, only
 * checks.  Control tokens are never made from text unless `special` is set (DESIGN D7).  Thread rule: a tokenizer may be used by one
 * thread at a time (it owns scratch).
 */
#ifndef SLM_TEXT_TOKENIZER_H
#define SLM_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

typedef enum slm_tok_kind { SLM_TOK_BPE = 0, SLM_TOK_SPM = 1, SLM_TOK_WORDPIECE = 2, SLM_TOK_UNIGRAM = 3 } slm_tok_kind;

/* Token types as in GGUF. */
typedef enum slm_token_type {
    SLM_TOKEN_NORMAL = 1,
    SLM_TOKEN_UNKNOWN = 2,
    SLM_TOKEN_CONTROL = 3,
    SLM_TOKEN_USER_DEFINED = 4,
    SLM_TOKEN_UNUSED = 5,
    SLM_TOKEN_BYTE = 6
} slm_token_type;

typedef struct slm_bytes {
    const char *data;
    size_t length;
} slm_bytes;

#define SLM_VOCAB_MAX_ENDS 8
#define SLM_VOCAB_MAX_STEPS 12
#define SLM_VOCAB_MAX_FRAME 4

/* What is done to a text before it is cut into words, in order (text/steps.h). */
typedef enum slm_text_op {
    SLM_TEXT_NFC = 0, SLM_TEXT_NFD = 1, SLM_TEXT_NFKC = 2, SLM_TEXT_NFKD = 3,
    SLM_TEXT_LOWER = 4,
    SLM_TEXT_STRIP_ACCENTS = 5, /* all marks */
    SLM_TEXT_REPLACE = 6,       /* `from` by `to` */
    SLM_TEXT_SQUEEZE = 7,       /* runs of two spaces or more by `to` */
    SLM_TEXT_STRIP_LEFT = 8, SLM_TEXT_STRIP_RIGHT = 9,
    SLM_TEXT_CHARSMAP = 10,     /* SentencePiece's map of characters, in `from` */
    SLM_TEXT_PREPEND = 11,      /* `to` in front of a text that is not empty */
    SLM_TEXT_PREFIX_SPACE = 12, /* a space in front unless there is one */
    SLM_TEXT_TRIM = 13,         /* spaces, and no other white space, at both ends */
    SLM_TEXT_BLANKS = 14        /* runs of white space of two or more, and each tab and end of line, by `to` */
} slm_text_op;

typedef struct slm_text_step {
    slm_text_op op;
    slm_bytes from, to;
} slm_text_step;

/* What an encoder puts around a text, and around and between two. */
typedef struct slm_tok_frame {
    uint32_t n_before, n_middle, n_after, second_type; /* second_type: token type (0, 1) of the second text and what follows it */
    int32_t before[SLM_VOCAB_MAX_FRAME], middle[SLM_VOCAB_MAX_FRAME], after[SLM_VOCAB_MAX_FRAME];
} slm_tok_frame;

/* How an added token is found in a text. */
enum { SLM_ADDED_LSTRIP = 1, SLM_ADDED_RSTRIP = 2, SLM_ADDED_SINGLE_WORD = 4, SLM_ADDED_NORMALIZED = 8 };

/* A vocabulary as a source gives it, already bounded by the source's validator; checked again by slm_tokenizer_build. */
typedef struct slm_vocab {
    slm_tok_kind kind;
    char pre[32];            /* pre-tokenizer: smollm, gpt-2, llama-bpe, qwen2, default, ... (BPE) */
    const slm_bytes *tokens; /* [n_tokens] */
    const float *scores;     /* [n_tokens] (Unigram; SPM without merges), or NULL */
    const int32_t *types;    /* [n_tokens], or NULL: all normal */
    const uint8_t *added;    /* [n_tokens] SLM_ADDED_* of user-defined tokens, or NULL: none */
    size_t n_tokens;
    const slm_bytes *merges; /* [n_merges] "left right" in order of rank (BPE; SPM that merges by rank) */
    size_t n_merges;
    int32_t bos, eos, eot, unk, sep, pad, cls, mask; /* ids, -1 = none */
    const int32_t *ends;     /* [n_ends] further ids that end an answer, beside eos and eot */
    size_t n_ends;           /* at most SLM_VOCAB_MAX_ENDS */
    bool add_bos, add_eos, add_space_prefix;
    bool prefix_first;       /* SPM, Unigram: the space prefix goes before the very beginning only, not behind control tokens */
    bool prefix_once;        /* SPM: no space prefix where a text begins with a space or U+2581 itself */
    bool split_marks;        /* SPM: a word begins at each space */
    bool split_white;        /* Unigram: words are what stands between white space */
    bool byte_fallback;      /* Unigram: an unknown piece becomes its bytes */
    int whole_words;         /* BPE: a word that is a token is not merged: 1 yes, -1 no, 0 as the pre-tokenizer's name says */
    bool fuse_unknown;       /* SPM with merges: neighbours that are unknown become one token */
    bool lowercase, strip_accents, keep_cjk; /* WordPiece; keep_cjk: ideographs are no words of their own */
    const slm_text_step *steps; /* [n_steps] */
    size_t n_steps;
    bool framed;             /* the model reads whole texts: prompts are framed */
    slm_tok_frame frame;
    const char *chat_template; /* or NULL */
    const char *end_text;      /* the text of the token that is `eos` whatever eos says, or NULL */
    const volatile int *stop;  /* polled by slm_tokenizer_build, or NULL */
} slm_vocab;

/* Builds the blob (malloc'ed). UNSUPPORTED names an unknown pre-tokenizer; FORMAT a broken vocabulary; CANCELLED.
 * Takes 0.1-0.4 s for 50,000-130,000 tokens with merges. */
slm_status slm_tokenizer_build(const slm_vocab *vocab, const char *chat_format /* NULL: recognize */, void **blob, size_t *bytes,
                               slm_error *err);

/* The blob that version 0.1.0 built, in the present form (malloc'ed): the same tokens for every text.  *out is NULL when it is of the
 * present form already, or of none that is known. FORMAT, NOMEM. */
slm_status slm_tokenizer_convert(const void *blob, size_t bytes, void **out, size_t *out_bytes, slm_error *err);

typedef struct slm_tokenizer slm_tokenizer;
/* The blob must outlive the tokenizer. Everything in it is checked before use. */
slm_status slm_tokenizer_open(const void *blob, size_t bytes, slm_tokenizer **out, slm_error *err);
void slm_tokenizer_free(slm_tokenizer *tok);

size_t slm_tokenizer_size(const slm_tokenizer *tok);          /* number of tokens */
const char *slm_tokenizer_name(const slm_tokenizer *tok);     /* pre-tokenizer or kind, for people */
const char *slm_tokenizer_chat_format(const slm_tokenizer *tok); /* "chatml", "llama3", ..., "raw" */
int32_t slm_tokenizer_bos(const slm_tokenizer *tok);          /* id to put first, -1 when the model wants none */
/* Token type of the second text of a pair and of what follows it. */
uint32_t slm_tokenizer_second_type(const slm_tokenizer *tok);
int32_t slm_tokenizer_eos(const slm_tokenizer *tok);          /* -1 = none */
/* Does this token end an answer (EOS, EOT and their like)? */
bool slm_tokenizer_is_end(const slm_tokenizer *tok, int32_t id);
slm_token_type slm_tokenizer_type(const slm_tokenizer *tok, int32_t id);
/* The id of a token by its exact text, -1 = none (control tokens included). */
int32_t slm_tokenizer_find(const slm_tokenizer *tok, const char *text, size_t length);

/* Appends ids to a growing array (ids realloc'ed, *n and *capacity kept). text must be valid UTF-8 without NUL, else INVALID. begin: the
 * text begins a prompt or a turn (SentencePiece's space prefix applies there). stop may be NULL; polled. On failure *n is as before. */
typedef struct slm_ids {
    int32_t *ids;
    size_t n, capacity;
} slm_ids;
slm_status slm_tokenizer_encode(slm_tokenizer *tok, const char *text, size_t length, bool special, bool begin, const volatile int *stop,
                                slm_ids *out, slm_error *err);
slm_status slm_ids_push(slm_ids *ids, int32_t id, slm_error *err);

/* The raw bytes of one token (may be part of a character); control tokens give 0 bytes unless special. Points into the
 * tokenizer's scratch or blob, valid until the next call. */
slm_bytes slm_tokenizer_piece(slm_tokenizer *tok, int32_t id, bool special);

/* Text of many ids, valid UTF-8 (see slm_detokenize); *out is malloc'ed and NUL-terminated. INVALID: an id is out of range.  The
 * space that a space prefix or WordPiece puts before the first word is left out. */
slm_status slm_tokenizer_decode(slm_tokenizer *tok, const int32_t *ids, size_t n, bool special, const volatile int *stop, char **out,
                                size_t *length, slm_error *err);

/* The algorithm of slm_chunk; *offsets is malloc'ed: [2 * *n_chunks]. */
slm_status slm_tokenizer_chunk(slm_tokenizer *tok, const char *text, size_t length, size_t max_tokens, size_t overlap,
                               const volatile int *stop, size_t **offsets, size_t *n_chunks, slm_error *err);

/* What somebody has made of a tokenizer's vocabulary and keeps with it, freed with it; NULL: nothing yet. */
void *slm_tokenizer_kept(const slm_tokenizer *tok);
void slm_tokenizer_keep(slm_tokenizer *tok, void *made, void (*free_made)(void *));

/* The letter of GPT-2's alphabet that stands for a byte, in UTF-8: its length, at most 2; out is not terminated. */
size_t slm_bpe_letter_of(unsigned char byte, char *out);

/* Does a model with this tokenizer begin its texts with BOS where its file does not say? (SPM and Llama 3's relatives do.) */
bool slm_tokenizer_default_add_bos(slm_tok_kind kind, const char *pre);

#endif
