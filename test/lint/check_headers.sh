#!/bin/sh
# Every header compiles alone, with each compiler that is here, as many at a time as there are processors.
set -eu
cd "$(dirname "$0")/../.."
if [ $# -eq 0 ]; then
    server=$("${PG_CONFIG:-pg_config}" --includedir-server)
    export server
    for cc in gcc clang; do
        ! command -v $cc >/dev/null 2>&1 || find src test -name '*.h' | sort | sed "s/^/$cc /"
    done | xargs -r -P "$(nproc)" -n 2 sh test/lint/check_headers.sh
    exit
fi
cc=$1 h=$2
extra=
case $h in
src/engine/kernels/neon/*) [ "$(uname -m)" = aarch64 ] || exit 0 ;;
src/engine/kernels/*/*) extra=$(make -s --no-print-directory "print-ISA_$(basename "$(dirname "$h")")") ;;
# after postgres.h, as the server's own do; its headers hand clang a format of gcc's
src/pg/*) extra="-isystem $server -include postgres.h -Wno-ignored-attributes" ;;
esac
# shellcheck disable=SC2086
printf '#include "%s"\n' "${h#*/}" | $cc -std=c11 -D_GNU_SOURCE -Isrc -Itest -fsyntax-only -Wall -Wextra -Werror -Wno-unused-parameter \
    -Wno-unused-function $extra -x c - 2>&1 || { echo "$h does not compile alone ($cc)"; exit 1; }
