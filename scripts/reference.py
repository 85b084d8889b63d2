#!/usr/bin/env python3
"""Builds docs/reference: a page for every function, procedure, aggregate and view of the extension and for each group of settings.

usage: reference.py [--check]

What a server knows is taken from it: signatures, types, defaults, results, COMMENTs, columns, settings, whether a call is batched, what
an example shows, and the SQLSTATE of every error that has a statement to try.  The rest is in docs/reference/src/*.toml, a file a task
(docs/reference/src/common.toml says what may stand there).  An object without a place there, a place without an object and an argument
or column without words are errors.  A server is reached as psql reaches one; scripts/docs.sh starts one.  --check changes nothing and
says which page is not as it would be built; the last line is "reference: N passed, N failed".
"""
import glob
import json
import os
import re
import sys
import textwrap
import tomllib

import record_docs
import wrap_docs

FOLDER = "docs/reference"
MEMBER = """pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass AND e.extname = 'slm_pg'
            AND d.deptype = 'e'"""
FUNCTIONS = f"""
SELECT json_agg(x ORDER BY x.name, x.oid::int) FROM (
    SELECT p.oid, p.proname AS name, n.nspname AS schema, p.prokind AS kind, p.provolatile AS volatile, p.proparallel AS parallel,
           obj_description(p.oid, 'pg_proc') AS comment, pg_get_function_result(p.oid) AS result,
           has_function_privilege('pg_database_owner', p.oid, 'EXECUTE') AS everybody,
           (SELECT json_agg(json_build_object('name', coalesce(p.proargnames[i], ''), 'mode', coalesce(p.proargmodes[i]::text, 'i'),
                       'type', format_type(t, NULL), 'default', pg_get_function_arg_default(p.oid, i::int)) ORDER BY i)
            FROM unnest(coalesce(p.proallargtypes, p.proargtypes::oid[])) WITH ORDINALITY u(t, i)) AS arguments
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN {MEMBER} ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid) x;"""
RELATIONS = f"""
SELECT json_agg(x ORDER BY x.name) FROM (
    SELECT n.nspname || '.' || c.relname AS name, c.relkind AS kind, obj_description(c.oid, 'pg_class') AS comment,
           (SELECT json_agg(json_build_object('name', a.attname, 'type', format_type(a.atttypid, NULL),
                       'comment', col_description(c.oid, a.attnum)) ORDER BY a.attnum)
            FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN {MEMBER} ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
    WHERE c.relkind IN ('r', 'v', 'm')) x;"""
SETTINGS = """
SELECT json_agg(x ORDER BY x.name) FROM (
    SELECT name, current_setting(name) AS value, context, vartype AS type, min_val AS min, max_val AS max, unit, short_desc, extra_desc,
           enumvals FROM pg_settings WHERE name LIKE 'slm.%') x;"""
WHO = {"user": "session", "superuser": "superuser", "sighup": "administrator (configuration file, reload)",
       "postmaster": "administrator (configuration file, restart)", "suset": "superuser"}
VOLATILITY = {"i": "immutable", "s": "stable", "v": "volatile"}
PARALLEL = {"s": "safe", "r": "in the leader only", "u": "never"}

RESERVED = ("arguments", "columns")  # words for all of a task, no objects

problems = []


def ask(database, sql):
    out = record_docs.psql(database, "\\pset format unaligned\n\\pset tuples_only on\nLOAD 'slm_pg';\n" + sql, True)
    if out.returncode != 0:
        sys.exit(out.stdout)
    return json.loads(out.stdout)


def sources():
    """{file without its ending: its tables}"""
    found = {}
    for name in sorted(glob.glob(f"{FOLDER}/src/*.toml")):
        with open(name, "rb") as f:
            found[os.path.basename(name)[:-5]] = tomllib.load(f)
    return found


def sentence(comment):
    """The first sentence of a comment, for a table."""
    return re.split(r"[.:;](?= |$)", " ".join(comment.split()), maxsplit=1)[0]


def fold(text, indent):
    """A signature in lines, broken between arguments."""
    glued = re.sub(r", ", ",\0", text).replace(" ", "\1").replace("\0", " ")
    return textwrap.fill(glued, 96, subsequent_indent=" " * indent, break_on_hyphens=False, break_long_words=False).replace("\1", " ")


def row(*cells):
    return "| " + " | ".join(" ".join(str(c).split()).replace("|", "\\|") for c in cells) + " |"


def table(head, rows):
    return "\n".join([row(*head), "|" + "---|" * len(head), *(row(*r) for r in rows)])


def code(text):
    return f"`{text}`"


def default(argument):
    if argument["default"] is None:
        return ""
    return code(re.sub(r"::[a-z ]+(\[\])?$", "", argument["default"]))


def signature(f):
    inputs = [a for a in f["arguments"] or [] if a["mode"] in "iv"]
    words = [" ".join(filter(None, [a["name"], a["type"]])) + (f" DEFAULT {default(a)[1:-1]}" if a["default"] else "") for a in inputs]
    line = f"{f['qualified']}({', '.join(words)})"
    if f["kind"] == "p":
        return fold("CALL " + line, 5)
    result = f["result"]
    columns = [a for a in f["arguments"] or [] if a["mode"] in "ot"]
    if columns:
        inside = ", ".join(f"{a['name']} {a['type']}" for a in columns)
        result = ("rows of " if f["result"].startswith("SETOF") else "") + f"({inside})"
    elif result.startswith("SETOF "):
        result = "rows of " + result[6:]
    return fold(f"{line} → {result}", 4)


class Reference:
    def __init__(self):
        record_docs.prepare()
        self.sources = sources()
        self.common = self.sources.pop("common")
        self.database = {}
        self.groups = sorted((g for g in self.sources if g != "settings"), key=lambda g: self.sources[g]["order"])
        for number, group in enumerate(self.groups, 1):
            self.database[group] = record_docs.database_for("", f"reference_{number}")
        first = self.database[self.groups[0]]
        self.functions = {}
        for f in ask(first, FUNCTIONS):
            f["qualified"] = f["name"] if f["schema"] == "public" else f"{f['schema']}.{f['name']}"
            self.functions.setdefault(f["qualified"], []).append(f)
        self.relations = {r["name"]: r for r in ask(first, RELATIONS)}
        self.settings = {s["name"]: s for s in ask("docs_full", SETTINGS)}
        self.pages = {}
        self.listed = set()

    # ---- words

    def words_of(self, name, argument, entry, group):
        for place in (entry.get("arguments", {}), self.sources[group].get("arguments", {}), self.common["arguments"]):
            if argument in place:
                return place[argument]
        problems.append(f"{name}: no words for its argument {argument} (docs/reference/src/{group}.toml)")
        return ""

    def errors_of(self, name, entry):
        """[(SQLSTATE, when, statement to try or None)]"""
        found = []
        for error in entry.get("errors", []):
            if isinstance(error, str):
                if error not in self.common["errors"]:
                    problems.append(f"{name}: no errors named {error} in common.toml")
                    continue
                found += [(e["sqlstate"], e["when"], e.get("try")) for e in self.common["errors"][error]]
            else:
                found.append((error["sqlstate"], error["when"], error.get("try")))
        fill = lambda t: t and t.replace("{name}", name).replace("{sample}", entry.get("sample", "")).replace("{text}", "'Hello'")
        return [(state, when, fill(attempt)) for state, when, attempt in found]

    # ---- what a server says

    def batched(self, f, name, entry, group):
        if "{text}" not in entry.get("sample", ""):
            return None
        call = f"{name}({entry['sample'].replace('{text}', 'body')})"
        out = record_docs.psql(self.database[group], f"EXPLAIN (COSTS OFF) SELECT {call} FROM tickets;").stdout
        if "ERROR" in out:
            problems.append(f"{name}: its sample: {out.strip()}")
        if re.search(r"SLM Batch", out):
            return "rows of a query are computed together"
        return "no, a set of rows each" if f["result"].startswith("SETOF") else "no"

    def run_group(self, group):
        """What the examples of a group show, and the states of its errors, in one session."""
        entries = {n: e for n, e in self.sources[group].items() if isinstance(e, dict) and n not in RESERVED}
        text, tries = "", []
        for name, entry in entries.items():
            if "setup" in entry:
                text += f"<!-- run\n{entry['setup'].strip()}\n-->\n"
            text += f"<!-- recorded -->\n```sql\n{entry.get('example', '').strip()}\n```\n"
            tries += [(name, state, attempt) for state, _, attempt in self.errors_of(name, entry) if attempt]
        page = record_docs.Page(f"the examples of {group}", text)
        new, broken = page.recorded(record_docs.psql(self.database[group], page.script()).stdout)
        problems.extend(f"{group}: in a statement that is not shown: {b}" for b in broken)
        examples = dict(zip(entries, re.findall(r"(?s)<!-- recorded -->\n```sql\n(.*?)\n```\n", new)))
        script = "\\set VERBOSITY sqlstate\n\\set SHOW_CONTEXT never\nSET client_min_messages = error;\n"
        for _, _, attempt in tries:
            script += f"\\echo {record_docs.MARK}\n{attempt.rstrip(';')};\n"
        for (name, state, attempt), out in zip(tries, record_docs.psql(self.database[group], script).stdout.split(record_docs.MARK)[1:]):
            seen = re.findall(r"ERROR:  (\w{5})", out)
            if seen[-1:] != [state]:
                problems.append(f"{name}: {attempt} gives {seen[-1:] or 'no error'}, not {state}")
        return examples

    # ---- pages

    def function_page(self, name, entry, group, example):
        overloads = self.functions[name]
        lines = [f"# {name}", ""]
        for f in overloads:
            lines += ["```", signature(f), "```", "", *f["comment"].replace("\n", " ").split("\n\n"), ""]
        if entry.get("notes"):
            lines += [entry["notes"].strip(), ""]
        rows, seen = [], set()
        for f in overloads:
            for a in f["arguments"] or []:
                if a["mode"] in "iv" and a["name"] and a["name"] not in seen:
                    seen.add(a["name"])
                    types = list(dict.fromkeys(b["type"] for g in overloads for b in g["arguments"] or [] if b["name"] == a["name"]))
                    rows.append((code(a["name"]), ", ".join(map(code, types)), default(a) or "required",
                                 self.words_of(name, a["name"], entry, group)))
        if rows:
            lines += ["## Arguments", "", table(("argument", "type", "default", ""), rows), ""]
        if "result" in entry or any(a["mode"] in "ot" for f in overloads for a in f["arguments"] or []):
            lines += ["## Result", ""]
            if "result" in entry:
                lines += [entry["result"].strip(), ""]
            columns = [a for a in overloads[0]["arguments"] or [] if a["mode"] in "ot"]
            if columns:
                words = {**self.common.get("columns", {}), **self.sources[group].get("columns", {}), **entry.get("columns", {})}
                problems.extend(f"{name}: no words for its column {a['name']}" for a in columns if a["name"] not in words)
                rows = [(code(a["name"]), code(a["type"]), words.get(a["name"], "")) for a in columns]
                lines += [table(("column", "type", ""), rows), ""]
        lines += self.example(example)
        errors = self.errors_of(name, entry)
        if errors:
            lines += ["## Errors", "", table(("SQLSTATE", "when"), [(code(s), w) for s, w, _ in errors]), ""]
        lines += ["## Facts", "", table(("", ""), self.facts(name, entry, group)), ""]
        lines += self.links(entry, group)
        return "\n".join(lines)

    def facts(self, name, entry, group):
        f = self.functions[name][0]
        who = entry.get("privileges") or self.sources[group].get("privileges") or "everybody, with the rights of the caller"
        rows = [("who may call it", who if f["everybody"] or "privileges" in entry else "superusers")]
        batched = self.batched(f, name, entry, group)
        if batched:
            rows.append(("[batches](../BATCH.md)", batched))
        rows.append(("volatility", ", ".join(dict.fromkeys(VOLATILITY[g["volatile"]] for g in self.functions[name]))))
        rows.append(("parallel workers", PARALLEL[f["parallel"]]))
        return rows if f["kind"] != "p" else rows[:1]

    @staticmethod
    def example(example):
        return ["## Example", "", "```sql", example, "```", ""] if example.strip() else []

    def links(self, entry, group):
        def link(name):
            if name.endswith(".md"):
                return f"[{os.path.basename(name)[:-3]}]({name})"
            if name.startswith("slm.") and name in self.settings:
                return f"[{code(name)}](settings.md)"
            if name not in self.sources_index():
                problems.append(f"see: {name} has no page")
            return f"[{code(name)}]({name}.md)"
        title = self.sources[group]["title"]
        see = [*map(link, entry.get("see", [])), f"[{title.lower()}](README.md#{anchor(title)})"]
        return ["See also: " + ", ".join(see) + "."]

    def sources_index(self):
        return {n for g in self.groups for n, e in self.sources[g].items() if isinstance(e, dict) and n not in RESERVED}

    def relation_page(self, name, entry, group, example):
        relation = self.relations[name]
        words = {**self.common.get("columns", {}), **self.sources[group].get("columns", {}), **entry.get("columns", {})}
        rows = []
        for c in relation["columns"]:
            said = c["comment"] or words.get(c["name"])
            if not said:
                problems.append(f"{name}: no words for its column {c['name']}")
            rows.append((code(c["name"]), code(c["type"]), said or ""))
        lines = [f"# {name}", "", " ".join(relation["comment"].split()), ""]
        if entry.get("notes"):
            lines += [entry["notes"].strip(), ""]
        lines += ["## Columns", "", table(("column", "type", ""), rows), "", *self.example(example)]
        return "\n".join(lines + self.links(entry, group))

    def settings_page(self):
        source = self.sources["settings"]
        lines = ["# Settings", "", source["intro"].strip(), ""]
        left = set(self.settings)
        for title, entry in source.items():
            if not isinstance(entry, dict):
                continue
            rows = []
            for name in entry["settings"]:
                if name not in self.settings:
                    problems.append(f"settings.toml: there is no setting {name}")
                    continue
                left.discard(name)
                s = self.settings[name]
                kinds = {"enum": ", ".join(s["enumvals"] or []), "bool": "on, off", "string": "text"}
                kind = kinds.get(s["type"]) or f"{s['min']} to {s['max']}"
                unit = {"kB": " kB", "ms": " ms"}.get(s["unit"] or "", "")
                said = " ".join(filter(None, [s["short_desc"], s["extra_desc"]]))
                rows.append((code(name), code(s["value"]) if s["value"] else "empty", kind + unit, WHO[s["context"]], said))
            lines += [f"## {title}", "", table(("setting", "default", "values", "who", ""), rows), ""]
            if entry.get("notes"):
                lines += [entry["notes"].strip(), ""]
        problems.extend(f"setting {n} has no place in docs/reference/src/settings.toml" for n in sorted(left))
        return "\n".join(lines)

    def internal_page(self):
        names = self.common["internal"]["functions"]
        lines = ["# Objects that are not for users", "", self.common["internal"]["intro"].strip(), ""]
        problems.extend(f"common.toml: there is no function {n}" for n in names if n not in self.functions)
        rows = [(code(n), " ".join(self.functions[n][0]["comment"].split())) for n in names if n in self.functions]
        tables = [r for r in self.relations.values() if r["kind"] == "r" or r["name"] in self.common["internal"]["views"]]
        rows2 = [(code(r["name"]), " ".join(r["comment"].split()), ", ".join(code(c["name"]) for c in r["columns"])) for r in tables]
        self.listed.update(names, (r["name"] for r in tables))
        return "\n".join([*lines, "## Functions", "", table(("function", ""), rows), "", "## Tables", "",
                          table(("table", "", "columns"), rows2)])

    def index_page(self):
        lines = ["# Reference", "", self.common["intro"].strip(), ""]
        for group in self.groups:
            source = self.sources[group]
            rows = []
            for name, entry in source.items():
                if not isinstance(entry, dict) or name in RESERVED:
                    continue
                comment = self.functions[name][0]["comment"] if name in self.functions else self.relations[name]["comment"]
                words = entry.get("summary") or sentence(comment)
                rows.append((f"[{code(name)}]({name}.md)", words if words.startswith("slm_") else words[0].upper() + words[1:]))
            lines += [f"## {source['title']}", "", *([source["intro"].strip(), ""] if "intro" in source else []), table(("", ""), rows), ""]
        rows = [(f"[{title}](settings.md#{anchor(title)})", ", ".join(code(n) for n in entry["settings"]))
                for title, entry in self.sources["settings"].items() if isinstance(entry, dict)]
        lines += ["## Settings", "", table(("", ""), rows), "", self.common["outro"].strip()]
        return "\n".join(lines)

    def build(self):
        for group in self.groups:
            examples = self.run_group(group)
            for name, entry in self.sources[group].items():
                if not isinstance(entry, dict) or name in RESERVED:
                    continue
                self.listed.add(name)
                if name in self.functions:
                    self.pages[f"{name}.md"] = self.function_page(name, entry, group, examples[name])
                elif name in self.relations:
                    self.pages[f"{name}.md"] = self.relation_page(name, entry, group, examples[name])
                else:
                    problems.append(f"docs/reference/src/{group}.toml: there is no {name}")
        self.pages["settings.md"] = self.settings_page()
        self.pages["internal.md"] = self.internal_page()
        for name in [*self.functions, *self.relations]:
            if name not in self.listed:
                problems.append(f"{name} has no page: give it a place in docs/reference/src/*.toml, then `make reference`")
        if not any("there is no" in p for p in problems):
            self.pages["README.md"] = self.index_page()
        mark = "<!-- built by scripts/reference.py from the catalog and docs/reference/src: `make reference` -->\n\n"
        return {n: wrap_docs.wrapped(mark + text.rstrip() + "\n") for n, text in self.pages.items()}


def anchor(title):
    return re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-")


def main():
    check = "--check" in sys.argv[1:]
    pages = Reference().build()
    stale = []
    for name, text in pages.items():
        path = f"{FOLDER}/{name}"
        old = ""
        if os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                old = f.read()
        if old != text:
            stale.append((path, old, text))
    extra = sorted(set(map(os.path.basename, glob.glob(f"{FOLDER}/*.md"))) - set(pages))
    for path, old, text in stale:
        if check:
            problems.append(f"{path} is not as the server says (make reference builds it)")
            record_docs.show_difference(old, text)
        else:
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
    for name in extra:
        if check:
            problems.append(f"{FOLDER}/{name} is of nothing that is there")
        elif not problems:
            os.remove(f"{FOLDER}/{name}")
    for problem in problems:
        print(problem)
    print(f"reference: {len(pages)} passed, {len(problems)} failed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
