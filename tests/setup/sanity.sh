#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# ansible-test sanity, without docker. It wants to stand in ansible_collections/hotpmem/fleet, so it gets a copy of what git has, but
# for what no collection ships: the lab, the helper's tests (ruff and mypy see to them), the programs that scenarios put on machines, and
# captured sysfs trees.
# Usage: [VENV=.venv] sanity.sh [argument of ansible-test …]. VENV is the virtual environment whose ansible-core and Python it runs.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=$(cd "${VENV:-.venv}" && pwd)
python=$(readlink -f "$venv/bin/python")
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
# One copy for each version of Python, so that two versions can run at the same time.
copy=$PWD/build/sanity/$version/ansible_collections/hotpmem/fleet
rm -rf "$copy"
mkdir -p "$copy"
git ls-files -z --cached --others --exclude-standard | grep -zEv '^(\.ci|extensions/molecule/[a-z_]+/files|tests/(bench|demo|fleet|helper|lab|setup|unit/fixtures))/' | rsync -a --from0 --files-from=- ./ "$copy/"
git -C "$copy" init --quiet
git -C "$copy" add --all

# ansible-test fetches get-pip.py to make its virtual environments; the pip that comes with Python does the same.
cache=$HOME/.ansible/test/cache
mkdir -p "$cache"
pip_version=$(sed -nE "s/^ +pip='([0-9.]+)',$/\1/p" "$venv"/lib/python*/site-packages/ansible_test/_internal/python_requirements.py | head -n 1)
get_pip=$cache/get_pip_${pip_version//./_}.py
[ -e "$get_pip" ] || printf 'import ensurepip\n\nensurepip.bootstrap()\n' >"$get_pip"
cd "$copy"
"$venv/bin/ansible-test" sanity --local --python "$version" --python-interpreter "$python" --color no "$@"
