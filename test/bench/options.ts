import { parseArgs } from 'node:util'

export interface BenchOptions {
  /** How many agents are emulated. */
  readonly agents: number
  /** File for the figures as one JSON object; absent: none is written. */
  readonly json: string | undefined
  /** Folder for processor profiles of the coordinator; absent: none are taken. */
  readonly profile: string | undefined
  /** What is measured; everything where nothing is said. */
  readonly only: ReadonlySet<Measure>
}

/** The parts of a run; each can be measured alone. */
export const MEASURES = [
  'enrolments',
  'memory',
  'heartbeats',
  'fanout',
  'questions',
  'scale',
  'agent',
  'rollouts',
] as const
export type Measure = (typeof MEASURES)[number]

const isMeasure = (name: string): name is Measure => MEASURES.some(measure => measure === name)

const LEAST_AGENTS = 20
/** What one token may admit, and the primes of the key pool suffice for. */
const MOST_AGENTS = 10_000

export const USAGE = `npm run bench -- [--agents N] [--json FILE] [--profile FOLDER] [--only PARTS]

  --agents N        how many agents are emulated, ${LEAST_AGENTS} to ${MOST_AGENTS}; without it 1000
  --json FILE       write the figures as one JSON object of numbers
  --profile FOLDER  write processor profiles of the coordinator there; what is measured is then slower
  --only PARTS      measure only these, separated by commas: ${MEASURES.join(', ')}`

/** Reads the command line. Throws a plain sentence on what cannot be. */
export function parseOptions(args: readonly string[]): BenchOptions | 'help' {
  const { values } = parseArgs({
    args: [...args],
    options: {
      agents: { type: 'string', default: '1000' },
      json: { type: 'string' },
      profile: { type: 'string' },
      only: { type: 'string', default: MEASURES.join(',') },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return 'help'
  const agents = Number(values.agents)
  if (!Number.isInteger(agents) || agents < LEAST_AGENTS || agents > MOST_AGENTS) {
    throw new RangeError(
      `--agents: wanted a whole number from ${LEAST_AGENTS} to ${MOST_AGENTS}, got ${values.agents}`,
    )
  }
  const only = values.only.split(',')
  const unknown = only.find(name => !isMeasure(name))
  if (unknown !== undefined) {
    throw new RangeError(`--only: wanted some of ${MEASURES.join(', ')}, got ${JSON.stringify(unknown)}`)
  }
  return { agents, json: values.json, profile: values.profile, only: new Set(only.filter(isMeasure)) }
}
