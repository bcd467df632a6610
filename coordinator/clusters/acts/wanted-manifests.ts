import { fromBinary } from '@bufbuild/protobuf'
import type { Kysely } from 'kysely'
import { ClusterOrderSchema } from '../../../shared/gen/muster/v1/cluster_pb.ts'
import type { Blobs } from '../../revisions/blobs.ts'
import type { FleetTargetsCache } from '../../revisions/fleet-targets.ts'
import { findRevision } from '../../store/revisions.ts'
import type { Database } from '../../store/tables.ts'
import { isNeverBegun } from './absorb-act-report.ts'
import { findActByRequest, listActs } from './act-store.ts'
import type { ClusterAct } from './cluster-act.ts'
import { manifestsRequest } from './plan-acts.ts'
import type { WantedManifests } from './run-acts.ts'
import { manifestDigests } from './tree-manifests.ts'

export interface ManifestDeps {
  readonly db: Kysely<Database>
  readonly blobs: Pick<Blobs, 'read'>
  readonly fleetTargets: Pick<FleetTargetsCache, 'current'>
}

/** How far the manifests of a cluster have come. */
export interface ManifestsState extends WantedManifests {
  /** The revision whose manifests the cluster has; 0: none that is known here. */
  readonly appliedRevision: number
  /** The newest act about them; undefined: there was none. */
  readonly newest: ClusterAct | undefined
}

/** Acts that are looked back at. */
const LOOK_BACK = 20

/** Knows which manifests each cluster should have. The tree of a revision is read once. */
export class ManifestBook {
  readonly #deps: ManifestDeps
  #read: { readonly revision: number; readonly byCluster: Promise<ReadonlyMap<string, string>> } | undefined

  constructor(deps: ManifestDeps) {
    this.#deps = deps
  }

  /** Undefined: nothing was published. */
  async of(cluster: string): Promise<ManifestsState | undefined> {
    const { revision, manifestDigest } = this.#deps.fleetTargets.current()
    if (revision === 0) return undefined
    const digest = (await this.#digests(revision)).get(cluster) ?? ''
    const restore = await this.#lastRestore(cluster)
    const all = await listActs(this.#deps.db, { cluster, act: 'manifests', limit: LOOK_BACK })
    // What was brought before a restore may be gone with what was set back.
    const acts = all.filter(({ askedMs }) => askedMs > (restore?.endedMs ?? 0))
    const last = acts.find(({ done }) => done)
    const appliedRevision = last ? revisionOf(last) : 0
    // By hand it was that of its revision, whose digest is not known any more once it is not the newest.
    const appliedDigest = last?.parameter || (appliedRevision === revision ? digest : undefined)
    const restoredBy = restore?.id ?? ''
    const request = manifestsRequest(cluster, { revision, restoredBy })
    const isAsked = (await findActByRequest(this.#deps.db, request)) !== undefined
    // That a set became empty may be a mistake: it is pruned by hand, where somebody says that it is meant.
    const isDue = digest !== '' && digest !== appliedDigest && !isAsked
    return { revision, manifestDigest, digest, isDue, restoredBy, appliedRevision, newest: acts[0] }
  }

  /** Also one that failed, which may have come half the way. */
  async #lastRestore(cluster: string): Promise<ClusterAct | undefined> {
    const acts = await listActs(this.#deps.db, { cluster, act: 'restore', limit: LOOK_BACK })
    return acts.find(act => act.endedMs !== undefined && (act.done || !isNeverBegun(act.class)))
  }

  async #digests(revision: number): Promise<ReadonlyMap<string, string>> {
    if (this.#read?.revision !== revision) {
      this.#read = { revision, byCluster: this.#readTree(revision) }
      // A tree that could not be read is read again at the next look.
      this.#read.byCluster.catch(() => {
        if (this.#read?.revision === revision) this.#read = undefined
      })
    }
    return await this.#read.byCluster
  }

  async #readTree(revision: number): Promise<ReadonlyMap<string, string>> {
    const found = await findRevision(this.#deps.db, revision)
    if (!found) return new Map()
    return await manifestDigests(this.#deps.blobs, {
      digest: found.row.tree_digest,
      length: found.row.tree_length,
    })
  }
}

function revisionOf({ order }: ClusterAct): number {
  const action = order && fromBinary(ClusterOrderSchema, order).action
  return action?.case === 'manifests' ? Number(action.value.revision) : 0
}
