import { readFile } from 'node:fs/promises'
import { Client, credentials, type ServiceError, status } from '@grpc/grpc-js'
import { reasonOf } from '../../../shared/errors.ts'
import { withDeadline } from '../../../shared/lifecycle.ts'
import { listAt, readObject, textsAt } from '../../../shared/read-value.ts'
import { askOnce, type MutualTls } from '../ask-once.ts'
import { callOnce } from '../call-once.ts'
import { DONE, done, failed, type Result } from '../result.ts'
import { type EtcdMember, idOfHex, type SeenMember } from './member.ts'
import {
  deleteKeyRequest,
  type EtcdStatus,
  emptyRequest,
  idRequest,
  keysRequest,
  memberAddRequest,
  memberListRequest,
  memberUpdateRequest,
  readKeys,
  readMembers,
  readStatus,
} from './wire.ts'

/** How a server's own datastore is reached: files that lie on every server of a distribution. */
export interface EtcdAccess {
  /** host:port of a member's client listener. */
  readonly address: string
  readonly client: EtcdPair
  /** What members show each other. */
  readonly peer: EtcdPair
}

export interface EtcdPair {
  readonly ca: string
  readonly cert: string
  readonly key: string
}

/** The members of a datastore, and names of keys in it. Every answer comes by way of its leader, so each fails where there is no majority. */
export interface EtcdClient {
  members(signal?: AbortSignal): Promise<Result<readonly EtcdMember[]>>
  /** Members, each asked for its health where the others reach it. */
  seenMembers(signal?: AbortSignal): Promise<Result<readonly SeenMember[]>>
  status(signal?: AbortSignal): Promise<Result<EtcdStatus>>
  /** As a learner: it has no vote until it is promoted, so one that never starts takes no majority away. */
  addLearner(peerUrl: string, signal?: AbortSignal): Promise<Result<readonly EtcdMember[]>>
  promote(id: string, signal?: AbortSignal): Promise<Result<void>>
  remove(id: string, signal?: AbortSignal): Promise<Result<void>>
  /** Says where the others reach a member from now on. */
  movePeer(id: string, peerUrl: string, signal?: AbortSignal): Promise<Result<void>>
  /** The names of the keys that begin so; more than a few are a failure. */
  keys(prefix: string, signal?: AbortSignal): Promise<Result<readonly string[]>>
  removeKey(key: string, signal?: AbortSignal): Promise<Result<void>>
  /**
   * The peer URLs of all members, as the member at this peer URL has them; for a server that is no member any more and so
   * has nobody of its own to ask. May lag behind.
   */
  peersAt(peerUrl: string, signal?: AbortSignal): Promise<Result<readonly string[]>>
}

export type ConnectEtcd = (access: EtcdAccess) => EtcdClient

const CALL_MS = 10_000
const PROBE_MS = 3_000
const MAX_ANSWER_BYTES = 1024 * 1024
const MAX_KEYS = 64

/** One connection a call: calls are few, and certificates may be others the next time. */
export const connectEtcd: ConnectEtcd = access => {
  const call = async <T>(
    method: string,
    message: Uint8Array,
    read: (bytes: Buffer) => T,
    signal: AbortSignal | undefined,
  ): Promise<Result<T>> => {
    try {
      return done(read(await askMember(access, method, message, signal)))
    } catch (error) {
      return failedCall(access.address, method, error)
    }
  }
  const byId = async (
    method: string,
    id: string,
    signal: AbortSignal | undefined,
    write: (id: bigint) => Uint8Array = idRequest,
  ): Promise<Result<void>> => {
    const number = idOfHex(id)
    if (number === undefined) return failed('not-found', `${id}: is no id of a member`)
    const answer = await call(method, write(number), () => undefined, signal)
    return answer.kind === 'done' ? DONE : answer
  }
  const members: EtcdClient['members'] = async signal =>
    await call('Cluster/MemberList', memberListRequest(), bytes => readMembers(bytes, 2), signal)
  return {
    members,
    seenMembers: async signal => {
      const listed = await members(signal)
      if (listed.kind === 'failed') return listed
      const seen = listed.value.map(async member => ({
        ...member,
        healthy: await answers(access.peer, member, signal),
      }))
      return done(await Promise.all(seen))
    },
    status: async signal => await call('Maintenance/Status', emptyRequest(), readStatus, signal),
    addLearner: async (peerUrl, signal) =>
      await call(
        'Cluster/MemberAdd',
        memberAddRequest(peerUrl, true),
        bytes => readMembers(bytes, 3),
        signal,
      ),
    promote: async (id, signal) => await byId('Cluster/MemberPromote', id, signal),
    remove: async (id, signal) => await byId('Cluster/MemberRemove', id, signal),
    movePeer: async (id, peerUrl, signal) =>
      await byId('Cluster/MemberUpdate', id, signal, number => memberUpdateRequest(number, peerUrl)),
    keys: async (prefix, signal) => {
      const listed = await call('KV/Range', keysRequest(prefix, MAX_KEYS + 1), readKeys, signal)
      if (listed.kind === 'failed' || listed.value.length <= MAX_KEYS) return listed
      return failed('unreadable', `etcd at ${access.address}: more than ${MAX_KEYS} keys below ${prefix}`)
    },
    removeKey: async (key, signal) => {
      const answer = await call('KV/DeleteRange', deleteKeyRequest(key), () => undefined, signal)
      return answer.kind === 'done' ? DONE : answer
    },
    peersAt: async (peerUrl, signal) => {
      try {
        const tls = await readPair(access.peer)
        const text = await withDeadline(
          PROBE_MS,
          signal,
          async stop => await ask(`${peerUrl}/members`, tls, stop),
        )
        const urls = readPeerUrls(text)
        return urls
          ? done(urls)
          : failed('unreadable', `etcd at ${peerUrl}: its list of members cannot be read`)
      } catch (error) {
        return failed('quorum', `etcd at ${peerUrl}: ${reasonOf(error)}`)
      }
    },
  }
}

async function askMember(
  { address, client }: EtcdAccess,
  method: string,
  message: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  const { ca, cert, key } = await readPair(client)
  const channel = new Client(address, credentials.createSsl(ca, key, cert), {
    'grpc.use_local_subchannel_pool': 1,
    'grpc.enable_http_proxy': 0,
    'grpc.max_receive_message_length': MAX_ANSWER_BYTES,
  })
  try {
    const path = `/etcdserverpb.${method}`
    return await callOnce(channel, { path, message, deadlineMs: CALL_MS, signal })
  } finally {
    channel.close()
  }
}

function failedCall(address: string, method: string, error: unknown): Result<never> {
  const code = error instanceof Error && 'code' in error ? (error as ServiceError).code : undefined
  const text = `etcd at ${address}, ${method}: ${reasonOf(error).replace(/^\d+ [A-Z_]+: /, '')}`
  if (code === status.CANCELLED) return failed('cancelled', text)
  if (code === status.NOT_FOUND) return failed('not-found', text)
  if (code === status.FAILED_PRECONDITION) return failed('precondition', text)
  if (code === status.UNAVAILABLE || code === status.DEADLINE_EXCEEDED) return failed('quorum', text)
  return failed('command', text)
}

/** Whether a member answers where the other members reach it. One that was only added has no such place yet. */
async function answers(
  pair: EtcdPair,
  member: EtcdMember,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const [url] = member.peerUrls
  if (url === undefined || member.name === '') return false
  try {
    const tls = await readPair(pair)
    return await withDeadline(PROBE_MS, signal, async stop => await probe(`${url}/raft/probing`, tls, stop))
  } catch {
    return false // whatever is wrong: it did not answer
  }
}

async function probe(url: string, tls: MutualTls, signal: AbortSignal): Promise<boolean> {
  return (await ask(url, tls, signal)) !== undefined
}

/** The text that is answered; undefined: it is no answer that says well. */
async function ask(url: string, tls: MutualTls, signal: AbortSignal): Promise<string | undefined> {
  const { status, text } = await askOnce(url, tls, { maxAnswerBytes: MAX_ANSWER_BYTES, signal })
  return status === 200 ? text : undefined
}

/** Ids stand there as numbers that are too big for ours; a peer's URL names it as well. */
export function readPeerUrls(text: string | undefined): readonly string[] | undefined {
  const members = text === undefined ? undefined : listAt(readObject(`{"members":${text}}`), 'members')
  const urls = members?.map(member => textsAt(member, 'peerURLs'))
  return urls?.every(each => each !== undefined) && urls.length > 0
    ? urls.flatMap(each => each ?? [])
    : undefined
}

async function readPair({ ca, cert, key }: EtcdPair): Promise<MutualTls> {
  const [caBytes, certBytes, keyBytes] = await Promise.all([readFile(ca), readFile(cert), readFile(key)])
  return { ca: caBytes, cert: certBytes, key: keyBytes }
}
