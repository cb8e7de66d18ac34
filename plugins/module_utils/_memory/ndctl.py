# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the ndctl commands that change a namespace, and parses their JSON.

The engine reads the present state from sysfs.

Facts from ndctl 76 to 85:
- ``list`` prints nothing for an empty list, and otherwise an object or an array.
- Exit codes are ``errno & 0xff`` of a negative errno: 234 is EINVAL.
- ``create-namespace`` may exit with 0 and print ``"state":"disabled"``.
- The default of ``--map`` is ``dev``.
- ``create-namespace -e`` writes labels to a DIMM that can have labels but has none, unless ``--no-autolabel`` is given.
"""

from __future__ import annotations

import errno
import json
from typing import Any, Dict, List, Optional

from .._host.errors import HotpmemError, describe_errno
from .._host.programs import Completed, Runner


def parse_json(text: str) -> List[Any]:
    """Return the output of ndctl or daxctl as a list.

    The text may be empty, an object or an array. Raises ValueError.
    """
    text = text.strip()
    if not text:
        return []
    value = json.loads(text)
    return value if isinstance(value, list) else [value]


def explain(done: Completed) -> str:
    """Return the message of ndctl on one line, with the errno that its exit code stands for."""
    number = 256 - done.rc if 128 < done.rc < 256 else 0
    text = " ".join(line.strip() for line in done.stderr.splitlines() if line.strip())
    if number in errno.errorcode:
        return f"{text or done.words} ({describe_errno(number)})"
    return f"{text} (exit code {done.rc})" if text else done.words


def create_argv(
    mode: str, namespace: str = "", region: str = "", mapping: str = "", align: int = 0, *, size: int = 0, label: str = ""
) -> List[str]:
    """Return the command that converts a namespace, or creates one in a region (ndctl-create-namespace(1)).

    align, size: bytes; 0 leaves the choice to ndctl. size, label: size and name of a new namespace.
    """
    argv = ["ndctl", "create-namespace", "--mode", mode, "--no-autolabel"]
    if mode in ("devdax", "fsdax"):
        # Always give --map: ndctl's default is dev, which overwrites 16 MiB per GiB with page structures.
        argv += ["--map", mapping or "mem"]
        if align:
            argv += ["--align", str(align)]
    if namespace:
        # With --reconfig, ndctl keeps the name on the label.
        return argv + ["--reconfig", namespace, "--force"]
    return argv + ["--region", region] + (["--size", str(size)] if size else []) + (["--name", label] if label else [])


class Ndctl:
    """Runs ndctl. timeout: seconds that one command may take."""

    def __init__(self, runner: Runner, timeout: float = 120.0) -> None:
        self.runner = runner
        self.timeout = timeout

    def create(self, what: str, argv: List[str]) -> Optional[str]:
        """Run the command of create_argv(), and return the name of the namespace, or None when
        ndctl printed no name.

        Raises HotpmemError when ndctl fails, and when it reports success for a namespace that is disabled.
        """
        done = self.runner.run(argv, timeout=self.timeout)
        details = {"argv": argv, "rc": done.rc, "stdout": done.stdout, "stderr": done.stderr}
        if done.rc != 0:
            todo = "See dmesg for details. The module pmem_info shows the present state of the namespace"
            raise HotpmemError(what, explain(done), todo, **details)
        try:
            made: Dict[str, Any] = next(iter(parse_json(done.stdout)), {})
        except ValueError as error:
            said = f"the output of ndctl is not valid JSON ({error})"
            raise HotpmemError(what, said, "Report this with the versions of ndctl and of the kernel", **details) from error
        if made.get("state") == "disabled":
            raise HotpmemError(
                what,
                f"ndctl reported success, but {made.get('dev', 'the namespace')} is disabled: no driver is bound to it",
                "See dmesg for the reason. If memory leaked because kmem was unbound while a block was online, reboot the host",
                **details,
            )
        return made.get("dev")

    def enable(self, what: str, namespace: str) -> None:
        """Enable a namespace that has no driver. Raises HotpmemError when ndctl fails."""
        argv = ["ndctl", "enable-namespace", namespace]
        done = self.runner.run(argv, timeout=self.timeout)
        if done.rc != 0:
            raise HotpmemError(what, explain(done), "See dmesg for the reason why the driver rejects the namespace", argv=argv, rc=done.rc)
