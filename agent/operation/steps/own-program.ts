import { readAgentUnit } from '../../plan/toplevel.ts'
import type { StepContext } from './step-context.ts'

/** Whether this process is of the program that the new system names for the agent. */
export type OwnProgram =
  | { readonly kind: 'right' }
  | { readonly kind: 'other'; readonly reason: string }
  | { readonly kind: 'unknown'; readonly reason: string }

/** Where the closure's own units are; what stands elsewhere was added on the machine. */
const OF_THE_SYSTEM = '/etc/systemd/system/'

/**
 * A unit file or drop-in that somebody laid over the new system's own has systemd start another program: what is confirmed by
 * that would be started for the first time at the next boot, when nothing goes back any more. An agent that is not the main
 * process of its unit was installed in another way, which no system names.
 */
export async function judgeOwnProgram({ deps, state }: StepContext): Promise<OwnProgram> {
  const runs = await deps.units.agentUnit()
  if (runs.kind === 'not-ours') return { kind: 'right' }
  if (runs.kind === 'unknown') return runs
  const target = state.round?.target ?? ''
  const { program } = await readAgentUnit(deps.system, target)
  if (program === undefined) {
    return { kind: 'unknown', reason: `the program of the agent in ${target} cannot be read` }
  }
  if (program === runs.program) return { kind: 'right' }
  const added = runs.files.filter(file => !file.startsWith(OF_THE_SYSTEM))
  const files = (added.length > 0 ? added : runs.files).join(', ')
  return {
    kind: 'other',
    reason: `the agent of ${target} (${program}) was never started: systemd starts ${runs.program} in its place, by ${files}; take that away, then order again`,
  }
}
