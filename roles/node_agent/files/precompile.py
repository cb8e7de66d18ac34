# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install hotpmem-node on a host: the packed sources, and next to each source its bytecode, compiled by the host's Python.

Usage: precompile.py PACKED OUT [--check|--act]. Prints "unchanged", or "built" (with --check: it would build). It needs only Python's
standard library. Python compiles sources in a zip file at every start, unless the zip file also contains the bytecode. Python ignores
bytecode of another version. After an upgrade of Python the agent still runs, but starts more slowly until this script runs again.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import marshal
import os
import sys
import zipfile

# PEP 552: an unchecked hash. The source and the bytecode are always replaced together.
UNCHECKED = (1).to_bytes(4, "little")
MODE = 0o755


def compiled(source: bytes, path: str) -> bytes:
    """The content of a .pyc."""
    code = compile(source, path, "exec", dont_inherit=True)
    return importlib.util.MAGIC_NUMBER + UNCHECKED + importlib.util.source_hash(source) + marshal.dumps(code)


def extend(packed: bytes, out: str) -> bytes:
    """The archive with its first line, its sources and their bytecode."""
    target = io.BytesIO()
    target.write(packed[: packed.index(b"\n") + 1])
    with zipfile.ZipFile(io.BytesIO(packed)) as sources, zipfile.ZipFile(target, "a", zipfile.ZIP_STORED) as archive:
        for entry in sources.infolist():
            source = sources.read(entry)
            archive.writestr(zipfile.ZipInfo(entry.filename, entry.date_time), source)
            archive.writestr(zipfile.ZipInfo(entry.filename + "c", entry.date_time), compiled(source, f"{out}/{entry.filename}"))
    return target.getvalue()


def label(packed: bytes, built: bytes) -> str:
    """Identifies the sources, the Python and the result. Two compilations may differ in bytes, so comparing them would not work."""
    return " ".join([hashlib.sha256(packed).hexdigest(), importlib.util.MAGIC_NUMBER.hex(), hashlib.sha256(built).hexdigest()])


def is_current(packed: bytes, out: str, note: str) -> bool:
    """Whether OUT was built from PACKED and nobody has changed it since."""
    try:
        with open(out, "rb") as file, open(note, encoding="ascii") as written:
            found = os.fstat(file.fileno())
            same = label(packed, file.read()) == written.read()
    except (OSError, ValueError):
        return False
    return same and (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (os.geteuid(), os.getegid(), MODE)


def main() -> int:
    """Entry point."""
    source, out = sys.argv[1:3]
    note = source + ".built"
    with open(source, "rb") as file:
        packed = file.read()
    if is_current(packed, out, note):
        print("unchanged")
        return 0
    if sys.argv[3:] != ["--check"]:
        built = extend(packed, out)
        with open(out + ".new", "wb") as file:
            file.write(built)
        os.chown(out + ".new", os.geteuid(), os.getegid())
        os.chmod(out + ".new", MODE)
        os.replace(out + ".new", out)
        with open(note, "w", encoding="ascii") as written:
            written.write(label(packed, built))
    print("built")
    return 0


if __name__ == "__main__":
    sys.exit(main())
