# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left to gain in a cycle, and by which setting."""

from __future__ import annotations

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._image.budget import Host, budget, console_levels, lines, serial_lines
from ansible_collections.hotpmem.fleet.plugins.module_utils._image.timeline import PHASES, UP

SECONDS = {"saved": 0.2, "jump": 1.5, "kernel_start": 0.5, "userspace_start": 4.0, "restored": 0.6, "units_starting": 0.7}
CYCLE = [
    {"name": name, "mark": mark, "seconds": SECONDS.get(mark, 1.0), "down": mark not in UP}
    for mark, name in PHASES
]  # fmt: skip
# Nothing more can be set on this one.
BEST = Host(cpus=4, method="fast", jump_initrd="minimal", jump_check=False, early_restore=True)


def gain(mark: str, **facts) -> list:
    """The gains of a phase on a host that is the best except for facts."""
    rows = budget(CYCLE, Host(**{**BEST.__dict__, **facts}))
    return [(one["seconds"], one["setting"]) for one in next(row for row in rows if row["mark"] == mark)["gains"]]


def test_a_save_from_prepared_files_has_nothing_to_gain():
    assert gain("saved", small_pages=["/srv/a"], prepared=True) == []


def test_only_the_down_time_counts():
    rows = budget(CYCLE, BEST)
    assert [row["mark"] for row in rows] == [mark for mark, _name in PHASES if mark not in UP]
    assert all(not row["gains"] and row["gain_seconds"] == 0 and row["waits_for"] for row in rows)
    assert budget([], BEST) == []


@pytest.mark.parametrize(
    "mark, facts, seconds, setting",
    [
        ("saved", {"small_pages": ["/srv/a"]}, 0.1, "mount the tmpfs of /srv/a with huge=within_size"),
        ("restored", {"small_pages": ["/srv/a", "/srv/b"]}, 0.3, "mount the tmpfs of /srv/a, /srv/b with huge=within_size"),
        ("restored", {"small_pages": ["/srv/a"], "prepared": True}, 0.3, "mount the tmpfs of /srv/a with huge=within_size"),
        ("jump", {"method": "systemd"}, 1.45, "hotpmem_reboot_method: fast"),
        ("kernel_start", {"jump_check": True, "loaded_bytes": 20_000_000}, 0.1, "hotpmem_jump_check: false"),
        ("kernel_start", {"jump_check": True, "loaded_bytes": 2_000_000_000}, 0.5, "hotpmem_jump_check: false"),
        (
            "userspace_start",
            {"console": [("ttyS0", 115200)], "console_bytes": 23040},
            2.0,
            "quiet in hotpmem_jump_arguments: the kernel wrote 23040 bytes to ttyS0",
        ),
        (
            "userspace_start",
            {"console": [("ttyS0", 9600)], "console_bytes": 23040, "lacking": ["quiet"]},
            4.0,
            "the jump argument quiet: the kernel wrote 23040 bytes to ttyS0",
        ),
        ("userspace_start", {"lacking": ["x=1"]}, None, "the last jump lacked the jump arguments x=1"),
        ("userspace_start", {"jump_initrd": "default", "initrd_seconds": 1.25}, 1.25, "hotpmem_jump_initrd: minimal"),
        ("userspace_start", {"jump_initrd": "host_only"}, None, "hotpmem_jump_initrd: minimal"),
        ("restored", {"jump_initrd": "default"}, 0.6, "hotpmem_jump_initrd: minimal with hotpmem_early_restore: true"),
        ("restored", {"early_restore": False}, 0.6, "hotpmem_jump_initrd: minimal with hotpmem_early_restore: true"),
        ("restoring", {"beside_all": ["a.service"]}, None, "hotpmem_state_first: true, which starts a.service before everything else"),
        ("units_starting", {"late_units": ["a.service", "b.service"]}, 0.7, "early_start: true for the items of a.service, b.service"),
    ],
)
def test_each_setting(mark, facts, seconds, setting):
    assert gain(mark, **facts) == [(seconds, setting)]


@pytest.mark.parametrize(
    "mark, facts",
    [
        ("userspace_start", {"console": [("ttyS0", 115200)], "console_bytes": 0}),  # quiet already
        ("userspace_start", {"console_bytes": 23040}),  # no serial console
        ("restored", {"early_restore": False, "cpus": 1}),  # no other CPU could restore meanwhile
        ("jump", {"method": "firmware"}),
        # No jump led to this boot, so it had neither the initrd nor the arguments of a jump.
        ("userspace_start", {"method": "firmware", "jump_initrd": "default", "initrd_seconds": 1.0, "lacking": ["x=1"]}),
        ("userspace_start", {"method": "shutdown (reboot)", "jump_initrd": "default", "lacking": ["quiet"]}),
        ("userspace_start", {"method": "firmware", "console": [("ttyS0", 9600)], "console_bytes": 23040, "lacking": ["quiet"]}),
        ("restored", {"method": "firmware", "jump_initrd": "default"}),
        ("restoring", {"method": "firmware", "beside_all": ["a.service"]}),
        ("kernel_start", {"method": "firmware", "jump_check": True, "loaded_bytes": 20_000_000}),
    ],
)
def test_where_a_setting_gains_nothing(mark, facts):
    assert gain(mark, **facts) == []


def test_a_phase_gains_at_most_itself():
    host = Host(**{**BEST.__dict__, "console": [("ttyS0", 9600)], "console_bytes": 99999, "jump_initrd": "default", "initrd_seconds": 2.0})
    row = next(row for row in budget(CYCLE, host) if row["mark"] == "userspace_start")
    assert [one["seconds"] for one in row["gains"]] == [4.0, 2.0] and row["gain_seconds"] == 4.0


def test_a_phase_without_length_gains_nothing():
    """The clock of the new boot may put the end of a short phase before its start."""
    phases = [{**phase, "seconds": -0.05} for phase in CYCLE]
    host = Host(
        console=[("ttyS0", 9600)], console_bytes=99, initrd_seconds=1.0, loaded_bytes=99, small_pages=["/srv/a"], late_units=["a.service"]
    )
    rows = budget(phases, Host(**{**host.__dict__, "cpus": 2}))
    assert len(rows) == 9 and all(row["gain_seconds"] == 0 for row in rows)
    assert all(one["seconds"] is None or one["seconds"] >= 0 for row in rows for one in row["gains"])


def test_the_text_has_each_gain_and_the_sum():
    text = lines(budget(CYCLE, Host(**{**BEST.__dict__, "method": "systemd", "lacking": ["x=1"]})))
    assert "  shut down the rest                   1.500      1.450  hotpmem_reboot_method: fast" in text
    assert "  kernel and initrd                    4.000  measure it  the last jump lacked the jump arguments x=1" in text
    assert "  save                                 0.200      0.000  nothing to set; memory is copied as fast as it goes" in text
    assert text[-1] == "  down, stop to ready                 10.500      1.450  leaves 9.050 s"
    assert lines([]) == ["no budget: the cycle has no phases"]


@pytest.mark.parametrize(
    "arguments, active, found",
    [
        (["console=tty0", "console=ttyS0,115200n8"], "tty0 ttyS0", [("ttyS0", 115200)]),
        (["console=ttyS1"], "ttyS1", [("ttyS1", 9600)]),
        (["console=ttyS0,57600"], "tty0", []),
        ([], "", []),
    ],
)
def test_serial_lines(arguments, active, found):
    assert serial_lines(arguments, active) == found


@pytest.mark.parametrize(
    "arguments, last",
    [
        ([], "info"),
        (["quiet"], "err"),
        (["loglevel=3"], "crit"),
        (["quiet", "loglevel=7"], "info"),
        (["loglevel=7", "quiet"], "err"),
        (["debug"], "debug"),
        (["quiet", "ignore_loglevel"], "debug"),
        (["loglevel=x"], "info"),
        (["loglevel=1"], "emerg"),
    ],
)
def test_what_the_kernel_writes_to_a_console(arguments, last):
    """The last argument counts (kernel-parameters.txt)."""
    found = console_levels(arguments)
    assert found[0] == "emerg" and found[-1] == last
    assert not console_levels(["loglevel=0"])
