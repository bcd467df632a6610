const why = 'lab machines (test/lab); tests in them are skipped without it'
const whyVirtual = 'virtual machines (test/lab/vm); tests in them are skipped without it'

/** Programs of the host that lab machines are made with, for ensurePrograms. */
export const LAB_PROGRAMS = [
  ['debootstrap', 'debootstrap'],
  ['systemd-nspawn', 'systemd-container'],
  ['ip', 'iproute2'],
  ['nsenter', 'util-linux'],
  ['python3', 'python3'],
  ['nix', 'nix-bin'],
  ['xz', 'xz-utils'],
].map(([program, name]) => ({ program, package: name, why }))

/** What virtual machines need beside them. */
export const VIRTUAL_MACHINE_PROGRAMS = [
  ['qemu-system-x86_64', 'qemu-system-x86'],
  ['qemu-img', 'qemu-utils'],
  ['/usr/share/OVMF/OVMF_CODE_4M.fd', 'ovmf'],
  ['sfdisk', 'fdisk'],
  ['mke2fs', 'e2fsprogs'],
  ['mkfs.vfat', 'dosfstools'],
  ['mcopy', 'mtools'],
  ['setpriv', 'util-linux'],
].map(([program, name]) => ({ program, package: name, why: whyVirtual }))
