#!/usr/bin/env bash
# Builds and tests the extension with every server and compiler that can be had on this machine, and prints a table.
#
#   host        the server of PG_CONFIG, with the compilers that are here
#   trixie sid  releases of Debian in folders of their own (debootstrap), with their servers and compilers
#   package     PostgreSQL 16, which no release of Debian has: of the pip package pgserver, in trixie's folder
#   arm64       the engine and its unit tests, cross-built in trixie's folder and run by qemu-user
#   upgrade-RELEASE   pg_upgrade (test/tap/data/pg_upgrade.pl) from the host's server to that of a release's folder
#
# usage: matrix.sh [place ...]           (make matrix)
# SLM_MATRIX            the folders ($HOME/.cache/slm_pg/matrix); each is made once, 2 GB; remove it to have a new one
# SLM_MATRIX_COMPILERS  gcc-lto clang-lto clang gcc
# SLM_MATRIX_SUITES     regress isolation tap; SLM_TAP narrows as in test/run.sh
#
# The releases need root, debootstrap and unshare; what cannot be had is said and left out.  The tree is copied, so that what is
# built here is not touched.  Suites run as an unprivileged user (scripts/cluster.sh).  A cell of the table stays until it is
# measured anew: build/log/matrix holds one file for each, with the logs beside it, and the table that is made of all.
set -u
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=releases.sh
. scripts/releases.sh
compilers=${SLM_MATRIX_COMPILERS:-gcc-lto clang-lto clang gcc}
commit=$(git describe --always --dirty 2>/dev/null || echo unknown)
mkdir -p "$matrix" build/log/matrix

cross="crossbuild-essential-arm64 qemu-user libpcre2-dev:arm64 libutf8proc-dev:arm64 libjansson-dev:arm64 libxxhash-dev:arm64
    libopenblas-serial-dev:arm64"

missing() {
    echo "$place: left out: $1"
    printf '%s\t-\tleft out: %s\t0\t0\t1\t%s\t%s\n' "$place" "$1" "$commit" "$(date -u +%Y-%m-%d)" >"build/log/matrix/$place.setup"
    return 1
}

# The package is for one version of Python, but only unpacked: its server is a program like others.
make_package() {
    local root=$matrix/trixie/opt/pgserver log=build/log/matrix/package.setup.log wheel
    make_release trixie || return
    [ ! -e "$root/.ready" ] || return 0
    wheel=$(mktemp -d)
    rm -rf "$root"
    python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.11 --platform manylinux2014_x86_64 -d "$wheel" \
        pgserver==0.1.4 >"$log" 2>&1 && python3 -m zipfile -e "$wheel"/*.whl "$root" >>"$log" 2>&1 || missing "see $log" || return
    rm -r "$wheel"
    chmod -R a+rX "$root"
    find "$root/pgserver/pginstall/bin" "$root/pgserver/pginstall/lib/postgresql/pgxs" -type f -exec chmod a+rx {} +
    touch "$root/.ready"
}

make_cross() {
    local release=trixie log=build/log/matrix/arm64.setup.log
    make_release trixie || return
    [ ! -e "$matrix/trixie/.cross" ] || return 0
    inside trixie dpkg --add-architecture arm64 && apt update || missing "see $log" || return
    # shellcheck disable=SC2086
    apt install $cross || missing "see $log" || return
    touch "$matrix/trixie/.cross"
}

# run RELEASE COMPILERS [VARIABLE=VALUE ...]: in a release's folder
run() {
    local release=$1 wanted=$2 tree=$matrix/$1/build/slm_pg name
    shift 2
    copy_tree "$tree"
    share_models "$release"
    # shellcheck disable=SC2086
    inside "$release" "SLM_TAP=${SLM_TAP:-}" "SLM_MATRIX_SUITES=${SLM_MATRIX_SUITES-regress isolation tap}" "$@" \
        bash /build/slm_pg/scripts/matrix_here.sh "$place" $wanted
    keep "$tree"
}

keep() {
    local file
    for file in "$1/build/log/matrix/$place".*; do
        case $file in
        *.log) cp "$file" build/log/matrix/ ;;
        *) printf '%s\t%s\t%s\n' "$(cat "$file")" "$commit" "$(date -u +%Y-%m-%d)" >"build/log/matrix/$(basename "$file")" ;;
        esac
    done
}

python3 models/fetch --default >build/log/fetch.log 2>&1 || echo "the models could not be fetched: see build/log/fetch.log"
for place in ${*:-host package trixie sid arm64 upgrade-trixie upgrade-sid}; do
    echo "== $place"
    rm -f "build/log/matrix/$place.setup"
    case $place in
    host)
        copy_tree "$matrix/host"
        # shellcheck disable=SC2086
        bash "$matrix/host/scripts/matrix_here.sh" host $compilers
        keep "$matrix/host"
        ;;
    package)
        # the modules of the TAP tests are not in the package: those of trixie's server know older ones
        make_package && run trixie "$compilers" PG_CONFIG=/opt/pgserver/pgserver/pginstall/bin/pg_config \
            LD_LIBRARY_PATH=/opt/pgserver/pgserver.libs PERL5LIB=/usr/lib/postgresql/17/lib/pgxs/src/test/perl
        ;;
    arm64) make_cross && run trixie arm64 ;;
    upgrade-*)
        release=${place#upgrade-}
        make_release "$release" && older_server "$release" && run "$release" gcc SLM_MATRIX_TARGETS=all SLM_MATRIX_SUITES=data \
            SLM_TAP=pg_upgrade SLM_TEST_OLDER="$(dirname "$("${PG_CONFIG:-pg_config}" --bindir)")"
        ;;
    *) make_release "$place" && run "$place" "$compilers" ;;
    esac
done

table=build/log/matrix/table
{
    printf 'server\tcompiler\tsuite\tpassed\tfailed\tskipped\tcommit\tday\n'
    find build/log/matrix -maxdepth 1 -type f ! -name '*.log' ! -name table -exec cat {} + | sort -t"$(printf '\t')" -k1,1V -k2,2 -k3,3
} | python3 -c '
import sys
rows = [line.rstrip("\n").split("\t") for line in sys.stdin]
wide = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
for row in rows:
    print("  ".join(cell.rjust(w) if 3 <= i <= 5 else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, wide))).rstrip())
' | tee "$table"
find build/log/matrix -maxdepth 1 -type f ! -name '*.log' ! -name table -exec cat {} + |
    awk -F'\t' '{ p += $4; f += $5 } END { printf "%d passed, %d failed\n", p, f; exit f > 0 }'
