#!/usr/bin/env python3
"""Runs the steps of a Dockerfile where there is no docker daemon: each stage in a folder of its own, RUN by chroot, COPY by copying.

usage: dockerfile_steps.py DOCKERFILE CONTEXT BASE FOLDER      (root)

Every stage FROM an ARG starts as a copy of the directory BASE (a system with the server that the image would bring), in FOLDER/0,
FOLDER/1, ... in the order of the file; the path of the last one is printed.  FROM scratch starts empty.  Instructions other than ARG,
FROM, RUN, COPY and CMD, and forms of theirs that are not read here, are refused.
"""
import os
import re
import shlex
import subprocess
import sys


def instructions(path):
    with open(path, encoding="utf-8") as f:
        text = re.sub(r"(?m)^\s*#.*\n", "", f.read())
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if line.strip():
            word, rest = line.strip().split(None, 1)
            yield word, rest.strip()


def run(*command, **more):
    subprocess.run(command, check=True, **more)


def chroot(root, command):
    mounts = 'mount --rbind /proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" env -i HOME=/root LC_ALL=C.UTF-8 ' \
             'DEBIAN_FRONTEND=noninteractive PATH=/usr/lib/ccache:/usr/sbin:/usr/bin:/sbin:/bin sh -c "$1"'
    run("unshare", "--mount", "--propagation", "private", "sh", "-c", mounts, root, command, stdout=sys.stderr)


def copy(sources, target):
    if target.endswith("/"):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
    for source in sources:
        if os.path.isdir(source):
            os.makedirs(target, exist_ok=True)
            run("cp", "-a", "--no-preserve=ownership", f"{source}/.", target)
        else:
            run("cp", "-a", "--no-preserve=ownership", source, target)


def main(dockerfile, context, base, folder):
    stages, root = {}, None
    os.makedirs(folder)
    for word, rest in instructions(dockerfile):
        if word == "ARG" and root is None or word == "CMD":
            continue
        if word == "FROM":
            words = rest.split()
            root = os.path.join(folder, str(len(stages)))
            stages[words[2] if len(words) == 3 and words[1] == "AS" else len(stages)] = root
            if words[0] == "scratch":
                os.makedirs(root)
            else:
                run("cp", "-a", base, root)
        elif word == "RUN" and root:
            chroot(root, rest)
        elif word == "COPY" and root:
            words = shlex.split(rest)
            start = context
            if words[0].startswith("--from="):
                start = stages[words.pop(0).removeprefix("--from=")]
            if any(w.startswith("--") for w in words):
                raise SystemExit(f"{dockerfile}: COPY {rest}: not read here")
            copy([os.path.normpath(f"{start}/{w}") for w in words[:-1]], root + words[-1])
        else:
            raise SystemExit(f"{dockerfile}: {word}: not read here")
    print(root)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
