import { isServerRole } from '../drivers/cluster-facts.ts'
import type { ClusterDriver, DriverState } from '../drivers/driver.ts'
import type { WaitOptions } from '../drivers/kubernetes/wait-options.ts'
import { waitFor } from '../drivers/node/services.ts'
import { done, failed, type Result } from '../drivers/result.ts'

const LOOK_EVERY_MS = 2_000
/** For the server's own proof even when its units took almost all the time. */
const LEAST_MS = 1_000

/** Waits until all units run and, on a server, API and datastore are well at the installed version. Says that version. */
export async function proveKubernetes(driver: ClusterDriver, options: WaitOptions): Promise<Result<string>> {
  const { deadlineMs, signal, everyMs = LOOK_EVERY_MS } = options
  const { facts } = driver
  const startedMs = performance.now()
  let waiting = 'it was not looked at'
  const state = await waitFor(
    deadlineMs,
    signal,
    async () => {
      const seen = await driver.readState(signal)
      const problem = notRunning(facts.units, seen)
      if (problem === undefined) return seen
      waiting = problem
      return undefined
    },
    everyMs,
  )
  if (signal?.aborted) return failed('cancelled', 'no longer waited for')
  if (!state) return failed('timed-out', `${waiting}, after ${Math.round(deadlineMs / 1_000)} s`)
  const version = state.installedVersion ?? facts.version
  if (!isServerRole(facts.role)) return done(version ?? 'an unknown version')
  if (version === undefined) return failed('unreadable', 'the installed program does not say its version')
  const left = Math.max(LEAST_MS, deadlineMs - (performance.now() - startedMs))
  const proof = await driver.cluster.proveServer(version, { deadlineMs: left, signal, everyMs })
  return proof.kind === 'done' ? done(proof.value.version) : proof
}

function notRunning(units: readonly string[], { units: states, held }: DriverState): string | undefined {
  for (const unit of units) {
    const state = states.get(unit)
    if (state?.active === 'active') continue
    if (!state) return `the state of ${unit} cannot be read`
    const why = state.heldByCondition
      ? `, since a condition of it does not hold${held ? ' (Kubernetes is held down)' : ''}`
      : state.result === '' || state.result === 'success'
        ? ''
        : ` (${state.result})`
    return `${unit} is ${state.active}${why}`
  }
  return undefined
}
