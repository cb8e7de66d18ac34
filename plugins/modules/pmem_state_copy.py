# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Save state to persistent memory, or restore it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pmem_state_copy
short_description: Save userland state to persistent memory, restore, verify or invalidate it
version_added: 0.1.0
description:
  - Runs C(pmem-state), the copy helper, on the host.
  - With V(saved) the module first compares. When the device holds an image of this boot and the sources
    still have the same bytes, it copies nothing.
  - With V(saved) it never replaces an image of another boot that was not restored, except with
    O(force=true). It replaces an image of this boot, which a failed save or handoff left behind.
  - With V(restored) it changes nothing when the image was already restored in this boot.
  - It never restores a damaged image, and restores a foreign or consumed one only with O(force=true).
    Otherwise it fails, and RV(refused) and RV(exit) give the reason.
  - While a copy runs, F(/run/hotpmem/progress.json) on the host shows its progress, because a module
    can't print to the terminal meanwhile. The helper updates the file every second. Its keys are
    C(phase), C(bytes_done), C(bytes_total), C(percent), C(rate) (bytes a second) and C(eta_seconds).
extends_documentation_fragment:
  - hotpmem.fleet.attributes.acts
  - hotpmem.fleet.host_lock
  - hotpmem.fleet.namespace
  - hotpmem.fleet.namespace.helper
attributes:
  idempotent:
    details: V(saved) copies again when a source has changed since.
    support: partial
options:
  state:
    description: The state to reach. V(verified) reads and checks the whole image. V(absent) invalidates it.
    type: str
    choices: [saved, restored, verified, absent]
    required: true
  device:
    description:
      - The device or file that holds the image, such as V(/dev/pmem0).
      - Without it, the module takes the device of O(namespace). The namespace must be raw, or devdax
        without being System RAM.
    type: path
  items:
    description:
      - The items to save, restore or verify. Each has C(name) and C(path). The module ignores other keys.
      - An item without C(path) is restored to the place that it was saved from.
      - Required with O(state=saved). Otherwise an empty list means all items of the image, at the places
        that they were saved from.
    type: list
    elements: dict
    default: []
  threads:
    description: Number of threads that copy. With V(0) the helper decides.
    type: int
    default: 0
  force:
    description:
      - With V(saved), save over an image of another boot that was not restored, and save on a host
        without a machine ID.
      - With V(restored), restore a consumed or foreign image.
    type: bool
    default: false
  timeout:
    description: Seconds that the copy may take. V(0) sets no limit. After that time the module stops the helper cleanly.
    type: int
    default: 0
seealso:
  - module: hotpmem.fleet.pmem_hotplug
  - module: hotpmem.fleet.pmem_namespace
author:
  - The hotpmem.fleet authors (@hotpmem)
"""

EXAMPLES = r"""
- name: Save the cache
  hotpmem.fleet.pmem_state_copy:
    state: saved
    device: /dev/pmem0
    items:
      - name: cache
        path: /srv/state/cache

- name: Restore everything the image holds
  hotpmem.fleet.pmem_state_copy:
    state: restored
    device: /dev/pmem0
"""

RETURN = r"""
bytes:
  description: Bytes of the sources, including holes.
  type: int
  returned: when copied
stored_bytes:
  description: Bytes that the image takes, without all-zero chunks.
  type: int
  returned: when copied
seconds:
  description: How long the copy took.
  type: float
  returned: when copied
rate:
  description: Bytes a second.
  type: int
  returned: when copied
chunks:
  description: Chunks in the image.
  type: int
  returned: when copied
zero_chunks:
  description: Chunks that contain only zeros. They are neither stored nor copied.
  type: int
  returned: when copied
outcomes:
  description: The outcome of each item, with name, path, status, bytes, files and error.
  type: list
  elements: dict
  returned: when copied
left_out:
  description: The files that were left out, with path and reason.
  type: list
  elements: dict
  returned: when something was left out
image:
  description: The image's header.
  type: dict
  returned: success
refused:
  description: Why the helper refused, or null.
  type: str
  returned: when the helper was run
exit:
  description:
    - The helper's exit code. 0 done, 1 usage, 2 system error, 3 no image, 4 damaged, 5 refused, 6 some items done, some not.
  type: int
  returned: when the helper was run
before:
  description: State and items of the image before.
  type: dict
  returned: success
after:
  description: The same afterwards.
  type: dict
  returned: success
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.engine import Engine
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._image.state_copy import DONE, NO_IMAGE, REFUSED, failure, items_from
from ansible_collections.hotpmem.fleet.plugins.module_utils._module import RUN, run

VERBS = {"saved": "save", "restored": "restore", "verified": "verify", "absent": "invalidate"}


def outline(image: dict[str, Any]) -> dict[str, Any]:
    """What before and after compare."""
    held = sorted(image.get("items") or []) if image["state"] != "none" else []
    return {"state": image["state"], "items": held}


class Copy:
    """One run of the module: a method a state, each returns (changed, result of the helper, outline afterwards)."""

    def __init__(self, module: AnsibleModule) -> None:
        self.params = module.params
        self.check_mode = module.check_mode
        self.engine = Engine(helper=self.params["helper"])
        self.copy = self.engine.copy
        self.device = self.engine.state_device("Cannot choose a device", self.params["device"] or "", self.params["namespace"] or "")
        self.items = items_from(self.params["items"], need_path=self.params["state"] == "saved")
        self.timeout = self.params["timeout"] or None
        self.now = self.copy.info(self.device)

    def call(self, verb: str, **options: Any) -> dict[str, Any]:
        """Run a verb; raise when it doesn't end with 0."""
        result = self.engine.helper.call(verb, self.device, self.items, timeout=self.timeout, **options)
        if result["exit"] != DONE:
            raise failure(f"Cannot {verb} {self.device}", result)
        return result

    def saved(self) -> tuple[bool, dict[str, Any], dict[str, Any]]:
        """Copy unless the same bytes are there."""
        if not self.items:
            raise HotpmemError("Cannot save", "the option items is empty", "List what to save, each item with name and path")
        same = self.copy.already_saved(self.now, self.device, self.items, self.params["threads"], self.timeout)
        if same:
            return False, same, outline(self.now["image"])
        if self.check_mode:
            reason = self.copy.why_not_save(self.now, self.params["force"])
            if reason:
                todo = "Restore the image first (state: restored), or give it up and save with force: true"
                raise HotpmemError(f"Cannot save to {self.device}", reason, todo, exit=REFUSED, refused="unrestored")
            result = self.call("plan")
        else:
            result = self.call("save", threads=self.params["threads"], force=self.params["force"])
        return True, result, {"state": "valid", "items": sorted(item.name for item in self.items)}

    def restored(self) -> tuple[bool, dict[str, Any], dict[str, Any]]:
        """Restore unless this boot has done so."""
        if self.copy.already_restored(self.now) and not self.params["force"]:
            return False, self.now, outline(self.now["image"])
        if self.check_mode:
            reason = self.copy.why_not_restore(self.now, self.params["force"])
            if reason:
                code = NO_IMAGE if self.now["image"]["state"] == "none" else REFUSED
                todo = "Nothing was changed. The module pmem_info shows what the device holds"
                raise HotpmemError(f"Cannot restore from {self.device}", reason, todo, exit=code, refused=reason)
            result = self.now
        else:
            result = self.call("restore", threads=self.params["threads"], force=self.params["force"])
        return True, result, dict(outline(self.now["image"]), state="consumed")

    def verified(self) -> tuple[bool, dict[str, Any], dict[str, Any]]:
        """Read and check everything."""
        return False, self.call("verify", threads=self.params["threads"]), outline(self.now["image"])

    def absent(self) -> tuple[bool, dict[str, Any], dict[str, Any]]:
        """Invalidate what is there."""
        if self.now["image"]["state"] == "none":
            return False, self.now, outline(self.now["image"])
        self.items = []
        result = self.now if self.check_mode else self.call("invalidate")
        return True, result, {"state": "none", "items": []}


def named(answer: dict[str, Any]) -> dict[str, Any]:
    """The helper's answer under the names of return values. In Jinja, ``result.items`` is a method."""
    return {"outcomes" if key == "items" else key: value for key, value in answer.items()}


def act(module: AnsibleModule) -> dict[str, Any]:
    """Do what state says, then look again."""
    try:
        copy = Copy(module)
        changed, answer, after = getattr(copy, module.params["state"])()
    except HotpmemError as error:
        error.details = named(error.details)
        raise
    result = {key: value for key, value in named(answer).items() if key not in ("event", "error", "msg", "status")}
    result.update(changed=changed, before=outline(copy.now["image"]), after=after)
    result.setdefault("image", copy.now["image"])
    if changed and not module.check_mode:
        result["image"] = copy.copy.info(copy.device)["image"]
        result["after"] = outline(result["image"])
    return result


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **RUN,
            "state": {"type": "str", "choices": list(VERBS), "required": True},
            "device": {"type": "path"},
            "namespace": {"type": "str"},
            "items": {"type": "list", "elements": "dict", "default": []},
            "threads": {"type": "int", "default": 0},
            "force": {"type": "bool", "default": False},
            "helper": {"type": "path", "default": "/usr/local/sbin/pmem-state"},
            "timeout": {"type": "int", "default": 0},
        },
        required_if=[("state", "saved", ["items"])],
        supports_check_mode=True,
    )
    run(module, act)


if __name__ == "__main__":
    main()
