# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of a jump: what it takes over, what it adds, and what the jump after it leaves out again."""

from __future__ import annotations

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel import jump_command_line as jc

RUNNING = "root=/dev/vda rw console=ttyS0 nokaslr mitigations=off memmap=514M!1022M"


@pytest.mark.parametrize(
    "running, following",
    [
        (RUNNING, RUNNING),
        ("BOOT_IMAGE=/boot/vmlinuz-6.1 root=UUID=x ro initrd=\\initrd.img quiet", "root=UUID=x ro quiet"),
        ('dyndbg="file a.c +p" BOOT_IMAGE=x memmap=1G!4G', 'dyndbg="file a.c +p" memmap=1G!4G'),
        ("BOOT_IMAGE=/vmlinuz ro -- initrd=x", "ro -- initrd=x"),
        ("", ""),
        ("ro hotpmem.jump=2 quiet no_timer_check -- single", "ro -- single"),
        ("ro hotpmem.jump=1 quiet panic=5", "ro panic=5"),
        ("ro hotpmem.jump=9 quiet", "ro"),
        ("ro hotpmem.jump=x quiet", "ro quiet"),
    ],
)
def test_next_command_line(running, following):
    assert jc.next_command_line(running) == following


@pytest.mark.parametrize(
    "line, arguments, jump",
    [
        ("ro", ["quiet", "no_timer_check"], "ro hotpmem.jump=2 quiet no_timer_check"),
        ("ro", ["quiet", "quiet"], "ro hotpmem.jump=1 quiet"),
        ("ro quiet", ["quiet", "no_timer_check"], "ro quiet hotpmem.jump=1 no_timer_check"),
        ("ro quiet", ["quiet"], "ro quiet"),
        ("ro", [], "ro"),
        ("ro -- quiet", ["quiet"], "ro hotpmem.jump=1 quiet -- quiet"),
    ],
)
def test_the_next_jump_leaves_out_what_this_one_added(line, arguments, jump):
    assert jc.with_jump_arguments(line, arguments, 2016) == jump
    assert jc.next_command_line(jump) == line
    again = jc.with_jump_arguments(jc.next_command_line(jump), arguments, 2016)
    assert again == jump


def test_arguments_that_do_not_fit_are_left_out():
    line = "x" * 80
    longer = f"{line} hotpmem.jump=1 quiet"
    assert jc.with_jump_arguments(line, ["quiet"], len(longer)) == longer
    assert jc.with_jump_arguments(line, ["quiet"], len(longer) - 1) == line
    assert jc.with_jump_arguments(line, ["quiet"], None) == longer


@pytest.mark.parametrize(
    "argument, said",
    [
        ("quiet", ""),
        ('dyndbg="file a.c +p"', ""),
        ("quiet loglevel=3", "must be one argument"),
        ("", "must be one argument"),
        ("--", "must be one argument"),
        ("hotpmem.jump=3", "must be one argument"),
        ("memmap=1G!4G", "in the settings of the boot loader"),
        ("mem=4G", "in the settings of the boot loader"),
        ("crashkernel=256M", "in the settings of the boot loader"),
        ('"memmap=1G!4G"', "in the settings of the boot loader"),  # the kernel takes the quotes away
    ],
)
def test_what_an_argument_may_be(argument, said):
    found = jc.fault(["ro", argument])
    assert said in found and bool(found) == bool(said)
    assert not jc.fault(jc.JUMP_ARGUMENTS)
