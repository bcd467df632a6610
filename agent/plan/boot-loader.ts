import { bootMounts, readMounts } from '../safety/boot-mounts.ts'
import type { System } from '../system/system.ts'

/** `none` is a system that is not booted by a loader of its own (containers). */
export type BootLoaderKind = 'systemd-boot' | 'grub' | 'extlinux' | 'none' | 'unknown'

/** The installer is named in the wrapper of the switch program, a script or a small binary. */
const MAX_WRAPPER_BYTES = 4 * 1024 * 1024
const MOST_MIRRORS = 16

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

/** Folder of the kernels, below the mount point. */
const LAYOUTS = [
  { loader: 'systemd-boot', folder: 'EFI/nixos' },
  { loader: 'grub', folder: 'kernels' },
  { loader: 'extlinux', folder: 'nixos' },
] as const

/**
 * Finds the folders that hold the kernels of the running generations: wherever a file system is mounted that a boot loader reads, and on
 * the usual places. GRUB may copy to several. None where no loader copies any.
 */
export async function findBootPlaces(
  system: System,
  root: string,
  loader: BootLoaderKind,
): Promise<readonly BootPlace[]> {
  const base = root.replace(/\/$/, '')
  const there: (BootPlace & { readonly isMounted: boolean })[] = []
  for (const { path, isMounted } of await bootFolders(system, base)) {
    for (const layout of LAYOUTS) {
      const kernels = `${base}${path}/${layout.folder}`
      if ((await system.listDir(kernels, 1)).kind === 'dir') {
        there.push({ loader: layout.loader, mountPoint: `${base}${path}`, kernels, isMounted })
      }
    }
  }
  // What another loader left, and what lies below a mount point that is empty now, is filled by nobody.
  const own = there.some(place => place.loader === loader)
    ? there.filter(place => place.loader === loader)
    : there
  const mounted = own.filter(({ isMounted }) => isMounted)
  return (mounted.length > 0 ? mounted : own).map(({ isMounted: _, ...place }) => place)
}

/** Places of a boot loader's files, with their first slash, and whether a file system is mounted there. */
async function bootFolders(
  system: System,
  base: string,
): Promise<readonly { readonly path: string; readonly isMounted: boolean }[]> {
  const mounts = await readMounts(system)
  // GRUB reads most file systems; its mirrors are by custom /boot1, /boot-fallback.
  const mirrors = mounts.filter(({ place }) => /^\/boot[\w.-]*$/.test(place)).map(({ place }) => place)
  const usual = (await bootMounts(system)).map(path => `/${path}`)
  return [...new Set([...usual, ...mirrors.slice(0, MOST_MIRRORS)])].map(path => ({
    path,
    isMounted: mounts.some(({ place }) => place === `${base}${path}`),
  }))
}
