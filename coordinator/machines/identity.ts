import type { Facts } from '../../shared/gen/muster/v1/facts_pb.ts'
import { sha256Hex } from '../../shared/ids.ts'
import { cut, type HardwareClaim, hardwareClaim } from '../../shared/revision/hardware-of-facts.ts'
import { readTexts } from '../store/json.ts'
import type { MachineRow } from '../store/machines.ts'

/** What a machine claims to be. An empty text or list: not known, which never equals anything. */
export interface ClaimedIdentity extends HardwareClaim {
  readonly product: string
  /** SHA-256 over the sorted disk serials; empty without any. */
  readonly disksDigest: string
  /** /etc/machine-id: of the installed system, not of the hardware. */
  readonly systemId: string
}

export function identityOfFacts(facts: Facts): ClaimedIdentity {
  const claim = hardwareClaim(facts)
  return {
    ...claim,
    product: cut(facts.system?.product),
    disksDigest: disksDigest(claim.diskSerials),
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
