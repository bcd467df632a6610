import type { GateAnswer } from './gate-answer.ts'

// How health is judged, in one place:
// - Only answers that began after the activation count: what was healthy before proves nothing about what runs now.
// - No answer is not health, and a healthy one counts for a while only (`freshMs`); then the gate is as good as never asked.
// - A gate may be unhealthy while its service starts, until the deadline. Once it has been healthy, three unhealthy answers
//   in a row are a failure at once. So are they for a gate without grace, which asks for what does not mend itself.
// - Unavailable is neither: it proves nothing, ends no row of either kind, and at the deadline it is a cause of its own.
// - An unhealthy answer begins the soak anew, and so does a gap between two healthy ones that is longer than `freshMs`.

/** So many unhealthy answers in a row are no accident. */
export const UNHEALTHY_IN_A_ROW = 3

/** What is remembered of one gate: as much as judging needs, however long it is watched. */
export interface GateRecord {
  readonly gate: string
  /** A healthy answer counts for so long after its end. */
  readonly freshMs: number
  /** Whether it may be unhealthy until it has been healthy once. */
  readonly grace: boolean
  /** End of the first healthy answer in the row that holds, which the soak counts from; undefined: none holds. */
  readonly healthySinceMs: number | undefined
  /** End of the newest healthy answer of that row. */
  readonly lastHealthyMs: number | undefined
  readonly wasHealthy: boolean
  readonly unhealthyInARow: number
  /** The newest answer that counts. */
  readonly last: GateAnswer | undefined
}

export function newRecord(gate: string, freshMs: number, grace: boolean): GateRecord {
  return {
    gate,
    freshMs,
    grace,
    healthySinceMs: undefined,
    lastHealthyMs: undefined,
    wasHealthy: false,
    unhealthyInARow: 0,
    last: undefined,
  }
}

/** Takes in an answer. One that began before the activation, or before the newest one, changes nothing. */
export function noteAnswer(record: GateRecord, answer: GateAnswer, activatedAtMs: number): GateRecord {
  const { startedAtMs, endedAtMs } = answer
  if (answer.gate !== record.gate || startedAtMs < activatedAtMs || endedAtMs < startedAtMs) return record
  if (record.last !== undefined && startedAtMs < record.last.startedAtMs) return record
  const next = { ...record, last: answer }
  switch (answer.verdict) {
    case 'unavailable':
      return next
    case 'unhealthy':
      return {
        ...next,
        healthySinceMs: undefined,
        lastHealthyMs: undefined,
        unhealthyInARow: record.unhealthyInARow + 1,
      }
    case 'healthy': {
      const { healthySinceMs, lastHealthyMs, freshMs } = record
      const goesOn = lastHealthyMs !== undefined && startedAtMs - lastHealthyMs <= freshMs
      return {
        ...next,
        healthySinceMs: goesOn ? healthySinceMs : endedAtMs,
        lastHealthyMs: endedAtMs,
        wasHealthy: true,
        unhealthyInARow: 0,
      }
    }
  }
}

export interface JudgeRules {
  readonly soakMs: number
  readonly deadlineMs: number
}

export type Judgement =
  | {
      readonly kind: 'holding'
      /** The gate that misses most. */
      readonly gate: string
      /** Since when it is healthy; undefined: it is not. */
      readonly sinceMs: number | undefined
      readonly missing: string
    }
  | { readonly kind: 'proved' }
  | { readonly kind: 'unhealthy'; readonly gate: string; readonly reason: string }
  /** The time is over, and nothing is known to be unhealthy: something could not be asked, or did not hold long enough. */
  | { readonly kind: 'not-proved'; readonly gate: string; readonly reason: string }

/** What the answers so far say. Without any gate nothing is proved. */
export function judgeGates(
  records: readonly GateRecord[],
  nowMs: number,
  { soakMs, deadlineMs }: JudgeRules,
): Judgement {
  const fallen = records.find(
    ({ wasHealthy, grace, unhealthyInARow }) =>
      (wasHealthy || !grace) && unhealthyInARow >= UNHEALTHY_IN_A_ROW,
  )
  if (fallen) return { kind: 'unhealthy', gate: fallen.gate, reason: lastReason(fallen) }
  const states = records.map(record => ({ record, ...stateOf(record, nowMs, soakMs) }))
  const open = states.filter(({ state }) => state !== 'proved')
  if (states.length > 0 && open.length === 0) return { kind: 'proved' }
  // What is said is the worst that is known: unhealthy before not asked before not held long enough.
  const worst =
    open.find(({ state }) => state === 'unhealthy') ??
    open.find(({ state }) => state === 'not-asked') ??
    open.toSorted((a, b) => (b.record.healthySinceMs ?? 0) - (a.record.healthySinceMs ?? 0))[0]
  if (worst === undefined) return { kind: 'not-proved', gate: '', reason: 'there is nothing to ask' }
  const { record, state, missing } = worst
  const { gate } = record
  if (nowMs < deadlineMs) return { kind: 'holding', gate, sinceMs: record.healthySinceMs, missing }
  return state === 'unhealthy'
    ? { kind: 'unhealthy', gate, reason: lastReason(record) }
    : { kind: 'not-proved', gate, reason: missing }
}

type State = 'proved' | 'soaking' | 'not-asked' | 'unhealthy'

function stateOf(record: GateRecord, nowMs: number, soakMs: number): { state: State; missing: string } {
  const { last, healthySinceMs, freshMs } = record
  if (last === undefined) return { state: 'not-asked', missing: 'has not answered yet' }
  if (nowMs - last.endedAtMs > freshMs) return { state: 'not-asked', missing: 'has not answered for a while' }
  if (last.verdict === 'unhealthy') return { state: 'unhealthy', missing: `is unhealthy: ${last.reason}` }
  if (last.verdict === 'unavailable') {
    return { state: 'not-asked', missing: `could not be asked: ${last.reason}` }
  }
  // The whole soak time must lie between two healthy answers: the last one began when it was over.
  const heldMs = healthySinceMs === undefined ? 0 : Math.max(0, last.startedAtMs - healthySinceMs)
  return heldMs >= soakMs
    ? { state: 'proved', missing: '' }
    : { state: 'soaking', missing: `held for ${seconds(heldMs)} of ${seconds(soakMs)}` }
}

function lastReason({ last, unhealthyInARow }: GateRecord): string {
  const reason = last?.reason ?? 'has not answered'
  const often = unhealthyInARow > 1 ? ` (${unhealthyInARow} times in a row)` : ''
  return last?.verdict === 'unavailable'
    ? `was unhealthy, then could not be asked: ${reason}`
    : `${reason}${often}`
}

function seconds(ms: number): string {
  return `${Math.round(ms / 100) / 10} s`
}
