#!/usr/bin/env python3
"""Encoders of published shapes with random weights, for bench_encoders: speed does not depend on what the weights are.

usage: encoder_shapes.py FOLDER VOCAB.txt

Makes FOLDER/e5-small (BERT, 12 layers of 384), FOLDER/reranker (BERT, 6 layers of 384, one output for a pair) and FOLDER/distilbert-3
(DistilBERT, 6 layers of 768, three labels) as transformers saves them.  VOCAB.txt is a WordPiece vocabulary in lower case, that of
all-MiniLM-L6-v2 for example.  Needs transformers and torch.
"""
import json
import os
import sys

import torch
import transformers as t


def save(folder, name, model, tokenizer):
    path = os.path.join(folder, name)
    model.eval().save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def pooled(path):
    """The files by which sentence-transformers knows that rows are averaged and scaled."""
    files = {
        "modules.json": [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
                         {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
                         {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}],
        "sentence_bert_config.json": {"max_seq_length": 512, "do_lower_case": False},
        "1_Pooling/config.json": {"word_embedding_dimension": 384, "pooling_mode_mean_tokens": True},
    }
    os.makedirs(os.path.join(path, "1_Pooling"), exist_ok=True)
    for name, value in files.items():
        with open(os.path.join(path, name), "w", encoding="utf-8") as f:
            json.dump(value, f)


def main(folder, vocab):
    torch.manual_seed(1)
    with open(vocab, encoding="utf-8") as f:
        n_vocab = len(f.readlines())
    narrow = {"vocab_size": n_vocab, "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536}
    bert = t.BertTokenizer(vocab, do_lower_case=True, model_max_length=512)
    pooled(save(folder, "e5-small", t.BertModel(t.BertConfig(num_hidden_layers=12, **narrow)), bert))
    save(folder, "reranker", t.BertForSequenceClassification(t.BertConfig(num_hidden_layers=6, num_labels=1, **narrow)), bert)
    labels = {0: "negative", 1: "neutral", 2: "positive"}
    wide = t.DistilBertConfig(vocab_size=n_vocab, id2label=labels, label2id={v: k for k, v in labels.items()})
    save(folder, "distilbert-3", t.DistilBertForSequenceClassification(wide),
         t.DistilBertTokenizer(vocab, do_lower_case=True, model_max_length=512))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
