#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs molecule scenarios, two at a time (a machine under emulation keeps one core busy). The output of each goes to build/molecule/SCENARIO.log;
# this script prints when one starts and ends, its current task in between, and the whole log after a failure.
# For a CI with a time limit (times are seconds since 1970): a scenario that has not begun by START_UNTIL is left out, and one that still
# runs at END_AT is ended and has failed. Both are named. This script fails when a scenario failed, or when one of REQUIRED was left out.
# The last line is "molecule: N passed, N failed, N skipped", with the names of those left out; build/molecule/summary holds it too.
# Usage: [START_UNTIL=…] [END_AT=…] [REQUIRED="SCENARIO…"] scenarios.sh SCENARIO…
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p build/molecule
rm -f build/molecule/summary

# The image is built once, before two scenarios wait for it.
.venv/bin/python tests/lab/lab.py image --kernel "${KERNEL:-6.1}"

one() {
    local scenario=$1 log=build/molecule/$1.log start=$SECONDS
    echo "molecule: $scenario starts (log: $log)"
    # By TERM it shows console and journal of the machine, and ends it.
    local command=(tests/setup/molecule.sh "$scenario")
    [ -z "${END_AT:-}" ] || command=(timeout --kill-after=120 "$((END_AT > EPOCHSECONDS ? END_AT - EPOCHSECONDS : 1))" "${command[@]}")
    "${command[@]}" >"$log" 2>&1 &
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
lacking=()
for scenario in ${REQUIRED:-}; do
    [[ " ${skipped[*]} " != *" $scenario "* ]] || lacking+=("$scenario")
done
[ ${#failed[@]} = 0 ] || echo "molecule: FAILED: ${failed[*]}"
[ ${#skipped[@]} = 0 ] || echo "molecule: NOT RUN, because no time was left to begin them: ${skipped[*]}"
[ ${#lacking[@]} = 0 ] || echo "molecule: FAILED, because these must run: ${lacking[*]}"
line="molecule: $passed passed, ${#failed[@]} failed, ${#skipped[@]} skipped"
[ ${#skipped[@]} = 0 ] || line+=" (NOT RUN: ${skipped[*]})"
echo "$line" | tee build/molecule/summary
[ ${#failed[@]} = 0 ] && [ ${#lacking[@]} = 0 ] && [ "$passed" -gt 0 ]
