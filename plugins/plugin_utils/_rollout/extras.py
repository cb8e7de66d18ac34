# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the variables of hooks, blockers, gates, notifications and the fleet lease, before any host is touched."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from typing import Any

from . import blockers, fields, gates, hooks, lease, notify


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
    for name, least in (("hotpmem_soak", 0.0), ("hotpmem_soak_interval", 1.0)):
        if variables.get(name) not in (None, ""):
            errors += fields.is_number(least, 604800)(name, variables[name])
    return errors
