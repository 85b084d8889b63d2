#!/usr/bin/env python3
"""Runs the SQL of the pages and writes what psql shows under it, so that what a page shows is what happens.

usage: record_docs.py [--check] [PAGE ...]      default: every page with such a block

    <!-- recorded -->          the code block that follows is run; what stands under its statements is replaced
    <!-- run                   statements that are run and not shown; an error in them is one of the page
    -->
    <!-- database: new -->     the page begins in a database without the extension

A page is one session in a database of its own, called shop, in which scripts/record_docs.sql has been run, models included unless the
page says otherwise.  In a block, output ends with an empty line.  Paths /models/... stand for the folder of the test models.  A server
is reached as psql reaches one; `make docs` starts one.  --check changes nothing and says what is not as a page shows it; the last line
is "docs: N passed, N failed".
"""
import difflib
import os
import re
import subprocess
import sys

CACHE = os.environ.get("SLM_MODEL_CACHE") or os.path.expanduser("~/.cache/slm_pg")
MARK = "@@slm-recorded@@"
STATEMENT = re.compile(r"(\\|-- |(ALTER|ANALYZE|BEGIN|CALL|CHECKPOINT|CLOSE|COMMENT|COMMIT|COPY|CREATE|DEALLOCATE|DECLARE|DELETE|"
                       r"DISCARD|DO|DROP|EXECUTE|EXPLAIN|FETCH|GRANT|IMPORT|INSERT|LISTEN|LOCK|MERGE|MOVE|NOTIFY|PREPARE|REFRESH|"
                       r"REINDEX|RELEASE|RESET|REVOKE|ROLLBACK|SAVEPOINT|SELECT|SET|SHOW|TABLE|TRUNCATE|UPDATE|VACUUM|VALUES|WITH)\b)")
QUOTED = re.compile(r"'(?:[^']|'')*('|$)|\"[^\"]*(\"|$)|\$(\w*)\$.*?(\$\3\$|$)|--[^\n]*|/\*.*?(\*/|$)", re.S)


def psql(database, script, stop=False):
    """What psql shows, errors in their places."""
    command = ["psql", "-X", "-q", "-d", database, "-v", f"ON_ERROR_STOP={'on' if stop else 'off'}"]
    return subprocess.run(command, input=script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def is_complete(statement):
    """Does this text end a statement?"""
    if statement.startswith("\\"):
        return True
    open_end = [m for m in QUOTED.finditer(statement) if m.end() == len(statement)]
    if open_end and not re.search(r"('|\"|\$|\*/)$", open_end[-1].group()) and not open_end[-1].group().startswith("--"):
        return False
    bare = QUOTED.sub(lambda m: "q" if not m.group().startswith(("--", "/*")) else "", statement)
    return bool(re.search(r";\s*$", bare)) or bool(re.search(r"\\g(set|x|exec|desc)?\b[^\n]*$", bare))


def statements(block):
    """[(statement, is there an empty line before it)]; the output under them is dropped."""
    found, current, in_output, gap = [], [], False, False
    for line in block.split("\n"):
        if not line.strip() and not current:
            in_output, gap = False, True
        elif current or (not in_output and STATEMENT.match(line)):
            current.append(line)
            text = "\n".join(current)
            if is_complete(text) or (line.startswith("-- ") and len(current) == 1):
                found.append((text, gap))
                current, gap = [], False
        else:
            in_output = True
    if current:
        raise ValueError("a statement without an end: " + "\n".join(current))
    return found


def show_difference(page, server):
    print("\n".join(difflib.unified_diff(page.split("\n"), server.split("\n"), "the page", "the server", lineterm="", n=2)))


class Page:
    def __init__(self, name, text):
        self.name, self.text = name, text
        self.parts = []  # (statements or None, begin, end): what to run, and where its block stands
        pattern = r"<!-- recorded -->\n+```\w*\n(.*?)\n```|<!-- run\n(.*?)\n-->"
        for m in re.finditer(pattern, self.text, re.S):
            if m.group(1) is not None:
                self.parts.append((statements(m.group(1)), m.start(1), m.end(1)))
            else:
                self.parts.append((m.group(2), None, None))

    @staticmethod
    def read(name):
        with open(name, encoding="utf-8") as f:
            return Page(name, f.read())

    def script(self):
        lines = ["\\pset footer off", "\\set SHOW_CONTEXT never"]
        for what, begin, _ in self.parts:
            if begin is None:
                lines += [f"\\echo {MARK}", what.replace("/models/", CACHE + "/")]
            else:
                for text, _ in what:
                    lines += [f"\\echo {MARK}", text.replace("'/models/", f"'{CACHE}/")]
        return "\n".join(lines + [f"\\echo {MARK}", ""])

    def recorded(self, output):
        """The page with this output, and what went wrong in statements that are not shown."""
        pieces = iter(re.split(rf"(?m)^{MARK}\n", output)[1:])
        text, last, broken = "", 0, []
        for what, begin, end in self.parts:
            if begin is None:
                out = next(pieces)
                broken += re.findall(r"(?m)^(?:ERROR|FATAL|PANIC).*", out)
                continue
            text += self.text[last:begin]
            last = end
            shown, gap = "", ""
            for statement, wanted in what:
                out = re.sub(r"\n{2,}", "\n", next(pieces).replace(CACHE + "/", "/models/"))
                out = re.sub(r"\bdocs_(reference_)?\d+\b", "shop", out)
                out = "\n".join(line.rstrip() for line in out.rstrip("\n").split("\n"))
                shown += ("\n\n" if wanted and shown or gap else "\n" if shown else "") + statement + ("\n" + out if out else "")
                gap = out
            text += shown
        return text + self.text[last:], broken


def prepare():
    """Two databases to copy: with the tables of the examples, and with the extension and its models, too."""
    with open("scripts/record_docs.sql", encoding="utf-8") as f:
        tables, _, models = f.read().replace("/models/", CACHE + "/").partition("-- models\n")
    for database, template, script in (("docs_new", "template1", tables), ("docs_full", "docs_new", models)):
        done = psql("postgres", f"DROP DATABASE IF EXISTS {database}; CREATE DATABASE {database} TEMPLATE {template};", True)
        done = psql(database, script, True) if done.returncode == 0 else done
        if done.returncode != 0:
            sys.exit(f"{database}: {done.stdout}")


def database_for(text, number):
    name = f"docs_{number}"
    template = "docs_new" if "<!-- database: new -->" in text else "docs_full"
    script = f"DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name} TEMPLATE {template};"
    if template == "docs_full":
        for setting, model in (("generate", "smollm2"), ("embed", "minilm"), ("classify", "minilm")):
            script += f"ALTER DATABASE {name} SET slm.{setting}_model = '{model}';"
    done = psql("postgres", script, True)
    if done.returncode != 0:
        sys.exit(done.stdout)
    return name


def pages():
    command = ["git", "ls-files", "-co", "--exclude-standard", "--", "*.md"]
    names = sorted(set(subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()))
    for name in names:
        if os.path.exists(name):
            with open(name, encoding="utf-8") as f:
                if "<!-- recorded -->" in f.read():
                    yield name


def record(name, number, check):
    """Records or compares a page; says whether it was well."""
    page = Page.read(name)
    new, broken = page.recorded(psql(database_for(page.text, number), page.script()).stdout)
    for error in broken:
        print(f"{name}: in a statement that is not shown: {error}")
    if not check and new != page.text:
        with open(name, "w", encoding="utf-8") as f:
            f.write(new)
        print(f"{name}: written")
    elif new != page.text:
        print(f"{name} shows what does not happen (make docs records it):")
        show_difference(page.text, new)
        broken.append(name)
    return not broken


def main():
    check = "--check" in sys.argv[1:]
    names = [a for a in sys.argv[1:] if not a.startswith("--")] or list(pages())
    prepare()
    results = [record(name, number, check) for number, name in enumerate(names, 1)]
    print(f"docs: {results.count(True)} passed, {results.count(False)} failed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
