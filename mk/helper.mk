# SPDX-License-Identifier: GPL-3.0-or-later
# pmem-state: build, tests, benchmarks, fuzzing.
ARCH ?= $(shell uname -m)
HELPER_SRC := roles/state_helper/files/src
HELPER_ZIG = $(abspath $(BIN))/python -m ziglang cc

.PHONY: helper
helper: ## build pmem-state, static and reproducible (ARCH=x86_64|aarch64), into build/ARCH/
	@$(MAKE) -C $(HELPER_SRC) WARNINGS="-Wall -Wextra -Werror" CC="$(HELPER_ZIG)" ARCH=$(ARCH) OUT=$(CURDIR)/build/$(ARCH)
	@ls -l build/$(ARCH)/pmem-state

.PHONY: reference
reference: helper ## write docs/pmem-state.md from `pmem-state --help`
	$(BIN)/python tests/setup/reference.py build/$(ARCH)/pmem-state

# Test builds: kill points and other identities are compiled in only here.
HELPER_TEST := build/test
HELPER_FILES := $(wildcard $(HELPER_SRC)/*.[ch] $(HELPER_SRC)/*/*.[ch])
HELPER_C := $(filter %.c,$(HELPER_FILES))
HELPER_FLAGS := -std=c11 -D_GNU_SOURCE -DTEST_HOOKS -Wall -Wextra -Werror -pthread -g -I$(HELPER_SRC)
HELPER_SANITIZE := -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

$(HELPER_TEST)/pmem-state-hooks: $(HELPER_FILES)
	@mkdir -p $(HELPER_TEST)
	gcc $(HELPER_FLAGS) -O2 -o $@ $(HELPER_C)

$(HELPER_TEST)/pmem-state-asan: $(HELPER_FILES)
	@mkdir -p $(HELPER_TEST)
	gcc $(HELPER_FLAGS) $(HELPER_SANITIZE) -o $@ $(HELPER_C)

# clang-tidy takes half a second to two seconds for a file: only for what has changed.
build/tidy/%.ok: $(HELPER_SRC)/%.c $(filter %.h,$(HELPER_FILES)) $(HELPER_SRC)/.clang-tidy
	@mkdir -p $(dir $@)
	@clang-tidy --quiet $< -- -std=c11 -D_GNU_SOURCE -I$(HELPER_SRC) 2>$@.log || { cat $@.log >&2; exit 1; }
	@touch $@

# Each version of clang-tidy has other checks. This is the one of Debian 12.
TIDY_VERSION := 14

.PHONY: lint-helper
lint-helper: ## clang-tidy and cppcheck on the source of pmem-state
	@if clang-tidy --version | grep -q 'version $(TIDY_VERSION)\.'; then \
	    $(MAKE) --silent $(patsubst $(HELPER_SRC)/%.c,build/tidy/%.ok,$(HELPER_C)); \
	else \
	    echo "lint-helper: clang-tidy NOT RUN: the sources are checked with version $(TIDY_VERSION), and this machine has another one"; \
	fi
	@cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr --error-exitcode=1 -j2 \
	    -D_GNU_SOURCE -D__x86_64__ -I$(HELPER_SRC) $(HELPER_SRC)

HELPER_TEST_BINARIES := $(addprefix $(HELPER_TEST)/,pmem-state-hooks pmem-state-asan fault.so mutate sums sums-aarch64 init_parse)
MUTATIONS ?= 10000

.PHONY: test-helper
test-helper: helper $(HELPER_TEST_BINARIES) ## test pmem-state: trees, refusals, kill points, faults, 10,000 mutations (MUTATIONS=)
	@$(MAKE) helper ARCH=aarch64
	MUTATIONS=$(MUTATIONS) $(BIN)/pytest -q tests/helper $(PYTEST_ARGS)

.PHONY: stored-images
stored-images: $(HELPER_TEST)/pmem-state-hooks ## store an image of the present format for the tests, unless one exists
	$(BIN)/python tests/helper/stored_images.py

$(HELPER_TEST)/fault.so: tests/helper/fault.c
	@mkdir -p $(HELPER_TEST)
	gcc -O1 -shared -fPIC -Wall -Wextra -Werror -o $@ $< -ldl

# Damaged images, in one process: seeded mutations (gcc) and libFuzzer (clang).
HELPER_LIBRARY := $(filter-out $(HELPER_SRC)/main.c,$(HELPER_C))
HELPER_SUMS := $(addprefix $(HELPER_SRC)/base/,hash.c cpu.c cpu_scalar.c cpu_x86.c cpu_arm.c)
HELPER_HARNESS := tests/helper/harness.c tests/helper/harness.h
FUZZ_SECONDS ?= 600
HELPER_CORPUS := tests/helper/corpus.tar.xz
FUZZ_RUN = build/fuzz/corpus -max_len=65536 -timeout=60 -rss_limit_mb=2048 -use_value_profile=1 \
    -artifact_prefix=build/fuzz/ -print_final_stats=1

$(HELPER_TEST)/mutate: $(HELPER_FILES) $(HELPER_HARNESS) tests/helper/mutate.c
	@mkdir -p $(HELPER_TEST)
	gcc $(HELPER_FLAGS) $(HELPER_SANITIZE) -o $@ $(HELPER_LIBRARY) tests/helper/harness.c tests/helper/mutate.c

# As OSS-Fuzz builds it, with the flags that it sets for libFuzzer and both sanitizers.
FUZZ_BUILD := build/fuzz/oss
FUZZER := $(FUZZ_BUILD)/pmem_state_fuzzer

$(FUZZER): $(HELPER_FILES) $(HELPER_HARNESS) tests/helper/fuzz.c tests/helper/oss_fuzz_build.sh
	CC=clang CXX=clang++ OUT=$(FUZZ_BUILD) LIB_FUZZING_ENGINE=-fsanitize=fuzzer \
	    CFLAGS="-Wall -Wextra -Werror -g $(HELPER_SANITIZE) -fsanitize=fuzzer-no-link -DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION" \
	    tests/helper/oss_fuzz_build.sh

$(HELPER_TEST)/sums: $(HELPER_FILES) tests/helper/sums.c
	@mkdir -p $(HELPER_TEST)
	gcc $(HELPER_FLAGS) $(HELPER_SANITIZE) -o $@ tests/helper/sums.c $(HELPER_SUMS)

$(HELPER_TEST)/init_parse: $(HELPER_FILES) tests/helper/init_parse.c
	@mkdir -p $(HELPER_TEST)
	gcc $(HELPER_FLAGS) $(HELPER_SANITIZE) -o $@ tests/helper/init_parse.c $(HELPER_SRC)/init/init_parse.c $(HELPER_SRC)/init/early_plan.c

$(HELPER_TEST)/sums-aarch64: $(HELPER_FILES) tests/helper/sums.c
	@mkdir -p $(HELPER_TEST)
	$(HELPER_ZIG) -target aarch64-linux-musl $(HELPER_FLAGS) -O2 -static -o $@ tests/helper/sums.c $(HELPER_SUMS)

# A changed format or harness changes the seeds; what was found before stays beside them.
build/fuzz/corpus: $(FUZZER) $(HELPER_CORPUS)
	@mkdir -p $@
	tar -C $@ -xJf $(HELPER_CORPUS)
	FUZZ_SEEDS=$@ $(FUZZER)
	@touch $@

.PHONY: fuzz-ci
fuzz-ci: build/fuzz/corpus ## fuzz header, table, records and restore for a minute
	@$(FUZZER) $(FUZZ_RUN) -max_total_time=60 >build/fuzz/ci.log 2>&1 || { tail -n 60 build/fuzz/ci.log; exit 1; }
	@grep -aE 'stat::(number_of_executed_units|peak_rss_mb)|Done' build/fuzz/ci.log

.PHONY: soak
soak: build/fuzz/corpus $(HELPER_TEST)/mutate ## the long run: fuzzing (FUZZ_SECONDS=600), 50,000 other mutations
	$(FUZZER) $(FUZZ_RUN) -max_total_time=$(FUZZ_SECONDS)
	$(HELPER_TEST)/mutate 50000 1000001

.PHONY: resets
resets: helper ## 20 hard resets of lab machines in the middle of a save (RESETS=20)
	$(BIN)/python tests/lab/resets.py --resets $(or $(RESETS),20)

.PHONY: corpus
corpus: build/fuzz/corpus ## keep the inputs that reach the most code, in tests/helper/corpus.tar.xz
	rm -rf build/fuzz/merged && mkdir build/fuzz/merged
	$(FUZZER) -merge=1 -max_len=65536 build/fuzz/merged build/fuzz/corpus
	tar -C build/fuzz/merged --sort=name --owner=0 --group=0 --mtime=@0 -cJf $(HELPER_CORPUS) .

# Benchmarks: SIZE= bytes of the big cases, ROUNDS= that count.
SIZE ?= 2G
ROUNDS ?= 5

build/bench/limit: tests/bench/limit.c $(HELPER_FILES)
	@mkdir -p build/bench
	gcc -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -O2 -pthread -I$(HELPER_SRC) -o $@ tests/bench/limit.c $(HELPER_SUMS)

.PHONY: bench
bench: helper build/bench/limit ## measure pmem-state beside the limit of this machine and beside cp, tar, rsync, ... (SIZE=2G)
	$(BIN)/python tests/bench/bench.py --size $(SIZE) --rounds $(ROUNDS)

.PHONY: bench-pmem0
bench-pmem0: helper ## measure pmem-state beside dd on /dev/pmem0 of a lab machine (PMEM=e820|nfit)
	$(BIN)/python tests/bench/lab_bench.py --pmem $(or $(PMEM),e820) --rounds $(ROUNDS)

.PHONY: bench-downtime
bench-downtime: ROUNDS = 3
bench-downtime: deps ## measure the down time a client sees: handoff, plain kexec, Ansible's reboot (STATE_MIB=256 ROUNDS=3)
	$(BIN)/python tests/bench/downtime.py --mib $(or $(STATE_MIB),256) --rounds $(ROUNDS)

.PHONY: bench-instructions
bench-instructions: ROUNDS = 3
bench-instructions: deps ## count the instructions of a down time, on a machine whose clock counts them (STATE_MIB=256 ROUNDS=3 ONLY=METHOD)
	$(BIN)/python tests/bench/instructions.py --mib $(or $(STATE_MIB),256) --rounds $(ROUNDS) $(if $(ONLY),--only $(ONLY))
