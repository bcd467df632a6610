import type { StartRolloutRequest } from '../../../shared/gen/muster/v1/rollout_pb.ts'
import { hasForeignSystem } from '../../../shared/revision/foreign-system.ts'
import { invalid, notFound, precondition } from '../../../shared/rpc/rpc-error.ts'
import { listProblems } from '../../api/list-problems.ts'
import { selectForOrder } from '../../api/select-for-order.ts'
import type { FleetQueryDeps } from '../../queries/evaluate-fleet.ts'
import type { SelectionError } from '../../queries/select-machines.ts'
import { type Member, memberOfHost } from '../members.ts'

const MAX_REFS = 10_000

export interface SelectedHosts {
  readonly members: readonly Member[]
  readonly errors: readonly SelectionError[]
}

/** The hosts that a rollout is for: those named, those that a selector finds, or all of the newest revision. */
export async function selectHosts(
  deps: FleetQueryDeps,
  { refs: named, where, action, act }: Pick<StartRolloutRequest, 'refs' | 'where' | 'action' | 'act'>,
): Promise<SelectedHosts> {
  const { directory } = deps
  const refs = named.length === 0 && act && act.host !== '' ? [act.host] : named
  if (refs.length > 0 && where.trim() !== '')
    throw invalid('refs, where: name hosts or give a selector, not both')
  if (refs.length > MAX_REFS) throw invalid(`refs: ${refs.length}, at most ${MAX_REFS} are allowed`)
  if (refs.length === 0 && where.trim() === '') {
    if (action !== '' && action !== 'apply') {
      throw invalid(`refs, where: ${action} is for hosts that are named or selected; \`true\` selects all`)
    }
    const members = everyHost(deps)
    if (members.length === 0) throw notFound('no revision was published yet, or it has no hosts')
    return { members, errors: [] }
  }
  const { machines, errors } = await selectForOrder(deps, { refs: [...refs], where })
  const problems: string[] = []
  const members = new Map<string, Member>()
  const installs = action === '' || action === 'apply'
  for (const { ref, entry } of machines) {
    const assignment = directory.assignment(entry.id)
    if (assignment.kind === 'host' && installs && isForeign(directory, assignment.host)) {
      problems.push(`${ref}: no system can be installed there, it is somebody else's`)
    } else if (assignment.kind === 'host') {
      members.set(assignment.host, memberOfHost(directory, assignment.host, entry.id))
    } else problems.push(`${ref}: is no host: ${assignment.reason}`)
  }
  // A selector may find machines that are none; of those that were named each was meant.
  if (problems.length > 0 && (refs.length > 0 || members.size === 0))
    throw precondition(listProblems(problems))
  return { members: [...members.values()], errors }
}

/** Of a host whose system is somebody else's the newest revision has at most its Kubernetes. */
function isForeign({ targets }: FleetQueryDeps['directory'], host: string): boolean {
  const target = targets.hosts.get(host)
  return target !== undefined && hasForeignSystem(target)
}

/** All whose systems are the fleet's. */
export function everyHost({ directory }: Pick<FleetQueryDeps, 'directory'>): readonly Member[] {
  const members = new Map<string, Member>()
  for (const host of directory.targets.hosts.keys()) {
    if (isForeign(directory, host)) continue
    members.set(host, memberOfHost(directory, host, directory.machineOf(host)))
  }
  for (const entry of directory.entries()) {
    const assignment = directory.assignment(entry.id)
    if (entry.state !== 'active' || assignment.kind !== 'host') continue
    const { host } = assignment
    if (!members.has(host) && !isForeign(directory, host))
      members.set(host, memberOfHost(directory, host, entry.id))
  }
  return [...members.values()]
}
