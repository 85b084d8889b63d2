#!/usr/bin/env python3
"""Random JSON schemas, and an independent validator of what was written under them (Python jsonschema).

usage: random_schemas.py make N SEED     prints N schemas, one a line, each with "type" or whatever else says what a value is
       random_schemas.py check < ROWS    rows {"schema": ..., "value": ...}, one a line: prints those that are not valid, then how many are
"""
import json
import random
import re
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


def is_valid(s, value):
    """Numbers that a double rounds are not judged: the validator computes with doubles."""
    return bool(re.search(r"\d{15}|\d[eE]", json.dumps(value, ensure_ascii=False))) or \
        Draft202012Validator(s, format_checker=Draft202012Validator.FORMAT_CHECKER).is_valid(value)


def main():
    if sys.argv[1:2] == ["make"]:
        r = random.Random(int(sys.argv[3]))
        for _ in range(int(sys.argv[2])):
            print(json.dumps(schema(r, 3)))
        return
    rows = [json.loads(line) for line in sys.stdin]
    for row in rows:
        if not is_valid(row["schema"], row["value"]):
            print("NOT VALID:", json.dumps(row))
    print(len(rows))


if __name__ == "__main__":
    main()
