# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which small files of root a host lacks, and which it has too many of. Reads only; the module host_files writes."""

from __future__ import annotations

import glob
import os
import stat
from typing import Any, Dict, List, Mapping, Sequence

from .errors import HotpmemError, from_os_error

LIMIT = 1 << 20  # bytes; these are settings, scripts and units


def read(path: str) -> str:
    """The text of a file; of a symbolic link, where it leads; empty when there is neither. Raises HotpmemError."""
    what, todo = f"Cannot compare {path}", f"Remove or rename {path}, then run this play again. Nothing was changed"
    try:
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode):
            return f"(a symbolic link to {os.readlink(path)})\n"
        if not stat.S_ISREG(found.st_mode):
            raise HotpmemError(what, "it is not a file", todo)
        if found.st_size > LIMIT:
            raise HotpmemError(what, f"it has {found.st_size} bytes", todo)
        with open(path, "rb") as file:
            return file.read().decode(errors="backslashreplace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise from_os_error(what, error) from error


def missing(path: str) -> bool:
    """Whether nothing has this name."""
    return not os.path.lexists(path)


def compare(files: Sequence[Mapping[str, Any]]) -> List[Dict[str, Any]]:
    """The files whose content differs: ``path``, ``before`` and ``after`` (texts). Raises HotpmemError."""
    wanted = [{"path": file["path"], "before": read(file["path"]), "after": file["content"]} for file in files]
    return [file for file in wanted if file["before"] != file["after"] or missing(file["path"])]


def surplus(patterns: Sequence[str], files: Sequence[Mapping[str, Any]]) -> List[str]:
    """The paths that match one of the patterns (glob(7)) and are not among the files. Raises HotpmemError for a directory."""
    kept = {file["path"] for file in files}
    found = sorted({path for pattern in patterns for path in glob.glob(pattern)} - kept)
    for path in found:
        if os.path.isdir(path) and not os.path.islink(path):
            raise HotpmemError(f"Cannot remove {path}", "it is a directory", "Remove it by hand, then try again. Nothing was changed")
    return found
