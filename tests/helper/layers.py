# SPDX-License-Identifier: GPL-3.0-or-later
"""What the files of pmem-state need of one another, by #include and by calls, and which of it breaks a rule.

A unit is a .c file and its .h file together ("image/header"). The rules:

- No unit needs itself over others, by #include or by a symbol that one .c file uses and another defines (nm).
- A folder uses only itself and the folders below it.
"""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "roles" / "state_helper" / "files" / "src"
# What each folder may use, beside itself. "" is the folder of main.c.
MAY_USE = {
    "": {"base", "image", "save", "restore", "init"},
    "save": {"base", "image"},
    "restore": {"base", "image"},
    "init": {"base"},
    "image": {"base"},
    "base": set(),
}
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)

Edges = dict[str, dict[str, str]]  # unit: {unit that it needs: why}


def files(source: Path, suffixes: tuple[str, ...] = (".c", ".h")) -> list[Path]:
    """Every source file, wherever it lies."""
    return sorted(p for p in source.rglob("*") if p.suffix in suffixes)


def unit(source: Path, path: Path) -> str:
    """The name of the unit that a file belongs to."""
    return path.relative_to(source).with_suffix("").as_posix()


def includes(source: Path) -> Edges:
    """Who includes whom."""
    edges: Edges = defaultdict(dict)
    for path in files(source):
        for name in INCLUDE.findall(path.read_text(encoding="utf-8")):
            if not (source / name).is_file():
                raise AssertionError(f'{path.relative_to(source)} includes "{name}", which is not a path from {source.name}/')
            edges[unit(source, path)].setdefault(unit(source, source / name), f"{path.relative_to(source)} includes {name}")
    return edges


def symbols(obj: Path) -> tuple[set[str], set[str]]:
    """The symbols that an object file defines for others, and those that it wants from others."""
    defined, wanted = set(), set()
    done = subprocess.run(["nm", obj], capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        *_, kind, name = line.split()
        if kind == "U":
            wanted.add(name)
        elif kind.isupper():
            defined.add(name)
    return defined, wanted


def calls(source: Path, build: Path) -> Edges:
    """Who uses a symbol that another .c file defines. Compiled without optimization, so that no call is inlined away."""
    objects = {}
    for path in files(source, (".c",)):
        objects[unit(source, path)] = obj = build / (unit(source, path).replace("/", "+") + ".o")
        argv = ["gcc", "-std=c11", "-D_GNU_SOURCE", "-DTEST_HOOKS", "-O0", f"-I{source}", "-c", "-o", str(obj), str(path)]
        subprocess.run(argv, check=True)
    table = {name: symbols(obj) for name, obj in objects.items()}
    owner = {symbol: name for name, (defined, _) in table.items() for symbol in defined}
    edges: Edges = defaultdict(dict)
    for name, (_, wanted) in table.items():
        for symbol in sorted(wanted & owner.keys()):
            edges[name].setdefault(owner[symbol], f"{name}.c uses {symbol} of {owner[symbol]}.c")
    return edges


def merged(*graphs: Edges) -> Edges:
    """One graph of several; a unit does not need itself."""
    edges: Edges = defaultdict(dict)
    for graph in graphs:
        for name, needs in graph.items():
            for other, why in needs.items():
                if other != name:
                    edges[name].setdefault(other, why)
    return edges


def cycle(edges: Edges) -> list[str]:
    """The reasons along one cycle; empty when the graph has no cycle."""
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> list[str]:
        if name in way:
            loop = [*way[way.index(name) :], name]
            return [edges[a][b] for a, b in zip(loop, loop[1:], strict=False)]
        if name in done:
            return []
        for other in sorted(edges.get(name, {})):
            found = visit(other, [*way, name])
            if found:
                return found
        done.add(name)
        return []

    for name in sorted(edges):
        found = visit(name, [])
        if found:
            return found
    return []


def folder(name: str) -> str:
    """The folder of a unit, "" at the top."""
    return name.rpartition("/")[0]


def wrong_way(edges: Edges) -> list[str]:
    """Why a folder uses one that it may not use."""
    found = []
    for name, needs in edges.items():
        for other, why in needs.items():
            if folder(other) != folder(name) and folder(other) not in MAY_USE[folder(name)]:
                found.append(why)
    return found
