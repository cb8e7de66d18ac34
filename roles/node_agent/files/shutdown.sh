#!/bin/sh
# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# Writes the time of the jump to the image. systemd-shutdown(8) runs this script last, after all other processes have ended.
[ "${1-}" = kexec ] || exit 0
root=${HOTPMEM_ROOT-} # the tests set a directory
[ -r "$root/run/hotpmem/device" ] || exit 0
read -r device <"$root/run/hotpmem/device"
[ -b "$device" ] || [ -c "$device" ] || exit 0
helper=$root/usr/local/sbin/pmem-state
if [ -r "$root/etc/hotpmem/helper.conf" ]; then
    while IFS= read -r line; do
        case $line in '' | '#'*) ;; *) helper=$line ;; esac
    done <"$root/etc/hotpmem/helper.conf"
fi
exec "$helper" mark jump --device "$device"
