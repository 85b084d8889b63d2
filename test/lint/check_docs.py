#!/usr/bin/env python3
"""The rules of the pages (README.md, docs) that can be read from their text.

Prints one line per broken rule and place, then "docs: N passed, N failed", where each rule counts once.
"""
import os
import re
import subprocess
import sys

from check_source import check, read, tracked

PAGES = {n: read(n) for n in tracked("*.md")}


def rule_width():
    """no prose of more than 100 columns (scripts/wrap_docs.py wraps it)"""
    out = subprocess.run([sys.executable, "scripts/wrap_docs.py", "--check", *PAGES], capture_output=True, check=False, text=True)
    return (out.stdout + out.stderr).split("\n")[:-1]


def anchors(text):
    """Names of a page's headings as links call them."""
    heads = re.findall(r"(?m)^#{1,6} +(.+?) *$", re.sub(r"(?ms)^```.*?^```", "", text))
    return {re.sub(r"[^\w\- ]", "", h.replace("`", "")).strip().lower().replace(" ", "-") for h in heads}


def rule_links():
    """every link of a page to a file of the tree leads to it, and to a heading that is there"""
    for name, text in PAGES.items():
        prose = re.sub(r"(?ms)^```.*?^```|`[^`\n]*`", "", text)
        for target in re.findall(r"\]\(([^)\s]+)\)", prose):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = os.path.normpath(os.path.join(os.path.dirname(name), path)) if path else name
            if not os.path.exists(file):
                yield f"{name}: {target} is not there"
            elif anchor and file in PAGES and anchor not in anchors(PAGES[file]):
                yield f"{name}: {target}: no such heading"


def rule_design():
    """every "DESIGN Dn" of the source is a decision of docs/DESIGN.md, and nothing else of it is cited"""
    decisions = set(re.findall(r"(?m)^\*\*(D\d+)\.", PAGES["docs/DESIGN.md"]))
    for name in tracked("*.c", "*.h", "*.def", "*.inc", "*.sql", "*.py", "*.pl", "*.sh", "Makefile"):
        if name.startswith("test/lint/"):
            continue
        # a citation may be broken over two lines of a comment
        text = re.sub(r"\n *(\*|//|#|--) *", " ", read(name))
        for cited in re.findall(r"\bDESIGN((?:,? (?:and )?(?:section )?[D\d][\d.]*)+|\b)", text):
            for word in re.findall(r"section \S+|[D\d]\S*", cited.replace(",", "")):
                if word.rstrip(".") not in decisions:
                    yield f"{name}: DESIGN {word}: no such decision"


def rule_rooms():
    """docs/ARCHITECTURE.md draws the rooms of .ci/layers.txt, and says of each what it owns"""
    out = subprocess.run([sys.executable, "scripts/rooms.py", "--check"], capture_output=True, check=False, text=True)
    page = PAGES["docs/ARCHITECTURE.md"]
    rooms = [line.split()[0] for line in read(".ci/layers.txt").split("\n") if line and not line.startswith("#")]
    return (out.stdout + out.stderr).split("\n")[:-1] + [f"{r}: no row in docs/ARCHITECTURE.md" for r in rooms if f"| `{r}`" not in page]


if __name__ == "__main__":
    sys.exit(check("docs", globals()) != 0)
