# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory blocks: which ones a range holds, what state they are in, and taking them offline with a deadline and a way back.

Facts from the kernel's Documentation/admin-guide/mm/memory-hotplug.rst and drivers/base/memory.c:
``block_size_bytes`` and ``phys_index`` are hexadecimal without 0x, the N of memoryN is decimal; ``valid_zones`` names the
zone of an online block, and of an offline one the zones it could go to, the default first; ``none`` means that the block
spans zones or has holes and can't be taken offline. Writing ``offline`` to a block that is offline already is EINVAL.
"""

from __future__ import annotations

import errno
import time
from dataclasses import dataclass, replace
from typing import Callable, Dict, Iterable, List, Sequence, Tuple

from .._host.errors import HotpmemError, SystemCallError, describe_errno
from .._host.size import align_down, align_up, format_range
from .._host.sysfs import Sysfs
from .page_owners import Owners

MEMORY = "/sys/devices/system/memory"
STATES = ("offline", "online_movable", "online_kernel")
_RETRY = (errno.EBUSY, errno.EAGAIN, errno.EINTR, errno.ENOMEM, errno.ETIMEDOUT)
RETRIES = 10  # further passes over blocks that answered one of these
_PAUSE = 1.0  # seconds between two passes: what pins a page (I/O, a short get_user_pages) has to end by itself
_ROLLBACK = 30.0  # seconds a block may take to be put back


def whole_blocks(start: int, size: int, block_size: int) -> range:
    """Numbers of the blocks that lie whole inside [start, start+size): kmem trims to these."""
    return range(
        align_up(start, block_size) // block_size, max(align_down(start + size, block_size), align_up(start, block_size)) // block_size
    )


def touched_blocks(start: int, size: int, block_size: int) -> range:
    """Numbers of all blocks that hold a byte of [start, start+size)."""
    return range(start // block_size, align_up(start + size, block_size) // block_size)


@dataclass(frozen=True)
class Block:
    """One memory block as sysfs shows it. start and size in bytes."""

    number: int
    start: int
    size: int
    state: str
    zones: Tuple[str, ...]

    @property
    def online(self) -> bool:
        """Anything but offline: a block that is going offline is still in use."""
        return self.state != "offline"

    @property
    def zone(self) -> str:
        """The zone an online block is in; the empty string when it is offline or the kernel can't tell (``none``)."""
        return self.zones[0] if self.online and self.zones and self.zones[0] != "none" else ""

    @property
    def what_it_is(self) -> str:
        """The state this block is in, as a state that can be asked for."""
        if not self.online:
            return "offline"
        return "online_movable" if self.zone == "Movable" else "online_kernel"

    def to_dict(self) -> dict:
        """For module results."""
        return {"block": self.number, "range": format_range(self.start, self.size), "state": self.state, "zone": self.zone}


@dataclass(frozen=True)
class Failure:
    """A block that could not be brought to the state asked for. owners: sentences about whose pages are in the way."""

    block: Block
    errno: int
    reason: str
    owners: Tuple[str, ...] = ()

    def to_dict(self) -> dict:
        """For module results."""
        return {
            "block": self.block.number,
            "range": format_range(self.block.start, self.block.size),
            "zone": self.block.zone or "none",
            "errno": errno.errorcode.get(self.errno, str(self.errno)),
            "reason": self.reason,
            "owners": list(self.owners),
        }


def reason_for(block: Block, number: int, wanted: str, tries: int) -> str:
    """Why the kernel said number, in words an operator can act on."""
    if wanted != "offline":
        return f"the kernel would not bring it online: {describe_errno(number)}"
    if number == errno.EINTR:
        return "a page in it could not be moved before the deadline: it is pinned (direct I/O, RDMA, vfio, io_uring buffers) or busy"
    if number == errno.ETIMEDOUT:
        return "the time was over before it was tried"
    if number == errno.EINVAL:
        return "it has holes or spans zones, or it was taken offline by somebody else meanwhile"
    if number == errno.EBUSY and block.zone != "Movable":
        return f"it holds an unmovable page: zone {block.zone or 'none'} takes kernel allocations, only Movable stays removable"
    if number == errno.EBUSY:
        return f"a page in it could not be isolated in {tries} tries"
    return describe_errno(number)


class MemoryBlocks:
    """The memory blocks below a root."""

    def __init__(self, sysfs: Sysfs, clock: Callable[[], float] = time.monotonic, pause: Callable[[float], None] = time.sleep) -> None:
        self.sysfs = sysfs
        self.clock = clock
        self.pause = pause
        self.owners = Owners(sysfs, clock)

    def block_size(self) -> int:
        """Bytes in a block. Raises where the kernel has no memory hot-plug."""
        size = self.sysfs.get_hex(f"{MEMORY}/block_size_bytes", 0)
        if not size:
            raise HotpmemError(
                "Cannot read the memory blocks",
                f"{MEMORY}/block_size_bytes is not there",
                "Use a kernel with CONFIG_MEMORY_HOTPLUG and CONFIG_MEMORY_HOTREMOVE",
            )
        return size

    def numbers(self) -> List[int]:
        """Numbers of all blocks there are."""
        return [int(name[6:]) for name in self.sysfs.list(MEMORY) if name.startswith("memory") and name[6:].isdigit()]

    def read(self, number: int) -> Block:
        """One block. Raises SystemCallError (ENOENT) when there is no such block."""
        size = self.block_size()
        base = f"{MEMORY}/memory{number}"
        return Block(number, number * size, size, self.sysfs.read(f"{base}/state"), tuple(self.sysfs.get(f"{base}/valid_zones").split()))

    def present(self, numbers: Iterable[int]) -> List[Block]:
        """Those of numbers that exist."""
        return [self.read(number) for number in numbers if self.sysfs.exists(f"{MEMORY}/memory{number}/state")]

    def auto_online(self) -> str:
        """What happens to new blocks: ``offline``, ``online``, ``online_movable``, ``online_kernel``; empty when unknown."""
        return self.sysfs.get(f"{MEMORY}/auto_online_blocks")

    def set_auto_online(self, policy: str) -> None:
        """Set what happens to new blocks."""
        self.sysfs.write(f"{MEMORY}/auto_online_blocks", policy)

    def to_change(self, blocks: Iterable[Block], state: str) -> List[Block]:
        """The blocks that are not in state yet."""
        return [block for block in blocks if block.what_it_is != state]

    def set_state(self, blocks: Sequence[Block], state: str, timeout: float, retries: int) -> List[Block]:
        """Bring all blocks to state, all of them or none. Returns those that were changed, as they were before.

        timeout: seconds for all of them together. retries: further passes over the blocks that answered EBUSY and the like.
        Raises HotpmemError with ``failed``, ``rolled_back`` and ``not_rolled_back`` after putting back what it changed.
        """
        deadline = self.clock() + timeout
        # The highest first: the order in which the kernel's own offline_and_remove goes, and the likeliest to be empty.
        pending = sorted(self.to_change(blocks, state), key=lambda block: -block.number)
        changed: List[Block] = []
        failures: Dict[int, Failure] = {}
        for tries in range(1, retries + 2):
            still: List[Block] = []
            for block in pending:
                number = self._bring(block, state, deadline)
                if number == 0:
                    failures.pop(block.number, None)
                    changed.append(block)
                    continue
                # A later pass that had no time left to try says nothing of why the block did not move.
                if number != errno.ETIMEDOUT or block.number not in failures:
                    failures[block.number] = Failure(block, number, reason_for(block, number, state, tries))
                if number not in _RETRY:
                    raise self._undone(changed + [block] + still, failures, state, timeout)
                still.append(block)
            pending = still
            if not pending:
                return sorted(changed, key=lambda block: block.number)
            left = deadline - self.clock()
            if left <= 0:
                break
            if tries <= retries:
                self.pause(min(_PAUSE, left))
        raise self._undone(changed + pending, failures, state, timeout)

    def put_back(self, blocks: Iterable[Block]) -> Tuple[List[int], List[dict]]:
        """Bring blocks back to the state they carry. Returns (numbers put back, failures)."""
        done: List[int] = []
        failed: List[dict] = []
        for before in blocks:
            if self._is(before.number, before.what_it_is):
                continue
            number = self._bring(before, before.what_it_is, self.clock() + _ROLLBACK)
            if number == 0:
                done.append(before.number)
            else:
                failed.append(Failure(before, number, reason_for(before, number, before.what_it_is, 1)).to_dict())
        return sorted(done), failed

    def _bring(self, block: Block, state: str, deadline: float) -> int:
        """Bring one block to state; 0 or the errno. The block may have changed since it was read: somebody's udev rule."""
        name = f"{MEMORY}/memory{block.number}/state"
        try:
            now = self.read(block.number)
            if now.what_it_is == state:
                return 0
            if now.online:
                self.sysfs.write_until(name, "offline", deadline - self.clock())
            if state != "offline":
                # Bringing a block online can't hang; it must not be refused because moving its pages used up the time.
                self.sysfs.write_until(name, state, max(deadline - self.clock(), 10.0))
        except SystemCallError as error:
            return 0 if self._is(block.number, state) else error.errno
        # Plain success isn't enough: a kernel that ignores the policy would put the block into a zone it can't leave.
        return 0 if self._is(block.number, state) else errno.EIO

    def _is(self, number: int, state: str) -> bool:
        try:
            return self.read(number).what_it_is == state
        except SystemCallError:
            return False

    def _explained(self, failure: Failure) -> Failure:
        """With the owners of what would not leave. Before anything is put back: now hardly anything else is in the block."""
        if not failure.block.online or failure.errno == errno.ETIMEDOUT:
            return failure
        return replace(failure, owners=tuple(self.owners.of(failure.block.start, failure.block.size)))

    def _undone(self, touched: Sequence[Block], failures: Dict[int, Failure], state: str, timeout: float) -> HotpmemError:
        """Put back what was changed; returns the error to raise."""
        worst = self._explained(min(failures.values(), key=lambda failure: failure.errno == errno.ETIMEDOUT))
        failures[worst.block.number] = worst
        done, stuck = self.put_back(touched)
        block = worst.block
        verb = "go offline" if state == "offline" else f"become {state}"
        within = f" within {timeout:g} s" if worst.errno in _RETRY else ""
        said = (
            f"memory block {block.number} ({format_range(block.start, block.size)}, zone {block.zone or 'none'}) would not {verb}{within} "
            f"({errno.errorcode.get(worst.errno, worst.errno)}: {worst.reason}{'; ' + worst.owners[0] if worst.owners else ''})"
        )
        said += f". Put back {len(done)} of {len(done) + len(stuck)} changed blocks; " if done or stuck else ". No block was changed; "
        if stuck:
            said += f"NOT put back: {', '.join(str(one['block']) for one in stuck)}"
        else:
            said += "everything is as before, nothing was lost"
        if block.online and block.zone != "Movable":
            todo = (
                "Only blocks in zone Movable are removable: reboot, and bring them online movable (dax_kmem does). See "
                "docs/troubleshooting.md#normal-zone"
            )
        elif state == "offline":
            todo = "Find what pins the memory (a process with locked, RDMA, vfio or io_uring buffers), stop it, and try again"
        else:
            todo = "dmesg says more; the block must be free to change zone"
        return HotpmemError(
            f"Cannot bring {len(failures)} memory block{'s' if len(failures) > 1 else ''} to {state}",
            said,
            todo,
            failed_blocks=[failure.to_dict() for failure in failures.values()],
            rolled_back=done,
            not_rolled_back=stuck,
        )


def summary(blocks: Sequence[Block]) -> Dict[str, object]:
    """``online_bytes``, and how many blocks are in which state; for results and diffs."""
    states: Dict[str, int] = {}
    for block in blocks:
        states[block.what_it_is] = states.get(block.what_it_is, 0) + 1
    return {"online_bytes": sum(block.size for block in blocks if block.online), "blocks": states}
