import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { z } from 'zod'
import { reasonOf } from '../shared/errors.ts'
import { parseHostPort } from '../shared/host-port.ts'

const listen = (port: number) =>
  z
    .string()
    .refine(text => parseHostPort(text, 0) !== undefined, 'host:port or [IPv6]:port to listen on')
    .default(`0.0.0.0:${port}`)

const positive = z.number().positive()

/** The coordinator's configuration file. Durations are numbers in the unit that their name ends with. */
const schema = z.strictObject({
  /** Everything the coordinator keeps: store, authority, blobs. */
  stateDir: z.string().min(1).default('/var/lib/muster-coordinator'),
  /** For strangers: server TLS only. */
  enrolmentListen: listen(7443),
  /** For machines and operators: mutual TLS. */
  fleetListen: listen(7444),
  /** host:port of the fleet listener as machines reach it; absent: the first name and the listener's port. */
  fleetAddress: z
    .string()
    .refine(text => parseHostPort(text) !== undefined, 'host:port or [IPv6]:port that machines reach')
    .optional(),
  /** Names and addresses the coordinator is reached by; they stand in its certificate. */
  names: z.array(z.string().min(1).max(253)).max(64).default([]),
  /** The socket for root on this machine. */
  socket: z.string().min(1).optional(),
  logLevel: z.enum(['debug', 'info', 'warn', 'error']).default('info'),
  heartbeatSeconds: positive.max(3600).default(10),
  /** Lifetime of machines' certificates. */
  machineCertificateDays: positive.max(366).default(30),
  /** How long the holder of a key has to answer when a second one connects. */
  challengeSeconds: positive.max(60).default(5),
  /** A machine that is enrolled so long and was never seen over mutual TLS is shown as stuck. */
  stuckMinutes: positive.default(10),
  /** An order that did not reach its machine in this time is withdrawn. */
  orderMinutes: positive.default(60),
  /** How long nodes are told that a stop of the coordinator will last; those that wait for its answer wait longer, once. */
  restartExpectedSeconds: positive.max(3600).default(60),
  /** The host of the fleet file on which the coordinator itself runs; absent: told by /etc/machine-id. */
  ownHost: z.string().min(1).max(63).optional(),
  /** Requests of strangers without a token, per second. */
  strangersPerSecond: positive.max(10_000).default(10),
  /** Machines that the rule of one group lets in. */
  machinesPerRule: z.int().min(1).max(100_000).default(1_000),
  /** Machines that may wait for an operator at once. */
  pendingMachines: z.int().min(1).max(100_000).default(1_000),
  /** How often a machine of a cluster is asked for the cluster's state; oftener while something is under way. */
  clusterAskSeconds: positive.max(60).default(20),
  /** How often machines are shown how far the record of events goes, when something has happened. */
  auditSeconds: positive.max(86_400).default(300),
  retention: z
    .strictObject({
      /** How long logs, events, ended operations and old facts are kept. */
      days: positive.default(90),
      /** Bound of all build output together. */
      logBytes: z.int().min(1_000_000).default(1_000_000_000),
    })
    .prefault({}),
})

type Parsed = z.output<typeof schema>

export interface CoordinatorConfig extends Readonly<Omit<Parsed, 'socket'>> {
  readonly socket: string
}

/** What is wrong with a configuration, naming file and field. */
class ConfigError extends Error {
  override readonly name = 'ConfigError'
}

/** Checks a configuration; `place` stands in front of every complaint. */
export function parseConfig(input: unknown, place: string): CoordinatorConfig {
  const parsed = schema.safeParse(input)
  if (!parsed.success) {
    const problems = parsed.error.issues.map(
      ({ path, message }) => `${place}: ${path.join('.') || 'the file'}: ${message}`,
    )
    throw new ConfigError(problems.join('\n'))
  }
  const stateDir = resolve(parsed.data.stateDir)
  return {
    ...parsed.data,
    stateDir,
    socket: resolve(parsed.data.socket ?? join(stateDir, 'coordinator.sock')),
  }
}

/** Reads a configuration file; without one everything has its default. */
export async function loadConfig(path: string | undefined, flags: object = {}): Promise<CoordinatorConfig> {
  if (path === undefined) return parseConfig(flags, 'command line')
  let input: unknown
  try {
    input = JSON.parse(await readFile(path, 'utf8'))
  } catch (error) {
    throw new ConfigError(`${path}: ${reasonOf(error)}`, { cause: error })
  }
  if (typeof input !== 'object' || input === null || Array.isArray(input)) {
    throw new ConfigError(`${path}: must be a JSON object`)
  }
  return parseConfig({ ...input, ...flags }, path)
}
