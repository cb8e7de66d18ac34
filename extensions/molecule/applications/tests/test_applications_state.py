# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of shared memory, small files, and of state behind units that belong together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

FILES = Path(__file__).resolve().parents[1] / "files"


@pytest.fixture(scope="module")
def now(host: Any) -> dict[str, Any]:
    """The digests of what no application answers for."""
    return json.loads(host.check_output("python3 -c %s", (FILES / "digests").read_text(encoding="utf-8")))


@pytest.mark.parametrize("what", ["sysv 0x4c454447", "sysv 0x4c454448", "posix", "files", "number of files"])
def test_it_holds_what_it_held(now: dict[str, Any], digests: dict[str, Any], what: str) -> None:
    assert now[what] == digests[what]


def test_an_application_is_attached_to_the_segments(host: Any) -> None:
    """So they are the segments that it found, and not files that nobody uses."""
    attached = {line.split()[0]: line.split()[5] for line in host.check_output("ipcs -m").splitlines() if line.startswith("0x4c4544")}
    assert attached == {"0x4c454447": "1", "0x4c454448": "1"}
    assert "/dev/shm/board" in host.check_output("cat /proc/$(systemctl show --property=MainPID --value board)/maps")
    assert host.check_output("ls /srv/state/segments") == ""


def lines_of(text: str) -> list[tuple[int, str, int]]:
    """Number, boot and time in ns of each complete line."""
    return [(int(number), boot, int(at)) for number, boot, at in (line.split() for line in text.split("\n")[:-1])]


@pytest.mark.parametrize(("name", "state"), [("intake", "pair/intake"), ("index", "pair/index"), ("diary", "diary/text")])
def test_a_writer_goes_on_where_it_ended(host: Any, boots: list[str], before: Any, name: str, state: str) -> None:
    """It took the digest of its file at its end and at its start, and wrote both down outside the state."""
    stopped, started = (json.loads(host.file(f"/var/lib/applications/{name}/{one}").content_string) for one in ("stopped", "started"))
    assert [stopped["boot"], started["boot"]] == boots
    assert stopped["sha256"] == started["sha256"]
    lines = lines_of(host.file(f"/srv/state/{state}").content_string)
    assert [number for number, _boot, _at in lines] == list(range(len(lines)))
    assert before.stop < max(at for _number, boot, at in lines if boot == boots[0]) / 1000 + 5_000_000
    assert max(at for _number, boot, at in lines if boot == boots[0]) / 1000 < before.save
    assert lines[-1][1] == boots[1]


def test_the_client_of_the_socket_saw_no_number_twice(host: Any, boots: list[str], before: Any) -> None:
    """It never stopped asking. A service that ran during the save would have given numbers that this boot gives again."""
    answers = lines_of(host.file("/var/lib/applications/answers").content_string)
    assert [number for number, _boot, _at in answers] == list(range(1, len(answers) + 1))
    last = max(at for _number, boot, at in answers if boot == boots[0]) / 1000
    assert before.stop - 5_000_000 < last < before.save
    assert answers[-1][1] == boots[1]
