# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the variables that a host may have by itself, such as hooks and gates, before any host is touched."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from typing import Any

from . import blockers, fields, gates, hooks, lease, notify

# Single values that a role would find wrong only at the turn of the host, after it was drained.
SINGLE: dict[str, fields.Check] = {
    "hotpmem_soak": fields.is_number(0, 604800),
    "hotpmem_soak_interval": fields.is_number(1, 604800),
    "hotpmem_reboot_timeout": fields.is_number(1, 604800, whole=True),
    "hotpmem_offline_timeout": fields.is_number(1, 604800, whole=True),
    "hotpmem_copy_timeout": fields.is_number(1, 604800, whole=True),
    "hotpmem_lease": fields.is_number(1, 604800, whole=True),
    "hotpmem_reboot_method": fields.is_choice("systemd", "fast", "firmware"),
    "hotpmem_road": fields.is_choice("raw", "dax"),
    "hotpmem_node_agent": fields.is_boolean,
    "hotpmem_sync_settings": fields.is_boolean,
    "hotpmem_make_default": fields.is_boolean,
    "hotpmem_force": fields.is_boolean,
}
# Every variable that is checked here.
NAMES = ("hotpmem_hooks", "hotpmem_blockers", "hotpmem_gates", "hotpmem_notify", "hotpmem_fleet_lease", *SINGLE)


def mail_installed() -> bool:
    """Whether the collection with the mail module is installed on the controller."""
    try:
        return importlib.util.find_spec("ansible_collections.community.general.plugins.modules.mail") is not None
    except (ImportError, ValueError, AttributeError):
        return False


def bases(variables: Mapping[str, Any]) -> list[str]:
    """Where a task file without an absolute path is looked for: beside the inventory, beside the playbook, in the current directory."""
    return [str(one) for one in (variables.get("inventory_dir"), variables.get("playbook_dir"), os.getcwd()) if one]


def check(variables: Mapping[str, Any]) -> list[str]:
    """Every error in these variables. Each one names the variable and the key, such as hotpmem_hooks.drain[0].timeout."""
    places = bases(variables)
    mail = mail_installed()
    errors = (
        hooks.check(variables.get("hotpmem_hooks"), places)
        + blockers.check(variables.get("hotpmem_blockers"))
        + gates.check(variables.get("hotpmem_gates"), places)
        + notify.check(variables.get("hotpmem_notify"), mail)
        + lease.check(variables.get("hotpmem_fleet_lease"))
    )
    for name, check_value in SINGLE.items():
        if variables.get(name) not in (None, ""):
            errors += check_value(name, variables[name])
    return errors
