import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ChainHead } from '../../shared/audit/event-chain.ts'
import { sha256Hex } from '../../shared/ids.ts'
import { type OnRecord, type SaidAtDoor, signsOf, textOfSign } from './restore-signs.ts'

const NODES = 3

/** A coordinator's store, as far as nodes come to know of it. Immutable, so that a copy of it is itself. */
interface Centre {
  readonly now: number
  readonly events: readonly ChainHead[]
  readonly revision: number
  readonly acceptedRevision: number
  readonly acceptedEvent: number
  readonly acknowledged: readonly number[]
  /** By id: when it ended here; undefined: it has not. */
  readonly operations: ReadonlyMap<string, number | undefined>
  readonly prunedBeforeMs: number
}

interface Node {
  highestRevision: number
  journal: number
  acknowledged: number
  head: ChainHead | undefined
  untold: { id: string; acceptedMs: number; reported: boolean; ended: boolean }[]
}

const freshNode = (): Node => ({
  highestRevision: 0,
  journal: 0,
  acknowledged: 0,
  head: undefined,
  untold: [],
})

/** One coordinator with its nodes. What is committed is told afterwards, and may then be lost on the way, which is all that a crash does. */
class Play {
  centre: Centre = {
    now: 1,
    events: [],
    revision: 0,
    acceptedRevision: 0,
    acceptedEvent: 0,
    acknowledged: Array.from({ length: NODES }, () => 0),
    operations: new Map(),
    prunedBeforeMs: 0,
  }
  nodes = Array.from({ length: NODES }, freshNode)
  #ids = 0
  #salt = 0

  event(): void {
    const before = this.centre.events.at(-1)
    const id = (before?.id ?? 0) + 1
    // What happens after a copy was put in place is something else than what had happened.
    const hash = sha256Hex(`${before?.hash ?? ''} ${id} ${this.#salt++}`)
    this.centre = { ...this.centre, now: this.centre.now + 1, events: [...this.centre.events, { id, hash }] }
  }

  do(what: string, at: number): void {
    const node = this.nodes[at]
    if (!node) throw new Error('no such node')
    this.event()
    switch (what) {
      case 'publish':
        this.centre = { ...this.centre, revision: this.centre.revision + 1 }
        return
      case 'order': {
        const id = `o${this.#ids++}`
        this.centre = { ...this.centre, operations: new Map([...this.centre.operations, [id, undefined]]) }
        node.untold.push({ id, acceptedMs: this.centre.now, reported: false, ended: false })
        node.journal += 1
        node.highestRevision = Math.max(node.highestRevision, this.centre.revision)
        return
      }
      case 'order that is lost on the way': {
        const id = `o${this.#ids++}`
        this.centre = {
          ...this.centre,
          operations: new Map([...this.centre.operations, [id, this.centre.now]]),
        }
        return
      }
      case 'go on':
        node.journal += 2
        for (const operation of node.untold) operation.ended = true
        return
      case 'report':
      case 'report whose acknowledgement is lost': {
        const sequence = node.journal
        const acknowledged = this.centre.acknowledged.with(
          at,
          Math.max(sequence, this.centre.acknowledged[at] ?? 0),
        )
        const ended = node.untold.filter(one => one.ended).map(({ id }) => [id, this.centre.now] as const)
        const told = node.untold.filter(one => !one.ended && !this.centre.operations.has(one.id))
        const operations = new Map([
          ...this.centre.operations,
          ...told.map(({ id }) => [id, undefined] as const),
          ...ended,
        ])
        this.centre = { ...this.centre, acknowledged, operations }
        if (what !== 'report') return
        node.acknowledged = Math.max(node.acknowledged, sequence)
        node.untold = node.untold.filter(one => !one.ended)
        return
      }
      case 'show head':
        node.head =
          (node.head?.id ?? 0) >= (this.centre.events.at(-1)?.id ?? 0) ? node.head : this.centre.events.at(-1)
        return
      case 'reinstall':
        this.nodes[at] = freshNode()
        this.centre = { ...this.centre, acknowledged: this.centre.acknowledged.with(at, 0) }
        return
      case 'retain': {
        const beforeMs = this.centre.now - 3
        const old = [...this.centre.operations].filter(([, ended]) => ended !== undefined && ended < beforeMs)
        const kept = [...this.centre.operations].filter(
          ([, ended]) => ended === undefined || ended >= beforeMs,
        )
        this.centre = {
          ...this.centre,
          operations: new Map(kept),
          events: this.centre.events.slice(-4),
          prunedBeforeMs: Math.max(this.centre.prunedBeforeMs, ...old.map(([, ended]) => ended ?? 0)),
        }
        return
      }
      default:
        throw new Error(what)
    }
  }

  /** The node connects: what it says, and what is on record of it. */
  signs(at: number) {
    const node = this.nodes[at]
    if (!node) throw new Error('no such node')
    const { centre } = this
    const { head } = node
    const [first, last] = [centre.events[0], centre.events.at(-1)]
    const said: SaidAtDoor = {
      highestRevision: node.highestRevision,
      acknowledged: node.acknowledged,
      head,
      untold: node.untold,
    }
    const known: OnRecord = {
      newestRevision: centre.revision,
      acceptedRevision: centre.acceptedRevision,
      acknowledged: centre.acknowledged[at],
      events: first && last && { oldest: first.id, newest: last.id },
      hashThere: centre.events.find(({ id }) => id === head?.id)?.hash,
      acceptedEvent: centre.acceptedEvent,
      operations: new Set(centre.operations.keys()),
      prunedBeforeMs: centre.prunedBeforeMs,
    }
    return signsOf(said, known)
  }
}

const QUIET = [
  'publish',
  'order that is lost on the way',
  'go on',
  'reinstall',
  'retain',
  'report whose acknowledgement is lost',
]
/** What leaves the node with something that the coordinator committed before. */
const TOLD = ['order', 'report', 'show head']
const steps = (words: readonly string[], most: number) =>
  fc.array(fc.tuple(fc.constantFrom(...words), fc.nat({ max: NODES - 1 })), { maxLength: most })

describe('T62: signs of a store that was set back', () => {
  it('are never seen where it was not, whatever is killed, lost on the way, deleted for its age or installed anew', () => {
    fc.assert(
      fc.property(steps([...QUIET, ...TOLD], 60), all => {
        const play = new Play()
        for (const [what, at] of all) {
          play.do(what, at)
          // Whoever connects at whatever moment, to a coordinator that was killed or was not.
          for (let node = 0; node < NODES; node++) expect(play.signs(node)).toEqual([])
        }
      }),
      { numRuns: 500 },
    )
  })

  it('are seen at the next greeting of every node that was shown an event, took an order or had a report acknowledged since the copy', () => {
    fc.assert(
      fc.property(
        steps([...QUIET, ...TOLD], 25),
        steps(
          QUIET.filter(what => what !== 'retain' && what !== 'reinstall'),
          8,
        ),
        fc.constantFrom(...TOLD),
        fc.nat({ max: NODES - 1 }),
        steps(['publish', 'go on'], 8),
        (before, between, told, at, after) => {
          const play = new Play()
          for (const [what, node] of before) play.do(what, node)
          // A machine that is installed anew has another key, so it is none that the copy knows.
          const copy = play.centre
          for (const [what, node] of between) play.do(what, node)
          play.do('go on', at) // there is something to acknowledge
          play.do(told, at)
          play.centre = { ...copy }
          expect(play.signs(at).length).toBeGreaterThan(0)
          // Nor does it help that it runs on for a while before that node comes back.
          for (const [what, node] of after) play.do(what, node === at ? (at + 1) % NODES : node)
          expect(play.signs(at).length).toBeGreaterThan(0)
        },
      ),
      { numRuns: 500 },
    )
  })

  it('are told in a sentence', () => {
    const text = (sign: Parameters<typeof textOfSign>[1]) => textOfSign('n1', sign)
    expect(text({ kind: 'revision', revision: 7, newest: 0 })).toContain('no revision is on record here')
    expect(text({ kind: 'acknowledged', sequence: 9, known: 4 })).toContain('up to record 9')
    expect(text({ kind: 'head', id: 9, newest: 4 })).toContain(
      'event 9 of the record of events, the newest here is 4',
    )
    expect(text({ kind: 'head', id: 3, newest: 4 })).toContain('another event 3')
    expect(text({ kind: 'operation', id: 'o1' })).toContain('operation o1, which is not on record')
  })
})
