# SPDX-License-Identifier: GPL-3.0-or-later
"""Hot-remove of memory in use: it succeeds and what was in it is unchanged, or it fails clean: all is RAM again, and it says why.

What is certain of the kernel is asserted. ZONE_MOVABLE is filled first, so what a test holds is in the memory that is removed.
"""

from __future__ import annotations

import pytest

MIB = 1 << 20


def fails_clean(node, answer):
    """The failed blocks, after a hot-remove that changed nothing."""
    assert answer["exit"] == 2, answer
    assert answer["not_rolled_back"] == [] and "everything is as before" in answer["msg"] and node.is_ram(), answer
    for block in answer["failed_blocks"]:
        assert block["errno"] in ("EBUSY", "EINTR", "ETIMEDOUT", "ENOMEM", "EINVAL") and block["reason"] and block["zone"]
    assert any(block["range"] in answer["msg"] for block in answer["failed_blocks"]), answer
    return answer["failed_blocks"]


# Clean and dirty page cache, tmpfs, anonymous and mlocked memory are moved away, under load too. A long-term pin (io_uring's registered
# buffers; vfio and RDMA pin in the same way) moves its pages out of ZONE_MOVABLE before it pins them: check_and_migrate_movable_pages().
@pytest.mark.parametrize("kinds", [("cache", "tmpfs"), ("churn", "locked"), ("registered",)], ids="+".join)
def test_memory_moves_away(node, kinds):
    node.as_ram()
    for kind in kinds:
        node.hold(kind, 300 // len(kinds))
    assert node.move("preflight")["exit"] == 0
    answer = node.move("hot-remove")
    assert answer["exit"] == 0 and node.mode() == "raw", answer
    assert [node.held(kind) for kind in kinds] == ["same"] * len(kinds)


def test_huge_pages(node):
    """They move when the rest of the machine has free huge pages, or memory to make them of: not certain."""
    node.as_ram()
    node.run("sysctl -q vm.nr_hugepages=110")
    node.hold("hugetlb", 150)
    answer = node.move("hot-remove", "short")
    if answer["exit"]:
        fails_clean(node, answer)
    else:
        assert node.mode() == "raw"
    assert node.held("hugetlb") == "same"


def test_pinned_pages(node):
    """A short-term pin (vmsplice, O_DIRECT) leaves its pages where they are: the kernel tries until the deadline."""
    node.as_ram()
    node.run("systemd-run --quiet --collect --unit=pin python3 /root/pin.py")
    node.run("until journalctl --unit=pin --output=cat --grep=pinned; do systemctl is-active --quiet pin || exit 1; sleep 0.5; done")
    pid = node.run("systemctl show --property=MainPID --value pin").stdout.strip()
    answer = node.move("hot-remove", "short")
    tried = [block for block in fails_clean(node, answer) if block["errno"] != "ETIMEDOUT"]
    assert tried and {block["zone"] for block in tried} == {"Movable"}
    owners = [owner for block in tried for owner in block["owners"]]
    assert any(owner.startswith(f"process {pid} (") for owner in owners), answer
    assert set(node.blocks().values()) == {"Movable"}


# MiB that stay beyond the reserve of 64 MiB. In the second case nothing has room for what is in the last block, and the deadline ends it.
@pytest.mark.parametrize("spare", [60, -170])
def test_preflight_is_right(node, spare):
    node.as_ram()
    numbers = node.move("preflight")["numbers"]
    node.hold("anonymous", (numbers["left_bytes"] - numbers["reserve_bytes"]) // MIB - spare)
    foretold = node.move("preflight")
    answer = node.move("hot-remove", "long" if spare > 0 else "short")
    if spare > 0:
        assert foretold["exit"] == 0 and answer["exit"] == 0 and node.mode() == "raw", (foretold, answer)
        assert node.held("anonymous") == "same"
        return
    assert foretold["exit"] == 5 and "would stay available" in foretold["msg"], foretold
    # Unless the kernel has ended the process that holds it, which offers itself.
    if node.run("systemctl is-active hold-anonymous", check=False).stdout == "active\n":
        fails_clean(node, answer)
        assert node.held("anonymous") == "same"


def test_swap_is_not_counted(node):
    """What is swapped out could make room, at a price that is paid in the down time: preflight names it, and refuses."""
    node.as_ram()
    node.run("fallocate -l 256M /var/tmp/swap && chmod 600 /var/tmp/swap && mkswap /var/tmp/swap >/dev/null && swapon /var/tmp/swap")
    numbers = node.move("preflight")["numbers"]
    node.hold("anonymous", (numbers["left_bytes"] - numbers["reserve_bytes"]) // MIB + 100)
    foretold = node.move("preflight")
    assert foretold["exit"] == 5 and "of swap" in foretold["msg"], foretold
    answer = node.move("hot-remove", "short")
    if answer["exit"]:
        fails_clean(node, answer)
    assert node.held("anonymous") == "same"
