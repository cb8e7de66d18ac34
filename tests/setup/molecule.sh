#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs one molecule scenario on lab machines; on failure prints the serial console and the journal of each. Ends the machines always.
# Usage: molecule.sh SCENARIO [molecule command, default "test"]
# Environment: KERNEL=6.1|6.12|7.3; ROAD=raw|dax; PMEM=nfit|devicetree for scenario arm64; UDEV_RULE=1 gives the machine a udev rule that brings added memory online, as RHEL's does.
set -euo pipefail
cd "$(dirname "$0")/../.."
scenario=$1 command=${2:-test}

export HOTPMEM_CHECKOUT=$PWD
export HOTPMEM_LABS=${XDG_CACHE_HOME:-$HOME/.cache}/hotpmem/labs
# Two checkouts may run the same scenario side by side.
HOTPMEM_LAB=${scenario//_/-}-$(printf '%s' "$PWD" | sha256sum | cut -c1-6)
export HOTPMEM_LAB HOTPMEM_ARCH=amd64 HOTPMEM_KERNEL=${KERNEL:-6.1} HOTPMEM_PMEM=e820 HOTPMEM_BOOT=snapshot HOTPMEM_NODE_AGENT=true HOTPMEM_ROAD=${ROAD:-raw} HOTPMEM_JUMP_INITRD=default HOTPMEM_JUMP_CHECK=true HOTPMEM_HOSTS=1
export HOTPMEM_VARS=tests/demo/vars.yml HOTPMEM_UDEV_RULE=${UDEV_RULE:+true}
export ANSIBLE_CONFIG=$PWD/ansible.cfg ANSIBLE_COLLECTIONS_PATH=$PWD/.venv/collections
export PATH=$PWD/.venv/bin:$PATH NO_COLOR=1 ANSIBLE_NOCOLOR=1
case $scenario in
    e820) HOTPMEM_NODE_AGENT=false ;;
    nfit) HOTPMEM_PMEM=nfit HOTPMEM_NODE_AGENT=false ;;
    dimms) HOTPMEM_PMEM=labels HOTPMEM_NODE_AGENT=false ;;
    load) HOTPMEM_PMEM=nfit ;;
    grub) HOTPMEM_PMEM=none HOTPMEM_BOOT=grub HOTPMEM_NODE_AGENT=false ;;
    newest_kernel) HOTPMEM_KERNEL=7.3 HOTPMEM_PMEM=nfit HOTPMEM_BOOT=grub HOTPMEM_JUMP_INITRD=minimal ;;
    arm64) HOTPMEM_ARCH=arm64 HOTPMEM_KERNEL=${KERNEL:-6.12} HOTPMEM_PMEM=${PMEM:-nfit} HOTPMEM_JUMP_INITRD=minimal ;;
    agent) HOTPMEM_JUMP_INITRD=minimal HOTPMEM_JUMP_CHECK=false ;;
    agent_faults) HOTPMEM_JUMP_INITRD=minimal ;;
    # One cycle with the agent and one without: its plays say which.
    applications) HOTPMEM_NODE_AGENT='{{applications_agent|default(true)}}' HOTPMEM_JUMP_INITRD=minimal HOTPMEM_VARS=extensions/molecule/applications/vars/inventory.yml ;;
    rollout) HOTPMEM_HOSTS=6 HOTPMEM_JUMP_INITRD=minimal HOTPMEM_VARS=extensions/molecule/rollout/vars/inventory.yml ;;
    agent_dax) HOTPMEM_ROAD=dax HOTPMEM_JUMP_INITRD=host_only ;;
esac
mkdir -p "build/molecule/$HOTPMEM_LAB"
# Molecule's notes of what it has created. Its own place for them is the same for every checkout of a user: a scenario then
# skips "create" because another checkout's machines were created, and every play after it has no hosts and "passes".
export MOLECULE_EPHEMERAL_DIRECTORY=$PWD/build/molecule/$HOTPMEM_LAB/state

end() { .venv/bin/python tests/lab/lab.py down --name "$HOTPMEM_LAB" >/dev/null; }
failed() {
    .venv/bin/python tests/lab/lab.py report --name "$HOTPMEM_LAB" node1 || true
    end
    echo "molecule: scenario $scenario FAILED"
    exit 1
}
destroy=()
[ "$command" != test ] || { destroy=(--destroy=never); trap end INT TERM; end; rm -rf "$MOLECULE_EPHEMERAL_DIRECTORY"; }
start=$SECONDS
(cd extensions && molecule --base-config molecule/base.yml "$command" --no-command-borders --scenario-name "$scenario" "${destroy[@]}") || failed
[ "$command" != test ] || end
echo "molecule: scenario $scenario passed in $((SECONDS - start)) s"
