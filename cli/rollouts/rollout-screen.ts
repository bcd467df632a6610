import { escapeText } from '../../shared/escape.ts'
import type { HostStanding, Rollout, RolloutHost } from '../../shared/gen/muster/v1/rollout_pb.ts'
import { millisOf } from '../../shared/time.ts'
import { formatDuration } from '../duration.ts'
import { paint } from '../output/colour.ts'
import { cutToWidth, textWidth } from '../output/text-width.ts'
import { fitHosts, type ScreenLine } from './fit-hosts.ts'
import { pendingWords, rolloutStateName, rolloutStyle, whatItDoes } from './rollout-words.ts'

export interface ScreenLook {
  /** Of the terminal: no line is as long, and there are not more lines. */
  readonly columns: number
  readonly rows: number
  readonly colour: boolean
}

export interface AboutRollout {
  /** Why nothing is begun at all; empty: nothing is in the way. */
  readonly halted: string
  /** Hosts for which a rollout would be begun by itself, that this one left or that wait because of it. */
  readonly pending: readonly HostStanding[]
}

const LEAST_BAR = 10
const MOST_BAR = 50

/**
 * One picture of a rollout that fits the screen: the rollout, its bar, how long it takes, and every host. Those that move, failed or are
 * held for themselves have lines of their own while there is any room for them; those that are done or wait for their turn are put
 * together by what they do when there is not.
 */
export function renderRollout(
  rollout: Rollout,
  { halted, pending }: AboutRollout,
  nowMs: number,
  look: ScreenLook,
): string {
  // A line as wide as the terminal would leave the cursor on the next one.
  const columns = Math.max(20, look.columns - 1)
  const safe = (text: string) => cutToWidth(escapeText(text), columns)
  const reason = rollout.reason === '' ? '' : `: ${rollout.reason}`
  const title = `rollout ${rollout.id}  ${whatItDoes(rollout)}  ${rolloutStateName(rollout.state)}${reason}`
  const lines: ScreenLine[] = [{ text: safe(title), style: rolloutStyle(rollout.state) }]
  for (const text of barLines(rollout, nowMs, columns)) lines.push({ text, style: 'plain' })
  if (halted !== '') lines.push({ text: safe(`halted: ${halted}`), style: 'bad' })
  const [first] = pending
  if (first) {
    const more = pending.length > 1 ? ` (and ${pending.length - 1} more)` : ''
    lines.push({ text: safe(`not begun: ${pendingWords(first)}${more}`), style: 'warn' })
  }
  const rows = Math.max(1, look.rows - lines.length)
  lines.push(...fitHosts(rollout.hosts.map(escaped), nowMs, { columns, rows }))
  const fitting = lines.slice(0, Math.max(1, look.rows))
  return fitting.map(({ text, style }) => `${paint(text, style, look.colour)}\n`).join('')
}

/** The bar beside how many there are and how long it takes; below each other where there is no room for both. */
function barLines(rollout: Rollout, nowMs: number, columns: number): readonly string[] {
  const ended = millisOf(rollout.ended)
  const started = millisOf(rollout.started) ?? nowMs
  const expected = millisOf(rollout.expectedEnd)
  const counts = ['done', 'moving', 'waiting', 'failed', 'left']
    .flatMap(name => (rollout.counts[name] ? [`${rollout.counts[name]} ${name}`] : []))
    .join(', ')
  const left =
    ended === undefined && expected !== undefined && expected > nowMs
      ? `, about ${formatDuration(expected - nowMs)} left`
      : ''
  const text = `${counts}; ${formatDuration((ended ?? nowMs) - started)}${left}`
  const beside = columns - textWidth(text) - 3
  const bar = (width: number) => `[${wholeBar(rollout.counts, rollout.size, Math.min(MOST_BAR, width))}]`
  return beside >= LEAST_BAR
    ? [`${bar(beside)} ${text}`]
    : [bar(Math.max(LEAST_BAR, columns - 2)), cutToWidth(text, columns)]
}

function wholeBar(counts: Readonly<Record<string, number>>, size: number, width: number): string {
  const all = Math.max(size, 1, ...Object.values(counts))
  const share = (count: number) => Math.floor((count / all) * width)
  const done = share(counts.done ?? 0)
  const failed = Math.min(width - done, Math.max(counts.failed ? 1 : 0, share(counts.failed ?? 0)))
  const moving = Math.min(width - done - failed, Math.max(counts.moving ? 1 : 0, share(counts.moving ?? 0)))
  return `${'█'.repeat(done)}${'▒'.repeat(moving)}${'×'.repeat(failed)}${'·'.repeat(width - done - failed - moving)}`
}

/** What is counted in columns is what is shown. */
function escaped(host: RolloutHost): RolloutHost {
  return {
    ...host,
    host: escapeText(host.host),
    step: escapeText(host.step),
    reason: escapeText(host.reason),
    waits: host.waits.map(wait => ({
      ...wait,
      gate: escapeText(wait.gate),
      reason: escapeText(wait.reason),
    })),
  }
}
