# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads and writes below a root, so that a captured tree can stand in for /sys, /proc and /dev."""

from __future__ import annotations

import errno
import os
import select
import signal
from typing import Dict, List, Optional

from ._errors import HotpmemError, SystemCallError

_KILL_AFTER = 2.0  # seconds the parent waits past a child's own alarm before it sends SIGKILL

_HINTS = {
    errno.EACCES: "Run as root (become: true)",
    errno.EPERM: "Run as root (become: true)",
    errno.ENOENT: "The kernel has no such object: see which ones there are with the pmem_info module",
    errno.ENODEV: "The driver refused the device: dmesg says why",
}


class Sysfs:
    """Attribute files below ``root``; paths are given as on a real machine (``/sys/bus/nd/...``)."""

    def __init__(self, root: str = "/") -> None:
        self.root = root

    def path(self, name: str) -> str:
        """Where name really is."""
        return os.path.join(self.root, name.lstrip("/"))

    def exists(self, name: str) -> bool:
        """True when name is there (links followed)."""
        return os.path.exists(self.path(name))

    def read(self, name: str) -> str:
        """The content without the white space around it. Raises SystemCallError."""
        try:
            with open(self.path(name), encoding="utf-8", errors="surrogateescape") as file:
                return file.read().strip()
        except OSError as error:
            raise self._error(f"Cannot read {name}", name, error) from error

    def get(self, name: str, default: str = "") -> str:
        """read(), but default when the file isn't there or may not be read."""
        try:
            return self.read(name)
        except SystemCallError:
            return default

    def find_int(self, name: str) -> Optional[int]:
        """A number as sysfs writes it (``0x`` marks hexadecimal), or None."""
        return _number(self.get(name), 0)

    def get_int(self, name: str, default: int) -> int:
        """find_int(), or default."""
        number = self.find_int(name)
        return default if number is None else number

    def get_hex(self, name: str, default: int) -> int:
        """A number written in hexadecimal without 0x (block_size_bytes), or default."""
        number = _number(self.get(name), 16)
        return default if number is None else number

    def list(self, name: str) -> List[str]:
        """Names in a directory, sorted with numbers in order; empty when it isn't there."""
        try:
            return sorted(os.listdir(self.path(name)), key=natural_key)
        except OSError:
            return []

    def link(self, name: str) -> str:
        """The text of a symbolic link, or the empty string."""
        try:
            return os.readlink(self.path(name))
        except OSError:
            return ""

    def link_name(self, name: str) -> str:
        """The last part of a link (which driver: ``kmem``), or the empty string."""
        return os.path.basename(self.link(name))

    def write(self, name: str, value: str) -> None:
        """Write value in one write(2). Raises SystemCallError with the kernel's errno."""
        try:
            _store(self.path(name), value)
        except OSError as error:
            raise self._error(f"Cannot write {value!r} to {name}", name, error) from error

    def write_until(self, name: str, value: str, seconds: float) -> None:
        """write(), given up after ``seconds``: SystemCallError with EINTR, as the kernel answers a signal; ETIMEDOUT when not even tried.

        Offlining memory retries without end while a page can't be moved, and only a signal ends it, so the write happens
        in a child. Its own alarm ends it even when this process has died meanwhile: nothing may go on retrying for ever.
        """
        what = f"Cannot write {value!r} to {name}"
        if seconds <= 0:
            raise SystemCallError(what, errno.ETIMEDOUT, "The time was over before it was tried: allow more", path=name)
        try:
            reader, writer = os.pipe()
        except OSError as error:
            raise self._error(what, name, error) from error
        try:
            child = os.fork()
        except OSError as error:
            os.close(reader)
            os.close(writer)
            raise self._error(what, name, error) from error
        if child == 0:
            _write_and_exit(self.path(name), value, seconds, writer)
        os.close(writer)
        try:
            ready = select.select([reader], [], [], seconds + _KILL_AFTER)[0]
            answer = os.read(reader, 16) if ready else b""
        finally:
            os.close(reader)
            # Harmless when it has ended: it isn't reaped yet, so its number is still its own.
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        if not answer:
            raise SystemCallError(what, errno.EINTR, f"It did not end within {seconds:.1f} s and was stopped: allow more time", path=name)
        number = int(answer)
        if number:
            raise self._error(what, name, OSError(number, os.strerror(number)))

    def _error(self, what: str, name: str, error: OSError) -> SystemCallError:
        number = error.errno or errno.EIO
        return SystemCallError(what, number, _HINTS.get(number, "dmesg may say more"), path=name)


def natural_key(name: str) -> list:
    """memory9 before memory10."""
    parts: list = []
    digits = ""
    for char in name + "\0":
        if char.isdigit():
            digits += char
            continue
        if digits:
            parts.append((0, int(digits), ""))
            digits = ""
        parts.append((1, 0, char))
    return parts


def mounted(sysfs: Sysfs) -> List[Dict[str, str]]:
    """What is mounted here, by /proc/self/mountinfo: a list of ``device`` (major:minor), ``target``, ``type`` and ``source``.

    Fields: proc_pid_mountinfo(5). Space, tab, newline and backslash in names are octal escapes.
    """
    found = []
    for line in sysfs.get("/proc/self/mountinfo").splitlines():
        left, separator, right = line.partition(" - ")
        fields, tail = left.split(" "), right.split(" ")
        if separator and len(fields) >= 6 and len(tail) >= 2:
            found.append({"device": fields[2], "target": _unescape(fields[4]), "type": tail[0], "source": _unescape(tail[1])})
    return found


def _unescape(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


def boot_id(sysfs: Sysfs) -> str:
    """The random id of this boot, or the empty string."""
    return sysfs.get("/proc/sys/kernel/random/boot_id")


def require_root(what: str) -> None:
    """Raise when this isn't root: sysfs would answer some reads and refuse others half way."""
    if os.geteuid() != 0:
        raise HotpmemError(what, "this is not root", "Run as root (become: true)")


def _number(text: str, base: int) -> Optional[int]:
    try:
        return int(text, base)
    except ValueError:
        return None


def _store(path: str, value: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


def _write_and_exit(path: str, value: str, seconds: float, pipe: int) -> None:
    """The child of write_until: says the errno (0: done) on the pipe. Never returns."""
    answer = errno.EIO
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        _store(path, value)
        answer = 0
    except OSError as error:
        answer = error.errno or errno.EIO
    finally:
        os.write(pipe, str(answer).encode())
        os._exit(0)  # pylint: disable=protected-access
