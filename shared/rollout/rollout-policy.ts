import type { Duration } from '@bufbuild/protobuf/wkt'
import type {
  RolloutPolicy as PolicyMessage,
  RolloutTarget as TargetMessage,
  MaintenanceWindow as WindowMessage,
} from '../gen/muster/v1/manifest_pb.ts'
import { isHostName } from '../revision/host-name.ts'
import { msFromDuration } from '../time.ts'
import { type Amount, readAmount } from './amount.ts'
import { isTimeZone, type MaintenanceWindow, minuteOf } from './maintenance-window.ts'
import {
  type FailurePolicy,
  failurePolicies,
  MAX_AFTER,
  MAX_CANARIES,
  MAX_FOLLOWS,
  MAX_WINDOWS,
  ROLLOUT_BOUNDS,
  ROLLOUT_DEFAULTS,
} from './rollout-bounds.ts'

/** How rollouts go over the fleet; nothing is absent any more. */
export interface RolloutPolicy {
  readonly maxUnavailable: Amount
  readonly canaries: readonly string[]
  readonly canarySize: Amount | undefined
  readonly canarySoakMs: number
  readonly soakMs: number
  readonly onFailure: FailurePolicy
  /** With "continue": at so many failures it stops all the same; undefined: never. */
  readonly maxFailures: number | undefined
  /** Label; undefined: hosts are not spread. */
  readonly spread: string | undefined
  readonly silentPercent: number
  /** Whether the gates of a host are asked on it before each step that disrupts it. `where-any`: of hosts that the newest revision gives some. */
  readonly askGates: 'never' | 'where-any' | 'before-each-step'
  readonly drainLimitMs: number
  readonly windows: readonly MaintenanceWindow[]
  /** Cluster to those that must be done before it. */
  readonly follows: ReadonlyMap<string, readonly string[]>
}

/** How rollouts treat one host or group, as far as it has settings of its own. */
export interface HostPolicy {
  /** None: those of the fleet. */
  readonly windows: readonly MaintenanceWindow[]
  readonly after: readonly string[]
  /** Undefined: that of the fleet. */
  readonly drainLimitMs: number | undefined
}

export const DEFAULT_POLICY: RolloutPolicy = readOrThrow()

export type Reading<T> =
  | { readonly kind: 'ok'; readonly value: T }
  | { readonly kind: 'refused'; readonly reason: string }

/** Reads what a manifest says of rollouts and fills in what it leaves open. What this program does not know is a refusal. */
export function readRolloutPolicy(message: PolicyMessage | undefined): Reading<RolloutPolicy> {
  return reading(() => policyOf(message))
}

/** Reads what a target says of rollouts. */
export function readHostPolicy(message: TargetMessage | undefined): Reading<HostPolicy> {
  return reading(() => ({
    windows: windowsOf(message?.windows ?? []),
    after: namesOf('after', message?.after ?? [], MAX_AFTER),
    drainLimitMs: duration('drain_limit', message?.drainLimit, undefined, ROLLOUT_BOUNDS.drainLimitMs),
  }))
}

function policyOf(message: PolicyMessage | undefined): RolloutPolicy {
  const soakMs =
    duration('soak', message?.soak, ROLLOUT_DEFAULTS.soakMs, ROLLOUT_BOUNDS.soakMs) ?? ROLLOUT_DEFAULTS.soakMs
  const onFailure = message?.onFailure || ROLLOUT_DEFAULTS.onFailure
  const policy = failurePolicies.find(known => known === onFailure)
  if (!policy) refuse('on_failure', `must be ${failurePolicies.join(', ')}`)
  const follows = message?.follows ?? []
  if (follows.length > MAX_FOLLOWS) refuse('follows', `at most ${MAX_FOLLOWS} are allowed`)
  const silent = message?.silentPercent || ROLLOUT_DEFAULTS.silentPercent
  if (silent > ROLLOUT_BOUNDS.silentPercent.most) refuse('silent_percent', 'must be from 1 to 100')
  const spread = message?.spread ?? ''
  if (spread.length > 63) refuse('spread', 'longer than a label')
  const most = message?.maxFailures ?? 0
  if (most > ROLLOUT_BOUNDS.maxFailures.most) {
    refuse('max_failures', `must be at most ${ROLLOUT_BOUNDS.maxFailures.most}`)
  }
  if (message?.askGates && message.neverAskGates) refuse('never_ask_gates', 'not together with ask_gates')
  return {
    maxUnavailable: amount('max_unavailable', message?.maxUnavailable || ROLLOUT_DEFAULTS.maxUnavailable),
    canaries: namesOf('canaries', message?.canaries ?? [], MAX_CANARIES),
    canarySize: message?.canarySize ? amount('canary_size', message.canarySize) : undefined,
    canarySoakMs: duration('canary_soak', message?.canarySoak, soakMs, ROLLOUT_BOUNDS.soakMs) ?? soakMs,
    soakMs,
    onFailure: policy,
    maxFailures: most === 0 ? undefined : most,
    spread: spread === '' ? undefined : spread,
    silentPercent: silent,
    askGates: message?.askGates ? 'before-each-step' : message?.neverAskGates ? 'never' : 'where-any',
    drainLimitMs:
      duration('drain_limit', message?.drainLimit, undefined, ROLLOUT_BOUNDS.drainLimitMs) ??
      ROLLOUT_DEFAULTS.drainLimitMs,
    windows: windowsOf(message?.windows ?? []),
    follows: new Map(
      follows.map(({ cluster, after }) => {
        if (!isHostName(cluster)) refuse('follows', 'names no cluster')
        return [cluster, namesOf(`follows ${cluster}`, after, MAX_FOLLOWS)]
      }),
    ),
  }
}

function windowsOf(messages: readonly WindowMessage[]): readonly MaintenanceWindow[] {
  if (messages.length > MAX_WINDOWS) refuse('windows', `at most ${MAX_WINDOWS} are allowed`)
  return messages.map(({ days, from, to, timeZone }) => {
    const fromMinute = minuteOf(from)
    const toMinute = minuteOf(to)
    if (fromMinute === undefined || toMinute === undefined) refuse('windows', 'times are from 00:00 to 23:59')
    if (days.length > 7 || days.some(day => day < 1 || day > 7)) refuse('windows', 'days are 1 to 7')
    if (!isTimeZone(timeZone)) refuse('windows', `${timeZone.slice(0, 64)} is no time zone`)
    const every = days.length === 0 ? [1, 2, 3, 4, 5, 6, 7] : [...new Set(days)].toSorted()
    return { days: every, fromMinute, toMinute, timeZone }
  })
}

/** Unwinds from whatever depth finds a rule broken; never leaves this file. */
class Refusal extends Error {}

function refuse(place: string, cure: string): never {
  throw new Refusal(`${place}: ${cure}`)
}

function reading<T>(read: () => T): Reading<T> {
  try {
    return { kind: 'ok', value: read() }
  } catch (error) {
    if (error instanceof Refusal) return { kind: 'refused', reason: error.message }
    throw error
  }
}

function amount(place: string, text: string): Amount {
  return readAmount(text) ?? refuse(place, 'must be such as 2 or 10%, and not nothing')
}

function namesOf(place: string, names: readonly string[], most: number): readonly string[] {
  if (names.length > most) refuse(place, `at most ${most} are allowed`)
  for (const name of names) if (!isHostName(name)) refuse(place, 'one of them is no name')
  return [...new Set(names)]
}

function duration(
  place: string,
  value: Duration | undefined,
  fallback: number | undefined,
  { least, most }: { readonly least: number; readonly most: number },
): number | undefined {
  if (value === undefined) return fallback
  const ms = msFromDuration(value)
  return ms >= least && ms <= most ? ms : refuse(place, `must be from ${least} to ${most} ms`)
}

function readOrThrow(): RolloutPolicy {
  return policyOf(undefined)
}
