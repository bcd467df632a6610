import { randomBytes } from 'node:crypto'
import { cp, mkdir, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { machineFiles } from '../machine-files.ts'
import { must } from '../run.ts'
import { storeLayer } from '../store-layer.ts'
import { bootFiles } from './virtual-system.ts'
import { ensureVmRoot } from './vm-root.ts'

export interface DiskOptions {
  /**
   * Systems of the host's store (`buildSystems` of `virtualSystem`s), which become generations 1, 2, … of the system
   * profile. The profile points at the one that `runs`, which is also what boots.
   */
  readonly systems: readonly string[]
  /** Number of a generation; default 1. */
  readonly runs?: number
  /** More of the host's store that the machine has: an agent's program and its Node, for example. */
  readonly store?: readonly string[]
  /** Files laid over the root: absolute path to text. */
  readonly files?: Readonly<Record<string, string>>
  /** Of the root file system; default 3072, which takes room only where something is written. */
  readonly megabytes?: number
  /** Of the boot partition; default 160. FAT wants 40 of them at least. */
  readonly bootMegabytes?: number
}

const UNITS = 'usr/lib/systemd/system'
const HELPERS = 'usr/lib/muster-lab'

/** Makes a raw disk in a folder, from which firmware boots the first of the systems through systemd-boot. */
export async function makeDisk(
  folder: string,
  name: string,
  mac: string,
  options: DiskOptions,
): Promise<string> {
  const root = await ensureVmRoot()
  const { kernel, initrd } = await bootFiles()
  const common = await storeLayer(root, [], [kernel, initrd, ...(options.store ?? [])])
  const layers = await storeLayer(root, common, options.systems)
  const extra = join(folder, 'extra')
  await putFiles(extra, {
    ...machineFiles(randomBytes(16).toString('hex')),
    'etc/fstab': 'LABEL=LABESP /boot vfat umask=0077 0 0\n',
    'etc/hostname': `${name}\n`,
    // The name that the unit of a system's network knows, and the wait for it that containers need not.
    'usr/lib/systemd/network/10-lab.link': `[Match]\nMACAddress=${mac}\n[Link]\nName=host0\n`,
    [`${UNITS}/lab-network.service.d/wait.conf`]:
      '[Unit]\nWants=sys-subsystem-net-devices-host0.device\nAfter=sys-subsystem-net-devices-host0.device\n',
    ...options.files,
  })
  for (const file of ['guest-control', 'guest-control.service']) {
    const to = join(extra, file.endsWith('.service') ? UNITS : HELPERS, file)
    await mkdir(dirname(to), { recursive: true })
    await cp(join(import.meta.dirname, file), to)
  }
  // Below /usr/lib, where no switch of systems looks: a test must not lose its hold on the machine.
  const wants = join(extra, UNITS, 'multi-user.target.wants')
  await mkdir(wants, { recursive: true })
  await symlink('../guest-control.service', join(wants, 'guest-control.service'))

  const disk = join(folder, 'disk.raw')
  const lower = [...layers, root].join(':')
  const sizes = [options.megabytes ?? 3072, options.bootMegabytes ?? 160].map(String)
  await must('unshare', ['--mount', join(import.meta.dirname, 'make-disk'), lower, extra, disk, ...sizes], {
    input: installScript(options.systems, options.runs ?? 1),
    timeoutMs: 5 * 60_000,
  })
  return disk
}

async function putFiles(folder: string, files: Readonly<Record<string, string>>): Promise<void> {
  for (const [path, text] of Object.entries(files)) {
    const full = join(folder, path)
    await mkdir(dirname(full), { recursive: true })
    await writeFile(full, text, { mode: path.includes('/bin/') ? 0o755 : 0o644 })
  }
}

/** What nixos-install does at the end. */
function installScript(systems: readonly string[], runs: number): string {
  const links = systems.map((system, index) => `ln -s ${system} system-${index + 1}-link`)
  return `
    mkdir -p /nix/var/nix/profiles /boot /var/log/journal
    cd /nix/var/nix/profiles
    ${links.join('\n    ')}
    ln -s system-${runs}-link system
    ${systems[runs - 1]}/install-boot-loader ${systems[runs - 1]}
  `
}
