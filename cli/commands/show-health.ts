import { type HealthProblem, HealthProblemSchema } from '../../shared/gen/muster/v1/health_pb.ts'
import { millisOf } from '../../shared/time.ts'
import type { Cli } from '../cli.ts'
import { withCoordinator } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import type { Format } from '../output/format.ts'
import { ago, shortId } from '../output/machine-listing.ts'
import { plainOf } from '../output/plain.ts'
import { type Listing, showList } from '../output/show-list.ts'

export const HEALTH_FIELDS = ['class', 'machine', 'host', 'reason', 'since', 'remedy'] as const

/** What always has to be true of the fleet and is not. Ends with 1 when there is anything, for a monitor to ask. */
export async function showHealth(
  cli: Cli,
  { output }: { readonly output?: Format | undefined },
): Promise<void> {
  await withCoordinator(cli, async ({ client, call }) => {
    const { problems } = await client.getHealth({}, call)
    await showList(cli.io, problems, healthListing(cli.clock.now()), output)
    if (problems.length === 1) throw new CliError('error', 'one thing is not as it must be')
    if (problems.length > 0) throw new CliError('error', `${problems.length} things are not as they must be`)
  })
}

export function healthListing(now: Date): Listing<HealthProblem> {
  return {
    fields: HEALTH_FIELDS,
    record: problem => plainOf(HealthProblemSchema, problem),
    empty: 'healthy: every invariant of the fleet holds, and nothing is wrong with the coordinator',
    columns: [
      { title: 'WHAT', text: problem => problem.class, style: () => 'bad' },
      { title: 'HOST', text: ({ host, machine }) => host || shortId(machine) },
      { title: 'SINCE', text: ({ since }) => (since ? ago(millisOf(since), now.getTime()) : '-') },
      { title: 'REASON', wraps: true, text: ({ reason }) => reason },
      { title: 'REMEDY', wraps: true, text: ({ remedy }) => remedy },
    ],
  }
}
