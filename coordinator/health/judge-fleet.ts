import { type ClusterNodeLife, judgeCertificates } from './judge-certificates.ts'

/** What always has to be true of a fleet, and is not. */
export interface HealthProblem {
  readonly class: HealthClass
  /** Empty: it is about the whole fleet. */
  readonly machine: string
  readonly host: string
  readonly reason: string
  readonly sinceMs: number
  /** What would put it right. */
  readonly remedy: string
}

export const HEALTH_CLASSES = [
  'nothing-succeeds',
  'silent',
  'flapping',
  'certificate',
  'never-active',
  'stale-cordon',
  'no-outcome',
  'lost-rollout',
  'store-older',
  'cluster-certificate',
  'revision-untrusted',
  'authority-gone',
] as const
export type HealthClass = (typeof HEALTH_CLASSES)[number]

export interface MachineLife {
  readonly id: string
  /** Empty: none. */
  readonly host: string
  readonly state: string
  readonly online: boolean
  /** Of its live session; undefined: it has none. */
  readonly lastMessageMs: number | undefined
  /** When its sessions began, as far as this process remembers; in any order. */
  readonly sessionStartsMs: readonly number[]
  readonly admittedAtMs: number | undefined
  readonly certificateNotAfterMs: number | undefined
}

export interface EndedChange {
  readonly endedMs: number
  readonly succeeded: boolean
}

export interface OpenWork {
  /** Operation, act or grant. */
  readonly id: string
  readonly machine: string
  readonly host: string
  readonly what: string
  /** When the machine was told; undefined: it waits for the machine, which is shown elsewhere. */
  readonly toldMs: number | undefined
  /** The newest sign of it. */
  readonly newestMs: number
}

export interface OurCordon {
  readonly cluster: string
  readonly host: string
  readonly sinceMs: number
  /** Something of ours that needs it is under way. */
  readonly inUse: boolean
}

/** What nodes were told by a store that is gone. */
export interface LostWork {
  /** For people. */
  readonly what: string
  readonly sinceMs: number
}

/** The newest revision, where it is not signed as the newest trust set asks. */
export interface UntrustedRevision {
  readonly number: number
  readonly trustNumber: number
  /** What its signatures lack. */
  readonly reason: string
  /** Since that trust set is in force. */
  readonly sinceMs: number
}

/** An authority that is gone here and that the newest trust set still lists: its replacement was cut off. */
export interface GoneAuthority {
  readonly pin: string
  readonly trustNumber: number
  readonly sinceMs: number
}

export interface FleetLife {
  readonly machines: readonly MachineLife[]
  /** Changes that ended in the last hours, in any order. */
  readonly ended: readonly EndedChange[]
  readonly open: readonly OpenWork[]
  readonly cordons: readonly OurCordon[]
  /** Rollouts that nodes tell of and the store does not know. */
  readonly lost: readonly LostWork[]
  /** Nodes of clusters that said when their certificates end. */
  readonly clusterNodes: readonly ClusterNodeLife[]
  /** Undefined: the newest revision can be applied, as far as its signatures go. */
  readonly untrusted: UntrustedRevision | undefined
  readonly goneAuthorities: readonly GoneAuthority[]
  /** Why nothing is granted, and since when; undefined: nothing is in the way. */
  readonly halted: { readonly reason: string; readonly sinceMs: number } | undefined
  readonly heartbeatMs: number
  readonly stuckAfterMs: number
  readonly certificateWarnMs: number
}

const HOUR_MS = 3_600_000
/** Changes are looked back for so long, and so many must have failed without one success. */
export const LOOK_BACK_MS = 6 * HOUR_MS
const FAILED_IN_A_ROW = 3
/** A machine whose session began so often within an hour does not hold it. */
export const FLAPS = 6
/** A cordon that nothing of ours needs any more. */
const CORDON_MS = HOUR_MS
/** Work that a machine was told of, and of which nothing was heard since. */
const NO_OUTCOME_MS = 2 * HOUR_MS

/** What is wrong with the fleet as a whole, though no single part says so. Times of `now` and of the input are one clock's. */
export function judgeFleet(life: FleetLife, nowMs: number): readonly HealthProblem[] {
  return [
    ...nothingSucceeds(life, nowMs),
    ...life.machines.flatMap(machine => [
      ...silent(machine, life, nowMs),
      ...flapping(machine, nowMs),
      ...certificate(machine, life, nowMs),
      ...neverActive(machine, life, nowMs),
    ]),
    ...life.cordons.flatMap(cordon => staleCordon(cordon, nowMs)),
    ...life.open.flatMap(work => noOutcome(work, nowMs)),
    ...life.lost.map(lostRollout),
    ...judgeCertificates(life.clusterNodes, nowMs),
    ...(life.untrusted === undefined ? [] : [revisionUntrusted(life.untrusted)]),
    ...life.goneAuthorities.map(authorityGone),
    ...(life.halted === undefined ? [] : [storeOlder(life.halted)]),
  ]
}

function storeOlder({ reason, sinceMs }: NonNullable<FleetLife['halted']>): HealthProblem {
  const remedy = 'look at what was done since (muster events, muster drift), then `muster rollout accept`'
  return { class: 'store-older', machine: '', host: '', reason, sinceMs, remedy }
}

function revisionUntrusted({ number, trustNumber, reason, sinceMs }: UntrustedRevision): HealthProblem {
  return {
    class: 'revision-untrusted',
    machine: '',
    host: '',
    reason: `machines that have trust set ${trustNumber} refuse revision ${number}, the newest: ${reason}`,
    sinceMs,
    remedy: 'muster publish --renew',
  }
}

function authorityGone({ pin, trustNumber, sinceMs }: GoneAuthority): HealthProblem {
  return {
    class: 'authority-gone',
    machine: '',
    host: '',
    reason: `machines that have trust set ${trustNumber} still trust the authority ${pin}, which is gone here: its replacement was cut off`,
    sinceMs,
    remedy: 'muster trust rotate ca drop',
  }
}

function lostRollout({ what, sinceMs }: LostWork): HealthProblem {
  const remedy = 'look at these hosts, say `muster rollout accept`, and start it anew'
  return { class: 'lost-rollout', machine: '', host: '', reason: what, sinceMs, remedy }
}

function nothingSucceeds({ ended }: FleetLife, nowMs: number): HealthProblem[] {
  const recent = ended.filter(({ endedMs }) => nowMs - endedMs <= LOOK_BACK_MS)
  if (recent.length < FAILED_IN_A_ROW || recent.some(({ succeeded }) => succeeded)) return []
  return [
    {
      class: 'nothing-succeeds',
      machine: '',
      host: '',
      reason: `${recent.length} changes ended in the last ${LOOK_BACK_MS / HOUR_MS} hours, and none succeeded`,
      sinceMs: Math.min(...recent.map(({ endedMs }) => endedMs)),
      remedy: 'look at one of them: muster operations, muster logs HOST',
    },
  ]
}

function silent({ id, host, online, lastMessageMs }: MachineLife, { heartbeatMs }: FleetLife, nowMs: number) {
  // The session itself is ended after three; what is still there later is shown as online and is not.
  const boundMs = 4 * heartbeatMs + 5_000
  if (!online || lastMessageMs === undefined || nowMs - lastMessageMs <= boundMs) return []
  const reason = `is shown as online, but nothing was heard of it for ${Math.round((nowMs - lastMessageMs) / 1_000)} s`
  return [
    problem(
      'silent',
      id,
      host,
      reason,
      lastMessageMs,
      'look at its network and at the agent: journalctl -u muster-agent',
    ),
  ]
}

function flapping({ id, host, sessionStartsMs }: MachineLife, nowMs: number) {
  const recent = sessionStartsMs.filter(at => nowMs - at <= HOUR_MS)
  if (recent.length < FLAPS) return []
  const reason = `its session began ${recent.length} times within an hour`
  return [
    problem(
      'flapping',
      id,
      host,
      reason,
      Math.min(...recent),
      'look at its network, and at why its agent starts anew',
    ),
  ]
}

function certificate(machine: MachineLife, { certificateWarnMs }: FleetLife, nowMs: number) {
  const { id, host, state, certificateNotAfterMs: ends } = machine
  if (state !== 'active' || ends === undefined || ends - nowMs >= certificateWarnMs) return []
  const reason = `its certificate ${ends <= nowMs ? 'ended' : 'ends'} at ${new Date(ends).toISOString()} and was not renewed`
  const remedy = machine.online
    ? 'look at its agent, which renews by itself'
    : 'bring it back online; it renews by itself'
  return [problem('certificate', id, host, reason, Math.min(nowMs, ends - certificateWarnMs), remedy)]
}

function neverActive(
  { id, host, state, admittedAtMs }: MachineLife,
  { stuckAfterMs }: FleetLife,
  nowMs: number,
) {
  if (state !== 'enrolled' || admittedAtMs === undefined || nowMs - admittedAtMs <= stuckAfterMs) return []
  const reason = 'was let in, and never seen over mutual TLS'
  return [
    problem(
      'never-active',
      id,
      host,
      reason,
      admittedAtMs,
      'can it reach the fleet listener? its console says what it waits for',
    ),
  ]
}

function staleCordon({ cluster, host, sinceMs, inUse }: OurCordon, nowMs: number) {
  if (inUse || nowMs - sinceMs <= CORDON_MS) return []
  const reason = `its node in cluster ${cluster} is cordoned by us, and nothing of ours needs that any more`
  return [problem('stale-cordon', '', host, reason, sinceMs, `muster uncordon ${host}`)]
}

function noOutcome({ id, machine, host, what, toldMs, newestMs }: OpenWork, nowMs: number) {
  if (toldMs === undefined || nowMs - Math.max(toldMs, newestMs) <= NO_OUTCOME_MS) return []
  const reason = `${what} ${id} was taken on, and nothing was heard of it since`
  return [
    problem(
      'no-outcome',
      machine,
      host,
      reason,
      Math.max(toldMs, newestMs),
      'is the machine online? its agent tells the outcome when it is',
    ),
  ]
}

function problem(
  kind: HealthClass,
  machine: string,
  host: string,
  reason: string,
  sinceMs: number,
  remedy: string,
): HealthProblem {
  return { class: kind, machine, host, reason, sinceMs, remedy }
}
