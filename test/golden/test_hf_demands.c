/*
 * Numbers and words of config.json that a model cannot have: each is refused by its name, and nothing is made of it.
 */
#include "hf_dir.h"
#include "model_test.h"
#include "slm_test.h"

static const struct {
    const char *model, *key, *value; /* of the directory; JSON, NULL: the key is taken out */
    const char *words;               /* that the message has */
} demands[] = {
    {"families2/gemma4", "num_kv_shared_layers", "6", "shared_kv_layers"},
    {"families2/gemma4", "num_kv_shared_layers", "4294967297", "shared_kv_layers"},
    {"families2/gemma4", "num_kv_shared_layers", "-1", "shared_kv_layers"},
    {"families2/gemma4", "num_kv_shared_layers", "4", "of which there is none"},
    {"families2/gemma4", "hidden_size_per_layer_input", "0", "embedding_length_per_layer_input"},
    {"families2/gemma4", "hidden_size_per_layer_input", "65536", "embeddings of width"},
    {"families2/gemma4", "hidden_size_per_layer_input", "64", "per_layer"},
    {"families2/gemma4", "hidden_size_per_layer_input", "16", "multiple of 32"},
    {"families2/gemma4", "vocab_size_per_layer_input", "511", "vocab_size_per_layer_input"},
    {"families2/gemma4", "head_dim", "64", "heads of width 64"},
    {"families2/gemma4", "head_dim", "12", "not supported"},
    {"families2/gemma4", "per_layer_config", "{\"2\":{\"head_dim\":32}}", "per_layer_config"},
    {"families2/gemma4", "per_layer_config", "{\"2\":{\"head_dim\":32},\"5\":{\"head_dim\":48}}", "per_layer_config"},
    {"families2/gemma4", "per_layer_config", "{\"0\":{\"head_dim\":32},\"5\":{\"head_dim\":32}}", "per_layer_config"},
    {"families2/gemma4", "per_layer_config", "{\"2\":{\"head_dim\":32,\"num_key_value_heads\":2},\"5\":{\"head_dim\":32}}",
     "per_layer_config"},
    {"families2/gemma4", "per_layer_config", "{\"2\":{\"head_dim\":1e9},\"5\":{\"head_dim\":32}}", "per_layer_config"},
    {"families2/gemma4", "use_double_wide_mlp", "false", "ffn_gate|mlp.gate_proj"},
    {"families2/gemma4", "intermediate_size", "1048576", "shape|feed|width"},
    {"families2/gemma4", "attention_k_eq_v", "true", "attention_k_eq_v"},
    {"families2/gemma4", "enable_moe_block", "true", "enable_moe_block"},
    {"families2/gemma4", "num_global_key_value_heads", "2", "num_global_key_value_heads"},
    {"families2/gemma4", "use_bidirectional_attention", "\"all\"", "use_bidirectional_attention"},
    {"families2/gemma4", "layer_types", "[\"sliding_attention\"]", "layer_types"},
    {"families2/gemma4", "a_new_key", "1", "a_new_key"},
    {"encoders/gte", "type_vocab_size", "1", "token_type_embeddings"},
    {"encoders/gte", "type_vocab_size", "1025", "types"},
    {"encoders/gte", "rope_scaling", "{\"type\":\"ntk\",\"factor\":0.5}", "factor"},
    {"encoders/gte", "rope_scaling", "{\"type\":\"linear\",\"factor\":2}", "rope_scaling"},
    {"encoders/gte", "rope_scaling", "{\"type\":\"ntk\",\"factor\":2,\"beta\":1}", "beta"},
    {"encoders/gte", "rope_scaling", "{\"type\":\"ntk\",\"factor\":2,\"mixed_b\":1e9}", "mixed_b"},
    {"encoders/gte", "rope_theta", "1e12", "rope.freq_base"},
    {"encoders/gte", "position_embedding_type", "\"absolute\"", "position_embedding_type"},
    {"encoders/gte", "layer_norm_type", "\"rms_norm\"", "layer_norm_type"},
    {"encoders/gte", "logn_attention_scale", "true", "logn_attention_scale"},
    {"encoders/gte", "pack_qkv", "false", "pack_qkv"},
    {"encoders/gte", "num_attention_heads", "0", "rope_scaling"},
    {"families2/eurobert", "rope_parameters",
     "{\"rope_type\":\"longrope\",\"rope_theta\":10000.0,\"original_max_position_embeddings\":64,\"short_factor\":[1,1,1,1,1,1,1,1],"
     "\"long_factor\":[2,2,2,2,2,2,2,2]}",
     "longrope"},
    {"encoders/jina-v2", "feed_forward_type", "\"reglu\"", "feed_forward_type"},
    {"encoders/jina-v2", "feed_forward_type", NULL, "feed_forward_type"},
    {"encoders/jina-v2", "emb_pooler", "\"max\"", "emb_pooler"},
    {"encoders/jina-v2", "max_position_embeddings", "0", "context_length"},
    {"encoders/jina-v2", "position_embedding_type", "\"relative_key\"", "emb_pooler"},
    {"encoders/jina-v3", "emb_pooler", "\"cls\"", "emb_pooler"},
    {"encoders/jina-v3", "truncate_dim", "64", "truncate_dim"},
    {"encoders/jina-v3", "architectures", "[\"HF_ColBERT\"]", "HF_ColBERT"},
    {"encoders/jina-v3", "rope_scaling", "{\"type\": \"ntk\", \"factor\": 2}", "rope_scaling"},
    {"encoders/jina-v3", "rotary_emb_base", "\"far\"", "rotary_emb_base"},
    {"encoders/jina-v3", "hidden_act", "\"gelu_new\"", "hidden_act"},
};

/* Has the message one of the words, separated by "|"? */
static bool says(const char *message, const char *words)
{
    char copy[200], *save = NULL;
    snprintf(copy, sizeof copy, "%s", words);
    for (char *word = strtok_r(copy, "|", &save); word != NULL; word = strtok_r(NULL, "|", &save))
        if (strstr(message, word) != NULL)
            return true;
    return false;
}

static void check(const char *model, const char *key, const char *value, const char *words)
{
    char dir[64], path[512], command[2500], image[128];
    slm_model_info info;
    slm_error err = {0};
    if (!hf_make_dir(dir, sizeof dir))
        test_die("a directory", "it cannot be made");
    snprintf(command, sizeof command, "cp -r '%s/%s/.' %s && rm -f %s/sentence_bert_config.json", golden_root(), model, dir, dir);
    CHECK(system(command) == 0, "%s", command);
    snprintf(path, sizeof path, "%s/config.json", dir);
    json_t *config = json_load_file(path, 0, NULL);
    if (value == NULL)
        json_object_del(config, key);
    else
        json_object_set_new(config, key, json_loads(value, JSON_DECODE_ANY, NULL));
    json_dump_file(config, path, 0);
    json_decref(config);
    snprintf(image, sizeof image, "%s/image", dir);
    slm_status status = slm_import(dir, image, &(slm_import_options) {.quantization = "F32"}, NULL, NULL, NULL, &info, &err);
    CHECK(status == SLM_FORMAT || status == SLM_UNSUPPORTED, "%s with %s %s: status %d", model, key, value != NULL ? value : "-",
          (int) status);
    CHECK(says(err.message, words), "%s with %s %s: %s", model, key, value != NULL ? value : "-", err.message);
    hf_remove_dir(dir);
}

int main(void)
{
    for (size_t i = 0; i < sizeof demands / sizeof demands[0]; i++)
        check(demands[i].model, demands[i].key, demands[i].value, demands[i].words);
    slm_threads_release();
    TEST_MAIN_END("hf_demands");
}
