"""A tiny random model of every family, written as users' directories are: by transformers, with a tokenizer of the family's kind.

A family here is a row of FAMILIES: the model type, what its configuration says, the kind of its tokenizer, and the tasks that it is tried
in.  Weights are spread so that whatever a setting changes is seen in the outputs.
"""
import json
import math
import os

import torch
import transformers
from sentence_transformers.models import Dense, LayerNorm
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = """the card has not arrived and the customer waits for an answer
my account was charged twice please send the money back
Die Rechnung stimmt nicht, bitte prüfen Sie den Betrag von 12,50 Euro
warum wurde meine Zahlung abgelehnt? Ich möchte das Konto schließen
Können Sie mir helfen? Das Paket ist beschädigt angekommen!
where is my parcel, it should have been delivered on 2024-03-15
the quick brown fox jumps over the lazy dog 0123456789
l'été dernier, nous avons été à la plage près de Nîmes
señor, mañana por la mañana llegará el niño
don't you think it's what we'll do? I'd say they've been there
""".splitlines()

TEXTS = ["the card has not arrived", "Warum wurde meine Zahlung abgelehnt?", "  Two  spaces, tabs\tand\nlines ",
         "İstanbul ﬁle Å é e\u0301 ½ Ⅷ",
         "don't I'LL we've 12345 3.14", "日本語のテキスト、中文", "zzz qqq ☃ 🙂", "x" * 120, "wait for an answer " * 8, ".",
         "<new>the card <new> a<new>b", "soft\u00adhyphen zero\u200bwidth \ufeffmark\u00a0space"]
PAIRS = [["the card has not arrived", "where is my parcel"], ["Können Sie helfen?", "the customer waits for an answer " * 6], ["a", "b c"]]

TYPED = ["input_ids", "token_type_ids", "attention_mask"]
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")


def bert_frame(cls, sep, tok, roberta=False):
    ids = [(cls, tok.token_to_id(cls)), (sep, tok.token_to_id(sep))]
    pair = f"{cls} $A {sep} {sep} $B {sep}" if roberta else f"{cls} $A {sep} $B:1 {sep}:1"
    return processors.TemplateProcessing(single=f"{cls} $A {sep}", pair=pair, special_tokens=ids)


def _wordpiece(specials):
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer(lowercase=True)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=300, show_progress=False, special_tokens=specials))
    return tok


def wordpiece():
    tok = _wordpiece(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tok.decoder = decoders.WordPiece()
    tok.post_processor = bert_frame("[CLS]", "[SEP]", tok)
    return tok, dict(unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
                     model_input_names=TYPED)


def byte_level(specials, pattern=None, nfc=False, names=None, frame=None):
    tok = Tokenizer(models.BPE())
    tok.normalizer = normalizers.NFC() if nfc else None
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    split = pre_tokenizers.Split(_regex(pattern), "isolated") if pattern else None
    tok.pre_tokenizer = pre_tokenizers.Sequence([split, level]) if split else level
    tok.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=400, show_progress=False, special_tokens=specials,
                                                        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = frame(tok) if frame else processors.ByteLevel(trim_offsets=False)
    return tok, names or {}


def _regex(pattern):
    from tokenizers import Regex
    return Regex(pattern)


def roberta():
    return byte_level(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], frame=lambda t: processors.RobertaProcessing(
        ("</s>", t.token_to_id("</s>")), ("<s>", t.token_to_id("<s>")), trim_offsets=True, add_prefix_space=False),
        names=dict(bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>", cls_token="<s>", sep_token="</s>",
                   mask_token="<mask>"))


def modernbert():
    return byte_level(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"], nfc=True, frame=lambda t: bert_frame("[CLS]", "[SEP]", t),
                      names=dict(unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", mask_token="[MASK]",
                                 model_input_names=["input_ids", "attention_mask"]))


def gpt2():
    return byte_level(["<|endoftext|>"], names=dict(bos_token="<|endoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>",
                                               pad_token="<|endoftext|>"))


def qwen():
    return byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"], QWEN2, nfc=True,
                      names=dict(eos_token="<|im_end|>", pad_token="<|endoftext|>"))


def llama3():
    return byte_level(["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"], LLAMA3, frame=lambda t: processors.Sequence([
        processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
            single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
            special_tokens=[("<|begin_of_text|>", t.token_to_id("<|begin_of_text|>"))])]),
        names=dict(bos_token="<|begin_of_text|>", eos_token="<|eot_id|>", pad_token="<|end_of_text|>"))


def _spm(bos, gemma):
    specials = ["<pad>", "<eos>", "<bos>", "<unk>"] if gemma else ["<unk>", "<s>", "</s>"]
    tok = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    prepend = [] if gemma else [normalizers.Prepend("▁")]
    tok.normalizer = normalizers.Sequence(prepend + [normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=460, show_progress=False, special_tokens=specials + [f"<0x{i:02X}>" for i in range(256)])
    tok.train_from_iterator(CORPUS, trainer)
    body = json.loads(tok.to_str())
    body["added_tokens"] = [t for t in body["added_tokens"] if t["content"] in specials]
    tok = Tokenizer.from_str(json.dumps(body))
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tok.post_processor = processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1",
                                                       special_tokens=[(bos, tok.token_to_id(bos))])
    return tok, dict(bos_token=bos, eos_token="<eos>" if gemma else "</s>", unk_token="<unk>", pad_token="<pad>" if gemma else "<unk>")


def llama2():
    return _spm("<s>", False)


def gemma():
    return _spm("<bos>", True)


def _unigram(specials, cls, sep, names, albert=False):
    tok = Tokenizer(models.Unigram())
    tok.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(_regex(" {2,}"), " ")])
    tok.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tok.train_from_iterator(CORPUS, trainers.UnigramTrainer(vocab_size=300, show_progress=False, special_tokens=specials,
                                                            unk_token="<unk>"))
    body = json.loads(tok.to_str())
    body["model"]["unk_id"] = specials.index("<unk>")
    tok = Tokenizer.from_str(json.dumps(body))
    tok.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tok.post_processor = bert_frame(cls, sep, tok, roberta=not albert)
    return tok, names


def xlmr():
    return _unigram(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], "<s>", "</s>",
                    dict(bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>", cls_token="<s>", sep_token="</s>",
                         mask_token="<mask>"))


def albert():
    return _unigram(["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"], "[CLS]", "[SEP]",
                    dict(bos_token="[CLS]", eos_token="[SEP]", pad_token="<pad>", unk_token="<unk>", cls_token="[CLS]", sep_token="[SEP]",
                         mask_token="[MASK]", model_input_names=TYPED), albert=True)


def mpnet():
    tok = _wordpiece(["<s>", "<pad>", "</s>", "[UNK]", "<mask>"])
    tok.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False)
    return tok, dict(bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="[UNK]", cls_token="<s>", sep_token="</s>",
                     mask_token="<mask>")


ENCODER = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, max_position_embeddings=128)
DECODER = dict(ENCODER, num_key_value_heads=2, head_dim=16)
WINDOWED = dict(DECODER, num_hidden_layers=4, sliding_window=8)
HEADS = ("embed", "classify", "tag")


def family(model_type, tokenizer, tasks, **config):
    return dict(type=model_type, tokenizer=tokenizer, tasks=tasks, config=config)


def types(full, every=2, other="sliding_attention", layers=4):
    return [full if (i + 1) % every == 0 else other for i in range(layers)]


FAMILIES = [
    family("bert", wordpiece, ("embed", "dense", "classify", "tag"), **ENCODER),
    family("roberta", roberta, HEADS, **ENCODER, type_vocab_size=1, layer_norm_eps=1e-5),
    family("xlm-roberta", xlmr, HEADS, **ENCODER, type_vocab_size=1, layer_norm_eps=1e-5),
    family("jina_embeddings_v3", xlmr, HEADS, **ENCODER),
    family("camembert", xlmr, ("embed",), **ENCODER, type_vocab_size=1, layer_norm_eps=1e-5),
    family("electra", wordpiece, HEADS, **ENCODER, embedding_size=32),
    family("distilbert", wordpiece, HEADS, dim=64, n_layers=2, n_heads=4, hidden_dim=96, max_position_embeddings=128),
    family("mpnet", mpnet, HEADS, **ENCODER),
    family("modernbert", modernbert, HEADS, **ENCODER | dict(num_hidden_layers=4), local_attention=8),
    family("nomic_bert", wordpiece, ("embed",), **ENCODER),
    family("albert", albert, HEADS, **ENCODER, embedding_size=32, hidden_act="gelu_new"),
    family("deberta-v2", albert, HEADS, **ENCODER, relative_attention=True, position_buckets=16, norm_rel_ebd="layer_norm",
           share_att_key=True, pos_att_type=["p2c", "c2p"], position_biased_input=False, type_vocab_size=0, max_relative_positions=-1,
           layer_norm_eps=1e-7),
    family("eurobert", llama3, ("embed",), **DECODER),
    family("llama", llama3, ("generate", "classify", "embed"), **DECODER, tie_word_embeddings=False),
    family("mistral", llama2, ("generate", "classify", "embed"), **DECODER | dict(sliding_window=8)),
    family("ministral", llama2, ("generate",), **WINDOWED, layer_types=types("full_attention")),
    family("phi3", llama2, ("generate",), **DECODER, pad_token_id=0),
    family("gemma", gemma, ("generate",), **DECODER),
    family("gemma2", gemma, ("generate",), **WINDOWED, query_pre_attn_scalar=20),
    family("gemma3_text", gemma, ("generate", "embed"), **WINDOWED, query_pre_attn_scalar=20, layer_types=types("full_attention")),
    family("embedding_gemma2_text", gemma, ("embed",), **ENCODER | dict(num_hidden_layers=4), num_key_value_heads=2, head_dim=16,
           global_head_dim=32, num_global_key_value_heads=1, sliding_window=8, sliding_window_pattern=2, hidden_size_per_layer_input=32,
           embedding_dim=64),
    family("gemma3", gemma, ("generate",), text_config=dict(WINDOWED, model_type="gemma3_text", query_pre_attn_scalar=20,
                                                            layer_types=types("full_attention")),
           vision_config=dict(model_type="siglip_vision_model", hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                              intermediate_size=32, image_size=28, patch_size=14), mm_tokens_per_image=4),
    family("qwen2", qwen, ("generate", "classify", "embed"), **DECODER),
    family("qwen3", qwen, ("generate", "classify", "embed", "dense"), **DECODER),
    family("granite", gpt2, ("generate",), **DECODER, embedding_multiplier=2.0, residual_multiplier=0.5, attention_multiplier=0.3,
           logits_scaling=2.0),
    family("olmo2", gpt2, ("generate",), **DECODER),
    family("olmo3", gpt2, ("generate",), **WINDOWED),
    family("exaone4", gpt2, ("generate",), **WINDOWED, layer_types=types("full_attention")),
    family("granitemoehybrid", gpt2, ("generate",), **DECODER, shared_intermediate_size=96, num_local_experts=0, num_experts_per_tok=0,
           layer_types=["attention"] * 2, position_embedding_type="rope", mamba_n_heads=8, mamba_d_head=16, mamba_expand=2,
           embedding_multiplier=2.0, residual_multiplier=0.5, attention_multiplier=0.3, logits_scaling=2.0),
    family("qwen3_moe", qwen, ("generate",), **DECODER, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32,
           norm_topk_prob=True),
    family("olmoe", gpt2, ("generate",), **DECODER, num_experts=4, num_experts_per_tok=2),
    family("granitemoe", gpt2, ("generate",), **DECODER, num_local_experts=4, num_experts_per_tok=2),
    family("lfm2", llama3, ("generate",), **DECODER, layer_types=["conv", "full_attention"], conv_L_cache=3, block_multiple_of=16),
    family("ministral3", llama3, ("generate",), **DECODER),
    family("qwen3_5_text", qwen, ("generate",), **DECODER | dict(num_hidden_layers=4), linear_num_key_heads=2, linear_num_value_heads=4,
           linear_key_head_dim=16, linear_value_head_dim=16, linear_conv_kernel_dim=4),
    family("stablelm", gpt2, ("generate",), **DECODER, partial_rotary_factor=0.5),
    family("phi", gpt2, ("generate",), **DECODER, partial_rotary_factor=0.5),
    family("gpt_neox", gpt2, ("generate",), **ENCODER),
    family("gpt2", gpt2, ("generate",), n_embd=64, n_layer=2, n_head=4, n_positions=128),
    family("smollm3", llama3, ("generate",), **DECODER | dict(num_hidden_layers=4)),
]
SAVED_AS = {"embed": transformers.AutoModel, "classify": transformers.AutoModelForSequenceClassification,
            "tag": transformers.AutoModelForTokenClassification, "generate": transformers.AutoModelForCausalLM,
            "dense": transformers.AutoModel}
DECODERS_THAT_EMBED = ("llama", "mistral", "qwen2", "qwen3", "gemma3_text")


def spread(model):
    """Random weights of a size that lets every part speak: matrices keep their inputs' size, norms are near 1, biases are not 0."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            noise = torch.randn(p.shape, generator=generator)
            if p.dim() >= 2:
                embedding = "embed" in name.lower() or "wte" in name or "wpe" in name
                p.copy_(noise * (0.7 if embedding else 1 / math.sqrt(p.shape[-1])))
            elif "norm" in name.lower() and name.endswith("weight") or ".ln_" in name and name.endswith("weight"):
                p.copy_(p + 0.2 * noise)
            elif not name.endswith(("A_log", "dt_bias")):
                p.copy_(0.2 * noise)
    return model


def write(folder, name, value):
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, indent=1)


def make(row, task, folder):
    """Writes the row's model for a task, with tokenizer and, for embedders, the files of sentence-transformers."""
    tok, names = row["tokenizer"]()
    tok.add_tokens([AddedToken("<new>", special=False, normalized=False)])
    size = (tok.get_vocab_size() + 7) // 8 * 8
    nested = "text_config" in row["config"]
    sized = {"text_config": dict(row["config"]["text_config"], vocab_size=size)} if nested else {"vocab_size": size}
    config = transformers.AutoConfig.for_model(row["type"], **{**row["config"], **sized})
    text = config.text_config if nested else config
    for role in ("bos", "eos", "pad", "cls", "sep"):
        if names.get(role + "_token"):
            setattr(text, role + "_token_id", tok.token_to_id(names[role + "_token"]))
    if text.pad_token_id is None or text.pad_token_id >= size:
        text.pad_token_id = 0
    if task == "classify":
        config.id2label, config.label2id = {0: "bad", 1: "mixed", 2: "good"}, {"bad": 0, "mixed": 1, "good": 2}
    if task == "tag":
        config.id2label = {0: "O", 1: "B-A", 2: "I-A"}
    spread(SAVED_AS[task].from_config(config, attn_implementation="eager").float()).save_pretrained(folder)
    tok.save(os.path.join(folder, "tokenizer.json"))
    write(folder, "tokenizer_config.json", dict(names, backend="tokenizers", tokenizer_class="TokenizersBackend", model_max_length=96))
    write(folder, "special_tokens_map.json", {k: v for k, v in names.items() if k.endswith("_token")})
    if task in ("embed", "dense"):
        last = row["type"] in DECODERS_THAT_EMBED
        write_sentence(folder, "lasttoken" if last else "mean_tokens", row["config"].get("hidden_size", row["config"].get("dim")))
    if task == "dense":
        write_modules(folder, row["config"]["hidden_size"])
    return folder


def write_modules(folder, width):
    """Dense, LayerNorm and Dense between pooling and scaling."""
    with open(os.path.join(folder, "modules.json"), encoding="utf-8") as f:
        modules = json.load(f)
    dense = (Dense(width, 48, activation_function=torch.nn.Tanh()), LayerNorm(48),
             Dense(48, 32, bias=False, activation_function=torch.nn.Identity()))
    for i, module in enumerate(dense):
        kind = type(module).__name__
        modules.insert(2 + i, {"idx": 2 + i, "name": f"m{i}", "path": f"{2 + i}_{kind}", "type": "sentence_transformers.models." + kind})
        path = os.path.join(folder, modules[2 + i]["path"])
        os.makedirs(path)
        spread(module).save(path)
    write(folder, "modules.json", modules)


def write_sentence(folder, pooling, width):
    names = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    where = "sentence_transformers.models."
    write(folder, "modules.json", [
        {"idx": i, "name": str(i), "path": path, "type": where + kind}
        for i, (path, kind) in enumerate([("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")])])
    write(folder, "1_Pooling/config.json", {"word_embedding_dimension": width, "include_prompt": True,
                                            **{"pooling_mode_" + n: n == pooling for n in names}})
    write(folder, "sentence_bert_config.json", {"max_seq_length": 64, "do_lower_case": False})
    write(folder, "config_sentence_transformers.json", {
        "__version__": {"sentence_transformers": "5.1.0", "transformers": "4.56.0", "pytorch": "2.8.0"},
        "model_type": "SentenceTransformer",
        "prompts": {"query": "query: ", "document": "passage: "}, "default_prompt_name": None, "similarity_fn_name": "cosine"})
