import { create, toBinary, toJsonString } from '@bufbuild/protobuf'
import { type Facts, FactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'

/** The serial of the emulated machine number `index`; the fleet's targets are bound to it. */
export const serialOf = (index: number) => `BENCH${String(index).padStart(6, '0')}`

/** Facts as a real machine of middling size has them: about 2 KiB. */
export function madeUpFacts(index: number): Facts {
  const serial = serialOf(index)
  const hex = index.toString(16).padStart(12, '0')
  return create(FactsSchema, {
    system: {
      vendor: 'Made Up Machines',
      product: index % 2 === 0 ? 'MM-100' : 'MM-200',
      serial,
      uuid: `00000000-0000-4000-8000-${hex}`,
      boardVendor: 'Made Up Machines',
      boardProduct: 'MM-BOARD',
      virtualisation: 'none',
      machineId: hex.padStart(32, '0'),
      hostname: `bench-${index}`,
    },
    cpu: {
      model: 'Made Up Processor 4000',
      vendor: 'GenuineIntel',
      architecture: 'x86_64',
      sockets: 1n,
      cores: 8n,
      threads: 16n,
    },
    memory: {
      total: 32n * 1024n ** 3n,
      modules: ['A1', 'B1'].map(slot => ({
        locator: `DIMM ${slot}`,
        size: 16n * 1024n ** 3n,
        kind: 'DDR5',
        speedMts: 4800n,
        manufacturer: 'Made Up Memory',
        serial: `${serial}-${slot}`,
      })),
    },
    disks: Array.from({ length: 1 + (index % 3) }, (_, disk) => ({
      name: `nvme${disk}n1`,
      path: `/dev/disk/by-id/nvme-Made_Up_NVMe_${serial}-${disk}`,
      serial: `${serial}-${disk}`,
      wwn: `eui.${hex}${disk}`,
      model: 'Made Up NVMe 1000',
      size: BigInt(disk + 1) * 1_000_204_886_016n,
      rotational: false,
      transport: 'nvme',
      removable: false,
    })),
    interfaces: [0, 1].map(port => ({
      name: `enp${port + 1}s0`,
      mac: `02:6d:${[6, 8, 10].map(at => hex.slice(at, at + 2)).join(':')}:0${port}`,
      speed: 2500n,
      carrier: port === 0,
      mtu: 1500n,
      driver: 'igc',
      addresses: port === 0 ? [`10.${(index >> 16) & 255}.${(index >> 8) & 255}.${index & 255}/8`] : [],
      physical: true,
    })),
    pci: Array.from({ length: 8 }, (_, slot) => ({
      slot: `0000:0${slot}:00.0`,
      vendorId: '8086',
      deviceId: '125c',
      class: slot === 0 ? '0300' : '0200',
      driver: 'igc',
      gpu: slot === 0,
    })),
    firmware: {
      kind: 'uefi',
      vendor: 'Made Up Firmware',
      version: '1.0.0',
      secureBoot: false,
      bootLoader: 'systemd-boot 257',
      tpmVersion: '2.0',
    },
    os: { id: 'nixos', prettyName: 'NixOS 25.11 (made up)', kernel: '6.12.58', bootId: `boot-${index}` },
    nixos: {
      version: '25.11.made-up',
      booted: `/nix/store/${'0'.repeat(32)}-nixos-system-bench-${index}-25.11`,
      current: `/nix/store/${'0'.repeat(32)}-nixos-system-bench-${index}-25.11`,
      profile: `/nix/store/${'0'.repeat(32)}-nixos-system-bench-${index}-25.11`,
      generation: 1n,
      nixVersion: '2.31.2',
    },
    sshHostKeys: [`ssh-ed25519 ${Buffer.from(serial.repeat(3)).toString('base64')}`],
    simulated: true,
  })
}

/** The facts as they are sent to the coordinator, and as the answer to a question asked live. */
export function encodedFacts(index: number): { readonly bytes: Uint8Array; readonly json: string } {
  const facts = madeUpFacts(index)
  return { bytes: toBinary(FactsSchema, facts), json: toJsonString(FactsSchema, facts) }
}
