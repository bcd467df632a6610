import { OutcomeClass, Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { isServerRole } from '../../drivers/cluster-facts.ts'
import type { ClusterDriver } from '../../drivers/driver.ts'
import { installProfile } from '../../kubernetes/profile.ts'
import { proveKubernetes } from '../../kubernetes/prove-kubernetes.ts'
import { newestSnapshot } from '../../kubernetes/snapshots-of.ts'
import { endHold, holderOf } from '../../safety/kubernetes-hold.ts'
import { failed, type PhaseResult, refused, STOPPED } from '../context.ts'
import { actionOf } from '../fold.ts'
import { AGAIN, STOP, type StepContext, type StepEnd } from './step-context.ts'
import { untilSpared } from './until-spared.ts'
import { end } from './verify-revision.ts'

/**
 * Starts the Kubernetes that came with what was confirmed, or that was put into its profile, and waits until it is well. INVARIANT:
 * it is restarted once, whoever is killed meanwhile; nothing goes back from here, since a server's datastore may have moved on.
 */
export async function startKubernetes(context: StepContext): Promise<StepEnd> {
  const { phase, record } = context
  let untouched = false
  const result = await phase(Phase.KUBERNETES, async inner => {
    const alone = isAlone(context) ? await whyNotSpared(context, inner.signal) : undefined
    if (inner.signal.aborted) return STOPPED
    if (alone !== undefined) {
      untouched = true
      return refused('quorum', `Kubernetes was not restarted: ${alone}; what runs was not touched`)
    }
    const problem = await putInPlace(context)
    if (problem === undefined) return await startAndProve(context, inner.signal)
    untouched = true
    return failed(OutcomeClass.ACTIVATION_FAILED, `${problem}; what runs was not touched`)
  })
  if (result.kind === 'stopped') return STOP
  if (untouched && result.kind === 'failed') return end(Phase.KUBERNETES, result, context.state.storePath)
  await record({ kind: 'kubernetes-ended', failure: result.kind === 'ok' ? undefined : result.reason })
  return AGAIN
}

/** Nothing but Kubernetes is changed by it: as long as that was not restarted nothing happened. */
function isAlone({ state }: StepContext): boolean {
  const action = actionOf(state.order)
  return (action === 'upgrade' || action === 'restart') && !state.kubernetes?.started
}

/** Says why the datastore does not bear that this server restarts, where it did not for as long as a start may take. */
async function whyNotSpared(context: StepContext, signal: AbortSignal): Promise<string | undefined> {
  const patienceMs = context.deps.config.kubernetesDeadlineMs
  return await untilSpared(context, { waits: 'Kubernetes waits with its restart', patienceMs, signal })
}

/** Of a move of Kubernetes alone: until it was started, its profile is what was recorded. Says what is in the way. */
async function putInPlace({ deps, state, input }: StepContext): Promise<string | undefined> {
  if (actionOf(state.order) !== 'upgrade' || state.kubernetes?.started) return undefined
  return await installProfile(deps.system, {
    root: deps.config.systemRoot,
    storePath: state.storePath,
    say: input.say,
  })
}

async function startAndProve(context: StepContext, signal: AbortSignal): Promise<PhaseResult<undefined>> {
  const { deps, state, operation, record, input } = context
  if (!(await deps.kubernetes.isOurs())) {
    // The first one, before anything joined.
    return {
      kind: 'ok',
      value: undefined,
      detail: 'in place; its units wait until the machine founds or joins',
    }
  }
  const opened = await deps.kubernetes.open()
  if (opened.kind !== 'driver') {
    const why = opened.kind === 'none' ? 'this system has no Kubernetes part' : opened.reason
    return broken(context, undefined, why)
  }
  const { driver } = opened
  if (!state.kubernetes?.started) {
    await endHold(deps.stateDir, operation)
    if ((await holderOf(deps.stateDir)) !== undefined) {
      const detail = 'Kubernetes is kept down on this machine by somebody else, so it was not started'
      return { kind: 'ok', value: undefined, detail }
    }
    const alone = isAlone(context) ? undefined : await whyNotSpared(context, signal)
    if (signal.aborted) return STOPPED
    if (alone !== undefined) {
      const reason = `Kubernetes was not restarted: ${alone}. What ran goes on; mend the other servers, then \`muster resume ${state.host || 'HOST'}\` and \`muster restart ${state.host || 'HOST'}\``
      return failed(OutcomeClass.ACTIVATION_FAILED, reason)
    }
    input.say('Kubernetes restarts')
    const restarted = await driver.restart(signal)
    if (signal.aborted) return STOPPED
    if (restarted.kind === 'failed') return broken(context, driver, restarted.reason)
    await record({ kind: 'kubernetes-started' })
  }
  const deadlineMs = deps.config.kubernetesDeadlineMs
  const proof = await proveKubernetes(driver, { deadlineMs, signal })
  if (signal.aborted) return STOPPED
  return proof.kind === 'done'
    ? { kind: 'ok', value: undefined, detail: `Kubernetes ${proof.value} is well` }
    : broken(context, driver, proof.reason)
}

/** What somebody who must mend it needs to know: what failed, and what there is to go back to. */
async function broken(
  { state }: StepContext,
  driver: ClusterDriver | undefined,
  why: string,
): Promise<PhaseResult<undefined>> {
  if (actionOf(state.order) === 'restart') {
    const reason = `Kubernetes was restarted and is not well: ${why}; nothing of it was changed`
    return failed(OutcomeClass.ACTIVATION_FAILED, reason)
  }
  const { to = '' } = state.kubernetes ?? {}
  const server = driver !== undefined && isServerRole(driver.facts.role)
  const newest = server ? await newestSnapshot(driver) : undefined
  const snapshot = !server
    ? ''
    : newest === undefined
      ? '; there is no snapshot here'
      : `; newest snapshot: ${newest}`
  return failed(
    OutcomeClass.ACTIVATION_FAILED,
    `Kubernetes${to === '' ? '' : ` ${to}`} was started in ${state.storePath} and is not well: ${why}. It stays as it is, nothing goes back by itself${snapshot}; mend it, then \`muster resume ${state.host || 'HOST'}\``,
  )
}
