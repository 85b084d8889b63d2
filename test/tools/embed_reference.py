#!/usr/bin/env python3
"""What sentence-transformers makes of 200 texts, for test/tap/data/encoders.pl.

usage: embed_reference.py FOLDER

FOLDER/NAME is a model's directory; FOLDER/NAME.jsonl is written: one object a line with "text" and "vector" (float32, of length 1).  The
texts are 160 messages of Banking77 (../banking77_test.csv from FOLDER) and 40 that are odd: other scripts, blanks, marks, digits, long.
Needs sentence-transformers and torch.
"""
import csv
import json
import os
import sys

from sentence_transformers import SentenceTransformer

ODD = [
    "", " ", "a", "A B C", "hello\nworld\ttabs", "  blanks around  ", "CAFÉ Ñandú Žluťoučký kůň",
    "naïve façade coöperate", "e\u0301 combining", "Straße in Köln, 12.345,67 €",
    "Приветствую вас, уважаемые клиенты", "こんにちは世界。請求書が二回届きました", "我的卡还没有到", "مرحبا بالعالم", "नमस्ते दुनिया",
    "สวัสดีชาวโลก", "👍🏽 great!! 🎉🎉", "https://example.com/a/b?c=d&e=f#g", "order #4711-AB_99 (x2)",
    "1234567890 0.00001 1e-7", "don't can't won't I'd've", "ALL CAPS SHOUTING TEXT",
    "snake_case camelCase kebab-case", "«quotes» “curly” ‘single’", "…—–-−", "\u200bzero\u200bwidth",
    "\ufeffmark at the front", "tab\tseparated\tvalues", "C++ C# F# .NET", "x" * 120, "word " * 100,
    "word " * 400, "supercalifragilisticexpialidocious", "SELECT * FROM t WHERE a <> 'b';",
    "<p>html &amp; entities</p>", "{\"json\": [1, 2, 3]}", "a.b.c.d.e.f", "½ ² ³ №", "ﬁ ligature ﬂ",
    "𝒎𝒂𝒕𝒉 𝔣𝔯𝔞𝔨𝔱𝔲𝔯",
]


def main(folder):
    with open(os.path.join(folder, "..", "banking77_test.csv"), encoding="utf-8", newline="") as f:
        rows = [r[0] for r in csv.reader(f)][1:]
    texts = [rows[i * len(rows) // 160] for i in range(160)] + ODD
    assert len(texts) == 200
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if not os.path.isdir(path):
            continue
        model = SentenceTransformer(path, device="cpu")
        vectors = model.encode(texts, batch_size=1, normalize_embeddings=True, convert_to_numpy=True, prompt="")
        with open(path + ".jsonl", "w", encoding="utf-8") as f:
            for text, vector in zip(texts, vectors):
                f.write(json.dumps({"text": text, "vector": [round(float(x), 7) for x in vector]}) + "\n")
        print(name, vectors.shape)


if __name__ == "__main__":
    main(sys.argv[1])
