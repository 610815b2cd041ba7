#!/bin/busybox sh
# PID 1 of the machine's initramfs, in place of the guest's: puts the root together from three disks, all read-only,
# and memory, then hands over to systemd. The modules are loaded from the guest's initramfs, which is around this file.
#
# vda  the host tree
# vdb  layer/: what is laid over it, the project above all; images/: guest images
# vdc  the guest's root, for the modules of the kernel that is running

/bin/busybox mount -t proc proc /proc
mount -t devtmpfs dev /dev
mount -t sysfs sys /sys

# Not vsock's, which would make this a guest to its own guests.
grep -v vsock /modules/base.order | while read -r module; do
    insmod "/modules/$module"
done

mkdir /tree /session /guest
mount -t erofs -o ro /dev/vda /tree
mount -t erofs -o ro /dev/vdb /session
mount -t erofs -o ro /dev/vdc /guest
mount -t tmpfs -o mode=0755 overlay /overlay
mkdir /overlay/upper /overlay/work
mount -t overlay -o lowerdir=/session/layer:/tree,upperdir=/overlay/upper,workdir=/overlay/work,volatile overlay /root

mkdir -p /root/usr/lib/modules
mount --bind /guest/usr/lib/modules /root/usr/lib/modules
mount --bind /session/images /root/var/lib/vmsilo/images
tr -d - </proc/sys/kernel/random/uuid >/root/etc/machine-id

mount --move /dev /root/dev
mount --move /sys /root/sys
mount --move /proc /root/proc
exec /bin/busybox switch_root /root /sbin/init
