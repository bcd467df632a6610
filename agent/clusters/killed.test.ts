import { beforeAll, describe, expect, it } from 'vitest'
import { ClusterRole } from '../../shared/gen/muster/v1/cluster_pb.ts'
import { durationFromMs } from '../../shared/time.ts'
import { type ClusterKeys, ClusterNode, idOf, makeClusterKeys } from './testing/cluster-node.ts'

let keys: ClusterKeys
beforeAll(async () => {
  keys = await makeClusterKeys()
})

const poll = (look: () => unknown) => expect.poll(look, { timeout: 5_000, interval: 2 })
const MOST_STEPS = 40
type Give = (node: ClusterNode) => Promise<void>

/**
 * Gives the orders to a node whose process is killed at every one of its steps in turn, and each time started again and told
 * the same once more, as a coordinator does that had no answer. Answers in how many different places it was killed.
 */
async function killedEverywhere(
  prepare: () => Promise<ClusterNode>,
  give: Give,
  settled: (node: ClusterNode) => boolean,
  check: (node: ClusterNode) => void,
): Promise<number> {
  for (let at = 1; at <= MOST_STEPS; at += 1) {
    await using node = await prepare()
    let steps = 0
    let killed = false
    node.machine.onStep = async () => {
      steps += 1
      if (steps < at) return
      killed = true
      await new Promise(() => {})
    }
    await give(node)
    await poll(() => killed || settled(node)).toBe(true)
    if (!killed) {
      check(node)
      return at - 1
    }
    node.kill()
    await node.run()
    await give(node)
    await poll(() => settled(node)).toBe(true)
    check(node)
  }
  throw new Error(`more than ${MOST_STEPS} steps: where it is killed was not tried everywhere`)
}

describe('killed at any step and started again', () => {
  it('a founder founds one cluster, and says that it did', async () => {
    const places = await killedEverywhere(
      async () => await ClusterNode.start(keys),
      async node => await node.give('o1', { case: 'found', value: {} }),
      node => node.inWords('o1') !== undefined,
      node => {
        expect(node.inWords('o1')).toBe('done')
        expect(node.machine).toMatchObject({ finished: 'o1', begun: undefined })
        expect(node.machine.did.filter(each => !each.startsWith('found'))).toEqual([])
      },
    )
    expect(places).toBeGreaterThanOrEqual(3)
  })

  it('a minter has one token out for an operation, and after its deletion none', async () => {
    const places = await killedEverywhere(
      async () => {
        const node = await ClusterNode.start(keys)
        node.machine.belongs()
        return node
      },
      async node => {
        const lifetime = durationFromMs(600_000)
        const value = { host: 'n4', role: ClusterRole.WORKER, joinerKey: keys.n4.publicKeyDer, lifetime }
        await node.give('j1', { case: 'mint', value })
        await node.give('j2', { case: 'mint', value })
        await node.give('j2', { case: 'deleteSecret', value: {} })
      },
      node => node.inWords('j1') === 'minted' && node.inWords('j2') === 'deleted',
      node => {
        expect([...node.machine.tokens.values()].map(({ operation }) => operation)).toEqual(['j1'])
        expect(node.sealedOf('j1')).toBeDefined()
        expect(node.reportsOf('j2')).toHaveLength(1)
      },
    )
    expect(places).toBeGreaterThanOrEqual(6)
  })

  it('a joiner joins once, with the secret that came first, which then counts as used', async () => {
    await using server = await ClusterNode.start(keys)
    server.machine.belongs()
    const lifetime = durationFromMs(600_000)
    const value = { host: 'n4', role: ClusterRole.WORKER, joinerKey: keys.n4.publicKeyDer, lifetime }
    await server.give('j1', { case: 'mint', value })
    await poll(() => server.inWords('j1')).toBe('minted')
    const secret = server.sealedOf('j1')
    if (!secret) throw new Error('nothing was minted')
    const places = await killedEverywhere(
      async () => await ClusterNode.start(keys, 'n4'),
      async node => await node.give('j1', { case: 'join', value: { secret, serverAddress: '' } }),
      node => node.inWords('j1') === 'done',
      node => {
        expect(node.machine.joinedWith).toHaveLength(1)
        expect(node.reportsOf('j1').map(({ result }) => result.case)).toEqual(['received', 'ended'])
      },
    )
    expect(places).toBeGreaterThanOrEqual(3)
  })

  it('a server that leaves has left, and nothing of the cluster is on it', async () => {
    const signedFor = new WeakMap<ClusterNode, ReturnType<ClusterNode['signed']>>()
    const places = await killedEverywhere(
      async () => {
        const node = await ClusterNode.start(keys)
        node.machine.belongs()
        signedFor.set(node, node.signed({ act: 'leave', node: 'n1', machine: idOf(keys.n1) }))
        return node
      },
      async node => {
        const signedOrder = signedFor.get(node)
        await node.give('l1', { case: 'leave', value: { node: 'n1', ...(signedOrder && { signedOrder }) } })
      },
      node => node.inWords('l1') !== undefined,
      node => {
        expect(node.inWords('l1')).toBe('done')
        expect(node.machine.data.kind).toBe('none')
        expect(node.machine.did).toContain('leave l1')
      },
    )
    expect(places).toBeGreaterThanOrEqual(5)
  })
})
