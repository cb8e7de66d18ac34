# Two commands set up everything: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
export XDG_CACHE_HOME ?= $(HOME)/.cache
PYTHON ?= python3
VENV := $(CURDIR)/.venv
BIN := $(VENV)/bin

include $(wildcard mk/*.mk)

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z][a-zA-Z0-9_-]*:.*## ' $(MAKEFILE_LIST) | sort | sed -E 's/^([^:]+):.*## (.*)/  \1\t\2/' | expand -t 24

.PHONY: deps
deps: ## install what the demo and the tests need (apt when allowed, .venv)
	@tests/setup/deps.sh $(PYTHON)

.PHONY: requirements
requirements: PIN = uv pip compile --universal --generate-hashes --no-emit-index-url --quiet --custom-compile-command "make requirements"
requirements: ## pin tests/requirements/*.in again (needs uv)
	cd tests/requirements && $(PIN) --python-version 3.11 dev.in -o dev.txt
	cd tests/requirements && $(PIN) --python-version 3.12 newest.in -o newest.txt
