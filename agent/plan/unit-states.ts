import { describeEnding, type System, succeeded } from '../system/system.ts'

/** What systemd says of one loaded unit. */
export interface UnitState {
  readonly unit: string
  /** loaded, not-found, masked, bad-setting, error. */
  readonly load: string
  /** active, reloading, inactive, failed, activating, deactivating. */
  readonly active: string
  readonly sub: string
  /** The file it was loaded from; empty for units that have none. */
  readonly fragment: string
  /** It was to be started and its conditions did not hold. */
  readonly conditionFailed: boolean
}

export type UnitStates = ReadonlyMap<string, UnitState>

export type UnitStatesReading =
  | { readonly kind: 'states'; readonly states: UnitStates }
  | { readonly kind: 'unknown'; readonly why: string }

const PROPERTIES = [
  'Id',
  'Following',
  'LoadState',
  'ActiveState',
  'SubState',
  'FragmentPath',
  'ConditionResult',
  'ConditionTimestampMonotonic',
]
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024
/**
 * A slow machine that is busy with its boot took more than half a minute for all its units, and what is refused for that has to be ordered
 * again.
 */
const DEADLINE_MS = 120_000

/** Asks systemd for all units it has loaded. `list-units` knows no file of a unit, so `show` is asked, over all of them. */
export async function readUnitStates(system: System, signal?: AbortSignal): Promise<UnitStatesReading> {
  const args = ['show', '--all', `--property=${PROPERTIES.join(',')}`, '--', '*']
  const { ending, stdout, truncated } = await system.run('systemctl', args, {
    deadlineMs: DEADLINE_MS,
    signal,
    maxOutputBytes: MAX_OUTPUT_BYTES,
  })
  if (!succeeded(ending)) return { kind: 'unknown', why: describeEnding('systemctl show', ending) }
  if (truncated) return { kind: 'unknown', why: `systemctl show: more than ${MAX_OUTPUT_BYTES} bytes` }
  const states = parseUnitStates(stdout)
  if (states.size === 0) return { kind: 'unknown', why: 'systemctl show: tells of no unit' }
  return { kind: 'states', states }
}

/** Blocks of `Key=value`, one for each unit, with empty lines between them. */
export function parseUnitStates(text: string): UnitStates {
  const states = new Map<string, UnitState>()
  for (const block of text.split(/\n\s*\n/)) {
    const values = new Map<string, string>()
    for (const line of block.split('\n')) {
      const equals = line.indexOf('=')
      if (equals > 0) values.set(line.slice(0, equals), line.slice(equals + 1))
    }
    const unit = values.get('Id') ?? ''
    const active = values.get('ActiveState') ?? ''
    // What follows another unit is that one under a second name (devices).
    if (unit === '' || active === '' || (values.get('Following') ?? '') !== '') continue
    states.set(unit, {
      unit,
      load: values.get('LoadState') ?? '',
      active,
      sub: values.get('SubState') ?? '',
      fragment: values.get('FragmentPath') ?? '',
      conditionFailed:
        values.get('ConditionResult') === 'no' && (values.get('ConditionTimestampMonotonic') ?? '0') !== '0',
    })
  }
  return states
}

/** Whether the switch program looks at a unit at all: running or about to, and loaded from NixOS's own folder. */
export function isCompared(state: UnitState): boolean {
  return isUp(state) && state.fragment.startsWith('/etc/systemd/system/')
}

/** Running, or on its way there. */
export function isUp(state: UnitState | undefined): boolean {
  return state?.active === 'active' || state?.active === 'activating'
}

/** The units that have failed, sorted. */
export function failedUnits(states: UnitStates): string[] {
  return [...states.values()]
    .filter(({ active }) => active === 'failed')
    .map(({ unit }) => unit)
    .sort()
}
