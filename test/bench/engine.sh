#!/usr/bin/env bash
# Sessions that compute alone beside the engine process, from a pgbench client's point of view; run_bench.sh engine calls it.
#
# usage: engine.sh OUT.csv NAME MODEL.gguf       a private cluster is up (scripts/cluster.sh), preloaded, model MiniLM loaded as "minilm"
# NAME: engine, engine_1b (without embeddings), engine_beside (who computes beside whom)
# SLM_BENCH_SECONDS (4) a measurement, SLM_BENCH_CLIENTS (1 2 4 8 16 32 64), SLM_BENCH_LOCAL_CLIENTS (the same) of sessions that compute
# alone, SLM_BENCH_ROWS (16 64 256) of one statement; LLAMA_SERVER: a program of llama.cpp that answers beside it.
# Lines: what,clients,answers/s,p50 ms,p95 ms,CPU ms an answer.  CPU time is that of the server's processes, clients left out.
set -uo pipefail
csv=$1 name=$2 model=$3
seconds=${SLM_BENCH_SECONDS:-4}
clients=${SLM_BENCH_CLIENTS:-1 2 4 8 16 32 64}
local_clients=${SLM_BENCH_LOCAL_CLIENTS:-$clients}
work=$(mktemp -d)
postmaster=$(head -1 "$(psql -XAtc 'SHOW data_directory')/postmaster.pid")
llama=
trap 'rm -rf "$work"; [ -z "$llama" ] || kill "$llama"' EXIT

prompt="'Tell a long story about the number ' || :n"
cat >"$work/generate.sql" <<SQL
\set n random(1, 1000000)
SELECT slm_generate($prompt, max_tokens => 32, model => 'bench');
SQL
cat >"$work/classify.sql" <<SQL
\set n random(1, 1000000)
SELECT slm_classify('Order ' || :n || ': my card has not arrived yet', ARRAY['billing', 'delivery', 'account'], model => 'bench');
SQL
echo "SELECT slm_embed('my card has not arrived yet, what can I do', model => 'minilm');" >"$work/embed.sql"
echo "SELECT slm_classify('my card has not arrived yet', ARRAY['billing', 'delivery', 'account'], model => 'minilm');" >"$work/label.sql"

sql() { psql -XAtq -v ON_ERROR_STOP=1 -c "$1"; }
# Hundredths of a second that the server's processes have taken, those that have ended included.
cpu() {
    local engine
    engine=$(sql "SELECT pid FROM slm.engine_status")
    cat "/proc/$postmaster/stat" ${engine:+"/proc/$engine/stat"} |
        awk '{ n += $14 + $15 + (NR == 1 ? $16 + $17 : 0) } END { print n }'
}
# line WHAT CLIENTS BEFORE AFTER FILE...: one line of the table from pgbench's logs; of the answers between $since and $until, where set.
since= until=
line() {
    local what=$1 n=$2 before=$3 after=$4
    shift 4
    # the columns of the log: client, number, microseconds, script, and when it ended in seconds and microseconds
    cat "$@" | awk -v since="${since:-0}" -v until="${until:-1e18}" '$5 + $6 / 1e6 >= since && $5 + $6 / 1e6 <= until' |
        sort -n -k 3 | awk -v head="$what,$n" -v ms=$(((after - before) * 10)) '
        { a[NR] = $3 / 1000; end = $5 + $6 / 1e6; begin = end - $3 / 1e6
          first = NR == 1 || begin < first ? begin : first; last = end > last ? end : last }
        END { printf "\"%s,%.1f,%.1f,%.1f,%.1f\n", head, NR / (last - first), a[int(NR * 0.5) + 1],
                  a[int(NR * 0.95) + (NR * 0.95 < NR)], ms / NR }' |
        sed 's/,\([0-9]*,[^,]*,[^,]*,[^,]*,[^,]*\)$/",\1/' | tee -a "$csv"
}
# clients SCRIPT CLIENTS SECONDS [ROLE]
clients() {
    rm -f "$work/log.$1.${4:-}".*
    pgbench -n -U "${4:-$PGUSER}" -T "$3" -c "$2" -l --log-prefix="$work/log.$1.${4:-}" -f "$work/$1.sql" "$PGDATABASE" >/dev/null 2>&1
}
# load WHAT SCRIPT CLIENTS [ROLE]
load() {
    local before
    before=$(cpu)
    clients "$2" "$3" "$seconds" "${4:-}"
    sleep 0.2
    line "$1" "$3" "$before" "$(cpu)" "$work/log.$2.${4:-}".*
}
# The process takes a call that somebody waits for as a sign of others for a second.
engine() {
    sql "ALTER SYSTEM SET slm.engine = '$1'" && sql "SELECT pg_reload_conf()" >/dev/null && sleep 0.3
    sql "SELECT slm_generate('x', max_tokens => 1, model => 'bench'), slm_embed('x', model => 'minilm')" >/dev/null
    sleep 1.1
}
# stories ROWS TOKENS: the statement that tells so many
stories() {
    echo "SELECT count(slm_generate('Tell a long story about the number ' || 7001 * n, max_tokens => $2, model => 'bench'))
        FROM generate_series(1, $1) n"
}
# statement WHAT ROWS: one statement in a session alone
statement() {
    local before begin
    before=$(cpu)
    begin=$(date +%s%N)
    sql "$(stories "$2" 32)" >/dev/null
    begin=$((($(date +%s%N) - begin) / 1000))
    sleep 0.2
    awk -v head="$1\",\"$2 rows" -v us="$begin" -v rows="$2" -v ms=$((($(cpu) - before) * 10)) \
        'BEGIN { printf "\"%s\",%.1f,,,%.1f\n", head, 1e6 * rows / us, ms / rows }' | tee -a "$csv"
}
# cpu_of ROLE: hundredths of a second that the model took for it
cpu_of() { sql "SELECT coalesce(sum(cpu_seconds) * 100, 0)::int FROM slm.usage WHERE role = '$1'"; }
# One client beside 63 of another role, while all are at work: who begins earlier or ends later has the machine alone then.
shares() {
    local one many one_after many_after
    clients generate 63 $((seconds + 6)) bench_many &
    sleep 3
    one=$(cpu_of bench_one) many=$(cpu_of bench_many) since=$(date +%s.%N)
    clients generate 1 "$seconds" bench_one
    until=$(date +%s.%N) one_after=$(cpu_of bench_one) many_after=$(cpu_of bench_many)
    line "a role of one client, beside the other" 1 "$one" "$one_after" "$work/log.generate.bench_one".*
    wait $!
    line "a role of 63 clients, beside it" 63 "$many" "$many_after" "$work/log.generate.bench_many".*
    since='' until=''
    awk -v one=$((one_after - one)) -v many=$((many_after - many)) 'BEGIN {
        printf "\"CPU seconds of the role of one: %.2f, of the other: %.2f\",64,,,,\n", one / 100, many / 100 }' | tee -a "$csv"
}
serve_llama() {
    [ -n "${LLAMA_SERVER:-}" ] || return
    "$LLAMA_SERVER" -m "$model" --port 5999 -np 64 -c 32768 -cb -t "$(nproc)" >"$work/llama.log" 2>&1 &
    llama=$!
    for _ in $(seq 300); do curl -sf http://127.0.0.1:5999/health >/dev/null && return || sleep 0.2; done
    tail -n 5 "$work/llama.log" >&2
}
first_call() {
    local i
    for i in 1 2 3 4 5 6 7 8 9; do
        printf '%s\n' '\timing on' "SELECT slm_embed('hello there', model => 'minilm') \\g /dev/null" | psql -XAtq |
            sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p'
    done | sort -n | sed -n 5p
}

case $name in
*beside)
    engine shared
    sql "ALTER SYSTEM SET slm.job_max_load = 0" && sql "SELECT pg_reload_conf()" >/dev/null
    for what in classify generate; do load "$what, alone" "$what" 1; done
    sql "$(stories 100000 64)" >/dev/null 2>&1 &
    sleep 2
    for what in classify generate; do load "$what, beside a statement of many rows" "$what" 1; done
    sql "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT count(slm_generate%'" >/dev/null
    wait $!
    sql "CREATE TABLE engine_docs AS SELECT n AS id, 'Tell a long story about the number ' || n AS body, NULL::text AS story
            FROM generate_series(1, 5000) n" &&
        sql "ALTER TABLE engine_docs ADD PRIMARY KEY (id)" &&
        sql "SELECT slm_create_job('engine', 'engine_docs', 'story', 'slm_generate(body, max_tokens => 32, model => ''bench'')')" >/dev/null
    for _ in $(seq 100); do
        [ "$(sql "SELECT running LIKE '%job 0' FROM slm.engine_status")" != f ] || break
        sleep 0.1
    done
    for what in classify generate; do load "$what, beside a job" "$what" 1; done
    sql "SELECT slm_drop_job('engine')" >/dev/null && sql "DROP TABLE engine_docs"
    sql "CREATE ROLE bench_one LOGIN" && sql "CREATE ROLE bench_many LOGIN" && sql "SELECT slm_grant_model('bench', 'public')" >/dev/null
    load "a role of one client, alone" generate 1 bench_one
    load "a role of 63 clients, alone" generate 63 bench_many
    shares
    ;;
*)
    # all that is compared in turn, as the machine's own speed changes
    serve_llama
    for n in $clients; do
        for mode in local shared; do
            [[ $mode = shared || " $local_clients " == *" $n "* ]] || continue
            engine $mode
            load "$mode" generate "$n"
        done
        [ -z "$llama" ] || python3 test/bench/http_clients.py http://127.0.0.1:5999 "$n" "$seconds" "$llama" | tee -a "$csv"
    done
    for n in ${SLM_BENCH_ROWS:-16 64 256}; do
        for mode in local shared; do
            engine $mode
            statement "one statement, $mode" "$n"
        done
    done
    [ "$name" = engine ] || exit 0
    for mode in local shared; do
        engine $mode
        load "embedding, $mode" embed 1
        load "label by embeddings, $mode" label 1
        echo "\"first embedding of a new connection, $mode\",1,,$(first_call),," | tee -a "$csv"
    done
    ;;
esac
