import type { Clock } from '../../../shared/clock.ts'
import type { ClusterOrder, ClusterStepEnded } from '../../../shared/gen/muster/v1/cluster_pb.ts'
import type { KnownCluster } from '../../../shared/revision/clusters.ts'
import type { NamedMember } from '../../../shared/sealing/judge-mint.ts'
import type { KnownTrust } from '../../../shared/trust/trust-set.ts'
import type { ClusterDriver, DriverState } from '../../drivers/driver.ts'
import type { WaitOptions } from '../../drivers/kubernetes/wait-options.ts'
import { describeLost } from '../../drivers/node/lost-datastore.ts'
import type { Failure } from '../../drivers/result.ts'
import type { ClusterAction, ClusterOperation } from '../cluster-operation.ts'
import type { ManifestKeeper } from '../manifest-keeper.ts'
import type { ReplayStore } from '../replay-store.ts'

/** Of this machine what acts need. */
export interface ActIdentity {
  /** SHA-256 (hex) of its key. */
  readonly id: string
  readonly privateKeyPem: string
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKeyDer: Uint8Array
}

export interface ActDeps {
  readonly identity: ActIdentity
  readonly trust: () => KnownTrust | undefined
  readonly manifests: ManifestKeeper
  readonly replay: ReplayStore
  readonly clock: Clock
  /** Brings the tree of a verified manifest here; answers the folder, or why it is not here. */
  readonly fetchTree: (
    manifest: { readonly number: number; readonly treeDigest: string; readonly treeLength: number },
    signal: AbortSignal,
  ) => Promise<{ readonly kind: 'ok'; readonly folder: string } | ActFailure>
}

/** What every act works with. */
export interface ActBase {
  readonly deps: ActDeps
  readonly order: ClusterOrder
  readonly driver: ClusterDriver
  readonly options: WaitOptions
  /** As it is on disk now. */
  readonly operation: () => ClusterOperation
  /** Durable when it returns; what reports hold is told from then on. */
  readonly update: (change: (operation: ClusterOperation) => ClusterOperation) => Promise<void>
  /** Says durably that it is begun; from then on it is gone on with after a kill. */
  readonly begin: () => Promise<void>
}

export interface ActContext<A extends ClusterAction> extends ActBase {
  readonly action: Extract<ClusterOrder['action'], { readonly case: A }>
}

export interface ActFailure {
  readonly kind: 'failed'
  /** One of a driver's, or of this node's own judgement, such as "manifest" or "not-adopted". */
  readonly class: string
  readonly reason: string
  /** As with what was done. */
  readonly cordonedBy?: string | undefined
}

export type ActEnd =
  | {
      readonly kind: 'done'
      readonly authority?: string
      readonly value?: ClusterStepEnded['value']
      /** The operation of ours whose cordon the node was left with; empty: none of ours; missing: it was not looked at. */
      readonly cordonedBy?: string | undefined
    }
  /** It is over, and what it came to was put into the record by the act itself. */
  | { readonly kind: 'told' }
  | ActFailure

export const failedAct = (kind: string, reason: string): ActFailure => ({
  kind: 'failed',
  class: kind,
  reason,
})

export const doneWith = (text: string): Extract<ActEnd, { readonly kind: 'done' }> => ({
  kind: 'done',
  value: { case: 'text', value: text.slice(0, 4096) },
})

export const fromDriver = ({ class: kind, reason }: Failure): ActFailure => failedAct(kind, reason)

/** The cluster of an order by the newest signed manifest, and this machine in it; a failure: it names neither. */
export async function findNamed(
  { deps, options }: Pick<ActBase, 'deps' | 'options'>,
  cluster: string,
): Promise<
  { readonly kind: 'named'; readonly named: KnownCluster; readonly own: NamedMember | undefined } | ActFailure
> {
  const reading = await deps.manifests.newest(options.signal ?? new AbortController().signal)
  if (reading.kind === 'unknown')
    return failedAct('manifest', `no signed manifest to judge by: ${reading.reason}`)
  const { manifest } = reading
  const named = manifest.clusters.get(cluster)
  if (!named) return failedAct('manifest', `revision ${manifest.number} names no cluster ${cluster}`)
  return { kind: 'named', named, own: named.members.find(({ machine }) => machine === deps.identity.id) }
}

/** The same, where this machine must be a server of it. */
export async function findAsServer(
  context: Pick<ActBase, 'deps' | 'options'>,
  cluster: string,
): Promise<{ readonly kind: 'named'; readonly named: KnownCluster; readonly own: NamedMember } | ActFailure> {
  const found = await findNamed(context, cluster)
  if (found.kind === 'failed') return found
  const { own, named } = found
  return own && own.role !== 'worker'
    ? { kind: 'named', named, own }
    : failedAct(
        'manifest',
        `this machine is no server of ${cluster} by the signed manifest: \`muster bind --all\` and publish`,
      )
}

/** Whether the data on the disk is ours to work with; a failure says why not. */
export function whyNotOurs({ data, adopted }: Pick<DriverState, 'data' | 'adopted'>): ActFailure | undefined {
  if (data.kind === 'none') return failedAct('precondition', 'no data of any cluster is on this machine')
  if (data.kind === 'unreadable') return failedAct('unreadable', data.reason)
  return data.authority === adopted
    ? undefined
    : failedAct(
        'not-adopted',
        `the data of authority ${data.authority} on this machine was not made by us: adopt that cluster first`,
      )
}

/** Whether a server's own part of the cluster is there to work with; a failure says why not. */
export function whyNotServing(state: Pick<DriverState, 'data' | 'adopted' | 'lost'>): ActFailure | undefined {
  return state.lost ? failedAct('lost-datastore', describeLost(state.lost)) : whyNotOurs(state)
}

/** One sentence of everything that is missing on this machine. */
export const describeShortfalls = (
  shortfalls: readonly { readonly what: string; readonly reason: string }[],
): string => shortfalls.map(({ what, reason }) => `${what}: ${reason}`).join('; ')
