import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type EtcdMember, hexId, idOfHex } from './member.ts'
import {
  deleteKeyRequest,
  idRequest,
  keysRequest,
  memberAddRequest,
  memberListRequest,
  memberUpdateRequest,
  readKeys,
  readMembers,
  readStatus,
} from './wire.ts'

/** As etcd writes them, and a field that a later version may bring. */
function response(field: number, members: readonly EtcdMember[]): Uint8Array {
  const writer = new BinaryWriter()
  writer
    .tag(1, WireType.LengthDelimited)
    .bytes(new BinaryWriter().tag(2, WireType.Varint).uint64(7n).finish())
  for (const { id, name, peerUrls, clientUrls, learner } of members) {
    const one = new BinaryWriter().tag(1, WireType.Varint).uint64(idOfHex(id) ?? 0n)
    one.tag(2, WireType.LengthDelimited).string(name)
    for (const url of peerUrls) one.tag(3, WireType.LengthDelimited).string(url)
    for (const url of clientUrls) one.tag(4, WireType.LengthDelimited).string(url)
    if (learner) one.tag(5, WireType.Varint).bool(true)
    one.tag(99, WireType.LengthDelimited).string('later')
    writer.tag(field, WireType.LengthDelimited).bytes(one.finish())
  }
  return writer.finish()
}

const aMember = fc.record({
  id: fc.bigInt({ min: 1n, max: 2n ** 64n - 1n }).map(hexId),
  name: fc.string(),
  peerUrls: fc.array(fc.string(), { maxLength: 3 }),
  clientUrls: fc.array(fc.string(), { maxLength: 3 }),
  learner: fc.boolean(),
})

describe('messages of etcd', () => {
  it('are read as they are written, whatever else is in them', () => {
    fc.assert(
      fc.property(fc.array(aMember, { maxLength: 9 }), members => {
        expect(readMembers(response(2, members), 2)).toEqual(members)
        expect(readMembers(response(3, members), 3)).toEqual(members)
      }),
    )
  })

  it('have a bound', () => {
    const one = { id: '1', name: 'a', peerUrls: [], clientUrls: [], learner: false }
    expect(() => readMembers(response(2, Array(65).fill(one)), 2)).toThrow('more than 64')
  })

  it('are no members when they are cut short', () => {
    const bytes = response(2, [{ id: 'ff', name: 'a', peerUrls: ['u'], clientUrls: [], learner: true }])
    expect(() => readMembers(bytes.subarray(0, bytes.length - 3), 2)).toThrow()
  })

  it('say who leads', () => {
    const header = new BinaryWriter().tag(2, WireType.Varint).uint64(255n).finish()
    const bytes = new BinaryWriter().tag(1, WireType.LengthDelimited).bytes(header)
    bytes.tag(2, WireType.LengthDelimited).string('3.6.7').tag(4, WireType.Varint).uint64(171n)
    bytes.tag(8, WireType.LengthDelimited).string('NOSPACE').tag(10, WireType.Varint).bool(true)
    expect(readStatus(bytes.finish())).toEqual({
      memberId: 'ff',
      version: '3.6.7',
      leaderId: 'ab',
      learner: true,
      errors: ['NOSPACE'],
    })
    expect(readStatus(new Uint8Array())).toMatchObject({ leaderId: '0', memberId: '0' })
  })

  it('ask as etcd’s own tools do', () => {
    const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
    expect(hex(memberListRequest())).toBe('0801')
    expect(hex(memberAddRequest('u', true))).toBe('0a01751001')
    expect(hex(idRequest(300n))).toBe('08ac02')
    expect(hex(memberUpdateRequest(300n, 'u'))).toBe('08ac02120175')
    expect(hex(keysRequest('/b/', 65))).toBe('0a032f622f12032f623018414001')
    expect(hex(deleteKeyRequest('/b/c'))).toBe('0a042f622f63')
  })

  it('name keys, without what is kept under them', () => {
    const kv = (key: string) =>
      new BinaryWriter()
        .tag(1, WireType.LengthDelimited)
        .string(key)
        .tag(5, WireType.LengthDelimited)
        .string('value')
        .finish()
    const bytes = new BinaryWriter().tag(1, WireType.LengthDelimited).bytes(new Uint8Array())
    for (const key of ['/b/1', '/b/2']) bytes.tag(2, WireType.LengthDelimited).bytes(kv(key))
    expect(readKeys(bytes.tag(4, WireType.Varint).int64(2).finish())).toEqual(['/b/1', '/b/2'])
    expect(readKeys(new Uint8Array())).toEqual([])
  })

  it('name members as etcd’s own tools do', () => {
    expect(hexId(10501334649042878790n)).toBe('91bc3c398fb3c146')
    expect(idOfHex('91bc3c398fb3c146')).toBe(10501334649042878790n)
    for (const bad of ['', 'xyz', '0x1', '91bc3c398fb3c1461']) expect(idOfHex(bad)).toBeUndefined()
  })
})
