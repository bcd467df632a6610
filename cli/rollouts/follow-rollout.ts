import { status } from '@grpc/grpc-js'
import { escapeText } from '../../shared/escape.ts'
import {
  type HostStanding,
  HostStandingSchema,
  type Rollout,
  type RolloutHost,
  RolloutSchema,
  RolloutService,
  RolloutState,
} from '../../shared/gen/muster/v1/rollout_pb.ts'
import { DeadlineError, pause, withDeadline } from '../../shared/lifecycle.ts'
import { backoffMs } from '../../shared/retry.ts'
import { RpcError } from '../../shared/rpc/rpc-error.ts'
import type { Cli } from '../cli.ts'
import type { Connection } from '../connect.ts'
import { formatDuration } from '../duration.ts'
import { CliError } from '../exit-codes.ts'
import { LiveScreen } from '../output/live-screen.ts'
import { plainOf } from '../output/plain.ts'
import { renderRollout } from './rollout-screen.ts'
import { hostWords, isRolloutOver, pendingWords, rolloutStateName, whatItDoes } from './rollout-words.ts'

/** How a rollout is shown while it goes on. `told`: lines on standard output, for whoever asked for nothing else. */
export type FollowLook = 'screen' | 'lines' | 'told' | 'json' | 'quiet'

const REDRAW_MS = 1_000

/** On a terminal a screen that is redrawn, elsewhere a line for each change. */
export function lookOf({ io }: Pick<Cli, 'io'>): FollowLook {
  return io.errIsTerminal ? 'screen' : 'lines'
}

/** The same where the rollout is all that is shown: whoever takes the output elsewhere is told it there. */
export function watchLookOf({ io }: Pick<Cli, 'io'>): FollowLook {
  return io.errIsTerminal && io.outIsTerminal ? 'screen' : 'told'
}

/**
 * Follows a rollout until it is over, and shows it on standard error, or on standard output as lines that are told or as JSON. A coordinator that goes away
 * is waited for, until the deadline. The answer is the rollout at its end.
 */
export async function followRollout(
  cli: Cli,
  connection: Connection,
  id: string,
  { look, timeoutMs }: { readonly look: FollowLook; readonly timeoutMs: number | undefined },
): Promise<Rollout> {
  const view = new View(cli, look)
  using _ = view
  try {
    return timeoutMs === undefined
      ? await watchToEnd(connection, id, cli.signal, view)
      : await withDeadline(timeoutMs, cli.signal, signal => watchToEnd(connection, id, signal, view))
  } catch (error) {
    const how = `rollout ${id} goes on; look with \`muster rollout watch ${id}\``
    if (error instanceof DeadlineError) {
      const text = `not done within ${formatDuration(timeoutMs ?? 0)}: ${how}`
      throw new CliError('unavailable', text, { cause: error })
    }
    if (cli.signal.aborted) throw new CliError('interrupted', `stopped watching: ${how}`)
    throw error
  }
}

async function watchToEnd(
  connection: Connection,
  id: string,
  signal: AbortSignal,
  view: View,
): Promise<Rollout> {
  const client = connection.service(RolloutService)
  for (let attempt = 0; ; attempt += 1) {
    try {
      for await (const { rollout, halted, pending } of client.watchRollout({ id }, { signal })) {
        if (!rollout) continue
        attempt = 0
        const whole = view.update(rollout, halted, pending)
        if (isRolloutOver(whole)) return whole
      }
    } catch (error) {
      if (!(error instanceof RpcError && error.code === status.UNAVAILABLE)) throw error
    }
    if (!(await pause(backoffMs(attempt, { firstMs: 250, mostMs: 5_000 }), signal))) {
      throw new CliError('interrupted', 'stopped')
    }
  }
}

/** Puts what changed together, and shows it. */
class View implements Disposable {
  readonly #cli: Cli
  readonly #look: FollowLook
  readonly #hosts = new Map<string, RolloutHost>()
  readonly #said = new Map<string, string>()
  readonly #timer: NodeJS.Timeout | undefined
  #newest: Rollout | undefined
  #halted = ''
  #pending: readonly HostStanding[] = []
  readonly #screen: LiveScreen | undefined

  constructor(cli: Cli, look: FollowLook) {
    this.#cli = cli
    this.#look = look
    if (look !== 'screen') return
    const screen = new LiveScreen(cli.io, size => this.#picture(size))
    this.#screen = screen
    // Unref'd: it must not keep the process alive. It only lets the durations go on.
    this.#timer = setInterval(() => screen.draw(), REDRAW_MS)
    this.#timer.unref()
  }

  update(rollout: Rollout, halted: string, pending: readonly HostStanding[]): Rollout {
    for (const host of rollout.hosts) this.#hosts.set(host.host, host)
    const whole = { ...rollout, hosts: [...this.#hosts.values()] }
    this.#newest = whole
    this.#halted = halted
    this.#pending = pending
    switch (this.#look) {
      case 'json':
        this.#cli.io.out(
          `${JSON.stringify({ ...plainOf(RolloutSchema, rollout), halted, pending: pending.map(one => plainOf(HostStandingSchema, one)) })}\n`,
        )
        break
      case 'screen':
        this.#screen?.draw()
        break
      case 'lines':
        this.#lines(rollout, text => this.#cli.io.err(text))
        break
      case 'told':
        this.#lines(rollout, text => this.#cli.io.out(text))
        break
      case 'quiet':
        break
    }
    return whole
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
    this.#screen?.[Symbol.dispose]()
  }

  #lines(rollout: Rollout, write: (text: string) => void): void {
    const say = (key: string, text: string) => {
      if (this.#said.get(key) === text) return
      this.#said.set(key, text)
      write(`${escapeText(text)}\n`)
    }
    const reason = rollout.reason === '' ? '' : `: ${rollout.reason}`
    say('', `rollout ${rollout.id} (${whatItDoes(rollout)}): ${rolloutStateName(rollout.state)}${reason}`)
    if (this.#halted !== '') say('halted', `halted: ${this.#halted}`)
    for (const host of rollout.hosts) say(host.host, `${host.host}: ${hostWords(host)}`)
    for (const one of this.#pending) say(`${one.host} pending`, pendingWords(one))
  }

  #picture({ columns, rows }: Cli['io']['screen']): string {
    const { clock, settings } = this.#cli
    if (!this.#newest) return ''
    const look = { columns, rows, colour: !settings.noColour }
    const about = { halted: this.#halted, pending: this.#pending }
    return renderRollout(this.#newest, about, clock.now().getTime(), look)
  }
}

/**
 * Ends the command as the rollout ended, by the rule of `exitForOutcomes`: when no host got there it failed if one of them did, else it
 * was refused, for whoever was left behind was not touched.
 */
export function exitForRollout(rollout: Rollout): void {
  const { id, state, reason, counts } = rollout
  if (!isRolloutOver(rollout)) throw new CliError('unknown', `rollout ${id} is ${rolloutStateName(state)}`)
  const isWhole = state === RolloutState.SUCCEEDED && (counts.left ?? 0) === 0
  if (isWhole) return
  const none = (counts.failed ?? 0) > 0 ? 'failed' : 'refused'
  const how = state === RolloutState.FAILED ? 'failed' : 'was ended'
  const text = state === RolloutState.SUCCEEDED ? reason : `rollout ${id} ${how}: ${reason}`
  throw new CliError((counts.done ?? 0) > 0 ? 'partial' : none, text)
}
