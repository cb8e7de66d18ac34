# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU's machine protocol, as far as the lab needs it: one command at a time over a unix socket (docs/interop/qmp-spec)."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from .errors import LabError


class Qmp:
    """A connection to the socket `path`; connect() before use, or use it in a `with` block."""

    def __init__(self, path: Path, deadline: float = 30.0) -> None:
        self._path = path
        self._deadline = deadline
        self._stream: Any = None

    def __enter__(self) -> Qmp:
        # A unix socket's name may hold 107 bytes; a deep cache folder is longer, the path through /proc/self/fd is not.
        folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(self._deadline)
        try:
            connection.connect(f"/proc/self/fd/{folder}/{self._path.name}")
        except OSError as error:
            connection.close()
            raise LabError(f"Cannot reach QEMU at {self._path}", str(error), "Is the machine running (lab.py status)?") from error
        finally:
            os.close(folder)
        self._stream = connection.makefile("rw", encoding="utf-8")
        connection.close()
        self._stream.readline()
        self.execute("qmp_capabilities")
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._stream.close()

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run one command and return its `return` value; events that arrive meanwhile are dropped."""
        self._stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._stream.flush()
        for line in self._stream:
            answer = json.loads(line)
            if "error" in answer:
                raise LabError(f"QEMU refused {command}", answer["error"]["desc"])
            if "return" in answer:
                return answer["return"]
        raise LabError(f"QEMU closed its socket during {command}", "", "The machine's qemu.log says why.")

    def wait_migration(self, deadline: float) -> None:
        """Wait until the migration under way is complete; LabError when it failed or `deadline` seconds passed."""
        end = time.monotonic() + deadline
        state: dict[str, Any] = {}
        while time.monotonic() < end:
            state = self.execute("query-migrate")
            if state.get("status") == "completed":
                return
            if state.get("status") in ("failed", "cancelled"):
                break
            time.sleep(0.02)
        raise LabError("Saving or restoring the machine's state did not complete", json.dumps(state))
