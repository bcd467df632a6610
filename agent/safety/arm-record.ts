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
const VERSION = 1

/** Durable when it returns. */
export async function writeArmRecord(folder: ArmFolder, record: ArmRecord): Promise<void> {
  await writeFileDurably(join(folder.path, FILE), `${JSON.stringify({ v: VERSION, ...record })}\n`)
}

export type ArmReading =
  | { readonly kind: 'armed'; readonly record: ArmRecord }
  | { readonly kind: 'missing' }
  | { readonly kind: 'unreadable'; readonly reason: string }

export async function readArmRecord(folder: ArmFolder): Promise<ArmReading> {
  const path = join(folder.path, FILE)
  try {
    const bytes = await readFileIfThere(path)
    if (bytes === undefined) return { kind: 'missing' }
    return { kind: 'armed', record: parseArmRecord(bytes.toString('utf8')) }
  } catch (error) {
    return { kind: 'unreadable', reason: `${path}: ${reasonOf(error)}` }
  }
}

export function parseArmRecord(text: string): ArmRecord {
  const parsed: unknown = JSON.parse(text)
  if (typeof parsed !== 'object' || parsed === null) throw new Error('not an object')
  const fields = new Map<string, unknown>(Object.entries(parsed))
  if (fields.get('v') !== VERSION) throw new Error(`v: this program knows ${VERSION}`)
  const text_ = (name: string): string => {
    const value = fields.get(name)
    if (typeof value !== 'string' || value === '') throw new Error(`${name}: must be text`)
    return value
  }
  const integer = (name: string): number => {
    const value = fields.get(name)
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
      throw new Error(`${name}: must be a whole number`)
    }
    return value
  }
  const choice = <const T extends string>(name: string, among: readonly T[]): T => {
    const value = among.find(one => one === fields.get(name))
    if (value === undefined) throw new Error(`${name}: must be one of ${among.join(', ')}`)
    return value
  }
  const program = fields.get('program')
  if (!Array.isArray(program) || program.length === 0 || !program.every(word => typeof word === 'string')) {
    throw new Error('program: must be a list of words')
  }
  return {
    operation: text_('operation'),
    round: integer('round'),
    mode: choice('mode', ARM_MODES),
    target: text_('target'),
    previous: text_('previous'),
    profile: text_('profile'),
    generation: fields.has('generation') ? integer('generation') : undefined,
    ...(fields.get('defaultMoves') === true && { defaultMoves: true }),
    ...(fields.has('runtime') && { runtime: runtimeOf(fields.get('runtime')) }),
    bootId: text_('bootId'),
    confirmMs: integer('confirmMs'),
    switchMs: integer('switchMs'),
    program,
    toolPath: text_('toolPath'),
    systemRoot: text_('systemRoot'),
    units: choice('units', ['systemd', 'processes']),
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
