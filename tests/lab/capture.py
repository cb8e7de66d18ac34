#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy what the engine reads on a machine into one file from which a stand-in for its root is made: fixtures for the unit tests.

    capture.py [--name LAB] HOST DEST        e.g. capture.py node1 tests/unit/fixtures/6.1-e820-raw.json

DEST holds, as JSON, the small text files of /sys and /proc, their links (all relative, all inside), the directories that may
be empty, and for each command: argv, rc, stdout, stderr.
"""

from __future__ import annotations

import argparse
import io
import json
import posixpath
import subprocess
import sys
import tarfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from hotlab import lab

# Runs on the machine; writes one tar stream. Files of /sys have no honest size, so each is read whole first.
COLLECT = r'''
import glob, io, json, os, stat, subprocess, sys, tarfile

out = tarfile.open(fileobj=sys.stdout.buffer, mode="w|")
done = set()

def add(name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o644
    out.addfile(info, io.BytesIO(data))

def parents(path):
    parts = path.strip("/").split("/")[:-1]
    for i in range(1, len(parts) + 1):
        link("/" + "/".join(parts[:i]))

def link(path):
    """Add `path` when it is a link, with its target made relative."""
    if path in done or not os.path.islink(path):
        return
    done.add(path)
    parents(path)
    target = os.readlink(path)
    if target.startswith("/"):
        target = os.path.relpath(target, os.path.dirname(path))
    info = tarfile.TarInfo("root" + path)
    info.type = tarfile.SYMTYPE
    info.linkname = target
    out.addfile(info)

def take(path):
    if path in done:
        return
    if os.path.islink(path):
        link(path)
        return
    done.add(path)
    if not stat.S_ISREG(os.stat(path).st_mode) or not os.access(path, os.R_OK):
        return
    mode = os.stat(path).st_mode
    if not mode & 0o444:      # write-only attributes (bind, new_id): present, and empty
        add("root" + path, b"")
        return
    try:
        with open(path, "rb") as f:
            data = f.read(65536)
    except OSError:
        return
    if b"\0" in data:
        return
    add("root" + path, data)

def folder(path):
    """The files of a sysfs folder and of its real subfolders."""
    path = os.path.realpath(path)
    if path in done:
        return
    done.add(path)
    for name in sorted(os.listdir(path)):
        child = path + "/" + name
        if os.path.islink(child):
            if name in ("driver", "subsystem", "bus", "module"):
                link(child)
        elif os.path.isdir(child):
            if name not in ("power", "trace", "block"):
                folder(child)
        else:
            take(child)

for path in glob.glob("/sys/bus/nd/devices/*") + glob.glob("/sys/bus/dax/devices/*"):
    link(path)
    folder(path)
buses = ["/sys/bus/" + bus + "/" + kind for bus in ("nd", "dax") for kind in ("devices", "drivers")]
drivers = glob.glob("/sys/bus/nd/drivers/*") + glob.glob("/sys/bus/dax/drivers/*")
for path in buses + drivers:
    info = tarfile.TarInfo("root" + path)
    info.type = tarfile.DIRTYPE
    info.mode = 0o755
    out.addfile(info)
for path in drivers:
    for name in sorted(os.listdir(path)):
        child = path + "/" + name
        if os.path.islink(child) and name != "module":
            link(child)
        elif os.path.isfile(child):
            take(child)
memory = "/sys/devices/system/memory"
for name in ("block_size_bytes", "auto_online_blocks"):
    take(memory + "/" + name)
for path in glob.glob(memory + "/memory[0-9]*"):
    for name in ("state", "valid_zones", "phys_index", "removable"):
        if os.path.exists(path + "/" + name):
            take(path + "/" + name)
    for node in glob.glob(path + "/node*"):
        link(node)
for path in glob.glob("/sys/devices/system/node/node*"):
    take(path + "/meminfo")
for path in glob.glob("/sys/block/pmem*"):
    link(path)
    for name in ("size", "dev", "ro", "uevent"):
        take(os.path.realpath(path) + "/" + name)
    for name in os.listdir(path + "/holders"):
        link(os.path.realpath(path) + "/holders/" + name)
for name in ("cmdline", "iomem", "meminfo", "swaps", "version", "mounts", "sys/kernel/random/boot_id", "sys/kernel/osrelease"):
    take("/proc/" + name) if name != "mounts" else add("root/proc/mounts", open("/proc/self/mounts", "rb").read())
for name in ("kexec_loaded", "kexec_crash_loaded"):
    take("/sys/kernel/" + name)
for name in ("machine-id", "os-release"):
    add("root/etc/" + name, open("/etc/" + name, "rb").read())

def run(name, *argv):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"})
    add("cmd/" + name + ".json", json.dumps({"argv": argv, "rc": done.returncode, "stdout": done.stdout.decode(),
        "stderr": done.stderr.decode()}, indent=1).encode() + b"\n")

run("ndctl-version", "ndctl", "--version")
run("daxctl-version", "daxctl", "--version")
run("kexec-version", "kexec", "--version")
run("ndctl-list-RNDi", "ndctl", "list", "-R", "-N", "-D", "-i")
run("ndctl-list-N", "ndctl", "list", "-N")
run("ndctl-list-Ni", "ndctl", "list", "-N", "-i")
run("ndctl-list-Ri", "ndctl", "list", "-R", "-i")
run("ndctl-list-BRNDXvi", "ndctl", "list", "-B", "-R", "-N", "-D", "-X", "-v", "-i")
run("daxctl-list-RDi", "daxctl", "list", "-R", "-D", "-i")
run("daxctl-list-RDMi", "daxctl", "list", "-R", "-D", "-M", "-i")
run("daxctl-list-D", "daxctl", "list", "-D")
run("lsblk", "lsblk", "--json", "--bytes", "--output", "NAME,TYPE,SIZE,MOUNTPOINT")
out.close()
'''


def unpack(stream: bytes) -> dict:
    """The tar stream as one value; refuses links that lead outside its root."""
    out: dict = {"commands": {}, "directories": [], "files": {}, "links": {}}
    with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
        for member in tar:
            kind, _, name = member.name.partition("/")
            if member.issym():
                inside = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
                if posixpath.isabs(inside) or inside.split("/")[0] == "..":
                    raise SystemExit(f"{name} -> {member.linkname} leads outside the tree")
                out["links"][name] = member.linkname
            elif member.isdir():
                out["directories"].append(name)
            else:
                data = tar.extractfile(member)
                assert data is not None
                text = data.read().decode()
                if kind == "cmd":
                    out["commands"][name.removesuffix(".json")] = json.loads(text)
                else:
                    out["files"][name] = text
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--name", default="demo", help="the lab (default: demo)")
    parser.add_argument("host")
    parser.add_argument("dest", type=Path)
    args = parser.parse_args()
    if args.dest.exists():
        raise SystemExit(f"{args.dest} exists; remove it first")
    command = [*lab.ssh_command(args.name, args.host), "python3 -"]
    done = subprocess.run(command, input=COLLECT.encode(), stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(f"collecting on {args.host} failed with status {done.returncode}; see the lines above")
    machine = unpack(done.stdout)
    args.dest.write_text(json.dumps(machine, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps({"dest": str(args.dest), "files": len(machine["files"]), "links": len(machine["links"])}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
