import { reasonOf } from '../../shared/errors.ts'
import { openToMany, pause, withDeadline } from '../../shared/lifecycle.ts'
import type { Safety } from '../../shared/revision/safety.ts'
import type { System } from '../system/system.ts'
import type { GateAnswer } from './gate-answer.ts'
import { type GateRecord, type Judgement, judgeGates, newRecord, noteAnswer } from './judge-gates.ts'
import { type NewlyFailed, newlyFailed } from './newly-failed.ts'
import { runGate } from './run-gate.ts'

// INVARIANTS
// - Nothing is decided here: answers go into records, `judgeGates` says what they mean.
// - A gate has at most one attempt at a time; a slow one holds up no other.
// - What is said is what changed: a gate that answers the same a hundred times is one line.

export interface WatchGatesDeps {
  readonly system: System
  /** All units of the machine that have failed; undefined: could not be asked. */
  readonly failedUnits: () => Promise<ReadonlySet<string> | undefined>
  /** Milliseconds on a clock that nobody sets. */
  readonly nowMs: () => number
  /** Adds a line to the operation's output. */
  readonly say: (line: string) => void
  /** Is given each answer that is said and is not healthy, with all of its output. */
  readonly unwell: (answer: GateAnswer) => void
}

export interface WatchGatesInput {
  readonly safety: Safety
  /** The verified tree, unpacked; script gates run below it. */
  readonly treeDir: string
  /** Answers that began before it do not count. On the clock of `nowMs`, and so is the deadline. */
  readonly activatedAtMs: number
  /** When the proof must stand. */
  readonly deadlineMs: number
  /** Units that had failed before the activation: nobody's fault now. */
  readonly failedBefore: ReadonlySet<string>
}

export type ProofResult =
  /** `degraded`: sorted names of tolerated units that failed since. */
  | { readonly kind: 'proved'; readonly degraded: readonly string[] }
  | { readonly kind: 'unhealthy'; readonly gate: string; readonly reason: string }
  /** The time is over; something could not be asked, or did not hold long enough. */
  | { readonly kind: 'not-proved'; readonly reason: string }
  /** The signal fired. */
  | { readonly kind: 'stopped' }

/** The gate that every change has: no unit fails that did not fail before. No gate of a fleet file can be named so. */
export const FAILED_UNITS = 'failed units'

/** Time between two looks at a gate: often at first, when a change shows, then less and less. */
const FIRST_INTERVAL_MS = 1_000
const LONGEST_INTERVAL_MS = 5_000
const INTERVAL_GROWTH = 1.2
const FAILED_UNITS_DEADLINE_MS = 60_000
/** How often the answers so far are judged anew, so that a deadline passes without any. */
const JUDGE_MS = 250
/** The judgement so far is said at least so often, and the more often the more it changes. */
const SAY_MS = 30_000

/** Asks all gates until they are proved, have failed, or the time is over. */
export async function watchGates(
  deps: WatchGatesDeps,
  input: WatchGatesInput,
  signal: AbortSignal,
): Promise<ProofResult> {
  const { safety, activatedAtMs, deadlineMs } = input
  const records = new Map<string, GateRecord>([
    [FAILED_UNITS, newRecord(FAILED_UNITS, freshFor(FAILED_UNITS_DEADLINE_MS), false)],
    ...safety.gates.map(
      ({ name, deadlineMs: most }) => [name, newRecord(name, freshFor(most), true)] as const,
    ),
  ])
  const stop = openToMany()
  let failed: NewlyFailed = { blamed: [], tolerated: [] }
  const take = (answer: GateAnswer) => {
    const record = records.get(answer.gate)
    if (record === undefined) return
    sayChange(deps, record.last, answer)
    records.set(answer.gate, noteAnswer(record, answer, activatedAtMs))
  }
  const asks: (() => Promise<GateAnswer>)[] = [
    async () => {
      const startedAtMs = deps.nowMs()
      const { answer, seen } = await askFailedUnits(deps, input, stop.signal)
      failed = seen ?? failed
      return { ...answer, startedAtMs, endedAtMs: deps.nowMs() }
    },
    ...safety.gates.map(gate => () => runGate({ ...deps, treeDir: input.treeDir }, gate, stop.signal)),
  ]
  const forward = () => stop.abort()
  if (signal.aborted) forward()
  signal.addEventListener('abort', forward, { once: true })
  const loops = asks.map(ask => keepAsking(ask, take, stop.signal))
  try {
    let told: { readonly text: string; readonly atMs: number } | undefined
    for (;;) {
      if (signal.aborted) return { kind: 'stopped' }
      const judgement = judgeGates([...records.values()], deps.nowMs(), {
        soakMs: safety.soakMs,
        deadlineMs,
      })
      if (judgement.kind !== 'holding') return resultOf(judgement, failed)
      const text = `waits for gate ${judgement.gate}: ${judgement.missing}`
      if (told === undefined || deps.nowMs() - told.atMs >= SAY_MS) {
        deps.say(text)
        told = { text, atMs: deps.nowMs() }
      }
      await pause(JUDGE_MS, signal)
    }
  } finally {
    signal.removeEventListener('abort', forward)
    stop.abort()
    await Promise.all(loops)
  }
}

/** Evidence is good until the next attempt must have answered. */
function freshFor(deadlineMs: number): number {
  return deadlineMs + 3 * LONGEST_INTERVAL_MS
}

async function keepAsking(
  ask: () => Promise<GateAnswer>,
  take: (answer: GateAnswer) => void,
  signal: AbortSignal,
): Promise<void> {
  for (let intervalMs = FIRST_INTERVAL_MS; !signal.aborted; ) {
    const answer = await ask()
    // What was broken off says nothing.
    if (signal.aborted) return
    take(answer)
    await pause(intervalMs, signal)
    intervalMs = Math.min(LONGEST_INTERVAL_MS, intervalMs * INTERVAL_GROWTH)
  }
}

type Asked = Pick<GateAnswer, 'gate' | 'verdict' | 'reason' | 'output'>

async function askFailedUnits(
  { failedUnits }: WatchGatesDeps,
  { failedBefore, safety }: WatchGatesInput,
  signal: AbortSignal,
): Promise<{ readonly answer: Asked; readonly seen: NewlyFailed | undefined }> {
  const answer = (verdict: GateAnswer['verdict'], reason: string): Asked => ({
    gate: FAILED_UNITS,
    verdict,
    reason,
    output: '',
  })
  let after: ReadonlySet<string> | undefined
  try {
    after = await withDeadline(FAILED_UNITS_DEADLINE_MS, signal, failedUnits)
  } catch (error) {
    return { answer: answer('unavailable', reasonOf(error)), seen: undefined }
  }
  if (after === undefined) {
    return { answer: answer('unavailable', 'systemd could not be asked'), seen: undefined }
  }
  const seen = newlyFailed(failedBefore, after, safety.toleratedUnits)
  return seen.blamed.length > 0
    ? { answer: answer('unhealthy', `failed since the activation: ${listed(seen.blamed)}`), seen }
    : { answer: answer('healthy', 'no unit failed that may not'), seen }
}

function listed(names: readonly string[]): string {
  const most = 10
  const more = names.length > most ? ` and ${names.length - most} more` : ''
  return `${names.slice(0, most).join(', ')}${more}`
}

function sayChange(
  { say, unwell }: WatchGatesDeps,
  before: GateAnswer | undefined,
  answer: GateAnswer,
): void {
  if (before?.verdict === answer.verdict && before.reason === answer.reason) return
  say(`gate ${answer.gate}: ${answer.verdict}: ${answer.reason}`)
  if (answer.verdict === 'healthy') return
  unwell(answer)
  if (answer.output === '') return
  for (const line of answer.output.trimEnd().split('\n')) say(`  ${line}`)
}

function resultOf(judgement: Exclude<Judgement, { kind: 'holding' }>, failed: NewlyFailed): ProofResult {
  switch (judgement.kind) {
    case 'proved':
      return { kind: 'proved', degraded: failed.tolerated }
    case 'unhealthy':
      return { kind: 'unhealthy', gate: judgement.gate, reason: judgement.reason }
    case 'not-proved':
      return { kind: 'not-proved', reason: `gate ${judgement.gate}: ${judgement.reason}` }
  }
}
