# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The orders of versions, against what dpkg and rpm say."""

from __future__ import annotations

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel import version_order as vo

# As `dpkg --compare-versions LEFT-1 lt|gt RIGHT-1` of dpkg 1.21.22 answered.
DEBIAN = [
    ("6.1.0-9-amd64", "6.1.0-10-amd64", -1),
    ("6.1.0-50-cloud-amd64", "6.12.117+deb13-cloud-amd64", -1),
    ("6.12.117+deb13-cloud-amd64", "6.12.117+deb13+1-cloud-amd64", 1),
    ("6.12.9-amd64", "6.12.117+deb13-cloud-amd64", -1),
    ("5.14.0-427.el9.x86_64", "5.14.0-427.13.1.el9_4.x86_64", 1),  # not what RHEL means
    ("1.0~rc1", "1.0", -1),
    ("1.0a", "1.0", 1),
    ("1.0a", "1.0.1", -1),
    ("007", "7", 0),
    ("1_0", "1.0", 1),
    ("6.12~~", "6.12~", -1),
]
# As `rpm --eval '%{lua: print(rpm.vercmp("LEFT", "RIGHT"))}'` of rpm 4.18.0 answered.
RPM = [
    ("5.14.0-427.el9.x86_64", "5.14.0-427.13.1.el9_4.x86_64", -1),
    ("5.14.0-9.el9", "5.14.0-10.el9", -1),
    ("6.9.4-200.fc40.x86_64", "6.10.1-100.fc40.x86_64", -1),
    ("6.4.0-150600.23.7-default", "6.4.0-150600.23.25-default", -1),
    ("1.0~rc1", "1.0", -1),
    ("1.0^git1", "1.0", 1),
    ("1.0^git1", "1.0.1", -1),
    ("1.0a", "1.0", 1),
    ("1.0a", "1.0.1", -1),
    ("a", "1", -1),
    ("007", "7", 0),
    ("1.0", "1_0", 0),
]


@pytest.mark.parametrize("order, left, right, said", [(vo.debian, *row) for row in DEBIAN] + [(vo.rpm, *row) for row in RPM])
def test_the_order_of_the_distribution(order, left, right, said):
    assert order(left, right) == said
    assert order(right, left) == -said
    assert order(left, left) == 0


@pytest.mark.parametrize("order", [vo.debian, vo.rpm])
def test_a_release_candidate_comes_before_its_release(order):
    assert vo.newest(["7.0-rc1-amd64", "7.0-amd64", "7.0-rc10-amd64", "6.19-amd64"], [order]) == ["7.0-amd64"]
    assert vo.newest(["7.0-rc9", "7.0-rc10"], [order]) == ["7.0-rc10"]


def test_orders_that_disagree_are_both_told():
    releases = ["5.14.0-427.el9.x86_64", "5.14.0-427.13.1.el9_4.x86_64"]
    assert vo.newest(releases, vo.orders_of("ID=alpine\n")) == releases
    assert vo.newest(releases, vo.orders_of('ID="almalinux"\nID_LIKE="rhel centos fedora"\n')) == releases[1:]


@pytest.mark.parametrize(
    "os_release, orders",
    [
        ("PRETTY_NAME=x\nID=debian\n", [vo.debian]),
        ("ID=linuxmint\nID_LIKE='ubuntu debian'\n", [vo.debian]),
        ('ID="rhel"\nID_LIKE="fedora"\n', [vo.rpm]),
        ('ID="opensuse-leap"\nID_LIKE="suse opensuse"\n', [vo.rpm]),
        ("VERSION_ID=debian\nID=arch\n", [vo.debian, vo.rpm]),
        ("", [vo.debian, vo.rpm]),
    ],
)
def test_which_order_counts(os_release, orders):
    assert vo.orders_of(os_release) == orders


@pytest.mark.parametrize(
    "one, other, same",
    [
        ("6.1.0-50-cloud-amd64", "6.12.117+deb13-cloud-amd64", True),
        ("6.1.0-50-cloud-amd64", "6.1.0-50-amd64", False),
        ("6.1.0-50-amd64", "6.1.0-50-rt-amd64", False),
        ("6.1.0-0.deb11.17-amd64", "6.1.0-50-amd64", True),
        ("5.10.0-0.bpo.15-amd64", "5.10.0-30-amd64", True),
        ("6.8.0-31-generic", "6.11.0-9-generic", True),
        ("6.8.0-31-generic", "6.8.0-1009-aws", False),
        ("5.14.0-427.el9.x86_64", "5.14.0-427.13.1.el9_4.x86_64", True),
        ("5.14.0-427.el9.x86_64", "5.14.0-427.el9.x86_64+debug", False),
        ("5.14.0-427.el9.aarch64", "5.14.0-427.el9.aarch64+64k", False),
        ("5.14.0-427.el9.x86_64", "5.15.0-200.131.27.el9uek.x86_64", False),
        ("6.9.4-200.fc39.x86_64", "6.10.1-100.fc40.x86_64", True),
        ("6.4.0-150600.23.7-default", "6.4.0-150700.53-default", True),
        ("6.6.32-1-lts", "6.9.3-arch1-1", False),
        ("7.0.0-rc1-g0123abcd", "7.0.0-gfedc9876", True),
        ("6.6.31+rpt-rpi-v8", "6.6.31+rpt-rpi-2712", False),
    ],
)
def test_flavours(one, other, same):
    assert (vo.flavour(one) == vo.flavour(other)) is same
