#!/usr/bin/env python3
"""Prose of the Markdown files at 100 columns.

usage: wrap_docs.py [--check] [FILE ...]      default: every Markdown file of the tree

Paragraphs, list items and quotes are wrapped; code, tables, headings and HTML are left as they are.  Inside `code` a line is broken
only where the code is long.  --check changes nothing, names the lines that are too long and could be broken, and ends with status 1
where there are any.
"""
import re
import subprocess
import sys

WIDTH = 100
LONG_CODE = 60
ITEM = re.compile(r"( *)([-*+]|\d+[.)])( +)(?=\S)")


def is_prose(line):
    return bool(line.strip()) and not re.match(r"\s*(\||#{1,6} |<|```|~~~|-{3,}$|={3,}$|\[[^\]]+\]:)", line)


def words(text):
    """Pieces between which a line may be broken."""
    keep = lambda m: m.group().replace(" ", "\0") if len(m.group()) <= LONG_CODE else m.group()
    return [w.replace("\0", " ") for w in re.sub(r"`[^`]+`", keep, " ".join(text.split())).split(" ")]


def opens_something(word):
    """Would this word at the beginning of a line be read as a list, a heading, a quote or a table?"""
    return bool(re.fullmatch(r"[-*+>|=]+|#{1,6}|\d+[.)]", word)) or word.startswith(("|", ">", "<!--", "```"))


def wrap(text, first, rest):
    lines, line = [], first
    for word in words(text):
        blank = line in (first, rest)
        if not blank and len(line) + 1 + len(word) > WIDTH and not opens_something(word):
            lines.append(line)
            line, blank = rest, True
        line += word if blank else " " + word
    return lines + [line]


def blocks(text):
    """(lines, is prose) in order; a list item or a paragraph is a block."""
    current, fenced = [], None
    for line in text.split("\n"):
        fence = re.match(r"\s*(```|~~~)", line)
        prose = is_prose(line) and fenced is None and not fence
        if prose and current and not ITEM.match(line):
            current.append(line)
            continue
        if current:
            yield current, True
            current = []
        indented = re.match(r" {4}", line) and not ITEM.match(line)
        if prose and not indented:
            current = [line]
        else:
            yield [line], False
        if fence:
            fenced = None if fenced else fence.group(1)
    if current:
        yield current, True


def wrapped(text):
    out, in_comment = [], False
    for lines, prose in blocks(text):
        if not prose or in_comment:
            out += lines
        else:
            item = ITEM.match(lines[0])
            indent = re.match(r" *", lines[0]).group()
            quote = "> " if lines[0].startswith("> ") else ""
            if item:
                first, rest = item.group(), " " * len(item.group())
                lines = [lines[0][item.end():]] + lines[1:]
            else:
                first = rest = quote or indent
            if quote:
                lines = [re.sub(r"^> ?", "", line) for line in lines]
            out += wrap("\n".join(lines), first, rest)
        for line in lines:
            in_comment = ("<!--" in line or in_comment) and "-->" not in line[line.rfind("<!--") if "<!--" in line else 0:]
    return "\n".join(out)


def main():
    names = [a for a in sys.argv[1:] if not a.startswith("--")]
    if not names:
        out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "--", "*.md"], capture_output=True, check=True, text=True)
        names = sorted(set(out.stdout.split()))
    broken = 0
    for name in names:
        with open(name, encoding="utf-8") as f:
            text = f.read()
        new = wrapped(text)
        if "--check" in sys.argv[1:]:
            fine = set(new.split("\n"))
            for number, line in enumerate(text.split("\n"), 1):
                if len(line) > WIDTH and line not in fine:
                    print(f"{name}:{number}: prose of {len(line)} columns (scripts/wrap_docs.py {name} wraps it)")
                    broken += 1
        elif new != text:
            with open(name, "w", encoding="utf-8") as f:
                f.write(new)
    return broken != 0


if __name__ == "__main__":
    sys.exit(main())
