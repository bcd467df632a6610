import { join } from 'node:path'
import { readFileIfThere, writeFileDurably } from '../../shared/durable-file.ts'
import { reasonOf } from '../../shared/errors.ts'
import type { ArmFolder } from './operation-folder.ts'

/** How the new system is reached. */
export const ARM_MODES = ['switch', 'trial', 'reboot'] as const
export type ArmMode = (typeof ARM_MODES)[number]

/**
 * Everything that the way back needs, written before anything is touched. The program that arms and the one that
 * returns are not the same process, and after an update not the same version: this one codec serves both.
 */
export interface ArmRecord {
  readonly operation: string
  readonly round: number
  readonly mode: ArmMode
  /** The store path to be reached. */
  readonly target: string
  /** The store path that ran before: the one place to go back to. */
  readonly previous: string
  /** What the profile named before, and the number of that generation where it has one. */
  readonly profile: string
  readonly generation: number | undefined
  /** The profile named the target itself: `profile` is what ran, and is made the boot default before anything is tried. */
  readonly defaultMoves?: boolean | undefined
  /** The container runtime changes: it restarts after the switch, forward and back. */
  readonly runtime?: ArmedRuntime | undefined
  /** The boot in which it was armed. */
  readonly bootId: string
  /** How long the change may stay unconfirmed once it is active. */
  readonly confirmMs: number
  /** How long one switch may take. */
  readonly switchMs: number
  /** How this agent is started, so that the way back is walked by the program that armed it. */
  readonly program: readonly string[]
  /** PATH of the tools. */
  readonly toolPath: string
  /** "/" on a real machine. */
  readonly systemRoot: string
  /** The service manager: systemd's own, or plain processes on a simulated machine. */
  readonly units: 'systemd' | 'processes'
}

export interface ArmedRuntime {
  /** Both systems have them. */
  readonly units: readonly string[]
  /** Its socket; undefined: it is not told. */
  readonly endpoint?: string | undefined
  /** Its network of pods was ready before. */
  readonly network: boolean
  /** Its node was Ready before. */
  readonly node: boolean
}

const FILE = 'arm.json'
/**
 * Raised where a program that knows only lower ones would do wrong by the record. What it need not know is merely added. All versions
 * that ever were are read, and every one keeps the names of `ArmCore`.
 */
const VERSION = 1

/**
 * What every version says under the same names, so that a program that is too old for the record, as where a change goes to a
 * system of before, can have the program that wrote it walk back: that one takes `return --state-dir --operation --round`.
 */
export type ArmCore = Pick<
  ArmRecord,
  'operation' | 'round' | 'target' | 'previous' | 'program' | 'toolPath' | 'systemRoot' | 'units'
> & { readonly mode: string }

/** Durable when it returns. */
export async function writeArmRecord(folder: ArmFolder, record: ArmRecord): Promise<void> {
  await writeFileDurably(join(folder.path, FILE), `${JSON.stringify({ v: VERSION, ...record })}\n`)
}

export type ArmReading =
  | { readonly kind: 'armed'; readonly record: ArmRecord }
  /** A newer program wrote it, and only that one knows the way back. */
  | { readonly kind: 'newer'; readonly core: ArmCore; readonly reason: string }
  | { readonly kind: 'missing' }
  | { readonly kind: 'unreadable'; readonly reason: string }

export async function readArmRecord(folder: ArmFolder): Promise<ArmReading> {
  const path = join(folder.path, FILE)
  try {
    const bytes = await readFileIfThere(path)
    if (bytes === undefined) return { kind: 'missing' }
    const text = bytes.toString('utf8')
    const version = fieldsOf(text).get('v')
    if (typeof version === 'number' && Number.isSafeInteger(version) && version > VERSION) {
      const reason = `${path}: a newer agent wrote it (v: ${version}, this one knows ${VERSION})`
      return { kind: 'newer', core: parseCore(text), reason }
    }
    return { kind: 'armed', record: parseArmRecord(text) }
  } catch (error) {
    return { kind: 'unreadable', reason: `${path}: ${reasonOf(error)}` }
  }
}

export function parseArmRecord(text: string): ArmRecord {
  const fields = fieldsOf(text)
  if (fields.get('v') !== VERSION) throw new Error(`v: this program knows ${VERSION}`)
  const read = reader(fields)
  return {
    ...parseCore(text),
    mode: read.choice('mode', ARM_MODES),
    profile: read.text('profile'),
    generation: fields.has('generation') ? read.integer('generation') : undefined,
    ...(fields.get('defaultMoves') === true && { defaultMoves: true }),
    ...(fields.has('runtime') && { runtime: runtimeOf(fields.get('runtime')) }),
    bootId: read.text('bootId'),
    confirmMs: read.integer('confirmMs'),
    switchMs: read.integer('switchMs'),
  }
}

function parseCore(text: string): ArmCore {
  const fields = fieldsOf(text)
  const read = reader(fields)
  const program = fields.get('program')
  if (!Array.isArray(program) || program.length === 0 || !program.every(word => typeof word === 'string')) {
    throw new Error('program: must be a list of words')
  }
  return {
    operation: read.text('operation'),
    round: read.integer('round'),
    mode: read.text('mode'),
    target: read.text('target'),
    previous: read.text('previous'),
    program,
    toolPath: read.text('toolPath'),
    systemRoot: read.text('systemRoot'),
    units: read.choice('units', ['systemd', 'processes']),
  }
}

function fieldsOf(text: string): ReadonlyMap<string, unknown> {
  const parsed: unknown = JSON.parse(text)
  if (typeof parsed !== 'object' || parsed === null) throw new Error('not an object')
  return new Map<string, unknown>(Object.entries(parsed))
}

function reader(fields: ReadonlyMap<string, unknown>) {
  return {
    text: (name: string): string => {
      const value = fields.get(name)
      if (typeof value !== 'string' || value === '') throw new Error(`${name}: must be text`)
      return value
    },
    integer: (name: string): number => {
      const value = fields.get(name)
      if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
        throw new Error(`${name}: must be a whole number`)
      }
      return value
    },
    choice: <const T extends string>(name: string, among: readonly T[]): T => {
      const value = among.find(one => one === fields.get(name))
      if (value === undefined) throw new Error(`${name}: must be one of ${among.join(', ')}`)
      return value
    },
  }
}

function runtimeOf(value: unknown): ArmedRuntime {
  const fields = new Map<string, unknown>(Object.entries(value ?? {}))
  const [units, endpoint] = [fields.get('units'), fields.get('endpoint')]
  const [network, node] = [fields.get('network'), fields.get('node')]
  if (!Array.isArray(units) || !units.every(unit => typeof unit === 'string' && unit.endsWith('.service'))) {
    throw new Error('runtime.units: must be names of services')
  }
  if (typeof network !== 'boolean' || typeof node !== 'boolean') {
    throw new Error('runtime: must say network and node')
  }
  return { units, network, node, ...(typeof endpoint === 'string' && { endpoint }) }
}
