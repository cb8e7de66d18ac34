# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Items are moved into huge pages before a handoff stops anything; and whatever is in the way of that, the handoff goes on."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.programs import TimedOut, ToolMissing
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.records import SAVED
from ansible_collections.hotpmem.fleet.plugins.module_utils._image.huge_pages import SHMEM_ENABLED, words
from ansible_collections.hotpmem.fleet.plugins.module_utils._image.timeline import lines

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "roles" / "node_agent" / "files"))
from hotpmem_node import cli
from hotpmem_node.answer import VerbError

PREPARE = "/usr/local/sbin/pmem-state prepare"
MOUNTS = "21 1 8:1 / / rw - ext4 /dev/vda rw\n22 21 0:30 / /srv rw - tmpfs tmpfs rw,size=1G\n"
DONE = {"event": "result", "verb": "prepare", "exit": 0, "bytes": 4 << 20, "huge_bytes": 2 << 20, "seconds": 0.25, "stopped": None}


def put(fake, name: str, text: str) -> None:
    path = Path(fake.path(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def on_tmpfs(machine):
    """The machine with its items on a tmpfs."""
    one, engine, build = machine
    put(one.fake, "/proc/self/mountinfo", MOUNTS)
    put(one.fake, SHMEM_ENABLED, "always within_size advise [never] deny force")
    return one, engine, build


def recorded(one):
    return json.loads(one.fake.get(SAVED))["prepare"]


def test_with_the_memory_removed_and_the_services_up(on_tmpfs):
    one, _engine, build = on_tmpfs
    one.fails[PREPARE] = (0, json.dumps(DONE), "")
    handoff, said = build(), []
    handoff.say = said.append
    handoff.run()
    (act,) = [act for act in one.acts if act.startswith(PREPARE)]
    assert act == f"{PREPARE} --seconds 10 --item cache=/srv/cache --item must=/srv/must --json"
    order = [next(i for i, act in enumerate(one.acts) if act.startswith(word)) for word in ("ndctl create", PREPARE, "systemctl stop")]
    assert order == sorted(order)
    assert recorded(one) == {"bytes": 4 << 20, "huge_bytes": 2 << 20, "seconds": 0.25, "stopped": None, "skipped": None}
    assert "2 MiB of 4 MiB lie in huge pages, after 0.2 s" in said


def test_the_plan_names_it(on_tmpfs):
    one, _engine, build = on_tmpfs
    step = "move cache, must into huge pages, for at most 2.5 s"
    steps = build(prepare_seconds=2.5).plan()
    assert one.acts == [] and steps.index("make namespace0.0 raw") < steps.index(step) < steps.index("stop cache.service, must.service")
    assert step not in build(prepare_seconds=0).plan()


@pytest.mark.parametrize(
    "answer",
    [
        (2, json.dumps({**DONE, "exit": 2, "error": {"what": "x", "said": "no luck", "todo": ""}}), ""),
        (5, json.dumps({**DONE, "exit": 5, "refused": "unsupported", "error": {"what": "x", "said": "no luck", "todo": ""}}), ""),
        (1, "pmem-state: the verb is unknown", ""),
        (0, "no JSON", ""),
        TimedOut("Cannot finish it", "it was still running", "Raise the timeout"),
        ToolMissing("Cannot run it", "no luck", "Install it"),
    ],
)
def test_a_failure_is_no_failure_of_the_handoff(on_tmpfs, answer):
    one, _engine, build = on_tmpfs
    one.fails[PREPARE] = answer
    build().run()
    assert one.state == "stopping"
    found = recorded(one)
    assert found["skipped"] and found["huge_bytes"] == 0
    assert words(found) == f"the items were not moved into huge pages: {found['skipped']}"


@pytest.mark.parametrize(
    "changes, files, said",
    [
        ({"prepare_seconds": 0}, {}, "hotpmem_prepare_seconds is 0"),
        ({}, {"/proc/self/mountinfo": MOUNTS.replace("tmpfs tmpfs", "xfs /dev/vdb")}, "no item is on a tmpfs"),
        ({}, {SHMEM_ENABLED: "always within_size advise never [deny] force"}, "shmem_enabled is deny)"),
        ({}, {SHMEM_ENABLED: ""}, "shmem_enabled does not exist)"),
        (
            {"reserve": "100M"},
            # As much is left as the preflight asks for.
            {"/proc/meminfo": f"MemTotal: 4000000 kB\nMemAvailable: {(512 + 199) << 10} kB\n"},
            "memory is short: 199 MiB are available, and twice the reserve is 200 MiB",
        ),
    ],
)
def test_why_it_is_left_out(on_tmpfs, changes, files, said):
    one, _engine, build = on_tmpfs
    for name, text in files.items():
        put(one.fake, name, text)
    handoff = build(**changes)

    def say(line):
        # The hot-remove takes what was added from what is available.
        if line == "hot remove" and "/proc/meminfo" in files:
            put(one.fake, "/proc/meminfo", f"MemTotal: 4000000 kB\nMemAvailable: {199 << 10} kB\n")

    handoff.say = say
    assert not any("huge pages" in step for step in handoff.plan()), "the plan names a step that the run leaves out"
    handoff.run()
    assert not any(act.startswith(PREPARE) for act in one.calls)
    assert recorded(one)["skipped"].endswith(said)


def test_an_item_behind_a_symbolic_link(on_tmpfs):
    """The mount is that of the file, and not that of its name."""
    one, _engine, build = on_tmpfs
    one.fails[PREPARE] = (0, json.dumps(DONE), "")
    os.symlink("srv", one.fake.path("/link"))
    items = [{"name": "cache", "path": "/link/cache", "unit": "cache.service"}]
    assert any("huge pages" in step for step in build(items=items).plan())
    build(items=items).run()
    assert recorded(one)["skipped"] is None


def test_a_cycle_shows_it(on_tmpfs):
    phase = {"name": "save", "mark": "saved", "seconds": 1.0, "down": True}
    cycle = {"timeline": {"phases": [phase]}, "prepare": {**DONE, "skipped": None, "stopped": "memory"}}
    (line,) = [line for line in lines(cycle) if "huge" in line]
    assert line == "  before the stop: 2 MiB of 4 MiB lie in huge pages, after 0.2 s; no free memory was left in pieces of that size"
    assert not any("huge" in line for line in lines({"timeline": {"phases": [phase]}}))


def verb(engine, settings, *argv):
    args = cli.parser().parse_args(["prepare", *argv])
    return cli.VERBS["prepare"](engine, settings, args)


def test_by_command(on_tmpfs):
    one, engine, build = on_tmpfs
    one.fails[PREPARE] = (0, json.dumps(DONE), "")
    answer = verb(engine, build().settings, "--seconds", "2.5")
    assert (answer.code, answer.lines, answer.facts["huge_bytes"]) == (0, ["2 MiB of 4 MiB lie in huge pages, after 0.2 s"], 2 << 20)
    assert one.calls[-1].startswith(f"{PREPARE} --seconds 2.5 --item")
    engine.sysfs.set(SHMEM_ENABLED, "[deny]")
    answer = verb(engine, build().settings)
    assert answer.code == 0 and "shmem_enabled is deny" in answer.lines[0]
    for wrong in ("-1", "0", "nan"):
        with pytest.raises(VerbError, match=f"--seconds is {wrong}.*above 0"):
            verb(engine, build().settings, "--seconds", wrong)
