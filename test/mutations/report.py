#!/usr/bin/env python3
"""Writes docs/MODEL_KEYS.md from what run.py has found: which keys of a model's files are honoured, which must be as they are.

    report.py RESULTS.jsonl ... [--check]     --check: says whether the page is what it would write, and writes nothing

Of several results of a case the last one counts, in the order of the files.
"""
import argparse
import collections
import json
import os
import re
import sys
import textwrap

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "MODEL_KEYS.md")
HEAD = """# What is read of a model's files

Which keys and settings of a Hugging Face directory are honoured, and which make `slm_load_model`
refuse it by their name. What is listed gives the ids, vectors and logits
that transformers {transformers} and sentence-transformers {sentence} give, or an ERROR.

The lists are written by a program, `test/mutations`: it makes a tiny random model of every family
with transformers, changes its files key by key (left out, null, of another type, other values, the
names of older and newer versions, keys of other families), loads each with both, and compares. {cases}
cases: {verdicts}. `SLM_TEST_PYTHON` names a Python with these libraries for
`test/tap/data/mutations.pl`, which tries a part of them, with `SLM_TEST_LONG=1` all.
{compared}

How to read: **honoured**, other values change the answers as in the reference (`a`, `b` in brackets:
values that are refused all the same); **as it is**, any value that would change something is refused;
**no effect**, there and here. Keys that are in no list are refused where they are not known.

Four things are otherwise than there, by intention: control tokens that are written in a text are never
parsed; vectors always have length 1; how an answer is drawn (temperature, top_p, repetition_penalty and
their kin) is said by whoever asks; and a text's prompt is the first of `document`, `passage`,
`corpus` and `search_document` (a question's: `query`, `search_query`, `s2p_query`) that is not empty,
or else the default one. Where a class of transformers builds a tokenizer anew instead of reading
tokenizer.json, the file is what counts here, but for the settings of BERT's kin; other classes'
settings in tokenizer_config.json that say something else than the file are refused.

Directories without tokenizer.json are not in the lists: `test/golden/test_vocab_files.c` compares 123
of them, and MODELS.md says which files and settings count there.
"""
FILES = ("config.json", "model.safetensors", "model.safetensors.index.json", "adapter_config.json", "modules.json",
         "1_Pooling/config.json", "2_Normalize/config.json", "2_Dense/config.json", "2_Dense/model.safetensors", "3_LayerNorm/config.json",
         "4_Dense/config.json", "sentence_bert_config.json", "sentence_roberta_config.json", "sentence_xlm-roberta_config.json",
         "sentence_mystery_config.json", "config_sentence_transformers.json", "tokenizer.json", "tokenizer_config.json",
         "special_tokens_map.json", "chat_template", "generation_config.json")
OF_ALL = {"generation_config.json": "of decoders", "chat_template": "of decoders", "model.safetensors": "of every model",
          "model.safetensors.index.json": "of every model", "adapter_config.json": "of every model"}


def key_of(case):
    """The key or setting that a case is about, and the value where it names one."""
    added = re.sub(r"^(\S+) added = ", r"\1 = ", case)
    m = re.match(r"^((?:added |post_processor: |merges: )?[^=]*?)(?: = (.*)| removed| as (\S+)|$)", added)
    return m.group(1).strip(), m.group(2)


def lists(cases):
    """(honoured, fixed, without effect) of [(key, value, verdict)]."""
    by_key = collections.OrderedDict()
    for key, value, verdict in cases:
        by_key.setdefault(key, []).append((value, verdict))
    honoured, fixed, silent = [], [], []
    for key, seen in by_key.items():
        verdicts = {v for _, v in seen}
        refused = sorted({v for v, verdict in seen if verdict == "refused" and v and len(v) < 30})
        if "equal" in verdicts:
            honoured.append(f"`{key}`" + (" (" + ", ".join(f"`{v}`" for v in refused) + ")" if refused else ""))
        else:
            (fixed if "refused" in verdicts else silent).append(f"`{key}`")
    return honoured, fixed, silent


def paragraph(name, items):
    text = f"**{name}**: " + ", ".join(items) + "."
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False) + "\n" if items else ""


def section(title, cases):
    honoured, fixed, silent = lists(cases)
    parts = [paragraph("Honoured", honoured), paragraph("As it is", fixed), paragraph("No effect", silent)]
    return f"### {title}\n\n" + "\n".join(p for p in parts if p)


NAMES = {"embed": "as embedding models", "dense": "with Dense and LayerNorm behind the pooling",
         "classify": "with a head for texts", "tag": "with a head for tokens", "generate": "as decoders"}


def rows_of_tiny():
    """[(family, kind of tokenizer, tasks)] as tiny.py has them, which is not imported: it needs the libraries."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "tiny.py"), encoding="utf-8") as f:
        text = f.read()
    heads = re.search(r"^HEADS = (.*)$", text, re.M).group(1)
    found = re.findall(r'^    family\("([^"]+)", (\w+), (HEADS|\([^)]*\))', text, re.M)
    return [(name, kind, re.findall(r"\w+", heads if tasks == "HEADS" else tasks)) for name, kind, tasks in found]


def compared(rows):
    """Which families, in which tasks, and which tokenizers were gone through, and which were left out."""
    seen = {(r["family"], r["task"]) for r in rows}
    kinds = {r["tokenizer"] for r in rows if r["task"] == "tokenizer"}
    known = rows_of_tiny()
    parts, left = [], []
    for task, name in NAMES.items():
        families = [f for f, _, tasks in known if task in tasks]
        done, not_done = ([f"`{f}`" for f in families if ((f, task) in seen) == yes] for yes in (True, False))
        parts += [f"{name}: {', '.join(done)}"] if done else []
        left += [f"{name}: {', '.join(not_done)}"] if not_done else []
    tokenizers = list(dict.fromkeys(kind for _, kind, _ in known))
    parts.append("tokenizers of the kinds " + ", ".join(f"`{k}`" for k in tokenizers if k in kinds))
    left += [f"tokenizers of the kinds {', '.join(f'`{k}`' for k in tokenizers if k not in kinds)}"] if set(tokenizers) - kinds else []
    text = "Gone through were " + "; ".join(parts) + "."
    if left:
        text += (" Left out, for want of time, were " + "; ".join(left) +
                 ". They have the same tables of keys (`src/engine/import/hf/keys.c`), and what is not in those is refused.")
    otherwise = [f"`{r['family']}`, `{r['file']}`: `{r['case']}`" for r in rows if r["verdict"] == "DIFFERENT"]
    text += (" Read otherwise than the reference reads them are still, and a mistake here: " + "; ".join(otherwise) + "."
             if otherwise else " No case is left that is read otherwise than the reference reads it.")
    return text + (" Families that the program cannot make, "
                   "since the library has no class for them or theirs needs code from the model's directory, have tests with values "
                   "of their own (`test/golden`) and no list.")


def merged(rows):
    """Of a case that several files have, the last."""
    return list({(r["family"], r["task"], r["file"], r["case"]): r for r in rows}.values())


def page(rows, versions):
    counts = collections.Counter(r["verdict"] for r in rows)
    words = {"equal": "changed answers, the same as the reference's", "same": "no change in either", "refused": "refused",
             "file": "as tokenizer.json says", "lenient": "refused there, without effect here"}
    verdicts = ", ".join(f"{counts[k]:,} {words[k]}" for k in words)
    out = [textwrap.dedent(HEAD).format(cases=f"{len(rows):,}", verdicts=verdicts, compared=compared(rows), **versions)]
    grouped = collections.OrderedDict()
    for r in rows:
        if r["file"] in FILES and r["verdict"] != "DIFFERENT":
            kind = r["family"] if r["file"] == "config.json" else r["tokenizer"] if r["task"] == "tokenizer" else ""
            grouped.setdefault((r["file"], kind), []).append((*key_of(r["case"]), r["verdict"]))
    for file in FILES:
        kinds = sorted(k for f, k in grouped if f == file)
        if kinds:
            out.append(f"\n## {file}\n")
        for kind in kinds:
            out.append(section(kind or OF_ALL.get(file, "of embedding models"), grouped[file, kind]))
    return "\n".join(out)


def wrapped(text):
    """Paragraphs of the head at 100 characters, as all pages."""
    head, rest = text.split("\n## ", 1)
    paragraphs = [p if p.startswith("#") else textwrap.fill(" ".join(p.split()), 100, break_long_words=False, break_on_hyphens=False)
                  for p in head.split("\n\n")]
    return "\n\n".join(paragraphs).rstrip() + "\n\n## " + re.sub(r"\n{3,}", "\n\n", rest).rstrip() + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("results", nargs="+")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    rows, versions = [], {}
    for name in options.results:
        with open(name, encoding="utf-8") as f:
            for line in f:
                row = json.loads(line)
                rows.append(row) if "verdict" in row else versions.update(row)
    rows = merged(rows)
    bad = [r for r in rows if r["verdict"] == "DIFFERENT"]
    for r in bad:
        print(f"different: {r['family']}/{r['task']}: {r['file']}: {r['case']}: {r['detail']}")
    text = wrapped(page(rows, versions))
    if options.check:
        with open(PAGE, encoding="utf-8") as f:
            same = f.read() == text
        print("the page is current" if same else "docs/MODEL_KEYS.md is not what test/mutations/report.py would write")
        return not same
    with open(PAGE, "w", encoding="utf-8") as f:
        f.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
