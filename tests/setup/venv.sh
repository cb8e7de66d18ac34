#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Makes a virtual environment with pinned packages, in which Ansible finds the checkout as hotpmem.fleet. The stamp is the digest of what
# is wanted: another requirements file or interpreter makes a new one.
# Usage: venv.sh PYTHON REQUIREMENTS VENV
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$1 requirements=$2 venv=$3
stamp=$({ cat "$requirements"; "$python" -c 'import sys; print(sys.version, sys.base_prefix)'; } | sha256sum | cut -d' ' -f1)
[ "$(cat "$venv/.stamp" 2>/dev/null || true)" != "$stamp" ] || exit 0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "venv: Python packages into $venv (pinned in $requirements)"
rm -rf "$venv"
mkdir -p "$(dirname "$venv")"
"$python" -m venv "$venv"
if ! "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$requirements" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "venv: pip could not install $requirements: see above" >&2
    exit 1
fi
mkdir -p "$venv/collections/ansible_collections/hotpmem"
ln -sfn "$(realpath --relative-to="$venv/collections/ansible_collections/hotpmem" .)" "$venv/collections/ansible_collections/hotpmem/fleet"
echo "$stamp" >"$venv/.stamp"
