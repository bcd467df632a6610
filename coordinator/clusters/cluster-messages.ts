import { isIP } from 'node:net'
import { fromBinary, type MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { cutText } from '../../shared/cut-text.ts'
import {
  CertificateKind,
  type ClusterOrderSchema,
  type ClusterReport,
  ClusterRole,
  type ClusterState,
  type SealedSecret,
} from '../../shared/gen/muster/v1/cluster_pb.ts'
import { EnvelopeSchema } from '../../shared/gen/muster/v1/envelope_pb.ts'
import { isDigest } from '../../shared/ids.ts'
import { durationFromMs, millisOf } from '../../shared/time.ts'
import type { StepReport } from './absorb-report.ts'
import type { MemberRole } from './cluster-record.ts'
import type { CertificateEnds, NodeData, Observation, ServerView, SoonestEnd } from './cluster-snapshot.ts'
import type { ClusterIntent } from './orders-for.ts'
import { JOIN_LIFETIME_MS } from './steps.ts'

export type ClusterOrderInit = MessageInitShape<typeof ClusterOrderSchema>

/** How long an order that names no end of its own may be under way to its machine. */
export const ORDER_MS = 3_600_000
const MAX_MEMBERS = 32
const MAX_NODES = 5000
const MAX_CHARS = 4096
const MAX_SOONEST = 16
const MAX_SNAPSHOTS = 16

/** What an order needs besides its intent. */
export interface OrderParts {
  /** With join; undefined: it is not at hand, so that the order cannot be given now. */
  readonly secret: SealedSecret | undefined
  /** With mint; undefined: the machine is not known. */
  readonly joiner: JoinerParts | undefined
  /** With join: host:port of the cluster; empty: the secret has one. */
  readonly address: string
}

/** What a machine that joins says of itself. */
export interface JoinerParts {
  /** SubjectPublicKeyInfo. */
  readonly key: Uint8Array
  /** Of /etc/machine-id; empty: not known. */
  readonly machineId: string
  /** Within the cluster; empty: not known. */
  readonly address: string
}

/** The order that says an intent to its machine; undefined: a part of it is not at hand. */
export function orderFor(
  cluster: string,
  intent: ClusterIntent,
  parts: OrderParts,
  nowMs: number,
): ClusterOrderInit | undefined {
  const action = actionOf(intent, parts)
  const expiresMs = intent.kind === 'mint' || intent.kind === 'join' ? intent.expiresMs : nowMs + ORDER_MS
  return action && { operationId: intent.operation, cluster, expires: timestampFromMs(expiresMs), action }
}

function actionOf(intent: ClusterIntent, parts: OrderParts): ClusterOrderInit['action'] | undefined {
  switch (intent.kind) {
    case 'found':
      return { case: 'found', value: {} }
    case 'mint': {
      const { joiner } = parts
      if (!joiner) return undefined
      const { key: joinerKey, machineId, address } = joiner
      const role = wireRole(intent.role)
      const lifetime = durationFromMs(JOIN_LIFETIME_MS)
      return { case: 'mint', value: { host: intent.host, role, joinerKey, lifetime, machineId, address } }
    }
    case 'join': {
      const { secret, address } = parts
      return secret && { case: 'join', value: { secret, serverAddress: address } }
    }
    case 'stop':
      return { case: 'stop', value: {} }
    case 'delete':
      return { case: 'deleteSecret', value: { tokenId: intent.tokenId ?? '' } }
    case 'clear':
      return { case: 'clearNode', value: { node: intent.host, machine: intent.joiner } }
    case 'leave': {
      const { host: node, dead, signed } = intent
      const signedOrder = signed && fromBinary(EnvelopeSchema, signed)
      return { case: 'leave', value: { node, dead, ...(signedOrder && { signedOrder }) } }
    }
  }
}

export function wireRole(role: MemberRole): ClusterRole {
  switch (role) {
    case 'server':
      return ClusterRole.SERVER
    case 'worker':
      return ClusterRole.WORKER
    case 'server+worker':
      return ClusterRole.SERVER_AND_WORKER
  }
}

/** What a machine says of its cluster, or what is wrong with how it says it. `asOfMs`: when it was asked. */
export function readState(state: ClusterState, asOfMs: number): Observation | string {
  const { cluster: part, version, address, machineId, bootId, installedVersion: installed } = state
  if (part.length > 63 || version.length > 64 || installed.length > 64) return 'cluster or version: too long'
  if (address !== '' && isIP(address) === 0) return 'address: is no IP address'
  if (machineId.length > 64 || bootId.length > 64) return 'machine_id or boot_id: too long'
  const data = readData(state)
  if (typeof data === 'string') return data
  const view = readView(state)
  if (typeof view === 'string') return view
  const certificates = readCertificates(state)
  if (typeof certificates === 'string') return certificates
  const { snapshots } = state
  if (snapshots.length > MAX_SNAPSHOTS || snapshots.some(name => name.length > 63))
    return `snapshots: at most ${MAX_SNAPSHOTS} names of at most 63 characters are allowed`
  return {
    asOfMs,
    part,
    data,
    view,
    version: version === '' ? undefined : version,
    address: address === '' ? undefined : address,
    machineId: machineId === '' ? undefined : machineId,
    bootId: bootId === '' ? undefined : bootId,
    kubeletStartedMs: millisOf(state.kubeletStarted),
    installed: installed === '' ? undefined : installed,
    certificates,
    snapshots: snapshots.length === 0 ? undefined : snapshots,
  }
}

function readCertificates({ certificateEnds: told }: ClusterState): CertificateEnds | undefined | string {
  if (!told) return undefined
  if (told.unreadable !== '') return { kind: 'unreadable', reason: told.unreadable.slice(0, MAX_CHARS) }
  if (told.soonest.length > MAX_SOONEST) return `certificate_ends: at most ${MAX_SOONEST} are allowed`
  const soonest: SoonestEnd[] = []
  for (const { kind, path, notBefore, notAfter } of told.soonest) {
    const [beganMs, endsMs] = [millisOf(notBefore), millisOf(notAfter)]
    if (beganMs === undefined || endsMs === undefined) return 'certificate_ends: without a time'
    soonest.push({ kind: kindOf(kind), path: path.slice(0, MAX_CHARS), beganMs, endsMs })
  }
  return { kind: 'read', soonest }
}

/** A kind that this version does not know is taken for one that ends unless somebody does something. */
function kindOf(kind: CertificateKind): SoonestEnd['kind'] {
  if (kind === CertificateKind.RENEWED) return 'renewed'
  if (kind === CertificateKind.SELF_SIGNED) return 'self-signed'
  return kind === CertificateKind.AUTHORITY ? 'authority' : 'ordered'
}

function readData({ data }: ClusterState): NodeData | string {
  switch (data.case) {
    case 'none':
      return { kind: 'none' }
    case 'present': {
      const { authority, distribution, server } = data.value
      if (!isDigest(authority)) return 'present.authority: must be 64 lower-case hex characters'
      if (distribution.length > 32) return 'present.distribution: too long'
      return { kind: 'cluster', authority, distribution, server }
    }
    case 'unfinished': {
      const { operationId: operation } = data.value
      return operation.length > 128 ? 'unfinished.operation_id: too long' : { kind: 'unfinished', operation }
    }
    case 'unreadable':
      return { kind: 'unreadable', reason: data.value.reason.slice(0, MAX_CHARS) }
    case 'lost': {
      const { authority, distribution, path } = data.value
      if (!isDigest(authority)) return 'lost.authority: must be 64 lower-case hex characters'
      if (distribution.length > 32) return 'lost.distribution: too long'
      return { kind: 'lost', authority, distribution, path: cutText(path, 256) }
    }
    case undefined:
      // Of a kind that this version does not know: what cannot be told is never taken for nothing.
      return { kind: 'unreadable', reason: 'it says nothing of its data that is known here' }
  }
}

function readView({ view }: ClusterState): ServerView | undefined | string {
  if (!view) return undefined
  const { ready, members, nodes } = view
  if (members.length > MAX_MEMBERS)
    return `view.members: ${members.length}, at most ${MAX_MEMBERS} are allowed`
  if (nodes.length > MAX_NODES) return `view.nodes: ${nodes.length}, at most ${MAX_NODES} are allowed`
  if ([...members, ...nodes].some(({ name }) => name.length > 253)) return 'view: a name is too long'
  return {
    ready,
    members: members.map(({ name, learner, healthy, leads }) => ({ name, learner, healthy, leads })),
    nodes: nodes.map(({ name, uid, ready: isReady, kubeletVersion, renewed, bootId, ...cordon }) => ({
      name,
      uid: cutText(uid, 64),
      ready: isReady,
      version: cutText(kubeletVersion, 64),
      renewedMs: millisOf(renewed),
      bootId: bootId === '' ? undefined : cutText(bootId, 64),
      unschedulable: cordon.unschedulable,
      cordonedBy: cordon.cordonedBy === '' ? undefined : cutText(cordon.cordonedBy, 64),
    })),
  }
}

/** A report in the planner's words; undefined: of a kind that this version does not know. */
export function readReport({ result }: ClusterReport): StepReport | undefined {
  switch (result.case) {
    case 'minted':
      return { kind: 'minted', tokenId: cutText(result.value.tokenId, 256) }
    case 'received':
    case 'deleted':
      return { kind: result.case }
    case 'ended': {
      const { done, authority, value } = result.value
      return {
        ...(done && value.case === 'text' && { told: value.value.slice(0, MAX_CHARS) }),
        kind: 'ended',
        done,
        authority: isDigest(authority) ? authority : '',
        reason: whyOf(result.value),
      }
    }
    case undefined:
      return undefined
  }
}

/** Class and reason of what was not done, in one line. */
export function whyOf(ended: { readonly class: string; readonly reason: string }): string {
  const kind = ended.class.slice(0, 64)
  const reason = ended.reason.slice(0, MAX_CHARS)
  return kind !== '' && reason !== '' ? `${kind}: ${reason}` : `${kind}${reason}`
}
