# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the keys of a variable that an operator wrote. Each error names the variable and the key, such as hotpmem_gates[0].timeout."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

TRUE = {"true", "yes", "on", "1"}
FALSE = {"false", "no", "off", "0"}
# A check gets the path of the key and its value, and returns what is wrong.
Check = Callable[[str, Any], list[str]]


def boolean(value: Any, default: bool = False) -> bool:
    """A boolean that may come as text. Text that is not a boolean is an error of the check below, so it counts as the default here."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    return True if word in TRUE else False if word in FALSE else default


def number(value: Any, default: float) -> float:
    """A number that may come as text."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return default


def names(value: Any) -> list[str]:
    """A list of text. A single text counts as a list of one."""
    return [str(one) for one in value] if isinstance(value, (list, tuple)) else [] if value in (None, "") else [str(value)]


def is_boolean(path: str, value: Any) -> list[str]:
    good = isinstance(value, bool) or str(value).strip().lower() in TRUE | FALSE
    return [] if good else [f"{path} must be true or false, and not {value!r}."]


def is_number(least: float = 0, most: float | None = None, whole: bool = False) -> Check:
    """A check for a number between two bounds."""

    def check(path: str, value: Any) -> list[str]:
        kind = "a whole number" if whole else "a number"
        bounds = f"from {least:g} to {most:g}" if most is not None else f"of {least:g} or more"
        try:
            read = float(value) if not isinstance(value, bool) else None
        except (TypeError, ValueError):
            read = None
        if read is None or not math.isfinite(read) or read < least or (most is not None and read > most) or (whole and read != int(read)):
            return [f"{path} must be {kind} {bounds}, and not {value!r}."]
        return []

    return check


def is_text(path: str, value: Any) -> list[str]:
    return [] if isinstance(value, str) and value.strip() else [f"{path} must be text that is not empty."]


def is_name(path: str, value: Any) -> list[str]:
    good = isinstance(value, str) and value.strip() and "\n" not in value
    return [] if good else [f"{path} must be a name of one line."]


def is_pattern(path: str, value: Any) -> list[str]:
    """A check for a regular expression."""
    if not isinstance(value, str):
        return [f"{path} must be a regular expression in quotes, and not {value!r}."]
    try:
        re.compile(value)
    except re.error as error:
        return [f"{path} is not a valid regular expression: {error}."]
    return []


def is_choice(*choices: str) -> Check:
    """A check for one of several words."""

    def check(path: str, value: Any) -> list[str]:
        return [] if value in choices else [f"{path} must be one of {', '.join(choices)}, and not {value!r}."]

    return check


def is_list(each: Check, empty: bool = True) -> Check:
    """A check for a list. It names the element that is wrong."""

    def check(path: str, value: Any) -> list[str]:
        if not isinstance(value, (list, tuple)):
            return [f"{path} must be a list."]
        if not value and not empty:
            return [f"{path} must not be an empty list."]
        return [error for place, one in enumerate(value) for error in each(f"{path}[{place}]", one)]

    return check


def is_one_or_list(each: Check) -> Check:
    """A check for one value, or a list of them."""
    several = is_list(each, empty=False)
    return lambda path, value: several(path, value) if isinstance(value, (list, tuple)) else each(path, value)


def is_mapping(each: Check) -> Check:
    """A check for a dictionary. It does not print values, because headers hold tokens."""

    def check(path: str, value: Any) -> list[str]:
        if not isinstance(value, Mapping):
            return [f"{path} must be a dictionary."]
        return [error for key, one in value.items() for error in each(f"{path}.{key}", one)]

    return check


def is_header(path: str, value: Any) -> list[str]:
    good = isinstance(value, (str, int)) and "\n" not in str(value) and "\r" not in str(value)
    return [] if good else [f"{path} must be text of one line."]


def is_url(path: str, value: Any) -> list[str]:
    """A check for a URL. Its message does not show the URL, because it may hold a password."""
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
        good = parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname)
        _port = parts.port if parts else None
    except ValueError:
        good = False
    if not good or re.search(r"\s", value):
        return [f"{path} must be a URL such as https://host.example:9093, with http or https, and without spaces."]
    return []


def address(value: str) -> tuple[str, int]:
    """Host and port of HOST:PORT or [IPV6]:PORT."""
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(value)
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], int(port)
    if ":" in host:
        raise ValueError(value)
    return host, int(port)


def is_address(path: str, value: Any) -> list[str]:
    try:
        address(value if isinstance(value, str) else "")
    except ValueError:
        return [f"{path} must be HOST:PORT, such as web1.example:443 or [::1]:443, and not {value!r}."]
    return []


def is_argv(path: str, value: Any) -> list[str]:
    """A check for a command. A list of words needs no shell, and so no quoting."""
    if not isinstance(value, (list, tuple)) or not value:
        return [f"{path} must be a list of words, such as [/usr/local/bin/check, --quick]."]
    return [
        f"{path}[{place}] must be text." for place, word in enumerate(value) if isinstance(word, (list, dict, tuple)) or word is None
    ] + ([f"{path}[0] must be the name of a program."] if not str(value[0]).strip() else [])


def find_file(name: str, bases: Iterable[str]) -> str | None:
    """The path of a task file: as it is if absolute, otherwise in the first of the directories that has it."""
    places = [name] if os.path.isabs(name) else [os.path.join(base, name) for base in bases if base]
    return next((os.path.abspath(place) for place in places if os.path.isfile(place)), None)


def is_file(bases: Sequence[str]) -> Check:
    """A check for a file that exists."""

    def check(path: str, value: Any) -> list[str]:
        if not isinstance(value, str) or not value.strip():
            return [f"{path} must be the path of a file."]
        if find_file(value, bases) is None:
            where = "" if os.path.isabs(value) else f" in {' or '.join(dict.fromkeys(base for base in bases if base))}"
            return [f"{path} names the file {value!r}, which does not exist{where}."]
        return []

    return check


def check_keys(path: str, value: Any, checks: Mapping[str, Check], required: Iterable[str] = ()) -> list[str]:
    """The errors of a dictionary: unknown keys with the key that may be meant, missing keys, and values that are wrong."""
    if not isinstance(value, Mapping):
        return [f"{path} must be a dictionary."]
    errors = []
    for key in value:
        if key not in checks:
            near = difflib.get_close_matches(str(key), checks, n=1)
            hint = f" Did you mean {near[0]}?" if near else f" Known keys: {', '.join(sorted(checks))}."
            errors.append(f"{path}.{key} is not a known key.{hint}")
    errors += [f"{path}.{key} is missing." for key in required if key not in value]
    return errors + [error for key, check in checks.items() if key in value for error in check(f"{path}.{key}", value[key])]


def exactly_one(path: str, value: Mapping[str, Any], kinds: Sequence[str]) -> list[str]:
    """The error of a dictionary that must have exactly one of several keys."""
    found = [kind for kind in kinds if kind in value]
    if len(found) == 1:
        return []
    return [f"{path} must have exactly one of the keys {', '.join(kinds)}" + (f", and has {' and '.join(found)}." if found else ".")]


def own_name(entry: Mapping[str, Any]) -> Any:
    """The key name of an entry."""
    return entry.get("name")


def repeated(path: str, entries: Sequence[Any], name_of: Callable[[Mapping[str, Any]], Any] = own_name) -> list[str]:
    """The errors of names that occur twice in a list of dictionaries."""
    seen: dict[str, int] = {}
    errors = []
    for place, one in enumerate(entries):
        name = name_of(one) if isinstance(one, Mapping) else None
        if isinstance(name, str) and name in seen:
            errors.append(f"{path}[{place}].name is {name!r}, which {path}[{seen[name]}] has already.")
        elif isinstance(name, str):
            seen[name] = place
    return errors


def check_entries(
    path: str,
    value: Any,
    check: Callable[[str, Mapping[str, Any]], list[str]],
    name_of: Callable[[Mapping[str, Any]], Any] = own_name,
) -> list[str]:
    """The errors of a variable that is a list of dictionaries, no two of which have the same name. None and an empty list are fine."""
    if value in (None, []):
        return []

    def check_entry(where: str, entry: Any) -> list[str]:
        return check(where, entry) if isinstance(entry, Mapping) else [f"{where} must be a dictionary."]

    errors = is_list(check_entry)(path, value)
    return errors + (repeated(path, value, name_of) if isinstance(value, (list, tuple)) else [])
