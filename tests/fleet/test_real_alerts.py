# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Silences and blockers against a real Alertmanager and a real Prometheus on loopback."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from extras_playing import free_port, play, program, role, started, wait_for
from servers import mute, web

SILENCE = {"use": "alertmanager_silence", "matchers": {"instance": "{{ inventory_hostname }}", "job": "~node.*"}, "duration": 600}
DRAIN, UNDRAIN, BLOCKERS = (
    role("run_hooks.yml", rollout_point="drain"),
    role("run_hooks.yml", rollout_point="undrain"),
    role("blockers.yml"),
)


def get(url: str, payload: Any = None) -> Any:
    data = None if payload is None else json.dumps(payload).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
        return json.loads(answer.read() or "null")


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[str]:
    binary = program("prometheus-alertmanager", "prometheus-alertmanager")
    url = f"http://127.0.0.1:{free_port()}"
    (tmp_path / "am.yml").write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
    own = [
        binary,
        f"--config.file={tmp_path}/am.yml",
        f"--storage.path={tmp_path}/am",
        f"--web.listen-address={url[7:]}",
        "--cluster.listen-address=",
    ]
    with started(own, tmp_path / "am.log"):
        wait_for(lambda: get(f"{url}/api/v2/status"))
        yield url


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[str]:
    binary = program("prometheus", "prometheus")
    url = f"http://127.0.0.1:{free_port()}"
    rules = [
        {"alert": "DiskFull", "expr": "vector(1)", "labels": {"severity": "page", "instance": "node9"}},
        {"alert": "Watchdog", "expr": "vector(1)", "labels": {"severity": "none"}},
        {"alert": "Later", "expr": "vector(1)", "for": "1h"},
    ]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "g", "interval": "1s", "rules": rules}]}))
    (tmp_path / "prom.yml").write_text(json.dumps({"global": {"evaluation_interval": "1s"}, "rule_files": [str(tmp_path / "rules.yml")]}))
    own = [binary, f"--config.file={tmp_path}/prom.yml", f"--storage.tsdb.path={tmp_path}/prom", f"--web.listen-address={url[7:]}"]
    with started(own, tmp_path / "prom.log"):
        wait_for(lambda: len(get(f"{url}/api/v1/query?query=ALERTS")["data"]["result"]) == 3)
        yield url


def states(url: str) -> list[str]:
    return sorted(one["status"]["state"] for one in get(f"{url}/api/v2/silences"))


def test_a_silence_is_made_extended_and_expired(tmp_path: Path, alertmanager: str) -> None:
    variables = {"hotpmem_hooks": {"drain": [{**SILENCE, "url": alertmanager}]}}
    assert play(tmp_path, [DRAIN], variables).rc == 0
    assert play(tmp_path, [DRAIN], {**variables, "test_run": "run-2"}).rc == 0
    # Alertmanager replaces a silence whose start changes.
    assert states(alertmanager).count("active") == 1
    made = next(one for one in get(f"{alertmanager}/api/v2/silences") if one["status"]["state"] == "active")
    assert {one["name"]: (one["value"], one["isRegex"]) for one in made["matchers"]} == {
        "instance": ("node1", False),
        "job": ("node.*", True),
    }
    # The silence of somebody else is left alone.
    get(
        f"{alertmanager}/api/v2/silences",
        {key: made[key] for key in ("matchers", "startsAt", "endsAt", "comment")} | {"createdBy": "alice"},
    )
    assert play(tmp_path, [UNDRAIN, UNDRAIN], variables).rc == 0
    left = [one["createdBy"] for one in get(f"{alertmanager}/api/v2/silences") if one["status"]["state"] == "active"]
    assert left == ["alice"]


def test_an_alert_that_is_not_silenced_blocks(tmp_path: Path, alertmanager: str) -> None:
    get(f"{alertmanager}/api/v2/alerts", [{"labels": {"alertname": "Down", "instance": "node1", "job": "nodes"}}])
    wait_for(lambda: get(f"{alertmanager}/api/v2/alerts"))
    blocker = {"use": "alertmanager", "url": alertmanager, "on_block": "refuse"}
    variables = {"hotpmem_blockers": [blocker], "hotpmem_hooks": {"drain": [{**SILENCE, "url": alertmanager}]}}
    done = play(tmp_path, [BLOCKERS], variables)
    assert done.rc != 0 and "Blocked by alertmanager: firing alerts: Down (node1) at " in done.line
    assert play(tmp_path, [DRAIN, BLOCKERS], variables).rc == 0


@pytest.mark.parametrize(
    ("more", "blocks"),
    [
        ({}, ["DiskFull", "Watchdog"]),
        ({"ignore_alerts": ["Watchdog"]}, ["DiskFull"]),
        ({"block_alerts": ["Watch.*"]}, ["Watchdog"]),
        ({"block_alerts": [".*"], "ignore_alerts": [".*"]}, []),
        # A pattern must match the whole name.
        ({"block_alerts": ["Disk"]}, []),
        ({"labels": {"severity": "page|critical"}}, ["DiskFull"]),
        ({"query": 'ALERTS{alertname="DiskFull"} == 1'}, ["DiskFull"]),
        ({"query": "vector(1) > 2"}, []),
    ],
)
def test_which_alerts_of_prometheus_block(tmp_path: Path, prometheus: str, more: dict, blocks: list[str]) -> None:
    done = play(tmp_path, [BLOCKERS], {"hotpmem_blockers": [{"use": "prometheus", "url": prometheus, "on_block": "refuse", **more}]})
    assert (done.rc != 0) == bool(blocks), done.text
    assert [
        name
        for name in ("DiskFull", "Watchdog", "Later")
        if f"{name} (" in done.line or f"{name} at" in done.line or f"{name}," in done.line
    ] == blocks


def test_a_blocker_waits_until_the_alert_is_gone(tmp_path: Path) -> None:
    asked = []

    def answer(*request: Any) -> tuple[int, Any]:
        asked.append(request[1])
        firing = [{"labels": {"alertname": "Down"}, "state": "firing"}] if len(asked) < 3 else []
        return 200, {"status": "success", "data": {"alerts": firing}}

    with web(answer) as url:
        done = play(tmp_path, [BLOCKERS], {"hotpmem_blockers": [{"use": "prometheus", "url": url, "retry_interval": 0.2}]})
        assert done.rc == 0 and len(asked) == 3 and "node1: waits, because it is blocked by prometheus: firing alerts: Down" in done.line
        asked.clear()
        blocker = {"use": "prometheus", "url": url, "retry_interval": 0.2, "wait_limit": 0.3, "block_alerts": ["Down"]}
        asked.extend([""] * -100)
    with web(
        lambda *request: (200, {"status": "success", "data": {"alerts": [{"labels": {"alertname": "Down"}, "state": "firing"}]}})
    ) as url:
        done = play(tmp_path, [BLOCKERS], {"hotpmem_blockers": [{**blocker, "url": url}]})
        assert done.rc != 0 and "firing alerts: Down" in done.line and "Nothing was changed on the host." in done.line


BAD = {
    "status": (lambda *request: (503, "busy"), "HTTP status 503 with the answer 'busy'"),
    "redirect": (lambda *request: (302, ""), "HTTP status 302"),
    "not_json": (lambda *request: (200, "<html>"), "the answer is not JSON: '<html>'"),
    "other_json": (lambda *request: (200, {"status": "success", "data": None}), "the answer has no list data.alerts"),
    "labels": (lambda *request: (200, {"status": "success", "data": {"alerts": [{"state": "firing"}]}}), "an alert has no labels"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_answer_blocks_unless_it_may_be_ignored(tmp_path: Path, kind: str) -> None:
    answer, said = BAD[kind]
    with web(answer) as url:
        blocker = {"use": "prometheus", "url": url, "on_block": "refuse"}
        done = play(tmp_path, [BLOCKERS], {"hotpmem_blockers": [blocker]})
        assert done.rc != 0 and said in done.line and "set on_error: ignore" in done.line
        done = play(tmp_path, [BLOCKERS], {"hotpmem_blockers": [{**blocker, "on_error": "ignore"}]})
        assert done.rc == 0 and "(ignored)" in done.line


@pytest.mark.parametrize("drip", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 1000], ids=["mute", "slow"])
def test_a_slow_server_and_a_refused_connection(tmp_path: Path, drip: bytes) -> None:
    with mute(drip) as port:
        for url, said in ((f"http://127.0.0.1:{port}", "answer within 1 s"), ("http://127.0.0.1:1", "the connection was refused")):
            blocker = {"use": "alertmanager", "url": url, "on_block": "refuse", "timeout": 1}
            done = play(tmp_path, [BLOCKERS], {"hotpmem_blockers": [blocker]})
            assert done.rc != 0 and said in done.line and url in done.line
            done = play(tmp_path, [DRAIN], {"hotpmem_hooks": {"drain": [{**SILENCE, "url": url, "timeout": 1, "blocking": False}]}})
            assert done.rc == 0 and done.hooks() == [("drain", "alertmanager_silence", "ignored")] and said in done.line
