import { escapeText } from '../../shared/escape.ts'
import {
  type GetFleetResponse,
  GetFleetResponseSchema,
  type HealthProblem,
  HealthProblemSchema,
  type Machine,
} from '../../shared/gen/muster/v1/operator_pb.ts'
import { millisOf } from '../../shared/time.ts'
import type { Cli } from '../cli.ts'
import { withCoordinator } from '../connect.ts'
import { formatDuration } from '../duration.ts'
import { paint, type Style } from '../output/colour.ts'
import { type Format, toCsv, toJson, toYaml } from '../output/format.ts'
import { machineListing, machineRecord } from '../output/machine-listing.ts'
import { plainOf } from '../output/plain.ts'
import { renderFields, renderTable } from '../output/table.ts'
import { watch } from '../output/watch.ts'
import { byName, fetchMachines } from './list-machines.ts'

export interface StatusOptions {
  readonly output?: Format | undefined
  readonly watch?: number | boolean | undefined
}

/** The fields of `-o json`, besides `machines`. */
export const STATUS_FIELDS = [
  'fleetId',
  'version',
  'caPin',
  'trustPin',
  'trustNumber',
  'enrolmentAddress',
  'fleetAddress',
  'revision',
  'manifestDigest',
  'machinesByState',
  'online',
  'problems',
  'health',
  'started',
  'now',
  'authorityPem',
  'unboundHosts',
] as const

const SHOWN_MACHINES = 200

/** The whole fleet on one screen: who runs it, what is wrong, and every machine. */
export async function showStatus(cli: Cli, options: StatusOptions): Promise<void> {
  await withCoordinator(cli, async connection => {
    await watch(cli, options.watch, async () => {
      const fleet = await connection.client.getFleet({}, connection.call)
      const { machines } = await fetchMachines(connection, {})
      const sorted = machines.toSorted(byName)
      const { problems } = await connection.client.getHealth({}, connection.call)
      const health = problems.map(problem => plainOf(HealthProblemSchema, problem))
      const record = { ...plainOf(GetFleetResponseSchema, fleet), health }
      switch (options.output) {
        case 'json':
          return toJson({ ...record, machines: sorted.map(machineRecord) })
        case 'yaml':
          return toYaml({ ...record, machines: sorted.map(machineRecord) })
        case 'csv':
          return toCsv([record], STATUS_FIELDS)
        case 'table':
        case 'wide':
        case undefined:
          return human(cli, connection.place, fleet, sorted, problems, options.output === 'wide')
      }
    })
  })
}

function human(
  cli: Cli,
  place: string,
  fleet: GetFleetResponse,
  machines: readonly Machine[],
  health: readonly HealthProblem[],
  wide: boolean,
): string {
  const { colour } = cli.io
  const now = cli.clock.now()
  const started = millisOf(fleet.started)
  const states = Object.entries(fleet.machinesByState)
    .filter(([, count]) => count > 0n)
    .map(([state, count]) => `${count} ${state.toLowerCase().replace('machine_state_', '')}`)
    .sort()
  const header = renderFields(
    [
      [
        'Fleet',
        fleet.fleetId || 'no trust set yet: `muster init DIR` makes one, `muster trust set` brings it here',
        fleet.fleetId ? 'plain' : 'warn',
      ],
      [
        'Coordinator',
        `${place}, version ${fleet.version}${started === undefined ? '' : `, up ${formatDuration(now.getTime() - started)}`}`,
      ],
      ['Machines enrol at', fleet.enrolmentAddress],
      ['CA pin', fleet.caPin],
      ['Trust pin', fleet.trustPin === '' ? undefined : `${fleet.trustPin} (set ${fleet.trustNumber})`],
      [
        'Revision',
        fleet.revision === 0n
          ? 'none yet: `muster publish DIR`'
          : `${fleet.revision}${wide ? ` ${fleet.manifestDigest}` : ''}`,
      ],
      ['Machines', states.length === 0 ? 'none yet' : `${states.join(', ')}; ${fleet.online} online`],
      ['Hosts without machine', fleet.unboundHosts.join(', '), 'warn'],
    ],
    colour,
  )
  const problems = [
    ...fleet.problems.map(problem => line(`coordinator: ${problem}`, 'bad', colour)),
    ...health
      // These are among the conditions of their machines, too.
      .filter(({ class: kind }) => kind !== 'certificate' && kind !== 'never-active')
      .map(({ class: kind, host, machine, reason, remedy }) =>
        line(`${host || machine.slice(0, 12) || 'fleet'}: ${kind}: ${reason}; ${remedy}`, 'bad', colour),
      ),
    ...machines.flatMap(machine =>
      machine.conditions.map(({ class: kind, reason }) =>
        line(`${machine.host || machine.id.slice(0, 12)}: ${kind}: ${reason}`, 'warn', colour),
      ),
    ),
  ]
  const shown = machines.slice(0, SHOWN_MACHINES)
  const table =
    shown.length === 0 ? '' : `\n${renderTable(shown, machineListing(now).columns, { wide, colour })}`
  const more =
    machines.length > shown.length
      ? `… and ${machines.length - shown.length} more; \`muster machines\` lists them all\n`
      : ''
  const attention =
    problems.length === 0 ? '' : `\n${paint('To look at', 'bold', colour)}\n${problems.slice(0, 50).join('')}`
  return `${header}${table}${more}${attention}`
}

function line(text: string, style: Style, colour: boolean): string {
  return `  ${paint(escapeText(text), style, colour)}\n`
}
