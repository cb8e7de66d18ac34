# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory that stands in for a machine, for the tests of the scripts of the role node_agent."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time

from test_node_units import ITEMS, ROLE, rendered

HELPER = """#!/bin/sh
[ ! -e {root}/late ] || trap 'cat {root}/answer; exit $(cat {root}/code)' TERM
echo "$@" >>{root}/calls
[ ! -e {root}/slow ] || sleep 30
while [ -e {root}/late ]; do sleep 0.05; done
cat {root}/answer
exit $(cat {root}/code)
"""


def holding(path):
    """A process that holds a lock."""
    child = subprocess.Popen(["flock", "--no-fork", str(path), "sleep", "60"], start_new_session=True)
    deadline = time.monotonic() + 30
    while subprocess.run(["flock", "--nonblock", str(path), "true"], check=False).returncode == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return child


class Host:
    """A directory that stands in for a machine, with a raw namespace and a helper that answers what the test says."""

    def __init__(self, root):
        self.root = root
        for name in ("etc/hotpmem", "var/lib/hotpmem", "dev", "run"):
            (root / name).mkdir(parents=True)
        (root / "etc/hotpmem/items.conf").write_text("# items\n" + "".join(f"{one['name']}={one['path']}\n" for one in ITEMS[:2]))
        (root / "etc/hotpmem/hold.conf").write_text(rendered("hold.conf"))
        (root / "etc/hotpmem/units.conf").write_text(rendered("units.conf"))
        self.namespace("namespace0.0", "0x3fe00000", "pmem0")
        (root / "helper").write_text(HELPER.format(root=root))
        (root / "helper").chmod(0o755)
        self.answer(0, cache="restored", must="restored")
        (root / "var/lib/hotpmem/pending").touch()

    def namespace(self, name, start, block="", holder=""):
        base = self.root / "sys/bus/nd/devices" / name
        base.mkdir(parents=True, exist_ok=True)
        for attribute, value in (("size", "538968064"), ("resource", start), ("holder", holder)):
            (base / attribute).write_text(value + "\n")
        if block:
            (base / "block" / block).mkdir(parents=True)
            (self.root / "dev" / block).touch()

    def answer(self, code, **items):
        entries = [{"name": name, "path": '/srv/a "name": "x"', "status": status, "error": None} for name, status in items.items()]
        (self.root / "answer").write_text(
            json.dumps({"event": "result", "exit": code, "image": {"state": "valid"}, "items": entries}) + "\n"
        )
        (self.root / "code").write_text(str(code))

    def enabled(self):
        wants = self.root / "etc/systemd/system/multi-user.target.wants"
        wants.mkdir(parents=True)
        (wants / "hotpmem-restore.service").symlink_to("/etc/systemd/system/hotpmem-restore.service")

    def start(self, how):
        """The script as /init or systemd starts it, in a new process group."""
        return subprocess.Popen(
            ["sh", str(ROLE / "files/restore.sh"), how, str(self.root / "helper")],
            env={**os.environ, "HOTPMEM_ROOT": str(self.root)}, start_new_session=True,
        )  # fmt: skip

    def run(self, wait=0):
        return subprocess.run(
            ["sh", str(ROLE / "files/restore.sh"), str(wait), str(self.root / "helper")],
            env={**os.environ, "HOTPMEM_ROOT": str(self.root), "SERVICE_RESULT": "exit-code"}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def names(self, where):
        directory = self.root / where
        return sorted(os.listdir(directory)) if directory.exists() else []

    @property
    def result(self):
        return json.loads((self.root / "run/hotpmem/restore.json").read_text())

    @property
    def calls(self):
        path = self.root / "calls"
        return path.read_text().splitlines() if path.exists() else []


def pending(host):
    (host.root / "var/lib/hotpmem/pending").touch()


def on_dax(host, driver="device_dax", node=True):
    """The namespace as the dax road leaves it for the next boot."""
    shutil.rmtree(host.root / "sys/bus/nd/devices/namespace0.0/block")
    host.namespace("namespace0.0", "0x3fe00000", holder="dax1.0")
    (host.root / "sys/bus/nd/devices/dax1.0/driver").mkdir(parents=True)
    (host.root / "sys/bus/nd/devices/dax1.0/dax0.0").mkdir()
    (host.root / "sys/bus/dax/drivers" / driver / "dax0.0").mkdir(parents=True)
    if node:
        (host.root / "dev/dax0.0").touch()
    (host.root / "var/lib/hotpmem/place").write_text("0x3fe00000 dax\n")
