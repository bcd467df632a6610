import { Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { isServerRole } from '../../drivers/cluster-facts.ts'
import { holderOf } from '../../safety/kubernetes-hold.ts'
import { type PhaseResult, refused, STOPPED } from '../context.ts'
import type { KubernetesMove } from '../journal-record.ts'
import { quorumProblem } from './kubernetes-move.ts'
import { beginProblem } from './may-begin.ts'
import { AGAIN, type StepContext, type StepEnd } from './step-context.ts'
import { end } from './verify-revision.ts'

/** From the first phase to the record after which Kubernetes is restarted. Nothing is touched before that, and it can all be done again. */
export async function prepareRestart(context: StepContext): Promise<StepEnd> {
  const { deps, phase, record, input, operation } = context
  const verified = await phase(Phase.VERIFY, async () => {
    const problem = await beginProblem(context)
    if (problem) return problem
    if (!deps.config.allow.includes('restart')) {
      return refused(
        'not-allowed',
        'this node may not be ordered to restart Kubernetes (option `allow` of its configuration)',
      )
    }
    return { kind: 'ok', value: undefined, detail: '' } as const
  })
  if (verified.kind === 'stopped') return verified
  if (verified.kind === 'failed') return end(Phase.VERIFY, verified)
  const ready = await phase(Phase.PREFLIGHT, async ({ signal }) => await judgeRestart(context, signal))
  if (ready.kind === 'stopped') return ready
  if (ready.kind === 'failed') return end(Phase.PREFLIGHT, ready)
  if (input.signal.aborted) return { kind: 'stopped' }
  input.say(`operation ${operation} restarts Kubernetes`)
  await record({ kind: 'upgrade', kubernetes: ready.value })
  return AGAIN
}

/** Only what is this fleet's is restarted, and no server that the datastore cannot do without. */
async function judgeRestart(
  { deps, input }: StepContext,
  signal: AbortSignal,
): Promise<PhaseResult<KubernetesMove>> {
  const { kubernetes } = deps
  if (!(await kubernetes.isOurs())) {
    return refused('kubernetes', 'no Kubernetes of this fleet runs here, so there is none to restart')
  }
  const opened = await kubernetes.open()
  if (opened.kind !== 'driver') {
    const why = opened.kind === 'none' ? 'this system has no Kubernetes part' : opened.reason
    return refused('kubernetes', why)
  }
  const holder = await holderOf(deps.stateDir)
  if (holder !== undefined) {
    return refused('kubernetes', 'Kubernetes is kept down on this machine by something that is under way')
  }
  const server = isServerRole(opened.driver.facts.role)
  const alone = server ? await quorumProblem(opened.driver, input.say, signal) : undefined
  if (signal.aborted) return STOPPED
  if (alone) return alone
  return { kind: 'ok', value: { server, from: '', to: '' }, detail: 'nothing was touched so far' }
}
