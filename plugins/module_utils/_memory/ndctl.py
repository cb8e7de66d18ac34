# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ndctl commands that change something, and the JSON it prints. What is there now is read from sysfs instead.

Facts from ndctl 76 to 85: ``list`` prints nothing for an empty list, an object or an array for others; exit codes are
errno & 0xff; ``create-namespace`` may end with 0 and ``"state":"disabled"``; map defaults to ``dev``; with -e it labels an
unlabelled label-capable DIMM unless told not to.
"""

from __future__ import annotations

import errno
import json
from typing import Any, List, Optional

from .._host.errors import HotpmemError, describe_errno
from .._host.programs import Completed, Runner


def parse_json(text: str) -> List[Any]:
    """ndctl's or daxctl's output as a list, whatever shape it took. Raises ValueError."""
    text = text.strip()
    if not text:
        return []
    value = json.loads(text)
    return value if isinstance(value, list) else [value]


def explain(done: Completed) -> str:
    """What ndctl said, with the errno that hides in its exit code."""
    number = 256 - done.rc if 128 < done.rc < 256 else 0
    text = " ".join(line.strip() for line in done.stderr.splitlines() if line.strip()) or done.words
    return f"{text} ({describe_errno(number)})" if number in errno.errorcode else f"{text} (exit code {done.rc})"


def create_argv(
    mode: str, namespace: str = "", region: str = "", mapping: str = "", align: int = 0, *, size: int = 0, label: str = ""
) -> List[str]:
    """The command that converts namespace, or creates one in region: of size, named label. Bytes; 0 for ndctl's default."""
    argv = ["ndctl", "create-namespace", "--mode", mode, "--no-autolabel"]
    if mode in ("devdax", "fsdax"):
        # Always said: ndctl's default is dev, which writes 16 MiB of page structures per GiB over the content.
        argv += ["--map", mapping or "mem"]
        if align:
            argv += ["--align", str(align)]
    if namespace:
        # It keeps the name on its label without being told.
        return argv + ["--reconfig", namespace, "--force"]
    return argv + ["--region", region] + (["--size", str(size)] if size else []) + (["--name", label] if label else [])


class Ndctl:
    """Runs ndctl."""

    def __init__(self, runner: Runner, timeout: float = 120.0) -> None:
        self.runner = runner
        self.timeout = timeout

    def create(self, what: str, argv: List[str]) -> Optional[str]:
        """Run create_argv's command. Returns the namespace's name after it. Raises HotpmemError, also when ndctl lies about success."""
        done = self.runner.run(argv, timeout=self.timeout)
        details = {"argv": argv, "rc": done.rc, "stdout": done.stdout, "stderr": done.stderr}
        if done.rc != 0:
            raise HotpmemError(what, explain(done), "dmesg may say more; pmem_info shows what is there now", **details)
        try:
            made = next(iter(parse_json(done.stdout)), {})
        except ValueError as error:
            raise HotpmemError(
                what, f"ndctl's answer is not JSON ({error})", "Report the versions of ndctl and of the kernel", **details
            ) from error
        if made.get("state") == "disabled":
            raise HotpmemError(
                what,
                f"ndctl answered success, but {made.get('dev', 'the namespace')} is disabled: no driver took it",
                "dmesg says why; after memory was lost by unbinding kmem while a block was online, only a reboot helps",
                **details,
            )
        return made.get("dev")

    def enable(self, what: str, namespace: str) -> None:
        """Bind the driver of a namespace that lost it."""
        argv = ["ndctl", "enable-namespace", namespace]
        done = self.runner.run(argv, timeout=self.timeout)
        if done.rc != 0:
            raise HotpmemError(what, explain(done), "dmesg says why the driver refuses it", argv=argv, rc=done.rc)
