import { escapeText } from '../../shared/escape.ts'
import { Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import {
  type Rollout,
  type RolloutHost,
  RolloutHostState,
  RolloutState,
} from '../../shared/gen/muster/v1/rollout_pb.ts'
import { phaseName } from '../../shared/operation-names.ts'
import { millisOf } from '../../shared/time.ts'
import { formatDuration } from '../duration.ts'
import { paint, type Style } from '../output/colour.ts'

export interface ScreenLook {
  readonly columns: number
  readonly rows: number
  readonly colour: boolean
}

const STATE_WORDS: ReadonlyMap<RolloutState, string> = new Map([
  [RolloutState.RUNNING, 'running'],
  [RolloutState.PAUSED, 'paused'],
  [RolloutState.ENDING, 'ending'],
  [RolloutState.SUCCEEDED, 'succeeded'],
  [RolloutState.FAILED, 'failed'],
  [RolloutState.ABORTED, 'aborted'],
])

export function rolloutStateName(state: RolloutState): string {
  return STATE_WORDS.get(state) ?? 'unknown'
}

export function isRolloutOver({ state }: Pick<Rollout, 'state'>): boolean {
  return state === RolloutState.SUCCEEDED || state === RolloutState.FAILED || state === RolloutState.ABORTED
}

export function rolloutStyle(state: RolloutState): Style {
  if (state === RolloutState.SUCCEEDED) return 'good'
  if (state === RolloutState.FAILED) return 'bad'
  return state === RolloutState.RUNNING ? 'plain' : 'warn'
}

/** What a rollout does, for people: "apply revision 7". */
export function whatItDoes({ action, revision }: Pick<Rollout, 'action' | 'revision'>): string {
  return revision > 0n ? `${action} revision ${revision}` : action
}

/** What a host does or waits for, in a few words. */
export function hostWords(host: RolloutHost): string {
  const [wait] = host.waits
  const more = host.waits.length > 1 ? ` (+${host.waits.length - 1})` : ''
  switch (host.state) {
    case RolloutHostState.DONE:
      return 'done'
    case RolloutHostState.FAILED:
      return `failed: ${host.reason}`
    case RolloutHostState.LEFT:
      return host.reason === '' ? 'left behind' : `left behind: ${host.reason}`
    case RolloutHostState.MOVING: {
      if (wait) return `${host.step}: waits at ${wait.gate}: ${wait.reason}${more}`
      const phase = host.phase === Phase.UNSPECIFIED || host.outcome ? '' : ` · ${phaseName(host.phase)}`
      return `${host.step}${phase}`
    }
    case RolloutHostState.WAITING:
      return wait ? `waits at ${wait.gate}: ${wait.reason}${more}` : 'waits for its turn'
    case RolloutHostState.UNSPECIFIED:
      break
  }
  return 'unknown'
}

function hostStyle({ state, waits }: RolloutHost): Style {
  if (state === RolloutHostState.DONE) return 'good'
  if (state === RolloutHostState.FAILED) return 'bad'
  if (state === RolloutHostState.MOVING) return waits.length > 0 ? 'warn' : 'bold'
  return 'dim'
}

/** How far the host is, as steps that are behind it: prefetch, snapshot, drain, act, prove, soak, uncordon. */
const STEPS = ['prefetch', 'snapshot', 'drain', 'act', 'prove', 'soak', 'uncordon']

function hostBar(host: RolloutHost): string {
  if (host.state === RolloutHostState.DONE) return '■■■■■■■'
  if (host.state === RolloutHostState.FAILED) return '■■■×   '
  const known = STEPS.indexOf(host.step)
  const at = known === -1 ? STEPS.indexOf('act') : known
  if (host.state === RolloutHostState.MOVING) return `${'■'.repeat(at)}▸`.padEnd(STEPS.length, '·')
  return '·'.repeat(STEPS.length)
}

function wholeBar(counts: Readonly<Record<string, number>>, size: number, width: number): string {
  const share = (count: number) => (size === 0 ? 0 : Math.floor((count / size) * width))
  const done = share(counts.done ?? 0)
  const failed = Math.min(width - done, Math.max(counts.failed ? 1 : 0, share(counts.failed ?? 0)))
  const moving = Math.min(width - done - failed, Math.max(counts.moving ? 1 : 0, share(counts.moving ?? 0)))
  return `${'█'.repeat(done)}${'▒'.repeat(moving)}${'×'.repeat(failed)}${'·'.repeat(width - done - failed - moving)}`
}

/** One picture of a rollout that fits the screen: those that move first, then those that wait, those that are over last. */
export function renderRollout(rollout: Rollout, halted: string, nowMs: number, look: ScreenLook): string {
  const { colour, columns } = look
  const cut = (text: string) => escapeText(text).slice(0, Math.max(20, columns - 1))
  const started = millisOf(rollout.started) ?? nowMs
  const ended = millisOf(rollout.ended)
  const expected = millisOf(rollout.expectedEnd)
  const counts = ['done', 'moving', 'waiting', 'failed', 'left']
    .flatMap(name => (rollout.counts[name] ? [`${rollout.counts[name]} ${name}`] : []))
    .join(', ')
  const left =
    ended === undefined && expected !== undefined && expected > nowMs
      ? `, about ${formatDuration(expected - nowMs)} left`
      : ''
  const lines = [
    paint(
      cut(
        `rollout ${rollout.id}  ${whatItDoes(rollout)}  ${rolloutStateName(rollout.state)}${rollout.reason === '' ? '' : `: ${rollout.reason}`}`,
      ),
      rolloutStyle(rollout.state),
      colour,
    ),
    cut(
      `[${wholeBar(rollout.counts, rollout.size, Math.min(50, Math.max(10, columns - 50)))}] ${counts}; ${formatDuration((ended ?? nowMs) - started)}${left}`,
    ),
    ...(halted === '' ? [] : [paint(cut(`halted: ${halted}`), 'bad', colour)]),
    '',
  ]
  const order: readonly RolloutHostState[] = [
    RolloutHostState.MOVING,
    RolloutHostState.FAILED,
    RolloutHostState.WAITING,
    RolloutHostState.LEFT,
    RolloutHostState.DONE,
  ]
  const hosts = rollout.hosts.toSorted(
    (a, b) => order.indexOf(a.state) - order.indexOf(b.state) || a.wave - b.wave,
  )
  const room = Math.max(5, look.rows - lines.length - 2)
  const shown = hosts.slice(0, hosts.length > room ? room - 1 : room)
  const width = Math.max(4, ...shown.map(({ host }) => host.length))
  for (const host of shown) {
    const since = millisOf(host.since)
    const age =
      since === undefined || host.state === RolloutHostState.WAITING
        ? ''
        : formatDuration(Math.max(0, nowMs - since))
    const text = `${host.host.padEnd(width)}  ${hostBar(host)}  ${age.padEnd(7)} ${hostWords(host)}`
    lines.push(paint(cut(text), hostStyle(host), colour))
  }
  if (shown.length < hosts.length) {
    const rest = hosts.slice(shown.length)
    const by = new Map<string, number>()
    for (const host of rest) {
      const word = host.state === RolloutHostState.DONE ? 'done' : (host.waits[0]?.gate ?? 'waiting')
      by.set(word, (by.get(word) ?? 0) + 1)
    }
    lines.push(
      cut(`and ${rest.length} more: ${[...by].map(([word, count]) => `${count} ${word}`).join(', ')}`),
    )
  }
  return `${lines.join('\n')}\n`
}
