# SPDX-License-Identifier: GPL-3.0-or-later
# What is published.
.PHONY: dist importer
dist: deps ## build the tarball of the collection into build/dist
	@tests/setup/dist.sh

importer: deps ## check the tarball as Galaxy does at an upload; a warning is a failure
	@tests/setup/importer.sh

.PHONY: changelog
changelog: deps ## write CHANGELOG.rst for the version in galaxy.yml from the fragments, and remove them
	PATH="$(BIN):$$PATH" $(BIN)/antsibull-changelog release --refresh-plugins allow-removal
