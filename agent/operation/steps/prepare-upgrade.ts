import type { Order } from '../../../shared/gen/muster/v1/agent_pb.ts'
import { OutcomeClass, Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { parseVersion, versionText } from '../../../shared/kubernetes/version.ts'
import { isServerRole } from '../../drivers/cluster-facts.ts'
import type { ClusterDriver, DriverState } from '../../drivers/driver.ts'
import { readDiskData } from '../../drivers/node/disk-data.ts'
import { judgeMove } from '../../kubernetes/judge-move.ts'
import { readProfile } from '../../kubernetes/profile.ts'
import { currentSystem } from '../../system/system-links.ts'
import { failed, type PhaseFailure, type PhaseResult, refused, STOPPED } from '../context.ts'
import type { KubernetesMove } from '../journal-record.ts'
import { buildPackage } from '../phases/build.ts'
import { fetchClosure, fetchTree } from '../phases/fetch.ts'
import { makeRoom } from '../phases/make-room.ts'
import { preflight } from '../phases/preflight.ts'
import type { Verified } from '../phases/verify.ts'
import { quorumProblem, secureDatastore } from './kubernetes-move.ts'
import { AGAIN, type StepContext, type StepEnd } from './step-context.ts'
import { digestOf, end, verifyRevision } from './verify-revision.ts'

/**
 * From the first phase to the recorded point of no return of a move of Kubernetes alone. Nothing of the machine is touched
 * before that, and all of it can be done again.
 */
export async function prepareUpgrade(context: StepContext): Promise<StepEnd> {
  const { deps, phase, record, input, operation } = context
  const verified = await verifyRevision(context, 'kubernetes')
  if (verified.kind === 'stopped') return verified
  if (verified.kind === 'failed') return end(Phase.VERIFY, verified)
  const { target, manifest, host } = verified.value
  const previous = (await currentSystem(deps.system, deps.config.systemRoot)) ?? ''
  await record({ kind: 'target', host, previous, targetDigest: digestOf(manifest, target) })

  const way = target.kubernetes?.way ?? { case: undefined }
  const ready = await phase(Phase.PREFLIGHT, inner => preflight(inner, verified.value, way, 'nix'))
  if (ready.kind === 'stopped') return ready
  if (ready.kind === 'failed') return end(Phase.PREFLIGHT, ready)

  const fetched = await phase(Phase.FETCH, async (inner): Promise<PhaseResult<string>> => {
    const closure = way.case === 'closure' ? way.value : undefined
    const room = await makeRoom(inner, closure, input.states())
    if (room) return room
    return closure ? await fetchClosure(inner, closure) : await fetchTree(inner, manifest)
  })
  if (fetched.kind === 'stopped') return fetched
  if (fetched.kind === 'failed') return end(Phase.FETCH, fetched)
  const attribute = way.case === 'source' ? way.value.attribute : undefined
  const made =
    attribute === undefined
      ? fetched
      : await phase(Phase.BUILD, inner => buildPackage(inner, fetched.value, attribute))
  if (made.kind === 'stopped') return made
  if (made.kind === 'failed') return end(Phase.BUILD, made)
  const storePath = made.value
  await record({ kind: 'system', storePath })

  const planned = await phase(Phase.PLAN, inner => plan(context, verified.value, storePath, inner.signal))
  if (planned.kind === 'stopped') return planned
  if (planned.kind === 'failed') return end(Phase.PLAN, planned, storePath)
  const { move, runs } = planned.value
  const over = (reason: string): StepEnd => ({
    kind: 'conclude',
    conclusion: { class: OutcomeClass.SUCCEEDED, refusal: '', reason, phase: Phase.PLAN, storePath },
  })
  if (runs) return over(`Kubernetes runs from ${storePath} already; nothing was done`)
  if (isFetchOnly(input.order)) {
    return over(`${storePath} is here; nothing that runs was touched`)
  }
  if (deps.config.activation === 'never') {
    const reason = `made ${storePath}; activation is switched off on this node (option activation), nothing was touched`
    return end(Phase.PLAN, refused('not-allowed', reason), storePath)
  }
  const secured = await phase(Phase.ARM, async ({ signal }) => {
    const lacking = await secureDatastore(context, move, signal)
    return lacking ?? { kind: 'ok', value: undefined, detail: 'nothing was touched so far' }
  })
  if (secured.kind === 'stopped') return secured
  if (secured.kind === 'failed') return end(Phase.ARM, secured, storePath)
  if (input.signal.aborted) return { kind: 'stopped' }
  input.say(`operation ${operation} moves Kubernetes to ${storePath}`)
  await record({ kind: 'upgrade', kubernetes: move })
  return AGAIN
}

const isFetchOnly = ({ action }: Order) => action.case === 'upgrade' && action.value.fetchOnly

interface Planned {
  readonly move: KubernetesMove
  /** The wanted one is in its place and runs. */
  readonly runs: boolean
}

async function plan(
  { deps, input }: StepContext,
  { target, host }: Verified,
  storePath: string,
  signal: AbortSignal,
): Promise<PhaseResult<Planned>> {
  const { kubernetes, system } = deps
  const wanted = target.kubernetes?.version ?? ''
  const server = target.role !== 'worker'
  const opened = await kubernetes.open()
  if (opened.kind === 'unreadable') return refused('kubernetes', opened.reason)
  if (opened.kind === 'none' && !target.kubernetes?.externalSystem) {
    return refused(
      'kubernetes',
      'the system of this node has no Kubernetes part yet: apply the revision first',
    )
  }
  const problem = opened.kind === 'driver' ? otherMember(opened.driver, target) : undefined
  if (problem) return problem
  const isOurs = await kubernetes.isOurs()
  if (!isOurs) {
    const data = await readDiskData(system)
    if (data.kind !== 'none') {
      const what = data.kind === 'cluster' ? `data of a cluster of ${data.distribution} is here` : data.reason
      return refused(
        'not-adopted',
        `${what}, which this fleet has not adopted: \`muster cluster adopt ${target.cluster}\``,
      )
    }
    // The first one: its units wait for what a join brings.
    const inPlace = (await readProfile(system, deps.config.systemRoot)) === storePath
    return {
      kind: 'ok',
      value: { move: { server, from: '', to: wanted }, runs: inPlace },
      detail: 'the first Kubernetes here',
    }
  }
  if (opened.kind === 'none')
    return refused('kubernetes', 'what Kubernetes is here cannot be told: no /etc/muster/cluster.json')

  const now = await opened.driver.readState(signal)
  const to = await versionIn(deps, storePath, signal)
  if (signal.aborted) return STOPPED
  if (to === undefined || (wanted !== '' && !sameVersion(to, wanted))) {
    return failed(
      OutcomeClass.BUILD_FAILED,
      `${storePath} holds Kubernetes ${to ?? 'of an unknown version'}, the revision names ${wanted || 'none'}`,
    )
  }
  const from = now.runningVersion ?? now.installedVersion
  if (isFetchOnly(input.order)) {
    // Nothing moves, so nothing can stand in the way: a worker fetches before the servers have gone.
    const move = { server, from: from ?? '', to }
    return { kind: 'ok', value: { move, runs: false }, detail: 'fetched ahead' }
  }
  const api = server ? undefined : await kubernetes.apiVersion(signal)
  const verdict = judgeMove({ host, server, from, to, api })
  if (verdict.kind === 'may not') return refused('skew', `Kubernetes cannot move so: ${verdict.reason}`)
  if (verdict.warning !== undefined) input.say(verdict.warning)
  const inPlace = (await readProfile(system, deps.config.systemRoot)) === storePath
  const runs = inPlace && isWell(opened.driver, now, to)
  const alone = server && !runs ? await quorumProblem(opened.driver, input.say, signal) : undefined
  if (alone) return alone
  return {
    kind: 'ok',
    value: { move: { server, from: from ?? '', to }, runs },
    detail: `Kubernetes ${from ?? 'unknown'}, then ${to}`,
  }
}

function otherMember({ facts }: ClusterDriver, target: Verified['target']): PhaseFailure | undefined {
  if (facts.life !== 'apart') {
    return refused(
      'kubernetes',
      'the system of this node brings its Kubernetes along: apply the revision first',
    )
  }
  if (facts.cluster === target.cluster && isServerRole(facts.role) === (target.role !== 'worker'))
    return undefined
  return refused(
    'kubernetes',
    `this node is ${facts.role} of ${facts.cluster} by its system, and ${target.role} of ${target.cluster} by the revision: apply the revision first, or let the node leave`,
  )
}

/** What the programs of a profile say of themselves. */
async function versionIn(
  { kubernetes }: StepContext['deps'],
  storePath: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  const opened = await kubernetes.open(`${storePath}/bin`)
  return opened.kind === 'driver' ? (await opened.driver.readState(signal)).installedVersion : undefined
}

function sameVersion(a: string, b: string): boolean {
  const [one, other] = [parseVersion(a), parseVersion(b)]
  return one !== undefined && other !== undefined && versionText(one) === versionText(other)
}

function isWell({ facts }: ClusterDriver, now: DriverState, version: string): boolean {
  const runs = facts.units.every(unit => now.units.get(unit)?.active === 'active')
  return runs && (!isServerRole(facts.role) || sameVersion(now.runningVersion ?? '', version))
}
