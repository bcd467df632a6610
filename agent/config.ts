import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { reasonOf } from '../shared/errors.ts'
import { parseHostPort } from '../shared/host-port.ts'
import { isDigest } from '../shared/ids.ts'
import { MAX_SOCKET_BYTES } from '../shared/rpc/private-socket.ts'
import { ConfigError, ConfigFields } from './config-fields.ts'
import { LOG_LEVELS, type LogLevel } from './log.ts'

/** What a coordinator can be allowed to order; whatever is not named in `allow` is refused here. */
export const VERBS = [
  'apply',
  'upgrade',
  'rollback',
  'reboot',
  'restart',
  'join',
  'drain',
  'snapshot',
  'leave',
  'restore',
  'rotate',
  'kubeconfig',
  'wipe',
  'logs',
] as const
export type Verb = (typeof VERBS)[number]

/** The agent's configuration, as its file gives it. */
export interface AgentConfig {
  /** host:port of the coordinator's enrolment listener. */
  readonly coordinator: string
  /** SHA-256 of the coordinator's authority. May come from the token, or from an earlier start. */
  readonly caPin: string | undefined
  /** SHA-256 of the trust set. Without it the first set offered is taken once and shown as such. */
  readonly trustPin: string | undefined
  /** A file with `id.secret.ca.trust`, open to its owner alone. */
  readonly tokenFile: string | undefined
  readonly stateDir: string
  /** The agent's own socket, for root. */
  readonly socket: string
  readonly allow: readonly Verb[]
  readonly sourceBuild: { readonly enabled: boolean; readonly leastMemoryBytes: number }
  /** "never": everything but the switch itself. */
  readonly activation: 'switch' | 'never'
  /** A made-up root folder to read the facts from. */
  readonly factsRoot: string | undefined
  /** Folder in which /run/current-system, /nix/var/nix/profiles and so on live; for simulated machines. */
  readonly systemRoot: string | undefined
  /** Where systems are built: /nix/store, or on a simulated machine without Nix a folder of its own. */
  readonly storeDir: string
  readonly simulated: boolean
  /** PATH for the tools the agent runs. */
  readonly toolPath: string
  /** Where a person at the machine reads why it waits: a device or file, "-" for standard error, "none". */
  readonly console: string
  /** Back-off between attempts, and how long one attempt to connect may take. */
  readonly retry: { readonly firstMs: number; readonly mostMs: number; readonly connectMs: number }
  readonly keyBits: number
  readonly factsEveryMs: number
  /** How long a build and a switch may take before they are ended, and how long a reboot may take to be seen as one. */
  readonly deadlines: {
    readonly buildMs: number
    readonly switchMs: number
    readonly bootMs: number
    /** How long a new Kubernetes may take until it is well. */
    readonly kubernetesMs: number
    /** How long a clock that is not set yet is waited for. */
    readonly clockMs: number
  }
  /** How far a restart that the coordinator announced may extend the wait for its confirmation, once an operation. */
  readonly restartBoundMs: number
  /** How many generations of the system profile stay; the oldest surplus ones go when room is needed. */
  readonly generations: { readonly keep: number }
  readonly logLevel: LogLevel
}

/** Where the agent keeps its state, and how long a reboot may take, where nothing else is said. */
export const DEFAULT_STATE_DIR = '/var/lib/muster-agent'
export const DEFAULT_BOOT_MS = 600_000
export const DEFAULT_CONFIG = '/etc/muster/agent.json'
export const DEFAULT_SOCKET = '/run/muster-agent/agent.sock'
const GIB = 1024 ** 3
export const NIX_STORE = '/nix/store'

/** Checks a configuration. `source` stands at the start of every message. */
export function parseConfig(source: string, value: unknown): AgentConfig {
  const fields = new ConfigFields(source, value)
  const pin = '64 lower-case hex characters, as `muster status` shows them'
  const retry = fields.inner('retry')
  const sourceBuild = fields.inner('sourceBuild')
  const deadlines = fields.inner('deadlines')
  const generations = fields.inner('generations')
  const simulated = fields.flag('simulated', false)
  const path = (name: string, fallback?: string) => {
    const text = fields.optionalText(name, 'a path') ?? fallback
    return text === undefined ? undefined : resolve(text)
  }
  const config: AgentConfig = {
    coordinator: fields.text(
      'coordinator',
      'host:port or [IPv6]:port of the enrolment listener',
      text => parseHostPort(text) !== undefined,
    ),
    caPin: fields.optionalText('caPin', pin, isDigest),
    trustPin: fields.optionalText('trustPin', pin, isDigest),
    tokenFile: path('tokenFile'),
    stateDir: path('stateDir', DEFAULT_STATE_DIR) ?? '',
    socket: path('socket', DEFAULT_SOCKET) ?? '',
    allow: fields.choices('allow', ['apply', 'join'], VERBS),
    sourceBuild: {
      enabled: sourceBuild.flag('enabled', true),
      leastMemoryBytes: sourceBuild.integer('leastMemoryBytes', 2 * GIB, 0, Number.MAX_SAFE_INTEGER),
    },
    activation: fields.choice('activation', 'switch', ['switch', 'never']),
    factsRoot: path('factsRoot'),
    systemRoot: path('systemRoot'),
    storeDir: path('storeDir', NIX_STORE) ?? '',
    simulated,
    toolPath: fields.optionalText('toolPath', 'a PATH', text => text.length > 0) ?? childPath(),
    console:
      fields.optionalText('console', 'a device or file, "-" or "none"') ??
      (simulated ? 'none' : '/dev/console'),
    retry: {
      firstMs: retry.integer('firstMs', 1_000, 1, 3_600_000),
      mostMs: retry.integer('mostMs', 300_000, 1, 86_400_000),
      connectMs: retry.integer('connectMs', 30_000, 100, 600_000),
    },
    keyBits: fields.integer('keyBits', 3072, 2048, 4096),
    factsEveryMs: fields.integer('factsEveryMs', 86_400_000, 1_000, 2_000_000_000),
    deadlines: {
      buildMs: deadlines.integer('buildMs', 6 * 3_600_000, 1_000, 2_000_000_000),
      switchMs: deadlines.integer('switchMs', 1_800_000, 1_000, 2_000_000_000),
      bootMs: deadlines.integer('bootMs', DEFAULT_BOOT_MS, 1_000, 2_000_000_000),
      kubernetesMs: deadlines.integer('kubernetesMs', 900_000, 1_000, 2_000_000_000),
      clockMs: deadlines.integer('clockMs', 600_000, 100, 2_000_000_000),
    },
    restartBoundMs: fields.integer('restartBoundMs', 300_000, 0, 86_400_000),
    generations: { keep: generations.integer('keep', 10, 2, 1_000) },
    logLevel: fields.choice('logLevel', 'info', LOG_LEVELS),
  }
  fields.finish()
  retry.finish()
  sourceBuild.finish()
  deadlines.finish()
  generations.finish()
  if (config.retry.firstMs > config.retry.mostMs) retry.fail('mostMs', 'must not be below retry.firstMs')
  if (Buffer.byteLength(config.socket) > MAX_SOCKET_BYTES) {
    fields.fail('socket', `must take at most ${MAX_SOCKET_BYTES} bytes, as all unix sockets`)
  }
  if ((config.factsRoot ?? config.systemRoot) !== undefined && !simulated) {
    fields.fail('simulated', 'must be true where factsRoot or systemRoot is given: such a machine is made up')
  }
  if (config.storeDir !== NIX_STORE && !simulated) {
    fields.fail('simulated', 'must be true where storeDir is given: a real machine builds into /nix/store')
  }
  return config
}

/** Reads the configuration file, lays what the command line says over it, and checks the whole. */
export async function loadConfig(path: string | undefined, flags: ConfigFlags = {}): Promise<AgentConfig> {
  const fromFile = path === undefined ? {} : await readJson(path)
  const source = path ?? 'command line'
  if (typeof fromFile !== 'object' || fromFile === null) return parseConfig(source, fromFile)
  return parseConfig(source, overlay(fromFile, flags))
}

/** What the command line may say, by the names of the file; one level of objects. */
export type ConfigFlags = { readonly [name: string]: unknown }

function overlay(base: object, flags: ConfigFlags): object {
  const merged = new Map<string, unknown>(Object.entries(base))
  for (const [name, value] of Object.entries(flags)) {
    const before = merged.get(name)
    const both = isPlain(before) && isPlain(value) ? { ...before, ...value } : value
    merged.set(name, both)
  }
  return Object.fromEntries(merged)
}

function isPlain(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

async function readJson(path: string): Promise<unknown> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    throw new ConfigError(`${path}: cannot be read: ${reasonOf(error)}`, { cause: error })
  }
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new ConfigError(`${path}: is not JSON: ${reasonOf(error)}`, { cause: error })
  }
}

/** What systemd tells a unit of how its command ended. */
export function unitEnvironment(): Readonly<Record<string, string | undefined>> {
  const { SERVICE_RESULT, EXIT_CODE, EXIT_STATUS } = process.env
  return { SERVICE_RESULT, EXIT_CODE, EXIT_STATUS }
}

const PASSED_ON = /^(HOME|USER|TMPDIR|(NIX|SSL|XDG|MUSTER)_[A-Z_]+)$/

/** What tools find in their environment beside PATH; nothing else of the agent's own reaches them. */
export function toolEnvironment(): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(process.env).flatMap(([name, value]) =>
      // What NIX_PATH names would count where a verified tree is all that may.
      PASSED_ON.test(name) && name !== 'NIX_PATH' && value !== undefined ? [[name, value] as const] : [],
    ),
  )
}

/** PATH of this process: a child gets the agent's tool path as its own. */
export function childPath(): string {
  return process.env.PATH ?? ''
}
