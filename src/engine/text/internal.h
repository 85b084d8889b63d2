/*
 * Inside of the tokenizers: the blob's layout and what its readers share.
 *
 *   | header | offsets u32[n+1] | bytes | types u8[n] | scores f32[n] | hash u64[2^k] | merges 16 B [2^m] | specials u32[] | steps |
 *
 * Sections begin at multiples of 8.  Tokens are kept as the bytes they stand for: byte-level BPE decoded from GPT-2's printable
 * alphabet, SentencePiece with U+2581 left as it is, WordPiece with continuations marked by a flag and not by "##".
 *   hash: open addressing, upper 32 bits a tag of the hash, lower 32 the id, EMPTY where free; at most max_probe steps.
 *   merges: (left, right) -> (rank, id); at most merge_probe steps; left = NO_TOKEN where free.
 *   specials: ids of control and user-defined tokens of at most MAX_SPECIAL bytes, sorted by their bytes.
 * The blob is hostile: slm_tokenizer_open checks header, section bounds, offsets and the specials; ids in the two hash tables are checked
 * where they are used, so that opening does not touch those pages.
 */
#ifndef SLM_TEXT_INTERNAL_H
#define SLM_TEXT_INTERNAL_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#include "engine/base/utf8.h"
#include "engine/text/tokenizer.h"

#define SLM_TOK_MAGIC "SLMTOKN2"
#define SLM_TOK_MAGIC_1 "SLMTOKN1" /* of images of layout 1: the header ends before at_steps */
#define SLM_TOK_BYTE_ORDER 0x01020304u
#define SLM_TOK_NONE UINT32_MAX
#define SLM_TOK_MAX_TOKENS (1u << 21)
#define SLM_TOK_MAX_BYTES 65535 /* of one token */
#define SLM_TOK_MAX_SPECIAL 256 /* bytes of a token that is searched for in text */
#define SLM_TOK_MAX_ENDS 16
#define SLM_TOK_MAX_TEXT ((size_t) 1 << 30)
#define SLM_TOK_MAX_WORD ((size_t) 4 << 20) /* bytes merged at once: about 50 bytes of scratch each */

/* Bits of a byte in `types`. */
#define SLM_TOK_TYPE 0x0Fu
#define SLM_TOK_WHOLE 0x80u    /* BPE: encoding the token's own bytes gives this token alone */
#define SLM_TOK_CONTINUED 0x40u /* WordPiece: goes on inside a word */
/* The same bits of user-defined tokens: how they are found (SLM_ADDED_*, shifted). */
#define SLM_TOK_ADDED_SHIFT 4

enum {
    SLM_TOKF_ADD_BOS = 1,
    SLM_TOKF_ADD_EOS = 2,
    SLM_TOKF_SPACE_PREFIX = 4,
    SLM_TOKF_LOWERCASE = 8,
    SLM_TOKF_STRIP_ACCENTS = 16,
    SLM_TOKF_WHOLE_WORDS = 32, /* a word that is a token is not merged (llama-bpe) */
    SLM_TOKF_SPLIT_SPACES = 64, /* SPM: no token has a space after another character, so words are independent */
    SLM_TOKF_PREFIX_FIRST = 128, /* the space prefix belongs to the beginning of all, not behind control tokens */
    SLM_TOKF_SPLIT_WHITE = 256, /* Unigram: white space separates words */
    SLM_TOKF_BYTE_FALLBACK = 512, /* Unigram */
    SLM_TOKF_FUSE_UNKNOWN = 1024, /* SPM with merges */
    SLM_TOKF_FRAMED = 2048, /* prompts are framed (encoders) */
    SLM_TOKF_KEEP_CJK = 4096, /* WordPiece: ideographs are no words of their own */
    SLM_TOKF_NORMALIZED = 8192, /* there are user-defined tokens that are looked for in the normalized text */
    SLM_TOKF_PREFIX_ONCE = 16384, /* SPM: no space prefix before a space or a mark */
    SLM_TOKF_SPLIT_MARKS = 32768 /* SPM: a word begins at each space */
};

typedef struct slm_tok_header {
    char magic[8];
    uint32_t byte_order, kind, n_tokens, flags;
    uint32_t hash_bits, max_probe, merge_bits, merge_probe;
    uint32_t n_specials, n_ends, max_token_bytes, n_steps;
    int32_t bos, eos, eot, unk, sep, pad, cls, mask;
    int32_t ends[SLM_TOK_MAX_ENDS];
    int32_t byte_id[256]; /* -1 = the vocabulary has no token for this byte */
    char pre[32], chat[32];
    char system[512]; /* default system message of the template, NUL-terminated */
    uint64_t bytes;   /* of the whole blob */
    uint64_t at_offsets, at_bytes, at_types, at_scores, at_hash, at_merges, at_specials; /* 0 = absent */
    /* since SLMTOKN2 */
    uint64_t at_steps, steps_bytes;
    slm_tok_frame frame;
    float lowest_score; /* Unigram */
    uint32_t reserved;
} slm_tok_header;

typedef struct slm_tok_merge {
    uint32_t left, right, rank, id;
} slm_tok_merge;

/* A symbol of a word that is being merged: neighbours by index, -1 at the ends; length 0 = merged into its left neighbour. */
typedef struct slm_tok_symbol {
    int32_t previous, next, id;
    uint32_t begin, length; /* bytes of the word */
} slm_tok_symbol;

/* A possible merge of a symbol with its right neighbour; stale when their lengths no longer add up to `length`. */
typedef struct slm_tok_pair {
    uint64_t key;    /* smallest first: rank or descending score; in the lower 32 bits the left symbol's index */
    uint32_t length; /* of both */
    int32_t id;      /* of the token that they become */
} slm_tok_pair;

/* A text between two steps. */
typedef struct slm_tok_side {
    char *bytes;
    size_t *origins; /* [n] offset behind each byte's character in the caller's text; kept when ends are wanted */
    size_t n, capacity, origins_capacity;
} slm_tok_side;

typedef struct slm_pre_rule slm_pre_rule;
typedef struct slm_chat_format slm_chat_format;

struct slm_tokenizer {
    const slm_tok_header *h; /* the copy behind it: sizes that were checked stay what they were */
    slm_tok_header header;
    const uint32_t *offsets; /* [n_tokens + 1] */
    const char *bytes;
    const uint8_t *types;       /* [n_tokens] */
    const float *scores;        /* [n_tokens] or NULL */
    const uint64_t *hash;       /* [2^hash_bits] */
    const slm_tok_merge *merges; /* [2^merge_bits] or NULL */
    const uint32_t *specials;   /* [n_specials] */
    const char *steps;          /* section of text/steps.h */
    const slm_chat_format *chat;

    /* the pre-tokenizer's compiled pattern, made at first use */
    const slm_pre_rule *rule;
    pcre2_code *pattern;
    pcre2_match_data *match;
    pcre2_match_context *match_context;
    pcre2_jit_stack *jit_stack;
    bool jitted;

    void *kept; /* slm_tokenizer_keep */
    void (*free_kept)(void *);

    /* scratch */
    slm_tok_symbol *symbols;
    size_t symbols_capacity;
    slm_tok_pair *heap;
    size_t heap_n, heap_capacity;
    char *buffer;
    size_t buffer_capacity;
    slm_tok_side sides[2];
    void *nodes; /* of unigram.c */
    size_t nodes_capacity;

    /* the call in progress */
    slm_ids *out;
    size_t *ends; /* when wanted: byte offset in the text where each token of this call ends */
    size_t ends_n, ends_capacity;
    bool want_ends;
    const size_t *origins; /* of the piece in work, when steps have changed it and ends are wanted */
    size_t piece_begin;    /* of that piece in the caller's text */
    const volatile int *stop;
    uint32_t ticks;
};

/* ---- tokenizer.c */
slm_status slm_tok_emit_slow(slm_tokenizer *tok, int32_t id, size_t end, slm_error *err);

/* Appends one token whose bytes end at `end` in the text. */
static inline slm_status slm_tok_emit(slm_tokenizer *tok, int32_t id, size_t end, slm_error *err)
{
    slm_ids *out = tok->out;
    if (out->n < out->capacity && !tok->want_ends) {
        out->ids[out->n++] = id;
        return SLM_OK;
    }
    return slm_tok_emit_slow(tok, id, end, err);
}

/* Every few thousand steps of any loop over text: has the caller asked to stop? */
static inline bool slm_tok_stopped(slm_tokenizer *tok)
{
    return (++tok->ticks & 1023) == 0 && tok->stop != NULL && *tok->stop != 0;
}

static inline slm_status slm_tok_cancelled(slm_error *err)
{
    return slm_fail(err, SLM_CANCELLED, "tokenization was cancelled");
}

/* INVALID when text[n] is not valid UTF-8 or holds a NUL byte; polls stop. */
slm_status slm_tok_check_text(const char *text, size_t n, const volatile int *stop, slm_error *err);
/* memcpy that polls stop. */
slm_status slm_tok_copy(char *to, const char *from, size_t n, const volatile int *stop, slm_error *err);

/* The id of a token by its bytes among those whose type bits satisfy (types[id] & mask) == want; -1 = none. */
int32_t slm_tok_lookup(const slm_tokenizer *tok, const char *bytes, size_t n, uint8_t mask, uint8_t want);

static inline const char *slm_tok_bytes(const slm_tokenizer *tok, uint32_t id, size_t *n)
{
    uint32_t begin = tok->offsets[id], bytes = tok->offsets[id + 1] - begin;
    *n = bytes <= tok->h->max_token_bytes ? bytes : 0; /* as it was checked, unless the page is missing (base/map.h) */
    return tok->bytes + begin;
}

/* Grows *data to hold n elements of `size` bytes; NOMEM leaves it as it is. */
slm_status slm_tok_reserve(void **data, size_t *capacity, size_t n, size_t size, slm_error *err);

/* LIMIT when n bytes without a word boundary are too many to merge. */
slm_status slm_tok_check_word(size_t n, size_t at, slm_error *err);

/* As slm_tokenizer_encode of a text that is known to be valid; with tok->want_ends also fills tok->ends. */
slm_status slm_tok_encode_valid(slm_tokenizer *tok, const char *text, size_t n, bool special, bool begin, const volatile int *stop,
                                slm_ids *out, slm_error *err);

/* ---- bpe.c: the merge of two tokens that are neighbours; NULL = they do not merge */
const slm_tok_merge *slm_bpe_merge(const slm_tokenizer *tok, int32_t left, int32_t right);

/* ---- decode.c: the byte that a token "<0xNN>" stands for, -1 = it has another form */
int slm_tok_byte_token(const char *text, size_t n);

/* ---- heap.c: pairs by key, smallest first */
slm_status slm_tok_heap_push(slm_tokenizer *tok, slm_tok_pair pair, slm_error *err);
bool slm_tok_heap_pop(slm_tokenizer *tok, slm_tok_pair *out);

/* ---- pretokenize.c */
const slm_pre_rule *slm_pre_find(const char *name);
bool slm_pre_whole_words(const slm_pre_rule *rule);
/* The end of the word that begins at `begin`. */
slm_status slm_pre_next(slm_tokenizer *tok, const char *text, size_t n, size_t begin, size_t *end, slm_error *err);
void slm_pre_free(slm_tokenizer *tok);

/* ---- one encoder per kind: appends the ids of text[n], whose first byte is at `base` of the caller's text */
slm_status slm_bpe_encode(slm_tokenizer *tok, const char *text, size_t n, size_t base, slm_error *err);
/* One word; shortcut: whole tokens and the cache may be used. */
slm_status slm_bpe_word(slm_tokenizer *tok, const char *word, size_t n, size_t base, bool shortcut, slm_error *err);
slm_status slm_spm_encode(slm_tokenizer *tok, const char *text, size_t n, size_t base, bool begin, slm_error *err);
/* A token's own text (spaces as U+2581), merged without shortcut. */
slm_status slm_spm_token(slm_tokenizer *tok, const char *bytes, size_t n, slm_error *err);
slm_status slm_unigram_encode(slm_tokenizer *tok, const char *text, size_t n, size_t base, bool begin, slm_error *err);
slm_status slm_wordpiece_encode(slm_tokenizer *tok, const char *text, size_t n, size_t base, slm_error *err);

/* GPT-2's alphabet: the byte that a code point stands for, -1 = none. */
int slm_bpe_byte_of(uint32_t code);

/* ---- chat.c */
const slm_chat_format *slm_chat_find(const char *name);
/* Copies the system message that a template adds by itself; empty when it adds none. */
void slm_chat_template_system(const slm_chat_format *format, const char *template_text, char *out, size_t size);
/* The i-th token text that ends an answer in this format; NULL after the last. */
const char *slm_chat_end_text(const slm_chat_format *format, int i);
/* Is this text one of the control tokens that the formats use, or written in their manner? */
bool slm_chat_is_control_text(const char *text, size_t n);

#endif
