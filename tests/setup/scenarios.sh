#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs molecule scenarios, two at a time (a machine under emulation keeps one core busy). The output of each goes to build/molecule/SCENARIO.log;
# here it says when one starts and ends, what it is at in between, and on failure the whole log.
# With START_UNTIL (seconds since 1970), scenarios not begun by then are left out, and named: for a CI with a limit of its own.
# Usage: [START_UNTIL=…] scenarios.sh SCENARIO…
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p build/molecule

# The image is built once, before two scenarios wait for it.
.venv/bin/python tests/lab/lab.py image --kernel "${KERNEL:-6.1}"

one() {
    local scenario=$1 log=build/molecule/$1.log start=$SECONDS
    echo "molecule: $scenario starts (log: $log)"
    tests/setup/molecule.sh "$scenario" >"$log" 2>&1 &
    local child=$! said=0
    while kill -0 "$child" 2>/dev/null; do
        sleep 1
        if [ $((SECONDS - start)) -ge $((said + 60)) ]; then
            said=$((SECONDS - start))
            echo "molecule: $scenario: $said s, at: $(grep -aoE '(TASK|PLAY) \[.*\]' "$log" | tail -n 1)"
        fi
    done
    if wait "$child"; then
        tail -n 1 "$log"
    else
        echo "molecule: $scenario FAILED after $((SECONDS - start)) s. Its log:"
        cat "$log"
        return 1
    fi
}

failed=()
skipped=()
waiting=("$@")
declare -A running=()
while true; do
    while [ ${#waiting[@]} -gt 0 ] && [ ${#running[@]} -lt 2 ]; do
        if [ "$EPOCHSECONDS" -gt "${START_UNTIL:-$EPOCHSECONDS}" ]; then
            skipped+=("${waiting[0]}")
        else
            one "${waiting[0]}" &
            running[$!]=${waiting[0]}
        fi
        waiting=("${waiting[@]:1}")
    done
    [ ${#running[@]} -gt 0 ] || break
    code=0
    wait -n -p ended "${!running[@]}" || code=$?
    [ "$code" = 0 ] || failed+=("${running[$ended]}")
    unset "running[$ended]"
done
passed=$(($# - ${#failed[@]} - ${#skipped[@]}))
[ ${#failed[@]} = 0 ] || echo "molecule: failed: ${failed[*]}"
[ ${#skipped[@]} = 0 ] || echo "molecule: NOT RUN, there was no time left to begin them: ${skipped[*]}"
echo "molecule: $passed passed, ${#failed[@]} failed, ${#skipped[@]} skipped"
[ ${#failed[@]} = 0 ] && [ "$passed" -gt 0 ]
