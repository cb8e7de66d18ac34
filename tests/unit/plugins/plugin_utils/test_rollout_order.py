# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Order, batches and failure domains."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout import order

HOSTS = ["node10", "node2", "node1", "db"]


@pytest.mark.parametrize(
    "how, found",
    [
        ("inventory", HOSTS),
        ("name", ["db", "node1", "node2", "node10"]),
        (["node1", "db"], ["node1", "db", "node10", "node2"]),
        (["elsewhere", "node1"], ["node1", "node10", "node2", "db"]),
    ],
)
def test_order(how: str | list[str], found: list[str]) -> None:
    assert order.ordered(HOSTS, how) == found


def test_a_seed_gives_the_same_order_whatever_the_inventory_says() -> None:
    first = order.ordered(HOSTS, "shuffle", "7")
    assert first == order.ordered(HOSTS[::-1], "shuffle", "7") and sorted(first) == sorted(HOSTS)
    assert len({tuple(order.ordered(HOSTS, "shuffle", str(seed))) for seed in range(50)}) > 5


@pytest.mark.parametrize(
    "value, found",
    [(1, (1, False)), ("3", (3, False)), ("25%", (25, True)), ("100 %", (100, True)), (12, (12, False))],
)
def test_share(value: object, found: tuple[int, bool]) -> None:
    problems: list[str] = []
    assert order.share(value, "v", problems) == found and not problems


@pytest.mark.parametrize("value", [0, "0%", "101%", -1, "x", True, 1.5, None, "10 hosts", [1]])
def test_no_share(value: object) -> None:
    problems: list[str] = []
    assert order.share(value, "hotpmem_batches", problems) is None
    assert len(problems) == 1 and problems[0].startswith("hotpmem_batches: ")


@pytest.mark.parametrize("part, total, found", [((10, True), 9, 1), ((10, True), 100, 10), ((25, True), 7, 1), ((3, False), 2, 3)])
def test_count_rounds_down_and_is_at_least_one(part: tuple[int, bool], total: int, found: int) -> None:
    assert order.count(part, total) == found


@pytest.mark.parametrize(
    "total, sizes, found",
    [(6, [1, 2, 3], [1, 2, 3]), (10, [1, 2], [1, 2, 2, 2, 2, 1]), (3, [5], [3]), (0, [1], []), (4, [1], [1, 1, 1, 1])],
)
def test_sizes_grow_and_the_last_one_repeats(total: int, sizes: list[int], found: list[int]) -> None:
    hosts = [str(number) for number in range(total)]
    made = order.batches(hosts, sizes)
    assert [len(batch) for batch in made] == found and [host for batch in made for host in batch] == hosts


def test_a_host_of_another_domain_takes_the_place() -> None:
    domains = {"a1": "a", "a2": "a", "b1": "b", "b2": "b", "c1": "c"}
    assert order.batches(list(domains), [1, 3], domains) == [["a1"], ["a2", "b1", "c1"], ["b2"]]
    assert order.batches(list(domains), [5], domains, limit=2) == [["a1", "a2", "b1", "b2", "c1"]]


def test_domains_hold_for_any_fleet() -> None:
    lots = random.Random(5)
    for _round in range(300):
        hosts = [f"h{number}" for number in range(lots.randint(1, 40))]
        domains = {host: lots.choice("abcde") for host in hosts}
        limit, sizes = lots.randint(1, 3), [lots.randint(1, 8) for _size in range(lots.randint(1, 3))]
        made = order.batches(hosts, sizes, domains, limit)
        assert sorted(host for batch in made for host in batch) == sorted(hosts)
        for number, batch in enumerate(made):
            assert 0 < len(batch) <= sizes[min(number, len(sizes) - 1)]
            assert max(Counter(domains[host] for host in batch).values()) <= limit


def test_a_batch_of_nothing_would_never_end() -> None:
    with pytest.raises(ValueError, match="sizes must be at least 1"):
        order.batches(["a"], [0])


@pytest.mark.parametrize(
    "batch, down, limit, found",
    [
        ("c", {}, 1, ""),
        ("c", {"a": "failed"}, 1, "c"),
        ("ce", {"a": "failed"}, 1, "c"),
        ("c", {"a": "failed"}, 2, ""),
        ("cd", {"a": "failed"}, 2, "d"),  # with a and c, two of them are away
        ("cd", {"a": "failed", "b": "lost"}, 2, "cd"),
        ("c", {"c": "failed"}, 1, ""),  # it is tried again
        ("e", {"a": "failed", "gone": "lost"}, 1, ""),
    ],
)
def test_hosts_of_a_domain_that_is_not_well_are_held(batch: str, down: dict[str, str], limit: int, found: str) -> None:
    domains = {**dict.fromkeys("abcd", "rack1"), "e": "rack2"}
    held = order.held(list(batch), down, domains, limit)
    assert "".join(held) == found and all("failure domain (rack1) failed" in text and "retry_failed=true" in text for text in held.values())
