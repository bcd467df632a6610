import { create } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ClusterStepEndedSchema } from '../../../shared/gen/muster/v1/cluster_pb.ts'
import type { ClusterRecord, Founding, Join } from '../cluster-record.ts'
import { type ClusterSnapshot, liveServers } from '../cluster-snapshot.ts'
import { decideCluster } from '../decide-cluster.ts'
import { joinedHosts } from '../decide-joins.ts'
import { askToLeave } from '../operator-changes.ts'
import { ordersFor } from '../orders-for.ts'
import { applyStep } from '../steps.ts'
import {
  AUTHORITY,
  clusterData,
  foundedRecord,
  type HostChange,
  NOW,
  sampleSnapshot,
} from '../testing/sample-snapshot.ts'
import { absorbActReport } from './absorb-act-report.ts'
import { whyNotRestore } from './judge-restore.ts'
import { openAct } from './testing/sample-act.ts'

const none: HostChange = { data: { kind: 'none' } }
const away: HostChange = { connected: false, agoMs: 600_000 }
/** All servers are lost: the machine of a was installed anew, those of b and c are off. Workers keep what they have. */
const LOST = { a: { ...none, machine: 'm-new' }, b: away, c: away } as const

const onA = (snapshot: ClusterSnapshot) => whyNotRestore(snapshot, { host: 'a', machine: 'm-new' }, NOW)
const why = (changes: Readonly<Record<string, HostChange>>, record: Partial<ClusterRecord> = {}) =>
  onA(sampleSnapshot({ ...LOST, ...changes }, record))

/** The record after the restore on a's new machine was reported. */
function reported(record: ClusterRecord, { done = true, authority = AUTHORITY } = {}, ended = false) {
  const act = openAct({
    act: 'restore',
    host: 'a',
    machine: 'm-new',
    executor: 'm-new',
    executorHost: 'a',
    ...(ended && { endedMs: NOW - 1, class: 'expired' }),
  })
  const said = create(ClusterStepEndedSchema, { done, authority, ...(!done && { class: 'timed-out' }) })
  return absorbActReport(act, said, record, NOW - 60_000).record
}

describe('a restore on a machine that has nothing', () => {
  it('may be when all servers are lost', () => {
    expect(why({})).toEqual([])
    // What an attempt before it left is taken away by the machine itself.
    expect(why({ a: { machine: 'm-new', data: { kind: 'unfinished', operation: 'act-0' } } })).toEqual([])
  })

  it('may not be while a server has data of the cluster and is connected, whatever it answers', () => {
    expect(why({ b: {} })).toContainEqual(expect.stringContaining('b serves the datastore as it is'))
    for (const change of [
      { member: undefined, agoMs: 200_000 },
      { occupied: true },
      { sinceMs: NOW },
      { data: { kind: 'unreadable', reason: 'EIO' } },
    ] satisfies HostChange[])
      expect(why({ b: change })).toContainEqual(expect.stringContaining('b has data of the cluster and is'))
    expect(why({ b: { agoMs: undefined } })).toContainEqual(expect.stringContaining('has not said in time'))
    expect(why({ b: { ...none, machine: 'm-b2' } })).toEqual([])
  })

  it('may not be while a machine that was a server serves under no host’s name', () => {
    const snapshot = sampleSnapshot(LOST)
    const old = sampleSnapshot().machines.get('m-a')
    if (!old) throw new Error('the sample has it')
    const machines = new Map(snapshot.machines).set('m-a', old)
    expect(onA({ ...snapshot, machines })).toEqual([expect.stringContaining('machine m-a has data')])
    const off = new Map(machines).set('m-a', { ...old, connected: false })
    expect(onA({ ...snapshot, machines: off })).toEqual([])
  })

  it('may not be before servers that had data were looked for a minute', () => {
    const just = { ...sampleSnapshot(LOST), firstAbsentMs: NOW - 59_000 }
    expect(onA(just)).toEqual([expect.stringContaining('looked for not yet a minute')])
    expect(onA({ ...just, firstAbsentMs: NOW - 60_000 })).toEqual([])
    // Nobody is left who could come.
    const evicted = { ...sampleSnapshot({ ...LOST, b: { gone: true }, c: { gone: true } }) }
    expect(onA({ ...evicted, firstAbsentMs: NOW })).toEqual([])
  })

  it('waits for no token, leave or clear of servers that are no more, and for a server that may still join', () => {
    const join: Join = {
      operation: 'j1',
      machine: 'm-d',
      host: 'd',
      role: 'worker',
      minter: 'm-b',
      atMs: NOW - 9_000,
      expiresMs: NOW + 60_000,
      state: 'received',
      joinedMs: undefined,
      tokenId: 't',
      end: undefined,
      joinerDone: false,
      deleter: undefined,
      tokenGone: false,
    }
    const clears = [{ operation: 'c1', host: 'e', machine: 'm-e', server: 'm-b', atMs: NOW }]
    const leaves = [
      {
        request: 'l1',
        host: 'e',
        machine: 'm-e',
        server: false,
        dead: true,
        attempt: undefined,
        failures: 0,
        notBeforeMs: 0,
        signed: undefined,
        reason: '',
      },
    ]
    expect(why({}, { joins: [join], clears, leaves })).toEqual([])
    const server: Join = { ...join, machine: 'm-b2', host: 'b', role: 'server' }
    const isAnew: HostChange = { machine: 'm-b2', data: { kind: 'none' } }
    expect(why({ b: isAnew }, { joins: [server] })).toEqual([expect.stringContaining('b is joining')])
  })

  it('says of all that is under way what it is and whose turn it is', () => {
    const join: Join = {
      operation: 'j1',
      machine: 'm-d',
      host: 'd',
      role: 'worker',
      minter: 'm-b',
      atMs: NOW - 9_000,
      expiresMs: NOW + 60_000,
      state: 'joined',
      joinedMs: NOW - 5_000,
      tokenId: 't',
      end: undefined,
      joinerDone: false,
      deleter: undefined,
      tokenGone: false,
    }
    const asked = { host: 'b', machine: 'm-b', server: true, dead: false, signed: undefined }
    const changes: HostChange = { agoMs: 1_000, member: undefined }
    const of = (record: Partial<ClusterRecord>) =>
      whyNotRestore(
        sampleSnapshot({ b: changes, c: changes }, { ...foundedRecord(), ...record }),
        { host: 'a', machine: 'm-a' },
        NOW,
      ).filter(reason => reason.includes('not set back meanwhile'))
    const { leaves } = askToLeave(foundedRecord(), asked, 'leave-b')
    expect(of({ joins: [join] })).toEqual([expect.stringMatching(/^d is joining \(operation j1\): /)])
    expect(of({ joins: [{ ...join, end: 'joined', deleter: 'm-b' }] })).toEqual([
      expect.stringMatching(
        /^the token that d joined with is not known to be deleted by b \(operation j1\): /,
      ),
    ])
    expect(
      of({ clears: [{ operation: 'c1', host: 'e', machine: 'm-e', server: 'm-x', atMs: NOW }] }),
    ).toEqual([expect.stringMatching(/^machine m-x takes an older e away \(operation c1\): /)])
    expect(of({ leaves })).toEqual([expect.stringMatching(/^b is to leave, and waits: /)])
    const begun = leaves.map(leave => ({ ...leave, attempt: { operation: 'l1', executor: 'm-c' } }))
    expect(of({ leaves: begun })).toEqual([expect.stringMatching(/^b is leaving \(operation l1\): /)])
  })

  it('needs a system that is made for the cluster', () => {
    const snapshot = sampleSnapshot(LOST)
    const hosts = snapshot.hosts.map(each =>
      each.host === 'a' ? { ...each, barred: { gate: 'no-part', part: '' } as const } : each,
    )
    expect(onA({ ...snapshot, hosts })).toEqual([expect.stringContaining('apply the revision')])
  })
})

describe('after such a restore', () => {
  const record = reported({
    ...foundedRecord(),
    clears: [{ operation: 'c1', host: 'e', machine: 'm-e', server: 'm-b', atMs: NOW }],
  })

  it('the record follows: who founded, who is first, and nothing is under way', () => {
    expect(record).toMatchObject({
      founding: { state: 'founded', machine: 'm-new', host: 'a', authority: AUTHORITY, adopted: false },
      firstServer: 'm-new',
      joins: [],
      clears: [],
    })
    const alone: HostChange = { machine: 'm-new', data: clusterData(true), agoMs: 5_000 }
    const snapshot = sampleSnapshot({ ...LOST, a: alone }, record)
    expect(liveServers(snapshot, NOW).map(({ host }) => host)).toEqual(['a'])
    expect(joinedHosts(snapshot)).toEqual(['a', 'd', 'e'])
  })

  it('a server that comes back with what it had is no member: it is shown, mints nothing and speaks for nobody', () => {
    const a: HostChange = { machine: 'm-new', data: clusterData(true), agoMs: 5_000 }
    const old: HostChange = { agoMs: 1_000 }
    const snapshot = sampleSnapshot({ a, b: old, c: old, e: { ...none, agoMs: 1_000 } }, record)
    // All of them see each other well; only a's word counts.
    expect(liveServers(snapshot, NOW).map(({ host }) => host)).toEqual(['a'])
    const { steps, waiting } = decideCluster(snapshot, NOW)
    for (const host of ['b', 'c'])
      expect(waiting).toContainEqual({ host, reason: { gate: 'set-back', host } })
    const minters = steps.flatMap(step => (step.kind === 'mint' ? [step.minter] : []))
    expect(minters.filter(minter => minter !== 'm-new')).toEqual([])
    expect(joinedHosts(snapshot)).toEqual(['a', 'd'])
  })

  it('a server of before that is to leave is taken out by one of the datastore, never by itself', () => {
    const a: HostChange = { machine: 'm-new', data: clusterData(true), agoMs: 5_000 }
    const old: HostChange = { agoMs: 1_000, member: undefined }
    const asked = { host: 'b', machine: 'm-b', server: true, dead: false, signed: undefined }
    const snapshot = sampleSnapshot({ a, b: old, c: old }, askToLeave(record, asked, 'leave-b'))
    const { steps } = decideCluster(snapshot, NOW)
    expect(steps).toContainEqual(
      expect.objectContaining({ kind: 'leave', request: 'leave-b', executor: 'm-new' }),
    )
  })

  it('a server is of the datastore again as soon as it was minted for', () => {
    const a: HostChange = { machine: 'm-new', data: clusterData(true), agoMs: 5_000 }
    const view = { a, b: { ...none, machine: 'm-b2', agoMs: 1_000 }, c: { ...away, member: undefined } }
    const step = decideCluster(sampleSnapshot(view, record), NOW).steps.find(({ kind }) => kind === 'mint')
    expect(step).toMatchObject({ kind: 'mint', machine: 'm-b2', minter: 'm-new' })
    if (!step) throw new Error('nothing was minted')
    const joined = { ...applyStep(record, step, NOW), joins: [] }
    const b: HostChange = { machine: 'm-b2', data: clusterData(true), agoMs: 1_000 }
    expect(liveServers(sampleSnapshot({ ...view, b }, joined), NOW).map(({ host }) => host)).toEqual([
      'a',
      'b',
    ])
  })

  it('what is told twice, or after its time, counts once', () => {
    expect(reported(record)).toBe(record)
    const late = reported(foundedRecord(), {}, true)
    expect(late).toMatchObject({ firstServer: 'm-new', setBackAt: 2 })
    expect(reported(late, {}, true)).toBe(late)
  })

  it('that failed the record is as it was, but for what is counted anew', () => {
    const failed = reported(foundedRecord(), { done: false })
    expect(failed).toMatchObject({ firstServer: 'm-a', setBackAt: 0, settledMs: NOW - 60_000 })
    expect(failed.founding).toEqual(foundedRecord().founding)
  })
})

describe('of a cluster that nobody knows any more', () => {
  const nobody = { founding: undefined, firstServer: undefined, count: 0 }
  const ordered: Founding = {
    state: 'ordered',
    machine: 'm-new',
    host: 'a',
    operation: 'act-1',
    atMs: NOW,
    attempt: 1,
    authority: undefined,
    adopted: false,
  }
  const fresh = { ...LOST, b: none, c: none }

  it('a restore is the founding, once, and no order to found follows from it', () => {
    expect(why(fresh, nobody)).toEqual([])
    const begun = { ...foundedRecord(), ...nobody, founding: ordered }
    expect(ordersFor(begun, 'm-new')).toEqual([])
    expect(reported(begun)).toMatchObject({
      founding: { state: 'founded', machine: 'm-new', attempt: 1, authority: AUTHORITY },
      firstServer: 'm-new',
    })
    // Whatever becomes of the act: nobody else founds meanwhile.
    const empty = { ...fresh, d: none, e: none }
    const { steps, waiting } = decideCluster(sampleSnapshot(empty, begun), NOW)
    expect(steps).toEqual([])
    expect(waiting).toContainEqual({ host: '', reason: { gate: 'founding', host: 'a' } })
    const failed = reported(begun, { done: false })
    expect(failed.founding).toMatchObject({ state: 'failed', machine: 'm-new' })
    expect(why(fresh, { ...failed })).toEqual([])
  })

  it('it may not be where a server may have data, was never heard, or was told to found', () => {
    expect(why({ ...fresh, b: {} }, nobody)).toContainEqual(expect.stringContaining('b has data of the'))
    expect(why({ ...fresh, b: { connected: false, agoMs: undefined } }, nobody)).toContainEqual(
      expect.stringContaining('b is a server and has never said'),
    )
    const other = { ...ordered, machine: 'm-b', host: 'b' }
    expect(why(fresh, { ...nobody, founding: other })).toContainEqual(
      expect.stringContaining('b was told to found the cluster'),
    )
    const named = { ...ordered, operation: `${(0).toString(36).padStart(9, '0')}-home-1` }
    expect(why(fresh, { ...nobody, count: 1, founding: named })).toContainEqual(
      expect.stringContaining('a was told to found the cluster'),
    )
    const left = { ...other, state: 'failed' } as const
    const unfinished = { data: { kind: 'unfinished', operation: 'x' } } as const
    expect(why({ ...fresh, b: unfinished }, { ...nobody, founding: left })).toContainEqual(
      expect.stringContaining('founding failed on b'),
    )
    // Its own data is adopted, and not set back.
    expect(why({ ...fresh, a: { machine: 'm-new' } }, nobody)).toContainEqual(
      expect.stringContaining('muster cluster adopt home'),
    )
  })

  it('nothing is founded as long as a snapshot of it lies on a server', () => {
    const empty = { a: none, b: none, c: none, d: none, e: none }
    expect(decideCluster(sampleSnapshot(empty, nobody), NOW).steps).toMatchObject([{ kind: 'found' }])
    // Workers may still have what they had in it.
    const snapshot = sampleSnapshot({ a: none, b: none, c: none }, nobody)
    const machines = new Map(
      [...snapshot.machines].map(([id, view]) => {
        const seen = view.observation
        return [id, id === 'm-c' && seen ? { ...view, observation: { ...seen, snapshots: ['first'] } } : view]
      }),
    )
    const { steps, waiting } = decideCluster({ ...snapshot, machines }, NOW)
    expect(steps).toEqual([])
    expect(waiting).toContainEqual({
      host: 'c',
      reason: { gate: 'snapshot-found', cluster: 'home', host: 'c', name: 'first' },
    })
  })
})

it('a cluster of which no server is left says what brings it back, and one whose server restarts does not', () => {
  const whole = (changes: Readonly<Record<string, HostChange>>) =>
    decideCluster(sampleSnapshot(changes), NOW).waiting.find(({ host }) => host === '')?.reason
  expect(whole(LOST)).toEqual({ gate: 'no-server', lost: 'home' })
  expect(whole({ ...LOST, b: { occupied: true } })).toEqual({ gate: 'no-server' })
  const just = { ...sampleSnapshot(LOST), firstAbsentMs: NOW - 30_000 }
  expect(decideCluster(just, NOW).waiting).toContainEqual({ host: '', reason: { gate: 'no-server' } })
})

it('never lets a machine without data be made the server while another may serve', () => {
  const server = fc.record({
    connected: fc.boolean(),
    gone: fc.boolean(),
    occupied: fc.boolean(),
    agoMs: fc.constantFrom(1_000, 200_000, undefined),
    data: fc.constantFrom(
      clusterData(true),
      clusterData(true, 'b'.repeat(64)),
      { kind: 'none' } as const,
      { kind: 'unreadable', reason: 'x' } as const,
    ),
  })
  let granted = 0
  fc.assert(
    fc.property(server, server, fc.boolean(), (b, c, isKnown) => {
      const record = isKnown ? {} : { founding: undefined, firstServer: undefined }
      const snapshot = sampleSnapshot({ ...LOST, b, c }, record)
      if (onA(snapshot).length > 0) return
      granted += 1
      expect(liveServers(snapshot, NOW)).toEqual([])
      for (const id of ['m-b', 'm-c']) {
        const view = snapshot.machines.get(id)
        if (!view?.connected || view.gone) continue
        expect(view.observation).toBeDefined()
        const data = view.observation?.data
        expect(data?.kind === 'unreadable').toBe(false)
        if (data?.kind === 'cluster') expect([isKnown, data.authority === AUTHORITY]).toEqual([true, false])
      }
    }),
    { numRuns: 500 },
  )
  expect(granted).toBeGreaterThan(20)
})
