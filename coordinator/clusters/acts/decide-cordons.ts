import type { NodeObject } from '../cluster-snapshot.ts'
import type { ClusterAct, Cordon } from './cluster-act.ts'

/** What is to be written down of cordons, so that it is as nodes have it. */
export type CordonStep =
  /** Our mark is on the node, and nobody knew of it, or of another one. */
  | { readonly kind: 'found'; readonly host: string; readonly act: string }
  /** No cordon of ours is there any more. */
  | { readonly kind: 'gone'; readonly host: string; readonly act: string }
  /** It was lifted before, and came back with a datastore that was set back; `lifted`: the act that lifted it. */
  | { readonly kind: 'lift'; readonly host: string; readonly act: string; readonly lifted: string }

export interface SeenNodes {
  /** They were seen after this instant. */
  readonly asOfMs: number
  readonly nodes: readonly NodeObject[]
}

/** The act whose cordon keeps pods from a node; undefined: none of ours does. */
export function ourCordonOn({ unschedulable, cordonedBy }: NodeObject): string | undefined {
  return unschedulable === true ? cordonedBy : undefined
}

/** Somebody cordoned it who is none of us, and lifts it himself. */
export function isCordonedByOthers({ unschedulable, cordonedBy }: NodeObject): boolean {
  return unschedulable === true && cordonedBy === undefined
}

/** Hosts of which what is written down is not what their nodes have. A server that does not say what they have says nothing of it. */
export function differingCordons(
  { nodes }: SeenNodes,
  stored: readonly Pick<Cordon, 'host' | 'act'>[],
): readonly NodeObject[] {
  const byHost = new Map(stored.map(({ host, act }) => [host, act]))
  return nodes.filter(node => {
    if (node.uid === '' || node.unschedulable === undefined) return false
    return ourCordonOn(node) !== byHost.get(node.name)
  })
}

/**
 * What follows for one of them. What is under way is told by itself, and what was seen before the newest such act was over says nothing.
 * Whoever set a cordon may mean it to stay, so that one of which nobody knows is only taken down; but what was lifted once stays so.
 * `acts`: those of this host that set or lift cordons, newest first.
 */
export function decideCordon(
  node: NodeObject,
  asOfMs: number,
  stored: Pick<Cordon, 'act' | 'atMs'> | undefined,
  acts: readonly Pick<ClusterAct, 'id' | 'act' | 'done' | 'endedMs'>[],
): CordonStep | undefined {
  const { name: host } = node
  if (acts.some(({ endedMs }) => endedMs === undefined)) return undefined
  const newestMs = Math.max(stored?.atMs ?? 0, ...acts.map(({ endedMs = 0 }) => endedMs))
  if (asOfMs <= newestMs) return undefined
  const act = ourCordonOn(node)
  if (act === undefined) return stored && { kind: 'gone', host, act: stored.act }
  const setMs = acts.find(({ id }) => id === act)?.endedMs
  const lifted =
    setMs === undefined
      ? undefined
      : acts.find(
          each => each.act === 'uncordon' && each.done && each.endedMs !== undefined && each.endedMs > setMs,
        )
  return lifted ? { kind: 'lift', host, act, lifted: lifted.id } : { kind: 'found', host, act }
}
