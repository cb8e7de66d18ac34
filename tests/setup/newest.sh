#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# ansible-test sanity and the unit tests with the newest ansible-core that the collection supports, side by side. That core needs a newer
# Python than the collection does (3.12 or later). A machine without one says NOT RUN; in CI that is a failure.
# A shell script and not nox: antsibull-nox downloads development versions of ansible-core or wants containers, and this needs neither.
# Usage: newest.sh [PYTHON]
set -euo pipefail
cd "$(dirname "$0")/../.."
python=
for candidate in ${1:+"$1"} python3.13 "$HOME"/.pyenv/versions/3.13*/bin/python python3.14 python3.12; do
    # The interpreter itself: ansible-test refuses the shims of pyenv.
    python=$("$candidate" -c 'import os, sys, venv; print(os.path.realpath(sys.executable)); sys.exit(sys.version_info < (3, 12))' 2>/dev/null) && break
    python=
done
if [ -z "$python" ]; then
    echo "newest: NOT RUN: no Python 3.12 or later was found. Name one: make newest NEWEST_PYTHON=/path/to/python3.13"
    [ -z "${CI:-}" ] || exit 1
    exit 0
fi
venv=build/newest
tests/setup/venv.sh "$python" tests/requirements/newest.txt "$venv"
mkdir -p build/logs
VENV=$venv tests/setup/sanity.sh >build/logs/sanity-newest.log 2>&1 &
sanity=$!
failed=()
"$venv/bin/python" -m pytest -q tests/unit || failed+=(unit)
wait "$sanity" || { cat build/logs/sanity-newest.log; failed+=(sanity); }
core=$("$venv/bin/python" -c 'import sys, ansible.release as r; print(f"ansible-core {r.__version__} on Python {sys.version.split()[0]}")')
[ ${#failed[@]} = 0 ] || { echo "newest: FAILED with $core: ${failed[*]}" >&2; exit 1; }
echo "newest: sanity and unit tests passed with $core"
