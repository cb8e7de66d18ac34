# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""hotpmem-node: what a machine does by itself to keep state over its reboots. The engine is that of the Ansible modules."""
