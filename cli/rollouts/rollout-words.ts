import { Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import {
  type GateWait,
  type HostStanding,
  type Rollout,
  type RolloutHost,
  RolloutHostState,
  RolloutState,
} from '../../shared/gen/muster/v1/rollout_pb.ts'
import { phaseName } from '../../shared/operation-names.ts'
import { TURN_GATES } from '../../shared/rollout/turn-gates.ts'
import { millisOf } from '../../shared/time.ts'
import type { Style } from '../output/colour.ts'

const STATE_WORDS: ReadonlyMap<RolloutState, string> = new Map([
  [RolloutState.RUNNING, 'running'],
  [RolloutState.PAUSED, 'paused'],
  [RolloutState.ENDING, 'ending'],
  [RolloutState.SUCCEEDED, 'succeeded'],
  [RolloutState.FAILED, 'failed'],
  [RolloutState.ABORTED, 'aborted'],
])

export function rolloutStateName(state: RolloutState): string {
  return STATE_WORDS.get(state) ?? 'unknown'
}

export function isRolloutOver({ state }: Pick<Rollout, 'state'>): boolean {
  return state === RolloutState.SUCCEEDED || state === RolloutState.FAILED || state === RolloutState.ABORTED
}

export function rolloutStyle(state: RolloutState): Style {
  if (state === RolloutState.SUCCEEDED) return 'good'
  if (state === RolloutState.FAILED) return 'bad'
  return state === RolloutState.RUNNING ? 'plain' : 'warn'
}

/** What a rollout does, for people: "apply revision 7". */
export function whatItDoes({
  action,
  revision,
}: Pick<Rollout | HostStanding, 'action' | 'revision'>): string {
  return revision > 0n ? `${action} revision ${revision}` : action
}

/** Nothing holds the host but that others are before it. */
export function awaitsItsTurn({ state, waits }: RolloutHost): boolean {
  return state === RolloutHostState.WAITING && waits.every(({ gate }) => TURN_GATES.has(gate))
}

/** Of several gates the one to tell of: what holds this very host says more than that its turn has not come. */
export function foremostWait(waits: readonly GateWait[]): GateWait | undefined {
  return waits.find(({ gate }) => !TURN_GATES.has(gate)) ?? waits[0]
}

/** Since when a host does or waits for what `hostWords` says. */
export function sinceMsOf({ waits, since }: RolloutHost): number | undefined {
  return millisOf(foremostWait(waits)?.since ?? since)
}

/** What holds a host for which a rollout would be begun by itself. */
export function pendingWords(standing: Pick<HostStanding, 'host' | 'action' | 'revision' | 'waits'>): string {
  const wait = foremostWait(standing.waits)
  const why = wait ? `: waits at ${wait.gate}: ${wait.reason}, until ${wait.opens}` : ''
  return `${standing.host}: left behind, to ${whatItDoes(standing)}${why}`
}

/** The step, and the phase of an operation that runs. */
export function stepWords({ step, phase, outcome }: RolloutHost): string {
  return phase === Phase.UNSPECIFIED || outcome ? step : `${step} · ${phaseName(phase)}`
}

/** What a host does or waits for, in a few words. `wait`: of several gates the one to tell of, and no others. */
export function hostWords(host: RolloutHost, wait?: GateWait): string {
  const told = wait ?? foremostWait(host.waits)
  const more = !wait && host.waits.length > 1 ? ` (+${host.waits.length - 1})` : ''
  const gate = told && `waits at ${told.gate}: ${told.reason}${more}`
  switch (host.state) {
    case RolloutHostState.DONE:
      return host.reason === '' ? 'done' : `done: ${host.reason}`
    case RolloutHostState.FAILED:
      return `failed: ${host.reason}`
    case RolloutHostState.LEFT:
      return host.reason === '' ? 'left behind' : `left behind: ${host.reason}`
    case RolloutHostState.MOVING:
      return gate ? `${host.step}: ${gate}` : stepWords(host)
    case RolloutHostState.WAITING:
      return gate ?? 'waits for its turn'
    case RolloutHostState.UNSPECIFIED:
      break
  }
  return 'unknown'
}

export function hostStyle({ state, waits }: RolloutHost): Style {
  if (state === RolloutHostState.DONE) return 'good'
  if (state === RolloutHostState.FAILED) return 'bad'
  if (state === RolloutHostState.MOVING) return waits.length > 0 ? 'warn' : 'bold'
  return 'dim'
}
