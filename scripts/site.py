#!/usr/bin/env python3
"""Builds the pages of the project as a site of static HTML, with search, for light and dark: build/site/html (make site).

README.md becomes the first page, docs/ what it is; what a page links to in the tree (a header, a script) is laid beside it as a text.
Every link and anchor is checked: a broken one fails.  mkdocs comes by pip into build/site/python.  Prints "site: N passed, N failed",
where each page counts.
"""
import os
import re
import shutil
import subprocess
import sys

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
SITE = f"{TOP}/build/site"
LINK = re.compile(r"(\]\()([^)#\s:]+)((?:#[^)\s]*)?\))")
BLOCK = re.compile(r"(?ms)^```.*?^```$|`[^`\n]+`")
NAV = [
    ("Begin", ["index.md"]),
    ("For you", ["for/analyst.md", "for/developer.md", "for/dba.md", "for/engineer.md"]),
    ("Guides", None),
    ("Reference", ["reference/README.md", "reference/settings.md", "reference/internal.md"]),
    ("Project", ["ARCHITECTURE.md", "DESIGN.md", "EXTENDING.md", "CONTRIBUTING.md", "PLATFORMS.md", "CHANGELOG.md"]),
]


def place(path):
    """where a file of the tree lies in the site; None: it is not a page"""
    if path == "README.md":
        return "index.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return path if path in ("CHANGELOG.md", "CONTRIBUTING.md", "models/README.md") else None


def pages():
    found = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "models/README.md"]
    for folder, folders, names in os.walk(f"{TOP}/docs"):
        folders[:] = [f for f in folders if f not in ("site", "src")]
        found += [os.path.relpath(os.path.join(folder, n), TOP) for n in names if n.endswith((".md", ".svg", ".png"))]
    return found


def outside(target):
    """a file of the tree that is no page: as a text beside the pages"""
    name = "tree/" + target.lstrip(".").replace("/", "_") + ".txt"
    os.makedirs(f"{SITE}/pages/tree", exist_ok=True)
    if os.path.isdir(f"{TOP}/{target}"):
        with open(f"{SITE}/pages/{name}", "w", encoding="utf-8") as f:
            f.write("\n".join(sorted(os.listdir(f"{TOP}/{target}"))) + "\n")
    else:
        shutil.copyfile(f"{TOP}/{target}", f"{SITE}/pages/{name}")
    return name


def relinked(path, text):
    here = place(path)

    def link(match):
        target = os.path.normpath(os.path.join(os.path.dirname(path), match[2]))
        if not os.path.exists(f"{TOP}/{target}"):
            return match[0]  # mkdocs says it
        if os.path.isdir(f"{TOP}/{target}") and os.path.exists(f"{TOP}/{target}/README.md"):
            target += "/README.md"
        to = place(target) if os.path.isfile(f"{TOP}/{target}") else None
        if to is None:
            to = outside(target)
        return match[1] + os.path.relpath(to, os.path.dirname(here) or ".") + match[3]

    kept = []
    text = BLOCK.sub(lambda m: kept.append(m[0]) or f"\0{len(kept) - 1}\0", text)
    text = LINK.sub(link, text)
    return re.sub("\0([0-9]+)\0", lambda m: kept[int(m[1])], text)


def lay_out():
    shutil.rmtree(f"{SITE}/pages", ignore_errors=True)
    found = pages()
    for path in found:
        to = f"{SITE}/pages/{place(path)}"
        os.makedirs(os.path.dirname(to), exist_ok=True)
        if not path.endswith(".md"):
            shutil.copyfile(f"{TOP}/{path}", to)
            continue
        with open(f"{TOP}/{path}", encoding="utf-8") as f, open(to, "w", encoding="utf-8") as out:
            # a page that begins with its heading is listed by it: slm_embed, not "Slm embed"
            out.write(relinked(path, re.sub(r"\A<!--.*?-->\s*", "", f.read())))
    shutil.copyfile(f"{TOP}/docs/site/extra.css", f"{SITE}/pages/extra.css")
    return sorted(place(p) for p in found if p.endswith(".md"))


def navigation(names):
    listed = {n for _, group in NAV for n in group or []}
    rest = [n for n in names if n not in listed]
    lines = ["nav:"]
    for title, group in NAV:
        group = group or [n for n in rest if not n.startswith(("reference/", "for/"))]
        if title == "Reference":
            group = group + [n for n in rest if n.startswith("reference/")]
        lines += [f"  - {title}:"] + [f"      - {n}" for n in group if n in names]
    return "\n".join(lines) + "\n"


def mkdocs():
    program, wanted = f"{SITE}/python/bin/mkdocs", f"{TOP}/docs/site/requirements.txt"
    have = f"{SITE}/python/.have"
    with open(wanted, encoding="utf-8") as f:
        text = f.read()
    if os.path.exists(have) and open(have, encoding="utf-8").read() == text:
        return program
    subprocess.run([sys.executable, "-m", "venv", "--clear", f"{SITE}/python"], check=True)
    subprocess.run([f"{SITE}/python/bin/pip", "install", "--quiet", "--disable-pip-version-check", "-r", wanted], check=True)
    with open(have, "w", encoding="utf-8") as f:
        f.write(text)
    return program


def main():
    os.makedirs(SITE, exist_ok=True)
    try:
        program = mkdocs()
    except subprocess.CalledProcessError:
        print("skip site: mkdocs cannot be installed")
        return 0
    names = lay_out()
    with open(f"{TOP}/docs/site/mkdocs.yml", encoding="utf-8") as f:
        config = f.read().replace("../../build/site/", "")
    with open(f"{SITE}/mkdocs.yml", "w", encoding="utf-8") as f:
        f.write(config + navigation(names))
    done = subprocess.run([program, "build", "--strict", "-f", f"{SITE}/mkdocs.yml"], check=False, capture_output=True, text=True)
    said = [line for line in (done.stdout + done.stderr).splitlines() if line and not line.startswith(("INFO", "  - "))]
    print("".join(f"{line}\n" for line in said), end="")
    broken = len([line for line in said if line.startswith("WARNING")])
    broken += done.returncode != 0 and broken == 0
    print(f"site: {len(names) - broken} passed, {broken} failed")
    return broken > 0


if __name__ == "__main__":
    sys.exit(main())
