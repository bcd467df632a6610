#!/bin/sh
# A stand-in for the k3s-killall.sh that k3s brings: ends everything a stopped k3s leaves running, unmounts what it mounted
# and removes its network. Data stays.
say() { echo "stand-in: k3s-killall.sh: $*" >&2; }

for unit in $(systemctl list-units --plain --no-legend 'k3s*.service' | cut -d ' ' -f 1); do
  say "stopping $unit"
  systemctl stop "$unit"
done

# A shim's processes are its descendants; each level is found from the one above.
tree=$(pgrep -f 'containerd-shim.*/run/k3s/')
level=$tree
while [ -n "$level" ]; do
  level=$(for pid in $level; do pgrep -P "$pid"; done)
  tree="$tree $level"
done
for pid in $tree; do kill -9 "$pid" 2>/dev/null; done

awk '{ print $2 }' /proc/self/mounts | sort -r | while read -r point; do
  case $point in
  /run/k3s/* | /var/lib/rancher/k3s/* | /var/lib/kubelet/pods/* | /run/netns/cni-*) umount --lazy "$point" ;;
  esac
done
rm -rf /run/k3s /run/netns/cni-* /var/lib/cni
ip link delete cni0 2>/dev/null
exit 0
