# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory blocks: lists the blocks of a range, reads their states, and takes them offline or brings
them online.

A change of state has a deadline. When one block fails, all changed blocks are put back.

Facts from the kernel's Documentation/admin-guide/mm/memory-hotplug.rst and drivers/base/memory.c:
- ``block_size_bytes`` and ``phys_index`` are hexadecimal without 0x. The N of memoryN is decimal.
- ``valid_zones`` of an online block is its zone. For an offline block, it lists the zones that the
  block can be brought online in, the default first. ``none`` means that the block spans zones or has
  holes, and cannot be taken offline.
- Writing ``offline`` to a block that is already offline fails with EINVAL.
"""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

from .._host.errors import HotpmemError, SystemCallError
from .._host.size import align_down, align_up, format_range
from .._host.sysfs import Sysfs
from .migration_room import MigrationRoom, Room, why_no_room
from .page_owners import Owners

MEMORY = "/sys/devices/system/memory"
STATES = ("offline", "online_movable", "online_kernel")
_RETRY = (errno.EBUSY, errno.EAGAIN, errno.EINTR, errno.ENOMEM, errno.ETIMEDOUT)
RETRIES: Optional[int] = None  # further passes over the blocks that failed with one of these errors; None: until the deadline
_UNMOVABLE_RETRIES = 10  # of those, when the block is not in ZONE_MOVABLE: the kernel's own pages stay
_HELP_EVERY = 5  # passes between two attempts to make room for the pages
_HELP_SHARE = 4  # of the time that is left, one in so many is for such an attempt
_PAUSE = 1.0  # seconds between two passes: a short pin (I/O, get_user_pages) ends by itself in this time
_ROLLBACK = 30.0  # seconds that putting back one block may take


def whole_blocks(start: int, size: int, block_size: int) -> range:
    """Return the numbers of the blocks that lie completely in [start, start+size), in bytes.

    kmem adds only these.
    """
    return range(
        align_up(start, block_size) // block_size, max(align_down(start + size, block_size), align_up(start, block_size)) // block_size
    )


@dataclass(frozen=True)
class Block:
    """A memory block as sysfs shows it. start, size: bytes. zones: the content of ``valid_zones``."""

    number: int
    start: int
    size: int
    state: str
    zones: Tuple[str, ...]

    @property
    def online(self) -> bool:
        """True in every state except ``offline``. A block that is going offline is still in use."""
        return self.state != "offline"

    @property
    def zone(self) -> str:
        """The zone of an online block, or the empty string when the block is offline or valid_zones
        is ``none``.
        """
        return self.zones[0] if self.online and self.zones and self.zones[0] != "none" else ""

    @property
    def what_it_is(self) -> str:
        """The present state of the block, as one of STATES."""
        if not self.online:
            return "offline"
        return "online_movable" if self.zone == "Movable" else "online_kernel"

    def to_dict(self) -> Dict[str, Any]:
        """Return the block as a dict for a module result."""
        return {"block": self.number, "range": format_range(self.start, self.size), "state": self.state, "zone": self.zone}


@dataclass(frozen=True)
class Failure:
    """A block that did not reach the requested state.

    errno: the kernel's error number. reason: what it means. owners: sentences that say whose pages
    keep the block online. no_room: its pages are not pinned, but had nowhere to go.
    """

    block: Block
    errno: int
    reason: str
    owners: Tuple[str, ...] = ()
    no_room: bool = False

    def to_dict(self) -> Dict[str, Any]:
        """Return the failure as a dict for a module result."""
        return {
            "block": self.block.number,
            "range": format_range(self.block.start, self.block.size),
            "zone": self.block.zone or "none",
            "errno": errno.errorcode.get(self.errno, str(self.errno)),
            "reason": self.reason,
            "owners": list(self.owners),
        }


def reason_for(block: Block, number: int, wanted: str, tries: int) -> str:
    """Explain the errno ``number`` to an operator.

    wanted: the requested state. tries: the number of passes so far.
    """
    if wanted != "offline":
        return f"the kernel did not bring it online: {os.strerror(number)}"
    if number == errno.EINTR:
        return (
            "a page in it could not be moved before the deadline, because the page is busy or pinned "
            "(by direct I/O, RDMA, vfio or io_uring buffers)"
        )
    if number == errno.ETIMEDOUT:
        return "the deadline passed before the block was tried"
    if number == errno.EINVAL:
        return "it has holes or spans zones, or another process took it offline in the meantime"
    if number == errno.EBUSY and block.zone != "Movable":
        zone = block.zone or "none"
        return f"it holds an unmovable page: zone {zone} accepts kernel allocations, and only blocks in zone Movable stay removable"
    if number == errno.EBUSY:
        return f"a page in it could not be moved in {tries} {'try' if tries == 1 else 'tries'}"
    return os.strerror(number)


class MemoryBlocks:
    """Reads and changes the memory blocks below a root.

    clock, pause: time in seconds, replaced in tests.
    """

    def __init__(self, sysfs: Sysfs, clock: Callable[[], float] = time.monotonic, pause: Callable[[float], None] = time.sleep) -> None:
        self.sysfs = sysfs
        self.clock = clock
        self.pause = pause
        self.owners = Owners(sysfs, clock)
        self.room = MigrationRoom(sysfs)

    def block_size(self) -> int:
        """Return the size of a block in bytes.

        Raises HotpmemError when the kernel does not support memory hotplug.
        """
        size = self.sysfs.get_hex(f"{MEMORY}/block_size_bytes", 0)
        if not size:
            raise HotpmemError(
                "Cannot read the memory blocks",
                f"the file {MEMORY}/block_size_bytes does not exist or is empty",
                "Use a kernel with CONFIG_MEMORY_HOTPLUG and CONFIG_MEMORY_HOTREMOVE",
            )
        return size

    def numbers(self) -> List[int]:
        """Return the numbers of all blocks of the host."""
        return [int(name[6:]) for name in self.sysfs.list(MEMORY) if name.startswith("memory") and name[6:].isdigit()]

    def read(self, number: int) -> Block:
        """Read a block. Raises SystemCallError (ENOENT) when the block does not exist."""
        size = self.block_size()
        base = f"{MEMORY}/memory{number}"
        return Block(number, number * size, size, self.sysfs.read(f"{base}/state"), tuple(self.sysfs.get(f"{base}/valid_zones").split()))

    def present(self, numbers: Iterable[int]) -> List[Block]:
        """Return the blocks with these numbers that exist now."""
        return [self.read(number) for number in numbers if self.sysfs.exists(f"{MEMORY}/memory{number}/state")]

    def auto_online(self) -> str:
        """Return the state that the kernel gives to new blocks: ``online`` or one of STATES; empty
        when unknown.
        """
        return self.sysfs.get(f"{MEMORY}/auto_online_blocks")

    def set_auto_online(self, policy: str) -> None:
        """Set the state that the kernel gives to new blocks. Raises SystemCallError."""
        self.sysfs.write(f"{MEMORY}/auto_online_blocks", policy)

    def to_change(self, blocks: Iterable[Block], state: str) -> List[Block]:
        """Return the blocks that are not in this state."""
        return [block for block in blocks if block.what_it_is != state]

    def set_state(self, blocks: Sequence[Block], state: str, timeout: float, retries: Optional[int] = RETRIES) -> List[Block]:
        """Bring all blocks to a state (one of STATES), or change none of them.

        timeout: seconds for all blocks together. retries: further passes over blocks that failed with
        an errno of _RETRY, for example EBUSY; None tries until the deadline. Returns the changed blocks as
        they were before.

        When blocks do not go offline, it also makes room for their pages: see MigrationRoom.make().

        When a block fails, the changed blocks are put back. Then HotpmemError is raised, with the
        details ``failed_blocks``, ``rolled_back``, ``not_rolled_back`` and ``tried``.
        """
        begun = self.clock()
        deadline = begun + timeout
        # Start with the highest block. It is the most likely to be empty.
        pending = sorted(self.to_change(blocks, state), key=lambda block: -block.number)
        changed: List[Block] = []
        failures: Dict[int, Failure] = {}
        tries, room = 0, self.room.read()
        helped: List[str] = []
        while pending:
            tries += 1
            still: List[Block] = []
            for block in pending:
                number = self._bring(block, state, self._until(deadline, tries, state, retries))
                if number == 0:
                    failures.pop(block.number, None)
                    changed.append(block)
                    continue
                # ETIMEDOUT from a later pass does not replace the reason that an earlier pass found.
                if number != errno.ETIMEDOUT or block.number not in failures:
                    failures[block.number] = Failure(block, number, reason_for(block, number, state, tries))
                still.append(block)
                if number not in _RETRY:
                    raise self._undone(changed + still, failures, state, within="", room=room, helped=helped)
            pending = still
            left = deadline - self.clock()
            if pending and left <= 0:
                raise self._undone(changed + pending, failures, state, within=f" within {timeout:g} s", room=room, helped=helped)
            if pending and _gives_up(tries, retries, failures.values()):
                raise self._undone(changed + pending, failures, state, within=f" in {self.clock() - begun:.0f} s", room=room, helped=helped)
            if pending and state == "offline" and tries % _HELP_EVERY == 1:
                helped += [done for done in self.room.make(left / _HELP_SHARE) if done not in helped]
            if pending:
                self.pause(max(min(_PAUSE, deadline - self.clock()), 0.0))
        return sorted(changed, key=lambda block: block.number)

    def _until(self, deadline: float, tries: int, state: str, retries: Optional[int]) -> float:
        """Return the end of the next try. The kernel may try a block until it is stopped, so the first try leaves
        half of the time for what helps.
        """
        if tries > 1 or state != "offline" or retries == 0:
            return deadline
        return self.clock() + (deadline - self.clock()) / 2

    def put_back(self, blocks: Iterable[Block]) -> Tuple[List[int], List[Dict[str, Any]]]:
        """Bring blocks back to the states in ``blocks``.

        Returns (the numbers that were put back, the failures as dicts).
        """
        done: List[int] = []
        failed: List[Dict[str, Any]] = []
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
        """Bring one block to a state.

        Returns 0 or an errno. A udev rule may have changed the block since it was read.
        """
        name = f"{MEMORY}/memory{block.number}/state"
        try:
            now = self.read(block.number)
            if now.what_it_is == state:
                return 0
            if now.online:
                self.sysfs.write_until(name, "offline", deadline - self.clock())
            if state != "offline":
                # Bringing a block online does not hang. Leave it some time even if taking it
                # offline used all of it.
                self.sysfs.write_until(name, state, max(deadline - self.clock(), 10.0))
        except SystemCallError as error:
            return 0 if self._is(block.number, state) else error.errno
        # Success is not enough. A kernel that ignores the requested zone puts the block into one
        # that it cannot leave.
        return 0 if self._is(block.number, state) else errno.EIO

    def _is(self, number: int, state: str) -> bool:
        try:
            return self.read(number).what_it_is == state
        except SystemCallError:
            return False

    def _explained(self, failure: Failure, before: Room) -> Failure:
        """Add the owners of the remaining pages, and tell pinned pages from those that had no room. before: the room at the first try.

        Call it before blocks are put back, while the block holds few other pages.
        """
        block = failure.block
        if not block.online or failure.errno == errno.ETIMEDOUT:
            return failure
        owners = tuple(self.owners.of(block.start, block.size))
        if block.zone != "Movable" or failure.errno not in _RETRY:
            return replace(failure, owners=owners)
        now = self.room.read()
        held = self.room.huge_pages([(block.start, block.size)], now.huge)
        reason = why_no_room(held, self.owners.used(block.start, block.size), before, now)
        return replace(failure, owners=owners, reason=reason or failure.reason, no_room=bool(reason))

    def _undone(
        self, touched: Sequence[Block], failures: Dict[int, Failure], state: str, *, within: str, room: Room, helped: Sequence[str]
    ) -> HotpmemError:
        """Put back the touched blocks, and return the error to raise.

        within: how long it was tried, as words. room: what there was at the first try. helped: what was done to make room.
        """
        worst = self._explained(min(failures.values(), key=lambda failure: failure.errno == errno.ETIMEDOUT), room)
        failures[worst.block.number] = worst
        done, stuck = self.put_back(touched)
        block = worst.block
        verb = "go offline" if state == "offline" else f"reach the state {state}"
        owner = "" if worst.no_room or not worst.owners else f"; {worst.owners[0]}"
        said = (
            f"memory block {block.number} ({format_range(block.start, block.size)}, zone {block.zone or 'none'}) did not {verb}{within} "
            f"({errno.errorcode.get(worst.errno, worst.errno)}: {worst.reason}{owner})"
        )
        if helped:
            said += f". Meanwhile {', '.join(helped[:-1])}{' and ' if len(helped) > 1 else ''}{helped[-1]}, which did not help"
        if stuck:
            said += f". Of {len(done) + len(stuck)} changed blocks, {len(done)} were put back. Blocks NOT put back: "
            said += ", ".join(str(one["block"]) for one in stuck)
        else:
            said += f". All changed blocks ({len(done)}) were put back, so" if done else ". No block was changed, so"
            said += " everything is as before and nothing was lost"
        blocks = f"{len(failures)} memory block{'s' if len(failures) > 1 else ''}"
        return HotpmemError(
            f"Cannot take {blocks} offline" if state == "offline" else f"Cannot bring {blocks} to the state {state}",
            said,
            _what_to_do(worst, state),
            failed_blocks=[failure.to_dict() for failure in failures.values()],
            rolled_back=done,
            not_rolled_back=stuck,
            tried=list(helped),
        )


def _gives_up(tries: int, retries: Optional[int], failures: Iterable[Failure]) -> bool:
    """Return True when more passes are not wanted, or do not help. tries: the number of passes so far."""
    if retries is not None and tries > retries:
        return True
    return tries > _UNMOVABLE_RETRIES and any(
        one.errno == errno.EBUSY and one.block.online and one.block.zone != "Movable" for one in failures
    )


def _what_to_do(worst: Failure, state: str) -> str:
    """Return what the operator does about the failure that the message names."""
    if worst.block.online and worst.block.zone != "Movable":
        return (
            "Only blocks in zone Movable can be removed: reboot, then bring the blocks online in that zone, as the "
            "module dax_kmem does. See docs/troubleshooting.md#normal-zone"
        )
    if worst.no_room:
        return (
            "Free memory: stop a service, remove files from a tmpfs, or free pages of the hugetlb pool. Then try again. "
            "See docs/troubleshooting.md#no-room"
        )
    if state == "offline":
        return "Find the process that pins the memory (with locked, RDMA, vfio or io_uring buffers), stop it, and try again"
    return "See dmesg for details. The kernel must be able to bring the block online in the requested zone"


def summary(blocks: Sequence[Block]) -> Dict[str, Any]:
    """Return ``online_bytes``, and ``blocks``: the number of blocks in each state.

    For module results and diffs.
    """
    states: Dict[str, int] = {}
    for block in blocks:
        states[block.what_it_is] = states.get(block.what_it_is, 0) + 1
    return {"online_bytes": sum(block.size for block in blocks if block.online), "blocks": states}
