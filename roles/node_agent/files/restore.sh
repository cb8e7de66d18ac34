#!/bin/sh
# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# Restores the saved state early in boot. It needs only a POSIX shell and the copy helper. It waits for neither the network nor Python.
#
# restore SECONDS_TO_WAIT_FOR_THE_DEVICE [HELPER]: hotpmem-restore.service runs this.
# restore --failed: the same unit runs this at its end. If the restore ended without a result, it writes one, so that the units of the
# items do not wait for their state any longer.
# restore --early [HELPER]: the /init of the minimal initrd runs this while systemd starts. It writes only to /run and restores only in
# the plain case. It leaves all other cases, and all writing to the disk, to the unit, which waits for it.
#
# Files in /run/hotpmem:
#   restore.json          the result of the helper, or the reason why the helper did not run
#   restored/NAME         the item NAME was restored
#   cold/NAME             the reason why the item NAME was deliberately not restored
#   hold/NAME             the unit of the item NAME stays down
#   due                   a restore was due
#   restore.lock          locked during a restore
#   early.pid             the process group of --early and the start time of its first process; empty after it has ended
#   early.log             the output of --early, and the CPU time that it took
#   early                 the exit code of --early, until the unit has taken over
#
# Exit code: that of the helper; 0 if nothing was due and no image was found; 3 if a restore was due and no image was found.
set -u
umask 077
wait=${1:-10} helper=${2:-/usr/local/sbin/pmem-state}
root=${HOTPMEM_ROOT-} # the tests set a directory
run=$root/run/hotpmem lib=$root/var/lib/hotpmem etc=$root/etc/hotpmem nd=$root/sys/bus/nd/devices
result=$run/restore.json
early=
[ "${1-}" != --early ] || early=1 wait=2
[ -d "$run" ] || mkdir -p "$run" || exit 2
# Leaves the restore to the unit, as if --early had never run. The unit prints the reason.
leave() { # REASON
    [ ! -e "$run/early.pid" ] || : >"$run/early.pid"
    echo "the initrd left the restore to this unit: $1" >"$run/early.log"
    exit 0
}

if [ -n "$early" ]; then
    [ -L "$root/etc/systemd/system/multi-user.target.wants/hotpmem-restore.service" ] || leave "the unit is not enabled"
    [ -e "$lib/pending" ] || leave "the previous boot did not save any state"
    [ -z "$(ls "$lib/cold" 2>/dev/null)" ] || leave "a record on the disk says that an item must start cold"
fi

# Sets group and start to the process group and the start time of a process, see proc_pid_stat(5). They are empty if it has ended.
look_at() { # DIRECTORY IN /proc
    group='' start=''
    { read -r line <"$1/stat"; } 2>/dev/null || return 0
    line=${line##*) } # the name before this may contain spaces
    # shellcheck disable=SC2086
    set -- $line
    group=$3 start=${20}
}

# Kills the processes of --early. Their number may belong to another program by now. The process group is still the one of --early if its
# first process has the recorded start time, or if one of its processes has the lock open.
kill_early() {
    number='' since=''
    [ ! -r "$run/early.pid" ] || read -r number since <"$run/early.pid" || :
    case $number in '' | *[!0-9]*) return 0 ;; esac
    look_at "/proc/$number"
    mine=
    [ -z "$start" ] || [ "$start" != "$since" ] || mine=1
    for process in /proc/[0-9]*; do
        [ -z "$mine" ] || break
        look_at "$process"
        # shellcheck disable=SC3013 # dash, bash and BusyBox know -ef
        [ "$group" != "$number" ] || ! [ "$process/fd/9" -ef "$run/restore.lock" ] || mine=1
    done
    [ -z "$mine" ] || kill -s KILL -- "-$number"
}

# The restore of this boot is over. A handoff that starts a state unit again, and with it this unit, holds the lock: do not wait for it.
[ -n "$early" ] || [ ! -e "$result" ] || [ -e "$run/early" ] || exit 0

# The helper inherits this lock. The lock is free when the restore and all processes that it started have ended.
exec 9>>"$run/restore.lock"
if [ "${1-}" = --failed ]; then
    # The processes of the unit have ended by now. Kill those of --early too: once the result tells the units to start cold, no process
    # may put items in place. The wait is shorter than TimeoutStopSec=. A process that survives it hangs in the kernel.
    left=80
    until flock -n 9 || [ "$left" -le 0 ]; do
        kill_early
        sleep 0.1
        left=$((left - 1))
    done
else
    flock 9
fi
if [ -n "$early" ]; then
    look_at "/proc/$$"
    echo "$$ $start" >"$run/early.pid" # /init starts this script in its own process group
    exec >"$run/early.log" 2>&1
fi

end() { # EXIT
    if [ -n "$early" ]; then : >"$run/early.pid"; else rm -f "$lib/pending"; fi
    exit "$1"
}

# Prints early.log. The units wait for this, so it starts no program. If --early was killed, its last line may be incomplete.
early_said() {
    while IFS= read -r line || [ -n "$line" ]; do echo "$line"; done <"$run/early.log"
}

# Restore once per boot. A state unit that is restarted also starts this unit again.
if [ -e "$result" ]; then
    [ -e "$run/early" ] || exit 0
    early_said
    : >"$lib/serving"
    read -r code <"$run/early" || code=2
    # Keep this order. If this is interrupted in between, the next run repeats it.
    rm -f "$lib/pending" "$run/early"
    exit "$code"
fi
rm -f "$run/early"
[ -n "$early" ] || [ ! -e "$run/early.log" ] || early_said
mkdir -p "$run/hold" "$run/restored" "$run/cold" "$lib" || exit 2

# pending: the previous boot saved state. serving: units have run with state. After a power cut pending does not exist, but state was
# lost.
due=
if [ -e "$lib/pending" ] || [ -e "$lib/serving" ]; then
    due=1
    : >"$run/due"
    # From now on this machine has state to lose.
    [ -n "$early" ] || : >"$lib/serving"
fi

# Do this first. If systemd stops this script at its deadline, the units that must not start without their state stay down.
if [ -n "$due" ] && [ -r "$etc/hold.conf" ]; then
    while IFS= read -r name; do
        case $name in '' | '#'*) continue ;; esac
        [ ! -e "$run/restored/$name" ] || continue # the initrd restored this item before it was stopped
        echo "its state was not restored, and cold_start is false" >"$run/hold/$name"
    done <"$etc/hold.conf"
fi

# say STATUS EXIT SAID: writes a result in the format of the helper. SAID must not contain quotes or backslashes.
say() {
    printf '{"event": "result", "verb": "restore", "exit": %s, "status": "%s", "refused": null, "msg": "%s", "error": {"what": "Restoring the state", "said": "%s", "todo": "Start the services cold"}, "items": []}\n' \
        "$2" "$1" "$3" "$3" >"$result"
    echo "$3"
}

if [ "${1-}" = --failed ]; then
    say failed 2 "hotpmem-restore.service ended without a result (${SERVICE_RESULT-unknown}): journalctl -u hotpmem-restore shows the reason. The image is kept"
    end 0
fi

stopped() {
    [ -z "$early" ] || leave "the early restore was stopped"
    say timeout 2 "the restore did not end within its deadline and was stopped. Each item is either restored completely or unchanged"
    end 2
}
trap stopped TERM INT

nothing() { # SAID
    [ -z "$early" ] || leave "$1"
    say no_image 3 "$1"
    [ -z "$due" ] || end 3
    end 0
}

# Takes over the note that an item starts cold. A unit that must not start cold stays down here as well. Record this reason for it.
start_cold() { # NAME
    mv -f "$lib/cold/$1" "$run/cold/$1"
    [ ! -e "$run/hold/$1" ] || cp "$run/cold/$1" "$run/hold/$1"
    echo "$1 is not restored: $(cat "$run/cold/$1")"
}

# A shutdown that could trust none of the items saved nothing, and noted why.
if [ ! -e "$lib/pending" ] && [ -z "$early" ]; then
    for note in "$lib/cold"/*; do
        [ ! -f "$note" ] || start_cold "${note##*/}"
    done
fi

# Without pending, an existing image is older than the work that the units have done since. Restoring it would undo that work.
[ -e "$lib/pending" ] || nothing "the previous boot did not save any state"

# The save recorded its place: the start of the namespace and the road (raw: its block device; dax: its dax device).
place='' road=''
[ ! -r "$lib/place" ] || read -r place road <"$lib/place" || :
[ "$road" = dax ] || road=raw

# Sets device and adds to count if the raw namespace $ns has a block device. Sets other if the namespace is claimed (devdax), so that it
# cannot contain a raw image.
look_raw() {
    if [ -n "$holder" ]; then
        # The driver claims the namespace for a moment while it looks for info blocks. A lasting claim has its own driver.
        [ ! -e "$nd/$holder/driver" ] || other="claimed by $holder, not raw"
        return 0
    fi
    for block in "$ns"/block/*; do
        # The kernel creates the node itself (devtmpfs), so there is no need to wait for udev.
        [ -e "$root/dev/${block##*/}" ] || continue
        device=$root/dev/${block##*/}
        count=$((count + 1))
    done
}

# The same for the dax device of the namespace $ns. It must be bound to device_dax. If it is bound to kmem, it is System RAM.
look_dax() {
    for block in "$ns"/block/*; do
        [ -e "$block" ] || continue
        other="raw, not devdax"
        [ ! -e "$root/dev/${block##*/}" ] || emptied=$root/dev/${block##*/}
    done
    for dax in "$nd/${holder:-none}"/dax*.*; do
        name=${dax##*/}
        [ ! -e "$root/sys/bus/dax/drivers/kmem/$name" ] || other="System RAM already ($name is bound to kmem)"
        [ -e "$root/sys/bus/dax/drivers/device_dax/$name" ] || continue
        # The kernel shows the driver before a program can open the node.
        (: <"$root/dev/$name") 2>/dev/null || continue
        device=$root/dev/$name
        count=$((count + 1))
    done
}

# Sets device, count, other and all (the number of namespaces). Sets emptied to a device on which a devdax namespace may have lost its
# info block.
look() {
    device='' other='' emptied='' count=0 all=0
    for ns in "$nd"/namespace*; do
        [ -r "$ns/size" ] || continue
        read -r size <"$ns/size" || continue
        [ "$size" != 0 ] || continue
        if [ -n "$place" ]; then
            start=
            read -r start <"$ns/resource" || :
            [ "$start" = "$place" ] || continue
        fi
        all=$((all + 1))
        holder=
        [ ! -r "$ns/holder" ] || read -r holder <"$ns/holder" || :
        if [ "$road" = dax ]; then look_dax; else look_raw; fi
    done
    [ "$count" -ge 1 ]
}

# If the device contains no image, keeps the answer of the helper as the result. It tells whether firmware cleared the device.
no_image_on() { # DEVICE
    [ -z "$early" ] || leave "no device that could contain the image was found"
    code=0
    "$helper" info --device "$1" --json >"$result.new" || code=$?
    [ "$code" -eq 3 ] || return 1
    mv -f "$result.new" "$result"
    echo "no image was found on $1"
}

left=$((wait * 10))
until look || [ -n "$other" ] || [ "$left" -le 0 ]; do
    sleep 0.1
    left=$((left - 1))
done

if [ "$all" -gt 1 ]; then
    # Do not guess, even if only one of them has a device now. It may be the wrong DIMM.
    nothing "the host has several namespaces, and no record says which one contains the image"
elif [ -z "$device" ] && [ -n "$emptied" ] && no_image_on "$emptied"; then
    end 3
elif [ -z "$device" ] && [ -n "$other" ]; then
    nothing "the namespace is $other, so no image can be read from it"
elif [ -z "$device" ]; then
    drivers=nd_pmem
    [ "$road" = raw ] || drivers="dax_pmem, device_dax"
    nothing "found no persistent memory device within $wait s. Check that its driver ($drivers) is loaded early"
fi

# An item starts cold at this boot only, when its unit crashed repeatedly on restored state, or when it was left out of the save.
set --
cold=
while IFS= read -r line; do
    case $line in '' | '#'*) continue ;; esac
    name=${line%%=*}
    if [ -e "$lib/cold/$name" ]; then
        cold=1
        start_cold "$name"
    else
        set -- "$@" --item "$line"
    fi
done <"$etc/items.conf"
if [ $# -eq 0 ]; then
    nothing "no item is left to restore"
fi
[ -n "$cold" ] || set -- --config "$etc/items.conf"

if [ -n "$early" ]; then
    # Leave one CPU to the start of systemd. The helper uses at most 4 threads by default.
    threads=$(($(nproc) - 1))
    [ "$threads" -ge 1 ] || threads=1
    [ "$threads" -le 4 ] || threads=4
    set -- "$@" --threads "$threads"
fi
# At the deadline systemd sends SIGTERM to the helper as well. What it has put in place by then counts, and only its result tells that. The
# shell runs the trap after the helper has ended.
late=
trap late=1 TERM INT
"$helper" restore --device "$device" "$@" --json >"$result.new"
code=$?
trap stopped TERM INT
[ -z "$late" ] || grep -qE '"event": ?"result"' "$result.new" || stopped
# Exit code 6: some items were restored. After any other failure nothing was restored, so the unit can try all items.
[ -z "$early" ] || [ "$code" -eq 0 ] || [ "$code" -eq 6 ] || leave "pmem-state ended with $code"

# Put each item on its own line. Quotes inside a path are escaped, so this pattern cannot match inside a path.
sed 's/"name":/\n&/g' "$result.new" |
    sed -nE 's/^"name": ?"([A-Za-z0-9._-]+)", ?"path": ?"(\\.|[^"\\])*", ?"status": ?"restored".*/\1/p' |
    while IFS= read -r name; do
        : >"$run/restored/$name"
        rm -f "$run/hold/$name"
        echo "$name restored"
    done

[ "$code" -ne 3 ] || [ -n "$due" ] || code=0
[ "$code" -eq 0 ] || echo "the restore is not complete (pmem-state ended with $code). Run hotpmem-node outcome to see which items have no state, and why"
# Write the result last, so that a reader never finds an incomplete one.
if [ -n "$early" ]; then
    # times is part of the shell: the shell's own user and system time, then that of its programs.
    echo "the initrd restored beside the start of systemd, in this CPU time:"
    times
    echo "$code" >"$run/early"
fi
mv -f "$result.new" "$result"
end "$code"
