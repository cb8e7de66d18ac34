# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of the databases, by what they answer and by what they wrote into their logs."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

import pytest

VERSION = "15" if os.environ["HOTPMEM_KERNEL"] == "6.1" else "17"
INSTANCE = f"postgresql@{VERSION}-main.service"
ITEMS = ["postgresql", "redis", "memcached", "segments", "board", "files", "pair", "counter", "diary"]
AGENT = ["hotpmem-restore.service", "hotpmem-hot-add.service", "hotpmem-save.service"]
# The units of the items, and what stops with them.
UNITS = [
    *(INSTANCE, "redis-server.service", "memcached.service", "sysv-segments.service", "ledger.service", "board.service"),
    *("intake.service", "index.service", "counter.service", "user@1500.service"),
]


def sha256(text: str) -> str:
    return hashlib.sha256(text.rstrip("\n").encode()).hexdigest()


def test_it_is_another_boot(boots: list[str]) -> None:
    assert boots[0] != boots[1]


def test_it_came_by_kexec(host: Any) -> None:
    assert host.file("/proc/sys/kernel/bootloader_type").content_string.strip() == "208"


def test_the_cycle_is_the_one_that_was_asked_for(host: Any, asked: dict[str, Any]) -> None:
    assert asked in ({"unit": "postgresql.service", "agent": True}, {"unit": INSTANCE, "agent": False})
    assert host.file("/etc/systemd/system/hotpmem-save.service").exists is asked["agent"]
    if asked["agent"]:
        settings = json.loads(host.file("/etc/hotpmem/node.json").content_string)
        assert settings["items"][0]["unit"] == asked["unit"]


def test_all_items_were_restored(host: Any, boots: list[str]) -> None:
    cycle = json.loads(host.file("/var/lib/hotpmem/cycle.json").content_string)
    assert [cycle["boot_id_before"], cycle["boot_id"], cycle["method"]] == [*boots, "systemd"]
    assert [(item["name"], item["status"]) for item in cycle["items"]] == [(name, "restored") for name in ITEMS]
    assert not host.file("/var/lib/hotpmem/pending").exists


def test_everything_runs(host: Any, asked: dict[str, Any]) -> None:
    units = ["postgresql.service", *UNITS, "counter.socket", *(AGENT if asked["agent"] else [])]
    states = host.run(f"systemctl is-active {' '.join(units)}").stdout.split()
    assert dict(zip(units, states)) == dict.fromkeys(units, "active")


def test_every_unit_starts_after_the_restore(host: Any, asked: dict[str, Any]) -> None:
    """Also the units that no item names, such as the instance behind the dummy. Without the agent, the drop-ins are gone again."""
    for unit in (*UNITS, "counter.socket"):
        after = host.check_output(f"systemctl show --property=After --value {unit}").split()
        assert ("hotpmem-restore.service" in after) is asked["agent"], unit


def test_postgresql_holds_what_it_held(host: Any, digests: dict[str, str], asked: dict[str, Any]) -> None:
    held = host.check_output("runuser -u postgres -- psql --quiet --no-psqlrc --command='copy (select * from kept order by id) to stdout'")
    assert len(held.splitlines()) == 20000
    assert sha256(held) == digests["postgresql"]
    # Written right before the cycle, and 20,000 more right before the second one.
    late = host.check_output("runuser -u postgres -- psql --tuples-only --no-align --command='select count(*) from late'")
    assert int(late) == 20000 * (1 if asked["agent"] else 2)


def test_postgresql_was_stopped_in_order(host: Any) -> None:
    """It says at its start how it found its files. They came from the image, and it had nothing to recover."""
    log = host.file(f"/var/log/postgresql/postgresql-{VERSION}-main.log").content_string
    said = log.rpartition("starting PostgreSQL")[2]
    assert "database system was shut down at" in said, said
    assert "database system is ready to accept connections" in said
    for wrong in ("not properly shut down", "was interrupted", "redo starts", "PANIC"):
        assert wrong not in log


def test_the_cluster_lies_on_the_tmpfs(host: Any) -> None:
    where = host.check_output("runuser -u postgres -- psql --tuples-only --no-align --command='show data_directory'")
    assert where == f"/srv/state/postgresql/{VERSION}/main"
    for path in (where, "/srv/state/redis"):
        assert host.check_output(f"findmnt --noheadings --output=FSTYPE,TARGET --target={path}").split() == ["tmpfs", "/srv/state"]


def test_redis_holds_what_it_held(host: Any, digests: dict[str, str]) -> None:
    held = host.check_output("redis-cli --scan | sort | xargs redis-cli MGET")
    assert len(held.splitlines()) == 4000
    assert sha256(held) == digests["redis"]


@pytest.mark.parametrize("unit", UNITS)
def test_the_unit_was_down_while_its_state_was_saved(before: Any, unit: str) -> None:
    """By the journal of the boot before: it ended, the state was copied, and nothing started it again."""
    ended = before.of(unit, ("Stopped ", "Deactivated ", f"{unit}: Deactivated"))
    assert ended and ended[-1] < before.save
    assert [at for at in before.of(unit, ("Starting ", "Started ")) if at > before.stop] == []


def test_nothing_changed_while_it_was_copied(before: Any) -> None:
    assert [message for _at, message in before.handoff if "while it was" in message or "while they were" in message] == []


def test_pmem_is_system_ram(host: Any) -> None:
    devices = json.loads(host.check_output("daxctl list -D"))
    devices = devices if isinstance(devices, list) else [devices]
    assert [device["mode"] for device in devices] == ["system-ram"]
    assert devices[0]["online_memblocks"] == devices[0]["total_memblocks"] == 4


def test_nothing_leaked(host: Any) -> None:
    # As kernels before 7.3 say it, and since.
    assert "until the next reboot" not in host.check_output("dmesg")
    assert "stuck online until reboot" not in host.check_output("dmesg")
