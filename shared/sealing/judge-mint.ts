import { ClusterRole } from '../gen/muster/v1/cluster_pb.ts'
import { keyId } from '../x509/key-id.ts'
import { readRsaPublicKey } from '../x509/public-key.ts'

/** A member of a cluster as a signed manifest names it. */
export interface NamedMember {
  readonly host: string
  readonly role: 'server' | 'worker' | 'server+worker'
  /** The machine its host is bound to by the manifest; undefined: it is not bound by its key. */
  readonly machine: string | undefined
}

/** What the signed manifest says of a cluster: the only thing a minter believes about who belongs to it. */
export interface NamedCluster {
  readonly cluster: string
  readonly members: readonly NamedMember[]
  /** Machines may become workers of it by a rule over facts, which the manifest cannot name. */
  readonly admitsWorkers: boolean
}

export interface MintRequest {
  readonly cluster: string
  readonly host: string
  readonly role: ClusterRole
  /** SubjectPublicKeyInfo, DER, as the coordinator says it. */
  readonly joinerKey: Uint8Array
  readonly lifetimeMs: number
}

export type MintVerdict =
  | { readonly kind: 'mint'; readonly recipient: string }
  | { readonly kind: 'refused'; readonly class: MintRefusal; readonly reason: string }

export type MintRefusal = 'not-a-server' | 'cluster' | 'key' | 'host' | 'role' | 'lifetime'

export const LEAST_LIFETIME_MS = 60_000
/** Whoever has it may ask for the certificate of another node, so no coordinator has one that lives for longer. */
export const MOST_LIFETIME_MS = 10 * 60_000

/**
 * Whether this server mints for that machine. The key comes from the coordinator, so it is worth nothing by itself: of a
 * server, and of every host that the manifest binds to a key, it must be the very key that stands there. What a
 * coordinator that lies can still have is a worker's token of a cluster that admits workers by a rule.
 */
export function judgeMint(named: NamedCluster, minter: string, request: MintRequest): MintVerdict {
  if (request.cluster !== named.cluster) {
    return refused('cluster', `cluster ${request.cluster} is not that of this server, ${named.cluster}`)
  }
  const own = named.members.find(({ machine }) => machine === minter)
  if (!own || own.role === 'worker') {
    return refused('not-a-server', `this machine is no server of ${named.cluster} by the signed manifest`)
  }
  const reading = readRsaPublicKey(request.joinerKey)
  if (!reading.ok) return refused('key', reading.reason)
  const recipient = keyId(request.joinerKey)
  const { lifetimeMs } = request
  if (!(lifetimeMs >= LEAST_LIFETIME_MS && lifetimeMs <= MOST_LIFETIME_MS)) {
    return refused('lifetime', `lifetime: ${lifetimeMs / 1000} s, wanted 60 to ${MOST_LIFETIME_MS / 1000}`)
  }
  const asked = ROLES[request.role]
  if (asked === undefined) return refused('role', 'role: is none that joins')
  const member = named.members.find(({ host }) => host === request.host)
  if (!member) {
    if (asked === 'worker' && named.admitsWorkers && !named.members.some(m => m.machine === recipient)) {
      return { kind: 'mint', recipient }
    }
    return refused('host', `the signed manifest names no host ${request.host} in ${named.cluster}`)
  }
  if (member.role !== asked) {
    return refused('role', `${request.host} is ${member.role} by the signed manifest, not ${asked}`)
  }
  if (member.machine === undefined && asked !== 'worker') {
    return refused('key', `${request.host} is not bound to a key by the signed manifest: bind it and publish`)
  }
  if (member.machine !== undefined && member.machine !== recipient) {
    return refused(
      'key',
      `${request.host} is machine ${member.machine} by the signed manifest, not ${recipient}`,
    )
  }
  return { kind: 'mint', recipient }
}

const ROLES: Record<ClusterRole, NamedMember['role'] | undefined> = {
  [ClusterRole.UNSPECIFIED]: undefined,
  [ClusterRole.SERVER]: 'server',
  [ClusterRole.WORKER]: 'worker',
  [ClusterRole.SERVER_AND_WORKER]: 'server+worker',
}

function refused(kind: MintRefusal, reason: string): MintVerdict {
  return { kind: 'refused', class: kind, reason }
}
