import { compileSelector, STORED_VARIABLES } from '../../shared/query/expression.ts'
import type { MachineEntry } from '../machines/entry.ts'
import { answerFromStore, compileField, type FleetQueryDeps } from './evaluate-fleet.ts'

/** A machine for which the selector could not be evaluated, and why. */
export interface SelectionError {
  /** Its host or id. */
  readonly machine: string
  readonly reason: string
}

export const MAX_SELECTION_ERRORS = 100

/** The machines that a selector matches; those it cannot be evaluated for are named, at most 100 of them. */
export async function selectMachines(
  deps: FleetQueryDeps,
  where: string,
  wanted: (entry: MachineEntry) => boolean,
): Promise<{ readonly matched: MachineEntry[]; readonly errors: SelectionError[] }> {
  const question = {
    where: compileField('where', where, text => compileSelector(text, STORED_VARIABLES)),
    select: [],
  }
  const matched: MachineEntry[] = []
  const errors: SelectionError[] = []
  for await (const answers of answerFromStore(deps, question, wanted)) {
    for (const one of answers) {
      if (one.kind === 'match') matched.push(one.entry)
      else if (one.kind === 'error' && errors.length < MAX_SELECTION_ERRORS) {
        const assignment = deps.directory.assignment(one.entry.id)
        const machine = assignment.kind === 'host' ? assignment.host : one.entry.id
        errors.push({ machine, reason: one.reason })
      }
    }
  }
  return { matched, errors }
}
