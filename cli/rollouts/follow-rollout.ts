import { status } from '@grpc/grpc-js'
import { escapeText } from '../../shared/escape.ts'
import {
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
import { plainOf } from '../output/plain.ts'
import { hostWords, isRolloutOver, renderRollout, rolloutStateName, whatItDoes } from './rollout-screen.ts'

/** How a rollout is shown while it goes on. */
export type FollowLook = 'screen' | 'lines' | 'json' | 'quiet'

const REDRAW_MS = 1_000
const SCREEN_ROWS = 50

/** On a terminal a screen that is redrawn, elsewhere a line for each change. */
export function lookOf({ io }: Pick<Cli, 'io'>): FollowLook {
  return io.errIsTerminal ? 'screen' : 'lines'
}

/**
 * Follows a rollout until it is over, and shows it on standard error, or as JSON lines on standard output. A coordinator that goes away
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
      for await (const { rollout, halted } of client.watchRollout({ id }, { signal })) {
        if (!rollout) continue
        attempt = 0
        const whole = view.update(rollout, halted)
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
  #drawn = 0

  constructor(cli: Cli, look: FollowLook) {
    this.#cli = cli
    this.#look = look
    if (look !== 'screen') return
    // Unref'd: it must not keep the process alive. It only lets the durations go on.
    this.#timer = setInterval(() => this.#draw(), REDRAW_MS)
    this.#timer.unref()
  }

  update(rollout: Rollout, halted: string): Rollout {
    for (const host of rollout.hosts) this.#hosts.set(host.host, host)
    const whole = { ...rollout, hosts: [...this.#hosts.values()] }
    this.#newest = whole
    this.#halted = halted
    switch (this.#look) {
      case 'json':
        this.#cli.io.out(`${JSON.stringify({ ...plainOf(RolloutSchema, rollout), halted })}\n`)
        break
      case 'screen':
        this.#draw()
        break
      case 'lines':
        this.#lines(rollout)
        break
      case 'quiet':
        break
    }
    return whole
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
    // What was seen last stays on the screen.
  }

  #lines(rollout: Rollout): void {
    const say = (key: string, text: string) => {
      if (this.#said.get(key) === text) return
      this.#said.set(key, text)
      this.#cli.io.err(`${escapeText(text)}\n`)
    }
    const reason = rollout.reason === '' ? '' : `: ${rollout.reason}`
    say('', `rollout ${rollout.id} (${whatItDoes(rollout)}): ${rolloutStateName(rollout.state)}${reason}`)
    if (this.#halted !== '') say('halted', `halted: ${this.#halted}`)
    for (const host of rollout.hosts) say(host.host, `${host.host}: ${hostWords(host)}`)
  }

  #draw(): void {
    const { io, clock, settings } = this.#cli
    if (!this.#newest) return
    const look = { columns: io.columns, rows: SCREEN_ROWS, colour: !settings.noColour }
    const picture = renderRollout(this.#newest, this.#halted, clock.now().getTime(), look)
    const erase = this.#drawn > 0 ? `\u001b[${this.#drawn}A\u001b[J` : ''
    io.err(`${erase}${picture}`)
    this.#drawn = picture.split('\n').length - 1
  }
}

/** Ends the command as the rollout ended. */
export function exitForRollout(rollout: Rollout): void {
  const done = rollout.counts.done ?? 0
  switch (rollout.state) {
    case RolloutState.SUCCEEDED:
      if ((rollout.counts.left ?? 0) > 0) throw new CliError('partial', rollout.reason)
      return
    case RolloutState.FAILED:
      throw new CliError(done > 0 ? 'partial' : 'failed', `rollout ${rollout.id} failed: ${rollout.reason}`)
    case RolloutState.ABORTED:
      throw new CliError(
        done > 0 ? 'partial' : 'refused',
        `rollout ${rollout.id} was ended: ${rollout.reason}`,
      )
    case RolloutState.UNSPECIFIED:
    case RolloutState.RUNNING:
    case RolloutState.PAUSED:
    case RolloutState.ENDING:
      throw new CliError('unknown', `rollout ${rollout.id} is ${rolloutStateName(rollout.state)}`)
  }
}
