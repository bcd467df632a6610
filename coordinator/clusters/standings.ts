import type { MachineDirectory } from '../machines/directory.ts'
import { isLive } from '../machines/entry.ts'
import { isChange } from '../operations/order-action.ts'
import type { Sessions } from '../sessions/sessions.ts'
import { openOperations } from '../store/operations.ts'
import type { Store } from '../store/store.ts'
import type { MachineStanding } from './run-cluster.ts'

export interface StandingDeps {
  readonly store: Pick<Store, 'db'>
  readonly directory: Pick<MachineDirectory, 'get' | 'mayAct' | 'assignment'>
  readonly sessions: Pick<Sessions, 'live'>
}

/**
 * Where machines stand, as far as clusters go: connected, sent away for good, or occupied, which is held, in conflict, on hold
 * by its own word, or in the middle of a change of its system. Machines that are not known are missing.
 */
export async function standingsOf(
  { store, directory, sessions }: StandingDeps,
  machines: readonly string[],
): Promise<ReadonlyMap<string, MachineStanding>> {
  const open = await openOperations(store.db, machines)
  const changing = new Set(open.filter(({ action }) => isChange(action)).map(({ machine }) => machine))
  const found = new Map<string, MachineStanding>()
  for (const machine of machines) {
    const entry = directory.get(machine)
    if (!entry) continue
    const session = sessions.live(machine)
    const connected = isLive(entry.state) && session !== undefined && !session.disputed
    const held = !directory.mayAct(machine) || directory.assignment(machine).kind === 'conflict'
    const occupied = held || entry.onHold !== undefined || changing.has(machine)
    const gone = entry.state === 'evicted' || entry.state === 'banned'
    const { allowed } = entry
    found.set(machine, { connected, sinceMs: session?.startedMs, gone, occupied, allowed })
  }
  return found
}
