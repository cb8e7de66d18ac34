# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role state_tmpfs in check mode. tests/unit/plugins/module_utils/test_tmpfs_mount.py makes real mounts.

What the module refuses before it asks systemd is shown here as well.
"""

from __future__ import annotations

import json
import os
import re
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


def test_the_defaults_are_those_that_the_page_names():
    """Large files get huge pages, and only root gets in."""
    task = read(ROOT / "roles/state_tmpfs/tasks/main.yml")[-1]
    given = {name: re.search(r"default\('(.*)'\)", value) for name, value in task["hotpmem.fleet.tmpfs_mount"].items()}
    spec = read(ROOT / "roles/state_tmpfs/meta/argument_specs.yml")["argument_specs"]["main"]["options"]["state_tmpfs_mounts"]["options"]
    defaults = {name: option["default"] for name, option in spec.items() if "default" in option}
    assert defaults == {name: found[1] for name, found in given.items() if found}
    assert defaults == {"huge": "within_size", "mode": "0700", "owner": "root", "group": "root"}


@pytest.mark.skipif(os.geteuid() != 0, reason="the module wants root")
@pytest.mark.parametrize(
    "mount, said",
    [
        ({"path": "/srv/state"}, "missing required arguments: size"),
        ({"path": "/srv/state", "size": "2G", "huge": "yes"}, "value of huge must be one of"),
        ({"path": "/srv/state", "size": "2G", "noexec": True}, "noexec"),
        ({"path": "/srv/state", "size": "50%"}, "'50%' is not a size"),
        ({"path": "/srv/state", "size": "2G", "mode": "u=rwx"}, "is not octal text"),
        # YAML makes numbers of 0710 and 0711 without quotes. As octal text, others could write with the first and enter with the second.
        ({"path": "/srv/state", "size": "2G", "mode": 0o710}, "the mode 456 is a number"),
        ({"path": "/srv/state", "size": "2G", "mode": 0o711}, "the mode 457 is a number"),
        ({"path": "/srv/state", "size": "2G", "owner": "nobody-has-this-name"}, "Cannot find the user nobody-has-this-name"),
    ],
)
def test_what_is_refused(tmp_path, mount, said):
    done = checked(tmp_path, [mount])
    assert done.returncode == 2 and said in done.stdout


def test_a_mount_point_that_is_listed_twice(tmp_path):
    """Each run would remount it with the one size, and then with the other."""
    done = checked(tmp_path, [{"path": "/srv/a", "size": "1G"}, {"path": "/srv/b", "size": "1G"}, {"path": "/srv/a/", "size": "2G"}])
    assert done.returncode == 2 and "lists a mount point twice: /srv/a, /srv/b, /srv/a." in " ".join(done.stdout.split())


def test_provision_mounts_before_the_agent_looks_at_the_mounts():
    names = [task["ansible.builtin.include_role"]["name"] for task in read(ROOT / "playbooks/provision.yml")[0]["tasks"]]
    assert names.index("hotpmem.fleet.state_tmpfs") < names.index("hotpmem.fleet.node_agent")
