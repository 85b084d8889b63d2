#!/usr/bin/env python3
"""Draws the rooms of src/ and what each may include, as .ci/layers.txt says, into docs/ARCHITECTURE.md between its marks.

usage: rooms.py [--check]      --check changes nothing and ends with status 1 where the page is not so
"""
import re
import sys

PAGE, BEGIN, END = "docs/ARCHITECTURE.md", "<!-- rooms: begin (scripts/rooms.py) -->", "<!-- rooms: end -->"


def rooms():
    """{room: rooms that it may include}, in the order of the list"""
    with open(".ci/layers.txt", encoding="utf-8") as f:
        lines = [line.split() for line in f if line.strip() and not line.startswith("#")]
    return {line[0]: [w for w in line[1:] if w != "-"] for line in lines}


def floors(allowed):
    """Rooms by the longest way down from them: none of a floor includes another of it."""
    depth = {}
    for room, below in allowed.items():
        depth[room] = 1 + max((depth[b] for b in below), default=-1)
    return [[r for r in allowed if depth[r] == d] for d in range(max(depth.values()), -1, -1)]


def short(room):
    return room.replace("src/", "", 1)


def stack(allowed, half):
    """One half as lines: a row of boxes for each floor, the lowest last."""
    lines = []
    for floor in floors(allowed):
        names = [short(r) for r in floor if short(r).split("/")[0] == half]
        if names:
            lines.append("  ".join("┌" + "─" * (len(n) + 2) + "┐" for n in names))
            lines.append("  ".join(f"│ {n} │" for n in names))
            lines.append("  ".join("└" + "─" * (len(n) + 2) + "┘" for n in names))
    return lines


def drawing():
    allowed = rooms()
    left, right = stack(allowed, "engine"), stack(allowed, "pg")
    edge = max(map(len, left)) + 6
    left = [""] * (len(right) - len(left)) + left
    right = [""] * (len(left) - len(right)) + right
    lines = [f"{a:<{edge}}{b}".rstrip() for a, b in zip(left, right)]
    width = max(len(short(r)) for r in allowed)
    letters = "abcdefghijklmnopqrstuvwxyz"[:len(allowed)]
    lines += ["", " " * (width + 4) + " ".join(letters)]
    order = list(allowed)
    for letter, room in zip(letters, order):
        marks = ["■" if other in allowed[room] else "\\" if other == room else "·" for other in order[:order.index(room) + 1]]
        lines.append(f"{letter} {short(room):<{width}}  {' '.join(marks)}")
    return "\n".join(["```", *lines, "```"])


def main():
    with open(PAGE, encoding="utf-8") as f:
        text = f.read()
    new = re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda m: f"{BEGIN}\n{drawing()}\n{END}", text, flags=re.S)
    if new == text:
        return 0
    if "--check" in sys.argv[1:]:
        print(f"{PAGE}: the drawing is not that of .ci/layers.txt (scripts/rooms.py draws it)")
        return 1
    with open(PAGE, "w", encoding="utf-8") as f:
        f.write(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
