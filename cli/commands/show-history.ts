import { millisOf } from '../../shared/time.ts'
import type { Cli } from '../cli.ts'
import { withCoordinator } from '../connect.ts'
import type { Format } from '../output/format.ts'
import { historyListing, isoOfMillis } from '../output/history-listing.ts'
import { showList } from '../output/show-list.ts'
import { isForPeople } from './list-machines.ts'

export interface HistoryOptions {
  readonly all?: boolean | undefined
  readonly limit?: number | undefined
  readonly output?: Format | undefined
}

/** What changed in a machine's hardware, and when; newest first. */
export async function showHistory(cli: Cli, ref: string, options: HistoryOptions): Promise<void> {
  await withCoordinator(cli, async ({ client, call }) => {
    const { all = false, limit = 0 } = options
    const answer = await client.listFactsChanges({ ref, all, limit }, call)
    const { changes, since, sets, more } = answer
    await showList(cli.io, changes, historyListing(cli.clock.now()), options.output)
    if (!isForPeople(options.output)) return
    if (more) cli.io.err('there are more; --limit shows them\n')
    cli.io.err(
      sets < 2
        ? `${sets === 0 ? 'no facts of it are' : 'only one set of its facts is'} kept: there is nothing to compare\n`
        : `compared ${sets} sets of facts, the oldest of ${isoOfMillis(millisOf(since)) ?? 'an unknown time'}\n`,
    )
  })
}
