import type { MessageInitShape } from '@bufbuild/protobuf'
import type { FirmwareFactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { cleanText } from './clean-values.ts'
import type { Source } from './source.ts'
import { makerText } from './system-facts.ts'

const EFI = '/sys/firmware/efi'
const SECURE_BOOT = `${EFI}/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c`
const LOADER_INFO = `${EFI}/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f`
/** Every EFI variable begins with four bytes of attributes. */
const ATTRIBUTES = 4

export async function collectFirmware(source: Source): Promise<MessageInitShape<typeof FirmwareFactsSchema>> {
  const uefi = await source.has(EFI)
  const dmi = await source.has('/sys/class/dmi/id')
  return {
    // Only a machine with SMBIOS and without UEFI is known to have a BIOS; boards with a device tree have neither.
    kind: uefi === true ? 'uefi' : uefi === false && dmi === true ? 'bios' : undefined,
    vendor: await makerText(source, '/sys/class/dmi/id/bios_vendor'),
    version: await makerText(source, '/sys/class/dmi/id/bios_version'),
    secureBoot: uefi ? await secureBoot(source) : undefined,
    bootLoader: (uefi ? await loaderInfo(source) : undefined) ?? (await loaderFromFiles(source)),
    tpmVersion: await tpmVersion(source),
  }
}

async function secureBoot(source: Source): Promise<boolean | undefined> {
  const value = await source.bytes(SECURE_BOOT, 64)
  if (value === undefined) {
    source.warn(`${SECURE_BOOT}: missing; is efivarfs mounted?`)
    return undefined
  }
  const state = value[ATTRIBUTES]
  if (value.length === ATTRIBUTES + 1 && (state === 0 || state === 1)) return state === 1
  source.warn(`${SECURE_BOOT}: neither 0 nor 1`)
  return undefined
}

/** What the boot loader wrote of itself (systemd-boot, and grub since 2.12): UTF-16 with an ending zero. */
async function loaderInfo(source: Source): Promise<string | undefined> {
  const value = await source.bytes(LOADER_INFO, 1024)
  if (value === undefined || value.length <= ATTRIBUTES) return undefined
  const text = new TextDecoder('utf-16le').decode(value.subarray(ATTRIBUTES)).split('\0')[0]
  return cleanText(text ?? '', 64)
}

/** Boot loaders that tell nothing are known by what they read. */
async function loaderFromFiles(source: Source): Promise<string | undefined> {
  const marks: readonly (readonly [string, string])[] = [
    ['/boot/grub/grub.cfg', 'grub'],
    ['/boot/extlinux/extlinux.conf', 'extlinux'],
  ]
  const present: string[] = []
  for (const [path, name] of marks) {
    // The folder is often closed to all but root, and a closed folder is no answer.
    if ((await source.system.exists(path)).kind === 'present') present.push(name)
  }
  return present.length === 1 ? present[0] : undefined
}

async function tpmVersion(source: Source): Promise<string | undefined> {
  const tpm = (await source.names('/sys/class/tpm')).find(name => /^tpm\d+$/.test(name))
  if (tpm === undefined) return undefined
  const major = (await source.text(`/sys/class/tpm/${tpm}/tpm_version_major`))?.trim()
  if (major === '2') return '2.0'
  if (major === '1') return '1.2'
  source.warn(`/sys/class/tpm/${tpm}/tpm_version_major: tells no version`)
  return undefined
}
