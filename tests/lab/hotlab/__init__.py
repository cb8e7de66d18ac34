# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU machines with a real Debian kernel and real persistent memory, for the demo, the scenarios and developers."""
