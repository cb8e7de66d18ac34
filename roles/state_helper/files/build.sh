#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Builds pmem-state for one architecture on the controller, unless that build exists already.
# Usage: build.sh SOURCE_DIR BUILD_DIR ARCH PYTHON [CC]
# Prints "compiler: " and what compiles, "built" or "cached", then the path of the binary. PATH.sha256 holds its SHA-256, and PATH.cdx.json
# its software bill of materials.
set -euo pipefail
source_dir=$1 build_dir=$2 arch=$3 python=$4 cc=${5:-}

die() { printf 'Cannot build pmem-state for %s: %s\n' "$arch" "$*" >&2; exit 1; }
lacking=
lacks() { lacking=${lacking:+$lacking, and }$1; }

if [ -z "$cc" ]; then
    if "$python" -c 'import ziglang' 2>/dev/null; then
        cc="$python -m ziglang cc -target $arch-linux-musl"
    elif [ "$arch" = "$(uname -m)" ] && command -v cc >/dev/null; then
        cc=cc
    else
        lacks "a C compiler ('$python -m pip install ziglang==0.17.1', or set state_helper_cc to a cross compiler)"
    fi
elif ! command -v "${cc%% *}" >/dev/null; then
    lacks "the compiler ${cc%% *}, which state_helper_cc names"
fi
command -v make >/dev/null || lacks "make (from the package make of its distribution)"
[ -z "$lacking" ] || die "the controller lacks $lacking. Install this, then run the play again."

# The digest of the sources, in every folder, and of the compiler's version: each source and compiler gets its own directory.
key=$({ cd "$source_dir"; find . -type f \( -name '*.[ch]' -o -name Makefile -o -name sbom.py \) -print0 | LC_ALL=C sort -z | xargs -0 sha256sum; echo "$arch $cc"; $cc --version 2>/dev/null || true; } |
    sha256sum | cut -c1-16)
out=$build_dir/$arch-$key
echo "compiler: $($cc --version 2>/dev/null | head -n 1 || true) ($cc)"
good() { [ -x "$out/pmem-state" ] && [ -s "$out/pmem-state.cdx.json" ] && (cd "$out" && sha256sum --check --status pmem-state.sha256); }
if good; then
    echo cached
else
    # Build in a separate directory, then move it: two plays may build the same helper at the same time.
    mkdir -p "$build_dir"
    new=$(mktemp -d "$out.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    log=$new/build.log
    make -C "$source_dir" ARCH="$arch" CC="$cc" OUT="$new" >"$log" 2>&1 || { tail -n 20 "$log" >&2; die "make failed. Read the compiler output above"; }
    (cd "$new" && sha256sum pmem-state >pmem-state.sha256)
    "$python" "$source_dir/sbom.py" "$source_dir" "$new/pmem-state" "$arch" "$cc" "$($cc --version 2>/dev/null | head -n 1 || true)" \
        >"$new/pmem-state.cdx.json" || die "the software bill of materials could not be written. See the message above"
    chmod 755 "$new"
    good || { rm -rf "$out" && "$python" -c 'import os, sys; os.rename(sys.argv[1], sys.argv[2])' "$new" "$out"; } 2>/dev/null || good || die "cannot move $new to $out"
    echo built
fi
echo "$out/pmem-state"
