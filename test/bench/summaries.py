#!/usr/bin/env python3
"""Summaries against references: the text's own sentences, what a model writes, the first sentence.

usage: summaries.py       on a server with slm_pg and the models smollm2 and minilm; PGHOST and so on say where

Reads test/data/summaries/summaries.jsonl (texts and summaries of our own) and prints for each method the mean F of ROUGE-L (the longest
common subsequence of words, Lin 2004) and the mean cosine of MiniLM's embeddings with the reference.
"""
import json
import os
import re
import subprocess

FILE = os.path.join(os.path.dirname(__file__), "../data/summaries/summaries.jsonl")
METHODS = [("first sentences within the bound", "pg_temp.first(body)"),
           ("extract, by MiniLM", "slm_summarize(body, 30, method => 'extract', model => 'minilm')"),
           ("extract, by words", "slm_summarize(body, 30, method => 'extract')"),
           ("abstract, by SmolLM2", "slm_summarize(body, 30, method => 'abstract', model => 'smollm2')")]
FIRST = r"""CREATE FUNCTION pg_temp.first(body text) RETURNS text LANGUAGE sql AS $$
SELECT string_agg(s, ' ' ORDER BY n) FROM (SELECT s, n, sum(cardinality(regexp_split_to_array(s, '\s+'))) OVER (ORDER BY n) AS words
FROM regexp_split_to_table(body, '(?<=[.]) ') WITH ORDINALITY t(s, n)) x WHERE words <= 30 $$;"""


def quote(s):
    return "'" + s.replace("'", "''") + "'"


def words(s):
    return re.findall(r"\w+", s.lower())


def rouge_l(a, b):
    a, b = words(a), words(b)
    row = [0] * (len(b) + 1)
    for x in a:
        last = row[:]
        for j, y in enumerate(b):
            row[j + 1] = last[j] + 1 if x == y else max(last[j + 1], row[j])
    return 2 * row[-1] / (len(a) + len(b)) if a and b else 0.0


def main():
    rows = [json.loads(line) for line in open(FILE, encoding="utf-8")]
    sql = ["SET slm.embed_model = ''; SET slm.generate_model = '';", FIRST, "CREATE TEMP TABLE d (i int, body text, reference text);"]
    sql += [f"INSERT INTO d VALUES ({i}, {quote(r['text'])}, {quote(r['summary'])});" for i, r in enumerate(rows)]
    for m, (_, call) in enumerate(METHODS):
        sql.append(f"SELECT json_build_object('m', {m}, 'i', i, 's', s, 'cos', slm_similarity(s, reference, model => 'minilm')) "
                   f"FROM (SELECT i, reference, {call} AS s FROM d OFFSET 0) x;")
    psql = ["psql", "-qAtX", "-v", "ON_ERROR_STOP=1"]
    out = subprocess.run(psql, input="\n".join(sql), capture_output=True, text=True, check=True).stdout
    answers = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    print("method,rouge_l,cosine,words")
    for m, (name, _) in enumerate(METHODS):
        mine = [a for a in answers if a["m"] == m]
        print(f"\"{name}\",{sum(rouge_l(a['s'], rows[a['i']]['summary']) for a in mine) / len(mine):.3f},"
              f"{sum(a['cos'] for a in mine) / len(mine):.3f},{sum(len(words(a['s'])) for a in mine) / len(mine):.1f}")


if __name__ == "__main__":
    main()
