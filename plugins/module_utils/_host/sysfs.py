# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads and writes attribute files below a root directory.

In tests, a captured tree replaces /sys, /proc and /dev.
"""

from __future__ import annotations

import errno
import os
import select
import signal
from typing import Dict, List, Optional, Sequence, Tuple

from .errors import HotpmemError, SystemCallError

SHMEM_ENABLED = "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
_KILL_AFTER = 2.0  # seconds that the parent waits after the child's alarm before it sends SIGKILL

_HINTS = {
    errno.EACCES: "Run as root (become: true)",
    errno.EPERM: "Run as root (become: true)",
    errno.ENOENT: "The file does not exist, so the kernel may lack the device or the feature. The module pmem_info lists the devices",
    errno.ENODEV: "The driver rejected the device. See dmesg for the reason",
}


class Sysfs:
    """Accesses the files below ``root``. Callers give paths as on a real machine (``/sys/bus/nd/...``)."""

    def __init__(self, root: str = "/") -> None:
        self.root = root

    def path(self, name: str) -> str:
        """Return the path of name below the root."""
        return os.path.join(self.root, name.lstrip("/"))

    def real(self, name: str) -> str:
        """Return name without the symbolic links on its way, as on the machine. What does not exist keeps its name."""
        root, found = os.path.realpath(self.root), os.path.realpath(self.path(name))
        return found[len(root) :] if root != "/" and is_below(found, root) else found

    def exists(self, name: str) -> bool:
        """Return True when name exists. Symbolic links are followed."""
        return os.path.exists(self.path(name))

    def read(self, name: str) -> str:
        """Return the content without leading and trailing white space. Raises SystemCallError."""
        try:
            with open(self.path(name), encoding="utf-8", errors="surrogateescape") as file:
                return file.read().strip()
        except OSError as error:
            raise self._error(f"Cannot read {name}", name, error) from error

    def get(self, name: str, default: str = "") -> str:
        """Return the content as read() does, or default when the file cannot be read."""
        try:
            return self.read(name)
        except SystemCallError:
            return default

    def find_int(self, name: str) -> Optional[int]:
        """Return the number in a file, or None. A number that starts with ``0x`` is hexadecimal."""
        return _number(self.get(name), 0)

    def get_int(self, name: str, default: int) -> int:
        """Return the number in a file as find_int() does, or default."""
        number = self.find_int(name)
        return default if number is None else number

    def get_hex(self, name: str, default: int) -> int:
        """Return the number in a file that holds hexadecimal digits without ``0x``
        (block_size_bytes), or default.
        """
        number = _number(self.get(name), 16)
        return default if number is None else number

    def list(self, name: str) -> List[str]:
        """Return the names in a directory in natural order (memory9 before memory10), or [] when it
        cannot be read.
        """
        try:
            return sorted(os.listdir(self.path(name)), key=natural_key)
        except OSError:
            return []

    def link(self, name: str) -> str:
        """Return the target of a symbolic link, or the empty string."""
        try:
            return os.readlink(self.path(name))
        except OSError:
            return ""

    def link_name(self, name: str) -> str:
        """Return the last part of a link's target (for a driver link: ``kmem``), or the empty string."""
        return os.path.basename(self.link(name))

    def write(self, name: str, value: str) -> None:
        """Write value with one write(2). Raises SystemCallError with the kernel's errno."""
        try:
            _store(self.path(name), value)
        except OSError as error:
            raise self._error(f"Cannot write {value!r} to {name}", name, error) from error

    def write_until(self, name: str, value: str, seconds: float) -> None:
        """Write value as write() does, and stop the write after ``seconds``.

        Raises SystemCallError with the kernel's errno. The errno is EINTR when the write was
        stopped, as the kernel reports a signal. It is ETIMEDOUT when ``seconds`` is not positive:
        nothing was written.

        While a page cannot be moved, the kernel retries offline_pages() (mm/memory_hotplug.c) until a
        signal arrives. So a child process does the write. The child sets its own alarm, which ends the
        write even if this process dies.
        """
        what = f"Cannot write {value!r} to {name}"
        if seconds <= 0:
            raise SystemCallError(what, errno.ETIMEDOUT, "No time was left for the write. Increase the timeout", path=name)
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
            # This is safe if the child has exited: it is not reaped yet, so no other process has its PID.
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        if not answer:
            todo = f"The write did not finish within {seconds:.1f} s and was stopped. Increase the timeout"
            raise SystemCallError(what, errno.EINTR, todo, path=name)
        number = int(answer)
        if number:
            raise self._error(what, name, OSError(number, os.strerror(number)))

    def _error(self, what: str, name: str, error: OSError) -> SystemCallError:
        number = error.errno or errno.EIO
        return SystemCallError(what, number, _HINTS.get(number, "See dmesg for details"), path=name)


def natural_key(name: str) -> List[Tuple[int, int, str]]:
    """Return a sort key that puts memory9 before memory10."""
    parts: List[Tuple[int, int, str]] = []
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
    """Return the mounts of this process: dicts of ``device`` (major:minor), ``target``, ``type``,
    ``source`` and ``options`` (those of the file system).

    They come from /proc/self/mountinfo; proc_pid_mountinfo(5) describes the fields. That file writes
    space, tab, newline and backslash in names as octal escapes.
    """
    found = []
    for line in sysfs.get("/proc/self/mountinfo").splitlines():
        left, separator, right = line.partition(" - ")
        fields, tail = left.split(" "), right.split(" ")
        if separator and len(fields) >= 6 and len(tail) >= 2:
            found.append({
                "device": fields[2],
                "target": unescape_mount(fields[4]),
                "type": tail[0],
                "source": unescape_mount(tail[1]),
                "options": tail[2] if len(tail) > 2 else "",
            })  # fmt: skip
    return found


def is_below(path: str, directory: str) -> bool:
    """True when ``path`` is ``directory`` or is below it."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def mount_of(path: str, mounts: Sequence[Dict[str, str]]) -> Dict[str, str]:
    """The mount that holds ``path``, out of those that mounted() returned.

    It is empty when no mount holds the path. Of several mounts on the same directory it is the last
    one, which covers the others.
    """
    found: Dict[str, str] = {}
    for mount in mounts:
        if is_below(path, mount["target"]) and len(mount["target"]) >= len(found.get("target", "")):
            found = mount
    return found


def unescape_mount(text: str) -> str:
    """Return a name from /proc/mounts or mountinfo without the octal escapes of proc_pid_mountinfo(5)."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


def boot_id(sysfs: Sysfs) -> str:
    """Return the random ID of this boot (/proc/sys/kernel/random/boot_id), or the empty string."""
    return sysfs.get("/proc/sys/kernel/random/boot_id")


def require_root(what: str) -> None:
    """Raise HotpmemError unless this process runs as root.

    Without root, sysfs allows only some of the reads.
    """
    if os.geteuid() != 0:
        raise HotpmemError(what, "this operation needs root privileges", "Run as root (become: true)")


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
    """Write in the child of write_until(), send the errno (0 for success) through the pipe, and exit."""
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
