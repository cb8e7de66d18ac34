# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Computes what is left to gain in each phase of a cycle on this host, and by which setting.

It does no I/O. docs/performance.md says where the numbers come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .timeline import through_firmware

_HUGE_SHARE = 0.5  # huge pages halve a save and a restore, or do better
_FAST_SHUTDOWN = 0.05  # seconds that the method fast needs for sync, remount and jump
_HASH = 200_000_000  # bytes of kernel and initrd that the purgatory hashes in a second: 0.05 to 0.1 s for 15 MB
_BITS = 10  # of a serial line for each byte: start, eight, stop
# Levels of kernel messages, as dmesg names them. Those below the console's level are written to it.
_LEVELS = ("emerg", "alert", "crit", "err", "warn", "notice", "info", "debug")
_USUAL, _QUIET = 7, 4  # the console's level (CONFIG_CONSOLE_LOGLEVEL_DEFAULT, CONFIG_CONSOLE_LOGLEVEL_QUIET)

# What a phase without a gain waits for, and where to look.
_OWN = {
    "units_stopped": "the end of the units: journalctl -b -1 -u UNIT",
    "saved": "memory is copied as fast as it goes",
    "jump": "the file systems are synced",
    "kernel_start": "kernel and initrd are copied and unpacked",
    "userspace_start": "probes of devices: boot once with initcall_debug, and read dmesg",
    "restoring": "systemd: systemd-analyze critical-chain hotpmem-restore.service",
    "restored": "memory is copied as fast as it goes",
    "units_starting": "systemd: systemd-analyze critical-chain UNIT",
    "units_ready": "the start of the units: systemd-analyze blame",
}


@dataclass(frozen=True)
class Host:
    """What the budget must know of a host.

    method, jump_initrd, jump_check, early_restore: as in the settings; method is that of the last save. cpus: how many are online.
    initrd_seconds: how long systemd measured the initrd, 0 when unknown. lacking: jump arguments of the settings that this boot did
    not get. small_pages: paths of items on a tmpfs without huge pages. prepared: most of
    the items were moved into huge pages before the save. late_units: state units that wait for basic.target.
    beside_all: those that do not, and that a jump starts at the same time as everything else.
    console: the serial lines that the kernel writes to, with their bits a second. console_bytes: what it wrote before userspace that
    ``quiet`` would leave out.
    loaded_bytes: kernel and initrd of the jump.
    """

    cpus: int = 1
    method: str = "systemd"
    jump_initrd: str = "default"
    jump_check: bool = True
    early_restore: bool = True
    initrd_seconds: float = 0.0
    lacking: Sequence[str] = ()
    small_pages: Sequence[str] = ()
    prepared: bool = False
    late_units: Sequence[str] = ()
    beside_all: Sequence[str] = ()
    console: Sequence[Tuple[str, int]] = ()
    console_bytes: int = 0
    loaded_bytes: int = 0


def serial_lines(arguments: Sequence[str], active: str) -> List[Tuple[str, int]]:
    """The serial lines among the active consoles, and their bits a second.

    arguments: of the kernel's command line. active: of /sys/class/tty/console/active. A line without a speed has the kernel's 9600
    (Documentation/admin-guide/kernel-parameters.txt, console=).
    """
    speeds: Dict[str, int] = {}
    for word in arguments:
        if word.startswith("console="):
            name, _comma, options = word[len("console=") :].partition(",")
            digits = options[: len(options) - len(options.lstrip("0123456789"))]
            speeds[name] = int(digits) if digits and int(digits) else 9600
    return [(name, speeds.get(name, 9600)) for name in active.split() if name.startswith(("ttyS", "ttyAMA"))]


def console_levels(arguments: Sequence[str]) -> Sequence[str]:
    """The levels of the messages that the kernel writes to its consoles, as dmesg names them, the most serious first.

    arguments: of the kernel's command line. The last one counts (Documentation/admin-guide/kernel-parameters.txt).
    """
    level = _USUAL
    for word in arguments:
        name, _equals, value = word.partition("=")
        if word in ("quiet", "debug"):
            level = _QUIET if word == "quiet" else len(_LEVELS)
        elif name == "loglevel" and value.isascii() and value.isdigit():
            level = int(value)
    return _LEVELS if "ignore_loglevel" in arguments else _LEVELS[:level]


def quiet_leaves_out(levels: Sequence[str]) -> bool:
    """True when ``quiet`` would leave some of these levels out."""
    return len(levels) > _QUIET


def _gains(mark: str, seconds: float, host: Host) -> List[Tuple[Optional[float], str]]:
    """The gains of a phase: seconds (None when only a measurement can tell) and the setting."""
    found: List[Tuple[Optional[float], str]] = []
    jumped = not through_firmware(host.method)
    if host.small_pages and (mark == "restored" or (mark == "saved" and not host.prepared)):
        found.append((seconds * _HUGE_SHARE, f"mount the tmpfs of {', '.join(host.small_pages)} with huge=within_size"))
    if mark == "jump" and host.method == "systemd":
        found.append((max(seconds - _FAST_SHUTDOWN, 0.0), "hotpmem_reboot_method: fast"))
    if mark == "kernel_start" and host.jump_check and jumped:
        found.append((min(host.loaded_bytes / _HASH, seconds), "hotpmem_jump_check: false"))
    if mark == "userspace_start" and jumped:
        lines = [bits for _name, bits in host.console]
        if lines and host.console_bytes:
            named = ", ".join(name for name, _bits in host.console)
            took = sum(host.console_bytes * _BITS / bits for bits in lines)
            how = "the jump argument quiet" if "quiet" in host.lacking else "quiet in hotpmem_jump_arguments"
            found.append((min(took, seconds), f"{how}: the kernel wrote {host.console_bytes} bytes to {named}"))
        rest = [word for word in host.lacking if word != "quiet"]
        if rest:
            found.append((None, f"the last jump lacked the jump arguments {' '.join(rest)}"))
        if host.jump_initrd != "minimal":
            found.append((host.initrd_seconds or None, "hotpmem_jump_initrd: minimal"))
    if mark == "restoring" and host.beside_all and jumped:
        found.append((None, f"hotpmem_state_first: true, which starts {', '.join(host.beside_all)} before everything else"))
    if mark == "restored" and host.cpus > 1 and jumped and not (host.early_restore and host.jump_initrd == "minimal"):
        found.append((seconds, "hotpmem_jump_initrd: minimal with hotpmem_early_restore: true"))
    if mark == "units_starting" and host.late_units:
        found.append((seconds, f"early_start: true for the items of {', '.join(host.late_units)}"))
    return found


def budget(phases: Sequence[Mapping[str, Any]], host: Host) -> List[Dict[str, Any]]:
    """The phases of the down time with what is left to gain.

    Each is a dict of name, mark, seconds, gain_seconds, gains and waits_for. gain_seconds is at most the phase, and leaves out gains that
    only a measurement can tell. gains are dicts of seconds and setting. waits_for says what the rest of the phase is.
    """
    rows = []
    for phase in phases:
        if not phase["down"]:
            continue
        seconds, mark = phase["seconds"], phase["mark"]
        length = max(seconds, 0.0)  # the error of the clock may be longer than a short phase
        gains = _gains(mark, length, host)
        known = min(sum(gain for gain, _setting in gains if gain), length)
        rows.append({
            "name": phase["name"],
            "mark": mark,
            "seconds": seconds,
            "gain_seconds": round(known, 6),
            "gains": [{"seconds": None if gain is None else round(gain, 6), "setting": setting} for gain, setting in gains],
            "waits_for": _OWN[mark],
        })  # fmt: skip
    return rows


def lines(rows: Sequence[Mapping[str, Any]]) -> List[str]:
    """The budget as lines of text for an operator."""
    if not rows:
        return ["no budget: the cycle has no phases"]
    width = max(len(row["name"]) for row in rows)
    out = [f"  {'phase':<{width}}  {'seconds':>9}  {'to gain':>9}  by"]
    for row in rows:
        said = [(one["seconds"], one["setting"]) for one in row["gains"]] or [(0.0, f"nothing to set; {row['waits_for']}")]
        for number, (gain, setting) in enumerate(said):
            name, seconds = (row["name"], f"{row['seconds']:9.3f}") if number == 0 else ("", "")
            shown = "measure it" if gain is None else f"{gain:.3f}"
            out.append(f"  {name:<{width}}  {seconds:>9}  {shown:>9}  {setting}")
    whole, gain = sum(row["seconds"] for row in rows), sum(row["gain_seconds"] for row in rows)
    out.append(f"  {'down, stop to ready':<{width}}  {whole:9.3f}  {gain:9.3f}  leaves {whole - gain:.3f} s")
    return out
