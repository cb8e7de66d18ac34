# SPDX-License-Identifier: GPL-3.0-or-later
"""ssh to lab machines: options that ignore the user's own configuration and check the host's key."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path


def options(keys: Path, known_hosts: Path) -> dict[str, str]:
    """OpenSSH options for every machine of a lab."""
    return {
        "User": "root",
        "IdentityFile": str(keys / "id"),
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": str(known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "HostKeyAlgorithms": "ssh-ed25519",
        "BatchMode": "yes",
        "ConnectTimeout": "20",
        # Without it a machine that was reset leaves its ssh waiting for ever.
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "8",
        "LogLevel": "ERROR",
    }


def command(keys: Path, known_hosts: Path, port: int) -> list[str]:
    """argv of an ssh to the machine behind `port`; add the command to run."""
    pairs = [f"-o{name}={value}" for name, value in options(keys, known_hosts).items()]
    return ["ssh", "-F", "/dev/null", *pairs, "-p", str(port), "127.0.0.1"]


def known_hosts_line(keys: Path, port: int) -> str:
    """The known_hosts line of the machine behind `port` (all machines of a cache share one host key)."""
    kind, key = (keys / "host.pub").read_text().split()[:2]
    return f"[127.0.0.1]:{port} {kind} {key}\n"


def banner(port: int, timeout: float) -> bool:
    """Whether an sshd says its name. QEMU accepts connections before the guest can, so accepting alone says nothing."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
            connection.settimeout(timeout)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def run(connection: Sequence[str], script: str, timeout: float, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a shell script on the machine; status 255 when the connection fails or the time is up."""
    argv = [*connection, script]
    try:
        return subprocess.run(argv, input=stdin or b"", capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as expired:
        return subprocess.CompletedProcess(argv, 255, expired.stdout or b"", (expired.stderr or b"") + b"\ntimed out")
