#!/bin/sh
# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# Restores the saved state early in boot; run by hotpmem-restore.service. POSIX sh and the copy helper, nothing else: it waits for
# neither network nor Python. Usage: restore SECONDS_TO_WAIT_FOR_THE_DEVICE [HELPER]
# restore --failed: when that ended without a result, whatever the reason: says so, so that units need not wait for their state.
# restore --early [HELPER]: run by the /init of a jump's minimal initrd, beside the start of systemd. Writes to /run alone, restores
# when nothing speaks against it, and leaves everything else, and the writing to the disk, to the unit, which waits for it.
#
# Leaves in /run/hotpmem: restore.json (the helper's result, or why there was none), restored/NAME, cold/NAME (why that item was
# not restored though it could have been), hold/NAME (the unit of that item stays down), due (a restore was due), restore.lock (held
# while one restores), early.pid and early.log (of --early), early (its exit code, until the unit has taken over).
# Exit: the helper's; 0 when there was nothing to restore and nothing was due; 3 when something was due and there is no image.
set -u
umask 077
wait=${1:-10} helper=${2:-/usr/local/sbin/pmem-state}
root=${HOTPMEM_ROOT-} # tests give a directory
run=$root/run/hotpmem lib=$root/var/lib/hotpmem etc=$root/etc/hotpmem nd=$root/sys/bus/nd/devices
result=$run/restore.json
early=
[ "${1-}" != --early ] || early=1 wait=2
[ -d "$run" ] || mkdir -p "$run" || exit 2
# To the unit, as if this had never run; it says why.
leave() { # REASON
    echo "the initrd left the restore to this unit: $1" >"$run/early.log"
    exit 0
}

if [ -n "$early" ]; then
    [ -L "$root/etc/systemd/system/multi-user.target.wants/hotpmem-restore.service" ] || leave "it is not enabled"
    [ -e "$lib/pending" ] || leave "the boot before saved nothing"
    [ -z "$(ls "$lib/cold" 2>/dev/null)" ] || leave "an item is to start cold, which is noted on the disk"
fi

# Inherited by the helper: free when whoever restores has ended with all that it started.
exec 9>>"$run/restore.lock"
if [ "${1-}" = --failed ]; then
    # What the unit had started is gone by now. Nothing may put items in place once the units have been told to start cold. Below
    # TimeoutStopSec=: what is not gone by then hangs in the kernel, where SIGKILL waits for it.
    left=80
    until flock -n 9 || [ "$left" -le 0 ]; do
        [ ! -r "$run/early.pid" ] || kill -s KILL -- "-$(cat "$run/early.pid")"
        sleep 0.1
        left=$((left - 1))
    done
else
    flock 9
fi
if [ -n "$early" ]; then
    echo $$ >"$run/early.pid" # of its process group: /init gives it one
    exec >"$run/early.log" 2>&1
fi

end() { # EXIT
    [ -n "$early" ] || rm -f "$lib/pending"
    exit "$1"
}

# Units wait for this: no program is started that is not needed. What was killed may have ended within a line.
early_said() {
    while IFS= read -r line || [ -n "$line" ]; do echo "$line"; done <"$run/early.log"
}

# Once a boot: a state unit that is started again pulls this unit in again.
if [ -e "$result" ]; then
    [ -e "$run/early" ] || exit 0
    early_said
    : >"$lib/serving"
    read -r code <"$run/early" || code=2
    # One after the other, in this order: ended in between, the next run does it again.
    rm -f "$lib/pending" "$run/early"
    exit "$code"
fi
rm -f "$run/early"
[ -n "$early" ] || [ ! -e "$run/early.log" ] || early_said
mkdir -p "$run/hold" "$run/restored" "$run/cold" "$lib" || exit 2

# pending: the last boot saved. serving: units have run with state; after a power cut there is no pending, but it is lost all the same.
due=
if [ -e "$lib/pending" ] || [ -e "$lib/serving" ]; then
    due=1
    : >"$run/due"
    # From now on this machine has state to lose.
    [ -n "$early" ] || : >"$lib/serving"
fi

# Before anything else: should this be ended at its deadline, what must not start without its state does not start.
if [ -n "$due" ] && [ -r "$etc/hold.conf" ]; then
    while IFS= read -r name; do
        case $name in '' | '#'*) continue ;; esac
        [ ! -e "$run/restored/$name" ] || continue # by the initrd, which did not come to its end
        echo "its state was not restored, and cold_start is false" >"$run/hold/$name"
    done <"$etc/hold.conf"
fi

# say STATUS EXIT SAID: a result as the helper writes them. No quotes or backslashes in SAID.
say() {
    printf '{"event": "result", "verb": "restore", "exit": %s, "status": "%s", "refused": null, "msg": "%s", "error": {"what": "Restoring the state", "said": "%s", "todo": "Start the services cold"}, "items": []}\n' \
        "$2" "$1" "$3" "$3" >"$result"
    echo "$3"
}

if [ "${1-}" = --failed ]; then
    say failed 2 "hotpmem-restore.service ended without a result (${SERVICE_RESULT-unknown}): journalctl -u hotpmem-restore says why. The image is kept"
    end 0
fi

# At the deadline systemd sends SIGTERM to the helper as well; this runs when the helper has ended.
trap '[ -z "$early" ] || leave "it was stopped"; say timeout 2 "the restore did not end within its deadline and was stopped; no item was replaced half way"; end 2' TERM INT

nothing() { # SAID
    [ -z "$early" ] || leave "$1"
    say no_image 3 "$1"
    [ -z "$due" ] || end 3
    end 0
}

# Without it an image, should there be one, is older than what the units have done since: restoring it would take them back in time.
[ -e "$lib/pending" ] || nothing "the boot before saved nothing"

# Whoever saved wrote down where: the start of the namespace, and the road (raw: its block device; dax: its dax device).
place='' road=''
[ ! -r "$lib/place" ] || read -r place road <"$lib/place" || :
[ "$road" = dax ] || road=raw

# Adds to device and count when the raw namespace $ns has one; other: it is claimed (devdax), so nothing was saved to it.
look_raw() {
    if [ -n "$holder" ]; then
        # While the driver looks for info blocks it claims the namespace for a moment; a claim that holds has a driver of its own.
        [ ! -e "$nd/$holder/driver" ] || other="claimed by $holder, not raw"
        return 0
    fi
    for block in "$ns"/block/*; do
        # The kernel makes the node itself (devtmpfs): no waiting for udev.
        [ -e "$root/dev/${block##*/}" ] || continue
        device=$root/dev/${block##*/}
        count=$((count + 1))
    done
}

# The same for the dax device of the namespace $ns. Only device_dax may hold it: in the hands of kmem it is RAM.
look_dax() {
    for block in "$ns"/block/*; do
        [ -e "$block" ] || continue
        other="raw, not devdax"
        [ ! -e "$root/dev/${block##*/}" ] || emptied=$root/dev/${block##*/}
    done
    for dax in "$nd/${holder:-none}"/dax*.*; do
        name=${dax##*/}
        [ ! -e "$root/sys/bus/dax/drivers/kmem/$name" ] || other="System RAM already ($name is held by kmem)"
        [ -e "$root/sys/bus/dax/drivers/device_dax/$name" ] || continue
        # The kernel shows the driver before the node can be opened.
        (: <"$root/dev/$name") 2>/dev/null || continue
        device=$root/dev/$name
        count=$((count + 1))
    done
}

# Sets device, count, other, all (namespaces looked at), and emptied: where a devdax namespace, whose info block is gone, may have been.
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

# Leaves the helper's answer as the result when there is none: what is there instead tells whether firmware cleared it.
no_image_on() { # DEVICE
    [ -z "$early" ] || leave "there is no device that may have the image"
    code=0
    "$helper" info --device "$1" --json >"$result.new" || code=$?
    [ "$code" -eq 3 ] || return 1
    mv -f "$result.new" "$result"
    echo "there is no image on $1"
}

left=$((wait * 10))
until look || [ -n "$other" ] || [ "$left" -le 0 ]; do
    sleep 0.1
    left=$((left - 1))
done

if [ "$all" -gt 1 ]; then
    # Not even when only one of them has a device now: it may be the other DIMM.
    nothing "there are several namespaces, and no record of which one was saved to"
elif [ -z "$device" ] && [ -n "$emptied" ] && no_image_on "$emptied"; then
    end 3
elif [ -z "$device" ] && [ -n "$other" ]; then
    nothing "the namespace is $other: nothing was saved to it"
elif [ -z "$device" ]; then
    drivers=nd_pmem
    [ "$road" = raw ] || drivers="dax_pmem, device_dax"
    nothing "there was no persistent memory device within $wait s: is its driver ($drivers) loaded early?"
fi

# An item whose unit crashed again and again on its restored state starts cold, this once.
set --
cold=
while IFS= read -r line; do
    case $line in '' | '#'*) continue ;; esac
    name=${line%%=*}
    if [ -e "$lib/cold/$name" ]; then
        cold=1
        mv -f "$lib/cold/$name" "$run/cold/$name"
        # Down rather than cold holds here too; the reason is another one.
        [ ! -e "$run/hold/$name" ] || cp "$run/cold/$name" "$run/hold/$name"
        echo "$name is not restored: $(cat "$run/cold/$name")"
    else
        set -- "$@" --item "$line"
    fi
done <"$etc/items.conf"
if [ $# -eq 0 ]; then
    nothing "there is no item to restore"
fi
[ -n "$cold" ] || set -- --config "$etc/items.conf"

if [ -n "$early" ]; then
    # One CPU is for the start of systemd. 4 is what the helper takes at most by itself.
    threads=$(($(nproc) - 1))
    [ "$threads" -ge 1 ] || threads=1
    [ "$threads" -le 4 ] || threads=4
    set -- "$@" --threads "$threads"
fi
"$helper" restore --device "$device" "$@" --json >"$result.new"
code=$?
# 6: some items. Anything else has restored none, and the unit can try with all that it has.
[ -z "$early" ] || [ "$code" -eq 0 ] || [ "$code" -eq 6 ] || leave "pmem-state ended with $code"

# One item a line; a quote inside a path is escaped, so what is matched here can't be part of one.
sed 's/"name":/\n&/g' "$result.new" |
    sed -nE 's/^"name": ?"([A-Za-z0-9._-]+)", ?"path": ?"(\\.|[^"\\])*", ?"status": ?"restored".*/\1/p' |
    while IFS= read -r name; do
        : >"$run/restored/$name"
        rm -f "$run/hold/$name"
        echo "$name restored"
    done

[ "$code" -ne 3 ] || [ -n "$due" ] || code=0
[ "$code" -eq 0 ] || echo "not everything was restored (pmem-state ended with $code): hotpmem-node outcome says what and why"
# Last: who finds the result finds all of it.
[ -z "$early" ] || echo "$code" >"$run/early"
mv -f "$result.new" "$result"
end "$code"
