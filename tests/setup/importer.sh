#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Imports the tarball as Galaxy does at an upload. Fails when the importer fails or warns.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tarball=$(tests/setup/dist.sh "$work")
# The importer runs ansible-doc and ansible-lint. ansible-test sanity runs by `make sanity`, and the importer would want a container for it.
printf '[galaxy-importer]\nRUN_ANSIBLE_DOC = True\nRUN_ANSIBLE_LINT = True\nRUN_ANSIBLE_TEST = False\nCHECK_CHANGELOG = True\nANSIBLE_LOCAL_TMP = %s/tmp\n' "$work" >"$work/importer.cfg"
export GALAXY_IMPORTER_CONFIG=$work/importer.cfg PATH=$PWD/.venv/bin:$PATH
log=$PWD/build/logs/importer.log
mkdir -p build/logs
code=0
(cd "$work" && python -m galaxy_importer.main "$tarball") >"$log" 2>&1 || code=$?
if [ "$code" != 0 ] || grep -E '^(WARNING|ERROR)|Traceback' "$log"; then
    tail -n 20 "$log" >&2
    echo "importer: FAILED ($code): see above and $log" >&2
    exit 1
fi
grep -q 'Importer processing completed successfully' "$log" || { tail -n 20 "$log" >&2; exit 1; }
echo "importer: no warnings"
