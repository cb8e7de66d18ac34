#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hard resets in the middle of a save, on lab machines: afterwards the device holds no valid image, or the complete new one.

Each round does this on each machine. It saves generation N+1 over generation N, and resets the machine at a seeded moment
of the save. QEMU's system_reset keeps memory, as a reset button does. After the boot it asks the helper what the device
holds, restores it, and compares each byte with the source of its generation.

Usage: resets.py [--resets 20] [--hosts 2] [--seed 1] [--mib 128]
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TOP = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parent))
from hotlab import lab, machine

NAME = "resets"
HELPER = "/root/pmem-state"
# The source of generation G can be made again after the reset, and no MiB of it is like another or like one of another generation.
SOURCE = """
import random, struct, sys
generation, mib = int(sys.argv[1]), int(sys.argv[2])
base = random.Random(generation).randbytes(1 << 20)
for n in range(mib):
    sys.stdout.buffer.write(struct.pack("<QQ", generation, n) + base[16:])
"""


class Node:
    """One machine; what happens to it, in order."""

    def __init__(self, host: str, args: argparse.Namespace) -> None:
        self.host, self.mib = host, args.mib
        self.random = random.Random(f"{args.seed} {host}")
        self.saved = 0
        self.seconds = 0.0

    def ssh(self, command: str, check: bool = True, **how) -> subprocess.CompletedProcess:
        words = [*lab.ssh_command(NAME, self.host), command]
        return subprocess.run(words, check=check, text=True, stdout=subprocess.PIPE, **how)

    def source(self, generation: int) -> str:
        return f"python3 /root/source.py {generation} {self.mib}"

    def save(self) -> str:
        return f"{HELPER} save --force --device /dev/pmem0 --item s=/dev/shm/s"

    def prepare(self) -> None:
        with (TOP / "build/x86_64/pmem-state").open("rb") as helper:
            self.ssh(f"cat >{HELPER} && chmod 755 {HELPER}", stdin=helper)
        self.ssh("cat >/root/source.py", input=SOURCE)
        self.ssh("echo nd_pmem >/etc/modules-load.d/pmem.conf; modprobe nd_pmem; sync")
        self.ssh(self.source(0) + " >/dev/shm/s")
        start = time.monotonic()
        self.ssh(self.save())
        self.seconds = time.monotonic() - start

    def round(self, generation: int) -> str:
        """Save `generation`, reset in the middle; what is there afterwards. Raises AssertionError for a mix."""
        self.ssh(self.source(generation) + " >/dev/shm/s")
        boot = self.ssh("cat /proc/sys/kernel/random/boot_id").stdout
        after = self.random.uniform(0.2, 1.05) * self.seconds
        words = [*lab.ssh_command(NAME, self.host), self.save()]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(after)
        machine.reset(lab.node(NAME, self.host))
        self.wait_boot(boot)
        process.kill()  # its connection was to the boot that is gone
        process.wait()
        said = self.ssh(f"{HELPER} info --json --device /dev/pmem0", check=False)
        image = json.loads(said.stdout.splitlines()[-1])["image"]
        # Consumed: the reset came before the save began, and what is there is the image of the round before.
        if image["state"] not in ("none", "consumed"):
            assert image["state"] == "valid", f"{self.host}: {image}"
            self.ssh(f"rm -rf /dev/shm/r; {HELPER} restore --device /dev/pmem0 --item s=/dev/shm/r")
            kept = [g for g in (self.saved, generation) if not self.ssh(self.source(g) + " | cmp -s - /dev/shm/r", check=False).returncode]
            assert kept, f"{self.host}: the image restored bytes of neither generation {self.saved} nor {generation}"
            image["state"] = "complete, new" if kept == [generation] else "complete, old"
            self.ssh("rm /dev/shm/r")
            # The restore consumed it: the next round saves over a consumed one.
            self.saved = generation
        return f"{self.host}: generation {generation}, reset after {after:.2f} s of {self.seconds:.2f} s: {image['state']}"

    def wait_boot(self, boot: str, deadline: float = 300) -> None:
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            got = self.ssh("cat /proc/sys/kernel/random/boot_id; test -b /dev/pmem0", check=False, stderr=subprocess.DEVNULL)
            if got.returncode == 0 and got.stdout != boot:
                return
            time.sleep(0.5)
        raise TimeoutError(
            f"{self.host} did not answer within {deadline:.0f} s of its reset; its console: lab.py console --name {NAME} {self.host}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--resets", type=int, default=20)
    parser.add_argument("--hosts", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mib", type=int, default=128)
    args = parser.parse_args()
    outcomes: list[str] = []

    def work(node: Node) -> None:
        node.prepare()
        for generation in range(1, args.resets // args.hosts + 1):
            outcomes.append(node.round(generation))
            print(f"{len(outcomes)}/{args.resets} {outcomes[-1]}", flush=True)

    machine.interrupt_as_exception()
    try:
        lab.up(NAME, args.hosts, machine.Spec("6.1", "e820", "snapshot", "2G", 1, "auto"))
        with ThreadPoolExecutor(args.hosts) as pool:
            list(pool.map(work, [Node(f"node{n + 1}", args) for n in range(args.hosts)]))
    finally:
        lab.down(NAME)
    whole = sum("complete" in one for one in outcomes)
    print(f"resets: {len(outcomes)} in the middle of a save: {len(outcomes) - whole} without an image, {whole} with a complete one, no mix")
    return 0


if __name__ == "__main__":
    sys.exit(main())
