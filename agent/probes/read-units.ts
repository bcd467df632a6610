import { create } from '@bufbuild/protobuf'
import {
  UnitStateSchema,
  type UnitsAnswer,
  UnitsAnswerSchema,
  type UnitsProbe,
} from '../../shared/gen/muster/v1/probe_pb.ts'
import { describeEnding, type System, succeeded } from '../system/system.ts'

const MAX_UNITS = 1_000
const MAX_PATTERNS = 32
const MAX_PATTERN_CHARS = 256
const MAX_TEXT_CHARS = 256
const MAX_FAILED = 200
/** Characters of all units together: an answer takes at most 256 KiB, and containers bring mounts with long names. */
const MAX_CHARS = 192 * 1024
const MAX_OUTPUT_BYTES = 4 * 1024 * 1024

/** The states of the units that match. Throws a sentence where they cannot be told. */
export async function readUnits(
  system: System,
  { patterns }: Pick<UnitsProbe, 'patterns'>,
  deadlineMs: number,
  signal?: AbortSignal,
): Promise<UnitsAnswer> {
  if (patterns.length > MAX_PATTERNS || patterns.some(text => text.length > MAX_PATTERN_CHARS)) {
    throw new Error(`units: at most ${MAX_PATTERNS} patterns of ${MAX_PATTERN_CHARS} characters`)
  }
  const listed = await listUnits(system, ['--all', '--', ...patterns], deadlineMs, signal)
  const units = listed.toSorted((a, b) => (a.name < b.name ? -1 : 1))
  const kept = asManyAsFit(units)
  return create(UnitsAnswerSchema, {
    units: kept.map(unit => create(UnitStateSchema, unit)),
    truncated: kept.length < units.length,
  })
}

/** The first of them, within the bounds of an answer. */
function asManyAsFit(units: readonly UnitLine[]): readonly UnitLine[] {
  let room = MAX_CHARS
  const end = units.slice(0, MAX_UNITS).findIndex(unit => {
    room -= JSON.stringify(unit).length
    return room < 0
  })
  return units.slice(0, end < 0 ? MAX_UNITS : end)
}

/** Names of the units that have failed, sorted; undefined: the service manager did not say. */
export async function readFailedUnits(
  system: System,
  deadlineMs: number,
  signal?: AbortSignal,
): Promise<readonly string[] | undefined> {
  try {
    const units = await listUnits(system, ['--failed'], deadlineMs, signal)
    return units
      .flatMap(({ name, active }) => (active === 'failed' ? [name] : []))
      .sort()
      .slice(0, MAX_FAILED)
  } catch {
    return undefined
  }
}

interface UnitLine {
  readonly name: string
  readonly load: string
  readonly active: string
  readonly sub: string
  readonly description: string
}

async function listUnits(
  system: System,
  args: readonly string[],
  deadlineMs: number,
  signal: AbortSignal | undefined,
): Promise<readonly UnitLine[]> {
  const result = await system.run(
    'systemctl',
    ['list-units', '--no-ask-password', '--no-pager', '--full', '--output=json', ...args],
    { deadlineMs, signal, maxOutputBytes: MAX_OUTPUT_BYTES },
  )
  if (!succeeded(result.ending)) throw new Error(describeEnding('systemctl list-units', result.ending))
  if (result.truncated) throw new Error(`systemctl list-units: printed more than ${MAX_OUTPUT_BYTES} bytes`)
  return parseUnits(result.stdout)
}

/** What `systemctl list-units --output=json` prints. */
function parseUnits(text: string): readonly UnitLine[] {
  const list: unknown = JSON.parse(text)
  if (!Array.isArray(list)) throw new Error('systemctl list-units: printed no list')
  return list.flatMap((entry: unknown) => {
    const textOf = (field: string) => {
      const value =
        typeof entry === 'object' && entry !== null
          ? new Map<string, unknown>(Object.entries(entry)).get(field)
          : undefined
      return typeof value === 'string' ? value.slice(0, MAX_TEXT_CHARS) : ''
    }
    const name = textOf('unit')
    if (name === '') return []
    const [load, active, sub] = [textOf('load'), textOf('active'), textOf('sub')]
    return [{ name, load, active, sub, description: textOf('description') }]
  })
}
