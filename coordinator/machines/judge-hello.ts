import { timestampDate } from '@bufbuild/protobuf/wkt'
import type { Hello } from '../../shared/gen/muster/v1/agent_pb.ts'
import type { MachineRow } from '../store/machines.ts'

/** What the last session said, as far as it may only go forwards. */
export type LastSaid = Pick<
  MachineRow,
  'boot_count' | 'boot_id' | 'journal_sequence' | 'highest_revision' | 'highest_digest'
>

const SKEW_SHOWN_MS = 30_000

/**
 * Whether a node went back in time, as a restored disk does; undefined: it did not. A counter that starts anew with each
 * boot would prove nothing, so it is the count of boots that is compared: a new boot must count higher than the last.
 */
export function wentBack(last: LastSaid, hello: Hello): string | undefined {
  const bootCount = Number(hello.bootCount)
  const journal = Number(hello.journalSequence)
  const highest = Number(hello.highestRevision)
  if (bootCount < last.boot_count) {
    return `its count of boots went back from ${last.boot_count} to ${bootCount}`
  }
  if (last.boot_id !== '' && hello.bootId !== last.boot_id && bootCount <= last.boot_count) {
    return `it booted anew, but its count of boots stayed at ${bootCount}`
  }
  if (journal < last.journal_sequence) {
    return `its journal went back from record ${last.journal_sequence} to ${journal}`
  }
  if (highest < last.highest_revision) {
    return `the highest revision it accepted went back from ${last.highest_revision} to ${highest}`
  }
  if (
    highest > 0 &&
    highest === last.highest_revision &&
    last.highest_digest !== '' &&
    hello.highestDigest !== last.highest_digest
  ) {
    return `the revision ${highest} that it accepted is another one than before`
  }
  return undefined
}

/** What to show about a node's clock; undefined: it is right, or it did not say. */
export function clockSkew(hello: Hello, now: Date): string | undefined {
  if (!hello.now) return undefined
  const skewMs = timestampDate(hello.now).getTime() - now.getTime()
  if (Math.abs(skewMs) <= SKEW_SHOWN_MS) return undefined
  const seconds = Math.round(Math.abs(skewMs) / 1000)
  return `its clock is ${seconds} s ${skewMs > 0 ? 'ahead of' : 'behind'} the coordinator's`
}
