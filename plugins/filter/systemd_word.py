# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Words in the unit files of systemd."""

from __future__ import annotations

import re
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: systemd_word
short_description: Quote text as one word of a systemd unit file
version_added: 0.1.0
description:
  - Doubles C(%) and backslashes, and puts text with other special characters, such as spaces, in quotes.
  - Use it for paths in C(RequiresMountsFor=), and for the program in C(ExecStart=) and similar settings.
  - For arguments of that program, set O(argument=true). systemd replaces variables there, so C($) is doubled as well.
  - Do not use it for names of units in C(After=), C(Wants=) and similar settings. systemd reads their backslashes as they are.
  - See systemd.syntax(7), systemd.unit(5), and "COMMAND LINES" in systemd.service(5).
positional: _input
options:
  _input:
    description: The text.
    type: str
    required: true
  argument:
    description: Whether the text is an argument of a program that systemd starts.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Write a unit
  ansible.builtin.copy:
    dest: /etc/systemd/system/copy.service
    content: |
      [Service]
      ExecStart=/usr/bin/rsync -a {{ source | hotpmem.fleet.systemd_word(argument=true) }} /backup
    mode: "0644"
"""

RETURN = r"""
_value:
  description: The word. Text without special characters is returned as it is.
  type: str
"""

_PLAIN = re.compile(r"[A-Za-z0-9/._:@%+=,-]+")


def systemd_word(text: Any, argument: bool = False) -> str:
    """Return the text as one word. Raises AnsibleFilterError for control characters."""
    text = str(text)
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise AnsibleFilterError(
            f"Cannot write {text!r} to a unit of systemd: it contains a line break or another control character. "
            "Use text without control characters."
        )
    plain = _PLAIN.fullmatch(text)
    text = text.replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    if argument:
        text = text.replace("$", "$$")
    return text if plain else f'"{text}"'


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Any]:
        return {"systemd_word": systemd_word}
