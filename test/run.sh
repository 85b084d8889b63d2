#!/usr/bin/env bash
# Everything that is tested, from a checkout to the last line "N passed, N failed" (exit 1 when anything failed or did not run).
#
#   lint        the rules of the source (test/lint/run.sh)
#   build       test/build: outside the tree, into a package, as a release; what is said where something is missing
#   models      models/fetch: resume, damage, refusals
#   unit        test/unit and test/golden: C programs on the engine
#   sanitize    test/unit again under AddressSanitizer and UBSan, and the fuzz corpora replayed
#   regress     pg_regress (sql/, expected/) on a private cluster, as an unprivileged user, computing with one thread
#   orders      pg_regress again, each file alone and all in reverse (only with SLM_TEST_LONG=1)
#   isolation   test/isolation on the same cluster
#   preloaded   pg_regress again with shared_preload_libraries = slm_pg and slm.engine = local (only with SLM_TEST_LONG=1)
#   shared      pg_regress again with slm.engine = shared and another instruction set: same answers (D4)
#   tap         test/tap: several sessions, kill -9, restart, cancel, memory
#   data        test/tap/data: what needs data sets of others ($SLM_TEST_DATA names their folder) or extensions of others
#   clients     test/clients: what drivers send and get (psycopg, asyncpg, node-postgres)
#   postgres    PostgreSQL's own regression tests with the engine process at work ($SLM_TEST_POSTGRES; only when it is named)
#   docs        the examples of README.md and docs: what they show is what happens, docs/reference is what the server says, and no
#               link of the site is broken
#
# usage: test/run.sh [suite ...]         logs: build/log/SUITE.log, results: build/log/SUITE/
# SLM_TEST_OOM=1: the kernel takes the engine process for want of memory too (064; root, on a machine that does little else).
# SLM_TEST_LONG=1 asks for the long variants; SLM_TAP=002 runs only the TAP files that begin so (SLM_TAP=compare: of data).
# SLM_ENGINE=shared (or local) runs the suites regress, orders, isolation, tap, data, clients and docs preloaded with slm.engine set so;
# what a test sets itself stands.
# Skipped tests are counted and listed at the end.  Where CI is set, each is a failure, those of the suite "data" excepted.
set -u
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=../scripts/cluster.sh
. scripts/cluster.sh
# shellcheck source=postgres.sh
. test/postgres.sh

other_isa=ref # than the one that "auto" takes on the machines where it matters
! grep -qw avx2 /proc/cpuinfo || other_isa=avx2
long=${SLM_TEST_LONG:+orders preloaded}
all_suites="lint build models unit sanitize regress isolation shared tap data clients docs $long"
suites=${*:-$all_suites}
passed=0
failed=0
mkdir -p build/log
: >build/log/skipped

# What SLM_ENGINE adds to the configuration of every server; TAP tests take it as $TEMP_CONFIG.
engine_conf=()
[ -z "${SLM_ENGINE:-}" ] || engine_conf=("shared_preload_libraries = 'slm_pg'" "slm.engine = '$SLM_ENGINE'")

wanted() { case " $suites " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }

# skips SUITE SCRIPT: notes what a suite's log says was skipped; the script for sed prints the reasons.
skips() {
    local suite=$1 n
    sed -nE "$2" "build/log/$suite.log" | sed "s/^/$suite: /" >"build/log/$suite.skipped"
    cat "build/log/$suite.skipped" >>build/log/skipped
    n=$(wc -l <"build/log/$suite.skipped")
    if [ -n "${CI:-}" ] && [ "$suite" != data ]; then failed=$((failed + n)); fi
}

# add SUITE PASSED FAILED STATUS SECONDS: one line of the summary; a suite that fails without a failed test, or runs none, is a failure.
add() {
    local suite=$1 ok=$2 bad=$3 rc=$4 seconds=$5
    if [ "$rc" -ne 0 ] && [ "$bad" -eq 0 ]; then
        bad=1
        echo "$suite: ended with status $rc"
    elif [ $((ok + bad)) -eq 0 ] && [ ! -s "build/log/$suite.skipped" ]; then
        bad=1
        echo "$suite: ran no tests"
    fi
    [ "$bad" -eq 0 ] || tail -n "${SLM_TEST_TAIL:-80}" "build/log/$suite.log"
    printf '== %-10s %6d passed, %d failed  (%d s)\n' "$suite" "$ok" "$bad" "$seconds"
    passed=$((passed + ok))
    failed=$((failed + bad))
}

# beside SUITE COMMAND ...: runs a suite in a working directory of its own, and so on servers of its own, while others run.
beside() {
    local suite=$1
    shift
    fill_work "$slm_root/work_$suite"
    (
        slm_work=$slm_root/work_$suite
        PGHOST=$slm_work
        "$@"
    ) >"build/log/$suite.said" 2>&1 &
    beside_pid=$!
}

# join SUITE: waits for it, and counts it.
join() {
    local suite=$1 ok bad
    wait "$beside_pid"
    cat "build/log/$suite.said"
    read -r ok bad < <(sed -nE "s/^== $suite +([0-9]+) passed, ([0-9]+) failed.*/\1 \2/p" "build/log/$suite.said")
    passed=$((passed + ${ok:-0}))
    failed=$((failed + ${bad:-1}))
}

# Suites whose log ends with "N passed, N failed" lines; make's own sums are the lines without a name.
run_counted() {
    local suite=$1 begin=$SECONDS rc ok bad
    shift
    "$@" >"build/log/$suite.log" 2>&1
    rc=$?
    ok=$(awk '/^[^ ]+: [0-9]+ passed, [0-9]+ failed/ { n += $2 } END { print n + 0 }' "build/log/$suite.log")
    bad=$(awk '/^[^ ]+: [0-9]+ passed, [0-9]+ failed/ { n += $4 } END { print n + 0 }' "build/log/$suite.log")
    skips "$suite" 's/^skip (.*)/\1/p'
    add "$suite" "$ok" "$bad" "$rc" $((SECONDS - begin))
}

# pg_regress says "test x ... ok" up to 15 and speaks TAP from 16 on.
run_regress() {
    local suite=$1 begin=$SECONDS rc ok bad
    shift
    as_server "$@" >"build/log/$suite.log" 2>&1
    rc=$?
    rm -rf "build/log/$suite"
    mkdir "build/log/$suite"
    cp -R "$slm_root"/work/{results,output_iso/results} "build/log/$suite/" 2>/dev/null
    ok=$(grep -cE '^(test .* \.\.\. ok|     .* \.\.\. ok|ok [0-9]+)' "build/log/$suite.log")
    bad=$(grep -cE '^(test .* \.\.\. .*FAILED|     .* \.\.\. .*FAILED|not ok [0-9]+)' "build/log/$suite.log")
    rm -f "build/log/$suite.skipped"
    [ "$rc" -eq 0 ] || as_server find . -name regression.diffs -exec cat {} + >>"build/log/$suite.log" 2>/dev/null
    add "$suite" "$ok" "$bad" "$rc" $((SECONDS - begin))
}

# Each file of the regression tests in a database of its own, then all in reverse in one.
each_order() {
    local name failed=0 names=()
    for name in sql/[0-9]*.sql; do
        name=$(basename "$name" .sql)
        names=("$name" "${names[@]}")
        "$@" ISOLATION= REGRESS="$name" || failed=1
    done
    "$@" ISOLATION= REGRESS="${names[*]}" || failed=1
    return $failed
}

# join_memory_group NAME: with SLM_TEST_OOM=1 puts this shell into a memory cgroup of its own, which the server's user may limit; group is
# its folder, or "".
join_memory_group() {
    local parent=/sys/fs/cgroup limit
    [ ! -d "$parent/memory" ] || parent=$parent/memory
    group=$parent/$1
    [ -n "${SLM_TEST_OOM:-}" ] && [ "$(id -u)" -eq 0 ] && mkdir "$group" 2>/dev/null || { group=; return; }
    for limit in memory.limit_in_bytes memory.max; do
        if [ -e "$group/$limit" ] && chown nobody "$group/$limit" && echo "$BASHPID" 2>/dev/null >"$group/cgroup.procs"; then return; fi
    done
    rmdir "$group"
    group=
}

# run_tap SUITE FILE ...: dealt into two hands that are played at the same time, since these tests wait more than they compute.
run_tap() {
    local suite=$1 begin=$SECONDS rc=0 ok bad pgxs hand files pids=() group
    shift
    pgxs=$(dirname "$("$slm_bin/pg_config" --pgxs)")/../..
    for hand in 0 1; do
        mapfile -t files < <(printf '%s\n' "$@" | awk -v hand="$hand" 'NR % 2 == hand')
        [ "${#files[@]}" -gt 0 ] || continue
        (
            join_memory_group "slm_$suite.$$.$hand"
            as_server env TESTDIR="$slm_work" TESTLOGDIR="$slm_work/tap_log" TESTDATADIR="$slm_work/tap_data" \
                TEMP_CONFIG="$slm_work/engine.conf" PERL5LIB="$pgxs/src/test/perl:${PERL5LIB:-}" \
                PG_REGRESS="$pgxs/src/test/regress/pg_regress" SLM_TEST_CGROUP="$group" \
                prove -v --timer "${files[@]}" >"build/log/$suite.$hand" 2>&1
        ) &
        pids+=($!)
    done
    for hand in "${pids[@]}"; do wait "$hand" || rc=$?; done
    for group in /sys/fs/cgroup/{memory/,}"slm_$suite.$$".[01]; do [ ! -d "$group" ] || rmdir "$group"; done
    cat "build/log/$suite".[01] >"build/log/$suite.log" && rm "build/log/$suite".[01]
    ok=$(grep -E '^ok [0-9]+' "build/log/$suite.log" | grep -vciE '# skip')
    bad=$(grep -E '^not ok [0-9]+' "build/log/$suite.log" | grep -vc '# TODO')
    skips "$suite" 's/^ok [0-9]+ # (SKIP|skip) (.*)/\2/p; s/^.*\/([^ ]+\.pl) \.+ skipped: (.*)/\1: \2/p'
    [ "$rc" -eq 0 ] || as_server sh -c 'tail -n 30 tap_log/* tmp_check/log/*' >>"build/log/$suite.log" 2>/dev/null
    add "$suite" "$ok" "$bad" "$rc" $((SECONDS - begin))
}

shared_suite() {
    slm_start shared "shared_preload_libraries = 'slm_pg'" "slm.engine = 'shared'" "slm.isa = '$other_isa'"
    run_regress shared "${check[@]}" ISOLATION=
    slm_stop shared
}

# The server's user may not read the checkout: what pg_regress, isolationtester and prove need goes into a directory of its own.
fill_work() {
    local path
    for path in Makefile slm_pg.control sql expected docs packaging test/isolation test/tap test/data test/mutations build/tools \
        test/golden/encoders/seq-bert-3.tar.xz test/golden/encoders/seq-xlmr-rerank.tar.xz test/golden/encoders/jina-v3.tar.xz \
        test/golden/spans/gliner-token.tar.xz test/golden/decision/laya.gguf.xz; do
        [ -e "$path" ] || continue
        mkdir -p "$1/$(dirname "$path")"
        cp -R "$path" "$1/$(dirname "$path")/"
    done
    printf '%s\n' "${engine_conf[@]}" >"$1/engine.conf"
    # pg_regress puts results beside the tests, isolationtester into output_iso
    [ "$(id -u)" -ne 0 ] || chown -R nobody:nogroup "$1"
}

prepare_work() {
    ! wanted tap || make --no-print-directory build/tools/old_image build/tools/slm_engine_hooks >>build/log/install.log 2>&1 || return 1
    fill_work "$slm_work"
    # what is not part of the project, where it is at hand
    if [ -n "${SLM_TEST_DATA:-}" ]; then
        slm_share "$slm_root/data" "$SLM_TEST_DATA"/*
        export SLM_TEST_DATA=$slm_root/data
    fi
}

fetched=0
models/fetch --default >build/log/fetch.log 2>&1 || fetched=$?
[ "$fetched" -eq 0 ] || { tail -n 20 build/log/fetch.log; failed=$((failed + 1)); }

if wanted lint; then run_counted lint make --no-print-directory lint; fi
if wanted build; then run_counted build sh -c 'make --no-print-directory -j2 all && python3 test/build/test_build.py'; fi
if wanted models; then run_counted models python3 test/models/test_fetch.py; fi
if wanted unit; then run_counted unit make --no-print-directory -j2 unit; fi
if wanted sanitize; then run_counted sanitize make --no-print-directory -j2 sanitize; fi

if wanted regress || wanted orders || wanted isolation || wanted preloaded || wanted shared || wanted tap || wanted data ||
    wanted clients || wanted postgres || wanted docs; then
    if slm_install_private >build/log/install.log 2>&1 && prepare_work; then
        check=(make --no-print-directory installcheck "PG_CONFIG=$slm_bin/pg_config" "SLM_MODEL_CACHE=$SLM_MODEL_CACHE")
        if wanted shared; then beside shared shared_suite; fi
        if wanted regress || wanted orders || wanted isolation; then
            slm_start plain "slm.threads = 1" "${engine_conf[@]}"
            if wanted regress; then run_regress regress "${check[@]}" ISOLATION=; fi
            if wanted orders; then run_regress orders bash -c "$(declare -f each_order); each_order \"\$@\"" - "${check[@]}"; fi
            if wanted isolation; then run_regress isolation "${check[@]}" REGRESS=; fi
            slm_stop plain
        fi
        if wanted preloaded; then
            slm_start preloaded "shared_preload_libraries = 'slm_pg'" "slm.engine = 'local'"
            run_regress preloaded "${check[@]}" ISOLATION=
            slm_stop preloaded
        fi
        if wanted shared; then join shared; fi
        if wanted tap; then run_tap tap test/tap/"${SLM_TAP:-}"*.pl; fi
        if wanted data; then beside data run_tap data test/tap/data/"${SLM_TAP:-}"*.pl; fi
        if wanted clients; then
            slm_start clients "shared_preload_libraries = 'slm_pg'" "${engine_conf[@]}"
            run_counted clients bash test/clients/run.sh
            slm_stop clients
        fi
        if wanted postgres; then run_counted postgres postgres_suite; fi
        if wanted docs; then
            slm_start pages "shared_preload_libraries = 'slm_pg'" "wal_level = logical" "${engine_conf[@]}"
            run_counted docs sh -c 'python3 scripts/record_docs.py --check; pages=$?; python3 scripts/reference.py --check || pages=1
                python3 scripts/site.py && exit $pages'
            slm_stop pages
        fi
        if wanted data; then join data; fi
    else
        tail -n 60 build/log/install.log
        echo "the extension could not be built or installed: the suites that need a server did not run"
        failed=$((failed + 1))
    fi
fi

skipped=$(wc -l <build/log/skipped)
if [ "$skipped" -gt 0 ]; then
    echo "$skipped skipped${CI:+ (a failure each, except in data)}:"
    sort build/log/skipped | uniq -c
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
