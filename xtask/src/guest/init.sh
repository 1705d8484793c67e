#!/bin/busybox sh
# Process 1 of the shell guests. It depends on nothing but busybox.
export PATH=/sbin:/bin:/usr/sbin:/usr/bin HOME=/root TERM=linux PS1='guest# '
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /root
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox --install -s
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
# Errors of the kernel are seen, its chatter does not run into what the shell prints.
echo 4 > /proc/sys/kernel/printk
if grep -qs 0x1af4 /sys/bus/pci/devices/*/vendor; then
    while read -r module; do insmod "$module"; done < /lib/modules/load-order
fi
cd /root
echo "guest ready: Linux $(uname -r)"
[ -x /etc/autorun ] && /etc/autorun
# The shell is not process 1, so leaving it starts another instead of a panic; as the leader of its
# session it gets the console's terminal as its own when it opens it, and with that job control.
console=$(sed 's/.* //' /sys/class/tty/console/active)
while :; do setsid sh -c "exec sh <>/dev/$console >&0 2>&1"; done
