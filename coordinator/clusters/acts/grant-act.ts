import { create, toBinary } from '@bufbuild/protobuf'
import type { Clock } from '../../../shared/clock.ts'
import { ClusterOrderSchema } from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { parseHostPort } from '../../../shared/host-port.ts'
import { operationId } from '../../../shared/ids.ts'
import type { FleetTrust } from '../../machines/fleet-trust.ts'
import type { FleetTargetsCache } from '../../revisions/fleet-targets.ts'
import { recordEvent } from '../../store/events.ts'
import { isUniqueViolation, type Store } from '../../store/store.ts'
import type { ClusterRecord } from '../cluster-record.ts'
import type { ClusterSnapshot } from '../cluster-snapshot.ts'
import { askToLeave, letReturn } from '../operator-changes.ts'
import { loadRecord, saveRecord } from '../record-store.ts'
import { findActByRequest, insertAct, listCordons, openActs, putCordon } from './act-store.ts'
import { type ClusterAct, isRebuilding } from './cluster-act.ts'
import { type ActVerdict, type Grant, judgeAct } from './judge-act.ts'
import type { ActAsk } from './read-ask.ts'

export interface GrantDeps {
  readonly store: Store
  readonly clock: Clock
  readonly trust: Pick<FleetTrust, 'newest'>
  readonly fleetTargets: Pick<FleetTargetsCache, 'current'>
  /** All that is known of a cluster now; undefined: the newest revision has none of the name. */
  snapshot(name: string): Promise<ClusterSnapshot | undefined>
}

/** An act as it is asked for, with its cluster filled in: by the planner of rollouts, or where nothing is disrupted by an operator. */
export interface Asked {
  readonly ask: ActAsk
  readonly askedBy: string
  /** Whoever granted it has named it already; missing: it gets a name of its own. */
  readonly id?: string | undefined
  /** It is a step of a rollout on its way to something else: an operator's cordon stays. */
  readonly onTheWay?: boolean
}

export type Granted =
  | { readonly kind: 'granted'; readonly act: ClusterAct }
  /** This very request was granted before. */
  | { readonly kind: 'known'; readonly act: ClusterAct }
  | { readonly kind: 'refused'; readonly problems: readonly string[] }
  | { readonly kind: 'no-cluster' }

const TRIES = 5

/** As an act names the request that asked for it. */
export function operatorRequest(id: string): string {
  return `operator ${id}`
}

/**
 * Grants an act, or says every reason why not. THE ONLY PLACE THAT DOES: what it judged is what
 * it writes on, in one transaction; when anything was begun in between, it judges anew. Idempotent by the request. Nobody is
 * told anything here: what is written is sent by the cluster's next turn.
 */
export async function grantAct(
  deps: GrantDeps,
  { ask, askedBy, id, onTheWay = false }: Asked,
): Promise<Granted> {
  const request = operatorRequest(ask.requestId)
  for (let tries = 1; ; tries += 1) {
    const known = await findActByRequest(deps.store.db, request)
    if (known) return { kind: 'known', act: known }
    const snapshot = await deps.snapshot(ask.cluster)
    if (!snapshot) return { kind: 'no-cluster' }
    const at = deps.clock.now()
    const { open, verdict } = await judgeIn(deps, { ask, onTheWay }, snapshot, at)
    if (verdict.kind === 'refused') return verdict
    const act = actFrom(ask, verdict.grant, { id: id ?? operationId(at), request, askedBy, at })
    const isJudged = sameActs(open)
    const written = await deps.store
      .transact(async tx => {
        const stored = await loadRecord(tx, ask.cluster)
        const isSame =
          stored.record.count === snapshot.record.count && sameLeaves(stored.record, snapshot.record)
        if (!isSame || !isJudged(await openActs(tx, ask.cluster))) return false
        if (!(await saveRecord(tx, stored, changed(stored.record, verdict.grant, act)))) return false
        await insertAct(tx, act)
        const { cluster, host } = act
        if (verdict.grant.cordons) {
          await putCordon(tx, { cluster, host, act: act.id, askedBy, atMs: at.getTime() })
        }
        const by = act.executorHost === '' ? '' : ` by way of ${act.executorHost}`
        const reason = `${cluster}: ${act.act}${host === '' ? '' : ` of ${host}`} was asked for${by} (act ${act.id})`
        await recordEvent(tx, { at, class: 'cluster', machine: act.machine, host, reason, actor: askedBy })
        return true
      })
      .catch((error: unknown) => {
        // On a store with several writers the same request may be committed while this one is being written.
        if (!isUniqueViolation(error)) throw error
        return false
      })
    if (written) return { kind: 'granted', act }
    if (tries >= TRIES) {
      return { kind: 'refused', problems: ['the cluster changes all the time; ask again in a moment'] }
    }
  }
}

/** Whether an act may be as things are, without granting it; undefined: there is no such cluster. */
export async function judgeAsk(deps: GrantDeps, ask: ActAsk): Promise<ActVerdict | undefined> {
  const snapshot = await deps.snapshot(ask.cluster)
  return snapshot && (await judgeIn(deps, { ask, onTheWay: false }, snapshot, deps.clock.now())).verdict
}

async function judgeIn(
  deps: GrantDeps,
  { ask, onTheWay }: { readonly ask: ActAsk; readonly onTheWay: boolean },
  snapshot: ClusterSnapshot,
  at: Date,
) {
  const open = await openActs(deps.store.db, ask.cluster)
  const cordons = await listCordons(deps.store.db, ask.cluster)
  const { revision, manifestDigest, clusters } = deps.fleetTargets.current()
  const context = {
    snapshot,
    open,
    cordon: cordons.find(({ host }) => host === ask.host),
    onTheWay,
    trust: deps.trust.newest,
    revision: { number: revision, digest: manifestDigest },
    endpoint: withPort(clusters.get(ask.cluster)?.endpoint),
  }
  return { open, verdict: judgeAct(ask, context, at.getTime()) }
}

function actFrom(
  ask: ActAsk,
  { host, machine, executor, action, expiresMs, change }: Grant,
  {
    id,
    request,
    askedBy,
    at,
  }: { readonly id: string; readonly request: string; readonly askedBy: string; readonly at: Date },
): ClusterAct {
  const isOver = change?.kind === 'return'
  return {
    id,
    request,
    intent: ask.intent,
    cluster: ask.cluster,
    act: ask.act,
    host,
    machine,
    executor: executor?.machine ?? '',
    executorHost: executor?.host ?? '',
    operation: executor && action ? id : '',
    parameter: ask.parameter,
    askedBy,
    askedMs: at.getTime(),
    expiresMs,
    order: action && toBinary(ClusterOrderSchema, create(ClusterOrderSchema, { action })),
    attempts: 0,
    notBeforeMs: 0,
    endedMs: isOver ? at.getTime() : undefined,
    done: isOver,
    class: '',
    reason: isOver ? 'it joins again when its turn comes' : '',
    result: undefined,
  }
}

function changed(record: ClusterRecord, { change, host, machine }: Grant, act: ClusterAct): ClusterRecord {
  switch (change?.kind) {
    case 'leave':
      return askToLeave(record, change.leave, act.id)
    case 'return':
      return letReturn(record, host, machine)
    case 'found': {
      // On disk before it is told, so that nobody else founds whatever becomes of the act.
      const { executor: machine, operation, askedMs: atMs } = act
      const attempt = (record.founding?.attempt ?? 0) + 1
      const plain = { state: 'ordered', authority: undefined, adopted: false } as const
      return { ...record, founding: { ...plain, machine, host, operation, atMs, attempt } }
    }
    case undefined:
      // Written anew though nothing changes, so that a turn which read it before this act was begun cannot go on.
      return isRebuilding(act) ? { ...record } : record
  }
}

function sameActs(judged: readonly ClusterAct[]): (now: readonly ClusterAct[]) => boolean {
  const ids = new Set(judged.map(({ id }) => id))
  return now => now.length === ids.size && now.every(({ id }) => ids.has(id))
}

function sameLeaves(a: ClusterRecord, b: ClusterRecord): boolean {
  return (
    a.leaves.length === b.leaves.length &&
    a.leaves.every(({ request }, at) => b.leaves[at]?.request === request)
  )
}

/** An endpoint with its port; else empty: the servers know the port of their API, and this address too. */
export function withPort(endpoint: string | undefined): string {
  return endpoint !== undefined && parseHostPort(endpoint) !== undefined ? endpoint : ''
}
