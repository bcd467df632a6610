import type { System } from '../system/system.ts'

/** `none` is a system that is not booted by a loader of its own (containers). */
export type BootLoaderKind = 'systemd-boot' | 'grub' | 'extlinux' | 'none' | 'unknown'

/** The installer is named in the wrapper of the switch program, a script or a small binary. */
const MAX_WRAPPER_BYTES = 4 * 1024 * 1024

/** Which boot loader a toplevel installs, by the installer that its switch program was given. */
export async function bootLoaderOf(system: System, toplevel: string): Promise<BootLoaderKind> {
  const reading = await system.readFile(`${toplevel}/bin/switch-to-configuration`, MAX_WRAPPER_BYTES)
  if (reading.kind !== 'file' || reading.truncated) return 'unknown'
  const text = reading.bytes.toString('latin1')
  if (/systemd-?boot/i.test(text)) return 'systemd-boot'
  if (/install-grub|grub-install/.test(text)) return 'grub'
  if (/extlinux/.test(text)) return 'extlinux'
  return /INSTALL_BOOTLOADER[^\n]{0,80}\/bin\/true\b/.test(text) ? 'none' : 'unknown'
}

/** Where kernels lie on the boot partition of a machine. */
export interface BootPlace {
  readonly loader: BootLoaderKind
  /** The mount point, or the folder of the root file system that stands for it. */
  readonly mountPoint: string
  /** Folder into which the installer copies kernels. */
  readonly kernels: string
}

const PLACES: readonly BootPlace[] = ['/boot', '/efi', '/boot/efi'].flatMap(mountPoint => [
  { loader: 'systemd-boot', mountPoint, kernels: `${mountPoint}/EFI/nixos` },
  { loader: 'grub', mountPoint, kernels: `${mountPoint}/kernels` },
  { loader: 'extlinux', mountPoint, kernels: `${mountPoint}/nixos` },
])

/** Finds the folder that holds the kernels of the running generations; undefined where no loader copies any. */
export async function findBootPlace(system: System, root: string): Promise<BootPlace | undefined> {
  for (const place of PLACES) {
    const kernels = `${root.replace(/\/$/, '')}${place.kernels}`
    if ((await system.listDir(kernels, 1)).kind === 'dir') {
      return { ...place, mountPoint: `${root.replace(/\/$/, '')}${place.mountPoint}`, kernels }
    }
  }
  return undefined
}
