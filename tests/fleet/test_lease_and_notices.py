# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet lease (a file, and a FleetLock server), notifications, and that no secret is printed: real plays on this machine."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from extras_playing import Played, play, role
from servers import FleetLock, mute, web

TAKEN, RENEWED, RELEASED = (role("lease.yml", rollout_lease=state) for state in ("taken", "renewed", "released"))


def lease(where: Path, *tasks: dict, run: str = "run-1", words: tuple[str, ...] = (), **more: Any) -> Played:
    own = where / run
    own.mkdir(exist_ok=True)
    variables = {"hotpmem_fleet_lease": {"host": "node1", "path": str(where / "lease.json"), **more}, "test_run": run}
    return play(own, list(tasks), variables, *words, hosts="node1,node2")


def test_a_second_controller_is_told_who_holds_the_lease(tmp_path: Path) -> None:
    assert lease(tmp_path, TAKEN, RENEWED).rc == 0
    held = json.loads((tmp_path / "lease.json").read_text())
    # The run itself may take it again when it resumes.
    assert lease(tmp_path, TAKEN).rc == 0
    done = lease(tmp_path, TAKEN, run="run-2")
    assert done.rc != 0
    assert f"{held['owner']} holds it since {held['since']} for the run run-1 of the rollout web." in done.line
    assert "runs out at" in done.line and "run again with -e take_over=true" in done.line
    assert lease(tmp_path, RELEASED, run="run-2").rc == 0 and (tmp_path / "lease.json").exists()
    done = lease(tmp_path, TAKEN, run="run-2", words=("-e", "take_over=true"))
    assert done.rc == 0 and "[WARNING]: The lease was taken over, because take_over was set." in done.line
    [step] = done.steps  # the journal
    assert step["state"] == "lease" and step["lease"]["run"] == "run-1" and "because take_over was set" in step["msg"]
    done = lease(tmp_path, RENEWED)
    assert done.rc != 0 and "This run has lost the lease" in done.line
    assert lease(tmp_path, RELEASED, run="run-2").rc == 0 and not (tmp_path / "lease.json").exists()


def test_a_lease_that_has_run_out_is_taken_over(tmp_path: Path) -> None:
    assert lease(tmp_path, TAKEN).rc == 0
    held = json.loads((tmp_path / "lease.json").read_text())
    (tmp_path / "lease.json").write_text(json.dumps({**held, "expires_at": 1}))
    done = lease(tmp_path, TAKEN, run="run-2")
    assert done.rc == 0 and "taken over, because it had run out" in done.line
    (tmp_path / "lease.json").write_text("{")
    done = lease(tmp_path, TAKEN, run="run-3")
    assert done.rc != 0 and "the file is damaged" in done.line


def test_of_two_at_once_one_gets_it(tmp_path: Path) -> None:
    done: list[Played] = []
    threads = [threading.Thread(target=lambda run=run: done.append(lease(tmp_path, TAKEN, run=run))) for run in ("run-1", "run-2", "run-3")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.rc for one in done) == [0, 2, 2], [one.text for one in done]


def test_one_lost_race_does_not_end_the_run(tmp_path: Path) -> None:
    assert lease(tmp_path, TAKEN).rc == 0
    timer = threading.Timer(4, (tmp_path / "lease.json").unlink)
    timer.start()
    done = lease(tmp_path, TAKEN, run="run-2", wait=60, interval=0.3)
    timer.join()
    assert done.rc == 0 and "node1" in done.text


def test_a_lease_host_that_does_not_answer(tmp_path: Path) -> None:
    variables = {"hotpmem_fleet_lease": {"host": "gone"}}
    gone = {"lb": {"hosts": {"gone": {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}}}}
    done = play(tmp_path, [TAKEN], variables, children=gone)
    assert done.rc == 2 and "Cannot reach the host gone of the fleet lease" in done.line and "unreachable=1" not in done.text
    done = play(tmp_path, [RENEWED], variables, children=gone)
    assert done.rc == 0 and "[WARNING]: Cannot reach the host gone" in done.line


def test_fleetlock_as_lease_and_as_hook(tmp_path: Path) -> None:
    server = FleetLock()
    with web(server.answer) as url:
        variables = {"hotpmem_fleet_lease": {"fleetlock": f"{url}/base", "group": "fleet"}}
        assert play(tmp_path, [TAKEN, RENEWED], dict(variables)).rc == 0 and server.held == {"fleet": ["hotpmem-web-run-1"]}
        done = play(tmp_path, [TAKEN], {**variables, "test_run": "run-2"})
        assert done.rc != 0 and "all slots are locked already (failed_lock_semaphore_full, HTTP status 409)" in done.line
        assert play(tmp_path, [RELEASED], dict(variables)).rc == 0 and server.held == {"fleet": []}

        hooks = {"hotpmem_hooks": {"before_host": [{"use": "fleetlock", "url": f"{url}/base", "wait": 0.5, "interval": 0.2}]}}
        points = [role("run_hooks.yml", rollout_point=point) for point in ("before_host", "after_host")]
        assert play(tmp_path, points[:1], dict(hooks)).rc == 0 and server.held["default"] == ["node1"]
        done = play(tmp_path, points[:1], dict(hooks), hosts="node2")
        assert done.rc != 0 and done.hooks() == [("before_host", "fleetlock", "vetoed")] and "Somebody else reboots now" in done.line
        assert play(tmp_path, points[1:], dict(hooks)).rc == 0 and server.held["default"] == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [((200, "ok"), ""), ((500, "oops"), "HTTP status 500 with the answer 'oops', which is not an answer of a FleetLock server"),
     ((302, ""), "HTTP status 302"), ((404, {"kind": "x"}), "HTTP status 404"),
     ((503, {"kind": "failed_lock", "value": "etcd is down"}), "etcd is down")],
)  # fmt: skip
def test_answers_of_a_fleetlock_server(tmp_path: Path, answer: tuple, said: str) -> None:
    with web(lambda *request: answer) as url:
        done = play(tmp_path, [TAKEN], {"hotpmem_fleet_lease": {"fleetlock": url}})
    assert (done.rc == 0) == (not said) and said in done.line


def test_notices_are_sent_and_a_failure_is_reported_once(tmp_path: Path) -> None:
    got: list[Any] = []

    def answer(method: str, path: str, headers: dict, body: bytes) -> tuple[int, Any]:
        got.append((path, headers.get("X-Token"), json.loads(body)))
        return 200, "ok"

    with web(answer) as url:
        targets = [
            {"name": "json", "webhook": f"{url}/hook", "headers": {"X-Token": "t0ken"}},
            {"name": "slack", "webhook": f"{url}/slack", "format": "slack", "notices": ["done"]},
            {"name": "broken", "webhook": "http://127.0.0.1:1/s3cret-path"},
        ]
        tasks = [role("notify.yml", rollout_notice=notice, rollout_text=f"It is {notice}.") for notice in ("start", "host_failed", "done")]
        done = play(tmp_path, tasks, {"hotpmem_notify": targets})
    assert done.rc == 0 and done.line.count("broken could not be sent to http://127.0.0.1:1/...: the connection was refused") == 1
    assert [(path, token) for path, token, _body in got] == [("/hook", "t0ken")] * 3 + [("/slack", None)]
    assert got[3][2] == {"text": "It is done."} and got[1][2]["host"] == "node1" and "host" not in got[0][2]
    assert got[0][2]["notice"] == "start" and got[0][2]["run"] == "run-1" and got[0][2]["rollout"] == "web"


def test_no_secret_is_printed(tmp_path: Path) -> None:
    """Not with -vvv, and not in the message of a failure."""
    headers = {"Authorization": "Bearer s3cret-header"}
    with web(lambda *request: (403, "s3cret-header and s3cret-word are wrong")) as url, mute() as port:
        base = url.replace("http://", "http://user:s3cret-word@")
        slow = f"http://user:s3cret-word@127.0.0.1:{port}"
        asked = {"url": base, "headers": headers}
        variables = {
            "hotpmem_hooks": {
                "drain": [
                    {"use": "alertmanager_silence", **asked, "matchers": {"instance": "x"}, "blocking": False},
                    {"use": "fleetlock", **asked, "blocking": False, "wait": 0},
                    {"name": "slow", "use": "fleetlock", "url": slow, "timeout": 0.5, "blocking": False, "wait": 0},
                ]
            },
            "hotpmem_blockers": [
                {"use": "prometheus", **asked, "on_error": "ignore"},
                {"use": "alertmanager", **asked, "on_error": "ignore"},
            ],
            "hotpmem_gates": [{"name": "page", "http": asked, "retries": 0}],
            "hotpmem_notify": [{"webhook": f"{base}/s3cret-path", "headers": headers}],
            "hotpmem_fleet_lease": {"fleetlock": base, "headers": headers},
        }
        tasks = [
            role("run_hooks.yml", rollout_point="drain"), role("blockers.yml"),
            role("notify.yml", rollout_notice="start", rollout_text="x"),
            {"block": [role("gates.yml")], "rescue": [TAKEN]},
        ]  # fmt: skip
        done = play(tmp_path, tasks, variables, "-vvv")
    assert [outcome for _point, _name, outcome in done.hooks()] == ["ignored"] * 3
    assert "Gate page did not pass" in done.line and "Cannot take the lock" in done.line and "could not be sent" in done.line
    assert "s3cret" not in done.text, [line for line in done.text.splitlines() if "s3cret" in line]
    assert "s3cret" not in json.dumps(done.steps)
