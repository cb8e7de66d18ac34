# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine under test, over boots that nobody announces."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(os.environ["HOTPMEM_CHECKOUT"]) / "extensions/molecule/shared"))
from node import Node


@pytest.fixture(scope="session")
def node() -> Node:
    return Node()
