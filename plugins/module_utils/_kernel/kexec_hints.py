# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says what to do when kexec can't load a kernel.

kexec prints the text of the errno of kexec_file_load(2). For ENOSYS, EINVAL, ENOEXEC and ENOTSUP,
kexec-tools prints only that the system call is not available (do_kexec_file_load in kexec/kexec.c).

Sources: kexec_file_load(2), kimage_validate_signature() in kernel/kexec_file.c, and
Documentation/admin-guide/lockdown in kernel_lockdown(7).
"""

from __future__ import annotations

import errno
import os
import re

from .._host.sysfs import Sysfs

LOCKDOWN = "/sys/kernel/security/lockdown"
DMESG = "Look for the reason in the output of dmesg"
_SIGNED = "The running kernel accepts only a kernel that is signed with a key it trusts (secure boot, lockdown). Load a signed kernel"
_HINTS = {
    **dict.fromkeys(
        (
            errno.ENOKEY,
            errno.EKEYREJECTED,
            errno.EKEYEXPIRED,
            errno.EKEYREVOKED,
            errno.ENODATA,
            errno.ENOPKG,
            errno.EBADMSG,
            errno.ELIBBAD,
        ),
        _SIGNED,
    ),
    errno.EACCES: "A security policy (IMA, SELinux) forbids it. Look for the denial in the audit log and in the output of dmesg",
    errno.EBUSY: "Another program is loading a kernel at this moment, for example the kdump service. Try again",
    errno.ENOMEM: "Too little memory is free to hold the kernel and the initrd. Free memory, then try again",
    errno.EADDRNOTAVAIL: "System RAM has no free range that is large enough for the kernel or the initrd",
    errno.EFBIG: "The kernel or the initrd is larger than kexec accepts",
    errno.ENOEXEC: "The file is not a kernel image that kexec_file_load accepts on this machine",
    errno.EINVAL: f"The running kernel rejected the image or the command line. {DMESG}",
    errno.ETXTBSY: "A program is writing the kernel or the initrd. Try again when it has finished",
    errno.ENOSYS: "The running kernel lacks kexec_file_load (CONFIG_KEXEC_FILE)",
}
UNAVAILABLE = "kexec_file_load not available"  # how kexec-tools says it
_UNAVAILABLE = (
    "The running kernel lacks kexec_file_load (CONFIG_KEXEC_FILE), or rejected the image: kexec prints the same for both. "
    f"{DMESG}. The file must be an uncompressed or self-extracting kernel image of this architecture"
)
_GENERAL = ("Cannot load ", "kexec: load failed", "kexec: setup_2nd_dtb failed")
_OLDER_CALL = {  # what kexec -c -d prints: kexec/arch/arm64/kexec-arm64.c in kexec-tools
    "kaslr-seed is not wiped": "Boot the host without nokaslr, or without a kaslr-seed in its device tree: a kernel wipes the seed only "
    "when it uses it, and kexec refuses to hand it on",
    "locate_hole failed": "kexec found no free range that is large enough in System RAM below the persistent memory. Free memory, or "
    "choose a smaller kernel or initrd",
}


def reason(said: str) -> str:
    """Why ``kexec -c -d`` failed: the last line of what it printed that is not said of each failure, or the last line."""
    lines = [line.strip(" .") for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(_GENERAL)]
    return (telling or lines or ["kexec said nothing"])[-1]


def hint(said: str, sysfs: Sysfs) -> str:
    """What to do next, as a sentence without a final full stop.

    ``said`` is what kexec printed, of the older call as well when that was tried.
    """
    known = next((text for words, text in _OLDER_CALL.items() if words in said), "")
    if known:
        return known
    if UNAVAILABLE in said:
        return _UNAVAILABLE
    number = next((one for one in (errno.EPERM, *_HINTS) if os.strerror(one) in said), None)
    if number == errno.EPERM:
        return _denied(sysfs)
    return _HINTS.get(number or 0, DMESG)


def _denied(sysfs: Sysfs) -> str:
    """EPERM: lockdown refuses an unsigned kernel, or the process may not load one."""
    mode = re.search(r"\[(\w+)\]", sysfs.get(LOCKDOWN))
    if mode and mode.group(1) != "none":
        return f"Lockdown is on ({mode.group(1)}). {_SIGNED}"
    return f"Run as root (become: true), outside of a container. {DMESG}"
