import type { Facts } from '../gen/muster/v1/facts_pb.ts'
import type { Hardware } from './expand-name.ts'

const MAX_TEXT_CHARS = 256

/** What of a machine's facts ties it to a host or names it. */
export interface HardwareClaim {
  /** Of the system's firmware; empty: not known. */
  readonly serial: string
  /** In lower case; empty: not known. */
  readonly uuid: string
  /**
   * Permanent addresses of the interfaces that have hardware, in lower case, in order. A bridge or a bond that a configuration
   * makes has an address, too, and must not change which machine this is.
   */
  readonly macs: readonly string[]
  /** Of disks that stay: a stick that is plugged in or out changes nothing about which machine this is. In order. */
  readonly diskSerials: readonly string[]
}

/** Read by the coordinator and by the node itself, which must come to one name: an empty text or list is not known. */
export function hardwareClaim({ system, disks, interfaces }: Facts): HardwareClaim {
  return {
    serial: cut(system?.serial),
    uuid: cut(system?.uuid).toLowerCase(),
    macs: unique(interfaces.filter(({ physical }) => physical).map(({ mac }) => cut(mac).toLowerCase())),
    diskSerials: unique(disks.filter(({ removable }) => removable !== true).map(({ serial }) => cut(serial))),
  }
}

/** As the rules of binding take it: what is not known is left out. */
export function hardwareOf(machineId: string, claim: HardwareClaim): Hardware {
  return {
    machineId,
    serial: claim.serial || undefined,
    uuid: claim.uuid || undefined,
    macs: claim.macs.length > 0 ? claim.macs : undefined,
    diskSerials: claim.diskSerials.length > 0 ? claim.diskSerials : undefined,
  }
}

/** Of a text that a machine claims: no longer than a store keeps. */
export function cut(text: string | undefined): string {
  return (text ?? '').trim().slice(0, MAX_TEXT_CHARS)
}

function unique(texts: readonly string[]): readonly string[] {
  return [...new Set(texts.filter(text => text !== ''))].toSorted()
}
