#!/usr/bin/env python3
"""Random schemas, random texts of their grammars (grammar_walk), and an independent validator (Python jsonschema) that must agree.

usage: grammar_random.py [SCHEMAS [TEXTS [SEED [GRAMMAR_WALK]]]]     default: 2000 4 1 build/tools/grammar_walk

Every text that a walk finds must be valid.  Schemas may be refused, but only in a known way: with a name, or as a contradiction; of the
latter no example value may be valid.  Prints "grammar_random: N passed, M failed".
"""
import json
import os
import random
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tap", "data"))

from random_schemas import VALUES, is_valid, schema  # noqa: E402

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
        bad = [v for v in row.get("texts", []) if not is_valid(s, v)]
        why = row.get("refused", "")
        refused += why != ""
        if "contradicts" in why:
            bad = [v for v in VALUES if is_valid(s, v)]
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
