# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin print_lines."""

from __future__ import annotations

DOCUMENTATION = r"""
module: print_lines
short_description: Print a table or other lines as they are
version_added: 0.1.0
description:
  - Prints each line whole and without quotes, whatever O(ansible.builtin.default#callback:result_format) is. M(ansible.builtin.debug)
    breaks lines of more than 80 columns with V(yaml), and quotes them with V(json).
  - Control characters in a line are shown as escapes.
  - With the callbacks C(json) and C(jsonl) of C(ansible.posix), which print for programs, the lines are only in the result.
  - This is an action plugin. It needs no connection to the host.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.action
  - hotpmem.fleet.attributes.looks
  - ansible.builtin.action_common_attributes.flow
options:
  lines:
    description: The lines.
    type: list
    elements: str
    required: true
author:
  - The hotpmem.fleet authors (@hotpmem)
seealso:
  - module: ansible.builtin.debug
"""

EXAMPLES = r"""
- name: Show a table
  hotpmem.fleet.print_lines:
    lines: "{{ ([['node1', '2.0 GiB']] | hotpmem.fleet.text_table(['host', 'memory'])).splitlines() }}"
  run_once: true
"""

RETURN = r"""
lines:
  description: The lines.
  type: list
  elements: str
  returned: success
"""
