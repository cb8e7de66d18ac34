# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a jump starts first: the early services, all that a normal boot starts before them, and nothing else."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle import state_first

# As systemctl show '*' prints it, with the units of a Debian machine that matter here. cache and must are the units of the items.
UNITS = r"""
Id=graphical.target
Names=graphical.target
Requires=multi-user.target
After=multi-user.target

Id=multi-user.target
Names=multi-user.target
Wants=cache.service must.service ssh.service systemd-networkd.service
Requires=basic.target
After=basic.target cache.service must.service ssh.service

Id=basic.target
Names=basic.target
Requires=sysinit.target
After=sysinit.target

Id=sysinit.target
Names=sysinit.target
Wants=local-fs.target systemd-udevd.service systemd-udev-trigger.service systemd-random-seed.service systemd-tmpfiles-setup.service
After=local-fs.target systemd-udev-trigger.service systemd-random-seed.service systemd-tmpfiles-setup.service

Id=cache.service
Names=cache.service alias.service
DefaultDependencies=no
Requires=system.slice local-fs.target
After=local-fs.target network.target system.slice systemd-tmpfiles-setup.service syslog.socket

Id=must.service
Names=must.service
DefaultDependencies=yes
Requires=sysinit.target
After=basic.target sysinit.target

Id=ssh.service
Names=ssh.service
Requires=sysinit.target
After=network.target basic.target

Id=network.target
Names=network.target
After=systemd-networkd.service NetworkManager.service

Id=NetworkManager.service
Names=NetworkManager.service

Id=systemd-networkd.service
Names=systemd-networkd.service
Wants=network.target
After=systemd-udevd.service

Id=systemd-udevd.service
Names=systemd-udevd.service

Id=systemd-udev-trigger.service
Names=systemd-udev-trigger.service

Id=systemd-random-seed.service
Names=systemd-random-seed.service

Id=systemd-tmpfiles-setup.service
Names=systemd-tmpfiles-setup.service
After=local-fs.target

Id=local-fs.target
Names=local-fs.target
Wants="srv-my\\x2dstate.mount"
After="srv-my\\x2dstate.mount"

Id=srv-my\x2dstate.mount
Names="srv-my\\x2dstate.mount"
""".strip()
DISK = r"Id=srv-my\x2dstate.mount", "Id=srv-my\\x2dstate.mount\nAfter=dev-sda1.device"
FIRST = [
    "cache.service", "hotpmem-first-network.service", "local-fs.target", "network.target", "srv-my\\x2dstate.mount",
    "systemd-networkd.service", "systemd-tmpfiles-setup.service", "systemd-udevd.service",
]  # fmt: skip
DEFAULT = "graphical.target"
ASK = "systemctl show --all --property=Id --property=Names"
FOLDER = "/etc/systemd/system"
MINIMAL = {"state_first": True, "jump_initrd": "minimal", "kernel": "", "initrd": ""}


def rows(text=UNITS):
    blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in text.split("\n\n")]
    return state_first.by_name(blocks)


def wants(fake):
    (line,) = [line for line in fake.get(f"{FOLDER}/{state_first.TARGET}").splitlines() if line.startswith("Wants=")]
    return line.partition("=")[2].split()


def test_only_a_service_of_this_boot_without_default_dependencies_is_early():
    assert state_first.early_of(rows(), ["alias.service", "must.service", "unknown.service", "NetworkManager.service"], DEFAULT) == [
        "cache.service"
    ]
    off = UNITS.replace("Wants=cache.service must.service", "Wants=must.service")
    assert state_first.early_of(rows(off), ["cache.service"], DEFAULT) == []


def test_all_that_it_starts_after_and_nothing_else():
    """NetworkManager does not take part in this boot; ssh and the random seed are not waited for; a slice is not started."""
    assert state_first.first_units(rows(), ["cache.service"], DEFAULT, network=True) == FIRST


@pytest.mark.parametrize("network, change", [(False, ("", "")), (True, DISK)])
def test_a_device_needs_the_events_of_all_devices(network, change):
    found = state_first.first_units(rows(UNITS.replace(*change)), ["cache.service"], DEFAULT, network=network)
    assert "systemd-udev-trigger.service" in found and state_first.NETWORK not in found


PULLED = """

Id=helps.service
Names=helps.service
After=late.service

Id=late.service
Names=late.service"""


def test_what_they_pull_in_keeps_its_order_too():
    """cache wants helps.service, which starts after late.service, as in a normal boot."""
    text = UNITS.replace("Requires=system.slice local-fs.target", "Wants=helps.service\nRequires=system.slice local-fs.target")
    text = text.replace("Wants=cache.service", "Wants=late.service cache.service") + PULLED
    assert state_first.first_units(rows(text), ["cache.service"], DEFAULT, network=True) == sorted(
        [*FIRST, "helps.service", "late.service"]
    )


@pytest.mark.parametrize(
    "line", ["quiet single", "root=/dev/vda 3", "systemd.unit=rescue.target quiet", "emergency", "x -s", "init=/bin/sh"]
)
def test_a_command_line_that_chooses(line):
    assert state_first.chooses_unit(line)
    harmless = line.replace("single", "s1").replace("3", "33").replace(".unit=", "_unit=").replace("emer", "e")
    assert not state_first.chooses_unit(harmless.replace("-s", "-x").replace("init=", "rdinit="))


@pytest.fixture
def ordered(machine):
    """The machine, whose systemd answers for all its units; with the directory for those of the operator."""
    one, engine, build = machine
    os.makedirs(one.fake.path(FOLDER))
    one.fails["systemctl show --property=Id -- default.target"] = (0, "Id=graphical.target\n", "")
    one.fails[ASK] = (0, UNITS, "")
    return one, engine, build


def order(ordered, line="root=/dev/vda quiet", **changes):
    """Order the next boot for settings. Returns what it said."""
    _one, engine, build = ordered
    handoff = build(**{**MINIMAL, **changes})
    return state_first.order_next_boot(engine.sysfs, handoff.services, handoff.settings, line)


def test_the_next_boot_begins_with_them(ordered):
    one = ordered[0]
    assert order(ordered) == ""
    assert wants(one.fake) == [*FIRST, state_first.REST]
    rest = one.fake.get(f"{FOLDER}/{state_first.REST}")
    assert "After=cache.service\n" in rest and "OnFailure=default.target\n" in rest and "JobTimeoutSec=15\n" in rest


def test_without_the_network_of_the_initrd_all_devices_are_handled(ordered):
    assert order(ordered, early_network=False) == ""
    assert "systemd-udev-trigger.service" in wants(ordered[0].fake)


def test_a_handoff_orders_the_next_boot(ordered):
    """The settings of this machine name a kernel, so it jumps with the stock initrd."""
    one, _engine, build = ordered
    one.fails.clear()
    handoff, lines = build(state_first=True, jump_initrd="minimal"), []
    handoff.say = lines.append
    handoff.run()
    assert "the next boot starts in its usual order: hotpmem_state_first needs hotpmem_jump_initrd: minimal" in lines


@pytest.mark.parametrize(
    "answer, said",
    [
        ((1, "", "Failed to connect to bus"), "Failed to connect to bus"),
        ((0, UNITS.replace("DefaultDependencies=no", "DefaultDependencies=yes"), ""), "no service with early_start: true is enabled"),
        (
            (0, UNITS.replace("Names=systemd-udevd.service", "Names=systemd-udevd.service\nType=oneshot\nRemainAfterExit=no"), ""),
            "systemd-udevd.service would run twice",
        ),
    ],
)
def test_an_order_that_cannot_be_kept(ordered, answer, said):
    one = ordered[0]
    assert order(ordered) == ""
    one.fails[ASK] = answer
    told = order(ordered)
    assert told.startswith("the next boot starts in its usual order: ") and said in told
    assert os.listdir(one.fake.path(FOLDER)) == []


def test_no_room_for_the_units(ordered):
    one = ordered[0]
    shutil.rmtree(one.fake.path(FOLDER))
    assert os.strerror(errno.ENOENT) in order(ordered)


def test_a_unit_that_the_operator_has_masked_stays_so(ordered):
    one = ordered[0]
    path = one.fake.path(f"{FOLDER}/{state_first.TARGET}")
    os.symlink("/dev/null", path)
    assert "hotpmem-first.target is masked" in order(ordered)
    assert os.readlink(path) == "/dev/null" and os.listdir(one.fake.path(FOLDER)) == [state_first.TARGET]


@pytest.mark.parametrize("redirect", state_first._REDIRECTS)
def test_a_boot_that_goes_elsewhere(ordered, redirect):
    one = ordered[0]
    one.fails.clear()
    os.makedirs(os.path.dirname(one.fake.path(redirect)), exist_ok=True)
    os.symlink("/var/lib/nowhere", one.fake.path(redirect))
    assert f"{redirect} exists" in order(ordered)


@pytest.mark.parametrize(
    "changes, line, said",
    [
        ({"state_first": False}, "quiet", ""),
        ({"method": "firmware"}, "", ""),
        ({"jump_initrd": "host_only"}, "quiet", "needs hotpmem_jump_initrd: minimal"),
        ({"command_line": "root=/dev/vdb"}, "root=/dev/vdb", "needs hotpmem_jump_initrd: minimal"),
        ({}, "quiet single", "says what to boot into"),
    ],
)
def test_units_of_an_earlier_jump_are_gone(ordered, changes, line, said):
    one = ordered[0]
    assert order(ordered) == ""
    told = order(ordered, line, **changes)
    assert said in told and bool(said) == bool(told)
    assert os.listdir(one.fake.path(FOLDER)) == []


@pytest.mark.skipif(shutil.which("systemd-analyze") is None or os.geteuid() != 0, reason="systemd-analyze is not installed, or not root")
def test_systemd_takes_them(tmp_path):
    (tmp_path / "cache.service").write_text("[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/bin/sleep 1\n")
    for name, text in state_first.texts(["cache.service"], ["cache.service", state_first.NETWORK]).items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", str(tmp_path / state_first.TARGET)],
        capture_output=True, text=True, check=False, env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )  # fmt: skip
    assert [line for line in done.stderr.splitlines() if "hotpmem" in line or "cache" in line] == [], done.stderr
