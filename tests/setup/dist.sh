#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Builds the tarball of the collection from the files that git has, as they are in the work tree, and prints its path.
# Usage: dist.sh [directory for the tarball, default build/dist]
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p "${1:-build/dist}"
out=$(cd "${1:-build/dist}" && pwd)
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard --deduplicate | rsync -a --from0 --ignore-missing-args --files-from=- ./ "$copy/"
.venv/bin/ansible-galaxy collection build --force --output-path "$out" "$copy" >"$copy/.log" || { cat "$copy/.log" >&2; exit 1; }
sed -n 's/^Created collection for .* at //p' "$copy/.log"
