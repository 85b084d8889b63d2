/*
 * gliner_config.json: which head it is, and that nothing is asked of it that is not known here.
 *
 * Heads with a second model (for labels, or one that writes labels), relations, and those that fuse or encode once more are refused by the
 * key that asks for them.  Sources: the configuration classes of the gliner package, version 0.2.29.
 */
#include "engine/import/hf/gliner.h"

#include <math.h>
#include <string.h>

#include "engine/import/hf/keys.h"
#include "engine/import/hf/vocab.h"

#define FILE_NAME "gliner_config.json"

#define END {NULL, SLM_HF_OFF, NULL, 0}
#define TAKE(name, as, value) {name, SLM_HF_TAKE, as, value}
#define OFF(name) {name, SLM_HF_OFF, NULL, 0}
#define ON(name) {name, SLM_HF_ON, NULL, 0}
#define WORD(name, as) {name, SLM_HF_WORD, as, 0}
#define CODE(name) {name, SLM_HF_CODE, NULL, 0}

static const slm_hf_key keys[] = {
    WORD("model_type", "gliner|gliner_base|gliner_uni_encoder|gliner_uni_encoder_span|gliner_uni_encoder_token"), CODE("encoder_config"),
    TAKE("hidden_size", "slm.span.embd", 512), TAKE("max_len", "slm.span.words", 384), CODE("max_width"), CODE("num_rnn_layers"),
    CODE("span_mode"), CODE("subtoken_pooling"), WORD("words_splitter_type", "whitespace"), CODE("class_token_index"), CODE("ent_token"),
    CODE("sep_token"), CODE("embed_ent_token"), CODE("vocab_size"), ON("has_rnn"),
    OFF("labels_encoder"), OFF("labels_encoder_config"), OFF("labels_decoder"), OFF("labels_decoder_config"), OFF("decoder_mode"),
    OFF("decoder_config"), OFF("relations_layer"), OFF("triples_layer"), OFF("represent_spans"), OFF("fuse_layers"),
    OFF("post_fusion_schema"), OFF("span_encoder_config"), OFF("precomputed_prompts_mode"), OFF("id_to_classes"),
    OFF("rel_id_to_classes"), CODE("num_post_fusion_layers"), END};

/* Read by no forward pass: names, and what concerns training. */
static const slm_hf_key training[] = {
    CODE("name"), CODE("fine_tune"), CODE("max_types"), CODE("max_neg_type_ratio"), CODE("neg_spans_ratio"), CODE("token_loss_coef"),
    CODE("span_loss_coef"), CODE("lr_encoder"), CODE("lr_others"), CODE("num_steps"), CODE("warmup_ratio"), CODE("train_batch_size"),
    CODE("eval_every"), CODE("root_dir"), CODE("log_dir"), CODE("train_data"), CODE("val_data_dir"), CODE("prev_path"), CODE("size_sup"),
    CODE("shuffle_types"), CODE("random_drop"), CODE("save_total_limit"), CODE("weight_decay_encoder"), CODE("weight_decay_other"),
    CODE("loss_alpha"), CODE("loss_gamma"), CODE("loss_reduction"), CODE("loss_prob_margin"), CODE("label_smoothing"), CODE("negatives"),
    CODE("masking"), CODE("max_grad_norm"), CODE("scheduler_type"), CODE("freeze_token_rep"), CODE("optimizer"), END};

static const slm_hf_kind kind = {.model_type = "gliner", .prefix = "token_rep_layer.bert_layer.model.", .keys = keys, .more = training,
                                 .encoder = true};

slm_status slm_hf_gliner_load(int dir, json_t **out, slm_error *err)
{
    return slm_hf_load(dir, FILE_NAME, 4u << 20, true, out, err);
}

slm_status slm_hf_gliner_layers(json_t *gliner, slm_hf_json *out, slm_error *err)
{
    *out = slm_hf_member((slm_hf_json) {gliner, FILE_NAME}, "encoder_config");
    if (out->object != NULL)
        return SLM_OK;
    slm_fail(err, SLM_UNSUPPORTED, "\"%s\" does not describe its layers: it has no \"encoder_config\"", FILE_NAME);
    return slm_hint(err, "Load it with the gliner library and save it: GLiNER.from_pretrained(...).save_pretrained(directory, "
                         "safe_serialization=True) writes all that is needed.");
}

/* The place of a string among words, in `as` order. */
static slm_status take_choice(slm_hf_json j, const char *key, const char *const *words, uint32_t def, uint32_t *out,
                              slm_error *err)
{
    const char *said = slm_hf_string(j, key);
    *out = def;
    if (said == NULL && !slm_hf_has(j, key))
        return SLM_OK;
    for (uint32_t i = 0; said != NULL && words[i] != NULL; i++)
        if (strcmp(said, words[i]) == 0) {
            *out = i;
            return SLM_OK;
        }
    return slm_fail(err, SLM_UNSUPPORTED, "\"%s\" in \"%s\" is \"%.40s\", which is not supported", key, j.file, said != NULL ? said : "?");
}

/* The id of an added token, -1: there is none. */
static json_int_t added_id(json_t *tokenizer, const char *content)
{
    json_t *added = json_object_get(tokenizer, "added_tokens");
    for (size_t i = 0; i < json_array_size(added); i++) {
        json_t *token = json_array_get(added, i), *id = json_object_get(token, "id");
        const char *text = json_string_value(json_object_get(token, "content"));
        if (text != NULL && strcmp(text, content) == 0 && json_is_integer(id) && json_is_true(json_object_get(token, "special")))
            return json_integer_value(id);
    }
    return -1;
}

/* The marks: special tokens of the tokenizer, that of labels with the id that the configuration gives it. */
static slm_status take_marks(slm_hf_config *c, slm_hf_json j, json_t *tokenizer, slm_error *err)
{
    const char *label = slm_hf_has(j, "ent_token") ? slm_hf_string(j, "ent_token") : "<<ENT>>";
    const char *text = slm_hf_has(j, "sep_token") ? slm_hf_string(j, "sep_token") : "<<SEP>>";
    json_t *index = json_object_get(j.object, "class_token_index");
    json_int_t label_id = label != NULL ? added_id(tokenizer, label) : -1, text_id = text != NULL ? added_id(tokenizer, text) : -1;
    if (label_id < 0 || text_id < 0) {
        slm_fail(err, SLM_UNSUPPORTED, "the token \"%.40s\" of \"%s\" is no special token of \"tokenizer.json\"",
                 label_id < 0 ? (label != NULL ? label : "?") : text != NULL ? text : "?", j.file);
        return slm_hint(err, "Load it with the gliner library and save it: save_pretrained writes the tokenizer that the model has.");
    }
    if (!json_is_integer(index) || json_integer_value(index) != label_id)
        return slm_fail(err, SLM_UNSUPPORTED, "\"class_token_index\" in \"%s\" is not the id of \"%.40s\", %lld", j.file, label,
                        (long long) label_id);
    SLM_TRY(slm_hf_config_put(c, "slm.span.label_mark", (double) label_id, err));
    return slm_hf_config_put(c, "slm.span.text_mark", (double) text_id, err);
}

static slm_status take_head(slm_hf_config *c, slm_hf_json j, slm_error *err)
{
    static const char *const modes[] = {"markerV0", "token_level", NULL}, *const pools[] = {"first", "last", "mean", "max", NULL};
    uint32_t mode, pool, lstm = 1, width = 12, vocab = c->meta.n_vocab;
    bool on_mark = true;
    SLM_TRY(take_choice(j, "span_mode", modes, 0, &mode, err));
    SLM_TRY(take_choice(j, "subtoken_pooling", pools, 0, &pool, err));
    SLM_TRY(slm_hf_u32(j, "num_rnn_layers", 0, 1000, &lstm, err));
    SLM_TRY(slm_hf_u32(j, "max_width", 1, SLM_MAX_SPAN_WIDTH, &width, err));
    SLM_TRY(slm_hf_bool(j, "embed_ent_token", &on_mark, err));
    SLM_TRY(slm_hf_u32(j, "vocab_size", 1, 1u << 21, &vocab, err));
    if (lstm > 1)
        return slm_fail(err, SLM_UNSUPPORTED, "\"num_rnn_layers\" in \"%s\" is %u: more than one is not supported", j.file, lstm);
    if (lstm == 0 && json_is_true(json_object_get(j.object, "has_rnn")))
        return slm_fail(err, SLM_UNSUPPORTED, "\"has_rnn\" in \"%s\" is true, but \"num_rnn_layers\" is 0", j.file);
    if (vocab != c->meta.n_vocab)
        return slm_fail(err, SLM_UNSUPPORTED, "\"vocab_size\" in \"%s\" is %u, but that of its layers %u", j.file, vocab, c->meta.n_vocab);
    SLM_TRY(slm_hf_config_put(c, "slm.spans", mode == 0 ? SLM_SPANS_PAIRS : SLM_SPANS_WORDS, err));
    SLM_TRY(slm_hf_config_put(c, "slm.span.width", mode == 0 ? width : 0, err));
    SLM_TRY(slm_hf_config_put(c, "slm.span.lstm", lstm, err));
    SLM_TRY(slm_hf_config_put(c, "slm.span.pool", pool, err));
    return slm_hf_config_put(c, "slm.span.behind", !on_mark, err);
}

slm_status slm_hf_gliner_take(int dir, json_t *gliner, slm_hf_config *c, slm_error *err)
{
    slm_hf_json layers = c->json, j = {gliner, FILE_NAME};
    const slm_hf_kind *kind_of_layers = c->kind;
    json_t *tokenizer = NULL;
    if (!c->kind->encoder || c->kind->table || c->classifies)
        return slm_fail(err, SLM_UNSUPPORTED, "\"encoder_config\" in \"%s\" is of the type \"%.40s\" or has a head, which is not supported",
                        FILE_NAME, c->kind->model_type);
    c->json = j;
    c->kind = &kind;
    slm_status status = slm_hf_keys_take(c, &kind, err);
    c->json = layers;
    c->kind = kind_of_layers;
    c->prefix = kind.prefix;
    SLM_TRY(status);
    SLM_TRY(take_head(c, j, err));
    SLM_TRY(slm_hf_tokenizer_load(dir, "", true, &tokenizer, err));
    status = take_marks(c, j, tokenizer, err);
    json_decref(tokenizer);
    return status;
}
