/*
 * The keys of config.json, one table a kind of model: what each becomes, or which value it must have.
 *
 * A key that is in no table of the model's kind is refused by its name, for it may change what the model computes.  Keys that no forward
 * pass reads, of any kind, are listed once.
 */
#ifndef SLM_HF_KEYS_H
#define SLM_HF_KEYS_H

#include "engine/import/hf/config.h"

typedef enum slm_hf_use {
    SLM_HF_TAKE,    /* a number, put as `as`; `value` where it is missing (NAN: nothing is put) */
    SLM_HF_NEED,    /* a number that must be there, put as `as` */
    SLM_HF_OFF,     /* must be missing, null, false, 0 or empty */
    SLM_HF_ON,      /* must be missing, null or true */
    SLM_HF_WORD,    /* a string that must be one of `as`, separated by "|", or missing */
    SLM_HF_VALUE,   /* a number that must be `value`, or missing */
    SLM_HF_CODE     /* read by the code of the kind */
} slm_hf_use;

typedef struct slm_hf_key {
    const char *name; /* NULL ends the table */
    slm_hf_use use;
    const char *as;
    double value;
} slm_hf_key;

typedef struct slm_hf_kind {
    const char *model_type, *family; /* of transformers, of arch/family.h */
    const char *prefix;              /* before the names of tensors when a head stands on top: "bert." */
    const slm_hf_key *keys, *more;   /* more: shared with others; may be NULL */
    slm_status (*take)(slm_hf_config *c, slm_error *err); /* what no table says; may be NULL */
    uint32_t head_pool;              /* SLM_POOL_* that a classification head is put on; 0: no head is known */
    bool encoder;                    /* reads whole texts by itself */
    bool table;                      /* is a table of vectors (static.h) */
    bool tasks;                      /* adapters for tasks may stand beside its weights (tasks.h) */
    bool pad_offset;                 /* positions begin behind the padding token's id */
    /* decoders: what the configuration class assumes for missing keys */
    double n_kv_heads, head_dim, rope_base; /* 0: as many as heads; n_embd / n_heads */
    double window;                          /* sliding_window; 0: none */
    double eps;                             /* rms_norm_eps; 0: 1e-6 */
    bool own_eps;                           /* the tables take the epsilon */
    bool tied, gelu;
    double partial;                         /* RoPE may turn a part of each head: this one where no key says which; 0: it turns all */
    const char *base_key;                   /* of RoPE's base in older files; NULL: rope_theta */
    const char *scalings;                   /* of RoPE, that it knows beside llama3: "linear|yarn"; NULL: all that are known here */
    bool ropes;                             /* sliding layers may have a RoPE of their own */
    bool proportional;                      /* the others turn a part of their pairs, with the frequencies of whole heads */
    bool answers_only;                      /* no embedder and no head of it is known */
    /* What no table says of layers and windows, and what else there is; NULL: the window alone, nothing. */
    slm_status (*layers)(slm_hf_config *c, slm_error *err);
    slm_status (*more_of)(slm_hf_config *c, slm_error *err);
    struct {
        uint32_t n_vocab, n_context, n_heads; /* as the text part of a model that sees pictures: keys that published files leave out */
    } inside;
} slm_hf_kind;

/* Is text one of the words in "a|b|c"? */
bool slm_hf_among(const char *text, const char *words);
const slm_hf_kind *slm_hf_kind_find(const char *model_type);
/* "bert, roberta, ...", for the hint. */
void slm_hf_kind_names(char *out, size_t size);
/* Every key of the file against the kind's tables; numbers are put into the configuration. */
slm_status slm_hf_keys_take(slm_hf_config *c, const slm_hf_kind *kind, slm_error *err);

/* ---- config.c ---- */
slm_status slm_hf_take(slm_hf_config *c, slm_hf_json j, const char *hf_key, const char *key, double def, slm_error *err);
/* ---- config_decoder.c ---- */
slm_status slm_hf_take_decoder(slm_hf_config *c, slm_error *err);
slm_status slm_hf_take_rope(slm_hf_config *c, slm_error *err);
slm_status slm_hf_take_gemma_embd2(slm_hf_config *c, slm_error *err);
slm_status slm_hf_layers_full(slm_hf_config *c, slm_error *err);
slm_status slm_hf_layers_gemma(slm_hf_config *c, slm_error *err);
slm_status slm_hf_layers_ministral3(slm_hf_config *c, slm_error *err);
slm_status slm_hf_layers_gemma4(slm_hf_config *c, slm_error *err);
slm_status slm_hf_layers_smollm3(slm_hf_config *c, slm_error *err);
slm_status slm_hf_layers_granite4(slm_hf_config *c, slm_error *err);
slm_status slm_hf_layers_lfm2(slm_hf_config *c, slm_error *err);
slm_status slm_hf_layers_olmo3(slm_hf_config *c, slm_error *err);
slm_status slm_hf_layers_exaone4(slm_hf_config *c, slm_error *err);
slm_status slm_hf_layers_qwen35(slm_hf_config *c, slm_error *err);
slm_status slm_hf_more_gemma(slm_hf_config *c, slm_error *err);
slm_status slm_hf_more_qwen3_moe(slm_hf_config *c, slm_error *err);
slm_status slm_hf_more_olmoe(slm_hf_config *c, slm_error *err);
slm_status slm_hf_more_neox(slm_hf_config *c, slm_error *err);
slm_status slm_hf_take_gpt2(slm_hf_config *c, slm_error *err);
/* ---- config_encoder.c ---- */
const char *slm_hf_rope_type(slm_hf_json parameters);
slm_status slm_hf_take_modernbert(slm_hf_config *c, slm_error *err);
slm_status slm_hf_take_gte(slm_hf_config *c, slm_error *err);
slm_status slm_hf_take_jina(slm_hf_config *c, slm_error *err);
slm_status slm_hf_take_jina3(slm_hf_config *c, slm_error *err);
slm_status slm_hf_take_nomic(slm_hf_config *c, slm_error *err);
slm_status slm_hf_take_eurobert(slm_hf_config *c, slm_error *err);
slm_status slm_hf_take_albert(slm_hf_config *c, slm_error *err);
slm_status slm_hf_take_deberta(slm_hf_config *c, slm_error *err);
slm_status slm_hf_take_static(slm_hf_config *c, slm_error *err);
/* The head that the architecture names: labels, what the outputs mean, which row it is put on. */
slm_status slm_hf_take_head(slm_hf_config *c, slm_error *err);

#endif
