#!/usr/bin/env bash
# Records the examples of the pages on a private server (scripts/record_docs.py, same arguments) and builds docs/reference.
#
# usage: scripts/docs.sh [--check] [PAGE ...]
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
python3 scripts/record_docs.py "$@"
