#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Builds the tarball of a release into build/release and prints how to upload it. Refuses, with every reason, when the tree is not a release:
# galaxy.yml still has the repository that can't exist, the changelog lacks the version, or the commit is not the tagged one.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=$(sed -n 's/^version: *//p' galaxy.yml)
reasons=()
for field in repository documentation homepage issues; do
    address=$(sed -n "s/^$field: *//p" galaxy.yml)
    [[ $address == https://* && $address != *.invalid/* ]] ||
        reasons+=("galaxy.yml has no public address for $field: set it to a page that users of the collection can open")
done
grep -qx "v$version" CHANGELOG.rst || reasons+=("CHANGELOG.rst has no notes for $version: run 'make changelog'")
for module in plugins/modules/[a-z]*.py; do
    module=${module##*/}
    grep -q "^- hotpmem\.fleet\.${module%.py} - " CHANGELOG.rst || reasons+=("CHANGELOG.rst lacks the module ${module%.py}: run 'make changelog'")
done
[ -z "$(git ls-files 'changelogs/fragments/*.yml')" ] || reasons+=("changelogs/fragments has notes that are not in CHANGELOG.rst: run 'make changelog'")
[ -z "$(git status --porcelain)" ] || reasons+=("the work tree has changes: commit them")
git tag --points-at HEAD | grep -qx "v$version" || reasons+=("this commit does not have the tag v$version: run 'make test-all', then 'git tag v$version'")
if [ ${#reasons[@]} -gt 0 ]; then
    echo "release: REFUSED:" >&2
    printf '  - %s\n' "${reasons[@]}" >&2
    exit 1
fi
rm -rf build/release
tarball=$(tests/setup/dist.sh build/release)
(cd build/release && sha256sum "${tarball##*/}" >SHA256SUMS)
cat <<TEXT
release: $tarball
To publish it: push the tag, add the tarball and build/release/SHA256SUMS to the release page of the repository, and run
    ansible-galaxy collection publish $tarball
TEXT
