#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Every linter over everything; all of them run, and it fails when one did.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
bin=$PWD/.venv/bin
export PATH=$bin:$PATH ANSIBLE_CONFIG=$PWD/ansible.cfg ANSIBLE_COLLECTIONS_PATH=$PWD/.venv/collections
failed=()
run() { local name=$1; shift; "$@" || failed+=("$name"); }

mapfile -t shell < <(git ls-files '*.sh' .ci/run)
# Python in files without a suffix.
mapfile -t scripts < <(git grep -lE '^#!/usr/bin/python3' -- extensions; echo docs/applications/sysv-segments)
run ruff "$bin/ruff" check --quiet plugins tests roles extensions "${scripts[@]}"
run ruff-format "$bin/ruff" format --quiet --check plugins tests roles extensions "${scripts[@]}"
run mypy "$bin/mypy" --no-error-summary tests/lab/lab.py tests/demo/demo.py
run mypy-strict "$bin/mypy" --no-error-summary --config-file tests/setup/mypy.ini
run yamllint "$bin/yamllint" --strict .
run shellcheck shellcheck "${shell[@]}"
run helper env -u MAKEFLAGS make --no-print-directory --output-sync --jobs="$(nproc)" lint-helper
run layers env PYTHONPATH="$ANSIBLE_COLLECTIONS_PATH" "$bin/lint-imports" --no-logo --no-cache tests/setup/layers.ini
run prose "$bin/python" tests/setup/prose.py
run docs "$bin/antsibull-docs" lint-collection-docs --plugin-docs --validate-collection-refs self .
run reuse "$bin/reuse" lint --quiet
run ansible-lint "$bin/ansible-lint" --nocolor --strict
if [ ${#failed[@]} -gt 0 ]; then
    echo "lint: FAILED: ${failed[*]}" >&2
    exit 1
fi
echo "lint: clean"
