#!/usr/bin/env python3
"""The rules of the source that can be read from its text (docs/ARCHITECTURE.md says why each exists).

Prints one line per broken rule and place, then "source: N passed, N failed", where each rule counts once.
"""
import re
import shutil
import subprocess
import sys

MAX_LINES, MAX_WIDTH = 1000, 140


def tracked(*patterns):
    """Files of the working tree that git does not ignore, new ones included; without git all but what was built."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z", "--", *patterns]
    out = subprocess.run(command, capture_output=True, check=False) if shutil.which("git") else None
    if out and out.returncode == 0:
        return sorted(set(out.stdout.decode().split("\0")) - {""})
    find = ["find", ".", "-path", "./build", "-prune", "-o", "-type", "f", "-print"]
    names = [n[2:] for n in subprocess.run(find, capture_output=True, check=True, text=True).stdout.split("\n") if n]
    wanted = [re.compile(p.replace(".", r"\.").replace("*", ".*") + "$") for p in patterns]
    return sorted(n for n in names if any(w.match(n) for w in wanted))


def read(name):
    try:
        with open(name, encoding="utf-8") as f:
            return f.read()
    except FileNotFoundError:  # deleted in the working tree
        return ""


C_FILES = {n: read(n) for n in tracked("src/*.c", "src/*.h", "src/*.def", "test/*.c", "test/*.h")}
SCRIPTS = {n: read(n) for n in tracked("*.sh", "*.py", "*.pl", "Makefile", "*.mk", "models/fetch", ".ci/run")}
SOURCES = {n: t for n, t in C_FILES.items() if n.startswith("src/")}
ENGINE = {n: t for n, t in SOURCES.items() if n.startswith("src/engine/")}


def without_comments(text):
    """C text with comments and strings blanked, line numbers kept."""
    blank = lambda m: re.sub(r"[^\n]", " ", m.group())
    return re.sub(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"", blank, text, flags=re.S)


def lines_with(files, pattern, keep=lambda name: True, code_only=False):
    regex = re.compile(pattern)
    for name, text in files.items():
        if keep(name):
            for number, line in enumerate((without_comments(text) if code_only else text).split("\n"), 1):
                if regex.search(line):
                    yield f"{name}:{number}: {line.strip()[:100]}"


def rule_size():
    """no file of more than 1,000 lines"""
    return [f"{n}: {t.count(chr(10))} lines" for n, t in {**C_FILES, **SCRIPTS}.items() if t.count("\n") > MAX_LINES]


def rule_width():
    """no line of more than 140 characters (but for the SQL in TAP tests)"""
    return [f"{n}:{i}: {len(line)} characters" for n, t in {**C_FILES, **SCRIPTS}.items() if not n.endswith((".pl", ".pm"))
            for i, line in enumerate(t.split("\n"), 1) if len(line.expandtabs(4)) > MAX_WIDTH]


def rule_todo():
    """nothing left to do in comments"""
    me = lambda n: not n.startswith("test/lint/")
    return lines_with({**C_FILES, **SCRIPTS}, r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b", lambda n: me(n) and n != "test/run.sh")


def rule_head():
    """every C file begins with a comment that says what it owns"""
    return [f"{n}: no comment at its head" for n, t in SOURCES.items() if t and not t.startswith("/*")]


def rule_intrinsics():
    """intrinsics only in kernels/<isa>/"""
    isa = re.compile(r"^src/engine/kernels/(avx2|avx512|neon)/")
    return lines_with(SOURCES, r"immintrin\.h|x86intrin\.h|arm_neon\.h|\b_mm(256|512)?_\w+|\b__m(128|256|512)i?\b",
                      lambda n: not isa.match(n))


def rule_pthread():
    """pthread only in base/threads.c"""
    return lines_with(SOURCES, r"\bpthread_\w+|<pthread\.h>|<threads\.h>", lambda n: n != "src/engine/base/threads.c", True)


def rule_server_headers():
    """the engine sees no header of the server"""
    return lines_with(ENGINE, r"#\s*include\s*[<\"](postgres|fmgr|miscadmin|libpq|c\.h|(utils|catalog|executor|nodes|storage|access|"
                      r"commands|funcapi|optimizer|parser|tcop|lib|common|port)[./])")


def rule_engine_is_quiet():
    """the engine never prints, aborts, exits or asserts"""
    return lines_with(ENGINE, r"(?<![\w.>])(abort|exit|_exit|assert|printf|puts|perror|setjmp|longjmp|signal|system)\s*\(", code_only=True)


def rule_version():
    """PG_VERSION_NUM only in compat.h"""
    return lines_with(SOURCES, r"\bPG_VERSION_NUM\b", lambda n: n != "src/pg/base/compat.h", True)


def rule_guards():
    """no two headers with the same guard: the second would be empty"""
    first = {}
    return [f"{n}: {g} is that of {first[g]}" for n, t in C_FILES.items() if n.endswith(".h")
            for g in re.findall(r"^#ifndef (\w+_H)$", t, re.M)[:1] if first.setdefault(g, n) != n]


def rule_user_queries():
    """cursors on users' queries only in pg/base/user_query.c"""
    return lines_with(SOURCES, r"\bSPI_(cursor_open|cursor_fetch|scroll_cursor)", lambda n: n != "src/pg/base/user_query.c", code_only=True)


def rule_entry_points():
    """entry points of SQL functions are refused where the database is an earlier release's"""
    return [n for n, t in SOURCES.items() if "PG_FUNCTION_INFO_V1(" in t and not n.endswith("/earlier.h")
            and '#include "pg/base/earlier.h"' not in t]


def rule_alone():
    """nothing refers to a folder beside the checkout; only .ci/run may look for data there"""
    beside = r"\.\./(\.\./)*shared\b"
    return lines_with({**C_FILES, **SCRIPTS}, beside, lambda n: n not in (".ci/run", "test/lint/check_source.py"))


def rule_regress():
    """every file of the regression tests makes what it needs: sql/include/begin.sql comes before the first statement"""
    begin = re.compile(r"(--[^\n]*\n)*\\getenv srcdir PG_ABS_SRCDIR\n\\set begin :srcdir '/sql/include/begin.sql'\n\\i :begin\n")
    return [n for n in tracked("sql/*.sql") if re.match(r"sql/\d", n) and not begin.match(read(n))]


def rule_blas():
    """OpenBLAS behind one file, and none on the inference path"""
    users = sorted({x.split(":")[0] for x in lines_with(SOURCES, r"cblas\.h|\bcblas_\w+\s*\(", code_only=False)})
    return users if len(users) > 1 or any(not u.startswith("src/engine/train/") for u in users) else []


def rule_fast_math():
    """no fast-math, no native code"""
    return lines_with({n: t for n, t in SCRIPTS.items() if not n.startswith("test/lint/")},
                      r"^[^#]*(-ffast-math|-Ofast|-march=native|-funsafe)")


def sql_script():
    return "\n".join(read(n) for n in tracked("sql/slm_pg--*.sql", "sql/parts/*.sql"))


def rule_sql_comments():
    """every SQL function, aggregate, view and table of the extension has a COMMENT"""
    script = re.sub(r"(?m)^\s*--.*$", "", sql_script())
    broken = []
    kinds = ("FUNCTION", "AGGREGATE", "PROCEDURE", "VIEW", "TABLE")
    for kind in kinds:
        made = re.findall(rf"(?im)^\s*CREATE\s+(?:OR\s+REPLACE\s+)?{kind}\s+([\w.@]+)", script)
        noted = re.findall(rf"(?im)^\s*COMMENT\s+ON\s+{kind}\s+([\w.@]+)", script)
        broken += [f"{kind} {n}: {made.count(n)} created, {noted.count(n)} with a comment"
                   for n in sorted(set(made)) if made.count(n) > noted.count(n)]
    return broken


def rule_reference():
    """the reference has every function and setting of the extension (docs/reference/src, `make reference`)"""
    internal, page_of_settings = read("docs/reference/internal.md"), read("docs/reference/settings.md")
    create = r"(?im)^\s*CREATE\s+(?:OR\s+REPLACE\s+)?(?:FUNCTION|PROCEDURE|AGGREGATE|VIEW)\s+(?:@extschema@\.)?([\w.]+)"
    made = re.findall(create, sql_script())
    broken = [n for n in sorted(set(made)) if not read(f"docs/reference/{n}.md") and f"`{n}`" not in internal]
    for text in SOURCES.values():
        broken += [n for n in re.findall(r"DefineCustom\w+Variable\(\s*\"(slm\.\w+)\"", text) if f"`{n}`" not in page_of_settings]
    return [f"{n} has no page" for n in broken]


def check(what, names):
    """Runs what is called rule_... among names; how many are broken."""
    passed = failed = 0
    for name, rule in sorted(names.items()):
        if not name.startswith("rule_"):
            continue
        broken = list(rule())
        if broken:
            failed += 1
            print(f"broken: {rule.__doc__}")
            for place in broken[:25]:
                print(f"  {place}")
        else:
            passed += 1
    print(f"{what}: {passed} passed, {failed} failed")
    return failed


if __name__ == "__main__":
    sys.exit(check("source", globals()) != 0)
