# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of rolling_reboot share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fleet import Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Callable[..., Fleet]:
    """A fleet of some hosts; keywords are their scripts."""

    def make(count: int, **script: Any) -> Fleet:
        return Fleet(tmp_path / "fleet", [f"node{number}" for number in range(1, count + 1)], **script)

    return make
