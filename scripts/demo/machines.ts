import type { Hardware } from '../made-up-root.ts'

/** How a machine of the demo comes into the fleet. */
export interface DemoMachine {
  /** Name of its folder. */
  readonly name: string
  /** The system of hosts.nix that it runs. */
  readonly system: string
  readonly token: boolean
  readonly hardware: Hardware
}

const GB = 1_000_000_000
const DATA_DISK = 'MUDATA0000001'

/** The five machines that do not exist. Their hardware is made up, the same in every demo. */
export const MACHINES: readonly DemoMachine[] = [
  {
    name: 'olaf',
    system: 'olaf',
    token: true,
    hardware: {
      seed: 'demo-olaf',
      product: 'MM-500 server',
      serial: 'MM5000001',
      memoryBytes: 64 * 1024 ** 3,
      threads: 16,
    },
  },
  {
    name: 'bolt',
    system: 'bolt',
    token: true,
    hardware: {
      seed: 'demo-bolt',
      product: 'MM-500 server',
      serial: 'MM5000002',
      memoryBytes: 32 * 1024 ** 3,
      disks: [
        disk('nvme0n1', 'MUBOOT0000002', 500 * GB),
        { ...disk('sda', DATA_DISK, 4_000 * GB), model: 'Made Up Disk 4000', transport: 'sata' },
      ],
    },
  },
  {
    name: 'anna',
    system: 'anna',
    token: false,
    hardware: { seed: 'demo-anna', product: 'MM-100', serial: 'MM1000003', macs: ['02:6d:75:00:00:03'] },
  },
  ...['N100-4', 'N100-5'].map(serial => ({
    name: serial.toLowerCase(),
    system: 'edge',
    token: false,
    hardware: {
      seed: `demo-${serial}`,
      vendor: 'Made Up Minis',
      product: 'N100',
      serial,
      memoryBytes: 8 * 1024 ** 3,
      disks: [disk('nvme0n1', `MU${serial.replace('-', '')}`, 128 * GB)],
    },
  })),
]

/** Binds bolt: it is the host that has this disk. */
export const BOLT_DISK = DATA_DISK

function disk(name: string, serial: string, bytes: number) {
  return { name, serial, bytes, model: `Made Up NVMe ${Math.round(bytes / GB)}`, transport: 'nvme' as const }
}
