# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares kernel releases as the distributions order their versions.

Debian's order: deb-version(7) and lib/dpkg/version.c of dpkg. rpm's order: rpm-version(7) and
rpmio/rpmvercmp.c of rpm. They differ: for rpm a number is newer than a word at the same place, and for
dpkg it is older.
"""

from __future__ import annotations

import functools
import re
from typing import Any, Callable, List, Tuple

Compare = Callable[[str, str], int]
_CANDIDATE = re.compile(r"[-._](rc|pre)(?=\d)")
_PART = re.compile(r"[0-9]+|[A-Za-z]+|~|\^")
# Words in a release that say what it was built for or from, and not which kind of kernel it is: 7.0-rc1, deb13, bpo, a commit.
_NO_FLAVOUR = re.compile(r"^(rc\d*|pre\d*|deb\d*|bpo\d*|g[0-9a-f]{7,})$")


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)


def candidate(release: str) -> str:
    """The release with its mark of a release candidate as ``~rc``, which both orders put before the release itself.

    grub-mkconfig does the same (util/grub-mkconfig_lib.in).
    """
    return _CANDIDATE.sub(r"~\1", release)


def _weight(char: str) -> int:
    """The order of a character that is not a digit. The empty string stands for a digit, and for the end."""
    if char == "~":
        return -1
    if not char:
        return 0
    return ord(char) if char.isascii() and char.isalpha() else ord(char) + 256


def debian(left: str, right: str) -> int:
    """-1, 0 or 1, as dpkg orders two versions. Both are compared as a whole, without an epoch."""
    one, two = (re.findall(r"([^0-9]*)([0-9]*)", text) for text in (left, right))
    for index in range(max(len(one), len(two))):
        (words, number), (others, other) = (part[index] if index < len(part) else ("", "") for part in (one, two))
        for place in range(max(len(words), len(others))):
            difference = _weight(words[place : place + 1]) - _weight(others[place : place + 1])
            if difference:
                return _sign(difference)
        if int(number or 0) != int(other or 0):
            return _sign(int(number or 0) - int(other or 0))
    return 0


def rpm(left: str, right: str) -> int:
    """-1, 0 or 1, as rpm orders two versions."""
    one, two = _PART.findall(left), _PART.findall(right)
    for index in range(max(len(one), len(two))):
        first, second = (part[index] if index < len(part) else "" for part in (one, two))
        if first != second:
            found = _rpm_part(first, second)
            if found:
                return found
    return 0


def _rpm_part(first: str, second: str) -> int:
    """The order of two different parts. An empty part is the end of its version."""
    for mark, weight in (("~", -1), ("^", 1)):
        if mark in (first, second):
            mine, other = (first, second) if first == mark else (second, first)
            # ^ comes after the end, and before anything else. ~ comes before all.
            before = weight if mark == "~" or not other else -1
            return before if mine is first else -before
    if not first or not second:
        return 1 if first else -1
    if first.isdigit() and second.isdigit():
        return _sign(int(first) - int(second))
    if first.isdigit() != second.isdigit():
        return 1 if first.isdigit() else -1
    return 1 if first > second else -1


def newest(releases: List[str], orders: List[Compare]) -> List[str]:
    """The newest of the releases in each of the orders, without duplicates. More than one: the orders disagree."""
    found = []
    for order in orders:

        def key(release: str, order: Compare = order) -> Any:
            return functools.cmp_to_key(order)(candidate(release))

        found.append(max(releases, key=key))
    return list(dict.fromkeys(found))


def orders_of(os_release: str) -> List[Compare]:
    """The orders that count on a distribution, from the text of /etc/os-release.

    Where it does not tell, both count.
    """
    names = " ".join(re.findall(r"^ID(?:_LIKE)?=[\"']?([^\"'\n]*)", os_release, re.MULTILINE)).split()
    if {"debian", "ubuntu"} & set(names):
        return [debian]
    if {"fedora", "rhel", "centos", "suse", "opensuse", "amzn"} & set(names):
        return [rpm]
    return [debian, rpm]


def flavour(release: str) -> Tuple[str, ...]:
    """The words in a release that name the kind of kernel: ``cloud``, ``rt``, ``default``, ``debug``, ``64k``.

    Digits are left out, so that two versions of one kind have the same words.
    """
    words = [word for word in re.split(r"[-+.~]", release) if re.search("[A-Za-z]", word) and not _NO_FLAVOUR.match(word)]
    return tuple(re.sub("[0-9_]", "", word) for word in words)
