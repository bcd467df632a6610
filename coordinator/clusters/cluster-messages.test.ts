import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { describe, expect, it } from 'vitest'
import {
  CertificateKind,
  ClusterStateSchema,
  SoonestEndSchema,
} from '../../shared/gen/muster/v1/cluster_pb.ts'
import { orderFor, readState } from './cluster-messages.ts'
import type { ClusterIntent } from './orders-for.ts'

const mint: ClusterIntent = {
  kind: 'mint',
  operation: 'j1',
  host: 'n4',
  role: 'worker',
  joiner: 'm4',
  expiresMs: 1_000,
}

describe('an order to mint', () => {
  it('says what the joiner says of itself, so that a copy of a node is told from it', () => {
    const joiner = { key: new Uint8Array([1]), machineId: 'a'.repeat(32), address: '100.64.0.2' }
    const order = orderFor('home', mint, { secret: undefined, joiner, address: '' }, 0)
    expect(order?.action).toMatchObject({
      case: 'mint',
      value: { joinerKey: joiner.key, machineId: 'a'.repeat(32), address: '100.64.0.2' },
    })
  })

  it('is not given for a machine that is not known', () => {
    expect(orderFor('home', mint, { secret: undefined, joiner: undefined, address: '' }, 0)).toBeUndefined()
  })
})

describe('what a machine says of its cluster', () => {
  const stateAt = (address: string) =>
    readState(create(ClusterStateSchema, { cluster: 'home', data: { case: 'none', value: {} }, address }), 5)

  it('has the address that it found out, or none', () => {
    expect(stateAt('fd00::2')).toMatchObject({ asOfMs: 5, part: 'home', address: 'fd00::2' })
    expect(stateAt('')).toMatchObject({ address: undefined })
  })

  it('is refused with an address that is none', () => {
    expect(stateAt('n2,n9=https://x')).toBe('address: is no IP address')
  })

  it('has the snapshots that were carried to a server without data, of which there are a few', () => {
    const stateWith = (snapshots: string[]) =>
      readState(create(ClusterStateSchema, { data: { case: 'none', value: {} }, snapshots }), 5)
    expect(stateWith(['first', 'second'])).toMatchObject({ snapshots: ['first', 'second'] })
    expect(stateWith([])).toMatchObject({ snapshots: undefined })
    const refused = 'snapshots: at most 16 names of at most 63 characters are allowed'
    expect(stateWith(Array.from({ length: 17 }, () => 'x'))).toBe(refused)
    expect(stateWith(['x'.repeat(64)])).toBe(refused)
  })

  it('says that its datastore alone is gone, which an older coordinator takes for what cannot be told', () => {
    const lost = { authority: 'a'.repeat(64), distribution: 'k0s', path: '/var/lib/k0s/etcd/member' }
    const stateWith = (change: Partial<typeof lost>) =>
      readState(create(ClusterStateSchema, { data: { case: 'lost', value: { ...lost, ...change } } }), 5)
    expect(stateWith({})).toMatchObject({ data: { kind: 'lost', ...lost } })
    expect(stateWith({ authority: '' })).toBe('lost.authority: must be 64 lower-case hex characters')
    expect(readState(create(ClusterStateSchema, {}), 5)).toMatchObject({ data: { kind: 'unreadable' } })
  })

  it('has who keeps pods from a node, and nothing of it by an agent that does not say', () => {
    const nodes = [
      { name: 'n4', uid: 'u', unschedulable: true, cordonedBy: 'act-1' },
      { name: 'n5', uid: 'u' },
    ]
    const read = readState(
      create(ClusterStateSchema, { data: { case: 'none', value: {} }, view: { nodes } }),
      5,
    )
    expect(typeof read === 'string' ? read : read.view?.nodes).toMatchObject([
      { unschedulable: true, cordonedBy: 'act-1' },
      { unschedulable: undefined, cordonedBy: undefined },
    ])
  })

  it('has the machine id of now, or none, and is refused with one that is too long', () => {
    const stateWith = (machineId: string) =>
      readState(create(ClusterStateSchema, { data: { case: 'none', value: {} }, machineId }), 5)
    expect(stateWith('a'.repeat(32))).toMatchObject({ machineId: 'a'.repeat(32) })
    expect(stateWith('')).toMatchObject({ machineId: undefined })
    expect(stateWith('a'.repeat(65))).toBe('machine_id or boot_id: too long')
  })

  it('has the ends of its certificates, says why it has none, and is refused with one that has no time', () => {
    const endsOf = (certificateEnds: MessageInitShape<typeof ClusterStateSchema>['certificateEnds']) => {
      const read = readState(create(ClusterStateSchema, { certificateEnds }), 5)
      return typeof read === 'string' ? read : read.certificates
    }
    const times = { notBefore: timestampFromMs(1_000), notAfter: timestampFromMs(9_000) }
    const kinds = [CertificateKind.RENEWED, CertificateKind.AUTHORITY, CertificateKind.UNSPECIFIED]
    const soonest = kinds.map(kind => create(SoonestEndSchema, { kind, path: '/x', ...times }))
    expect(endsOf({ soonest })).toEqual({
      kind: 'read',
      soonest: ['renewed', 'authority', 'ordered'].map(kind => ({
        kind,
        path: '/x',
        beganMs: 1_000,
        endsMs: 9_000,
      })),
    })
    expect(endsOf({ unreadable: 'no such file' })).toEqual({ kind: 'unreadable', reason: 'no such file' })
    expect(endsOf(undefined)).toBeUndefined()
    expect(endsOf({ soonest: [create(SoonestEndSchema, { path: '/x' })] })).toBe(
      'certificate_ends: without a time',
    )
    const [one] = soonest
    expect(endsOf({ soonest: one ? Array.from({ length: 17 }, () => one) : [] })).toContain('at most 16')
  })
})
