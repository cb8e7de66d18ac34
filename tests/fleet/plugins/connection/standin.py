# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection to hosts that do not exist. It answers what a host's modules and its agent would answer, and runs nothing.

A host is a file of JSON in a directory. It is changed by renaming a new file into its place, so a controller may be killed at any moment.
A handoff goes on by the clock, whether or not anybody waits for it, as on a real host.
"""

from __future__ import annotations

DOCUMENTATION = """
name: standin
short_description: Hosts that do not exist
description: Answers what a host would answer.
author: The hotpmem.fleet authors
extends_documentation_fragment:
  - connection_pipelining
options:
  fleet:
    description: The directory of the hosts.
    type: path
    vars:
      - name: standin_fleet
"""

import sys
from pathlib import Path

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.connection import ConnectionBase

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from standin_host import Host, NoAnswer


class Connection(ConnectionBase):
    """The connection."""

    transport = "standin"
    has_pipelining = True

    def _connect(self) -> Connection:
        self._connected = True
        return self

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        host = Host(Path(self.get_option("fleet")), str(self._play_context.remote_addr))
        try:
            code, stdout, stderr = host.module(in_data) if in_data else host.command(cmd)
        except NoAnswer as error:
            raise AnsibleConnectionFailure(str(error)) from error
        return code, stdout.encode(), stderr.encode()

    def put_file(self, in_path: str, out_path: str) -> None:
        raise AnsibleError(f"the stand-in takes no file: {out_path}")

    def fetch_file(self, in_path: str, out_path: str) -> None:
        raise AnsibleError(f"the stand-in has no file: {in_path}")

    def reset(self) -> None:
        self.close()

    def close(self) -> None:
        self._connected = False
