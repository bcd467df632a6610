import { status } from '@grpc/grpc-js'
import { escapeText } from '../../shared/escape.ts'
import { type GetFleetResponse, GetFleetResponseSchema } from '../../shared/gen/muster/v1/fleet_pb.ts'
import { type HealthProblem, HealthProblemSchema } from '../../shared/gen/muster/v1/health_pb.ts'
import type { Machine } from '../../shared/gen/muster/v1/machine_pb.ts'
import { type HostStanding, type Rollout, RolloutService } from '../../shared/gen/muster/v1/rollout_pb.ts'
import { RpcError } from '../../shared/rpc/rpc-error.ts'
import { millisOf } from '../../shared/time.ts'
import type { Cli } from '../cli.ts'
import { type Connection, withCoordinator } from '../connect.ts'
import { formatDuration } from '../duration.ts'
import { paint, type Style } from '../output/colour.ts'
import { type Format, toCsv, toJson, toYaml } from '../output/format.ts'
import { machineListing, machineRecord } from '../output/machine-listing.ts'
import { plainOf } from '../output/plain.ts'
import { rolloutListing } from '../output/rollout-listing.ts'
import { atGates, fetchStandings, standingColumns, standingRecord } from '../output/standing-listing.ts'
import { renderFields, renderTable, tableLook } from '../output/table.ts'
import { watch } from '../output/watch.ts'
import { byName, fetchMachines } from './list-machines.ts'

export interface StatusOptions {
  readonly output?: Format | undefined
  readonly watch?: number | boolean | undefined
}

/** The fields of `-o json` and `-o yaml`. */
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
  'waiting',
  'machines',
] as const
/** CSV is one line, in which a whole fleet would be one cell. */
const CSV_FIELDS = STATUS_FIELDS.filter(field => field !== 'machines')

const SHOWN_MACHINES = 200
const SHOWN_ROLLOUTS = 20
const SHOWN_STANDINGS = 20
const TOLD_ELSEWHERE: readonly string[] = [
  'certificate',
  'never-active',
  'store-older',
  'authority-gone',
  'coordinator',
]

/** The whole fleet on one screen: who runs it, what is wrong, and every machine. */
export async function showStatus(cli: Cli, options: StatusOptions): Promise<void> {
  await withCoordinator(cli, async connection => {
    await watch(cli, options.watch, async () => {
      const fleet = await connection.client.getFleet({}, connection.call)
      const { machines } = await fetchMachines(connection, {})
      const sorted = machines.toSorted(byName)
      const { problems } = await connection.client.getHealth({}, connection.call)
      const health = problems.map(problem => plainOf(HealthProblemSchema, problem))
      const rollouts = await rolloutsUnderWay(connection)
      const waiting = rollouts.standings.map(standingRecord)
      const record = { ...plainOf(GetFleetResponseSchema, fleet), health, waiting }
      switch (options.output) {
        case 'json':
          return toJson({ ...record, machines: sorted.map(machineRecord) })
        case 'yaml':
          return toYaml({ ...record, machines: sorted.map(machineRecord) })
        case 'csv':
          return toCsv([record], CSV_FIELDS)
        case 'table':
        case 'wide':
        case undefined:
          return human(cli, connection.place, fleet, sorted, problems, rollouts, options.output === 'wide')
      }
    })
  })
}

interface UnderWay {
  readonly open: readonly Rollout[]
  /** Hosts that more holds than that others go before them. */
  readonly standings: readonly HostStanding[]
}

async function rolloutsUnderWay(connection: Connection): Promise<UnderWay> {
  const standings = await fetchStandings(connection, '')
  try {
    const request = { open: true, limit: SHOWN_ROLLOUTS }
    const { rollouts } = await connection.service(RolloutService).listRollouts(request, connection.call)
    return { open: rollouts, standings }
  } catch (error) {
    if (error instanceof RpcError && error.code === status.UNIMPLEMENTED) return { open: [], standings }
    throw error
  }
}

/** How far the rollouts are, and who waits in them for more than its turn. */
function rolloutsText(cli: Cli, { open, standings }: UnderWay, wide: boolean): string {
  if (open.length === 0 && standings.length === 0) return ''
  const now = cli.clock.now()
  const { colour } = cli.io
  const look = tableLook(cli.io, wide)
  const shown = atGates(standings).slice(0, SHOWN_STANDINGS)
  const rollouts = open.length === 0 ? '' : renderTable(open, rolloutListing(now).columns, look)
  const waiting =
    shown.length === 0
      ? ''
      : `\n${paint('Hosts that wait', 'bold', colour)}\n${renderTable(shown, standingColumns(now), look)}`
  const hosts = new Set(shown.map(({ standing }) => standing.host))
  const left = standings.filter(({ host }) => !hosts.has(host)).length
  const more = left > 0 ? `… and ${left} more hosts; \`muster rollout show\` lists those of a rollout\n` : ''
  return `${rollouts === '' ? '' : `\n${paint('Rollouts', 'bold', colour)}\n`}${rollouts}${waiting}${more}`
}

function human(
  cli: Cli,
  place: string,
  fleet: GetFleetResponse,
  machines: readonly Machine[],
  health: readonly HealthProblem[],
  rollouts: UnderWay,
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
      // These are among the conditions of their machines, or the problems of the coordinator, too.
      .filter(({ class: kind }) => !TOLD_ELSEWHERE.includes(kind))
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
    shown.length === 0 ? '' : `\n${renderTable(shown, machineListing(now).columns, tableLook(cli.io, wide))}`
  const more =
    machines.length > shown.length
      ? `… and ${machines.length - shown.length} more; \`muster machines\` lists them all\n`
      : ''
  const attention =
    problems.length === 0 ? '' : `\n${paint('To look at', 'bold', colour)}\n${problems.slice(0, 50).join('')}`
  return `${header}${table}${more}${rolloutsText(cli, rollouts, wide)}${attention}`
}

function line(text: string, style: Style, colour: boolean): string {
  return `  ${paint(escapeText(text), style, colour)}\n`
}
