# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A handoff to another kernel than the running one: which initrd it gets, and how the command line names it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.records import HANDOFF

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "roles" / "node_agent" / "files"))
from hotpmem_node import cli

NEW = "6.1.0-999-cloud-amd64"


def install(fake, *releases):
    """Kernels that are completely installed."""
    for release in releases:
        for name in (f"/boot/vmlinuz-{release}", f"/boot/initrd.img-{release}", f"/usr/lib/modules/{release}/modules.dep"):
            os.makedirs(os.path.dirname(fake.path(name)), exist_ok=True)
            with open(fake.path(name), "w", encoding="utf-8") as file:
                file.write("x")


@pytest.fixture
def host(machine):
    """The machine with its running kernel, whose own initrd is always ready."""
    one, engine, build = machine
    release = one.fake.get("/proc/sys/kernel/osrelease")
    install(one.fake, release)
    engine.jump_initrd.ready = lambda: "/var/lib/hotpmem/jump-initrd"
    return one, engine, build, release


def test_the_initrd_of_the_jump_belongs_to_the_running_kernel(host):
    """Its modules are of that release, so that another kernel would not start with it."""
    one, engine, build, release = host
    handoff = build(kernel="newest", initrd="", jump_initrd="minimal")
    assert handoff.target().initrd == "/var/lib/hotpmem/jump-initrd"
    install(one.fake, NEW)
    engine.jump_initrd.build = None  # nothing is built for a handoff that does not use it
    target = handoff.target()
    assert (target.kernel, target.initrd) == (f"/boot/vmlinuz-{NEW}", f"/boot/initrd.img-{NEW}")
    assert handoff.plan()[0] == f"load /boot/vmlinuz-{NEW} (the newest installed kernel, {NEW}) with /boot/initrd.img-{NEW}"
    lines = []
    handoff.say = lines.append
    handoff.run()
    assert f"the jump goes to /boot/vmlinuz-{NEW} (the newest installed kernel, {NEW}) with /boot/initrd.img-{NEW}" in lines
    assert any(act.startswith(f"kexec -s -l /boot/vmlinuz-{NEW} --initrd=/boot/initrd.img-{NEW} ") for act in one.acts)
    assert build(kernel=release, initrd="", jump_initrd="minimal").target().initrd == "/var/lib/hotpmem/jump-initrd"


def test_a_named_file_gets_its_own_initrd(host):
    _one, _engine, build, release = host
    assert build(kernel=f"/boot/vmlinuz-{release}", initrd="", jump_initrd="minimal").target().initrd == f"/boot/initrd.img-{release}"


def test_a_kernel_that_is_not_completely_installed_is_refused_before_anything_changes(host):
    one, _engine, build, _release = host
    install(one.fake, NEW)
    os.unlink(one.fake.path(f"/usr/lib/modules/{NEW}/modules.dep"))
    handoff = build(kernel="newest", initrd="")
    with pytest.raises(HotpmemError) as caught:
        handoff.run()
    assert f"the newest kernel can't be used: {NEW} is not completely installed: its list of modules does not exist" in str(caught.value)
    assert [act for act in one.acts if not act.startswith("dpkg-query")] == []


def test_a_kernel_that_is_removed_after_the_preflight_is_not_loaded(host):
    one, _engine, build, _release = host
    install(one.fake, NEW)
    handoff = build(kernel="newest", initrd="")

    def removed():
        os.unlink(one.fake.path(f"/boot/initrd.img-{NEW}"))
        return 0, "", ""

    one.fails["sync"] = removed  # the first command after the preflight
    with pytest.raises(HotpmemError, match="is not completely installed: its initrd was not found"):
        handoff.run()
    assert not any(act.startswith("kexec -s -l") for act in one.acts)


def verb(engine, settings, *argv):
    """What the verb handoff answers, and its exit code when it refuses."""
    args = cli.parser().parse_args(["handoff", *argv, "--json"])
    try:
        return 0, cli.VERBS["handoff"](engine, settings, args).facts
    except HotpmemError as error:
        return getattr(error, "code", 2), str(error)


def test_the_command_line_overrides_kernel_and_initrd_once(host):
    one, engine, build, _release = host
    install(one.fake, NEW)
    settings = build().settings  # they name /boot/vmlinuz and /boot/initrd
    code, facts = verb(engine, settings, "--check", "--kernel", NEW)
    assert code == 0 and facts["steps"][0] == f"load /boot/vmlinuz-{NEW} (the kernel {NEW}) with /boot/initrd.img-{NEW}"
    code, facts = verb(engine, settings, "--check", "--kernel", f"/boot/vmlinuz-{NEW}", "--initrd", "/boot/initrd")
    assert code == 0 and facts["steps"][0] == f"load /boot/vmlinuz-{NEW} with /boot/initrd"
    code, facts = verb(engine, settings, "--check")
    assert code == 0 and facts["steps"][0] == "load /boot/vmlinuz with /boot/initrd"


def test_the_unit_gets_the_kernel_too(host):
    one, engine, build, _release = host
    install(one.fake, NEW)
    assert verb(engine, build().settings, "--detach", "--kernel", "newest", "--run", "run-1")[0] == 0
    (started,) = [call for call in one.calls if call.startswith("systemd-run")]
    assert " --kernel newest --run run-1" in started and "--initrd" not in started


@pytest.mark.parametrize(
    "words, said",
    [
        (["--initrd", "/i"], "--initrd needs --kernel"),
        (["--kernel", "newest", "--initrd", "/i"], "initrd is set too (/i)"),
        (["--kernel", "vmlinuz"], "which is not an absolute path"),
        (["--kernel", "newest", "--method", "firmware"], "the method firmware loads no kernel"),
        (["--detach", "--run", "r", "--resume", "--kernel", "newest"], "has chosen its kernel"),
    ],
)
def test_command_lines_that_cant_be_meant(host, words, said):
    one, engine, build, _release = host
    code, answer = verb(engine, build().settings, *words)
    assert code == 1 and said in answer
    assert one.acts == []


def test_put_back_names_the_kernel_that_was_asked_for(host):
    one, _engine, build, _release = host
    one.fake.set("/proc/mounts", "")
    handoff = build()
    handoff.asked = ["--kernel", "newest"]
    handoff.records.write_json(HANDOFF, {})
    handoff.stage = "stop"
    handoff._write_record()
    other = build()
    assert other.take_up()
    said = other.put_back(HotpmemError("killed", "it", "look")).todo
    assert said.endswith("Then: hotpmem-node handoff --method systemd --kernel newest")
