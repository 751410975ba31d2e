#!/bin/bash
# First process of the guest. Its root is the host's file system, read-only; an overlay in memory takes
# what is written, and only the folder of results, $RIG_OUT, is the host's own.
# The kernel's command line gives RIG, RIG_OUT and RIG_MODULES.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TZ=UTC LC_ALL=C

fail() {
  echo "$1" >/mnt/results/failed
  busybox poweroff -f
}

enter_overlay() {
  mount -t proc none /proc
  mount -t tmpfs none /mnt
  mkdir /mnt/results /mnt/changed /mnt/work /mnt/new
  mount -t hostfs none /mnt/results -o "$RIG_OUT" || busybox poweroff -f
  local module
  for module in overlay veth sch_cake sch_netem sch_tbf sch_ingress cls_matchall act_mirred; do
    modprobe -d "$RIG_MODULES" "$module" || fail "the guest cannot load the module $module"
  done
  # Without interfaces of its own accord.
  modprobe -d "$RIG_MODULES" ifb numifbs=0 || fail "the guest cannot load the module ifb"
  # Wanted by controllers of other people only.
  for module in sch_htb sch_fq_codel cls_u32; do modprobe -d "$RIG_MODULES" "$module"; done
  mount -t overlay none /mnt/new -o lowerdir=/,upperdir=/mnt/changed,workdir=/mnt/work ||
    fail "the guest cannot make an overlay of the root file system"
  cd /mnt/new || fail "the overlay is not there"
  mkdir -p proc sys dev run
  mount -t proc none proc
  mount -t sysfs none sys
  mount -t tmpfs none run
  mount --bind /dev dev
  mkdir -p dev/pts dev/shm run/results
  mount -t devpts none dev/pts
  mount -t tmpfs none dev/shm
  # Bash's process substitution needs /dev/fd.
  local link
  for link in fd: stdin:/0 stdout:/1 stderr:/2; do
    [ -e "dev/${link%%:*}" ] || ln -s "/proc/self/fd${link#*:}" "dev/${link%%:*}"
  done
  mount --bind /mnt/results run/results
  RIG_INSIDE=1 exec chroot . /bin/bash "$0"
}

[ -n "${RIG_INSIDE:-}" ] || enter_overlay
export OUT=/run/results
dmesg -n 1
ip link set lo up
cd "$RIG" && bash "$OUT/plan.sh" >"$OUT/log" 2>&1
echo $? >"$OUT/exit-status"
busybox poweroff -f
