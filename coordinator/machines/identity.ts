import type { Facts } from '../../shared/gen/muster/v1/facts_pb.ts'
import { sha256Hex } from '../../shared/ids.ts'
import type { Hardware } from '../../shared/revision/expand-name.ts'
import { readTexts } from '../store/json.ts'
import type { MachineRow } from '../store/machines.ts'

/** What a machine claims to be. An empty text or list: not known, which never equals anything. */
export interface ClaimedIdentity {
  readonly serial: string
  readonly uuid: string
  readonly product: string
  readonly macs: readonly string[]
  readonly diskSerials: readonly string[]
  /** SHA-256 over the sorted disk serials; empty without any. */
  readonly disksDigest: string
  /** /etc/machine-id: of the installed system, not of the hardware. */
  readonly systemId: string
}

const MAX_TEXT_CHARS = 256

export function identityOfFacts(facts: Facts): ClaimedIdentity {
  const diskSerials = unique(
    // A stick that is plugged in or out changes nothing about which machine this is.
    facts.disks.filter(disk => disk.removable !== true).map(disk => cut(disk.serial)),
  )
  return {
    serial: cut(facts.system?.serial),
    uuid: cut(facts.system?.uuid).toLowerCase(),
    product: cut(facts.system?.product),
    macs: unique(
      facts.interfaces.filter(({ physical }) => physical).map(({ mac }) => cut(mac).toLowerCase()),
    ),
    diskSerials,
    disksDigest: disksDigest(diskSerials),
    systemId: cut(facts.system?.machineId),
  }
}

function disksDigest(serials: readonly string[]): string {
  return serials.length === 0 ? '' : sha256Hex(serials.toSorted().join('\n'))
}

/** The columns that carry an identity. */
export function identityColumns(identity: ClaimedIdentity) {
  return {
    serial: identity.serial,
    uuid: identity.uuid,
    product: identity.product,
    disks_digest: identity.disksDigest,
    macs: JSON.stringify(identity.macs),
    disk_serials: JSON.stringify(identity.diskSerials),
    machine_id: identity.systemId,
  }
}

export function identityOfRow(row: Omit<MachineRow, 'public_key'>): ClaimedIdentity {
  return {
    serial: row.serial,
    uuid: row.uuid,
    product: row.product,
    macs: readTexts(row.macs),
    diskSerials: readTexts(row.disk_serials),
    disksDigest: row.disks_digest,
    systemId: row.machine_id,
  }
}

/** As the rules of binding take it: what is not known is left out. */
export function hardwareOf(machineId: string, identity: ClaimedIdentity): Hardware {
  return {
    machineId,
    serial: identity.serial || undefined,
    uuid: identity.uuid || undefined,
    macs: identity.macs,
    diskSerials: identity.diskSerials,
  }
}

function cut(text: string | undefined): string {
  return (text ?? '').trim().slice(0, MAX_TEXT_CHARS)
}

function unique(texts: readonly string[]): readonly string[] {
  return [...new Set(texts.filter(text => text !== ''))].toSorted()
}
