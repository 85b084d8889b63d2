#!/bin/sh
# Every header compiles alone, with each compiler that is here; those of src/pg after postgres.h, as the server's own do.
set -eu
cd "$(dirname "$0")/../.."
flags="-std=c11 -D_GNU_SOURCE -Isrc -Itest -fsyntax-only -Wall -Wextra -Werror -Wno-unused-parameter -Wno-unused-function"
server=$("${PG_CONFIG:-pg_config}" --includedir-server)
bad=0
for cc in gcc clang; do
    command -v $cc >/dev/null 2>&1 || continue
    for h in $(find src test -name '*.h' | sort); do
        extra=
        case $h in
        src/engine/kernels/neon/*) [ "$(uname -m)" = aarch64 ] || continue ;;
        src/engine/kernels/*/*) extra=$(make -s --no-print-directory "print-ISA_$(basename "$(dirname "$h")")") ;;
        # the server's headers hand clang a format of gcc's
        src/pg/*) extra="-isystem $server -include postgres.h -Wno-ignored-attributes" ;;
        esac
        # shellcheck disable=SC2086
        printf '#include "%s"\n' "${h#*/}" | $cc $flags $extra -x c - 2>&1 || { echo "$h does not compile alone ($cc)"; bad=1; }
    done
done
exit $bad
