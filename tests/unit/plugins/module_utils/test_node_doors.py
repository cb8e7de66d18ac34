# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules, in the order of the roles, and the agent: through both doors the same writes, the same end, the same refusals."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils import _module
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.engine import Engine
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.host_lock import HostLock
from ansible_collections.hotpmem.fleet.plugins.module_utils._image.state_copy import HELPER
from ansible_collections.hotpmem.fleet.plugins.modules import pmem_hotplug, pmem_preflight

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "roles" / "node_agent" / "files"))
from hotpmem_node import cli

ND = "/sys/bus/nd/devices"
BASE = f"{ND}/namespace0.0"


def converting(fake):
    """ndctl, for the two conversions of the cycle."""

    def raw():
        fake.set(f"{BASE}/holder", "")
        fake.set(f"{BASE}/holder_class", "")
        os.makedirs(fake.path(f"{BASE}/block/pmem0"))
        os.symlink("../../../../../../bus/nd/drivers/nd_pmem", fake.path(f"{BASE}/driver"))
        return 0, '{"dev":"namespace0.0","mode":"raw","blockdev":"pmem0"}', ""

    def devdax():
        fake.set(f"{BASE}/holder", "dax0.0")
        fake.set(f"{BASE}/holder_class", "dax")
        shutil.rmtree(fake.path(f"{BASE}/block"))
        os.unlink(fake.path(f"{BASE}/driver"))
        return 0, '{"dev":"namespace0.0","mode":"devdax","map":"mem","chardev":"dax0.0"}', ""

    return {
        "ndctl create-namespace --mode raw": raw,
        "ndctl create-namespace --mode devdax": devdax,
        "ndctl create-namespace": (1, "", "no"),
        "blkid": (2, "", ""),
    }


@pytest.fixture
def host(kernel, recorder, monkeypatch):
    """A captured machine without kexec and without the helper, and its engine behind every module."""

    def build(name, **answers):
        fake = kernel(name)
        runner = recorder({"kexec": None, HELPER: None, **answers, **converting(fake)})
        engine = Engine(fake.root, runner)
        for part in (engine.namespaces, engine.dax, engine.dax.blocks, engine.device_users, engine.kexec, engine.preflight):
            part.sysfs = fake
        engine.sysfs = fake
        engine.dax.blocks.clock = engine.dax.clock = fake.clock
        engine.dax.blocks.pause = engine.dax.pause = fake.pause
        engine.converter.image_of = lambda device: ""
        for module in (pmem_hotplug, pmem_preflight):
            monkeypatch.setattr(module, "Engine", lambda helper="", road="", engine=engine: engine)
        return fake, runner, engine

    return build


def module(act, check_mode=False, **params):
    """Run a module's act()."""
    full = dict.fromkeys(("namespace", "kernel", "initrd", "command_line"))
    full.update(force=False, timeout=60, helper="pmem-state", road="raw", reserve="64M", kexec=True, items=[])
    full.update(params)
    return act(SimpleNamespace(params=full, check_mode=check_mode))


def by_modules(engine, way):
    """As roles/pre_reboot/tasks/hot_remove.yml and roles/post_boot/tasks/hot_add.yml do it."""
    return module(pmem_hotplug.act, state="removed" if way == "hot-remove" else "added")["changed"]


def agent(engine, *argv):
    """The agent's exit code and JSON."""
    lines = []
    args = cli.parser().parse_args([*argv, "--json"])
    settings = cli.load("/nonexistent", cli.Settings())
    try:
        answer = cli.VERBS[args.verb](engine, settings, args)
        lines = answer.facts
    except HotpmemError as error:
        return getattr(error, "code", 2), str(error)
    return answer.code, lines


def by_agent(engine, way):
    """hotpmem-node WAY."""
    code, facts = agent(engine, way)
    if code:
        raise HotpmemError("agent", str(facts), "")
    return facts["changed"]


DOORS = {"modules": by_modules, "agent": by_agent}


def journey(fake, engine, door):
    """Both moves, each twice: [changed, writes, mode, memory] after each."""
    seen = []
    for way in ("hot-remove", "hot-remove", "hot-add", "hot-add"):
        fake.writes.clear()
        changed = DOORS[door](engine, way)
        found = engine.namespaces.find("")
        online = [block.number for block in engine.dax.blocks.present(range(8, 12)) if block.what_it_is == "online_movable"]
        seen.append((changed, list(fake.writes), found.mode, online))
    return seen


def test_check_mode_foretells(host):
    """Check, do, do again, check again: what check mode says is what comes."""
    fake, runner, _engine = host("6.1-e820-system_ram")
    for state in ("removed", "added"):
        written, called = len(fake.writes), len(runner.calls)
        told = module(pmem_hotplug.act, check_mode=True, state=state)
        assert (len(fake.writes), [call for call in runner.calls[called:] if call[0] != "blkid"]) == (written, [])
        done = module(pmem_hotplug.act, state=state)
        keys = ("changed", "changes", "before", "after")
        assert [told[key] for key in keys] == [done[key] for key in keys] and told["changed"]
        for again in (module(pmem_hotplug.act, state=state), module(pmem_hotplug.act, check_mode=True, state=state)):
            assert again["changed"] is False and again["before"] == again["after"] == done["after"]


def test_the_same_journey(host):
    journeys = {}
    for door in DOORS:
        fake, runner, engine = host("6.1-e820-system_ram")
        journeys[door] = [journey(fake, engine, door), [call for call in runner.calls if call[0] == "ndctl"]]
        shutil.rmtree(fake.root)
    assert journeys["agent"] == journeys["modules"]
    steps = journeys["agent"][0]
    assert [step[0] for step in steps] == [True, False, True, False]
    assert [step[2:] for step in steps] == [("raw", []), ("raw", []), ("devdax", [8, 9, 10, 11]), ("devdax", [8, 9, 10, 11])]
    assert len(journeys["agent"][1]) == 2


@pytest.mark.parametrize("door", list(DOORS))
def test_a_block_that_stays_is_said_and_everything_is_online_again(host, door):
    fake, _runner, engine = host("6.1-e820-system_ram")
    fake.busy[9] = [16] * 500
    with pytest.raises(HotpmemError, match=r"memory block 9 .*EBUSY.*everything is as before and nothing was lost"):
        DOORS[door](engine, "hot-remove")
    assert [block.what_it_is for block in engine.dax.blocks.present(range(8, 12))] == ["online_movable"] * 4
    assert engine.dax.read("dax0.0").driver == "kmem"


@pytest.mark.parametrize("door", list(DOORS))
def test_an_image_that_was_not_restored_is_kept(host, door):
    fake, runner, engine = host("6.1-e820-system_ram")
    DOORS[door](engine, "hot-remove")
    engine.converter.image_of = lambda device: "sequence 7, items cache"
    calls = len(runner.calls)
    with pytest.raises(HotpmemError, match=r"the conversion would destroy the state image on /dev/pmem0 \(sequence 7, items cache\)"):
        DOORS[door](engine, "hot-add")
    assert [call[0] for call in runner.calls[calls:]] == ["blkid"]
    assert fake.get(f"{BASE}/holder") == ""


def test_the_same_reasons(host):
    engine = host("6.1-e820-raw")[2]
    with pytest.raises(HotpmemError) as caught:
        module(pmem_preflight.act)
    assert agent(engine, "preflight") == (5, str(caught.value))


def test_preflight_looks_at_the_kernel_that_is_named(host):
    host("6.1-e820-raw")
    with pytest.raises(HotpmemError, match=r"the kernel /boot/other does not exist; the initrd /boot/other\.img does not exist"):
        module(pmem_preflight.act, kernel="/boot/other", initrd="/boot/other.img")


def test_a_failed_conversion_gives_the_memory_back(host):
    _fake, runner, engine = host("6.1-e820-system_ram")
    runner.answers["ndctl create-namespace --mode raw"] = (1, "", "no such luck")
    code, said = agent(engine, "hot-remove")
    assert code == 2 and "no such luck" in said and "the memory is System RAM again" in said
    assert engine.dax.read("dax0.0").driver == "kmem"
    assert [block.what_it_is for block in engine.dax.blocks.present(range(8, 12))] == ["online_movable"] * 4


def test_check_changes_nothing(host):
    fake, runner, engine = host("6.1-e820-system_ram")
    code, facts = agent(engine, "hot-remove", "--check")
    assert (code, facts["check"], facts["blocks"], fake.writes, runner.calls) == (0, True, [8, 9, 10, 11], [], [])
    assert facts["changes"] == ["take the memory blocks 8, 9, 10, 11 offline", "unbind dax0.0 from kmem", "make namespace0.0 raw"]


def test_a_system_call_that_fails_in_a_module_is_its_message():
    said = []

    def fail_json(**answer):
        said.append(answer)
        raise SystemExit(1)

    def act(_module):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/run/hotpmem/kexec.json")

    with pytest.raises(SystemExit):
        _module.run(SimpleNamespace(fail_json=fail_json, params={}, check_mode=False, _name="kexec_load"), act)
    assert said == [
        {
            "msg": "Cannot finish the module kexec_load: /run/hotpmem/kexec.json: ENOSPC: No space left on device. See dmesg for more.",
            "what": "Cannot finish the module kexec_load",
            "said": "/run/hotpmem/kexec.json: ENOSPC: No space left on device",
            "todo": "See dmesg for more",
        }
    ]


@pytest.mark.parametrize(
    "argv, code, said",
    [
        (["fly"], 1, "invalid choice"),
        ([], 1, "required"),
        (["preflight", "--settings", "/nonexistent/node.json"], 1, "the file does not exist"),
    ],
)
def test_usage(capsys, argv, code, said):
    assert cli.main([*argv, "--json"]) == code
    answer = json.loads(capsys.readouterr().out)
    assert answer["exit"] == code and said in answer["msg"]
    assert cli.main(argv) == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["preflight", "status"])
def test_status_and_preflight_judge_the_initrd_that_the_handoff_takes(machine, tmp_path, verb):
    """With its own initrd built, a host whose stock initrd is missing is ready; without, it is refused for just that."""
    one, engine, build = machine
    settings = build(kernel="", initrd="", jump_initrd="minimal").settings
    release = one.fake.get("/proc/sys/kernel/osrelease")
    (Path(one.fake.root) / f"boot/vmlinuz-{release}").write_text("x", encoding="utf-8")
    args = cli.parser().parse_args([verb])

    def reasons():
        try:
            return cli.VERBS[verb](engine, settings, args).facts["reasons"]
        except HotpmemError as error:
            return error.details["reasons"]

    engine.jump_initrd.ready = lambda: ""
    assert [reason for reason in reasons() if "initrd" in reason]
    engine.jump_initrd.ready = lambda: "/boot/initrd"
    assert reasons() == []


def test_the_one_who_was_a_moment_earlier_is_named(machine):
    """Its unit exists, and has not claimed the host when systemd-run refuses the second one."""
    one, engine, _build = machine
    lock = HostLock(engine.sysfs)

    def refuse():
        claim = lock.claimed("a handoff", "alice@control", "run-1")
        claim.__enter__()
        claims.append(claim)
        return 1, "", "Failed to start transient service unit: Unit hotpmem-handoff.service already exists."

    claims = []
    one.fails["systemd-run"] = refuse
    code, said = agent(engine, "handoff", "--detach", "--run", "run-2", "--owner", "bob@laptop")
    claims[0].__exit__(None, None, None)
    assert code == 9 and "alice@control holds this host since" in said and "run run-1" in said


@pytest.mark.parametrize("verb", ["hot-add", "hot-remove", "handoff", "cold-start", "jump-initrd", "hot-add --at-boot"])
def test_every_verb_that_acts_is_refused_while_somebody_holds_the_host(machine, monkeypatch, capsys, verb):
    """With the exit code that says so, and nothing changed."""
    one, engine, build = machine
    handoff = build()
    with HostLock(engine.sysfs).claimed("a handoff", "alice@control", "run-1"):
        # As if another process had claimed it.
        monkeypatch.setattr(os, "getpid", lambda: 1)
        monkeypatch.setattr(cli, "load", lambda *_settings: handoff.settings)
        code = cli.main([*verb.split(), "--json"], engine_for=lambda settings: engine)
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == said["exit"] == 9 and "alice@control holds this host" in said["msg"], said
    assert one.acts == [] and one.fake.writes == []


def test_a_run_that_lost_its_hold_starts_no_other_handoff(machine):
    one, engine, _build = machine
    code, said = agent(engine, "handoff", "--detach", "--run", "run-1", "--resume")
    assert code == 5 and "the run run-1 no longer holds this host" in said and one.calls == []
