import type { RolloutRow } from '../store/rollouts.ts'

/** For people: "apply revision 7", "reboot". */
export function whatItDoes({ action, revision }: Pick<RolloutRow, 'action' | 'revision'>): string {
  return revision > 0 ? `${action} revision ${revision}` : action
}
