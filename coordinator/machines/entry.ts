import { isHostName } from '../../shared/revision/host-name.ts'
import type { ConditionRow } from '../store/conditions.ts'
import { readLabels, readTexts } from '../store/json.ts'
import type { MachineRow } from '../store/machines.ts'
import { type ClaimedIdentity, identityOfRow } from './identity.ts'
import { runningSystem } from './running-system.ts'

export const STATES = ['pending', 'enrolled', 'active', 'rejected', 'evicted', 'banned'] as const
export type MachineState = (typeof STATES)[number]

/** Conditions in which a machine gets no order and no certificate until a person released it. */
export const HOLDING = ['clone', 'collision', 'went-back'] as const
/** Those that put in doubt who the machine is: it gets no certificate either. */
const DISPUTED = ['clone', 'collision'] as const

export interface KnownCondition {
  readonly class: string
  readonly reason: string
  readonly sinceMs: number
}

/** What is kept in memory of every machine. Immutable: a change is a new entry. */
export interface MachineEntry {
  readonly id: string
  readonly state: MachineState
  readonly identity: ClaimedIdentity
  readonly labels: Readonly<Record<string, string>>
  readonly factsDigest: string
  readonly conditions: readonly KnownCondition[]
  readonly accepted: readonly string[]
  readonly trustNumber: number
  readonly trustDigest: string
  readonly trustFirstUse: boolean
  /** Digest of the set that an operator confirmed; empty: none. */
  readonly trustConfirmed: string
  readonly highestRevision: number
  readonly certificateNotAfterMs: number | undefined
  readonly admittedAtMs: number | undefined
  /** Set: the node obeys nothing but resume, retry and plan, by an order of ours or of somebody on it. */
  readonly onHold: { readonly reason: string; readonly sinceMs: number } | undefined
  /** How many systems failed on the node and are not tried again. */
  readonly quarantined: number
  /** What the node takes orders for, as it said when it last connected; undefined: it never did. */
  readonly allowed: readonly string[] | undefined
  /** The store path of the system that it runs, as it last said; undefined: not known. */
  readonly system?: string | undefined
  /** How often it has booted, as its agent counts. */
  readonly bootCount: number
  /** The host that it says it acted as; empty: none, or no name of a host. */
  readonly actedAs: string
  readonly simulated: boolean
  /** Of the row it was made from; an older one never replaces a newer one. */
  readonly generation: number
}

export function readState(text: string): MachineState {
  const state = STATES.find(name => name === text)
  if (!state) throw new Error(`store: a machine has the unknown state ${text}`)
  return state
}

export function entryOf(
  row: Omit<MachineRow, 'public_key'>,
  conditions: readonly ConditionRow[],
): MachineEntry {
  return {
    id: row.id,
    state: readState(row.state),
    identity: identityOfRow(row),
    labels: readLabels(row.labels),
    factsDigest: row.facts_digest,
    conditions: conditions.map(({ class: kind, reason, since }) => ({ class: kind, reason, sinceMs: since })),
    accepted: readTexts(row.accepted),
    trustNumber: row.trust_number,
    trustDigest: row.trust_digest,
    trustFirstUse: row.trust_first_use === 1,
    trustConfirmed: row.trust_confirmed,
    highestRevision: row.highest_revision,
    certificateNotAfterMs: row.certificate_not_after ?? undefined,
    admittedAtMs: row.admitted_at ?? undefined,
    onHold: row.held_since === null ? undefined : { reason: row.held_reason, sinceMs: row.held_since },
    quarantined: row.quarantined,
    allowed: row.agent_version === '' ? undefined : readTexts(row.allowed),
    system: runningSystem(row),
    bootCount: row.boot_count,
    actedAs: isHostName(row.acting_host) ? row.acting_host : '',
    simulated: row.simulated === 1,
    generation: row.generation,
  }
}

/** Why a machine is not acted on; undefined: nothing is in the way. */
export function heldBecause(entry: Pick<MachineEntry, 'conditions'>): KnownCondition | undefined {
  const holding: readonly string[] = HOLDING
  return entry.conditions.find(condition => holding.includes(condition.class))
}

export function disputedBecause(
  conditions: readonly { readonly class: string; readonly reason: string }[],
): { readonly class: string; readonly reason: string } | undefined {
  const disputed: readonly string[] = DISPUTED
  return conditions.find(condition => disputed.includes(condition.class))
}

/** Of such a machine nothing is held: who took its place meanwhile is looked at when it comes back. */
export function isSentAway(state: MachineState): boolean {
  return state === 'rejected' || state === 'evicted' || state === 'banned'
}

export function isLive(state: MachineState): boolean {
  return state === 'enrolled' || state === 'active'
}
