# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role state_tmpfs in check mode. tests/unit/plugins/module_utils/test_tmpfs_mount.py makes real mounts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from playing import play, read

PLAY = {"roles": ["hotpmem.fleet.state_tmpfs"]}
ROOT = Path(__file__).resolve().parents[3]


def checked(where: Path, mounts: object):
    return play(where, PLAY, "--check", "--diff", "--extra-vars", json.dumps({"hotpmem_tmpfs": mounts}))


def test_without_mounts_it_does_nothing(tmp_path):
    done = checked(tmp_path, [])
    assert done.returncode == 0 and "changed=0" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="the module wants root")
def test_check_mode_foretells_the_unit(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    systemctl = tmp_path / "bin/systemctl"
    systemctl.write_text("#!/bin/sh\n[ $1 = show ] || exit 1\necho NeedDaemonReload=no\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    done = checked(tmp_path, [{"path": f"{tmp_path}/state", "size": "2G"}])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed=1" in done.stdout and not (tmp_path / "state").exists()
    # Large files get huge pages, and only root gets in.
    assert "Options=size=2147483648,huge=within_size,mode=0700,uid=0,gid=0,nosuid,nodev" in done.stdout


@pytest.mark.parametrize(
    "mount, said",
    [
        ({"path": "/srv/state"}, "missing required arguments: size"),
        ({"path": "/srv/state", "size": "2G", "huge": "yes"}, "value of huge must be one of"),
        ({"path": "/srv/state", "size": "2G", "noexec": True}, "noexec"),
        ({"path": "/srv/state", "size": "50%"}, "'50%' is not a size"),
        ({"path": "/srv/state", "size": "2G", "mode": "u=rwx"}, "is not octal text"),
        ({"path": "/srv/state", "size": "2G", "owner": "nobody-has-this-name"}, "Cannot find the user nobody-has-this-name"),
    ],
)
def test_what_is_refused(tmp_path, mount, said):
    done = checked(tmp_path, [mount])
    assert done.returncode == 2 and said in done.stdout


def test_provision_mounts_before_the_agent_looks_at_the_mounts():
    names = [task["ansible.builtin.include_role"]["name"] for task in read(ROOT / "playbooks/provision.yml")[0]["tasks"]]
    assert names.index("hotpmem.fleet.state_tmpfs") < names.index("hotpmem.fleet.node_agent")
