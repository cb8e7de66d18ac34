#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU machines with a real Debian kernel and persistent memory: lab.py up, then ansible-playbook -i the inventory it names."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from hotlab import architectures, image, kernels, lab, machine, packages
from hotlab.errors import LabError


def main(arguments: list[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    machine.interrupt_as_exception()
    try:
        return int(args.run(args) or 0)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab.py", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)

    def verb(name: str, run: object, text: str, host: bool = False) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        sub.add_argument("--name", default="demo", help="which lab (default: demo)")
        if host:
            sub.add_argument("host")
        return sub

    up = verb("up", _up, "build what is missing, start machines, return when each answers ssh")
    up.add_argument("--hosts", type=int, default=2)
    for sub in (up, verb("image", _image, "build the image (and keep it in the cache) without starting anything")):
        sub.add_argument("--kernel", default="6.1", choices=list(kernels.KERNELS))
        sub.add_argument("--arch", default="amd64", choices=list(architectures.ARCHITECTURES))
    up.add_argument("--pmem", default="e820", choices=["e820", "nfit", "labels", "devicetree", "none"])
    up.add_argument("--boot", default="snapshot", choices=["snapshot", "grub"], help="grub: boot the machine's own disk")
    up.add_argument("--memory", default="2G")
    up.add_argument("--cpus", type=int, default=2)
    up.add_argument("--accel", default=os.environ.get("HOTPMEM_ACCEL", "auto"), choices=["auto", *machine.ACCELS])

    verb("down", _down, "end a lab's machines and remove its folder")
    verb("status", _status, "one line a machine")
    verb("console", _console, "print a machine's serial console", host=True)
    verb("report", _report, "print the tail of a machine's console and journal", host=True)
    verb("reset", _reset, "hard-reset a machine: no shutdown, memory kept", host=True)
    verb("add-dimm", _add_dimm, "plug a second NVDIMM into a running machine; prints the file that is its content", host=True)
    verb("stop-at-reboot", _stop_at_reboot, "stop a machine when it reboots the next time", host=True)
    verb("clear", _clear, "wait for that, clear its NVDIMM and let it boot, as firmware that clears memory", host=True)
    debs = verb("packages", _packages, "download what a machine lacks for these Debian packages; prints the tar file of them", host=True)
    debs.add_argument("package", nargs="+")
    debs.add_argument("--without", default="", help="packages to leave out, with what only they need; separated by commas")
    ssh = verb("ssh", _ssh, "log in, or run a command", host=True)
    ssh.add_argument("command", nargs=argparse.REMAINDER)
    return parser


def _up(args: argparse.Namespace) -> None:
    spec = machine.Spec(args.kernel, args.pmem, args.boot, args.memory, args.cpus, args.accel, args.arch)
    home = lab.up(args.name, args.hosts, spec)
    print(f"{home}/inventory.yml")


def _image(args: argparse.Namespace) -> None:
    print(image.ensure(architectures.find(args.arch), args.kernel))


def _down(args: argparse.Namespace) -> None:
    print(f"lab {args.name}: ended {lab.down(args.name)} machine(s)")


def _status(args: argparse.Namespace) -> int:
    rows = lab.status(args.name)
    for row in rows:
        print(json.dumps(row))
    if not rows:
        print(f"lab {args.name} is not up")
    return 0 if rows and all(row["ssh"] for row in rows) else 3


def _console(args: argparse.Namespace) -> None:
    print(machine.readable(lab.node(args.name, args.host) / "serial.log"))


def _report(args: argparse.Namespace) -> None:
    print(lab.report(args.name, args.host))


def _reset(args: argparse.Namespace) -> None:
    machine.reset(lab.node(args.name, args.host))


def _add_dimm(args: argparse.Namespace) -> None:
    print(machine.add_dimm(lab.node(args.name, args.host)))


def _packages(args: argparse.Namespace) -> None:
    print(packages.fetch(args.name, args.host, args.package, [one for one in args.without.split(",") if one]))


def _stop_at_reboot(args: argparse.Namespace) -> None:
    machine.stop_at_reboot(lab.node(args.name, args.host))


def _clear(args: argparse.Namespace) -> None:
    dimm = lab.spec(args.name).dimm
    if dimm is None:
        raise LabError(f"Lab {args.name} has no NVDIMM", "", "Start it with --pmem nfit or labels.")
    machine.clear(lab.node(args.name, args.host), dimm)


def _ssh(args: argparse.Namespace) -> None:
    command = lab.ssh_command(args.name, args.host)
    # The terminal is for people; with a command, ssh decides.
    os.execvp(command[0], [*command, *args.command])  # noqa: S606


if __name__ == "__main__":
    sys.exit(main())
