# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put hotpmem-node in its place on a host: the packed sources, and beside each what this host's Python compiles it to.

Usage: precompile.py PACKED OUT [--check|--act]. Prints "built" (with --check: it would be) or "unchanged". Standard library alone.
What Python imports from a zip it compiles anew at every start, unless a compiled file stands beside the source. One that another Python
compiled is passed over for the source: after an upgrade the agent still runs, only slower, until this runs again.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import marshal
import os
import sys
import zipfile

# PEP 552: found by hash, which is not looked at. Source and compiled file come and go in one file.
UNCHECKED = (1).to_bytes(4, "little")
MODE = 0o755


def compiled(source: bytes, path: str) -> bytes:
    """The content of a .pyc."""
    code = compile(source, path, "exec", dont_inherit=True)
    return importlib.util.MAGIC_NUMBER + UNCHECKED + importlib.util.source_hash(source) + marshal.dumps(code)


def extend(packed: bytes, out: str) -> bytes:
    """The archive with its first line, its sources, and their compiled files."""
    target = io.BytesIO()
    target.write(packed[: packed.index(b"\n") + 1])
    with zipfile.ZipFile(io.BytesIO(packed)) as sources, zipfile.ZipFile(target, "a", zipfile.ZIP_STORED) as archive:
        for entry in sources.infolist():
            source = sources.read(entry)
            archive.writestr(zipfile.ZipInfo(entry.filename, entry.date_time), source)
            archive.writestr(zipfile.ZipInfo(entry.filename + "c", entry.date_time), compiled(source, f"{out}/{entry.filename}"))
    return target.getvalue()


def label(packed: bytes, built: bytes) -> str:
    """What was built from what, by which kind of Python. Compiling twice need not give the same bytes, so they can't be compared."""
    return " ".join([hashlib.sha256(packed).hexdigest(), importlib.util.MAGIC_NUMBER.hex(), hashlib.sha256(built).hexdigest()])


def is_current(packed: bytes, out: str, note: str) -> bool:
    """Whether OUT is what was built from PACKED, and nobody has changed it."""
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
