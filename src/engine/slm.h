/*
 * slm.h: the one public door of the engine (libslm.a).
 *
 * The engine is plain C11 that knows nothing of PostgreSQL.  src/pg includes this header and no other of the engine.
 *
 *   file ──slm_import──► packed image ──slm_model_open──► slm_model ──slm_session_new──► slm_session
 *                                                                     slm_submit ► slm_step ... ► slm_poll
 *
 * Threads: one session is used by one thread at a time; the engine runs its own worker threads inside slm_step,
 * slm_import and slm_model_prewarm, and none is running between calls.  Calls never longjmp, print, abort or exit.
 *
 * Interrupts: wherever a `const volatile int *stop` is taken, the engine polls it at least every few
 * milliseconds; when it is not zero the call returns SLM_CANCELLED, leaving the object as it was before the call
 * (partial work is dropped or kept, never half-visible), so that the same call may be made again.
 */
#ifndef SLM_H
#define SLM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/seal.h"
#include "engine/base/status.h"
#include "engine/base/usage.h"

/* ------------------------------------------------------------------ library */

/* Version of the engine, such as "1.2.3". Static. */
const char *slm_engine_version(void);

/* Chooses the instruction set of the kernels for the whole process: "auto", "ref", "avx2", "avx512", "neon".
 * SLM_UNSUPPORTED when this CPU or this build lacks it.  The environment variable SLM_FORCE_ISA overrides "auto".
 * May be called at any time between steps; results are bit-identical whatever is chosen. */
slm_status slm_set_isa(const char *name, slm_error *err);
/* Name of the instruction set in use. Static. */
const char *slm_isa(void);
/* The i-th instruction set that this machine can run, from "ref" upward; NULL after the last. */
const char *slm_isa_available(int i);
/* What reading weights takes from the machine. No result depends on it. */
typedef struct slm_tuning {
    uint32_t ahead; /* bytes to fetch ahead into the second-level cache, 0 = leave it to the core's prefetchers; at most 64 KiB */
    float gigabytes_per_second; /* at which slm_tune saw one core read weights; 0 = not measured */
} slm_tuning;
/* Measures what is best on this machine, in some 30 ms on one thread and with 48 MiB of memory. NOMEM. */
slm_status slm_tune(slm_tuning *out, slm_error *err);
/* The CPU's model, in printable ASCII: "AMD EPYC, family 25 model 17". */
void slm_cpu_name(char *out, size_t bytes);
/* Takes a choice for the whole process; values out of range are ignored. Not while a step runs. */
void slm_tuning_set(const slm_tuning *tuning);
slm_tuning slm_tuning_get(void);
/* How images are mapped from now on, in the whole process: "try" asks for pages of 2 MiB (as it begins), "on" refuses to map
 * otherwise (UNSUPPORTED), "off" does not ask.  INVALID for anything else. */
slm_status slm_set_huge_pages(const char *how, slm_error *err);
/* Number of CPUs this process may run on. */
int slm_cpu_count(void);
/* The i-th (name, version) pair of the libraries that the engine was built with; false after the last. */
bool slm_library_info(int i, const char **name, const char **version);
/* e^x with the same bits on every machine: for probabilities made from log probabilities (base/math.h). */
double slm_exp(double x);
/* Returns to the system what the process's allocator holds and nobody uses. Takes a millisecond or so. */
void slm_memory_trim(void);
/* Frees the process's worker threads (they are made again when needed). */
void slm_threads_release(void);

/* ------------------------------------------------------------------ models */

/* Layout version of the images that this build writes and reads; it rebuilds the earlier ones. */
#define SLM_IMAGE_LAYOUT 2

typedef struct slm_model slm_model;

/* What the outputs of a head are: one of the labels (their softmax), any of them (a sigmoid each), or numbers as they stand. */
typedef enum slm_head_kind { SLM_HEAD_SINGLE = 0, SLM_HEAD_MULTI = 1, SLM_HEAD_NUMBER = 2 } slm_head_kind;

/* What a model is, as read from its source and kept in its image. Strings are NUL-terminated UTF-8, maybe empty. */
typedef struct slm_model_info {
    char family[32];        /* llama, phi3, gemma3, qwen2, bert, ... */
    char name[128];         /* the name that the source gives itself */
    char quantization[32];  /* the most common weight type, such as Q4_1 */
    char chat_format[32];   /* chatml, llama3, ..., raw; empty for an encoder */
    char tokenizer[32];     /* smollm, gpt-2, llama-bpe, qwen2, spm, wordpiece, ... ; empty without vocabulary */
    char licence[128];
    char query_prompt[256];    /* embedding models: text to put before a query, from the source's configuration; maybe empty */
    char document_prompt[256]; /* the same for a document */
    uint64_t n_parameters;  /* weights, embeddings included */
    uint64_t image_bytes;
    uint32_t n_context;     /* positions that it was trained for */
    uint32_t n_vocab, n_embd, n_layers, n_heads, n_kv_heads, n_ff; /* n_embd of an embedding model: the width of its vectors */
    uint32_t kv_bytes_per_token; /* F16 keys and values of all layers; F32 of a model that is kept in F32 */
    bool can_generate;      /* a decoder with an output head */
    bool can_embed;         /* an encoder with pooling */
    bool can_rerank;        /* a head with one output (cross-encoder) */
    bool can_classify;      /* a head with labels of its own */
    uint32_t n_labels;      /* outputs of the head */
    slm_head_kind head_kind;
    char labels[8192];      /* their names, one after the other, each NUL-terminated */
    bool can_tag;           /* a head with labels of its own for every token */
    uint64_t scripts;       /* whose words the vocabulary has: bit i for slm_script_name(i); 0: not known */
    char pooling[64];       /* encoders: how a text's rows become its vector, "mean", "cls, max", or what a head is put on */
    char recognized[256];   /* by which keys of the source it is known what it is */
    char languages[128];    /* as the source names them: "en, de"; maybe empty */
    char notes[1024];       /* what it was loaded with warnings of, a line each */
    bool can_joint;         /* a head that reads any labels beside a text (SLM_MODE_JOINT) */
    bool can_find;          /* labels are given with a text, and it finds their spans (SLM_MODE_SPANS) */
    bool can_decide;        /* can_joint: of several labels one is chosen; alone, one is a statement that holds or does not */
} slm_model_info;

/* The name of a script, or NULL beyond the last. */
const char *slm_script_name(int script);
/* The script that most letters of the beginning of a text have which the model's vocabulary has no words of, or NULL where they are no more
 * than half of its letters, or nothing is known. */
const char *slm_text_foreign(const slm_model_info *info, const char *text, size_t length);

/* What a caller should tell his user although the call succeeded. Those beyond the room are counted only. */
#define SLM_MAX_WARNINGS 4
typedef struct slm_warnings {
    uint32_t n;
    slm_error warnings[SLM_MAX_WARNINGS]; /* message and hint; status is the kind of fault it may be */
} slm_warnings;

typedef struct slm_import_options {
    const char *quantization; /* for float sources: "Q8_0", "Q4_K", "F16", ...; NULL keeps the source's types
                                 (GGUF) or means Q8_0 (Hugging Face directory) */
    const char *chat_format;  /* forces a chat format by name; NULL recognizes it from the template */
    const char *pre;          /* forces the pre-tokenizer of a byte-level BPE vocabulary by name; NULL takes the source's */
    const char *rope;         /* "none", "linear:4", "base:500000": in place of the source's scaling or base; NULL: the source's */
    const char *pooling;      /* of an embedding model: "mean", "cls", "last", "max", "sqrt", "weighted"; NULL: the source's */
    uint32_t dimensions;      /* of an embedding model: its vectors are cut to so many (Matryoshka); 0: the source's */
    const char *eos;          /* the text of the token that ends an answer; NULL: the source's */
    slm_warnings *warnings;   /* set by slm_import; may be NULL */
    int n_threads;            /* that pack; 0 = one a CPU, 8 at most */
    const slm_seal *seal;     /* what the source was when it was hashed: IO when it is read otherwise; NULL takes it as it is */
} slm_import_options;

/* Called now and then from the importing thread; done and total in bytes.  It must return and may not longjmp.  It is also called when the
 * stop flag is seen set, and may clear it where there is no reason to stop: the work then goes on from where it is. */
typedef void (*slm_progress_fn)(void *arg, uint64_t done, uint64_t total);

/* A model that is split over several GGUF files, "NAME-00001-of-00003.gguf" and so on, has its first one as source.  slm_split_count: how
 * many there are by the name of the first, 2..128; 1: it is no such name.  slm_split_name: the path of part i, 1..n, into out, as long as
 * that of the first; returns what follows NAME in it, by which the seal knows the part. */
uint32_t slm_split_count(const char *path);
const char *slm_split_name(const char *first, uint32_t i, uint32_t n, char *out, size_t size);

/* A first look at a source: beginning, header and configuration, in milliseconds whatever its size, so that what is no model is
 * refused before it is read whole.  *bytes: those of the files with the weights.  Status as slm_import. */
slm_status slm_source_look(const char *source_path, uint64_t *bytes, slm_error *err);

/* Validates the source (a GGUF file or a Hugging Face directory) and writes its packed image to image_path, which must not exist.
 * On any failure image_path is removed.  The file is written and flushed by fsync; the caller renames it into place.
 * Memory: bounded, at most a few hundred MiB beyond the page cache for any size of model.
 * Status: IO, FORMAT, UNSUPPORTED, INVALID (options), NOMEM, CANCELLED. */
slm_status slm_import(const char *source_path, const char *image_path, const slm_import_options *options, slm_progress_fn progress,
                      void *progress_arg, const volatile int *stop, slm_model_info *info, slm_error *err);

/* Writes the image of an open model once more with other weight types (options->quantization; chat_format does not count).
 * What is not a weight of the layers stays as it is.  Files, memory, progress and status as slm_import; INVALID also for a type
 * that this model's weights cannot take. */
slm_status slm_quantize_image(const slm_model *model, const char *image_path, const slm_import_options *options, slm_progress_fn progress,
                              void *progress_arg, const volatile int *stop, slm_model_info *info, slm_error *err);

/* Writes an image of an earlier layout in the present one: the same weights in another order, so the same answers.  Everything is
 * checked, the weights' checksum too.  Files, memory, progress and status as slm_import; INVALID for an image of the present layout. */
slm_status slm_image_rebuild(const char *from_path, const char *image_path, slm_progress_fn progress, void *progress_arg,
                             const volatile int *stop, slm_error *err);

/* Maps an image read-only and shared.  Checks header, layout version, sizes and the checksum of everything but the
 * weights; the weights' checksum is checked by slm_model_prewarm.  Milliseconds for any size.  UNSUPPORTED with SLM_HINT_OLD_IMAGE when
 * slm_image_rebuild has to be called first. */
slm_status slm_model_open(const char *image_path, slm_model **out, slm_error *err);
/* Drops a reference; sessions hold their own.  NULL is fine. */
void slm_model_close(slm_model *model);
const slm_model_info *slm_model_get_info(const slm_model *model);
/* Bytes of its mapping that are in pages of 2 MiB now. Milliseconds. */
uint64_t slm_model_huge_bytes(const slm_model *model);
/* Reads the whole image into memory and verifies the checksum of the weights. */
slm_status slm_model_prewarm(slm_model *model, slm_progress_fn progress, void *progress_arg, const volatile int *stop, slm_error *err);
/* Has a part of the image been missing while it was used?  Every call then returns FORMAT: the model is to be closed and opened again. */
bool slm_model_damaged(const slm_model *model);
/* Bytes of the image that are in memory now (mincore). */
uint64_t slm_model_resident_bytes(const slm_model *model);

/* ------------------------------------------------------------------ adapters */

/* A LoRA adapter: a low-rank change of a decoder's projections, used by the requests that name it. */
typedef struct slm_adapter slm_adapter;

typedef struct slm_adapter_info {
    char name[128];        /* the name that the source gives itself; maybe empty */
    uint64_t n_parameters, image_bytes;
    uint32_t rank;         /* the largest of its matrices */
    uint32_t n_matrices;   /* projections, and tables of embeddings, that it changes */
    char prompt[256];      /* what it was taught to find before a text; maybe empty */
} slm_adapter_info;

/* Where nothing is at a path, but the directory before its last part is a model's: that part, the name of one of its adapters for tasks
 * (jina-embeddings-v3).  NULL: the path is that of an adapter, or of nothing. */
const char *slm_adapter_task(const char *source_path);

/* Validates an adapter (a GGUF file of type adapter, a PEFT directory, a task as above) against the model that it is for and writes its
 * image to image_path, which must not exist; removed on failure.  seal as in slm_import_options.
 * Status: IO, FORMAT, UNSUPPORTED, INVALID (it does not fit the model), NOMEM, CANCELLED. */
slm_status slm_adapter_import(const char *source_path, const slm_model *base, const char *image_path, const slm_seal *seal,
                              const volatile int *stop, slm_adapter_info *info, slm_error *err);
/* A first look at an adapter's source, as slm_source_look. */
slm_status slm_adapter_look(const char *source_path, const slm_model *base, uint64_t *bytes, slm_error *err);
/* Maps an adapter's image and checks it, its checksum and its fit to the model.  INVALID when it does not fit. */
slm_status slm_adapter_open(const char *image_path, const slm_model *base, slm_adapter **out, slm_error *err);
/* Drops a reference; requests hold their own.  NULL is fine. */
void slm_adapter_close(slm_adapter *adapter);
const slm_adapter_info *slm_adapter_get_info(const slm_adapter *adapter);
bool slm_adapter_damaged(const slm_adapter *adapter); /* as slm_model_damaged */
/* Writes it as a PEFT directory, which must not exist; removed on failure.  base: the name that its configuration gives the model.
 * UNSUPPORTED: PEFT cannot say it (fused projections, several ranks); IO. */
slm_status slm_adapter_export(const slm_adapter *adapter, const char *base, const char *path, slm_error *err);

/* ------------------------------------------------------------------ tokens */

typedef struct slm_tokens {
    int32_t *ids; /* [n] */
    size_t n;
} slm_tokens;

/* Token ids of text (valid UTF-8, length in bytes, NUL bytes refused).  special: control tokens written in the text are parsed as
 * such (never for text that comes from a row).  No BOS or EOS is added.  Free with slm_tokens_free. */
slm_status slm_tokenize(const slm_model *model, const char *text, size_t length, bool special, const volatile int *stop, slm_tokens *out,
                        slm_error *err);
void slm_tokens_free(slm_tokens *tokens);
/* Text of token ids, valid UTF-8: bytes that form no character become U+FFFD.  Control tokens are left out unless special.
 * *out is malloc'ed, *length its bytes; free with free(). */
slm_status slm_detokenize(const slm_model *model, const int32_t *ids, size_t n, bool special, const volatile int *stop, char **out,
                          size_t *length, slm_error *err);
/* Cuts text at token boundaries into pieces of at most max_tokens tokens that overlap by `overlap` tokens, each cut moved
 * back to a sentence, line or word boundary where there is one, and never inside a character.
 * *offsets is malloc'ed: [2 * *n_chunks] begin and end byte of each; free with free(). */
slm_status slm_chunk(const slm_model *model, const char *text, size_t length, size_t max_tokens, size_t overlap, const volatile int *stop,
                     size_t **offsets, size_t *n_chunks, slm_error *err);

/* Windows in which a model that can_find reads a text beside these labels, each beginning with the last quarter of the words of the one
 * before; one where it reads all, none where there are no words.  *offsets is malloc'ed: [2 * *n] begin and end byte of each.  LIMIT: the
 * labels leave no room. */
slm_status slm_span_windows(const slm_model *model, const char *const *labels, size_t n_labels, const char *text, size_t length,
                            const volatile int *stop, size_t **offsets, size_t *n, slm_error *err);

/* A word of a text as a tagger labelled it, and what words make together: bytes [begin, end). */
typedef struct slm_tagged {
    size_t begin, end;
    uint32_t label; /* number in slm_model_info.labels */
    float score;    /* probability of that label */
} slm_tagged;
typedef struct slm_entity {
    size_t begin, end;
    const char *kind; /* the label without B-, I- and the like; points into the model's info */
    float score;      /* mean of its words' */
} slm_entity;

/* Words of a text (valid UTF-8) by the outputs that SLM_MODE_EMBED gave a tagger for it alone: n_outputs is a multiple of n_labels, that of
 * the text's tokens or, of a text that was cut, fewer.  *words is malloc'ed: [*n_words] in order.  INVALID: other outputs than
 * the text's. */
slm_status slm_tag_words(const slm_model *model, const char *text, size_t length, const float *outputs, size_t n_outputs,
                         const volatile int *stop, slm_tagged **words, size_t *n_words, slm_error *err);
/* The entities of words in order: out [n_words]; returns their number. */
size_t slm_tag_entities(const slm_model *model, const slm_tagged *words, size_t n_words, slm_entity *out);

/* ------------------------------------------------------------------ sessions */

typedef struct slm_session slm_session;

/* How a session keeps keys and values. Answers are the same bits for the same choice, whatever else is. */
typedef enum slm_kv_type {
    SLM_KV_F16 = 0,
    SLM_KV_Q8 = 1, /* int8 with a scale for each position and 32 dimensions of a head: 17 / 32 of the memory */
    SLM_KV_F32 = 2 /* what models that are kept in F32 have in place of F16; nobody asks for it */
} slm_kv_type;
#define SLM_KV_TYPES 2 /* that can be asked for */

typedef struct slm_limits {
    size_t kv_cache_bytes;     /* keys and values of running requests and cached prefixes; at least one request must fit */
    uint32_t max_batch_tokens; /* positions per forward pass; 0 = 512 */
    uint32_t max_sequences;    /* requests decoded together; 0 = 64 */
    int n_threads;             /* 0 = all CPUs */
    const volatile int *stop;  /* polled inside slm_step; may be NULL */
    slm_kv_type kv_type;       /* for the session's life; without meaning for encoders */
} slm_limits;

/* Bytes of keys and values for each token of a request; 0 for encoders. */
uint32_t slm_kv_bytes_per_token(const slm_model_info *info, slm_kv_type type);

/* A session keeps a reference to the model.  One per (backend, model). */
slm_status slm_session_new(slm_model *model, const slm_limits *limits, slm_session **out, slm_error *err);
void slm_session_free(slm_session *session);
/* Changes the budget between steps; cached prefixes that no longer fit are dropped.  kv_type stays what it was. */
slm_status slm_session_set_limits(slm_session *session, const slm_limits *limits, slm_error *err);

/* What an answer may be: compiled once for a model, shared by any number of requests. */
typedef struct slm_constraint slm_constraint;
typedef enum slm_constraint_kind {
    SLM_CONSTRAINT_JSON_SCHEMA = 0, /* JSON Schema 2020-12: the answer is one value, written without spaces and with plain numbers */
    SLM_CONSTRAINT_REGEX = 1,       /* a regular expression of ECMA-262 that the whole answer matches */
    SLM_CONSTRAINT_GBNF = 2         /* a grammar in GBNF: what its rule "root" derives */
} slm_constraint_kind;
/* Compiles text (valid UTF-8, length in bytes).  What cannot be honoured is refused here, by name: INVALID (no schema, pattern or grammar,
 * or nothing satisfies it), UNSUPPORTED, LIMIT (takes too much memory or time).  It keeps a reference to the model, and is used by one
 * thread at a time, as the model's sessions are.  The first one of a model takes some 50 ms for 128,000 tokens. */
slm_status slm_constraint_compile(slm_model *model, slm_constraint_kind kind, const char *text, size_t length, slm_constraint **out,
                                  slm_error *err);
/* Drops a reference; requests hold their own.  NULL is fine. */
void slm_constraint_free(slm_constraint *constraint);

typedef enum slm_role { SLM_ROLE_SYSTEM = 0, SLM_ROLE_USER = 1, SLM_ROLE_ASSISTANT = 2 } slm_role;

enum {
    SLM_SEG_PREFIX = 1,  /* this segment and all before it are shared by many requests: their KV is kept and reused */
    SLM_SEG_JOIN = 2,    /* goes on in the same turn as the segment before it (tokenized on its own) */
    SLM_SEG_SPECIAL = 4, /* parse control tokens written in the text: for evaluation only, never for row text */
    SLM_SEG_SCORED = 8,  /* SLM_MODE_LOGPROBS: report the log probability of each token of this segment */
    SLM_SEG_WHOLE = 16   /* no row's text: truncate does not cut it */
};

/* A piece of a prompt. Plain data; copied by slm_submit. */
typedef struct slm_segment {
    slm_role role;
    unsigned flags;
    const char *text; /* valid UTF-8 */
    size_t length;
} slm_segment;

typedef enum slm_mode {
    SLM_MODE_GENERATE = 0, /* text that follows the prompt */
    SLM_MODE_LABELS = 1,   /* which of the labels is the answer: log probability of each whole label */
    SLM_MODE_LOGPROBS = 2, /* log probability of each token of the scored segments */
    SLM_MODE_EMBED = 3,    /* pooled vector (encoders); the outputs of a head for one text or a pair: logits, as they stand; of a tagger
                              those of every token of the text, [tokens, n_labels] */
    SLM_MODE_JOINT = 4,    /* the text and labels in one pass: an output for each label, a logit as it stands (encoders with can_joint) */
    SLM_MODE_SPANS = 5     /* the words of the text that labels stand for, no two with a word in common (models that can_find) */
} slm_mode;

/* Sampling: temperature 0 is greedy and ignores top_k, top_p, min_p and seed.  top_p and repeat_penalty of 0 are off too. */
typedef struct slm_sampling {
    float temperature;    /* [0, 10] */
    int32_t top_k;        /* 0 = off */
    float top_p;          /* (0, 1], 1 = off */
    float min_p;          /* [0, 1), 0 = off */
    float repeat_penalty; /* (0, 10], 1 = off: divides (or multiplies, below zero) logits of the last 64 tokens */
    uint64_t seed;
} slm_sampling;

typedef struct slm_request {
    slm_mode mode;
    void *tag;                    /* of the caller: comes back in the result, otherwise unused */
    uint64_t realm;               /* whose text this is: what a session keeps of it (keys and values, label sets, priors) serves
                                     requests of the same realm only, so that no count of reused tokens tells of another one's */
    uint64_t public_realm;        /* but of the prompt's beginning that is public: that serves all that name the same public realm */
    size_t public_bytes;          /* so many of the segments' texts, from the first on, are public: they tell nothing of anybody; 0: none */
    slm_adapter *adapter;         /* decoders: opened for the session's model, or NULL */
    bool chat;                    /* wrap segments in the model's chat format and open the assistant's turn; else raw text after BOS */
    bool truncate;                /* cut the tail of the last user or scored segment to fit instead of SLM_LIMIT */
    const slm_segment *segments;  /* [n_segments]; JOINT: the row's text, before which one of the system may say what is asked */
    size_t n_segments;
    slm_sampling sampling;        /* GENERATE */
    uint32_t max_tokens;          /* GENERATE: at most so many tokens of answer */
    const char *const *stops;     /* GENERATE: [n_stops] the answer ends before the first of these */
    size_t n_stops;
    slm_constraint *constraint;   /* GENERATE: of the session's model, or NULL: the answer is one that it allows, complete unless max_tokens
                                     or the context ends before; a stop string still ends it */
    const char *const *labels;    /* LABELS: [n_labels] 1..10,000, distinct, not empty; JOINT, SPANS: 1..1024, not empty */
    size_t n_labels;
    const char *const *descriptions; /* JOINT: [n_labels] or NULL; elements may be NULL */
    float threshold;              /* SPANS: what is no more probable is left out, 0..1 */
    const char *prior_text;       /* LABELS: when set, each label's log probability after the same prompt with this text in
                                     place of the row (the last segment) is subtracted: prior correction; computed once per prefix */
    bool best_only;               /* LABELS: only the winner matters: labels that cannot win any more are not computed; their scores are
                                     -INFINITY, the winner's is its unnormalized score (ties: the first in order, as with all computed) */
    bool stream;                  /* GENERATE: slm_next_piece will be called */
    bool precise;                 /* LOGPROBS: activations rounded to 16 bits instead of 8: log probabilities within a few thousandths of
                                     float32 (else some hundredths), for twice the time */
    bool speculate; /* GENERATE: guess the next tokens from the prompt's own text and verify several in one pass; the answer is
                       the same, and guessing stops where it does not pay */
} slm_request;

typedef enum slm_finish { SLM_FINISH_STOP = 0, SLM_FINISH_LENGTH = 1, SLM_FINISH_CONTEXT = 2 } slm_finish;

/* The answer to a request. Owned by the session until slm_release. */
typedef struct slm_result {
    uint64_t id;
    void *tag;              /* the request's */
    slm_status status;      /* of this request alone; then error holds the words */
    slm_error error;
    slm_finish finish;
    char *text;             /* GENERATE: [text_length] + NUL, valid UTF-8 */
    size_t text_length;
    float *scores;          /* LABELS: [n_scores] log probabilities, sum of exp = 1 ; LOGPROBS: per scored token, NaN
                               where nothing precedes it; EMBED: the vector (or one relevance score);
                               JOINT: the labels' outputs; SPANS: a probability each */
    size_t n_scores;
    uint32_t best;          /* LABELS: the label with the highest score, the first of equals */
    int32_t *tokens;        /* GENERATE: ids of the answer; LOGPROBS: ids of the scored tokens, [n_scores]; SPANS: no ids: [n_scores, 3]
                               first byte, byte behind the last, label, in order of their places */
    size_t n_tokens;
    slm_usage usage;        /* what it took */
} slm_result;

/* Queues a request; its texts are tokenized now.  Errors of the request (too long, bad labels) are returned here
 * and the session is as before. */
slm_status slm_submit(slm_session *session, const slm_request *request, uint64_t *id, slm_error *err);
/* One forward pass: admits queued requests while the budget lasts, advances every running one.  SLM_CANCELLED: nothing was
 * advanced, call again to go on.  *active (may be NULL) is the number of requests not yet finished. */
slm_status slm_step(slm_session *session, size_t *active, slm_error *err);
/* How many tokens steps may compute from now on, as slm_usage_tokens counts them; UINT64_MAX: any number, as at first.  A step computes no
 * more, and is SLM_LIMIT, with nothing advanced, where requests are left and not one of them could go on: then slm_allowance_used is
 * true. */
void slm_session_allow(slm_session *session, uint64_t tokens);
bool slm_allowance_used(const slm_session *session);
/* The oldest finished request not yet taken, or NULL. Release it with slm_release. */
const slm_result *slm_poll(slm_session *session);
/* For a request with stream set: the bytes of text that are final and not yet taken (whole characters; a possible beginning of
 * a stop string is held back).  false when there is nothing new.  *text is valid until the next call on the session. */
bool slm_next_piece(slm_session *session, uint64_t id, const char **text, size_t *length);
/* Frees a result, or aborts a request that still runs. Unknown ids are ignored. */
void slm_release(slm_session *session, uint64_t id);
/* Gives memory back that no request and no cached prefix needs, between steps: of keys and values and of scratch about keep_bytes each may
 * stay.  Returns how many bytes went; slm_memory_trim makes the process's own allocator return them. */
size_t slm_session_trim(slm_session *session, size_t keep_bytes);
/* Aborts every request and frees every result; cached prefixes stay. For clean-up after an error of the caller. */
void slm_session_reset(slm_session *session);

/* Would slm_submit take it?  Its errors, and nothing is queued. */
slm_status slm_check_request(slm_session *session, const slm_request *request, slm_error *err);
/* How many positions the next steps have at most, so that they do not last too long; 0: max_batch_tokens. */
void slm_session_set_slice(slm_session *session, uint32_t positions);
/* Requests that are not urgent have so many positions of a step at most, and take turns at them; 0: what is left. */
void slm_session_set_beside(slm_session *session, uint32_t positions);
/* Somebody waits for this one alone: it goes before the other requests wherever it has to wait. */
void slm_urgent(slm_session *session, uint64_t id);
/* Leaves the request out of the steps that follow, or lets it go on.  Who waits for what it computes waits too: a step of which nothing
 * comes for that reason is no error. */
void slm_hold(slm_session *session, uint64_t id, bool held);
/* Positions of the request in the last step. */
uint32_t slm_step_positions(const slm_session *session, uint64_t id);

/* Number of tokens of the request's prompt, template included, without running it. */
slm_status slm_prompt_tokens(slm_session *session, const slm_request *request, size_t *n, slm_error *err);

typedef struct slm_session_stats {
    slm_usage usage;      /* since the session began: also of requests that have not been answered yet, or never are */
    uint64_t positions;   /* of its forward passes */
    size_t kv_bytes_used, kv_bytes_limit, cached_prefixes;
    size_t kv_bytes_held; /* of the system's memory: those in use, and what has not been given back of those that were */
    size_t scratch_bytes; /* activations, logits and the like */
} slm_session_stats;
void slm_session_get_stats(const slm_session *session, slm_session_stats *out);
/* Of that usage, what no answer has counted yet and the next one that profits from it will: priors. */
void slm_session_owed(const slm_session *session, slm_usage *out);

/* ------------------------------------------------------------------ vectors */

/* Sums over two vectors of n components, in double precision and a fixed order: the same bits with every instruction set, as embeddings
 * have.  Not finite where a component is not, or where a square of doubles exceeds their range. */
typedef struct slm_pair_sums {
    double ab, aa, bb; /* a.b, a.a, b.b */
} slm_pair_sums;
slm_pair_sums slm_vector_products(const float *a, const float *b, size_t n);
slm_pair_sums slm_vector_products_double(const double *a, const double *b, size_t n);
/* Sum of the squared differences. */
double slm_vector_squares(const float *a, const float *b, size_t n);
double slm_vector_squares_double(const double *a, const double *b, size_t n);
/* Cosine of two vectors, in [-1, 1], exactly 1 for equal ones; 0 when one is zero. */
double slm_vector_cosine(const float *a, const float *b, size_t n);
/* Scales to length 1; components below 1e-18 become 0, as in the vectors of SLM_MODE_EMBED. */
void slm_vector_normalize(float *v, size_t n);
/* To each of m queries q [m, n_dims], the k nearest of n < 2^32 vectors x [n, n_dims] by their inner products, which are sums of floats in
 * a fixed order: place [m, k] and product [m, k], best first, of equals the lower place; UINT32_MAX where x has fewer than k, or has others
 * that are not finite.  m is at most SLM_NEAREST_QUERIES.  NOMEM, CANCELLED. */
#define SLM_NEAREST_QUERIES 128
slm_status slm_vectors_nearest(const float *q, uint32_t m, const float *x, size_t n, size_t n_dims, uint32_t k, int n_threads,
                               const volatile int *stop, uint32_t *place, float *product, slm_error *err);

/* ------------------------------------------------------------------ training */

/*
 * Classifiers on top of embeddings: multinomial logistic regression, with hashed n-grams of the text beside the embedding when wanted.
 * A classifier is a flat blob (for a bytea column) that carries its label names; it belongs to the model that made the embeddings.
 * Training is deterministic: the same rows in the same order give the same blob for any number of threads on one machine.
 */

#define SLM_MAX_TRIALS 20
#define SLM_SEEN_BY_ALL 255

/* The rows to learn from. Borrowed for the duration of the call. */
typedef struct slm_train_set {
    size_t n_rows;
    uint32_t n_dims;             /* of an embedding */
    const float *embeddings;     /* [n_rows, n_dims], finite */
    const char *const *texts;    /* [n_rows] valid UTF-8; NULL without n-grams */
    const size_t *text_lengths;  /* [n_rows] bytes */
    const int32_t *labels;       /* [n_rows] in 0..n_labels-1; slm_train_by_names ignores it */
    uint32_t n_labels;           /* 2..10,000 */
    const char *const *label_names; /* [n_labels] valid UTF-8, distinct, not empty */
    /* Folds that are given: what made the embeddings has learned too.  Fold k is judged, and its classifier fitted, on embeddings that were
     * made without fold k. */
    uint32_t n_folds;                    /* 2..20; 0: they are dealt, and the embeddings above are for all */
    const uint8_t *fold_of_row;          /* [n_rows] below n_folds, or SLM_SEEN_BY_ALL */
    const float *const *fold_embeddings; /* [n_folds] of [n_rows, n_dims], finite */
} slm_train_set;

typedef enum slm_balance { SLM_BALANCE_AUTO = 0, SLM_BALANCE_OFF = 1, SLM_BALANCE_ON = 2 } slm_balance;

/* What training is doing: stage is a static string such as "cross-validation"; fraction of the whole in 0..1, never falling.  Also called
 * whenever the stop flag is seen: if it clears the flag, training goes on. */
typedef void (*slm_train_progress_fn)(void *arg, const char *stage, double fraction);

/* All zero is a good default. */
typedef struct slm_train_options {
    float l2;               /* > 0 fixes the regularization strength; 0 chooses it by cross-validation */
    uint32_t n_folds;       /* 2..20; 0 = 3; fewer where a label has fewer rows */
    slm_balance balance;    /* weight rows by the rarity of their label; AUTO: when the commonest has over 5 times the rows of the rarest */
    bool ngrams;            /* word and character n-grams beside the embedding: needs texts here and in slm_classifier_predict */
    uint32_t ngram_bits;    /* 2^bits hash buckets, 10..22; 0 = 18 */
    uint64_t seed;          /* of the assignment to folds */
    bool trials;            /* hand over the classifiers of the folds */
    int n_threads;          /* 0 = all CPUs */
    const volatile int *stop; /* may be NULL */
    slm_train_progress_fn progress; /* may be NULL; called from the calling thread */
    void *progress_arg;
} slm_train_options;

typedef struct slm_blob {
    void *data; /* malloc'ed */
    size_t bytes;
} slm_blob;

/* What came out. The averages are over the held-out rows of the cross-validation; rows with equal embeddings are held out together.  NaN
 * where there was none: slm_train_by_names, fewer than 4 distinct rows, or more than a tenth of the rows of lonely labels, which have
 * fewer than 2 distinct rows and are never held out.  confusion [n_labels, n_labels] counts true label (row) by predicted label (column),
 * NULL without cross-validation. */
typedef struct slm_train_report {
    void *blob;             /* malloc'ed; slm_train_report_free */
    size_t blob_bytes;
    size_t n_rows;          /* rows learned from */
    size_t n_distinct;      /* with different embeddings; 0 when nothing was to be held out */
    uint32_t n_lonely;      /* lonely labels */
    uint32_t n_labels, n_folds;
    uint32_t n_ngrams;      /* n-gram buckets in use */
    float l2;               /* chosen or given */
    float temperature;      /* divides the logits: calibration */
    double accuracy, macro_f1, log_loss;
    double ece;             /* expected calibration error after the temperature, 15 bins */
    uint32_t *confusion;    /* malloc'ed; NULL too when n_labels > 1,000 */
    /* With options->trials, where there was a cross-validation: classifiers of the strength that was chosen, each without its fold of rows.
     * Trial trial_of_row[r] has not seen row r nor any row with its embedding; SLM_SEEN_BY_ALL: a row of a lonely label. */
    uint32_t n_trials;
    slm_blob trials[SLM_MAX_TRIALS];
    uint8_t *trial_of_row;  /* [n_rows] */
    double seconds;
} slm_train_report;

/* Trains; with a default strength where there is nothing to hold out.  Status: INVALID (shapes, labels out of range, a
 * label without rows, NaN), LIMIT (too large), UNSUPPORTED (no OpenBLAS), NOMEM, CANCELLED (nothing was made). */
slm_status slm_train_classifier(const slm_train_set *set, const slm_train_options *options, slm_train_report *out, slm_error *err);

/* Trains from label names and unlabelled rows: names as prototypes, refined by soft assignment on centred embeddings, then three
 * rounds in which the classifier learns from the most confident rows of each label.
 * label_embeddings: [n_labels, n_dims] embeddings of the names (or descriptions). */
slm_status slm_train_by_names(const slm_train_set *set, const float *label_embeddings, const slm_train_options *options,
                              slm_train_report *out, slm_error *err);
void slm_train_report_free(slm_train_report *report);

/* Accuracy, macro F1, log loss and ECE of probabilities [n, n_labels] against labels [n], into the fields of that name;
 * confusion too (malloc'ed).  The other fields are zeroed. */
slm_status slm_train_evaluate(const float *probabilities, const int32_t *labels, size_t n, uint32_t n_labels, slm_train_report *out,
                              slm_error *err);

/* ------------------------------------------------------------------ fine-tuning */

/* What is to be learned: the token ids of a prompt, as a request with these segments would have it, and behind them those of the answer
 * with the token that ends it; *n_prompt: how many are the prompt's.  Free with slm_tokens_free.  INVALID: no prompt, no answer. */
slm_status slm_example_tokens(const slm_model *model, bool chat, const slm_segment *segments, size_t n_segments, const char *answer,
                              size_t length, const volatile int *stop, slm_tokens *out, size_t *n_prompt, slm_error *err);

/* A text as an encoder reads it, special tokens included; *cut: its end was left out for max_tokens.  Free with slm_tokens_free. */
slm_status slm_text_tokens(const slm_model *model, const char *text, size_t length, size_t max_tokens, const volatile int *stop,
                           slm_tokens *out, bool *cut, slm_error *err);

/* A token and its logit. */
typedef struct slm_guess {
    int32_t id;
    float logit;
} slm_guess;

typedef struct slm_example {
    const int32_t *ids; /* [n], to live as long as the fine-tuning */
    uint32_t n, prompt; /* 0 < prompt < n */
    slm_guess *guesses; /* [n - prompt, lesson.k] of a teacher, where there is a lesson; to live as long */
} slm_example;

/*
 * What is learned of a teacher's logits.  With p its probabilities of its k most probable tokens, q the student's, at a temperature T, the
 * loss of a token is
 *
 *   (1 - mix) * T^2 * sum p (log p - log q) + mix * cross-entropy of the answer's own token, at temperature 1
 */
typedef struct slm_lesson {
    uint32_t k;              /* 2..SLM_MOST_GUESSES; 0: there is no teacher */
    float temperature, mix;  /* 0.1..100; 0..1 */
    bool renormalize;        /* q is among those k tokens; else among all */
} slm_lesson;
#define SLM_MOST_GUESSES 256

/* A model that teaches, as it answers requests. */
typedef struct slm_teacher {
    const slm_model *model;
    const slm_adapter *adapter; /* of that model, or NULL */
    uint32_t k;
    int n_threads;              /* no bit depends on it */
    const volatile int *stop;   /* may be NULL */
} slm_teacher;
/* INVALID, and why: it does not generate, or its vocabulary is another one than the student's. */
slm_status slm_teacher_check(const slm_teacher *teacher, const slm_model *student, slm_error *err);
/* Fills the guesses of the next examples from *done on, as many as go together in one pass, and moves *done.  CANCELLED, NOMEM; LIMIT:
 * one is longer than the teacher's context; INVALID: a logit is not finite. */
slm_status slm_teach(const slm_teacher *teacher, const slm_example *examples, size_t n, size_t *done, slm_error *err);

/* What an embedding model learns from: texts of the same label are near each other; a text that asks is near its answer, and far from all
 * other answers of its step; two texts have a cosine that is given. */
typedef enum slm_contrast { SLM_CONTRAST_LABELS = 0, SLM_CONTRAST_PAIRS = 1, SLM_CONTRAST_SCORES = 2 } slm_contrast;

/* LABELS: one text and its label.  PAIRS: a text that asks, its answer, and maybe a text that is none.  SCORES: two, and their cosine. */
typedef struct slm_text_example {
    const int32_t *ids[3]; /* [n[i]] whole texts as the tokenizer makes them, to live as long as the fine-tuning; NULL: there is none */
    uint32_t n[3];
    int32_t label; /* from 0 on */
    float score;   /* -1..1 */
} slm_text_example;

/* The projections that can be adapted, as bits. */
enum { SLM_ADAPT_Q = 1, SLM_ADAPT_K = 2, SLM_ADAPT_V = 4, SLM_ADAPT_O = 8, SLM_ADAPT_GATE = 16, SLM_ADAPT_UP = 32, SLM_ADAPT_DOWN = 64,
       SLM_ADAPT_ALL = 127 };

typedef struct slm_finetune_options {
    uint32_t rank, targets;   /* of the adapter's matrices, 1..256; SLM_ADAPT_* */
    float alpha;              /* what they add is multiplied by alpha / rank */
    float dropout;            /* share of their inputs that a step leaves out, 0..0.9 */
    uint32_t layers;          /* only of the last so many layers; 0 = of all */
    double rate, warmup;      /* of AdamW at its highest; share of the steps that lead there.  Behind them a cosine to zero */
    double decay, clip;       /* weight decay; largest norm of a step's gradient, 0 = any */
    uint32_t epochs;          /* how often each example is seen */
    uint32_t step_tokens;     /* a step takes examples until they have so many tokens */
    uint32_t step_texts;      /* of an encoder: or so many texts, 6..1024 */
    uint32_t longest;         /* of an encoder: tokens of the texts of slm_finetune_embed; 0 = no more than the examples have */
    float scale;              /* of an encoder: of cosines in the losses of labels and pairs */
    float kept;               /* share of the change that is kept at the end, up to 1; 0 = all, as it must be with held-out examples */
    slm_lesson lesson;        /* of a decoder */
    uint32_t patience;        /* ends after so many epochs that were no better on the held-out examples, 0 = never */
    uint64_t seed;            /* of the first values and of the order of the examples */
    size_t memory;            /* bytes at most; LIMIT names what is needed */
    bool exact;               /* all in float, for comparisons */
    int n_threads;            /* no bit depends on it */
    const volatile int *stop; /* may be NULL */
    const volatile uint32_t *others; /* while it is not 0, others compute who are waited for: a tenth of the time is taken; may be NULL */
    slm_train_progress_fn progress; /* may be NULL; as with slm_train_options */
    void *progress_arg;
} slm_finetune_options;

typedef enum slm_finetune_end { SLM_FINETUNE_DONE = 0, SLM_FINETUNE_EARLY = 1, SLM_FINETUNE_DIVERGED = 2 } slm_finetune_end;

/* How well the held-out examples are told: mean loss of a token of the answers, by the lesson where there is one; share of the answers of
 * which each token is the most probable one (what greedy decoding writes is exactly the answer). NaN without held-out examples. */
typedef struct slm_finetune_score {
    double loss, exact;
} slm_finetune_score;

typedef struct slm_finetune_point {
    uint32_t step;
    double rate, loss;        /* mean loss of the step's tokens before it was made */
    slm_finetune_score held_out; /* after it; NaN where it was not measured */
} slm_finetune_point;

typedef struct slm_finetune_report {
    slm_finetune_end end;
    slm_finetune_score before, after; /* of the base; of what is written */
    uint32_t n_planned;               /* steps of all epochs */
    uint32_t n_steps, best_step;      /* steps made; after which the values that are written were reached */
    uint64_t n_tokens;                /* seen in training, prompts included */
    uint64_t n_parameters;
    size_t bytes;                     /* of memory, beyond the model's image */
    const slm_finetune_point *points; /* [n_steps], owned by the fine-tuning */
} slm_finetune_report;

typedef struct slm_finetune slm_finetune;
/* Checks everything and takes the memory. Examples and model must outlive it.  UNSUPPORTED: the model is of a family that cannot be
 * trained; INVALID: options, examples; LIMIT: memory. */
slm_status slm_finetune_new(const slm_model *model, const slm_example *examples, size_t n_examples, const slm_example *held_out,
                            size_t n_held_out, const slm_finetune_options *options, slm_finetune **out, slm_error *err);
/* The same for an embedding model.  What is held out is judged by: LABELS, cross-entropy of the cosines to the labels' mean vectors of the
 * other examples, and how often the right one is nearest; PAIRS, the same of each asking text and all answers held out; SCORES, the squared
 * error.  Steps are not cut by memory: LIMIT names what is needed. */
slm_status slm_finetune_new_texts(const slm_model *model, slm_contrast kind, const slm_text_example *examples, size_t n_examples,
                                  const slm_text_example *held_out, size_t n_held_out, const slm_finetune_options *options,
                                  slm_finetune **out, slm_error *err);
/* Trains to the end.  After CANCELLED it may be called again and goes on from where it was, to the same bits. */
slm_status slm_finetune_run(slm_finetune *f, slm_error *err);
/* For the progress function: run returns CANCELLED before the next pass, which is a few seconds at most. */
void slm_finetune_pause(slm_finetune *f);
/* Where a fine-tuning stands that is not in a call: *data, with malloc. */
slm_status slm_finetune_save(const slm_finetune *f, void **data, size_t *bytes, slm_error *err);
/* One that has just been made, of the same examples and options, goes on from there, to the same bits.  FORMAT: the data are of another
 * one, or damaged; then it stands where it stood. */
slm_status slm_finetune_resume(slm_finetune *f, const void *data, size_t bytes, slm_error *err);
/* Vectors [n, n_embd] of length 1 of one text each, ids[0], under the values as they are.  CANCELLED: nothing was made.  LIMIT: a text
 * is longer than the examples and options.longest; INVALID: a model that generates. */
slm_status slm_finetune_embed(slm_finetune *f, const slm_text_example *texts, size_t n, float *vectors, slm_error *err);
/* How another adapter of the same model does on the held-out examples; INVALID when its matrices have another shape.  Resumable as run. */
slm_status slm_finetune_judge(slm_finetune *f, const slm_adapter *adapter, slm_finetune_score *out, slm_error *err);
const slm_finetune_report *slm_finetune_get_report(const slm_finetune *f);
/* The learned values, [*n]: the same data, options and seed give the same ones on machines of the same instruction set. */
const float *slm_finetune_values(const slm_finetune *f, size_t *n);
/* Writes them as an adapter's image, as slm_adapter_import does. */
slm_status slm_finetune_write(const slm_finetune *f, const char *image_path, const char *name, slm_adapter_info *info, slm_error *err);
void slm_finetune_free(slm_finetune *f);

typedef struct slm_classifier slm_classifier;
/* Checks the blob (hostile: it came out of a table) and copies it. */
slm_status slm_classifier_open(const void *blob, size_t bytes, slm_classifier **out, slm_error *err);
void slm_classifier_free(slm_classifier *classifier);
uint32_t slm_classifier_n_labels(const slm_classifier *classifier);
/* Name of label i, NUL-terminated UTF-8, owned by the classifier. */
const char *slm_classifier_label(const slm_classifier *classifier, uint32_t i);
/* Length of the embeddings that it takes, and whether it wants the text too. */
uint32_t slm_classifier_n_dims(const slm_classifier *classifier);
bool slm_classifier_needs_text(const slm_classifier *classifier);
/* Calibrated probabilities [n, n_labels] of n rows.  texts, text_lengths: [n], NULL unless slm_classifier_needs_text.  The same bits for
 * a row in any batch.  May be called from several threads at once.  INVALID: an embedding is not finite, a text is missing. */
slm_status slm_classifier_predict(const slm_classifier *classifier, const float *embeddings, const char *const *texts,
                                  const size_t *text_lengths, size_t n, float *probabilities, slm_error *err);
/* The same in two steps, for a text that is read in windows, each with a vector of its own: the scores [n_labels] of one window, and the
 * probabilities that scores (of the best windows) stand for, in place.  text may be NULL unless slm_classifier_needs_text. */
slm_status slm_classifier_score(const slm_classifier *classifier, const float *embedding, const char *text, size_t text_length,
                                float *scores, slm_error *err);
slm_status slm_classifier_softmax(const slm_classifier *classifier, float *scores, slm_error *err);

#endif
