import type { GateName, Wait } from './plan/decision.ts'
import type { RolloutAction } from './plan/rollout-record.ts'

/** What a host waits for outside of any rollout: a gate of the planner, or those that catch up before it. */
export interface PendingWait extends Pick<Wait, 'reason' | 'opens'> {
  readonly gate: GateName | 'catch-up'
  readonly sinceMs: number
}

/** A host for which the coordinator would begin a rollout by itself, and does not yet. */
export interface PendingHost {
  readonly host: string
  readonly machine: string
  /** What that rollout would do. */
  readonly action: RolloutAction
  /** 0: the action has none. */
  readonly revision: number
  /** The rollout that it would catch up with, or be taken back from. */
  readonly rollout: string
  /** The rollout because of which it waits; empty: none. */
  readonly behind: string
  readonly waits: readonly PendingWait[]
}

export type NewPending = Omit<PendingHost, 'waits'> & {
  /** Where nothing says since when, it is since it was first seen. */
  readonly waits: readonly (Omit<PendingWait, 'sinceMs'> & { readonly sinceMs?: number | undefined })[]
}

/** Why nothing is begun for a host. Everything is found anew at each look, so that none of it outlives its cause. */
export class PendingHosts {
  #known: readonly PendingHost[] = []

  /** Takes what one look found of these kinds of rollouts; what an earlier one found of them is over. */
  take(actions: readonly RolloutAction[], found: readonly NewPending[], nowMs: number): void {
    const before = new Map(
      this.#known.flatMap(one => one.waits.map(({ gate, sinceMs }) => [`${keyOf(one)} ${gate}`, sinceMs])),
    )
    const others = this.#known.filter(({ action }) => !actions.includes(action))
    const now = found.map(one => ({
      ...one,
      waits: one.waits.map(wait => ({
        ...wait,
        sinceMs: wait.sinceMs ?? before.get(`${keyOf(one)} ${wait.gate}`) ?? nowMs,
      })),
    }))
    this.#known = [...others, ...now]
  }

  all(): readonly PendingHost[] {
    return this.#known
  }

  /** Those that one rollout left behind or moved, and those that wait because of it. */
  ofRollout(rollout: string): readonly PendingHost[] {
    return this.#known.filter(one => one.rollout === rollout || one.behind === rollout)
  }
}

function keyOf({ host, action, rollout }: Pick<PendingHost, 'host' | 'action' | 'rollout'>): string {
  return `${action} ${rollout} ${host}`
}
