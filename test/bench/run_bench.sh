#!/usr/bin/env bash
# Measures everything in one run on this machine: the machine's own peaks, kernels, forward pass (C programs, test/bench/bench_*.c)
# and SQL (a private cluster).  Writes build/bench/*.csv, prints the tables and puts them into docs/SPEED.md.
#
# usage: test/bench/run_bench.sh [name ...]     names: kernels, forward, ... (the programs), sql, banking77-sql, vectors, jobs; default: all
#        test/bench/run_bench.sh shapes         models of 1 to 7 billion random weights, one after the other, in SLM_BENCH_DIR
#                                               (build/bench/models): 9 GB of disk, 6 GB of memory, some minutes; not in the default
#        test/bench/run_bench.sh maskbench      grammars of real JSON schemas (docs/CONSTRAINTS.md): some minutes; not in the default
#        test/bench/run_bench.sh engine         sessions alone beside the engine process, into docs/ENGINE.md: some four minutes; not in
#                                               the default (engine.sh says what it can be told; SLM_BENCH_PARTS=engine_1b with a model of
#                                               that size as SLM_BENCH_MODEL: six more)
#        test/bench/run_bench.sh long-texts     how long texts are best read, into docs/LONG_TEXTS.md: some minutes; not in the default
# encoders needs the texts of Banking77 too, and measures beside MiniLM the models in $SLM_BENCH_ENCODERS: test/bench/encoder_shapes.py
# makes some, all-mpnet-base-v2 can be linked there.
# Every CSV has a header line; those of SQL are metric,type,threads,value,unit.  banking77-sql needs the texts of Banking77 in
# $SLM_TEST_DATA and is left out without them.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=../../scripts/cluster.sh
. scripts/cluster.sh
unset OPENBLAS_CORETYPE
out=build/bench
mkdir -p "$out"
[ "$*" = shapes ] || models/fetch --default || exit 1
export SLM_MODEL_CACHE=${SLM_MODEL_CACHE:-$HOME/.cache/slm_pg}
make --no-print-directory -j2 libslm.a benchmarks tools || exit 1
wanted() { [ -z "$names" ] || case " $names " in *" $1 "*) ;; *) return 1 ;; esac; }
names=$*
status=0

# The same model in the other types that are compared, made from the Q4_1 file by test/tools: for speed, not for quality.
q4_1=$SLM_MODEL_CACHE/SmolLM2-135M-Instruct.Q4_1.gguf
models=("$q4_1")
mkdir -p "$out/models" "${SLM_BENCH_DIR:-$out/models}"
for type in Q4_0 Q8_0 Q4_K_M; do
    [ "$names" != shapes ] || break
    model=$out/models/SmolLM2-135M-Instruct.$type.gguf
    [ -e "$model" ] || { build/tools/quantize_gguf "$q4_1" "$model.new" $type && mv "$model.new" "$model"; } || status=1
    models+=("$model")
done

# the file's type in place of the engine's, which names a mixture by its most common type
forward() {
    local model
    for model in "${models[@]}"; do
        "$out/bench_forward" "$model" --csv | awk -F, -v OFS=, -v type="$(basename "$model" .gguf)" '
            BEGIN { sub(/.*\./, "", type) }
            /^model,/ { print "type", $3, $4, $5, $6, "share", $8; next }
            { $7 = sprintf("%.0f %%", 100 * $7); print type, $3, $4, $5, $6, $7, $8 }' || return 1
    done | awk 'NR == 1 || !/^type,what/'
}

for source in test/bench/bench_*.c; do
    [ -e "$source" ] || continue
    name=$(basename "$source" .c)
    wanted "${name#bench_}" || continue
    echo "-- $name"
    case $name in
    bench_kernels) "$out/$name" --quick --csv "$out/$name.csv.new" | tee "$out/$name.txt" ;;
    bench_forward) forward 2>"$out/$name.txt" >"$out/$name.csv.new" ;;
    *) "$out/$name" --csv >"$out/$name.csv.new" ;;
    esac && mv "$out/$name.csv.new" "$out/$name.csv" || { echo "$name failed"; status=1; }
done

# The first call of a new session, as a client sees it: connection open, library not loaded, model not mapped by this backend.
first_calls() {
    local i
    for i in $(seq 1 21); do
        printf '%s\n' '\timing on' "SELECT slm_generate('Please tell me in one word what the capital city of the country France is" \
            "called.', model => 'bench', max_tokens => 1) \\g /dev/null" | psql -X -q -A -t | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p'
    done | sort -n | sed -n '11p'
}

data=${SLM_TEST_DATA:-}
[ -r "$data/banking77_train.csv" ] && [ -r "$data/banking77_test.csv" ] && [ -r "$data/banking8.csv" ] || data=

if wanted sql || { wanted banking77-sql && [ -n "$data" ]; }; then
    slm_install_private >"$out/install.log" 2>&1 && slm_start bench || { tail -n 40 "$out/install.log"; exit 1; }
fi

if wanted sql; then
    echo "-- sql"
    psql -X -q -v ON_ERROR_STOP=1 -f demo/tickets.sql -c 'CREATE EXTENSION slm_pg' || exit 1
    echo "metric,type,threads,value,unit" >"$out/sql.csv"
    for model in "${models[@]}"; do
        type=$(basename "$model" .gguf)
        type=${type##*.}
        slm_share "$slm_root/models" "$model"
        begin=$(date +%s%N)
        psql -X -q -v ON_ERROR_STOP=1 -v path="$slm_root/models/$(basename "$model")" -o /dev/null \
            <<<"SELECT name FROM slm_load_model('bench', :'path')" || exit 1
        echo "slm_load_model,$type,1,$((($(date +%s%N) - begin) / 1000000)),ms" >>"$out/sql.csv"
        echo "\"first call in a new session, 20-token prompt, 1 token (median of 21)\",$type,auto,$(first_calls),ms" >>"$out/sql.csv"
        for threads in 1 2; do
            psql -X -q -v ON_ERROR_STOP=1 -v type="$type" -v threads="$threads" -f test/bench/sql.sql |
                sed 's/^\(.*\),\([^,]*\),\([0-9]*\),\([0-9.]*\),\([^,]*\)$/"\1",\2,\3,\4,\5/' >>"$out/sql.csv" || status=1
        done
        psql -X -q -c "SELECT slm_drop_model('bench')" -o /dev/null
    done
fi

# slm_load NAME PATH: a model that the server may read, loaded.
slm_load() {
    slm_share "$slm_root/models" "$2"
    psql -X -q -v ON_ERROR_STOP=1 -v name="$1" -v path="$slm_root/models/$(basename "$2")" -o /dev/null \
        <<<"SELECT name FROM slm_load_model(:'name', :'path')"
}

if wanted banking77-sql && [ -z "$data" ]; then
    echo "-- banking77-sql left out: SLM_TEST_DATA names no folder with the texts"
elif wanted banking77-sql; then
    echo "-- banking77-sql"
    shape_1b=$out/models/llama-3.2-1b.Q4_0.gguf
    [ -e "$shape_1b" ] || { build/tools/make_model "$shape_1b.new" llama-3.2-1b Q4_0 && mv "$shape_1b.new" "$shape_1b"; } || exit 1
    slm_share "$slm_root/data" "$data"/banking*.csv
    psql -X -q -c 'CREATE EXTENSION IF NOT EXISTS slm_pg' || exit 1
    slm_load bench "$q4_1" && slm_load minilm "$SLM_MODEL_CACHE/all-MiniLM-L6-v2" && slm_load shape_1b "$shape_1b" || exit 1
    echo "metric,type,threads,value,unit" >"$out/banking77_sql.csv"
    psql -X -q -v train_file="$slm_root/data/banking77_train.csv" -v test_file="$slm_root/data/banking77_test.csv" \
        -v eight_file="$slm_root/data/banking8.csv" -f test/bench/banking77.sql >>"$out/banking77_sql.csv" || status=1
fi

if wanted vectors; then
    echo "-- vectors"
    [ -n "$slm_root" ] || slm_install_private >"$out/install.log" 2>&1 || { tail -n 40 "$out/install.log"; exit 1; }
    # a table above a quarter of shared_buffers would be read through a small ring, page by page from the system
    PGPORT=5434 slm_start vectors "shared_buffers = 2GB" "huge_pages = try" || exit 1
    echo "metric,type,threads,value,unit" >"$out/vectors.csv"
    PGPORT=5434 psql -X -q -v ON_ERROR_STOP=1 -c 'CREATE EXTENSION slm_pg' -f test/bench/vectors.sql |
        sed 's/^\(.*\),\([^,]*\),\([0-9]*\),\([0-9.]*\),\([^,]*\)$/"\1",\2,\3,\4,\5/' >>"$out/vectors.csv" || status=1
    slm_stop vectors
fi

if wanted jobs; then
    echo "-- jobs"
    [ -n "$slm_root" ] || slm_install_private >"$out/install.log" 2>&1 || { tail -n 40 "$out/install.log"; exit 1; }
    PGPORT=5433
    slm_start jobs "shared_preload_libraries = 'slm_pg'" || exit 1
    slm_share "$slm_root/models" "$q4_1"
    psql -X -q -v ON_ERROR_STOP=1 -f demo/tickets.sql -c 'CREATE EXTENSION slm_pg' \
        -c "SELECT name FROM slm_load_model('bench', '$slm_root/models/$(basename "$q4_1")')" -o /dev/null || exit 1
    echo "metric,type,threads,value,unit" >"$out/jobs.csv"
    psql -X -q -v ON_ERROR_STOP=1 -v type=Q4_1 -v threads=1 -v documents="${SLM_BENCH_DOCUMENTS:-500}" -v rounds="${SLM_BENCH_ROUNDS:-3}" \
        -f test/bench/jobs.sql | sed 's/^\(.*\),\([^,]*\),\([0-9]*\),\([0-9.]*\),\([^,]*\)$/"\1",\2,\3,\4,\5/' >>"$out/jobs.csv" || status=1
fi

if [[ " $names " == *" maskbench "* ]]; then
    echo "-- maskbench"
    schemas=${SLM_TEST_DATA:-}/jsonschema
    [ -r "$schemas/maskbench_half.jsonl.xz" ] || { echo "SLM_TEST_DATA names no folder with jsonschema" >&2; exit 1; }
    make --no-print-directory golden || exit 1
    export SLM_GOLDEN=${SLM_GOLDEN:-build/golden}
    xz -dc "$schemas/maskbench_half.jsonl.xz" | "$out/maskbench" - | tee "$out/maskbench.txt" || status=1
    xz -dc "$schemas/json_schema_test_suite_2020_12.jsonl.xz" | "$out/maskbench" - --suite | tee "$out/schema_suite.txt"
    [ "$names" != maskbench ] || exit $status
fi

if [[ " $names " == *" long-texts "* ]]; then
    echo "-- long texts"
    [ -n "$data" ] || { echo "SLM_TEST_DATA names no folder with the texts" >&2; exit 1; }
    [ -n "$slm_root" ] || slm_install_private >"$out/install.log" 2>&1 || { tail -n 40 "$out/install.log"; exit 1; }
    export PGPORT=5435
    slm_start long "shared_buffers = 256MB" || exit 1
    slm_share "$slm_root/data" "$data"/banking77_*.csv
    psql -X -q -c 'CREATE EXTENSION slm_pg' && slm_load minilm "$SLM_MODEL_CACHE/all-MiniLM-L6-v2" || exit 1
    echo "task,way,beginning,middle,end,all" >"$out/long_texts.csv.new"
    psql -X -q -v train_file="$slm_root/data/banking77_train.csv" -v test_file="$slm_root/data/banking77_test.csv" \
        -v messages="${SLM_BENCH_MESSAGES:-100}" -f test/bench/long_texts.sql >>"$out/long_texts.csv.new" || exit 1
    mv "$out/long_texts.csv.new" "$out/long_texts.csv"
    python3 test/bench/report.py "$out" docs/LONG_TEXTS.md "test/bench/run_bench.sh long-texts" long_texts || status=1
    [ "$names" != long-texts ] || exit $status
fi

if [[ " $names " == *" engine "* ]]; then
    echo "-- engine"
    [ -n "$slm_root" ] || slm_install_private >"$out/install.log" 2>&1 || { tail -n 40 "$out/install.log"; exit 1; }
    export PGPORT=5436
    slm_start engine "shared_preload_libraries = 'slm_pg'" "max_connections = 140" || exit 1
    file=${SLM_BENCH_MODEL:-$out/models/SmolLM2-135M-Instruct.Q4_0.gguf}
    [ "${SLM_BENCH_PARTS:-}" != engine_1b ] ||
        export SLM_BENCH_LOCAL_CLIENTS=${SLM_BENCH_LOCAL_CLIENTS:-1 4 16} SLM_BENCH_ROWS=${SLM_BENCH_ROWS:-16 64}
    psql -X -q -c 'CREATE EXTENSION slm_pg' && slm_load bench "$file" && slm_load minilm "$SLM_MODEL_CACHE/all-MiniLM-L6-v2" || exit 1
    for name in ${SLM_BENCH_PARTS:-engine engine_beside}; do
        echo "what,clients,answers/s,p50 ms,p95 ms,CPU ms an answer" >"$out/$name.csv.new"
        test/bench/engine.sh "$out/$name.csv.new" "$name" "$file" && mv "$out/$name.csv.new" "$out/$name.csv" || status=1
    done
    python3 test/bench/report.py "$out" docs/ENGINE.md "test/bench/run_bench.sh engine" engine || status=1
    slm_stop engine
    [ "$names" != engine ] || exit $status
fi

# One model of a shape and type: its line, or a failure that says why.
shape() {
    local file=$1 made
    build/tools/make_model "$file.gguf" "$2" "$3" || return 1
    made=$(build/tools/slm_cli import "$file.gguf" "$file.slm" 2>&1) || { echo "$made" >&2; return 1; }
    build/tools/slm_cli generate "$file.slm" -n 8 -k 64 -j 2 -q 'The harbour was quiet.' 2>&1 | grep -qE ' [1-9][0-9]* output' ||
        { echo "no answer" >&2; return 1; }
    made=$(sed -nE 's/.* ([0-9]+) ms, at most ([0-9]+) MiB.*/\1 \2/p' <<<"$made")
    "$out/bench_forward" "$file.slm" --csv --threads 2 --runs 3 --only prefill,decode --prompt 128 2>>"$out/shapes.txt.new" |
        awk -F, -v head="$2,$3,$(($(stat -c %s "$file.gguf") / 1000000))" -v ms="${made% *}" -v mib="${made#* }" '
            $3 == "prefill" || $3 == "decode" { figures = figures sprintf(",%s,%.0f %%", $6, 100 * $7); n++ }
            END { if (n == 2) printf "%s,%.1f,%s%s\n", head, ms / 1000, mib, figures; exit n != 2 }'
}

if [[ " $names " == *" shapes "* ]]; then
    folder=${SLM_BENCH_DIR:-$out/models}
    : >"$out/shapes.txt.new"
    echo "shape,type,MB,import s,import MiB,prefill 128 tokens/s,of int8 peak,decode tokens/s,of memory bandwidth" >"$out/shapes.csv.new"
    for name in llama-3.2-1b llama-3.2-3b phi-3.5-mini mistral-7b gemma-2-2b; do
        for type in Q4_0 Q4_K_M; do
            echo "-- $name $type"
            rm -f "$folder/shape.gguf" "$folder/shape.slm"
            shape "$folder/shape" $name $type >>"$out/shapes.csv.new" || { echo "$name $type failed"; status=1; }
            rm -f "$folder/shape.gguf" "$folder/shape.slm"
        done
    done
    mv "$out/shapes.csv.new" "$out/shapes.csv" && mv "$out/shapes.txt.new" "$out/shapes.txt"
    python3 test/bench/report.py "$out" docs/SPEED.md "make bench-shapes" shapes || status=1
    [ "$names" != shapes ] || exit $status
fi

python3 test/bench/report.py "$out" docs/SPEED.md "make bench${names:+ (only: $names)}" || status=1
exit $status
