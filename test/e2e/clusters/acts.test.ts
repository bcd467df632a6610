import { status } from '@grpc/grpc-js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { generateSigningKey } from '../../../shared/envelope/keys.ts'
import { ClusterStanding } from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { events, until } from '../../support/shown.ts'
import { MadeUpFleet } from './made-up-fleet.ts'

let made: MadeUpFleet
beforeAll(async () => {
  made = await MadeUpFleet.start(['s1', 's2', 's3', 'w1', 'w2'])
  await made.connectAll()
  await made.untilJoined(5)
})
afterAll(() => made?.[Symbol.asyncDispose]())

const summary = async () => (await made.api.listClusters({})).clusters[0]!
const recipientKey = () => made.node('w1').raw.key.publicKeyDer
const refusal = async (asked: Promise<unknown>) => {
  try {
    await asked
  } catch (error) {
    return error as { code: status; message: string }
  }
  throw new Error('it was not refused')
}
const hostOf = async (name: string) =>
  (await made.api.getCluster({ name: 'home' })).hosts.find(({ host }) => host === name)!

describe('what operators are shown of a cluster', () => {
  it('is where it stands, and each host of it', async () => {
    const { clusters } = await made.api.listClusters({})
    expect(clusters).toMatchObject([
      {
        name: 'home',
        distribution: 'components',
        standing: ClusterStanding.FOUNDED,
        authority: made.world.cluster?.authority,
        voters: 3,
        healthyVoters: 3,
        hosts: 5,
        joined: 5,
        firstServer: expect.stringMatching(/^s[123]$/),
      },
    ])
    expect(await hostOf('w1')).toMatchObject({ machine: made.node('w1').id, joined: true, ready: true })
    expect((await refusal(made.api.getCluster({ name: 'other' }))).code).toBe(status.NOT_FOUND)
  })
})

/** How often a server was told to drain a host since the nodes last forgot their orders. */
const drainsOf = (host: string) =>
  [...made.nodes.values()]
    .flatMap(node => node.of('drain'))
    .filter(({ action }) => action.case === 'drain' && action.value.node === host).length

describe('a drain', () => {
  it('goes by way of another server, and is remembered as our cordon until that is lifted', async () => {
    const act = await made.ended('drain', 's1', { drain: { limit: { seconds: 30n } } })
    expect(act).toMatchObject({ host: 's1', reason: '2 pods evicted', result: { done: true } })
    expect(act.executor).not.toBe('s1')
    const [order] = made.node(act.executor).of('drain')
    expect(order?.action.value).toMatchObject({ node: 's1', limit: { seconds: 30n } })
    expect((await hostOf('s1')).cordonedBy).toBe(act.id)
    expect((await made.ended('uncordon', 's1')).result?.done).toBe(true)
    expect((await hostOf('s1')).cordonedBy).toBe('')
  })

  it('that fails says why and leaves its cordon in the books; one that never began leaves none', async () => {
    for (const node of made.nodes.values()) {
      node.refuses.set('drain', { class: 'blocked', reason: 'pods that block it: web/one' })
    }
    const failed = await made.ended('drain', 'w1')
    expect(failed).toMatchObject({
      reason: 'pods that block it: web/one',
      result: { done: false, class: 'blocked' },
    })
    expect((await hostOf('w1')).cordonedBy).toBe(failed.id)
    await made.ended('uncordon', 'w1')
    for (const node of made.nodes.values())
      node.refuses.set('drain', { class: 'held', reason: 'it is on hold' })
    await made.ended('drain', 'w1')
    expect((await hostOf('w1')).cordonedBy).toBe('')
    for (const node of made.nodes.values()) node.refuses.clear()
  })

  it('is one act however often it is asked for, also over a restart of the coordinator', async () => {
    for (const node of made.nodes.values()) node.silent.add('drain')
    const request = { requestId: 'once', cluster: 'home', act: 'drain', host: 'w2' }
    const [first, second] = await Promise.all([
      made.api.startClusterAct(request),
      made.api.startClusterAct(request),
    ])
    expect(second.act?.id).toBe(first.act?.id)
    const other = await refusal(made.api.startClusterAct({ ...request, host: 'w1' }))
    expect(other.code).toBe(status.ALREADY_EXISTS)
    const clash = await refusal(made.ask('uncordon', 'w2'))
    expect(clash).toMatchObject({
      code: status.FAILED_PRECONDITION,
      message: expect.stringContaining(`drain of w2 (act ${first.act?.id}) is under way`),
    })
    expect((await hostOf('w2')).waitsFor).toEqual([expect.stringContaining('drain is under way by way of s')])

    const { firstServer } = await summary()
    for (const node of made.nodes.values()) await node.disconnect()
    await made.fleet.coordinator?.kill('SIGKILL')
    for (const node of made.nodes.values()) node.silent.clear()
    await made.fleet.startCoordinator()
    expect((await made.api.startClusterAct(request)).act?.id).toBe(first.act?.id)
    for (const node of made.nodes.values()) {
      node.forgetOrders()
      await node.connect()
    }
    const said = await made.watch(first.act!.id)
    expect(said.at(-1)?.result?.done).toBe(true)
    expect([...made.nodes.values()].flatMap(node => node.of('drain')).length).toBe(1)
    await made.ended('uncordon', 'w2')
    // That nobody was there yet moved no role.
    expect((await summary()).firstServer).toBe(firstServer)
  })
})

describe('the gates of the planner', () => {
  it('hold an act that an operator asks for, and tell which; an operator opens one, and that is recorded', async () => {
    await made.ended('drain', 'w1')
    const before = drainsOf('w2')
    const request = { requestId: 'held', cluster: 'home', act: 'drain', host: 'w2' }
    const held = await made.api.startClusterAct(request)
    expect(held.act).toBeUndefined()
    const { rollout } = await made.fleet.rollouts.getRollout({ id: held.rolloutId })
    expect(rollout).toMatchObject({
      action: 'drain',
      hosts: [
        { host: 'w2', waits: [{ gate: 'budget', reason: expect.stringContaining('w1 (it is cordoned') }] },
      ],
    })
    // Whoever asks for the same again follows it.
    const again = await made.api.startClusterAct({ ...request, requestId: 'held again' })
    expect([again.act, again.rolloutId]).toEqual([undefined, held.rolloutId])
    expect(drainsOf('w2')).toBe(before)
    const opened = { id: held.rolloutId, host: 'w2', gate: 'budget', why: 'both are to be rebuilt' }
    await made.fleet.rollouts.overrideGate(opened)
    const { act } = await until('its turn', async () => {
      const answer = await made.api.startClusterAct(request)
      return answer.act ? answer : undefined
    })
    expect((await made.watch(act!.id)).at(-1)?.result?.done).toBe(true)
    expect(drainsOf('w2')).toBe(before + 1)
    const said = (await events(made.fleet)).map(({ reason }) => reason)
    expect(said).toContainEqual(expect.stringContaining('gate budget opened for w2: both are to be rebuilt'))
    for (const host of ['w1', 'w2']) await made.ended('uncordon', host)
  })

  it('are Jobs of the fleet directory too: a server runs those that the newest revision names, before every act anew', async () => {
    const jobs = [...made.nodes.values()].filter(({ server }) => server)
    const answer = (verdict: string, reason: string) => {
      for (const node of jobs) node.jobs = [{ name: 'smoke', verdict, reason }]
    }
    const asked = () => jobs.flatMap(({ jobsAsked }) => jobsAsked)
    const distribution = 'distribution = "components"'
    const toml = made.toml().replace(distribution, `${distribution}\ngates = ["smoke"]`)
    await made.publish({ toml: `${toml}\n[gates.smoke]\njob = "gates/smoke.yaml"\n` })
    const { number, digest } = made.operator.revisions.at(-1)!
    answer('unhealthy', 'Job smoke failed: replicas are missing')
    const before = drainsOf('w1')
    const request = { requestId: 'by jobs', cluster: 'home', act: 'drain', host: 'w1' }
    const { rolloutId } = await made.api.startClusterAct(request)
    const waits = async () =>
      (await made.fleet.rollouts.getRollout({ id: rolloutId })).rollout!.hosts[0]!.waits
    await until('the gate', async () =>
      (await waits()).some(({ reason }) => reason.includes('replicas are missing')) ? true : undefined,
    )
    expect(await waits()).toMatchObject([
      { gate: 'jobs', reason: 'gate smoke is unhealthy: Job smoke failed: replicas are missing' },
    ])
    expect(JSON.parse(asked()[0] ?? '')).toEqual({
      cluster: 'home',
      revision: String(number),
      manifestDigest: digest,
    })
    expect(drainsOf('w1')).toBe(before)
    // What failed is asked again after a while, and opens by itself.
    answer('healthy', '')
    const { act } = await until('its turn', async () => {
      const answered = await made.api.startClusterAct(request)
      return answered.act ? answered : undefined
    })
    expect((await made.watch(act!.id)).at(-1)?.result?.done).toBe(true)
    expect(drainsOf('w1')).toBe(before + 1)
    // What takes nobody away asks nobody.
    const count = asked().length
    await made.ended('uncordon', 'w1')
    expect(asked()).toHaveLength(count)
    // No answer counts twice.
    await made.ended('drain', 'w1')
    expect(asked()).toHaveLength(count + 1)
    await made.ended('uncordon', 'w1')
    await made.publish()
    await made.ended('drain', 'w1')
    expect(asked()).toHaveLength(count + 1)
    await made.ended('uncordon', 'w1')
  })

  it('hold it at a lock, which is told at once', async () => {
    await made.fleet.rollouts.lockHost({ host: 'w1', why: 'a guest runs on it' })
    const refused = await refusal(made.ask('drain', 'w1'))
    expect(refused).toMatchObject({
      code: status.FAILED_PRECONDITION,
      message: expect.stringContaining('w1: is locked (a guest runs on it)'),
    })
    await made.fleet.rollouts.unlockHost({ host: 'w1' })
  })
})

describe('acts that destroy or expose', () => {
  it('are refused before anybody is told, without an operator’s signature on this very act', async () => {
    const bare = await refusal(made.ask('kubeconfig'))
    expect(bare).toMatchObject({
      code: status.INVALID_ARGUMENT,
      message: expect.stringContaining('signature'),
    })
    const cases = [
      [made.sign('kubeconfig', { recipientKey: recipientKey() }, [generateSigningKey()]), 'signature'],
      [made.sign('kubeconfig', { recipientKey: recipientKey(), cluster: 'other' }), 'is for cluster other'],
      [made.sign('rotate', { parameter: 'tokens' }), 'is for rotate, not kubeconfig'],
    ] as const
    for (const [signedOrder, why] of cases) {
      const refused = await refusal(made.ask('kubeconfig', '', { signedOrder }))
      expect(refused).toMatchObject({
        code: status.FAILED_PRECONDITION,
        message: expect.stringContaining(why),
      })
    }
    expect([...made.nodes.values()].flatMap(node => node.of('kubeconfig'))).toEqual([])
  })

  it('a kubeconfig is given out once, and stands in no list', async () => {
    const signedOrder = made.sign('kubeconfig', { recipientKey: recipientKey() })
    const act = await made.ended('kubeconfig', '', { signedOrder })
    expect(act.result?.value.case).toBe('kubeconfig')
    const [again] = await made.watch(act.id)
    expect(again?.result).toMatchObject({ done: true, value: { case: undefined } })
    const { acts } = await made.api.listClusterActs({ cluster: 'home' })
    expect(acts[0]).toMatchObject({ id: act.id, result: { value: { case: undefined } } })
  })
})

describe('a leave', () => {
  it('of a worker ends when a server has taken its Node away, and it comes back by an operator’s word alone', async () => {
    const signedOrder = made.sign('leave', { node: 'w2' })
    const act = await made.ended('leave', 'w2', { signedOrder })
    expect(act).toMatchObject({ result: { done: true }, reason: expect.stringContaining('Node no more') })
    expect(made.node('w2').of('leave')[0]?.action.value).toMatchObject({
      node: 'w2',
      dead: false,
      signedOrder: {},
    })
    expect(made.world.cluster?.nodes.has('w2')).toBe(false)
    // Once, by one server.
    expect([...made.nodes.values()].flatMap(node => node.of('clearNode')).length).toBe(1)
    expect((await hostOf('w2')).waitsFor).toEqual(['it left by an operator’s word'])
    const back = await made.ask('return', 'w2')
    expect(back).toMatchObject({ result: { done: true } })
    await made.untilJoined(5)
  })

  it('of the server that is first moves that role, and two servers do not leave at once', async () => {
    const first = made.node((await summary()).firstServer)
    const others = ['s1', 's2', 's3'].filter(host => host !== first.host)
    first.silent.add('leave')
    const act = await made.ask('leave', first.host, { signedOrder: made.sign('leave', { node: first.host }) })
    await until('the order', () => first.of('leave')[0])
    const signedOrder = made.sign('leave', { node: others[0]! })
    const early = await refusal(made.ask('leave', others[0]!, { signedOrder }))
    expect(early).toMatchObject({
      code: status.FAILED_PRECONDITION,
      message: expect.stringMatching(/rollout \S+ is not over and has cluster home/),
    })
    expect(made.node(others[0]!).of('leave')).toEqual([])
    first.answerSilent()
    expect((await made.watch(act.id)).at(-1)?.result?.done).toBe(true)
    // Two are left: of them one may go, which leaves one.
    expect((await made.ended('leave', others[0]!, { signedOrder })).result?.done).toBe(true)
    await until('one voter', async () => ((await summary()).voters === 1 ? true : undefined))
    expect((await summary()).firstServer).toBe(others[1])
    const last = await refusal(
      made.ask('leave', others[1]!, { signedOrder: made.sign('leave', { node: others[1]! }) }),
    )
    expect(last.message).toContain('last server')
    for (const host of [first.host, others[0]!]) await made.ask('return', host)
    await made.untilJoined(5)
  })
})

describe('manifests of the fleet directory', () => {
  it('are brought once for a revision that changed them, and again until they are', async () => {
    const brought = () => [...made.nodes.values()].flatMap(node => node.of('manifests'))
    expect(brought()).toEqual([])
    for (const node of made.nodes.values())
      node.refuses.set('manifests', { class: 'quorum', reason: 'not now' })
    await made.publish({ files: { 'manifests/home/web.yaml': 'kind: ConfigMap\n' } })
    const revision = BigInt(made.operator.revisions.at(-1)!.number)
    await until('a first attempt', () => (brought().length > 0 ? true : undefined))
    const failed = await until('what came of it', async () => {
      const { manifests } = await made.api.getCluster({ name: 'home' })
      return manifests?.reason.includes('not now') ? manifests : undefined
    })
    expect(failed).toMatchObject({ revision, appliedRevision: 0n })
    for (const node of made.nodes.values()) node.refuses.clear()
    await until('what the revision says', async () => {
      const { manifests } = await made.api.getCluster({ name: 'home' })
      return manifests?.appliedRevision === revision && manifests.reason === '' ? true : undefined
    })
    const tried = brought().length
    // The same manifests in the next revision lead to nothing.
    await made.publish({ files: { 'manifests/home/web.yaml': 'kind: ConfigMap\n', 'other.txt': 'x' } })
    await made.ended('snapshots')
    expect(brought().length).toBe(tried)
  })
})

it('a copy that is asked for gets no name of those that do not stay', async () => {
  const request = { requestId: 'a-copy', cluster: 'home', act: 'snapshot', host: 's1' }
  const parameter = 'rollout-0m5x8q2k1-0123456789ab'
  expect(await refusal(made.api.startClusterAct({ ...request, parameter }))).toMatchObject({
    code: status.INVALID_ARGUMENT,
    message: expect.stringContaining('parameter: '),
  })
})

it('every step of all that is among the events', async () => {
  const said = (await events(made.fleet))
    .filter(event => event.class === 'cluster')
    .map(({ reason }) => reason)
  for (const text of [
    /^home: drain of s1 was asked for by way of s. \(act /,
    /^home: drain of s1 is done \(act /,
    /^home: leaving of w2 is done \(operation /,
    /^home: clearing what was left of w2 is done/,
    /^home: manifests is begun by way of s/,
  ]) {
    expect(said).toContainEqual(expect.stringMatching(text))
  }
})
