import { create } from '@bufbuild/protobuf'
import { describe, expect, it } from 'vitest'
import { ClusterStateSchema } from '../../shared/gen/muster/v1/cluster_pb.ts'
import { orderFor, readState } from './cluster-messages.ts'
import type { ClusterIntent } from './orders-for.ts'

const mint: ClusterIntent = {
  ...{ kind: 'mint', operation: 'j1', host: 'n4', role: 'worker', joiner: 'm4', expiresMs: 1_000 },
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

  it('has the machine id of now, or none, and is refused with one that is too long', () => {
    const stateWith = (machineId: string) =>
      readState(create(ClusterStateSchema, { data: { case: 'none', value: {} }, machineId }), 5)
    expect(stateWith('a'.repeat(32))).toMatchObject({ machineId: 'a'.repeat(32) })
    expect(stateWith('')).toMatchObject({ machineId: undefined })
    expect(stateWith('a'.repeat(65))).toBe('machine_id: too long')
  })
})
