# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of the databases, by what they answer and by what they wrote into their logs."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

NOTES = Path(os.environ["HOTPMEM_CHECKOUT"]) / "build/molecule" / os.environ["HOTPMEM_LAB"]
VERSION = "15" if os.environ["HOTPMEM_KERNEL"] == "6.1" else "17"
INSTANCE = f"postgresql@{VERSION}-main.service"


@pytest.fixture(scope="module")
def digests() -> dict[str, str]:
    """What the scenario read before the first cycle."""
    return json.loads((NOTES / "applications.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def asked() -> str:
    """The unit that the inventory named for PostgreSQL in the cycle before these checks."""
    text = (NOTES / "unit").read_text(encoding="utf-8")
    assert text in ("postgresql.service", INSTANCE)
    return text


@pytest.fixture(scope="module")
def cycle(host: Any) -> dict[str, Any]:
    (found,) = json.loads(host.check_output("hotpmem-node timeline --json"))["cycles"]
    return found


def sha256(text: str) -> str:
    return hashlib.sha256(text.rstrip("\n").encode()).hexdigest()


def test_it_is_another_boot(host: Any) -> None:
    before = host.file("/root/boot_id_before").content_string.strip()
    assert before != host.file("/proc/sys/kernel/random/boot_id").content_string.strip()


def test_it_came_by_kexec(host: Any) -> None:
    assert host.file("/proc/sys/kernel/bootloader_type").content_string.strip() == "208"


def test_the_unit_is_the_one_that_was_asked_for(host: Any, asked: str) -> None:
    settings = json.loads(host.file("/etc/hotpmem/node.json").content_string)
    assert [item["unit"] for item in settings["items"]] == [asked, "redis-server.service"]


def test_both_items_were_restored(host: Any, cycle: dict[str, Any]) -> None:
    boots = [host.file(name).content_string.strip() for name in ("/root/boot_id_before", "/proc/sys/kernel/random/boot_id")]
    assert [cycle["boot_id_before"], cycle["boot_id"], cycle["method"]] == [*boots, "systemd"]
    assert [(item["name"], item["status"]) for item in cycle["items"]] == [("postgresql", "restored"), ("redis", "restored")]
    assert not host.file("/var/lib/hotpmem/pending").exists


def test_everything_runs(host: Any) -> None:
    for unit in ("postgresql.service", INSTANCE, "redis-server.service", "hotpmem-restore", "hotpmem-hot-add", "hotpmem-save"):
        assert host.check_output(f"systemctl show --property=ActiveState --value {unit}") == "active", unit


def test_the_server_starts_after_the_restore(host: Any) -> None:
    """Also when the item names the dummy of which the instance is a part."""
    assert "hotpmem-restore.service" in host.check_output(f"systemctl show --property=After --value {INSTANCE}").split()


def test_postgresql_holds_what_it_held(host: Any, digests: dict[str, str], asked: str) -> None:
    held = host.check_output("runuser -u postgres -- psql --quiet --no-psqlrc --command='copy (select * from kept order by id) to stdout'")
    assert len(held.splitlines()) == 20000
    assert sha256(held) == digests["postgresql"]
    # Written right before the cycle, and 20,000 more right before the second one.
    late = host.check_output("runuser -u postgres -- psql --tuples-only --no-align --command='select count(*) from late'")
    assert int(late) == 20000 * (2 if asked == INSTANCE else 1)


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


def test_the_save_waited_for_both_servers(host: Any, cycle: dict[str, Any]) -> None:
    """By the journal of the boot before: first the servers ended, then the state was copied, and nobody changed it meanwhile."""
    ended = {}
    for unit in (INSTANCE, "redis-server.service"):
        lines = host.check_output(f"journalctl --boot=-1 --unit={unit} --output=json --output-fields=MESSAGE").splitlines()
        entries = [json.loads(line) for line in lines]
        ended[unit] = [int(one["__MONOTONIC_TIMESTAMP"]) for one in entries if re.match(r"Stopped ", str(one["MESSAGE"]))][-1]
    handoff = host.check_output("journalctl --boot=-1 --unit=hotpmem-handoff --output=json --output-fields=MESSAGE").splitlines()
    saved = [int(one["__MONOTONIC_TIMESTAMP"]) for one in map(json.loads, handoff) if re.match(r"save", str(one["MESSAGE"]))]
    assert saved and max(ended.values()) < saved[-1]
    assert not re.search(r"while (it was|they were) (being )?copied", "".join(handoff))


def test_pmem_is_system_ram(host: Any) -> None:
    devices = json.loads(host.check_output("daxctl list -D"))
    devices = devices if isinstance(devices, list) else [devices]
    assert [device["mode"] for device in devices] == ["system-ram"]
    assert devices[0]["online_memblocks"] == devices[0]["total_memblocks"] == 4


def test_nothing_leaked(host: Any) -> None:
    # As kernels before 7.3 say it, and since.
    assert "until the next reboot" not in host.check_output("dmesg")
    assert "stuck online until reboot" not in host.check_output("dmesg")
