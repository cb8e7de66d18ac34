# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing but the collection's own guard keeps the next kernel off the saved image: these kernels have kexec_load only, which takes any
address.

kexec is replaced by one that is wrong about this machine: it believes that persistent memory is the only System RAM, and is not told
where to stay.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(os.environ["HOTPMEM_CHECKOUT"]) / "extensions/molecule/shared"))
from node import Node

KEXEC = "/usr/local/sbin/kexec"  # comes before /usr/sbin in the search path of the collection
WRONG = r"""#!/bin/sh
for word; do
    shift
    case $word in --mem-max=*) ;; *) set -- "$@" "$word" ;; esac
done
exec unshare --mount sh -c 'mount --bind /run/wrong-iomem /proc/iomem && exec /usr/sbin/kexec "$@"' kexec "$@"
"""


@pytest.fixture(scope="module")
def node() -> Node:
    return Node()


@pytest.fixture
def memory(node: Node) -> Iterator[tuple[int, int]]:
    """The range of persistent memory, with the wrong kexec in place."""
    first, size = (int(text, 0) for text in node.run("cd /sys/bus/nd/devices/region0 && cat resource size").stdout.split())
    last = first + size - 1
    node.run("cat >/run/wrong-iomem", stdin=f"{first:x}-{last:x} : System RAM\n")
    node.run(f"cat >{KEXEC} && chmod 755 {KEXEC}", stdin=WRONG)
    yield first, last
    node.run(f"rm -f {KEXEC}; /usr/sbin/kexec -c -u")


def loaded(node: Node) -> str:
    return node.run("cat /sys/kernel/kexec_loaded").stdout


def test_the_kernel_would_be_written_over_the_image(node: Node, memory: tuple[int, int]) -> None:
    """Without the guard: the kernel takes it, and says nothing."""
    release = node.run("uname -r").stdout.strip()
    load = f"{KEXEC} -c -d -l /boot/vmlinuz-{release} --initrd=/boot/initrd.img-{release} --command-line=quiet --mem-max={memory[0] - 1:#x}"
    said = node.run(f"{load} 2>&1").stdout
    places = [int(place, 16) for place in re.findall(r"^segment\[\d+\]\.mem\s*= (0x[0-9a-f]+)$", said, re.MULTILINE)]
    assert loaded(node) == "1\n"
    assert len(places) >= 3 and all(memory[0] <= place <= memory[1] for place in places), said


def test_the_handoff_does_not_jump_to_it(node: Node, memory: tuple[int, int]) -> None:
    started = node.run("systemctl show --property=ActiveEnterTimestampMonotonic memcached").stdout
    answer = node.agent("handoff", timeout=600)
    assert answer["exit"] == 7 and "outside of System RAM (0x" in answer["msg"], answer
    assert loaded(node) == "0\n"
    assert node.is_ram() and node.run("systemctl show --property=ActiveEnterTimestampMonotonic memcached").stdout == started
