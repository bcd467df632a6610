import { isServerRole } from '../../drivers/cluster-facts.ts'
import { waitFor } from '../../drivers/node/services.ts'
import type { StepContext } from './step-context.ts'

const LOOK_EVERY_MS = 2_000

export interface SpareQuestion {
  /** What waits, for who reads the output, such as "Kubernetes waits with its restart". */
  readonly waits: string
  /** How long it is waited for; 0: it is asked once. */
  readonly patienceMs: number
  readonly signal: AbortSignal
}

/**
 * Waits until the datastore bears that this server is away for a while; says why it does not. What was asked when the operation began is
 * long ago: since then all was fetched, and another server may have failed or begun to join. Where it cannot be told the server is
 * ill, and a restart is what may mend it. A machine that is no server is spared at once.
 */
export async function untilSpared(
  { deps, input, state }: StepContext,
  { waits, patienceMs, signal }: SpareQuestion,
): Promise<string | undefined> {
  const opened = await deps.kubernetes.open()
  if (opened.kind !== 'driver' || !isServerRole(opened.driver.facts.role)) return undefined
  const { cluster } = opened.driver
  let why: string | undefined
  const spared = await waitFor(
    patienceMs,
    signal,
    async () => {
      const asked = await cluster.whyNotStop(signal)
      const now = asked.kind === 'done' ? asked.value : undefined
      if (now === undefined) return true
      if (why === undefined && patienceMs > 0) input.say(`${waits} on ${state.host || 'this node'}: ${now}`)
      why = now
      return undefined
    },
    LOOK_EVERY_MS,
  )
  return spared || signal.aborted ? undefined : why
}
