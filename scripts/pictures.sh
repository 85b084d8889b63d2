#!/usr/bin/env bash
# Draws the pictures of docs/pictures anew on a private server (scripts/pictures.sql), of real messages to a bank: Banking77 (Casanueva et
# al. 2020, CC BY 4.0), whose files banking77_train.csv, banking77_test.csv and banking8.csv are in the folder that $SLM_TEST_DATA names.
#
# usage: SLM_TEST_DATA=FOLDER scripts/pictures.sh [TARGET]      default: docs/pictures
set -u
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=cluster.sh
. scripts/cluster.sh

data=${SLM_TEST_DATA:-}
target=${1:-docs/pictures}
[ -r "$data/banking77_train.csv" ] || {
    echo "SLM_TEST_DATA names no folder with banking77_train.csv" >&2
    exit 1
}
models/fetch --default || exit 1
mkdir -p build "$target"
slm_install_private >build/pictures.log 2>&1 || {
    tail -n 40 build/pictures.log
    exit 1
}
slm_start pictures "shared_preload_libraries = 'slm_pg'" || exit 1
slm_share "$slm_root/data" "$data"/banking*.csv
psql -X -v "cache=$SLM_MODEL_CACHE" -v "data=$slm_root/data" -v "out=$target" -f scripts/pictures.sql
