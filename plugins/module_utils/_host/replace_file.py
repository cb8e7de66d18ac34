# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replaces a file as a whole, so that a reader sees the old content or the new, also after a kill or a power cut.

Modules that write files of others use write_file() of _module.py, because Ansible keeps owner, mode and SELinux context.
"""

from __future__ import annotations

import contextlib
import os


def replace_file(path: str, text: str, mode: int = 0o600, *, sync: bool = False, shared: bool = False) -> None:
    """Replace a file, or create it. Raises OSError, and then leaves the old file.

    sync: return only when the file is on the disk. shared: another user may write to the directory. Then the new file gets a name that
    nobody can foresee, so that no symbolic link there is followed. Otherwise it is PATH.new, and what a kill has left is replaced by the
    next write.
    """
    new, flags = f"{path}.new", os.O_TRUNC
    if shared:
        new, flags = os.path.join(os.path.dirname(path), f".hotpmem-{os.urandom(8).hex()}.new"), os.O_EXCL
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | flags, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise
    if sync:
        sync_directory(path)


def sync_directory(path: str) -> None:
    """Flush the directory entry of path to the disk: fsync(2) of the directory."""
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
