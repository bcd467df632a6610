import type { Kysely } from 'kysely'
import type { Facts } from '../../shared/gen/muster/v1/facts_pb.ts'
import { conditionsOf } from '../store/conditions.ts'
import { findMachine } from '../store/machines.ts'
import type { Database } from '../store/tables.ts'
import type { MachineDirectory } from './directory.ts'
import { entryOf } from './entry.ts'

/** Takes machines over into memory as the store has them after a commit. */
export async function refreshMachines(
  db: Kysely<Database>,
  directory: MachineDirectory,
  ids: readonly string[],
  facts?: Facts,
): Promise<void> {
  for (const id of ids) {
    const row = await findMachine(db, id)
    if (row) directory.put(entryOf(row, await conditionsOf(db, id)), facts)
  }
}
