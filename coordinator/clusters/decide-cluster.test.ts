import { describe, expect, it } from 'vitest'
import { absorbReport } from './absorb-report.ts'
import { type ClusterRecord, emptyRecord, type Join, type Leave } from './cluster-record.ts'
import { liveServers, type NodeData } from './cluster-snapshot.ts'
import { decideCluster } from './decide-cluster.ts'
import { FIRST_AWAY_MS } from './decide-founding.ts'
import { WORKERS_AT_ONCE } from './decide-joins.ts'
import { askToLeave, letReturn } from './operator-changes.ts'
import { describeReason } from './reasons.ts'
import { applyStep, JOIN_LIFETIME_MS } from './steps.ts'
import {
  AUTHORITY,
  clusterData,
  foundedRecord,
  type HostChange,
  NOW,
  sampleSnapshot,
} from './testing/sample-snapshot.ts'

import { WaitingBook } from './waiting-book.ts'

const NONE: NodeData = { kind: 'none' }
const empty = { data: NONE }
const allEmpty = { a: empty, b: empty, c: empty, d: empty, e: empty }
const fresh = emptyRecord('home')

function decide(changes: Readonly<Record<string, HostChange>> = {}, record: Partial<ClusterRecord> = {}) {
  const { steps, waiting } = decideCluster(sampleSnapshot(changes, record), NOW)
  return {
    steps: steps.map(({ why, ...step }) => (why === '' ? step : step)),
    why: (host: string) => waiting.filter(each => each.host === host).map(({ reason }) => reason.gate),
    words: waiting.map(({ reason }) => describeReason(reason)),
  }
}

const join = (change: Partial<Join>): Join => ({
  operation: 'op',
  machine: 'm-d',
  host: 'd',
  role: 'worker',
  minter: 'm-a',
  atMs: NOW - 60_000,
  expiresMs: NOW - 60_000 + JOIN_LIFETIME_MS,
  state: 'received',
  joinedMs: undefined,
  tokenId: 't',
  end: undefined,
  joinerDone: false,
  deleter: undefined,
  tokenGone: false,
  ...change,
})

describe('a cluster in which all is well', () => {
  it('needs nothing and waits for nothing', () => {
    expect(decideCluster(sampleSnapshot(), NOW)).toEqual({ steps: [], waiting: [] })
  })
})

describe('founding', () => {
  it('is given to one server, by name, when all servers say that they have nothing', () => {
    expect(decide(allEmpty, fresh).steps).toEqual([{ kind: 'found', machine: 'm-a', host: 'a' }])
  })

  it('waits while one server has never spoken, though it may be away once it has', () => {
    const silent = decide({ ...allEmpty, c: { agoMs: undefined } }, fresh)
    expect(silent.steps).toEqual([])
    expect(silent.words).toEqual([expect.stringContaining('c is a server and has never said')])
    expect(decide({ ...allEmpty, c: { ...empty, connected: false } }, fresh).steps).toHaveLength(1)
  })

  it('is not done beside data of a running cluster, nor beside a disk that cannot be read', () => {
    for (const data of [clusterData(true), { kind: 'unreadable', reason: 'EIO' }] as const) {
      for (const host of ['c', 'd']) {
        const { steps, why } = decide({ ...allEmpty, [host]: { data } }, fresh)
        expect(steps).toEqual([])
        expect(why('')).toContain('adopt-first')
      }
    }
  })

  const ordered = applyStep(fresh, { kind: 'found', machine: 'm-a', host: 'a', why: '' }, NOW - 60_000)
  const failed: ClusterRecord = { ...ordered, founding: { ...ordered.founding!, state: 'failed' } }

  it('stays with the first founder however long it is silent, until an operator says that it is gone', () => {
    expect(decide(allEmpty, ordered).steps).toEqual([])
    const away = decide({ ...allEmpty, a: { ...empty, connected: false } }, ordered)
    expect(away.steps).toEqual([])
    expect(away.words).toEqual([expect.stringContaining('evict it')])
    const gone = decide({ ...allEmpty, a: { ...empty, gone: true } }, ordered)
    expect(gone.steps).toEqual([{ kind: 'found', machine: 'm-b', host: 'b' }])
  })

  it('moves on after a failure only from a founder that says that nothing is left', () => {
    const later = {
      ...failed,
      attempts: new Map([['m-a', { failures: 3, notBeforeMs: 0, overMs: 0, reason: '' }]]),
    }
    expect(decide(allEmpty, later).steps).toEqual([{ kind: 'found', machine: 'm-b', host: 'b' }])
    const operation = ordered.founding?.operation ?? ''
    const unfinished = decide({ ...allEmpty, a: { data: { kind: 'unfinished', operation } } }, later)
    expect(unfinished.steps).toEqual([{ kind: 'found', machine: 'm-a', host: 'a' }])
    const left = decide({ ...allEmpty, a: { data: clusterData(true) } }, later)
    expect(left.steps).toEqual([])
    expect(left.why('')).toEqual(['founder-data'])
    const silent = decide({ ...allEmpty, a: { ...empty, connected: false } }, later)
    expect(silent.why('')).toEqual(['founder-away'])
  })

  it('never comes again, though every disk is empty', () => {
    const lost = decide(allEmpty, foundedRecord())
    expect(lost.steps).toEqual([])
    expect(lost.why('')).toEqual(['no-server'])
  })
})

describe('a live server', () => {
  const over = (overMs: number) => ({
    attempts: new Map([['m-b', { failures: 0, notBeforeMs: 0, reason: '', overMs }]]),
  })
  const liveWith = (changes: Readonly<Record<string, HostChange>>, record: Partial<ClusterRecord> = {}) =>
    liveServers(sampleSnapshot(changes, record), NOW).map(({ host }) => host)

  const leavingNow = () => {
    const asked = { host: 'b', machine: 'm-b', server: true, dead: false, signed: undefined }
    const step = { kind: 'leave', request: 'r1', executor: 'm-b', why: '' } as const
    const record = applyStep(askToLeave(foundedRecord(), asked, 'r1'), step, NOW - 8_000)
    return { record, operation: record.leaves[0]?.attempt?.operation ?? '' }
  }

  it('was seen in the session that it has: the one before may have been of another boot', () => {
    expect(liveWith({ b: { agoMs: 10_000, sinceMs: NOW - 10_000 } })).toEqual(['a', 'b', 'c'])
    expect(liveWith({ b: { agoMs: 10_000, sinceMs: NOW - 9_999 } })).toEqual(['a', 'c'])
  })

  it('was seen after the last thing that was done to it', () => {
    expect(liveWith({}, over(NOW - 10_001))).toEqual(['a', 'b', 'c'])
    expect(liveWith({}, over(NOW - 10_000))).toEqual(['a', 'c'])
  })

  it('is none that left, whatever was seen of it, also once it was let return and has not come', () => {
    const { record, operation } = leavingNow()
    const ended = { kind: 'ended', done: true, authority: '' } as const
    const left = absorbReport(record, 'm-b', operation, ended, NOW - 5_000).record
    expect(left.left.get('b')).toBe('m-b')
    expect(liveWith({}, left)).toEqual(['a', 'c'])
    expect(liveWith({}, letReturn(left, 'b', 'm-b'))).toEqual(['a', 'c'])
  })

  it('is one whose leave failed only as it was seen since', () => {
    const { record, operation } = leavingNow()
    const ended = { kind: 'ended', done: false, authority: '' } as const
    const failed = absorbReport(record, 'm-b', operation, ended, NOW - 5_000).record
    const forgotten = applyStep(failed, { kind: 'forget-leave', request: 'r1', why: '' }, NOW)
    expect(liveWith({}, forgotten)).toEqual(['a', 'c'])
    expect(liveWith({ b: { agoMs: 4_999 } }, forgotten)).toEqual(['a', 'b', 'c'])
  })
})

describe('the first server', () => {
  it('K8: moves to the next that lives when it is away, also when its machine is gone for good', () => {
    for (const change of [{ connected: false }, { gone: true, connected: false }, { agoMs: 100_000 }]) {
      expect(decide({ a: change }).steps).toEqual([{ kind: 'move-first', machine: 'm-b' }])
    }
  })

  it('stays for a while where it is when the machine may come back, and nobody looked for longer', () => {
    const steps = (change: HostChange, firstAbsentMs: number) =>
      decideCluster({ ...sampleSnapshot({ a: change }), firstAbsentMs }, NOW).steps
    const away = { connected: false }
    expect(steps(away, NOW)).toEqual([])
    expect(steps({ occupied: true }, NOW - FIRST_AWAY_MS + 1)).toEqual([])
    expect(steps(away, NOW - FIRST_AWAY_MS)).toMatchObject([{ kind: 'move-first', machine: 'm-b' }])
    // It is no server any more, or never comes back.
    for (const change of [{ ...away, gone: true }, { data: NONE }, { ...away, data: NONE }]) {
      expect(steps(change, NOW)).toContainEqual(expect.objectContaining({ kind: 'move-first' }))
    }
  })

  it('T39: does not move to a learner', () => {
    const { steps } = decide({ a: { connected: false }, b: { member: { learner: true } } })
    expect(steps).toEqual([{ kind: 'move-first', machine: 'm-c' }])
  })
})

describe('joining', () => {
  it('is for servers one at a time, and for workers beside it', () => {
    const { steps, why } = decide({ b: empty, c: empty, d: empty, e: empty })
    expect(steps).toEqual([
      { kind: 'mint', machine: 'm-b', host: 'b', role: 'server', minter: 'm-a' },
      { kind: 'mint', machine: 'm-d', host: 'd', role: 'worker', minter: 'm-a' },
      { kind: 'mint', machine: 'm-e', host: 'e', role: 'worker', minter: 'm-a' },
    ])
    expect(why('c')).toEqual(['server-change'])
  })

  it('is minted for by another server after each time that it came to nothing', () => {
    const minterAfter = (failures: number) => {
      const attempts = new Map([['m-b', { failures, notBeforeMs: 0, overMs: 0, reason: '' }]])
      return decide({ b: empty }, { attempts }).steps.flatMap(step =>
        step.kind === 'mint' ? step.minter : [],
      )
    }
    expect([0, 1, 2].map(minterAfter)).toEqual([['m-a'], ['m-c'], ['m-a']])
  })

  it('of a server waits for a voter that is ill; workers do not, while there is a quorum', () => {
    const { steps, words } = decide({
      b: { member: { healthy: false } },
      d: empty,
      f: { role: 'server', data: NONE },
    })
    expect(steps).toMatchObject([{ kind: 'mint', host: 'd' }])
    expect(words).toContain('2 of 3 voters are healthy; b is not')
    const lost = decide({ b: { member: { healthy: false } }, c: { member: { healthy: false } }, d: empty })
    expect(lost.steps).toEqual([])
  })

  it('of workers is bounded by what the distribution bears', () => {
    const names = Array.from({ length: WORKERS_AT_ONCE.k3s + 5 }, (_, n) => `w${String(n).padStart(2, '0')}`)
    const { steps, why } = decide(
      Object.fromEntries(names.map(name => [name, { ...empty, role: 'worker' as const }])),
    )
    expect(steps).toHaveLength(WORKERS_AT_ONCE.k3s)
    expect(why(names.at(-1) ?? '')).toEqual(['slots'])
  })

  it('is for nobody who has data, whose disk cannot be read, who is unknown, held, away or not bound', () => {
    const cases: readonly [HostChange, string][] = [
      [{ data: clusterData(false, 'b'.repeat(64)) }, 'foreign-data'],
      [{ data: { kind: 'unreadable', reason: 'EIO' } }, 'unreadable-data'],
      [{ data: { kind: 'unfinished', operation: 'else' } }, 'unfinished-data'],
      [{ ...empty, agoMs: 100_000 }, 'unknown-state'],
      [{ ...empty, agoMs: undefined }, 'unknown-state'],
      [{ ...empty, occupied: true }, 'occupied'],
      [{ ...empty, connected: false }, 'away'],
      [{ ...empty, gone: true }, 'away'],
      [{ ...empty, machine: undefined, ready: undefined }, 'unbound'],
    ]
    for (const [change, gate] of cases) {
      const { steps, why } = decide({ d: { ready: undefined, ...change } })
      expect(steps).toEqual([])
      expect(why('d')).toEqual([gate])
    }
  })

  it('T40: goes by nothing that was seen before the last operation on the machine was over', () => {
    const attempts = new Map([['m-d', { failures: 0, notBeforeMs: 0, overMs: NOW - 10_000, reason: '' }]])
    expect(decide({ d: empty }, { attempts }).why('d')).toEqual(['unknown-state'])
    const older = new Map([['m-d', { failures: 0, notBeforeMs: 0, overMs: NOW - 10_001, reason: '' }]])
    expect(decide({ d: empty }, { attempts: older }).steps).toHaveLength(1)
  })

  it('waits until the versions fit, and says what it waits for', () => {
    const newer = { ...empty, installed: '1.35.4' }
    const first = decide({ d: newer })
    expect(first.steps).toEqual([])
    expect(first.why('d')).toEqual(['version'])
    expect(first.words.join()).toContain('a runs 1.34.3, older than 1.35.4: servers go first')
    const half = decide({ a: { version: '1.35.4' }, b: { version: '1.35.4' }, d: newer })
    expect(half.words.join()).toContain('c runs 1.34.3')
    const servers = { a: { version: '1.35.4' }, b: { version: '1.35.4' }, c: { version: '1.35.4' } }
    expect(decide({ ...servers, d: newer }).steps).toMatchObject([{ kind: 'mint', host: 'd' }])
    // One that is away counts by the last that it said, and one whose API server does not answer by its Node.
    expect(decide({ ...servers, b: { connected: false }, d: newer }).why('d')).toEqual(['version'])
    expect(decide({ ...servers, f: { role: 'server', data: NONE }, d: newer }).why('f')).toEqual(['version'])
  })

  it('waits where nobody can say which Kubernetes a machine has, or a server', () => {
    const unknown = decide({ d: { ...empty, installed: undefined } })
    expect([unknown.steps, unknown.why('d')]).toEqual([[], ['version-unknown']])
    const strange = decide({ c: { version: 'main', installed: undefined }, d: empty })
    expect([strange.steps, strange.why('d')]).toEqual([[], ['version-unknown']])
    expect(strange.words.join()).toContain('nobody can say which Kubernetes c has')
  })

  it('counts whoever is joining with what its machine has', () => {
    const joins = [join({ machine: 'm-f', host: 'f', role: 'server', minter: 'm-a' })]
    const newer = { version: '1.35.4' }
    const f = { role: 'server', ...empty, installed: '1.34.3' } as const
    const servers = { a: newer, b: newer, c: newer }
    expect(decide({ ...servers, d: { ...empty, installed: '1.35.4' }, f }, { joins }).why('d')).toEqual([
      'version',
    ])
  })

  it('goes on with an attempt of ours that was not finished, and backs off after failures', () => {
    const operation = `${'0'.repeat(9)}-home-1`
    expect(decide({ d: { data: { kind: 'unfinished', operation }, ready: undefined } }).steps).toHaveLength(1)
    const attempts = new Map([['m-d', { failures: 2, notBeforeMs: NOW + 1, overMs: 0, reason: '' }]])
    const { why, words } = decide({ d: empty }, { attempts })
    expect(why('d')).toEqual(['backing-off'])
    expect(words.join()).toContain('`muster rejoin d` tries it at once')
    // Somebody mended what it failed for, and does not wait.
    const again = letReturn({ ...foundedRecord(), attempts }, 'd', 'm-d')
    expect(again.attempts.get('m-d')).toMatchObject({ failures: 2, notBeforeMs: 0 })
    expect(decide({ d: empty }, again).steps).toMatchObject([{ kind: 'mint', host: 'd' }])
  })
})

describe('a token', () => {
  it('T9: is deleted whatever became of the join, by its minter or, when that is away, by another server', () => {
    const joins = [join({ end: 'failed' })]
    expect(decide({ d: empty }, { joins }).steps).toContainEqual({
      kind: 'delete-token',
      operation: 'op',
      server: 'm-a',
    })
    const away = decide({ a: { connected: false }, d: empty }, { joins, firstServer: 'm-b' })
    expect(away.steps).toContainEqual({ kind: 'delete-token', operation: 'op', server: 'm-b' })
    const unknown = decide(
      { a: { connected: false } },
      { joins: [join({ end: 'failed', tokenId: undefined })] },
    )
    expect(unknown.words).toContainEqual(expect.stringContaining('not shown to be deleted'))
  })

  it('T9: is shown as left behind as long as the server that was asked has not deleted it', () => {
    const asked = decide({}, { joins: [join({ end: 'joined', joinerDone: true, deleter: 'm-a' })] })
    expect(asked.steps).toEqual([])
    expect(asked.why('d')).toEqual(['token-owed'])
    expect(asked.words).toEqual(['the token of operation op is not shown to be deleted on m-a'])
    const gone = decide(
      {},
      { joins: [join({ end: 'joined', joinerDone: true, deleter: 'm-a', tokenGone: true })] },
    )
    expect(gone.why('d')).not.toContain('token-owed')
  })

  it('is forgotten only when it is shown to be gone', () => {
    const over = { end: 'joined', joinerDone: true, deleter: 'm-a' } as const
    expect(decide({}, { joins: [join(over)] }).steps).toEqual([])
    expect(decide({}, { joins: [join({ ...over, tokenGone: true })] }).steps).toEqual([
      { kind: 'forget-join', operation: 'op' },
    ])
  })

  it('T47: ends by its time, with its machine, and when the host becomes another', () => {
    const steps = (change: Partial<Join>, hosts: Readonly<Record<string, HostChange>> = {}) =>
      decide({ d: empty, ...hosts }, { joins: [join(change)] }).steps
    expect(steps({ expiresMs: NOW })).toContainEqual({ kind: 'end-join', operation: 'op', end: 'expired' })
    expect(steps({}, { d: { ...empty, gone: true } })).toContainEqual({
      kind: 'end-join',
      operation: 'op',
      end: 'withdrawn',
    })
    expect(steps({ machine: 'm-old' })).toContainEqual({
      kind: 'end-join',
      operation: 'op',
      end: 'withdrawn',
    })
    expect(steps({ role: 'server' })).toContainEqual({ kind: 'end-join', operation: 'op', end: 'withdrawn' })
  })

  it('T40: has served only when a server saw the node Ready after the machine said that it has joined', () => {
    const joined = (joinedMs: number) => [join({ state: 'joined', joinerDone: true, joinedMs })]
    expect(decide({}, { joins: joined(NOW - 10_000) }).steps).toEqual([])
    expect(decide({}, { joins: joined(NOW - 10_001) }).steps).toEqual([
      { kind: 'end-join', operation: 'op', end: 'joined' },
    ])
    expect(decide({ d: { ready: false } }, { joins: joined(NOW - 20_000) }).steps).toEqual([])
  })

  it('has served only when node and machine run what the machine has', () => {
    const joins = [join({ state: 'joined', joinerDone: true, joinedMs: NOW - 20_000 })]
    const ended = { kind: 'end-join', operation: 'op', end: 'joined' }
    const steps = (d: HostChange) => decide({ d }, { joins }).steps
    expect(steps({ installed: '1.34.9' })).toEqual([])
    expect(steps({ version: '1.35.4', installed: '1.35.4' })).toContainEqual(ended)
    expect(steps({ version: '', installed: '1.34.3' })).toEqual([])
    expect(steps({ agoMs: 20_000 })).toEqual([])
    expect(steps({})).toContainEqual(ended)
    const server = [
      join({
        host: 'c',
        machine: 'm-c',
        role: 'server',
        state: 'joined',
        joinerDone: true,
        joinedMs: NOW - 20_000,
      }),
    ]
    const ofServer = (c: HostChange) => decide({ c }, { joins: server }).steps
    expect(ofServer({})).toContainEqual(ended)
    expect(ofServer({ installed: '1.35.4' })).toEqual([])
  })

  it('serves nobody who leaves again before a server saw the node Ready', () => {
    const joins = [join({ state: 'joined', joinerDone: true, joinedMs: NOW - 5_000 })]
    const leaving = (attempt: Leave['attempt']) =>
      askToLeave(
        { ...foundedRecord(), joins },
        { host: 'd', machine: 'm-d', server: false, dead: false, signed: undefined },
        'request',
      ).leaves.map(leave => ({ ...leave, attempt }))
    const withdrawn = { kind: 'end-join', operation: 'op', end: 'withdrawn' }
    const gone = { d: { ...empty, ready: undefined } }
    const under = { operation: 'leave-op', executor: 'm-d' }
    expect(decide(gone, { joins, leaves: leaving(under) }).steps).toContainEqual(withdrawn)
    expect(decide(gone, { joins, left: new Map([['d', 'm-d']]) }).steps).toContainEqual(withdrawn)
    // One who was only asked to is a member until it begins, and a namesake that left is another machine.
    expect(decide(gone, { joins, leaves: leaving(undefined) }).steps).not.toContainEqual(withdrawn)
    expect(decide(gone, { joins, left: new Map([['d', 'm-old']]) }).steps).not.toContainEqual(withdrawn)
  })

  it('of a server that cannot be deleted keeps other servers out until the joiner says that it has stopped', () => {
    const ended = { host: 'b', machine: 'm-b', role: 'server', end: 'expired', tokenGone: true } as const
    const of = (change: Partial<Join>) =>
      decide({ b: empty, c: empty }, { joins: [join({ ...ended, ...change })] })
    expect(of({ joinerDone: false }).why('c')).toEqual(['server-change'])
    expect(of({ joinerDone: false }).steps).toEqual([])
    expect(of({ joinerDone: true }).steps).toContainEqual({ kind: 'forget-join', operation: 'op' })
  })
})

describe('a machine that was installed anew under its name', () => {
  it('K16: joins after its old member, Node and node password are taken away', () => {
    const old = { data: NONE, member: { healthy: false }, ready: false } as const
    const { steps, why } = decide({ c: old })
    expect(steps).toEqual([{ kind: 'clear', host: 'c', machine: 'm-c', server: 'm-a' }])
    expect(why('c')).toEqual(['server-change'])
    expect(decide({ d: { data: NONE, ready: false } }).steps).toMatchObject([{ kind: 'clear', host: 'd' }])
  })

  it('waits while somebody lives under its name', () => {
    expect(decide({ c: { data: NONE, member: { healthy: true } } }).why('c')).toContain('name-in-use')
    expect(decide({ d: { data: NONE, ready: true } }).why('d')).toContain('name-in-use')
  })

  it('waits while the datastore cannot lose its member', () => {
    const old = { data: NONE, member: { healthy: false } } as const
    const two = { b: { ...empty, member: undefined } }
    expect(decide({ ...two, c: old }).steps).toEqual([])
    expect(decide({ ...two, c: old }).why('c')).toContain('quorum')
  })
})

describe('a worker that has joined, and whose Node somebody deleted', () => {
  const deleted = { ready: undefined } as const

  it('is named with what mends it, and nothing is done to it nor kept from anybody else', () => {
    const { steps, why, words } = decide({ d: deleted, e: empty })
    expect(why('d')).toEqual(['no-node'])
    expect(words.join()).toContain('`muster leave d`, then `muster rejoin d`')
    expect(steps).toMatchObject([{ kind: 'mint', host: 'e' }])
    expect(decide({ b: { ...deleted, role: 'server+worker' } }).why('b')).toEqual(['no-node'])
    // A server without pods may have none.
    expect(decide({ b: deleted }).why('b')).toEqual([])
  })

  it('is told of in `health` when it stays so', () => {
    const book = new WaitingBook({ afterMs: 60_000 })
    const { waiting } = decideCluster(sampleSnapshot({ d: deleted }), NOW)
    book.set('home', waiting, NOW)
    expect(book.problems(NOW)).toEqual([])
    book.set('home', waiting, NOW + 60_000)
    expect(book.problems(NOW + 60_000)).toEqual([
      expect.stringContaining('d: it has joined, and the cluster'),
    ])
  })

  it('is not told of by what was seen before its join was over, nor where nobody sees', () => {
    const joinedAt = (overMs: number) => ({
      attempts: new Map([['m-d', { failures: 0, notBeforeMs: 0, reason: '', overMs }]]),
    })
    const old = { agoMs: 20_000 }
    const seen = { a: old, b: old, c: old, d: deleted }
    expect(decide(seen, joinedAt(NOW - 15_000)).why('d')).toEqual([])
    expect(decide(seen, joinedAt(NOW - 25_000)).why('d')).toEqual(['no-node'])
    const away = { connected: false }
    expect(decide({ a: away, b: away, c: away, d: deleted }).why('d')).toEqual([])
    // That it left by an operator's word, and came back, is another matter.
    expect(decide({ d: deleted }, { left: new Map([['d', 'm-d']]) }).why('d')).toEqual([])
  })
})

describe('leaving', () => {
  const leaving = (host: string, dead = false, server = host < 'd') =>
    askToLeave(
      foundedRecord(),
      { host, machine: `m-${host}`, server, dead, signed: undefined },
      `leave-${host}`,
    )
  const { request } = leaving('c').leaves[0]!

  it('is done by the machine itself, and for a dead one by a server that is left', () => {
    expect(decide({}, leaving('c')).steps).toEqual([{ kind: 'leave', request, executor: 'm-c' }])
    const dead = { connected: false, member: { healthy: false }, ready: false } as const
    expect(decide({ c: dead }, leaving('c', true)).steps).toEqual([
      { kind: 'leave', request, executor: 'm-a' },
    ])
  })

  it('waits for quorum afterwards, one at a time, and never takes the last server', () => {
    const ill = decide({ b: { member: { healthy: false } } }, leaving('c'))
    expect(ill.steps).toEqual([])
    expect(ill.why('c')).toContain('quorum-after')
    const both = askToLeave(
      leaving('c'),
      { host: 'b', machine: 'm-b', server: true, dead: false, signed: undefined },
      'leave-b',
    )
    expect(decide({}, both).why('b')).toContain('server-change')
    const alone = { b: { role: 'worker' }, c: { role: 'worker' } } as const
    expect(decide(alone, leaving('a')).words).toContainEqual(expect.stringContaining('last server'))
  })

  it('waits while the machine is held or at work on its system, and is not begun with it', () => {
    const waits = decide({ c: { occupied: true } }, leaving('c'))
    expect([waits.steps, waits.why('c')]).toEqual([[], ['occupied', 'leaving']])
    // Another one does it for a machine that is gone.
    const dead = { connected: false, occupied: true, member: { healthy: false }, ready: false } as const
    expect(decide({ c: dead }, leaving('c', true)).steps).toMatchObject([{ executor: 'm-a' }])
  })

  it('refuses to take out as dead what lives', () => {
    expect(decide({}, leaving('c', true)).why('c')).toContain('member-alive')
  })

  it('does not bring back by itself who has left', () => {
    const left = new Map([['d', 'm-d']])
    expect(decide({ d: empty }, { left }).why('d')).toEqual(['left'])
    expect(decide({ d: empty }, letReturn({ ...foundedRecord(), left }, 'd', 'm-d')).steps).toHaveLength(1)
    // Another machine in its place has not left.
    expect(decide({ d: empty }, { left: new Map([['d', 'm-old']]) }).steps).toHaveLength(1)
  })

  it('ends with a server taking away the Node that a worker leaves behind, seen after it left', () => {
    const left = new Map([['d', 'm-d']])
    const leftAt = (overMs: number) => ({
      left,
      attempts: new Map([['m-d', { failures: 0, notBeforeMs: 0, overMs, reason: '' }]]),
    })
    const behind = { ...empty, ready: false } as const
    expect(decide({ d: behind }, leftAt(NOW - 20_000)).steps).toMatchObject([
      { kind: 'clear', host: 'd', machine: 'm-d', server: 'm-a' },
    ])
    expect(decide({ d: behind }, leftAt(NOW - 5_000)).steps).toEqual([])
    expect(decide({ d: empty }, leftAt(NOW - 20_000)).steps).toEqual([])
  })

  it('is given up when the operator’s order has expired, but not in the middle of an attempt', () => {
    const [leave] = leaving('c').leaves
    const signed = { envelope: new Uint8Array(), untilMs: NOW }
    expect(decide({}, { leaves: [{ ...leave!, signed }] }).steps).toMatchObject([{ kind: 'forget-leave' }])
    const attempt = { operation: 'x', executor: 'm-c' }
    expect(decide({}, { leaves: [{ ...leave!, signed, attempt }] }).steps).toEqual([])
  })

  it('is asked for once, and can still become one of a dead machine', () => {
    const asked = leaving('c')
    const again = (dead: boolean) =>
      askToLeave(asked, { host: 'c', machine: 'm-c', server: true, dead, signed: undefined }, 'again')
    expect(again(false)).toBe(asked)
    expect(again(true).leaves).toMatchObject([{ request: 'again', dead: true }])
  })

  it('that a worker began and that it cannot end is done by a server once it is said to be dead', () => {
    const begin = (host: string) => {
      const asked = leaving(host)
      const step = { kind: 'leave', request: `leave-${host}`, executor: `m-${host}`, why: '' } as const
      return applyStep(asked, step, NOW - 60_000)
    }
    const gone = { connected: false, ready: false } as const
    const said = (host: string, server: boolean) =>
      askToLeave(begin(host), { host, machine: `m-${host}`, server, dead: true, signed: undefined }, 'again')
    expect(decide({ d: gone }, begin('d')).steps).toEqual([])
    expect(decide({ d: gone }, said('d', false)).steps).toEqual([
      { kind: 'leave', request: 'again', executor: 'm-a' },
    ])
    // A server may still be at it.
    expect(said('c', true).leaves).toMatchObject([{ request: 'leave-c', dead: false }])
  })
})

it('names of operations are never given twice, also by a store that was set back', () => {
  const step = { kind: 'found', machine: 'm', host: 'a', why: '' } as const
  const first = applyStep(fresh, step, NOW)
  const setBack = applyStep(fresh, step, NOW + 1)
  expect(first.founding?.operation).not.toBe(setBack.founding?.operation)
  expect(AUTHORITY).toHaveLength(64)
})
