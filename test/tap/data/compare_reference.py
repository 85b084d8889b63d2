#!/usr/bin/env python3
"""Candidates as scikit-learn and SciPy measure them, beside what slm_compare says (test/tap/data/compare.pl).

usage: compare_reference.py ANSWERS.csv MEASURED.csv [TRAINING.csv TEXTS.csv]

ANSWERS   a row a text: label, then a column of answers for each candidate
MEASURED  what slm_compare gave: candidate, accuracy, macro_f1, p_value (empty for the best), within_noise
TRAINING  label and the embedding ({...}) of rows to learn from; TEXTS the same of the texts: a classifier of scikit-learn's own
Prints each figure that differs by more than 1e-9, and "same" where none does; the order of the candidates too.
"""
import csv
import sys
import warnings

import numpy
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import accuracy_score, f1_score


warnings.simplefilter('ignore')  # of versions to come


def read(path):
    with open(path, newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def vectors(rows):
    return numpy.array([[float(x) for x in row['e'].strip('{}').split(',')] for row in rows])


answers, measured = read(sys.argv[1]), read(sys.argv[2])
truth = [row['label'] for row in answers]
figures = {}
for name in answers[0]:
    if name == 'label':
        continue
    given = [row[name] for row in answers]
    labels = sorted(set(truth) | set(given))
    figures[name] = (accuracy_score(truth, given), f1_score(truth, given, labels=labels, average='macro', zero_division=0))
best = measured[0]['candidate']
wrong = 0
for row in measured:
    name = row['candidate']
    accuracy, macro = figures[name]
    only = sum(a[best] == t and a[name] != t for a, t in zip(answers, truth))
    other = sum(a[best] != t and a[name] == t for a, t in zip(answers, truth))
    p = binomtest(only, only + other).pvalue if only + other > 0 else 1.0
    pairs = [('accuracy', accuracy), ('macro_f1', macro)] + ([('p_value', p)] if name != best else [])
    for figure, value in pairs:
        if not abs(float(row[figure]) - value) < 1e-9:
            wrong += 1
            print(f'{name}: {figure} is {value}, not {row[figure]}')
    print(f'# {name}: accuracy {accuracy:.4f}, macro F1 {macro:.4f}, p {p:.3g}')
order = [row['candidate'] for row in measured]
if [figures[name][0] for name in order] != sorted((figures[name][0] for name in order), reverse=True):
    wrong += 1
    print('not in the order of their accuracy:', ', '.join(order))
if len(sys.argv) > 4:
    training, texts = read(sys.argv[3]), read(sys.argv[4])
    own = LogisticRegressionCV(Cs=[1, 10, 100], cv=5, max_iter=300)
    own.fit(vectors(training), [row['label'] for row in training])
    print(f"# scikit-learn's own classifier on these embeddings: {own.score(vectors(texts), [row['label'] for row in texts]):.4f}")
print('same' if wrong == 0 else f'{wrong} differ')
