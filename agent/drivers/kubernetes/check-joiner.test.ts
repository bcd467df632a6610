import { describe, expect, it } from 'vitest'
import type { Joiner } from '../driver.ts'
import type { SeenMember } from '../etcd/member.ts'
import { member, nodeReading } from '../testing/made-up-objects.ts'
import { judgeJoiner as judge, memberOf } from './check-joiner.ts'
import type { NodeReading } from './node-reading.ts'

const judgeJoiner = (
  ...[joiner, nodes, members]: readonly [Joiner, readonly NodeReading[], readonly SeenMember[]]
) => judge(joiner, nodes, members, 'components')
const ID = 'a'.repeat(32)
const joiner = (change: Partial<Joiner> = {}): Joiner => ({
  node: 'n5',
  role: 'worker',
  address: '10.91.0.14',
  machineId: 'b'.repeat(32),
  ...change,
})
const n4 = nodeReading({ name: 'n4', machineId: ID, addresses: ['10.91.0.13'] })

describe('a machine that is to join', () => {
  it('may, where nothing of its own or of another machine stands in its way', () => {
    expect(judgeJoiner(joiner(), [n4], [])).toEqual([])
  })

  it('is a copy with the machine id of a node of another name, and not with its own', () => {
    expect(judgeJoiner(joiner({ machineId: ID }), [n4], [])).toMatchObject([
      { what: 'machine-id', reason: expect.stringMatching(/^node n4 has the same machine id: .*machine-id/) },
    ])
    const again = joiner({ node: 'n4', address: '10.91.0.13', machineId: ID })
    expect(judgeJoiner(again, [n4], []).map(({ what }) => what)).toEqual(['host-name'])
  })

  it.each([undefined, ''])('is no copy for an id that is not known: %s', machineId => {
    expect(judgeJoiner(joiner({ machineId }), [{ ...n4, machineId: '' }], [])).toEqual([])
  })

  it('has no address of another node', () => {
    expect(judgeJoiner(joiner({ address: '10.91.0.13' }), [n4], [])).toMatchObject([{ what: 'address' }])
  })

  it('has, as a server, no member of before, but the one that was added for it', () => {
    const server = joiner({ node: 'n3', role: 'server', address: '10.91.0.12' })
    const peerUrls = ['https://10.91.0.12:2380']
    expect(judgeJoiner(server, [], [member('n3')])).toMatchObject([{ what: 'data' }])
    expect(judgeJoiner(server, [], [member('', { peerUrls })])).toMatchObject([{ what: 'data' }])
    expect(judgeJoiner(server, [], [member('', { peerUrls, learner: true })])).toEqual([])
  })
})

it('a member with eight digits behind a node’s name is its own on k3s alone', () => {
  const members = [member('web-0123abcd'), member('web')]
  for (const distribution of ['k0s', 'kubernetes', 'components'] as const) {
    expect(memberOf(members, 'web', [], distribution)?.name).toBe('web')
    // A worker has none, and must not take that of the other server along when it goes.
    expect(memberOf(members.slice(0, 1), 'web', [], distribution)).toBeUndefined()
  }
  expect(memberOf([member('web-0123abcd-89abcdef'), member('web-0123abcd')], 'web', [], 'k3s')?.name).toBe(
    'web-0123abcd',
  )
  expect(
    memberOf([member('', { peerUrls: ['https://[fd00::1]:2380'] })], 'web', ['fd00::1'], 'k3s'),
  ).toBeDefined()
  expect(memberOf([member('')], '', [], 'k3s')).toBeUndefined()
})
