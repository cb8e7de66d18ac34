# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Mount a tmpfs for state."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tmpfs_mount
short_description: Mount a tmpfs for state, now and at each boot
version_added: 0.1.0
description:
  - Writes a mount unit, enables it, and mounts the tmpfs. systemd mounts it at boot before C(local-fs.target), and so before the state is
    restored.
  - A change of O(size) or O(huge) is a remount, which keeps the files. Files that exist keep the pages that they have.
  - The module refuses a place that somebody else mounts, a directory that has entries, and a size that the files exceed.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.acts
options:
  path:
    description: The mount point. A missing directory is created. No part of it may be a symbolic link.
    type: path
    required: true
  size:
    description: The most that the files may take, such as V(2G). A percentage is refused, because the amount of RAM changes in a cycle.
    type: str
    required: true
  huge:
    description:
      - Which files get huge pages (C(huge=) of tmpfs).
      - With V(within_size), a file gets them as far as its size reaches when it is written. With V(always), every file gets them,
        and a small file takes 2 MiB on some kernels.
    type: str
    choices: [never, within_size, always, advise]
    default: within_size
  mode:
    description:
      - The mode of its root directory as octal text.
      - A number is refused. Without quotes, YAML makes the number 456 of V(0710).
    type: raw
    default: "0700"
  owner:
    description: The user who owns it, as a name or a number.
    type: str
    default: root
  group:
    description: Its group, as a name or a number.
    type: str
    default: root
author:
  - The hotpmem.fleet authors (@hotpmem)
seealso:
  - module: hotpmem.fleet.host_files
  - module: ansible.posix.mount
    description: Any file system, in C(/etc/fstab).
"""

EXAMPLES = r"""
- name: A place for the cache of memcached
  hotpmem.fleet.tmpfs_mount:
    path: /srv/state
    size: 2G
    mode: "0755"
"""

RETURN = r"""
unit:
  description: The name of the mount unit.
  type: str
  returned: success
changes:
  description: What was done, or in check mode would be done, as sentences.
  type: list
  elements: str
  returned: success
before:
  description: The mount unit, and the properties of the mount if it was mounted.
  type: dict
  returned: success
after:
  description: The same afterwards. In check mode, what it would be.
  type: dict
  returned: success
"""

import grp
import pwd
import re
from typing import Any, Callable, Dict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._host.errors import HotpmemError
from ..module_utils._host.programs import Runner
from ..module_utils._host.size import parse_size
from ..module_utils._host.sysfs import Sysfs, require_root
from ..module_utils._host.tmpfs_mount import HUGE, TmpfsMount, Wanted
from ..module_utils._module import run, write_file


def _number(kind: str, name: str, look: Callable[[str], int]) -> int:
    """The number of a user or a group. Raises HotpmemError."""
    if name.isdigit():
        return int(name)
    try:
        return look(name)
    except KeyError as error:
        raise HotpmemError(f"Cannot find the {kind} {name}", "this host does not know it", f"Create the {kind}, or name another") from error


def act(module: AnsibleModule) -> Dict[str, Any]:
    """Plan; unless in check mode, act."""
    given = module.params
    require_root("Cannot mount a tmpfs")
    if not isinstance(given["mode"], str):
        said = f"the mode {given['mode']!r} is a number, and 0710 without quotes is 456 in YAML"
        raise HotpmemError("Cannot mount a tmpfs", said, 'Write the mode as text in quotes, such as "0700"')
    if not re.fullmatch("[0-7]{3,4}", given["mode"]):
        raise HotpmemError("Cannot mount a tmpfs", f"the mode {given['mode']!r} is not octal text", 'Give a mode such as "0700"')
    wanted = Wanted(
        given["path"],
        parse_size(given["size"]),
        given["huge"],
        int(given["mode"], 8),
        _number("user", given["owner"], lambda name: pwd.getpwnam(name).pw_uid),
        _number("group", given["group"], lambda name: grp.getgrnam(name).gr_gid),
    )
    mount = TmpfsMount(Sysfs(), Runner(), lambda path, text: write_file(module, path, text))
    plan = mount.plan(wanted)
    if not module.check_mode:
        mount.apply(plan)
    return {"changed": bool(plan.changes), "unit": wanted.unit, "changes": plan.changes, "before": plan.before, "after": plan.after}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "size": {"type": "str", "required": True},
            "huge": {"type": "str", "choices": [*HUGE], "default": "within_size"},
            "mode": {"type": "raw", "default": "0700"},
            "owner": {"type": "str", "default": "root"},
            "group": {"type": "str", "default": "root"},
        },
        supports_check_mode=True,
    )
    run(module, act)


if __name__ == "__main__":
    main()
