# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells whether installed packages ask for a reboot, in the way of each distribution.

Debian and Ubuntu: /run/reboot-required, and the names of the packages in /run/reboot-required.pkgs
(update-notifier-common, unattended-upgrades, needrestart). RHEL and Fedora: needs-restarting(1) with -r and
dnf5-needs-restarting(8), which exit with 1. SUSE: ``zypper needs-rebooting``, which exits with 102
(ZYPPER_EXIT_INF_REBOOT_NEEDED in zypper(8)), and /run/reboot-needed of zypp-boot-plugin.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import List, Sequence

from .errors import HotpmemError
from .programs import Runner
from .sysfs import Sysfs

UNKNOWN = "unknown"  # stands for packages that the system does not name
FILES = ("/run/reboot-required", "/var/run/reboot-required")
SUSE_FILE = "/run/reboot-needed"
_TIMEOUT = 120.0  # seconds; needs-restarting reads the whole database of packages
_DNF_ITEM = re.compile(r"^\s+\* (\S+)", re.MULTILINE)
_DNF_SAYS = "Reboot is required"
_DNF_NEEDED = 1
_ZYPPER_NEEDED = 102


@dataclass
class PackageReboots:
    """``packages`` that ask for a reboot, ``reasons`` as sentences, and ``warnings`` about what could not be found out.

    When a reboot is asked for without the name of a package, ``packages`` is the one word UNKNOWN.
    """

    packages: List[str] = field(default_factory=list)
    reasons: List[str] = field(default_factory=list)
    warnings: List[str] = field(default_factory=list)

    def add(self, reason: str, packages: Sequence[str]) -> None:
        """Note a reason. packages: empty when it does not name any."""
        self.reasons.append(reason)
        named = [name for name in [*self.packages, *packages] if name != UNKNOWN]
        self.packages = list(dict.fromkeys(named)) or [UNKNOWN]


def dnf_packages(output: str) -> List[str]:
    """The names in the output of ``needs-restarting -r`` (dnf 4, yum) or ``dnf5 needs-restarting``."""
    return _DNF_ITEM.findall(output)


def dnf_command(runner: Runner) -> List[str]:
    """The command of this host, or an empty list.

    dnf 5 before 5.2 does not know -r, and without it does the same. Only dnf 5 would load the repositories, over the network:
    --cacheonly keeps it from that.
    """
    if runner.which("dnf5"):
        return ["dnf5", "--cacheonly", "needs-restarting"]
    return ["needs-restarting", "-r"] if runner.which("needs-restarting") else []


def read(sysfs: Sysfs, runner: Runner) -> PackageReboots:
    """Read what this host says. Never raises HotpmemError, and changes nothing."""
    found = PackageReboots()
    flag = next((path for path in FILES if sysfs.exists(path)), "")
    if flag:
        names = [line.strip() for line in sysfs.get(f"{flag}.pkgs").splitlines() if line.strip()]
        found.add(f"{flag} exists", names)
    if sysfs.exists(SUSE_FILE):
        found.add(f"{SUSE_FILE} exists", [])
    command = dnf_command(runner)
    if command:
        _ask(found, runner, command)
    if runner.which("zypper"):
        _ask(found, runner, ["zypper", "--non-interactive", "needs-rebooting"])
    return found


def _ask(found: PackageReboots, runner: Runner, argv: List[str]) -> None:
    words = " ".join(argv)
    try:
        done = runner.run(argv, timeout=_TIMEOUT)
    except HotpmemError as error:
        found.warnings.append(f"{words} gave no answer: {error.said}.")
        return
    # dnf also exits with 1 when it fails itself, for example because the plugin is not installed.
    needed = done.rc == _ZYPPER_NEEDED if argv[0] == "zypper" else done.rc == _DNF_NEEDED and _DNF_SAYS in done.stdout
    if needed:
        found.add(f"{words} says that a reboot is needed", dnf_packages(done.stdout))
    elif done.rc != 0:
        found.warnings.append(f"{words} gave no answer: {done.words}.")
