#!/bin/busybox sh
# First process of the virtual machine: loads the drivers of the host's file system and makes that the root.
/bin/busybox mkdir -p /proc /sys /dev /host
/bin/busybox mount -t proc proc /proc
for module in $(/bin/busybox cat /modules/order); do
    /bin/busybox insmod "/modules/$module" || echo "vm: cannot load $module"
done
/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=1048576 host /host || exec /bin/busybox poweroff -f
/bin/busybox mount -t devtmpfs dev /host/dev
/bin/busybox mkdir -p /host/dev/pts /host/dev/shm
/bin/busybox mount -t devpts pts /host/dev/pts
/bin/busybox mount -t tmpfs -o mode=1777 shm /host/dev/shm
/bin/busybox mount -t sysfs sys /host/sys
/bin/busybox mount -t cgroup2 cgroup2 /host/sys/fs/cgroup
for directory in /tmp /run /var/tmp /mnt; do
    /bin/busybox mount -t tmpfs -o mode=1777,size=80% tmpfs /host$directory
done
/bin/busybox cp /start /host/run/start
/bin/busybox mount --move /proc /host/proc
exec /bin/busybox switch_root /host /bin/sh /run/start
