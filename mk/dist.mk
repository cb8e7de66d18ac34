# SPDX-License-Identifier: GPL-3.0-or-later
# What is published.
.PHONY: dist importer release
dist: deps ## build the tarball of the collection into build/dist
	@tests/setup/dist.sh

importer: deps ## check the tarball as Galaxy does at an upload; a warning is a failure
	@tests/setup/importer.sh

release: deps ## build the tarball of a release into build/release; refuses a tree that is not one
	@tests/setup/release.sh

# Until a version has its tag, this adds to its notes.
.PHONY: changelog
changelog: deps ## write CHANGELOG.rst for the version in galaxy.yml from the fragments, and remove them
	@version=$$(sed -n 's/^version: *//p' galaxy.yml); ! git rev-parse --quiet --verify "refs/tags/v$$version" >/dev/null || \
	    { echo "changelog: $$version was released. Set the next version in galaxy.yml" >&2; exit 1; }
	PATH="$(BIN):$$PATH" $(BIN)/antsibull-changelog release --refresh-plugins allow-removal --update-existing
