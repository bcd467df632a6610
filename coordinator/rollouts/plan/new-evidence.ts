/** When a step last stopped, or may have stopped, what makes its node Ready; by the node's own clock. */
export interface Disturbance {
  readonly startedMs: number
  readonly endedMs: number
}

/** What is seen of a node that no condition says: by what its kubelet wrote, and by its own machine. */
export interface NodeEvidence {
  /** When its kubelet last renewed its lease, by the node's own clock; undefined: never. */
  readonly renewedMs: number | undefined
  /** That renewal was after this instant of the coordinator's clock; undefined: nobody can say. */
  readonly renewedAfterMs: number | undefined
  /** The boot in which the kubelet last spoke of its node; undefined: it does not say. */
  readonly bootId: string | undefined
  /** The boot in which its machine is; undefined: it does not say. */
  readonly ownBootId: string | undefined
  /** When the kubelet that runs was started, by the node's own clock; undefined: nobody can say. */
  readonly startedMs: number | undefined
}

/**
 * Why what is said of a node may be of before a step; undefined: its kubelet has renewed its lease since. A Ready condition outlives its
 * kubelet by 40 seconds. Times of the node's own clock are compared with each other alone: the renewal with the start of the
 * kubelet, where that was within the step, or with the end of what the step did; where neither is known it takes two answers to questions that were
 * asked after the step. `actedMs`: when the step was over, by the coordinator's clock.
 */
export function whyNotRenewed(
  { renewedMs, renewedAfterMs, bootId, ownBootId, startedMs }: NodeEvidence,
  actedMs: number,
  disturbed: Disturbance | undefined,
): string | undefined {
  if (bootId !== undefined && ownBootId !== undefined && bootId !== ownBootId)
    return 'its kubelet has said nothing since its machine booted'
  if (renewedMs === undefined) return 'its kubelet has no lease'
  if (renewedAfterMs !== undefined && renewedAfterMs > actedMs) return undefined
  if (disturbed) {
    const isOfIt = startedMs !== undefined && startedMs >= disturbed.startedMs
    if (renewedMs > (isOfIt ? startedMs : disturbed.endedMs)) return undefined
  }
  return 'its kubelet has not renewed its lease since'
}
