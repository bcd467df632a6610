import { pause } from '../../../shared/lifecycle.ts'
import { type System, succeeded } from '../../system/system.ts'
import { redact } from '../redact.ts'
import { DONE, done, failed, failedEnding, type Result } from '../result.ts'

/** How systemd has a unit. */
export interface ServiceState {
  readonly active: 'active' | 'activating' | 'deactivating' | 'inactive' | 'failed' | 'other'
  /** A condition of the unit did not hold when it was last started: it is inactive and nobody calls that a failure. */
  readonly heldByCondition: boolean
  /** "success", or how it failed last. */
  readonly result: string
  /** When its process was started, in milliseconds of the monotonic clock of this boot; undefined: none was, or nobody says. */
  readonly startedMs?: number | undefined
}

const PROPERTIES =
  'ActiveState,ConditionResult,ConditionTimestampMonotonic,ExecMainStartTimestampMonotonic,Result'
const CALL_MS = 20_000
const STOP_MS = 120_000
const POLL_MS = 500

/**
 * Starts units in their order without waiting for their jobs: a server that waits for a quorum stays "activating" for as long
 * as the others are away, and would hold whoever waits for it.
 */
export async function startUnits(
  system: System,
  units: readonly string[],
  signal?: AbortSignal,
): Promise<Result<void>> {
  // A unit that failed too often is not started again without this.
  await system.run('systemctl', ['reset-failed', ...units], { deadlineMs: CALL_MS, signal })
  const started = await system.run('systemctl', ['start', '--no-block', ...units], {
    deadlineMs: CALL_MS,
    signal,
  })
  return succeeded(started.ending)
    ? DONE
    : failedEnding(`systemctl start ${units.join(' ')}`, started.ending, redact(started.stderr))
}

/** Stops units, the last one first, and waits until they are gone. */
export async function stopUnits(
  system: System,
  units: readonly string[],
  signal?: AbortSignal,
): Promise<Result<void>> {
  const order = units.toReversed()
  const stopped = await system.run('systemctl', ['stop', ...order], { deadlineMs: STOP_MS, signal })
  if (!succeeded(stopped.ending)) {
    return failedEnding(`systemctl stop ${order.join(' ')}`, stopped.ending, redact(stopped.stderr))
  }
  const states = await readUnits(system, units, signal)
  if (states.kind === 'failed') return states
  for (const [unit, { active }] of states.value) {
    if (['active', 'activating', 'deactivating'].includes(active)) {
      return failed('command', `${unit} is ${active} after it was stopped`)
    }
  }
  return DONE
}

export async function readUnit(
  system: System,
  unit: string,
  signal?: AbortSignal,
): Promise<Result<ServiceState>> {
  const states = await readUnits(system, [unit], signal)
  const state = states.kind === 'done' ? states.value.get(unit) : undefined
  if (states.kind === 'failed') return states
  return state ? done(state) : failed('unreadable', `systemctl show ${unit}: says no state`)
}

/** How systemd has units, by their names, asked at once: each call is two programs, and a server is asked every moment. */
export async function readUnits(
  system: System,
  units: readonly string[],
  signal?: AbortSignal,
): Promise<Result<ReadonlyMap<string, ServiceState>>> {
  if (units.length === 0) return done(new Map())
  const args = ['show', `--property=${PROPERTIES}`, ...units]
  const shown = await system.run('systemctl', args, { deadlineMs: CALL_MS, signal })
  const what = `systemctl show ${units.join(' ')}`
  if (!succeeded(shown.ending)) return failedEnding(what, shown.ending, redact(shown.stderr))
  // In the order of the question, with an empty line between two.
  const shows = shown.stdout.split('\n\n')
  const states = new Map<string, ServiceState>()
  for (const [index, unit] of units.entries()) {
    const state = parseUnit(shows[index] ?? '')
    if (!state || shows.length !== units.length)
      return failed('unreadable', `${what}: does not say the state of ${unit}`)
    states.set(unit, state)
  }
  return done(states)
}

export function parseUnit(text: string): ServiceState | undefined {
  const values = new Map(
    text.split('\n').map(line => [line.split('=', 1)[0] ?? '', line.slice(line.indexOf('=') + 1)]),
  )
  const said = values.get('ActiveState')
  if (said === undefined || said === '') return undefined
  // A unit that was never started has not had its conditions looked at.
  const looked = (values.get('ConditionTimestampMonotonic') ?? '0') !== '0'
  const startedUs = Number(values.get('ExecMainStartTimestampMonotonic') ?? 0)
  return {
    active: STATES.find(state => state === said) ?? 'other',
    heldByCondition: looked && values.get('ConditionResult') === 'no',
    result: values.get('Result') ?? '',
    startedMs: startedUs > 0 ? startedUs / 1_000 : undefined,
  }
}

const STATES = ['active', 'activating', 'deactivating', 'inactive', 'failed'] as const

/** The last that a unit said, for people: nothing that looks like a secret. */
export async function lastWords(system: System, unit: string, lines = 12): Promise<string> {
  const args = ['--unit', unit, '--no-pager', '--output=cat', `--lines=${lines}`]
  const said = await system.run('journalctl', args, { deadlineMs: CALL_MS })
  return succeeded(said.ending) ? redact(said.stdout) : ''
}

/** Repeats a look until it answers, or for so long; then it answers undefined. */
export async function waitFor<T>(
  deadlineMs: number,
  signal: AbortSignal | undefined,
  look: () => Promise<T | undefined>,
  everyMs = POLL_MS,
): Promise<T | undefined> {
  const until = performance.now() + deadlineMs
  for (;;) {
    const found = await look()
    if (found !== undefined || signal?.aborted || performance.now() >= until) return found
    await pause(everyMs, signal)
  }
}
