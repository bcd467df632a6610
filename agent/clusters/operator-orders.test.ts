import { beforeAll, describe, expect, it } from 'vitest'
import { generateSigningKey } from '../../shared/envelope/keys.ts'
import type { Envelope } from '../../shared/gen/muster/v1/envelope_pb.ts'
import { type ClusterKeys, ClusterNode, idOf, makeClusterKeys } from './testing/cluster-node.ts'

let keys: ClusterKeys
beforeAll(async () => {
  keys = await makeClusterKeys()
})

const poll = (look: () => unknown) => expect.poll(look, { timeout: 5_000, interval: 5 })
const server = () => ({ node: 'n1', machine: idOf(keys.n1) })

/** Every act that destroys or exposes: as it is ordered with what an operator signed, and what was to be signed for it. */
const ACTS = {
  leave: {
    order: (signedOrder: Envelope | undefined) =>
      ({ case: 'leave', value: { node: 'n1', ...(signedOrder && { signedOrder }) } }) as const,
    about: () => ({ act: 'leave', ...server() }) as const,
  },
  wipe: {
    order: (signedOrder: Envelope | undefined) =>
      ({ case: 'wipe', value: signedOrder ? { signedOrder } : {} }) as const,
    about: () => ({ act: 'wipe', ...server() }) as const,
  },
  restore: {
    order: (signedOrder: Envelope | undefined) =>
      ({ case: 'restore', value: { name: 'first', ...(signedOrder && { signedOrder }) } }) as const,
    about: () => ({ act: 'restore', parameter: 'first', ...server() }) as const,
  },
  'rotate tokens': {
    order: (signedOrder: Envelope | undefined) =>
      ({ case: 'rotate', value: { what: 'tokens', ...(signedOrder && { signedOrder }) } }) as const,
    about: () => ({ act: 'rotate', parameter: 'tokens', ...server() }) as const,
  },
  'rotate certificates': {
    order: (signedOrder: Envelope | undefined) =>
      ({ case: 'rotate', value: { what: 'certificates', ...(signedOrder && { signedOrder }) } }) as const,
    about: () => ({ act: 'rotate', parameter: 'certificates', ...server() }) as const,
  },
  kubeconfig: {
    order: (signedOrder: Envelope | undefined) =>
      ({ case: 'kubeconfig', value: { serverAddress: '', ...(signedOrder && { signedOrder }) } }) as const,
    about: () =>
      ({
        act: 'kubeconfig',
        recipientKey: Uint8Array.from(keys.stranger.publicKeyDer),
        ...server(),
      }) as const,
  },
}

describe.each(Object.entries(ACTS))('a coordinator that orders %s', (name, { order, about }) => {
  const other = name === 'wipe' ? ({ act: 'leave' } as const) : ({ act: 'wipe' } as const)

  it('is obeyed only with what an operator signed for this very act, cluster, machine and time', async () => {
    await using node = await ClusterNode.start(keys)
    node.machine.belongs()
    node.machine.snapshots.push('first')
    const hour = 3_600_000
    const wrong: readonly (readonly [string, Envelope | undefined])[] = [
      ['nobody’s', undefined],
      ['a stranger’s', node.signed(about(), generateSigningKey())],
      ['of another act', node.signed({ ...server(), ...other })],
      ['of another cluster', node.signed({ ...about(), cluster: 'away' })],
      ['of another fleet', node.signed({ ...about(), fleetId: 'f'.repeat(32) })],
      ['for another node', node.signed({ ...about(), node: 'n2', machine: idOf(keys.n2) })],
      [
        'of yesterday',
        node.signed({ ...about(), createdMs: node.nowMs - 25 * hour, expiresMs: node.nowMs - 24 * hour }),
      ],
    ]
    for (const [index, [whose, envelope]] of wrong.entries()) {
      await node.give(`x${index}`, order(envelope))
      await poll(() => node.inWords(`x${index}`)).toMatch(/^failed order-/)
      expect(node.machine.did, whose).toEqual([])
    }
    await node.give('ok', order(node.signed(about())))
    await poll(() => node.inWords('ok')).toBe('done')
    expect(node.machine.did.length).toBeGreaterThan(0)
  })
})
