# The site: every guide, and the reference pages of modules, filters and roles.
DOCS := $(CURDIR)/build/docs

.PHONY: docs
docs: deps ## the site: guides, and reference pages of modules, filters and roles, in build/docs/site
	@rm -rf $(DOCS) && mkdir -p -m 700 $(DOCS)/reference
	@export PATH="$(BIN):$$PATH" ANSIBLE_CONFIG="$(CURDIR)/ansible.cfg" ANSIBLE_COLLECTIONS_PATH="$(VENV)/collections"; \
	    said=$$($(BIN)/antsibull-docs collection --use-current --output-format simplified-rst --squash-hierarchy \
	        --dest-dir $(DOCS)/reference hotpmem.fleet 2>&1) || { echo "$$said" >&2; exit 1; }; \
	    if grep ERROR <<<"$$said" >&2; then echo "docs: antsibull-docs reported the errors above. Fix them, then run 'make docs' again." >&2; exit 1; fi; \
	    $(BIN)/python tests/setup/docs_site.py $(DOCS)/site $(DOCS)/reference
