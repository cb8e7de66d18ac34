# SPDX-License-Identifier: GPL-3.0-or-later
"""The test programs in C, and the shipped binaries themselves."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess

import pytest
from conftest import BUILD, HOOKS, Helper, make_device
from tree import assert_same, hostile

MUTATIONS = os.environ.get("MUTATIONS", "10000")


def run(*words, **how) -> str:
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False, **how)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_sums_and_copies():
    """Every instruction set this CPU has gives the sums of the specification."""
    assert "ok" in run(BUILD / "sums")


def test_sums_on_aarch64():
    if not shutil.which("qemu-aarch64"):
        pytest.skip("qemu-aarch64 is missing")
    assert "neon ok" in run("qemu-aarch64", BUILD / "sums-aarch64")


def test_what_the_init_of_a_jump_reads():
    assert "all ok" in run(BUILD / "init_parse")


def test_only_the_kernel_makes_it_an_init():
    """As process 1 of a container it is pmem-state as ever: it must not mount, or reboot, anything."""
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", HOOKS, "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    if done.stderr.startswith("unshare: ") and "Operation not permitted" in done.stderr:
        pytest.skip("needs root: a namespace of process ids")
    assert done.returncode == 0 and done.stdout.startswith("pmem-state")


def test_mutations():
    """10,000 damages (MUTATIONS=): detected or harmless, every one."""
    assert f"{MUTATIONS} damages" in run(BUILD / "mutate", MUTATIONS)


def test_mutations_of_a_mapped_device(work):
    """A fifth as many others, where the device is mapped and large files are written a huge page at a time."""
    _device, remove = make_device(work, "huge", 4 << 20)
    try:
        count = str(int(MUTATIONS) // 5)
        assert f"{count} damages" in run(BUILD / "mutate", count, "2000001", work / "huge")
    finally:
        remove()


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_shipped_binaries(work, arch):
    """What is shipped, static: the same round trip, aarch64 under emulation; no test hooks inside."""
    binary = BUILD.parent / arch / "pmem-state"
    argv = [str(binary)] if arch == platform.machine() else [f"qemu-{arch}", str(binary)]
    if argv[0] != str(binary) and not shutil.which(argv[0]):
        pytest.skip(f"{argv[0]} is missing")
    image = binary.read_bytes()
    assert b"PMEM_STATE_" not in image and os.fsencode(os.getcwd()) not in image
    helper = Helper(binary, make_device(work, "file", 64 << 20)[0])
    if argv[0] != str(binary):
        helper.argv = lambda verb, *words: [*argv, verb, "--device", str(helper.device), *words, "--json"]
    hostile(work / "src", deep=400)
    machine_id = os.path.exists("/etc/machine-id")
    helper("save", "--item", f"t={work}/src", *([] if machine_id else ["--force"]))
    helper("compare", "--item", f"t={work}/src")
    helper("verify")
    helper.restore(f"t={work}/dst", force=not machine_id)
    assert_same(work / "src", work / "dst")
