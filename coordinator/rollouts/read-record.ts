import { fromBinary } from '@bufbuild/protobuf'
import { StartRolloutRequestSchema } from '../../shared/gen/muster/v1/rollout_pb.ts'
import { readTexts } from '../store/json.ts'
import type { RolloutGrantRow, RolloutHostRow, RolloutOverrideRow, RolloutRow } from '../store/rollouts.ts'
import { settingsOfRow } from './frozen-settings.ts'
import { isServerRole } from './members.ts'
import type { GateName, Wait } from './plan/decision.ts'
import { GATES } from './plan/decision.ts'
import { type Grant, ROLLOUT_ACTIONS, type RolloutRecord, type StepKind } from './plan/rollout-record.ts'

const STEPS: readonly StepKind[] = ['prefetch', 'snapshot', 'drain', 'act', 'prove', 'soak', 'uncordon']
const OUTCOMES = ['done', 'failed', 'skipped', 'again'] as const
const STATES = ['running', 'paused', 'ending'] as const

export interface RolloutRows {
  readonly rollouts: readonly RolloutRow[]
  readonly hosts: readonly RolloutHostRow[]
  readonly grants: readonly RolloutGrantRow[]
  readonly overrides: readonly RolloutOverrideRow[]
}

/** What is kept of a host beside its grants. Written once, at the start. */
export interface HostNote {
  readonly canary: boolean
  readonly after: readonly string[]
  readonly drainLimitMs: number | undefined
  readonly boots: number | undefined
}

export function noteToRow(note: HostNote): string {
  return JSON.stringify(note)
}

export function noteOfRow(text: string): HostNote {
  const value: unknown = JSON.parse(text)
  const field = (name: string): unknown =>
    typeof value === 'object' && value !== null
      ? Object.entries(value).find(([key]) => key === name)?.[1]
      : undefined
  const after = field('after')
  const limit = field('drainLimitMs')
  const boots = field('boots')
  return {
    canary: field('canary') === true,
    after: Array.isArray(after) ? after.filter(name => typeof name === 'string') : [],
    drainLimitMs: typeof limit === 'number' ? limit : undefined,
    boots: typeof boots === 'number' ? boots : undefined,
  }
}

/** Rollouts as the planner reads them. A word in a row that is none of ours is an error, never a guess. */
export function readRecords({ rollouts, hosts, grants, overrides }: RolloutRows): readonly RolloutRecord[] {
  const grantsOf = new Map<string, Grant[]>()
  for (const grant of grants) {
    const key = `${grant.rollout} ${grant.host}`
    const list = grantsOf.get(key)
    if (list) list.push(readGrant(grant))
    else grantsOf.set(key, [readGrant(grant)])
  }
  const hostsOf = groupHosts(hosts)
  return rollouts.map(row => ({
    id: row.id,
    action: word(row.action, ROLLOUT_ACTIONS),
    how: howOf(row),
    revision: row.revision,
    state: word(row.state, STATES),
    endsAs: row.ends_as === 'failed' || row.ends_as === 'aborted' ? row.ends_as : undefined,
    startedMs: row.started,
    settings: settingsOfRow(row.settings),
    after: readTexts(row.after),
    reverts: row.reverts === '' ? undefined : row.reverts,
    hosts: (hostsOf.get(row.id) ?? []).map(host => {
      const { canary, after, drainLimitMs, boots } = noteOfRow(host.record)
      return {
        host: host.host,
        machine: host.machine === '' ? undefined : host.machine,
        cluster: host.cluster === '' ? undefined : host.cluster,
        server: host.cluster !== '' && isServerRole(host.role),
        canary,
        after,
        drainLimitMs,
        boots,
        grants: grantsOf.get(`${row.id} ${host.host}`) ?? [],
      }
    }),
    overrides: new Set(
      overrides.filter(({ rollout }) => rollout === row.id).map(({ host, gate }) => `${host} ${gate}`),
    ),
    overriddenMs: new Map(
      overrides
        .filter(({ rollout }) => rollout === row.id)
        .map(({ host, gate, at }) => [`${host} ${gate}`, at]),
    ),
  }))
}

/** By what it was asked for: whether it is about a machine that is gone, or restarts nothing. */
function howOf({ action, asked }: Pick<RolloutRow, 'action' | 'asked'>): RolloutRecord['how'] {
  if (action !== 'leave' && action !== 'rotate') return undefined
  return howOfAct(action, fromBinary(StartRolloutRequestSchema, asked).act)
}

export function howOfAct(
  action: string,
  act: { readonly dead: boolean; readonly parameter: string } | undefined,
): RolloutRecord['how'] {
  if (action === 'leave' && act?.dead) return 'dead'
  return action === 'rotate' && act?.parameter === 'tokens' ? 'tokens' : undefined
}

function groupHosts(hosts: readonly RolloutHostRow[]): Map<string, RolloutHostRow[]> {
  const groups = new Map<string, RolloutHostRow[]>()
  for (const host of hosts) {
    const list = groups.get(host.rollout)
    if (list) list.push(host)
    else groups.set(host.rollout, [host])
  }
  return groups
}

function readGrant(row: RolloutGrantRow): Grant {
  return {
    id: row.id,
    step: word(row.step, STEPS),
    attempt: row.attempt,
    grantedMs: row.granted,
    operation: row.operation,
    end:
      row.closed === null
        ? undefined
        : { outcome: word(row.outcome, OUTCOMES), reason: row.reason, atMs: row.closed },
  }
}

function word<T extends string>(text: string, words: readonly T[]): T {
  const found = words.find(known => known === text)
  if (found === undefined) throw new Error(`store: rollouts know no ${text}`)
  return found
}

/** What a host waits for, and since when. */
export interface KeptWait extends Wait {
  readonly sinceMs: number
}

export function waitsToRow(waits: readonly KeptWait[]): string {
  return JSON.stringify(waits.map(({ gate, reason, opens, sinceMs }) => [gate, reason, opens, sinceMs]))
}

export function waitsOfRow(text: string): readonly KeptWait[] {
  const value: unknown = JSON.parse(text)
  if (!Array.isArray(value)) return []
  return value.flatMap(item => {
    if (!Array.isArray(item)) return []
    const [gate, reason, opens, sinceMs] = item
    const known = GATES.find(name => name === gate)
    if (known === undefined || typeof sinceMs !== 'number') return []
    return [{ gate: known, reason: String(reason), opens: String(opens), sinceMs }]
  })
}

/** Since when each gate holds: what held before holds since then. */
export function keepSince(
  before: readonly KeptWait[],
  waits: readonly Wait[],
  nowMs: number,
): readonly KeptWait[] {
  const since = new Map<GateName, number>(before.map(({ gate, sinceMs }) => [gate, sinceMs]))
  return waits.map(wait => ({ ...wait, sinceMs: since.get(wait.gate) ?? nowMs }))
}
