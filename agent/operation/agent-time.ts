import type { OperationsDeps } from './context.ts'
import { type OperationState, provenTime } from './fold.ts'

/** The agent's time: what was over when it was built, or when it accepted a revision, is not to come. */
export function agentTime(
  { clock, built }: Pick<OperationsDeps, 'clock' | 'built'>,
  states: Iterable<OperationState>,
): Date {
  return latest(clock.now(), provenTime(states), built)
}

export function latest(first: Date, ...others: readonly (Date | undefined)[]): Date {
  return others.reduce<Date>((newest, other) => (other && other > newest ? other : newest), first)
}
