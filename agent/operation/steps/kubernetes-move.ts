import type { ClusterDriver } from '../../drivers/driver.ts'
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
  const opened = await deps.kubernetes.open()
  const driver = opened.kind === 'driver' ? opened.driver : undefined
  const alone = server && driver ? await quorumProblem(driver, input.say, signal) : undefined
  if (alone) return alone
  if (change.apart) return { kind: 'may', move: { server, from: '', to: '' } }
  const now = await driver?.readState(signal)
  const from = now?.runningVersion ?? now?.installedVersion ?? change.from
  const { to } = change
  const api = server ? undefined : await deps.kubernetes.apiVersion(signal)
  const verdict = judgeMove({ host, server, from, to, api })
  if (verdict.kind === 'may not') return refused('skew', `Kubernetes cannot move so: ${verdict.reason}`)
  if (verdict.warning !== undefined) input.say(verdict.warning)
  return { kind: 'may', move: { server, from: from ?? '', to: to ?? '' } }
}

/**
 * Whether the datastore bears that this server restarts. Who plans a whole cluster asks first, and this node does not rest on that.
 * Where it cannot be told the server is ill, and a restart is what may mend it.
 */
export async function quorumProblem(
  driver: ClusterDriver,
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<PhaseFailure | undefined> {
  const asked = await driver.cluster.whyNotStop(signal)
  if (asked.kind === 'failed') {
    say(`whether the datastore bears a restart of this server cannot be told: ${asked.reason}`)
    return undefined
  }
  return asked.value === undefined
    ? undefined
    : refused('quorum', `Kubernetes may not restart on this server now: ${asked.value}; nothing was touched`)
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
