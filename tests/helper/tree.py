# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes hostile trees and lists trees, so that two can be compared in everything an image has to keep."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import stat
import subprocess

ROOT = os.geteuid() == 0
resource.setrlimit(resource.RLIMIT_NOFILE, (min(16384, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)


def data_map(fd: int, size: int) -> list[tuple[int, int]]:
    """Runs of data of an open file: (start, end)."""
    runs, at = [], 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            break
        at = os.lseek(fd, start, os.SEEK_HOLE)
        runs.append((start, at))
    return runs


def contents(fd: int, size: int) -> str:
    """A digest of what can be read; zeros count the same whether they are there or a hole."""
    digest, grid = hashlib.blake2b(), 1 << 16
    done = 0
    for start, end in data_map(fd, size):
        for at in range(max(start // grid * grid, done), end, grid):
            block = os.pread(fd, grid, at)
            done = at + grid
            if block.strip(b"\0"):
                digest.update(b"%d:%d:" % (at, len(block)) + block)
    return digest.hexdigest()


def entry(directory: int, name: bytes, links: dict, path: bytes) -> dict:
    """Everything about one entry that a copy has to keep."""
    st = os.stat(name, dir_fd=directory, follow_symlinks=False)
    by_fd = b"/proc/self/fd/%d/%s" % (directory, name)
    out = {
        "type": stat.S_IFMT(st.st_mode),
        "mode": stat.S_IMODE(st.st_mode),
        "owner": (st.st_uid, st.st_gid),
        "mtime_ns": st.st_mtime_ns,
        "xattrs": {x: os.getxattr(by_fd, x, follow_symlinks=False) for x in sorted(os.listxattr(by_fd, follow_symlinks=False))},
    }
    if not stat.S_ISDIR(st.st_mode) and st.st_nlink > 1:
        out["link"] = links.setdefault((st.st_dev, st.st_ino), path)
    if stat.S_ISREG(st.st_mode):
        fd = os.open(name, os.O_RDONLY | os.O_NOATIME if ROOT else os.O_RDONLY, dir_fd=directory)
        out["size"], out["sum"] = st.st_size, contents(fd, st.st_size)
        os.close(fd)
    elif stat.S_ISLNK(st.st_mode):
        out["target"] = os.readlink(name, dir_fd=directory)
    elif stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
        out["device"] = (os.major(st.st_rdev), os.minor(st.st_rdev))
    return out


def listing(path: str | os.PathLike) -> dict[bytes, dict]:
    """The tree below path (or the file): relative path to its properties. Any depth; the order does not matter."""
    parent, base = os.path.split(os.fsencode(os.fspath(path)))
    links: dict = {}
    top = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
    out = {b"": entry(top, base, links, b"")}
    stack = []
    if out[b""]["type"] == stat.S_IFDIR:
        stack.append((os.open(base, os.O_RDONLY | os.O_DIRECTORY, dir_fd=top), b""))
    while stack:
        fd, where = stack.pop()
        for name in sorted(os.fsencode(n) for n in os.listdir(fd)):
            rel = where + b"/" + name
            out[rel] = entry(fd, name, links, rel)
            if out[rel]["type"] == stat.S_IFDIR:
                stack.append((os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd), rel))
        os.close(fd)
    os.close(top)
    # The name by which a group of links is known depends on the order of the walk: name it after its smallest member.
    groups: dict = {}
    for rel, e in out.items():
        if "link" in e:
            groups.setdefault(e["link"], []).append(rel)
    for members in groups.values():
        for rel in members:
            out[rel]["link"] = min(members)
    return out


def assert_same(a: str | os.PathLike, b: str | os.PathLike) -> None:
    """Fails with the first differences."""
    left, right = listing(a), listing(b)
    wrong = [(k, left.get(k), right.get(k)) for k in sorted(left.keys() | right.keys()) if left.get(k) != right.get(k)]
    assert not wrong, f"{len(wrong)} entries differ: {wrong[:3]}"


def nest(directory: int, depth: int, name: str) -> None:
    """depth directories inside one another, a file at the bottom. No path is ever long."""
    fd = os.dup(directory)
    for _ in range(depth):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    with open(os.open("bottom", os.O_WRONLY | os.O_CREAT, 0o640, dir_fd=fd), "w", encoding="ascii") as f:
        f.write("deep\n")
    os.close(fd)


def small_files(path: str | os.PathLike, count: int, mean: int, seed: int = 1) -> int:
    """count files in directories of 100, sizes exponential around mean. Returns their bytes."""
    r, total = random.Random(seed), 0
    pool = r.randbytes(1 << 20)
    for i in range(count):
        where = os.path.join(path, f"d{i // 100}")
        if i % 100 == 0:
            os.makedirs(where, exist_ok=True)
        n, at = min(int(r.expovariate(1 / mean)), 1 << 19), r.randrange(1 << 19)
        with open(f"{where}/f{i}", "wb") as f:
            f.write(pool[at : at + n])
        total += n
    return total


def hostile(path: str | os.PathLike, seed: int = 1, deep: int = 2000) -> None:
    """A tree with everything odd that a file system allows."""
    r = random.Random(seed)
    os.makedirs(path)
    top = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def write(name: bytes | str, data: bytes, mode: int = 0o644) -> None:
        with open(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode, dir_fd=top), "wb") as f:
            f.write(data)

    odd = [
        b"...",
        b"..x",
        b" ",
        b"-rf",
        b"new\nline",
        b"tab\t",
        b"\xff\xfe not utf-8",
        b"\x80",
        "snow\u2603".encode(),
        b"quote'\"\\",
        b"*?[",
        b"x" * 255,
        b"\x01\x7f",
        b".hotpmem-x.01234567",
        "\ud7ff\U0010ffff".encode(),
        b"\xed\xa0\x80",
    ]
    for i, name in enumerate(odd):
        write(name, r.randbytes(i * 37))
        os.mkdir(b"dir " + name[:200], dir_fd=top)
    for size in (0, 1, 63, 64, 65, 4095, 4096, 4097, 16383, 16384, 16385, 262143, 262144, 262145, 1000000, 3 << 20):
        write(f"size{size}", r.randbytes(size))
    write("zeros", bytes(1 << 20))
    for mode in (0, 0o400, 0o777, 0o4755, 0o2755, 0o1644, 0o7777):
        write(f"mode{mode:o}", b"m")
        os.chmod(f"mode{mode:o}", mode, dir_fd=top)
        os.mkdir(f"dirmode{mode:o}", dir_fd=top)
        os.chmod(f"dirmode{mode:o}", mode if ROOT else mode | 0o700, dir_fd=top)
    # Holes: at the front, in the middle, at the end, everywhere, nothing but a hole.
    for name, size, runs in (
        ("front", 1 << 20, [(900000, 5)]),
        ("end", 1 << 20, [(0, 70000)]),
        ("all", 5 << 20, []),
        ("comb", 8 << 20, [(i << 13, 4096) for i in range(1000)]),
        ("big", 1 << 27, [(1 << 26, 9)]),
    ):
        fd = os.open(f"sparse-{name}", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=top)
        os.ftruncate(fd, size)
        for at, n in runs:
            os.pwrite(fd, r.randbytes(n), at)
        os.close(fd)
    for i, target in enumerate((b"/etc/passwd", b"../../../x", b"dangling", b".", b"t" * 4095, b"\xff\n")):
        os.symlink(target, f"symlink{i}", dir_fd=top)
    os.mkfifo("fifo", 0o610, dir_fd=top)
    for i in range(4):
        os.link("size4097", f"hard{i}", src_dir_fd=top, dst_dir_fd=top)
        os.link("size262145", f"dir .../hard{i}", src_dir_fd=top, dst_dir_fd=top)
    os.link("symlink0", "symlink-hard", src_dir_fd=top, dst_dir_fd=top, follow_symlinks=False)
    os.link("fifo", "fifo-hard", src_dir_fd=top, dst_dir_fd=top)
    base = os.fsencode(os.fspath(path))
    os.setxattr(base + b"/size65", "user.empty", b"")
    os.setxattr(base + b"/size65", "user.binary", bytes(range(256)))
    os.setxattr(base + b"/size262145", "user.big", r.randbytes(60000))
    os.setxattr(base + b"/dir -rf", "user.dir", b"\0\0")
    subprocess.run(["setfacl", "-m", "u:12345:rwx,g:54321:---", f"{os.fspath(path)}/size4096"], check=True)
    subprocess.run(["setfacl", "-m", "d:u:12345:rx,d:o::---", f"{os.fspath(path)}/dir -rf"], check=True)
    if ROOT:
        subprocess.run(["setcap", "cap_net_bind_service=ep", f"{os.fspath(path)}/mode777"], check=True)
        os.setxattr(base + b"/fifo", "trusted.fifo", b"f", follow_symlinks=False)
        os.setxattr(base + b"/symlink1", "trusted.link", b"l", follow_symlinks=False)
        os.chown("mode4755", 4711, 4712, dir_fd=top)
        os.chmod("mode4755", 0o4755, dir_fd=top)
        os.chown("symlink2", 1, 2, dir_fd=top, follow_symlinks=False)
        os.mknod("char", stat.S_IFCHR | 0o640, os.makedev(1, 3), dir_fd=top)
        os.mknod("block", stat.S_IFBLK | 0o600, os.makedev(4095, 1048575), dir_fd=top)
    nest(top, deep, "n")
    nest(top, 300, "long" * 60)
    for name, ns in (("size1", 1), ("size63", -5 * 10**9 + 7), ("mode777", 2**33 * 10**9 + 999999999), ("dir -rf", 1234567890123456789)):
        os.utime(name, ns=(0, ns), dir_fd=top)
    os.utime("symlink3", ns=(0, 987654321), dir_fd=top, follow_symlinks=False)
    os.utime(path, ns=(0, 1111111111222222222))
    os.close(top)
