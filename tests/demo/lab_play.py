# SPDX-License-Identifier: GPL-3.0-or-later
"""The command of a play on the machines of a lab, for the demo, the benchmarks and the tools that kill plays."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
VARIABLES = CHECKOUT / "tests/demo/vars.yml"


def command(inventory: Path, playbook: str | Path, *words: str, **variables: object) -> list[str]:
    """The words. The machines have the variables of the demo, and then these."""
    given = ["--extra-vars", f"@{VARIABLES}", "--extra-vars", json.dumps(variables)]
    return [sys.executable, "-m", "ansible", "playbook", "--inventory", str(inventory), str(playbook), *given, *words]


def environment(**more: str) -> dict[str, str]:
    """The environment: the configuration and the collections of this checkout, whatever the caller has set."""
    own = {"ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".venv/collections")}
    return {**os.environ, **own, "ANSIBLE_NOCOLOR": "1", **more}
