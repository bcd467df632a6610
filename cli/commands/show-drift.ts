import type { MachineDrift } from '../../shared/gen/muster/v1/drift_pb.ts'
import type { SelectorError } from '../../shared/gen/muster/v1/selector_pb.ts'
import type { Cli } from '../cli.ts'
import { withCoordinator } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import { driftListing } from '../output/drift-listing.ts'
import type { Format } from '../output/format.ts'
import { showList } from '../output/show-list.ts'
import { reportSelectorErrors } from './list-machines.ts'

export interface DriftOptions {
  readonly where?: string | undefined
  readonly all?: boolean | undefined
  readonly output?: Format | undefined
}

/** Nothing is to be done for these. */
const FINE: readonly string[] = ['in-sync', 'moving', 'unmanaged']

/** What differs from what should be, who made it so, and what puts it right. */
export async function showDrift(cli: Cli, refs: readonly string[], options: DriftOptions): Promise<void> {
  if (refs.length > 0 && options.where !== undefined) {
    throw new CliError('usage', 'drift: name hosts, or say --where, not both')
  }
  await withCoordinator(cli, async ({ client, call }) => {
    const machines: MachineDrift[] = []
    const errors: SelectorError[] = []
    for await (const { item } of client.getDrift({ refs: [...refs], where: options.where ?? '' }, call)) {
      if (item.case === 'machine') machines.push(item.value)
      if (item.case === 'error') errors.push(item.value)
    }
    const wanted =
      options.all || refs.length > 0 ? machines : machines.filter(({ state }) => !FINE.includes(state))
    const sorted = wanted.toSorted((a, b) => ((a.host || a.machine) < (b.host || b.machine) ? -1 : 1))
    const nothing = machines.length === 0 ? 'no machines' : `${machines.length} machines, and none drifted`
    await showList(cli.io, sorted, { ...driftListing(cli.clock.now()), empty: nothing }, options.output)
    reportSelectorErrors(cli, errors, machines.length)
  })
}
