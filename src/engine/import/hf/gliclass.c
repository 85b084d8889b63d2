/*
 * config.json of the gliclass library (gliclass.h).
 *
 * What its uni-encoder reads is honoured or refused by name: other architectures, layers between encoder and scorer, and poolings that no
 * published model has.  The marks are found by their texts, as the library's pipeline writes them, and must have the numbers that its
 * model looks for.
 *
 * Source: the library's GLiClassModelConfig, GLiClassUniEncoder and UniEncoderZeroShotClassificationPipeline, version 0.1.21.
 */
#include "engine/import/hf/gliclass.h"

#include <string.h>

#include "engine/import/hf/keys.h"
#include "engine/text/tokenizer.h"

#define CODE(name) {name, SLM_HF_CODE, NULL, 0}
#define OFF(name) {name, SLM_HF_OFF, NULL, 0}

/* Read by code below, by training, or by other architectures alone. */
static const slm_hf_key own_keys[] = {
    CODE("architecture_type"), CODE("encoder_config"), CODE("encoder_model"), CODE("encoder_model_name"), CODE("vocab_size"),
    CODE("hidden_size"), CODE("class_token_index"), CODE("text_token_index"), CODE("example_token_index"), CODE("prompt_first"),
    CODE("pooling_strategy"), CODE("class_token_pooling"), CODE("embed_class_token"), CODE("extract_text_features"), CODE("scorer_type"),
    CODE("projector_hidden_act"), CODE("normalize_features"), CODE("logit_scale_init_value"), CODE("max_num_classes"),
    CODE("max_labels_alloc"), {"encoder_layer_id", SLM_HF_VALUE, NULL, -1}, OFF("use_lstm"), OFF("squeeze_layers"),
    OFF("use_segment_embeddings"), OFF("use_calibrator"), OFF("multimodal"), CODE("layer_wise"), CODE("ignore_index"),
    CODE("focal_loss_alpha"), CODE("focal_loss_gamma"), CODE("focal_loss_reduction"), CODE("contrastive_loss_coef"),
    CODE("label_model_config"), CODE("label_model_name"), CODE("shuffle_labels"), CODE("scorer_num_heads"),
    CODE("scorer_mlp_hidden_size"), CODE("scorer_attn_dropout"), CODE("scorer_encoder_num_layers"), CODE("scorer_full_sequence"),
    CODE("recurrent_steps"), CODE("recurrent_min_steps"), CODE("recurrent_inference"), CODE("recurrent_inference_max_steps"),
    CODE("recurrent_halt_threshold"), CODE("recurrent_improvement_coef"), CODE("recurrent_improvement_margin"),
    CODE("recurrent_bptt_steps"), CODE("recurrent_read_text"), CODE("recurrent_confidence_coef"), CODE("recurrent_confidence_mode"),
    CODE("recurrent_confidence_margin"), CODE("calibrator_hidden_size"), CODE("calibrator_beta_max"), CODE("calibrator_dropout"),
    CODE("calibrator_use_bias"), CODE("freeze_media_encoders"), CODE("use_embedding_projection"), {NULL, SLM_HF_OFF, NULL, 0}};
static const slm_hf_kind own_kind = {"GLiClass", NULL, "model.encoder_model.", own_keys, NULL, NULL, 0, .encoder = true};

/* A word that a key must have, and what it stands for. */
typedef struct word {
    const char *word;
    uint32_t value;
} word;

static slm_status take_word(slm_hf_json j, const char *key, const word *words, size_t n, uint32_t *value, slm_error *err)
{
    json_t *v = json_object_get(j.object, key);
    const char *said = json_string_value(v);
    *value = words[0].value; /* where nothing is said */
    if (v == NULL)
        return SLM_OK;
    for (size_t i = 0; said != NULL && i < n; i++)
        if (strcmp(words[i].word, said) == 0) {
            *value = words[i].value;
            return SLM_OK;
        }
    slm_fail(err, SLM_UNSUPPORTED, "\"%s\" in \"%s\" is \"%.40s\", which is not supported", key, j.file, said != NULL ? said : "no text");
    return slm_hint(err, "Published models have \"%s\" or \"%s\".", words[0].word, words[1].word);
}

#define TAKE_WORD(j, key, words, value, err) take_word(j, key, words, sizeof words / sizeof words[0], value, err)

static slm_status take_architecture(slm_hf_json j, slm_error *err)
{
    json_t *v = json_object_get(j.object, "architecture_type");
    if (v == NULL || (json_is_string(v) && strcmp(json_string_value(v), "uni-encoder") == 0))
        return SLM_OK;
    slm_fail(err, SLM_UNSUPPORTED, "\"architecture_type\" in \"%s\" is \"%.40s\", which is not supported", j.file,
             json_is_string(v) ? json_string_value(v) : "no text");
    return slm_hint(err, "Models of the architecture \"uni-encoder\" load: gliclass-small, -base, -large, -modern-base, -modern-large, "
                         "-edge.");
}

static slm_status take_flags(slm_hf_json j, uint32_t *flags, slm_error *err)
{
    static const word means[] = {{"first", 0}, {"average", SLM_JOINT_LABEL_MEAN}};
    bool first = false, alone = false, at_mark = true, unit = false;
    if (json_is_null(json_object_get(j.object, "embed_class_token")))
        return slm_fail(err, SLM_UNSUPPORTED, "\"embed_class_token\" in \"%s\" is null, which is not supported", j.file);
    SLM_TRY(slm_hf_bool(j, "prompt_first", &first, err));
    SLM_TRY(slm_hf_bool(j, "extract_text_features", &alone, err));
    SLM_TRY(slm_hf_bool(j, "embed_class_token", &at_mark, err));
    SLM_TRY(slm_hf_bool(j, "normalize_features", &unit, err));
    SLM_TRY(TAKE_WORD(j, "class_token_pooling", means, flags, err));
    *flags |= (first ? 0 : SLM_JOINT_TEXT_FIRST) | (alone ? SLM_JOINT_TEXT_ALONE : 0) | (at_mark ? 0 : SLM_JOINT_BEHIND_MARK) |
              (unit ? SLM_JOINT_UNIT : 0);
    return SLM_OK;
}

/* Labels at most: "dynamic", as many as there are; an integer; else "max_num_classes". */
static slm_status take_most(slm_hf_json j, uint32_t *most, slm_error *err)
{
    json_t *v = json_object_get(j.object, "max_labels_alloc");
    bool dynamic = v == NULL || (json_is_string(v) && strcmp(json_string_value(v), "dynamic") == 0);
    *most = dynamic ? 0 : 25;
    if (dynamic)
        return SLM_OK;
    if (!json_is_integer(v) && !(json_is_string(v) && strcmp(json_string_value(v), "fixed") == 0))
        return slm_fail(err, SLM_UNSUPPORTED, "\"max_labels_alloc\" in \"%s\" is neither \"dynamic\" nor \"fixed\" nor an integer", j.file);
    return slm_hf_u32(j, json_is_integer(v) ? "max_labels_alloc" : "max_num_classes", 1, SLM_MAX_LABELS, most, err);
}

static slm_status take_scorer(slm_hf_config *c, slm_hf_json j, slm_error *err)
{
    static const word scorers[] = {{"simple", SLM_SCORER_DOT}, {"mlp", SLM_SCORER_MLP}, {"weighted-dot", SLM_SCORER_WEIGHTED},
                                   {"hopfield", SLM_SCORER_HOPFIELD}};
    static const word pools[] = {{"first", SLM_POOL_CLS}, {"avg", SLM_POOL_MEAN}, {"max", SLM_POOL_MAX}, {"last", SLM_POOL_LAST}};
    static const word functions[] = {{"gelu", SLM_SQUASH_GELU_ERF}, {"relu", SLM_SQUASH_RELU}, {"tanh", SLM_SQUASH_TANH}};
    SLM_TRY(TAKE_WORD(j, "scorer_type", scorers, &c->joint.scorer, err));
    SLM_TRY(TAKE_WORD(j, "pooling_strategy", pools, &c->joint.pool, err));
    SLM_TRY(TAKE_WORD(j, "projector_hidden_act", functions, &c->joint.squash, err));
    SLM_TRY(take_flags(j, &c->joint.flags, err));
    SLM_TRY(take_most(j, &c->joint.most, err));
    if (c->joint.pool == SLM_POOL_LAST && (c->joint.flags & SLM_JOINT_TEXT_ALONE) != 0)
        return slm_fail(err, SLM_UNSUPPORTED, "\"pooling_strategy\" in \"%s\" is \"last\" with \"extract_text_features\", which is not "
                                              "supported", j.file);
    if (c->joint.scorer == SLM_SCORER_HOPFIELD && c->joint.most > 0)
        return slm_fail(err, SLM_UNSUPPORTED, "\"scorer_type\" in \"%s\" is \"hopfield\" without \"max_labels_alloc\" \"dynamic\", which "
                                              "is not supported", j.file);
    return SLM_OK;
}

/* A token by its number; -1, as the class assumes, for one behind the vocabulary. */
static slm_status take_token(slm_hf_json j, const char *key, uint32_t def, uint32_t *id, slm_error *err)
{
    *id = def;
    return json_integer_value(json_object_get(j.object, key)) == -1 ? SLM_OK : slm_hf_u32(j, key, 0, 1u << 21, id, err);
}

slm_status slm_hf_take_gliclass(slm_hf_config *c, const char **type, slm_error *err)
{
    slm_hf_json outer = c->json, inner = slm_hf_member(outer, "encoder_config");
    if (strcmp(*type, own_kind.model_type) != 0)
        return SLM_OK;
    if (inner.object == NULL)
        return slm_fail(err, SLM_FORMAT, "\"encoder_config\" in \"%s\" is no object", outer.file);
    SLM_TRY(take_architecture(outer, err));
    SLM_TRY(slm_hf_keys_take(c, &own_kind, err));
    SLM_TRY(take_scorer(c, outer, err));
    SLM_TRY(slm_hf_u32(inner, "vocab_size", 1, 1u << 21, &c->joint.n_vocab, err));
    SLM_TRY(slm_hf_u32(outer, "vocab_size", 1, 1u << 21, &c->joint.n_vocab, err));
    SLM_TRY(slm_hf_u32(inner, "hidden_size", 1, 65536, &c->joint.width, err));
    SLM_TRY(slm_hf_u32(outer, "hidden_size", 1, 65536, &c->joint.width, err));
    SLM_TRY(take_token(outer, "class_token_index", c->joint.n_vocab, &c->joint.label, err));
    SLM_TRY(take_token(outer, "text_token_index", c->joint.n_vocab + 1, &c->joint.text, err));
    *type = json_object_get(inner.object, "model_type") == NULL ? "deberta-v2" : slm_hf_string(inner, "model_type");
    if (*type == NULL)
        return slm_fail(err, SLM_FORMAT, "\"model_type\" of \"encoder_config\" in \"%s\" is no text", outer.file);
    c->joint.kind = SLM_JOINT_GLICLASS;
    c->prefix = own_kind.prefix;
    c->json = inner;
    return SLM_OK;
}

slm_status slm_hf_put_gliclass(slm_hf_config *c, slm_error *err)
{
    if (!c->kind->encoder || c->kind->table)
        return slm_fail(err, SLM_UNSUPPORTED, "\"encoder_config\" in \"%s\" is of the type \"%.40s\", which is no encoder", c->json.file,
                        c->kind->model_type);
    c->classifies = true; /* nothing of sentence-transformers stands behind it */
    SLM_TRY(slm_hf_config_put(c, "pooling_type", 4, err));
    SLM_TRY(slm_hf_config_put(c, "slm.head.labels", 1, err));
    SLM_TRY(slm_hf_config_put(c, "slm.head.tags", 1, err));
    SLM_TRY(slm_hf_config_put(c, "slm.head.pool", c->joint.pool, err));
    SLM_TRY(slm_hf_config_put(c, "slm.joint", c->joint.kind, err));
    SLM_TRY(slm_hf_config_put(c, "slm.joint.flags", c->joint.flags, err));
    SLM_TRY(slm_hf_config_put(c, "slm.joint.scorer", c->joint.scorer, err));
    SLM_TRY(slm_hf_config_put(c, "slm.joint.width", c->joint.width, err));
    SLM_TRY(slm_hf_config_put(c, "slm.joint.squash", c->joint.squash, err));
    return slm_hf_config_put(c, "slm.joint.most", c->joint.most, err);
}

static slm_status find_mark(const slm_tokenizer *tok, const char *text, const char *key, uint32_t said, uint32_t *out, slm_error *err)
{
    int32_t id = slm_tokenizer_find(tok, text, strlen(text));
    if (id < 0)
        return slm_fail(err, SLM_FORMAT, "the tokenizer has no token \"%s\"", text);
    if ((uint32_t) id != said)
        return slm_fail(err, SLM_FORMAT, "\"%s\" is %u, but the tokenizer's \"%s\" is %d", key, said, text, id);
    *out = (uint32_t) id;
    return SLM_OK;
}

slm_status slm_hf_gliclass_marks(const slm_hf_config *c, const void *tokenizer, size_t bytes, slm_hparams *hp, slm_error *err)
{
    slm_tokenizer *tok = NULL;
    if (c->joint.kind != SLM_JOINT_GLICLASS)
        return SLM_OK;
    SLM_TRY(slm_tokenizer_open(tokenizer, bytes, &tok, err));
    slm_status status = find_mark(tok, "<<LABEL>>", "class_token_index", c->joint.label, &hp->joint_label, err);
    if (status == SLM_OK && (hp->joint_flags & SLM_JOINT_TEXT_ALONE) != 0)
        status = find_mark(tok, "<<SEP>>", "text_token_index", c->joint.text, &hp->joint_text, err);
    else if (status == SLM_OK) { /* the number is not read */
        int32_t id = slm_tokenizer_find(tok, "<<SEP>>", 7);
        hp->joint_text = (uint32_t) id;
        if (id < 0)
            status = slm_fail(err, SLM_FORMAT, "the tokenizer has no token \"<<SEP>>\"");
    }
    slm_tokenizer_free(tok);
    return status;
}
