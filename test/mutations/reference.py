"""What transformers and sentence-transformers make of a directory: the same answers as probe_model gives, or why they give none."""
import contextlib
import io
import logging
import os
import warnings

import numpy as np
import torch
import transformers
from sentence_transformers import SentenceTransformer

from tiny import PAIRS, SAVED_AS, TEXTS

torch.set_num_threads(1)
torch.set_grad_enabled(False)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
logging.disable(logging.ERROR)
warnings.filterwarnings("ignore")

SEQUENCES = [[(7 * i * i + 3 * i) % 290 + 5 for i in range(40)], [(11 * i + 9) % 290 + 5 for i in range(9)]]
QUERIES = TEXTS[:2]


def ids_of(tokenizer, inputs):
    """As the model gets them: control tokens around, cut at the tokenizer's length."""
    return [tokenizer(*([x] if isinstance(x, str) else x), truncation=True)["input_ids"] for x in inputs]


def load(folder, task):
    """The model, strictly: weights that the files lack are no model."""
    model, info = SAVED_AS[task].from_pretrained(folder, output_loading_info=True, attn_implementation="eager", dtype=torch.float32)
    missing = [k for k in info["missing_keys"] if "position_ids" not in k and "pooler" not in k]
    if missing or info["mismatched_keys"]:
        raise ValueError(f"weights that the files do not have: {(missing + list(info['mismatched_keys']))[:3]}")
    return model.eval()


def prompt_of(model, names):
    """The first prompt of these names that says something, else the default one, as encode takes it."""
    named = [model.prompts[n] for n in names if model.prompts.get(n)]
    return named[0] if named else model.prompts.get(model.default_prompt_name) or ""


def sentence(folder, weights_may_lack):
    if weights_may_lack:
        load(folder, "embed")
    model = SentenceTransformer(folder, device="cpu", model_kwargs={"attn_implementation": "eager", "dtype": torch.float32})

    def run(texts, names):
        return model.encode(texts, prompt=prompt_of(model, names), batch_size=1, show_progress_bar=False).tolist()
    return {"outputs": run(TEXTS, ("document", "passage", "corpus", "search_document")),
            "query_outputs": run(QUERIES, ("query", "search_query", "s2p_query"))}


def head(folder, task):
    model, tokenizer = load(folder, task), transformers.AutoTokenizer.from_pretrained(folder)
    out = {"labels": [model.config.id2label[i] for i in range(model.config.num_labels)], "ids": ids_of(tokenizer, TEXTS)}

    def run(inputs):
        logits = []
        for x in inputs:
            encoded = tokenizer(*([x] if isinstance(x, str) else x), truncation=True, return_tensors="pt")
            keep = {k: v for k, v in encoded.items() if k in ("input_ids", "attention_mask", "token_type_ids")}
            logits.append(model(**keep).logits[0].tolist())
        return logits
    out["outputs"] = run(TEXTS)
    if task == "classify":
        out["pair_outputs"] = run(PAIRS)
        out["head_kind"] = {"multi_label_classification": 1, "regression": 2}.get(model.config.problem_type,
                                                                                  2 if model.config.num_labels == 1 else 0)
    return out


def chat_of(tokenizer):
    """The name that the format has here: of the two that mutate.py writes."""
    template = tokenizer.chat_template
    template = template.get("default") if isinstance(template, dict) else template
    return "raw" if not template else "chatml" if "<|im_start|>" in template else "llama3"


STEPS = 5


def greedy(model):
    """What generate() says where whoever asks wants the likeliest tokens; None where that is what their logits say."""
    start = torch.tensor([SEQUENCES[1]])
    said = model.generate(start, attention_mask=torch.ones_like(start), max_new_tokens=STEPS, do_sample=False, num_beams=1,
                          repetition_penalty=1.0)[0].tolist()
    ends = model.generation_config.eos_token_id
    ids = list(SEQUENCES[1])
    while len(ids) < len(SEQUENCES[1]) + STEPS and (len(ids) == len(SEQUENCES[1]) or ids[-1] not in np.atleast_1d(ends)):
        ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return None if said == ids else said


def decoder(folder):
    model, tokenizer = load(folder, "generate"), transformers.AutoTokenizer.from_pretrained(folder)
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    return {"ids": ids_of(tokenizer, TEXTS), "ends": ends, "tokenizer_eos": tokenizer.eos_token_id, "chat": chat_of(tokenizer),
            "greedy": greedy(model), "logits": [model(input_ids=torch.tensor([s])).logits[0].tolist() for s in SEQUENCES]}


def tokenizer_alone(folder, _task=None):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    out = {"ids": ids_of(tokenizer, TEXTS), "pair_ids": ids_of(tokenizer, PAIRS), "tokenizer_eos": tokenizer.eos_token_id}
    if type(tokenizer).__name__ != "TokenizersBackend":  # one that may build a tokenizer of its own
        plain = transformers.PreTrainedTokenizerFast(tokenizer_file=os.path.join(folder, "tokenizer.json"),
                                                     model_max_length=tokenizer.model_max_length)
        out["file"] = dict(out, ids=ids_of(plain, TEXTS), pair_ids=ids_of(plain, PAIRS))
    return out


def describe(folder, task, file="config.json"):
    """{"refused": why} or the answers; file: what was changed."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            if task == "tokenizer":
                return tokenizer_alone(folder)
            if task == "embed":
                return sentence(folder, file == "config.json")
            return decoder(folder) if task == "generate" else head(folder, task)
        except KeyboardInterrupt:
            raise
        except BaseException as e:  # whatever the libraries raise is a refusal, a panic of tokenizers too
            return {"refused": f"{type(e).__name__}: {str(e)[:200]}"}
