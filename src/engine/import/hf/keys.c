/*
 * The tables of config.json's keys, and the look at each key of a file.
 *
 * Sources: the configuration classes of transformers (models/NAME/configuration_NAME.py) of versions 4 and 5.
 */
#include "engine/import/hf/keys.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define END {NULL, SLM_HF_OFF, NULL, 0}
#define NEED(name, as) {name, SLM_HF_NEED, as, 0}
#define TAKE(name, as, value) {name, SLM_HF_TAKE, as, value}
#define OFF(name) {name, SLM_HF_OFF, NULL, 0}
#define ON(name) {name, SLM_HF_ON, NULL, 0}
#define WORD(name, as) {name, SLM_HF_WORD, as, 0}
#define VALUE(name, value) {name, SLM_HF_VALUE, NULL, value}
#define CODE(name) {name, SLM_HF_CODE, NULL, 0}

/* Read by no forward pass: what concerns training, generation and bookkeeping. */
static const char *const harmless[] = {
    "architectures", "model_type", "transformers_version", "torch_dtype", "dtype", "_name_or_path", "name_or_path", "auto_map",
        "_commit_hash",
    "initializer_range", "initializer_factor", "initializer_cutoff_factor", "init_std", "use_cache", "gradient_checkpointing",
        "torchscript",
    "attention_dropout", "attention_probs_dropout_prob", "hidden_dropout_prob", "hidden_dropout", "classifier_dropout", "dropout",
        "classifier_dropout_prob",
    "embedding_dropout", "mlp_dropout", "qa_dropout", "seq_classif_dropout", "attn_pdrop", "embd_pdrop", "resid_pdrop", "resid_pdrop",
    "summary_type", "summary_use_proj", "summary_activation", "summary_last_dropout", "summary_first_dropout", "summary_proj_to_labels",
    "pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "mask_token_id", "unk_token_id",
        "decoder_start_token_id",
    "id2label", "label2id", "num_labels", "problem_type", "finetuning_task", "task_specific_params", "tokenizer_class", "prefix",
    "output_attentions", "output_hidden_states", "return_dict", "output_scores", "return_dict_in_generate", "tf_legacy_loss",
        "use_bfloat16",
    "max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups", "diversity_penalty", "temperature", "top_k",
    "top_p", "typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids",
    "num_return_sequences", "remove_invalid_values", "forced_bos_token_id", "forced_eos_token_id", "exponential_decay_length_penalty",
    "suppress_tokens", "begin_suppress_tokens", "chunk_size_feed_forward", "directionality", "pooler_fc_size", "pooler_num_attention_heads",
    "pooler_num_fc_layers", "pooler_size_per_head", "pooler_type", "output_past", "unsloth_version", "unsloth_fixed", "model_name",
    "_attn_implementation", "_attn_implementation_autoset", "attn_implementation", "use_flash_attn", "deterministic_flash_attn",
    "reference_compile", "repad_logits_with_grad", "sparse_prediction", "sparse_pred_ignore_index", "decoder_bias", "pretraining_tp",
    "sentence_transformers", "classifiers_size", "tie_encoder_decoder", "is_encoder_decoder", "max_window_layers",
        "cross_attention_hidden_size",
    "_sliding_window_pattern", "cache_implementation", "dense_seq_output", "fused_bias_fc", "fused_dropout_add_ln",
        "pad_vocab_size_multiple",
    "scale_attn_weights", "relax_projection", "transformers.js_config", "quantization_config", NULL};

static const slm_hf_key bert_keys[] = {
    NEED("hidden_size", "embedding_length"), NEED("num_hidden_layers", "block_count"), NEED("num_attention_heads", "attention.head_count"),
    NEED("intermediate_size", "feed_forward_length"), NEED("max_position_embeddings", "context_length"), CODE("vocab_size"),
    WORD("hidden_act", "gelu"), TAKE("layer_norm_eps", "attention.layer_norm_epsilon", 1e-12),
    TAKE("type_vocab_size", "tokenizer.ggml.token_type_count", 2), WORD("position_embedding_type", "absolute"), OFF("is_decoder"),
    OFF("add_cross_attention"), OFF("pruned_heads"), CODE("tie_word_embeddings"), END};
static const slm_hf_key gte_keys[] = {
    NEED("hidden_size", "embedding_length"), NEED("num_hidden_layers", "block_count"), NEED("num_attention_heads", "attention.head_count"),
    NEED("intermediate_size", "feed_forward_length"), NEED("max_position_embeddings", "context_length"), CODE("vocab_size"),
    WORD("hidden_act", "gelu"), TAKE("layer_norm_eps", "attention.layer_norm_epsilon", 1e-12), CODE("tie_word_embeddings"),
    WORD("position_embedding_type", "rope"), TAKE("type_vocab_size", "slm.types", 1), TAKE("rope_theta", "rope.freq_base", 10000),
    CODE("rope_scaling"), WORD("layer_norm_type", "layer_norm"), ON("pack_qkv"), OFF("logn_attention_scale"), CODE("logn_attention_clip1"),
    CODE("unpad_inputs"), CODE("use_memory_efficient_attention"), CODE("matryoshka_dimensions"), END};
static const slm_hf_key jina_keys[] = {WORD("position_embedding_type", "alibi"), CODE("feed_forward_type"), WORD("emb_pooler", "mean"),
                                       CODE("model_max_length"), END};
/* lora_*, task_instructions: of the adapters, which tasks.c reads. */
static const slm_hf_key jina3_keys[] = {
    TAKE("layer_norm_eps", "attention.layer_norm_epsilon", 1e-5), TAKE("type_vocab_size", "tokenizer.ggml.token_type_count", 1),
    WORD("position_embedding_type", "rotary"), CODE("rotary_emb_base"), CODE("lora_adaptations"), CODE("lora_alpha"),
    CODE("lora_dropout_p"), CODE("lora_main_params_trainable"), CODE("lora_rank"), CODE("load_trained_adapters"),
    CODE("task_instructions"), CODE("matryoshka_dimensions"), WORD("emb_pooler", "mean"), OFF("truncate_dim"), CODE("use_reentrant"), END};
static const slm_hf_key jina3_hf_keys[] = {
    TAKE("layer_norm_eps", "attention.layer_norm_epsilon", 1e-5), TAKE("type_vocab_size", "tokenizer.ggml.token_type_count", 1),
    WORD("position_embedding_type", "rotary"), CODE("rope_parameters"), CODE("rope_theta"), CODE("rope_scaling"), END};
static const slm_hf_key electra_keys[] = {TAKE("embedding_size", "slm.lookup", NAN), END};
static const slm_hf_key albert_keys[] = {
    WORD("hidden_act", "gelu_new|gelu_pytorch_tanh|gelu"), NEED("embedding_size", "slm.lookup"), CODE("num_hidden_groups"),
    CODE("inner_group_num"), OFF("gap_size"), OFF("net_structure_type"), VALUE("down_scale_factor", 1), END};
static const slm_hf_key deberta_keys[] = {
    TAKE("layer_norm_eps", "attention.layer_norm_epsilon", 1e-7), OFF("type_vocab_size"), CODE("relative_attention"),
    CODE("max_relative_positions"), CODE("position_buckets"), CODE("norm_rel_ebd"), CODE("share_att_key"), CODE("pos_att_type"),
    CODE("position_biased_input"), OFF("conv_kernel_size"), OFF("conv_act"), OFF("conv_groups"), CODE("pooler_dropout"),
    WORD("pooler_hidden_act", "gelu"), CODE("pooler_hidden_size"), CODE("embedding_size"), OFF("attention_head_size"), CODE("legacy"),
    END};
static const slm_hf_key mpnet_keys[] = {TAKE("relative_attention_num_buckets", "attention.relative_buckets_count", 32), END};
static const slm_hf_key distilbert_keys[] = {
    NEED("dim", "embedding_length"), NEED("n_layers", "block_count"), NEED("n_heads", "attention.head_count"),
    NEED("hidden_dim", "feed_forward_length"), NEED("max_position_embeddings", "context_length"), CODE("vocab_size"),
    WORD("activation", "gelu"), TAKE("layer_norm_eps", "attention.layer_norm_epsilon", 1e-12), CODE("sinusoidal_pos_embds"),
        OFF("pruned_heads"), CODE("tie_word_embeddings"), END};
static const slm_hf_key modernbert_keys[] = {
    NEED("hidden_size", "embedding_length"), NEED("num_hidden_layers", "block_count"), NEED("num_attention_heads", "attention.head_count"),
    NEED("intermediate_size", "feed_forward_length"), NEED("max_position_embeddings", "context_length"), CODE("vocab_size"),
    WORD("hidden_activation", "gelu"), TAKE("norm_eps", "attention.layer_norm_epsilon", 1e-5), OFF("norm_bias"), OFF("attention_bias"),
    OFF("mlp_bias"), TAKE("global_attn_every_n_layers", "attention.full_every", 3), CODE("layer_types"), CODE("local_attention"),
    CODE("rope_parameters"), CODE("global_rope_theta"), CODE("local_rope_theta"), CODE("classifier_pooling"),
    WORD("classifier_activation", "gelu"), OFF("classifier_bias"), CODE("tie_word_embeddings"), CODE("layer_norm_eps"),
    WORD("position_embedding_type", "absolute"), END};
static const slm_hf_key nomic_keys[] = {
    CODE("hidden_size"), CODE("num_hidden_layers"), CODE("num_attention_heads"), CODE("intermediate_size"), CODE("max_position_embeddings"),
    CODE("vocab_size"), WORD("hidden_act", "silu"), TAKE("type_vocab_size", "tokenizer.ggml.token_type_count", 2), CODE("rope_parameters"),
    CODE("layer_norm_eps"), CODE("head_dim"), CODE("n_embd"), CODE("n_layer"), CODE("n_head"), CODE("n_inner"), CODE("n_positions"),
    CODE("layer_norm_epsilon"), CODE("rotary_emb_base"), WORD("activation_function", "swiglu"), OFF("causal"), OFF("mlp_fc1_bias"),
    OFF("mlp_fc2_bias"), OFF("qkv_proj_bias"), OFF("parallel_block"), OFF("parallel_block_tied_norm"), OFF("prenorm"),
    VALUE("rotary_emb_fraction", 1), OFF("rotary_emb_interleaved"), OFF("rotary_emb_scale_base"), OFF("rotary_scaling_factor"),
    OFF("use_rms_norm"), OFF("reorder_and_upcast_attn"), OFF("scale_attn_by_inverse_layer_idx"), CODE("max_trained_positions"),
    OFF("num_experts"), OFF("moe_every_n_layers"), CODE("use_xentropy"), END};
/* What model2vec writes; how its table was made, and what static.h puts there. */
static const slm_hf_key static_keys[] = {
    NEED("hidden_size", "embedding_length"), CODE("vocab_size"), NEED("max_length", "context_length"), CODE("normalize"),
    CODE("tokenizer_name"), CODE("apply_pca"), CODE("apply_zipf"), CODE("sif_coefficient"), CODE("hidden_dim"), CODE("seq_length"),
    CODE("pooling"), CODE("embedding_dtype"), CODE("vocabulary_quantization"), OFF("head_config"), END};
static const slm_hf_key eurobert_keys[] = {CODE("classifier_pooling"), WORD("hidden_act", "silu"), OFF("attention_bias"), OFF("mlp_bias"),
                                           CODE("clf_pooling"), OFF("is_decoder"), END};

/* What the decoders share; what differs is in their own tables. */
static const slm_hf_key decoder_keys[] = {
    NEED("hidden_size", "embedding_length"), NEED("num_hidden_layers", "block_count"), NEED("num_attention_heads", "attention.head_count"),
    NEED("intermediate_size", "feed_forward_length"), NEED("max_position_embeddings", "context_length"), CODE("vocab_size"),
    CODE("num_key_value_heads"), CODE("head_dim"), TAKE("rms_norm_eps", "attention.layer_norm_rms_epsilon", NAN), CODE("rope_theta"),
    CODE("rope_scaling"), CODE("rope_parameters"), CODE("original_max_position_embeddings"), CODE("tie_word_embeddings"),
    OFF("add_cross_attention"), OFF("pruned_heads"), END};
static const slm_hf_key llama_keys[] = {WORD("hidden_act", "silu|swish"), CODE("attention_bias"), OFF("mlp_bias"), CODE("is_decoder"),
                                        VALUE("partial_rotary_factor", 1), OFF("use_sliding_window"), OFF("sliding_window"), END};
static const slm_hf_key mistral_keys[] = {WORD("hidden_act", "silu|swish"), CODE("sliding_window"), CODE("is_decoder"),
                                          CODE("layer_types"), END};
static const slm_hf_key phi3_keys[] = {WORD("hidden_act", "silu|swish"), CODE("sliding_window"), CODE("partial_rotary_factor"),
                                       OFF("attention_bias"), OFF("lm_head_bias"),
                                       VALUE("full_attn_mod", 1), VALUE("interpolate_factor", 1), END};
static const slm_hf_key gemma_keys[] = {WORD("hidden_act", "gelu_pytorch_tanh|gelu"), WORD("hidden_activation", "gelu_pytorch_tanh|gelu"),
                                        OFF("attention_bias"), CODE("use_bidirectional_attention"), END};
static const slm_hf_key gemma2_keys[] = {
    WORD("hidden_act", "gelu_pytorch_tanh"), WORD("hidden_activation", "gelu_pytorch_tanh"), OFF("attention_bias"), CODE("sliding_window"),
    CODE("sliding_window_pattern"), CODE("layer_types"), CODE("attn_logit_softcapping"), CODE("final_logit_softcapping"),
    CODE("query_pre_attn_scalar"), CODE("use_bidirectional_attention"), CODE("rope_local_base_freq"), VALUE("sliding_window_size", 4096),
        END};
/* Widths and heads of layers apart, mixtures and keys that are values: of larger models. */
static const slm_hf_key gemma4_keys[] = {
    WORD("hidden_activation", "gelu_pytorch_tanh"), OFF("attention_bias"), CODE("sliding_window"), CODE("layer_types"),
    CODE("final_logit_softcapping"), OFF("use_bidirectional_attention"), OFF("attention_k_eq_v"), OFF("enable_moe_block"),
    OFF("num_experts"), OFF("top_k_experts"), OFF("moe_intermediate_size"), OFF("num_global_key_value_heads"), CODE("global_head_dim"),
    CODE("per_layer_config"), CODE("vocab_size_per_layer_input"), CODE("use_double_wide_mlp"),
    TAKE("hidden_size_per_layer_input", "embedding_length_per_layer_input", 256),
    TAKE("num_kv_shared_layers", "attention.shared_kv_layers", 0), END};
static const slm_hf_key gemma_embd2_keys[] = {
    WORD("hidden_activation", "gelu_pytorch_tanh"), OFF("attention_bias"), CODE("sliding_window"), CODE("sliding_window_pattern"),
    CODE("layer_types"), CODE("global_head_dim"), CODE("num_global_key_value_heads"), CODE("per_layer_config"),
    TAKE("hidden_size_per_layer_input", "embedding_length_per_layer_input", 512), TAKE("embedding_dim", "embedding_length_out", 768), END};
static const slm_hf_key qwen2_keys[] = {WORD("hidden_act", "silu|swish"), OFF("use_sliding_window"), CODE("sliding_window"),
                                        CODE("layer_types"),
                                        OFF("use_mrope"), END};
static const slm_hf_key qwen3_keys[] = {WORD("hidden_act", "silu|swish"), OFF("use_sliding_window"), CODE("sliding_window"),
                                        CODE("layer_types"),
                                        OFF("attention_bias"), END};
/* A granite's multipliers, whatever its layers are. */
#define GRANITE                                                                                                                            \
    WORD("hidden_act", "silu|swish"), CODE("attention_bias"), OFF("mlp_bias"), TAKE("embedding_multiplier", "embedding_scale", 1),         \
        TAKE("residual_multiplier", "residual_scale", 1), TAKE("attention_multiplier", "attention.scale", 1),                              \
        TAKE("logits_scaling", "logit_scale", 1)
#define EXPERTS CODE("router_aux_loss_coef"), CODE("output_router_logits"), NEED("num_experts_per_tok", "expert_used_count")
static const slm_hf_key qwen3_moe_keys[] = {
    WORD("hidden_act", "silu|swish"), OFF("use_sliding_window"), CODE("sliding_window"), CODE("layer_types"), OFF("attention_bias"),
    EXPERTS, CODE("num_experts"), CODE("num_local_experts"), NEED("moe_intermediate_size", "expert_feed_forward_length"),
    CODE("norm_topk_prob"), CODE("mlp_only_layers"), CODE("decoder_sparse_step"), OFF("shared_expert_intermediate_size"), END};
static const slm_hf_key olmoe_keys[] = {WORD("hidden_act", "silu|swish"), OFF("attention_bias"), OFF("clip_qkv"), EXPERTS,
                                        NEED("num_experts", "expert_count"), CODE("norm_topk_prob"), END};
static const slm_hf_key granitemoe_keys[] = {
    GRANITE, EXPERTS, NEED("num_local_experts", "expert_count"), END};
static const slm_hf_key granite_keys[] = {GRANITE, END};
/* The Mamba's keys say nothing where layer_types names none. */
static const slm_hf_key granite4_keys[] = {
    GRANITE, NEED("shared_intermediate_size", "feed_forward_length"), CODE("position_embedding_type"),
    OFF("num_local_experts"), CODE("num_experts_per_tok"), CODE("layer_types"), CODE("output_router_logits"), CODE("router_aux_loss_coef"),
    CODE("mamba_chunk_size"), CODE("mamba_conv_bias"), CODE("mamba_d_conv"), CODE("mamba_d_head"), CODE("mamba_d_state"),
    CODE("mamba_expand"), CODE("mamba_n_groups"), CODE("mamba_n_heads"), CODE("mamba_proj_bias"), CODE("time_step_min"),
    CODE("time_step_max"), CODE("time_step_floor"), CODE("time_step_limit"), CODE("init_method"), CODE("normalization_function"),
    CODE("rms_norm"), END};
static const slm_hf_key olmo2_keys[] = {WORD("hidden_act", "silu|swish"), OFF("attention_bias"), OFF("clip_qkv"), END};
static const slm_hf_key olmo3_keys[] = {WORD("hidden_act", "silu|swish"), OFF("attention_bias"), OFF("clip_qkv"), CODE("sliding_window"),
                                        CODE("layer_types"), END};
static const slm_hf_key exaone4_keys[] = {WORD("hidden_act", "silu|swish"), CODE("sliding_window"), CODE("sliding_window_pattern"),
                                          CODE("layer_types"), OFF("attention_bias"), END};
/* conv_dim and its like repeat what other keys say, in files of older versions. */
static const slm_hf_key lfm2_keys[] = {
    NEED("conv_L_cache", "shortconv.l_cache"), OFF("conv_bias"), CODE("layer_types"), CODE("full_attn_idxs"),
    TAKE("norm_eps", "attention.layer_norm_rms_epsilon", 1e-5), CODE("block_auto_adjust_ff_dim"), CODE("block_ffn_dim_multiplier"),
    CODE("block_multiple_of"), CODE("block_ff_dim"), CODE("tie_embedding"), CODE("block_dim"), CODE("conv_dim"), CODE("conv_dim_out"),
    CODE("num_heads"), ON("use_pos_enc"), ON("block_use_swiglu"), CODE("block_norm_eps"), CODE("block_mlp_init_scale"),
    CODE("block_out_init_scale"), CODE("block_use_xavier_init"), CODE("conv_use_xavier_init"), CODE("theta"), END};
static const slm_hf_key smollm3_keys[] = {
    WORD("hidden_act", "silu|swish"), CODE("attention_bias"), OFF("mlp_bias"), CODE("no_rope_layers"), CODE("no_rope_layer_interval"),
    CODE("use_sliding_window"), CODE("sliding_window"), CODE("layer_types"), END};

static const slm_hf_key ministral3_keys[] = {WORD("hidden_act", "silu|swish"), OFF("sliding_window"), OFF("is_decoder"), END};
/* mtp_*: a layer that guesses further ahead, which is left out. */
static const slm_hf_key qwen35_keys[] = {
    WORD("hidden_act", "silu|swish"), OFF("attention_bias"), CODE("layer_types"), CODE("full_attention_interval"),
    CODE("partial_rotary_factor"), ON("attn_output_gate"), WORD("mamba_ssm_dtype", "float32"), CODE("mtp_num_hidden_layers"),
    CODE("mtp_use_dedicated_embeddings"), CODE("mlp_only_layers"), TAKE("linear_conv_kernel_dim", "shortconv.l_cache", 4),
    TAKE("linear_num_key_heads", "slm.delta.keys", 16), TAKE("linear_num_value_heads", "slm.delta.values", 32),
    TAKE("linear_key_head_dim", "slm.delta.key_dim", 128), TAKE("linear_value_head_dim", "slm.delta.value_dim", 128), END};
#define LAYER_NORM(name, value) TAKE(name, "attention.layer_norm_epsilon", value)
static const slm_hf_key stablelm_keys[] = {WORD("hidden_act", "silu|swish"), LAYER_NORM("layer_norm_eps", 1e-5), CODE("use_qkv_bias"),
                                           OFF("qk_layernorm"), OFF("use_parallel_residual"), CODE("partial_rotary_factor"), END};
static const slm_hf_key phi_keys[] = {WORD("hidden_act", "gelu_new|gelu_pytorch_tanh"), LAYER_NORM("layer_norm_eps", 1e-5),
                                      OFF("qk_layernorm"), CODE("partial_rotary_factor"), END};
static const slm_hf_key neox_keys[] = {WORD("hidden_act", "gelu"), LAYER_NORM("layer_norm_eps", 1e-5), ON("attention_bias"),
                                       OFF("is_decoder"), CODE("use_parallel_residual"), CODE("rotary_pct"), CODE("rotary_emb_base"),
                                       CODE("partial_rotary_factor"), END};
static const slm_hf_key gpt2_keys[] = {
    NEED("n_embd", "embedding_length"), NEED("n_layer", "block_count"), NEED("n_head", "attention.head_count"), CODE("n_inner"),
    NEED("n_positions", "context_length"), CODE("vocab_size"), WORD("activation_function", "gelu_new|gelu_pytorch_tanh"),
    LAYER_NORM("layer_norm_epsilon", 1e-5), CODE("tie_word_embeddings"), ON("scale_attn_weights"), OFF("reorder_and_upcast_attn"),
    OFF("scale_attn_by_inverse_layer_idx"), OFF("add_cross_attention"), OFF("pruned_heads"), CODE("n_ctx"), OFF("is_decoder"), END};

static const slm_hf_kind kinds[] = {
    {"bert", "bert", "bert.", bert_keys, NULL, NULL, SLM_POOL_CLS, .encoder = true},
    {"jina-bert", "jina-bert-v2", "bert.", bert_keys, jina_keys, slm_hf_take_jina, SLM_POOL_CLS, .encoder = true},
    {"jina-v3", "jina-bert-v3", "roberta.", bert_keys, jina3_keys, slm_hf_take_jina3, SLM_POOL_CLS, .encoder = true, .rope_base = 1e4,
     .base_key = "rotary_emb_base", .tasks = true},
    {"jina_embeddings_v3", "jina-bert-v3", "roberta.", bert_keys, jina3_hf_keys, slm_hf_take_jina3, SLM_POOL_CLS, .encoder = true,
     .rope_base = 2e4, .scalings = "linear|dynamic|yarn"},
    {"new", "gte", "new.", gte_keys, NULL, slm_hf_take_gte, SLM_POOL_CLS, .encoder = true},
    {"gte", "gte", "gte.", gte_keys, NULL, slm_hf_take_gte, SLM_POOL_CLS, .encoder = true},
    {"roberta", "roberta", "roberta.", bert_keys, NULL, NULL, SLM_POOL_CLS, .encoder = true, .pad_offset = true},
    {"xlm-roberta", "roberta", "roberta.", bert_keys, NULL, NULL, SLM_POOL_CLS, .encoder = true, .pad_offset = true},
    {"camembert", "roberta", "roberta.", bert_keys, NULL, NULL, SLM_POOL_CLS, .encoder = true, .pad_offset = true},
    {"electra", "electra", "electra.", bert_keys, electra_keys, NULL, SLM_POOL_CLS, .encoder = true},
    {"distilbert", "distilbert", "distilbert.", distilbert_keys, NULL, NULL, SLM_POOL_CLS, .encoder = true},
    {"mpnet", "mpnet", "mpnet.", bert_keys, mpnet_keys, NULL, SLM_POOL_CLS, .encoder = true, .pad_offset = true},
    {"modernbert", "modernbert", "model.", modernbert_keys, NULL, slm_hf_take_modernbert, SLM_POOL_CLS, .encoder = true},
    {"nomic_bert", "nomic-bert", "nomic_bert.", nomic_keys, NULL, slm_hf_take_nomic, 0, .encoder = true},
    {"albert", "albert", "albert.", bert_keys, albert_keys, slm_hf_take_albert, SLM_POOL_CLS, .encoder = true},
    {"deberta-v2", "deberta", "deberta.", bert_keys, deberta_keys, slm_hf_take_deberta, SLM_POOL_CLS, .encoder = true},
    {"model2vec", "static", "", static_keys, NULL, slm_hf_take_static, 0, .encoder = true, .table = true},
    {"eurobert", "eurobert", "model.", decoder_keys, eurobert_keys, slm_hf_take_eurobert, 0, .encoder = true, .rope_base = 1e4,
     .eps = 1e-5, .scalings = "linear|dynamic|yarn"},
    {"llama", "llama", "", decoder_keys, llama_keys, slm_hf_take_decoder, SLM_POOL_LAST, .rope_base = 1e4},
    {"mistral", "llama", "", decoder_keys, mistral_keys, slm_hf_take_decoder, SLM_POOL_LAST, .n_kv_heads = 8, .rope_base = 1e4,
     .window = 4096},
    {"ministral", "llama", "", decoder_keys, mistral_keys, slm_hf_take_decoder, SLM_POOL_LAST, .n_kv_heads = 8, .rope_base = 1e4,
     .window = 4096},
    {"phi3", "phi3", "", decoder_keys, phi3_keys, slm_hf_take_decoder, SLM_POOL_LAST, .rope_base = 1e4, .eps = 1e-5, .partial = 1,
     .scalings = "longrope|su|yarn"},
    {"gemma", "gemma", "", decoder_keys, gemma_keys, slm_hf_take_decoder, SLM_POOL_LAST, .n_kv_heads = 16, .head_dim = 256,
     .rope_base = 1e4, .tied = true, .gelu = true},
    {"gemma2", "gemma2", "", decoder_keys, gemma2_keys, slm_hf_take_decoder, SLM_POOL_LAST, .n_kv_heads = 4, .head_dim = 256,
     .rope_base = 1e4, .window = 4096, .tied = true, .gelu = true,
     .layers = slm_hf_layers_gemma, .more_of = slm_hf_more_gemma},
    {"gemma3_text", "gemma3", "", decoder_keys, gemma2_keys, slm_hf_take_decoder, SLM_POOL_LAST, .n_kv_heads = 4, .head_dim = 256,
     .rope_base = 1e6, .window = 4096, .tied = true, .gelu = true,
     .ropes = true, .scalings = "linear|yarn", .layers = slm_hf_layers_gemma, .more_of = slm_hf_more_gemma,
     .inside = {.n_vocab = 262208, .n_context = 131072, .n_heads = 8}},
    {"gemma4_text", "gemma4", "", decoder_keys, gemma4_keys, slm_hf_take_decoder, 0, .n_kv_heads = 4, .head_dim = 256, .rope_base = 1e6,
     .window = 512, .tied = true, .gelu = true, .ropes = true, .proportional = true, .answers_only = true,
     .scalings = "linear|yarn", .layers = slm_hf_layers_gemma4, .inside = {.n_vocab = 262144, .n_context = 131072, .n_heads = 8}},
    {"embedding_gemma2_text", "gemma-embedding2", "", decoder_keys, gemma_embd2_keys, slm_hf_take_gemma_embd2, 0, .encoder = true,
     .n_kv_heads = 2, .head_dim = 256, .rope_base = 1e6, .window = 512, .gelu = true, .ropes = true, .scalings = "default",
     .inside = {.n_vocab = 262144, .n_context = 262144, .n_heads = 4}},
    {"qwen2", "qwen2", "", decoder_keys, qwen2_keys, slm_hf_take_decoder, SLM_POOL_LAST, .n_kv_heads = 32, .rope_base = 1e4,
     .layers = slm_hf_layers_full},
    {"qwen3", "qwen3", "", decoder_keys, qwen3_keys, slm_hf_take_decoder, SLM_POOL_LAST, .n_kv_heads = 32, .head_dim = 128,
     .rope_base = 1e4, .layers = slm_hf_layers_full},
    {"granite", "granite", "", decoder_keys, granite_keys, slm_hf_take_decoder, 0, .rope_base = 1e4},
    {"olmo2", "olmo2", "", decoder_keys, olmo2_keys, slm_hf_take_decoder, 0, .rope_base = 1e4, .eps = 1e-5},
    {"olmo3", "olmo2", "", decoder_keys, olmo3_keys, slm_hf_take_decoder, 0, .rope_base = 1e4, .window = 4096, .eps = 1e-5,
     .ropes = true, .scalings = "linear|yarn", .layers = slm_hf_layers_olmo3},
    {"exaone4", "exaone4", "", decoder_keys, exaone4_keys, slm_hf_take_decoder, 0, .n_kv_heads = 32,
     .rope_base = 1e4, .window = 4096, .eps = 1e-5, .layers = slm_hf_layers_exaone4},
    {"granitemoehybrid", "granitehybrid", "", decoder_keys, granite4_keys, slm_hf_take_decoder, 0, .rope_base = 1e4,
     .layers = slm_hf_layers_granite4},
    {"qwen3_moe", "qwen3moe", "", decoder_keys, qwen3_moe_keys, slm_hf_take_decoder, 0, .n_kv_heads = 4, .rope_base = 1e4,
     .layers = slm_hf_layers_full, .more_of = slm_hf_more_qwen3_moe},
    {"olmoe", "olmoe", "", decoder_keys, olmoe_keys, slm_hf_take_decoder, 0, .rope_base = 1e4, .eps = 1e-5,
     .more_of = slm_hf_more_olmoe},
    {"granitemoe", "granitemoe", "", decoder_keys, granitemoe_keys, slm_hf_take_decoder, 0, .rope_base = 1e4},
    {"lfm2", "lfm2", "", decoder_keys, lfm2_keys, slm_hf_take_decoder, 0, .n_kv_heads = 8, .rope_base = 1e6, .tied = true, .eps = 1e-5,
     .own_eps = true, .layers = slm_hf_layers_lfm2},
    {"ministral3", "llama", "", decoder_keys, ministral3_keys, slm_hf_take_decoder, 0, .n_kv_heads = 8, .head_dim = 128, .rope_base = 1e6,
     .eps = 1e-5, .answers_only = true, .layers = slm_hf_layers_ministral3},
    {"qwen3_5_text", "qwen3_5", "", decoder_keys, qwen35_keys, slm_hf_take_decoder, 0, .n_kv_heads = 4, .head_dim = 256, .rope_base = 1e7,
     .partial = 0.25, .answers_only = true, .layers = slm_hf_layers_qwen35},
    {"stablelm", "stablelm", "", decoder_keys, stablelm_keys, slm_hf_take_decoder, 0, .n_kv_heads = 32, .rope_base = 1e4, .own_eps = true,
     .partial = 0.25, .answers_only = true},
    {"phi", "phi", "", decoder_keys, phi_keys, slm_hf_take_decoder, 0, .rope_base = 1e4, .own_eps = true, .partial = 0.5,
     .answers_only = true},
    {"gpt_neox", "gpt_neox", "", decoder_keys, neox_keys, slm_hf_take_decoder, 0, .rope_base = 1e4, .own_eps = true, .partial = 0.25,
     .base_key = "rotary_emb_base", .answers_only = true, .more_of = slm_hf_more_neox},
    {"gpt2", "gpt2", "transformer.", gpt2_keys, NULL, slm_hf_take_gpt2, 0, .own_eps = true, .tied = true, .answers_only = true},
    {"smollm3", "smollm3", "", decoder_keys, smollm3_keys, slm_hf_take_decoder, SLM_POOL_LAST, .n_kv_heads = 4, .rope_base = 2e6,
     .tied = true, .layers = slm_hf_layers_smollm3},
};

const slm_hf_kind *slm_hf_kind_find(const char *model_type)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(kinds[i].model_type, model_type) == 0)
            return &kinds[i];
    return NULL;
}

void slm_hf_kind_names(char *out, size_t size)
{
    size_t n = 0;
    out[0] = '\0';
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0] && n + 1 < size; i++)
        n += (size_t) snprintf(out + n, size - n, "%s%s", i > 0 ? ", " : "", kinds[i].model_type);
}

static const slm_hf_key *find_key(const slm_hf_key *keys, const char *name)
{
    for (; keys != NULL && keys->name != NULL; keys++)
        if (strcmp(keys->name, name) == 0)
            return keys;
    return NULL;
}

static bool is_harmless(const char *name)
{
    for (size_t i = 0; harmless[i] != NULL; i++)
        if (strcmp(harmless[i], name) == 0)
            return true;
    return false;
}

static bool is_nothing(const json_t *v)
{
    return json_is_null(v) || json_is_false(v) || (json_is_number(v) && json_number_value(v) == 0) ||
           (json_is_string(v) && json_string_length(v) == 0) || (json_is_array(v) && json_array_size(v) == 0) ||
           (json_is_object(v) && json_object_size(v) == 0);
}

bool slm_hf_among(const char *text, const char *words)
{
    size_t n = strlen(text);
    for (const char *at = words; at != NULL; at = strchr(at, '|') != NULL ? strchr(at, '|') + 1 : NULL)
        if (strncmp(at, text, n) == 0 && (at[n] == '|' || at[n] == '\0'))
            return true;
    return false;
}

/* Lists and objects that code looks into: another value would be taken for a missing one. */
static bool has_shape(const char *name, const json_t *v)
{
    static const char *const lists[] = {"layer_types", "no_rope_layers", "mlp_only_layers", "full_attn_idxs"};
    static const char *const objects[] = {"rope_parameters", "rope_scaling", "id2label"};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        if (strcmp(name, lists[i]) == 0)
            return json_is_null(v) || json_is_array(v);
    for (size_t i = 0; i < sizeof objects / sizeof objects[0]; i++)
        if (strcmp(name, objects[i]) == 0)
            return json_is_null(v) || json_is_object(v);
    return true;
}

static slm_status check_key(const slm_hf_config *c, const slm_hf_key *k, const char *name, const json_t *v, slm_error *err)
{
    const char *said = slm_hf_string(c->json, "model_type"), *kind = said != NULL ? said : c->kind->model_type;
    bool good = true;
    if (!has_shape(name, v))
        return slm_fail(err, SLM_FORMAT, "\"%s\" in \"%s\" is neither a list or object nor null", name, c->json.file);
    if (k == NULL && is_harmless(name))
        return SLM_OK;
    if (k == NULL) {
        slm_fail(err, SLM_UNSUPPORTED, "the key \"%.60s\" in \"%s\" is not known for models of the type \"%.40s\"", name, c->json.file,
                 kind);
        return slm_hint(err, "It may change what the model computes. Take it out of the file if it is known to change nothing.");
    }
    switch (k->use) {
    case SLM_HF_TAKE: good = !json_is_null(v); break; /* the reference has no such models */
    case SLM_HF_OFF: good = is_nothing(v); break;
    case SLM_HF_ON: good = json_is_null(v) || json_is_true(v); break;
    case SLM_HF_WORD: good = json_is_null(v) || (json_is_string(v) && slm_hf_among(json_string_value(v), k->as)); break;
    case SLM_HF_VALUE: good = json_is_null(v) || (json_is_number(v) && json_number_value(v) == k->value); break;
    default: break;
    }
    if (good)
        return SLM_OK;
    char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    slm_fail(err, SLM_UNSUPPORTED, "\"%s\" in \"%s\" is %.60s, which is not supported for models of the type \"%.40s\"", name, c->json.file,
             text != NULL ? text : "?", kind);
    free(text);
    return SLM_UNSUPPORTED;
}

static slm_status put_table(slm_hf_config *c, const slm_hf_key *k, slm_error *err)
{
    for (; k != NULL && k->name != NULL; k++) {
        if (k->use == SLM_HF_NEED && !slm_hf_has(c->json, k->name) && c->nested && slm_hf_config_number(c, k->as, 0) > 0)
            continue; /* published files leave it to the class */
        if (k->use == SLM_HF_NEED && !slm_hf_has(c->json, k->name))
            return slm_fail(err, SLM_FORMAT, "\"%s\" is missing in \"%s\"", k->name, c->json.file);
        if (k->use == SLM_HF_NEED || k->use == SLM_HF_TAKE)
            SLM_TRY(slm_hf_take(c, c->json, k->name, k->as, k->use == SLM_HF_TAKE ? k->value : NAN, err));
    }
    return SLM_OK;
}

slm_status slm_hf_keys_take(slm_hf_config *c, const slm_hf_kind *kind, slm_error *err)
{
    const char *name;
    json_t *v;
    json_object_foreach(c->json.object, name, v)
    {
        const slm_hf_key *own = find_key(kind->more, name);
        SLM_TRY(check_key(c, own != NULL ? own : find_key(kind->keys, name), name, v, err));
    }
    SLM_TRY(put_table(c, kind->keys, err));
    return put_table(c, kind->more, err);
}
