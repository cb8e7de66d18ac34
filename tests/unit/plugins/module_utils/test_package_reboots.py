# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the package managers say about a reboot."""

from __future__ import annotations

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host import package_reboots as pr
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs

# `needs-restarting -r` of dnf-plugins-core 4 on Fedora 38.
DNF4 = """\
Core libraries or services have been updated since boot-up:
  * dbus
  * glibc
  * kernel
Reboot is required to fully utilize these updates.
More information: https://access.redhat.com/solutions/27943
"""
# `dnf5 needs-restarting` on Fedora 41.
DNF5 = """\
Updating and loading repositories:
Repositories loaded.
Core libraries or services have been updated since boot-up:
  * kernel
  * kernel-core

Reboot is required to fully utilize these updates.
More information: https://access.redhat.com/solutions/27943
"""
DNF_NO = "No core libraries or services have been updated since boot-up.\nReboot should not be necessary.\n"
NO_PLUGIN = "No such command: needs-restarting. Please use /usr/bin/dnf --help\n"
ABSENT = {"dnf5": None, "needs-restarting": None, "zypper": None}
ASK5, ASK4, ASKZ = "dnf5 --cacheonly needs-restarting", "needs-restarting -r", "zypper --non-interactive needs-rebooting"


@pytest.fixture
def read(tmp_path, recorder):
    def ask(answers, files=()):
        for name, text in dict(files).items():
            path = tmp_path / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return pr.read(Sysfs(str(tmp_path)), recorder(answers))

    return ask


@pytest.mark.parametrize(
    "answers, files, packages, reasons",
    [
        (ABSENT, {}, [], []),
        # update-notifier-common writes a line for each package, twice if it was upgraded twice
        (
            ABSENT,
            {"/run/reboot-required": "*** System restart required ***\n", "/run/reboot-required.pkgs": "linux-base\nlibc6\nlinux-base\n"},
            ["linux-base", "libc6"],
            ["/run/reboot-required exists"],
        ),
        (ABSENT, {"/var/run/reboot-required": ""}, ["unknown"], ["/var/run/reboot-required exists"]),
        (
            {**ABSENT, "needs-restarting": None, ASK4: (1, DNF4, "")},
            {},
            ["dbus", "glibc", "kernel"],
            [f"{ASK4} says that a reboot is needed"],
        ),
        ({**ABSENT, ASK4: (0, DNF_NO, "")}, {}, [], []),
        ({**ABSENT, ASK5: (1, DNF5, "")}, {}, ["kernel", "kernel-core"], [f"{ASK5} says that a reboot is needed"]),
        ({**ABSENT, ASKZ: (102, "Reboot is suggested.\n", "")}, {}, ["unknown"], [f"{ASKZ} says that a reboot is needed"]),
        ({**ABSENT, ASKZ: (0, "", "")}, {}, [], []),
        ({**ABSENT, ASKZ: (0, "", "")}, {"/run/reboot-needed": "kexec"}, ["unknown"], ["/run/reboot-needed exists"]),
        # A name that is known replaces the word for unknown ones.
        (
            {**ABSENT, ASK4: (1, DNF4, "")},
            {"/run/reboot-required": ""},
            ["dbus", "glibc", "kernel"],
            ["/run/reboot-required exists", f"{ASK4} says that a reboot is needed"],
        ),
    ],
)
def test_who_asks_for_a_reboot(read, answers, files, packages, reasons):
    # A specific command comes before the program that the host lacks.
    found = read(dict(sorted(answers.items(), key=lambda one: -len(one[0]))), files)
    assert (found.packages, found.reasons, found.warnings) == (packages, reasons, [])


@pytest.mark.parametrize(
    "answers, said",
    [
        (
            {**ABSENT, ASK4: (1, "", NO_PLUGIN)},
            f"{ASK4} gave no answer: needs-restarting exited with code 1: No such command: needs-restarting",
        ),
        (
            {**ABSENT, ASK5: (1, "", "Cache-only enabled but no cache for repository 'fedora'\n")},
            f"{ASK5} gave no answer: dnf5 exited with code 1",
        ),
        (
            {**ABSENT, ASKZ: (7, "", "System management is locked by the application with pid 99\n")},
            f"{ASKZ} gave no answer: zypper exited with code 7",
        ),
    ],
)
def test_a_program_that_fails_is_not_a_reason(read, answers, said):
    found = read(dict(sorted(answers.items(), key=lambda one: -len(one[0]))))
    assert (found.packages, found.reasons) == ([], [])
    assert len(found.warnings) == 1 and found.warnings[0].startswith(said)
