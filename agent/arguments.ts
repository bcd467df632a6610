import { parseArgs } from 'node:util'
import { reasonOf } from '../shared/errors.ts'
import { type ConfigFlags, DEFAULT_CONFIG, DEFAULT_SOCKET } from './config.ts'
import { ConfigError } from './config-fields.ts'

export type Arguments =
  | { readonly command: 'help' | 'version' }
  | { readonly command: 'run'; readonly configFile: string | undefined; readonly flags: ConfigFlags }
  | { readonly command: 'status'; readonly socket: string; readonly json: boolean }
  | { readonly command: 'trust-set'; readonly socket: string; readonly file: string }
  /** Root's own orders on this machine. */
  | {
      readonly command: 'order'
      readonly socket: string
      readonly verb: LocalVerb
      readonly argument: string
    }
  | { readonly command: 'confirm'; readonly socket: string; readonly operation: string }
  /** Run by units that this agent makes, and by none else. */
  | { readonly command: 'mark'; readonly which: 'start' | 'end'; readonly slot: string }
  | {
      readonly command: 'return' | 'trigger'
      readonly stateDir: string
      readonly operation: string
      readonly round: number
    }
  | { readonly command: 'unit'; readonly stateDir: string; readonly unit: string }
  /** Run once at every boot. */
  | {
      readonly command: (typeof AT_BOOT)[number]
      readonly configFile: string
      readonly flags: ConfigFlags
    }

export const LOCAL_VERBS = ['rollback', 'reboot', 'restart', 'hold', 'resume', 'retry'] as const
export type LocalVerb = (typeof LOCAL_VERBS)[number]

export const HELP = `muster-agent: enrols this machine into its fleet and moves it to signed revisions

  muster-agent [run] [--config FILE] [options]   run until SIGTERM (default file: ${DEFAULT_CONFIG})
  muster-agent status [--socket PATH] [--json]   what the agent on this machine is and does
  muster-agent trust set FILE [--socket PATH]    replace the trust set, when the signing keys are lost
  muster-agent rollback [OPERATION]              go back to what OPERATION reached; without one, to what ran before the last
  muster-agent reboot                            boot this machine anew
  muster-agent restart                           restart the Kubernetes of this machine
  muster-agent hold [REASON]                     obey no order but resume, retry and plan from now on
  muster-agent resume                            obey again
  muster-agent retry                             let what failed here be tried again
  muster-agent confirm [OPERATION]               confirm the change that waits for it, in the coordinator's place
  muster-agent dead-man [--config FILE]          put right what a boot finds unconfirmed; run by its unit at every boot
  muster-agent trial-limit [--config FILE]       end a trial boot that hangs before the dead man; run by its unit at every boot
  muster-agent cluster-secrets [--config FILE]   open what units of Kubernetes need; run by its unit at every boot
  muster-agent facts [--root DIR]                read this machine's facts and print them, serialised
  muster-agent rule [--root DIR]                 evaluate the rule on standard input over the facts
  muster-agent --version, --help

Options of run, each also a field of the file; they win over it and are taken by dead-man, trial-limit and cluster-secrets, too:
  --coordinator HOST:PORT    the coordinator's enrolment listener
  --ca-pin HEX               SHA-256 of the coordinator's authority
  --trust-pin HEX            SHA-256 of the fleet's trust set
  --token-file FILE          a root-only file with an enrolment token
  --state-dir DIR            the one directory that must survive a reboot; on a file system with hard links
  --socket PATH              the agent's own socket, for root
  --allow VERB,VERB          what a coordinator may order here (default: apply,join)
  --source-build BOOL        whether this node may build revisions itself
  --least-memory-bytes N     least memory for building from source
  --activation switch|never  never: everything but the switch itself
  --simulated                this machine is made up
  --facts-root DIR           a made-up root folder to read the facts from
  --system-root DIR          folder that stands for / of a made-up system
  --tool-path PATH           where the tools are that the agent runs
  --console FILE             where a waiting machine says why; "-" for standard error, "none"
  --retry-first-ms N         shortest back-off
  --retry-most-ms N          longest back-off
  --connect-ms N             how long one attempt to connect may take
  --build-ms N               how long a build may take
  --switch-ms N              how long a switch may take
  --boot-ms N                how long a reboot may take
  --kubernetes-ms N          how long a new Kubernetes may take until it is well
  --clock-ms N               how long a clock that is not set yet is waited for
  --restart-bound-ms N       how far an announced restart of the coordinator may extend the wait for it
  --keep-generations N       how many generations of the system stay
  --facts-every-ms N         how often facts are read afresh
  --key-bits N               size of the machine's key, 2048 to 4096
  --log-level LEVEL          debug, info, warn or error
`

const text = { type: 'string' } as const
const flag = { type: 'boolean' } as const

export const OPTIONS = {
  help: { type: 'boolean', short: 'h' },
  version: flag,
  json: flag,
  config: text,
  coordinator: text,
  'ca-pin': text,
  'trust-pin': text,
  'token-file': text,
  'state-dir': text,
  socket: text,
  allow: text,
  'source-build': text,
  'least-memory-bytes': text,
  activation: text,
  simulated: flag,
  'facts-root': text,
  'system-root': text,
  'tool-path': text,
  console: text,
  'retry-first-ms': text,
  'retry-most-ms': text,
  'connect-ms': text,
  'build-ms': text,
  'switch-ms': text,
  'boot-ms': text,
  'kubernetes-ms': text,
  'clock-ms': text,
  'restart-bound-ms': text,
  'keep-generations': text,
  'facts-every-ms': text,
  'key-bits': text,
  'log-level': text,
  // Said by units of the agent's own making alone.
  operation: text,
  round: text,
} as const

/** Takes the command line apart. Throws a ConfigError that says what would be right. */
export function readArguments(argv: readonly string[]): Arguments {
  let parsed: ReturnType<typeof parse>
  try {
    parsed = parse(argv)
  } catch (error) {
    throw new ConfigError(`${reasonOf(error)}\nmuster-agent --help lists what there is`, { cause: error })
  }
  const { values, positionals } = parsed
  if (values.help) return { command: 'help' }
  if (values.version) return { command: 'version' }
  const socket = values.socket ?? DEFAULT_SOCKET
  const [first = 'run', second, file, ...rest] = positionals
  if (first === 'run' && second === undefined) {
    // With everything said on the command line no file is needed.
    const configFile = values.config ?? (values.coordinator === undefined ? DEFAULT_CONFIG : undefined)
    return { command: 'run', configFile, flags: toFlags(values) }
  }
  if (first === 'status' && second === undefined) {
    return { command: 'status', socket, json: values.json ?? false }
  }
  if (first === 'trust' && second === 'set' && file !== undefined && rest.length === 0) {
    return { command: 'trust-set', socket, file }
  }
  const atBoot = AT_BOOT.find(one => one === first)
  if (atBoot !== undefined && second === undefined) {
    return { command: atBoot, configFile: values.config ?? DEFAULT_CONFIG, flags: toFlags(values) }
  }
  if (first === 'confirm' && file === undefined)
    return { command: 'confirm', socket, operation: second ?? '' }
  const verb = LOCAL_VERBS.find(one => one === first)
  if (verb !== undefined && file === undefined && (second === undefined || TAKES_WORD.includes(verb))) {
    return { command: 'order', socket, verb, argument: second ?? '' }
  }
  const internal = readInternal(first, second, file, values)
  if (internal && rest.length === 0) return internal
  throw new ConfigError(`unknown command: ${positionals.join(' ')}\nmuster-agent --help lists what there is`)
}

/** What units run once at every boot. */
const AT_BOOT = ['dead-man', 'trial-limit', 'cluster-secrets'] as const

const TAKES_WORD: readonly LocalVerb[] = ['rollback', 'hold']

/** What only this agent's own units call. */
function readInternal(
  first: string,
  second: string | undefined,
  third: string | undefined,
  values: Values,
): Arguments | undefined {
  const stateDir = values['state-dir']
  if (first === 'mark' && (second === 'start' || second === 'end') && third !== undefined) {
    return { command: 'mark', which: second, slot: third }
  }
  if (first === 'unit' && stateDir !== undefined && second !== undefined && third === undefined) {
    return { command: 'unit', stateDir, unit: second }
  }
  const { operation, round = '' } = values
  if ((first === 'return' || first === 'trigger') && second === undefined && stateDir !== undefined) {
    if (operation === undefined || !/^[1-9]\d{0,5}$/.test(round)) return undefined
    return { command: first, stateDir, operation, round: Number(round) }
  }
  return undefined
}

function parse(argv: readonly string[]) {
  return parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: OPTIONS,
  })
}

type Values = ReturnType<typeof parse>['values']

/** The options by the names that the file has, absent where nothing was said. */
function toFlags(values: Values): ConfigFlags {
  return present({
    coordinator: values.coordinator,
    caPin: values['ca-pin'],
    trustPin: values['trust-pin'],
    tokenFile: values['token-file'],
    stateDir: values['state-dir'],
    socket: values.socket,
    allow: values.allow?.split(',').filter(verb => verb !== ''),
    sourceBuild: group({
      enabled: bool(values['source-build']),
      leastMemoryBytes: number(values['least-memory-bytes']),
    }),
    activation: values.activation,
    simulated: values.simulated,
    factsRoot: values['facts-root'],
    systemRoot: values['system-root'],
    toolPath: values['tool-path'],
    console: values.console,
    retry: group({
      firstMs: number(values['retry-first-ms']),
      mostMs: number(values['retry-most-ms']),
      connectMs: number(values['connect-ms']),
    }),
    deadlines: group({
      buildMs: number(values['build-ms']),
      switchMs: number(values['switch-ms']),
      bootMs: number(values['boot-ms']),
      kubernetesMs: number(values['kubernetes-ms']),
      clockMs: number(values['clock-ms']),
    }),
    restartBoundMs: number(values['restart-bound-ms']),
    generations: group({ keep: number(values['keep-generations']) }),
    factsEveryMs: number(values['facts-every-ms']),
    keyBits: number(values['key-bits']),
    logLevel: values['log-level'],
  })
}

function present(fields: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined))
}

function group(fields: Readonly<Record<string, unknown>>): Record<string, unknown> | undefined {
  const given = present(fields)
  return Object.keys(given).length === 0 ? undefined : given
}

/** What is no number stays text, and is refused with the field's name. */
function number(given: string | undefined): number | string | undefined {
  return given !== undefined && /^\d+$/.test(given) ? Number(given) : given
}

function bool(given: string | undefined): boolean | string | undefined {
  return given === 'true' || given === 'false' ? given === 'true' : given
}
