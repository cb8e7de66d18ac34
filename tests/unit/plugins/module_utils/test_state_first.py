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
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.jump_target import jump_target

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
ASK, LOADED = "systemctl show --property=Id --property=Names", "systemctl show --property=LoadState -- hotpmem-first.target"


def rows(text=UNITS):
    blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in text.split("\n\n")]
    return state_first.by_name(blocks)


def wants(fake):
    (line,) = [line for line in fake.get(f"/etc/systemd/system/{state_first.TARGET}").splitlines() if line.startswith("Wants=")]
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


@pytest.mark.parametrize("line", ["quiet single", "root=/dev/vda 3", "systemd.unit=rescue.target quiet", "emergency"])
def test_a_command_line_that_chooses(line):
    assert state_first.chooses_unit(line)
    assert not state_first.chooses_unit(line.replace("single", "s1").replace("3", "33").replace(".unit=", "_unit=").replace("emer", "e"))


@pytest.fixture
def ordered(machine):
    """The machine, whose systemd answers for all its units; with the directory for those of the operator."""
    one, engine, build = machine
    os.makedirs(one.fake.path("/etc/systemd/system"))
    one.fails["systemctl show --property=Id -- default.target"] = (0, "Id=graphical.target\n", "")
    one.fails[ASK] = (0, UNITS, "")
    one.fails[LOADED] = (0, "LoadState=loaded\n\nLoadState=loaded\n", "")
    return one, engine, lambda **changes: build(state_first=True, **changes)


def jumped(one):
    (load,) = [act for act in one.acts if act.startswith("kexec -s -l")]
    return load


def test_the_next_boot_begins_with_them(ordered):
    one, _engine, build = ordered
    build().run()
    assert {"cache.service", "systemd-networkd.service", "systemd-udev-trigger.service", state_first.REST} <= set(wants(one.fake))
    assert "systemd.unit=hotpmem-first.target" in jumped(one)
    rest = one.fake.get(f"/etc/systemd/system/{state_first.REST}")
    assert "After=cache.service\n" in rest and "OnFailure=graphical.target\n" in rest and "JobTimeoutSec=15\n" in rest


@pytest.mark.parametrize("changes, network", [({"jump_initrd": "minimal"}, True), ({"jump_initrd": "host_only"}, False), ({}, False)])
def test_with_a_minimal_initrd_only_interfaces_are_handled_first(ordered, changes, network):
    one, engine, build = ordered
    one_handoff = build(kernel="", initrd="", **changes)
    assert state_first.order_next_boot(engine.sysfs, one_handoff.services, one_handoff.settings) == ""
    assert (state_first.NETWORK in wants(one.fake)) is network


@pytest.mark.parametrize(
    "start, answer, said",
    [
        (ASK, (1, "", "Failed to connect to bus"), "Failed to connect to bus"),
        (ASK, (0, UNITS.replace("DefaultDependencies=no", "DefaultDependencies=yes"), ""), "graphical.target starts no unit of an item"),
        (LOADED, (0, "LoadState=masked\n\nLoadState=loaded\n", ""), "systemd can't load hotpmem-first.target"),
        (LOADED, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), ""),
    ],
)
def test_without_it_the_jump_goes_on_in_the_usual_order(ordered, start, answer, said):
    one, _engine, build = ordered
    if isinstance(answer, OSError):
        shutil.rmtree(one.fake.path("/etc/systemd/system"))
        del one.fails[LOADED]
    else:
        one.fails[start] = answer
        if start == ASK:
            del one.fails[LOADED]
    handoff, lines = build(), []
    handoff.say = lines.append
    handoff.run()
    (told,) = [line for line in lines if "usual order" in line]
    assert said in told
    assert "systemd.unit" not in jumped(one)


@pytest.mark.parametrize("changes", [{"state_first": False}, {"state_first": True, "jump_arguments": ["systemd.unit=other.target"]}])
def test_units_of_an_earlier_jump_are_not_used(ordered, changes):
    one, engine, build = ordered
    state_first.write_units(engine.sysfs, build().services, ["cache.service"], network=False)
    handoff = build()
    handoff.settings = type(handoff.settings)(**{**vars(handoff.settings), **changes})
    handoff.run()
    assert "hotpmem-first" not in jumped(one)
    # A boot entry may have the command line of that jump.
    assert state_first.is_written(one.fake)


def test_the_firmware_gets_no_arguments(ordered):
    one, engine, build = ordered
    one.fails.clear()
    assert jump_target(engine, build(method="firmware").settings) is None


@pytest.mark.skipif(shutil.which("systemd-analyze") is None or os.geteuid() != 0, reason="systemd-analyze is not installed, or not root")
def test_systemd_takes_them(tmp_path):
    (tmp_path / "cache.service").write_text("[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/bin/sleep 1\n")
    for name, text in state_first.texts(["cache.service"], ["cache.service", state_first.NETWORK], "multi-user.target").items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", str(tmp_path / state_first.TARGET)],
        capture_output=True, text=True, check=False, env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )  # fmt: skip
    assert [line for line in done.stderr.splitlines() if "hotpmem" in line or "cache" in line] == [], done.stderr
