import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import {
  type Rollout,
  type RolloutHostSchema,
  RolloutHostState,
  RolloutSchema,
  RolloutState,
} from '../../shared/gen/muster/v1/rollout_pb.ts'
import { textWidth } from '../output/text-width.ts'
import { renderRollout } from './rollout-screen.ts'

const NOW = 1_790_000_000_000
const ago = (ms: number) => timestampFromMs(NOW - ms)
const nameOf = (index: number) => `node${String(index + 1).padStart(2, '0')}.rack-a`

type HostInit = MessageInitShape<typeof RolloutHostSchema>
const wait = (gate: string, reason: string, sinceMs: number) => ({
  gate,
  reason,
  opens: 'later',
  since: ago(sinceMs),
})

const MOVING: HostInit = {
  state: RolloutHostState.MOVING,
  step: 'apply',
  phase: Phase.BUILD,
  since: ago(65_000),
}
const DONE: HostInit = { state: RolloutHostState.DONE, step: 'soak', since: ago(600_000) }
const TURN: HostInit = {
  state: RolloutHostState.WAITING,
  since: ago(900_000),
  waits: [wait('budget', '3 of 3 hosts are away', 180_000)],
}
const LOCKED: HostInit = {
  state: RolloutHostState.WAITING,
  since: ago(900_000),
  waits: [wait('budget', '3 of 3 hosts are away', 180_000), wait('lock', 'a guest runs on it', 7_200_000)],
}
const FAILED: HostInit = {
  state: RolloutHostState.FAILED,
  step: 'prove',
  since: ago(120_000),
  reason:
    'its node was not Ready within ten minutes after it had been restarted, and what ran before runs again',
}

/** Fifty hosts in the middle of a rollout: 30 done, 3 under way, 1 failed, 1 locked, 15 whose turn has not come. */
function sample(change: MessageInitShape<typeof RolloutSchema> = {}, count = 50): Rollout {
  const kinds = Array.from({ length: count }, (_, index): HostInit => {
    if (index < 30) return DONE
    if (index < 33) return MOVING
    if (index === 33) return FAILED
    return index === 34 ? LOCKED : TURN
  })
  return create(RolloutSchema, {
    id: '0k3xq2v1a-5f0c9d1e2b3a',
    action: 'apply',
    revision: 7n,
    state: RolloutState.RUNNING,
    started: ago(1_800_000),
    expectedEnd: timestampFromMs(NOW + 720_000),
    counts: { done: 30, moving: 3, failed: 1, waiting: count - 34 },
    size: count,
    hosts: kinds.map((kind, index) => ({ ...kind, host: nameOf(index), wave: index + 1 })),
    ...change,
  })
}

const draw = (rollout: Rollout, columns: number, rows: number, halted = '') =>
  renderRollout(rollout, { halted, pending: [] }, NOW, { columns, rows, colour: false })
const linesOf = (picture: string) => picture.split('\n').slice(0, -1)

describe.each([
  ['80x24', 80, 23],
  ['100x30', 100, 29],
  ['120x50', 120, 49],
  ['200x60', 200, 59],
])('fifty hosts on a terminal of %s', (_, columns, rows) => {
  const picture = draw(sample(), columns, rows)
  const lines = linesOf(picture)
  const lineOf = (host: number) => lines.find(line => line.startsWith(nameOf(host))) ?? ''

  it('fit on one screen, each with its name', () => {
    expect(lines.length).toBeLessThanOrEqual(rows)
    for (const line of lines) expect(textWidth(line)).toBeLessThan(columns)
    for (let host = 0; host < 50; host++) expect(picture).toContain(nameOf(host))
    expect(picture).not.toContain('more')
  })

  it('tell what the rollout does, how far it is, how long it takes and how long it will', () => {
    expect(lines[0]).toBe('rollout 0k3xq2v1a-5f0c9d1e2b3a  apply revision 7  running')
    const head = lines.slice(1, 3).join('\n')
    expect(head).toMatch(/\[█+▒+×+·+\]/)
    expect(head).toContain('30 done, 3 moving, 16 waiting, 1 failed; 30m, about 12m left')
  })

  it('show in full who is under way, failed, or is held for itself', () => {
    for (const moving of [30, 31, 32]) {
      expect(lineOf(moving)).toMatch(/^node\d\d\.rack-a {2}■■■▸··· {2}1m {4}apply · build$/)
    }
    expect(lineOf(33)).toMatch(/^node34\.rack-a {2}■■■■×·· {2}2m {4}failed: its node was not Ready/)
    expect(picture.replaceAll(/\n {2,}/g, ' ')).toContain('and what ran before runs again')
    expect(lineOf(34)).toMatch(/^node35\.rack-a {2}·{7} {2}2h {4}waits at lock: a guest runs on it \(\+1\)$/)
  })

  it('show the gate that holds the others, since when, and a bar for those that are done', () => {
    expect(picture).toMatch(
      rows >= 55
        ? /node36\.rack-a {2}·{7} {2}3m {4}waits at budget: 3 of 3 hosts are away/
        : /·{7} {2}15 wait at budget \(3 of 3 hosts are away\) 3m: node36|node36\.rack-a {2}·{7} {2}3m {4}waits at budget/,
    )
    expect(picture).toMatch(rows >= 55 ? /node01\.rack-a {2}■{7}/ : /■{7} {2}30 done: node01\.rack-a node02/)
  })
})

describe('a rollout on a screen', () => {
  it('says why nothing is begun at all', () => {
    expect(draw(sample(), 80, 23, 'the store is older')).toContain('\nhalted: the store is older\n')
  })

  it('says of those that are put together what each group does, when all of them are under way', () => {
    const phases = [Phase.FETCH, Phase.BUILD, Phase.ACTIVATE, Phase.REBOOT]
    const hosts = sample().hosts.map((host, at) => ({
      ...host,
      ...create(RolloutSchema, { hosts: [MOVING] }).hosts[0]!,
      host: host.host,
      phase: phases[at % 4] ?? Phase.BUILD,
    }))
    const picture = draw(sample({ hosts }), 80, 23)
    for (const phase of ['fetch', 'build', 'activate', 'reboot'])
      expect(picture).toContain(`apply · ${phase}`)
    for (let host = 0; host < 50; host++) expect(picture).toContain(nameOf(host))
  })

  it('says what it leaves out where there is no room for all names', () => {
    const picture = draw(sample({}, 400), 80, 23)
    expect(linesOf(picture).length).toBeLessThanOrEqual(23)
    expect(picture).toMatch(/365 wait at budget[^\n]* node36\.rack-a [^\n]*… \d+ more/)
  })

  it('never lets text of a machine do anything to the terminal', () => {
    const hosts = sample().hosts.map(host => ({ ...host, reason: '\u001b[2J\nrm' }))
    expect(draw(sample({ hosts }), 80, 23)).not.toContain('\u001b')
  })

  it('fits any terminal, whatever the hosts do and are called', () => {
    const hosts = fc.array(
      fc.record({
        kind: fc.constantFrom(MOVING, DONE, TURN, LOCKED, FAILED),
        name: fc.string({ unit: 'grapheme', minLength: 1, maxLength: 60 }),
        step: fc.constantFrom('prefetch', 'drain', 'apply', 'soak'),
      }),
      { maxLength: 150 },
    )
    fc.assert(
      fc.property(
        hosts,
        fc.integer({ min: 20, max: 250 }),
        fc.integer({ min: 1, max: 80 }),
        (each, columns, rows) => {
          const { hosts: shown } = create(RolloutSchema, {
            hosts: each.map(({ kind, name, step }, at) => ({ ...kind, step, host: name, wave: at + 1 })),
          })
          const lines = linesOf(draw(sample({ hosts: shown, size: shown.length }), columns, rows))
          return lines.length <= rows && lines.every(line => textWidth(line) < Math.max(21, columns))
        },
      ),
    )
  })
})
