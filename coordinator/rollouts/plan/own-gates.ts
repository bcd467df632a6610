import type { Decision, Wait } from './decision.ts'
import type { GateInput } from './gates.ts'
import type { GatesView, RolloutSnapshot } from './rollout-snapshot.ts'
import type { Standing } from './standing.ts'

/** An answer that is older says little of now. */
export const GATES_FRESH_MS = 60_000

/**
 * The gates of the fleet directory that the host itself is proved by, scripts among them, asked on it after the newest step of its cluster
 * was over. Nothing older counts, and what cannot be asked is closed.
 */
export function* ownGates(input: GateInput): Iterable<Wait> {
  const { snapshot, rollout, host, view } = input
  const { gates } = snapshot
  if (gates === undefined || view?.machine === undefined || !view.connected || !hasGates(input)) return
  const opens = 'its gates are asked again and all are healthy'
  const answer = gates.get(view.machine)
  if (!isNew(input, answer, GATES_FRESH_MS)) {
    yield { gate: 'checks', reason: 'its gates have not answered since the last step', opens }
    return
  }
  if (answer.problem === undefined) return
  const cure = `where this change is the cure: \`muster rollout override ${rollout.id} ${host.host} checks --why TEXT\``
  yield { gate: 'checks', reason: answer.problem, opens: `${opens}; ${cure}` }
}

/** Whether there may be anything to ask of the host's own gates before a step. */
export function hasGates({ snapshot, view }: Pick<GateInput, 'snapshot' | 'view'>): boolean {
  return snapshot.gates !== undefined && view?.ungated !== true
}

/** Whether an answer was asked for after the newest step of the host's cluster was over, and not too long ago. */
export function isNew(
  { host, lastSteps, nowMs }: GateInput,
  answer: GatesView | undefined,
  freshMs: number,
): answer is GatesView {
  return (
    answer !== undefined &&
    answer.askedMs > lastSteps.of(host.cluster) &&
    nowMs - answer.askedMs <= freshMs &&
    answer.askedMs <= nowMs
  )
}

/** When the newest step was over in each cluster, and outside of all of them. Read once, since every host asks. */
export class LastSteps {
  readonly #standings: readonly Standing[]
  #ends: Map<string, number> | undefined

  constructor(standings: readonly Standing[]) {
    this.#standings = standings
  }

  of(cluster: string | undefined): number {
    this.#ends ??= this.#read()
    return this.#ends.get(cluster ?? '') ?? Number.NEGATIVE_INFINITY
  }

  #read(): Map<string, number> {
    const ends = new Map<string, number>()
    for (const standing of this.#standings) {
      for (const name of standing.names()) {
        const { cluster = '', grants = [] } = standing.host(name) ?? {}
        for (const { step, end } of grants) {
          if (!end || step === 'prefetch' || end.outcome === 'skipped') continue
          ends.set(cluster, Math.max(ends.get(cluster) ?? end.atMs, end.atMs))
        }
      }
    }
    return ends
  }
}

/** Gates that are opened by asking: what waits for nothing else is asked for. */
export const isAsked = ({ gate }: Wait): boolean => gate === 'checks' || gate === 'jobs'

/** Machines that wait for what their own gates say and for nothing else but answers, in the order of their turns. */
export function gatesAwaited(
  { rollouts, hosts }: Pick<RolloutSnapshot, 'rollouts' | 'hosts'>,
  { waits }: Pick<Decision, 'waits'>,
): ReadonlySet<string> {
  const awaited = new Set<string>()
  for (const rollout of rollouts) {
    const held = waits.get(rollout.id)
    if (!held) continue
    for (const { host } of rollout.hosts) {
      const machine = hosts.get(host)?.machine
      const own = held.get(host) ?? []
      if (machine !== undefined && own.every(isAsked) && own.some(({ gate }) => gate === 'checks'))
        awaited.add(machine)
    }
  }
  return awaited
}
