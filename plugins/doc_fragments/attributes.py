# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every module of the collection has in common."""

from __future__ import annotations


class ModuleDocFragment:
    """Attributes and requirements."""

    # Modules that change the host
    ACTS = r"""
options: {}
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode) and return the changed status prediction without modifying the target.
  diff_mode:
    support: full
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
  idempotent:
    support: full
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
  platform:
    support: full
    platforms: linux
    description: Target systems that can be operated against.
"""

    # Modules that only look
    LOOKS = r"""
options: {}
attributes:
  check_mode:
    support: full
    details: This module never changes anything.
    description: Can run in C(check_mode) and return the changed status prediction without modifying the target.
  diff_mode:
    support: none
    details: There is nothing to show.
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
  idempotent:
    support: full
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
  platform:
    support: full
    platforms: linux
    description: Target systems that can be operated against.
"""

    # Every action plugin
    ACTION = r"""
options: {}
attributes:
  action:
    support: full
  async:
    support: none
  become:
    support: full
    description: Is usable alongside become keywords.
  bypass_host_loop:
    support: none
"""

    # Action plugins that end in another boot. Named before ACTS: what the first fragment says about an attribute holds.
    JUMPS = r"""
options: {}
attributes:
  diff_mode:
    support: none
    details: There is nothing to show but another boot.
  idempotent:
    support: none
    details: Each run is a reboot.
"""

    # Action plugins that ask servers, and act on them
    ASKS = r"""
options: {}
attributes:
  check_mode:
    support: full
    details: In check mode nothing is asked of a server that would change it.
    description: Can run in C(check_mode) and return the changed status prediction without modifying the target.
  diff_mode:
    support: none
    details: There is nothing to show.
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
  platform:
    support: full
    platforms: linux
    description: Target systems that can be operated against.
"""
