#!/usr/bin/env python3
"""Random schemas, random texts of their grammars (grammar_walk), and an independent validator (Python jsonschema) that must agree.

usage: grammar_random.py [SCHEMAS [TEXTS [SEED [GRAMMAR_WALK]]]]     default: 2000 4 1 build/tools/grammar_walk

Every text that a walk finds must be valid.  Schemas may be refused, but only in a known way: with a name, or as a contradiction; of the
latter no example value may be valid.  Prints "grammar_random: N passed, M failed".
"""
import json
import random
import re
import subprocess
import sys

from jsonschema import Draft202012Validator

KEYS = ["a", "b", "ab", "c", "x-1", "é", 'q"']
PATTERNS = ["^a", "b$", "^[a-c]+$", "^x-[0-9]", "[0-9]{2}", "^(?!a)[a-z]*$", "^[^b]{1,3}$", "a|^b$", "[0-9][a-z_]*$"]
# those that the validator knows without further packages, and reads as the RFCs do
FORMATS = ["date", "ipv4", "ipv6", "uuid"]
VALUES = [None, True, False, 0, 1, -1, 2, 1.5, 10, "", "a", "ab", "é", 'q"\\', "x-12", [], [1], ["a", 1], {}, {"a": 1},
          {"a": "a", "b": [1]}]


def scalar(r):
    kind = r.randrange(6)
    if kind == 0:
        return {"enum": r.sample(VALUES[:15], r.randint(1, 4))}
    if kind == 1:
        return {"type": r.choice(["null", "boolean", "string", "integer", "number"])}
    if kind == 2:
        low = r.randint(-20, 20)
        s = {"type": r.choice(["integer", "number"]), r.choice(["minimum", "exclusiveMinimum"]): low}
        if r.random() < .6:
            s[r.choice(["maximum", "exclusiveMaximum"])] = low + r.choice([1, 2, 7, 100, 0.25])
        if r.random() < .3:
            s["multipleOf"] = r.choice([1, 2, 3, 7, 0.5, 0.25])  # exact in binary, as the validator computes
        return s
    if kind == 3:
        s = {"type": "string", "minLength": r.randint(0, 3)}
        if r.random() < .7:
            s["maxLength"] = s["minLength"] + r.randint(0, 6)
        if r.random() < .5:
            s["pattern"] = r.choice(PATTERNS)
        return s
    if kind == 4:
        return {"type": "string", "format": r.choice(FORMATS)} if r.random() < .5 else {"type": "string", "pattern": r.choice(PATTERNS)}
    return {"const": r.choice(VALUES)}


def schema(r, depth):
    if depth == 0 or r.random() < .25:
        return scalar(r) if r.random() < .9 else r.choice([True, {}])
    kind = r.randrange(8)
    sub = lambda: schema(r, depth - 1)
    if kind <= 2:
        keys = r.sample(KEYS, r.randint(0, 4))
        s = {"type": "object", "properties": {k: sub() for k in keys}}
        if keys and r.random() < .7:
            s["required"] = r.sample(keys, r.randint(1, len(keys)))
        if r.random() < .6:
            s["additionalProperties"] = r.choice([False, False, sub()])
        if r.random() < .3:
            s["patternProperties"] = {r.choice(PATTERNS): sub() for _ in range(r.randint(1, 2))}
        if r.random() < .2:
            s["minProperties"] = r.randint(1, 3)
        if r.random() < .2:
            s["maxProperties"] = r.randint(1, 4)
        if r.random() < .15:
            s["propertyNames"] = {"pattern": r.choice(PATTERNS)}
        if r.random() < .15:
            s["dependentRequired"] = {r.choice(KEYS): [r.choice(KEYS)]}
        return s
    if kind == 3:
        s = {"type": "array", "items": sub()}
        if r.random() < .4:
            s["prefixItems"] = [sub() for _ in range(r.randint(1, 2))]
        if r.random() < .4:
            s["minItems"] = r.randint(1, 3)
        if r.random() < .4:
            s["maxItems"] = s.get("minItems", 0) + r.randint(0, 2)
        if r.random() < .2:
            s["uniqueItems"] = True
        elif r.random() < .15:
            s["contains"] = sub()
        return s
    if kind == 4:
        return {r.choice(["anyOf", "oneOf", "allOf"]): [sub() for _ in range(r.randint(1, 3))]}
    if kind == 5:
        return {**scalar(r), "not": scalar(r)}
    if kind == 6:
        return {"if": sub(), "then": sub(), "else": sub()}
    return {"type": "object", "properties": {"a": True, "b": True}, r.choice(["anyOf", "oneOf"]):
            [{"properties": {"a": scalar(r)}, "required": ["a"]}, {"required": r.sample(["a", "b", "c"], 2)}, {"not": {"required": ["b"]}}]}


def main():
    n, texts, seed = (int(sys.argv[i]) if len(sys.argv) > i else d for i, d in ((1, 2000), (2, 4), (3, 1)))
    walk = sys.argv[4] if len(sys.argv) > 4 else "build/tools/grammar_walk"
    r = random.Random(seed)
    schemas = [{"schema": schema(r, 3)} for _ in range(n)]
    out = subprocess.run([walk, str(texts), str(seed)], input="\n".join(json.dumps(s) for s in schemas) + "\n", text=True,
                         capture_output=True, check=False)
    if out.returncode != 0:
        print(out.stderr[-2000:], file=sys.stderr)
    passed, failed, refused, lines = 0, int(out.returncode != 0), 0, out.stdout.split("\n")[:-1]
    for line in lines:
        row = json.loads(line)
        s = schemas[row["line"]]["schema"]
        valid = Draft202012Validator(s, format_checker=Draft202012Validator.FORMAT_CHECKER)
        bad = [v for v in row.get("texts", []) if not re.search(r"\d{15}|\d[eE]", json.dumps(v)) and not valid.is_valid(v)]  # doubles round
        why = row.get("refused", "")
        refused += why != ""
        if "contradicts" in why:
            bad = [v for v in VALUES if valid.is_valid(v)]
        elif why and "cannot be honoured" not in why and "takes more" not in why and "ways" not in why:
            bad = [why]
        for v in bad[:1]:
            print("FAILED:", json.dumps(s), why, json.dumps(v), file=sys.stderr)
        failed += bool(bad)
        passed += not bad
    failed += n - len(lines)
    print(f"grammar_random: {passed} passed, {failed} failed ({refused} schemas refused)")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
