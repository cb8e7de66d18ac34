# SPDX-License-Identifier: GPL-3.0-or-later
"""What the checks of all applications read: what the scenario asked for and noted, and what the machine recorded."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

NOTES = Path(os.environ["HOTPMEM_CHECKOUT"]) / "build/molecule" / os.environ["HOTPMEM_LAB"]


@pytest.fixture(scope="module")
def digests() -> dict[str, Any]:
    """What the scenario read before the first cycle."""
    return json.loads((NOTES / "applications.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def asked() -> dict[str, Any]:
    """unit: what the inventory named for PostgreSQL in the cycle before these checks. agent: whether the agent did the work."""
    return json.loads((NOTES / "asked.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def boots(host: Any) -> list[str]:
    """The ids of the boot before and of this one."""
    return [host.file(name).content_string.strip() for name in ("/root/boot_id_before", "/proc/sys/kernel/random/boot_id")]


class BootBefore:
    """The journal of the boot before, from the beginning of the handoff. Times are in microseconds of CLOCK_MONOTONIC."""

    def __init__(self, host: Any) -> None:
        said = host.check_output("journalctl --boot=-1 --unit=hotpmem-handoff --output=json --output-fields=MESSAGE").splitlines()
        self.handoff = [(int(one["__MONOTONIC_TIMESTAMP"]), str(one["MESSAGE"])) for one in map(json.loads, said)]
        (self.stop,) = [at for at, message in self.handoff if message.endswith("stop")][-1:]
        (self.save,) = [at for at, message in self.handoff if message.endswith("save")][-1:]
        told = host.check_output("journalctl --boot=-1 _PID=1 --output=json --output-fields=MESSAGE,UNIT").splitlines()
        self.systemd = [(int(one["__MONOTONIC_TIMESTAMP"]), str(one.get("UNIT")), str(one["MESSAGE"])) for one in map(json.loads, told)]

    def of(self, unit: str, words: tuple[str, ...]) -> list[int]:
        """When systemd said a message about the unit that begins with one of these words."""
        return [at for at, name, message in self.systemd if name == unit and message.startswith(words)]


@pytest.fixture(scope="module")
def before(host: Any) -> BootBefore:
    return BootBefore(host)
