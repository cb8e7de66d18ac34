# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever happens, the machine boots, the service answers, with its state or cold, and the agent says which and why.

No controller takes part: the machine makes each boot alone. The tests run in the order of this file.
"""

from __future__ import annotations

import json
import time


def test_kernel_missing(node):
    node.fill()
    started = node.run("systemctl show --property=ActiveEnterTimestampMonotonic memcached").stdout
    node.run("mv /boot/vmlinuz-$(uname -r) /boot/away; mv /vmlinuz /boot/away-link; true")
    try:
        answer = node.agent("handoff")
    finally:
        node.run("mv /boot/away /boot/vmlinuz-$(uname -r); mv /boot/away-link /vmlinuz; true")
    assert answer["exit"] == 5 and "vmlinuz" in answer["msg"], answer
    assert node.run("systemctl show --property=ActiveEnterTimestampMonotonic memcached").stdout == started
    assert node.is_ram() and node.kept()


def test_kexec_fails(node):
    """After the preflight: the memory is removed by then, the units are not stopped yet."""
    node.run("printf '#!/bin/sh\\necho No room for the kernel >&2\\nexit 255\\n' >/usr/local/sbin/kexec; chmod 755 /usr/local/sbin/kexec")
    try:
        answer = node.agent("handoff")
    finally:
        node.run("rm /usr/local/sbin/kexec")
    assert answer["exit"] == 7 and "No room for the kernel" in answer["msg"], answer
    assert node.is_ram() and node.kept() and node.run("cat /sys/kernel/kexec_loaded").stdout == "0\n"


def test_two_controllers(node):
    """Started at the same moment: one holds the host, and the other is told who that is. Then the one dies."""
    hold = "hotpmem-node handoff --detach --hold 600 --json --run run-{0} --owner {0}@control >/root/{0}.json; echo $? >>/root/{0}.json"
    node.run("(" + hold.format("alice") + ") & (" + hold.format("bob") + ") & wait")
    said = {name: node.run(f"cat /root/{name}.json").stdout for name in ("alice", "bob")}
    first, second = sorted(said, key=lambda name: said[name].endswith("\n9\n"))
    assert said[first].endswith("\n0\n") and said[second].endswith("\n9\n"), said
    assert f"{first}@control holds this host since" in said[second] and f"run run-{first}" in said[second], said
    for verb in ("hot-remove", "hot-add", "handoff", "handoff --detach", "cold-start"):
        refused = node.agent(verb)
        assert refused["exit"] == 9 and f"{first}@control holds this host" in refused["msg"], refused
    assert f"{first}@control" in str(node.agent("preflight")["reasons"])
    assert node.agent("status")["hotpmem"]["owner"]["run"] == f"run-{first}"
    assert node.is_ram() and node.kept()
    node.run("systemctl kill --signal=KILL --kill-whom=main hotpmem-handoff")
    node.wait_state("hotpmem-handoff", "inactive", "failed")
    assert node.agent("preflight")["exit"] == 0 and node.is_ram() and node.kept()
    assert node.agent("handoff --check")["exit"] == 0
    prepared = node.agent("prepare")
    assert prepared["exit"] == 0, prepared


def test_prepare_counts_what_the_kernel_has_made_huge(node):
    """Linux 6.1 has done it when it says that it failed."""
    node.run("mkdir -p /root/small && mount -t tmpfs -o huge=never tmpfs /root/small && head -c 8M /dev/urandom >/root/small/file")
    said = json.loads(node.run("pmem-state prepare --item x=/root/small/file --json").stdout)
    huge = node.run("grep ^ShmemHugePages: /proc/meminfo; umount /root/small").stdout
    assert said["bytes"] == said["huge_bytes"] == 8 << 20, said
    assert int(huge.split()[1]) >= 8192


def test_the_controller_is_lost(node):
    """It has held the host and removed the memory, and is not heard of again."""
    node.run("hotpmem-node handoff --detach --hold 20 --run run-1 --owner alice@control")
    node.run("daxctl offline-memory dax0.0 >/dev/null")
    assert not node.is_ram()
    node.wait_state("hotpmem-handoff", "inactive", "failed")
    ended = json.loads(node.run("cat /run/hotpmem/handoff.json").stdout)
    assert (ended["stage"], ended["exit"]) == ("hold", 7) and "the controller did nothing for 20 s" in ended["msg"], ended
    assert node.is_ram() and node.kept() and node.run("systemctl is-active memcached").stdout == "active\n"


def test_handoff_stopped_half_way(node):
    """Somebody stops the unit of the handoff while it saves."""
    node.stop_in_save()
    # It returns when the unit has ended, with its ExecStopPost=.
    node.run("systemctl stop hotpmem-handoff")
    put_back_alone(node, 7, "Handoff was interrupted")


def test_handoff_killed_half_way(node):
    """As the kernel does when memory is short: the handoff can't put anything back, and the unit's ExecStopPost= does."""
    node.stop_in_save()
    node.run("systemctl kill --signal=KILL --kill-whom=main hotpmem-handoff")
    node.wait_state("hotpmem-handoff", "inactive", "failed")
    put_back_alone(node, 7, "The handoff was killed")


def put_back_alone(node, code, said):
    """All is as before the handoff, by nobody's doing but the product's."""
    assert node.run("systemctl is-active memcached").stdout == "active\n"
    assert node.is_ram() and node.kept()
    assert node.run("cat /sys/kernel/kexec_loaded").stdout == "0\n"
    assert node.run("pgrep -x pmem-state; ls /var/lib/hotpmem/pending /run/hotpmem/saved", check=False).stdout == ""
    ended = json.loads(node.run("cat /run/hotpmem/handoff.json").stdout)
    assert (ended["stage"], ended["exit"]) == ("save", code) and said in ended["msg"] and "as before" in ended["msg"], ended
    # The documented command finds nothing to do.
    assert node.agent("put-back")["changed"] is False
    assert node.agent("preflight")["exit"] == 0


def test_fast_handoff(node):
    before, began = node.boot.strip(), time.monotonic()
    node.leave("hotpmem-node handoff --method fast --detach")
    seconds = time.monotonic() - began
    assert node.kept() and node.is_ram()
    assert node.run("cat /proc/sys/kernel/bootloader_type").stdout == "208\n"
    found = node.agent("timeline --budget")
    assert "budget" in found, found
    (cycle,) = found["cycles"]
    assert (cycle["boot_id_before"], cycle["boot_id"], cycle["method"]) == (before, node.boot.strip(), "fast")
    assert [(item["name"], item["status"]) for item in cycle["items"]] == [("memcached", "restored")]
    phases = cycle["timeline"]["phases"]
    order = ["stopping", "units_stopped", "saved", "jump", "kernel_start", "userspace_start", "restored", "units_ready", "hot_added"]
    assert [phase["mark"] for phase in phases if phase["mark"] in order] == order, cycle
    # It begins and ends inside of what was seen from here, and is the sum of its phases.
    assert 0 < cycle["timeline"]["down_seconds"] < seconds
    assert abs(sum(phase["seconds"] for phase in phases if phase["down"]) - cycle["timeline"]["down_seconds"]) < 0.001


def started(node, unit):
    """When a unit was last started in this boot, in us of CLOCK_MONOTONIC; 0 when it was not."""
    return int(node.run(f"systemctl show --property=InactiveExitTimestampMonotonic --value {unit}").stdout)


def test_state_first(node):
    node.fill()
    node.setting("state_first", True)
    # It has ended long before the handoff, and takes part in each boot. Another one is not waited for.
    for name, order in (("before", "Before=memcached.service"), ("beside", "")):
        unit = f"[Unit]\nDefaultDependencies=no\n{order}\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n"
        node.run(f"cat >/etc/systemd/system/{name}.service", stdin=f"{unit}[Install]\nWantedBy=multi-user.target\n")
    node.run("systemctl daemon-reload; systemctl enable before beside; systemctl start before; systemctl stop before")
    node.leave("hotpmem-node handoff --method fast --detach")
    assert node.kept() and node.is_ram()
    assert "--unit=hotpmem-first.target" in node.run("tr '\\0' ' ' </proc/1/cmdline").stdout
    assert "hotpmem-first" not in node.run("cat /proc/cmdline").stdout
    assert 0 < started(node, "before") < started(node, "memcached") < started(node, "beside")
    assert 0 < started(node, "memcached") < started(node, "systemd-update-utmp") < started(node, "sysinit.target")
    said = node.run("journalctl -b -o short-monotonic -u hotpmem-rest -u memcached").stdout
    assert 0 < said.index("Started memcached") < said.index("Starting hotpmem-rest"), said
    # What it has to wait for is the same as ever, and nothing is left out.
    assert 0 < started(node, "systemd-tmpfiles-setup") < started(node, "hotpmem-restore") < started(node, "memcached")
    assert 0 < started(node, "systemd-networkd") < started(node, "memcached")
    assert node.run("systemctl is-active default.target ssh hotpmem-rest", check=False).stdout == "active\nactive\ninactive\n"


def test_state_first_does_not_wait_for_a_service_that_hangs(node):
    node.drop_in("memcached", "[Service]\nTimeoutStartSec=900\nExecStartPre=/bin/sh -c 'until test -e /run/go; do sleep 0.2; done'\n")
    before = node.boot
    node.run("systemd-run --quiet --collect --no-block hotpmem-node handoff --method fast --detach")
    node.wait_another_boot(before)
    node.wait_state("graphical.target", "active")
    assert node.run("systemctl show --property=ActiveState --value memcached").stdout == "activating\n"
    assert "failed with result 'timeout'" in node.run("journalctl -b -u hotpmem-rest").stdout
    node.run("touch /run/go")
    node.wait_state("hotpmem-hot-add", "active")
    node.drop_in("memcached", "")
    node.run("systemctl disable before beside; rm /etc/systemd/system/before.service /etc/systemd/system/beside.service")
    assert node.kept() and node.is_ram()


def test_another_boot_does_not_need_its_units(node):
    node.fill()
    files = "/boot/vmlinuz-$(uname -r) --initrd=/boot/initrd.img-$(uname -r)"
    node.leave(f"kexec -s -l {files} --reuse-cmdline && systemctl kexec")
    assert "hotpmem-first" not in node.run("cat /proc/cmdline; tr '\\0' ' ' </proc/1/cmdline").stdout
    assert node.kept() and node.is_ram()
    node.setting("state_first", False)


def test_jump_initrd_finds_no_root(node):
    """It reboots through the firmware, where the stock initrd is; memory is left alone here."""
    initrd, serial = "/var/lib/hotpmem/jump-initrd", node.console()
    # With the same size and time it passes for the one that was made.
    change = f"LC_ALL=C sed -i -E 's/^root ext4 [0-9a-f]{{32}}$/root ext4 00000000000000000000000000000001/' {initrd}"
    node.run(f"cp -p {initrd} /root/whole && {change} && touch -r /root/whole {initrd} && ! cmp -s /root/whole {initrd}")
    node.leave("hotpmem-node handoff --detach")
    said = node.console()[len(serial) :]
    assert "the jump's initrd can't go on: finding the root file system ext4" in said, said[-2000:]
    assert node.run("cat /proc/sys/kernel/bootloader_type").stdout != "208\n"
    assert node.kept() and node.is_ram()
    node.run(f"mv /root/whole {initrd}")


def test_reboot_by_hand(node):
    """Through firmware, which leaves memory alone here."""
    node.leave("systemctl reboot")
    assert node.kept() and node.is_ram()
    assert node.run("cat /proc/sys/kernel/bootloader_type").stdout != "208\n"
    (cycle,) = node.agent("timeline")["cycles"]
    assert (cycle["boot_id"], cycle["method"]) == (node.boot.strip(), "shutdown (reboot)")
    # The counter began again: nothing is known of the time in between.
    assert cycle["timeline"]["down_seconds"] is None


def test_power_cut_while_system_ram(node):
    node.cut_power()
    assert "the previous boot did not save any state" in node.cold()
    assert node.is_ram()


def test_power_cut_while_saving(node):
    node.fill()
    node.stop_in_save()
    node.cut_power()
    assert node.cold()
    assert node.is_ram()


def test_early_restore_is_killed(node):
    """The one that the initrd started: the unit finds no result, and restores."""
    node.fill()
    node.wrap_restore('[ "$1" != --early ] || kill -s KILL $$')
    node.leave("hotpmem-node handoff --method fast --detach")
    node.wrap_restore("")
    assert node.kept() and node.is_ram()
    assert node.run("cat /run/hotpmem/early.log", check=False).stdout == ""
    assert node.run("journalctl -b -u hotpmem-restore --output=cat --grep='memcached restored'").stdout


def test_early_restore_hangs(node):
    """The unit waits for it until its deadline, and ends it: what comes late must not meet a service that has started cold."""
    node.fill()
    # As the script itself: descriptor 9 has the lock, and early.pid the process group (here without the start time).
    hang = 'mkdir -p /run/hotpmem; exec 9>>/run/hotpmem/restore.lock; flock 9; echo "$$ 0" >/run/hotpmem/early.pid; sleep 900'
    node.wrap_restore(f'if [ "$1" = --early ]; then {hang}; fi')
    node.drop_in("hotpmem-restore", "[Service]\nTimeoutStartSec=10\n")
    node.leave("hotpmem-node handoff --method fast --detach")
    node.wrap_restore("")
    node.drop_in("hotpmem-restore", "")
    assert "hotpmem-restore.service ended without a result (timeout)" in node.cold()
    assert node.run("pgrep -f 'sleep 900'", check=False).stdout == ""
    image_is_kept_until_it_is_given_up(node)


def test_restore_unit_fails(node):
    node.fill()
    node.setting("early_restore", False)
    node.drop_in("hotpmem-restore", "[Service]\nExecStart=\nExecStart=/bin/false\n")
    node.leave("hotpmem-node handoff --detach")
    node.drop_in("hotpmem-restore", "")
    node.setting("early_restore", True)
    assert "hotpmem-restore.service ended without a result (exit-code)" in node.cold()
    image_is_kept_until_it_is_given_up(node)


def image_is_kept_until_it_is_given_up(node):
    """The image is whole, and nobody's to throw away but the operator's."""
    assert not node.is_ram()
    refused = node.agent("hot-add")
    assert refused["exit"] == 5 and "hot-add --force" in refused["msg"] and not node.is_ram(), refused
    node.run("hotpmem-node hot-add --force")
    assert node.is_ram()


def test_crash_loop_on_restored_state(node):
    node.fill()
    start = 'ExecStartPre=/bin/sh -c "! test -e /run/hotpmem/restored/memcached"'
    node.drop_in("memcached", f"[Service]\n{start}\nRestart=on-failure\nRestartSec=0.1\n")
    node.leave("hotpmem-node handoff --detach")
    assert node.run("systemctl is-active memcached", check=False).stdout == "failed\n"
    node.leave("systemctl reboot")
    assert "failed" in node.cold()
    node.drop_in("memcached", "")
    # The reboot saved the state again, and nothing has restored it since.
    image_is_kept_until_it_is_given_up(node)
