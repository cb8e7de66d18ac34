#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Finishes the lab's root file system; mmdebstrap runs it on the builder, outside the new root.
#   customize.sh ROOT SSH_PUBLIC_KEY_FILE HOST_PRIVATE_KEY_FILE COMMAND_LINE JOURNAL_PORT
# (mmdebstrap leaves /etc/machine-id empty afterwards: the first boot makes one, and the lab gives each machine its own.)
set -eu
root=$1 pubkey=$2 hostkey=$3 command_line=$4 journal=$5

sed -i "s|^TTYPath=.*|TTYPath=/dev/$journal|" "$root/etc/systemd/journald.conf.d/lab.conf"
echo lab >"$root/etc/hostname"
echo '127.0.0.1 localhost' >"$root/etc/hosts"

install -d -m 0700 "$root/root/.ssh"
install -m 0600 "$pubkey" "$root/root/.ssh/authorized_keys"
rm -f "$root"/etc/ssh/ssh_host_*
install -m 0600 "$hostkey" "$root/etc/ssh/ssh_host_ed25519_key"
ssh-keygen -y -f "$hostkey" >"$root/etc/ssh/ssh_host_ed25519_key.pub"

systemctl --root="$root" --quiet enable systemd-networkd.service ssh.service
systemctl --root="$root" --quiet disable memcached.service
# The kexec-tools hooks would load another kernel at shutdown and start it. Only ours may do that.
sed -i 's/^LOAD_KEXEC=.*/LOAD_KEXEC=false/' "$root/etc/default/kexec"
systemctl --root="$root" --quiet mask kexec.service kexec-load.service
# What a test machine has no use for and would wait for, or be disturbed by in the middle of a test. The automount goes
# because a unit that sets up its mount namespace while it is being mounted fails with EBUSY (seen on emulated machines).
systemctl --root="$root" --quiet mask e2scrub_reap.service e2scrub_all.timer rsync.service \
    systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer \
    getty@tty1.service serial-getty@ttyS0.service proc-sys-fs-binfmt_misc.automount systemd-binfmt.service \
    modprobe@configfs.service modprobe@dm_mod.service modprobe@drm.service modprobe@efi_pstore.service \
    modprobe@fuse.service modprobe@loop.service
# Generators run one by one before anything else does; none of these has work here.
mkdir -p "$root/etc/systemd/system-generators"
for name in cryptsetup getty gpt-auto hibernate-resume integritysetup rc-local run system-update sysv veritysetup; do
    ln -s /dev/null "$root/etc/systemd/system-generators/systemd-$name-generator"
done

# Without them the first boot believes that /usr was updated and rebuilds the linker's and the journal's caches: minutes.
touch "$root/etc/.updated" "$root/var/.updated"

# Where GRUB for a BIOS was not installed, the machine always gets its kernel from outside.
[ -d "$root/usr/lib/grub/i386-pc" ] || exit 0
# For --boot grub: a disk whose GRUB reads the root disk's own grub.cfg. boot.img loads from sector 1, diskboot.img
# from sector 2 unless an installer patches them, so the two files one after the other are a bootable disk.
cat >"$root/etc/default/grub" <<GRUB
GRUB_DEFAULT=0
GRUB_TIMEOUT=0
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT=""
GRUB_CMDLINE_LINUX="$command_line"
GRUB_TERMINAL=console
GRUB_DISABLE_OS_PROBER=true
GRUB_DISABLE_RECOVERY=true
GRUB
mkdir -p "$root/boot/grub/i386-pc"
cp "$root"/usr/lib/grub/i386-pc/*.mod "$root"/usr/lib/grub/i386-pc/*.lst "$root/boot/grub/i386-pc/"
# The first grub.cfg, until the machine itself runs update-grub (which needs the running root disk to look at).
cat >"$root/boot/grub/grub.cfg" <<GRUB
linux /vmlinuz root=/dev/vda rw $command_line
initrd /initrd.img
boot
GRUB
cat >"$root/tmp/early.cfg" <<'GRUB'
search --file --set=root /boot/grub/grub.cfg
set prefix=($root)/boot/grub
GRUB
chroot "$root" grub-mkimage -O i386-pc -o /tmp/core.img -p /boot/grub -c /tmp/early.cfg \
    biosdisk ext2 search search_fs_file normal configfile linux boot
cat "$root/usr/lib/grub/i386-pc/boot.img" "$root/tmp/core.img" >"$root/boot/lab-grub-disk.img"
truncate -s 1M "$root/boot/lab-grub-disk.img"
rm "$root/tmp/early.cfg" "$root/tmp/core.img"
