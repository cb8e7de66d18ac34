# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Install small files of root, with their directories, in one step."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_files
short_description: Install small files of root in one step
version_added: 0.1.0
description:
  - Creates directories, installs files, and removes files that are no longer wanted. All belong to root.
  - The roles of this collection install about twenty small files on a host. With one task a file, that takes some sixty exchanges with
    the host. This module takes one.
  - It reads everything before it writes anything. Each file is replaced as a whole or not at all.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.acts
options:
  directories:
    description: The directories to create, with their parents. An existing directory gets the owner and the mode.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The directory.
        type: path
        required: true
      mode:
        description: The mode as octal text.
        type: str
        default: "0755"
  files:
    description: The files to install. A symbolic link with this name is replaced.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The file. A missing directory is created with mode V(0755).
        type: path
        required: true
      content:
        description: The whole content.
        type: str
        required: true
      mode:
        description: The mode as octal text.
        type: str
        default: "0644"
  prune:
    description: Patterns of paths, as for a shell. A path that matches and is not one of O(files) is removed.
    type: list
    elements: path
    default: []
author:
  - The hotpmem.fleet authors (@hotpmem)
seealso:
  - module: ansible.builtin.copy
    description: One file, of any size.
  - module: ansible.builtin.template
"""

EXAMPLES = r"""
- name: Order one unit, and no other
  hotpmem.fleet.host_files:
    directories:
      - path: /etc/example
        mode: "0700"
    files:
      - path: /etc/systemd/system/memcached.service.d/60-hotpmem-node.conf
        content: |
          [Unit]
          After=hotpmem-restore.service
    prune:
      - /etc/systemd/system/*.d/60-hotpmem-node.conf
"""

RETURN = r"""
installed:
  description: The files whose content was not as wanted.
  type: list
  elements: str
  returned: success
removed:
  description: The files that were removed.
  type: list
  elements: str
  returned: success
"""

import os
from typing import Any, Dict, List

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._host.small_files import compare, missing, surplus
from ..module_utils._module import run, write_file


def act(module: AnsibleModule) -> Dict[str, Any]:
    """Compare first, then write."""
    directories, files = module.params["directories"], module.params["files"]
    differing = compare(files)
    removed = surplus(module.params["prune"], files)
    diff: List[Dict[str, Any]] = []
    changed = bool(differing or removed)
    for one in directories:
        absent = missing(one["path"])
        if absent and not module.check_mode:
            os.makedirs(one["path"], mode=0o755)
        changed = _attributes(module, one, diff) or absent or changed
    for file in differing:
        if not module.check_mode:
            os.makedirs(os.path.dirname(file["path"]), mode=0o755, exist_ok=True)
            write_file(module, file["path"], file["after"])
        diff.append({**file, "before_header": file["path"], "after_header": file["path"]})
    for file in files:
        changed = _attributes(module, file, diff) or changed
    for path in removed:
        diff.append({"path": path, "before": "present\n", "after": "absent\n", "before_header": path, "after_header": path})
        if not module.check_mode:
            os.unlink(path)
    return {"changed": changed, "installed": [file["path"] for file in differing], "removed": removed, "diff": diff}


def _attributes(module: AnsibleModule, one: Dict[str, Any], diff: List[Dict[str, Any]]) -> bool:
    """Give a path its owner and mode. Returns whether that changes anything."""
    wanted = module.load_file_common_arguments(
        {"path": one["path"], "mode": one["mode"], "owner": "root", "group": "root"}, path=one["path"]
    )
    shown: Dict[str, Any] = {}
    if not module.set_fs_attributes_if_different(wanted, False, diff=shown):
        return False
    before, after = shown.get("before", {}), shown.get("after", {})
    if before != after:
        texts = ["".join(f"{key}: {value}\n" for key, value in sorted(side.items())) for side in (before, after)]
        diff.append({"before": texts[0], "after": texts[1], "before_header": one["path"], "after_header": one["path"]})
    return True


def main() -> None:
    """Entry point."""
    of_directory = {"path": {"type": "path", "required": True}, "mode": {"type": "str", "default": "0755"}}
    of_file = {
        "path": {"type": "path", "required": True},
        "content": {"type": "str", "required": True},
        "mode": {"type": "str", "default": "0644"},
    }
    module = AnsibleModule(
        argument_spec={
            "directories": {"type": "list", "elements": "dict", "default": [], "options": of_directory},
            "files": {"type": "list", "elements": "dict", "default": [], "options": of_file},
            "prune": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    run(module, act)


if __name__ == "__main__":
    main()
