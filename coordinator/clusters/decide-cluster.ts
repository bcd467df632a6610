import type { ClusterSnapshot } from './cluster-snapshot.ts'
import { decideClears } from './decide-clears.ts'
import { decideFirstServer, decideFounding } from './decide-founding.ts'
import { decideJoins } from './decide-joins.ts'
import { decideLeaves } from './decide-leaves.ts'
import { decideTokens } from './decide-tokens.ts'
import type { Waiting } from './reasons.ts'
import { applyStep, type Step } from './steps.ts'

export interface Decision {
  readonly steps: readonly Step[]
  /** What is not done, and why. */
  readonly waiting: readonly Waiting[]
}

export type Decider = (snapshot: ClusterSnapshot, now: number) => Decision

/** In this order: what ends comes first, and what changes the datastore before what only uses it. */
export const DECIDERS = {
  tokens: decideTokens,
  founding: decideFounding,
  firstServer: decideFirstServer,
  leaves: decideLeaves,
  clears: decideClears,
  joins: decideJoins,
} as const satisfies Record<string, Decider>

/** What begins with a machine by what the record lacks: by one that was set back it might be begun twice. */
const BEGINS: ReadonlySet<string> = new Set<keyof typeof DECIDERS>(['founding', 'clears', 'joins'])

/**
 * What is to be written down next for a cluster, and what waits for what. The only place that decides about clusters.
 * Each part sees what the parts before it decided in the same breath, so that no two of them change the servers at once.
 */
export function decideCluster(
  snapshot: ClusterSnapshot,
  now: number,
  deciders: Readonly<Record<keyof typeof DECIDERS, Decider>> = DECIDERS,
): Decision {
  const steps: Step[] = []
  const waiting: Waiting[] = []
  let record = snapshot.record
  if (snapshot.rebuilding) {
    const { steps, waiting } = deciders.tokens(snapshot, now)
    return { steps, waiting: [...waiting, { host: '', reason: snapshot.rebuilding }] }
  }
  if (snapshot.halted !== undefined)
    waiting.push({ host: '', reason: { gate: 'halted', why: snapshot.halted } })
  for (const [part, decide] of Object.entries(deciders)) {
    if (snapshot.halted !== undefined && BEGINS.has(part)) continue
    const decision = decide({ ...snapshot, record }, now)
    for (const step of decision.steps) record = applyStep(record, step, now)
    steps.push(...decision.steps)
    waiting.push(...decision.waiting)
  }
  return { steps, waiting }
}
