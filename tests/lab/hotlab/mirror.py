# SPDX-License-Identifier: GPL-3.0-or-later
"""Where Debian comes from: the mirror this machine's own apt uses, so that no mirror is named here.

Formats: sources.list(5), one-line and deb822.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

KEYRING = "usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True)
class Source:
    """One apt source: its address, the suites it is used for, and the keyring named for it (empty: apt's own)."""

    uri: str
    suites: tuple[str, ...]
    keyring: str = ""


def parse_list(text: str) -> list[Source]:
    """The `deb` lines of a sources.list."""
    found = []
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)", line)
        if match:
            signed = re.search(r"signed-by=(\S+)", match[1] or "")
            found.append(Source(match[2], (match[3],), signed[1] if signed else ""))
    return found


def parse_deb822(text: str) -> list[Source]:
    """The enabled stanzas with `Types: deb` of a .sources file."""
    found = []
    for stanza in re.split(r"\n\s*\n", re.sub(r"(?m)^#.*\n?", "", text)):
        fields = dict(re.findall(r"(?m)^([\w-]+):[ \t]*(.*(?:\n[ \t]+.*)*)", stanza))
        fields = {name.lower(): value for name, value in fields.items()}
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
            continue
        keyring = fields.get("signed-by", "").strip()
        for uri in fields.get("uris", "").split():
            suites = tuple(fields.get("suites", "").split())
            found.append(Source(uri, suites, keyring if keyring.startswith("/") else ""))
    return found


def configured(root: Path = Path("/")) -> list[Source]:
    """All apt sources below `root`."""
    apt = root / "etc/apt"
    found = []
    for path in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]:
        if path.is_file() and path.suffix == ".list":
            found += parse_list(path.read_text())
        elif path.is_file() and path.suffix == ".sources":
            found += parse_deb822(path.read_text())
    return found


def choose(sources: list[Source], suites: set[str]) -> str | None:
    """The address of the first source that serves one of Debian's own `suites`; None when no source does (Ubuntu)."""
    for source in sources:
        if suites & set(source.suites):
            return source.uri.rstrip("/")
    return None


def lines(suites: list[str], root: Path = Path("/")) -> list[str]:
    """What to give mmdebstrap as its MIRROR arguments for `suites`.

    HOTPMEM_DEBIAN_MIRROR overrides. Empty when this machine has no Debian mirror: mmdebstrap then uses its own default.
    """
    main = {"bookworm", "trixie", "forky", "sid", "stable", "testing", "unstable", "bullseye"}
    uri = os.environ.get("HOTPMEM_DEBIAN_MIRROR") or choose(configured(root), main)
    if not uri:
        return []
    return [f"deb [signed-by=/{KEYRING}] {uri} {suite} main" for suite in suites]


def needs_keyring(root: Path = Path("/")) -> bool:
    """True where Debian's own keys are missing (Ubuntu without debian-archive-keyring)."""
    return not (root / KEYRING).exists()
