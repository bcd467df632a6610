import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ensureRoot, type RootRecipe } from '../root.ts'

/** Where the kernel and its initial file system lie in the root: /boot is the boot partition of each machine. */
export const KERNEL = '/usr/lib/muster-lab/vmlinuz'
export const INITRD = '/usr/lib/muster-lab/initrd'

const UNITS = '/usr/lib/systemd/system'
/** Units of Debian's that nothing here needs and that cost an emulated machine a second of each boot. */
const LEFT_OUT = [
  ...['dev-hugepages.mount', 'dev-mqueue.mount', 'sys-kernel-debug.mount', 'sys-kernel-tracing.mount'],
  ...['sys-kernel-config.mount', 'sys-fs-fuse-connections.mount', 'proc-sys-fs-binfmt_misc.automount'],
  ...['systemd-binfmt.service', 'kmod-static-nodes.service', 'systemd-modules-load.service'],
  ...['systemd-sysusers.service', 'systemd-update-utmp.service', 'systemd-pcrphase-sysinit.service'],
]

/** Debian without a single enabled unit: as on NixOS, what runs comes from the toplevel. */
const VM_ROOT: RootRecipe = {
  name: 'vm',
  suite: 'bookworm',
  packages: [
    ...['systemd', 'systemd-sysv', 'dbus', 'udev', 'kmod', 'mount', 'util-linux', 'procps', 'e2fsprogs'],
    ...['iproute2', 'iputils-ping', 'curl', 'ca-certificates', 'git', 'python3', 'libstdc++6'],
  ],
  later: ['busybox-static', 'cpio', 'systemd-boot', 'linux-image-cloud-amd64', 'nix-bin'],
  finish: `
    mkdir -p /usr/lib/muster-lab
    mv /boot/vmlinuz-* ${KERNEL}
    rm -rf /boot/* /vmlinuz* /initrd.img* /usr/share/doc/* /usr/share/man/* /usr/share/locale/*
    rm -rf /etc/systemd/system/* /etc/systemd/network/* /etc/resolv.conf /etc/machine-id /etc/hostname
    cd ${UNITS}
    rm -f ${LEFT_OUT.map(unit => `*.wants/${unit}`).join(' ')}

    mkdir -p /tmp/initrd/bin /tmp/initrd/modules /tmp/initrd/proc /tmp/initrd/sys /tmp/initrd/dev /tmp/initrd/root
    cd /tmp/initrd
    cp /bin/busybox bin/busybox
    for name in virtio_pci virtio_blk ext4; do modprobe -S "$(ls /lib/modules)" --show-depends "$name"; done |
      awk '$1 == "insmod" && !seen[$2]++ { print $2 }' > files
    while read -r file; do
      cp "$file" modules/
      echo "/modules/$(basename "$file")" >> modules/order
    done < files
    rm files
    cat > init <<'INIT'
${readFileSync(join(import.meta.dirname, 'initrd-init'), 'utf8')}INIT
    chmod 755 init
    find . | cpio --quiet -o -H newc | gzip > ${INITRD}
    cd /
    rm -rf /tmp/initrd
  `,
}

/** The root of virtual machines: a folder that nobody writes to. Made at the first call, which takes two minutes. */
export function ensureVmRoot(): Promise<string> {
  return ensureRoot(VM_ROOT)
}
