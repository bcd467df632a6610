import { fromBinary } from '@bufbuild/protobuf'
import { type Facts, FactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { sha256Hex } from '../../shared/ids.ts'

/** What a stranger may send, and what an enrolled machine may. */
export const MAX_STRANGER_FACTS_BYTES = 64 * 1024
export const MAX_FACTS_BYTES = 1024 * 1024

export interface ReadFacts {
  readonly bytes: Uint8Array
  readonly digest: string
  readonly facts: Facts
}

export type FactsReading =
  | ({ readonly kind: 'ok' } & ReadFacts)
  | { readonly kind: 'refused'; readonly reason: string }

/** Decodes facts once, within the bounds that `facts.proto` states. */
export function readFacts(bytes: Uint8Array, maxBytes: number): FactsReading {
  if (bytes.length > maxBytes) return refused(`facts: ${bytes.length} bytes, at most ${maxBytes} are read`)
  let facts: Facts
  try {
    facts = fromBinary(FactsSchema, bytes)
  } catch {
    return refused('facts: not decodable')
  }
  const bounds: readonly (readonly [string, number, number])[] = [
    ['disks', facts.disks.length, 256],
    ['interfaces', facts.interfaces.length, 256],
    ['pci', facts.pci.length, 512],
    ['ssh_host_keys', facts.sshHostKeys.length, 8],
    ['warnings', facts.warnings.length, 64],
    ['memory.modules', facts.memory?.modules.length ?? 0, 256],
    ['nixos.reboot_reasons', facts.nixos?.rebootReasons.length ?? 0, 64],
  ]
  for (const [field, length, most] of bounds) {
    if (length > most) return refused(`facts ${field}: ${length} entries, at most ${most} are read`)
  }
  return { kind: 'ok', bytes, digest: sha256Hex(bytes), facts }
}

function refused(reason: string): FactsReading {
  return { kind: 'refused', reason }
}
