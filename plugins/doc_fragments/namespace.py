# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Options that several modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """How a namespace is named."""

    DOCUMENTATION = r"""
options:
  namespace:
    description:
      - Which namespace, by its name (V(namespace0.0)), uuid, label, or physical start address (V(0x3fe00000)).
      - When left out, the only one there is. With several the module fails and lists them.
      - Numbers move when DIMMs are added. Start address and label stay. The uuid is a new one after each conversion, so a conversion of
        what was asked for by its uuid is refused.
    type: str
"""

    HELPER = r"""
options:
  helper:
    description: Path of the copy helper C(pmem-state) on the host. The role P(hotpmem.fleet.state_helper#role) installs it.
    type: path
    default: /usr/local/sbin/pmem-state
"""

    ROAD = r"""
options:
  road:
    description:
      - Where the state image goes.
      - V(raw) converts the namespace to raw and the image goes to its block device; before the memory is System RAM again, it is converted
        to devdax.
      - V(dax) leaves the namespace devdax for good, and the image goes to its dax device.
    type: str
    choices: [raw, dax]
    default: raw
"""

    TIMEOUT = r"""
options:
  timeout:
    description: Seconds for all memory blocks together.
    type: int
    default: 60
"""
