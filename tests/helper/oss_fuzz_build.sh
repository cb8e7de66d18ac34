#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Builds the fuzz target of pmem-state as OSS-Fuzz does: that service sets CC, CXX, CFLAGS, CXXFLAGS, LIB_FUZZING_ENGINE and OUT, and its
# CFLAGS have the sanitizer, the coverage and FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION. `make fuzz-ci` sets the same ones. The target is
# OUT/pmem_state_fuzzer, and its first inputs are in OUT/pmem_state_fuzzer_seed_corpus.zip.
set -euo pipefail
cd "$(dirname "$0")/../.."
source=roles/state_helper/files/src
objects=$(mktemp -d)
trap 'rm -rf "$objects"' EXIT
mkdir -p "$OUT"
read -ra flags <<<"$CFLAGS -std=c11 -D_GNU_SOURCE -DTEST_HOOKS -pthread -I$source"
for file in "$source"/*.c "$source"/*/*.c tests/helper/harness.c tests/helper/fuzz.c; do
    case $file in */src/main.c) continue ;; esac
    name=${file//\//_}
    "$CC" "${flags[@]}" -c -o "$objects/${name%.c}.o" "$file"
done
# The engine is C++, so the C++ compiler links it.
read -ra flags <<<"${CXXFLAGS:-$CFLAGS} -pthread $LIB_FUZZING_ENGINE"
"$CXX" "${flags[@]}" -o "$OUT/pmem_state_fuzzer" "$objects"/*.o
mkdir "$objects/corpus"
tar -C "$objects/corpus" -mxJf tests/helper/corpus.tar.xz
(cd "$objects" && python3 -m zipfile -c corpus.zip corpus/) && mv "$objects/corpus.zip" "$OUT/pmem_state_fuzzer_seed_corpus.zip"
