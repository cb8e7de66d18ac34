# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""hotpmem-node keeps the state of a machine across reboots without a controller. It uses the engine of the Ansible modules."""
