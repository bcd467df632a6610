import { planRollouts } from '../../coordinator/rollouts/plan/plan-rollouts.ts'
import { largeFleet, MIDDLE_MS } from '../../coordinator/rollouts/plan/testing/large-fleet.ts'
import type { BenchContext } from './context.ts'
import { percentile } from './statistics.ts'

const HOSTS = 10_000
const WARM_UP = 5
const REPETITIONS = 30

/** One decision over a fleet in the middle of a rollout, each time from the snapshot alone; the median. */
export function measureRollouts({ note }: Pick<BenchContext, 'note'>): { readonly planMs: number } {
  const snapshot = largeFleet(HOSTS)
  const times: number[] = []
  for (let turn = -WARM_UP; turn < REPETITIONS; turn++) {
    const began = performance.now()
    const { grants, waits } = planRollouts(snapshot, MIDDLE_MS)
    const tookMs = performance.now() - began
    const waiting = waits.get('r1')?.size ?? 0
    // A plan of which nothing comes, or that forgets hosts, would be quick.
    if (grants.length === 0 || waiting < HOSTS / 2) {
      throw new Error(`the plan has ${grants.length} grants, and ${waiting} hosts that wait`)
    }
    if (turn >= 0) times.push(tookMs)
  }
  const planMs = percentile(times, 50)
  note(`rollouts: plan p50 ${planMs.toFixed(1)} p99 ${percentile(times, 99).toFixed(1)} ms`)
  return { planMs }
}
