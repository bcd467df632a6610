import { createHash } from 'node:crypto'
import { mkdir, rm, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'

export interface MadeUpDisk {
  readonly name: string
  readonly serial: string
  readonly model: string
  readonly bytes: number
  readonly transport: 'nvme' | 'sata'
}

/** The hardware of a machine that does not exist. What is left out is made from `seed`, the same each time. */
export interface Hardware {
  readonly seed: string | number
  readonly vendor?: string
  readonly product?: string
  readonly serial?: string
  readonly uuid?: string
  readonly hostname?: string
  readonly disks?: readonly MadeUpDisk[]
  readonly macs?: readonly string[]
  readonly memoryBytes?: number
  readonly threads?: number
}

/**
 * Writes the files and canned command output of a made-up machine into a folder, in the layout that the agent's
 * `--facts-root` reads: `sys/`, `proc/`, `etc/` as on a machine, and `commands/NAME.json` or `.txt` for what the tools
 * print. Facts from such a folder are marked as simulated. Written again, the folder holds the new machine's hardware.
 */
export async function writeMadeUpRoot(root: string, machine: Hardware): Promise<void> {
  const whole = completed(machine)
  const files = new Map([
    ...boardFiles(whole),
    ...processorFiles(whole),
    ...diskFiles(whole),
    ...interfaceFiles(whole),
    ...systemFiles(whole),
  ])
  // What an earlier machine in this folder had more of must not stay.
  for (const path of ['dev/disk/by-id', 'sys/class/net']) {
    await rm(join(root, path), { recursive: true, force: true })
  }
  for (const [path, text] of files) {
    await mkdir(join(root, dirname(path)), { recursive: true })
    await writeFile(join(root, path), text)
  }
  await writeLinks(root, whole)
}

type Machine = Required<Hardware> & { readonly digits: string }
type Files = readonly (readonly [string, string | Uint8Array])[]

function completed(machine: Hardware): Machine {
  const { seed } = machine
  const hex = (what: string) => createHash('sha256').update(`made-up ${what} ${seed}`).digest('hex')
  const digits = hex('uuid')
  return {
    vendor: 'Made Up Machines',
    product: 'MM-100',
    serial: `MM${hex('serial').slice(0, 8).toUpperCase()}`,
    uuid: [
      digits.slice(0, 8),
      digits.slice(8, 12),
      `4${digits.slice(13, 16)}`,
      `8${digits.slice(17, 20)}`,
      digits.slice(20, 32),
    ].join('-'),
    hostname: `made-up-${String(seed).replace(/[^A-Za-z0-9]+/g, '-')}`,
    disks: [
      {
        name: 'nvme0n1',
        serial: `MUD${hex('disk').slice(0, 10).toUpperCase()}`,
        model: 'Made Up NVMe 500',
        bytes: 500_107_862_016,
        transport: 'nvme',
      },
    ],
    // Locally administered, so that it can be no real card's.
    macs: [`02:6d:75:${[0, 2, 4].map(at => hex('mac').slice(at, at + 2)).join(':')}`],
    memoryBytes: 16 * 1024 ** 3,
    threads: 4,
    digits: hex('system'),
    ...machine,
  }
}

function boardFiles({ vendor, product, serial, uuid }: Machine): Files {
  const dmi = 'sys/class/dmi/id'
  return [
    [`${dmi}/sys_vendor`, `${vendor}\n`],
    [`${dmi}/product_name`, `${product}\n`],
    [`${dmi}/product_serial`, `${serial}\n`],
    [`${dmi}/product_uuid`, `${uuid}\n`],
    [`${dmi}/board_vendor`, `${vendor}\n`],
    [`${dmi}/board_name`, `${product}-BOARD\n`],
    [`${dmi}/board_serial`, `B${serial}\n`],
    [`${dmi}/bios_vendor`, 'Made Up Firmware\n'],
    [`${dmi}/bios_version`, '1.0.0\n'],
    [
      'sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c',
      new Uint8Array([6, 0, 0, 0, 0]),
    ],
    [
      'sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f',
      Buffer.concat([Buffer.from([6, 0, 0, 0]), Buffer.from('systemd-boot 257\0', 'utf16le')]),
    ],
    ['sys/class/tpm/tpm0/tpm_version_major', '2\n'],
  ]
}

function processorFiles({ memoryBytes, threads }: Machine): Files {
  const block = (thread: number) =>
    [
      `processor\t: ${thread}`,
      'vendor_id\t: GenuineIntel',
      'model name\t: Made Up Processor 4000',
      'physical id\t: 0',
      `core id\t\t: ${thread}`,
      '',
      '',
    ].join('\n')
  const gib = Math.max(1, Math.round(memoryBytes / 1024 ** 3))
  return [
    ['proc/cpuinfo', Array.from({ length: threads }, (_, thread) => block(thread)).join('')],
    ['proc/meminfo', `MemTotal:       ${Math.floor(memoryBytes / 1024)} kB\n`],
    ['proc/sys/kernel/arch', 'x86_64\n'],
    [
      'commands/dmidecode-17.txt',
      `Handle 0x0011, DMI type 17, 92 bytes\nMemory Device\n\tSize: ${gib} GB\n\tLocator: DIMM A1\n\tType: DDR5\n\tManufacturer: Made Up Memory\n\tSerial Number: M0D01E\n\tConfigured Memory Speed: 4800 MT/s\n`,
    ],
  ]
}

function diskFiles({ disks }: Machine): Files {
  const blockdevices = disks.map(disk => ({
    name: disk.name,
    type: 'disk',
    size: disk.bytes,
    rota: false,
    rm: false,
    tran: disk.transport,
    model: disk.model,
    serial: disk.serial,
    wwn: null,
  }))
  return [['commands/lsblk.json', `${JSON.stringify({ blockdevices }, undefined, 2)}\n`]]
}

function interfaceFiles({ macs, digits }: Machine): Files {
  const list = macs.map((mac, i) => ({
    ifname: `enp${i + 1}s0`,
    flags: ['BROADCAST', 'MULTICAST', 'UP', 'LOWER_UP'],
    mtu: 1500,
    link_type: 'ether',
    address: mac,
    // From the block that is set aside for documentation; nobody can be reached there.
    addr_info:
      i === 0
        ? [
            {
              family: 'inet',
              local: `192.0.2.${(Number.parseInt(digits.slice(0, 4), 16) % 250) + 2}`,
              prefixlen: 24,
              scope: 'global',
            },
          ]
        : [],
  }))
  return [
    ['commands/ip-addr.json', `${JSON.stringify(list, undefined, 2)}\n`],
    ...macs.flatMap((mac, i) => {
      const sys = `sys/class/net/enp${i + 1}s0`
      return [
        [`${sys}/address`, `${mac}\n`],
        [`${sys}/carrier`, '1\n'],
        [`${sys}/speed`, '2500\n'],
        [`${sys}/mtu`, '1500\n'],
        [`${sys}/device/vendor`, '0x8086\n'],
      ] as const
    }),
  ]
}

function systemFiles({ hostname, digits }: Machine): Files {
  return [
    ['etc/machine-id', `${digits.slice(0, 32)}\n`],
    ['etc/os-release', 'ID=nixos\nPRETTY_NAME="NixOS 25.11 (made up)"\n'],
    ['proc/sys/kernel/hostname', `${hostname}\n`],
    ['proc/sys/kernel/osrelease', '6.12.58\n'],
    [
      'proc/sys/kernel/random/boot_id',
      `${digits.slice(0, 8)}-${digits.slice(8, 12)}-4${digits.slice(13, 16)}-8${digits.slice(17, 20)}-${digits.slice(20, 32)}\n`,
    ],
    ['proc/stat', 'cpu  1 0 1 1 0 0 0 0 0 0\nbtime 1767225600\n'],
    ['commands/systemd-detect-virt.txt', 'none\n'],
    ['commands/systemd-detect-virt.exit', '1\n'],
    ['commands/nix.txt', 'nix (Nix) 2.31.2\n'],
    ['commands/nixos-version.json', '{"nixosVersion":"25.11.made-up"}\n'],
  ]
}

/** The links that a machine has instead of files: disks by id, the card's driver, the system's generations. */
async function writeLinks(root: string, { disks, macs, hostname }: Machine): Promise<void> {
  const toplevel = `/nix/store/00000000000000000000000000000000-nixos-system-${hostname}-25.11`
  const links: (readonly [string, string])[] = [
    ['run/booted-system', toplevel],
    ['run/current-system', toplevel],
    ['nix/var/nix/profiles/system', 'system-1-link'],
    ['nix/var/nix/profiles/system-1-link', toplevel],
    ...disks.map(disk => {
      const kind = disk.transport === 'nvme' ? 'nvme' : 'ata'
      const name = `${kind}-${disk.model.replaceAll(' ', '_')}_${disk.serial}`
      return [`dev/disk/by-id/${name}`, `../../${disk.name}`] as const
    }),
    ...macs.map(
      (_, i) => [`sys/class/net/enp${i + 1}s0/device/driver`, '../../../../bus/pci/drivers/igc'] as const,
    ),
  ]
  for (const [path, target] of links) {
    await mkdir(join(root, dirname(path)), { recursive: true })
    await rm(join(root, path), { force: true })
    await symlink(target, join(root, path))
  }
}
