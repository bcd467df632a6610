import { parseArgs } from 'node:util'

export interface BenchOptions {
  /** How many agents are emulated. */
  readonly agents: number
  /** File for the figures as one JSON object; absent: none is written. */
  readonly json: string | undefined
  /** Folder for processor profiles of the coordinator; absent: none are taken. */
  readonly profile: string | undefined
}

const LEAST_AGENTS = 20
/** What one token may admit, and the primes of the key pool suffice for. */
const MOST_AGENTS = 10_000

export const USAGE = `npm run bench -- [--agents N] [--json FILE] [--profile FOLDER]

  --agents N        how many agents are emulated, ${LEAST_AGENTS} to ${MOST_AGENTS}; without it 1000
  --json FILE       write the figures as one JSON object of numbers
  --profile FOLDER  write processor profiles of the coordinator there; what is measured is then slower`

/** Reads the command line. Throws a plain sentence on what cannot be. */
export function parseOptions(args: readonly string[]): BenchOptions | 'help' {
  const { values } = parseArgs({
    args: [...args],
    options: {
      agents: { type: 'string', default: '1000' },
      json: { type: 'string' },
      profile: { type: 'string' },
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
  return { agents, json: values.json, profile: values.profile }
}
