#!/usr/bin/env bash
# Records the examples of the pages (scripts/record_docs.py) and builds docs/reference (scripts/reference.py) on a private server.
#
# usage: scripts/docs.sh [--check] [reference | PAGE ...]      default: all of it
set -u
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=cluster.sh
. scripts/cluster.sh

models/fetch --default || exit 1
mkdir -p build
slm_install_private >build/docs.log 2>&1 || {
    tail -n 40 build/docs.log
    exit 1
}
slm_start docs "shared_preload_libraries = 'slm_pg'" "wal_level = logical" || exit 1
check=
[ "${1:-}" != --check ] || { check=--check; shift; }
status=0
[ "${1:-}" = reference ] || python3 scripts/record_docs.py $check "$@" || status=1
case "${1:-reference}" in
reference) python3 scripts/reference.py $check || status=1 ;;
esac
exit $status
