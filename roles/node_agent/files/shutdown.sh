#!/bin/sh
# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# Writes the time of the jump to the image. systemd-shutdown(8) runs this script last, after all other processes have ended.
[ "${1-}" = kexec ] || exit 0
[ -r /run/hotpmem/device ] || exit 0
read -r device </run/hotpmem/device
[ -b "$device" ] || [ -c "$device" ] || exit 0
exec /usr/local/sbin/pmem-state mark jump --device "$device"
