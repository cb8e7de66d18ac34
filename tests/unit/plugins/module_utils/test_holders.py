# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds a block device: tables in a made-up tree, processes on this machine."""

from __future__ import annotations

import subprocess
import sys

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.programs import Runner
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs
from ansible_collections.hotpmem.fleet.plugins.module_utils._memory.device_users import DeviceUsers


@pytest.fixture
def disk(tmp_path):
    """pmem0 with a partition, an LVM volume on the partition, and a file system on the volume."""

    def put(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    block = "sys/class/block"
    put(f"{block}/pmem0/dev", "259:0\n")
    put(f"{block}/pmem0/pmem0p1/partition", "1\n")
    put(f"{block}/pmem0p1/dev", "259:1\n")
    put(f"{block}/pmem0p1/partition", "1\n")
    put(f"{block}/pmem0p1/holders/dm-0/dev", "254:0\n")
    put(f"{block}/dm-0/dev", "254:0\n")
    put(f"{block}/pmem1/dev", "259:2\n")
    put("proc/swaps", "Filename Type Size Used Priority\n/dev/dm-1 partition 1 0 -2\n")
    put("proc/self/mountinfo", "30 1 254:0 / /mnt\\040x rw - xfs /dev/mapper/vg-lv rw\n31 1 8:1 / / rw - ext4 /dev/sda1 rw\n")
    return put, DeviceUsers(Sysfs(str(tmp_path)), Runner())


def test_the_whole_stack_counts(disk):
    holders = disk[1]
    assert holders.stack("pmem0") == ["pmem0", "pmem0p1", "dm-0"]
    assert holders.held("pmem0") == ["/dev/dm-0 is mounted on /mnt x (xfs)", "dm-0 is built on /dev/pmem0"]
    assert holders.held("pmem1") == []


def test_file_systems_with_a_number_of_their_own_are_known_by_their_source(disk):
    put, holders = disk
    put("proc/self/mountinfo", "30 1 0:44 / /data rw - btrfs /dev/pmem1 rw\n")
    assert holders.held("pmem1") == ["/dev/pmem1 is mounted on /data (btrfs)"]


def test_swap(disk):
    put, holders = disk
    put("proc/swaps", "Filename Type Size Used Priority\n/dev/pmem1 partition 1 0 -2\n")
    assert holders.held("pmem1") == ["/dev/pmem1 is swap space"]


def test_a_process_that_has_the_device_open_is_named():
    # /dev/full stands in for a device node that nothing else has open.
    holders = DeviceUsers(Sysfs("/"), Runner())
    code = "import sys; file = open('/dev/full'); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"open\n"
        assert any(f"process {child.pid} (" in sentence and "/dev/full open" in sentence for sentence in holders.openers(["full"]))
        child.stdin.close()
    assert not any(f"process {child.pid} (" in sentence for sentence in holders.openers(["full"]))
    assert holders.openers(["no-such-device"]) == []
