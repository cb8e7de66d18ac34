# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The option of the modules that act on a host."""

from __future__ import annotations


class ModuleDocFragment:
    """run."""

    DOCUMENTATION = r"""
options:
  run:
    description:
      - The run that holds the host, as M(hotpmem.fleet.node_handoff) returned it with O(hotpmem.fleet.node_handoff#module:hold=true).
      - Without it, the module is refused while a handoff is under way, and waits up to a minute for another module.
    type: str
    version_added: 0.1.0
"""
