import { type RolloutHost, RolloutHostState } from '../../shared/gen/muster/v1/rollout_pb.ts'
import { formatDuration } from '../duration.ts'
import type { Style } from '../output/colour.ts'
import { cutToWidth, padToWidth, textWidth, wrapWords } from '../output/text-width.ts'
import { awaitsItsTurn, foremostWait, hostStyle, hostWords, sinceMsOf, stepWords } from './rollout-words.ts'

/** One line of a picture. Its text fits the width, and is not escaped again. */
export interface ScreenLine {
  readonly text: string
  readonly style: Style
}

export interface Room {
  readonly columns: number
  readonly rows: number
}

/** Kinds of hosts in the order in which they are shown. */
const KINDS = ['moving', 'failed', 'held', 'fetching', 'turn', 'left', 'done'] as const
type Kind = (typeof KINDS)[number]
/** What is put together first where there is too little room, to what is put together last. */
const FOLDS: readonly Kind[] = ['done', 'turn', 'fetching', 'left', 'held', 'failed', 'moving']
/** Lines that the words of one host may take. */
const MOST_WRAPPED = 3

/** How hosts are shown: each on lines of its own, or those of a kind that do the same together, by their names. */
interface Form {
  readonly folded: ReadonlySet<Kind>
  readonly wrapped: boolean
  /** Of those together only the kind is told, and not the reason. */
  readonly coarse: boolean
  /** Lines for the names of those together. */
  readonly nameLines: number
}

/** Hosts on so many rows. Nobody is left out while there is any form that has room for all. */
export function fitHosts(hosts: readonly RolloutHost[], nowMs: number, room: Room): readonly ScreenLine[] {
  const sorted = sortHosts(hosts)
  let lines: readonly ScreenLine[] = []
  for (const form of forms()) {
    const alone = [...sorted].reduce((sum, [kind, of]) => sum + (form.folded.has(kind) ? 0 : of.length), 0)
    if (alone > room.rows) continue
    lines = draw(sorted, nowMs, room.columns, form)
    if (lines.length <= room.rows) return lines
  }
  const shown = lines.slice(0, Math.max(0, room.rows - 1))
  const text = `… and ${lines.length - shown.length} lines more: make the window larger`
  return [...shown, { text: cutToWidth(text, room.columns), style: 'warn' }]
}

function* forms(): Iterable<Form> {
  const folded = new Set<Kind>()
  const names = { coarse: false, nameLines: Number.POSITIVE_INFINITY }
  yield { folded: new Set(folded), wrapped: true, ...names }
  for (const kind of FOLDS) {
    folded.add(kind)
    yield { folded: new Set(folded), wrapped: true, ...names }
    yield { folded: new Set(folded), wrapped: false, ...names }
  }
  yield { folded, wrapped: false, coarse: true, nameLines: Number.POSITIVE_INFINITY }
  yield { folded, wrapped: false, coarse: true, nameLines: 1 }
}

function kindOf(host: RolloutHost): Kind {
  switch (host.state) {
    case RolloutHostState.DONE:
      return 'done'
    case RolloutHostState.FAILED:
      return 'failed'
    case RolloutHostState.LEFT:
      return 'left'
    case RolloutHostState.MOVING:
      // All fetch at once, and nothing happens to them meanwhile.
      return host.step === 'prefetch' ? 'fetching' : 'moving'
    case RolloutHostState.WAITING:
    case RolloutHostState.UNSPECIFIED:
      break
  }
  return awaitsItsTurn(host) ? 'turn' : 'held'
}

function sortHosts(hosts: readonly RolloutHost[]): ReadonlyMap<Kind, readonly RolloutHost[]> {
  const sorted = new Map<Kind, RolloutHost[]>(KINDS.map(kind => [kind, []]))
  for (const host of hosts.toSorted((a, b) => a.wave - b.wave)) sorted.get(kindOf(host))?.push(host)
  return sorted
}

function draw(
  sorted: ReadonlyMap<Kind, readonly RolloutHost[]>,
  nowMs: number,
  columns: number,
  form: Form,
): readonly ScreenLine[] {
  const single = [...sorted].flatMap(([kind, hosts]) => (form.folded.has(kind) ? [] : hosts))
  const width = Math.min(
    Math.max(4, ...single.map(({ host }) => textWidth(host))),
    Math.max(8, Math.floor(columns / 3)),
  )
  return [...sorted].flatMap(([kind, hosts]) =>
    form.folded.has(kind)
      ? drawTogether(hosts, nowMs, columns, form)
      : hosts.flatMap(host => drawAlone(host, nowMs, columns, width, form.wrapped)),
  )
}

function ageOf(host: RolloutHost, nowMs: number): string {
  const since = sinceMsOf(host)
  return since === undefined ? '' : formatDuration(Math.max(0, nowMs - since))
}

function drawAlone(
  host: RolloutHost,
  nowMs: number,
  columns: number,
  width: number,
  wrapped: boolean,
): readonly ScreenLine[] {
  const name = padToWidth(cutToWidth(host.host, width), width)
  const head = `${name}  ${hostBar(host)}  ${ageOf(host, nowMs).padEnd(5)} `
  const words = hostWords(host)
  const left = Math.max(10, columns - textWidth(head))
  const [first = '', ...more] = wrapped ? wrapWords(words, left, MOST_WRAPPED) : [words]
  const indent = ' '.repeat(textWidth(head))
  return [`${head}${first}`, ...more.map(line => `${indent}${line}`)].map(text => ({
    text: cutToWidth(text, columns),
    style: hostStyle(host),
  }))
}

/** Hosts that do the same, by their names. */
function drawTogether(
  hosts: readonly RolloutHost[],
  nowMs: number,
  columns: number,
  { coarse, nameLines }: Form,
): readonly ScreenLine[] {
  const groups = new Map<string, [RolloutHost, ...RolloutHost[]]>()
  for (const host of hosts) {
    const words = groupWords(host, coarse)
    const group = groups.get(words)
    if (group) group.push(host)
    else groups.set(words, [host])
  }
  return [...groups].flatMap(([words, group]) => {
    const [first] = group
    const reason = coarse ? undefined : commonReason(group)
    // The longest wait is what one asks about.
    const eldest = group.reduce((one, other) =>
      (sinceMsOf(one) ?? Number.POSITIVE_INFINITY) <= (sinceMsOf(other) ?? Number.POSITIVE_INFINITY)
        ? one
        : other,
    )
    const age = first.state === RolloutHostState.DONE || coarse ? '' : ` ${ageOf(eldest, nowMs)}`
    const says = `${words}${reason === undefined ? '' : ` (${cutToWidth(reason, Math.floor(columns / 2))})`}`
    const head = `${hostBar(first)}  ${group.length} ${says}${age}:`
    const names = group.map(({ host }) => host)
    return wrapNames(head, names, columns, nameLines).map(text => ({ text, style: hostStyle(first) }))
  })
}

function groupWords(host: RolloutHost, coarse: boolean): string {
  const wait = foremostWait(host.waits)
  switch (kindOf(host)) {
    case 'done':
      return 'done'
    case 'failed':
      return 'failed'
    case 'left':
      return 'left behind'
    case 'held':
    case 'turn':
      return wait ? `wait at ${wait.gate}` : 'wait for their turn'
    case 'fetching':
    case 'moving':
      return coarse ? host.step : wait ? `${host.step}: wait at ${wait.gate}` : stepWords(host)
  }
}

/** Why all of them stand so, where it is one reason. */
function commonReason(group: readonly RolloutHost[]): string | undefined {
  const reasons = new Set(group.map(({ waits, reason }) => foremostWait(waits)?.reason ?? reason))
  const [only] = reasons
  return reasons.size === 1 && only !== '' ? only : undefined
}

const INDENT = ' '.repeat(8)

function wrapNames(
  head: string,
  names: readonly string[],
  columns: number,
  mostLines: number,
): readonly string[] {
  const lines: string[] = []
  let line = head
  let width = textWidth(head)
  for (const [at, name] of names.entries()) {
    const rest = ` … ${names.length - at} more`
    const isLast = lines.length + 1 >= mostLines
    const own = textWidth(name) + 1
    const kept = isLast && at < names.length - 1 ? rest.length + 1 : 0
    if (width + own + kept <= columns) {
      line += ` ${name}`
      width += own
    } else if (isLast) {
      line += rest
      break
    } else {
      lines.push(line)
      line = `${INDENT} ${name}`
      width = INDENT.length + own
    }
  }
  return [...lines, line].map(text => cutToWidth(text, columns))
}

/** How far a host is, as steps that are behind it. */
const STEPS = ['prefetch', 'snapshot', 'drain', 'act', 'prove', 'soak', 'uncordon']

function hostBar({ state, step }: RolloutHost): string {
  const known = STEPS.indexOf(step)
  const at = known === -1 ? STEPS.indexOf('act') : known
  switch (state) {
    case RolloutHostState.DONE:
      return '■'.repeat(STEPS.length)
    case RolloutHostState.FAILED:
      return `${'■'.repeat(at)}×`.padEnd(STEPS.length, '·')
    case RolloutHostState.MOVING:
      return `${'■'.repeat(at)}▸`.padEnd(STEPS.length, '·')
    case RolloutHostState.WAITING:
    case RolloutHostState.LEFT:
    case RolloutHostState.UNSPECIFIED:
      break
  }
  return '·'.repeat(STEPS.length)
}
