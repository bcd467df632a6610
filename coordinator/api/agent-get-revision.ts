import type { MessageInitShape } from '@bufbuild/protobuf'
import type { GetRevisionRequest, GetRevisionResponseSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { invalid, notFound } from '../../shared/rpc/rpc-error.ts'
import type { Assignment } from '../enrolment/assign.ts'
import { requireRevision } from '../revisions/describe-revision.ts'
import type { StoredRevision } from '../store/revisions.ts'
import type { Store } from '../store/store.ts'
import { findTargetBytes } from '../store/targets.ts'

export interface AgentRevisionDeps {
  readonly store: Store
  /** Which host the machine is. */
  readonly directory: { assignment(machine: string): Assignment }
}

/** The envelope of a revision and the target of the machine that asks: never anybody else's. */
export function agentGetRevision(deps: AgentRevisionDeps) {
  return async (
    request: GetRevisionRequest,
    machine: string,
  ): Promise<MessageInitShape<typeof GetRevisionResponseSchema>> => {
    const { revision, target } = await ownTarget(deps, request.number, machine)
    return { envelope: revision.envelope, target }
  }
}

/** A revision with this machine's own target. Throws when it has none in it. */
export async function ownTarget(
  deps: AgentRevisionDeps,
  number: bigint,
  machine: string,
): Promise<{ readonly revision: StoredRevision; readonly target: Buffer }> {
  if (number < 1n) throw invalid('number: names no revision')
  const assignment = deps.directory.assignment(machine)
  if (assignment.kind !== 'host') {
    throw notFound(`this machine is bound to no host: ${assignment.reason}`)
  }
  const { host, group } = assignment
  const target = await findTargetBytes(deps.store.db, Number(number), host, group)
  if (!target) {
    throw notFound(`revision ${number} has no target for ${group === '' ? `host ${host}` : `group ${group}`}`)
  }
  return { revision: await requireRevision(deps.store.db, number), target }
}
