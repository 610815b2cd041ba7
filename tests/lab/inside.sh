#!/bin/sh -eu
# Becomes PID 1 of the lab: makes its file system in the namespaces that supervise.py left it in, then execs systemd.
#
# LAB      directory with project/ (what `make install` made), and upper/ work/ root/, empty
# TREE     the host tree; stays as it is
# IMAGES   lines "name directory"
# KVM      not empty: give the lab /dev/kvm
# CONSOLE  terminal for /dev/console

mount --make-rprivate /
root=$LAB/root
mount -t overlay -o "lowerdir=$LAB/project:$TREE,upperdir=$LAB/upper,workdir=$LAB/work" lab "$root"

mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=0755,nosuid,nodev tmpfs "$root/run"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/tmp"

# Kernel settings that are not of these namespaces are the outer machine's: none of the lab's business.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount --bind "$root/proc/sys/net" "$root/proc/sys/net"
mount -o remount,bind,ro "$root/proc/sys"
[ ! -e "$root/proc/sysrq-trigger" ] || mount --bind -o ro "$root/proc/sysrq-trigger" "$root/proc/sysrq-trigger"

mount -t tmpfs -o mode=0755,nosuid tmpfs "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm" "$root/dev/net"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"
ln -s fd/1 "$root/dev/stdout"
ln -s fd/2 "$root/dev/stderr"
# device number mode group
while read -r name major minor mode group; do
    [ -n "$name" ] || continue
    mknod -m "$mode" "$root/dev/$name" c "$major" "$minor"
    chgrp "$(sed -n "s/^$group:[^:]*:\([0-9]*\):.*/\1/p" "$root/etc/group")" "$root/dev/$name"
done <<END
null 1 3 0666 root
zero 1 5 0666 root
full 1 7 0666 root
random 1 8 0666 root
urandom 1 9 0666 root
tty 5 0 0666 tty
net/tun 10 200 0666 root
${KVM:+kvm 10 232 0660 kvm}
END
# A terminal whose other end somebody reads: with a dead one each start of a service takes a second longer.
touch "$root/dev/console"
mount --bind "$CONSOLE" "$root/dev/console"

printf '%s\n' "$IMAGES" | while read -r name directory; do
    [ -n "$name" ] || continue
    mkdir -p "$root/var/lib/vmsilo/images/$name"
    mount --bind "$directory" "$root/var/lib/vmsilo/images/$name"
    mount -o remount,bind,ro "$root/var/lib/vmsilo/images/$name"
done

tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
hostname lab

# Compiled by the interpreter that will run it.
chroot "$root" /usr/bin/python3 -m compileall -q /usr/lib/vmsilo

mkdir "$root/run/outside"
cd "$root"
pivot_root . run/outside
exec chroot . /bin/sh -eu -c '
    umount -l /run/outside
    rmdir /run/outside
    exec env -i container=lab PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin /lib/systemd/systemd
'
