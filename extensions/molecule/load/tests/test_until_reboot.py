# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults that only a reboot fixes: blocks that the kernel itself uses, and leaked memory. Nothing uses the machine after this file."""

from __future__ import annotations

MEMORY = "/sys/devices/system/memory"
STATE = f"cat {MEMORY}/memory*/state {MEMORY}/memory*/valid_zones; ndctl list -RNi; daxctl list -Di; cat /proc/iomem"
FILES = "import os; os.mkdir('/dev/shm/slab'); [open('/dev/shm/slab/%d' % n, 'w').close() for n in range(30000)]"


def test_slab_in_zone_normal(node):
    """The preflight refuses. A hot-remove that is tried anyway gets EBUSY at once, and every time."""
    node.as_ram()
    last = max(node.blocks())
    state = f"{MEMORY}/memory{last}/state"
    node.run(f"until echo offline >{state}; do sleep 0.2; done; echo online_kernel >{state}")
    node.run(f'python3 -c "{FILES}"')
    before = node.blocks()
    assert before[last] == "Normal"
    refused = node.move("preflight")
    assert refused["exit"] == 5 and "not in zone Movable" in refused["msg"] and f"{last} (0x" in refused["msg"], refused
    answer = node.move("hot-remove", "short")
    assert answer["exit"] == 2, answer
    (block,) = [block for block in answer["failed_blocks"] if block["block"] == last]
    assert (block["zone"], block["errno"]) == ("Normal", "EBUSY") and "unmovable" in block["reason"], block
    assert any("slab" in owner for owner in block["owners"]), block
    assert block["range"] in answer["msg"] and "slab" in answer["msg"] and "reboot" in answer["msg"]
    assert answer["not_rolled_back"] == [] and node.blocks() == before


def test_leak(node):
    """Somebody unbinds kmem by hand while blocks are online."""
    node.run("echo dax0.0 >/sys/bus/dax/drivers/kmem/unbind")
    before = node.run(STATE).stdout
    (leak,) = node.move("status")["hotpmem"]["leaks"]
    assert leak["device"] == "dax0.0"
    for verb in ("preflight", "hot-remove", "hot-add"):
        answer = node.move(verb)
        assert answer["exit"] in (2, 5) and "leaked" in answer["msg"] and "reboot" in answer["msg"], answer
    assert node.run(STATE).stdout == before
