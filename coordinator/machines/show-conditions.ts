import type { Assignment } from '../enrolment/assign.ts'
import type { Proposal } from '../enrolment/propose-host.ts'
import { isLive, type KnownCondition, type MachineEntry } from './entry.ts'

export interface ConditionSettings {
  /** How long a machine may be let in without being seen over mutual TLS. */
  readonly stuckAfterMs: number
  /** How long before its end a certificate is shown. */
  readonly certificateWarnMs: number
}

/**
 * What a person must look at: what is recorded, and what follows from the state and the time and is therefore never
 * stored, so that it cannot outlive its cause.
 */
export function showConditions(
  entry: MachineEntry,
  assignment: Assignment,
  alike: readonly string[],
  proposal: Proposal,
  settings: ConditionSettings,
  nowMs: number,
): readonly KnownCondition[] {
  const shown = [...entry.conditions]
  const add = (kind: string, reason: string, sinceMs = nowMs) => {
    shown.push({ class: kind, reason, sinceMs })
  }
  const name = assignment.kind === 'host' ? assignment.host : entry.id.slice(0, 12)
  const since = entry.admittedAtMs
  if (entry.state === 'enrolled' && since !== undefined && nowMs - since > settings.stuckAfterMs) {
    const reason =
      entry.certificateNotAfterMs === undefined
        ? 'let in, but it did not ask for its certificate since'
        : 'has a certificate, but was never seen on the fleet listener'
    add('stuck', reason, since + settings.stuckAfterMs)
  }
  if (entry.state === 'pending') {
    const because = assignment.kind === 'host' ? `it would be host ${assignment.host}` : assignment.reason
    add('waiting', `${because}; let it in with \`muster approve ${entry.id.slice(0, 12)}\``)
  }
  if (isLive(entry.state)) {
    const ends = entry.certificateNotAfterMs
    if (ends !== undefined && ends - nowMs < settings.certificateWarnMs) {
      const when = new Date(ends).toISOString()
      add('certificate', ends <= nowMs ? `expired at ${when}` : `ends at ${when}`, Math.min(nowMs, ends))
    }
    if (entry.trustFirstUse) {
      add(
        'trust-first-use',
        `took trust set ${entry.trustNumber} (${entry.trustDigest.slice(0, 12)}) without a pin; confirm it with \`muster trust confirm\``,
      )
    }
    if (entry.onHold) {
      const { reason, sinceMs } = entry.onHold
      add(
        'held',
        `${reason || 'no reason was given'}; it obeys again after \`muster resume ${name}\``,
        sinceMs,
      )
    }
    if (entry.quarantined > 0) {
      const what = entry.quarantined === 1 ? 'a system' : `${entry.quarantined} systems`
      add(
        'quarantined',
        `${what} failed on it and will not be tried again; \`muster retry ${name}\` lifts that`,
      )
    }
    if (assignment.kind === 'conflict') add('conflict', assignment.reason)
    if (proposal.kind !== 'none') add('acted-as', textOfProposal(entry.id, proposal))
    if (alike.length > 0) {
      const others = alike.slice(0, 8).map(id => id.slice(0, 12))
      add('similar', `its serial or UUID is claimed by ${others.join(', ')} too`)
    }
  }
  return shown
}

function textOfProposal(id: string, proposal: Exclude<Proposal, { kind: 'none' }>): string {
  const { host } = proposal
  return proposal.kind === 'conflict'
    ? `says that it acted as ${host} before; it is bound to no host: ${proposal.reason}`
    : `says that it acted as ${host} before, and is bound to no host; if you know that it is, \`muster bind ${host} ${id.slice(0, 12)}\``
}
