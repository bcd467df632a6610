import type { Cli } from '../cli.ts'
import type { Connection } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import { adoptKey } from './adopt-key.ts'
import { type FleetKnowledge, requireFleet } from './fleet-folder.ts'
import { synchroniseTrust } from './synchronise-trust.ts'

/** The fleet as the coordinator names it, with the trust that is known here. */
export async function openFleet(cli: Cli, connection: Connection): Promise<FleetKnowledge> {
  const { fleetId } = await connection.client.getFleet({}, connection.call)
  if (fleetId === '') {
    throw new CliError(
      'refused',
      'the coordinator has no trust set yet: give it one with `muster trust set FILE`',
    )
  }
  const fleet = await synchroniseTrust(connection, await requireFleet(cli.settings.configHome, fleetId))
  await adoptKey(fleet.folder, fleet.trust)
  return fleet
}
