#!/usr/bin/env bash
# The demo: a private cluster, SmolLM2-135M-Instruct in 4 bits, 36 support tickets, and plain SQL over them (demo/demo.sql).
# Everything happens in a temporary directory and is gone afterwards, but for build/demo.html, the report; the exit status is psql's.
# Another script may be named: demo/run.sh FILE.
set -u
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=../scripts/cluster.sh
. scripts/cluster.sh

models/fetch --default || exit 1
mkdir -p build
echo "Building and installing into a private copy of the server ..."
slm_install_private >build/demo.log 2>&1 || {
    tail -n 40 build/demo.log
    exit 1
}
slm_start demo "shared_preload_libraries = 'slm_pg'" || exit 1
cache=${SLM_MODEL_CACHE:-$HOME/.cache/slm_pg}
psql -X -q -v ON_ERROR_STOP=1 -f demo/tickets.sql &&
    psql -X -q -v ON_ERROR_STOP=1 -v "model=$cache/SmolLM2-135M-Instruct.Q4_1.gguf" -v "encoder=$cache/all-MiniLM-L6-v2" \
        -v "report=build/demo.html" -f "${1:-demo/demo.sql}"
