#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Installs the collection as a user does: builds the tarball, and puts it into an empty collections path, beside an empty virtual environment
# with ansible-core. Nothing of it refers to the checkout. Prints nothing when all is well.
# Usage: installed.sh PYTHON WHERE [PACKAGE…]. WHERE must not exist: it gets venv, collections, home, and ansible, which runs a program of the
# venv in this surrounding: WHERE/ansible ansible-playbook hotpmem.fleet.status. PACKAGE: a pinned package beside ansible-core, such as ziglang.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$1 where=$2
shift 2
[ ! -e "$where" ] || { echo "installed: $where exists. Name a directory that does not" >&2; exit 1; }
mkdir -p "$where"
where=$(cd "$where" && pwd)
log=$where/install.log
failed() { tail -n 20 "$log" >&2; echo "installed: FAILED: see above" >&2; }
trap failed ERR

# What ansible-core needs, with the digests of dev.txt. pip refuses when one is missing here.
wanted=" ansible-core cffi cryptography jinja2 markupsafe packaging pycparser pyyaml resolvelib $* "
awk -v wanted="$wanted" '/^[a-z0-9]/ { split($0, part, "=="); keep = index(wanted, " " part[1] " ") } keep' tests/requirements/dev.txt >"$where/requirements.txt"
"$python" -m venv "$where/venv" >"$log" 2>&1
"$where/venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$where/requirements.txt" >>"$log" 2>&1

cat >"$where/ansible" <<'SCRIPT'
#!/bin/sh
# Runs a program of the venv with this collection only, and without anybody's settings.
here=$(cd "$(dirname "$0")" && pwd)
for name in $(env | sed -n 's/^\(ANSIBLE_[A-Z_]*\)=.*/\1/p'); do unset "$name"; done
export ANSIBLE_HOME="$here/home" ANSIBLE_CONFIG="$here/ansible.cfg" ANSIBLE_COLLECTIONS_PATH="$here/collections" PATH="$here/venv/bin:$PATH"
cd "$here" && exec "$@"
SCRIPT
chmod 755 "$where/ansible"
: >"$where/ansible.cfg"
tarball=$(tests/setup/dist.sh "$where/dist" 2>>"$log")
"$where/ansible" ansible-galaxy collection install --offline --collections-path "$where/collections" "$tarball" >>"$log" 2>&1
