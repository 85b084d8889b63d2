#!/usr/bin/env python3
"""Mutates the files of a tiny model of every family key by key, and looks whether it is read as transformers reads it, or refused.

    run.py [--probe build/tools/probe_model] [--out FILE.jsonl] [--only WORD,...] [--cases TEXT] [FAMILY/TASK ...]

Tasks are those of tiny.FAMILIES, and "tokenizer", which looks at the ids alone.  A case is one of
    equal      the same answers as the reference, other than those of the files before
    same       the same answers as before, from both
    refused    by name, whatever the reference does
    file       as tokenizer.json says, which a class of the reference builds anew
    lenient    the reference refuses, here it is as if nothing were said
    DIFFERENT  other answers than the reference's, or answers where it has none: what must not be
The last line is "mutations: N passed, N failed".
"""
import argparse
import collections
import copy
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import safetensors
import sentence_transformers
import transformers

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import mutate  # noqa: E402
import reference  # noqa: E402
import tiny  # noqa: E402

SENTENCE = ("modules.json", "1_Pooling/config.json", "sentence_bert_config.json", "config_sentence_transformers.json")
CLASSES = {"wordpiece": ["BertTokenizer", "BertTokenizerFast"], "mpnet": ["MPNetTokenizer", "MPNetTokenizerFast"],
           "roberta": ["RobertaTokenizer", "RobertaTokenizerFast"], "gpt2": ["GPT2Tokenizer", "GPT2TokenizerFast", "GPTNeoXTokenizerFast"],
           "qwen": ["Qwen2Tokenizer", "Qwen2TokenizerFast"], "llama2": ["LlamaTokenizer", "LlamaTokenizerFast"],
           "gemma": ["GemmaTokenizer", "GemmaTokenizerFast"], "xlmr": ["XLMRobertaTokenizer", "XLMRobertaTokenizerFast"],
           "albert": ["AlbertTokenizer", "AlbertTokenizerFast", "DebertaV2Tokenizer", "DebertaV2TokenizerFast"],
           "llama3": ["TokenizersBackend", "LlamaTokenizerFast"], "modernbert": ["TokenizersBackend"]}
FRAMES = {"wordpiece": ("[CLS]", "[SEP]"), "mpnet": ("<s>", "</s>"), "roberta": ("<s>", "</s>"), "xlmr": ("<s>", "</s>"),
          "gpt2": ("<|endoftext|>",) * 2, "qwen": ("<|im_start|>", "<|im_end|>"), "llama2": ("<s>", "</s>"), "gemma": ("<bos>", "<eos>"),
          "llama3": ("<|begin_of_text|>", "<|eot_id|>"), "albert": ("[CLS]", "[SEP]"), "modernbert": ("[CLS]", "[SEP]")}

# Families whose weights, templates and quantization are changed too, in these tasks.
WEIGHTS = (("bert", "embed"), ("bert", "classify"), ("qwen3", "embed"), ("llama", "generate"), ("gpt2", "generate"))
TEMPLATES = ("llama", "qwen3")

CONTROLS = 5  # ids of control tokens, which may end an answer by their names


class Probe:
    def __init__(self, path):
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, folder, task):
        request = {"dir": folder, "texts": tiny.TEXTS, "pairs": tiny.PAIRS if task in ("classify", "tokenizer") else [],
                   "sequences": reference.SEQUENCES if task == "generate" else []}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline() or '{"refused": "the probe died", "status": "died"}')
        if task == "embed" and "refused" not in answer:
            answer["outputs"] = self.vectors(folder, [answer["document_prompt"] + t for t in tiny.TEXTS])
            answer["query_outputs"] = self.vectors(folder, [answer["query_prompt"] + t for t in reference.QUERIES])
        failed = [o for k in ("ids", "outputs", "pair_outputs", "query_outputs") for o in answer.get(k, []) if isinstance(o, dict)]
        return failed[0] if failed else answer

    def vectors(self, folder, texts):
        self.process.stdin.write(json.dumps({"dir": folder, "texts": texts}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())["outputs"]


def unit(vector):
    v = np.asarray(vector, dtype=np.float64).ravel()
    return v / max(np.linalg.norm(v), 1e-30)


def same_vectors(ours, theirs, loose):
    """What two lists of vectors differ in, or None."""
    for i, (a, b) in enumerate(zip(ours, theirs)):
        a, b = np.asarray(a, dtype=object), np.asarray(b, dtype=object)
        if a.size != b.size:
            return f"text {i}: {a.size} values, not {b.size}"
        cosine = float(unit(a.astype(float)) @ unit(b.astype(float)))
        if not cosine >= 1 - loose:
            return f"text {i}: cosine {cosine:.5f}"
    return None if len(ours) == len(theirs) else "other number of texts"


def same_numbers(ours, theirs, loose, before=None):
    """Logits: their mean distance beside their spread; beside that from those of the files before, where that is larger."""
    for i, (a, b) in enumerate(zip(ours, theirs)):
        a, b = np.asarray(a, dtype=np.float64).ravel(), np.asarray(b, dtype=np.float64).ravel()
        if a.size != b.size:
            return f"input {i}: {a.size} values, not {b.size}"
        spread = max(b.std() if b.size > 3 else np.abs(b).mean(), 1e-6) if b.size else 1.0
        off, moved = float(np.abs(a - b).mean() / spread) if b.size else 0.0, 0.0
        if before and i < len(before) and np.size(before[i]) == b.size:
            moved = float(np.abs(np.ravel(before[i]) - b).mean() / spread)
        if not off <= max(loose, 0.15 * moved):
            return f"input {i}: {off:.4f} of the spread away; the change is one of {moved:.4f}"
    return None if len(ours) == len(theirs) else "other number of inputs"


def same_ids(ours, theirs, loose=False):
    """loose: those that the reference has cut are not compared: here the session does it, for what encoders read."""
    for i, (a, b) in enumerate(zip(ours, theirs)):
        if a != b and not cut_equal(a, b) and not (loose and len(b) < len(a)):
            return f"ids of text {i}: {str(a)[:60]}, not {str(b)[:60]}"
    return None


def cut_equal(a, b):
    """The reference cuts at a length that the session has here: everything before the cut is the same, and what stands behind."""
    return len(b) < len(a) and a[:len(b) - 1] == b[:-1] and len(b) >= 8


def without_end(theirs):
    """A prompt that is to be answered does not say that it ends, whatever the post-processor puts there."""
    eos = theirs.get("tokenizer_eos")
    return [ids[:-1] if ids and ids[-1] == eos else ids for ids in theirs["ids"]]


def compare(task, ours, theirs, before=None):
    """None, or the first difference; before: the reference's answers to the files before."""
    before = before or {}
    if task == "tokenizer":
        if ours["can"] == "generate":
            return same_ids(ours["ids"], without_end(theirs), loose=True)
        return same_ids(ours["ids"], theirs["ids"]) or same_ids(ours["pair_ids"], theirs["pair_ids"], loose=True)
    if task == "embed":
        if ours["can"] != "embed":
            return f"it can {ours['can']}"
        return same_vectors(ours["outputs"], theirs["outputs"], 2e-4) or same_vectors(ours["query_outputs"], theirs["query_outputs"], 2e-4)
    if task == "generate":
        if ours["can"] != "generate":
            return f"it can {ours['can']}"
        lacking = set(theirs["ends"]) - set(ours["ends"]) - {i for i in theirs["ends"] if i is None or i < 0 or i >= 600}
        more = {i for i in ours["ends"] if i > CONTROLS} - set(theirs["ends"]) - {theirs["tokenizer_eos"]}
        if lacking or more:
            return f"ends {ours['ends']}, not {theirs['ends']}"
        theirs_cut = [t[:len(o)] for o, t in zip(ours["logits"], theirs["logits"])]
        if theirs["greedy"] is not None:
            return f"the reference continues with {theirs['greedy']}, not with the likeliest tokens"
        if ours["chat"] != theirs["chat"]:
            return f"chat format {ours['chat']}, not {theirs['chat']}"
        difference = same_numbers(ours["logits"], theirs_cut, 0.01, before.get("logits"))
        return difference or same_ids(ours["ids"], without_end(theirs), loose=True)
    if task == "tag":
        rows = [t[1:-1] for t in theirs["outputs"]]
        return same_numbers([np.ravel(o) for o in ours["outputs"]], [np.ravel(r) for r in rows], 0.01)
    if ours["can"] == "rerank":
        return same_numbers(ours["pair_outputs"], theirs["pair_outputs"], 0.01)
    if ours["labels"] != theirs["labels"] or ours["head_kind"] != theirs["head_kind"]:
        return f"labels {ours['labels']} ({ours['head_kind']}), not {theirs['labels']} ({theirs['head_kind']})"
    return same_numbers(ours["outputs"], theirs["outputs"], 0.01) or same_numbers(ours["pair_outputs"], theirs["pair_outputs"], 0.01)


def as_before(now, before):
    """Are these our own answers to the files before?"""
    if now["ids"] != before["ids"] or now["can"] != before["can"]:
        return False
    # What only gives vectors or labels never ends an answer.
    if now["can"] == "generate" and (now["ends"], now["chat"]) != (before["ends"], before["chat"]):
        return False
    answers = ("outputs", "pair_outputs", "query_outputs", "logits")
    return all(same_numbers(now.get(k, []), before.get(k, []), 1e-3) is None for k in answers)


def judge(task, ours, theirs, base_ours, base_theirs):
    """(verdict, detail)."""
    if "refused" in ours:
        missing = ours["status"] == "io" and "No such file" in ours["refused"]  # a file that another one names, by its name
        named = missing or ours["status"] in ("unsupported", "format", "limit", "invalid")
        return "refused" if named else "DIFFERENT", f"{ours['status']}: {ours['refused']}"
    if "refused" in theirs:
        whole = re.search(r"with value \d+ doesn't match any type in \(<class 'float'>", theirs["refused"])  # a number here as any
        return ("lenient" if whole or as_before(ours, base_ours) else "DIFFERENT"), "reference: " + theirs["refused"]
    numbers = [x for k in ("outputs", "logits") for x in theirs.get(k, []) for x in np.ravel(np.asarray(x, dtype=object)).tolist()[:4]]
    if any(isinstance(x, float) and x != x for x in numbers):
        return "lenient", "the reference gives no numbers"
    difference = compare(task, ours, theirs, base_theirs)
    if difference and "file" in theirs and compare(task, ours, theirs["file"]) is None:
        return "file", difference
    if difference:
        return "DIFFERENT", difference
    changed = compare(task, base_ours, dict(theirs)) is not None
    return ("equal" if changed else "same"), ""


def known_keys(folder):
    """What the configuration class knows, with its defaults."""
    config = transformers.AutoConfig.from_pretrained(folder)
    fresh = type(config)()
    names = set(fresh.to_dict()) | set(getattr(config, "attribute_map", {}))
    return {k: fresh.to_dict().get(k) for k in sorted(names) if k not in ("transformers_version", "rope_parameters")}


def parsed(folder):
    """The directory's JSON files by their names."""
    files = {}
    for where, _, names in os.walk(folder):
        for name in (n for n in names if n.endswith(".json")):
            with open(os.path.join(where, name), encoding="utf-8") as f:
                files[os.path.relpath(os.path.join(where, name), folder)] = json.load(f)
    return files


def cases_of(folder, row, task):
    """(file, name, change) of a directory."""
    files = parsed(folder)
    if task == "dense":
        yield from mutate.of_dense(files)
        return
    if task == "tokenizer":
        kind = row["tokenizer"].__name__
        ids = {t["content"]: t["id"] for t in files["tokenizer.json"]["added_tokens"]}
        a, b = ((t, ids[t]) for t in FRAMES[kind])
        yield from mutate.of_tokenizer(files["tokenizer.json"], a, b)
        yield from mutate.of_tokenizer_config(files["tokenizer_config.json"], CLASSES[kind])
        yield from mutate.of_specials(files["special_tokens_map.json"])
        yield from mutate.of_decoders(ids)
        yield from mutate.of_files(n for n in files if "token" in n)
        return
    if "text_config" in files["config.json"]:
        inside = files["config.json"]["text_config"]
        yield from mutate.of_text_part(mutate.of_config(inside, {}))
        yield from mutate.of_dictionary("config.json", files["config.json"], [k for k in files["config.json"] if k not in (
            "text_config", "vision_config", "architectures")])
        yield from mutate.of_quantization()
        yield from mutate.of_quantization(("text_config",))
        return
    head = task in ("classify", "tag") or (task == "embed" and "generate" in row["tasks"] and row["type"] != "gemma3_text")
    yield from (mutate.of_head if head else mutate.of_config)(files["config.json"], known_keys(folder))
    if task == "embed" and row["type"] in ("bert", "qwen3"):
        yield from mutate.of_sentence(files)
        yield from mutate.of_files(SENTENCE)
        for key, value in (("model_max_length", 16), ("model_max_length", 1e30), ("max_len", 16)):
            yield "tokenizer_config.json", f"{key} = {value}", mutate.put(key, value)
    if task == "generate":
        yield from mutate.of_generation(files.get("generation_config.json", {}))
        yield from mutate.of_files(n for n in files if n == "generation_config.json")
        with safetensors.safe_open(os.path.join(folder, "model.safetensors"), "pt") as weights:
            names = weights.keys()
        yield from mutate.of_ties("embed_out.weight" if row["type"] == "gpt_neox" else "lm_head.weight",
                                  next(n for n in names if n.endswith(("embed_tokens.weight", ".wte.weight", ".embed_in.weight"))))
        if row["type"] in TEMPLATES:
            yield from mutate.of_templates()
    if (row["type"], task) in WEIGHTS:
        yield from mutate.of_weights()
        yield from mutate.of_quantization()


def changed(folder, file, change):
    """(the directory with the change, what undoes it)."""
    if isinstance(change, mutate.InFolder):
        copied = folder + "_changed"
        shutil.copytree(folder, copied)
        change.change(copied)
        return copied, lambda: shutil.rmtree(copied)
    return folder, mutated(folder, file, change)


def mutated(folder, file, change):
    """Writes the file with the change; what undoes it."""
    path = os.path.join(folder, file)
    made = not os.path.isdir(os.path.dirname(path))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    before = open(path, encoding="utf-8").read() if os.path.exists(path) else None
    data = copy.deepcopy(json.loads(before)) if before is not None else {}
    there = True
    try:
        change(data)
    except mutate.Replaced as e:
        data = e.args[0]
    except mutate.Removed:
        there = False
        os.unlink(path)
    if there:
        with open(path, "w", encoding="utf-8") as f:
            json.dump(data, f, ensure_ascii=False)

    def undo():
        if there:
            os.unlink(path)
        if before is not None:
            with open(path, "w", encoding="utf-8") as out:
                out.write(before)
        if made:
            os.rmdir(os.path.dirname(path))
    return undo


def run_one(probe, row, task, options, sink):
    root = tempfile.mkdtemp(prefix="slm_mutations_")
    counts = collections.Counter()
    try:
        made = "generate" if task == "tokenizer" and "generate" in row["tasks"] else "embed" if task == "tokenizer" else task
        folder = tiny.make(row, made, os.path.join(root, "model"))
        asked, task = task, "embed" if task == "dense" else task
        base_ours, base_theirs = probe.ask(folder, task), reference.describe(folder, task)
        verdict, detail = judge(task, base_ours, base_theirs, base_ours, base_theirs)
        seen = [("-", "as it is", verdict if verdict == "same" else "DIFFERENT", detail)]
        if verdict == "same":
            for file, name, change in cases_of(folder, row, asked):
                if options.cases and not re.search(options.cases, f"{file}: {name}"):
                    continue
                where, undo = changed(folder, file, change)
                ours = probe.ask(where, task)
                theirs = {} if "refused" in ours else reference.describe(where, task, file)
                seen.append((file, name, *judge(task, ours, theirs, base_ours, base_theirs)))
                undo()
        for file, name, verdict, detail in seen:
            counts[verdict] += 1
            sink.write(json.dumps({"family": row["type"], "task": asked, "tokenizer": row["tokenizer"].__name__,
                                   "file": file, "case": name, "verdict": verdict, "detail": detail},
                                  ensure_ascii=False) + "\n")
            if verdict == "DIFFERENT":
                print(f"{row['type']}/{asked}: {file}: {name}: {detail}", flush=True)
    finally:
        shutil.rmtree(root)
    print(f"{row['type']}/{asked}: " + ", ".join(f"{n} {v}" for v, n in sorted(counts.items())), flush=True)
    return counts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--probe", default="build/tools/probe_model")
    parser.add_argument("--out", default=os.devnull)
    parser.add_argument("--cases", help="a regular expression: which")
    parser.add_argument("which", nargs="*", help="FAMILY/TASK, FAMILY or /TASK")
    options = parser.parse_args()
    probe, total, seen = Probe(options.probe), collections.Counter(), set()
    with open(options.out, "w", encoding="utf-8", buffering=1) as sink:
        sink.write(json.dumps({"transformers": transformers.__version__, "sentence": sentence_transformers.__version__}) + "\n")
        for row in tiny.FAMILIES:
            tokenizer = row["tokenizer"].__name__
            again = (tokenizer, "generate" in row["tasks"]) in seen
            seen.add((tokenizer, "generate" in row["tasks"]))
            for task in (*row["tasks"], "tokenizer"):
                name = f"{row['type']}/{task}"
                if task == "tokenizer" and again and name not in options.which:
                    continue  # another family's: asked for by its name alone
                if not options.which or any(w in (name, row["type"], "/" + task) for w in options.which):
                    total += run_one(probe, row, task, options, sink)
    failed = total.pop("DIFFERENT", 0)
    print(", ".join(f"{n} {v}" for v, n in sorted(total.items())))
    print(f"mutations: {sum(total.values())} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
