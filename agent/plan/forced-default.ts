import type { System } from '../system/system.ts'

/** EFI variable in which systemd-boot keeps a default that somebody set by hand; the vendor id is its own. */
const DEFAULT_ENTRY = '/sys/firmware/efi/efivars/LoaderEntryDefault-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f'
/** Bytes of attributes before the value. */
const ATTRIBUTES = 4

/** The entry that somebody made the default in the firmware, past what the installer writes. */
export type ForcedDefault =
  | { readonly kind: 'none' }
  | { readonly kind: 'entry'; readonly entry: string }
  | { readonly kind: 'unknown'; readonly why: string }

/** Reads it. With one, the next boot starts that entry, whatever was installed, promoted or gone back to. */
export async function readForcedDefault(system: System): Promise<ForcedDefault> {
  const reading = await system.readFile(DEFAULT_ENTRY, 4096)
  if (reading.kind === 'missing') return { kind: 'none' }
  if (reading.kind !== 'file') return { kind: 'unknown', why: `${DEFAULT_ENTRY} cannot be read` }
  const entry = reading.bytes.subarray(ATTRIBUTES).toString('utf16le').replace(/\0+$/, '')
  return entry === '' ? { kind: 'none' } : { kind: 'entry', entry }
}
