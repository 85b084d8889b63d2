/*
 * Families: what differs between llama, phi3, gemma, qwen, granite, olmo2, bert, and what does not.
 *
 *   metadata of a source ──slm_family_read──► slm_hparams ──slm_family_bind──► slm_source_tensor[] (shapes checked)
 *
 * Metadata is asked by the names of the GGUF specification without the architecture's prefix ("attention.head_count"), whatever the
 * source: a GGUF file answers from its keys, a Hugging Face directory translates its config.json.  One file per family
 * (family_*.c) lists its tensors and reads what is its own; everything that is common is read and bounded in family.c.
 *
 * Invariant: an slm_hparams that passed slm_hparams_check has sane ranges (no product of its fields that the engine forms
 * overflows) and finite floats; a tensor list that slm_family_bind made has every needed role of every layer, each once, in the
 * demanded shape.
 */
#ifndef SLM_ARCH_FAMILY_H
#define SLM_ARCH_FAMILY_H

#include "engine/arch/hparams.h"
#include "engine/kernels/types.h"
#include "engine/slm.h"

typedef enum slm_tensor_role {
#define ROLE(name, gguf, hf, rows, cols, per_layer) SLM_TENSOR_##name,
#include "engine/arch/roles.def"
#undef ROLE
    SLM_TENSOR_ROLES
} slm_tensor_role;

/* Metadata of a source behind one face. */
typedef struct slm_meta {
    const char *architecture; /* "llama", "phi3", ...: picks the family */
    bool gguf;                /* query and key rows are in GGUF's order (llama family: interleaved RoPE); else as transformers saves them */
    uint32_t n_vocab;         /* rows of the token embedding */
    bool has_output;          /* there is an output head of its own */
    /* Divisors of each rotated pair's frequency, or NULL: rope_freqs.weight (Llama 3) or the short factors in `factors`; long ones
     * apart. */
    const float *factors, *factors_long;
    uint32_t n_factors, n_factors_long;
    /* A number (integers and booleans too) by key; element `index` where the value is an array, a scalar for every index. false:
     * absent. */
    bool (*number)(void *arg, const char *key, uint32_t index, double *out);
    /* A string by key, cut to size, NUL-terminated. false: absent. */
    bool (*string)(void *arg, const char *key, char *out, size_t size);
    void *arg;
} slm_meta;

/* What rows and cols in roles.def stand for. */
typedef enum slm_dim {
    D_NONE = 0, D_VOCAB, D_EMBD, D_Q, D_KV, D_QKV, D_QNORM, D_KNORM, D_FF, D_FF2, D_CONTEXT, D_TYPES, D_LABELS, D_BUCKETS, D_HEADS,
    D_POOLED, D_DENSE0, D_DENSE1, D_DENSE2, D_AFTER, D_LOOKUP, D_RELATIVE, D_HEAD, D_EXPERTS, D_EXPERTS_FF, D_EXPERTS_EMBD, D_FF_EXPERT,
    D_CONV, D_KERNEL, D_CONV_OUT, D_DELTA, D_DELTA_HEAD, D_LAYERS_EMBD, D_LAYER_EMBD, D_ONE,
    D_JOINT, D_JOINT_MLP, D_JOINT_MLP_HALF, D_JOINT_MLP_IN, D_EMBD_TWICE, D_EMBD_3, D_EMBD_4,
    D_SPAN, D_SPAN2, D_SPAN3, D_SPAN4, D_GATES, D_STATE, D_MARKS
} slm_dim;

typedef struct slm_role_info {
    const char *name;        /* "ATTN_Q" */
    const char *gguf, *hf;   /* names with %u for the layer */
    slm_dim rows, cols;      /* cols D_NONE: a vector */
    bool per_layer;
} slm_role_info;

const slm_role_info *slm_role_get(slm_tensor_role role);
/* Rows (or length) and cols (0 for a vector) of a role in a layer of this model. */
void slm_role_shape(const slm_hparams *hp, slm_tensor_role role, uint32_t layer, uint32_t *rows, uint32_t *cols);

typedef struct slm_role_name {
    slm_tensor_role role;
    const char *name;
} slm_role_name;

typedef struct slm_family {
    const char *name;                 /* general.architecture in GGUF, unless gguf says another one */
    const char *gguf;
    const char *decides;              /* decision.type of its GGUF files: there is a decision head behind its layers */
    bool permuted;                    /* GGUF stores query and key rows for interleaved RoPE */
    bool hf_norm_plus_one;            /* Hugging Face keeps RMS norm weights minus one (GGUF does not) */
    bool hf_transposed;               /* Hugging Face keeps the layers' matrices as [in, out] (GPT-2's Conv1D) */
    bool hf_only;                     /* GGUF files of this architecture are refused: none was at hand to compare with */
    const slm_tensor_role *required;  /* ends with SLM_TENSOR_ROLES; OUTPUT is implied: optional for decoders */
    const slm_tensor_role *optional;  /* ends with SLM_TENSOR_ROLES; all layers or none */
    bool first_without_norm;          /* the first layer has no norm before attention (ModernBERT) */
    bool own_norms;                   /* read() reads the kind and epsilon of its norms; else they are RMS norms */
    bool late_ff;                     /* read() reads the inner width of the last layers, which may differ from the others' */
    bool tag_dense;                   /* heads on every row have a dense layer too (ModernBERT) */
    bool no_layers;                   /* a table of vectors alone (static) */
    bool own_kv;                      /* read() reads how many key-value heads the layers have */
    const slm_role_name *gguf_names;  /* where names in GGUF files differ from roles.def; as hf_names */
    const slm_role_name *hf_names;    /* where Hugging Face names differ from roles.def; ends with SLM_TENSOR_ROLES; may be NULL */
    bool projected;                   /* what is pooled is projected to embedding_length_out by a matrix of the model's own file */
    const slm_role_name *peft_names;  /* of the modules that PEFT's adapters name, where they are others and never fused; may be NULL */
    slm_status (*read)(const slm_meta *meta, slm_hparams *hp, slm_error *err); /* after the common part; may be NULL */
} slm_family;

/* May a role be in this layer?  What is of no layer, or the same in all, is in the first; a layer has experts or one feed-forward. */
bool slm_role_in_layer(const slm_hparams *hp, slm_tensor_role role, uint32_t layer);
/* Has the layer a convolution in place of attention? */
static inline bool slm_layer_convolves(const slm_hparams *hp, uint32_t layer)
{
    return hp->conv_length > 0 && (hp->conv_layers[layer / 32] >> layer % 32 & 1) != 0;
}
/* Is it one of a decision head? */
static inline bool slm_layer_decides(const slm_hparams *hp, uint32_t layer)
{
    return hp->n_decide > 0 && layer + hp->n_decide >= hp->n_layers;
}
/* Is this one of the layers that see a window only? */
bool slm_layer_slides(const slm_hparams *hp, uint32_t layer);
/* Key-value heads of a layer: one for each head in a decision head. */
static inline uint32_t slm_layer_kv_heads(const slm_hparams *hp, uint32_t layer)
{
    if (slm_layer_decides(hp, layer))
        return hp->n_heads;
    return hp->n_kv_heads_local > 0 && slm_layer_slides(hp, layer) ? hp->n_kv_heads_local : hp->n_kv_heads;
}
/* Width of a head in this layer. */
static inline uint32_t slm_layer_head_dim(const slm_hparams *hp, uint32_t layer)
{
    return hp->head_dim_local > 0 && slm_layer_slides(hp, layer) ? hp->head_dim_local : hp->head_dim;
}
/* How much of it turns, where it turns. */
static inline uint32_t slm_layer_rot(const slm_hparams *hp, uint32_t layer)
{
    return hp->head_dim_local > 0 && slm_layer_slides(hp, layer) ? hp->n_rot_local : hp->n_rot;
}
/* Layers with keys of their own: the first so many. */
static inline uint32_t slm_layers_with_keys(const slm_hparams *hp)
{
    return hp->n_layers - hp->kv_shared;
}
/* Inner width of a layer's feed-forward. */
static inline uint32_t slm_layer_ff(const slm_hparams *hp, uint32_t layer)
{
    if (slm_layer_decides(hp, layer))
        return hp->n_ff_decide;
    return hp->n_ff_shared > 0 && layer >= slm_layers_with_keys(hp) ? hp->n_ff_shared : hp->n_ff;
}
/* The widest of all. */
static inline uint32_t slm_widest_ff(const slm_hparams *hp)
{
    uint32_t other = hp->n_ff_shared > hp->n_ff_decide ? hp->n_ff_shared : hp->n_ff_decide;
    return other > hp->n_ff ? other : hp->n_ff;
}
/* The layer whose keys and values this one reads: itself, or the last of its kind that has any.  n_layers: there is none. */
uint32_t slm_layer_keys(const slm_hparams *hp, uint32_t layer);
/* Columns that its convolution runs over, and that its product back takes. */
static inline uint32_t slm_conv_width(const slm_hparams *hp)
{
    return hp->delta_values > 0 ? 2 * hp->delta_keys * hp->delta_key_dim + hp->delta_values * hp->delta_value_dim : hp->n_embd;
}
static inline uint32_t slm_conv_out(const slm_hparams *hp)
{
    return hp->delta_values > 0 ? hp->delta_values * hp->delta_value_dim : hp->n_embd;
}
/* F16 elements that such a layer has in a KV block of 16 positions (model/convolve.c, model/delta.c); wide: what is F16 there is F32. */
static inline size_t slm_conv_block(const slm_hparams *hp, bool wide)
{
    size_t state = (size_t) hp->delta_values * hp->delta_key_dim * hp->delta_value_dim;
    size_t times = wide ? 2 : 1;
    size_t row = hp->delta_values > 0 ? 2 * ((size_t) slm_conv_width(hp) + 2 * (size_t) hp->delta_values) : times * slm_conv_width(hp);
    return 16 * row + times * state;
}
/* In how many layers before this one; slm_layer_slots: in how many at all. */
uint32_t slm_role_layers(const slm_hparams *hp, slm_tensor_role role, uint32_t before);
/* Layers, counting one where there is none: what is of no layer is in the first. */
static inline uint32_t slm_layer_slots(const slm_hparams *hp)
{
    return hp->n_layers > 0 ? hp->n_layers : 1;
}
static inline bool slm_role_of_experts(slm_tensor_role role)
{
    return role >= SLM_TENSOR_EXPERT_GATE && role <= SLM_TENSOR_EXPERT_DOWN;
}
/* Rows of a head in DeBERTa's tables of distances: whole panels. */
uint32_t slm_relative_rows(const slm_hparams *hp);
/* Has the feed-forward a gate? */
static inline bool slm_activation_gated(uint32_t activation)
{
    return activation != SLM_ACT_GELU_ERF && activation != SLM_ACT_GELU_TANH;
}

/* ---- joint.c: heads that read labels beside a text */
#define SLM_JOINT_MLP 256 /* inner width of GLiClass's feed-forward, whatever a configuration says */
#define SLM_JOINT_FIRST SLM_TENSOR_JOINT_TEXT_0 /* their roles, in a row */
#define SLM_JOINT_ROLES (SLM_TENSOR_JOINT_V - SLM_JOINT_FIRST + 1)
static inline bool slm_role_of_joint(slm_tensor_role role)
{
    return role >= SLM_JOINT_FIRST && role < SLM_JOINT_FIRST + SLM_JOINT_ROLES;
}
/* Does the model's head need it? */
bool slm_joint_reads(const slm_hparams *hp, slm_tensor_role role);
/* The widest row that the head makes of one of the model's. */
uint32_t slm_joint_widest(const slm_hparams *hp);
slm_status slm_joint_read(const slm_meta *meta, slm_hparams *hp, slm_error *err);
slm_status slm_joint_check(const slm_hparams *hp, slm_error *err);

/* ---- spans.c: heads that find spans */
static inline bool slm_role_of_spans(slm_tensor_role role)
{
    return role >= SLM_TENSOR_SPAN_PROJ && role <= SLM_TENSOR_SPAN_SCORE_DOWN_BIAS;
}
/* Does the model's head need it? */
bool slm_spans_reads(const slm_hparams *hp, slm_tensor_role role);
slm_status slm_spans_read(const slm_meta *meta, slm_hparams *hp, slm_error *err);
slm_status slm_spans_check(const slm_hparams *hp, slm_error *err);

/* ---- decide.c: decision heads, what a file says of them and its ranges */
slm_status slm_decide_read(const slm_meta *meta, slm_hparams *hp, slm_error *err);
slm_status slm_decide_check(const slm_hparams *hp, slm_error *err);

/* Have all layers one shape? Else see the fields "Gemma 4" of slm_hparams. */
bool slm_layers_alike(const slm_hparams *hp);
/* Bytes that a position leaves for later ones, in F16. */
uint32_t slm_hparams_kv_bytes(const slm_hparams *hp, bool wide);
/* Does it give vectors of texts?  Else it generates, or has a head. */
static inline bool slm_hparams_embeds(const slm_hparams *hp)
{
    return !hp->causal && hp->pooling != SLM_POOL_RANK && hp->pooling != SLM_POOL_SPANS;
}
/* Width of the vector that an encoder gives, or the number of its labels. */
uint32_t slm_hparams_outputs(const slm_hparams *hp);

/* Fills what images of layout 1 could not say: theirs are decoders, and BERTs with one pooling or a score. */
void slm_hparams_from_layout_1(slm_hparams *hp);

/* The families, NULL after the last. */
const slm_family *slm_family_at(int i);
const slm_family *slm_family_by_name(const char *name);

/* Reads and checks the hyper-parameters. UNSUPPORTED names an unknown family; FORMAT or UNSUPPORTED name the key that is out of range. */
slm_status slm_family_read(const slm_meta *meta, slm_hparams *hp, slm_error *err);
/* Ranges of everything in hp; for the image as well. */
slm_status slm_hparams_check(const slm_hparams *hp, slm_error *err);

/* A tensor of a source that has been found and checked. */
typedef struct slm_source_tensor {
    slm_tensor_role role;
    uint32_t layer, rows, cols; /* cols 0: a vector of `rows` floats */
    slm_type type;              /* of the source */
    uint64_t offset;            /* for read_rows: where it begins in its file */
    uint32_t file;              /* which file (shards) */
} slm_source_tensor;

/* A tensor as its file describes it. */
typedef struct slm_found {
    uint64_t rows, cols; /* a vector: its length and 0 */
    slm_type type;
    uint64_t offset;
    uint32_t file;
} slm_found;
/* Looks the tensor of a role up by its full name; false: none. */
typedef bool (*slm_find_fn)(void *arg, slm_tensor_role role, const char *name, slm_found *out);

/* Asks for every tensor of the model by name and checks shapes and types. *tensors is malloc'ed: [*n_tensors] in the order of the layers.
 * FORMAT names a tensor that is missing or of the wrong shape. hf: names are those of Hugging Face. */
slm_status slm_family_bind(const slm_hparams *hp, bool hf, slm_find_fn find, void *arg, slm_source_tensor **tensors, size_t *n_tensors,
                           slm_error *err);

/* Is this role in the model: required of every layer, optional, or never there? After import fused roles are split (image = true). */
typedef enum slm_need { SLM_NEED_NEVER = 0, SLM_NEED_OPTIONAL = 1, SLM_NEED_ALWAYS = 2 } slm_need;
slm_need slm_family_need(const slm_family *family, slm_tensor_role role, bool image);

/* Is this the name of keys or values of a layer that reads those of another?  Files may hold them, and nobody reads them. */
bool slm_family_unread(const slm_hparams *hp, bool hf, const char *name);

/* The name of a role's tensor in a family ("model.layers.3.mlp.up_proj.weight"). */
void slm_family_tensor_name(const slm_family *family, slm_tensor_role role, bool hf, uint32_t layer, char *out, size_t size);

/* The layer whose tensor stands for this one's: another where this is never read (ModernBERT's first norm), and any of its shape does. */
static inline uint32_t slm_family_name_layer(const slm_family *family, slm_tensor_role role, uint32_t layer)
{
    return family->first_without_norm && role == SLM_TENSOR_ATTN_NORM && layer == 0 ? 1 : layer;
}

/* Llama 3's RoPE scaling as divisors [n_rot / 2], as rope_freqs.weight holds them (Hugging Face gives only the parameters). */
void slm_family_llama3_factors(double rope_base, uint32_t n_rot, double factor, double low_freq_factor, double high_freq_factor,
                               double original_context, float *out);

/* For family_*.c: a number of the metadata with its range; def is taken when the key is absent (NAN: required). */
slm_status slm_meta_u32(const slm_meta *meta, const char *key, uint32_t min, uint32_t max, double def, uint32_t *out, slm_error *err);
slm_status slm_meta_float(const slm_meta *meta, const char *key, double min, double max, double def, float *out, slm_error *err);
/* The same value for every layer is demanded of keys that may be arrays; UNSUPPORTED otherwise. */
slm_status slm_meta_u32_layers(const slm_meta *meta, const char *key, uint32_t min, uint32_t max, uint32_t n_layers, double def,
                               uint32_t *out, slm_error *err);
/* Period n of a window pattern, from a number or an array of flags per layer ("slides"). */
slm_status slm_meta_pattern(const slm_meta *meta, const char *key, uint32_t n_layers, uint32_t def, uint32_t *out, slm_error *err);

/* BERT's tensors and its numbers, which its kin share. */
extern const slm_tensor_role slm_bert_required[], slm_bert_optional[];
slm_status slm_family_read_bert(const slm_meta *meta, slm_hparams *hp, slm_error *err);
/* The width of tables of embeddings that are projected (ALBERT, ELECTRA). */
slm_status slm_family_read_lookup(const slm_meta *meta, slm_hparams *hp, slm_error *err);

/* What mixtures of experts add: their number, how many are used, the width of one. */
slm_status slm_family_read_experts(const slm_meta *meta, slm_hparams *hp, slm_error *err);
/* Which layers slide, where a source names each (flags by layer); nothing where it does not. */
void slm_meta_slides(const slm_meta *meta, slm_hparams *hp);

#define FAMILY(name) extern const slm_family slm_family_##name;
#include "engine/arch/families.def"
#undef FAMILY

#endif
