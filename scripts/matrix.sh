#!/usr/bin/env bash
# Builds and tests the extension with every server and compiler that can be had on this machine, and prints a table.
#
#   host        the server of PG_CONFIG, with the compilers that are here
#   trixie sid  releases of Debian in folders of their own (debootstrap), with their servers and compilers
#   package     PostgreSQL 16, which no release of Debian has: of the pip package pgserver, in trixie's folder
#   arm64       the engine and its unit tests, cross-built in trixie's folder and run by qemu-user
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
matrix=${SLM_MATRIX:-$HOME/.cache/slm_pg/matrix}
models=${SLM_MODEL_CACHE:-$HOME/.cache/slm_pg}
compilers=${SLM_MATRIX_COMPILERS:-gcc-lto clang-lto clang gcc}
commit=$(git describe --always --dirty 2>/dev/null || echo unknown)
mkdir -p "$matrix" build/log/matrix

packages="postgresql build-essential clang llvm ccache python3 python3-pip libpcre2-dev libutf8proc-dev libjansson-dev libxxhash-dev
    libopenblas-serial-dev libipc-run-perl xz-utils"
cross="crossbuild-essential-arm64 qemu-user libpcre2-dev:arm64 libutf8proc-dev:arm64 libjansson-dev:arm64 libxxhash-dev:arm64
    libopenblas-serial-dev:arm64"

missing() {
    echo "$place: left out: $1"
    printf '%s\t-\tleft out: %s\t0\t0\t1\t%s\t%s\n' "$place" "$1" "$commit" "$(date -u +%Y-%m-%d)" >"build/log/matrix/$place.setup"
    return 1
}

# inside RELEASE COMMAND ...: in a release's folder, with /proc and /dev; the mounts end with the command
inside() {
    local root=$matrix/$1
    shift
    # shellcheck disable=SC2016
    unshare --mount --propagation private sh -c 'root=$1; shift; mount --rbind /proc "$root/proc"; mount --rbind /dev "$root/dev"
        exec chroot "$root" env -i HOME=/root LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"' sh "$root" "$@"
}

apt() { inside "$release" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -y --no-install-recommends "$@" >>"$log" 2>&1; }

# A release with server, headers, compilers and libraries in its folder.
make_release() {
    local release=$1 root=$matrix/$1 log=build/log/matrix/$1.setup.log version
    [ ! -e "$root/.ready" ] || return 0
    [ "$(id -u)" -eq 0 ] || missing "needs root" || return
    command -v debootstrap >/dev/null || missing "needs debootstrap" || return
    unshare --mount true 2>/dev/null || missing "needs unshare --mount" || return
    echo "making $root"
    rm -rf "$root"
    debootstrap --variant=minbase "$release" "$root" >"$log" 2>&1 || missing "see $log" || return
    cp /etc/resolv.conf /etc/hosts "$root/etc/"
    # no server of the release's own is ever made or started
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    mkdir -p "$root/etc/postgresql-common"
    echo "create_main_cluster = false" >"$root/etc/postgresql-common/createcluster.conf"
    # shellcheck disable=SC2086
    apt install $packages || missing "see $log" || return
    version=$(basename "$root"/usr/lib/postgresql/*)
    apt install "postgresql-server-dev-$version" || missing "see $log" || return
    touch "$root/.ready"
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

# copy_tree FOLDER: what belongs to the project, without what was built
copy_tree() {
    rm -rf "$1"
    mkdir -p "$1"
    if git rev-parse --git-dir >/dev/null 2>&1; then
        git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
            [ ! -e "$file" ] || printf '%s\0' "$file"
        done | tar --null -T - -cf - | tar -xf - -C "$1"
    else
        tar --exclude=./build --exclude='*.o' --exclude='*.a' --exclude='*.so' -cf - . | tar -xf - -C "$1"
    fi
}

# run RELEASE COMPILERS [VARIABLE=VALUE ...]: in a release's folder
run() {
    local release=$1 wanted=$2 tree=$matrix/$1/build/slm_pg name
    shift 2
    copy_tree "$tree"
    mkdir -p "$matrix/$release/root/.cache/slm_pg"
    while IFS=$'\t' read -r name default _; do
        [ "$default" != yes ] || cp -alf "$models/$name" "$matrix/$release/root/.cache/slm_pg/" 2>/dev/null ||
            cp -a "$models/$name" "$matrix/$release/root/.cache/slm_pg/"
    done < <(grep -v '^#' models/manifest.tsv)
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
for place in ${*:-host package trixie sid arm64}; do
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
