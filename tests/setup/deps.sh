#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Installs what the lab, the tests and the demo need: system packages through apt when root (or sudo without a password)
# allows it, otherwise it prints the one line to run; Python packages, pinned with digests, into .venv.
# Usage: deps.sh [python]
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${1:-python3}

die() { printf 'deps: %s\n' "$*" >&2; exit 1; }

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    die "'$python' must be Python 3.11 or later ($("$python" --version 2>&1 || true)). Name another one: make PYTHON=/path/to/python3.11 …"

# Package tests look at the commands, not at dpkg, so that a tool from elsewhere will do.
log=$(mktemp)
trap 'rm -f "$log"' EXIT

missing=()
while read -r command package; do
    case $command in ''|'#'*) continue ;; esac
    command -v "$command" >/dev/null 2>&1 || [ -x "/usr/sbin/$command" ] || [ -x "/sbin/$command" ] || missing+=("$package")
done < tests/setup/packages.txt
# These packages bring no command: GRUB's BIOS modules for the lab's GRUB machines, the archive keys (Ubuntu lacks Debian's),
# the static C library and the runtime of clang's sanitizers for the helper's tests.
for file in /usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring /usr/lib/grub/i386-pc/boot.img:grub-pc-bin \
            /usr/include/x86_64-linux-gnu/sys/types.h:libc6-dev; do
    [ -e "${file%%:*}" ] || missing+=("${file##*:}")
done
clang_runtime=$(clang --print-file-name=libclang_rt.fuzzer-x86_64.a 2>/dev/null || true)
[ -e "$clang_runtime" ] || missing+=("libclang-rt-dev")
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)

if [ ${#missing[@]} -gt 0 ]; then
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
    # Debian 12 has no libclang-rt-dev metapackage: take the one of the clang that is (or will be) there.
    if [[ " ${missing[*]} " == *" libclang-rt-dev "* ]]; then
        major=$(clang --version 2>/dev/null | sed -nE 's/.*version ([0-9]+).*/\1/p' | head -n 1 || true)
        [ -n "$major" ] || major=$(apt-cache depends clang 2>/dev/null | sed -nE 's/.*Depends: clang-([0-9]+)$/\1/p' | head -n 1 || true)
        missing=("${missing[@]/libclang-rt-dev/libclang-rt-${major:-14}-dev}")
    fi
    sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo -n)
    install=(apt-get install -y --no-install-recommends "${missing[@]}")
    if ! command -v apt-get >/dev/null || { [ ${#sudo[@]} -gt 0 ] && ! sudo -n true 2>/dev/null; }; then
        die "missing system packages, and no right to install them. Run this once, then try again:
    sudo apt-get update && sudo ${install[*]}"
    fi
    echo "deps: installing system packages: ${missing[*]}"
    # Debian starts the services of a package when it is installed, unless this file forbids it. The tests start their own.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap 'rm -f "$log"; "${sudo[@]}" rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee $policy >/dev/null
        "${sudo[@]}" chmod 755 $policy
    fi
    if ! { "${sudo[@]}" apt-get update && "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive "${install[@]}"; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        die "'${install[*]}' failed: see above"
    fi
fi

tests/setup/venv.sh "$python" tests/requirements/dev.txt .venv
