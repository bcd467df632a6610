import type { NodeReading } from './node-reading.ts'

/** What is known of a node at one moment, by the API server. */
export interface NodeEvidence {
  readonly node: NodeReading
  /** When the kubelet last renewed its lease, by the kubelet's clock; undefined: it has none. */
  readonly renewedMs: number | undefined
}

export interface ReadyWish {
  /** Such as "1.34.3". */
  readonly version: string
  /** What was seen before the node's kubelet was started anew; undefined: it was not. */
  readonly before: NodeEvidence | undefined
  /** The machine was booted anew: its boot id must be another than before. */
  readonly rebooted: boolean
}

export type ReadyVerdict = { readonly kind: 'ready' } | { readonly kind: 'waiting'; readonly reason: string }

/**
 * Whether a node is Ready on evidence that is newer than the step. A Ready condition outlives its kubelet by 40 seconds, so
 * it counts for nothing by itself: the lease must have been renewed since `first` was read, which was after the step; and
 * where the kubelet was started anew it must have said Ready since. Times of one kubelet are compared with each other only,
 * so that no two clocks have to agree.
 */
export function judgeReady(
  first: NodeEvidence | undefined,
  seen: NodeEvidence,
  wish: ReadyWish,
): ReadyVerdict {
  const { node, renewedMs } = seen
  if (node.deleting) return waiting('its Node object is being deleted')
  if (!node.ready) return waiting('its Node object has no Ready condition')
  if (node.ready.status !== 'True') {
    const said = node.ready.message === '' ? node.ready.reason : `${node.ready.reason}: ${node.ready.message}`
    return waiting(`Ready is ${node.ready.status}, ${said.slice(0, 300)}`)
  }
  if (!isVersion(node.kubeletVersion, wish.version)) {
    return waiting(`its kubelet is ${node.kubeletVersion}, wanted ${wish.version}`)
  }
  if (renewedMs === undefined) return waiting('its kubelet has no lease')
  if (!first) return waiting('it was read only once: its lease must be renewed before that counts')
  if (first.node.uid !== node.uid) return waiting('its Node object was made anew')
  if (first.renewedMs === undefined || renewedMs <= first.renewedMs) {
    return waiting('its kubelet has not renewed its lease since the step')
  }
  const { before } = wish
  if (!before) return { kind: 'ready' }
  if (wish.rebooted && before.node.bootId === node.bootId) return waiting('it has not booted anew')
  if (
    before.node.uid === node.uid &&
    before.node.ready &&
    node.ready.heartbeatMs <= before.node.ready.heartbeatMs
  ) {
    return waiting('its kubelet has not said Ready since it was started anew')
  }
  return { kind: 'ready' }
}

/** "v1.34.3+k3s1" is 1.34.3. */
export function isVersion(said: string, wanted: string): boolean {
  return bareVersion(said) === bareVersion(wanted)
}

/** Without the v before it and the distribution's own part behind it. */
export function bareVersion(text: string): string {
  return text.replace(/^v/, '').replace(/[+-].*$/, '')
}

function waiting(reason: string): ReadyVerdict {
  return { kind: 'waiting', reason }
}
