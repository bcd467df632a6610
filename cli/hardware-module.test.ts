import { spawnSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { FactsSchema } from '../shared/gen/muster/v1/facts_pb.ts'
import { hardwareModule, initrdModules, nixString } from './hardware-module.ts'

const server = create(FactsSchema, {
  system: { vendor: 'Dell Inc.', product: 'PowerEdge R660', serial: '7XK2Q14', virtualisation: 'none' },
  cpu: { architecture: 'x86_64', vendor: 'GenuineIntel' },
  disks: [
    {
      name: 'nvme0n1',
      path: '/dev/disk/by-id/nvme-X',
      model: 'PM1735a',
      size: 1920383410176n,
      transport: 'nvme',
    },
    { name: 'sda', transport: 'sata' },
  ],
  interfaces: [
    { name: 'eno1', mac: 'b0:7b:25:aa:10:01', driver: 'bnxt_en', speed: 25000n, physical: true },
    { name: 'bond0', mac: 'b0:7b:25:ff:00:99' },
  ],
  pci: [
    { slot: '0000:00:14.0', class: '0c03', driver: 'xhci_hcd', vendorId: '8086', deviceId: '1bcd' },
    { slot: '0000:01:00.0', class: '0104', driver: 'megaraid_sas', vendorId: '1000', deviceId: '10e2' },
    { slot: '0000:02:00.0', class: '0200', driver: 'bnxt_en', vendorId: '14e4', deviceId: '16d7' },
  ],
})

test('a server becomes a module', () => {
  expect(hardwareModule(server)).toBe(`# Hardware of Dell Inc. PowerEdge R660, serial 7XK2Q14.
# Written by \`muster show --nix\` from the facts of the machine itself; read it before you use it.
{ config, lib, modulesPath, ... }:

{
  imports = [ (modulesPath + "/installer/scan/not-detected.nix") ];

  nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux";
  boot.initrd.availableKernelModules = [ "ahci" "megaraid_sas" "nvme" "sd_mod" "xhci_pci" ];
  hardware.cpu.intel.updateMicrocode = lib.mkDefault config.hardware.enableRedistributableFirmware;

  # File systems are left out: facts do not tell how the disks are to be used. The disks:
  #   /dev/disk/by-id/nvme-X: PM1735a 1920383410176 bytes nvme
  #   /dev/sda (no stable path): sata

  # Network interfaces with hardware, by permanent address:
  #   b0:7b:25:aa:10:01: eno1 driver bnxt_en 25000 Mbit/s
}
`)
})

test('a virtual machine gets the guest profile and no microcode, and nothing unknown is written', () => {
  const guest = create(FactsSchema, {
    system: { virtualisation: 'kvm' },
    cpu: { vendor: 'AuthenticAMD' },
    disks: [{ name: 'vda', transport: 'virtio' }],
    simulated: true,
  })
  const text = hardwareModule(guest)
  expect(text).toContain('/profiles/qemu-guest.nix')
  expect(text).toContain('SIMULATED')
  expect(text).not.toContain('updateMicrocode')
  expect(text).not.toMatch(/^\s*nixpkgs\.hostPlatform/m)
  expect(initrdModules(guest)).toEqual(['sd_mod', 'virtio_blk', 'virtio_pci', 'virtio_scsi'])
})

const nasty = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc
    .array(
      fc.constantFrom(
        '"',
        '${',
        '$',
        '{',
        '}',
        "''",
        '\\',
        '\n',
        '\r',
        '\t',
        '../',
        '#',
        '*/',
        '/*',
        ';',
        'x',
        '\u2028',
        '\u202e',
        '\0',
        '__proto__',
        'constructor',
      ),
      { maxLength: 12 },
    )
    .map(parts => parts.join('')),
)
const hostile = fc
  .record({
    vendor: nasty,
    product: nasty,
    serial: nasty,
    hostname: nasty,
    virtualisation: nasty,
    architecture: nasty,
    cpuVendor: nasty,
    disk: nasty,
    path: nasty,
    transport: nasty,
    driver: nasty,
    pciClass: fc.oneof(fc.constant('0106'), nasty),
    name: nasty,
    mac: nasty,
  })
  .map(v =>
    create(FactsSchema, {
      system: {
        vendor: v.vendor,
        product: v.product,
        serial: v.serial,
        hostname: v.hostname,
        virtualisation: v.virtualisation,
      },
      cpu: { architecture: v.architecture, vendor: v.cpuVendor },
      disks: [{ name: v.disk, path: v.path, model: v.product, transport: v.transport }],
      pci: [{ class: v.pciClass, driver: v.driver }],
      interfaces: [{ name: v.name, mac: v.mac, driver: v.driver, physical: true }],
    }),
  )

describe('T12: facts never become code', () => {
  const CODE = [
    /^$/,
    /^\{ config, lib, modulesPath, \.\.\. \}:$/,
    /^[{}]$/,
    /^ {2}imports = \[ \(modulesPath \+ "\/[a-z/-]+\.nix"\) \];$/,
    /^ {2}nixpkgs\.hostPlatform = lib\.mkDefault "(x86_64|aarch64|riscv64)-linux";$/,
    /^ {2}boot\.initrd\.availableKernelModules = \[( "[A-Za-z0-9_]+")* \];$/,
    /^ {2}hardware\.cpu\.(intel|amd)\.updateMicrocode = lib\.mkDefault config\.hardware\.enableRedistributableFirmware;$/,
  ]

  test('every line is a comment or one of the few lines of code that exist', () => {
    fc.assert(
      fc.property(hostile, facts => {
        // Nix ends a comment at \n or \r, so both count as line breaks here.
        for (const line of hardwareModule(facts).split(/[\n\r]/)) {
          const harmless = /^\s*#/.test(line) || CODE.some(pattern => pattern.test(line))
          expect(harmless, line).toBe(true)
        }
      }),
      { numRuns: 1_000 },
    )
  })

  test('a string literal never ends early and never interpolates', () => {
    fc.assert(
      fc.property(nasty, text => {
        // Escapes, dollars that begin no interpolation, and characters without a meaning: nothing else.
        expect(nixString(text)).toMatch(/^"(?:\\(?:\$\{|["\\nrt])|\$(?!\{)|[^"\\$\n\r])*"$/)
      }),
      { numRuns: 1_000 },
    )
  })

  const hasNix = spawnSync('nix-instantiate', ['--version']).status === 0
  test.runIf(hasNix)('Nix itself reads hostile modules and strings back as what they were', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'muster-nix-'))
    try {
      const modules = fc.sample(hostile, 60)
      const texts = fc.sample(nasty, 200).map(text => Buffer.from(text.replaceAll('\0', '')).toString())
      const entries = await Promise.all(
        modules.map(async (facts, i) => {
          await writeFile(join(folder, `${i}.nix`), hardwareModule(facts))
          return `(import ./${i}.nix { config.hardware.enableRedistributableFirmware = true; lib.mkDefault = x: x; modulesPath = "/m"; }).boot.initrd.availableKernelModules`
        }),
      )
      await writeFile(
        join(folder, 'all.nix'),
        `{ modules = [ ${entries.join('\n')} ]; texts = [ ${texts.map(nixString).join('\n')} ]; }`,
      )
      const { stdout, stderr } = spawnSync(
        'nix-instantiate',
        ['--eval', '--strict', '--json', '--read-write-mode', '--store', `dummy://`, join(folder, 'all.nix')],
        { encoding: 'utf8', env: { PATH: '/usr/bin:/bin:/run/current-system/sw/bin', HOME: folder } },
      )
      expect(stderr.replace(/^warning.*$/gm, '').trim()).toBe('')
      expect(JSON.parse(stdout)).toEqual({ modules: modules.map(initrdModules), texts })
    } finally {
      await rm(folder, { recursive: true })
    }
  })
})
