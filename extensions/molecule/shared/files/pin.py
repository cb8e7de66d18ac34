# SPDX-License-Identifier: GPL-3.0-or-later
"""Pin pages of user memory for as long as this runs: pages given to a pipe by vmsplice(2) are referenced by it and can't be moved."""

import ctypes
import mmap
import os
import signal

libc = ctypes.CDLL(None, use_errno=True)


class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


memory = mmap.mmap(-1, 16 << 20)
for offset in range(0, len(memory), mmap.PAGESIZE):
    memory[offset] = 1
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
reader, writer = os.pipe()
pinned = libc.vmsplice(writer, ctypes.byref(Iovec(address, 16 * mmap.PAGESIZE)), ctypes.c_size_t(1), 0)
if pinned != 16 * mmap.PAGESIZE:
    raise SystemExit("vmsplice: %s" % os.strerror(ctypes.get_errno()))
print("pinned", pinned, "bytes", flush=True)
signal.pause()
