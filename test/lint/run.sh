#!/bin/sh
# Runs every check of this folder; the last line is "lint: N passed, N failed".
set -u
cd "$(dirname "$0")/../.." || exit 1
passed=0
failed=0
for check in layers symbols headers; do
    if sh "test/lint/check_$check.sh"; then
        passed=$((passed + 1))
    else
        echo "broken: $check"
        failed=$((failed + 1))
    fi
done
for check in source docs; do
    out=$(python3 "test/lint/check_$check.py")
    printf '%s\n' "$out" | sed '$d'
    passed=$((passed + $(printf '%s\n' "$out" | sed -n '$s/.*: \([0-9]*\) passed.*/\1/p')))
    failed=$((failed + $(printf '%s\n' "$out" | sed -n '$s/.* \([0-9]*\) failed.*/\1/p')))
done
echo "lint: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
