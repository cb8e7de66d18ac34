# SPDX-License-Identifier: GPL-3.0-or-later
"""States that a failed ndctl, daxctl or kernel call leaves behind, made on purpose: the same command again brings it on, or back."""

from __future__ import annotations

import pytest

MEMORY = "/sys/devices/system/memory"
KMEM = "/sys/bus/dax/drivers/kmem"

# An info block as `ndctl create-namespace --mode devdax` writes it (struct nd_pfn_sb, drivers/nvdimm/pfn.h), for a device larger than this:
# its data begins at 1 GiB. The kernel refuses it, and with it the namespace.
OTHER_SIZE = r"""
import os, struct
block = bytearray(4096)
signature, uuid, parent = b"NVDIMM_DAX_INFO", os.urandom(16), bytes(16)
struct.pack_into("<16s16s16s", block, 0, signature, uuid, parent)
flags, major, minor, data, pages, mode = 0, 1, 4, 1 << 30, 1 << 18, 1
struct.pack_into("<IHHQQI", block, 48, flags, major, minor, data, pages, mode)
pad, cut, align, page, page_struct = 0, 0, 2 << 20, 4096, 64
struct.pack_into("<IIIIH", block, 76, pad, cut, align, page, page_struct)
low = high = 0
for word in struct.unpack("<1024I", block):
    low = (low + word) & 0xffffffff
    high = (high + low) & 0xffffffffffffffff
struct.pack_into("<Q", block, 4088, (high << 32 | low) & 0xffffffffffffffff)
with open("/dev/pmem0", "r+b", buffering=0) as device:
    device.seek(4096)
    device.write(block)
    os.fsync(device)
"""
# What is in zone Movable is the persistent memory.
ALL_OFFLINE = (
    f"for block in $(grep -lx Movable {MEMORY}/memory*/valid_zones); do "
    "until echo offline >$(dirname $block)/state; do sleep 0.2; done; done"
)
STATES = {
    "one block offline": ("ram", f"echo offline >{MEMORY}/memoryLAST/state"),
    "no driver": ("ram", f"{ALL_OFFLINE}; echo dax0.0 >{KMEM}/unbind"),
    "region align": ("ram", "echo 0x1000000 >/sys/bus/nd/devices/region0/align"),
    "devdax disabled": ("ram", f"{ALL_OFFLINE}; echo dax0.0 >{KMEM}/unbind; ndctl disable-namespace namespace0.0"),
    "raw disabled": ("raw", "ndctl disable-namespace namespace0.0"),
    "stale id": ("raw", f"echo dax0.0 >{KMEM}/new_id"),
    "info block of another size": (
        "raw",
        f"python3 -c '{OTHER_SIZE}' && ndctl disable-namespace namespace0.0 && ! ndctl enable-namespace namespace0.0",
    ),
}
# In this order each case begins about where the one before has ended.
CASES = [
    ("one block offline", "hot-add"),
    ("one block offline", "hot-remove"),
    ("stale id", "hot-add"),
    ("no driver", "hot-add"),
    ("no driver", "hot-remove"),
    ("raw disabled", "hot-add"),
    ("devdax disabled", "hot-add"),
    ("devdax disabled", "hot-remove"),
    ("info block of another size", "hot-remove"),
    ("info block of another size", "hot-add"),
    ("region align", "hot-remove"),
]


@pytest.mark.parametrize(("state", "verb"), CASES)
def test_the_same_again(node, state, verb):
    begin, make = STATES[state]
    if begin == "ram":
        node.as_ram()
        make = make.replace("LAST", str(max(node.blocks())))
    elif node.mode() != "raw":
        assert node.move("hot-remove")["exit"] == 0
    node.run(make)
    answer = node.move(verb)
    assert answer["exit"] == 0, answer
    if verb == "hot-remove":
        assert node.mode() == "raw" and answer["device"] == "/dev/pmem0"
    else:
        assert node.is_ram() and set(node.blocks().values()) == {"Movable"}
    again = node.move(verb)
    assert again["exit"] == 0 and not again["changed"], again
