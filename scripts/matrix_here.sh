#!/usr/bin/env bash
# One place of the matrix: builds the checkout that this script stands in with each compiler, and runs the suites.
#
# usage: matrix_here.sh PLACE [compiler ...]      (scripts/matrix.sh calls it, in a copy of the tree)
#   gcc, clang            everything is built; regress and isolation run, with gcc TAP too
#   gcc-lto, clang-lto    the module is built with link-time optimization
#   arm64                 the engine and its unit tests, built by Debian's cross compiler, run by qemu-user
# Reads PG_CONFIG, SLM_MATRIX_SUITES and SLM_MATRIX_TARGETS (what gcc and clang build).  A warning is a failed build.  Each cell of the
# table becomes a file build/log/matrix/PLACE.COMPILER.SUITE of one line: server, compiler, suite, passed, failed, skipped, separated by
# tabs.
set -u
cd "$(dirname "$0")/.." || exit 1
place=$1
shift
unset MAKEFLAGS MAKELEVEL MFLAGS
[ ! -d /usr/lib/ccache ] || export PATH=/usr/lib/ccache:$PATH
cells=$(mktemp -d)
trap 'rm -rf "$cells"' EXIT

cell() { printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$server" "$label" "$1" "$2" "$3" "$4" >"$cells/$place.$compiler.$1"; }

# build TARGET ... VARIABLE=VALUE ...: from nothing
build() {
    local log=$cells/$place.$compiler.log bad=0
    make --no-print-directory clean-engine >/dev/null 2>&1
    find src -name '*.o' -delete
    rm -f slm_pg.so
    make --no-print-directory -k -j2 WERROR=-Werror "$@" >"$log" 2>&1 || bad=1
    ! grep -q 'warning:' "$log" || bad=1
    cell build $((1 - bad)) $bad 0
    [ $bad -eq 0 ] || grep -E 'warning:|error:|\*\*\*|rror [0-9]' "$log" | sort -u | head -n 20
    return $bad
}

suites() {
    local suite line log
    for suite in ${SLM_MATRIX_SUITES-regress isolation tap}; do
        [ "$suite" != tap ] || [ "$compiler" = gcc ] || continue
        line=$(bash test/run.sh "$suite" | tee "$cells/out" | grep -E "^== $suite ")
        grep -v '^==' "$cells/out" | tail -n 80
        log=build/log/$suite.log
        cell "$suite" "$(number passed "$line" 0)" "$(number failed "$line" 1)" "$(cat "build/log/$suite.skipped" 2>/dev/null | wc -l)"
        cp "$log" "$cells/$place.$compiler.$suite.log" 2>/dev/null
    done
}

# number WORD LINE DEFAULT: the number before a word
number() { printf '%s\n' "$2" | sed -n "s/.* \([0-9][0-9]*\) $1.*/\1/p" | grep . || echo "$3"; }

emulated() {
    local cross=aarch64-linux-gnu programs out log=$cells/$place.$compiler.log
    server=none
    label="$cross-gcc $($cross-gcc -dumpfullversion), qemu $(qemu-aarch64 --version | sed -n 's/.*version \([0-9.]*\).*/\1/p')"
    programs=$(make -s --no-print-directory print-TEST_PROGRAMS | tr " '" '\n' | grep unit)
    # shellcheck disable=SC2086
    build MACHINE=aarch64 CC=$cross-gcc AR=$cross-gcc-ar libslm.a $programs || return
    # shellcheck disable=SC2086
    out=$(SLM_TEST_RUNNER=qemu-aarch64 SLM_TEST_TIMEOUT=${SLM_TEST_TIMEOUT:-3600} scripts/run_programs.sh $programs 2>&1 |
        tee -a "$log" | tail -n 1)
    cell unit "$(number passed " $out" 0)" "$(number failed "$out" 1)" "$(grep -ci '^skip' "$log")"
}

for compiler in ${*:-gcc-lto clang-lto clang gcc}; do
    if [ "$compiler" = arm64 ]; then
        emulated
        continue
    fi
    server=$("${PG_CONFIG:-pg_config}" --version | sed 's/^PostgreSQL \([0-9.a-z]*\).*/\1/')
    case $compiler in
    gcc*) tools="CC=gcc AR=gcc-ar" version=$(gcc -dumpfullversion) ;;
    clang*) tools="CC=clang AR=llvm-ar" version=$(clang -dumpversion) ;;
    esac
    label="${compiler%-lto} $version"
    # shellcheck disable=SC2086
    case $compiler in
    *-lto)
        label="$label, LTO"
        build $tools COPT=-flto=auto all
        ;;
    *) ! build $tools ${SLM_MATRIX_TARGETS:-all programs tools benchmarks} || suites ;;
    esac
done
mkdir -p build/log/matrix
rm -f "$cells/out"
cp "$cells"/* build/log/matrix/
