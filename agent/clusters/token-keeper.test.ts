import { beforeAll, describe, expect, it } from 'vitest'
import type { Following, Handover } from '../drivers/driver.ts'
import { type ClusterKeys, ClusterNode, idOf, makeClusterKeys } from './testing/cluster-node.ts'

let keys: ClusterKeys
beforeAll(async () => {
  keys = await makeClusterKeys()
})

const poll = (look: () => unknown) => expect.poll(look, { timeout: 5_000, interval: 5 })
const soon: Following = { kind: 'soon', step: 'keep' }

/** A server that has this to do, one after the other, and then nothing. */
async function server(...does: readonly Following[]) {
  const node = await ClusterNode.start(keys)
  const seen = { looks: 0 }
  const left = [...does]
  node.machine.belongs()
  node.machine.follows = () => {
    seen.looks += 1
    return left.shift() ?? { kind: 'rest' }
  }
  return { node, seen }
}

/** What a node is given to hand tokens over with. */
async function handoverOf(node: ClusterNode): Promise<Handover> {
  let found: Handover | undefined
  node.machine.belongs()
  node.machine.follows = handover => {
    found = handover
    return { kind: 'rest' }
  }
  await node.stop()
  await node.run()
  await poll(() => found).toBeDefined()
  if (!found) throw new Error('nothing was handed over')
  return found
}

describe('a token of servers that another one makes anew', () => {
  it('is looked after when the cluster’s state is asked for, until there is nothing to do, and then no more', async () => {
    const { node, seen } = await server(soon, soon, { kind: 'later', step: 'wait' })
    await using _node = node
    await node.clusters.answer({ requestId: 'r1' }, new AbortController().signal)
    await poll(() => seen.looks).toBe(4)
    await new Promise(resolve => setTimeout(resolve, 50))
    expect(seen.looks).toBe(4)
  })

  it('is looked after by itself when the agent starts', async () => {
    const { node, seen } = await server(soon, soon)
    await using _node = node
    await node.stop()
    await node.run()
    await poll(() => seen.looks).toBe(3)
  })

  it('is left alone while something changes the machine, and looked after when that is over', async () => {
    const { node, seen } = await server()
    await using _node = node
    await poll(() => node.clusters.operations()).toEqual([])
    const paused = node.pauseAt('before wipe')
    const signedOrder = node.signed({ act: 'wipe', node: 'n1', machine: idOf(keys.n1) })
    node.machine.left = 'o0'
    await node.give('o1', { case: 'wipe', value: { signedOrder } })
    await Promise.race([paused.reached, poll(() => node.inWords('o1')).toBeDefined()])
    expect(node.inWords('o1')).toBeUndefined()
    const before = seen.looks
    await node.clusters.answer({ requestId: 'r1' }, new AbortController().signal)
    await new Promise(resolve => setTimeout(resolve, 30))
    expect(seen.looks).toBe(before)
    paused.goOn()
    await poll(() => seen.looks).toBeGreaterThan(before)
  })
})

describe('what servers hand to each other', () => {
  const TEXT = '5'.repeat(64)

  it('is read by the one it is for, for this one rotation, in its time and once', async () => {
    await using one = await ClusterNode.start(keys)
    await using two = await ClusterNode.start(keys, 'n2')
    const [from, to] = [await handoverOf(one), await handoverOf(two)]
    expect(await from.servers()).toMatchObject({
      value: new Map([
        ['n1', idOf(keys.n1)],
        ['n2', idOf(keys.n2)],
      ]),
    })
    const offered = {
      id: 'r1',
      node: 'n2',
      key: keys.n2.publicKeyDer,
      text: TEXT,
      expiresMs: one.nowMs + 60_000,
    }
    const sealed = await from.seal(offered)
    if (sealed.kind === 'failed') throw new Error(sealed.reason)
    expect(Buffer.from(sealed.value).toString('latin1')).not.toContain(TEXT)
    expect(await to.open('r2', sealed.value)).toMatchObject({
      reason: expect.stringContaining('(operation)'),
    })
    expect(await from.open('r1', sealed.value)).toMatchObject({
      reason: expect.stringContaining('(recipient)'),
    })
    const opened = await to.open('r1', sealed.value)
    expect(opened).toMatchObject({ value: { text: TEXT, expiresMs: offered.expiresMs } })
    if (opened.kind === 'done') expect(await opened.value.spend()).toMatchObject({ kind: 'done' })
    expect(await to.open('r1', sealed.value)).toMatchObject({ reason: expect.stringContaining('(replayed)') })
    const again = await from.seal(offered)
    two.nowMs += 60_000
    if (again.kind === 'done')
      expect(await to.open('r1', again.value)).toMatchObject({ reason: expect.stringContaining('(expired)') })
    for (const node of [one, two]) expect(await node.everythingKept()).not.toContain(TEXT)
  })

  it('is sealed to no key but a server’s of the signed manifest, and taken from nobody else', async () => {
    await using one = await ClusterNode.start(keys)
    await using two = await ClusterNode.start(keys, 'n2')
    await using worker = await ClusterNode.start(keys, 'n4')
    const [from, to, other] = [await handoverOf(one), await handoverOf(two), await handoverOf(worker)]
    const offered = { id: 'r1', node: 'n2', text: TEXT, expiresMs: one.nowMs + 60_000 }
    expect(await from.seal({ ...offered, key: keys.n4.publicKeyDer })).toMatchObject({
      class: 'precondition',
    })
    expect(await from.seal({ ...offered, node: 'n4', key: keys.n4.publicKeyDer })).toMatchObject({
      class: 'precondition',
    })
    expect(await other.seal({ ...offered, key: keys.n2.publicKeyDer })).toMatchObject({
      class: 'precondition',
    })
    expect(await to.open('r1', Buffer.from('none'))).toMatchObject({ class: 'unreadable' })
  })
})
