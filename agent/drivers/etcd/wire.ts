import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { eachField } from '../each-field.ts'
import { type EtcdMember, hexId } from './member.ts'

/** The few messages of etcd's API (etcdserverpb) that drivers speak, by their field numbers there. */

const MAX_MEMBERS = 64

/** MemberListRequest: by way of the leader, so that it fails where there is no majority. */
export const memberListRequest = (): Uint8Array =>
  new BinaryWriter().tag(1, WireType.Varint).bool(true).finish()

export const memberAddRequest = (peerUrl: string, learner: boolean): Uint8Array =>
  new BinaryWriter()
    .tag(1, WireType.LengthDelimited)
    .string(peerUrl)
    .tag(2, WireType.Varint)
    .bool(learner)
    .finish()

/** MemberRemoveRequest and MemberPromoteRequest are alike. */
export const idRequest = (id: bigint): Uint8Array =>
  new BinaryWriter().tag(1, WireType.Varint).uint64(id).finish()

export const memberUpdateRequest = (id: bigint, peerUrl: string): Uint8Array =>
  new BinaryWriter()
    .tag(1, WireType.Varint)
    .uint64(id)
    .tag(2, WireType.LengthDelimited)
    .string(peerUrl)
    .finish()

/** RangeRequest: the names of all keys that begin so, and of no more than `most`; by way of the leader. */
export function keysRequest(prefix: string, most: number): Uint8Array {
  const end = Buffer.from(prefix)
  end[end.length - 1] = (end.at(-1) ?? 0) + 1
  return new BinaryWriter()
    .tag(1, WireType.LengthDelimited)
    .string(prefix)
    .tag(2, WireType.LengthDelimited)
    .bytes(end)
    .tag(3, WireType.Varint)
    .int64(most)
    .tag(8, WireType.Varint)
    .bool(true)
    .finish()
}

/** DeleteRangeRequest of one key. */
export const deleteKeyRequest = (key: string): Uint8Array =>
  new BinaryWriter().tag(1, WireType.LengthDelimited).string(key).finish()

/** The keys of a RangeResponse. */
export function readKeys(bytes: Uint8Array): readonly string[] {
  const keys: string[] = []
  eachField(bytes, (number, reader, wire) => {
    if (number !== 2 || wire !== WireType.LengthDelimited) return false
    eachField(reader.bytes(), (inner, value, type) => {
      if (inner !== 1 || type !== WireType.LengthDelimited) return false
      keys.push(Buffer.from(value.bytes()).toString('utf8'))
      return true
    })
    return true
  })
  return keys
}

export const emptyRequest = (): Uint8Array => new Uint8Array()

/** Members in field 2 of MemberListResponse and MemberRemoveResponse, in field 3 of MemberAddResponse. */
export function readMembers(bytes: Uint8Array, field: 2 | 3): readonly EtcdMember[] {
  const members: EtcdMember[] = []
  eachField(bytes, (number, reader, wire) => {
    if (number !== field || wire !== WireType.LengthDelimited) return false
    members.push(readMember(reader.bytes()))
    if (members.length > MAX_MEMBERS) throw new Error(`more than ${MAX_MEMBERS} members`)
    return true
  })
  return members
}

export interface EtcdStatus {
  readonly memberId: string
  readonly version: string
  /** "0": there is none. */
  readonly leaderId: string
  readonly learner: boolean
  readonly errors: readonly string[]
}

/** StatusResponse. */
export function readStatus(bytes: Uint8Array): EtcdStatus {
  let [memberId, version, leaderId, learner] = ['0', '', '0', false]
  const errors: string[] = []
  eachField(bytes, (number, reader) => {
    if (number === 1) memberId = readHeaderMember(reader.bytes())
    else if (number === 2) version = reader.string()
    else if (number === 4) leaderId = hexId(BigInt(reader.uint64()))
    else if (number === 8) errors.push(reader.string())
    else if (number === 10) learner = reader.bool()
    else return false
    return true
  })
  return { memberId, version, leaderId, learner, errors }
}

function readHeaderMember(bytes: Uint8Array): string {
  let member = '0'
  eachField(bytes, (number, reader) => {
    if (number !== 2) return false
    member = hexId(BigInt(reader.uint64()))
    return true
  })
  return member
}

function readMember(bytes: Uint8Array): EtcdMember {
  let [id, name, learner] = ['', '', false]
  const peerUrls: string[] = []
  const clientUrls: string[] = []
  eachField(bytes, (number, reader) => {
    if (number === 1) id = hexId(BigInt(reader.uint64()))
    else if (number === 2) name = reader.string()
    else if (number === 3) peerUrls.push(reader.string())
    else if (number === 4) clientUrls.push(reader.string())
    else if (number === 5) learner = reader.bool()
    else return false
    return true
  })
  return { id, name, peerUrls, clientUrls, learner }
}
