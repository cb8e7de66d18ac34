# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The data of the page: percentiles, bars, trend, and what needs somebody."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import pytest
from ansible_collections.hotpmem.fleet.plugins.filter.cycles_with_history import cycles_with_history
from ansible_collections.hotpmem.fleet.plugins.filter.recorded_cycle import recorded_cycle
from ansible_collections.hotpmem.fleet.plugins.module_utils._image.timeline import PHASES
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._report import charts
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._report.fleet import report
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._report.helpers import helper_digests

sys.path.insert(0, str(Path(__file__).resolve().parent))
from fleet_samples import SECONDS, past, sample


def tiles(page):
    return {tile["label"]: tile["value"] for tile in page["tiles"]}


def test_six_hosts_with_one_failed():
    page = report(*sample(6, failed=(4,), cold=(5,)))
    said = tiles(page)
    assert (said["hosts"], said["with all their state"], said["without some state"], said["need somebody"]) == ("6", "5", "1", "2")
    assert said["state carried over"] == "12 GiB" and said["RAM gained"] == "12 GiB"
    assert [(one["host"], one["what"]) for one in page["problems"]] == [
        ("node4", "failed in a rollout"), ("node4", "far slower than before"), ("node5", "sessions started without its state"),
    ]  # fmt: skip
    assert page["problems"][0]["next"] == "ansible-playbook hotpmem.fleet.rolling_reboot -e retry_failed=true --limit node4"
    assert page["problems"][2]["reason"] == "its first chunk is damaged"
    assert page["problems"][2]["next"] == "ansible node5 -b -a 'hotpmem-node outcome'"
    assert [row["tone"] for row in page["hosts"]] == ["good"] * 3 + ["bad", "warn", "good"]


def test_the_bars_share_a_scale_and_add_up():
    page = report(*sample(6))
    assert page["scale"][0] == {"x": 0.0, "label": "0 s"} and page["scale"][-1]["x"] == charts.BAR
    end = float(page["scale"][-1]["label"].split()[0])
    for row in page["hosts"]:
        drawn = sum(piece["width"] for piece in row["pieces"])
        assert drawn / charts.BAR * end == pytest.approx(float(row["down"].split()[0]), abs=0.02)
        places = [piece["x"] for piece in row["pieces"]]
        assert places == sorted(places) and len(places) == 9 and not row["cut"]
        assert row["pieces"][0]["title"].startswith("stop units: 0.")


def test_a_bar_that_is_far_too_long_is_cut_off():
    names, cycles, facts, failures = sample(6)
    for phase in cycles["node2"]["timeline"]["phases"]:
        phase["seconds"] *= 100
    page = report(names, cycles, facts, failures)
    assert [row["cut"] for row in page["hosts"]] == [False, True, False, False, False, False]
    assert all(piece["x"] + piece["width"] <= charts.BAR + 0.1 for row in page["hosts"] for piece in row["pieces"])


def test_percentiles_by_phase():
    names, cycles, facts, failures = sample(100)
    for number, name in enumerate(names, 1):
        cycles[name]["timeline"]["down_seconds"] = float(number)
        for phase in cycles[name]["timeline"]["phases"]:
            phase["seconds"] = number / 100 if phase["name"] == "save" else SECONDS[phase["mark"]]
    table = {row["name"]: row for row in report(names, cycles, facts, failures)["phases"]}
    assert [table["down time"][key] for key in ("p50", "p95", "p99")] == ["50.0 s", "95.0 s", "99.0 s"]
    assert [table["save"][key] for key in ("p50", "p95", "p99")] == ["0.50 s", "0.95 s", "0.99 s"]
    assert list(table) == ["down time", *(name for _mark, name in PHASES)]
    assert table["prepare (services up)"]["bar"] is None and table["save"]["bar"]["p50"] < table["save"]["bar"]["p95"] < charts.BAR


def test_the_trend_counts_back_from_the_last_cycle_of_each_host():
    names, cycles, facts, failures = sample(3, cycles=20)
    facts["node1"]["history"] = facts["node1"]["history"][-2:]
    facts["node2"]["history"][-1]["items"][0]["status"] = "cold"
    trend = report(names, cycles, facts, failures)["trend"]
    assert [row["when"] for row in trend["rows"]][-3:] == ["-2", "-1", "last"] and len(trend["rows"]) == 20
    assert [row["hosts"] for row in trend["rows"]] == [2] * 18 + [3, 3]
    assert [row["cold"] for row in trend["rows"]] == [0] * 19 + [1] and len(trend["cold"]) == 1
    assert trend["p50"].count("L") == 19 and trend["p50"].startswith("M")
    assert all(trend["top"] <= point["y"] <= trend["floor"] for key in ("p50_points", "p95_points") for point in trend[key])


@pytest.mark.parametrize("cycles", [0, 1])
def test_no_trend_without_two_cycles(cycles):
    names, last, facts, failures = sample(1, cycles=1)
    facts["node1"]["history"] = facts["node1"]["history"][:cycles]
    page = report(names, last, facts, failures)
    assert page["trend"] is None and page["hosts"][0]["spark"]["path"] == ""


def test_more_than_twenty_cycles():
    names, last, facts, failures = sample(1, cycles=28)
    assert len(report(names, last, facts, failures)["trend"]["rows"]) == 20


def test_a_host_without_figures():
    page = report(*sample(2, unreachable=(2,)))
    assert page["hosts"][1]["note"].startswith("did not answer: ssh") and page["hosts"][1]["pieces"] == []
    assert page["problems"][0]["next"] == "ansible node2 -m ansible.builtin.ping"
    assert tiles(page)["with all their state"] == "1"


def test_a_host_that_has_never_rebooted():
    page = report(["node1"], {"node1": None}, {"node1": {"history": [], "mark": None}}, {})
    assert page["hosts"][0]["note"] == "no cycle on record" and page["hosts"][0]["tone"] == "plain"
    assert page["problems"] == page["phases"] == page["legend"] == [] and tiles(page)["p99"] == "-"


def test_the_history_alone_is_enough():
    names, cycles, facts, _failures = sample(2)
    page = report(names, {}, facts, {})
    assert [row["down"] for row in page["hosts"]] == [row["down"] for row in report(names, cycles, facts, {})["hosts"]]
    assert page["hosts"][0]["restored"] == "memcached, sessions" and page["hosts"][0]["state"] == "-"


def test_a_held_item_names_the_command_that_starts_it():
    names, cycles, facts, failures = sample(1)
    cycles["node1"]["items"][0].update(status="down", reason="it was damaged")
    cycles["node1"]["items"].append({"name": "x; reboot", "status": "down", "reason": ""})
    problems = report(names, cycles, facts, failures)["problems"]
    assert [one["next"] for one in problems] == [
        "ansible node1 -b -a 'hotpmem-node cold-start memcached'",
        "ansible node1 -b -a 'hotpmem-node outcome'",
    ]


def test_a_rollout_that_went_back():
    names, cycles, facts, failures = sample(1)
    facts["node1"]["mark"].update(outcome="back", rollout="nightly")
    problem = report(names, cycles, facts, failures)["problems"][0]
    assert "went back to the old one" in problem["reason"] and "-e hotpmem_rollout=nightly -e retry_failed=true" in problem["next"]
    facts["node1"]["mark"]["rollout"] = "a b; reboot"
    assert "reboot;" not in report(names, cycles, facts, failures)["problems"][0]["next"].replace("rolling_reboot", "")


JUNK = [None, "text", -1, 1e400, float("nan"), True, [], {}, [None, 3, "x"], {"a": {"b": []}}, 10**30]


@pytest.mark.parametrize("junk", JUNK, ids=repr)
def test_nothing_of_a_host_is_trusted(junk):
    names, cycles, facts, failures = sample(2)
    for key in list(cycles["node1"]):
        report(names, {**cycles, "node1": {**cycles["node1"], key: junk}}, facts, failures)
    for key in ("phases", "down_seconds"):
        report(names, {**cycles, "node1": {**cycles["node1"], "timeline": {**cycles["node1"]["timeline"], key: junk}}}, facts, failures)
    for key in ("name", "seconds"):
        report(
            names,
            {**cycles, "node1": {"timeline": {"phases": [{"name": "save", "seconds": 1, key: junk}]}, "items": [{key: junk}]}},
            facts,
            failures,
        )
    for key in list(facts["node1"]["history"][0]):
        report(
            names, {**cycles, "node1": None}, {**facts, "node1": {"history": [{**facts["node1"]["history"][0], key: junk}] * 3}}, failures
        )
    for value in ({"history": junk, "mark": junk}, junk):
        report(names, {**cycles, "node1": junk}, {**facts, "node1": value}, failures)


@pytest.mark.parametrize(
    ("highest", "expected"),
    [(10, [0, 2, 4, 6, 8, 10]), (3.7, [0, 1, 2, 3, 4]), (0.42, [0, 0.1, 0.2, 0.3, 0.4, 0.5]), (0, [0, 1]), (float("inf"), [0, 1])],
)
def test_ticks(highest, expected):
    assert charts.nice_ticks(highest) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b'{"a": 1}', {"a": 1}), (b"[1]", None), (b'{"torn', None), (b"", None), (b"\xff\xfe", None)],
)
def test_a_damaged_record_is_no_record(content, expected):
    assert recorded_cycle({"content": base64.b64encode(content).decode()}) == expected


def test_without_a_record():
    assert recorded_cycle({}) is None and recorded_cycle(None) is None and recorded_cycle({"content": "%"}) is None


@pytest.mark.parametrize(
    ("digests", "words", "rows"),
    [
        (["a" * 64], "h0 has this pmem-state.", [("a" * 64, ["h0"])]),
        (["a" * 64] * 2, "All 2 hosts have the same pmem-state.", [("a" * 64, ["h0", "h1"])]),
        (["a" * 64, None, "a" * 64], "These 2 hosts have the same pmem-state.", [("a" * 64, ["h0", "h2"]), ("", ["h1"])]),
        (["a" * 64, "b" * 64, "b" * 64, "<b>"], "The hosts have 2 different builds of pmem-state. Only hosts of different architectures "
         "should differ.", [("b" * 64, ["h1", "h2"]), ("a" * 64, ["h0"]), ("", ["h3"])]),
        ([None, 5], "It is not known which pmem-state the hosts have.", [("", ["h0", "h1"])]),
    ],
)  # fmt: skip
def test_which_hosts_have_the_same_pmem_state(digests, words, rows):
    told = {f"h{number}": {"helper_sha256": digest} for number, digest in enumerate(digests)}
    found = helper_digests(list(told), told)
    assert found["words"] == words and [(row["sha256"], row["hosts"]) for row in found["rows"]] == rows
    assert helper_digests(["h9"], {"h9": None})["rows"] == [{"sha256": "", "hosts": ["h9"]}]


def test_the_json_file_has_the_history_and_the_digest():
    names, cycles, facts, _failures = sample(1)
    assert cycles_with_history({**cycles, "gone": None}, facts) == {
        "node1": {**cycles["node1"], "history": facts["node1"]["history"], "helper_sha256": facts["node1"]["helper_sha256"]},
        "gone": None,
    }
    assert json.dumps(past(1, cycles[names[0]]))
