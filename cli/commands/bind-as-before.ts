import type { Machine } from '../../shared/gen/muster/v1/machine_pb.ts'
import type { Cli } from '../cli.ts'
import { withCoordinator } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import type { Format } from '../output/format.ts'
import { shortId } from '../output/machine-listing.ts'
import { type Listing, showList } from '../output/show-list.ts'
import { fetchMachines } from './list-machines.ts'

export interface BindAsBeforeOptions {
  readonly yes?: boolean | undefined
  readonly output?: Format | undefined
}

export const AS_BEFORE_FIELDS = [
  'host',
  'machine',
  'product',
  'serial',
  'admittedBy',
  'bound',
  'reason',
] as const

interface Row {
  readonly host: string
  readonly machine: string
  readonly product: string
  readonly serial: string
  readonly admittedBy: string
  readonly bound: boolean
  /** Why nobody is bound by it; empty: nothing is in the way. */
  readonly reason: string
}

/** Shows which hosts machines say that they acted as, and binds them by the operator's word alone. */
export async function bindAsBefore(cli: Cli, { yes = false, output }: BindAsBeforeOptions): Promise<void> {
  await withCoordinator(cli, async connection => {
    const { machines } = await fetchMachines(connection, {})
    const rows = machines.flatMap(rowOf).toSorted((a, b) => (a.host < b.host ? -1 : 1))
    const shown: Row[] = []
    for (const row of rows) {
      const isBound = yes && row.reason === ''
      if (isBound) await connection.client.bindHost({ host: row.host, machine: row.machine }, connection.call)
      shown.push({ ...row, bound: isBound })
    }
    await showList(cli.io, shown, LISTING, output)
    const open = rows.filter(({ reason }) => reason === '')
    if (!yes && open.length > 0) {
      throw new CliError(
        'refused',
        `nothing was bound: a machine can say any name. Compare the ids with what you know of these ${open.length}, then say --yes`,
      )
    }
    const conflicts = rows.length - open.length
    if (conflicts > 0)
      throw new CliError('conflict', `${conflicts} machines were bound to nothing: decide who is who`)
  })
}

function rowOf({ id, host, actedAs, product, serial, admittedBy, conditions }: Machine): Row[] {
  const said = conditions.find(condition => condition.class === 'acted-as')
  if (host !== '' || !said) return []
  return [
    {
      host: actedAs,
      machine: id,
      product,
      serial,
      admittedBy,
      bound: false,
      reason: actedAs === '' ? said.reason : '',
    },
  ]
}

const LISTING: Listing<Row> = {
  fields: AS_BEFORE_FIELDS,
  record: row => ({ ...row }),
  empty: 'no machine that is bound to no host says that it was one',
  columns: [
    { title: 'HOST', text: ({ host }) => host || '-' },
    { title: 'MACHINE', text: ({ machine }) => shortId(machine) },
    { title: 'PRODUCT', text: ({ product }) => product },
    { title: 'SERIAL', text: ({ serial }) => serial },
    { title: 'LET IN BY', text: ({ admittedBy }) => admittedBy },
    { title: 'IS', text: ({ bound, reason }) => (bound ? 'bound (loose)' : reason) },
  ],
}
