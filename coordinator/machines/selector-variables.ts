import type { CelInput } from '@bufbuild/cel'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { Facts } from '../../shared/gen/muster/v1/facts_pb.ts'
import type { QueryVariables } from '../../shared/query/expression.ts'
import { factsToCel } from '../../shared/query/message-to-cel.ts'
import { readTexts } from '../store/json.ts'
import type { MachineRow } from '../store/machines.ts'
import type { DescribeDeps } from './describe-machines.ts'
import { entryOf } from './entry.ts'
import { labelsOf } from './labels.ts'
import { showConditions } from './show-conditions.ts'

/**
 * What a selector may speak of, for one machine. `facts` is there only when the machine sent any: an expression that
 * uses them for one that did not is an error for that machine, and says so.
 */
export function selectorVariables(
  { directory, sessions, conditions }: Omit<DescribeDeps, 'store' | 'clock'>,
  row: MachineRow,
  facts: Facts | undefined,
  nowMs: number,
): QueryVariables {
  const entry = directory.get(row.id) ?? entryOf(row, [])
  const assignment = directory.assignment(row.id)
  const shown = showConditions(
    entry,
    assignment,
    directory.alike(entry),
    directory.proposal(entry.id),
    conditions,
    nowMs,
  )
  const isHost = assignment.kind === 'host'
  return {
    ...(facts && { facts: factsToCel(facts) }),
    machine: new Map<string, string | boolean>([
      ['id', row.id],
      ['product', row.product],
      ['serial', row.serial],
      ['uuid', row.uuid],
      ['address', row.address],
      ['agentVersion', row.agent_version],
      ['admittedBy', row.admitted_by],
      ['simulated', row.simulated === 1],
    ]),
    host: isHost ? assignment.host : '',
    labels: new Map(Object.entries(labelsOf(directory, row.id, entry.labels))),
    status: new Map<string, CelInput>([
      ['state', entry.state],
      ['online', sessions.online(row.id)],
      ['group', isHost ? assignment.group : ''],
      ['boundBy', isHost ? assignment.boundBy : ''],
      ['conditions', shown.map(condition => condition.class)],
      ['highestRevision', BigInt(row.highest_revision)],
      ['appliedRevision', BigInt(row.applied_revision)],
      ['rebootReasons', readTexts(row.reboot_reasons)],
      ['trustNumber', BigInt(row.trust_number)],
      ['held', row.held_since !== null],
      ['quarantined', BigInt(row.quarantined)],
      ['firstSeen', timestampFromMs(row.first_seen)],
      ['lastSeen', timestampFromMs(sessions.lastMessage(row.id)?.getTime() ?? row.last_seen)],
      ...(row.certificate_not_after === null
        ? []
        : [['certificateEnds', timestampFromMs(row.certificate_not_after)] as const]),
    ]),
  }
}
