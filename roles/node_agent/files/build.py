# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pack hotpmem-node into one file that Python runs: the files of the engine and the package hotpmem_node.

Usage: build.py MODULE_UTILS OUT [INTERPRETER]. Prints "built" or "unchanged". It needs only Python's standard library.
The same files give the same bytes: the names are sorted, all entries have the same date and mode, and the archive is not compressed,
because the output of zlib depends on its version.
"""

from __future__ import annotations

import io
import os
import posixpath
import sys
import zipfile
from typing import Dict

HERE = os.path.dirname(os.path.abspath(__file__))
ENGINE = "ansible_collections/hotpmem/fleet/plugins/module_utils"
# The only file of the engine that imports Ansible.
LEFT_OUT = ("_module.py",)
DATE = (2020, 1, 1, 0, 0, 0)
MAIN = "import sys\n\nfrom hotpmem_node.cli import main\n\nsys.exit(main())\n"


def gather(module_utils: str) -> Dict[str, bytes]:
    """Maps each name in the archive to its content."""
    found: Dict[str, bytes] = {"__main__.py": MAIN.encode()}
    for source, target in ((module_utils, ENGINE), (os.path.join(HERE, "hotpmem_node"), "hotpmem_node")):
        for folder, _folders, names in os.walk(source):
            package = posixpath.normpath(posixpath.join(target, os.path.relpath(folder, source)))
            for name in names:
                if name.endswith(".py") and name not in LEFT_OUT:
                    with open(os.path.join(folder, name), "rb") as file:
                        found[f"{package}/{name}"] = file.read()
    # zipimport treats a folder as a package only if it contains an __init__.py.
    for name in list(found):
        package = posixpath.dirname(name)
        while package:
            found.setdefault(f"{package}/__init__.py", b"")
            package = posixpath.dirname(package)
    return found


def pack(files: Dict[str, bytes], interpreter: str) -> bytes:
    """The archive with a first line that runs it. -I keeps the environment and the working directory out of sys.path."""
    target = io.BytesIO()
    target.write(f"#!{interpreter} -I\n".encode())
    with zipfile.ZipFile(target, "a", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, DATE)
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, files[name])
    return target.getvalue()


def main() -> int:
    """Entry point."""
    module_utils, out = sys.argv[1:3]
    interpreter = sys.argv[3] if len(sys.argv) > 3 else "/usr/bin/python3"
    data = pack(gather(module_utils), interpreter)
    try:
        with open(out, "rb") as file:
            if file.read() == data:
                print("unchanged")
                return 0
    except FileNotFoundError:
        pass
    os.makedirs(os.path.dirname(os.path.abspath(out)), exist_ok=True)
    with open(out + ".new", "wb") as file:
        file.write(data)
    os.chmod(out + ".new", 0o755)  # noqa: S103
    os.replace(out + ".new", out)
    print("built")
    return 0


if __name__ == "__main__":
    sys.exit(main())
