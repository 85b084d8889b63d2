# shellcheck shell=bash
# PostgreSQL's own regression tests, twice: without the library, and preloaded with slm.engine = shared while the engine process
# computes for another database.  Sourced by test/run.sh, whose private server it uses.
#
# $SLM_TEST_POSTGRES names src/test/regress of the sources of the server's major version.  A test passes when it passes, or when its
# result is the same both times: sources of another minor release, or another locale, fail some.

# postgres_once WAY [configuration line ...]: results are in $slm_root/work/postgres_WAY
postgres_once() {
    local way=$1 work=$slm_root/work/postgres_$1 calls= headers
    shift
    headers=$("$slm_bin/pg_config" --includedir-server) # of the server that was copied
    slm_start "pg_$way" "$@" || return 1
    cp -R "$SLM_TEST_POSTGRES" "$work" && mkdir -p "$work/testtablespace" || return 1
    ${CC:-cc} -O2 -fPIC -shared -I"${headers#"$slm_root"}" -o "$work/regress.so" "$work/regress.c" || return 1
    cp "$("$slm_bin/pg_config" --pkglibdir)"/{refint,autoinc}.so "$work/" || return 1
    [ "$(id -u)" -ne 0 ] || chown -R nobody:nogroup "$work"
    if [ "$way" = engine ]; then
        slm_share "$slm_root/models" test/data/tiny.gguf
        psql -Xqc 'CREATE EXTENSION slm_pg' -c "SELECT slm_load_model('tiny', '$slm_root/models/tiny.gguf')" -o /dev/null || return 1
        while psql -XAtqc "SELECT count(slm_generate('a ' || n, max_tokens => 8, model => 'tiny')) FROM generate_series(1, 20) n"; do
            sleep 0.3
        done >"$work/calls" 2>&1 &
        calls=$!
    fi
    as_server sh -c 'cd "$1" && exec "$2" --inputdir=. --bindir="$3" --dlpath=. --max-connections=10 --schedule=parallel_schedule' - \
        "$work" "$(dirname "$("$slm_bin/pg_config" --pgxs)")/../../src/test/regress/pg_regress" "$slm_bin" >"$work/out" 2>&1
    if [ -n "$calls" ]; then
        kill "$calls"
        psql -XAtc 'SELECT state, restarts, requests FROM slm.engine_status' >"$work/status"
    fi
    slm_stop "pg_$way"
}

# Lines that test/run.sh counts.
postgres_suite() {
    local name ok=0 bad=0 work=$slm_root/work/postgres_engine
    [ -r "${SLM_TEST_POSTGRES:-}/parallel_schedule" ] || { echo "skip SLM_TEST_POSTGRES names no src/test/regress"; return 0; }
    postgres_once without && postgres_once engine "shared_preload_libraries = 'slm_pg'" "slm.engine = 'shared'" || return 1
    ok=$(grep -cE '^(test|    ) .* \.\.\. ok|^ok ' "$work/out")
    for name in $(sed -nE 's/^(test|    ) ([a-z0-9_]+) .*FAILED.*/\2/p; s/^not ok [0-9]+ +[-+] ([a-z0-9_]+).*/\1/p' "$work/out"); do
        if cmp -s "$work/results/$name.out" "$slm_root/work/postgres_without/results/$name.out"; then
            echo "$name: as without the library"
            ok=$((ok + 1))
        else
            diff -u "$slm_root/work/postgres_without/results/$name.out" "$work/results/$name.out"
            bad=$((bad + 1))
        fi
    done
    echo "the engine process meanwhile: $(cat "$work/status"), calls that were answered: $(grep -c '^20$' "$work/calls")"
    grep -qE '^running\|0\|[1-9]' "$work/status" || bad=$((bad + 1))
    echo "postgres: $ok passed, $bad failed"
}
