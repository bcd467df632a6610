import { describe, expect, it } from 'vitest'
import type { JsonObject } from '../../../shared/read-value.ts'
import { podsToEvict } from './evictable-pods.ts'

const POLICY = { deleteEmptyDir: true, deleteUnmanaged: false }
const DELETED = { deletionTimestamp: '2026-11-28T12:00:00Z' }
const owner = (kind: string) => [{ kind, name: 'x', controller: true }]

function pod(name: string, metadata: JsonObject = {}, rest: JsonObject = {}): JsonObject {
  return {
    metadata: {
      namespace: 'default',
      name,
      uid: `uid-${name}`,
      ownerReferences: owner('ReplicaSet'),
      ...metadata,
    },
    spec: { volumes: [] },
    status: { phase: 'Running' },
    ...rest,
  }
}

describe('T37: what must leave a node', () => {
  it.each<[string, JsonObject, boolean]>([
    ['of a ReplicaSet', pod('a'), true],
    ['that waits for its node', pod('a', {}, { status: { phase: 'Pending' } }), true],
    ['of an unknown phase', pod('a', {}, { status: { phase: 'Unknown' } }), true],
    ['on its way out', pod('a', DELETED), true],
    ['of a DaemonSet', pod('a', { ownerReferences: owner('DaemonSet') }), false],
    [
      'of a DaemonSet that does not control it',
      pod('a', { ownerReferences: [{ kind: 'DaemonSet', name: 'x' }] }),
      true,
    ],
    ['of the kubelet itself', pod('a', { annotations: { 'kubernetes.io/config.mirror': 'x' } }), false],
    ['that has ended and is not gone yet', pod('a', DELETED, { status: { phase: 'Failed' } }), true],
    ['that has ended, of a DaemonSet', pod('a', { ...DELETED, ownerReferences: owner('DaemonSet') }), false],
    ['that has ended', pod('a', {}, { status: { phase: 'Succeeded' } }), false],
    ['that has failed', pod('a', {}, { status: { phase: 'Failed' } }), false],
  ])('a pod %s', (_, object, counts) => expect(podsToEvict([object], POLICY)).toHaveLength(counts ? 1 : 0))

  it('is not known when a pod cannot be read', () => {
    expect(podsToEvict([pod('a'), { metadata: { name: 'b' } }], POLICY)).toBeUndefined()
  })

  it('stays where the policy says so, with the reason', () => {
    const bare = pod('a', { ownerReferences: [] })
    expect(podsToEvict([bare], POLICY)).toMatchObject([{ refusal: 'nothing makes it anew elsewhere' }])
    expect(podsToEvict([bare], { ...POLICY, deleteUnmanaged: true })).toMatchObject([{ refusal: undefined }])
    const kept = pod('b', {}, { spec: { volumes: [{ name: 'scratch', emptyDir: {} }] } })
    expect(podsToEvict([kept], POLICY)).toMatchObject([{ refusal: undefined }])
    const strict = { ...POLICY, deleteEmptyDir: false }
    expect(podsToEvict([kept], strict)).toMatchObject([
      { refusal: 'its volume scratch (emptyDir) would be lost' },
    ])
  })
})
