#!/usr/bin/env bash
# Runs demo/tour.sql and puts what psql shows between the two "tour" marks of README.md, so that its output is real.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
show=$(mktemp)
trap 'rm -f "$show"' EXIT
{ printf '%s\n' '\set ON_ERROR_STOP on' '\pset footer off' '\set QUIET on' '\set ECHO queries'; cat demo/tour.sql; } >"$show"
chmod a+r "$show"
out=$(demo/run.sh "$show" 2>&1 | sed -n '/^CREATE EXTENSION/,$p') || { printf '%s\n' "$out"; exit 1; }
python3 - "$out" <<'PY'
import re
import sys
begin, end = "<!-- tour: begin -->", "<!-- tour: end -->"
with open("README.md", encoding="utf-8") as f:
    text = f.read()
out = "\n".join(line.rstrip() for line in re.sub(r"\n{3,}", "\n\n", sys.argv[1]).split("\n"))
out = re.sub(r"/\S*/(SmolLM2[\w.-]*|all-MiniLM-L6-v2)", r"/models/\1", out)
with open("README.md", "w", encoding="utf-8") as f:
    f.write(text.split(begin)[0] + begin + "\n```sql\n" + out.strip() + "\n```\n" + end + text.split(end)[1])
PY
