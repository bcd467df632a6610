import { at, readObject } from '../../../shared/read-value.ts'
import type { Distributed } from '../driver-base.ts'
import { done, type Result } from '../result.ts'
import { runProgram } from '../run-program.ts'

const CALL_MS = 60_000

export interface K0sStatus {
  /** It founds for itself alone, with a datastore that nothing joins. */
  readonly single: boolean
  /** `spec` of the configuration that it was started with. */
  readonly spec: unknown
}

/** What the k0s that runs on this server says of itself. */
export async function readK0sStatus(
  { programs }: Distributed,
  signal?: AbortSignal,
): Promise<Result<K0sStatus>> {
  const args = ['status', '--out=json']
  const asked = await runProgram(programs, 'k0s', { args, deadlineMs: CALL_MS, signal })
  if (asked.kind === 'failed') return asked
  const status = readObject(asked.value.stdout)
  return done({ single: at(status, 'SingleNode') === true, spec: at(status, 'ClusterConfig', 'spec') })
}
