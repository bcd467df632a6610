import { reasonOf } from '../../shared/errors.ts'
import type { GiveOrdersRequest } from '../../shared/gen/muster/v1/order_pb.ts'
import { notFound, RpcError } from '../../shared/rpc/rpc-error.ts'
import type { MachineEntry } from '../machines/entry.ts'
import { resolveMachine } from '../machines/resolve.ts'
import type { FleetQueryDeps } from '../queries/evaluate-fleet.ts'
import { type SelectionError, selectMachines } from '../queries/select-machines.ts'
import { listProblems } from './list-problems.ts'

/** The machines that an order is for, by what the operator called them. */
export interface Selected {
  readonly machines: readonly { readonly ref: string; readonly entry: MachineEntry }[]
  readonly errors: readonly SelectionError[]
}

/** Finds the machines that are named, or the active ones that a selector matches. Throws when there is nothing to order. */
export async function selectForOrder(
  deps: FleetQueryDeps,
  { refs, where }: Pick<GiveOrdersRequest, 'refs' | 'where'>,
): Promise<Selected> {
  if (where.trim() !== '') {
    const { matched, errors } = await selectMachines(deps, where, ({ state }) => state === 'active')
    if (matched.length === 0) {
      const [first] = errors
      const why = first ? `; it could not be evaluated for ${errors.length}, such as: ${first.reason}` : ''
      throw notFound(`where: no active machine matches${why}`)
    }
    const machines = matched.map(entry => ({ ref: nameOf(deps, entry), entry }))
    return { machines, errors }
  }
  const problems: string[] = []
  const machines = refs.flatMap(ref => {
    try {
      return [{ ref, entry: resolveMachine(deps.directory, ref) }]
    } catch (error) {
      if (!(error instanceof RpcError)) throw error
      problems.push(`${JSON.stringify(ref.slice(0, 64))}: ${reasonOf(error)}`)
      return []
    }
  })
  if (problems.length > 0) throw notFound(listProblems(problems))
  return { machines, errors: [] }
}

function nameOf({ directory }: FleetQueryDeps, entry: MachineEntry): string {
  const assignment = directory.assignment(entry.id)
  return assignment.kind === 'host' ? assignment.host : entry.id
}
