"""Mutations of a model directory's files, key by key: (file, name of the case, function on the parsed file)."""
import copy
import json
import os

import torch
from safetensors.torch import load_file, save_file

ACTIVATIONS = ["gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "quick_gelu", "relu", "silu", "swish", "tanh", "gelu_10", "mish"]
WORDS = {
    "position_embedding_type": ["absolute", "relative_key", "relative_key_query", "rope", "nope"],
    "classifier_pooling": ["cls", "mean", "last", "late"],
    "clf_pooling": ["cls", "mean", "late"],
    "problem_type": ["single_label_classification", "multi_label_classification", "regression", "other"],
    "norm_rel_ebd": ["layer_norm", "none"],
    "pos_att_type": [["p2c", "c2p"], ["c2p"], ["p2c"], ["c2p", "p2c"], "p2c|c2p", []],
    "no_rope_layers": [[1, 1, 1, 1], [1, 1, 1, 0], [0, 1, 0, 1], [0, 0, 0, 0], [1, 0]],
    "mlp_only_layers": [[0], [1], [0, 1], [7]],
    "layer_types": [["full_attention"] * 4, ["sliding_attention"] * 4, ["sliding_attention", "full_attention"] * 2,
                    ["full_attention", "sliding_attention"] * 2, ["full_attention"] * 2, ["sliding_attention"] * 2,
                    ["attention"] * 2, ["mamba", "attention"], ["conv", "full_attention"], ["full_attention", "conv"],
                    ["linear_attention"] * 3 + ["full_attention"], ["full_attention"] * 3 + ["linear_attention"],
                    ["chunked_attention"] * 4, ["full_attention"] * 3],
    "sliding_window_pattern": [2, 4, 1, "LLLG", "LG"],
    "full_attn_idxs": [[1], [0], [0, 1], [9]],
    "id2label": [{"0": "a", "1": "b"}, {"0": "a", "1": "b", "2": "c", "3": "d"}, {"0": "a", "1": "a", "2": "a"}, {}],
    "num_labels": [1, 2, 3, 4],
    "summary_type": ["cls_index"],
    "eos_token_id": [[3, 7], [7], -1, 100000, 0],
    "bos_token_id": [0, 100000],
    "pad_token_id": [0, 1, 3, -1, 100000],
    "dtype": ["float16", "bfloat16"],
    "torch_dtype": ["float16", "bfloat16", "float32"],
}
SHORT, LONG = [1.0, 1.1, 1.2, 1.3, 1.5, 1.7, 1.9, 2.0], [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5]
ROPES = [
    {"rope_type": "default"}, {"rope_type": "linear", "factor": 4.0}, {"rope_type": "linear"},
    {"rope_type": "dynamic", "factor": 2.0}, {"rope_type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 16},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
    {"rope_type": "yarn", "factor": 4.0}, {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "beta_fast": 8.0,
                                           "beta_slow": 2.0},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "attention_factor": 1.5},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "mscale": 0.7, "mscale_all_dim": 0.4},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "mscale": 0.7},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "truncate": False},
    {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32},
    {"rope_type": "llama3", "factor": 8.0},
    {"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG,
     "original_max_position_embeddings": 32},
    {"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG, "factor": 2.0,
     "original_max_position_embeddings": 64},
    {"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG, "attention_factor": 1.3,
     "original_max_position_embeddings": 32},
    {"rope_type": "longrope", "short_factor": [1.0, 1.2], "long_factor": [1.0, 2.0]},
    {"rope_type": "proportional", "partial_rotary_factor": 0.5}, {"rope_type": "proportional"}, {"rope_type": "mystery", "factor": 2.0},
    {"type": "linear", "factor": 4.0}, {"type": "dynamic", "factor": 2.0}, {"factor": 4.0}, {"partial_rotary_factor": 0.5},
    {"rope_type": "default", "partial_rotary_factor": 0.5}, {"rope_type": "default", "factor": 4.0},
    {"rope_type": "linear", "factor": 4.0, "attention_factor": 2.0}, {"mrope_section": [1, 1, 2]}, {"rope_type": "default", "mystery": 2},
]
# Names that other versions of the library give to keys.
RENAMED = {
    "dtype": "torch_dtype", "torch_dtype": "dtype", "num_local_experts": "num_experts", "num_experts": "num_local_experts",
    "hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head", "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers", "n_head": "num_attention_heads", "n_positions": "max_position_embeddings",
    "max_position_embeddings": "n_positions", "intermediate_size": "n_inner", "dim": "hidden_size", "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads", "hidden_act": "hidden_activation", "hidden_activation": "hidden_act",
    "activation": "hidden_act", "rms_norm_eps": "layer_norm_eps", "layer_norm_eps": "norm_eps", "norm_eps": "block_norm_eps",
    "layer_norm_epsilon": "layer_norm_eps", "sliding_window": "window_size", "tie_word_embeddings": "tie_embedding",
    "local_attention": "sliding_window", "intermediate_size ": "block_ff_dim", "num_key_value_heads": "num_kv_heads",
    "id2label": "num_labels", "vocab_size": "n_vocab",
}


def put(*path_and_value):
    *path, value = path_and_value

    def change(data):
        at = data
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = copy.deepcopy(value)
    return change


def drop(*path):
    def change(data):
        at = data
        for key in path[:-1]:
            at = at[key]
        del at[path[-1]]
    return change


def rename(old, new):
    def change(data):
        data[new] = data.pop(old)
    return change


def alternatives(key, value):
    """Plausible other values of a key, wrong types, null."""
    others = [None]
    if key in WORDS:
        others += WORDS[key]
    elif "act" in key.split("_")[-1] or "activation" in key:
        others += ACTIVATIONS
    elif isinstance(value, bool):
        others += [not value]
    elif isinstance(value, int):
        others += [value * 2, value // 2, 0, 1, -1]
    elif isinstance(value, float):
        others += [value * 4 if value else 0.5, 0.0, 1.0]
    elif value is None:
        others += [True, 1, 2.0, "word", [1]]
    elif isinstance(value, list):
        others += [[], value[:-1], value[::-1]]
    others += [7] if isinstance(value, str) else ["word"]
    return [o for i, o in enumerate(others) if (o != value or type(o) is not type(value)) and repr(o) not in map(repr, others[:i])]


def short(value):
    text = repr(value)
    return text if len(text) <= 70 else text[:67] + "..."


def of_dictionary(file, data, keys=None):
    """Every key removed, renamed, and with other values."""
    for key in keys or list(data):
        value = data.get(key)
        if key in data:
            yield file, f"{key} removed", drop(key)
            if key in RENAMED:
                yield file, f"{key} as {RENAMED[key]}", rename(key, RENAMED[key])
        for other in alternatives(key, value):
            yield file, f"{key} = {short(other)}", put(key, other)


def old_rope(parameters):
    """The keys of transformers 4 in place of rope_parameters."""
    def change(data):
        data.pop("rope_parameters", None)
        if "rope_theta" in parameters:
            data["rope_theta"] = parameters["rope_theta"]
        rest = {k: v for k, v in parameters.items() if k != "rope_theta"}
        if rest.get("rope_type", "default") != "default" or "factor" in rest or "type" in rest:
            data["rope_scaling"] = rest
    return change


def of_text_part(cases):
    """The cases of a config.json inside of text_config."""
    for file, name, change in cases:
        yield file, "text_config." + name, (lambda change: lambda d: change(d["text_config"]))(change)


def of_ropes(data):
    """RoPE in both forms, whole and key by key."""
    here = data.get("rope_parameters")
    if here is None:
        return
    nested = isinstance(here, dict) and any(isinstance(v, dict) for v in here.values())
    kinds = [k for k, v in here.items() if isinstance(v, dict)] if nested else [None]
    for kind in kinds:
        path = ["rope_parameters"] + ([kind] if kind else [])
        inner = here[kind] if kind else here
        for rope in ROPES:
            yield "config.json", f"{'.'.join(path)} = {short(rope)}", put(*path, {"rope_theta": inner.get("rope_theta", 10000.0), **rope})
        for key in inner:
            yield "config.json", f"{'.'.join(path)}.{key} removed", drop(*path, key)
            for other in alternatives(key, inner[key]):
                yield "config.json", f"{'.'.join(path)}.{key} = {short(other)}", put(*path, key, other)
    if not nested:
        for rope in ROPES[1::3]:
            yield "config.json", f"rope_theta, rope_scaling = {short(rope)}", old_rope({"rope_theta": 500.0, **rope})
        yield "config.json", "rope_theta of version 4", old_rope({"rope_theta": 500.0})
        yield "config.json", "rope_theta beside rope_parameters", put("rope_theta", 500.0)
        yield "config.json", "rope_scaling beside rope_parameters", put("rope_scaling", {"rope_type": "linear", "factor": 4.0})
        yield "config.json", "rope_parameters by kinds of layers", put("rope_parameters", {"full_attention": here, "sliding_attention": {
            "rope_type": "default", "rope_theta": 100.0}})
    else:
        def flat(config):
            config.pop("rope_parameters")
            config["rope_theta"], config["rope_local_base_freq"] = 50000.0, 300.0
        yield "config.json", "rope_theta, rope_local_base_freq of version 4", flat

        def scaled(config):
            flat(config)
            config["rope_scaling"] = {"rope_type": "linear", "factor": 8.0}
        yield "config.json", "rope_theta, rope_local_base_freq, rope_scaling of version 4", scaled


HEAD_WORDS = ("label", "problem", "classifier", "clf", "pooler", "summary", "pad_token", "num_labels")


def of_head(data, known):
    """Of config.json only what a head is made by."""
    for file, name, change in of_config(dict(data), known):
        if any(w in name for w in HEAD_WORDS):
            yield file, name, change


def of_config(data, known):
    """config.json: its own keys, those that the class knows besides, RoPE, and strangers."""
    yield from of_dictionary("config.json", data, [k for k in data if k not in ("rope_parameters", "architectures")])
    for key, value in known.items():
        if key not in data and not key.startswith("_"):
            for other in alternatives(key, value) + [value]:
                yield "config.json", f"{key} added = {short(other)}", put(key, other)
    yield from of_ropes(data)
    for key, value in (("surprise", 1), ("partial_rotary_factor", 0.5), ("rope_theta", 500.0), ("mlp_bias", True), ("attention_bias", True),
                       ("qkv_bias", True), ("use_bidirectional_attention", True), ("is_causal", False), ("is_decoder", True),
                       ("use_sliding_window", True), ("sliding_window", 8), ("logit_scale", 0.5), ("final_logit_softcapping", 3.0),
                       ("attn_logit_softcapping", 3.0), ("qk_layernorm", True), ("use_qk_norm", True), ("clip_qkv", 1.0), ("head_dim", 16),
                       ("embedding_size", 64), ("attention_multiplier", 0.5), ("query_pre_attn_scalar", 3), ("cross_attention", True),
                       ("quantization_config", {"quant_method": "gptq", "bits": 4}), ("rope_local_base_freq", 300.0),
                       ("pooling", "cls"), ("layer_norm_type", "rms"), ("tie_word_embeddings", True), ("tie_word_embeddings", False),
                       ("max_window_layers", 1), ("no_rope_layers", [1, 0] * 2), ("num_kv_shared_layers", 1), ("attn_scale", 2.0)):
        if key not in data:
            yield "config.json", f"{key} added = {short(value)}", put(key, value)


# ---------------------------------------------------------------- tokenizers


def parts_of(node, list_key):
    return node[list_key] if node and node.get("type") == "Sequence" else [node] if node else []


NORMALIZERS = [
    None, {"type": "NFC"}, {"type": "NFD"}, {"type": "NFKC"}, {"type": "NFKD"}, {"type": "Lowercase"}, {"type": "StripAccents"},
    {"type": "Strip", "strip_left": True, "strip_right": True}, {"type": "Strip", "strip_left": True, "strip_right": False},
    {"type": "Prepend", "prepend": "▁"}, {"type": "Prepend", "prepend": "x"}, {"type": "Nmt"}, {"type": "ByteLevel"},
    {"type": "Replace", "pattern": {"String": "a"}, "content": "bb"}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
    {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
    {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": False, "strip_accents": True, "lowercase": False},
    {"type": "BertNormalizer", "clean_text": False, "handle_chinese_chars": True, "strip_accents": False, "lowercase": True},
    {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "Lowercase"}, {"type": "StripAccents"}]},
    {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Strip", "strip_left": True, "strip_right": True}]},
    {"type": "Sequence", "normalizers": []}, {"type": "Mystery"},
    {"type": "Replace", "pattern": {"String": "``"}, "content": "\""},
]
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
PRE_TOKENIZERS = [
    None, {"type": "Whitespace"}, {"type": "WhitespaceSplit"}, {"type": "BertPreTokenizer"},
    {"type": "Punctuation", "behavior": "Isolated"},
    {"type": "Digits", "individual_digits": True}, {"type": "Digits", "individual_digits": False}, {"type": "UnicodeScripts"}, METASPACE,
    {**METASPACE, "prepend_scheme": "first"}, {**METASPACE, "prepend_scheme": "never"}, {**METASPACE, "split": False},
    {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True},
    {"type": "Metaspace", "replacement": "▁", "add_prefix_space": False},
    {**METASPACE, "replacement": "_"}, {"type": "CharDelimiterSplit", "delimiter": " "},
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
    {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
    {"type": "Split", "pattern": {"String": " "}, "behavior": "Isolated", "invert": False},
    {"type": "Split", "pattern": {"String": "a"}, "behavior": "MergedWithPrevious", "invert": False},
    {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, METASPACE]},
    {"type": "Sequence", "pretokenizers": [METASPACE, {"type": "Digits", "individual_digits": True}]}, {"type": "FixedLength", "length": 4},
    {"type": "Mystery"}, {"type": "Sequence", "pretokenizers": []},
]


def of_stage(data, stage, list_key, samples):
    """A normalizer or pre-tokenizer: replaced by others, others put before and behind it, its own settings changed."""
    here = data.get(stage)
    for sample in samples:
        yield "tokenizer.json", f"{stage} = {short(sample)}", put(stage, sample)
        if here and sample and sample["type"] != "Sequence":
            for name, both in (("behind", parts_of(here, list_key) + [sample]), ("before", [sample] + parts_of(here, list_key))):
                yield "tokenizer.json", f"{stage}: {short(sample)} {name}", put(stage, {"type": "Sequence", list_key: both})
    listed = parts_of(here, list_key)
    for i, part in enumerate(listed):
        path = [stage, list_key, i] if here["type"] == "Sequence" else [stage]
        for key, value in part.items():
            if key in ("type", "precompiled_charsmap"):
                continue
            others = [drop(*path, key)], [f"{stage}.{part['type']}.{key} removed"]
            yield "tokenizer.json", others[1][0], others[0][0]
            choices = {"behavior": ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"],
                       "pattern": [{"String": "e"}, {"Regex": "\\d"}, {"Regex": "\\w+|\\s+"}],
                       "prepend_scheme": ["always", "first", "never"]}
            for other in choices.get(key, alternatives(key, value)):
                yield "tokenizer.json", f"{stage}.{part['type']}.{key} = {short(other)}", put(*path, key, other)
        yield "tokenizer.json", f"{stage}.{part['type']}.mystery added", put(*path, "mystery", True)
        if len(listed) > 1:
            yield "tokenizer.json", f"{stage}: {part['type']} removed", drop(*path)


def of_post_processors(data, a, b):
    ids = {"special_tokens": {t: {"id": t, "ids": [i], "tokens": [t]} for t, i in (a, b)}}
    cls, sep = {"SpecialToken": {"id": a[0], "type_id": 0}}, {"SpecialToken": {"id": b[0], "type_id": 0}}
    one, two = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}
    plain = {"Sequence": {"id": "B", "type_id": 0}}

    def template(single, pair):
        return {"type": "TemplateProcessing", "single": single, "pair": pair, **ids}
    shapes = {
        "none": None, "ByteLevel": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
        "nothing around": template([one], [one, two]), "first token only": template([cls, one], [cls, one, two]),
        "last token only": template([one, sep], [one, sep, two, sep]), "both": template([cls, one, sep], [cls, one, sep, two, sep]),
        "types all 0": template([cls, one, sep], [cls, one, sep, plain, sep]), "two before": template([cls, cls, one, sep],
                                                                                                     [cls, cls, one, sep, two, sep]),
        "pair unlike": template([cls, one, sep], [cls, one, two, sep]), "swapped": template([cls, one, sep], [cls, two, sep, one, sep]),
        "RobertaProcessing": {"type": "RobertaProcessing", "sep": [b[0], b[1]], "cls": [a[0], a[1]], "trim_offsets": True,
                              "add_prefix_space": True},
        "BertProcessing": {"type": "BertProcessing", "sep": [b[0], b[1]], "cls": [a[0], a[1]]},
        "Mystery": {"type": "Mystery"}, "last before": template([sep, one, cls], [sep, one, cls, two, cls]),
        "Sequence": {"type": "Sequence", "processors": [{"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False,
                                                         "use_regex": True}, template([cls, one], [cls, one, two])]},
        "type 1": template([cls, {"Sequence": {"id": "A", "type_id": 1}}, sep], [cls, one, sep, two, sep]),
        "type 2": template([cls, one, sep], [cls, one, sep, {"Sequence": {"id": "B", "type_id": 2}}, sep]),
        "no pair": {k: v for k, v in template([cls, one, sep], []).items() if k != "pair"},
    }
    for name, shape in shapes.items():
        yield "tokenizer.json", f"post_processor: {name}", put("post_processor", shape)


def of_added(data):
    """Flags of the added token, of control tokens, new ones, and holes."""
    new = next(i for i, t in enumerate(data["added_tokens"]) if t["content"] == "<new>")
    for i, name in ((new, "<new>"), (0, data["added_tokens"][0]["content"])):
        for flag in ("lstrip", "rstrip", "single_word", "normalized"):
            yield "tokenizer.json", f"added {name}: {flag} flipped", put("added_tokens", i, flag, not data["added_tokens"][i][flag])
            yield "tokenizer.json", f"added {name}: {flag} removed", drop("added_tokens", i, flag)
        yield "tokenizer.json", f"added {name}: mystery", put("added_tokens", i, "mystery", True)
        yield "tokenizer.json", f"added {name}: removed", drop("added_tokens", i)
        yield "tokenizer.json", f"added {name}: other id", put("added_tokens", i, "id", 290)
        yield "tokenizer.json", f"added {name}: other content", put("added_tokens", i, "content", "the")
        yield "tokenizer.json", f"added {name}: no content", put("added_tokens", i, "content", "")

    def more(**flags):
        def change(d):
            top = max(t["id"] for t in d["added_tokens"])
            base = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
            d["added_tokens"].append({"id": top + 1, "content": "card", **base, **flags})
        return change
    for flags in ({}, {"single_word": True}, {"lstrip": True}, {"rstrip": True}, {"lstrip": True, "rstrip": True}, {"normalized": True},
                  {"content": "CARD", "normalized": True}, {"content": " a"}, {"content": "arrived <new"},
                  {"content": "Ab", "normalized": True}, {"content": "é", "normalized": True}):
        yield "tokenizer.json", f"added token {short(flags)}", more(**flags)


def of_model(data):
    model = data["model"]
    keys = {"BPE": {"dropout": [0.0, 0.5, 1.0], "unk_token": [None, "the", "nowhere"], "continuing_subword_prefix": ["", "##", "@@"],
                    "end_of_word_suffix": ["", "</w>"], "fuse_unk": [True, False], "byte_fallback": [True, False],
                    "ignore_merges": [True, False]},
            "WordPiece": {"unk_token": ["[PAD]", "the", "nowhere"], "continuing_subword_prefix": ["", "##", "@@"],
                          "max_input_chars_per_word": [1, 5, 100, 200, 0]},
            "Unigram": {"unk_id": [0, 1, 7, None, 100000], "byte_fallback": [True, False]}}[model["type"]]
    for key, values in keys.items():
        if key in model:
            yield "tokenizer.json", f"model.{key} removed", drop("model", key)
        for value in values + ["word", [1]]:
            yield "tokenizer.json", f"model.{key} = {short(value)}", put("model", key, value)
    yield "tokenizer.json", "model.mystery added", put("model", "mystery", True)
    yield "tokenizer.json", "model.type removed", drop("model", "type")
    yield "tokenizer.json", "model.type = 'Mystery'", put("model", "type", "Mystery")
    yield "tokenizer.json", "model.type = 'WordLevel'", put("model", "type", "WordLevel")
    if model["type"] == "BPE":
        def joined(d):
            d["model"]["merges"] = [" ".join(m) if isinstance(m, list) else m.split(" ") for m in d["model"]["merges"]]
        yield "tokenizer.json", "merges in the other form", joined

        def fewer(d):
            d["model"]["merges"] = d["model"]["merges"][:20]
        yield "tokenizer.json", "merges: the first 20", fewer
        yield "tokenizer.json", "merges: none", put("model", "merges", [])


def of_tokenizer(data, a, b):
    yield from of_stage(data, "normalizer", "normalizers", NORMALIZERS)
    yield from of_stage(data, "pre_tokenizer", "pretokenizers", PRE_TOKENIZERS)
    yield from of_post_processors(data, a, b)
    yield from of_added(data)
    yield from of_model(data)
    for key, value in (("truncation", {"direction": "Right", "max_length": 6, "strategy": "LongestFirst", "stride": 0}),
                       ("truncation", {"direction": "Left", "max_length": 6, "strategy": "LongestFirst", "stride": 0}),
                       ("padding", {"strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                                    "pad_type_id": 0, "pad_token": "x"}), ("version", "2.0"), ("decoder", None), ("mystery", 1),
                       ("decoder", {"type": "Mystery"}), ("model", None), ("added_tokens", [])):
        yield "tokenizer.json", f"{key} = {short(value)}", put(key, value)


def of_tokenizer_config(data, classes):
    """tokenizer_config.json: its keys, and those that published files have besides."""
    yield from of_dictionary("tokenizer_config.json", data, [k for k in data if k != "tokenizer_class"])
    more = {
        "do_lower_case": [True, False], "strip_accents": [True, False, None], "tokenize_chinese_chars": [True, False],
        "add_prefix_space": [True, False], "add_bos_token": [True, False], "add_eos_token": [True, False], "legacy": [True, False],
        "clean_up_tokenization_spaces": [True], "use_default_system_prompt": [False], "sp_model_kwargs": [{}], "max_len": [16],
        "model_max_length": [16, 1000000000000000019884624838656, 1e30, 0, -1, "word", 20.0], "truncation_side": ["left", "right"],
        "padding_side": ["left"], "spaces_between_special_tokens": [True], "split_special_tokens": [True, False],
        "trim_offsets": [False], "never_split": [["the"]], "do_basic_tokenize": [False], "keep_accents": [True, False],
        "remove_space": [False], "additional_special_tokens": [["card"], []], "extra_special_tokens": [{"image_token": "card"}, {}],
        "added_tokens_decoder": [{"7": {"content": "card", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                                        "special": True}}],
        "wordpieces_prefix": ["@@"], "model_input_names": [["input_ids"], ["input_ids", "token_type_ids", "attention_mask"]],
        "chat_template": ["{{ messages }}"], "max_length": [12], "stride": [0], "truncation_strategy": ["longest_first"],
        "pad_to_multiple_of": [8], "pad_token_type_id": [0], "errors": ["replace"], "mystery": [1], "vocab_type": ["spm"],
        "split_by_punct": [False, True], "backend": ["tokenizers"], "is_local": [True], "fix_mistral_regex": [True, False],
    }
    for key, values in more.items():
        for value in values:
            if data.get(key) != value:
                yield "tokenizer_config.json", f"{key} added = {short(value)}", put(key, value)
    for name in classes + [None]:
        yield "tokenizer_config.json", f"tokenizer_class = {name}", put("tokenizer_class", name) if name else drop("tokenizer_class")
        if name and ("Bert" in name or "MPNet" in name or "Electra" in name):
            for value in (True, False):
                def both(d, name=name, value=value):
                    d.update(tokenizer_class=name, do_lower_case=value)
                yield "tokenizer_config.json", f"tokenizer_class = {name}, do_lower_case = {value}", both
        if name:
            for key in ("add_prefix_space", "add_bos_token", "add_eos_token", "legacy", "strip_accents", "tokenize_chinese_chars",
                        "keep_accents", "do_lower_case"):
                for value in (True, False):
                    def mixed(d, name=name, key=key, value=value):
                        d.update({"tokenizer_class": name, key: value})
                    yield "tokenizer_config.json", f"tokenizer_class = {name}, {key} = {value}", mixed


def as_objects(flags):
    """Names of control tokens as published files write them: objects with flags."""
    def change(data):
        for key in [k for k in data if k.endswith("_token") and isinstance(data[k], str)]:
            data[key] = {"__type": "AddedToken", "content": data[key], "lstrip": False, "normalized": False, "rstrip": False,
                         "single_word": False, **flags}
    return change


def of_decoders(ids):
    """added_tokens_decoder of tokenizer_config.json, which says again what tokenizer.json says: all of it, or otherwise."""
    base = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    whole = {str(i): {"content": t, **base, "special": t != "<new>"} for t, i in ids.items()}
    new = str(ids["<new>"])
    for name, flags in (("as it is", {}), ("<new> lstrip", {"lstrip": True}), ("<new> rstrip", {"rstrip": True}),
                        ("<new> single_word", {"single_word": True}), ("<new> normalized", {"normalized": True}),
                        ("<new> special", {"special": True}), ("<new> other content", {"content": "card"})):
        yield ("tokenizer_config.json", f"added_tokens_decoder: {name}",
               put("added_tokens_decoder", {**whole, new: {**whole[new], **flags}}))
    yield "tokenizer_config.json", "added_tokens_decoder: without <new>", put("added_tokens_decoder", {
        i: t for i, t in whole.items() if i != new})
    for token, name in (({new: 1}, "another form"), ([], "a list")):
        yield "tokenizer_config.json", f"added_tokens_decoder: {name}", put("added_tokens_decoder", token)
    for name, flags in (("as objects", {}), ("as objects, lstrip", {"lstrip": True}), ("as objects, normalized", {"normalized": True})):
        yield "tokenizer_config.json", f"names of control tokens {name}", as_objects(flags)
        yield "special_tokens_map.json", f"names of control tokens {name}", as_objects(flags)
    for name, value in (("as it is", {"<new>": ids["<new>"]}), ("one more", {"<new>": ids["<new>"], "card": ids["<new>"] + 1}),
                        ("other id", {"<new>": 7}), ("a list", ["<new>"])):
        yield "added_tokens.json", f"the file: {name}", whole_file(value)


def whole_file(value):
    def change(_data):
        raise Replaced(value)
    return change


def no_file(_data):
    raise Removed


def of_files(names):
    """Every file left out."""
    for name in names:
        yield name, "the file is not there", no_file


def of_specials(data):
    yield from of_dictionary("special_tokens_map.json", data)
    yield "special_tokens_map.json", "additional_special_tokens added", put("additional_special_tokens", ["card"])
    yield "special_tokens_map.json", "mystery added", put("mystery", "card")


def of_generation(data):
    for value in (None, 3, [3, 7], [], "word", -1, 100000, list(range(20)), 3.5):
        yield "generation_config.json", f"eos_token_id = {short(value)}", put("eos_token_id", value)
    for key, value in (("bos_token_id", 7), ("pad_token_id", 7), ("temperature", 0.5), ("do_sample", True), ("max_length", 12),
                       ("mystery", 1), *PREFERENCES, *DEMANDS):
        yield "generation_config.json", f"{key} = {short(value)}", put(key, value)
    for key, value in DEMANDS:
        def alone(folder, key=key, value=value):
            remove(folder, "generation_config.json")
            with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
                write(folder, "config.json", {**json.load(f), key: value})
        yield "generation_config.json", f"the file is not there, config.json says {key} = {short(value)}", InFolder(alone)


# How an answer is drawn: whoever asks says it here.
PREFERENCES = (("top_k", 20), ("top_p", 0.8), ("min_p", 0.1), ("typical_p", 0.9), ("repetition_penalty", 1.3), ("num_beams", 2),
               ("max_new_tokens", 3), ("use_cache", False), ("cache_implementation", "static"), ("transformers_version", "4.40.0"))
# Which tokens may come, whoever asks.
DEMANDS = (("suppress_tokens", list(range(0, 400, 2))), ("suppress_tokens", []), ("suppress_tokens", None),
           ("begin_suppress_tokens", list(range(0, 400, 2))), ("begin_suppress_tokens", []), ("forced_bos_token_id", 7),
           ("forced_bos_token_id", None), ("forced_eos_token_id", 7), ("forced_eos_token_id", None),
           ("bad_words_ids", [[i] for i in range(0, 400, 2)]), ("bad_words_ids", None), ("no_repeat_ngram_size", 2),
           ("no_repeat_ngram_size", 0), ("encoder_no_repeat_ngram_size", 1), ("encoder_repetition_penalty", 3.0), ("min_length", 60),
           ("min_length", 0), ("min_new_tokens", 5), ("min_new_tokens", None), ("sequence_bias", [[[7], 90.0]]), ("sequence_bias", None),
           ("exponential_decay_length_penalty", [1, 90.0]), ("stop_strings", ["the"]), ("stop_strings", None), ("guidance_scale", 3.0),
           ("guidance_scale", None), ("watermarking_config", {"bias": 9.0}), ("watermarking_config", None), ("diversity_penalty", 0.0),
           ("remove_invalid_values", True), ("renormalize_logits", True), ("force_words_ids", [[7]]), ("constraints", None),
           ("penalty_alpha", 0.6), ("dola_layers", "low"), ("prompt_lookup_num_tokens", 3))


# ---------------------------------------------------------------- sentence-transformers


def of_sentence(files):
    pooling, modules = files["1_Pooling/config.json"], files["modules.json"]
    yield from of_dictionary("1_Pooling/config.json", pooling)
    modes = [k for k in pooling if k.startswith("pooling_mode_")]
    for mode in modes:
        def alone(d, mode=mode):
            d.update({m: m == mode for m in modes})
        yield "1_Pooling/config.json", f"{mode} alone", alone
    for mode in ("cls", "mean", "max", "lasttoken", "mean_sqrt_len_tokens", "weightedmean", "MEAN", "mystery", ["cls", "mean"], [],
                 ["mean", "cls"], ["lasttoken", "max", "mean"], ["weightedmean", "mean_sqrt_len_tokens"], ["mean", "mean"], ["mean"],
                 None, 3):
        def named(d, mode=mode):
            for m in modes:
                d.pop(m)
            d["embedding_dimension"] = d.pop("word_embedding_dimension")
            d["pooling_mode"] = mode
        yield "1_Pooling/config.json", f"pooling_mode = {mode!r} (version 6)", named
    yield "1_Pooling/config.json", "mystery added", put("mystery", 1)
    yield from of_dictionary("sentence_bert_config.json", files["sentence_bert_config.json"])
    for key, value in (("mystery", 1), ("transformer_task", "feature-extraction"), ("transformer_task", "fill-mask"),
                       ("module_output_name", "token_embeddings"), ("max_seq_length", 12), ("max_seq_length", 4), ("max_seq_length", 1000),
                       ("max_seq_length", 2), ("max_seq_length", 12.0),
                       ("modality_config", {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}),
                       ("processing_kwargs", {"text": {"max_length": 9, "truncation": True}}),
                       ("processing_kwargs", {"text": {"padding": "max_length"}}),
                       ("tokenizer_args", {}), ("model_args", {}), ("config_args", {}), ("unpad_inputs", True), ("method", "forward"),
                       *SENTENCE_SETTINGS):
        yield "sentence_bert_config.json", f"{key} = {short(value)}", put(key, value)
    for task, output, method in (("feature-extraction", "token_embeddings", "last_hidden_state"),
                                 ("sequence-classification", "scores", "logits"), ("text-generation", "causal_logits", "logits")):
        def called(d, task=task, output=output, method=method):
            d.update(transformer_task=task, module_output_name=output,
                     modality_config={"text": {"method": "forward", "method_output_name": method}})
        yield "sentence_bert_config.json", f"as version 6 writes it for {task}", called
    for name in ("sentence_roberta_config.json", "sentence_xlm-roberta_config.json", "sentence_mystery_config.json"):
        yield name, "the file: max_seq_length 9, beside sentence_bert_config.json", whole_file({"max_seq_length": 9})
        yield name, "the file: max_seq_length 9, in its place", InFolder(
            lambda f, name=name: (remove(f, "sentence_bert_config.json"), write(f, name, {"max_seq_length": 9})))
    whole = files["config_sentence_transformers.json"]
    yield from of_dictionary("config_sentence_transformers.json", whole)
    for key, value in (("default_prompt_name", "query"), ("default_prompt_name", "document"), ("default_prompt_name", "mystery"),
                       ("prompts", {"query": "q: "}), ("prompts", {"passage": "p: "}), ("prompts", {"query": "", "document": ""}),
                       ("prompts", {"corpus": "c: ", "passage": "p: "}), ("prompts", {"search_query": "sq: "}),
                       ("prompts", {"s2p_query": "s: "}),
                       ("prompts", {"other": "o: "}), ("similarity_fn_name", "dot"), ("similarity_fn_name", "euclidean"),
                       ("similarity_fn_name", "manhattan"), ("truncate_dim", 16), ("truncate_dim", 1000), ("truncate_dim", 7),
                       ("mystery", 1),
                       ("model_type", "SparseEncoder"), ("model_type", "CrossEncoder"), ("model_type", "MultiVectorEncoder"),
                       ("requirements", {"sentence-transformers": ">=5.0.0"}), ("requirements", {"transformers": ">=99.0.0"}),
                       ("requirements", None), ("__version__", {}), ("__version__", {"sentence_transformers": "99.0.0"}),
                       ("__version__", "6.0.0"), ("prompts", {"query": None}), ("prompts", {"query": 7}), ("prompts", ["query"]),
                       ("prompts", {"clustering": "c: ", "classification": "l: "}), ("activation_fn", "torch.nn.modules.linear.Identity"),
                       ("model_card_data", {"language": "en"}), ("query_prompt", "q: "), ("matryoshka_dims", [32])):
        yield "config_sentence_transformers.json", f"{key} = {short(value)}", put(key, value)
    for prompts, default in (({"query": "", "document": "", "x": "X: "}, "x"), ({"x": "X: "}, "x"), ({"query": "q: ", "x": "X: "}, "x"),
                             ({"search_query": "sq: ", "x": "X: "}, "x"), ({"search_document": "sd: ", "s2p_query": "s: "}, None),
                             ({"query": "q: ", "document": "d: "}, "query"), ({"document": "d: "}, "document")):
        def prompted(d, prompts=prompts, default=default):
            d.update(prompts=prompts, default_prompt_name=default)
        yield "config_sentence_transformers.json", f"prompts {short(prompts)}, default {default}", prompted
    kinds = "sentence_transformers.models."
    for name, value in (
            ("no Normalize", modules[:2]), ("no Pooling", [modules[0], modules[2]]), ("Normalize before Pooling", [modules[0], modules[2],
                                                                                                                   modules[1]]),
            ("Transformer alone", modules[:1]), ("empty", []), ("an object", {"a": 1}),
            ("paths of version 6", [{**m, "type": m["type"].replace("models", "base.modules") + "." + m["type"].split(".")[-1]}
                                    for m in modules]),
            ("types of version 5.4", [{**m, "type": "sentence_transformers.sentence_transformer.modules." + m["type"].split(".")[-1]}
                                      for m in modules]),
            ("a stranger", [*modules, {"idx": 3, "name": "3", "path": "3_Mystery", "type": kinds + "Mystery"}]),
            ("WordWeights", [*modules, {"idx": 3, "name": "3", "path": "3", "type": kinds + "WordWeights"}]),
            ("Normalize twice", [*modules, {**modules[2], "idx": 3, "name": "3"}]),
            ("Pooling twice", [modules[0], modules[1], {**modules[1], "idx": 2, "name": "2"}]),
            ("a key more", [{**m, "mystery": 1} for m in modules]), ("kwargs", [{**modules[0], "kwargs": ["task"]}, *modules[1:]]),
            ("Transformer in a folder", [{**modules[0], "path": "0_Transformer"}, *modules[1:]]),
            *((kind, [modules[0], {"idx": 1, "name": "more", "path": "1_" + kind, "type": kinds + kind}, *modules[1:]])
              for kind in ("WeightedLayerPooling", "CNN", "LSTM", "Dropout", "Router", "Transformer", "WordWeights")),
            *((kind + " in the transformer's place", [{**modules[0], "type": kinds + kind}, *modules[1:]])
              for kind in ("Router", "Asym", "CLIPModel", "BoW", "WordEmbeddings", "BERT", "StaticEmbedding", "SparseStaticEmbedding")),
            ("a class of somebody else's", [{**modules[0], "type": "custom_st.Transformer"}, *modules[1:]]),
            ("a pooling of somebody else's", [modules[0], {**modules[1], "type": "mine.Pooling"}, modules[2]]),
            ("Pooling before Transformer", [modules[1], modules[0], modules[2]]), ("no Transformer", modules[1:]),
            ("names twice", [modules[0], modules[1], {**modules[2], "name": "1"}]), ("no names", [
                {k: v for k, v in m.items() if k != "name"} for m in modules]),
            ("idx otherwise", [{**m, "idx": 7 - m["idx"]} for m in modules]), ("no idx", [
                {k: v for k, v in m.items() if k != "idx"} for m in modules]),
            ("Normalize without a folder", [modules[0], modules[1], {**modules[2], "path": ""}]),
            ("Pooling without a folder", [modules[0], {**modules[1], "path": ""}, modules[2]]),
            ("a folder elsewhere", [modules[0], {**modules[1], "path": "2_Pooling"}, modules[2]]),
            ("a folder with a stroke", [modules[0], {**modules[1], "path": "1_Pooling/"}, modules[2]]),
            ("a folder from here", [modules[0], {**modules[1], "path": "./1_Pooling"}, modules[2]]),
            ("the transformer from here", [{**modules[0], "path": "."}, *modules[1:]]),
            ("a whole path", [modules[0], {**modules[1], "path": "/1_Pooling"}, modules[2]])):
        yield "modules.json", name, (lambda value: lambda d: _replace(d, value))(value)
    yield "modules.json", "Transformer in its folder", InFolder(lambda f: into_folder(f, modules))
    for value in ({}, {"module_input_name": "sentence_embedding"}, {"module_input_name": "token_embeddings"},
                  {"module_input_name": "sentence_embedding", "module_output_name": "other"}, {"mystery": 1}):
        yield "2_Normalize/config.json", f"the file: {short(value)}", whole_file(value)


SENTENCE_SETTINGS = (
    ("processing_kwargs", {"text": {"truncation": False}}), ("processing_kwargs", {"text": {"add_special_tokens": False}}),
    ("processing_kwargs", {"common": {"add_special_tokens": False}}), ("processing_kwargs", {"common": {"max_length": 9}}),
    ("processing_kwargs", {"text": {"truncation": "longest_first", "padding": True}}),
    ("processing_kwargs", {"text": {"truncation": "only_first"}}),
    ("processing_kwargs", {"text": {"stride": 3}}), ("processing_kwargs", {"text": {"mystery": 3}}), ("processing_kwargs", {}),
    ("processing_kwargs", {"mystery": {"max_length": 9}}), ("processing_kwargs", {"chat_template": {"add_generation_prompt": True}}),
    ("processing_kwargs", {"text": {"return_token_type_ids": False}}), ("processing_kwargs", None),
    ("modality_config", {}), ("modality_config", {"message": {"method": "forward", "method_output_name": "last_hidden_state"}}),
    ("modality_config", {"text": {"method": "forward", "method_output_name": "pooler_output"}}),
    ("modality_config", {"text": {"method": "get_text_features", "method_output_name": "last_hidden_state"}}),
    ("modality_config", {"text": {"method": "forward", "method_output_name": ["hidden_states", 0]}}), ("modality_config", None),
    ("module_output_name", "sentence_embedding"), ("module_output_name", None),
    ("tokenizer_args", {"do_lower_case": False}), ("model_args", {"torch_dtype": "float16"}), ("config_args", {"num_hidden_layers": 1}),
    ("model_kwargs", {}), ("model_kwargs", {"attn_implementation": "sdpa"}), ("processor_kwargs", {"padding_side": "left"}),
    ("config_kwargs", {"num_hidden_layers": 1}), ("model_args", None), ("unpad_inputs", False), ("unpad_inputs", None),
    ("query_expansion", None), ("query_expansion", {"strategy": "fixed", "length": 16}), ("query_length", 16), ("document_length", 16),
    ("query_length", None), ("transformer_task", "sequence-classification"), ("transformer_task", "text-generation"),
    ("transformer_task", "mystery"), ("transformer_task", None), ("tokenizer_name_or_path", "elsewhere"), ("backend", "onnx"))


def of_dense(files):
    """The modules behind the pooling: 2_Dense (its function a tanh, with a bias), 3_LayerNorm, 4_Dense (neither) and Normalize."""
    for folder in ("2_Dense", "4_Dense"):
        name = folder + "/config.json"
        data = files[name]
        yield from of_dictionary(name, data)
        for value in ("torch.nn.modules.activation.Tanh", "torch.nn.modules.activation.ReLU", "torch.nn.modules.activation.GELU",
                      "torch.nn.modules.activation.SiLU", "torch.nn.modules.activation.Sigmoid", "torch.nn.modules.linear.Identity",
                      "torch.nn.Tanh", "torch.nn.functional.relu", "mine.ReLU", "Tanh", "torch.mystery.Tanh"):
            yield name, f"activation_function = {short(value)}", put("activation_function", value)
        for key, value in (("use_residual", False), ("use_residual", True), ("use_residual", None), ("mystery", 1),
                           ("module_input_name", "sentence_embedding"), ("module_input_name", "token_embeddings"),
                           ("module_output_name", None), ("module_output_name", "other")):
            yield name, f"{key} added = {short(value)}", put(key, value)
        weights = folder + "/model.safetensors"
        yield weights, "the file is not there", InFolder(lambda f, weights=weights: remove(f, weights))
    yield from of_dictionary("3_LayerNorm/config.json", files["3_LayerNorm/config.json"])
    yield "3_LayerNorm/config.json", "eps added = 0.1", put("eps", 0.1)
    weights = "2_Dense/model.safetensors"
    for name, change in (("no bias", lambda t: t.pop("linear.bias")),
                         ("another tensor", lambda t: t.update(mystery=t["linear.bias"].clone())),
                         ("half", lambda t: t.update({k: v.half() for k, v in t.items()})),
                         ("other names", lambda t: t.update({"linear.w": t.pop("linear.weight")})),
                         ("fewer rows", lambda t: t.update({"linear.weight": t["linear.weight"][:5].clone()}))):
        yield weights, name, in_tensors(weights, change)
    modules = files["modules.json"]
    for name, value in (("Dense before Pooling", [modules[0], modules[2], modules[1], *modules[3:]]),
                        ("LayerNorm first", [*modules[:2], modules[3], modules[5]]),
                        ("no Normalize", modules[:5]), ("Normalize within", [*modules[:3], {**modules[5], "name": "n"}, *modules[3:]]),
                        ("the first Dense alone", [*modules[:3], modules[5]]),
                        ("a LayerNorm twice", [*modules[:4], {**modules[3], "name": "again"}, *modules[4:]]),
                        ("Dropout within", [*modules[:3], {"idx": 9, "name": "d", "path": "9_Dropout", "type":
                                                           "sentence_transformers.models.Dropout"}, *modules[3:]])):
        yield "modules.json", name, (lambda value: lambda d: _replace(d, value))(value)
    for value in (16, 24, 1, 64):
        yield "config_sentence_transformers.json", f"truncate_dim = {value}", put("truncate_dim", value)


def into_folder(folder, modules):
    """The transformer's files where versions before 2 keep them."""
    inner = os.path.join(folder, "0_Transformer")
    os.mkdir(inner)
    for name in os.listdir(folder):
        if name not in ("modules.json", "config_sentence_transformers.json") and os.path.isfile(os.path.join(folder, name)):
            os.rename(os.path.join(folder, name), os.path.join(inner, name))
    write(folder, "modules.json", [{**modules[0], "path": "0_Transformer"}, *modules[1:]])


# ---------------------------------------------------------------- changes of more than one file


class InFolder:
    """A change of a directory, which is copied for it."""

    def __init__(self, change):
        self.change = change


def write(folder, name, value):
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(value) if isinstance(value, str) else json.dump(value, f, ensure_ascii=False)


def tensors(folder, name="model.safetensors"):
    return load_file(os.path.join(folder, name))


def save(folder, parts, name="model.safetensors"):
    save_file({k: v.contiguous() for k, v in parts.items()}, os.path.join(folder, name), {"format": "pt"})


def in_tensors(name, change):
    """A change of the dictionary of a file's tensors."""
    def whole(folder):
        parts = tensors(folder, name)
        change(parts)
        save(folder, parts, name)
    return InFolder(whole)


def remove(folder, name):
    if os.path.exists(os.path.join(folder, name)):
        os.unlink(os.path.join(folder, name))


def _replace(data, value):
    if isinstance(data, list) and isinstance(value, list):
        data[:] = copy.deepcopy(value)
    else:
        raise Replaced(value)


class Replaced(Exception):
    """The whole file becomes another value."""


class Removed(Exception):
    """The whole file is not there."""


# ---------------------------------------------------------------- weights

INDEX = "model.safetensors.index.json"


def split(folder, index=None, drop_file=False, extra=None):
    """The weights in two files with an index; index: a change of its weight_map."""
    parts = tensors(folder)
    names = sorted(parts)
    half = len(names) // 2
    files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    where = {n: files[i >= half] for i, n in enumerate(names)}
    for file in files:
        save(folder, {**{n: parts[n] for n in names if where[n] == file}, **(extra or {} if file == files[1] else {})}, file)
    remove(folder, "model.safetensors")
    whole = {"metadata": {"total_size": sum(p.numel() * p.element_size() for p in parts.values())}, "weight_map": where}
    if index:
        index(whole)
    write(folder, INDEX, whole)
    if drop_file:
        remove(folder, files[1])


def of_weights():
    """model.safetensors: in parts, in other types, with tensors that lack, are too many, or are named as others name them."""
    def first(d):
        return sorted(d["weight_map"])[0]
    yield INDEX, "two files", InFolder(split)
    for name, change in (("no metadata", lambda d: d.pop("metadata")), ("a mystery", lambda d: d.update(mystery=1)),
                         ("a tensor lacks", lambda d: d["weight_map"].pop(first(d))), ("no weight_map", lambda d: d.pop("weight_map")),
                         ("a tensor in the other file", lambda d: d["weight_map"].update({first(d): sorted(d["weight_map"].values())[-1]})),
                         ("a tensor too many", lambda d: d["weight_map"].update(mystery="model-00001-of-00002.safetensors")),
                         ("a file too many", lambda d: d["weight_map"].update(mystery="model-00003-of-00003.safetensors"))):
        yield INDEX, name, InFolder(lambda f, change=change: split(f, change))
    yield INDEX, "a file is not there", InFolder(lambda f: split(f, drop_file=True))
    yield INDEX, "a tensor that the index does not name", InFolder(lambda f: split(f, extra={"mystery": torch.ones(3)}))
    yield INDEX, "beside model.safetensors, of other files", InFolder(
        lambda f: write(f, INDEX, {"weight_map": {"x": "model-00001-of-00001.safetensors"}}))
    file = "model.safetensors"
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2, torch.int8):
        yield file, f"all of {str(dtype).split('.')[1]}", in_tensors(file, lambda t, dtype=dtype: t.update(
            {k: v.to(dtype) for k, v in t.items()}))

    def a_matrix(t):
        return sorted(k for k, v in t.items() if v.dim() == 2 and ".0." in k)[0]

    def a_vector(t):
        return sorted(k for k, v in t.items() if v.dim() == 1 and ".0." in k)[0]
    for name, change in (
            ("a matrix of float16", lambda t: t.update({a_matrix(t): t[a_matrix(t)].half()})),
            ("a matrix of bfloat16", lambda t: t.update({a_matrix(t): t[a_matrix(t)].bfloat16()})),
            ("a matrix of float8", lambda t: t.update({a_matrix(t): t[a_matrix(t)].to(torch.float8_e4m3fn)})),
            ("a matrix of int8", lambda t: t.update({a_matrix(t): t[a_matrix(t)].to(torch.int8)})),
            ("a vector of float16", lambda t: t.update({a_vector(t): t[a_vector(t)].half()})),
            ("a vector of int8", lambda t: t.update({a_vector(t): t[a_vector(t)].to(torch.int8)})),
            ("a matrix lacks", lambda t: t.pop(a_matrix(t))), ("a vector lacks", lambda t: t.pop(a_vector(t))),
            ("a matrix with fewer rows", lambda t: t.update({a_matrix(t): t[a_matrix(t)][:8].clone()})),
            ("a matrix turned", lambda t: t.update({a_matrix(t): t[a_matrix(t)].t().clone()})),
            ("a number that is none", lambda t: t[a_matrix(t)].view(-1).__setitem__(3, float("nan"))),
            ("a bias more", lambda t: t.update({a_matrix(t).replace(".weight", ".mystery_bias"): torch.ones(64)})),
            ("a scale beside a matrix", lambda t: t.update({a_matrix(t) + "_scale_inv": torch.ones(1, 1)})),
            ("a scale beside a matrix, weight_scale", lambda t: t.update({a_matrix(t).replace(".weight", ".weight_scale"): torch.ones(1)})),
            ("an adapter's matrices", lambda t: t.update({a_matrix(t).replace(".weight", ".lora_A.weight"): torch.ones(4, 64)})),
            ("rotary_emb.inv_freq", lambda t: t.update({a_matrix(t).rsplit(".", 2)[0] + ".rotary_emb.inv_freq": torch.ones(8)})),
            ("names behind base_model.model.", lambda t: renamed(t, lambda n: "base_model.model." + n)),
            ("names behind model.", lambda t: renamed(t, lambda n: n if n.startswith("model.") else "model." + n)),
            ("names without model.", lambda t: renamed(t, lambda n: n.removeprefix("model."))),
            ("names behind module.", lambda t: renamed(t, lambda n: "module." + n)),
            ("names behind _orig_mod.", lambda t: renamed(t, lambda n: "_orig_mod." + n)),
            ("a tensor apart", lambda t: t.update(mystery=torch.ones(3))),
            ("a layer more", lambda t: t.update({k.replace(".1.", ".2."): v.clone() for k, v in list(t.items()) if ".1." in k}))):
        yield file, name, in_tensors(file, change)
    yield file, "the file is not there", InFolder(lambda f: remove(f, file))
    yield file, "as pytorch_model.bin", InFolder(lambda f: (torch.save(tensors(f), os.path.join(f, "pytorch_model.bin")), remove(f, file)))
    yield file, "cut", InFolder(lambda f: os.truncate(os.path.join(f, file), os.path.getsize(os.path.join(f, file)) - 8))
    yield "adapter_config.json", "the file", whole_file({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": "x",
                                                         "target_modules": ["q_proj"]})


def renamed(parts, name_of):
    for name in list(parts):
        parts[name_of(name)] = parts.pop(name)


def of_ties(output, embedding):
    """Whether the head is the embedding: what config.json says, beside what is there."""
    def change(tie, has_head, has_embedding=True, other=True):
        def whole(folder):
            parts = tensors(folder)
            table = parts[embedding]
            head = torch.randn(table.shape, generator=torch.Generator().manual_seed(7)) / 8 if other else table.clone()
            parts.pop(output, None)
            if has_head:
                parts[output] = head
            if not has_embedding:
                parts.pop(embedding)
            save(folder, parts)
            with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
                config = json.load(f)
            config.pop("tie_word_embeddings", None)
            if tie is not None:
                config["tie_word_embeddings"] = tie
            write(folder, "config.json", config)
        return InFolder(whole)
    for tie in (True, False, None):
        for name, args in (("a head of its own", {"has_head": True}), ("the table again", {"has_head": True, "other": False}),
                           ("no head", {"has_head": False}), ("a head, no table", {"has_head": True, "has_embedding": False})):
            yield "config.json", f"tie_word_embeddings with its weights: {tie}, {name}", change(tie, **args)


QUANTIZED = (
    None, {}, [], "gptq", {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False},
    {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": True},
    {"quant_method": "bitsandbytes", "load_in_8bit": True}, {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    {"quant_method": "bitsandbytes", "load_in_4bit": False, "load_in_8bit": False},
    {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {}, "quantization_status": "compressed"},
    {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}, {"quant_method": "fbgemm_fp8"},
    {"quant_method": "mxfp4"}, {"quant_method": "quanto", "weights": "int8"}, {"quant_method": "hqq"}, {"quant_method": "aqlm"},
    {"quant_method": "torchao", "quant_type": "int4"}, {"quant_method": "eetq"}, {"quant_method": "bitnet"}, {"quant_method": "mystery"})


def of_quantization(path=()):
    """quantization_config of config.json, and the key that compressed-tensors had before."""
    where = ".".join((*path, "quantization_config"))
    for value in QUANTIZED:
        yield "config.json", f"{where} = {short(value)}", put(*path, "quantization_config", value)
    yield "config.json", ".".join((*path, "compression_config")) + " = {}", put(*path, "compression_config", {"format": "dense"})


# ---------------------------------------------------------------- chat templates

CHATML = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
LLAMA = ("{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' + m['content'] + '<|eot_id|>' }}"
         "{% endfor %}")


def of_templates():
    """Where a chat template stands: tokenizer_config.json as a text or a list, a file, a folder, and which goes before which."""
    named = [{"name": "tool_use", "template": LLAMA}, {"name": "default", "template": CHATML}]
    places = {
        "text": lambda f, t: in_config(f, t), "list": lambda f, t: in_config(f, [{"name": "default", "template": t}]),
        "jinja": lambda f, t: write(f, "chat_template.jinja", t), "json": lambda f, t: write(f, "chat_template.json", {"chat_template": t}),
        "folder": lambda f, t: write(f, "additional_chat_templates/tool_use.jinja", t)}
    for place, put_it in places.items():
        yield "chat_template", f"{place}", InFolder(lambda f, put_it=put_it: put_it(f, CHATML))
        for other, put_other in places.items():
            if other != place and {place, other} != {"text", "list"}:
                yield "chat_template", f"{place}, another as {other}", InFolder(
                    lambda f, a=put_it, b=put_other: (a(f, CHATML), b(f, LLAMA)))
    for name, value in (("a list of two", named), ("a list without a default", named[:1]), ("an empty list", []), ("an empty text", ""),
                        ("null", None), ("an object", {"default": CHATML}), ("a number", 7), ("a list of texts", [CHATML]),
                        ("a list without templates", [{"name": "default"}])):
        yield "chat_template", f"tokenizer_config.json: {name}", InFolder(lambda f, value=value: in_config(f, value))
        yield "chat_template", f"tokenizer_config.json: {name}, and jinja", InFolder(
            lambda f, value=value: (in_config(f, value), write(f, "chat_template.jinja", LLAMA)))
    yield "chat_template", "an empty jinja", InFolder(lambda f: write(f, "chat_template.jinja", ""))


def in_config(folder, template):
    with open(os.path.join(folder, "tokenizer_config.json"), encoding="utf-8") as f:
        config = json.load(f)
    write(folder, "tokenizer_config.json", {**config, "chat_template": template})
