import type { ClusterStepEnded } from '../../../shared/gen/muster/v1/cluster_pb.ts'

const KEPT_MS = 600_000
const MAX_HELD = 100

/**
 * Kubeconfigs on their way from a server to the operator who asked: sealed to that operator, in memory alone, given out once.
 * What is lost with the process is asked for anew.
 */
export class Kubeconfigs {
  readonly #held = new Map<string, { readonly ended: ClusterStepEnded; readonly untilMs: number }>()

  put(act: string, ended: ClusterStepEnded, nowMs: number): void {
    for (const [known, { untilMs }] of this.#held) if (untilMs <= nowMs) this.#held.delete(known)
    this.#held.set(act, { ended, untilMs: nowMs + KEPT_MS })
    for (const oldest of this.#held.keys()) {
      if (this.#held.size <= MAX_HELD) break
      this.#held.delete(oldest)
    }
  }

  /** Gives it out, and keeps it no longer. */
  take(act: string, nowMs: number): ClusterStepEnded | undefined {
    const held = this.#held.get(act)
    this.#held.delete(act)
    return held && held.untilMs > nowMs ? held.ended : undefined
  }
}
