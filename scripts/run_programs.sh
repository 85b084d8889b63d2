#!/bin/sh
# Runs test programs, as many at a time as there are processors (SLM_TEST_JOBS), and ends with their sum, "N passed, N failed" (exit 1 when
# anything failed).
#
# Each prints "name: N passed, N failed" as its last line.  A program that dies, hangs (SLM_TEST_TIMEOUT seconds, 300) or
# prints no such line counts as one failure, so that no test can vanish unnoticed, unless it says "skip name: why", which is shown.
# SLM_TEST_RUNNER, an emulator, runs them where it is set.
set -u
limit=${SLM_TEST_TIMEOUT:-300}
passed=0
failed=0
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
[ $# -gt 0 ] || echo "no test programs"
export dir limit
i=0
for program in "$@"; do
    i=$((i + 1))
    printf '%s %s\n' "$i" "$program"
done | xargs -r -n 2 -P "${SLM_TEST_JOBS:-$(nproc)}" sh -c \
    'timeout -k 5 "$limit" ${SLM_TEST_RUNNER:-} "$2" >"$dir/$1" 2>&1; echo $? >"$dir/$1.rc"' sh
i=0
for program in "$@"; do
    i=$((i + 1))
    out=$dir/$i
    rc=$(cat "$out.rc" 2>/dev/null || echo 1)
    line=$(grep -aE '^[^ ]+: [0-9]+ passed, [0-9]+ failed' "$out" | tail -n 1)
    p=$(printf '%s\n' "$line" | sed -n 's/.*: \([0-9]*\) passed.*/\1/p')
    f=$(printf '%s\n' "$line" | sed -n 's/.* \([0-9]*\) failed.*/\1/p')
    if [ -z "$line" ] && [ "$rc" -eq 0 ] && grep -aq '^skip ' "$out"; then
        :
    elif [ -z "$line" ] || { [ "$rc" -ne 0 ] && [ "${f:-0}" -eq 0 ]; }; then
        f=$((${f:-0} + 1))
        echo "$program ended with status $rc$([ "$rc" -eq 124 ] && echo " (timeout after $limit s)")"
    fi
    [ "${f:-0}" -eq 0 ] || tail -n 60 "$out" | sed 's/^/  | /'
    grep -a '^skip ' "$out"
    echo "$(basename "$program"): ${p:-0} passed, ${f:-0} failed"
    passed=$((passed + ${p:-0}))
    failed=$((failed + ${f:-0}))
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
