import { judgeMove } from '../../kubernetes/judge-move.ts'
import { snapshotBefore } from '../../kubernetes/snapshots-of.ts'
import type { KubernetesChange } from '../../plan/kubernetes-change.ts'
import { type PhaseFailure, refused, STOPPED } from '../context.ts'
import type { KubernetesMove } from '../journal-record.ts'
import type { StepContext } from './step-context.ts'

type Judged = PhaseFailure | { readonly kind: 'may'; readonly move: KubernetesMove | undefined }

/**
 * What a new system makes of the Kubernetes on this machine, and whether it may. Where the agent gave Kubernetes nothing, it
 * is not its own: such as a cluster that was made by hand and is not adopted yet.
 */
export async function judgeKubernetes(
  { deps, operation, input }: StepContext,
  change: KubernetesChange | undefined,
  signal: AbortSignal,
): Promise<Judged> {
  if (!change || !(await deps.kubernetes.isOurs())) return { kind: 'may', move: undefined }
  const { server, becomes } = change
  const host = input.states().get(operation)?.host || 'this node'
  if (becomes !== undefined) {
    return refused(
      'kubernetes',
      `${host} would become another member (${becomes}) while it is one: \`muster leave ${host}\` takes it out first`,
    )
  }
  if (change.apart) return { kind: 'may', move: { server, from: '', to: '' } }
  const from = (await runningNow(deps, signal)) ?? change.from
  const { to } = change
  const api = server ? undefined : await deps.kubernetes.apiVersion(signal)
  const verdict = judgeMove({ host, server, from, to, api })
  if (verdict.kind === 'may not') return refused('skew', `Kubernetes cannot move so: ${verdict.reason}`)
  if (verdict.warning !== undefined) input.say(verdict.warning)
  return { kind: 'may', move: { server, from: from ?? '', to: to ?? '' } }
}

async function runningNow(
  { kubernetes }: StepContext['deps'],
  signal: AbortSignal,
): Promise<string | undefined> {
  const opened = await kubernetes.open()
  if (opened.kind !== 'driver') return undefined
  const { runningVersion, installedVersion } = await opened.driver.readState(signal)
  return runningVersion ?? installedVersion
}

/** Before a server's datastore can move on to where an older version does not follow, there is a copy of it. */
export async function secureDatastore(
  { deps, operation, input }: StepContext,
  move: KubernetesMove | undefined,
  signal: AbortSignal,
): Promise<PhaseFailure | typeof STOPPED | undefined> {
  // Without a version before it is the first one.
  if (!move?.server || move.from === '' || move.from === move.to) return undefined
  const opened = await deps.kubernetes.open()
  const made =
    opened.kind === 'driver'
      ? await snapshotBefore(opened.driver, operation, signal)
      : { kind: 'failed' as const, reason: 'this system has no Kubernetes part that can be asked' }
  if (signal.aborted) return STOPPED
  if (made.kind === 'failed') {
    return refused(
      'no-snapshot',
      `no snapshot of the datastore could be made before: ${made.reason}; nothing was touched`,
    )
  }
  input.say(`snapshot ${made.value} was made before`)
  return undefined
}
