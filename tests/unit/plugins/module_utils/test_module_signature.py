# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hash of a module's signature, read from signatures that openssl makes as the kernel's build does (scripts/sign-file.c)."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.module_signature import MAGIC, signed_hash

CODE = b"\x7fELF" + bytes(3000)


@functools.lru_cache(maxsize=None)
def module_signature(name):
    """A module file that is signed with this hash."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "code").write_bytes(CODE)
        key = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=build", "-keyout", "key", "-out", "certificate"]
        sign = ["openssl", "cms", "-sign", "-binary", "-noattr", "-nocerts", "-nosmimecap", "-md", name, "-in", "code", "-outform", "DER"]
        subprocess.run(key, cwd=here, check=True, capture_output=True)
        subprocess.run([*sign, "-inkey", "key", "-signer", "certificate", "-out", "made"], cwd=here, check=True, capture_output=True)
        made = (here / "made").read_bytes()
    return CODE + made + bytes([0, 0, 2, 0, 0, 0, 0, 0]) + len(made).to_bytes(4, "big") + MAGIC


@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512"])
def test_the_hash_of_a_signature(name):
    assert signed_hash(module_signature(name)) == name


@pytest.mark.parametrize("content", [b"", MAGIC, CODE, module_signature("sha256")[:-1], module_signature("sha1"), bytes(4) + MAGIC])
def test_none_without_a_signature_that_is_known(content):
    assert signed_hash(content) == ""


def test_only_the_signature_counts():
    """The identifier may be in the module's own data, as in a module that checks signatures itself."""
    signed = module_signature("sha512")
    end = len(signed) - len(MAGIC) - 12
    assert signed_hash(bytes.fromhex("0609608648016503040201") + signed[:end] + signed[end:]) == "sha512"
