# SPDX-License-Identifier: GPL-3.0-or-later
"""Fill memory of one kind and hold it: hold.py KIND MIB NAME. /run/NAME is ``holding`` then; on SIGUSR1 it becomes ``same`` or ``differs``.

Kinds: anonymous; churn, the same beside a loop that allocates and frees; locked (mlock); hugetlb; registered (io_uring buffers: a long-term
pin, as vfio and RDMA take it); tmpfs and cache, a file on tmpfs or on the disk.
"""

import ctypes
import mmap
import os
import signal
import sys

MIB = 1 << 20
MAP_HUGETLB = 0x40000
IO_URING_SETUP, IO_URING_REGISTER = 425, 427  # the same on every architecture
REGISTER_BUFFERS = 0

libc = ctypes.CDLL(None, use_errno=True)
kind, size, answer = sys.argv[1], int(sys.argv[2]) * MIB, "/run/" + sys.argv[3]
pattern = os.urandom(MIB)


class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def say(word):
    with open(answer + ".new", "w") as file:
        file.write(word)
    os.rename(answer + ".new", answer)


def checked(name, result):
    if result < 0:
        raise SystemExit("%s: %s" % (name, os.strerror(ctypes.get_errno())))
    return result


def get_memory():
    if kind in ("tmpfs", "cache"):
        path = {"tmpfs": "/dev/shm/held", "cache": "/var/tmp/held"}[kind]
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.unlink(path)
        os.ftruncate(descriptor, size)
        return mmap.mmap(descriptor, size)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | (MAP_HUGETLB if kind == "hugetlb" else 0)
    return mmap.mmap(-1, size, flags)


def fix(memory):
    """Make it as hard to move as its kind is."""
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if kind == "locked":
        checked("mlock", libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(size)))
    if kind == "registered":
        ring = checked("io_uring_setup", libc.syscall(IO_URING_SETUP, 1, ctypes.create_string_buffer(120)))
        buffer = Iovec(address, size)
        checked("io_uring_register", libc.syscall(IO_URING_REGISTER, ring, REGISTER_BUFFERS, ctypes.byref(buffer), 1))


def wanted(offset):
    """What the MiB at offset has to hold: the pattern, with its own number in front."""
    return offset.to_bytes(8, "little") + pattern[8:]


def look(*_ignored):
    say("same" if all(memory[at : at + MIB] == wanted(at) for at in range(0, size, MIB)) else "differs")


# When memory runs out it shall hit this one, and not what the test needs.
with open("/proc/self/oom_score_adj", "w") as file:
    file.write("1000")
memory = get_memory()
for at in range(0, size, MIB):
    memory[at : at + MIB] = wanted(at)
fix(memory)
signal.signal(signal.SIGUSR1, look)
say("holding")
while kind == "churn":
    for _again in range(16):
        bytearray(pattern * 4)
while True:
    signal.pause()
