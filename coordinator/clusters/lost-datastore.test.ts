import { describe, expect, it } from 'vitest'
import { whyNotRestore } from './acts/judge-restore.ts'
import type { ClusterRecord, Leave } from './cluster-record.ts'
import { decideCluster } from './decide-cluster.ts'
import { joinedHosts } from './decide-joins.ts'
import { describeReason } from './reasons.ts'
import { nodeRow, observationOf } from './record-rows.ts'
import { AUTHORITY, type HostChange, NOW, sampleSnapshot } from './testing/sample-snapshot.ts'
import { WaitingBook } from './waiting-book.ts'

const path = '/var/lib/etcd/member'
const data = { kind: 'lost', authority: AUTHORITY, distribution: 'components', path } as const
const ill = { healthy: false }
/** Its member is still there, as those that are left see it. */
const lost: HostChange = { data, member: ill, ready: false }
const away: HostChange = { connected: false, agoMs: 600_000, member: ill }

const leave: Leave = {
  request: 'act-1',
  host: 'b',
  machine: 'm-b',
  server: true,
  dead: true,
  attempt: undefined,
  failures: 0,
  notBeforeMs: 0,
  signed: undefined,
  reason: '',
}

const decide = (changes: Readonly<Record<string, HostChange>>, record: Partial<ClusterRecord> = {}) =>
  decideCluster(sampleSnapshot(changes, record), NOW)
const reasonOf = (changes: Readonly<Record<string, HostChange>>, record: Partial<ClusterRecord> = {}) =>
  decide(changes, record).waiting.find(({ host }) => host === 'b')?.reason

describe('a server that lost its datastore alone', () => {
  it('waits for a person, who is told the command: by what the others count as members', () => {
    expect(decide({ b: lost }).steps).toEqual([])
    const reason = reasonOf({ b: lost })
    expect(reason).toEqual({ gate: 'lost-datastore', host: 'b', path, standing: 'member' })
    expect(describeReason(reason!)).toContain('`muster leave b --dead`')
    const out = reasonOf({ b: { ...lost, member: undefined } })
    expect(out).toMatchObject({ standing: 'out' })
    expect(describeReason(out!)).toContain('`muster rejoin b --wipe`')
    expect(describeReason(out!)).not.toContain('--dead')
    // Also after an operator let it leave: it is not wiped yet.
    expect(reasonOf({ b: { ...lost, member: undefined } }, { left: new Map([['b', 'm-b']]) })).toMatchObject({
      standing: 'out',
    })
  })

  it('is told nothing of the kind while nobody with a majority can say whether it is a member', () => {
    const reason = reasonOf({ b: lost, a: away, c: away })
    expect(reason).toEqual({ gate: 'lost-datastore', host: 'b', path })
    expect(describeReason(reason!)).not.toContain('--dead')
  })

  it('is named as a problem at once, and does not count as joined', () => {
    const book = new WaitingBook({ afterMs: 3_600_000 })
    book.set('home', decide({ b: lost }).waiting, NOW)
    expect(book.problems(NOW)).toEqual([
      expect.stringContaining('b: it has been a server, and its datastore'),
    ])
    expect(joinedHosts(sampleSnapshot({ b: lost }))).toEqual(['a', 'c', 'd', 'e'])
  })

  it('is taken out by another server only, and only where the rest are a quorum', () => {
    expect(decide({ b: lost }, { leaves: [leave] }).steps).toMatchObject([
      { kind: 'leave', request: 'act-1', executor: 'm-a' },
    ])
    // Asked for as one that leaves by itself, it never begins.
    const plain = decide({ b: lost }, { leaves: [{ ...leave, dead: false }] })
    expect(plain.steps).toEqual([])
    expect(plain.waiting).toContainEqual({
      host: 'b',
      reason: expect.objectContaining({ standing: 'member' }),
    })
    // Two of three have no majority, and the one that is left cannot change anything.
    const few = decide({ b: lost, c: { member: ill, connected: false } }, { leaves: [leave] })
    expect(few.steps).toEqual([])
    expect(few.waiting).toContainEqual({ host: 'b', reason: expect.objectContaining({ gate: 'quorum' }) })
  })

  it('whose old process still answers is not taken out', () => {
    const { steps, waiting } = decide({ b: { ...lost, member: { healthy: true } } }, { leaves: [leave] })
    expect(steps).toEqual([])
    expect(waiting).toContainEqual({ host: 'b', reason: { gate: 'member-alive', host: 'b' } })
  })

  it('founds no cluster that nobody knows of, and keeps others from it', () => {
    const none: HostChange = { data: { kind: 'none' } }
    const nobody = { founding: undefined, firstServer: undefined }
    const { steps, waiting } = decide({ a: none, b: lost, c: none, d: none, e: none }, nobody)
    expect(steps).toEqual([])
    expect(waiting).toContainEqual({ host: 'b', reason: { gate: 'lost-datastore', host: 'b', path } })
    // One that has all of its data says more: that cluster is adopted.
    const adopted = decide({ a: none, b: lost, d: none, e: none }, nobody)
    expect(adopted.waiting).toContainEqual({ host: '', reason: { gate: 'adopt-first', host: 'c' } })
  })

  it('of another cluster is nobody’s to touch', () => {
    const foreign = { ...data, authority: 'f'.repeat(64) }
    expect(reasonOf({ b: { ...lost, data: foreign } })).toEqual({
      gate: 'foreign-data',
      authority: 'f'.repeat(64),
    })
  })

  it('joins again when it was wiped and let back, as any other', () => {
    const wiped: HostChange = { data: { kind: 'none' } }
    expect(decide({ b: wiped }, { left: new Map([['b', 'm-b']]) }).steps).toEqual([])
    expect(decide({ b: wiped }).steps).toMatchObject([{ kind: 'mint', host: 'b' }])
  })

  it('is gone back to a snapshot on where no server is left, and not while one serves or has its data', () => {
    const why = (changes: Readonly<Record<string, HostChange>>) =>
      whyNotRestore(sampleSnapshot(changes), { host: 'b', machine: 'm-b' }, NOW)
    const gone: HostChange = { gone: true, connected: false }
    expect(why({ b: lost, a: { data }, c: gone })).toEqual([])
    expect(why({ b: lost })).toContainEqual(expect.stringContaining('serves the datastore as it is'))
    expect(why({ b: lost, a: gone, c: { occupied: true } })).toContainEqual(
      expect.stringContaining('c has data of the cluster and is connected'),
    )
  })

  it('is kept over a restart of the coordinator as one that nobody may touch', () => {
    const seen = { asOfMs: NOW, part: 'home', data, version: undefined, view: undefined }
    expect(observationOf(nodeRow('m-b', seen)).data).toEqual({
      kind: 'unreadable',
      reason: `its datastore ${path} was gone`,
    })
  })
})
