# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells which hash the kernel computes over a module file to check its signature.

The kernel hashes each signed module when it loads it, whether it insists on signatures or not. The
built-in code for that is plain C. A module with the CPU's own instructions is several times as fast,
so a minimal initrd loads it before all others. It does no I/O.

The format: Documentation/admin-guide/module-signing.rst and include/linux/module_signature.h.
"""

from __future__ import annotations

MAGIC = b"~Module signature appended~\n"
_TRAILER = 12  # bytes of struct module_signature; the last four are the length of the signature, big-endian
# The hashes by their object identifiers (RFC 5754), as the signature (PKCS #7) names them.
_HASHES = {
    "sha256": bytes.fromhex("0609608648016503040201"),
    "sha384": bytes.fromhex("0609608648016503040202"),
    "sha512": bytes.fromhex("0609608648016503040203"),
}
# The modules that have the hashes for x86. Each refuses to be loaded on a CPU without its instructions.
FASTER = {"sha256": "sha256_ssse3", "sha384": "sha512_ssse3", "sha512": "sha512_ssse3"}


def signed_hash(content: bytes) -> str:
    """The hash of the signature at the end of a module file; empty without a signature, and for another hash."""
    if not content.endswith(MAGIC):
        return ""
    end = len(content) - len(MAGIC) - _TRAILER
    length = int.from_bytes(content[end + _TRAILER - 4 : end + _TRAILER], "big")
    signature = content[max(end - length, 0) : max(end, 0)]
    return next((name for name, identifier in _HASHES.items() if identifier in signature), "")
