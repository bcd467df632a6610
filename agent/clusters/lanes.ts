import type { ClusterAction } from './cluster-operation.ts'

/**
 * What runs beside what. An act that changes this machine runs alone. By way of this server tokens and members change one
 * after the other; a copy of the datastore, manifests and what only reads go beside that; and waits for one node (its pods
 * to leave, its kubelet to be well), which hold nothing, keep nobody waiting but other acts on the same node. A look at a token that
 * another server makes anew goes beside all but what changes this machine.
 */
export type Lane = 'machine' | 'members' | 'snapshot' | 'manifests' | 'read' | 'token' | `node ${string}`

export interface Placed {
  readonly operation: string
  readonly lane: Lane
}

/** `about`: the node that the act is about; `own`: this machine's. */
export function laneOf(action: ClusterAction, about: string, own: string): Lane {
  switch (action) {
    case 'found':
    case 'join':
    case 'adopt':
    case 'restore':
    case 'rotate':
    case 'wipe':
    case 'standDown':
    case 'stop':
      return 'machine'
    case 'leave':
      return about === own ? 'machine' : 'members'
    case 'mint':
    case 'deleteSecret':
    case 'clearNode':
      return 'members'
    case 'snapshot':
      return 'snapshot'
    case 'manifests':
      return 'manifests'
    case 'snapshots':
    case 'certificates':
    case 'kubeconfig':
      return 'read'
    case 'drain':
    case 'uncordon':
      return `node ${about}`
  }
}

/** Waits that run at once; each asks the API server every two seconds. */
const MAX_WAITS = 32

/**
 * Which of those that wait may start beside those that run, in the order of their coming. What changes the machine waits
 * until the others are done, and whatever came after it waits for it: else it would wait for ever.
 */
export function whatMayStart(running: readonly Placed[], waiting: readonly Placed[]): readonly Placed[] {
  const started: Placed[] = []
  const active = () => [...running, ...started]
  let machineWaits = false
  const blocked = new Set<Lane>()
  for (const each of waiting) {
    const { lane } = each
    const isWait = lane.startsWith('node ')
    const now = active()
    const others = now.filter(other => !other.lane.startsWith('node '))
    const machineRuns = now.some(other => other.lane === 'machine')
    const free =
      !blocked.has(lane) &&
      !now.some(other => other.lane === lane) &&
      (isWait
        ? now.length - others.length < MAX_WAITS
        : lane === 'machine'
          ? others.length === 0
          : !machineRuns && !machineWaits)
    if (free) started.push(each)
    else {
      blocked.add(lane)
      if (lane === 'machine') machineWaits = true
    }
  }
  return started
}
