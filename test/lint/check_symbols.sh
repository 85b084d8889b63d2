#!/bin/sh
# The library for the server exports its entry points only, and the engine's archive defines global names that begin with slm_ only:
# two extensions in one backend must not meet in a symbol.  Neither may define what the server's preloading would run.
set -eu
cd "$(dirname "$0")/../.."
bad=0
nm -g --defined-only libslm.a |
    awk 'NF == 3 && $3 !~ /^slm_/ && $2 ~ /[A-Z]/ { print "libslm.a defines " $3; bad = 1 } END { exit bad }' || bad=1
if [ -e slm_pg.so ]; then
    nm -D --defined-only slm_pg.so | awk '
        $3 !~ /^(slm_pg_[a-z0-9_]+|pg_finfo_slm_pg_[a-z0-9_]+|Pg_magic_func|_PG_init|_PG_fini)$/ {
            print "slm_pg.so exports " $3
            bad = 1
        }
        END { exit bad }' || bad=1
    nm -D --undefined-only slm_pg.so | awk '$NF ~ /^slm_/ { print "slm_pg.so lacks " $NF; bad = 1 } END { exit bad }' || bad=1
    # a library that starts threads when it is loaded may not be linked: the postmaster would have them
    readelf -d slm_pg.so | grep -E 'NEEDED.*(openblas|gomp|tbb|omp)' && { echo "slm_pg.so links a library that may start threads"; bad=1; }
else
    echo "slm_pg.so was not built"
    bad=1
fi
exit $bad
