#!/usr/bin/env python3
"""How slm_pg is built and handed on: outside the tree, into a package, as a release; and what is said where something is missing.

Compiles a file of each half only; the other objects are those of the tree, which make calls up to date. Prints "build: N passed, N failed".
"""
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
PG_CONFIG = os.environ.get("PG_CONFIG", "pg_config")
counts = {True: 0, False: 0}


def check(ok, what, shown=""):
    counts[bool(ok)] += 1
    if not ok:
        print(f"FAILED: {what}\n{shown}")


def make(folder, *arguments):
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(["make", "--no-print-directory", *arguments], cwd=folder, env=env, capture_output=True, check=False, text=True)
    return done.returncode, done.stdout + done.stderr


def version():
    with open(f"{TOP}/slm_pg.control", encoding="utf-8") as f:
        return re.search(r"(?m)^default_version *= *'(.*)'", f.read()).group(1)


def scripts_expected():
    releases = [os.path.basename(n) for n in glob.glob(f"{TOP}/sql/releases/slm_pg--*.sql")]
    before = [n.split("/")[-2] for n in glob.glob(f"{TOP}/sql/upgrade/*/before.sql")]
    return sorted(releases + [f"slm_pg--{version()}.sql"] + [f"slm_pg--{b}--{version()}.sql" for b in before])


def clean_tree(folder):
    """the tree as a checkout has it: make takes what was built there for its own"""
    built = shutil.ignore_patterns("*.o", "*.d", "*.so", "*.a", "*.bc", ".git", "golden", "corpus_*")
    shutil.copytree(TOP, f"{folder}/tree", symlinks=True, ignore=lambda at, names: {*built(at, names), *(["build"] if at == TOP else [])})
    for stale in glob.glob(f"{folder}/tree/sql/slm_pg--*.sql"):
        os.unlink(stale)
    return f"{folder}/tree"


def outside_the_tree(folder):
    """what packagers do: make -f PATH/Makefile VPATH=PATH"""
    tree = clean_tree(folder)
    folder += "/outside"
    for path in ("build/engine", "libslm.a", *(os.path.relpath(n, TOP) for n in glob.glob(f"{TOP}/src/pg/**/*.o", recursive=True))):
        os.makedirs(os.path.dirname(f"{folder}/{path}"), exist_ok=True)
        copy = shutil.copytree if os.path.isdir(f"{TOP}/{path}") else shutil.copy2
        copy(f"{TOP}/{path}", f"{folder}/{path}")
    for path in ("build/engine/slm.o", "libslm.a", "src/pg/init.o"):
        os.unlink(f"{folder}/{path}")
    vpath = ["-f", f"{tree}/Makefile", f"VPATH={tree}", f"PG_CONFIG={PG_CONFIG}"]
    rc, out = make(folder, *vpath, "all")
    check(rc == 0 and "cc src/engine/slm.c" in out.replace(f"{tree}/", ""), "a build outside the tree", out)
    check(not glob.glob(f"{tree}/**/*.o", recursive=True) + glob.glob(f"{tree}/sql/slm_pg--*.sql"), "the tree stays as it was")
    rc, out = make(folder, *vpath, "install", f"DESTDIR={folder}/root")
    check(rc == 0, "its installation into DESTDIR", out)
    installed = [os.path.basename(n) for n in glob.glob(f"{folder}/root/**/*", recursive=True) if os.path.isfile(n)]
    scripts = sorted(n for n in installed if n.endswith(".sql"))
    check(scripts == scripts_expected(), "the scripts of this version, of releases and of updates", installed)
    check("slm_pg.so" in installed and "slm_pg.control" in installed, "library and control file", installed)
    check(not os.path.exists(f"{folder}/root/usr/include"), "and nothing else", installed)


def what_is_missing(folder):
    """a plain message in place of a compiler's"""
    real = shutil.which(PG_CONFIG) or PG_CONFIG
    stub = f"{folder}/pg_config"
    with open(stub, "w", encoding="utf-8") as f:
        f.write(f'#!/bin/sh\ncase $1 in --includedir-server) echo {folder}/none ;; *) exec {real} "$@" ;; esac\n')
    os.chmod(stub, 0o755)
    tree = clean_tree(folder)
    os.mkdir(f"{folder}/outside")
    vpath = ["-f", f"{tree}/Makefile", f"VPATH={tree}"]
    folder += "/outside"
    rc, out = make(folder, *vpath, f"PG_CONFIG={stub}", "src/pg/init.o")
    plain = "The headers of the server are not there" in out and "postgresql-server-dev" in out and "init.c" not in out
    check(rc != 0 and plain, "no headers", out)
    rc, out = make(folder, *vpath, f"PG_CONFIG={folder}/no_such_pg_config", "all")
    check(rc != 0 and "No PGXS found" in out and "make deps" in out, "no pg_config", out)


def meta_problems(meta):
    """what META.json lacks of the PGXN Meta Spec 1.0.0"""
    text = lambda v: isinstance(v, str) and v != ""
    semver = lambda v: text(v) and re.fullmatch(r"\d+\.\d+\.\d+(-?[A-Za-z][A-Za-z0-9-]*)?", v)
    texts = ("name", "abstract", "description", "generated_by", "maintainer", "license")
    found = [f"{k} is missing" for k in ("version", "provides", "meta-spec") if not meta.get(k)]
    found += [f"{k} is no text" for k in texts if not text(meta.get(k))]
    if not re.fullmatch(r"[^\s/\\]{2,}", meta.get("name", "")):
        found.append("name is no name")
    if meta.get("license") not in ("apache_2_0", "bsd", "gpl_3", "mit", "postgresql"):
        found.append("license is not one of the spec's words")
    if not re.fullmatch(r"1\.0\.\d+", meta.get("meta-spec", {}).get("version", "")):
        found.append("meta-spec has another version")
    for name, part in meta.get("provides", {}).items():
        found += [f"provides {name}: {k}" for k in ("file", "docfile") if not os.path.exists(f"{TOP}/{part.get(k, '-')}")]
        if not semver(part.get("version")) or part["version"] != version():
            found.append(f"provides {name}: version")
    for phase in meta.get("prereqs", {}).values():
        found += [f"prereqs: {n} {v}" for kind in phase.values() for n, v in kind.items() if v != 0 and not semver(v)]
    if not all(text(t) for t in meta.get("tags", [])):
        found.append("a tag is no text")
    if not semver(meta.get("version")) or meta["version"] != version():
        found.append(f"version is not {version()}, as slm_pg.control says")
    return found


def packages(_):
    """Debian's and PGDG's files say the version of slm_pg.control, and control is what control.in makes"""
    with open(f"{TOP}/debian/changelog", encoding="utf-8") as f:
        check(f.readline().startswith(f"slm-pg ({version()}-"), "debian/changelog begins with this version")
    with open(f"{TOP}/packaging/rpm/slm_pg.spec", encoding="utf-8") as f:
        check(re.search(rf"(?m)^Version: +{re.escape(version())}$", f.read()), "the RPM spec has this version")
    with open(f"{TOP}/debian/control.in", encoding="utf-8") as ours, open(f"{TOP}/debian/control", encoding="utf-8") as made:
        check(made.read() == ours.read().replace("PGVERSION", "15"), "debian/control is control.in for the server of Debian 12")


def release(folder):
    """make dist, from a repository: what is in it, and that it is a tree that make takes"""
    with open(f"{TOP}/META.json", encoding="utf-8") as f:
        problems = meta_problems(json.load(f))
    check(not problems, "META.json", problems)
    name = f"slm_pg-{version()}"
    repository = subprocess.run(["git", "-C", TOP, "rev-parse", "--show-toplevel"], capture_output=True, check=False, text=True)
    if repository.stdout.strip() != os.path.realpath(TOP):
        return
    rc, out = make(TOP, "dist", f"DIST={folder}")
    check(rc == 0, "make dist", out)
    with zipfile.ZipFile(f"{folder}/{name}.zip") as z:
        names = z.namelist()
        z.extractall(f"{folder}/zip")
    check(all(n.startswith(f"{name}/") for n in names), "all of it is below its name")
    for path in ("META.json", "Makefile", "LICENSE", "README.md", "slm_pg.control", "sql/parts/10_models.sql", "expected/01_models.out"):
        check(f"{name}/{path}" in names, f"{path} is in the release")
    left = [n for n in names if re.match(rf"{re.escape(name)}/(\.|build/|test/golden/(encoders|families2?|tokenizers)/)", n)]
    check(not left, "what is left out", left)
    size = os.path.getsize(f"{folder}/{name}.zip")
    check(size < 12 << 20, "the size of the release", size)
    rc, out = make(f"{folder}/zip/{name}", "-n", "all", "install", f"DESTDIR={folder}/none", f"PG_CONFIG={PG_CONFIG}")
    check(rc == 0 and f"slm_pg--{version()}.sql" in out, "make in a release, without a repository", out[-2000:])


def main():
    for test in (outside_the_tree, what_is_missing, packages, release):
        with tempfile.TemporaryDirectory(prefix="slm_build.") as folder:
            test(folder)
    print(f"build: {counts[True]} passed, {counts[False]} failed")
    return counts[False] > 0


if __name__ == "__main__":
    sys.exit(main())
