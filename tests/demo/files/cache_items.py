# SPDX-License-Identifier: GPL-3.0-or-later
"""Fill a memcached with random items and check each of them later. Runs on the host itself, with the standard library alone.

cache_items.py fill MIB MANIFEST     store random items of MIB mebibytes in all, write their digests to MANIFEST
cache_items.py check MANIFEST        read each item again; prints {"items", "kept", "missing", "wrong"} as JSON
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import time
from typing import BinaryIO, Dict, List

SERVER = ("127.0.0.1", 11211)
BATCH = 64


def digest(value: bytes) -> str:
    return hashlib.blake2b(value, digest_size=8).hexdigest()


def connect() -> BinaryIO:
    """Debian's unit counts as started when its wrapper is forked; memcached listens when it has its memory."""
    end = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection(SERVER, timeout=60).makefile("rwb", buffering=1 << 20)
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def fill(mib: int, manifest: str) -> None:
    """Store items of 1 to 32 KiB; each set is answered, so that a refused one is seen."""
    digests: Dict[str, str] = {}
    server = connect()
    left = mib << 20
    while left > 0:
        keys: List[str] = []
        while left > 0 and len(keys) < BATCH:
            size = min(left, 1024 + int.from_bytes(os.urandom(2), "little") % 31744)
            key, value = "item-%d" % len(digests), os.urandom(size)
            digests[key] = digest(value)
            server.write(b"set %s 0 0 %d\r\n%s\r\n" % (key.encode(), size, value))
            keys.append(key)
            left -= size
        server.flush()
        for key in keys:
            answer = server.readline()
            if answer != b"STORED\r\n":
                sys.exit("memcached did not store %s: it answered %r" % (key, answer))
    with open(manifest, "w") as file:
        json.dump(digests, file)
    print(json.dumps({"items": len(digests), "mib": mib}))


def get(server: BinaryIO, keys: List[str]) -> Dict[str, bytes]:
    server.write(b"get %s\r\n" % " ".join(keys).encode())
    server.flush()
    found = {}
    while True:
        line = server.readline()
        if line == b"END\r\n":
            return found
        words = line.split()
        if len(words) != 4 or words[0] != b"VALUE":
            sys.exit("memcached answered a get with %r" % line)
        found[words[1].decode()] = server.read(int(words[3]) + 2)[:-2]


def check(manifest: str) -> None:
    with open(manifest) as file:
        digests = json.load(file)
    server = connect()
    keys = list(digests)
    kept = missing = wrong = 0
    for start in range(0, len(keys), BATCH):
        batch = keys[start : start + BATCH]
        found = get(server, batch)
        for key in batch:
            if key not in found:
                missing += 1
            elif digest(found[key]) != digests[key]:
                wrong += 1
            else:
                kept += 1
    print(json.dumps({"items": len(keys), "kept": kept, "missing": missing, "wrong": wrong}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["fill"] and len(sys.argv) == 4:
        fill(int(sys.argv[2]), sys.argv[3])
    elif sys.argv[1:2] == ["check"] and len(sys.argv) == 3:
        check(sys.argv[2])
    else:
        sys.exit(__doc__)
