import { isIP } from 'node:net'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { reasonOf } from '../../shared/errors.ts'

export interface StartOptions {
  readonly kind: 'start'
  readonly state: string
  /** Undefined: the usual one, or another free one. */
  readonly enrolmentPort: number | undefined
  readonly fleetPort: number | undefined
  /** The address to listen on. */
  readonly listen: string
}

export interface DemoOptions {
  readonly kind: 'demo'
  /** End after the walk. */
  readonly exit: boolean
  /** Leave the folder with everything that happened. */
  readonly keep: boolean
}

export class OptionError extends Error {
  override readonly name = 'OptionError'
}

export const HELP = `npm start: Muster on this machine, to try it

  npm start                      a coordinator, and an agent that enrols this machine with it
  npm start -- --demo            a walk through everything, with five more machines that are made up

Options of a start (npm start -- OPTIONS):
  --state DIR                    where everything is kept ($XDG_STATE_HOME/muster, or ~/.local/state/muster)
  --enrolment-port N             where machines enrol (7443, or another free one)
  --fleet-port N                 where enrolled machines and operators connect (7444, or another free one)
  --listen ADDRESS               the address to listen on (127.0.0.1); 0.0.0.0 lets other machines in

Options of the demo:
  --exit                         end after the walk: 0 only when every step was seen to work
  --keep                         leave the demo's folder behind

Neither ever activates anything on this machine. Ctrl-C stops all of it.
`

/** Takes the command line apart. Throws an OptionError that says what would be right. */
export function readOptions(
  argv: readonly string[],
  environment: Readonly<Record<string, string | undefined>> = process.env,
): StartOptions | DemoOptions | { readonly kind: 'help' } {
  const values = parse(argv)
  if (values.help) return { kind: 'help' }
  const { state, demo, exit = false, keep = false, listen } = values
  const ports = { enrolmentPort: values['enrolment-port'], fleetPort: values['fleet-port'] }
  if (demo) {
    const given = Object.entries({ state, listen, ...ports }).filter(([, value]) => value !== undefined)
    if (given.length > 0) {
      throw new OptionError(
        '--demo has a folder and ports of its own: of the options only --exit and --keep are for it',
      )
    }
    return { kind: 'demo', exit, keep }
  }
  if (exit || keep) throw new OptionError(`${exit ? '--exit' : '--keep'} is for --demo`)
  if (listen !== undefined && isIP(listen) === 0) {
    throw new OptionError(`--listen ${listen}: must be an IP address, such as 127.0.0.1 or 0.0.0.0`)
  }
  const [enrolmentPort, fleetPort] = [
    portOf('--enrolment-port', ports.enrolmentPort),
    portOf('--fleet-port', ports.fleetPort),
  ]
  if (enrolmentPort !== undefined && enrolmentPort === fleetPort) {
    throw new OptionError('--enrolment-port and --fleet-port: must differ')
  }
  return {
    kind: 'start',
    state: resolve(state ?? defaultState(environment)),
    enrolmentPort,
    fleetPort,
    listen: listen ?? '127.0.0.1',
  }
}

/** By the XDG specification, a relative path there counts as not set. */
function defaultState({
  XDG_STATE_HOME: xdg,
  HOME: home,
}: Readonly<Record<string, string | undefined>>): string {
  return join(xdg?.startsWith('/') ? xdg : join(home || homedir(), '.local/state'), 'muster')
}

function parse(argv: readonly string[]) {
  const text = { type: 'string' } as const
  const flag = { type: 'boolean' } as const
  try {
    return parseArgs({
      args: [...argv],
      options: {
        help: { type: 'boolean', short: 'h' },
        state: text,
        'enrolment-port': text,
        'fleet-port': text,
        listen: text,
        demo: flag,
        exit: flag,
        keep: flag,
      },
    }).values
  } catch (error) {
    throw new OptionError(reasonOf(error), { cause: error })
  }
}

function portOf(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0
  if (port < 1 || port > 65_535) throw new OptionError(`${name} ${text}: must be a number from 1 to 65535`)
  return port
}
