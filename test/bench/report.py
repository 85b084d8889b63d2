#!/usr/bin/env python3
"""Prints the CSV files of a benchmark run as tables and writes them into docs/SPEED.md.

usage: report.py FOLDER PAGE.md COMMAND [SECTION]

The text between the two marks of the section (default "latest run") in PAGE.md is replaced; everything else there is written by people.
Sections "shapes", "long_texts" and "engine" are the files of that name alone, which take long and are in no default run; "latest run" is
all others.
"""
import csv
import datetime
import glob
import os
import re
import sys


# sections of their own
ALONE = {"shapes": "shapes", "long_texts": "long_texts", "engine": "engine", "engine_1b": "engine", "engine_beside": "engine"}


def cpu():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            text = f.read()
    except OSError:
        return "unknown CPU"
    name = re.search(r"model name\s*:\s*(.*)", text)
    family = re.search(r"cpu family\s*:\s*(\d+)", text)
    flags = set((re.search(r"flags\s*:\s*(.*)", text) or [None, ""])[1].split())
    isa = "AVX-512 VNNI" if "avx512_vnni" in flags else "AVX2" if "avx2" in flags else "baseline"
    return f"{name[1] if name else 'unknown CPU'} (family {family[1] if family else '?'}), {os.cpu_count()} CPUs, {isa}"


def table(rows):
    """Lines of a Markdown table with columns of equal width; numbers to the right."""
    rows = [[c.strip() for c in r] for r in rows if any(c.strip() for c in r)]
    n = max(map(len, rows))
    rows = [r + [""] * (n - len(r)) for r in rows]
    widths = [max(len(r[i]) for r in rows) for i in range(n)]
    numeric = [all(re.fullmatch(r"-?[\d.]*", r[i]) for r in rows[1:]) for i in range(n)]
    fit = lambda r: "| " + " | ".join(c.rjust(w) if d else c.ljust(w) for c, w, d in zip(r, widths, numeric)) + " |"
    rule = "|" + "|".join("-" * (w + 1) + (":" if d else "-") for w, d in zip(widths, numeric)) + "|"
    return [fit(rows[0]), rule] + [fit(r) for r in rows[1:]]


def kernels(rows):
    """The long list of bench_kernels as one line a type and shape: GMAC/s by batch, the share of the peak, GB/s of a vector."""
    head, lines = rows[0], {}
    batches = sorted({int(r[4]) for r in rows[1:]})
    for r in (dict(zip(head, r)) for r in rows[1:]):
        line = lines.setdefault((r["isa"], r["type"], f"{r['rows']} x {r['cols']}"), {})
        if r["gmacs"]:
            line[r["batch"]] = f"{float(r['gmacs']):.0f}"
            line["peak"] = r["percent_of_peak"]
        if r["gb_per_s"]:
            line["gb"] = r["gb_per_s"]
    out = [["isa", "type", "rows x cols", *(f"batch {b}" for b in batches), f"% of peak at {batches[-1]}", "GB/s at 1"]]
    return out + [[*key, *(v.get(str(b), "") for b in batches), v.get("peak", ""), v.get("gb", "")] for key, v in lines.items()]


def peaks(name):
    """What a program says about the machine: its lines with peaks, the best of those that were measured more than once."""
    best = {}
    if os.path.exists(name):
        with open(name, encoding="utf-8") as f:
            for line in f:
                m = re.match(r"(\d+ threads?): int8 peak (\d+) GMAC/s, memory ([\d.]+) GB/s", line)
                if m:
                    int8, memory = best.get(m[1], (0, 0.0))
                    best[m[1]] = max(int8, int(m[2])), max(memory, float(m[3]))
                elif "peaks" in line:
                    return [line.strip(), ""]
    return ["; ".join(f"{k}: int8 peak {v[0]} GMAC/s, memory {v[1]} GB/s" for k, v in best.items()), ""] if best else []


def main(folder, page, command, section="latest run"):
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    lines = [f"{datetime.date.today()}, {cpu()}, `{command}`", ""]
    for name in sorted(glob.glob(os.path.join(folder, "*.csv"))):
        if ALONE.get(os.path.basename(name)[:-4], "latest run") != section:
            continue
        with open(name, newline="", encoding="utf-8") as f:
            rows = list(csv.reader(f))
        lines += peaks(name[:-4] + ".txt")
        if len(rows) > 1:
            rows = kernels(rows) if "percent_of_peak" in rows[0] else rows
            lines += [f"**{os.path.basename(name)[:-4].replace('_', ' ')}**", "", *table(rows), ""]
    if len(lines) == 2:
        print("no results in " + folder, file=sys.stderr)
        return 1
    print("\n".join(lines))
    with open(page, encoding="utf-8") as f:
        text = f.read()
    before, after = text.split(begin)[0], text.split(end)[1]
    with open(page + ".new", "w", encoding="utf-8") as f:
        f.write(before + begin + "\n" + "\n".join(lines).rstrip() + "\n" + end + after)
    os.replace(page + ".new", page)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:5]))
