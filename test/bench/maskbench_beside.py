#!/usr/bin/env python3
"""LLGuidance on the schemas of maskbench, measured as maskbench measures: one thread, CPU time of this process.

usage: maskbench_beside.py VOCABULARY.gguf [--every N] [--from K] < maskbench.jsonl

A schema passes when every valid instance (compact JSON, keys as given) is accepted token by token and may end, and every invalid one is
refused.  Prints one row of the table that maskbench prints for `all`, and the times of masks and of compiling with the first mask.
Needs the Python packages llguidance, transformers, tokenizers and gguf, which are no part of the project.
"""

import json
import sys
import time

import gguf
import llguidance
import llguidance.hf
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

# how Llama 3 cuts a text before its pairs are merged
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def option(name, default):
    return int(sys.argv[sys.argv.index(name) + 1]) if name in sys.argv else default


def read_tokenizer(path):
    """A byte-level BPE of a GGUF file, whole tokens of the vocabulary before merges, as Llama 3 reads texts."""
    fields = gguf.GGUFReader(path).fields
    tokens, kinds, merges = (
        [bytes(field.parts[i]).decode() if field.types[-1] == gguf.GGUFValueType.STRING else int(field.parts[i][0]) for i in field.data]
        for field in (fields[f"tokenizer.ggml.{name}"] for name in ("tokens", "token_type", "merges"))
    )
    bpe = models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=[tuple(m.split(" ")) for m in merges], ignore_merges=True)
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(WORDS), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [t for t, kind in zip(tokens, kinds) if kind == gguf.TokenType.CONTROL]
    tokenizer.add_special_tokens(special)
    return llguidance.hf.from_tokenizer(
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>")
    )


def compile_schema(tokenizer, schema):
    """The matcher at its beginning and how long it took with a first mask, or None."""
    begin = time.process_time_ns()
    try:
        matcher = llguidance.LLMatcher(tokenizer, llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema)))
        if matcher.get_error():
            return None, 0
        matcher.deep_copy().compute_bitmask()
    except Exception:
        return None, 0
    return matcher, (time.process_time_ns() - begin) / 1e3


def accepts(matcher, tokens, masks):
    for token in tokens:
        begin = time.process_time_ns()
        matcher.compute_bitmask()
        masks.append((time.process_time_ns() - begin) / 1e3)
        if not matcher.consume_token(token):
            return False
    return matcher.is_accepting()


def times(what, values):
    values.sort()
    n = len(values)
    at = {f"p{100 * share:g}": values[min(n - 1, int(n * share))] for share in (0.5, 0.9, 0.99, 0.999)}
    print(f"{what} us: avg {sum(values) / n:.1f} " + " ".join(f"{k} {v:.1f}" for k, v in at.items()) + f" max {values[-1]:.0f} ({n})")


def main():
    tokenizer = read_tokenizer(sys.argv[1])
    every, first = option("--every", 1), option("--from", 0)
    masks, compiled = [], []
    count = {"schemas": 0, "passed": 0, "refused": 0, "invalid accepted": 0, "valid refused": 0}
    for i, line in enumerate(sys.stdin):
        if i % every != first % every:
            continue
        row = json.loads(line)
        count["schemas"] += 1
        matcher, took = compile_schema(tokenizer, row["schema"])
        if matcher is None:
            count["refused"] += 1
            continue
        compiled.append(took)
        invalid = refused = 0
        for test in row["tests"]:
            text = json.dumps(test["data"], separators=(",", ":"), ensure_ascii=False)
            good = accepts(matcher.deep_copy(), tokenizer.tokenize_str(text), masks)
            invalid += good and not test["valid"]
            refused += test["valid"] and not good
        count["passed"] += invalid == 0 and refused == 0
        count["invalid accepted"] += invalid > 0
        count["valid refused"] += refused > 0
    share = 100 * count["passed"] / max(1, count["schemas"])
    print(f"LLGuidance {llguidance.__version__ if hasattr(llguidance, '__version__') else ''}".strip())
    print(f"| all | {count['schemas']} | {count['passed']} | {share:.1f} | {count['refused']} | {count['invalid accepted']} | "
          f"{count['valid refused']} |")
    times("mask", masks)
    times("compile and first mask", compiled)


if __name__ == "__main__":
    main()
