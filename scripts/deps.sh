#!/bin/sh
# Installs the Debian packages that building, testing and the demo need, and only those that are missing.
#
# usage: deps.sh [PG_CONFIG [clients]]
# clients: a Go compiler, a JDK and Maven too, for the drivers that are tried where they are (make test-clients).
# A server that PG_CONFIG already points to (with its headers) is used as it is, whatever its version; otherwise Debian's own
# PostgreSQL and its headers are installed.  Works as root or with sudo; does nothing, and needs neither, when all is there.
set -eu
pg_config=${1:-pg_config}

need="build-essential python3 python3-pip libpcre2-dev libutf8proc-dev libjansson-dev libxxhash-dev libopenblas-serial-dev"
need="$need libipc-run-perl xz-utils"

server_ready() {
    command -v "$pg_config" >/dev/null 2>&1 && [ -e "$("$pg_config" --pgxs)" ] &&
        [ -e "$("$pg_config" --includedir-server)/postgres.h" ] && [ -x "$("$pg_config" --bindir)/initdb" ]
}

if ! command -v dpkg-query >/dev/null 2>&1; then
    if server_ready && command -v cc >/dev/null 2>&1 && command -v python3 >/dev/null 2>&1; then
        exit 0
    fi
    echo "This is not a Debian system. Please install a C compiler, python3 with pip, Perl's IPC::Run, PostgreSQL 15 or later with its" >&2
    echo "server headers, and the headers of PCRE2, utf8proc, Jansson, xxHash and OpenBLAS (serial), then try again." >&2
    exit 1
fi

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

missing=
for p in $need; do
    installed "$p" || missing="$missing $p"
done
# for the tests of client drivers
python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || missing="$missing python3-venv"
command -v node >/dev/null 2>&1 || missing="$missing nodejs"
command -v npm >/dev/null 2>&1 || missing="$missing npm"
if [ "${2:-}" = clients ]; then
    command -v go >/dev/null 2>&1 || missing="$missing golang"
    command -v javac >/dev/null 2>&1 || missing="$missing default-jdk-headless"
    command -v mvn >/dev/null 2>&1 || missing="$missing maven"
fi
server_ready || missing="$missing postgresql"
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "These packages are missing:$missing (and the server's headers). Please run 'make deps' as root, or install sudo." >&2
        exit 1
    fi
    as_root=sudo
fi

echo "Installing:$missing"
run_apt() { $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@"; }
run_apt update
if ! server_ready; then
    # the headers belong to the version that "postgresql" stands for: "15+248" is 15
    version=$(apt-cache policy postgresql | sed -n 's/^ *Candidate: *\([0-9]*\).*/\1/p')
    missing="$missing postgresql-${version:-15} postgresql-server-dev-${version:-15}"
fi
# shellcheck disable=SC2086
run_apt install -y --no-install-recommends $missing
if ! server_ready; then
    echo "A server with headers is still missing: '$pg_config' does not point to one." >&2
    exit 1
fi
