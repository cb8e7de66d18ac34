# Checks and tests. `make check` needs no machine; `make test` has the scenarios of each change, `make test-all` has all of them.
# What covers the most first, should CI come to its limit: .ci/run says which it insists on. extensions/molecule/README.md has a table.
SCENARIOS := agent_faults agent e820 nfit grub
# These repeat the cycle on labelled NVDIMMs, on the dax road and on arm64, with databases, with two kernels and with six machines, press
# memory until it does not go, and install the tarball as a user does: slow, and rarely the first to fail.
SLOW_SCENARIOS := dimms agent_dax applications newest_kernel load rollout dist arm64

.PHONY: demo check lint unit sanity newest molecule test test-all
demo: deps ## the whole thing on QEMU machines: HOSTS=2 KERNEL=6.1 PMEM=e820 KEEP=1
	@$(BIN)/python tests/demo/demo.py --hosts $(or $(HOSTS),2) --kernel $(or $(KERNEL),6.1) --pmem $(or $(PMEM),e820) $(if $(KEEP),--keep)

test: check fuzz-ci molecule ## check, a minute of fuzzing, and the scenarios that run for each change

test-all: SCENARIOS += $(SLOW_SCENARIOS)
test-all: check newest docs test-fleet fuzz-ci molecule ## test, with the newest ansible-core, the site, rollouts over stand-in hosts and every scenario there is: for each night

# Two at a time: the unit tests take as long as the others together. Each prints its output when it ends.
check: deps ## what needs no machine: lint, unit, sanity, importer, helper (with 1,000 of the 10,000 mutations)
	@echo "check: unit tests, and beside them lint, helper, sanity and importer: the output of each follows when it ends"
	@$(MAKE) --jobs=2 --output-sync=target MUTATIONS=1000 unit lint test-helper sanity importer

lint: deps ## ruff, mypy, clang-tidy, cppcheck, yamllint, ansible-lint, shellcheck, antsibull-docs
	@tests/setup/lint.sh

unit: deps ## unit tests of the engine, the filters, rollouts, the lab and the benchmarks
	@$(BIN)/python -m pytest -q tests/unit tests/lab tests/bench tests/setup tests/fleet/test_rolling_reboot.py

sanity: deps ## ansible-test sanity, in a copy of the tree
	@tests/setup/sanity.sh

newest: ## ansible-test sanity and the unit tests with the newest ansible-core (NEWEST_PYTHON=python3.13)
	@tests/setup/newest.sh $(NEWEST_PYTHON)

molecule: deps ## the scenarios of `make test` on machines, two at a time; one, with its output as it comes, with SCENARIO= (KERNEL=6.1 UDEV_RULE=)
	@$(if $(SCENARIO),tests/setup/molecule.sh $(SCENARIO),tests/setup/scenarios.sh $(SCENARIOS))
