import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { generateSigningKey } from '../../../shared/envelope/keys.ts'
import type { Envelope } from '../../../shared/gen/muster/v1/envelope_pb.ts'
import type { OperatorOrder, SignedAct } from '../../../shared/operator-order/operator-order.ts'
import { signOperatorOrder } from '../../../shared/operator-order/sign-operator-order.ts'
import { makeFirstTrustSet } from '../../../shared/trust/make-trust-set.ts'
import type { ClusterRecord } from '../cluster-record.ts'
import { liveServers } from '../cluster-snapshot.ts'
import { majority } from '../quorum.ts'
import { AUTHORITY, clusterData, type HostChange, NOW, sampleSnapshot } from '../testing/sample-snapshot.ts'
import { ACT_WORDS, type ClusterAct } from './cluster-act.ts'
import { type ActContext, judgeAct } from './judge-act.ts'
import { askFor, openAct } from './testing/sample-act.ts'

const key = generateSigningKey()
const fleetId = '0123456789abcdef0123456789abcdef'
const { trust } = makeFirstTrustSet({
  fleetId,
  keys: [{ key, comment: 'anna' }],
  threshold: 1,
  recoveryKeys: [],
  caPins: [],
  coordinators: [],
  created: new Date(NOW - 1_000_000),
  signers: [key],
})

const signed = (act: SignedAct, node = '', change: Partial<OperatorOrder> = {}): Envelope =>
  signOperatorOrder(
    {
      id: 'ab'.repeat(16),
      fleetId,
      cluster: 'home',
      act,
      node,
      // The samples' machines are no digests, and an order names a machine by one or not at all.
      machine: '',
      dead: false,
      parameter: '',
      recipientKey: new Uint8Array(),
      createdMs: NOW - 1000,
      expiresMs: NOW + 3_600_000,
      ...change,
    },
    key,
  )

function contextOf(
  changes: Readonly<Record<string, HostChange>> = {},
  record: Partial<ClusterRecord> = {},
  open: readonly ClusterAct[] = [],
): ActContext {
  const revision = { number: 7, digest: 'd'.repeat(64) }
  return { snapshot: sampleSnapshot(changes, record), open, trust, revision, endpoint: '' }
}

const grantOf = (context: ActContext, ...asked: Parameters<typeof askFor>) => {
  const verdict = judgeAct(askFor(...asked), context, NOW)
  if (verdict.kind === 'refused') throw new Error(verdict.problems.join('\n'))
  return verdict.grant
}
const problemsOf = (context: ActContext, ...asked: Parameters<typeof askFor>) => {
  const verdict = judgeAct(askFor(...asked), context, NOW)
  return verdict.kind === 'refused' ? verdict.problems : []
}
const away = { connected: false } as const

describe('who does an act', () => {
  it('is a server other than the node where there is one, and the first one before others', () => {
    expect(grantOf(contextOf(), 'drain', 'd').executor?.host).toBe('a')
    expect(grantOf(contextOf(), 'drain', 'a').executor?.host).toBe('b')
    expect(grantOf(contextOf({ b: away, c: away }), 'drain', 'a').executor?.host).toBe('a')
    expect(grantOf(contextOf({ a: away }), 'snapshot').executor?.host).toBe('b')
    expect(grantOf(contextOf(), 'snapshot', 'c').executor?.host).toBe('c')
  })

  it('is a server that takes such orders, where any does', () => {
    const forbids = { allowed: ['apply', 'join'] }
    expect(grantOf(contextOf({ a: forbids }), 'drain', 'd').executor?.host).toBe('b')
    expect(grantOf(contextOf({ a: forbids }), 'snapshot').executor?.host).toBe('b')
    // Where it is the only one, also that which is about to stop; and where none is, one says so itself.
    expect(grantOf(contextOf({ b: forbids, c: forbids }), 'drain', 'a').executor?.host).toBe('a')
    expect(grantOf(contextOf({ a: forbids, b: forbids, c: forbids }), 'drain', 'd').executor?.host).toBe('a')
    // What only reads needs nobody's leave.
    expect(grantOf(contextOf({ a: forbids }), 'snapshots').executor?.host).toBe('a')
  })

  it('is never one that is away, held or in the middle of something', () => {
    for (const change of [away, { occupied: true }, { agoMs: 200_000 }]) {
      expect(problemsOf(contextOf({ c: change }), 'snapshot', 'c')).toEqual([
        'c is no server of the cluster that is connected, ready and free',
      ])
      const none = contextOf({ a: change, b: change, c: change })
      expect(problemsOf(none, 'drain', 'd')).toEqual([
        'no server of the cluster is connected, ready and free',
      ])
    }
    expect(problemsOf(contextOf({ d: away }), 'certificates', 'd')).toEqual([
      'd: its machine is not connected',
    ])
  })
})

describe('why an act is refused', () => {
  it('names every reason at once', () => {
    const context = contextOf({ a: away, b: away, c: away }, {}, [openAct()])
    expect(problemsOf(context, 'drain', 'd')).toEqual([
      'drain of d (act act-1) is under way',
      'no server of the cluster is connected, ready and free',
    ])
  })

  it('tells a cluster that is to be adopted from one that is to be founded', () => {
    const nobody = { founding: undefined, firstServer: undefined }
    expect(problemsOf(contextOf({}, nobody), 'drain', 'd')[0]).toContain('muster cluster adopt home')
    const empty = { data: { kind: 'none' } } as const
    const fresh = contextOf({ a: empty, b: empty, c: empty, d: empty, e: empty }, nobody)
    expect(problemsOf(fresh, 'snapshot')[0]).toBe('cluster home was not founded yet')
  })

  it('lets reads be beside anything, and nothing beside what rebuilds servers', () => {
    expect(problemsOf(contextOf({}, {}, [openAct()]), 'certificates', 'd')).toEqual([])
    const restoring = [openAct({ act: 'restore', host: 'a' })]
    for (const act of ['drain', 'uncordon'] as const) {
      expect(problemsOf(contextOf({}, {}, restoring), act, 'd')).toContainEqual(
        expect.stringContaining('restore of a (act act-1) is under way'),
      )
    }
  })

  it('knows no host that is neither in the revision nor in the cluster, and still drains what only the cluster knows', () => {
    expect(problemsOf(contextOf(), 'drain', 'zz')).toContainEqual(
      'zz is no host of cluster home by the newest revision',
    )
    const context = contextOf({ zz: { ready: false } })
    const hosts = context.snapshot.hosts.filter(({ host }) => host !== 'zz')
    const dropped = { ...context, snapshot: { ...context.snapshot, hosts } }
    expect(grantOf(dropped, 'drain', 'zz')).toMatchObject({ host: 'zz', cordons: true })
    expect(problemsOf(contextOf({ d: { ready: undefined } }), 'drain', 'd')).toEqual([
      'd has no Node in the cluster',
    ])
  })
})

describe('a leave', () => {
  const leave = (host: string, context: ActContext, dead = false) =>
    problemsOf(context, 'leave', host, {
      dead,
      signedOrder: signed('leave', host, { machine: 'f'.repeat(64), dead }),
    })

  it('is refused where quorum would not hold, of the last server, of who lives as dead, of who is away unless dead', () => {
    expect(leave('c', contextOf({ b: { member: { healthy: false } } }))[0]).toContain('no quorum')
    const alone = contextOf({ b: { role: 'worker' }, c: { role: 'worker' } })
    expect(leave('a', alone)[0]).toContain('last server')
    expect(leave('c', contextOf({ c: away }), true)[0]).toContain('its member of the datastore is healthy')
    expect(leave('d', contextOf(), true)[0]).toContain('let it leave by itself, or evict it first')
    const begun = [openAct({ act: 'leave' })]
    expect(leave('d', contextOf({}, {}, begun))[0]).toContain('asked for as dead it takes its place')
    expect(leave('d', contextOf({ d: away }, {}, begun), true)).not.toContainEqual(
      expect.stringContaining('under way'),
    )
    expect(leave('d', contextOf({ d: away }))[0]).toContain('--dead')
    expect(leave('d', contextOf({ d: { occupied: true } }))[0]).toContain('held')
  })

  it('carries the signed order into the record, until that order ends', () => {
    // Of a machine that is gone and of which nobody knows the key, the order alone says which it is.
    const machine = 'f'.repeat(64)
    const context = contextOf({ d: { machine, ready: false, ...away } })
    const signedOrder = signed('leave', 'd', { machine, dead: true })
    const grant = grantOf(context, 'leave', 'd', { dead: true, signedOrder })
    expect(grant.change).toMatchObject({
      kind: 'leave',
      leave: { host: 'd', machine, server: false, dead: true, signed: { untilMs: NOW + 3_600_000 } },
    })
    expect(grant.expiresMs).toBeUndefined()
  })
})

describe('a return', () => {
  it('is of who left, or whose join failed and waits to be tried again, and of nobody else', () => {
    const asked = (record: Partial<ClusterRecord>) => problemsOf(contextOf({}, record), 'return', 'd')
    const failed = (notBeforeMs: number, machine = 'm-d') =>
      new Map([[machine, { failures: 3, notBeforeMs, overMs: 0, reason: 'no' }]])
    expect(asked({ left: new Map([['d', 'm-d']]) })).toEqual([])
    expect(asked({ attempts: failed(NOW + 1) })).toEqual([])
    const nothing = [expect.stringContaining('d did not leave by an operator’s word, and nothing')]
    expect(asked({})).toEqual(nothing)
    expect(asked({ attempts: failed(NOW) })).toEqual(nothing)
    expect(asked({ attempts: failed(NOW + 1, 'm-old') })).toEqual(nothing)
    expect(grantOf(contextOf({}, { attempts: failed(NOW + 1) }), 'return', 'd')).toMatchObject({
      host: 'd',
      machine: 'm-d',
      change: { kind: 'return' },
      action: undefined,
    })
  })
})

describe('what rebuilds servers', () => {
  const restore = (context: ActContext, host = 'a') =>
    problemsOf(context, 'restore', host, {
      parameter: 'snap',
      signedOrder: signed('restore', '', { parameter: 'snap' }),
    })

  it('sets no datastore back that other servers serve as it is', () => {
    expect(restore(contextOf())).toEqual([
      expect.stringContaining('b serves the datastore as it is: let it leave first'),
      expect.stringContaining('c serves the datastore as it is'),
    ])
    expect(restore(contextOf({ b: away, c: away }))).toEqual([])
    // They left a moment ago, and what is known of them is from before.
    const left = new Map([
      ['b', 'm-b'],
      ['c', 'm-c'],
    ])
    expect(restore(contextOf({}, { left }))).toEqual([])
    expect(restore(contextOf({}, { left: new Map([['b', 'm-older']]) }))).toHaveLength(2)
    expect(restore(contextOf(), 'd')).toContain('d is no server')
  })

  it('is carried to a machine that has nothing with the authority that the cluster has, and founds where none is known', () => {
    const signedOrder = signed('restore', '', { parameter: 'snap' })
    const more = { parameter: 'snap', signedOrder }
    const lost = { a: { data: { kind: 'none' } }, b: away, c: away } as const
    const known = grantOf(contextOf(lost), 'restore', 'a', more)
    expect(known).toMatchObject({
      executor: { host: 'a', machine: 'm-a' },
      action: { case: 'restore', value: { name: 'snap', authority: AUTHORITY } },
      change: undefined,
    })
    const empty = { ...lost, b: { data: { kind: 'none' } }, c: { data: { kind: 'none' } } } as const
    const unknown = contextOf(empty, { founding: undefined, firstServer: undefined })
    expect(grantOf(unknown, 'restore', 'a', more)).toMatchObject({
      action: { value: { authority: '' } },
      change: { kind: 'found' },
    })
    // What lies there is listed before, whatever runs or is known.
    expect(grantOf(unknown, 'snapshots', 'a').executor).toMatchObject({ host: 'a' })
    expect(problemsOf(contextOf({ a: away }), 'snapshots', 'a')).toEqual(['a: its machine is not connected'])
  })

  it('makes certificates anew only where the datastore bears a restart', () => {
    const rotate = (context: ActContext) =>
      problemsOf(context, 'rotate', 'c', {
        parameter: 'certificates',
        signedOrder: signed('rotate', 'c', { parameter: 'certificates', machine: 'f'.repeat(64) }),
      })
    expect(rotate(contextOf({ b: { member: { healthy: false } } }))[0]).toContain('voters are healthy')
    const leaving = {
      request: 'x',
      host: 'b',
      machine: 'm-b',
      server: true,
      dead: false,
      attempt: { operation: 'op', executor: 'm-b' },
      failures: 0,
      notBeforeMs: 0,
      signed: undefined,
      reason: '',
    }
    expect(rotate(contextOf({}, { leaves: [leaving] }))[0]).toContain('one does at a time')
  })

  it('wipes nothing that is in the cluster, and what is not in it any more', () => {
    const wipe = (context: ActContext, host: string) =>
      problemsOf(context, 'wipe', host, { signedOrder: signed('wipe', host, { machine: 'f'.repeat(64) }) })
    expect(wipe(contextOf(), 'd')).toEqual([
      'd is in the cluster: let it leave, which takes its data away too',
    ])
    const none = contextOf({ d: { machine: 'f'.repeat(64), data: { kind: 'none' } } })
    expect(wipe(none, 'd')).toEqual([])
    const foreign = contextOf({ d: { machine: 'f'.repeat(64), data: clusterData(false, 'b'.repeat(64)) } })
    expect(wipe(foreign, 'd')).toEqual([])
  })
})

describe('an operator’s signature', () => {
  it('must be on this very act, by a key of the trust set, and not over', () => {
    const kubeconfig = (signedOrder: Envelope) => problemsOf(contextOf(), 'kubeconfig', '', { signedOrder })
    const recipientKey = new Uint8Array()
    expect(() => askFor('kubeconfig')).toThrow('signature')
    expect(() =>
      askFor('drain', 'd', { signedOrder: signed('leave', 'd', { machine: 'f'.repeat(64) }) }),
    ).toThrow('takes none')
    expect(kubeconfig(signed('rotate', '', { parameter: 'tokens', recipientKey }))[0]).toContain(
      'is for rotate',
    )
    const old = signed('rotate', '', { parameter: 'tokens', createdMs: NOW - 10_000, expiresMs: NOW - 1 })
    expect(problemsOf(contextOf(), 'rotate', '', { parameter: 'tokens', signedOrder: old })[0]).toContain(
      'ended at',
    )
    const good = signed('rotate', '', { parameter: 'tokens' })
    expect(problemsOf(contextOf(), 'rotate', '', { parameter: 'tokens', signedOrder: good })).toEqual([])
    const untrusted = { ...contextOf(), trust: undefined }
    expect(problemsOf(untrusted, 'rotate', '', { parameter: 'tokens', signedOrder: good })[0]).toContain(
      'no trust set',
    )
  })
})

it('never lets a server that is away or occupied do anything, and never begins what breaks the quorum', () => {
  const change = fc.record({
    connected: fc.boolean(),
    occupied: fc.boolean(),
    agoMs: fc.constantFrom(1_000, 80_000, 200_000),
    member: fc.record({ learner: fc.boolean(), healthy: fc.boolean() }),
    ready: fc.boolean(),
  })
  const worker = fc.record({ connected: fc.boolean(), occupied: fc.boolean(), ready: fc.boolean() })
  const free = { connected: true, occupied: false, ready: true }
  const well = { ...free, agoMs: 1_000, member: { learner: false, healthy: true } }
  const away = { ...well, connected: false, ready: false, agoMs: 200_000 }
  const granted = new Set<string>()
  fc.assert(
    fc.property(
      fc.record({ a: change, b: change, c: change, d: worker, e: worker }),
      fc.constantFrom(...ACT_WORDS),
      fc.constantFrom('a', 'b', 'c', 'd', 'e'),
      (changes, act, host) => {
        const keyed = Object.entries(changes).map(([name, each]) => [
          name,
          { ...each, machine: name.repeat(64) },
        ])
        const context = contextOf(Object.fromEntries(keyed))
        const order = { node: host, machine: host.repeat(64) }
        const more =
          act === 'leave' || act === 'wipe'
            ? { signedOrder: signed(act, host, order) }
            : act === 'restore' || act === 'rotate'
              ? { parameter: 'tokens', signedOrder: signed(act, '', { parameter: 'tokens' }) }
              : {}
        if (act === 'kubeconfig') return
        const verdict = judgeAct(askFor(act, host, more), context, NOW)
        if (verdict.kind === 'refused') {
          expect(verdict.problems.length).toBeGreaterThan(0)
          return
        }
        granted.add(act)
        const { executor, change } = verdict.grant
        const view = executor && context.snapshot.machines.get(executor.machine)
        if (view) expect(view).toMatchObject({ connected: true, occupied: false, gone: false })
        if (act === 'restore') {
          expect(liveServers(context.snapshot, NOW).filter(server => server.host !== host)).toEqual([])
        }
        if (change?.kind === 'leave' && change.leave.server) {
          const members = (['a', 'b', 'c'] as const).map(name => ({ name, ...changes[name].member }))
          // While somebody is still to become a voter it waits: what is granted is its place in the line.
          if (members.some(({ learner, name }) => learner && name !== host)) return
          const left = members.filter(({ learner, name }) => !learner && name !== host)
          expect(left.filter(({ healthy }) => healthy).length).toBeGreaterThanOrEqual(majority(left.length))
        }
      },
    ),
    // What chance seldom grants comes first.
    {
      numRuns: 1000,
      examples: [
        [{ a: well, b: well, c: well, d: free, e: free }, 'leave', 'd'],
        [{ a: well, b: away, c: away, d: free, e: free }, 'restore', 'a'],
      ],
    },
  )
  // Each is granted at times, or all of this would say nothing.
  expect([...granted].sort()).toEqual(
    ['certificates', 'cordon', 'drain', 'leave', 'manifests', 'restore', 'rotate', 'snapshot']
      .concat('snapshots', 'uncordon', 'wipe')
      .sort(),
  )
})

describe('a server that lost its datastore alone', () => {
  const path = '/var/lib/etcd/member'
  const data = { kind: 'lost', authority: AUTHORITY, distribution: 'k3s', path } as const
  const lost: HostChange = { data, member: { healthy: false }, ready: false }
  const dead = { dead: true, signedOrder: signed('leave', 'b', { dead: true }) }
  const wipe = (context: ActContext) =>
    problemsOf(context, 'wipe', 'b', { signedOrder: signed('wipe', 'b', { machine: 'f'.repeat(64) }) })

  it('does not leave by itself, and the refusal names the command that takes it out', () => {
    expect(
      problemsOf(contextOf({ b: lost }), 'leave', 'b', { signedOrder: signed('leave', 'b', dead) }),
    ).toEqual([expect.stringContaining('`muster leave b --dead`')])
  })

  it('is taken out as one that is gone, though its machine is connected', () => {
    expect(grantOf(contextOf({ b: lost }), 'leave', 'b', dead).change).toMatchObject({
      kind: 'leave',
      leave: { host: 'b', machine: 'm-b', server: true, dead: true },
    })
    // Not where the rest are no quorum, and not where it has all of its data.
    const few = contextOf({ b: lost, c: { ...away, member: { healthy: false } } })
    expect(problemsOf(few, 'leave', 'b', dead)).toContainEqual(expect.stringContaining('voters are healthy'))
    expect(problemsOf(contextOf(), 'leave', 'b', dead)).toContainEqual(
      expect.stringContaining('is connected'),
    )
  })

  it('is wiped when it is no member any more, and not while nobody can say that', () => {
    const machine = 'f'.repeat(64)
    const own = { ...lost, machine }
    expect(wipe(contextOf({ b: own }))).toEqual([expect.stringContaining('is still a member')])
    expect(wipe(contextOf({ b: { data, machine } }))).toEqual([])
    const gone = { ...away, agoMs: 600_000 }
    expect(wipe(contextOf({ b: own, a: gone, c: gone }))).toEqual([
      expect.stringContaining('whether it is still a member cannot be told'),
    ])
    const left = { left: new Map([['b', machine]]) }
    expect(wipe(contextOf({ b: own, a: gone, c: gone }, left))).toEqual([])
    // Where nobody is left who could count on it, an operator may.
    const nobody = { data, member: { healthy: false } } as const
    expect(wipe(contextOf({ b: own, a: nobody, c: nobody }))).toEqual([])
  })
})
