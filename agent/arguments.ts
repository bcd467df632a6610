import { parseArgs } from 'node:util'
import { reasonOf } from '../shared/errors.ts'
import { type ConfigFlags, DEFAULT_CONFIG, DEFAULT_SOCKET } from './config.ts'
import { ConfigError } from './config-fields.ts'

export type Arguments =
  | { readonly command: 'help' | 'version' }
  | { readonly command: 'run'; readonly configFile: string | undefined; readonly flags: ConfigFlags }
  | { readonly command: 'status'; readonly socket: string; readonly json: boolean }
  | { readonly command: 'trust-set'; readonly socket: string; readonly file: string }

export const HELP = `muster-agent: enrols this machine into its fleet and moves it to signed revisions

  muster-agent [run] [--config FILE] [options]   run until SIGTERM (default file: ${DEFAULT_CONFIG})
  muster-agent status [--socket PATH] [--json]   what the agent on this machine is and does
  muster-agent trust set FILE [--socket PATH]    replace the trust set, when the signing keys are lost
  muster-agent facts [--root DIR]                read this machine's facts and print them, serialised
  muster-agent rule [--root DIR]                 evaluate the rule on standard input over the facts

Options of run, each also a field of the file; they win over it:
  --coordinator HOST:PORT    the coordinator's enrolment listener
  --ca-pin HEX               SHA-256 of the coordinator's authority
  --trust-pin HEX            SHA-256 of the fleet's trust set
  --token-file FILE          a root-only file with an enrolment token
  --state-dir DIR            the one directory that must survive a reboot
  --socket PATH              the agent's own socket, for root
  --allow VERB,VERB          what a coordinator may order here (default: apply)
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
  --build-ms N, --switch-ms N  how long a build and a switch may take
  --boot-ms N                how long a reboot may take
  --restart-bound-ms N       how far an announced restart of the coordinator may extend the wait for it
  --keep-generations N       how many generations of the system stay
  --facts-every-ms N         how often facts are read afresh
  --key-bits N               size of the machine's key, 2048 to 4096
  --log-level LEVEL          debug, info, warn or error
`

const text = { type: 'string' } as const
const flag = { type: 'boolean' } as const

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
  throw new ConfigError(`unknown command: ${positionals.join(' ')}\nmuster-agent --help lists what there is`)
}

function parse(argv: readonly string[]) {
  return parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
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
      'restart-bound-ms': text,
      'keep-generations': text,
      'facts-every-ms': text,
      'key-bits': text,
      'log-level': text,
    },
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
