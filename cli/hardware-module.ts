import { escapeText } from '../shared/escape.ts'
import type { Facts, InterfaceFacts, PciFacts } from '../shared/gen/muster/v1/facts_pb.ts'

/**
 * A NixOS module with what a machine's facts tell of its hardware. Facts are a stranger's claims: what becomes code is
 * chosen from fixed words or matches the pattern of a module's name, and everything else is one line of comment with
 * control characters escaped. File systems are left out, because facts do not tell how disks are to be used.
 */
export function hardwareModule(facts: Facts): string {
  const platform = PLATFORMS.get(facts.cpu?.architecture ?? '')
  const microcode = isVirtual(facts) ? undefined : MICROCODE.get(facts.cpu?.vendor ?? '')
  const modules = initrdModules(facts)
  return lines(
    comment(`Hardware of ${describeMachine(facts)}.`),
    comment(
      'Written by `muster show --nix` from the facts of the machine itself; read it before you use it.',
    ),
    facts.simulated
      ? comment('SIMULATED: these facts come from a made-up root folder, not from a machine.')
      : [],
    '{ config, lib, modulesPath, ... }:',
    '',
    '{',
    indent(
      `imports = [ (modulesPath + ${nixString(isQemu(facts) ? '/profiles/qemu-guest.nix' : '/installer/scan/not-detected.nix')}) ];`,
      '',
      platform === undefined
        ? comment('nixpkgs.hostPlatform is left out: the architecture is unknown.')
        : `nixpkgs.hostPlatform = lib.mkDefault ${nixString(platform)};`,
      `boot.initrd.availableKernelModules = ${nixList(modules)};`,
      microcode === undefined
        ? []
        : `hardware.cpu.${microcode}.updateMicrocode = lib.mkDefault config.hardware.enableRedistributableFirmware;`,
      '',
      comment('File systems are left out: facts do not tell how the disks are to be used. The disks:'),
      ...facts.disks.map(disk =>
        comment(
          `  ${disk.path ?? `/dev/${disk.name} (no stable path)`}: ${words(disk.model, sizeText(disk.size), disk.transport)}`,
        ),
      ),
      '',
      comment('Network interfaces with hardware, by permanent address:'),
      ...facts.interfaces
        .filter(one => one.physical)
        .map(one => comment(`  ${one.mac ?? 'address unknown'}: ${describeInterface(one)}`)),
    ),
    '}',
    '',
  ).join('\n')
}

const PLATFORMS = new Map([
  ['x86_64', 'x86_64-linux'],
  ['aarch64', 'aarch64-linux'],
  ['riscv64', 'riscv64-linux'],
])

const MICROCODE = new Map([
  ['GenuineIntel', 'intel'],
  ['AuthenticAMD', 'amd'],
])

/** What the kernel needs before it can see a disk. */
const TRANSPORT_MODULES: ReadonlyMap<string, readonly string[]> = new Map([
  ['nvme', ['nvme']],
  ['sata', ['ahci', 'sd_mod']],
  ['sas', ['sd_mod']],
  ['usb', ['usb_storage', 'sd_mod', 'uas']],
  ['virtio', ['virtio_pci', 'virtio_blk', 'virtio_scsi', 'sd_mod']],
  ['mmc', ['mmc_block']],
  ['xen', ['xen_blkfront']],
])

/** PCI classes of what a root disk, or the keyboard that unlocks it, may hang on: storage, USB, SD hosts. */
const BOOT_CLASSES = /^(01..|0c03|0805)$/

/** Drivers whose module has another name. */
const DRIVER_MODULES = new Map([['xhci_hcd', 'xhci_pci']])

/** Sorted names of the modules that the initial ramdisk should have at hand. */
export function initrdModules(facts: Facts): readonly string[] {
  const modules = new Set<string>()
  for (const device of facts.pci) {
    const name = driverModule(device)
    if (BOOT_CLASSES.test(device.class) && name !== undefined) modules.add(name)
  }
  for (const { transport } of facts.disks) {
    for (const name of TRANSPORT_MODULES.get(transport ?? '') ?? []) modules.add(name)
  }
  return [...modules].sort()
}

function driverModule({ driver }: PciFacts): string | undefined {
  if (driver === undefined || !/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/.test(driver)) return undefined
  const name = driver.replaceAll('-', '_')
  return DRIVER_MODULES.get(name) ?? name
}

function isVirtual(facts: Facts): boolean {
  const { virtualisation } = facts.system ?? {}
  return virtualisation !== undefined && virtualisation !== 'none'
}

function isQemu(facts: Facts): boolean {
  const { virtualisation } = facts.system ?? {}
  return virtualisation === 'kvm' || virtualisation === 'qemu'
}

function describeMachine(facts: Facts): string {
  const { vendor, product, serial, hostname } = facts.system ?? {}
  const machine = words(vendor, product) || 'a machine of unknown make'
  return `${machine}${serial === undefined ? '' : `, serial ${serial}`}${hostname === undefined ? '' : `, now called ${hostname}`}`
}

function describeInterface({ name, driver, speed }: InterfaceFacts): string {
  return words(name, driver && `driver ${driver}`, speed === undefined ? undefined : `${speed} Mbit/s`)
}

function sizeText(size: bigint | undefined): string | undefined {
  return size === undefined ? undefined : `${size} bytes`
}

function words(...parts: readonly (string | undefined)[]): string {
  return parts.filter(part => part !== undefined && part !== '').join(' ')
}

/** A Nix string literal that evaluates to exactly this text. */
export function nixString(text: string): string {
  const escaped = text
    .replaceAll('\0', '') // Nix cannot hold it
    .replace(/["\\]|\$\{/g, found => `\\${found}`)
    .replaceAll('\n', '\\n')
    .replaceAll('\r', '\\r')
    .replaceAll('\t', '\\t')
  return `"${escaped}"`
}

function nixList(items: readonly string[]): string {
  return items.length === 0 ? '[ ]' : `[ ${items.map(nixString).join(' ')} ]`
}

function comment(text: string): string {
  return `# ${escapeText(text)}`.trimEnd()
}

function lines(...parts: readonly (string | readonly string[])[]): string[] {
  return parts.flat()
}

function indent(...parts: readonly (string | readonly string[])[]): string[] {
  return lines(...parts).map(line => (line === '' ? '' : `  ${line}`))
}
