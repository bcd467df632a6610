import type { JsonObject } from '../../../shared/read-value.ts'
import type { SeenMember } from '../etcd/member.ts'
import type { NodeReading } from '../kubernetes/node-reading.ts'
import type { NodeEvidence } from '../kubernetes/read-evidence.ts'

/** A Node as the API server of 1.34 shows it, shortened. */
export function nodeObject(name: string, change: { readonly [key: string]: unknown } = {}): JsonObject {
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: {
      name,
      uid: `uid-${name}`,
      resourceVersion: '100',
      annotations: {},
      ...asObject(change.metadata),
    },
    spec: { podCIDR: '10.244.1.0/24', ...asObject(change.spec) },
    status: {
      addresses: [
        { type: 'InternalIP', address: '10.91.0.13' },
        { type: 'Hostname', address: name },
      ],
      conditions: [
        { type: 'MemoryPressure', status: 'False', lastHeartbeatTime: '2026-11-28T12:00:00Z' },
        {
          type: 'Ready',
          status: 'True',
          lastHeartbeatTime: '2026-11-28T12:00:00Z',
          lastTransitionTime: '2026-11-28T11:00:00Z',
          reason: 'KubeletReady',
          message: 'kubelet is posting ready status',
        },
      ],
      nodeInfo: {
        bootID: '9e0b8a3c-boot',
        kubeletVersion: 'v1.34.3',
        machineID: '0123456789abcdef0123456789abcdef',
      },
    },
  }
}

const asObject = (value: unknown): JsonObject =>
  typeof value === 'object' && value !== null ? { ...value } : {}

export function nodeReading(change: Partial<NodeReading> = {}): NodeReading {
  return {
    name: 'n4',
    uid: 'uid-n4',
    resourceVersion: '100',
    unschedulable: false,
    cordonedBy: undefined,
    ready: { status: 'True', heartbeatMs: 1_000, reason: 'KubeletReady', message: '' },
    kubeletVersion: 'v1.34.3',
    bootId: 'boot-1',
    machineId: '0123456789abcdef0123456789abcdef',
    addresses: ['10.91.0.13'],
    deleting: false,
    ...change,
  }
}

export const evidence = (renewedMs: number | undefined, change: Partial<NodeReading> = {}): NodeEvidence => ({
  node: nodeReading(change),
  renewedMs,
})

export function member(name: string, change: Partial<SeenMember> = {}): SeenMember {
  return {
    id: Buffer.from(name || 'added')
      .toString('hex')
      .slice(0, 16),
    name,
    peerUrls: [`https://${name || 'added'}.example:2380`],
    clientUrls: [],
    learner: false,
    healthy: true,
    ...change,
  }
}
