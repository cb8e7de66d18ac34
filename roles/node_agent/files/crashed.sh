#!/bin/sh
# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# hotpmem-crashed@ITEM.service runs this script when the unit of an item has failed. Usage: crashed ITEM LIMIT
# The item was restored in this boot. If its unit has failed LIMIT times or more since then, including restarts by systemd, the item starts
# without its state at the next boot, because the same state would probably crash the unit again. A handoff while the unit runs cancels
# this.
set -u
umask 077
item=$1 limit=${2:-3}
root=${HOTPMEM_ROOT-}
run=$root/run/hotpmem lib=$root/var/lib/hotpmem
[ -e "$run/restored/$item" ] || exit 0
unit=
while IFS=' ' read -r name word; do
    [ "$name" != "$item" ] || unit=$word
done <"$root/etc/hotpmem/units.conf"
# systemd 251 and later names the unit that failed. It may be an instance of the unit of the item.
unit=${MONITOR_UNIT:-$unit}
mkdir -p "$run/crashes" "$lib/cold" || exit 2
restarts=$(systemctl show --property=NRestarts --value "$unit" 2>/dev/null)
case $restarts in '' | *[!0-9]*) restarts=0 ;; esac
echo "$((restarts + 1))" >>"$run/crashes/$item"
failed=0
while read -r number; do failed=$((failed + number)); done <"$run/crashes/$item"
[ "$failed" -ge "$limit" ] || exit 0
reason="its unit $unit failed $failed times on its restored state"
echo "$reason" >"$lib/cold/$item"
echo "$item starts cold at the next boot: $reason"
