#!/usr/bin/env python3
"""models/fetch against a local server that drops connections, and against caches that are damaged.

Prints "fetch: N passed, N failed".
"""
import hashlib
import http.server
import importlib.machinery
import importlib.util
import os
import shutil
import sys
import tempfile
import threading
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = bytes(range(256)) * 20000
counts = {"passed": 0, "failed": 0}


def check(condition, what):
    counts["passed" if condition else "failed"] += 1
    if not condition:
        print(f"FAILED: {what}", file=sys.stderr)


def load_fetch():
    loader = importlib.machinery.SourceFileLoader("fetch", os.path.join(HERE, "../../models/fetch"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("fetch", loader))
    sys.dont_write_bytecode = True
    loader.exec_module(module)
    return module


class Server(http.server.BaseHTTPRequestHandler):
    """Serves DATA; the first answer breaks off in the middle; ranges are honoured, and remembered."""
    ranges = []
    broken = False

    def do_GET(self):
        if self.path == "/none":
            self.send_error(404)
            return
        wanted = self.headers.get("Range")
        begin = int(wanted[6:-1]) if wanted else 0
        Server.ranges.append(begin)
        if begin >= len(DATA):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(DATA) - begin))
        self.end_headers()
        if not Server.broken:
            Server.broken = True
            self.wfile.write(DATA[: len(DATA) // 2])
            self.wfile.flush()
            self.connection.close()
            return
        self.wfile.write(DATA[begin:])

    def log_message(self, *_):
        pass


def refused(call):
    try:
        call()
    except SystemExit as stop:
        return str(stop)
    return ""


def pip(command, check):
    """In the place of `pip download`: the next of pip.wheels, or the only one."""
    shutil.copy(pip.wheels.pop(0) if len(pip.wheels) > 1 else pip.wheels[0], os.path.join(command[command.index("--dest") + 1], ""))
    return type("Ended", (), {"returncode": 0})


def main():
    fetch = load_fetch()
    fetch.CACHE = tempfile.mkdtemp()
    fetch.time.sleep = lambda _: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/model"
    model = {"name": "m.gguf", "source": url, "member": "-", "bytes": str(len(DATA)), "licence": "none",
             "sha256": hashlib.sha256(DATA).hexdigest()}
    target = os.path.join(fetch.CACHE, "m.gguf")
    with open(os.devnull, "w", encoding="utf-8") as null:
        sys.stdout, stdout = null, sys.stdout
        sys.stderr, stderr = null, sys.stderr
        try:
            fetch.fetch("m.gguf", [model])
            arrived = open(target, "rb").read() == DATA
            resumed = len(Server.ranges) == 2 and Server.ranges[1] > 0
            fetch.fetch("m.gguf", [model])
            kept = len(Server.ranges) == 2
            with open(target, "r+b") as f:
                f.seek(1000)
                f.write(b"!")
            fetch.fetch("m.gguf", [model])
            repaired = open(target, "rb").read() == DATA
            os.rename(target, target + ".part")
            fetch.fetch("m.gguf", [model])
            finished = os.path.exists(target)
            os.remove(target)
            wrong = refused(lambda: fetch.fetch("m.gguf", [{**model, "sha256": "0" * 64}]))
            nothing_left = os.listdir(fetch.CACHE)
            missing = refused(lambda: fetch.fetch("m.gguf", [{**model, "source": url.replace("model", "none")}]))
            unknown = refused(lambda: fetch.main(["no-such-model"]))

            wheel = os.path.join(fetch.CACHE, "w.whl")
            with zipfile.ZipFile(wheel, "w") as archive:
                archive.writestr("p/model/a.txt", "a")
                archive.writestr("p/model/sub/b.txt", "b")
                archive.writestr("p/other.txt", "c")
            fetch.subprocess.run, pip.wheels = pip, [wheel]
            parts = os.path.join(fetch.CACHE, "directory")
            fetch.from_packages(["p==1"], "p/model/", parts, "p")
            files = fetch.files_below(parts)
            no_member = refused(lambda: fetch.from_packages(["p==1"], "q/", parts + "2", "p"))
            with open(wheel, "rb") as f:
                whole = f.read()
            for i, piece in enumerate((whole[:100], whole[100:])):
                with zipfile.ZipFile(f"{wheel}.{i}", "w") as archive:
                    archive.writestr(f"part_{i}/input/w.zip.{i}", piece)
                    archive.writestr(f"part_{i}/__init__.py", "")
            pip.wheels = [f"{wheel}.0", f"{wheel}.1"]
            fetch.from_packages(["a==1", "b==1"], "*/input/w.zip.*!p/model/", parts + "3", "p")
            joined = fetch.files_below(parts + "3")

            rows = [{**model, "name": f"d/{file}"} for file in ("a.bin", "sub/b.bin")]
            rows[1]["source"] = url.replace("model", "none")
            stopped = refused(lambda: fetch.fetch("d", rows))
            half = fetch.files_below(os.path.join(fetch.CACHE, "d.part"))
            rows[1]["source"], asked = url, len(Server.ranges)
            fetch.fetch("d", rows)
            went_on = len(Server.ranges) == asked + 1
            by_file = fetch.files_below(os.path.join(fetch.CACHE, "d"))
            fetch.fetch("d", rows)
            whole_kept = len(Server.ranges) == asked + 1
            os.remove(os.path.join(fetch.CACHE, "d/a.bin"))
            fetch.fetch("d", rows)
            refilled = fetch.files_below(os.path.join(fetch.CACHE, "d"))
        finally:
            sys.stdout, sys.stderr = stdout, stderr
    server.shutdown()
    check(arrived, "the file arrives whole over a broken connection")
    check(resumed, f"the second attempt goes on where the first stopped: {Server.ranges}")
    check(kept, "a verified file is not fetched again")
    check(repaired, "a damaged file of the cache is replaced")
    check(finished, "a complete .part file is taken as it is")
    check("not what manifest.tsv describes" in wrong, "a wrong checksum is refused")
    check(nothing_left == [], f"nothing of it stays behind: {nothing_left}")
    check("404" in missing, "an address that does not exist is one clear line")
    check("unknown model" in unknown, "an unknown name is refused")
    check(files == ["a.txt", "sub/b.txt"], f"a directory comes out of a package: {files}")
    check("holds no q/" in no_member, "a package without the member is refused")
    check(joined == files, f"a directory comes out of an archive in pieces: {joined}")
    check("404" in stopped and half == ["a.bin"], f"what is complete of a directory is kept when the next file fails: {half}")
    check(went_on and by_file == ["a.bin", "sub/b.bin"], f"and is not fetched again: {by_file}")
    check(whole_kept, "a verified directory is not fetched again")
    check(refilled == ["a.bin", "sub/b.bin"], f"a directory that lacks a file is fetched again: {refilled}")
    shutil.rmtree(fetch.CACHE)
    print(f"fetch: {counts['passed']} passed, {counts['failed']} failed")
    return counts["failed"] != 0


if __name__ == "__main__":
    sys.exit(main())
