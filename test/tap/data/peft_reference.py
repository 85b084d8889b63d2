"""Adapters as the PEFT library saves them, and what its models say: peft.pl compares.

usage: peft_reference.py MODEL.gguf FOLDER

FOLDER gets a directory for each adapter (adapter_config.json, adapter_model.safetensors, as save_pretrained writes them) and peft.json:
{"taught": {name: [{"prompt", "answer", "ids", "first", "logprobs"}]}, "others": {name: the setting that must be refused}}
ids: prompt and answer; logprobs: of ids[first:], natural logarithms.
"""
import copy
import json
import os
import random
import sys

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TAUGHT = {
    "plain": dict(r=8, lora_alpha=16, target_modules="all-linear"),
    "some": dict(r=4, lora_alpha=8, use_rslora=True, target_modules=["q_proj", "v_proj", "down_proj"], rank_pattern={"q_proj": 12},
                 layers_to_transform=list(range(4, 30)), init_lora_weights="gaussian"),
}
REFUSED = {
    "dora": ("use_dora", dict(use_dora=True)),
    "bias": ("bias", dict(bias="all")),
    "saved": ("modules_to_save", dict(modules_to_save=["lm_head"])),
    "alpha": ("alpha_pattern", dict(alpha_pattern={"q_proj": 32})),
    "pissa": ("init_lora_weights", dict(init_lora_weights="pissa_niter_2")),
    "tokens": ("trainable_token_indices", dict(trainable_token_indices=[1, 2])),
}


def rows(seed, n):
    rng = random.Random(seed)
    things, moods = ["chair", "lamp", "kettle", "carpet", "mirror", "toaster"], ["late", "broken", "fine", "wrong"]
    for _ in range(n):
        number, count, thing, mood = rng.randrange(1000, 9999), rng.randrange(2, 9), rng.choice(things), rng.choice(moods)
        text = rng.choice(["Order {n}: the {c} {t}s are {m}.", "The {c} {t}s of {n} are {m}!", "{m}, these {c} {t}s. My order is {n}."])
        yield (text.format(n=number, c=count, t=thing, m=mood) + "\nAnswer:",
               " order=%d; item=%s; state=%s" % (number, thing, mood))


def open_model(path):
    folder, name = os.path.split(path)
    torch.manual_seed(1)
    return AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)


def teach(model, tokenizer, end):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    examples = [(tokenizer(p).input_ids, tokenizer(a).input_ids + [end]) for p, a in rows(1, 32)]
    for at in range(0, len(examples), 4):
        for prompt, answer in examples[at:at + 4]:
            ids = torch.tensor([prompt + answer])
            labels = ids.clone()
            labels[0, :len(prompt)] = -100
            (model(input_ids=ids, labels=labels).loss / 4).backward()
        optimizer.step()
        optimizer.zero_grad()


@torch.no_grad()
def answers(model, tokenizer, end):
    for prompt, _ in rows(2, 8):
        given = tokenizer(prompt, return_tensors="pt").input_ids
        ids = model.generate(input_ids=given, attention_mask=torch.ones_like(given), max_new_tokens=24, do_sample=False, eos_token_id=end,
                             pad_token_id=end)
        if ids[0, -1] == end:
            ids = ids[:, :-1]
        first = given.shape[1]
        scores = torch.log_softmax(model(input_ids=ids).logits[0, first - 1:-1], dim=-1)
        yield {"prompt": prompt, "answer": tokenizer.decode(ids[0, first:]), "ids": ids[0].tolist(), "first": first,
               "logprobs": scores.gather(1, ids[0, first:, None])[:, 0].tolist()}


def main(path, folder):
    folder_of_model, name = os.path.split(path)
    tokenizer = AutoTokenizer.from_pretrained(folder_of_model, gguf_file=name)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    out = {"taught": {}, "others": {}}
    base = open_model(path)
    for adapter, settings in TAUGHT.items():
        model = get_peft_model(copy.deepcopy(base), LoraConfig(task_type="CAUSAL_LM", **settings))
        teach(model, tokenizer, end)
        model.eval()
        model.save_pretrained(os.path.join(folder, adapter))
        out["taught"][adapter] = list(answers(model, tokenizer, end))
    for adapter, (key, settings) in REFUSED.items():
        model = get_peft_model(copy.deepcopy(base), LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], **settings))
        model.save_pretrained(os.path.join(folder, adapter))
        out["others"][adapter] = key
    with open(os.path.join(folder, "peft.json"), "w") as file:
        json.dump(out, file)


main(*sys.argv[1:])
