/*
 * config.json to metadata: the kind of model, its keys (keys.h), and what code adds to them.
 *
 * Invariant: numbers are finite when they are put; their ranges are the business of slm_family_read.
 */
#include "engine/import/hf/config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/import/hf/gliclass.h"
#include "engine/import/hf/keys.h"

slm_status slm_hf_config_put(slm_hf_config *c, const char *key, double value, slm_error *err)
{
    uint32_t i = 0;
    while (i < c->n_numbers && strcmp(c->numbers[i].key, key) != 0)
        i++;
    if (!isfinite(value) || i == SLM_HF_MAX_NUMBERS)
        return slm_fail(err, SLM_FORMAT, "\"%s\" gives no finite value for %s", c->json.file, key);
    c->numbers[i].key = key;
    c->numbers[i].value = value;
    c->n_numbers += i == c->n_numbers;
    return SLM_OK;
}

double slm_hf_config_number(const slm_hf_config *c, const char *key, double def)
{
    for (uint32_t i = 0; i < c->n_numbers; i++)
        if (strcmp(c->numbers[i].key, key) == 0)
            return c->numbers[i].value;
    return def;
}

/* Numbers that are lists. */
static bool listed(const slm_hf_config *c, const char *key, uint32_t index, double *out)
{
    const struct {
        const char *key;
        const uint32_t *list;
        uint32_t n;
    } lists[] = {{"slm.pool", c->pools, c->n_pools}, {"slm.after", c->after, c->n_after}, {"slm.dense", c->dense_rows, c->n_dense},
                 {"slm.squash", c->dense_squash, c->n_dense}};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        if (strcmp(key, lists[i].key) == 0 && index < lists[i].n) {
            *out = lists[i].list[index];
            return true;
        }
    return false;
}

static bool meta_number(void *arg, const char *key, uint32_t index, double *out)
{
    const slm_hf_config *c = arg;
    if (c->layered_window && strcmp(key, "attention.sliding_window_pattern") == 0) {
        if (index >= c->n_layers)
            return false;
        *out = c->slides[index];
        return true;
    }
    if ((strcmp(key, "slm.dense_layer") == 0 || strcmp(key, "slm.conv_layer") == 0) && index < c->n_layers) {
        *out = key[4] == 'd' ? c->dense[index] : c->convolves[index];
        return true;
    }
    if (listed(c, key, index, out))
        return true;
    *out = slm_hf_config_number(c, key, NAN);
    return !isnan(*out);
}

static bool meta_string(void *arg, const char *key, char *out, size_t size)
{
    const slm_hf_config *c = arg;
    if (strcmp(key, "rope.scaling.type") != 0 || c->scaling[0] == '\0')
        return false;
    snprintf(out, size, "%s", c->scaling);
    return true;
}

/* Takes a number of config.json over, or def where it is missing (NAN: nothing is put). */
slm_status slm_hf_take(slm_hf_config *c, slm_hf_json j, const char *hf_key, const char *key, double def, slm_error *err)
{
    json_t *v = json_object_get(j.object, hf_key);
    if (v != NULL && !json_is_null(v)) {
        if (!json_is_number(v))
            return slm_fail(err, SLM_FORMAT, "\"%s\" in \"%s\" is not a number", hf_key, j.file);
        def = json_number_value(v);
    }
    return isnan(def) ? SLM_OK : slm_hf_config_put(c, key, def, err);
}

const char *slm_hf_architecture(const slm_hf_config *c)
{
    const char *arch = json_string_value(json_array_get(json_object_get(c->json.object, "architectures"), 0));
    return arch != NULL ? arch : "";
}

/* Positions of RoBERTa begin behind the padding token's. */
static slm_status take_offset(slm_hf_config *c, slm_error *err)
{
    uint32_t pad = 1;
    double rows = slm_hf_config_number(c, "context_length", 0);
    SLM_TRY(slm_hf_u32(c->json, "pad_token_id", 0, 1u << 20, &pad, err));
    c->position_offset = pad + 1;
    if (rows <= c->position_offset)
        return slm_fail(err, SLM_FORMAT, "\"max_position_embeddings\" in \"%s\" is %g, but positions begin at %u", c->json.file, rows,
                        pad + 1);
    return slm_hf_config_put(c, "context_length", rows - c->position_offset, err);
}

static slm_status take_kind(slm_hf_config *c, slm_error *err)
{
    const slm_hf_kind *kind = c->kind;
    c->meta.n_vocab = c->nested ? kind->inside.n_vocab : 0;
    SLM_TRY(slm_hf_u32(c->json, "vocab_size", 1, 1u << 21, &c->meta.n_vocab, err));
    if (c->joint.n_vocab > 0)
        c->meta.n_vocab = c->joint.n_vocab; /* with the marks, which the encoder's own number may not count */
    if (c->meta.n_vocab == 0)
        return slm_fail(err, SLM_FORMAT, "\"vocab_size\" is missing in \"%s\"", c->json.file);
    if (c->nested) {
        SLM_TRY(slm_hf_config_put(c, "context_length", kind->inside.n_context, err));
        SLM_TRY(slm_hf_config_put(c, "attention.head_count", kind->inside.n_heads, err));
    }
    SLM_TRY(slm_hf_keys_take(c, kind, err));
    if (kind->take != NULL)
        SLM_TRY(kind->take(c, err));
    c->n_positions = (uint32_t) slm_hf_config_number(c, "context_length", 0);
    if (kind->pad_offset)
        SLM_TRY(take_offset(c, err));
    double positions = slm_hf_config_number(c, "context_length", 2);
    if (positions < 2)
        return slm_fail(err, SLM_FORMAT, "\"%s\" allows %g positions: the least context_length is 2", c->json.file, positions);
    double layers = slm_hf_config_number(c, "block_count", 0);
    if (!(layers >= (kind->table ? 0 : 1) && layers <= SLM_MAX_LAYERS))
        return slm_fail(err, SLM_FORMAT, "\"%s\" asks for %g layers, not 1 to %d", c->json.file, layers, SLM_MAX_LAYERS);
    return c->joint.kind != SLM_JOINT_NONE ? slm_hf_put_gliclass(c, err) : slm_hf_take_head(c, err);
}

/* Models that see pictures too keep what concerns texts in an object of its own.  *type: that of the text part. */
static slm_status take_text_part(slm_hf_config *c, const char **type, slm_error *err)
{
    static const char *const outer[] = {"gemma3", "gemma4", "embedding_gemma2", "qwen3_5", "mistral3", NULL};
    const char *inner = slm_hf_string(slm_hf_member(c->json, "text_config"), "model_type");
    size_t i = 0;
    while (outer[i] != NULL && strcmp(outer[i], *type) != 0)
        i++;
    if (outer[i] == NULL)
        return SLM_OK;
    if (inner == NULL)
        return slm_fail(err, SLM_FORMAT, "\"text_config\" in \"%s\" is no object with a \"model_type\"", c->json.file);
    c->nested = true;
    c->json = slm_hf_member(c->json, "text_config");
    *type = inner;
    return SLM_OK;
}

static slm_status refuse_quantized(slm_hf_json json, slm_error *err)
{
    if (!slm_hf_has(json, "quantization_config"))
        return SLM_OK;
    slm_fail(err, SLM_UNSUPPORTED, "\"%s\" describes a checkpoint that is already quantized", json.file);
    return slm_hint(err, "Import the original model: it is quantized here, see the option \"quantization\".");
}

slm_status slm_hf_config_read(slm_hf_json json, bool modules, slm_hf_config *c, slm_error *err)
{
    /* Of which a kind knows one; that which knows two (nomic_bert) demands that they agree. */
    static const char *const counts[] = {"n_layer", "n_layers", "num_hidden_layers"};
    const char *type = slm_hf_string(json, "model_type");
    memset(c, 0, sizeof *c);
    c->json = json;
    if (type == NULL)
        return slm_fail(err, SLM_FORMAT, "\"model_type\" is missing in \"%s\"", json.file);
    SLM_TRY(refuse_quantized(json, err)); /* of all parts, or of that for texts */
    SLM_TRY(take_text_part(c, &type, err));
    SLM_TRY(slm_hf_take_gliclass(c, &type, err));
    json = c->json;
    SLM_TRY(refuse_quantized(json, err));
    const char *positions = slm_hf_string(json, "position_embedding_type");
    bool jina = strcmp(type, "bert") == 0 && positions != NULL && strcmp(positions, "alibi") == 0; /* calls itself a BERT */
    bool jina3 = strcmp(type, "xlm-roberta") == 0 && positions != NULL && strcmp(positions, "rotary") == 0;
    c->kind = slm_hf_kind_find(jina ? "jina-bert" : jina3 ? "jina-v3" : type);
    if (c->kind == NULL) {
        char names[400];
        slm_hf_kind_names(names, sizeof names);
        slm_fail(err, SLM_UNSUPPORTED, "model type \"%.60s\" in \"%s\" is not supported", type, json.file);
        return slm_hint(err, "Supported: %s.", names);
    }
    if (c->prefix == NULL)
        c->prefix = c->kind->prefix;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        SLM_TRY(slm_hf_u32(json, counts[i], 1, SLM_MAX_LAYERS, &c->n_layers, err));
    c->modules = modules;
    c->meta.architecture = c->kind->family;
    c->meta.number = meta_number;
    c->meta.string = meta_string;
    c->meta.arg = c;
    return take_kind(c, err);
}
