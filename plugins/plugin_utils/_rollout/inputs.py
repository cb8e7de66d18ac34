# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The variables of a rollout: read once, before any host is touched. All problems are said at once, and each names its variable."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import order as ordering
from . import windows as window
from .fields import FALSE, TRUE
from .journal import NAME
from .words import some

ONLY_WHEN = ("always", "kernel", "packages")
ON_BAD_KERNEL = ("stop", "back")
OUTSIDE = ("stop", "wait")
REMOVED = {
    "hotpmem_serial": "Use hotpmem_batches, which takes the same values.",
    "hotpmem_max_fail_percentage": "Use hotpmem_failure_budget, which counts over all batches. Its default is 1.",
}
WILD = set("*?[]:,&!~ ")


@dataclass(frozen=True)
class Settings:
    """The variables, as what they mean."""

    rollout: str = "default"
    batches: list[tuple[int, bool]] = field(default_factory=lambda: [(1, False), (10, True), (25, True)])
    order: str | list[str] = "inventory"
    order_seed: str = ""
    failure_domain: str = ""
    domain_limit: int = 1
    failure_budget: tuple[int, bool] = (1, False)
    warning_budget: tuple[int, bool] | None = None
    only_when: str = "always"
    kernel: str = ""
    on_bad_kernel: str = "stop"
    soak: float = 0.0
    windows: list[window.Window] = field(default_factory=list)
    outside_window: str = "stop"
    resume: bool = True
    retry_failed: bool = False

    def allowed(self, fleet: int) -> int:
        """How many failed hosts spend the budget."""
        return ordering.count(self.failure_budget, fleet)

    def allowed_warnings(self, fleet: int) -> int | None:
        """How many hosts with warnings spend the warning budget. None: any number is fine."""
        return ordering.count(self.warning_budget, fleet) if self.warning_budget else None


def as_list(value: Any) -> list[Any] | None:
    """A list. Text of the command line is read as JSON, or as words between commas. None when it is something else."""
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("["):
            try:
                value = json.loads(text)
            except ValueError:
                # YAML's short form, as in '[1, 10%]'
                value = [part.strip().strip("'\"") for part in text.strip("[]").split(",")]
        else:
            value = [part.strip() for part in text.split(",")] if text else []
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return [value]
    return list(value) if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else None


class Reader:
    """Reads variables, and keeps the problems."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw, self.problems = raw, list[str]()

    def problem(self, name: str, text: str) -> None:
        """Keep a problem of a variable."""
        self.problems.append(f"{_variable(name)}: {text}")

    def value(self, name: str, default: Any) -> Any:
        """A variable that is set, or the default."""
        value = self.raw.get(name)
        return default if value is None or (isinstance(value, str) and not value.strip()) else value

    def word(self, name: str, choices: Sequence[str]) -> str:
        """One of these words; the first one is the default."""
        value = str(self.value(name, choices[0])).strip()
        if value not in choices:
            self.problem(name, f"unknown word {value!r}. Use one of: {', '.join(choices)}.")
            return choices[0]
        return value

    def boolean(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.value(name, default)
        text = str(value).strip().lower()
        if text not in TRUE | FALSE:
            self.problem(name, f"{value!r} is neither true nor false.")
            return default
        return text in TRUE

    def number(self, name: str, default: float, least: float, whole: bool = False) -> float:
        """A number that is not less than `least`."""
        value = self.value(name, default)
        try:
            found = float(value) if not isinstance(value, bool) else None
        except (TypeError, ValueError):
            found = None
        if found is None or not least <= found < 1e9 or (whole and found != int(found)):
            self.problem(name, f"{value!r} is not a {'whole ' if whole else ''}number of at least {least:g}.")
            return default
        return found

    def share(self, name: str, default: tuple[int, bool] | None) -> tuple[int, bool] | None:
        """A number of hosts or a percentage."""
        value = self.value(name, None)
        if value is None or str(value).strip().lower() == "none":
            return default
        return ordering.share(value, _variable(name), self.problems) or default


def _variable(name: str) -> str:
    return name if name in ("confirm", "resume", "retry_failed") or name.startswith("hotpmem_") else f"hotpmem_{name}"


def read(raw: Mapping[str, Any]) -> tuple[Settings, list[str]]:
    """The settings, and what is wrong with the variables. A wrong variable has its default in the settings."""
    reader = Reader(raw)
    default = Settings()
    name = str(reader.value("rollout", default.rollout))
    if not NAME.fullmatch(name):
        reader.problem("rollout", f"{name!r} is not a name of at most 64 letters, digits, '.', '_' and '-'.")
        name = default.rollout
    reader.boolean("confirm", True)
    settings = Settings(
        rollout=name,
        batches=_batches(reader) or default.batches,
        order=_order(reader),
        order_seed=str(reader.value("order_seed", "")),
        failure_domain=str(reader.value("failure_domain", "")),
        domain_limit=int(reader.number("domain_limit", 1, 1, whole=True)),
        failure_budget=reader.share("failure_budget", default.failure_budget) or default.failure_budget,
        warning_budget=reader.share("warning_budget", None),
        only_when=reader.word("only_when", ONLY_WHEN),
        kernel=str(reader.value("kernel", "")),
        on_bad_kernel=reader.word("on_bad_kernel", ON_BAD_KERNEL),
        soak=reader.number("soak", 0.0, 0.0),
        windows=_windows(reader),
        outside_window=reader.word("outside_window", OUTSIDE),
        resume=reader.boolean("resume", True),
        retry_failed=reader.boolean("retry_failed", False),
    )
    return settings, reader.problems


def _batches(reader: Reader) -> list[tuple[int, bool]]:
    value = reader.value("batches", None)
    if value is None:
        return []
    sizes = as_list(value)
    if not sizes:
        reader.problem("batches", f'{value!r} is not a list of sizes such as [1, "10%", "25%"].')
        return []
    read_sizes = [ordering.share(size, "hotpmem_batches", reader.problems) for size in sizes]
    return [size for size in read_sizes if size]


def _order(reader: Reader) -> str | list[str]:
    value = reader.value("order", "inventory")
    if isinstance(value, str) and not value.startswith("["):
        if value.strip() in ordering.ORDERS:
            return value.strip()
        words = ", ".join(ordering.ORDERS)
        reader.problem("order", f"unknown word {value!r}. Use one of: {words}, or a list of hosts that come first, such as '[\"node1\"]'.")
        return "inventory"
    names = as_list(value)
    if names is None:
        reader.problem("order", f"{value!r} is neither a list of hosts nor one of: {', '.join(ordering.ORDERS)}.")
        return "inventory"
    return [str(name) for name in names]


def _windows(reader: Reader) -> list[window.Window]:
    value = reader.value("windows", [])
    if isinstance(value, str):
        value = as_list(value)
    value = [value] if isinstance(value, Mapping) else value
    if not isinstance(value, Sequence):
        reader.problem("windows", "it is not a list of windows.")
        return []
    found, problems = window.parse(value)
    reader.problems += problems
    return found


def of_the_fleet(settings: Settings, hosts: Sequence[str], variables: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is wrong between the settings and the hosts. `variables` has the variables of each host."""
    problems = []
    known = set(hosts)
    if not isinstance(settings.order, str):
        unknown = [name for name in settings.order if name not in known]
        if unknown:
            problems.append(f"hotpmem_order: {some(unknown)}: not among the {len(hosts)} hosts of this run. Correct the names.")
    domain = settings.failure_domain
    if domain:
        lacking = [host for host in hosts if variables[host].get(domain) in (None, "")]
        if lacking:
            problems.append(
                f"hotpmem_failure_domain: the variable {domain} is not set for {some(lacking)}. Set it for each host, for example in "
                "host_vars."
            )
    return problems


def unknown_names(variable: str, pattern: str, known: Collection[str]) -> list[str]:
    """Plain names in a pattern of hosts that the inventory does not have. Ansible would only warn, and leave these hosts alone."""
    parts = [part.strip() for part in pattern.replace(":", ",").split(",")]
    plain = [part.lstrip("!&") for part in parts if part and not part.startswith(("~", "@"))]
    unknown = [name for name in plain if not WILD & set(name) and name not in known and name not in ("all", "localhost")]
    if "[" in pattern or "@" in pattern or pattern.count("::"):
        return []
    if not unknown:
        return []
    return [f"{variable}: {some(unknown)}: the inventory has no host and no group of this name. Correct the name."]


def removed(variables: Collection[str]) -> list[str]:
    """Problems of variables that earlier versions had."""
    return [f"{name}: this variable was removed. {advice}" for name, advice in REMOVED.items() if name in variables]
