# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the software bill of materials of a build of pmem-state: CycloneDX 1.6, JSON.

It names what went into the binary: each source with its SHA-256, the compiler, and the C library that is linked in. It has no time and no
random number, so that the same build has the same bill. docs/security.md says how to use it.

Usage: sbom.py SOURCE_DIR BINARY ARCH COMPILER_COMMAND COMPILER_VERSION > pmem-state.cdx.json
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import uuid
from importlib import metadata, util
from typing import Any, Dict, List

LICENCE = [{"license": {"id": "GPL-3.0-or-later"}}]


def digest(path: str) -> List[Dict[str, str]]:
    """The SHA-256 of a file, as CycloneDX has it."""
    with open(path, "rb") as file:
        return [{"alg": "SHA-256", "content": hashlib.sha256(file.read()).hexdigest()}]


def sources(folder: str) -> List[Dict[str, Any]]:
    """The files that build.sh takes the digest of: sources and the Makefile."""
    names = sorted(
        os.path.relpath(os.path.join(where, name), folder)
        for where, _folders, files in os.walk(folder)
        for name in files
        if name.endswith((".c", ".h")) or name == "Makefile"
    )
    return [{"type": "file", "bom-ref": name, "name": name, "hashes": digest(os.path.join(folder, name))} for name in names]


def program_version(folder: str) -> str:
    """The version in the sources."""
    with open(os.path.join(folder, "base/status.h"), encoding="utf-8") as file:
        found = re.search(r'#define PMEM_STATE_VERSION "([^"]+)"', file.read())
    return found[1] if found else "unknown"


def musl_of_zig() -> Dict[str, Any]:
    """The C library that the package ziglang holds as source, and links in."""
    found = util.find_spec("ziglang")
    folder = os.path.dirname(found.origin) if found and found.origin else ""
    with open(os.path.join(folder, "lib/libc/musl/src/internal/version.h"), encoding="utf-8") as file:
        match = re.search(r'"([^"]+)"', file.read())
    version = match[1] if match else "unknown"
    return {
        "type": "library",
        "bom-ref": "musl",
        "name": "musl",
        "version": version,
        "purl": f"pkg:generic/musl@{version}",
        "licenses": [{"license": {"id": "MIT"}}],
    }


def bill(folder: str, binary: str, arch: str, command: str, said: str) -> Dict[str, Any]:
    """The whole document."""
    version = program_version(folder)
    compiler: Dict[str, Any] = {"type": "application", "bom-ref": "compiler", "name": "cc", "version": said, "description": command}
    if "ziglang" in command:
        number = metadata.version("ziglang")
        compiler.update(name="ziglang", version=number, purl=f"pkg:pypi/ziglang@{number}", description=said)
        library = musl_of_zig()
    else:
        library = {"type": "library", "bom-ref": "libc", "name": "the C library of the compiler", "description": command}
    parts = sources(folder)
    program = {
        "type": "application",
        "bom-ref": "pmem-state",
        "name": "pmem-state",
        "version": version,
        "purl": f"pkg:generic/hotpmem-pmem-state@{version}?arch={arch}",
        "hashes": digest(binary),
        "licenses": LICENCE,
        "properties": [{"name": "hotpmem:arch", "value": arch}],
    }
    document: Dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": program, "tools": {"components": [compiler]}},
        "components": [library, *parts],
        "dependencies": [{"ref": "pmem-state", "dependsOn": [library["bom-ref"], *(part["bom-ref"] for part in parts)]}],
    }
    name = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, name)}"
    return document


if __name__ == "__main__":
    json.dump(bill(*sys.argv[1:6]), sys.stdout, indent=1, sort_keys=True)
    print()
