import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { reasonOf } from '../../shared/errors.ts'
import { type ConfigFlags, DEFAULT_BOOT_MS, DEFAULT_STATE_DIR } from '../config.ts'

/** What the units of a boot need of the agent's configuration. */
export interface SafetyPlaces {
  readonly stateDir: string
  readonly bootMs: number
  /** What could not be read, so that the usual value stands for it. */
  readonly problems: readonly string[]
}

/**
 * Reads of a configuration what the way back needs, whatever else it says: a system that is tried may bring one that its agent
 * refuses, and must be taken back for just that.
 */
export async function readPlaces(file: string, flags: ConfigFlags = {}): Promise<SafetyPlaces> {
  const problems: string[] = []
  let fields: ReadonlyMap<string, unknown> = new Map()
  try {
    fields = fieldsOf(JSON.parse(await readFile(file, 'utf8')))
  } catch (error) {
    problems.push(`${file}: cannot be read: ${reasonOf(error)}`)
  }
  const said = fieldsOf(flags)
  const choose = <T>(
    name: string,
    values: readonly unknown[],
    is: (value: unknown) => value is T,
    usual: T,
  ): T => {
    const value = values.find(one => one !== undefined)
    if (value === undefined || is(value)) return value ?? usual
    problems.push(`${file}: ${name}: is not usable; ${usual} stands for it`)
    return usual
  }
  const bootMsOf = (of: ReadonlyMap<string, unknown>) => fieldsOf(of.get('deadlines')).get('bootMs')
  return {
    stateDir: resolve(
      choose('stateDir', [said.get('stateDir'), fields.get('stateDir')], isPath, DEFAULT_STATE_DIR),
    ),
    bootMs: choose('deadlines.bootMs', [bootMsOf(said), bootMsOf(fields)], isTime, DEFAULT_BOOT_MS),
    problems,
  }
}

const isPath = (value: unknown): value is string => typeof value === 'string' && value !== ''
const isTime = (value: unknown): value is number =>
  typeof value === 'number' && value >= 1_000 && value <= 2_000_000_000

function fieldsOf(value: unknown): ReadonlyMap<string, unknown> {
  return new Map(typeof value === 'object' && value !== null ? Object.entries(value) : [])
}
