#!/bin/sh
# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# The last thing before the jump (systemd-shutdown(8) runs it when all else has ended): notes the moment in the image.
[ "${1-}" = kexec ] || exit 0
[ -r /run/hotpmem/device ] || exit 0
read -r device </run/hotpmem/device
[ -b "$device" ] || [ -c "$device" ] || exit 0
exec /usr/local/sbin/pmem-state mark jump --device "$device"
