# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Words in unit files. tests/unit/roles/test_unit_files.py asks systemd itself."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.hotpmem.fleet.plugins.filter.systemd_word import systemd_word


@pytest.mark.parametrize(
    "text, word, argument",
    [
        ("/usr/local/sbin/pmem-state", "/usr/local/sbin/pmem-state", None),
        ("/srv/50%", "/srv/50%%", None),
        ("/srv/my cache", '"/srv/my cache"', None),
        ("/srv/a\\b", '"/srv/a\\\\b"', None),
        (r"redis@a\x2db.service", r'"redis@a\\x2db.service"', None),
        ('say "it\'s"', '"say \\"it\'s\\""', None),
        ("$HOME", '"$HOME"', '"$$HOME"'),
        (";", '";"', None),
        ("", '""', None),
        ("/srv/é", '"/srv/é"', None),
        (7, "7", None),
    ],
)
def test_word(text, word, argument):
    assert systemd_word(text) == word
    assert systemd_word(text, argument=True) == (argument or word)


@pytest.mark.parametrize("text", ["a\nb", "a\tb", "\x7f"])
def test_control_characters(text):
    with pytest.raises(AnsibleFilterError, match="line break or another control character"):
        systemd_word(text)
